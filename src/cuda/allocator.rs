//! Device memory that is kept and handed out again, in the stream's order.
//!
//! Everything runs on one stream, so memory that the host has let go may be handed out at once: whoever gets it comes later
//! on the stream. A training step in steady state asks the driver for nothing.
//!
//! What a captured step uses is its own as long as it may be replayed, whoever let it go on the host: it has a pool of its own, and
//! memory that was there before it and is let go later is kept aside until the pool is closed.

use std::{
    cell::Cell,
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
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

/// Memory to hand out, by class. The lowest address goes first: a loop that frees what it took gets the same memory in each round,
/// whatever the order.
type Free = HashMap<usize, BinaryHeap<Reverse<Address>>>;

#[derive(Default)]
struct Lists {
    free: Free,
    pools: Vec<Pool>,
    /// How often memory has been handed out.
    serial: u64,
    stats: MemoryStats,
}

/// The memory of one captured step.
struct Pool {
    id: u64,
    /// Memory that was handed out before this may be used by the step, its own or not.
    end: u64,
    free: Free,
    aside: Vec<Stretch>,
}

thread_local! {
    /// The pool that this thread's memory comes from; 0: none.
    static POOL: Cell<u64> = const { Cell::new(0) };
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
    serial: u64,
    pool: u64,
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
        handles.entered(|| self.acquired(handles, op, bytes))
    }

    fn acquired(&self, handles: &Handles, op: &'static str, bytes: usize) -> Result<Stretch> {
        let none = || Error::OutOfMemory { op, bytes, device: format!("cuda:{}", handles.ordinal) };
        let class = if self.caching { class(bytes).ok_or_else(none)? } else { bytes.max(1) };
        let allocate = || if self.caching { handles.allocate(class) } else { handles.allocate_in_order(class) };
        let (mut lists, pool) = (self.lists(), POOL.get());
        let own = lists.pools.iter_mut().find(|p| p.id == pool).and_then(|p| p.free.get_mut(&class)?.pop());
        let address = match own.or_else(|| lists.free.get_mut(&class)?.pop()) {
            Some(Reverse(address)) => address,
            None => {
                let address = match allocate() {
                    // Inside of a capture nothing may wait.
                    Err(e) if e.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY && !handles.is_alone() => {
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
        lists.serial += 1;
        Ok(Stretch { address, class, serial: lists.serial, pool })
    }

    /// Whether memory is kept, so that a captured step can have a pool.
    pub fn has_pools(&self) -> bool {
        self.caching
    }

    /// A pool for a capture. Until it is [`enter`](OpenPool::enter)ed and left nothing comes from it, but everything that is let go is
    /// kept aside.
    pub fn open_pool(&'static self) -> OpenPool {
        // Of the process, as the thread's pool is that of one device.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        self.lists().pools.push(Pool { id, end: u64::MAX, free: Free::new(), aside: Vec::new() });
        OpenPool { allocator: self, id }
    }

    /// Nothing will be queued any more that uses the pool's memory.
    fn close_pool(&self, id: u64) {
        let mut lists = self.lists();
        let Some(at) = lists.pools.iter().position(|p| p.id == id) else { return };
        let pool = lists.pools.remove(at);
        // A step captured later may use what this one's pool has handed out: it goes on being that step's.
        for (class, addresses) in pool.free {
            for Reverse(address) in addresses {
                let serial = pool.end.min(lists.serial + 1) - 1;
                lists.let_go(Stretch { address, class, serial, pool: 0 });
            }
        }
        pool.aside.into_iter().for_each(|stretch| lists.let_go(stretch));
    }

    /// Takes memory back; what is queued may still use it.
    pub fn release(&self, handles: &Handles, stretch: Stretch) {
        if self.caching {
            let mut lists = self.lists();
            lists.stats.allocated_bytes -= stretch.class;
            return lists.let_go(stretch);
        }
        // Through the gate, for another thread's capture would take it along.
        handles.entered(|| {
            let mut lists = self.lists();
            lists.stats.allocated_bytes -= stretch.class;
            // An error belongs to earlier work, and whoever waits for that is told.
            if handles.free_in_order(stretch.address).is_ok() {
                lists.stats.reserved_bytes -= stretch.class;
            }
        });
    }

    /// Gives everything that is kept back to the driver.
    pub fn trim(&self, handles: &Handles, op: &'static str) -> Result<()> {
        handles.entered(|| self.lists().trim(handles, op))
    }
}

/// A pool, closed with its owner.
pub struct OpenPool {
    allocator: &'static Allocator,
    id: u64,
}

impl OpenPool {
    /// Runs a capture whose memory comes from the pool.
    pub fn enter<R>(&self, capture: impl FnOnce() -> R) -> R {
        struct Leave(u64);
        impl Drop for Leave {
            fn drop(&mut self) {
                POOL.set(self.0);
            }
        }
        let leave = Leave(POOL.replace(self.id));
        let result = capture();
        drop(leave);
        let mut lists = self.allocator.lists();
        let end = lists.serial + 1;
        lists.pools.iter_mut().filter(|p| p.id == self.id).for_each(|p| p.end = end);
        result
    }
}

impl Drop for OpenPool {
    fn drop(&mut self) {
        self.allocator.close_pool(self.id);
    }
}

impl Lists {
    fn let_go(&mut self, stretch: Stretch) {
        let free = if let Some(own) = self.pools.iter_mut().find(|p| p.id == stretch.pool) {
            &mut own.free
        } else if let Some(other) = self.pools.iter_mut().find(|p| stretch.serial < p.end) {
            return other.aside.push(stretch);
        } else {
            &mut self.free
        };
        free.entry(stretch.class).or_default().push(Reverse(stretch.address));
    }

    fn trim(&mut self, handles: &Handles, op: &'static str) -> Result<()> {
        // What was let go may still be in use on the stream.
        handles.synchronize(op)?;
        for (class, addresses) in &mut self.free {
            while let Some(Reverse(address)) = addresses.pop() {
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
