//! Where tensors live and kernels run.

use std::{fmt, str::FromStr};

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

impl Device {
    /// The fastest device that this build and this machine have.
    ///
    /// Today that is always the CPU: no GPU backend is built yet.
    pub fn best() -> Self {
        Device::Cpu
    }

    /// `Ok` when this build and this machine can run on it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for a CUDA device, which this version does not drive.
    pub fn check(self, op: &'static str) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            Device::Cuda(_) => Err(Error::Unavailable {
                op,
                what: self.to_string(),
                reason: "this version of gatefold has no CUDA backend; use Device::Cpu".into(),
            }),
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
