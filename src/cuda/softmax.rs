//! softmax and its logarithm along one axis.

use super::{Buffer, Dims, abi, launch::float};
use crate::error::Result;

pub fn softmax(log: bool, (outer, n, inner): Dims, x: &Buffer, y: &mut Buffer) -> Result<()> {
    let (context, name) = (y.context(), float("softmax", y.dtype())?);
    if y.len() == 0 {
        return Ok(());
    }
    let p = abi::Softmax {
        x: x.address(),
        y: y.address(),
        outer: outer as u64,
        n: n as u64,
        inner: inner as u64,
        log: log.into(),
        unused: 0,
    };
    if inner == 1 {
        context.launch("softmax_rows", name, &context.teams(outer, n), &p)
    } else {
        context.launch("softmax_columns", name, &context.spread(outer * inner), &p)
    }
}

pub fn softmax_backward(log: bool, (outer, n, inner): Dims, y: &Buffer, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
    let (context, name) = (dx.context(), float("softmax_backward", dx.dtype())?);
    if dx.len() == 0 {
        return Ok(());
    }
    let p = abi::SoftmaxBackward {
        y: y.address(),
        dy: dy.address(),
        dx: dx.address(),
        outer: outer as u64,
        n: n as u64,
        inner: inner as u64,
        log: log.into(),
        unused: 0,
    };
    if inner == 1 {
        context.launch("softmax_backward_rows", name, &context.teams(outer, n), &p)
    } else {
        context.launch("softmax_backward_columns", name, &context.spread(outer * inner), &p)
    }
}
