//! Reductions over one axis, and over everything.
//!
//! Sums are pairwise over leaves of fixed size, so their error grows with the logarithm of the length, and their order
//! is a function of the shape alone.

use std::ops::Range;

use super::{
    Buffer, Dims,
    real::{Real, Store},
    simd::vectorize,
    split::{self, PARALLEL, PIECE, Shared},
};
use crate::{
    dtype::{Element, with_dtype},
    error::Result,
    kernel::Reduce,
};

/// Elements, or rows of a column sum, that are joined one after the other.
pub const LEAF: usize = 1024;
const LEAF_ROWS: usize = 32;
/// Columns that are reduced at once.
pub const TILE: usize = 512;

/// How elements become a value and values one value.
pub trait Fold<T>: Copy + Sync {
    type Value: Copy + Send + Sync;
    const START: Self::Value;
    fn get(x: T) -> Self::Value;
    fn join(a: Self::Value, b: Self::Value) -> Self::Value;
}

#[derive(Clone, Copy)]
struct Sum;
#[derive(Clone, Copy)]
pub struct Max;
#[derive(Clone, Copy)]
struct SumOfSquares;
#[derive(Clone, Copy)]
struct Magnitude;

impl<T: Store> Fold<T> for Sum {
    type Value = T::Real;
    const START: T::Real = T::Real::ZERO;
    #[inline(always)]
    fn get(x: T) -> T::Real {
        x.widen()
    }
    #[inline(always)]
    fn join(a: T::Real, b: T::Real) -> T::Real {
        a + b
    }
}

impl<T: Store> Fold<T> for Max {
    type Value = T::Real;
    const START: T::Real = T::Real::NEG_INFINITY;
    #[inline(always)]
    fn get(x: T) -> T::Real {
        x.widen()
    }
    #[inline(always)]
    fn join(a: T::Real, b: T::Real) -> T::Real {
        greater(a, b)
    }
}

impl<T: Store> Fold<T> for SumOfSquares {
    type Value = f64;
    const START: f64 = 0.0;
    #[inline(always)]
    fn get(x: T) -> f64 {
        let x = x.widen().to_f64();
        x * x
    }
    #[inline(always)]
    fn join(a: f64, b: f64) -> f64 {
        a + b
    }
}

impl<T: Store> Fold<T> for Magnitude {
    type Value = T::Real;
    const START: T::Real = T::Real::ZERO;
    #[inline(always)]
    fn get(x: T) -> T::Real {
        x.widen().abs()
    }
    #[inline(always)]
    fn join(a: T::Real, b: T::Real) -> T::Real {
        greater(a, b)
    }
}

/// The greater of two; NaN if either is.
#[inline(always)]
pub fn greater<R: Real>(a: R, x: R) -> R {
    if x > a || x.is_nan() { x } else { a }
}

/// Folds `get(a[i], b[i])` over two slices of one length, in lanes that are joined as a tree.
#[inline(always)]
pub fn lanes<T: Copy, V: Copy>(a: &[T], b: &[T], start: V, get: impl Fn(T, T) -> V, join: impl Fn(V, V) -> V) -> V {
    match a.len() {
        0..16 => lanes_of::<1, T, V>(a, b, start, get, join),
        16..256 => lanes_of::<16, T, V>(a, b, start, get, join),
        _ => lanes_of::<64, T, V>(a, b, start, get, join),
    }
}

#[inline(always)]
fn lanes_of<const L: usize, T: Copy, V: Copy>(
    a: &[T],
    b: &[T],
    start: V,
    get: impl Fn(T, T) -> V,
    join: impl Fn(V, V) -> V,
) -> V {
    let mut lanes = [start; L];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<L>(), b.as_chunks::<L>());
    for (a, b) in a.iter().zip(b) {
        for l in 0..L {
            lanes[l] = join(lanes[l], get(a[l], b[l]));
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane = join(*lane, get(a, b));
    }
    let mut width = L / 2;
    while width > 0 {
        for l in 0..width {
            lanes[l] = join(lanes[l], lanes[l + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn leaf<T: Store, F: Fold<T>>(x: &[T]) -> F::Value {
    lanes(
        x,
        x,
        F::START,
        #[inline(always)]
        |x, _| F::get(x),
        F::join,
    )
}

pub fn pairwise<T: Store, F: Fold<T>>(x: &[T]) -> F::Value {
    pairwise_of(0..x.len(), F::join, &|range| {
        let x = &x[range];
        vectorize(
            #[inline(always)]
            move || leaf::<T, F>(x),
        )
    })
}

/// Joins what `leaf` makes of stretches of at most [`LEAF`], in pairs.
fn pairwise_of<V>(range: Range<usize>, join: fn(V, V) -> V, leaf: &impl Fn(Range<usize>) -> V) -> V {
    if range.len() <= LEAF {
        return leaf(range);
    }
    let middle = range.start + (range.len() / 2).next_multiple_of(LEAF);
    join(pairwise_of(range.start..middle, join, leaf), pairwise_of(middle..range.end, join, leaf))
}

/// A fold over everything.
fn all<T: Store, F: Fold<T>>(x: &[T]) -> F::Value {
    all_of(x.len(), F::START, F::join, |range| pairwise::<T, F>(&x[range]))
}

/// Joins what `piece` makes of stretches of `len` elements, on the threads of the pool, in pairs.
fn all_of<V: Copy + Send>(len: usize, start: V, join: fn(V, V) -> V, piece: impl Fn(Range<usize>) -> V + Sync) -> V {
    if len < PARALLEL {
        return piece(0..len);
    }
    let mut parts = vec![start; len.div_ceil(PIECE)];
    split::chunks(&mut parts, 1, |i, part| part[0] = piece(i * PIECE..len.min((i + 1) * PIECE)));
    while parts.len() > 1 {
        parts = parts.chunks(2).map(|pair| pair.iter().copied().reduce(join).unwrap_or(start)).collect();
    }
    parts[0]
}

/// The sum of `len` numbers that `fill` writes, a stretch of at most [`LEAF`] at a time: that of the same numbers in memory.
pub fn sum_of<R: Real + Store<Real = R>>(len: usize, fill: impl Fn(Range<usize>, &mut [R]) + Sync) -> R {
    all_of(
        len,
        R::ZERO,
        |a, b| a + b,
        |range| {
            pairwise_of(range, |a, b| a + b, &|range| {
                let mut numbers = [R::ZERO; LEAF];
                let numbers = &mut numbers[..range.len()];
                fill(range, numbers);
                vectorize(
                    #[inline(always)]
                    || leaf::<R, Sum>(numbers),
                )
            })
        },
    )
}

/// Folds `rows` rows of `acc.len()` elements, `pitch` apart, column by column into `acc`.
fn columns<T: Store, F: Fold<T>>(x: &[T], pitch: usize, rows: usize, acc: &mut [F::Value]) {
    if rows <= LEAF_ROWS {
        vectorize(
            #[inline(always)]
            move || {
                acc.fill(F::START);
                for x in x.chunks(pitch).take(rows) {
                    for (a, &x) in acc.iter_mut().zip(x) {
                        *a = F::join(*a, F::get(x));
                    }
                }
            },
        );
        return;
    }
    let half = (rows / 2).next_multiple_of(LEAF_ROWS);
    let mut other = [F::START; TILE];
    let other = &mut other[..acc.len()];
    columns::<T, F>(x, pitch, half, acc);
    columns::<T, F>(&x[half * pitch..], pitch, rows - half, other);
    acc.iter_mut().zip(other).for_each(|(a, &mut b)| *a = F::join(*a, b));
}

/// Folds some columns of an `[n, inner]` matrix, tile by tile.
fn matrix<T: Store, F: Fold<T>>(x: &[T], wanted: Range<usize>, inner: usize, mut put: impl FnMut(usize, F::Value)) {
    let mut acc = [F::START; TILE];
    for first in wanted.clone().step_by(TILE) {
        let acc = &mut acc[..TILE.min(wanted.end - first)];
        columns::<T, F>(x.get(first..).unwrap_or(&[]), inner, x.len() / inner, acc);
        acc.iter().enumerate().for_each(|(i, &value)| put(first - wanted.start + i, value));
    }
}

/// As [`matrix`] for a large one: blocks of rows, joined pairwise, in stripes of columns; both in parallel.
fn large_matrix<T: Store, F: Fold<T>>(x: &[T], y: &mut [T], finish: impl Fn(F::Value) -> T + Sync) {
    let inner = y.len();
    let rows = (4 * PIECE / inner).next_multiple_of(LEAF_ROWS).max(LEAF_ROWS);
    let stripe = (4 * PIECE / rows).next_multiple_of(TILE).min(inner);
    let (blocks, stripes) = (x.len().div_ceil(rows * inner), inner.div_ceil(stripe));
    if blocks == 1 {
        return split::chunks(y, stripe, |i, y| {
            matrix::<T, F>(x, i * stripe..i * stripe + y.len(), inner, |i, value| y[i] = finish(value));
        });
    }
    let mut parts = vec![F::START; blocks * inner];
    let shared = Shared::new(&mut parts);
    let of = |i: usize| i * stripe..inner.min((i + 1) * stripe);
    split::tasks(blocks * stripes, &|i| {
        let (block, columns) = (i / stripes, of(i % stripes));
        let x = &x[block * rows * inner..x.len().min((block + 1) * rows * inner)];
        // SAFETY: each task has a block and a stripe of its own.
        let part = unsafe { shared.part(block * inner + columns.start, columns.len()) };
        matrix::<T, F>(x, columns, inner, |i, value| part[i] = value);
    });
    split::chunks(y, stripe, |i, y| {
        let part = |block: usize| {
            let columns = of(i);
            // SAFETY: each task has a stripe of its own, and uses two blocks of it at a time, or one.
            unsafe { shared.part(block * inner + columns.start, columns.len()) }
        };
        let mut apart = 1;
        while apart < blocks {
            for block in (apart..blocks).step_by(2 * apart) {
                let (a, b) = (part(block - apart), part(block));
                a.iter_mut().zip(b).for_each(|(a, &mut b)| *a = F::join(*a, b));
            }
            apart *= 2;
        }
        y.iter_mut().zip(part(0)).for_each(|(y, &mut value)| *y = finish(value));
    });
}

/// `[outer, n, inner]` → `[outer, inner]`
pub fn reduce(op: Reduce, dims: Dims, x: &Buffer, y: &mut Buffer) -> Result<()> {
    with_dtype!(float "reduce", y.dtype(), T => {
        let (x, y) = (x.slice::<T>(), y.slice_mut::<T>());
        let n = <T as Store>::Real::of(dims.1 as f64);
        match op {
            Reduce::Sum => axis::<T, Sum>(dims, x, y, T::narrow),
            Reduce::Mean => axis::<T, Sum>(dims, x, y, #[inline(always)] |sum| T::narrow(sum / n)),
            Reduce::Max => axis::<T, Max>(dims, x, y, T::narrow),
        }
        Ok(())
    })
}

fn axis<T: Store, F: Fold<T>>((_, n, inner): Dims, x: &[T], y: &mut [T], finish: impl Fn(F::Value) -> T + Copy + Sync) {
    if n == 0 {
        y.fill(finish(F::START));
    } else if inner == 1 && n >= PARALLEL {
        y.iter_mut().zip(x.chunks_exact(n)).for_each(|(y, x)| *y = finish(all::<T, F>(x)));
    } else if inner == 1 {
        split::rows(y, 1, n, |first, y| {
            let rows = y.iter_mut().zip(x[first * n..].chunks_exact(n));
            if n <= LEAF {
                vectorize(
                    #[inline(always)]
                    move || {
                        for (y, x) in rows {
                            *y = finish(leaf::<T, F>(x));
                        }
                    },
                );
            } else {
                rows.for_each(|(y, x)| *y = finish(pairwise::<T, F>(x)));
            }
        });
    } else if inner > 0 && n * inner >= PARALLEL {
        for (y, x) in y.chunks_exact_mut(inner).zip(x.chunks_exact(n * inner)) {
            large_matrix::<T, F>(x, y, finish);
        }
    } else {
        split::rows(y, inner, n * inner, |first, y| {
            for (y, x) in y.chunks_exact_mut(inner).zip(x[first * n * inner..].chunks_exact(n * inner)) {
                matrix::<T, F>(x, 0..inner, inner, |i, value| y[i] = finish(value));
            }
        });
    }
}

/// The least and greatest index.
pub fn index_range(index: &Buffer) -> Result<Option<(i64, i64)>> {
    let index = index.slice::<i64>();
    Ok(index.first().map(|&first| {
        vectorize(
            #[inline(always)]
            move || {
                index.iter().fold(
                    (first, first),
                    #[inline(always)]
                    |(low, high), &i| (low.min(i), high.max(i)),
                )
            },
        )
    }))
}

/// Σ x² in f64.
pub fn sum_of_squares(x: &Buffer) -> Result<f64> {
    with_dtype!(float "sum_of_squares", x.dtype(), T => Ok(all::<T, SumOfSquares>(x.slice())))
}

/// max |x|, 0 of none; NaN if any is NaN.
pub fn greatest_magnitude(x: &Buffer) -> Result<f64> {
    with_dtype!(float "greatest_magnitude", x.dtype(), T => Ok(all::<T, Magnitude>(x.slice()).to_f64()))
}

/// Σ |x|ᵖ in f64.
pub fn sum_of_powers(p: f64, x: &Buffer) -> Result<f64> {
    with_dtype!(float "sum_of_powers", x.dtype(), T => {
        let x = x.slice::<T>();
        Ok(sum_of::<f64>(x.len(), |range, powers| {
            powers.iter_mut().zip(&x[range]).for_each(|(power, x)| *power = x.to_f64().abs().powf(p));
        }))
    })
}

#[cfg(test)]
pub mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{cpu::testing::*, dtype::DType};

    pub const SHAPES: [Dims; 20] = [
        (1, 1, 1),
        (5, 3, 1),
        (3, 16, 1),
        (3, 65, 1),
        (2, 300, 1),
        (2, 5000, 1),
        (1, 70_001, 1),
        (20_000, 7, 1),
        (1, 3, 5),
        (2, 65, 17),
        (2, 130, 600),
        (1, 40_000, 3),
        (1, 1000, 129),
        (2, 9, 7700),
        (1, 75, 5000),
        (300, 10, 33),
        (4, 0, 3),
        (4, 0, 1),
        (0, 3, 1),
        (2, 3, 0),
    ];

    /// f(column) for each (outer, inner).
    pub fn by_column((outer, n, inner): Dims, x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
        let column = |o: usize, i: usize| (0..n).map(|j| x[(o * n + j) * inner + i]).collect::<Vec<_>>();
        (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))).map(|(o, i)| f(&column(o, i))).collect()
    }

    #[test]
    fn sums_means_maxima() {
        for (dtype, dims) in FLOATS.into_iter().flat_map(|d| SHAPES.map(|s| (d, s))) {
            let (outer, n, inner) = dims;
            // Of one sign, so that a relative bound holds; few and small enough not to overflow f16.
            let values: Vec<_> = numbers(outer * n * inner, 1).iter().map(|v| 0.01 + 0.1 * v.abs()).collect();
            let x = buffer(dtype, &values);
            let mut y = stale(dtype, outer * inner);
            let exact = read(&x);
            reduce(Reduce::Sum, dims, &x, &mut y).unwrap();
            close(&y, &by_column(dims, &exact, |c| sum(c.iter().copied())), 8.0, &("sum", dtype, dims));
            reduce(Reduce::Mean, dims, &x, &mut y).unwrap();
            close(&y, &by_column(dims, &exact, |c| sum(c.iter().copied()) / n as f64), 8.0, &("mean", dtype, dims));
            reduce(Reduce::Max, dims, &x, &mut y).unwrap();
            let max = |c: &[f64]| c.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            close(&y, &by_column(dims, &exact, max), 0.0, &("max", dtype, dims));
        }
    }

    #[test]
    fn nan_wins_wherever_it_is() {
        for (n, inner, at) in [(5, 1, 3), (100, 1, 70), (3000, 1, 2999), (100, 4, 70)] {
            let mut values = numbers(n * inner, 4);
            values[at * inner] = f64::NAN;
            values[(n - 1) * inner] = f64::NAN;
            let (x, mut y) = (buffer(DType::F32, &values), stale(DType::F32, inner));
            reduce(Reduce::Max, (1, n, inner), &x, &mut y).unwrap();
            assert!(read(&y)[0].is_nan());
        }
    }

    #[test]
    fn long_sums_stay_accurate() {
        for dims in [(1, 3_000_000, 1), (1, 1_000_000, 3)] {
            let x = buffer(DType::F32, &vec![0.1; 3_000_000]);
            let mut y = stale(DType::F32, dims.2);
            reduce(Reduce::Sum, dims, &x, &mut y).unwrap();
            close(&y, &vec![0.1f32 as f64 * dims.1 as f64; dims.2], 3.0, &dims);
        }
        let total = sum_of_squares(&buffer(DType::F32, &vec![0.1; 3_000_000])).unwrap();
        assert!((total / (3e6 * (0.1f32 as f64).powi(2)) - 1.0).abs() < 1e-13);
    }

    #[test]
    fn powers_and_magnitudes() {
        for (dtype, n) in FLOATS.into_iter().flat_map(|d| LENGTHS.map(|n| (d, n))) {
            let x = buffer(dtype, &numbers(n, 6));
            let values = read(&x);
            for p in [0.5, 1.0, 3.0] {
                let want = sum(values.iter().map(|v| v.abs().powf(p)));
                let got = sum_of_powers(p, &x).unwrap();
                assert!((got - want).abs() <= 1e-14 * want, "{dtype} {n} {p}: {got}, want {want}");
            }
            let greatest = values.iter().fold(0.0, |a: f64, v| a.max(v.abs()));
            assert_eq!(greatest_magnitude(&x).unwrap(), greatest, "{dtype} {n}");
        }
        let odd = buffer(DType::F32, &[1.0, f64::NAN, -3.0]);
        assert!(greatest_magnitude(&odd).unwrap().is_nan());
        assert_eq!(greatest_magnitude(&buffer(DType::F32, &[1.0, f64::NEG_INFINITY])).unwrap(), f64::INFINITY);
    }

    #[test]
    fn threads_do_not_matter() {
        let x = buffer(DType::F32, &numbers(3 * 70_000, 5));
        for dims in [(3, 70_000, 1), (1, 70_000, 3), (70_000, 3, 1), (1, 3, 70_000), (1, 40, 5000), (2, 70, 1500)] {
            same_on_any_threads(|| {
                let mut y = stale(DType::F32, dims.0 * dims.2);
                reduce(Reduce::Sum, dims, &x, &mut y).unwrap();
                y
            });
        }
        same_on_any_threads(|| {
            buffer(
                DType::F64,
                &[sum_of_squares(&x), sum_of_powers(2.5, &x), greatest_magnitude(&x)].map(Result::unwrap),
            )
        });
    }

    /// Two threads meet in the first row: one is in its first columns, the other in its last.
    #[test]
    fn columns_of_few_rows_are_shared_out() {
        static HERE: AtomicUsize = AtomicUsize::new(0);
        #[derive(Clone, Copy)]
        struct Meet;
        impl Fold<f32> for Meet {
            type Value = f32;
            const START: f32 = 0.0;
            fn get(x: f32) -> f32 {
                let begun = Instant::now();
                if x == 1.0 {
                    HERE.fetch_add(1, Ordering::Relaxed);
                    while HERE.load(Ordering::Relaxed) < 2 && begun.elapsed() < Duration::from_secs(20) {
                        std::thread::yield_now();
                    }
                    return HERE.load(Ordering::Relaxed) as f32;
                }
                x
            }
            fn join(a: f32, b: f32) -> f32 {
                a + b
            }
        }
        let (n, inner) = (4, 40_000);
        let mut x = vec![0.0; n * inner];
        (x[0], x[inner - 1]) = (1.0, 1.0);
        let mut y = vec![0.0; inner];
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        pool.install(|| axis::<f32, Meet>((1, n, inner), &x, &mut y, |v| v));
        assert_eq!((y[0], y[inner - 1]), (2.0, 2.0));
    }

    #[test]
    fn ranges_of_indices() {
        assert_eq!(index_range(&indices([])).unwrap(), None);
        assert_eq!(index_range(&indices([3, -7, 5])).unwrap(), Some((-7, 5)));
        assert_eq!(index_range(&indices((0..1000).map(|i| i * i % 997))).unwrap(), Some((0, 996)));
    }
}
