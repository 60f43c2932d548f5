//! The differentiable operations: gradients, values, refusals, the rules of the tape, and properties over random shapes.

#[path = "../common/mod.rs"]
mod common;

mod errors;
mod gradients;
mod halves;
mod masks;
mod moves;
mod properties;
mod pytorch;
mod tape;
mod values;

use gatefold::{Device, Shape, Tape, Tensor, Var, dtype::Element};

/// A tensor of a flat slice.
fn tensor<T: Element>(data: &[T], shape: impl Into<Shape>) -> Tensor {
    Tensor::from_slice(data, shape, &Device::Cpu).unwrap()
}

/// A constant on a tape of its own that records nothing.
fn constant<T: Element>(data: &[T], shape: impl Into<Shape>) -> Var {
    Tape::no_grad().constant(tensor(data, shape))
}

/// 0, 1, 2, … as f64.
fn count(shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    tensor(&(0..shape.numel()).map(|i| i as f64).collect::<Vec<_>>(), shape)
}

/// The gradient of Σ f(x) with respect to x.
fn gradient<T: Element>(x: &[T], f: impl Fn(&Var) -> gatefold::Result<Var>) -> Vec<T> {
    let tape = Tape::new();
    let x = tape.variable(tensor(x, x.len()));
    f(&x).unwrap().sum().unwrap().backward().unwrap();
    x.grad().unwrap().to_vec().unwrap()
}
