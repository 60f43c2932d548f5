//! The GPU as an outside user of the raw layer has it: a context, a stream, memory and events of the driver's own.

use std::{ffi::c_void, time::Duration};

use cudarc::driver::{result, sys};
use gatefold::{
    DType, Device, Philox,
    dtype::{Element, bf16, f16},
    recurrent::{CudaBuf, CudaStream, Stream},
};

pub type Result<T> = std::result::Result<T, String>;

fn asked<T>(what: &str, answer: std::result::Result<T, result::DriverError>) -> Result<T> {
    answer.map_err(|e| format!("{what}: {:?}", e.0))
}

pub struct Gpu {
    stream: sys::CUstream,
    start: sys::CUevent,
    stop: sys::CUevent,
    /// Whether the driver is the one in software, whose times mean nothing.
    pub software: bool,
}

impl Gpu {
    /// The first GPU, with its context current on this thread.
    pub fn open() -> Result<Gpu> {
        Device::Cuda(0).check("benches/cuda.rs").map_err(|e| e.to_string())?;
        // SAFETY: gatefold has found driver and device; nothing here is given back before the process ends. The library stays open,
        // and only whether it has the function is asked.
        unsafe {
            let device = asked("cuDeviceGet", result::device::get(0))?;
            let context = asked("cuDevicePrimaryCtxRetain", result::primary_ctx::retain(device))?;
            asked("cuCtxSetCurrent", result::ctx::set_current(context))?;
            let event = || asked("cuEventCreate", result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT));
            let stream = asked("cuStreamCreate", result::stream::create(result::stream::StreamKind::NonBlocking))?;
            let software = sys::culib().get::<unsafe extern "C" fn()>(b"softgpu_counters\0").is_ok();
            Ok(Gpu { stream, start: event()?, stop: event()?, software })
        }
    }

    pub fn raw_stream(&self) -> *mut c_void {
        self.stream.cast()
    }

    pub fn stream(&self) -> Stream {
        // SAFETY: the stream is one of this device and is never destroyed.
        Stream::Cuda(unsafe { CudaStream::from_raw(0, self.stream.cast()) })
    }

    pub fn synchronize(&self) -> Result<()> {
        asked("cuCtxSynchronize", result::ctx::synchronize())
    }

    /// How long the GPU takes from before the first of `times` calls to behind the last.
    pub fn time(&self, times: u64, mut call: impl FnMut() -> Result<()>) -> Result<Duration> {
        // SAFETY: events and stream live as long as the process.
        unsafe {
            asked("cuEventRecord", result::event::record(self.start, self.stream))?;
            (0..times).try_for_each(|_| call())?;
            asked("cuEventRecord", result::event::record(self.stop, self.stream))?;
            asked("cuStreamSynchronize", result::stream::synchronize(self.stream))?;
            let milliseconds = asked("cuEventElapsedTime", result::event::elapsed(self.start, self.stop))?;
            Ok(Duration::from_secs_f64(f64::from(milliseconds) * 1e-3))
        }
    }

    /// Memory that holds NaNs.
    pub fn memory(&self, len: usize, dtype: DType) -> Result<Memory> {
        let bytes = len * dtype.size();
        // SAFETY: a context is current, and 0 is not asked for.
        let address = asked(&format!("cuMemAlloc of {bytes} bytes"), unsafe { result::malloc_sync(bytes.max(1)) })?;
        let memory = Memory { address, len, dtype };
        self.poison(&memory)?;
        // Copies from the host do not come in the stream's order.
        self.synchronize()?;
        Ok(memory)
    }

    pub fn bytes(&self, bytes: usize) -> Result<Memory> {
        self.memory(bytes.div_ceil(4), DType::F32)
    }

    /// Numbers in -scale..scale; after a million and some they come again.
    pub fn random(&self, len: usize, dtype: DType, scale: f32, seed: u64) -> Result<Memory> {
        let memory = self.memory(len, dtype)?;
        let mut rng = Philox::seed(seed);
        let values: Vec<f32> = (0..len.min(1_048_583)).map(|_| scale * (2.0 * rng.uniform() - 1.0)).collect();
        match dtype {
            DType::F32 => self.repeat(&memory, &values)?,
            DType::F16 => self.repeat(&memory, &values.iter().map(|&v| f16::from_f32(v)).collect::<Vec<_>>())?,
            DType::BF16 => self.repeat(&memory, &values.iter().map(|&v| bf16::from_f32(v)).collect::<Vec<_>>())?,
            other => return Err(format!("no random numbers of {other} here")),
        }
        self.synchronize()?;
        Ok(memory)
    }

    fn repeat<T: Element>(&self, memory: &Memory, values: &[T]) -> Result<()> {
        for first in (0..memory.len).step_by(values.len()) {
            let part = &values[..values.len().min(memory.len - first)];
            // SAFETY: the part ends where the memory ends, at the latest; the copy has left the host's memory when it returns.
            asked("cuMemcpyHtoD", unsafe { result::memcpy_htod_sync(memory.at(first), part) })?;
        }
        Ok(())
    }

    pub fn poison(&self, memory: &Memory) -> Result<()> {
        self.set(memory, 0xff)
    }

    pub fn clear(&self, memory: &Memory) -> Result<()> {
        self.set(memory, 0)
    }

    fn set(&self, memory: &Memory, byte: u8) -> Result<()> {
        // SAFETY: the memory has so many bytes and lives until the stream was waited for, which dropping it does.
        asked("cuMemsetD8Async", unsafe {
            result::memset_d8_async(memory.address, byte, memory.bytes().max(1), self.stream)
        })
    }

    /// Copies `len` elements of memory to the place of an address.
    ///
    /// # Safety
    /// Both stretches are memory of this GPU.
    pub unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        asked("cuMemcpyDtoDAsync", unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream) })
    }

    pub fn download(&self, memory: &Memory) -> Result<Vec<f32>> {
        self.synchronize()?;
        match memory.dtype {
            DType::F16 => self.to_host(memory, f16::from_f32(0.0), f16::to_f32),
            DType::BF16 => self.to_host(memory, bf16::from_f32(0.0), bf16::to_f32),
            _ => self.to_host(memory, 0f32, |v| v),
        }
    }

    fn to_host<T: Element>(&self, memory: &Memory, zero: T, wide: impl Fn(T) -> f32) -> Result<Vec<f32>> {
        let mut host = vec![zero; memory.len];
        // SAFETY: as many elements of that type as the memory holds.
        asked("cuMemcpyDtoH", unsafe { result::memcpy_dtoh_sync(&mut host, memory.address) })?;
        Ok(host.into_iter().map(wide).collect())
    }
}

/// A stretch of the GPU's memory.
pub struct Memory {
    pub address: u64,
    pub len: usize,
    pub dtype: DType,
}

impl Memory {
    pub fn bytes(&self) -> usize {
        self.len * self.dtype.size()
    }

    pub fn at(&self, element: usize) -> u64 {
        self.address + (element * self.dtype.size()) as u64
    }

    pub fn pointer(&self) -> *mut c_void {
        self.address as *mut c_void
    }

    /// For a plan. What is written through it is written by one plan at a time, in the order of one stream.
    pub fn buf(&self) -> CudaBuf<'_> {
        // SAFETY: an allocation of this size in the device's primary context, aligned to 256 bytes; dropping it waits for the GPU.
        unsafe { CudaBuf::new(0, self.address, self.len, self.dtype) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // What cannot be given back here was lost with the context.
        let _ = result::ctx::synchronize();
        // SAFETY: the address is the allocation's, and nothing that was queued uses it any more.
        let _ = unsafe { result::free_sync(self.address) };
    }
}
