//! Host memory of the CPU backend: 64-byte aligned, typed at run time, recycled.
//!
//! A buffer that is dropped goes back to a list of its size, so a training step in steady state asks the system for
//! nothing. (Small ones of tensors stay with their thread first: `src/shared.rs`.) Memory is zeroed when it first comes from
//! the system and always holds plain numbers, so recycled contents are stale but initialised.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    ptr::NonNull,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    dtype::{DType, Element},
    error::{Error, Result},
};

const ALIGN: usize = 64;
/// What the lists keep at most; beyond it memory goes back to the system.
const KEEP_BYTES: usize = 1 << 30;

/// Four classes between a power of two and the next, up to what an allocation may have.
pub const CLASSES: usize = 4 * usize::BITS as usize;

/// Free blocks by [`index`] of their class, the last one freed at the end: it is the likeliest to be in a cache.
struct Pool {
    free: [Vec<Block>; CLASSES],
    bytes: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { free: [const { Vec::new() }; CLASSES], bytes: 0 });

/// A raw allocation of a size class.
struct Block(NonNull<u8>);
// SAFETY: a block is plain memory owned by whoever holds it.
unsafe impl Send for Block {}

/// Rounds up to a class: powers of two with three steps between them, so at most a quarter is wasted.
pub fn class(bytes: usize) -> Option<usize> {
    let bytes = bytes.max(ALIGN);
    let step = (bytes.checked_next_power_of_two()? / 8).max(ALIGN);
    bytes.checked_next_multiple_of(step).filter(|&b| b <= isize::MAX as usize - ALIGN)
}

/// The number of a class among all.
pub fn index(class: usize) -> usize {
    let below = (class - 1).ilog2();
    // What it has beyond the power of two below it, in quarters of that: of small classes there are fewer than four.
    let quarters = (class - (1 << below)) >> (below - 2);
    4 * below as usize + quarters.max(1) - 1
}

fn layout(class: usize) -> Layout {
    Layout::from_size_align(class, ALIGN).expect("a size class is below isize::MAX and its alignment is a power of two")
}

fn acquire(class: usize) -> Option<Block> {
    if let Ok(mut pool) = POOL.lock()
        && let Some(block) = pool.free[index(class)].pop()
    {
        pool.bytes -= class;
        return Some(block);
    }
    // SAFETY: the layout has a size of at least ALIGN bytes.
    NonNull::new(unsafe { alloc_zeroed(layout(class)) }).map(Block)
}

fn release(block: Block, class: usize) {
    if let Ok(mut pool) = POOL.lock()
        && pool.bytes + class <= KEEP_BYTES
    {
        pool.bytes += class;
        pool.free[index(class)].push(block);
        return;
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
    /// 0: not asked for since the last borrow to write.
    version: AtomicU64,
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
        Ok(Buffer { block: block.0, class, len, dtype, version: AtomicU64::new(0) })
    }

    /// A copy of a slice.
    pub fn from_slice<T: Element>(host: &[T]) -> Result<Self> {
        let mut buffer = Buffer::new(T::DTYPE, host.len())?;
        buffer.slice_mut::<T>().copy_from_slice(host);
        Ok(buffer)
    }

    /// Bytes of memory that it has.
    pub fn class(&self) -> usize {
        self.class
    }

    /// Another length and type, which the same memory holds.
    pub fn renew(&mut self, dtype: DType, len: usize) {
        assert!(len.saturating_mul(dtype.size()) <= self.class, "a buffer renewed beyond its memory");
        (self.dtype, self.len) = (dtype, len);
        *self.version.get_mut() = 0;
    }

    /// A number that no other contents of any buffer have had: it changes when the buffer is borrowed to write.
    pub fn version(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        match self.version.load(Ordering::Relaxed) {
            0 => {
                let new = NEXT.fetch_add(1, Ordering::Relaxed);
                match self.version.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => new,
                    Err(other) => other,
                }
            }
            version => version,
        }
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
        *self.version.get_mut() = 0;
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
    fn a_version_is_of_contents() {
        let (mut a, b) = (Buffer::from_slice(&[1.0f32; 3]).unwrap(), Buffer::from_slice(&[1.0f32; 3]).unwrap());
        let first = a.version();
        assert_eq!((first, a.slice::<f32>()[0]), (a.version(), 1.0), "reading changes nothing");
        assert_ne!(first, b.version());
        a.slice_mut::<f32>()[0] = 2.0;
        let second = a.version();
        assert!(second != first && second != b.version());
        a.renew(DType::I64, 1);
        assert!(![first, second, b.version()].contains(&a.version()));
    }

    #[test]
    fn classes_waste_little_and_are_aligned() {
        for bytes in [1, 63, 64, 65, 1000, 4097, 1 << 20, (1 << 20) + 1] {
            let c = class(bytes).unwrap();
            assert!(c >= bytes && c.is_multiple_of(ALIGN) && (c <= 512 || c * 4 <= bytes * 5), "{bytes} {c}");
        }
        let mut classes: Vec<usize> =
            (0..4000).chain((12..50).map(|b| (1 << b) - 77)).map(|n| class(n).unwrap()).collect();
        classes.extend((12..60).flat_map(|b| [1usize, 2, 3, 4].map(|q| (1 << b) + (q << (b - 2)))));
        classes.sort_unstable();
        classes.dedup();
        assert!(classes.iter().all(|&c| class(c) == Some(c)));
        let indices: Vec<usize> = classes.iter().map(|&c| index(c)).collect();
        assert!(indices.is_sorted_by(|a, b| a < b) && indices.iter().all(|&i| i < CLASSES), "one list for each class");
        let b = Buffer::new(DType::F32, 5).unwrap();
        assert_eq!(b.slice::<f32>().as_ptr() as usize % ALIGN, 0);
    }
}
