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
/// What the lists keep at most; beyond it the memory of sizes that were not used for longest goes back to the system.
const KEEP_BYTES: usize = 1 << 30;

/// Four classes between a power of two and the next, up to what an allocation may have.
pub const CLASSES: usize = 4 * usize::BITS as usize;

struct Pool {
    /// By [`index`] of their class.
    free: [Free; CLASSES],
    bytes: usize,
    most: usize,
    /// How often a block was taken or left.
    turn: u64,
}

/// Free blocks of a class, the last one left at the end: it is the likeliest to be in a cache.
struct Free {
    blocks: Vec<Block>,
    /// The turn of the last one that was taken or left.
    used: u64,
}

static POOL: Mutex<Pool> = Mutex::new(Pool::new(KEEP_BYTES));

/// A raw allocation of a size class.
struct Block {
    memory: NonNull<u8>,
    class: usize,
}

// SAFETY: a block is plain memory owned by whoever holds it.
unsafe impl Send for Block {}

impl Block {
    fn new(class: usize) -> Option<Block> {
        #[cfg(target_os = "linux")]
        if class >= huge::LEAST {
            return huge::map(class).map(|memory| Block { memory, class });
        }
        // SAFETY: the layout has a size of at least ALIGN bytes.
        NonNull::new(unsafe { alloc_zeroed(layout(class)) }).map(|memory| Block { memory, class })
    }

    fn free(self) {
        #[cfg(target_os = "linux")]
        if self.class >= huge::LEAST {
            return huge::unmap(self.memory, self.class);
        }
        // SAFETY: it came from `alloc_zeroed` with this very layout and nobody else holds it.
        unsafe { dealloc(self.memory.as_ptr(), layout(self.class)) }
    }
}

/// Memory in large pages, where the system has some: of the small ones the processor knows the places of a few megabytes at a time.
#[cfg(target_os = "linux")]
mod huge {
    use std::ptr::{NonNull, null_mut};

    const PAGE: usize = 2 << 20;
    /// Bytes from which on memory is taken so: a multiple of a page's size on any system, like every class above.
    pub const LEAST: usize = 2 * PAGE;

    /// `bytes` of zeros.
    pub fn map(bytes: usize) -> Option<NonNull<u8>> {
        let all = bytes.checked_add(PAGE)?;
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: new memory, which nobody has.
        let start = unsafe { libc::mmap(null_mut(), all, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        let before = start.align_offset(PAGE);
        let first = start.wrapping_byte_add(before);
        // SAFETY: what is given back, around the aligned part, is of this memory alone, and whole small pages.
        unsafe {
            if before > 0 {
                libc::munmap(start, before);
            }
            if before < PAGE {
                libc::munmap(first.wrapping_byte_add(bytes), PAGE - before);
            }
            // A wish: without large pages it is memory all the same.
            libc::madvise(first, bytes, libc::MADV_HUGEPAGE);
        }
        NonNull::new(first.cast())
    }

    /// Gives it back.
    pub fn unmap(memory: NonNull<u8>, bytes: usize) {
        // SAFETY: `map` gave it, and nobody uses it any more.
        unsafe { libc::munmap(memory.as_ptr().cast(), bytes) };
    }
}

impl Pool {
    const fn new(most: usize) -> Pool {
        Pool { free: [const { Free { blocks: Vec::new(), used: 0 } }; CLASSES], bytes: 0, most, turn: 0 }
    }

    fn of(&mut self, class: usize) -> &mut Vec<Block> {
        self.turn += 1;
        let free = &mut self.free[index(class)];
        free.used = self.turn;
        &mut free.blocks
    }

    fn take(&mut self, class: usize) -> Option<Block> {
        let block = self.of(class).pop()?;
        self.bytes -= class;
        Some(block)
    }

    /// Keeps a block, and gives those to free that make room for it: of the class that was not used for longest, and so on; the block itself,
    /// where its own class has all the room.
    fn keep(&mut self, block: Block) -> Vec<Block> {
        let class = block.class;
        if (self.of(class).len() + 1) * class > self.most {
            return vec![block];
        }
        let mut gone = Vec::new();
        while self.bytes + class > self.most {
            let others = self.free.iter_mut().enumerate().filter(|(i, f)| *i != index(class) && !f.blocks.is_empty());
            let Some((_, oldest)) = others.min_by_key(|(_, free)| free.used) else { break };
            while self.bytes + class > self.most
                && let Some(block) = oldest.blocks.pop()
            {
                self.bytes -= block.class;
                gone.push(block);
            }
        }
        self.bytes += class;
        self.of(class).push(block);
        gone
    }

    /// All that it keeps.
    fn clear(&mut self) -> Vec<Block> {
        self.bytes = 0;
        self.free.iter_mut().flat_map(|free| std::mem::take(&mut free.blocks)).collect()
    }
}

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
    let kept = POOL.lock().ok().and_then(|mut pool| pool.take(class));
    kept.or_else(|| Block::new(class))
}

fn release(block: Block) {
    // What goes is freed when the lock is not held any more.
    let gone = POOL.lock().map(|mut pool| pool.keep(block));
    gone.into_iter().flatten().for_each(Block::free);
}

/// Gives all that is kept back to the system.
pub fn release_all() {
    let gone = POOL.lock().map(|mut pool| pool.clear());
    gone.into_iter().flatten().for_each(Block::free);
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
        Ok(Buffer { block: block.memory, class, len, dtype, version: AtomicU64::new(0) })
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
        release(Block { memory: self.block, class: self.class });
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
    fn large_blocks_are_zeros_of_their_own() {
        for class in [1 << 21, 1 << 22, 5 << 20, 3 << 23] {
            let blocks = [(); 3].map(|()| Block::new(class).unwrap());
            for (i, block) in blocks.iter().enumerate() {
                // SAFETY: the block has so many bytes, and nobody else has it.
                let bytes = unsafe { std::slice::from_raw_parts_mut(block.memory.as_ptr(), class) };
                assert!(bytes.iter().all(|&b| b == 0));
                bytes.fill(i as u8 + 1);
            }
            for (i, block) in blocks.into_iter().enumerate() {
                // SAFETY: as above.
                let bytes = unsafe { std::slice::from_raw_parts(block.memory.as_ptr(), class) };
                assert!(bytes.iter().all(|&b| b == i as u8 + 1));
                block.free();
            }
        }
    }

    #[test]
    fn a_full_pool_makes_room() {
        let mut pool = Pool::new(1 << 12);
        let counts = |pool: &Pool| [256, 512, 1024, 4096].map(|class| pool.free[index(class)].blocks.len());
        let keep = |pool: &mut Pool, class: usize| {
            let gone = pool.keep(Block::new(class).unwrap());
            let classes: Vec<usize> = gone.iter().map(|block| block.class).collect();
            gone.into_iter().for_each(Block::free);
            classes
        };
        let use_one = |pool: &mut Pool, class: usize| {
            let block = pool.take(class).unwrap();
            assert!(pool.keep(block).is_empty());
        };
        for class in [512, 512, 1024, 1024, 256, 256, 256, 256] {
            assert!(keep(&mut pool, class).is_empty());
        }
        assert_eq!((counts(&pool), pool.bytes), ([4, 2, 2, 0], 1 << 12));
        // Room comes of the sizes that were used longest ago, and no more than is needed.
        use_one(&mut pool, 512);
        assert_eq!(keep(&mut pool, 256), [1024]);
        assert_eq!((counts(&pool), pool.bytes), ([5, 2, 1, 0], (1 << 12) - 768));
        use_one(&mut pool, 256);
        assert_eq!(keep(&mut pool, 4096), [1024, 512, 512, 256, 256, 256, 256, 256]);
        // What has all the room keeps it against its own size alone.
        assert_eq!(keep(&mut pool, 4096), [4096]);
        assert_eq!(keep(&mut pool, 8192), [8192]);
        assert_eq!((counts(&pool), pool.bytes), ([0, 0, 0, 1], 1 << 12));
        pool.clear().into_iter().for_each(Block::free);
        assert_eq!((counts(&pool), pool.bytes), ([0; 4], 0));
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
