//! The rules of the tape.

use gatefold::{DType, Device, Error, Parameter, Philox, Result, Tape, Tensor, Var};

use crate::{count, tensor};

#[track_caller]
fn tape_error<T: std::fmt::Debug>(result: Result<T>) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Tape { .. }), "{error}");
}

fn f64s(x: Option<Tensor>) -> Vec<f64> {
    x.unwrap().to_vec().unwrap()
}

#[test]
fn a_loss_has_one_element() {
    let tape = Tape::new();
    let x = tape.variable(count([2]));
    assert!(matches!(x.backward(), Err(Error::Shape { .. })));
    assert!(matches!(x.narrow(0, 0, 0).unwrap().backward(), Err(Error::Shape { .. })));
    // The refusal consumed nothing; an extent of 1 is as good as a scalar.
    x.sum_axis(0, true).unwrap().backward().unwrap();
    assert_eq!(f64s(x.grad()), [1.0, 1.0]);
}

#[test]
fn a_variable_is_its_own_loss() {
    let x = Tape::new().variable(tensor(&[3.0], ()));
    x.backward().unwrap();
    assert_eq!(f64s(x.grad()), [1.0]);
}

#[test]
fn tapes_do_not_mix() {
    let (a, b) = (Tape::new(), Tape::new());
    let (x, y) = (a.variable(count([2])), b.variable(count([2])));
    tape_error(x.add(&y));
    tape_error(Var::concat(&[&x, &y], 0));
    tape_error(x.linear(&b.constant(count([1, 2])), None));
    tape_error(a.backward(&y.sum().unwrap()));
    // A handle is the same tape.
    assert!(x.add(&a.clone().constant(count([2]))).is_ok());
    // A value can be carried over.
    x.add(&a.constant(y.into_tensor())).unwrap().sum().unwrap().backward().unwrap();
}

#[test]
fn a_tape_is_replayed_once() {
    let tape = Tape::new();
    let x = tape.variable(count([2]));
    let loss = x.sum().unwrap();
    loss.backward().unwrap();
    tape_error(loss.backward());
    tape_error(x.exp());
    assert!(tape.is_empty());
    // Constants still compute on it.
    assert!(tape.constant(count([2])).exp().is_ok());
}

#[test]
fn nothing_to_differentiate() {
    let tape = Tape::new();
    tape_error(tape.constant(tensor(&[1.0], ())).backward());
    tape_error(tape.constant(count([2])).sum().unwrap().backward());
    let x = tape.variable(tensor(&[1i64], ()));
    assert!(!x.requires_grad());
    tape_error(x.backward());
}

#[test]
fn gradients_accumulate_until_zeroed() {
    let p = Parameter::new(tensor(&[2.0, 3.0], 2));
    let step = || {
        let x = Tape::new().parameter(&p);
        x.mul(&x).unwrap().sum().unwrap().backward().unwrap();
    };
    step();
    assert_eq!(f64s(p.grad()), [4.0, 6.0]);
    step();
    assert_eq!(f64s(p.grad()), [8.0, 12.0]);
    p.zero_grad();
    assert!(p.grad().is_none());
    step();
    assert_eq!(f64s(p.grad()), [4.0, 6.0]);
}

#[test]
fn a_parameter_used_twice_sums() {
    let tape = Tape::new();
    let p = Parameter::new(tensor(&[2.0], 1));
    let (a, b) = (tape.parameter(&p), tape.parameter(&p.clone()));
    a.mul_scalar(3.0).unwrap().add(&b.mul(&a).unwrap()).unwrap().backward().unwrap();
    assert_eq!(f64s(p.grad()), [7.0]);
}

#[test]
fn what_is_detached_onto_another_tape_is_a_constant_there() {
    let (first, second) = (Tape::new(), Tape::new());
    let x = first.variable(tensor(&[2.0, 3.0], 2));
    let y = x.mul_scalar(2.0).unwrap();
    let z = y.detach_onto(&second);
    assert_eq!(f64s(Some(z.tensor().clone())), [4.0, 6.0]);
    assert!(!z.requires_grad() && second.is_empty());
    // With what is on the other tape it is computed, and its gradient ends there.
    let w = second.variable(tensor(&[5.0, 7.0], 2));
    z.mul(&w).unwrap().sum().unwrap().backward().unwrap();
    assert_eq!(f64s(w.grad()), [4.0, 6.0]);
    assert!(x.grad().is_none());
    y.sum().unwrap().backward().unwrap();
    assert_eq!(f64s(x.grad()), [2.0, 2.0]);
}

#[test]
fn a_frozen_parameter_gets_nothing() {
    let tape = Tape::new();
    let (frozen, free) = (Parameter::new(tensor(&[2.0], 1)), Parameter::new(tensor(&[5.0], 1)));
    frozen.set_requires_grad(false);
    let x = tape.parameter(&frozen);
    assert!(!x.requires_grad());
    x.mul(&x).unwrap();
    assert!(tape.is_empty());
    x.mul(&tape.parameter(&free)).unwrap().backward().unwrap();
    assert!(frozen.grad().is_none());
    assert_eq!(f64s(free.grad()), [2.0]);
    frozen.set_requires_grad(true);
    Tape::new().parameter(&frozen).backward().unwrap();
    assert_eq!(f64s(frozen.grad()), [1.0]);
    // As in PyTorch, what counts is whether it is frozen when gradients arrive.
    let tape = Tape::new();
    let loss = tape.parameter(&frozen).mul(&tape.parameter(&free)).unwrap();
    frozen.set_requires_grad(false);
    loss.backward().unwrap();
    assert_eq!((f64s(frozen.grad()), f64s(free.grad())), (vec![1.0], vec![4.0]));
}

#[test]
fn inference_records_nothing() {
    let p = Parameter::new(count([2, 2]));
    let tape = Tape::no_grad();
    let x = tape.parameter(&p);
    let y = x.matmul(&x).unwrap().softmax(0).unwrap().max().unwrap();
    assert!(tape.is_empty() && !y.requires_grad() && !tape.is_recording());
    tape_error(y.backward());
    assert!(!tape.variable(count([2])).requires_grad());
}

#[test]
fn recording_pauses_and_resumes() {
    let tape = Tape::new();
    let x = tape.variable(tensor(&[3.0], 1));
    let y = tape.with_no_grad(|| x.mul(&x)).unwrap();
    assert!(!y.requires_grad() && tape.is_empty() && tape.is_recording());
    // The product counts as a constant 9.
    x.mul(&y).unwrap().backward().unwrap();
    assert_eq!(f64s(x.grad()), [9.0]);

    let tape = Tape::new();
    let panicked =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tape.with_no_grad(|| panic!("on purpose"))));
    assert!(panicked.is_err() && tape.is_recording());
}

#[test]
fn a_detached_value_is_a_constant() {
    let tape = Tape::new();
    let x = tape.variable(tensor(&[3.0], 1));
    let y = x.mul(&x).unwrap();
    y.detach().mul(&x).unwrap().backward().unwrap();
    assert_eq!(f64s(x.grad()), [9.0]);
}

#[test]
fn gradients_come_only_where_they_flow() {
    let tape = Tape::new();
    let (x, aside) = (tape.variable(count([2])), tape.variable(count([2])));
    let unused = aside.exp().unwrap();
    assert!(x.grad().is_none());
    let y = x.exp().unwrap();
    y.sum().unwrap().backward().unwrap();
    assert!(aside.grad().is_none() && unused.grad().is_none() && y.grad().is_none() && x.grad().is_some());
}

#[test]
fn values_and_gradients_are_apart() {
    // The gradient of a sum is one tensor for both; adding to one must not show in the other.
    let (p, q) = (Parameter::new(count([2])), Parameter::new(count([2])));
    for _ in 0..2 {
        let tape = Tape::new();
        tape.parameter(&p).add(&tape.parameter(&q)).unwrap().sum().unwrap().backward().unwrap();
    }
    let tape = Tape::new();
    tape.parameter(&p).sum().unwrap().backward().unwrap();
    assert_eq!((f64s(p.grad()), f64s(q.grad())), (vec![3.0, 3.0], vec![2.0, 2.0]));
}

#[test]
fn an_operation_of_ones_own() {
    let tape = Tape::new();
    let x = tape.variable(tensor(&[2.0, 3.0], 2));
    let input = x.tensor().clone();
    let cube = || tensor(&[8.0, 27.0], 2);
    let y = tape.record("cube", &[&x], vec![cube()], move |dy| {
        let tape = Tape::no_grad();
        let [x, dy] = [input, dy.into_iter().flatten().next().unwrap()].map(|t| tape.constant(t));
        Ok(vec![Some(x.mul(&x)?.mul_scalar(3.0)?.mul(&dy)?.into_tensor())])
    });
    y.unwrap()[0].sum().unwrap().backward().unwrap();
    assert_eq!(f64s(x.grad()), [12.0, 27.0]);

    let tape = Tape::new();
    let x = tape.variable(count([2]));
    let y = tape.record("wrong", &[&x], vec![cube()], |_| Ok(vec![])).unwrap();
    tape_error(y[0].sum().unwrap().backward());

    // A variable made while the tape is replayed has no gradient, nor has a parameter first used then, and they do no harm.
    let tape = Tape::new();
    let (x, late, p) = (tape.variable(count([2])), tape.clone(), Parameter::new(count([1])));
    let used = p.clone();
    let y = tape.record("late", &[&x], vec![cube()], move |dy| {
        late.variable(count([1]));
        late.parameter(&used);
        Ok(dy)
    });
    y.unwrap()[0].sum().unwrap().backward().unwrap();
    assert_eq!(f64s(x.grad()), [1.0, 1.0]);
    assert!(p.grad().is_none());
}

#[test]
fn a_long_chain_is_no_deep_recursion() {
    let tape = Tape::new();
    let x = tape.variable(Tensor::ones([1], DType::F64, &Device::Cpu).unwrap());
    let mut y = x.clone();
    for _ in 0..100_000 {
        y = y.add_scalar(0.0).unwrap();
    }
    y.backward().unwrap();
    assert_eq!(f64s(x.grad()), [1.0]);
}

#[test]
fn a_square_has_the_bits_of_two_factors() {
    let v = Tensor::normal(100, 0.0, 1.0, DType::F32, &Device::Cpu, &mut Philox::seed(1)).unwrap();
    let tape = Tape::new();
    let x = tape.variable(v.clone());
    // The gradient of exp comes first, and each factor's is added to it.
    x.mul(&x).unwrap().add(&x.exp().unwrap()).unwrap().sum().unwrap().backward().unwrap();
    let exp = Tape::no_grad().constant(v.clone()).exp().unwrap().tensor().to_vec::<f32>().unwrap();
    let v = v.to_vec::<f32>().unwrap();
    let want: Vec<f32> = exp.iter().zip(&v).map(|(e, v)| (e + v) + v).collect();
    assert_eq!(x.grad().unwrap().to_vec::<f32>().unwrap(), want);
    assert_eq!(x.tensor().to_vec::<f32>().unwrap(), v);
}

#[test]
fn a_square_writes_over_no_gradient_that_another_has() {
    let tape = Tape::new();
    let (a, b) = (tape.variable(count([3])), tape.variable(count([3])));
    // The sum hands one gradient to both, and the square is replayed before b's is read.
    a.mul(&a).unwrap().add(&b).unwrap().sum().unwrap().backward().unwrap();
    assert_eq!((f64s(a.grad()), f64s(b.grad())), (vec![0.0, 2.0, 4.0], vec![1.0; 3]));
}

#[test]
fn a_gradient_that_is_not_like_its_input_is_refused() {
    let refused = |gradient: Tensor| {
        let tape = Tape::new();
        let x = tape.variable(count([3]));
        let y = x.mul(&x).unwrap();
        let z = tape.record("all", &[&y], vec![tensor(&[1.0], ())], |_| Ok(vec![Some(gradient)])).unwrap();
        let answer = z[0].backward().map_err(|e| e.to_string());
        assert_eq!(answer.is_ok(), x.grad().is_some());
        answer
    };
    assert_eq!(refused(tensor(&[1.0; 3], 3)), Ok(()));
    // One number is not the gradient of three, and four are none either.
    for shape in [&[] as &[usize], &[4], &[1, 3]] {
        let numbers = vec![1.0; shape.iter().product()];
        let error = refused(tensor(&numbers, shape)).unwrap_err();
        assert!(error.starts_with("all: wrong shape: got a gradient of ") && error.ends_with("want [3]"), "{error}");
    }
    let rounded = tensor(&[1.0; 3], 3).to_dtype(DType::F32).unwrap();
    assert_eq!(refused(rounded).unwrap_err(), "all: wrong dtype: got a gradient of float32, want float64");
}

#[test]
fn a_gradient_for_each_input() {
    let tape = Tape::new();
    let (a, b) = (tape.variable(count([3])), tape.variable(count([3])));
    let y = tape.record("pair", &[&a, &b], vec![tensor(&[1.0], ())], |_| Ok(vec![None])).unwrap();
    let error = y[0].backward().unwrap_err().to_string();
    assert!(error.starts_with("pair: 1 gradients of 2 inputs"), "{error}");
}

#[test]
fn two_values_of_one_parameter_are_no_square() {
    let (tape, p) = (Tape::new(), Parameter::new(tensor(&[2.0], 1)));
    let a = tape.parameter(&p);
    p.set_value(tensor(&[5.0], 1)).unwrap();
    a.mul(&tape.parameter(&p)).unwrap().backward().unwrap();
    assert_eq!(f64s(p.grad()), [7.0]);
}

#[test]
fn a_gradient_that_is_held_stays() {
    let p = Parameter::new(count([1000]));
    let step = |by: f64| {
        let tape = Tape::new();
        tape.parameter(&p).mul_scalar(by).unwrap().sum().unwrap().backward().unwrap();
    };
    step(1.0);
    let held = p.grad();
    p.zero_grad();
    step(2.0);
    let second = p.grad();
    step(3.0);
    assert_eq!([held, second, p.grad()].map(f64s), [1.0, 2.0, 5.0].map(|g| vec![g; 1000]));
}

#[test]
fn tapes_beside_and_inside_of_each_other() {
    let square = |tape: &Tape, at: f64| {
        let x = tape.variable(tensor(&[at], ()));
        (x.clone(), x.mul(&x).unwrap())
    };
    // One that is dropped without being replayed, and holds the last handle of another.
    let (outer, inner) = (Tape::new(), Tape::new());
    let (x, y) = (square(&outer, 1.0).0, square(&inner, 2.0).1);
    outer.record("holds", &[&x], vec![tensor(&[1.0], ())], move |dy| y.backward().map(|()| dy)).unwrap();
    drop((outer, inner, x));
    // Later ones are not touched by what those held, nor by each other.
    let (a, b) = (Tape::new(), Tape::new());
    let ((x, y), (z, w)) = (square(&a, 3.0), square(&b, 4.0));
    assert_eq!((a.len(), b.len()), (1, 1));
    w.backward().unwrap();
    drop((b, w));
    let (u, v) = square(&Tape::new(), 5.0);
    v.backward().unwrap();
    y.backward().unwrap();
    assert_eq!([x, z, u].map(|x| f64s(x.grad())), [vec![6.0], vec![8.0], vec![10.0]]);
}

/// A gradient that is given flows as that of the sum of the products with it does, and stays as it is.
#[test]
fn backward_with_a_gradient() {
    let gradient = |given: bool| {
        let tape = Tape::new();
        let x = tape.variable(Tensor::new([[1f32, -2.0], [3.0, 0.5]], &Device::Cpu).unwrap());
        let weights = Tensor::new([[2f32, 0.25], [-1.0, 7.0]], &Device::Cpu).unwrap();
        let y = x.mul(&x).unwrap();
        if given {
            y.backward_with(&weights).unwrap();
        } else {
            y.mul(&tape.constant(weights.clone())).unwrap().sum().unwrap().backward().unwrap();
        }
        assert_eq!(weights.to_vec::<f32>().unwrap(), [2.0, 0.25, -1.0, 7.0]);
        x.grad().unwrap().to_vec::<f32>().unwrap()
    };
    assert_eq!(gradient(true), [4.0, -1.0, -6.0, 7.0]);
    assert_eq!(gradient(true), gradient(false));

    let tape = Tape::new();
    let x = tape.variable(Tensor::ones([2, 3], DType::F32, &Device::Cpu).unwrap());
    let y = x.neg().unwrap();
    for wrong in
        [Tensor::ones(6, DType::F32, &Device::Cpu).unwrap(), Tensor::ones([2, 3], DType::F64, &Device::Cpu).unwrap()]
    {
        let refused = y.backward_with(&wrong).unwrap_err().to_string();
        assert!(refused.contains("backward"), "{refused}");
    }
    // Nothing was consumed; where it leads nowhere it says so.
    let right = Tensor::ones([2, 3], DType::F32, &Device::Cpu).unwrap();
    assert!(tape.constant(right.clone()).backward_with(&right).is_err());
    y.backward_with(&right).unwrap();
    assert_eq!(x.grad().unwrap().to_vec::<f32>().unwrap(), [-1.0; 6]);
    assert!(y.backward_with(&right).is_err(), "a second time");
}
