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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cpu::{split::PARALLEL, testing::*},
        dtype::DType,
    };

    const SHAPES: [Dims; 14] = [
        (1, 1, 1),
        (3, 5, 1),
        (3, 16, 1),
        (2, 65, 1),
        (2, 257, 1),
        (2, 3000, 1),
        (1, PARALLEL + 3, 1),
        (9000, 9, 1),
        (2, 3, 4),
        (2, 130, 17),
        (3, 10, 300),
        (300, 10, 33),
        (0, 4, 1),
        (2, 3, 0),
    ];

    /// The places of each column.
    fn columns_of((outer, n, inner): Dims) -> impl Iterator<Item = Vec<usize>> {
        (0..outer * inner).map(move |c| (0..n).map(|j| (c / inner * n + j) * inner + c % inner).collect())
    }

    #[test]
    fn forward_and_backward() {
        let cases = FLOATS.into_iter().flat_map(|d| SHAPES.map(|s| (d, s)));
        for (dtype, dims, log) in cases.flat_map(|(d, s)| [(d, s, false), (d, s, true)]) {
            let n = dims.0 * dims.1 * dims.2;
            let (x, dy) = (buffer(dtype, &numbers(n, 1)), buffer(dtype, &numbers(n, 2)));
            let (mut y, mut dx) = (stale(dtype, n), stale(dtype, n));
            softmax(log, dims, &x, &mut y).unwrap();
            softmax_backward(log, dims, &y, &dy, &mut dx).unwrap();

            let (x, dy, given) = (read(&x), read(&dy), read(&y));
            let (mut want, mut gradient, mut scale) = (vec![0.0; n], vec![0.0; n], 0.0f64);
            for column in columns_of(dims) {
                let total = sum(column.iter().map(|&i| x[i].exp()));
                let dot = sum(column.iter().map(|&i| if log { dy[i] } else { given[i] * dy[i] }));
                for &i in &column {
                    want[i] = if log { x[i] - total.ln() } else { x[i].exp() / total };
                    gradient[i] = if log { dy[i] - given[i].exp() * dot } else { given[i] * (dy[i] - dot) };
                    scale = scale.max(gradient[i].abs());
                }
            }
            close(&y, &want, 8.0, &(dtype, dims, log));
            let ulp = [1e-15, 5e-7, 2e-3, 1.6e-2][FLOATS.iter().position(|&d| d == dtype).unwrap()];
            let far = read(&dx).iter().zip(&gradient).any(|(got, want)| (got - want).abs() > 16.0 * ulp * scale);
            assert!(!far, "backward {dtype} {dims:?} {log}");
        }
    }

    #[test]
    fn infinities() {
        let (no, yes) = (f64::NEG_INFINITY, f64::INFINITY);
        for (log, inner) in [(false, 1), (true, 1), (false, 3), (true, 3)] {
            let run = |row: [f64; 3]| {
                let row: Vec<_> = row.iter().flat_map(|&v| vec![v; inner]).collect();
                let mut y = stale(DType::F32, row.len());
                softmax(log, (1, 3, inner), &buffer(DType::F32, &row), &mut y).unwrap();
                read(&y).into_iter().step_by(inner).collect::<Vec<_>>()
            };
            assert!(run([no, no, no]).iter().all(|v| v.is_nan()));
            assert!(run([0.0, yes, 0.0])[1].is_nan());
            assert!(run([0.0, f64::NAN, 0.0]).iter().all(|v| v.is_nan()));
            let y = run([1e30, no, -1e30]);
            assert_eq!(y[0], f64::from(!log));
            assert_eq!(y[1], if log { no } else { 0.0 });
        }
    }

    #[test]
    fn threads_do_not_matter() {
        let x = buffer(DType::F32, &numbers(PARALLEL * 2, 3));
        for dims in [(PARALLEL / 16, 32, 1), (PARALLEL / 1024, 64, 32)] {
            same_on_any_threads(|| {
                let mut y = stale(DType::F32, x.len());
                softmax(false, dims, &x, &mut y).unwrap();
                y
            });
        }
    }
}
