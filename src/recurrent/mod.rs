//! The raw layer: recurrent networks over memory that the caller owns, with no tensor and no tape.

mod algorithm;
mod buffer;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod descriptor;
mod kept;
mod persistent;
mod plan;

pub use crate::cell::{Cell, Nonlinearity};
pub use algorithm::{Algorithm, Choice, DeviceProperties, choose};
#[cfg(feature = "cuda")]
pub use buffer::CudaBuf;
pub use buffer::{Buf, BufMut};
pub use descriptor::{Descriptor, ParameterKind, ParameterSpec};
pub(crate) use kept::{Keep, KeptWeights};
pub use persistent::{Exchange, PersistentPlan, Tiling};
#[cfg(feature = "cuda")]
pub use plan::CudaStream;
pub use plan::{Backward, Forward, Layout, Plan, Sequence, Shape, Stream};

#[cfg(test)]
mod tests;
