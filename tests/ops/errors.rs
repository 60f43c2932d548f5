//! What each operation refuses, and that the refusal names it.

use std::fmt::Debug;

use gatefold::{DType, Device, Error, Result, Shape, Tape, Tensor, Var};

use crate::{constant, count, tensor};

/// An `Err` of this operation.
#[track_caller]
fn refused<T: Debug>(result: Result<T>, name: &str) -> Error {
    let error = result.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("{name}: ")), "{text}");
    error
}

#[track_caller]
fn shape<T: Debug>(result: Result<T>, name: &str) {
    let error = refused(result, name);
    assert!(matches!(error, Error::Shape { .. }), "{error}");
}

#[track_caller]
fn dtype<T: Debug>(result: Result<T>, name: &str) {
    let error = refused(result, name);
    assert!(matches!(error, Error::DType { .. }), "{error}");
}

#[track_caller]
fn argument<T: Debug>(result: Result<T>, name: &str) {
    let error = refused(result, name);
    assert!(matches!(error, Error::Argument { .. }), "{error}");
}

fn on(tape: &Tape, dims: impl Into<Shape>) -> Var {
    tape.constant(count(dims))
}

#[test]
fn shapes_that_do_not_fit() {
    let t = Tape::no_grad();
    let (a, b) = (on(&t, [2, 3]), on(&t, [2, 4]));
    shape(a.add(&b), "add");
    shape(a.sub(&b), "sub");
    shape(a.mul(&b), "mul");
    shape(a.div(&b), "div");
    shape(a.matmul(&b), "matmul");
    shape(a.matmul(&on(&t, ())), "matmul");
    shape(on(&t, ()).matmul(&a), "matmul");
    shape(on(&t, [2, 2, 3]).matmul(&on(&t, [3, 3, 2])), "matmul");
    shape(on(&t, 3).matmul(&on(&t, 4)), "matmul");
    shape(a.linear(&b, None), "linear");
    shape(on(&t, ()).linear(&a, None), "linear");
    shape(a.linear(&on(&t, 3), None), "linear");
    shape(a.linear(&a, Some(&on(&t, 3))), "linear");
    shape(a.linear(&a, Some(&on(&t, [1, 2]))), "linear");
    shape(Var::concat(&[&a, &b], 0), "concat");
    shape(Var::concat(&[&a, &on(&t, 3)], 0), "concat");
    shape(Var::concat::<Var>(&[], 0), "concat");
    shape(Var::concat(&[&on(&t, ())], 0), "concat");
    shape(Var::stack(&[&a, &b], 0), "stack");
    shape(Var::stack::<Var>(&[], 0), "stack");
    shape(Var::stack(&[&a], 3), "stack");
    shape(Tensor::concat::<Tensor>(&[], 0), "concat");
    shape(Tensor::stack::<Tensor>(&[], 0), "stack");
}

#[test]
fn axes_outside_the_rank() {
    let t = Tape::no_grad();
    for (x, axes) in [(on(&t, [2, 3]), [2, -3]), (on(&t, ()), [0, -1]), (on(&t, 1), [isize::MAX, isize::MIN])] {
        for axis in axes {
            shape(x.sum_axis(axis, false), "sum_axis");
            shape(x.mean_axis(axis, false), "mean_axis");
            shape(x.max_axis(axis, false), "max_axis");
            shape(x.argmax(axis), "argmax");
            shape(x.softmax(axis), "softmax");
            shape(x.log_softmax(axis), "log_softmax");
            shape(x.logsumexp(axis, true), "logsumexp");
            shape(x.transpose(axis, 0), "transpose");
            shape(x.transpose(0, axis), "transpose");
            shape(x.permute(&[axis, 0]), "permute");
            shape(x.narrow(axis, 0, 1), "narrow");
            shape(x.select(axis, 0), "select");
            shape(x.squeeze(axis), "squeeze");
            shape(x.flip(axis), "flip");
            shape(x.chunk(2, axis), "chunk");
            shape(x.unbind(axis), "unbind");
            shape(x.index_select(axis, &tensor(&[0i64], 1)), "index_select");
            shape(Var::concat(&[&x], axis), "concat");
        }
    }
    let x = on(&t, [2, 3]);
    for axis in [3, -4, isize::MAX, isize::MIN] {
        shape(x.unsqueeze(axis), "unsqueeze");
        shape(Var::stack(&[&x, &x], axis), "stack");
    }
}

#[test]
fn shapes_that_cannot_be() {
    let t = Tape::no_grad();
    let (x, none) = (on(&t, [2, 3]), on(&t, [0, 3]));
    shape(x.reshape([4]), "reshape");
    shape(x.reshape([4, -1]), "reshape");
    shape(x.reshape([-1, -1]), "reshape");
    shape(x.reshape([-2, 3]), "reshape");
    shape(x.reshape([0, -1]), "reshape");
    shape(none.reshape([0, -1]), "reshape");
    shape(x.reshape([usize::MAX, usize::MAX]), "reshape");
    shape(x.reshape([usize::MAX]), "reshape");
    shape(x.reshape([isize::MAX, 4]), "reshape");
    shape(x.reshape([isize::MIN]), "reshape");
    shape(x.tensor().reshape([usize::MAX, 2]), "reshape");
    shape(x.permute(&[0]), "permute");
    shape(x.permute(&[0, 0]), "permute");
    shape(x.permute(&[0, 1, 1]), "permute");
    shape(x.narrow(1, 2, 2), "narrow");
    shape(x.narrow(1, usize::MAX, 2), "narrow");
    shape(x.narrow(1, 4, 0), "narrow");
    shape(x.expand([3]), "expand");
    shape(x.expand([3, 3]), "expand");
    shape(x.expand([-1, 2, 3]), "expand");
    shape(x.expand([2, -2]), "expand");
    shape(on(&t, 1).expand([isize::MAX, isize::MAX]), "allocate");
    shape(x.index_select(0, &tensor(&[0i64], [1, 1])), "index_select");
    shape(on(&t, 3).embedding(&tensor(&[0i64], 1), None), "embedding");
}

/// Tensors without elements may have extents whose products overflow.
#[test]
fn huge_empty_tensors() {
    let huge = usize::MAX;
    let x = Tape::no_grad().constant(Tensor::zeros([huge, huge, 0], DType::F32, &Device::Cpu).unwrap());
    assert_eq!(x.add(&x).unwrap().dims(), [huge, huge, 0]);
    assert_eq!(x.sum().unwrap().item().unwrap(), 0.0);
    assert!(x.sum_axis(2, false).is_err());
    assert_eq!(x.sum_axis(0, false).unwrap().dims(), [huge, 0]);
    assert_eq!(x.softmax(0).unwrap().dims(), x.dims());
    assert_eq!(x.transpose(0, 2).unwrap().dims(), [0, huge, huge]);
    assert_eq!(x.flip(0).unwrap().dims(), x.dims());
    assert_eq!(x.narrow(0, 1, 2).unwrap().dims(), [2, huge, 0]);
    assert_eq!(x.select(0, -1).unwrap().dims(), [huge, 0]);
    assert_eq!(x.reshape([0, 5]).unwrap().dims(), [0, 5]);
    assert_eq!(x.tanh().unwrap().dims(), x.dims());
    assert_eq!(x.chunk(2, 0).unwrap()[1].dims(), [huge / 2, huge, 0]);
    argument(x.unbind(0), "unbind");
    shape(Var::concat(&[&x, &x], 0), "concat");
    assert!(x.matmul(&x.transpose(1, 2).unwrap()).is_err());
    argument(x.reshape([huge, 0]).unwrap().embedding(&tensor(&[-1i64], 1), None), "embedding");
    let flat = x.reshape([1usize << 63, 0]).unwrap();
    assert!(flat.embedding(&tensor(&[0i64], 1), Some(-1)).is_ok());
    shape(x.max(), "max");
}

#[test]
fn dtypes() {
    let t = Tape::no_grad();
    let whole = t.constant(tensor(&[1i64, 2], [1, 2]));
    let (narrow, wide) = (t.constant(tensor(&[1.0f32, 2.0], [1, 2])), on(&t, [1, 2]));
    type Function = fn(&Var) -> Result<Var>;
    let functions: [(&str, Function); 27] = [
        ("neg", Var::neg),
        ("exp", Var::exp),
        ("log", Var::log),
        ("sqrt", Var::sqrt),
        ("abs", Var::abs),
        ("powf", |x| x.powf(2.0)),
        ("powf", |x| x.powf(0.0)),
        ("tanh", Var::tanh),
        ("sigmoid", Var::sigmoid),
        ("relu", Var::relu),
        ("clamp", |x| x.clamp(0.0, 1.0)),
        ("add_scalar", |x| x.add_scalar(1.0)),
        ("sub_scalar", |x| x.sub_scalar(1.0)),
        ("mul_scalar", |x| x.mul_scalar(1.0)),
        ("div_scalar", |x| x.div_scalar(1.0)),
        ("sum", Var::sum),
        ("mean", Var::mean),
        ("max", Var::max),
        ("sum_axis", |x| x.sum_axis(0, true)),
        ("mean_axis", |x| x.mean_axis(0, true)),
        ("max_axis", |x| Ok(x.max_axis(0, true)?.0)),
        ("softmax", |x| x.softmax(0)),
        ("log_softmax", |x| x.log_softmax(0)),
        ("logsumexp", |x| x.logsumexp(0, true)),
        ("dropout", |x| x.dropout(0.5, 0, 0)),
        ("embedding", |x| x.embedding(&tensor(&[0i64], 1), None)),
        ("linear", |x| x.linear(x, None)),
    ];
    for (name, f) in functions {
        dtype(f(&whole), name);
    }
    dtype(whole.argmax(0), "argmax");
    type Pair = fn(&Var, &Var) -> Result<Var>;
    let pairs: [(&str, Pair); 8] = [
        ("add", Var::add),
        ("sub", Var::sub),
        ("mul", Var::mul),
        ("div", Var::div),
        ("matmul", Var::matmul),
        ("linear", |x, y| x.linear(y, None)),
        ("concat", |x, y| Var::concat(&[x, y], 0)),
        ("stack", |x, y| Var::stack(&[x, y], 0)),
    ];
    for (name, f) in pairs {
        dtype(f(&narrow, &wide), name);
        dtype(f(&wide, &whole), name);
    }
    dtype(wide.linear(&wide, Some(&narrow.reshape([2]).unwrap())), "linear");
    dtype(wide.index_select(0, &tensor(&[0.0f32], 1)), "index_select");
    dtype(wide.embedding(narrow.tensor(), None), "embedding");
}

#[test]
fn indices_and_arguments() {
    let x = constant(&[1.0, 2.0, 3.0, 4.0], [2, 2]);
    for wrong in [-1i64, 2, i64::MIN, i64::MAX] {
        let index = tensor(&[0, wrong, 1], 3);
        let error = x.embedding(&index, None).unwrap_err();
        assert_eq!(error, Error::argument("embedding", format!("index {wrong}"), "indices in 0..2"));
        argument(x.index_select(1, &index), "index_select");
        argument(x.tensor().index_select(1, &index), "index_select");
    }
    argument(x.embedding(&tensor(&[u32::MAX], 1), None), "embedding");
    for padding in [2, -3, i64::MIN, i64::MAX] {
        argument(x.embedding(&tensor(&[0i64], 1), Some(padding)), "embedding");
    }
    for index in [2, -3, isize::MIN, isize::MAX] {
        argument(x.select(0, index), "select");
    }
    for p in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        argument(x.dropout(p, 0, 0), "dropout");
    }
    argument(x.clamp(f64::NAN, 1.0), "clamp");
    argument(x.clamp(0.0, f64::NAN), "clamp");
    argument(x.chunk(0, 0), "chunk");
    argument(constant::<f64>(&[], [0, 2]).chunk(usize::MAX, 0), "chunk");
}

/// Bounds that are infinite in the dtype would be numbers of the tensor.
#[test]
fn uniform_bounds_beyond_the_dtype() {
    let uniform = |low, high, dtype| {
        Tensor::uniform(4, low, high, dtype, &Device::Cpu, &mut gatefold::Philox::seed(1))
            .map(|x| x.to_f64_vec().unwrap())
    };
    for (low, high, dtype) in [
        (-1e5, 1e5, DType::F16),
        (-1e5, 0.0, DType::F16),
        (0.0, 65520.0, DType::F16),
        (3.399e38, 3.4e38, DType::BF16),
        (-3.5e38, -3.45e38, DType::F32),
    ] {
        let error = refused(uniform(low, high, dtype), "Tensor::uniform");
        assert!(matches!(error, Error::Argument { .. }), "{error}");
    }
    for (low, high, dtype) in [(-65504.0, 65504.0, DType::F16), (-1e38, 1e38, DType::BF16), (-1e308, 1e307, DType::F64)]
    {
        assert!(uniform(low, high, dtype).unwrap().iter().all(|v| v.is_finite()));
    }
}
