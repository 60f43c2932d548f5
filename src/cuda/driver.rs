//! The driver's calls, each with its errors made the crate's. Nothing here asks for the driver's library without having seen it.

use std::{
    cell::Cell,
    ffi::c_void,
    sync::{OnceLock, RwLock, RwLockWriteGuard},
};

use cudarc::driver::{result, sys};
pub use cudarc::driver::{result::DriverError, sys::CUresult};

use crate::error::{Error, Result};

/// The address of device memory.
pub type Address = u64;

/// Whether there is a driver to open. Without one every other call of the library would panic.
pub fn present() -> bool {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    // SAFETY: opens and closes the library, which is safe to load at any time.
    *PRESENT.get_or_init(|| unsafe { sys::is_culib_present() })
}

/// An error of the driver, as the crate tells it.
pub fn error(op: &'static str, ordinal: usize, e: DriverError) -> Error {
    let text = e.error_string().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    unavailable(op, ordinal, format!("{:?}: {text}", e.0))
}

/// An [`Error::Unavailable`] of a device.
pub fn unavailable(op: &'static str, ordinal: usize, reason: String) -> Error {
    Error::Unavailable { op, what: format!("cuda:{ordinal}"), reason }
}

/// The parts of a device that stay as long as the process: its primary context, one stream, and what it can do.
pub struct Handles {
    pub ordinal: usize,
    pub capability: (i32, i32),
    pub multiprocessors: u32,
    pub limits: Limits,
    context: sys::CUcontext,
    pub stream: sys::CUstream,
    /// Held for reading by every call, for writing by a thread that captures: what others queue must not become part of it.
    gate: RwLock<()>,
}

/// What a launch whose blocks all run at once depends on.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of shared memory that a block may ask for.
    pub shared_per_block: usize,
    /// Registers of a multiprocessor.
    pub registers: usize,
    pub cooperative: bool,
    pub clusters: bool,
}

/// Which blocks of a launch run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Together {
    /// As it comes.
    No,
    /// All, or the driver refuses.
    All,
    /// Those of a cluster, of so many blocks each.
    Clusters(u32),
}

thread_local! {
    /// The devices, a bit each, that this thread is inside of `with` of, or captures on: it does not ask at their gates again.
    static INSIDE: Cell<u64> = const { Cell::new(0) };
    static ALONE: Cell<u64> = const { Cell::new(0) };
}

/// Devices that a process may use: as many as there are bits.
const DEVICES: usize = 64;

/// A device's flag of this thread, set as long as this lives.
struct Set {
    flags: &'static std::thread::LocalKey<Cell<u64>>,
    before: u64,
}

impl Set {
    fn new(flags: &'static std::thread::LocalKey<Cell<u64>>, device: u64) -> Self {
        let before = flags.get();
        flags.set(before | device);
        Set { flags, before }
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        self.flags.set(self.before);
    }
}

/// As long as this lives, no other thread queues anything on the device.
pub struct Alone<'a> {
    _gate: RwLockWriteGuard<'a, ()>,
    _inside: Set,
    _alone: Set,
}

// SAFETY: contexts and streams may be used from any thread; each call below makes the context current first.
unsafe impl Send for Handles {}
// SAFETY: as above; the driver takes its own locks.
unsafe impl Sync for Handles {}

/// How many devices the driver sees.
pub fn count(op: &'static str) -> Result<usize> {
    result::init().and_then(|()| result::device::get_count()).map(|n| n as usize).map_err(|e| error(op, 0, e))
}

/// Blocks of a cluster for which a function needs no attribute.
const PORTABLE_CLUSTER: u32 = 8;

/// The launch's attribute of clusters.
fn cluster(blocks: u32) -> sys::CUlaunchAttribute {
    // SAFETY: plain numbers, of which zeros are some.
    let mut attribute: sys::CUlaunchAttribute = unsafe { std::mem::zeroed() };
    attribute.id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    attribute.value.clusterDim = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x: blocks, y: 1, z: 1 };
    attribute
}

/// A launch with one attribute, which has to outlive it.
fn config(
    stream: sys::CUstream,
    grid: &super::launch::Grid,
    attribute: &mut sys::CUlaunchAttribute,
) -> sys::CUlaunchConfig {
    sys::CUlaunchConfig {
        gridDimX: grid.blocks,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: grid.threads.0,
        blockDimY: grid.threads.1,
        blockDimZ: 1,
        sharedMemBytes: grid.shared,
        hStream: stream,
        attrs: attribute,
        numAttrs: 1,
    }
}

impl Handles {
    /// Opens a device that [`count`] counted.
    pub fn open(op: &'static str, ordinal: usize) -> Result<Self> {
        if ordinal >= DEVICES {
            return Err(unavailable(op, ordinal, format!("a process uses {DEVICES} devices at most")));
        }
        use sys::CUdevice_attribute_enum as Attribute;
        let open = || -> Result<Self, DriverError> {
            let device = result::device::get(ordinal as i32)?;
            // SAFETY: the device is one of the driver's; its context is retained for the life of the process.
            unsafe {
                let ask = |attribute| result::device::get_attribute(device, attribute);
                let capability = (
                    ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                    ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
                );
                let multiprocessors = ask(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?.max(1) as u32;
                let limits = Limits {
                    shared_per_block: ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as usize,
                    registers: ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR)? as usize,
                    cooperative: ask(Attribute::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH)? != 0,
                    clusters: ask(Attribute::CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH)? != 0,
                };
                let context = result::primary_ctx::retain(device)?;
                result::ctx::set_current(context)?;
                let stream = result::stream::create(result::stream::StreamKind::NonBlocking)?;
                Ok(Handles { ordinal, capability, multiprocessors, limits, context, stream, gate: RwLock::new(()) })
            }
        };
        open().map_err(|e| error(op, ordinal, e))
    }

    /// Runs driver calls with the context current on this thread.
    ///
    /// # Errors
    /// The driver's; and where this thread captures on another device.
    pub fn with<R>(&self, op: &'static str, calls: impl FnOnce() -> Result<R, DriverError>) -> Result<R> {
        let elsewhere = ALONE.get() & !self.bit();
        if elsewhere != 0 {
            let recorded = elsewhere.trailing_zeros();
            let reason = format!(
                "work of cuda:{recorded} is being recorded, whose replays would leave out what another device does"
            );
            return Err(unavailable(op, self.ordinal, reason));
        }
        self.entered(|| self.current().and_then(|()| calls())).map_err(|e| error(op, self.ordinal, e))
    }

    /// Runs what takes locks and calls the driver under them. The gate comes before every lock: who captures holds it and takes
    /// them too.
    pub fn entered<R>(&self, body: impl FnOnce() -> R) -> R {
        let inside = INSIDE.get() & self.bit() != 0;
        let _gate = (!inside).then(|| self.gate.read().unwrap_or_else(|e| e.into_inner()));
        let _inside = Set::new(&INSIDE, self.bit());
        body()
    }

    /// Waits until no other thread is in a call, and keeps them out.
    pub fn alone(&self) -> Alone<'_> {
        let gate = self.gate.write().unwrap_or_else(|e| e.into_inner());
        Alone { _gate: gate, _inside: Set::new(&INSIDE, self.bit()), _alone: Set::new(&ALONE, self.bit()) }
    }

    /// Whether this thread is capturing on this device.
    pub fn is_alone(&self) -> bool {
        ALONE.get() & self.bit() != 0
    }

    fn bit(&self) -> u64 {
        1 << self.ordinal
    }

    fn current(&self) -> Result<(), DriverError> {
        // SAFETY: the context is retained for the life of the process.
        unsafe { result::ctx::set_current(self.context) }
    }

    /// Device memory, aligned to 256 bytes at least.
    pub fn allocate(&self, bytes: usize) -> Result<Address, DriverError> {
        self.current()?;
        // SAFETY: the context is current and the size is not zero: the allocator's classes begin at 512 bytes.
        unsafe { result::malloc_sync(bytes) }
    }

    /// Gives device memory back. The caller has seen to it that nothing uses it any more.
    pub fn free(&self, address: Address) -> Result<(), DriverError> {
        self.current()?;
        // SAFETY: the address came from `allocate`, and the allocator holds it alone.
        unsafe { result::free_sync(address) }
    }

    /// Device memory that is there from this point of the stream on.
    pub fn allocate_in_order(&self, bytes: usize) -> Result<Address, DriverError> {
        self.current()?;
        // SAFETY: the stream lives as long as the process, and the allocator asks for one byte at least.
        unsafe { result::malloc_async(self.stream, bytes) }
    }

    /// Gives memory back behind everything that is on the stream.
    pub fn free_in_order(&self, address: Address) -> Result<(), DriverError> {
        self.current()?;
        // SAFETY: the address came from `allocate_in_order`, and the allocator holds it alone.
        unsafe { result::free_async(address, self.stream) }
    }

    /// Waits for everything on the stream.
    pub fn synchronize(&self, op: &'static str) -> Result<()> {
        // SAFETY: the stream lives as long as the process.
        self.with(op, || unsafe { result::stream::synchronize(self.stream) })
    }

    /// Sets every byte of a stretch of device memory.
    pub fn set_bytes(&self, op: &'static str, to: Address, value: u8, bytes: usize) -> Result<()> {
        self.set_bytes_on(op, self.stream, to, value, bytes)
    }

    /// The same, on a stream.
    pub fn set_bytes_on(
        &self,
        op: &'static str,
        stream: sys::CUstream,
        to: Address,
        value: u8,
        bytes: usize,
    ) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: callers pass a stretch of one buffer.
        self.with(op, || unsafe { result::memset_d8_async(to, value, bytes, stream) })
    }

    /// Copies between two stretches of device memory that do not overlap.
    pub fn copy(&self, op: &'static str, from: Address, to: Address, bytes: usize) -> Result<()> {
        self.copy_on(op, self.stream, from, to, bytes)
    }

    /// The same, on a stream.
    pub fn copy_on(
        &self,
        op: &'static str,
        stream: sys::CUstream,
        from: Address,
        to: Address,
        bytes: usize,
    ) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: callers pass stretches of two buffers.
        self.with(op, || unsafe { result::memcpy_dtod_async(to, from, bytes, stream) })
    }

    /// Sets 32-bit words of a stretch of device memory, from its front.
    pub fn set_words(&self, op: &'static str, to: Address, words: &[u32]) -> Result<()> {
        self.with(op, || {
            words.iter().enumerate().try_for_each(|(i, &word)| {
                // SAFETY: callers pass a stretch of one buffer that holds the words.
                unsafe { sys::cuMemsetD32Async(to + 4 * i as u64, word, 1, self.stream).result() }
            })
        })
    }

    /// Queues a kernel that takes one struct by value.
    pub fn launch<P: bytemuck::Pod>(
        &self,
        op: &'static str,
        stream: sys::CUstream,
        function: sys::CUfunction,
        grid: &super::launch::Grid,
        together: Together,
        parameters: &P,
    ) -> Result<()> {
        let mut parameters = *parameters;
        let mut pointers = [(&raw mut parameters).cast::<c_void>()];
        let (blocks, block, shared) = ((grid.blocks, 1, 1), (grid.threads.0, grid.threads.1, 1), grid.shared);
        // SAFETY: the function takes this struct (abi.rs), which the driver copies before it returns, and the addresses in it
        // are of buffers whose memory is reused in the stream's order only.
        self.with(op, || unsafe {
            match together {
                Together::No => result::launch_kernel(function, blocks, block, shared, stream, &mut pointers),
                Together::All => {
                    result::launch_cooperative_kernel(function, blocks, block, shared, stream, &mut pointers)
                }
                Together::Clusters(size) => {
                    let mut attribute = cluster(size);
                    let config = config(stream, grid, &mut attribute);
                    sys::cuLaunchKernelEx(&config, function, pointers.as_mut_ptr(), std::ptr::null_mut()).result()
                }
            }
        })
    }

    /// How many clusters of so many blocks fit on the device at once; none where the driver has none of that size. The function may
    /// have such clusters, and so much shared memory, from then on.
    pub fn clusters(
        &self,
        op: &'static str,
        function: sys::CUfunction,
        threads: u32,
        shared: usize,
        blocks: u32,
    ) -> Result<usize> {
        use sys::CUfunction_attribute_enum as Attribute;
        let mut clusters = 0;
        let grid = super::launch::Grid { blocks, threads: (threads, 1), shared: shared as u32 };
        // SAFETY: the function is one of this device's, and the configuration lives until the call has returned.
        let asked = self.entered(|| unsafe {
            self.current()?;
            let most = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            result::function::set_function_attribute(function, most, self.limits.shared_per_block as i32)?;
            if blocks > PORTABLE_CLUSTER {
                let more = Attribute::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED;
                result::function::set_function_attribute(function, more, 1)?;
            }
            let mut attribute = cluster(blocks);
            let config = config(self.stream, &grid, &mut attribute);
            sys::cuOccupancyMaxActiveClusters(&mut clusters, function, &config).result()
        });
        match asked {
            Ok(()) => Ok(clusters.max(0) as usize),
            Err(e) if e.0 == CUresult::CUDA_ERROR_INVALID_CLUSTER_SIZE => Ok(0),
            Err(e) => Err(error(op, self.ordinal, e)),
        }
    }

    /// How many blocks of that size fit on the device at once. The function may have so much shared memory from then on.
    pub fn resident(&self, op: &'static str, function: sys::CUfunction, threads: u32, shared: usize) -> Result<usize> {
        let mut blocks = 0;
        // SAFETY: the function is one of this device's.
        self.with(op, || unsafe {
            let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            result::function::set_function_attribute(function, attribute, self.limits.shared_per_block as i32)?;
            sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut blocks, function, threads as i32, shared).result()
        })?;
        Ok(blocks.max(0) as usize * self.multiprocessors as usize)
    }
}
