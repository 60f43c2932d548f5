//! Functions of each element.

use super::{
    Buffer, abi,
    launch::{bits, float, suffix},
};
use crate::{
    cpu::walk::Walk,
    error::Result,
    kernel::{Binary, Compare, Unary},
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
    let name = float("binary", y.dtype())?;
    let context = y.context();
    each_walk(&Walk::new(shape, [strides_a, strides_b]), [0; 2], 0, &mut |walk, begin, at| {
        let p = pair(walk, begin, at, [a, b, y], op);
        let count = p.count as usize;
        // The flat kernel wants whole vectors, which only the beginning of a buffer is sure to have.
        let flat = p.rank <= 1 && p.stride_a[0] <= 1 && p.stride_b[0] <= 1 && count == y.len();
        if flat {
            context.launch("binary", name, &context.spread_vectors(count, y.dtype()), &p)
        } else {
            context.launch("binary_strided", name, &context.spread(count), &p)
        }
    })
}

/// What launches for a walk, given where in its arrays and in y it begins.
type Part<'a, const N: usize> = dyn FnMut(&Walk<N>, [usize; N], usize) -> Result<()> + 'a;

/// Calls `launch` once, or where there are more dimensions than a kernel walks through once for each index of the outermost ones: with the
/// dimensions that are left, and in elements where each of the arrays then begins, and y.
fn each_walk<const N: usize>(walk: &Walk<N>, begin: [usize; N], y: usize, launch: &mut Part<'_, N>) -> Result<()> {
    if walk.shape.len() <= abi::MAX_RANK {
        return launch(walk, begin, y);
    }
    let mut inner = walk.clone();
    let (extent, strides) = inner.take(0);
    let step = inner.shape.iter().product::<usize>();
    (0..extent)
        .try_for_each(|i| each_walk(&inner, std::array::from_fn(|n| begin[n] + i * strides[n]), y + i * step, launch))
}

/// What a kernel of two arguments takes of a walk that begins there.
fn pair(walk: &Walk<2>, begin: [usize; 2], at: usize, [a, b, y]: [&Buffer; 3], op: u32) -> abi::Binary {
    let place = |buffer: &Buffer, at: usize| buffer.address() + (at * buffer.dtype().size()) as u64;
    abi::Binary {
        a: place(a, begin[0]),
        b: place(b, begin[1]),
        y: place(y, at),
        count: walk.shape.iter().product::<usize>() as u64,
        extent: extents(&walk.shape),
        stride_a: extents(&walk.strides[0]),
        stride_b: extents(&walk.strides[1]),
        rank: walk.shape.len() as u32,
        op,
    }
}

fn extents(dims: &[usize]) -> [u64; abi::MAX_RANK] {
    std::array::from_fn(|d| dims.get(d).map_or(0, |&n| n as u64))
}

pub fn compare(
    op: Compare,
    shape: &[usize],
    (a, strides_a): (&Buffer, &[usize]),
    (b, strides_b): (&Buffer, &[usize]),
    y: &mut Buffer,
) -> Result<()> {
    if y.len() == 0 {
        return Ok(());
    }
    let op = match op {
        Compare::Eq => abi::COMPARE_EQ,
        Compare::Ne => abi::COMPARE_NE,
        Compare::Lt => abi::COMPARE_LT,
        Compare::Le => abi::COMPARE_LE,
        Compare::Gt => abi::COMPARE_GT,
        Compare::Ge => abi::COMPARE_GE,
    };
    let context = y.context();
    each_walk(&Walk::new(shape, [strides_a, strides_b]), [0; 2], 0, &mut |walk, begin, at| {
        let p = pair(walk, begin, at, [a, b, y], op);
        let count = p.count as usize;
        context.launch("compare", suffix(a.dtype()), &context.spread(count), &p)
    })
}

pub fn select(
    shape: &[usize],
    (mask, strides_mask): (&Buffer, &[usize]),
    (a, strides_a): (&Buffer, &[usize]),
    (b, strides_b): (&Buffer, &[usize]),
    y: &mut Buffer,
) -> Result<()> {
    if y.len() == 0 {
        return Ok(());
    }
    let (context, size) = (y.context(), y.dtype().size());
    each_walk(&Walk::new(shape, [strides_mask, strides_a, strides_b]), [0; 3], 0, &mut |walk, begin, at| {
        let count = walk.shape.iter().product::<usize>();
        let p = abi::Select {
            mask: mask.address() + begin[0] as u64,
            a: a.address() + (begin[1] * size) as u64,
            b: b.address() + (begin[2] * size) as u64,
            y: y.address() + (at * size) as u64,
            count: count as u64,
            extent: extents(&walk.shape),
            stride_mask: extents(&walk.strides[0]),
            stride_a: extents(&walk.strides[1]),
            stride_b: extents(&walk.strides[2]),
            rank: walk.shape.len() as u32,
            unused: 0,
        };
        context.launch("select", bits(y.dtype()), &context.spread(count), &p)
    })
}

pub fn axpy(alpha: f64, x: &Buffer, y: &mut Buffer) -> Result<()> {
    let (context, name) = (y.context(), float("axpy", y.dtype())?);
    let p = abi::Axpy { x: x.address(), y: y.address(), count: y.len() as u64, alpha };
    context.launch("axpy", name, &context.spread_vectors(y.len(), y.dtype()), &p)
}
