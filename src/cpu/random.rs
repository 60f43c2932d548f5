//! What Philox words become: masks, uniform and normal numbers.

use super::{
    Buffer,
    real::{Real, Store},
};
use crate::{
    dtype::{DType, Element, with_dtype},
    error::Result,
    kernel::Distribution,
    rng,
};

/// y = x/(1−p) where the uniform of its word is at least p, else 0.
pub fn dropout(seed: u64, stream: u64, p: f64, x: &Buffer, y: &mut Buffer) -> Result<()> {
    with_dtype!(float "dropout", y.dtype(), T => {
        dropout_slice::<T>(seed, stream, p, x.slice::<T>(), y.slice_mut::<T>());
        Ok(())
    })
}

/// [`dropout`] over slices, for the recurrent layers.
pub fn dropout_slice<T: Store>(seed: u64, stream: u64, p: f64, x: &[T], y: &mut [T]) {
    let zero = <T as Store>::Real::ZERO;
    let scale = if p < 1.0 { <T as Store>::Real::of(1.0 / (1.0 - p)) } else { zero };
    for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
        let keep = rng::unit(rng::word(seed, stream, i as u64)) >= p as f32;
        *y = T::narrow(if keep { x.widen() * scale } else { zero });
    }
}

/// Fills from a distribution.
pub fn random(distribution: Distribution, seed: u64, stream: u64, y: &mut Buffer) -> Result<()> {
    let word = |i: usize| rng::word(seed, stream, i as u64);
    with_dtype!(float "random", y.dtype(), T => {
        let wide = T::DTYPE == DType::F64;
        let double = |i: usize| {
            ((word(2 * i) as u64 | (word(2 * i + 1) as u64) << 32) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
        };
        for (i, y) in y.slice_mut::<T>().iter_mut().enumerate() {
            *y = match distribution {
                Distribution::Uniform { low, high } => {
                    let unit = if wide { double(i) } else { rng::unit(word(i)) as f64 };
                    T::from_f64(low + unit * (high - low))
                }
                Distribution::Normal { mean, std } => {
                    let pair = i & !1;
                    let (u, v) = if wide {
                        (double(pair), double(pair + 1))
                    } else {
                        let unit = |i| word(i) as f64 * (1.0 / 4_294_967_296.0);
                        (unit(pair), unit(pair + 1))
                    };
                    let radius = (-2.0 * (1.0 - u).ln()).sqrt();
                    let (sin, cos) = (std::f64::consts::TAU * v).sin_cos();
                    T::from_f64(mean + std * radius * if i == pair { cos } else { sin })
                }
            };
        }
        Ok(())
    })
}
