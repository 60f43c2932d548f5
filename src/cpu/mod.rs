//! The CPU backend.

mod buffer;
pub mod gemm;
pub mod real;
pub mod simd;
mod stub;

pub use buffer::Buffer;

/// The host's processor.
#[derive(Debug, Clone, Copy)]
pub struct Cpu;
