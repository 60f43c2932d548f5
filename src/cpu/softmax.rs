//! softmax and its logarithm along one axis.

use std::ops::Range;

use super::{
    Buffer, Dims,
    real::{Real, Store},
    reduce::{self, greater},
    simd::vectorize,
    split::{self, PARALLEL, PIECE, Shared},
};
#[cfg(target_arch = "x86_64")]
use super::{
    lanes,
    simd::{Isa, isa},
};
#[cfg(target_arch = "x86_64")]
use crate::dtype::DType;
use crate::{
    dtype::{Element, with_dtype},
    error::Result,
};

/// Elements, or rows of columns, whose sum is formed before it is added to that of the row.
const BLOCK: usize = 1024;
const BLOCK_ROWS: usize = 64;
/// Numbers of a row from which on four vectors at a time pay.
#[cfg(target_arch = "x86_64")]
const WIDE: usize = 32;
/// Columns that are normalised at once.
const TILE: usize = 128;

/// y = softmax(x) along n.
pub fn softmax(log: bool, (_, n, inner): Dims, x: &Buffer, y: &mut Buffer) -> Result<()> {
    with_dtype!(float "softmax", y.dtype(), T => {
        let x = x.slice::<T>();
        let size = n * inner;
        if inner > 1 {
            each_tile((x.len(), size, inner), y.slice_mut::<T>(), |at, columns, y| {
                vectorize(
                    #[inline(always)]
                    move || normalise(log, inner, columns, &x[at..at + size], y),
                );
            });
            return Ok(());
        }
        split::rows(y.slice_mut::<T>(), size, size, |first, y| {
            let x = &x[first * size..][..y.len()];
            #[cfg(target_arch = "x86_64")]
            if T::DTYPE == DType::F32 && isa() >= Isa::Avx512 && size >= WIDE {
                let (x, y) = (bytemuck::cast_slice(x), bytemuck::cast_slice_mut(y));
                for (x, y) in x.chunks_exact(size).zip(y.chunks_exact_mut(size)) {
                    // SAFETY: the processor has it.
                    unsafe { lanes::softmax(log, x, y) };
                }
                return;
            }
            vectorize(
                #[inline(always)]
                move || {
                    for (x, y) in x.chunks_exact(size).zip(y.chunks_exact_mut(size)) {
                        if log { log_row(x, y) } else { row(x, y) }
                    }
                },
            );
        });
        Ok(())
    })
}

/// Columns of one matrix to write.
struct Columns<T> {
    all: Shared<T>,
    /// The first number of the first row.
    at: usize,
    pitch: usize,
    width: usize,
}

impl<T> Columns<T> {
    /// Those of a row.
    #[inline(always)]
    fn row(&mut self, row: usize) -> &mut [T] {
        // SAFETY: rows of columns that `each_tile` gave to one task alone, which has one row at a time.
        unsafe { self.all.part(self.at + row * self.pitch, self.width) }
    }
}

/// Calls `f` with where a matrix `[n, inner]` begins, which of its columns, and those of `y`, for all tiles of all of `len / size` matrices.
fn each_tile<T: Send + Sync>(
    (len, size, inner): (usize, usize, usize),
    y: &mut [T],
    f: impl Fn(usize, Range<usize>, Columns<T>) + Sync,
) {
    if len == 0 {
        return;
    }
    let (all, tiles) = (Shared::new(y), inner.div_ceil(TILE));
    let task = |task: usize| {
        let (at, first) = (task / tiles * size, task % tiles * TILE);
        let width = TILE.min(inner - first);
        f(at, first..first + width, Columns { all, at: at + first, pitch: inner, width });
    };
    let count = len / size * tiles;
    // Small tiles go together.
    let group = (PIECE * count / len).max(1);
    if len < PARALLEL {
        (0..count).for_each(task);
    } else {
        split::tasks(count.div_ceil(group), &|k| (k * group..count.min((k + 1) * group)).for_each(task));
    }
}

#[inline(always)]
fn max_of<T: Store>(x: &[T]) -> T::Real {
    reduce::lanes(
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
        sum += reduce::lanes(
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

/// Some columns of an `[n, inner]` matrix, at most a tile.
#[inline(always)]
fn normalise<T: Store>(log: bool, inner: usize, columns: Range<usize>, x: &[T], mut y: Columns<T>) {
    let mut max = [T::Real::NEG_INFINITY; TILE];
    for x in x.chunks_exact(inner) {
        for (max, x) in max.iter_mut().zip(&x[columns.clone()]) {
            *max = greater(*max, x.widen());
        }
    }
    // Where y holds the exponentials without loss they are computed once.
    let kept = !log && T::DTYPE == T::Real::DTYPE;
    let mut sum = [T::Real::ZERO; TILE];
    for (block, x) in x.chunks(BLOCK_ROWS * inner).enumerate() {
        let mut part = [T::Real::ZERO; TILE];
        for (j, x) in x.chunks_exact(inner).enumerate() {
            let x = &x[columns.clone()];
            if kept {
                let y = y.row(block * BLOCK_ROWS + j);
                for (((part, max), x), y) in part.iter_mut().zip(&max).zip(x).zip(y) {
                    let value = (x.widen() - *max).exp();
                    *y = T::narrow(value);
                    *part += value;
                }
            } else {
                for ((part, max), x) in part.iter_mut().zip(&max).zip(x) {
                    *part += (x.widen() - *max).exp();
                }
            }
        }
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    for sum in &mut sum[..columns.len()] {
        *sum = if log { sum.ln() } else { T::Real::ONE / *sum };
    }
    for (j, x) in x.chunks_exact(inner).enumerate() {
        let y = y.row(j);
        if kept {
            y.iter_mut().zip(&sum).for_each(|(y, sum)| *y = T::narrow(y.widen() * *sum));
            continue;
        }
        for (y, ((x, max), sum)) in y.iter_mut().zip(x[columns.clone()].iter().zip(&max).zip(&sum)) {
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
        if inner > 1 {
            each_tile((y.len(), size, inner), dx.slice_mut::<T>(), |at, columns, dx| {
                vectorize(
                    #[inline(always)]
                    move || columns_backward(log, inner, columns, (&y[at..at + size], &dy[at..at + size]), dx),
                );
            });
            return Ok(());
        }
        split::rows(dx.slice_mut::<T>(), size, size, |first, dx| {
            let from = first * size..first * size + dx.len();
            let rows = y[from.clone()].chunks_exact(size).zip(dy[from].chunks_exact(size));
            vectorize(
                #[inline(always)]
                move || {
                    for (dx, (y, dy)) in dx.chunks_exact_mut(size).zip(rows) {
                        row_backward(log, y, dy, dx);
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
fn columns_backward<T: Store>(
    log: bool,
    inner: usize,
    columns: Range<usize>,
    (y, dy): (&[T], &[T]),
    mut dx: Columns<T>,
) {
    let mut sum = [T::Real::ZERO; TILE];
    for (y, dy) in y.chunks(BLOCK_ROWS * inner).zip(dy.chunks(BLOCK_ROWS * inner)) {
        let mut part = [T::Real::ZERO; TILE];
        for (y, dy) in y.chunks_exact(inner).zip(dy.chunks_exact(inner)) {
            for ((part, &y), &dy) in part.iter_mut().zip(&y[columns.clone()]).zip(&dy[columns.clone()]) {
                *part += term(log, y, dy);
            }
        }
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    for (j, (y, dy)) in y.chunks_exact(inner).zip(dy.chunks_exact(inner)).enumerate() {
        let given = y[columns.clone()].iter().zip(&dy[columns.clone()]).zip(&sum);
        for (dx, ((&y, &dy), &sum)) in dx.row(j).iter_mut().zip(given) {
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
        for (log, inner, n) in [(false, 1, 3), (true, 1, 3), (false, 1, 70), (true, 1, 70), (false, 3, 3), (true, 3, 3)]
        {
            // Rows that vectors take are filled up with what adds nothing.
            let run = |row: [f64; 3]| {
                let row: Vec<_> = row.into_iter().chain(vec![no; n - 3]).flat_map(|v| vec![v; inner]).collect();
                let mut y = stale(DType::F32, row.len());
                softmax(log, (1, n, inner), &buffer(DType::F32, &row), &mut y).unwrap();
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
