//! Where tensors live and kernels run.
//!
//! ```
//! use gatefold::{Device, Tensor};
//! let device = Device::best(); // a GPU where there is one
//! let x = Tensor::new([1.0f32, 2.0], &device)?.to_device(&Device::Cpu)?;
//! assert_eq!(x.to_vec::<f32>()?, [1.0, 2.0]);
//! let named: Device = "cuda:1".parse()?;
//! assert_eq!(named, Device::Cuda(1));
//! if let Err(error) = named.check("my program") {
//!     println!("{error}"); // which of build, driver and device is missing
//! }
//! # Ok::<(), gatefold::Error>(())
//! ```

use std::{fmt, str::FromStr};

#[cfg(feature = "cuda")]
use crate::cuda::Cuda;
use crate::error::{Error, Result};

/// A place where tensors live and kernels run.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// The processor of the host.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its ordinal.
    Cuda(usize),
}

/// What a GPU's memory has been asked for.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryStats {
    /// Bytes in use now, as rounded up by the allocator.
    pub allocated_bytes: usize,
    /// The most bytes in use at once so far.
    pub peak_allocated_bytes: usize,
    /// Bytes that the driver has handed out: those in use, and those kept to be used again.
    pub reserved_bytes: usize,
    /// How often memory was asked for.
    pub allocations: u64,
    /// How often the driver had to be asked for it.
    pub driver_allocations: u64,
    /// Bytes of pinned host memory through which copies between host and device pass: in use, and kept to be used again.
    pub pinned_bytes: usize,
    /// How often the driver had to be asked for pinned memory.
    pub pinned_allocations: u64,
}

impl Device {
    /// The fastest device that this build and this machine have: the first GPU where the crate was built with its feature
    /// `cuda`, a driver and a device are there and the kernels run on it, else the CPU.
    pub fn best() -> Self {
        let gpu = Device::Cuda(0);
        if gpu.check("Device::best").is_ok() { gpu } else { Device::Cpu }
    }

    /// `Ok` when this build and this machine can run on it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for a CUDA device, with what to do: the crate was built without the feature `cuda` or without
    /// its kernels, or there is no driver, no such device, or none that the kernels were built for.
    pub fn check(self, op: &'static str) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            #[cfg(feature = "cuda")]
            Device::Cuda(ordinal) => Cuda::open(op, ordinal).map(drop),
            #[cfg(not(feature = "cuda"))]
            other => Err(other.unbuilt(op)),
        }
    }

    /// Waits for everything that was queued on it, and tells what its kernels met: an index out of range is noted by the
    /// kernel that saw it and told here, or by the next call that reads a tensor.
    ///
    /// # Errors
    /// As [`check`](Self::check), and [`Error::Argument`] for what the kernels met.
    pub fn synchronize(self) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            #[cfg(feature = "cuda")]
            Device::Cuda(ordinal) => Cuda::open("synchronize", ordinal)?.synchronize("synchronize"),
            #[cfg(not(feature = "cuda"))]
            other => Err(other.unbuilt("synchronize")),
        }
    }

    /// What a GPU's memory has been asked for.
    ///
    /// # Errors
    /// As [`check`](Self::check), and for the CPU, of which there are no statistics.
    pub fn memory_stats(self) -> Result<MemoryStats> {
        const OP: &str = "memory_stats";
        match self {
            Device::Cpu => Err(Error::Unavailable {
                op: OP,
                what: "the memory of the cpu".into(),
                reason: "statistics are kept of GPUs only".into(),
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda(ordinal) => Cuda::open(OP, ordinal).map(Cuda::memory_stats),
            #[cfg(not(feature = "cuda"))]
            other => Err(other.unbuilt(OP)),
        }
    }

    /// Gives memory of a GPU, and the pinned host memory beside it, that is kept to be used again back to the driver. Waits
    /// for the device. On the CPU: what dropped tensors have left, up to 1 GiB, back to the system; but for what other threads keep of small
    /// ones for themselves, each at most 16 MiB, and as much of packing space.
    ///
    /// In a process with `GATEFOLD_NO_CUDA_MEMORY_CACHING=1` nothing on a GPU is kept: each buffer is an allocation of the driver's
    /// own, of its exact size, for memory checkers. It needs a driver with memory pools and is slow.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn release_memory(self) -> Result<()> {
        match self {
            Device::Cpu => {
                crate::shared::release();
                Ok(())
            }
            #[cfg(feature = "cuda")]
            Device::Cuda(ordinal) => Cuda::open("release_memory", ordinal)?.release_memory("release_memory"),
            #[cfg(not(feature = "cuda"))]
            other => Err(other.unbuilt("release_memory")),
        }
    }

    /// Whether products of f32 on a GPU may round their factors to TF32 (10 bits), for speed. Not unless this says so.
    ///
    /// On a CPU that has AMX, products of recurrent layers, and sums over rows as every large weight's gradient is, take factors of 16 bits
    /// then, as the sums of two numbers of bf16 and in half as many products, wherever they are made in tiles; this is what PyTorch calls the
    /// precision "high". It holds for the whole process. On others nothing changes, nor do any results elsewhere.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn allow_tf32(self, allow: bool) -> Result<()> {
        match self {
            Device::Cpu => {
                crate::cpu::gemm::allow_rough(allow);
                Ok(())
            }
            #[cfg(feature = "cuda")]
            Device::Cuda(ordinal) => {
                Cuda::open("allow_tf32", ordinal)?.allow_tf32(allow);
                Ok(())
            }
            #[cfg(not(feature = "cuda"))]
            other => Err(other.unbuilt("allow_tf32")),
        }
    }

    /// Whether recurrent layers on a GPU may capture their launches as a CUDA graph, which a call of the same shape in the same
    /// memory then replays with one launch. They may unless this says otherwise. Nothing on the CPU.
    ///
    /// While launches are captured, which a call does without saying so, the driver lets nobody wait for the whole device: another
    /// thread's `cudaDeviceSynchronize` or `cuCtxSynchronize` then fails with `CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED` and ends the
    /// capture. The layer's call is computed without it, and a later one is captured. Programs whose other threads, or other libraries,
    /// wait so should forbid graphs, or wait for streams; [`synchronize`](Self::synchronize) and everything else of this crate is
    /// safe to call.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "there is no GPU to allow it"))]
    pub fn allow_graphs(self, allow: bool) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            #[cfg(feature = "cuda")]
            Device::Cuda(ordinal) => {
                Cuda::open("allow_graphs", ordinal)?.allow_graphs(allow);
                Ok(())
            }
            #[cfg(not(feature = "cuda"))]
            other => Err(other.unbuilt("allow_graphs")),
        }
    }

    /// Whether [`Algorithm::Auto`](crate::recurrent::Algorithm::Auto) may choose persistent kernels on a GPU. It may unless this
    /// says otherwise. Nothing on the CPU.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "there is no GPU to allow it"))]
    pub fn allow_persistent(self, allow: bool) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            #[cfg(feature = "cuda")]
            Device::Cuda(ordinal) => {
                Cuda::open("allow_persistent", ordinal)?.allow_persistent(allow);
                Ok(())
            }
            #[cfg(not(feature = "cuda"))]
            other => Err(other.unbuilt("allow_persistent")),
        }
    }

    #[cfg(not(feature = "cuda"))]
    pub(crate) fn unbuilt(self, op: &'static str) -> Error {
        Error::Unavailable {
            op,
            what: self.to_string(),
            reason: "gatefold was built without its feature `cuda`; build with it, or use Device::Cpu".into(),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// Reads `cpu`, `cuda`, `cuda:N` or `best`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::argument("Device::from_str", format!("{text:?}"), "cpu, cuda, cuda:N or best");
        match text {
            "cpu" => Ok(Device::Cpu),
            "best" => Ok(Device::best()),
            "cuda" => Ok(Device::Cuda(0)),
            _ => {
                let ordinal = text.strip_prefix("cuda:").ok_or_else(wrong)?;
                Ok(Device::Cuda(ordinal.parse().map_err(|_| wrong())?))
            }
        }
    }
}
