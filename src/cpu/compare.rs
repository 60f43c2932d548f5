//! Comparisons, and choices by a mask.

use std::array::from_fn;

use super::{Buffer, simd::vectorize, split, walk::Walk};
use crate::{
    dtype::{Element, with_dtype},
    error::Result,
    kernel::Compare,
};

/// y = whether a and b compare so.
pub fn compare(
    op: Compare,
    shape: &[usize],
    a: (&Buffer, &[usize]),
    b: (&Buffer, &[usize]),
    y: &mut Buffer,
) -> Result<()> {
    let (walk, y) = (Walk::new(shape, [a.1, b.1]), y.slice_mut::<u8>());
    with_dtype!(a.0.dtype(), T => {
        let (a, b) = (a.0.slice::<T>(), b.0.slice::<T>());
        match op {
            Compare::Eq => compared(walk, a, b, y, #[inline(always)] |a, b| a == b),
            Compare::Ne => compared(walk, a, b, y, #[inline(always)] |a, b| a != b),
            Compare::Lt => compared(walk, a, b, y, #[inline(always)] |a, b| a < b),
            Compare::Le => compared(walk, a, b, y, #[inline(always)] |a, b| a <= b),
            Compare::Gt => compared(walk, a, b, y, #[inline(always)] |a, b| a > b),
            Compare::Ge => compared(walk, a, b, y, #[inline(always)] |a, b| a >= b),
        }
    });
    Ok(())
}

fn compared<T: Element>(walk: Walk<2>, a: &[T], b: &[T], y: &mut [u8], f: impl Fn(T, T) -> bool + Copy + Sync) {
    rows(walk, y, |[i, j], strides, y| {
        let (a, b) = (&a[i..], &b[j..]);
        vectorize(
            #[inline(always)]
            move || match strides {
                [1, 1] => y.iter_mut().zip(a).zip(b).for_each(|((y, &a), &b)| *y = f(a, b).into()),
                [1, 0] => y.iter_mut().zip(a).for_each(|(y, &a)| *y = f(a, b[0]).into()),
                [s, t] => y.iter_mut().enumerate().for_each(|(k, y)| *y = f(a[k * s], b[k * t]).into()),
            },
        );
    });
}

/// y = a where the mask is not 0, else b.
pub fn select(
    shape: &[usize],
    mask: (&Buffer, &[usize]),
    a: (&Buffer, &[usize]),
    b: (&Buffer, &[usize]),
    y: &mut Buffer,
) -> Result<()> {
    let (walk, mask) = (Walk::new(shape, [mask.1, a.1, b.1]), mask.0.slice::<u8>());
    with_dtype!(y.dtype(), T => {
        let (a, b) = (a.0.slice::<T>(), b.0.slice::<T>());
        rows(walk, y.slice_mut::<T>(), |[i, j, k], strides, y| {
            let (mask, a, b) = (&mask[i..], &a[j..], &b[k..]);
            vectorize(
                #[inline(always)]
                move || match strides {
                    [1, 1, 1] => y.iter_mut().zip(mask).zip(a.iter().zip(b)).for_each(|((y, &mask), (&a, &b))| {
                        *y = if mask != 0 { a } else { b };
                    }),
                    // A number where the mask is.
                    [1, 0, 1] => y.iter_mut().zip(mask).zip(b).for_each(|((y, &mask), &b)| {
                        *y = if mask != 0 { a[0] } else { b };
                    }),
                    [s, t, u] => y.iter_mut().enumerate().for_each(|(n, y)| {
                        *y = if mask[n * s] != 0 { a[n * t] } else { b[n * u] };
                    }),
                },
            );
        });
    });
    Ok(())
}

/// Calls `row` for runs of y along the last dimension of a walk: with where each array begins there, and how it steps.
fn rows<const N: usize, Y: Send>(
    mut walk: Walk<N>,
    y: &mut [Y],
    row: impl Fn([usize; N], [usize; N], &mut [Y]) + Sync,
) {
    if y.is_empty() {
        return;
    }
    let (extent, strides) = walk.take_last();
    if walk.shape.is_empty() {
        return split::over(y, |start, y| row(from_fn(|n| start * strides[n]), strides, y));
    }
    split::rows(y, extent, extent, |first, y| {
        y.chunks_exact_mut(extent).zip(walk.points(first)).for_each(|(y, at)| row(at, strides, y));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cpu::{split::PARALLEL, testing::*},
        dtype::DType,
    };

    const ALL: [DType; 7] = [DType::F64, DType::F32, DType::F16, DType::BF16, DType::U32, DType::I64, DType::U8];
    /// Shape, and strides of three arrays.
    type Case<'a> = (&'a [usize], [&'a [usize]; 3]);
    const CASES: [Case; 7] = [
        (&[], [&[], &[], &[]]),
        (&[3, 0], [&[0, 1], &[0, 1], &[0, 1]]),
        (&[PARALLEL + 17], [&[1], &[1], &[1]]),
        (&[PARALLEL + 17], [&[1], &[0], &[1]]),
        (&[5, 7], [&[7, 1], &[0, 1], &[1, 0]]),
        (&[4, 3, 5], [&[1, 0, 4], &[5, 20, 1], &[15, 5, 1]]),
        (&[300, 260], [&[0, 1], &[260, 1], &[1, 300]]),
    ];

    fn reach(shape: &[usize], strides: &[usize]) -> usize {
        1 + shape.iter().zip(strides).map(|(&n, s)| n.saturating_sub(1) * s).sum::<usize>()
    }

    fn place(shape: &[usize], strides: &[usize], mut i: usize) -> usize {
        let mut at = 0;
        for d in (0..shape.len()).rev() {
            at += i % shape[d] * strides[d];
            i /= shape[d];
        }
        at
    }

    #[test]
    fn compares_and_selects() {
        for (dtype, (shape, strides)) in ALL.into_iter().flat_map(|d| CASES.map(|c| (d, c))) {
            // Few values, so that some are equal.
            let values = |strides: &[usize], seed| {
                numbers(reach(shape, strides), seed).iter().map(|v| (v + 2.0).floor()).collect::<Vec<_>>()
            };
            let [s, t, u] = strides;
            let (mask, mut a, b) = (buffer(DType::U8, &values(s, 1)), values(t, 2), values(u, 3));
            if dtype.is_float() {
                a.iter_mut().step_by(5).for_each(|a| *a = f64::NAN);
            }
            let (a, b) = (buffer(dtype, &a), buffer(dtype, &b));
            let (m, x, z) = (read(&mask), read(&a), read(&b));
            let n: usize = shape.iter().product();
            type Holds = fn(&f64, &f64) -> bool;
            let ops: [(Compare, Holds); 6] = [
                (Compare::Eq, f64::eq),
                (Compare::Ne, f64::ne),
                (Compare::Lt, f64::lt),
                (Compare::Le, f64::le),
                (Compare::Gt, f64::gt),
                (Compare::Ge, f64::ge),
            ];
            for (op, holds) in ops {
                let mut y = stale(DType::U8, n);
                compare(op, shape, (&a, t), (&b, u), &mut y).unwrap();
                for (i, &y) in y.slice::<u8>().iter().enumerate() {
                    let want = holds(&x[place(shape, t, i)], &z[place(shape, u, i)]);
                    assert_eq!(y, want as u8, "{dtype} {op:?} {shape:?} {i}");
                }
            }
            let mut y = stale(dtype, n);
            select(shape, (&mask, s), (&a, t), (&b, u), &mut y).unwrap();
            for (i, y) in read(&y).into_iter().enumerate() {
                let want = if m[place(shape, s, i)] != 0.0 { x[place(shape, t, i)] } else { z[place(shape, u, i)] };
                assert_eq!(y.to_bits(), want.to_bits(), "{dtype} {shape:?} {i}");
            }
        }
    }
}
