//! Packing space: of a thread, kept between calls, so that a steady state allocates nothing.

use std::{cell::RefCell, thread::LocalKey};

use crate::{
    cpu::{Buffer, real::Real},
    dtype::DType,
};

pub type Space = RefCell<Vec<f64>>;

thread_local! {
    pub static PANELS: Space = const { RefCell::new(Vec::new()) };
    pub static ROWS: Space = const { RefCell::new(Vec::new()) };
    pub static WIDE: Space = const { RefCell::new(Vec::new()) };
    pub static TRANSPOSED: Space = const { RefCell::new(Vec::new()) };
}

/// Of f64, what a thread keeps of each kind: 4 MiB. More comes from the pool of buffers, which has bounds and is given back.
const MOST: usize = 1 << 19;
const LINE: usize = 64 / size_of::<f64>();

/// Lends `len` numbers, on a line of the cache, of a thread's packing space. It is taken out meanwhile: a thread that waits for others may start
/// on another product, which then has space of its own.
pub fn with_space<T: Real, R>(space: &'static LocalKey<Space>, len: usize, body: impl FnOnce(&mut [T]) -> R) -> R {
    let doubles = (len * size_of::<T>()).div_ceil(size_of::<f64>());
    // Without memory in the pool the vector's failure tells.
    if doubles > MOST
        && let Ok(mut buffer) = Buffer::new(DType::F64, doubles)
    {
        return body(&mut bytemuck::cast_slice_mut(buffer.slice_mut::<f64>())[..len]);
    }
    let mut vec = space.take();
    if vec.len() < doubles + LINE {
        vec.resize(doubles + LINE, 0.0);
    }
    let first = vec.as_ptr().align_offset(64).min(LINE);
    let result = body(&mut bytemuck::cast_slice_mut(&mut vec[first..])[..len]);
    if vec.len() <= MOST + LINE {
        space.set(vec);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one product in thousands needs is not kept for ever, and a steady state keeps its memory.
    #[test]
    fn large_space_is_not_kept() {
        let place = |len: usize| with_space::<f32, _>(&WIDE, len, |space| (space.len(), space.as_ptr() as usize));
        let kept = || WIDE.with_borrow(Vec::len);
        let (small, again) = (place(1000), place(900));
        assert_eq!((small.0, again.0, small.1), (1000, 900, again.1));
        assert!(small.1.is_multiple_of(64) && kept() == 500 + LINE);
        let large = place(2 * MOST + 2);
        assert!(large.0 == 2 * MOST + 2 && large.1.is_multiple_of(64) && kept() == 500 + LINE);
        // Within another.
        with_space::<f64, _>(&WIDE, 10, |outer| {
            outer.fill(1.0);
            with_space::<f64, _>(&WIDE, 10, |inner| inner.fill(2.0));
            assert_eq!(outer, [1.0; 10]);
        });
    }
}
