//! How work is divided among threads: in pieces of fixed size, so that no result depends on how many threads there are.

use rayon::prelude::*;

/// Below this many elements one thread is faster than handing out work.
pub const PARALLEL: usize = 1 << 16;
/// Elements of one piece: a few of them fit into a core's private cache.
pub const PIECE: usize = 1 << 14;

/// Calls `f(start, piece)` for the pieces of `y`.
pub fn over<T: Send>(y: &mut [T], f: impl Fn(usize, &mut [T]) + Sync) {
    if y.len() < PARALLEL {
        f(0, y);
    } else {
        y.par_chunks_mut(PIECE).enumerate().for_each(|(i, piece)| f(i * PIECE, piece));
    }
}

/// Calls `f(first row, rows)` for groups of whole rows of `y`; `work` is what one row costs, in elements.
pub fn rows<T: Send>(y: &mut [T], row: usize, work: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    if y.is_empty() || row == 0 {
        return;
    }
    if (y.len() / row).saturating_mul(work) < PARALLEL {
        f(0, y);
    } else {
        let group = (PIECE / work.max(1)).max(1);
        y.par_chunks_mut(group * row).enumerate().for_each(|(i, piece)| f(i * group, piece));
    }
}
