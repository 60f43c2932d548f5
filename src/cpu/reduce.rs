//! Reductions over one axis, and over everything.

use super::{
    Buffer, Dims,
    real::{Real, Store},
};
use crate::{
    dtype::{Element, with_dtype},
    error::Result,
    kernel::Reduce,
};

/// `[outer, n, inner]` → `[outer, inner]`
pub fn reduce(op: Reduce, (outer, n, inner): Dims, x: &Buffer, y: &mut Buffer) -> Result<()> {
    with_dtype!(float "reduce", y.dtype(), T => {
        let (x, y) = (x.slice::<T>(), y.slice_mut::<T>());
        for o in 0..outer {
            for i in 0..inner {
                let column = (0..n).map(|j| x[(o * n + j) * inner + i].widen());
                let zero = <T as Store>::Real::ZERO;
                y[o * inner + i] = T::narrow(match op {
                    Reduce::Sum => column.fold(zero, |a, x| a + x),
                    Reduce::Mean => column.fold(zero, |a, x| a + x) / <T as Store>::Real::of(n as f64),
                    Reduce::Max => column.fold(<T as Store>::Real::NEG_INFINITY, greater),
                });
            }
        }
        Ok(())
    })
}

/// The greater of two; NaN if either is.
#[inline(always)]
fn greater<R: Real>(a: R, x: R) -> R {
    if x > a || x.is_nan() { x } else { a }
}

/// Index of the first NaN, else of the first maximum.
pub fn arg_max((outer, n, inner): Dims, x: &Buffer, index: &mut Buffer) -> Result<()> {
    let index = index.slice_mut::<i64>();
    with_dtype!(float "arg_max", x.dtype(), T => {
        let x = x.slice::<T>();
        for o in 0..outer {
            for i in 0..inner {
                let mut best = 0;
                let at = |j: usize| x[(o * n + j) * inner + i].widen();
                for j in 1..n {
                    if !at(best).is_nan() && (at(j) > at(best) || at(j).is_nan()) {
                        best = j;
                    }
                }
                index[o * inner + i] = best as i64;
            }
        }
        Ok(())
    })
}

/// dx = 0 but at the index, where it is dy.
pub fn scatter_axis((_, n, inner): Dims, index: &Buffer, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
    let index = index.slice::<i64>();
    with_dtype!(float "scatter_axis", dx.dtype(), T => {
        let (dy, dx) = (dy.slice::<T>(), dx.slice_mut::<T>());
        dx.fill(T::default());
        for (i, (&j, &dy)) in index.iter().zip(dy).enumerate() {
            dx[((i / inner) * n + j as usize) * inner + i % inner] = dy;
        }
        Ok(())
    })
}

/// The least and greatest index.
pub fn index_range(index: &Buffer) -> Result<Option<(i64, i64)>> {
    let range = |(low, high): (i64, i64), &i: &i64| (low.min(i), high.max(i));
    let index = index.slice::<i64>();
    Ok(index.first().map(|&first| index.iter().fold((first, first), range)))
}

/// Σ x² in f64.
pub fn sum_of_squares(x: &Buffer) -> Result<f64> {
    with_dtype!(float "sum_of_squares", x.dtype(), T => {
        Ok(x.slice::<T>().iter().map(|x| x.to_f64() * x.to_f64()).sum())
    })
}
