//! A device that is open: opened once, on first use, and kept for the life of the process.

use std::sync::{Mutex, MutexGuard, OnceLock, atomic::AtomicBool};

use super::{
    abi::{self, Fault},
    allocator::Allocator,
    driver::{self, Address, Handles},
    graph::Cache,
    lane::{LANES, Lane},
    launch::{MODULES, Modules},
    staging::Staging,
};
use crate::error::{Error, Result};

/// Everything of one device.
pub struct Context {
    pub handles: Handles,
    pub allocator: Allocator,
    pub staging: Staging,
    pub modules: Modules,
    /// The first on the device's stream, the others made when they are used.
    pub lanes: [OnceLock<Lane>; LANES],
    /// Made when a copy first runs beside everything else.
    pub copies: OnceLock<Lane>,
    /// Graphs of recurrent calls, and whether they may be used.
    pub graphs: Mutex<Cache>,
    pub replay: AtomicBool,
    /// Whether recurrent layers may run all their steps in one launch.
    pub persistent: AtomicBool,
    /// See [`Context::together`].
    together: Mutex<()>,
    /// Whether f32 products may round their factors to TF32.
    pub tf32: AtomicBool,
    /// A [`Fault`] on the device.
    pub fault: Address,
}

static OPEN: Mutex<Vec<&'static Context>> = Mutex::new(Vec::new());

/// The device of that ordinal.
///
/// # Errors
/// [`Error::Unavailable`], with what to do, where the build has no kernels, the machine no driver or no such device, or the
/// kernels were not built for it.
pub fn open(op: &'static str, ordinal: usize) -> Result<&'static Context> {
    let mut open = OPEN.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(context) = open.iter().find(|c| c.handles.ordinal == ordinal) {
        return Ok(context);
    }
    let unavailable = |reason: String| driver::unavailable(op, ordinal, reason);
    if MODULES.is_empty() {
        return Err(unavailable(
            "gatefold was built without nvcc and has no CUDA kernels: set NVCC or CUDA_HOME, or in a checkout run \
             scripts/install-cuda, and build again"
                .into(),
        ));
    }
    if !driver::present() {
        return Err(unavailable(
            "there is no NVIDIA driver (no libcuda could be opened): install it, or use Device::Cpu".into(),
        ));
    }
    let count = driver::count(op)?;
    if ordinal >= count {
        return Err(unavailable(format!("the driver sees {count} device(s), counted from 0")));
    }
    let handles = Handles::open(op, ordinal)?;
    let modules = Modules::default();
    modules.load(&handles, op, "memory")?;
    let allocator = Allocator::new();
    let fault = allocator.acquire(&handles, op, size_of::<Fault>())?.address;
    handles.set_bytes(op, fault, 0, size_of::<Fault>())?;
    let context = Context {
        handles,
        allocator,
        staging: Staging::default(),
        modules,
        lanes: Default::default(),
        copies: OnceLock::new(),
        graphs: Mutex::default(),
        together: Mutex::default(),
        replay: AtomicBool::new(true),
        persistent: AtomicBool::new(true),
        tf32: AtomicBool::new(false),
        fault,
    };
    // Kept for the life of the process, as the driver's context is.
    let context: &'static Context = Box::leak(Box::new(context));
    open.push(context);
    Ok(context)
}

impl Context {
    /// Held while a call queues launches whose blocks wait for each other, on whichever lanes, until lane 0 waits for all of them: so
    /// those of two calls are in one order, and never more on the device at once than one call reckons with. It comes before the
    /// graphs' lock and the gate. Who captures has the gate already, and queues nothing that runs: whoever launches the graph holds it.
    pub fn together(&'static self) -> Option<MutexGuard<'static, ()>> {
        (!self.handles.is_alone()).then(|| self.together.lock().unwrap_or_else(|e| e.into_inner()))
    }

    /// Device to host, which may be empty. Waits for the stream once, and tells the first fault that a kernel has met since the
    /// last call.
    pub fn download(&self, op: &'static str, from: Address, host: &mut [u8]) -> Result<()> {
        let mut fault: Fault = bytemuck::Zeroable::zeroed();
        let word = (self.fault, bytemuck::cast_mut(&mut fault));
        self.staging.download(&self.handles, op, from, host, word)?;
        if fault.kind == 0 {
            return Ok(());
        }
        self.handles.set_bytes(op, self.fault, 0, size_of::<Fault>())?;
        let Fault { place, value, bound, .. } = fault;
        let probability = |what: &str| {
            let value = f64::from_bits(value as u64);
            Error::argument(
                "binary_cross_entropy",
                format!("{what} element {place} = {value}"),
                "probabilities in [0, 1]",
            )
        };
        Err(match fault.kind {
            abi::FAULT_INDEX => {
                Error::argument("index", format!("index {value} at {place}"), format!("indices in 0..{bound}"))
            }
            abi::FAULT_TARGET => {
                Error::argument("nll_loss", format!("target {value} at {place}"), format!("a class in 0..{bound}"))
            }
            abi::FAULT_INPUT_PROBABILITY => probability("input"),
            abi::FAULT_TARGET_PROBABILITY => probability("target"),
            other => {
                driver::unavailable(op, self.handles.ordinal, format!("a kernel reported an unknown fault {other}"))
            }
        })
    }
}
