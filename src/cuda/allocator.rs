//! Device memory that is kept and handed out again, in the stream's order.
//!
//! Everything runs on one stream, so memory that the host has let go may be handed out at once: whoever gets it comes later
//! on the stream. A training step in steady state asks the driver for nothing.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use super::driver::{self, Address, CUresult, Handles};
use crate::{
    device::MemoryStats,
    error::{Error, Result},
};

const SMALLEST: usize = 512;

/// Rounds up to a class: powers of two with three steps between them, so at most a quarter is wasted.
fn class(bytes: usize) -> Option<usize> {
    let bytes = bytes.max(SMALLEST);
    let step = (bytes.checked_next_power_of_two()? / 8).max(SMALLEST);
    bytes.checked_next_multiple_of(step)
}

#[derive(Default)]
struct Lists {
    free: HashMap<usize, Vec<Address>>,
    stats: MemoryStats,
}

pub struct Allocator {
    /// Otherwise every call is the driver's, of exactly the bytes asked for, so that tools see where buffers end and when.
    caching: bool,
    lists: Mutex<Lists>,
}

/// A stretch of device memory; its size class is what the allocator knows it by.
#[derive(Clone, Copy)]
pub struct Stretch {
    pub address: Address,
    class: usize,
}

impl Allocator {
    /// Caches, unless `GATEFOLD_NO_CUDA_MEMORY_CACHING` is set to anything but 0.
    pub fn new() -> Self {
        let without = std::env::var_os("GATEFOLD_NO_CUDA_MEMORY_CACHING").is_some_and(|v| !v.is_empty() && v != "0");
        Allocator { caching: !without, lists: Mutex::default() }
    }

    // A panic elsewhere leaves the lists as they were between two calls.
    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn stats(&self) -> MemoryStats {
        self.lists().stats
    }

    /// Memory for `bytes`. Where the driver has none left, what is kept goes back to it first.
    pub fn acquire(&self, handles: &Handles, op: &'static str, bytes: usize) -> Result<Stretch> {
        let none = || Error::OutOfMemory { op, bytes, device: format!("cuda:{}", handles.ordinal) };
        let class = if self.caching { class(bytes).ok_or_else(none)? } else { bytes.max(1) };
        let allocate = || if self.caching { handles.allocate(class) } else { handles.allocate_in_order(class) };
        let mut lists = self.lists();
        let address = match lists.free.get_mut(&class).and_then(Vec::pop) {
            Some(address) => address,
            None => {
                let address = match allocate() {
                    Err(e) if e.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                        lists.trim(handles, op)?;
                        allocate()
                    }
                    first => first,
                };
                let address = address.map_err(|e| match e.0 {
                    CUresult::CUDA_ERROR_OUT_OF_MEMORY => none(),
                    _ => driver::error(op, handles.ordinal, e),
                })?;
                lists.stats.driver_allocations += 1;
                lists.stats.reserved_bytes += class;
                address
            }
        };
        let stats = &mut lists.stats;
        stats.allocations += 1;
        stats.allocated_bytes += class;
        stats.peak_allocated_bytes = stats.peak_allocated_bytes.max(stats.allocated_bytes);
        Ok(Stretch { address, class })
    }

    /// Takes memory back; what is queued may still use it.
    pub fn release(&self, handles: &Handles, stretch: Stretch) {
        let mut lists = self.lists();
        lists.stats.allocated_bytes -= stretch.class;
        if !self.caching {
            // An error belongs to earlier work, and whoever waits for that is told.
            if handles.free_in_order(stretch.address).is_ok() {
                lists.stats.reserved_bytes -= stretch.class;
            }
            return;
        }
        lists.free.entry(stretch.class).or_default().push(stretch.address);
    }

    /// Gives everything that is kept back to the driver.
    pub fn trim(&self, handles: &Handles, op: &'static str) -> Result<()> {
        self.lists().trim(handles, op)
    }
}

impl Lists {
    fn trim(&mut self, handles: &Handles, op: &'static str) -> Result<()> {
        // What was let go may still be in use on the stream.
        handles.synchronize(op)?;
        for (class, addresses) in &mut self.free {
            while let Some(address) = addresses.pop() {
                self.stats.reserved_bytes -= class;
                handles.free(address).map_err(|e| driver::error(op, handles.ordinal, e))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_waste_little() {
        for bytes in [0, 1, 512, 513, 5000, 1 << 20, (1 << 20) + 1] {
            let c = class(bytes).unwrap();
            assert!(c >= bytes && c.is_multiple_of(SMALLEST) && (c <= 4096 || c * 4 <= bytes * 5), "{bytes} {c}");
        }
        assert_eq!(class(usize::MAX), None);
    }
}
