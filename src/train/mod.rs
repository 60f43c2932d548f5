//! What a training program needs around the kernels.

mod captured_step;
mod prefetch;

pub use captured_step::CapturedStep;
pub use prefetch::Prefetch;
