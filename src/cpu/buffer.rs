//! Host memory of the CPU backend: 64-byte aligned, typed at run time, recycled.
//!
//! A buffer that is dropped goes back to a list of its size, so a training step in steady state asks the system for
//! nothing. Memory is zeroed when it first comes from the system and always holds plain numbers, so recycled contents are
//! stale but initialised.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    collections::HashMap,
    ptr::NonNull,
    sync::Mutex,
};

use crate::{
    dtype::{DType, Element},
    error::{Error, Result},
};

const ALIGN: usize = 64;
/// What the lists keep at most; beyond it memory goes back to the system.
const KEEP_BYTES: usize = 1 << 30;

#[derive(Default)]
struct Pool {
    free: HashMap<usize, Vec<Block>>,
    bytes: usize,
}

static POOL: Mutex<Option<Pool>> = Mutex::new(None);

/// A raw allocation of a size class.
struct Block(NonNull<u8>);
// SAFETY: a block is plain memory owned by whoever holds it.
unsafe impl Send for Block {}

/// Rounds up to a class: powers of two with three steps between them, so at most a quarter is wasted.
fn class(bytes: usize) -> Option<usize> {
    let bytes = bytes.max(ALIGN);
    let step = (bytes.checked_next_power_of_two()? / 8).max(ALIGN);
    bytes.checked_next_multiple_of(step).filter(|&b| b <= isize::MAX as usize - ALIGN)
}

fn layout(class: usize) -> Layout {
    Layout::from_size_align(class, ALIGN).expect("a size class is below isize::MAX and its alignment is a power of two")
}

fn acquire(class: usize) -> Option<Block> {
    if let Ok(mut pool) = POOL.lock()
        && let Some(pool) = pool.as_mut()
        && let Some(block) = pool.free.get_mut(&class).and_then(Vec::pop)
    {
        pool.bytes -= class;
        return Some(block);
    }
    // SAFETY: the layout has a size of at least ALIGN bytes.
    NonNull::new(unsafe { alloc_zeroed(layout(class)) }).map(Block)
}

fn release(block: Block, class: usize) {
    if let Ok(mut pool) = POOL.lock() {
        let pool = pool.get_or_insert_with(Pool::default);
        if pool.bytes + class <= KEEP_BYTES {
            pool.bytes += class;
            pool.free.entry(class).or_default().push(block);
            return;
        }
    }
    // SAFETY: the block came from `alloc_zeroed` with this very layout and nobody else holds it.
    unsafe { dealloc(block.0.as_ptr(), layout(class)) }
}

/// A typed stretch of host memory.
pub struct Buffer {
    block: NonNull<u8>,
    class: usize,
    len: usize,
    dtype: DType,
}

// SAFETY: the buffer owns its memory, which holds plain numbers; shared access is read-only through `&self`.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` elements of unspecified contents.
    pub fn new(dtype: DType, len: usize) -> Result<Self> {
        let bytes = len.saturating_mul(dtype.size());
        let none = || Error::OutOfMemory { op: "allocate", bytes, device: "cpu".into() };
        let class = class(bytes).ok_or_else(none)?;
        let block = acquire(class).ok_or_else(none)?;
        Ok(Buffer { block: block.0, class, len, dtype })
    }

    /// A copy of a slice.
    pub fn from_slice<T: Element>(host: &[T]) -> Result<Self> {
        let mut buffer = Buffer::new(T::DTYPE, host.len())?;
        buffer.slice_mut::<T>().copy_from_slice(host);
        Ok(buffer)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The elements. The callers match on [`dtype`](Self::dtype) first.
    ///
    /// # Panics
    /// When `T` is not the buffer's type: a bug of the crate, not of its caller.
    pub fn slice<T: Element>(&self) -> &[T] {
        assert_eq!(T::DTYPE, self.dtype, "buffer read as another dtype");
        // SAFETY: the block holds `len` initialised elements of this type, is aligned to 64 bytes, and lives as long as self.
        unsafe { std::slice::from_raw_parts(self.block.as_ptr().cast(), self.len) }
    }

    /// The elements, to write. Panics as [`slice`](Self::slice) does.
    pub fn slice_mut<T: Element>(&mut self) -> &mut [T] {
        assert_eq!(T::DTYPE, self.dtype, "buffer written as another dtype");
        // SAFETY: as in `slice`, and `&mut self` makes the access unique.
        unsafe { std::slice::from_raw_parts_mut(self.block.as_ptr().cast(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        release(Block(self.block), self.class);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_sizes_are_errors() {
        assert!(matches!(Buffer::new(DType::F64, usize::MAX / 2), Err(Error::OutOfMemory { .. })));
        assert!(matches!(Buffer::new(DType::F64, usize::MAX), Err(Error::OutOfMemory { .. })));
        assert_eq!(Buffer::new(DType::F64, 0).unwrap().slice::<f64>(), &[] as &[f64]);
    }

    #[test]
    fn classes_waste_little_and_are_aligned() {
        for bytes in [1, 63, 64, 65, 1000, 4097, 1 << 20, (1 << 20) + 1] {
            let c = class(bytes).unwrap();
            assert!(c >= bytes && c.is_multiple_of(ALIGN) && (c <= 512 || c * 4 <= bytes * 5), "{bytes} {c}");
        }
        let b = Buffer::new(DType::F32, 5).unwrap();
        assert_eq!(b.slice::<f32>().as_ptr() as usize % ALIGN, 0);
    }
}
