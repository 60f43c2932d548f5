//! Where the maxima along one axis are, and the gradient that goes there.

use std::cmp::Ordering;

use super::{
    Buffer, Dims,
    real::{Real, Store},
    reduce::{Max, TILE, pairwise},
    simd::vectorize,
    split,
};
use crate::{dtype::with_dtype, error::Result};

/// Index of the first NaN, else of the first maximum.
pub fn arg_max((_, n, inner): Dims, x: &Buffer, index: &mut Buffer) -> Result<()> {
    with_dtype!(float "arg_max", x.dtype(), T => {
        let x = x.slice::<T>();
        split::rows(index.slice_mut::<i64>(), inner, n * inner, |first, index| {
            for (index, x) in index.chunks_exact_mut(inner).zip(x[first * n * inner..].chunks_exact((n * inner).max(1))) {
                if inner == 1 {
                    let max = pairwise::<T, Max>(x);
                    let found = x.iter().position(|x| x.widen() == max || x.widen().is_nan());
                    index[0] = found.unwrap_or(0) as i64;
                } else {
                    arg_max_columns(x, inner, index);
                }
            }
        });
        Ok(())
    })
}

fn arg_max_columns<T: Store>(x: &[T], inner: usize, index: &mut [i64]) {
    let mut best = [T::Real::NEG_INFINITY; TILE];
    for first in (0..inner).step_by(TILE) {
        let index = &mut index[first..inner.min(first + TILE)];
        let best = &mut best[..index.len()];
        vectorize(
            #[inline(always)]
            move || {
                index.fill(0);
                best.iter_mut().zip(&x[first..]).for_each(|(best, x)| *best = x.widen());
                for (j, x) in x.chunks_exact(inner).enumerate().skip(1) {
                    for ((best, index), x) in best.iter_mut().zip(index.iter_mut()).zip(&x[first..]) {
                        let x = x.widen();
                        let better = (x > *best || x.is_nan()) && !best.is_nan();
                        *best = if better { x } else { *best };
                        *index = if better { j as i64 } else { *index };
                    }
                }
            },
        );
    }
}

/// Indices of the greatest: a NaN before all others, of equal ones the first.
pub fn top_k(count: usize, (_, n, inner): Dims, x: &Buffer, index: &mut Buffer) -> Result<()> {
    with_dtype!(float "top_k", x.dtype(), T => {
        let x = x.slice::<T>();
        split::rows(index.slice_mut::<i64>(), count * inner, n * inner, |first, index| {
            let mut column = Vec::with_capacity(n);
            for (o, index) in (first..).zip(index.chunks_exact_mut(count * inner)) {
                for i in 0..inner {
                    column.clear();
                    column.extend((0..n).map(|j| (x[(o * n + j) * inner + i].widen(), j)));
                    if count < n {
                        column.select_nth_unstable_by(count - 1, down);
                    }
                    column[..count].sort_unstable_by(down);
                    for (place, &(_, j)) in column[..count].iter().enumerate() {
                        index[place * inner + i] = j as i64;
                    }
                }
            }
        });
        Ok(())
    })
}

/// Which of two elements of an axis comes first from the greatest down.
fn down<R: Real>(a: &(R, usize), b: &(R, usize)) -> Ordering {
    let value = match (a.0.is_nan(), b.0.is_nan()) {
        (false, false) => b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal),
        (a, b) => b.cmp(&a),
    };
    value.then(a.1.cmp(&b.1))
}

/// dx = 0 but at the index, where it is dy.
pub fn scatter_axis((_, n, inner): Dims, index: &Buffer, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
    let index = index.slice::<i64>();
    with_dtype!(float "scatter_axis", dx.dtype(), T => {
        let dy = dy.slice::<T>();
        split::rows(dx.slice_mut::<T>(), n * inner, n * inner, |first, dx| {
            dx.fill(T::default());
            let picks = index[first * inner..].chunks_exact(inner).zip(dy[first * inner..].chunks_exact(inner));
            for (dx, (index, dy)) in dx.chunks_exact_mut(n * inner).zip(picks) {
                for (i, (&j, &dy)) in index.iter().zip(dy).enumerate() {
                    dx[j as usize * inner + i] = dy;
                }
            }
        });
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cpu::{
            reduce::tests::{SHAPES, by_column},
            testing::*,
        },
        dtype::DType,
    };

    /// All of an axis is a stable sort; fewer are its beginning.
    #[test]
    fn the_greatest_in_order() {
        for (dtype, (outer, n, inner)) in FLOATS.into_iter().flat_map(|d| SHAPES.map(|s| (d, s))) {
            // Many are equal, some are NaN.
            let mut values: Vec<_> = numbers(outer * n * inner, 3).iter().map(|v| (v * 4.0).round()).collect();
            values.iter_mut().skip(3).step_by(7).for_each(|v| *v = f64::NAN);
            let x = buffer(dtype, &values);
            for k in [1, n / 3, n].into_iter().filter(|&k| k > 0 && k <= n) {
                let mut index = stale(DType::I64, outer * k * inner);
                top_k(k, (outer, n, inner), &x, &mut index).unwrap();
                for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
                    let at = |j: usize| values[(o * n + j) * inner + i];
                    let mut want: Vec<usize> = (0..n).collect();
                    want.sort_by(|&a, &b| match (at(a).is_nan(), at(b).is_nan()) {
                        (false, false) => at(b).partial_cmp(&at(a)).unwrap(),
                        (a, b) => b.cmp(&a),
                    });
                    let got: Vec<_> = (0..k).map(|p| index.slice::<i64>()[(o * k + p) * inner + i] as usize).collect();
                    assert_eq!(got, want[..k], "{dtype} {outer} {n} {inner}, {k}");
                }
            }
        }
    }

    #[test]
    fn finds_the_first_maximum_and_scatters_to_it() {
        for (dtype, dims) in FLOATS.into_iter().flat_map(|d| SHAPES.map(|s| (d, s))).filter(|(_, d)| d.1 > 0) {
            let (outer, n, inner) = dims;
            // Few distinct values: ties.
            let values: Vec<_> = numbers(outer * n * inner, 2).iter().map(|v| v.round()).collect();
            let mut index = indices(vec![-1; outer * inner]);
            arg_max(dims, &buffer(dtype, &values), &mut index).unwrap();
            let first = |c: &[f64]| (0..n).fold(0, |best, j| if c[j] > c[best] { j } else { best }) as f64;
            assert_eq!(read(&index), by_column(dims, &values, first), "{dtype} {dims:?}");

            let dy = buffer(dtype, &numbers(outer * inner, 3));
            let mut dx = stale(dtype, outer * n * inner);
            scatter_axis(dims, &index, &dy, &mut dx).unwrap();
            let mut want = vec![0.0; outer * n * inner];
            for (i, (j, dy)) in read(&index).into_iter().zip(read(&dy)).enumerate() {
                want[(i / inner * n + j as usize) * inner + i % inner] = dy;
            }
            assert_eq!(read(&dx), want);
        }
    }

    #[test]
    fn nan_wins_wherever_it_is() {
        for (n, inner, at) in [(5, 1, 3), (100, 1, 70), (3000, 1, 2999), (100, 4, 70)] {
            let mut values = numbers(n * inner, 4);
            values[at * inner] = f64::NAN;
            values[(n - 1) * inner] = f64::NAN;
            let (x, mut index) = (buffer(DType::F32, &values), indices(vec![0; inner]));
            arg_max((1, n, inner), &x, &mut index).unwrap();
            assert_eq!(read(&index)[0], at as f64);
        }
        let mut index = indices([7]);
        arg_max((1, 3, 1), &buffer(DType::F32, &[f64::NEG_INFINITY; 3]), &mut index).unwrap();
        assert_eq!(read(&index), [0.0]);
    }
}
