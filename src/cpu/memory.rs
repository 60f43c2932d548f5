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

/// Into a slice of the same length and type.
pub fn download<T: Element>(x: &Buffer, host: &mut [T]) -> Result<()> {
    host.copy_from_slice(x.slice());
    Ok(())
}

/// y = value
pub fn fill(value: f64, y: &mut Buffer) -> Result<()> {
    with_dtype!(y.dtype(), T => {
        let value = <T as Element>::from_f64(value);
        split::over(y.slice_mut::<T>(), |_, y| y.fill(value));
    });
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
            convert(x.slice(), y.slice_mut(), #[inline(always)] |x: S| <D as Element>::from_f64(x.to_f64()));
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
    let used = y.len().min(extent.div_ceil(group) * group * to);
    split::chunks(&mut y[..used], group * to, |i, y| {
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
        // One element for a whole run.
        _ if from == 0 && to == 1 => vectorize(
            #[inline(always)]
            move || {
                for [i, j] in walk.points(0).take(points(&walk)) {
                    let x = x[i];
                    for y in &mut y[j..j + extent] {
                        put(y, x);
                    }
                }
            },
        ),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::*;

    const ALL: [DType; 7] = [DType::F64, DType::F32, DType::F16, DType::BF16, DType::U32, DType::I64, DType::U8];

    #[test]
    fn fills_and_casts() {
        for (a, b, n) in ALL.into_iter().flat_map(|a| ALL.map(|b| (a, b))).flat_map(|(a, b)| LENGTHS.map(|n| (a, b, n)))
        {
            let x = buffer(a, &numbers(n, 1).iter().map(|v| v * 50.0).collect::<Vec<_>>());
            let mut y = stale(b, n);
            cast(&x, &mut y).unwrap();
            let want: Vec<f64> =
                with_dtype!(b, T => read(&x).into_iter().map(|v| <T as Element>::from_f64(v).to_f64()).collect());
            let got = read(&y);
            let wrong = (0..n).find(|&i| got[i] != want[i]).map(|i| (i, read(&x)[i], got[i], want[i]));
            assert_eq!(wrong, None, "{a} to {b}, {n}");
            fill(3.0, &mut y).unwrap();
            assert!(read(&y) == vec![3.0; n]);
        }
    }

    #[test]
    fn casts_at_the_ends() {
        let mut y = stale(DType::I64, 4);
        cast(&buffer(DType::F32, &[f64::NAN, 1e30, -1.9, 1.9]), &mut y).unwrap();
        assert_eq!(y.slice::<i64>(), [0, i64::MAX, -1, 1]);
        let mut y = stale(DType::F16, 3);
        cast(&buffer(DType::F32, &[1e6, f64::NEG_INFINITY, f64::NAN]), &mut y).unwrap();
        close(&y, &[f64::INFINITY, f64::NEG_INFINITY, f64::NAN], 0.0, &"ends");
    }

    #[test]
    fn copies_any_walk() {
        // Shape, strides and offsets of both sides: runs, transpositions in all orders, slices, stretched inputs.
        type Side<'a> = (&'a [usize], usize);
        let cases: [(&[usize], Side, Side); 17] = [
            (&[], (&[], 3), (&[], 2)),
            (&[1000], (&[1], 0), (&[1], 7)),
            (&[10, 20], (&[1, 10], 0), (&[20, 1], 0)),
            (&[10, 20], (&[20, 1], 0), (&[1, 10], 0)),
            (&[100, 33], (&[1, 100], 5), (&[40, 1], 3)),
            (&[4, 30, 50], (&[1500, 1, 30], 0), (&[1500, 50, 1], 0)),
            (&[7, 5, 16], (&[16, 112, 1], 0), (&[80, 16, 1], 0)),
            (&[7, 5, 16], (&[2, 14, 70], 0), (&[80, 16, 1], 0)),
            (&[5, 9], (&[0, 1], 0), (&[9, 1], 0)),
            (&[5, 9], (&[0, 0], 2), (&[9, 1], 3)),
            (&[70, 9], (&[1, 0], 2), (&[12, 1], 1)),
            (&[300, 400], (&[1, 0], 0), (&[400, 1], 0)),
            (&[3, 0, 2], (&[0, 2, 1], 9), (&[0, 2, 1], 9)),
            (&[300, 400], (&[1, 300], 0), (&[400, 1], 0)),
            (&[300, 400], (&[400, 1], 0), (&[800, 2], 1)),
            (&[8, 70, 256], (&[256, 2048, 1], 0), (&[70 * 256, 256, 1], 0)),
            (&[300_000], (&[1], 1), (&[1], 1)),
        ];
        for (dtype, (shape, from, to)) in ALL.into_iter().flat_map(|d| cases.map(|c| (d, c))) {
            let reach =
                |(s, o): Side| o + 1 + shape.iter().zip(s).map(|(&n, s)| n.max(1).saturating_sub(1) * s).sum::<usize>();
            let x = buffer(dtype, &numbers(reach(from), 2).iter().map(|v| (v * 8.0).round()).collect::<Vec<_>>());
            for accumulate in [false, true] {
                if accumulate && !dtype.is_float() {
                    continue;
                }
                let mut y = stale(dtype, reach(to));
                let walk = |(strides, offset)| Strided { strides, offset };
                copy_strided(shape, &x, walk(from), &mut y, walk(to), accumulate).unwrap();
                let (source, mut want) = (read(&x), vec![1.0; reach(to)]);
                for i in 0..shape.iter().product() {
                    let (mut rest, mut p, mut q) = (i, from.1, to.1);
                    for d in (0..shape.len()).rev() {
                        p += rest % shape[d] * from.0[d];
                        q += rest % shape[d] * to.0[d];
                        rest /= shape[d];
                    }
                    want[q] = if accumulate { want[q] + source[p] } else { source[p] };
                }
                assert!(read(&y) == want, "{dtype} {shape:?} {from:?} {to:?} {accumulate}");
            }
        }
    }
}
