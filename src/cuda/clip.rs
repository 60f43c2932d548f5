//! The norm of a list of tensors as if they were one vector, and their clipping.

use super::{
    Buffer, abi,
    launch::float,
    multi_tensor::{Table, blocks, chunks, column, launches},
};
use crate::{dtype::DType, error::Result};

pub fn norm(p: f64, max_norm: f64, xs: &[&Buffer], norm: &mut Buffer, factor: &mut Buffer) -> Result<()> {
    const OP: &str = "norm";
    let context = norm.context();
    let op = match p {
        f64::INFINITY => abi::NORM_MAX,
        2.0 => abi::NORM_TWO,
        _ => abi::NORM_POWER,
    };
    let count = xs.iter().map(|x| chunks(x)).sum();
    let parts = Buffer::new(context, OP, DType::F64, count)?;
    let mut next = parts.address();
    let launch = |xs: &[&&Buffer], table: &Table| {
        let p = abi::NormParts {
            x: column(xs.iter().map(|x| x.address())),
            count: table.count,
            first: table.first,
            parts: next,
            p,
            tensors: table.tensors,
            op,
        };
        next += table.chunks as u64 * DType::F64.size() as u64;
        context.launch("norm_parts", float(OP, xs[0].dtype())?, &table.grid(), &p)
    };
    launches(xs, |x| x, |_| (), launch)?;
    let p = abi::NormJoin {
        parts: parts.address(),
        norm: norm.address(),
        factor: factor.address(),
        count: count as u64,
        p,
        max_norm,
        op,
        unused: 0,
    };
    context.launch("norm_join", "", &blocks(1), &p)
}

pub fn scale_each(factor: &Buffer, xs: &mut [&mut Buffer]) -> Result<()> {
    let context = factor.context();
    let launch = |xs: &[&&mut Buffer], table: &Table| {
        let p = abi::Scale {
            x: column(xs.iter().map(|x| x.address())),
            count: table.count,
            first: table.first,
            factor: factor.address(),
            tensors: table.tensors,
            unused: 0,
        };
        context.launch("scale_each", float("scale_each", xs[0].dtype())?, &table.grid(), &p)
    };
    launches(xs, |x| x, |_| (), launch)
}

pub fn clamp_each(low: f64, high: f64, xs: &mut [&mut Buffer]) -> Result<()> {
    let launch = |xs: &[&&mut Buffer], table: &Table| {
        let p = abi::Clamp {
            x: column(xs.iter().map(|x| x.address())),
            count: table.count,
            first: table.first,
            low,
            high,
            tensors: table.tensors,
            unused: 0,
        };
        xs[0].context().launch("clamp_each", float("clamp_each", xs[0].dtype())?, &table.grid(), &p)
    };
    launches(xs, |x| x, |_| (), launch)
}
