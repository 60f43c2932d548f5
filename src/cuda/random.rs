//! What Philox words become: the CPU's bits.

use super::{Buffer, abi, launch::float, memory};
use crate::{
    cpu,
    dtype::{DType, Element, with_dtype},
    error::Result,
    kernel::Distribution,
};

pub fn dropout(seed: u64, stream: u64, p: f64, x: &Buffer, y: &mut Buffer) -> Result<()> {
    let (context, name) = (y.context(), float("dropout", y.dtype())?);
    if p <= 0.0 {
        return memory::cast(x, y);
    }
    if p >= 1.0 {
        return memory::fill(0.0, y);
    }
    let parameters = abi::Dropout {
        x: x.address(),
        y: y.address(),
        first: 0,
        count: y.len() as u64,
        seed,
        seed_at: 0,
        stream,
        p,
        scale: 1.0 / (1.0 - p),
    };
    context.launch("dropout", name, &context.spread(y.len().div_ceil(4)), &parameters)
}

pub fn random(distribution: Distribution, seed: u64, stream: u64, y: &mut Buffer) -> Result<()> {
    let (context, name) = (y.context(), float("random", y.dtype())?);
    match distribution {
        Distribution::Uniform { low, high } => {
            let last = with_dtype!(float "random", y.dtype(), T => Ok(cpu::random::last::<T>(low, high)))?;
            let p = abi::Uniform { y: y.address(), count: y.len() as u64, seed, stream, low, span: high - low, last };
            context.launch("uniform", name, &context.spread(y.len().div_ceil(4)), &p)
        }
        // Logarithm, sine and cosine differ in their last bits from one library to another: initial weights are drawn by the
        // host, so that a seed has one meaning.
        Distribution::Normal { .. } => {
            let mut host = cpu::Buffer::new(y.dtype(), y.len())?;
            cpu::random::random(distribution, seed, stream, &mut host)?;
            with_dtype!(float "random", y.dtype(), T => upload(host.slice::<T>(), y))
        }
    }
}

fn upload<T: Element>(host: &[T], y: &mut Buffer) -> Result<()> {
    debug_assert!(matches!(T::DTYPE, DType::F64 | DType::F32 | DType::F16 | DType::BF16));
    let context = y.context();
    context.staging.upload(&context.handles, "random", bytemuck::cast_slice(host), y.address())
}
