//! Memory that tensors share. What the last of them leaves on the CPU, if it is small, its thread keeps for the next tensor of that size,
//! with the counter beside it: a training step makes dozens, and a list of the thread's own is cheaper than the allocator and a lock.

use std::{cell::RefCell, ops::Deref, sync::Arc};

use crate::{
    cpu::{self, CLASSES},
    device::Device,
    dtype::DType,
    error::Result,
    storage::Storage,
};

/// Bytes of memory that is small.
const SMALL: usize = 1 << 20;
/// What a thread keeps at most.
const KEEP_BYTES: usize = 16 << 20;

struct Kept {
    /// By class, the last one left at the end.
    free: [Vec<Arc<Storage>>; CLASSES],
    bytes: usize,
}

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { free: [const { Vec::new() }; CLASSES], bytes: 0 }) };
}

/// A handle of memory; `Some` until it is dropped.
#[derive(Clone)]
pub(crate) struct Shared(Option<Arc<Storage>>);

impl Shared {
    pub fn new(storage: Storage) -> Self {
        Shared(Some(Arc::new(storage)))
    }

    /// Memory of unspecified contents.
    pub fn alloc(device: Device, dtype: DType, len: usize) -> Result<Self> {
        if device == Device::Cpu
            && let Some(kept) = take(dtype, len)
        {
            return Ok(kept);
        }
        Storage::alloc(device, dtype, len).map(Shared::new)
    }

    fn arc(&self) -> &Arc<Storage> {
        self.0.as_ref().expect("a handle has its memory until it is dropped")
    }

    /// How many handles there are.
    pub fn count(&self) -> usize {
        Arc::strong_count(self.arc())
    }

    /// The memory, to write, where this is the only handle.
    pub fn get_mut(&mut self) -> Option<&mut Storage> {
        self.0.as_mut().and_then(Arc::get_mut)
    }

    /// Whether both are handles of the same memory.
    pub fn is(&self, other: &Shared) -> bool {
        Arc::ptr_eq(self.arc(), other.arc())
    }
}

impl Deref for Shared {
    type Target = Storage;
    fn deref(&self) -> &Storage {
        self.arc()
    }
}

fn take(dtype: DType, len: usize) -> Option<Shared> {
    let class = cpu::class(len.checked_mul(dtype.size())?).filter(|&class| class <= SMALL)?;
    let mut kept = KEPT
        .try_with(|kept| {
            let mut kept = kept.try_borrow_mut().ok()?;
            let arc = kept.free[cpu::index(class)].pop()?;
            kept.bytes -= class;
            Some(Shared(Some(arc)))
        })
        .ok()??;
    match kept.get_mut() {
        Some(Storage::Cpu(buffer)) => buffer.renew(dtype, len),
        _ => return None,
    }
    Some(kept)
}

/// Gives the memory that dropped tensors have left on the CPU back to the system, but for what other threads keep.
pub(crate) fn release() {
    let kept = KEPT.try_with(|kept| {
        let mut kept = kept.try_borrow_mut().ok()?;
        kept.bytes = 0;
        Some(kept.free.iter_mut().flat_map(std::mem::take).collect::<Vec<_>>())
    });
    // To the pool of all threads first.
    drop(kept);
    cpu::release_all();
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Some(arc) = self.0.take() else { return };
        // Where others have handles, or had one just now, it is freed as ever.
        let class = match &*arc {
            Storage::Cpu(buffer) if Arc::strong_count(&arc) == 1 => buffer.class(),
            _ => return,
        };
        if class <= SMALL {
            // A thread that ends may have no list any more.
            let _ = KEPT.try_with(|kept| {
                if let Ok(mut kept) = kept.try_borrow_mut()
                    && kept.bytes + class <= KEEP_BYTES
                {
                    kept.bytes += class;
                    kept.free[cpu::index(class)].push(arc);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(memory: &Shared) -> *const f32 {
        memory.cpu("test").unwrap().slice::<f32>().as_ptr()
    }

    #[test]
    fn the_last_handle_leaves_its_memory_to_the_next_tensor() {
        let alloc = |len| Shared::alloc(Device::Cpu, DType::F32, len).unwrap();
        let a = alloc(1000);
        let (at, b) = (address(&a), a.clone());
        drop(a);
        let c = alloc(1000);
        assert_ne!(address(&c), at, "b has it yet");
        drop(b);
        // Another length and type of the same class.
        let mut d = Shared::alloc(Device::Cpu, DType::I64, 499).unwrap();
        assert_eq!((d.len(), d.dtype(), d.count()), (499, DType::I64, 1));
        assert!(d.get_mut().is_some_and(|s| s.cpu_mut("test").unwrap().slice_mut::<i64>().as_ptr().cast() == at));
        assert_ne!(address(&alloc(1000)), at);
    }

    #[test]
    fn what_is_kept_can_be_released() {
        let memory = || Shared::alloc(Device::Cpu, DType::F32, 1000).unwrap();
        let (a, b) = (memory(), memory());
        drop(a);
        release();
        assert_eq!(KEPT.with_borrow(|kept| (kept.bytes, kept.free.iter().all(Vec::is_empty))), (0, true));
        drop(b);
        assert!(KEPT.with_borrow(|kept| kept.bytes) > 0, "and what is left from there on is kept as ever");
    }

    #[test]
    fn a_thread_keeps_no_more_than_its_limit() {
        let kept = || KEPT.with_borrow(|kept| kept.bytes);
        let many: Vec<_> = (0..40).map(|_| Shared::alloc(Device::Cpu, DType::F32, SMALL / 4).unwrap()).collect();
        drop(many);
        assert!(kept() <= KEEP_BYTES && kept() > KEEP_BYTES - SMALL, "{}", kept());
        drop(Shared::alloc(Device::Cpu, DType::F32, SMALL).unwrap());
        assert!(kept() <= KEEP_BYTES);
        // And gives it all back when it ends.
        std::thread::spawn(|| drop(Shared::alloc(Device::Cpu, DType::F32, 10).unwrap())).join().unwrap();
    }
}
