//! softmax and its logarithm along one axis.

use super::{
    Buffer, Dims,
    real::{Real, Store},
    reduce::{greater, lanes},
    simd::vectorize,
    split,
};
use crate::{
    dtype::{Element, with_dtype},
    error::Result,
};

/// Elements, or rows of columns, whose sum is formed before it is added to that of the row.
const BLOCK: usize = 1024;
const BLOCK_ROWS: usize = 64;
/// Columns that are normalised at once.
const TILE: usize = 128;

/// y = softmax(x) along n.
pub fn softmax(log: bool, (_, n, inner): Dims, x: &Buffer, y: &mut Buffer) -> Result<()> {
    with_dtype!(float "softmax", y.dtype(), T => {
        let x = x.slice::<T>();
        let size = n * inner;
        split::rows(y.slice_mut::<T>(), size, size, |first, y| {
            let x = &x[first * size..][..y.len()];
            vectorize(
                #[inline(always)]
                move || {
                    for (x, y) in x.chunks_exact(size).zip(y.chunks_exact_mut(size)) {
                        match (inner, log) {
                            (1, false) => row(x, y),
                            (1, true) => log_row(x, y),
                            _ => {
                                for first in (0..inner).step_by(TILE) {
                                    columns(log, inner, first, x, y);
                                }
                            }
                        }
                    }
                },
            );
        });
        Ok(())
    })
}

#[inline(always)]
fn max_of<T: Store>(x: &[T]) -> T::Real {
    lanes(
        x,
        x,
        T::Real::NEG_INFINITY,
        #[inline(always)]
        |x, _| x.widen(),
        greater,
    )
}

/// Σ get(a, b), block by block.
#[inline(always)]
fn sum_of<T: Store>(a: &[T], b: &[T], get: impl Fn(T, T) -> T::Real + Copy) -> T::Real {
    let mut sum = T::Real::ZERO;
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
        sum += lanes(
            a,
            b,
            T::Real::ZERO,
            get,
            #[inline(always)]
            |a, b| a + b,
        );
    }
    sum
}

#[inline(always)]
fn row<T: Store>(x: &[T], y: &mut [T]) {
    let max = max_of(x);
    if T::DTYPE == T::Real::DTYPE {
        // y holds the exponentials without loss, so they are computed once.
        each(
            x,
            y,
            #[inline(always)]
            |x| (x - max).exp(),
        );
        let scale = T::Real::ONE
            / sum_of(
                y,
                y,
                #[inline(always)]
                |y, _| y.widen(),
            );
        for y in y {
            *y = T::narrow(y.widen() * scale);
        }
    } else {
        let scale = T::Real::ONE
            / sum_of(
                x,
                x,
                #[inline(always)]
                |x, _| (x.widen() - max).exp(),
            );
        each(
            x,
            y,
            #[inline(always)]
            |x| (x - max).exp() * scale,
        );
    }
}

#[inline(always)]
fn log_row<T: Store>(x: &[T], y: &mut [T]) {
    let max = max_of(x);
    let shift = sum_of(
        x,
        x,
        #[inline(always)]
        |x, _| (x.widen() - max).exp(),
    )
    .ln();
    each(
        x,
        y,
        #[inline(always)]
        |x| x - max - shift,
    );
}

#[inline(always)]
fn each<T: Store>(x: &[T], y: &mut [T], f: impl Fn(T::Real) -> T::Real) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = T::narrow(f(x.widen()));
    }
}

/// The columns `first..` of an `[n, inner]` matrix, as many as fit into a tile.
#[inline(always)]
fn columns<T: Store>(log: bool, inner: usize, first: usize, x: &[T], y: &mut [T]) {
    let width = TILE.min(inner - first);
    let mut max = [T::Real::NEG_INFINITY; TILE];
    for x in x.chunks_exact(inner) {
        for (max, x) in max.iter_mut().zip(&x[first..first + width]) {
            *max = greater(*max, x.widen());
        }
    }
    let mut sum = [T::Real::ZERO; TILE];
    for x in x.chunks(BLOCK_ROWS * inner) {
        let mut part = [T::Real::ZERO; TILE];
        for x in x.chunks_exact(inner) {
            for ((part, max), x) in part.iter_mut().zip(&max).zip(&x[first..first + width]) {
                *part += (x.widen() - *max).exp();
            }
        }
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    for sum in &mut sum[..width] {
        *sum = if log { sum.ln() } else { T::Real::ONE / *sum };
    }
    for (x, y) in x.chunks_exact(inner).zip(y.chunks_exact_mut(inner)) {
        let x = x[first..first + width].iter().zip(&max).zip(&sum);
        for (y, ((x, max), sum)) in y[first..first + width].iter_mut().zip(x) {
            let shifted = x.widen() - *max;
            *y = T::narrow(if log { shifted - *sum } else { shifted.exp() * *sum });
        }
    }
}

/// dx from y and dy: y (dy − Σ y dy), or dy − eʸ Σ dy of the logarithm.
pub fn softmax_backward(log: bool, (_, n, inner): Dims, y: &Buffer, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
    with_dtype!(float "softmax_backward", dx.dtype(), T => {
        let (y, dy) = (y.slice::<T>(), dy.slice::<T>());
        let size = n * inner;
        split::rows(dx.slice_mut::<T>(), size, size, |first, dx| {
            let from = first * size..first * size + dx.len();
            let rows = y[from.clone()].chunks_exact(size).zip(dy[from].chunks_exact(size));
            vectorize(
                #[inline(always)]
                move || {
                    for (dx, (y, dy)) in dx.chunks_exact_mut(size).zip(rows) {
                        match inner {
                            1 => row_backward(log, y, dy, dx),
                            _ => {
                                for first in (0..inner).step_by(TILE) {
                                    columns_backward(log, inner, first, (y, dy), dx);
                                }
                            }
                        }
                    }
                },
            );
        });
        Ok(())
    })
}

#[inline(always)]
fn term<T: Store>(log: bool, y: T, dy: T) -> T::Real {
    if log { dy.widen() } else { y.widen() * dy.widen() }
}

#[inline(always)]
fn gradient<T: Store>(log: bool, y: T, dy: T, sum: T::Real) -> T {
    let (y, dy) = (y.widen(), dy.widen());
    T::narrow(if log { dy - y.exp() * sum } else { y * (dy - sum) })
}

#[inline(always)]
fn row_backward<T: Store>(log: bool, y: &[T], dy: &[T], dx: &mut [T]) {
    let sum = sum_of(
        y,
        dy,
        #[inline(always)]
        |y, dy| term(log, y, dy),
    );
    for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
        *dx = gradient(log, y, dy, sum);
    }
}

#[inline(always)]
fn columns_backward<T: Store>(log: bool, inner: usize, first: usize, (y, dy): (&[T], &[T]), dx: &mut [T]) {
    let tile = first..inner.min(first + TILE);
    let mut sum = [T::Real::ZERO; TILE];
    for (y, dy) in y.chunks(BLOCK_ROWS * inner).zip(dy.chunks(BLOCK_ROWS * inner)) {
        let mut part = [T::Real::ZERO; TILE];
        for (y, dy) in y.chunks_exact(inner).zip(dy.chunks_exact(inner)) {
            for ((part, &y), &dy) in part.iter_mut().zip(&y[tile.clone()]).zip(&dy[tile.clone()]) {
                *part += term(log, y, dy);
            }
        }
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    for (dx, (y, dy)) in dx.chunks_exact_mut(inner).zip(y.chunks_exact(inner).zip(dy.chunks_exact(inner))) {
        let given = y[tile.clone()].iter().zip(&dy[tile.clone()]).zip(&sum);
        for (dx, ((&y, &dy), &sum)) in dx[tile.clone()].iter_mut().zip(given) {
            *dx = gradient(log, y, dy, sum);
        }
    }
}
