//! The norm of a list of tensors as if they were one vector, and their clipping.

use super::{Buffer, real::*, reduce, simd, split};
use crate::{dtype::with_dtype, error::Result};

pub fn norm(p: f64, max_norm: f64, xs: &[&Buffer], norm: &mut Buffer, factor: &mut Buffer) -> Result<()> {
    let mut value = 0.0;
    for x in xs {
        if p == f64::INFINITY {
            value = reduce::greater(value, reduce::greatest_magnitude(x)?);
        } else if p == 2.0 {
            value += reduce::sum_of_squares(x)?;
        } else {
            value += reduce::sum_of_powers(p, x)?;
        }
    }
    let value = if p == f64::INFINITY {
        value
    } else if p == 2.0 {
        value.sqrt()
    } else {
        value.powf(1.0 / p)
    };
    norm.slice_mut::<f64>()[0] = value;
    let ratio = max_norm / (value + 1e-6);
    factor.slice_mut::<f64>()[0] = if ratio > 1.0 { 1.0 } else { ratio };
    Ok(())
}

pub fn scale_each(factor: &Buffer, xs: &mut [&mut Buffer]) -> Result<()> {
    let factor = factor.slice::<f64>()[0];
    if factor == 1.0 {
        return Ok(());
    }
    xs.iter_mut().try_for_each(|x| {
        with_dtype!(float "scale_each", x.dtype(), T => {
            let factor = <T as Store>::Real::of(factor);
            change::<T>(x.slice_mut(), #[inline(always)] |x| x * factor);
            Ok(())
        })
    })
}

pub fn clamp_each(low: f64, high: f64, xs: &mut [&mut Buffer]) -> Result<()> {
    xs.iter_mut().try_for_each(|x| {
        with_dtype!(float "clamp_each", x.dtype(), T => {
            let (low, high) = (<T as Store>::Real::of(low), <T as Store>::Real::of(high));
            // Comparisons with NaN are false: it takes the arm that is x.
            change::<T>(x.slice_mut(), #[inline(always)] |x| {
                let x = if x < low { low } else { x };
                if x > high { high } else { x }
            });
            Ok(())
        })
    })
}

/// x = f(x)
fn change<T: Store>(x: &mut [T], f: impl Fn(T::Real) -> T::Real + Copy + Sync) {
    split::over(x, |_, x| {
        simd::vectorize(
            #[inline(always)]
            move || {
                for x in x {
                    *x = T::narrow(f(x.widen()));
                }
            },
        );
    });
}
