//! Kernels by name: the embedded modules, the functions in them, and the sizes of their launches.

use std::{
    collections::HashMap,
    ffi::CString,
    sync::{Mutex, RwLock},
};

use cudarc::driver::{result, sys};

use super::{
    abi::Parameters,
    context::Context,
    driver::{self, CUresult, Handles, Together},
};
use crate::{
    dtype::DType,
    error::{Error, Result},
};

mod table {
    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}
pub use table::MODULES;

/// What a function is called: `unary`, `f32`.
type Name = (&'static str, &'static str);

/// A handle of the driver's.
struct Handle<T>(T);
// SAFETY: modules and functions may be used from any thread.
unsafe impl<T> Send for Handle<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Handle<T> {}

/// The modules that are loaded, each when the first of its kernels is launched, and the functions that were asked for.
#[derive(Default)]
pub struct Modules {
    modules: Mutex<HashMap<&'static str, Handle<sys::CUmodule>>>,
    functions: RwLock<HashMap<Name, Handle<sys::CUfunction>>>,
    /// Blocks that fit at once, of a function with so many threads and so much shared memory.
    resident: RwLock<HashMap<(Name, u32, usize), usize>>,
    /// Clusters of so many blocks, the same.
    clusters: RwLock<HashMap<(Name, u32, usize, u32), usize>>,
}

impl Modules {
    fn module(&self, handles: &Handles, op: &'static str, file: &'static str) -> Result<sys::CUmodule> {
        handles.entered(|| self.loaded(handles, op, file))
    }

    fn loaded(&self, handles: &Handles, op: &'static str, file: &'static str) -> Result<sys::CUmodule> {
        let mut modules = self.modules.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(module) = modules.get(file) {
            return Ok(module.0);
        }
        let (major, minor) = handles.capability;
        let image = MODULES.iter().find(|(name, _)| *name == file).map(|(_, image)| *image).ok_or_else(|| {
            driver::unavailable(op, handles.ordinal, format!("this build has no kernels of {file}.cu"))
        })?;
        // SAFETY: the image is a whole fat binary, embedded at build time.
        let module = handles.with(op, || Ok(unsafe { result::module::load_data(image.as_ptr().cast()) }))?;
        let module = module.map_err(|e| match e.0 {
            CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU
            | CUresult::CUDA_ERROR_INVALID_PTX
            | CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => driver::unavailable(
                op,
                handles.ordinal,
                format!(
                    "its compute capability is {major}.{minor} and the kernels were built for {}: build again with \
                     GATEFOLD_CUDA_ARCHS={major}{minor}, or update the driver",
                    table::ARCHS
                ),
            ),
            _ => driver::error(op, handles.ordinal, e),
        })?;
        modules.insert(file, Handle(module));
        Ok(module)
    }

    /// Loads a file's kernels, so that a device for which they were not built is known when it is opened.
    pub fn load(&self, handles: &Handles, op: &'static str, file: &'static str) -> Result<()> {
        self.module(handles, op, file).map(drop)
    }

    fn function(&self, handles: &Handles, file: &'static str, name: Name) -> Result<sys::CUfunction> {
        self.find(handles, file, name)?.map_err(|e| driver::error(name.0, handles.ordinal, e))
    }

    /// The same; inside, what the driver says of the name.
    fn find(
        &self,
        handles: &Handles,
        file: &'static str,
        name: Name,
    ) -> Result<Result<sys::CUfunction, driver::DriverError>> {
        if let Some(function) = self.functions.read().unwrap_or_else(|e| e.into_inner()).get(&name) {
            return Ok(Ok(function.0));
        }
        let module = self.module(handles, name.0, file)?;
        let full = if name.1.is_empty() { name.0.to_string() } else { format!("{}_{}", name.0, name.1) };
        let symbol = CString::new(full).map_err(|e| driver::unavailable(name.0, handles.ordinal, e.to_string()))?;
        // SAFETY: modules are never unloaded.
        let found = handles.with(name.0, || Ok(unsafe { result::module::get_function(module, symbol) }))?;
        if let Ok(function) = found {
            self.functions.write().unwrap_or_else(|e| e.into_inner()).insert(name, Handle(function));
        }
        Ok(found)
    }
}

/// Blocks of a one-dimensional grid, threads of a block, and bytes of dynamic shared memory.
pub struct Grid {
    pub blocks: u32,
    pub threads: (u32, u32),
    pub shared: u32,
}

/// Shared memory by which a block joins 32 values, or 32 values and their places.
const JOIN: u32 = 32 * 8 * 2;

impl Context {
    /// A thread for each item or, where there are very many, several items for each.
    pub fn spread(&self, items: usize) -> Grid {
        let blocks = items.div_ceil(256).clamp(1, self.most_blocks());
        Grid { blocks: blocks as u32, threads: (256, 1), shared: 0 }
    }

    /// A thread for each item in blocks so small that every multiprocessor has one, down to 64 threads.
    pub fn spread_thin(&self, items: usize) -> Grid {
        let threads = items.div_ceil(self.handles.multiprocessors as usize).next_power_of_two().clamp(64, 256);
        let blocks = items.div_ceil(threads).clamp(1, self.most_blocks());
        Grid { blocks: blocks as u32, threads: (threads as u32, 1), shared: 0 }
    }

    /// A thread for each 16 bytes of so many elements.
    pub fn spread_vectors(&self, items: usize, dtype: DType) -> Grid {
        self.spread(items.div_ceil(16 / dtype.size()))
    }

    /// A team for each row of n: a warp where the row is short, else a block.
    pub fn teams(&self, rows: usize, n: usize) -> Grid {
        let (blocks, threads) = if n <= 1024 { (rows.div_ceil(8), (32, 8)) } else { (rows, (256, 1)) };
        Grid { blocks: blocks.clamp(1, self.most_blocks()) as u32, threads, shared: JOIN }
    }

    /// A block of that many threads for each task.
    pub fn blocks(&self, tasks: usize, threads: (u32, u32), shared: u32) -> Grid {
        Grid { blocks: tasks.clamp(1, self.most_blocks()) as u32, threads, shared }
    }

    /// Enough to fill the device several times over.
    fn most_blocks(&self) -> usize {
        self.handles.multiprocessors as usize * 64
    }

    /// Queues the kernel `name_suffix`.
    pub fn launch<P: Parameters>(
        &self,
        name: &'static str,
        suffix: &'static str,
        grid: &Grid,
        parameters: &P,
    ) -> Result<()> {
        self.launch_on(self.handles.stream, name, suffix, grid, parameters)
    }

    /// The same, on a stream.
    pub fn launch_on<P: Parameters>(
        &self,
        stream: sys::CUstream,
        name: &'static str,
        suffix: &'static str,
        grid: &Grid,
        parameters: &P,
    ) -> Result<()> {
        self.launch_together(stream, name, suffix, grid, Together::No, parameters)
    }

    /// The same, of a kernel whose blocks wait for each other or reach each other's shared memory.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for clusters on devices without, below compute capability 9.0.
    pub fn launch_together<P: Parameters>(
        &self,
        stream: sys::CUstream,
        name: &'static str,
        suffix: &'static str,
        grid: &Grid,
        together: Together,
        parameters: &P,
    ) -> Result<()> {
        if matches!(together, Together::Clusters(_)) && !self.handles.limits.clusters {
            let (major, minor) = self.handles.capability;
            let reason = format!("clusters of thread blocks need compute capability 9.0; it has {major}.{minor}");
            return Err(driver::unavailable(name, self.handles.ordinal, reason));
        }
        let function = self.modules.function(&self.handles, P::FILE, (name, suffix))?;
        self.handles.launch(name, stream, function, grid, together, parameters)
    }

    /// How many clusters of so many blocks of such a kernel the device has room for at once: none where it has no clusters, or this
    /// build's machine code for it no such kernel.
    pub fn clusters<P: Parameters>(
        &self,
        name: &'static str,
        suffix: &'static str,
        threads: u32,
        shared: usize,
        blocks: u32,
    ) -> Result<usize> {
        if !self.handles.limits.clusters {
            return Ok(0);
        }
        let key = ((name, suffix), threads, shared, blocks);
        if let Some(clusters) = self.modules.clusters.read().unwrap_or_else(|e| e.into_inner()).get(&key) {
            return Ok(*clusters);
        }
        let clusters = match self.modules.find(&self.handles, P::FILE, (name, suffix))? {
            Ok(function) => self.handles.clusters(name, function, threads, shared, blocks)?,
            // Code for older devices, which the driver has compiled for this one, has no kernels with clusters.
            Err(e) if e.0 == CUresult::CUDA_ERROR_NOT_FOUND => 0,
            Err(e) => return Err(driver::error(name, self.handles.ordinal, e)),
        };
        self.modules.clusters.write().unwrap_or_else(|e| e.into_inner()).insert(key, clusters);
        Ok(clusters)
    }

    /// How many blocks of such a kernel the device has room for at once.
    pub fn resident<P: Parameters>(
        &self,
        name: &'static str,
        suffix: &'static str,
        threads: u32,
        shared: usize,
    ) -> Result<usize> {
        let key = ((name, suffix), threads, shared);
        if let Some(blocks) = self.modules.resident.read().unwrap_or_else(|e| e.into_inner()).get(&key) {
            return Ok(*blocks);
        }
        let function = self.modules.function(&self.handles, P::FILE, (name, suffix))?;
        let blocks = self.handles.resident(name, function, threads, shared)?;
        self.modules.resident.write().unwrap_or_else(|e| e.into_inner()).insert(key, blocks);
        Ok(blocks)
    }
}

/// The suffix of a kernel of that dtype.
pub fn suffix(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "f64",
        DType::F32 => "f32",
        DType::F16 => "f16",
        DType::BF16 => "bf16",
        DType::U32 => "u32",
        DType::I64 => "i64",
        DType::U8 => "u8",
    }
}

/// The same, of a kernel that is there for floats only.
pub fn float(op: &'static str, dtype: DType) -> Result<&'static str> {
    if dtype.is_float() { Ok(suffix(dtype)) } else { Err(Error::dtype(op, dtype, "a floating-point dtype")) }
}

/// The suffix of a kernel that moves elements whatever they are.
pub fn bits(dtype: DType) -> &'static str {
    match dtype.size() {
        1 => "b8",
        2 => "b16",
        4 => "b32",
        _ => "b64",
    }
}
