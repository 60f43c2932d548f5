//! Pinned host memory, through which everything between host and device passes: the copies then run beside the host.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard},
};

use cudarc::driver::{result, sys};

use super::driver::{Address, DriverError, Handles};
use crate::{capture, error::Result};

/// The most that one copy moves, and the least that a block holds. Blocks are powers of two of bytes.
const LARGEST: usize = 8 << 20;
const SMALLEST: usize = 16 << 10;
/// Behind the bytes of a block there is room for one word more.
pub const WORD: usize = 32;
/// From this much pinned memory on a copy waits for an earlier one of its size rather than take more.
const KEEP: usize = 64 << 20;

struct Block {
    memory: *mut u8,
    bytes: usize,
    /// Recorded behind the last upload out of this block.
    done: sys::CUevent,
}

// SAFETY: pinned memory and events belong to the process, not to a thread.
unsafe impl Send for Block {}

#[derive(Default)]
struct Blocks {
    /// By size, those whose last copy was queued first in front: of one stream, they are ready first.
    idle: HashMap<usize, VecDeque<Block>>,
    bytes: usize,
    allocations: u64,
}

#[derive(Default)]
pub struct Staging(Mutex<Blocks>);

impl Staging {
    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A block of at least so many bytes that no copy uses any more.
    fn take(&self, bytes: usize) -> Result<Block, DriverError> {
        let (mut blocks, bytes) = (self.blocks(), bytes.next_power_of_two().max(SMALLEST));
        let full = blocks.bytes >= KEEP;
        if let Some(list) = blocks.idle.get_mut(&bytes)
            && let Some(first) = list.front()
        {
            // SAFETY: every event in the lists lives.
            let ready = unsafe {
                if full { result::event::synchronize(first.done) } else { result::event::query(first.done) }.is_ok()
            };
            if ready && let Some(block) = list.pop_front() {
                return Ok(block);
            }
        }
        let done = result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)?;
        // SAFETY: a context is current; the size is not zero. Initialised once, the memory may be lent as bytes ever after.
        let memory = unsafe {
            let memory = result::malloc_host(bytes + WORD, 0)?.cast::<u8>();
            memory.write_bytes(0, bytes + WORD);
            memory
        };
        blocks.bytes += bytes;
        blocks.allocations += 1;
        Ok(Block { memory, bytes, done })
    }

    fn put(&self, block: Block) {
        self.blocks().idle.entry(block.bytes).or_default().push_back(block);
    }

    /// Bytes held, and how often the driver was asked.
    pub fn stats(&self) -> (usize, u64) {
        let blocks = self.blocks();
        (blocks.bytes, blocks.allocations)
    }

    /// Gives every block that is not in use back to the driver.
    pub fn trim(&self, handles: &Handles, op: &'static str) -> Result<()> {
        handles.with(op, || {
            let mut guard = self.blocks();
            let blocks = &mut *guard;
            for list in blocks.idle.values_mut() {
                while let Some(block) = list.pop_front() {
                    blocks.bytes -= block.bytes;
                    // SAFETY: behind the event no copy uses the block, and nobody else has it.
                    unsafe {
                        result::event::synchronize(block.done)?;
                        result::event::destroy(block.done)?;
                        result::free_host(block.memory.cast())?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Host to device. The host's memory is its own again on return.
    pub fn upload(&self, handles: &Handles, op: &'static str, host: &[u8], to: Address) -> Result<()> {
        self.upload_on(handles, op, handles.stream, host, to)
    }

    /// The same, on a stream.
    pub fn upload_on(
        &self,
        handles: &Handles,
        op: &'static str,
        stream: sys::CUstream,
        host: &[u8],
        to: Address,
    ) -> Result<()> {
        capture::refuse(op, "a copy from the host")?;
        for (i, chunk) in host.chunks(LARGEST).enumerate() {
            handles.with(op, || {
                let block = self.take(chunk.len())?;
                // SAFETY: the block is as long as the chunk at least and nobody else's; the copy out of it ends before the
                // event, and the block is taken again only behind that.
                let queued = unsafe {
                    std::ptr::copy_nonoverlapping(chunk.as_ptr(), block.memory, chunk.len());
                    let pinned = std::slice::from_raw_parts(block.memory, chunk.len());
                    result::memcpy_htod_async(to + (i * LARGEST) as u64, pinned, stream)
                        .and_then(|()| result::event::record(block.done, stream))
                };
                self.put(block);
                queued
            })?;
        }
        Ok(())
    }

    /// Device to host, and with it a word from another address, waiting for both once. What was on the stream before has
    /// ended too.
    pub fn download(
        &self,
        handles: &Handles,
        op: &'static str,
        from: Address,
        host: &mut [u8],
        (word_from, word): (Address, &mut [u8; WORD]),
    ) -> Result<()> {
        capture::refuse(op, "a read by the host")?;
        let last = host.len().saturating_sub(1) / LARGEST;
        for i in 0..=last {
            let end = host.len().min((i + 1) * LARGEST);
            let chunk = &mut host[i * LARGEST..end];
            handles.with(op, || {
                let block = self.take(chunk.len())?;
                // SAFETY: as in `upload`; the pinned bytes are written by the copies, and read behind the wait.
                let copied = unsafe {
                    let behind = block.memory.add(block.bytes);
                    let pinned = std::slice::from_raw_parts_mut(block.memory, chunk.len());
                    let pinned_word = std::slice::from_raw_parts_mut(behind, if i == last { WORD } else { 0 });
                    let copy = |to: &mut [u8], from| match to {
                        [] => Ok(()),
                        to => result::memcpy_dtoh_async(to, from, handles.stream),
                    };
                    copy(pinned, from + (i * LARGEST) as u64)
                        .and_then(|()| copy(pinned_word, word_from))
                        .and_then(|()| result::stream::synchronize(handles.stream))
                        .map(|()| {
                            chunk.copy_from_slice(pinned);
                            word[..pinned_word.len()].copy_from_slice(pinned_word);
                        })
                };
                self.put(block);
                copied
            })?;
        }
        Ok(())
    }
}
