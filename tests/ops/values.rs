//! Arithmetic, reductions and products: values worked out by hand, and the edges.

use gatefold::{DType, Result, Tape, Tensor, Var, dtype::f16};

use crate::{constant, count, gradient, tensor};

fn f64s(x: &Var) -> Vec<f64> {
    x.tensor().to_vec().unwrap()
}

#[test]
fn arithmetic() {
    let (a, b) = (Tape::no_grad(), [1.0f32, 2.0, 4.0]);
    let x = a.constant(tensor(&[1.0f32, -2.0, 3.0, 0.5, 0.0, -1.0], [2, 3]));
    let y = a.constant(tensor(&b, 3));
    let f32s = |v: Var| v.tensor().to_vec::<f32>().unwrap();
    assert_eq!(f32s(x.add(&y).unwrap()), [2.0, 0.0, 7.0, 1.5, 2.0, 3.0]);
    assert_eq!(f32s(x.sub(&y).unwrap()), [0.0, -4.0, -1.0, -0.5, -2.0, -5.0]);
    assert_eq!(f32s(x.mul(&y).unwrap()), [1.0, -4.0, 12.0, 0.5, 0.0, -4.0]);
    assert_eq!(f32s(x.div(&y).unwrap()), [1.0, -1.0, 0.75, 0.5, 0.0, -0.25]);
    assert_eq!(f32s(x.add_scalar(1.0).unwrap()), [2.0, -1.0, 4.0, 1.5, 1.0, 0.0]);
    assert_eq!(f32s(x.sub_scalar(1.0).unwrap()), [0.0, -3.0, 2.0, -0.5, -1.0, -2.0]);
    assert_eq!(f32s(x.mul_scalar(2.0).unwrap()), [2.0, -4.0, 6.0, 1.0, 0.0, -2.0]);
    assert_eq!(f32s(x.div_scalar(2.0).unwrap()), [0.5, -1.0, 1.5, 0.25, 0.0, -0.5]);
    assert_eq!(f32s(x.neg().unwrap()), [-1.0, 2.0, -3.0, -0.5, 0.0, 1.0]);
    assert_eq!(f32s(x.abs().unwrap()), [1.0, 2.0, 3.0, 0.5, 0.0, 1.0]);
    assert_eq!(f32s(x.relu().unwrap()), [1.0, 0.0, 3.0, 0.5, 0.0, 0.0]);
    assert_eq!(f32s(x.clamp(-1.0, 0.5).unwrap()), [0.5, -1.0, 0.5, 0.5, 0.0, -1.0]);
    assert_eq!(f32s(x.clamp(1.0, -1.0).unwrap()), [-1.0; 6]);
    assert_eq!(f32s(x.powf(2.0).unwrap()), [1.0, 4.0, 9.0, 0.25, 0.0, 1.0]);
    let odd = Tape::no_grad().constant(tensor(&[1.0f32; 1031], 1031));
    assert_eq!(odd.add(&odd).unwrap().sum().unwrap().item().unwrap(), 2062.0);
}

/// In f32 each function is within a few units in the last place of its f64 value.
#[test]
fn functions_in_f32() {
    let x: Vec<f64> = (1..200).map(|i| (i as f32 * 0.037) as f64).collect();
    let wide = constant(&x, x.len());
    let narrow = wide.to_dtype(DType::F32).unwrap();
    type Function = fn(&Var) -> gatefold::Result<Var>;
    let functions: [(&str, Function); 9] = [
        ("exp", Var::exp),
        ("log", Var::log),
        ("sqrt", Var::sqrt),
        ("tanh", Var::tanh),
        ("sigmoid", Var::sigmoid),
        ("powf", |x| x.powf(1.7)),
        ("softmax", |x| x.softmax(0)),
        ("log_softmax", |x| x.log_softmax(0)),
        ("logsumexp", |x| x.logsumexp(0, true)),
    ];
    for (name, f) in functions {
        let (got, want) = (f(&narrow).unwrap().to_dtype(DType::F64).unwrap(), f(&wide).unwrap());
        let (got, want) = (f64s(&got), f64s(&want));
        assert_eq!(got.len(), want.len(), "{name}");
        for (got, want) in got.into_iter().zip(want) {
            assert!((got - want).abs() <= 1e-6 * want.abs().max(0.1), "{name}: {got} for {want}");
        }
    }
}

/// To the bit, as PyTorch has them on the CPU.
#[test]
fn scalars_round_once_and_keep_the_sign_of_zero() {
    let bits = |all: &[f32]| all.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let same = |got: Result<Var>, want: &[f32]| {
        let got = got.unwrap().to_vec::<f32>().unwrap();
        assert_eq!(bits(&got), bits(want), "{got:?}, want {want:?}");
    };
    let x = constant(&[0f32, -0.0, 1.0, 1e-39], 4);
    same(x.mul_scalar(3.0), &[0.0, -0.0, 3.0, 3.0 * 1e-39]);
    same(x.mul_scalar(-3.0), &[-0.0, 0.0, -3.0, -3.0 * 1e-39]);
    // A reciprocal of 1e-39 is infinite.
    same(x.div_scalar(1e-39), &[0.0, -0.0, f32::INFINITY, 1.0]);
    same(x.div_scalar(-2.0), &[-0.0, 0.0, -0.5, -0.5 * 1e-39]);
    let whole: Vec<f32> = (1..1000).map(|i| i as f32).collect();
    for divisor in [3.0, 49.0, 0.1] {
        let want: Vec<f32> = whole.iter().map(|x| x / divisor).collect();
        same(constant(&whole, 999).div_scalar(f64::from(divisor)), &want);
        let y = Tape::new().variable(tensor(&[1f32], 1));
        y.div_scalar(f64::from(divisor)).unwrap().backward().unwrap();
        assert_eq!(y.grad().unwrap().to_vec::<f32>().unwrap(), [1.0 / divisor]);
    }
    // The divisor is not rounded to f16, nor is the gradient of a difference 0 where it is −0.
    let half = constant(&[f16::MAX], 1).div_scalar(70_000.0).unwrap();
    assert_eq!(half.to_vec::<f16>().unwrap(), [f16::from_f32(65504.0 / 70_000.0)]);
    let tape = Tape::new();
    let (a, b) = (tape.variable(tensor(&[1f32], 1)), tape.variable(tensor(&[1f32], 1)));
    a.sub(&b).unwrap().backward_with(&tensor(&[0f32], 1)).unwrap();
    assert_eq!(b.grad().unwrap().to_vec::<f32>().unwrap()[0].to_bits(), (-0f32).to_bits());
}

#[test]
fn derivatives_at_kinks_are_pytorchs() {
    assert_eq!(gradient(&[-1.0, 0.0, 1.0], Var::abs), [-1.0, 0.0, 1.0]);
    assert_eq!(gradient(&[-1.0, 0.0, 1.0], Var::relu), [0.0, 0.0, 1.0]);
    assert_eq!(gradient(&[-2.0, -1.0, 0.0, 1.0, 2.0], |x| x.clamp(-1.0, 1.0)), [0.0, 1.0, 1.0, 1.0, 0.0]);
    assert_eq!(gradient(&[0.0, 1.0], |x| x.powf(0.0)), [0.0, 0.0]);
    assert_eq!(gradient(&[0.0, -3.0], |x| x.powf(2.0)), [0.0, -6.0]);
    assert_eq!(gradient(&[0.0, -3.0], |x| x.powf(1.0)), [1.0, 1.0]);
}

#[test]
fn sums_means_maxima() {
    let x = constant(&[1.0, 5.0, 3.0, 4.0, 2.0, 6.0], [2, 3]);
    assert_eq!((x.sum().unwrap().item().unwrap(), x.sum().unwrap().dims()), (21.0, &[][..]));
    assert_eq!(x.mean().unwrap().item().unwrap(), 3.5);
    assert_eq!(x.max().unwrap().item().unwrap(), 6.0);
    assert_eq!(f64s(&x.sum_axis(0, false).unwrap()), [5.0, 7.0, 9.0]);
    assert_eq!(f64s(&x.mean_axis(-1, false).unwrap()), [3.0, 4.0]);
    assert_eq!(x.mean_axis(-1, true).unwrap().dims(), [2, 1]);
    let (values, index) = x.max_axis(1, true).unwrap();
    assert_eq!((f64s(&values), index.to_vec::<i64>().unwrap()), (vec![5.0, 6.0], vec![1, 2]));
    assert_eq!((values.dims(), index.dims()), (&[2, 1][..], &[2, 1][..]));
    assert_eq!(x.argmax(0).unwrap().to_vec::<i64>().unwrap(), [1, 0, 1]);
    assert_eq!(x.tensor().argmax(-1).unwrap().to_vec::<i64>().unwrap(), [1, 2]);
}

#[test]
fn ties_and_nan_in_maxima() {
    // Over everything the gradient is shared; along an axis it goes to the first.
    assert_eq!(gradient(&[2.0, 7.0, 7.0, 1.0, 7.0, 7.0], Var::max), [0.0, 0.25, 0.25, 0.0, 0.25, 0.25]);
    assert_eq!(gradient(&[2.0, 7.0, 7.0], |x| Ok(x.max_axis(0, false)?.0)), [0.0, 1.0, 0.0]);
    let inf = f64::INFINITY;
    assert_eq!(gradient(&[inf, 1.0, inf, -inf], Var::max), [0.5, 0.0, 0.5, 0.0]);
    assert_eq!(gradient(&[-inf, -inf], Var::max), [0.5, 0.5]);
    assert_eq!(gradient(&[-inf, f64::MAX], Var::max), [0.0, 1.0]);
    assert_eq!(gradient(&[f32::INFINITY, f32::MIN], Var::max), [1.0, 0.0]);
    assert_eq!(gradient(&[f64::MIN_POSITIVE, 0.0, 5e-324], Var::max), [1.0, 0.0, 0.0]);
    let nan = constant(&[1.0, f64::NAN, 3.0, f64::NAN], 4);
    assert!(nan.max().unwrap().item().unwrap().is_nan());
    assert_eq!(nan.argmax(0).unwrap().to_vec::<i64>().unwrap(), [1]);
    assert!(nan.max_axis(0, false).unwrap().0.item().unwrap().is_nan());
    assert_eq!(gradient(&[1.0, f64::NAN, inf, f64::NAN, -inf], Var::max), [0.0, 0.5, 0.0, 0.5, 0.0]);
    assert_eq!(gradient(&[f32::NAN], Var::max), [1.0]);
    assert_eq!(constant(&[3.0, 3.0], 2).argmax(0).unwrap().to_vec::<i64>().unwrap(), [0]);
}

#[test]
fn nothing_to_reduce() {
    let none = tensor::<f64>(&[], [0, 0]);
    assert!(none.argmax(0).is_err() && tensor::<f64>(&[], [2, 0]).argmax(0).is_ok());

    let none = constant(&[] as &[f64], [0, 3]);
    assert_eq!(none.sum().unwrap().item().unwrap(), 0.0);
    assert!(none.mean().unwrap().item().unwrap().is_nan());
    assert!(none.max().is_err());
    assert_eq!(f64s(&none.sum_axis(0, false).unwrap()), [0.0; 3]);
    assert!(f64s(&none.mean_axis(0, false).unwrap()).iter().all(|x| x.is_nan()));
    assert_eq!(f64s(&none.logsumexp(0, false).unwrap()), [f64::NEG_INFINITY; 3]);
    assert!(none.max_axis(0, false).is_err());
    assert!(none.argmax(0).is_err());
    assert_eq!(none.max_axis(1, false).unwrap().1.dims(), [0]);
    assert_eq!(none.argmax(1).unwrap().dims(), [0]);
    assert_eq!(none.sum_axis(1, true).unwrap().dims(), [0, 1]);
    assert_eq!(none.softmax(0).unwrap().dims(), [0, 3]);
    assert_eq!(none.log_softmax(1).unwrap().dims(), [0, 3]);
    // Gradients of what has no elements have none either.
    for f in [Var::sum as fn(&Var) -> _, Var::mean, |x| x.logsumexp(0, false)?.sum(), |x| x.softmax(0)?.sum()] {
        let x = Tape::new().variable(tensor(&[] as &[f64], [0, 3]));
        f(&x).unwrap().backward().unwrap();
        assert_eq!(x.grad().unwrap().dims(), [0, 3]);
    }
    // A scalar stretched over nothing.
    let tape = Tape::new();
    let (one, none) = (tape.variable(tensor(&[1.0], ())), tape.variable(tensor(&[] as &[f64], [2, 0])));
    one.mul(&none).unwrap().sum().unwrap().backward().unwrap();
    assert_eq!(one.grad().unwrap().item().unwrap(), 0.0);
}

#[test]
fn logsumexp_at_the_ends() {
    let inf = f64::INFINITY;
    let rows = [[1000.0, 1000.0], [-1000.0, -1000.0], [inf, 0.0], [-inf, -inf], [-inf, 3.0], [inf, -inf]];
    let want = [1000.0 + 2f64.ln(), -1000.0 + 2f64.ln(), inf, -inf, 3.0, inf];
    assert_eq!(f64s(&constant(rows.as_flattened(), [6, 2]).logsumexp(1, false).unwrap()), want);
    assert!(constant(&[1.0, f64::NAN], 2).logsumexp(0, false).unwrap().item().unwrap().is_nan());
    assert_eq!(gradient(&[-inf, 3.0], |x| x.logsumexp(0, false)), [0.0, 1.0]);
    assert_eq!(constant(&[1e30, 1e30], 2).logsumexp(0, false).unwrap().item().unwrap(), 1e30);
}

#[test]
fn softmax_does_not_overflow() {
    let x = constant(&[1e4f32, 1e4, -1e4, 0.0], 4);
    assert_eq!(x.softmax(0).unwrap().tensor().to_vec::<f32>().unwrap(), [0.5, 0.5, 0.0, 0.0]);
    let log = x.log_softmax(0).unwrap().tensor().to_vec::<f32>().unwrap();
    assert!((log[0] + 2f32.ln()).abs() < 1e-6 && log[2] == -2e4 - 2f32.ln(), "{log:?}");
}

#[test]
fn products() {
    let a = constant(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3]);
    let b = constant(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], [3, 2]);
    let v = constant(&[1.0, 10.0, 100.0], 3);
    let on = |x: &Var| a.tape().constant(x.tensor().clone());
    assert_eq!(f64s(&a.matmul(&on(&b)).unwrap()), [4.0, 5.0, 10.0, 11.0]);
    assert_eq!(f64s(&a.matmul(&on(&v)).unwrap()), [321.0, 654.0]);
    assert_eq!(f64s(&on(&v).matmul(&on(&b)).unwrap()), [101.0, 110.0]);
    let dot = on(&v).matmul(&on(&v)).unwrap();
    assert_eq!((dot.item().unwrap(), dot.dims()), (10101.0, &[][..]));
    let bias = on(&constant(&[0.5, -0.5], 2));
    let w = on(&constant(&[1.0, 1.0, 1.0, 0.0, 0.0, 1.0], [2, 3]));
    assert_eq!(f64s(&a.linear(&w, Some(&bias)).unwrap()), [6.5, 2.5, 15.5, 5.5]);
    assert_eq!(f64s(&on(&v).linear(&w, None).unwrap()), [111.0, 100.0]);
}

#[test]
fn shapes_of_products() {
    type Dims = &'static [usize];
    let cases: &[(Dims, Dims, Dims)] = &[
        (&[4], &[4], &[]),
        (&[4], &[4, 2], &[2]),
        (&[3, 4], &[4], &[3]),
        (&[5, 3, 4], &[4], &[5, 3]),
        (&[4], &[5, 4, 2], &[5, 2]),
        (&[5, 1, 3, 4], &[6, 4, 2], &[5, 6, 3, 2]),
        (&[0, 3, 4], &[4, 2], &[0, 3, 2]),
        (&[3, 0], &[0, 2], &[3, 2]),
        (&[0], &[0], &[]),
        (&[2, 0, 4], &[2, 4, 3], &[2, 0, 3]),
        (&[2, 3, 0], &[0, 3], &[2, 3, 3]),
        (&[1, 3, 4], &[0, 4, 2], &[0, 3, 2]),
    ];
    for &(a, b, want) in cases {
        let tape = Tape::new();
        let (a, b) = (tape.variable(count(a)), tape.variable(count(b)));
        let c = a.matmul(&b).unwrap();
        assert_eq!(c.dims(), want, "{:?} × {:?}", a.dims(), b.dims());
        if a.tensor().numel() == 0 {
            assert!(f64s(&c).iter().all(|&x| x == 0.0));
        }
        c.sum().unwrap().backward().unwrap();
        assert_eq!((a.grad().unwrap().dims(), b.grad().unwrap().dims()), (a.dims(), b.dims()));
        if c.tensor().numel() == 0 {
            assert!(b.grad().unwrap().to_vec::<f64>().unwrap().iter().all(|&x| x == 0.0));
        }
    }
    for (lead, k, n) in [(0, 3, 2), (2, 0, 3), (2, 3, 0)] {
        let tape = Tape::new();
        let [x, w, b] = [&[lead, k][..], &[n, k], &[n]]
            .map(|s| tape.variable(Tensor::ones(s, DType::F64, &gatefold::Device::Cpu).unwrap()));
        let y = x.linear(&w, Some(&b)).unwrap();
        assert_eq!(y.dims(), [lead, n]);
        assert!(f64s(&y).iter().all(|&v| v == 1.0 + k as f64));
        y.sum().unwrap().backward().unwrap();
        assert!(w.grad().unwrap().to_vec::<f64>().unwrap().iter().all(|&g| g == lead as f64));
        assert_eq!(b.grad().unwrap().to_vec::<f64>().unwrap(), vec![lead as f64; n]);
    }
}

/// Larger than a kernel's tile, ragged at the edges, transposed in the backward.
#[test]
fn larger_products() {
    let (m, k, n) = (37, 129, 65);
    let value = |i: usize| ((i * 7 + 3) % 11) as f32 - 5.0;
    let (a, b): (Vec<f32>, Vec<f32>) = ((0..m * k).map(value).collect(), (0..k * n).map(value).collect());
    let tape = Tape::new();
    let (x, y) = (tape.variable(tensor(&a, [m, k])), tape.variable(tensor(&b, [k, n])));
    let c = x.matmul(&y).unwrap();
    // Whole numbers below 2²⁴: exact in any order.
    let got = c.tensor().to_vec::<f32>().unwrap();
    for i in 0..m {
        for j in 0..n {
            let want: f32 = (0..k).map(|p| a[i * k + p] * b[p * n + j]).sum();
            assert_eq!(got[i * n + j], want);
        }
    }
    c.sum().unwrap().backward().unwrap();
    let (da, db) = (x.grad().unwrap().to_vec::<f32>().unwrap(), y.grad().unwrap().to_vec::<f32>().unwrap());
    for p in 0..k {
        assert_eq!(da[p], b[p * n..(p + 1) * n].iter().sum::<f32>());
        assert_eq!(db[p * n], (0..m).map(|i| a[i * k + p]).sum::<f32>());
    }
}
