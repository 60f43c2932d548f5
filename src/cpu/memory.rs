//! Copies: between host and buffer, dtype and dtype, walk and walk.

use super::{
    Buffer,
    real::Store,
    simd::vectorize,
    split::{self, PARALLEL, PIECE},
    walk::Walk,
};
use crate::{
    dtype::{DType, Element, bf16, f16, with_dtype},
    error::Result,
    kernel::Strided,
};
use rayon::prelude::*;

/// Into a slice of the same length and type.
pub fn download<T: Element>(x: &Buffer, host: &mut [T]) -> Result<()> {
    host.copy_from_slice(x.slice());
    Ok(())
}

/// y = value
pub fn fill(value: f64, y: &mut Buffer) -> Result<()> {
    with_dtype!(y.dtype(), T => split::over(y.slice_mut::<T>(), |_, y| y.fill(T::from_f64(value))));
    Ok(())
}

/// y = x
pub fn cast(x: &Buffer, y: &mut Buffer) -> Result<()> {
    use DType::{BF16, F16, F32};
    match (x.dtype(), y.dtype()) {
        (a, b) if a == b => with_dtype!(a, T => {
            let x = x.slice::<T>();
            split::over(y.slice_mut(), |start, y| y.copy_from_slice(&x[start..start + y.len()]));
        }),
        (F32, F16) => convert(x.slice(), y.slice_mut(), half::<f32, f16>),
        (F32, BF16) => convert(x.slice(), y.slice_mut(), half::<f32, bf16>),
        (F16, F32) => convert(x.slice(), y.slice_mut(), half::<f16, f32>),
        (BF16, F32) => convert(x.slice(), y.slice_mut(), half::<bf16, f32>),
        (F16, BF16) => convert(x.slice(), y.slice_mut(), half::<f16, bf16>),
        (BF16, F16) => convert(x.slice(), y.slice_mut(), half::<bf16, f16>),
        // f64 holds every number of the others but an i64 beyond 2⁵³.
        (a, b) => with_dtype!(a, S => with_dtype!(b, D => {
            convert(x.slice(), y.slice_mut(), #[inline(always)] |x: S| D::from_f64(x.to_f64()));
        })),
    }
    Ok(())
}

#[inline(always)]
fn half<S: Store<Real = f32>, D: Store<Real = f32>>(x: S) -> D {
    D::narrow(x.widen())
}

fn convert<S: Element, D: Element>(x: &[S], y: &mut [D], f: impl Fn(S) -> D + Copy + Sync) {
    split::over(y, |start, y| {
        let x = &x[start..start + y.len()];
        vectorize(
            #[inline(always)]
            move || {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = f(x);
                }
            },
        );
    });
}

/// One walk to another.
pub fn copy_strided(
    shape: &[usize],
    x: &Buffer,
    from: Strided<'_>,
    y: &mut Buffer,
    to: Strided<'_>,
    accumulate: bool,
) -> Result<()> {
    if shape.contains(&0) {
        return Ok(());
    }
    let walk = in_order(shape, from.strides, to.strides);
    if accumulate {
        with_dtype!(float "copy_strided", y.dtype(), T => {
            let (x, y) = (&x.slice::<T>()[from.offset..], &mut y.slice_mut::<T>()[to.offset..]);
            copy(walk, x, y, #[inline(always)] |y: &mut T, x: T| *y = T::narrow(y.widen() + x.widen()));
            Ok(())
        })
    } else {
        with_dtype!(y.dtype(), T => {
            let (x, y) = (&x.slice::<T>()[from.offset..], &mut y.slice_mut::<T>()[to.offset..]);
            copy(walk, x, y, #[inline(always)] |y: &mut T, x: T| *y = x);
        });
        Ok(())
    }
}

/// The walk with the dimensions that stride farthest through the output outermost, so that it is written from its
/// beginning to its end.
fn in_order(shape: &[usize], from: &[usize], to: &[usize]) -> Walk<2> {
    if to.is_sorted_by(|a, b| a >= b) {
        return Walk::new(shape, [from, to]);
    }
    let mut order: Vec<usize> = (0..shape.len()).collect();
    order.sort_by_key(|&d| std::cmp::Reverse(to[d]));
    let pick = |of: &[usize]| order.iter().map(|&d| of[d]).collect::<Vec<_>>();
    Walk::new(&pick(shape), [&pick(from), &pick(to)])
}

/// Divides the outermost dimension among threads where the output falls apart along it.
fn copy<T: Element>(walk: Walk<2>, x: &[T], y: &mut [T], put: impl Fn(&mut T, T) + Copy + Sync) {
    let count: usize = walk.shape.iter().product();
    let Some((&extent, inner)) = walk.shape.split_first() else { return put(&mut y[0], x[0]) };
    let [from, to] = [walk.strides[0][0], walk.strides[1][0]];
    let reach: usize = inner.iter().zip(&walk.strides[1][1..]).map(|(n, stride)| (n - 1) * stride).sum();
    if count < PARALLEL || reach >= to {
        return serial(walk, x, y, put);
    }
    // A transposition reads whole lines only where it has as many rows as a line has elements.
    let group = (PIECE * extent / count).max(if from == 1 { SIDE } else { 1 });
    y.par_chunks_mut(group * to).take(extent.div_ceil(group)).enumerate().for_each(|(i, y)| {
        let first = i * group;
        let mut part = walk.clone();
        part.shape[0] = group.min(extent - first);
        serial(part, &x[first * from..], y, put);
    });
}

fn serial<T: Element>(mut walk: Walk<2>, x: &[T], y: &mut [T], put: impl Fn(&mut T, T) + Copy) {
    let last = walk.shape.len() - 1;
    let read = walk.strides[0].iter().position(|&s| s == 1);
    let (extent, [from, to]) = walk.take(last);
    let points = |walk: &Walk<2>| walk.shape.iter().product();
    match read {
        // Both step by one: runs.
        Some(d) if d == last && to == 1 => vectorize(
            #[inline(always)]
            move || {
                for [i, j] in walk.points(0).take(points(&walk)) {
                    run(&x[i..i + extent], &mut y[j..j + extent], put);
                }
            },
        ),
        // One dimension is dense in x and another in y: transpositions.
        Some(d) if d < last && to == 1 => {
            let (rows, [_, pitch]) = walk.take(d);
            vectorize(
                #[inline(always)]
                move || {
                    for [i, j] in walk.points(0).take(points(&walk)) {
                        transpose((rows, extent), (&x[i..], from), (&mut y[j..], pitch), put);
                    }
                },
            );
        }
        _ => {
            for [i, j] in walk.points(0).take(points(&walk)) {
                (0..extent).for_each(|k| put(&mut y[j + k * to], x[i + k * from]));
            }
        }
    }
}

#[inline(always)]
fn run<T: Element>(x: &[T], y: &mut [T], put: impl Fn(&mut T, T)) {
    for (y, &x) in y.iter_mut().zip(x) {
        put(y, x);
    }
}

/// Side of the blocks of a transposition: a cache line of f32.
const SIDE: usize = 16;

/// y\[r·pitch + c\] = x\[c·stride + r\], by blocks that are read and written in whole lines.
#[inline(always)]
fn transpose<T: Element>(
    (rows, columns): (usize, usize),
    (x, stride): (&[T], usize),
    (y, pitch): (&mut [T], usize),
    put: impl Fn(&mut T, T) + Copy,
) {
    for c in (0..columns).step_by(SIDE) {
        for r in (0..rows).step_by(SIDE) {
            let (h, w) = (SIDE.min(rows - r), SIDE.min(columns - c));
            let mut block = [[T::default(); SIDE]; SIDE];
            if h == SIDE && w == SIDE {
                for (k, line) in block.iter_mut().enumerate() {
                    line.copy_from_slice(&x[(c + k) * stride + r..][..SIDE]);
                }
                for k in 0..SIDE {
                    let y = &mut y[(r + k) * pitch + c..][..SIDE];
                    for (y, line) in y.iter_mut().zip(&block) {
                        put(y, line[k]);
                    }
                }
            } else {
                for (k, line) in block[..w].iter_mut().enumerate() {
                    line[..h].copy_from_slice(&x[(c + k) * stride + r..][..h]);
                }
                for k in 0..h {
                    let y = &mut y[(r + k) * pitch + c..][..w];
                    for (y, line) in y.iter_mut().zip(&block) {
                        put(y, line[k]);
                    }
                }
            }
        }
    }
}
