//! Reductions over one axis. How a long axis is divided is a function of the shape alone.

use super::{Buffer, Dims, abi, launch::float};
use crate::{error::Result, kernel::Reduce};

/// Rows of the axis that are worth a block of their own, and the most blocks that share an axis.
const ROW_PART: usize = 8192;
const COLUMN_PART: usize = 256;
const MOST_PARTS: usize = 512;

/// `[outer, n, inner]` → `[outer, inner]`
pub fn reduce(op: Reduce, dims: Dims, x: &Buffer, y: &mut Buffer) -> Result<()> {
    let name = float("reduce", y.dtype())?;
    let (outer, n, inner) = dims;
    if y.len() == 0 {
        return Ok(());
    }
    let op = match op {
        Reduce::Sum => abi::REDUCE_SUM,
        Reduce::Mean => abi::REDUCE_MEAN,
        Reduce::Max => abi::REDUCE_MAX,
    };
    let (worth, tasks) = if inner == 1 { (ROW_PART, outer) } else { (COLUMN_PART, outer * inner.div_ceil(32)) };
    let parts = n.div_ceil(worth).min(MOST_PARTS / tasks).max(1);
    let part = n.div_ceil(parts);
    let parts = if part == 0 { 1 } else { n.div_ceil(part) };

    let whole = abi::Reduce {
        x: x.address(),
        y: y.address(),
        outer: outer as u64,
        n: n as u64,
        inner: inner as u64,
        parts: parts as u64,
        part: part as u64,
        divisor: n as f64,
        op,
        unused: 0,
    };
    if parts == 1 {
        return launch([ROWS, COLUMNS], name, whole, y);
    }
    let wide = y.dtype().wide();
    let (first, second) = if wide == y.dtype() {
        ([ROWS, COLUMNS], [ROWS, COLUMNS])
    } else {
        (["reduce_rows_part", "reduce_columns_part"], ["reduce_rows_join", "reduce_columns_join"])
    };
    let joined = Buffer::new(y.context(), "reduce", wide, outer * parts * inner)?;
    // The division of a mean is the second launch's.
    let op = if op == abi::REDUCE_MEAN { abi::REDUCE_SUM } else { op };
    launch(first, name, abi::Reduce { y: joined.address(), op, ..whole }, y)?;
    let (n, parts, part) = (whole.parts, 1, whole.parts);
    launch(second, name, abi::Reduce { x: joined.address(), n, parts, part, ..whole }, y)
}

const ROWS: &str = "reduce_rows";
const COLUMNS: &str = "reduce_columns";

fn launch([rows, columns]: [&'static str; 2], name: &'static str, p: abi::Reduce, y: &Buffer) -> Result<()> {
    let context = y.context();
    if p.inner == 1 {
        context.launch(rows, name, &context.teams((p.outer * p.parts) as usize, p.part as usize), &p)
    } else {
        let tiles = (p.outer * p.parts * p.inner.div_ceil(32)) as usize;
        context.launch(columns, name, &context.blocks(tiles, (32, 8), 32 * 8 * 8), &p)
    }
}

pub fn arg_max((outer, n, inner): Dims, x: &Buffer, index: &mut Buffer) -> Result<()> {
    let (context, name) = (x.context(), float("arg_max", x.dtype())?);
    if index.len() == 0 {
        return Ok(());
    }
    let p =
        abi::ArgMax { x: x.address(), index: index.address(), outer: outer as u64, n: n as u64, inner: inner as u64 };
    if inner == 1 {
        context.launch("arg_max_rows", name, &context.teams(outer, n), &p)
    } else {
        context.launch("arg_max_columns", name, &context.spread(outer * inner), &p)
    }
}

pub fn top_k(count: usize, (outer, n, inner): Dims, x: &Buffer, index: &mut Buffer) -> Result<()> {
    let (context, name) = (x.context(), float("top_k", x.dtype())?);
    if index.len() == 0 {
        return Ok(());
    }
    let p = abi::TopK {
        x: x.address(),
        index: index.address(),
        outer: outer as u64,
        n: n as u64,
        inner: inner as u64,
        count: count as u64,
    };
    context.launch("top_k", name, &context.teams(outer * inner, n), &p)
}

pub fn scatter_axis((outer, n, inner): Dims, index: &Buffer, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
    let (context, name) = (dx.context(), float("scatter_axis", dx.dtype())?);
    let p = abi::ScatterAxis {
        index: index.address(),
        dy: dy.address(),
        dx: dx.address(),
        outer: outer as u64,
        n: n as u64,
        inner: inner as u64,
    };
    context.launch("scatter_axis", name, &context.spread(dx.len()), &p)
}
