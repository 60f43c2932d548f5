//! What Philox words become: the CPU's bits.

use super::{Buffer, abi, launch::float, memory};
use crate::{capture, cpu, dtype::with_dtype, error::Result, kernel::Distribution};

pub fn dropout(seed: u64, stream: u64, p: f64, x: &Buffer, y: &mut Buffer) -> Result<()> {
    let (context, name) = (y.context(), float("dropout", y.dtype())?);
    if p <= 0.0 {
        return memory::cast(x, y);
    }
    if p >= 1.0 {
        return memory::fill(0.0, y);
    }
    let drawn = capture::drawn_at("dropout", seed, stream)?.unwrap_or(0);
    let parameters = abi::Dropout {
        x: x.address(),
        y: y.address(),
        first: 0,
        count: y.len() as u64,
        seed,
        seed_at: drawn,
        stream,
        stream_at: if drawn == 0 { 0 } else { drawn + 8 },
        p,
        scale: 1.0 / (1.0 - p),
    };
    context.launch("dropout", name, &context.spread(y.len().div_ceil(4)), &parameters)
}

/// Seeds and streams of the masks of a captured step's next replay, from what was drawn: see `DrawMasks` in `kernels/abi.h`.
pub fn draw_masks(draws: &Buffer, drawn: &mut Buffer) -> Result<()> {
    let (context, count) = (drawn.context(), drawn.len() / 2);
    let p = abi::DrawMasks { draws: draws.address(), drawn: drawn.address(), count: count as u64 };
    context.launch("draw_masks", "", &context.spread(count), &p)
}

pub fn random(distribution: Distribution, seed: u64, stream: u64, y: &mut Buffer) -> Result<()> {
    capture::refuse("random", "random numbers")?;
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
            with_dtype!(float "random", y.dtype(), T => memory::write(host.slice::<T>(), y))
        }
    }
}
