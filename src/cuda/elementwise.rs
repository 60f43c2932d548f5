//! Functions of each element.

use super::{
    Buffer, abi,
    launch::{float, suffix},
};
use crate::{
    cpu::walk::Walk,
    error::Result,
    kernel::{Binary, Unary},
};

/// The number of a function and its two parameters.
fn code(op: Unary) -> (u32, f64, f64) {
    match op {
        Unary::Neg => (abi::UNARY_NEG, 0.0, 0.0),
        Unary::Exp => (abi::UNARY_EXP, 0.0, 0.0),
        Unary::Log => (abi::UNARY_LOG, 0.0, 0.0),
        Unary::Sqrt => (abi::UNARY_SQRT, 0.0, 0.0),
        Unary::Abs => (abi::UNARY_ABS, 0.0, 0.0),
        Unary::Tanh => (abi::UNARY_TANH, 0.0, 0.0),
        Unary::Sigmoid => (abi::UNARY_SIGMOID, 0.0, 0.0),
        Unary::Relu => (abi::UNARY_RELU, 0.0, 0.0),
        Unary::Powf(2.0) => (abi::UNARY_SQUARE, 0.0, 0.0),
        Unary::Powf(0.0) => (abi::UNARY_ONE, 0.0, 0.0),
        Unary::Powf(p) => (abi::UNARY_POWER, p, p - 1.0),
        Unary::Affine { scale, shift } => (abi::UNARY_AFFINE, scale, shift),
        Unary::Quotient(divisor) => (abi::UNARY_QUOTIENT, divisor, 0.0),
        Unary::Clamp { low, high } => (abi::UNARY_CLAMP, low, high),
    }
}

pub fn unary(op: Unary, x: &Buffer, y: &mut Buffer) -> Result<()> {
    launch_unary(op, x.address(), y)
}

/// y = op(y)
pub fn unary_in_place(op: Unary, y: &mut Buffer) -> Result<()> {
    launch_unary(op, y.address(), y)
}

fn launch_unary(op: Unary, x: u64, y: &mut Buffer) -> Result<()> {
    let (context, name) = (y.context(), float("unary", y.dtype())?);
    let (op, a, b) = code(op);
    let p = abi::Unary { x, y: y.address(), count: y.len() as u64, a, b, op, unused: 0 };
    context.launch("unary", name, &context.spread_vectors(y.len(), y.dtype()), &p)
}

pub fn unary_backward(op: Unary, x: &Buffer, y: &Buffer, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
    let (context, name) = (dx.context(), float("unary_backward", dx.dtype())?);
    let (op, a, b) = code(op);
    let p = abi::UnaryBackward {
        x: x.address(),
        y: y.address(),
        dy: dy.address(),
        dx: dx.address(),
        count: dx.len() as u64,
        a,
        b,
        op,
        unused: 0,
    };
    context.launch("unary_backward", name, &context.spread_vectors(dx.len(), dx.dtype()), &p)
}

pub fn binary(
    op: Binary,
    shape: &[usize],
    (a, strides_a): (&Buffer, &[usize]),
    (b, strides_b): (&Buffer, &[usize]),
    y: &mut Buffer,
) -> Result<()> {
    if y.len() == 0 {
        return Ok(());
    }
    let op = match op {
        Binary::Add => abi::BINARY_ADD,
        Binary::Sub => abi::BINARY_SUB,
        Binary::Mul => abi::BINARY_MUL,
        Binary::Div => abi::BINARY_DIV,
    };
    float("binary", y.dtype())?;
    let walk = Walk::new(shape, [strides_a, strides_b]);
    let p = abi::Binary { a: a.address(), b: b.address(), y: y.address(), op, ..Default::default() };
    binary_walk(&walk, p, y)
}

/// One launch, or where there are more dimensions than a kernel walks through one for each index of the outermost.
fn binary_walk(walk: &Walk<2>, mut p: abi::Binary, y: &Buffer) -> Result<()> {
    let (context, name, count) = (y.context(), suffix(y.dtype()), walk.shape.iter().product::<usize>());
    let size = y.dtype().size() as u64;
    if walk.shape.len() > abi::MAX_RANK {
        let mut inner = walk.clone();
        let (extent, [a, b]) = inner.take(0);
        let step = (count / extent) as u64 * size;
        for i in 0..extent as u64 {
            let at = abi::Binary { a: p.a + i * a as u64 * size, b: p.b + i * b as u64 * size, y: p.y + i * step, ..p };
            binary_walk(&inner, at, y)?;
        }
        return Ok(());
    }
    p.count = count as u64;
    p.rank = walk.shape.len() as u32;
    for (d, &extent) in walk.shape.iter().enumerate() {
        p.extent[d] = extent as u64;
        p.stride_a[d] = walk.strides[0][d] as u64;
        p.stride_b[d] = walk.strides[1][d] as u64;
    }
    // The flat kernel wants whole vectors, which only the beginning of a buffer is sure to have.
    let flat = p.rank <= 1 && p.stride_a[0] <= 1 && p.stride_b[0] <= 1 && count == y.len();
    if flat {
        context.launch("binary", name, &context.spread_vectors(count, y.dtype()), &p)
    } else {
        context.launch("binary_strided", name, &context.spread(count), &p)
    }
}

pub fn axpy(alpha: f64, x: &Buffer, y: &mut Buffer) -> Result<()> {
    let (context, name) = (y.context(), float("axpy", y.dtype())?);
    let p = abi::Axpy { x: x.address(), y: y.address(), count: y.len() as u64, alpha };
    context.launch("axpy", name, &context.spread_vectors(y.len(), y.dtype()), &p)
}
