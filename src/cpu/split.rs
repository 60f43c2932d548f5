//! How work is divided among threads: in pieces of fixed size, so that no result depends on how many threads there are.
//!
//! The pool is entered in one place, behind a `dyn`: a copy of its machinery for each kernel would be most of the crate's
//! code, and a call through a pointer is nothing beside a piece.

use rayon::prelude::*;

/// Below this many elements one thread is faster than handing out work.
pub const PARALLEL: usize = 1 << 16;
/// Elements of one piece: a few of them fit into a core's private cache.
pub const PIECE: usize = 1 << 14;

/// Memory that tasks share, each writing a part of its own.
#[derive(Debug)]
pub struct Shared<T> {
    ptr: *mut T,
    len: usize,
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: tasks that share it write disjoint parts, which each use states.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub fn new(slice: &mut [T]) -> Self {
        Shared { ptr: slice.as_mut_ptr(), len: slice.len() }
    }

    /// Where it begins.
    pub fn start(&self) -> *mut T {
        self.ptr
    }

    /// # Safety
    /// The slice it was made of is still borrowed for it, and nobody else uses these elements meanwhile.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the caller vouches for disjoint parts")]
    pub unsafe fn part(&self, at: usize, len: usize) -> &mut [T] {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "a part outside its memory");
        // SAFETY: inside the slice it was made of, and the caller vouches for exclusive use.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(at), len) }
    }
}

/// Calls `f(0)` … `f(count − 1)`, on the threads of the pool.
pub fn tasks(count: usize, f: &(dyn Fn(usize) + Sync)) {
    match count {
        0 => {}
        1 => f(0),
        _ => (0..count).into_par_iter().with_max_len(1).for_each(f),
    }
}

/// Calls `f(index, chunk)` for the chunks of `size` elements of `y`, on the threads of the pool.
pub fn chunks<T: Send>(y: &mut [T], size: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let (len, shared) = (y.len(), Shared::new(y));
    tasks(len.div_ceil(size), &|i| {
        // SAFETY: each task has its own index, so its own chunk.
        f(i, unsafe { shared.part(i * size, size.min(len - i * size)) });
    });
}

/// Calls `f(start, piece)` for the pieces of `y`.
pub fn over<T: Send>(y: &mut [T], f: impl Fn(usize, &mut [T]) + Sync) {
    if y.len() < PARALLEL {
        f(0, y);
    } else {
        chunks(y, PIECE, |i, piece| f(i * PIECE, piece));
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
        chunks(y, group * row, |i, piece| f(i * group, piece));
    }
}
