//! Rows picked by index, and their gradients. The kernels check each index; a wrong one is told by the next download.

use super::{
    Buffer, Dims, abi,
    launch::{Grid, bits, float},
};
use crate::{
    dtype::DType,
    error::{Error, Result},
};

/// y\[outer, j, inner\] = x\[outer, index\[j\], inner\]
pub fn gather((outer, n, inner): Dims, index: &Buffer, x: &Buffer, y: &mut Buffer) -> Result<()> {
    let context = y.context();
    if y.len() == 0 {
        return Ok(());
    }
    // Rows of whole 16 bytes move as such.
    let row = inner * y.dtype().size();
    let (name, inner) = if row.is_multiple_of(16) { ("b128", row / 16) } else { (bits(y.dtype()), inner) };
    let p = abi::Gather {
        index: index.address(),
        x: x.address(),
        y: y.address(),
        fault: context.fault,
        outer: outer as u64,
        n: n as u64,
        inner: inner as u64,
        count: index.len() as u64,
    };
    context.launch("gather", name, &context.spread(outer * index.len() * inner), &p)
}

fn along((outer, n, inner): Dims, index: &Buffer, x: &Buffer, y: &Buffer) -> abi::TakeAlong {
    abi::TakeAlong {
        index: index.address(),
        x: x.address(),
        y: y.address(),
        fault: x.context().fault,
        outer: outer as u64,
        n: n as u64,
        inner: inner as u64,
        count: (index.len() / (outer * inner).max(1)) as u64,
    }
}

/// y\[outer, j, inner\] = x\[outer, index\[outer, j, inner\], inner\]
pub fn take_along(dims: Dims, index: &Buffer, x: &Buffer, y: &mut Buffer) -> Result<()> {
    let context = y.context();
    if y.len() == 0 {
        return Ok(());
    }
    context.launch("take_along", bits(y.dtype()), &context.spread(y.len()), &along(dims, index, x, y))
}

/// dx = 0, then dx\[outer, index\[outer, j, inner\], inner\] += dy\[outer, j, inner\] in the order of j.
pub fn put_along(dims: Dims, index: &Buffer, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
    let (context, name) = (dx.context(), float("put_along", dx.dtype())?);
    if dx.len() == 0 {
        return Ok(());
    }
    context.launch("put_along", name, &context.spread(dx.len()), &along(dims, index, dx, dy))
}

/// Keys that a block of the sort owns, and its shared memory.
const SORT_BLOCK: usize = 1024;
const SORT_SHARED: u32 = 16 * 256 * 4 + 16 * 4;

/// dx = 0, then dx\[outer, index\[j\], inner\] += dy\[outer, j, inner\] in the order of j: the index is sorted, and each row of
/// dx summed by whoever owns it.
pub fn scatter_add(
    (outer, n, inner): Dims,
    index: &Buffer,
    skip: Option<i64>,
    dy: &Buffer,
    dx: &mut Buffer,
) -> Result<()> {
    const OP: &str = "scatter_add";
    let (context, name, count) = (dx.context(), float(OP, dx.dtype())?, index.len());
    context.handles.set_bytes(OP, dx.address(), 0, dx.bytes())?;
    if count * dx.len() == 0 {
        return Ok(());
    }
    if count.max(n) >= u32::MAX as usize {
        return Err(Error::shape(OP, format!("{count} indices into {n} rows"), "fewer than 2³² of each"));
    }
    let numbers = |len| Buffer::new(context, OP, DType::U32, len);
    let (mut key, mut order) = (numbers(count)?, numbers(count)?);
    let (mut to_key, mut to_order) = (numbers(count)?, numbers(count)?);
    let blocks = count.div_ceil(SORT_BLOCK);
    let counts = numbers(16 * blocks)?;
    let keys = abi::SortKeys {
        index: index.address(),
        key: key.address(),
        order: order.address(),
        fault: context.fault,
        count: count as u64,
        n: n as u64,
        skip: skip.unwrap_or(0),
        skips: skip.is_some().into(),
        unused: 0,
    };
    context.launch("sort_keys", "", &context.spread(count), &keys)?;
    // The greatest key is n: what adds nothing.
    for shift in (0..u32::BITS - (n as u32).leading_zeros()).step_by(4) {
        let pass = abi::SortPass {
            key: key.address(),
            order: order.address(),
            counts: counts.address(),
            to_key: to_key.address(),
            to_order: to_order.address(),
            count: count as u64,
            shift,
            blocks: blocks as u32,
        };
        let grid = |blocks: usize, shared| Grid { blocks: blocks as u32, threads: (256, 1), shared };
        context.launch("sort_count", "", &grid(blocks, SORT_SHARED), &pass)?;
        context.launch("sort_scan", "", &grid(1, 256 * 4), &pass)?;
        context.launch("sort_place", "", &grid(blocks, SORT_SHARED), &pass)?;
        std::mem::swap(&mut key, &mut to_key);
        std::mem::swap(&mut order, &mut to_order);
    }
    let rows = abi::ScatterRows {
        key: key.address(),
        order: order.address(),
        dy: dy.address(),
        dx: dx.address(),
        outer: outer as u64,
        n: n as u64,
        inner: inner as u64,
        count: count as u64,
    };
    context.launch("scatter_rows", name, &context.teams(outer * count, inner), &rows)
}
