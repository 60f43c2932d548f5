//! Rows picked by index, and their gradients.

use super::{
    Buffer, Dims, memory,
    real::Store,
    simd::vectorize,
    split::{self, PARALLEL},
};
use crate::{
    dtype::{Element, with_dtype},
    error::Result,
};

/// y\[outer, j, inner\] = x\[outer, index\[j\], inner\]
pub fn gather((_, n, inner): Dims, index: &Buffer, x: &Buffer, y: &mut Buffer) -> Result<()> {
    let index = index.slice::<i64>();
    with_dtype!(y.dtype(), T => {
        let x = x.slice::<T>();
        if inner == 1 {
            // Single elements: a copy of each as if it were a row would take longer than the element.
            let backwards = index.len() == n && index.iter().rev().enumerate().all(|(i, &k)| i as i64 == k);
            split::over(y.slice_mut::<T>(), |mut start, mut y| {
                while !y.is_empty() {
                    // What is left of a row.
                    let (row, at) = (start / index.len(), start % index.len());
                    let (part, rest) = y.split_at_mut(y.len().min(index.len() - at));
                    let x = &x[row * n..][..n];
                    if backwards {
                        part.iter_mut().zip(x[..n - at].iter().rev()).for_each(|(y, &x)| *y = x);
                    } else {
                        part.iter_mut().zip(&index[at..]).for_each(|(y, &k)| *y = x[k as usize]);
                    }
                    (start, y) = (start + part.len(), rest);
                }
            });
            return Ok(());
        }
        split::rows(y.slice_mut::<T>(), inner, inner, |first, y| {
            for (r, y) in (first..).zip(y.chunks_exact_mut(inner)) {
                let from = ((r / index.len()) * n + index[r % index.len()] as usize) * inner;
                y.copy_from_slice(&x[from..from + inner]);
            }
        });
    });
    Ok(())
}

/// y\[outer, j, inner\] = x\[outer, index\[outer, j, inner\], inner\]
pub fn take_along((outer, n, inner): Dims, index: &Buffer, x: &Buffer, y: &mut Buffer) -> Result<()> {
    let index = index.slice::<i64>();
    let block = index.len() / outer.max(1);
    with_dtype!(y.dtype(), T => {
        let x = x.slice::<T>();
        split::over(y.slice_mut::<T>(), |start, y| {
            for (p, (y, &k)) in (start..).zip(y.iter_mut().zip(&index[start..])) {
                *y = x[(p / block * n + k as usize) * inner + p % inner];
            }
        });
    });
    Ok(())
}

/// dx = 0, then dx\[outer, index\[outer, j, inner\], inner\] += dy\[outer, j, inner\]; halves are summed in f32.
pub fn put_along(dims: Dims, index: &Buffer, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
    let index = index.slice::<i64>();
    with_dtype!(float "put_along", dx.dtype(), T => {
        type Sum = <T as Store>::Real;
        let dy = dy.slice::<T>();
        if T::DTYPE == Sum::DTYPE {
            put::<T, T>(dims, index, dy, dx.slice_mut());
            return Ok(());
        }
        let mut sum = Buffer::new(Sum::DTYPE, dx.len())?;
        put::<T, Sum>(dims, index, dy, sum.slice_mut());
        memory::cast(&sum, dx)
    })
}

fn put<T: Store, A: Store<Real = T::Real>>((outer, n, inner): Dims, index: &[i64], dy: &[T], dx: &mut [A]) {
    let block = index.len() / outer.max(1);
    split::rows(dx, n * inner, n * inner + block, |first, dx| {
        dx.fill(A::default());
        for (o, dx) in (first..).zip(dx.chunks_exact_mut((n * inner).max(1))) {
            let sent = o * block..(o + 1) * block;
            for (p, (&k, dy)) in index[sent.clone()].iter().zip(&dy[sent]).enumerate() {
                let dx = &mut dx[k as usize * inner + p % inner];
                *dx = A::narrow(dx.widen() + dy.widen());
            }
        }
    });
}

/// dx = 0, then dx\[outer, index\[j\], inner\] += dy\[outer, j, inner\]; halves are summed in f32.
pub fn scatter_add(dims: Dims, index: &Buffer, skip: Option<i64>, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
    let index = index.slice::<i64>();
    with_dtype!(float "scatter_add", dx.dtype(), T => {
        type Sum = <T as Store>::Real;
        let dy = dy.slice::<T>();
        if T::DTYPE == Sum::DTYPE {
            scatter::<T, T>(dims, index, skip, dy, dx.slice_mut());
            return Ok(());
        }
        let mut sum = Buffer::new(Sum::DTYPE, dx.len())?;
        scatter::<T, Sum>(dims, index, skip, dy, sum.slice_mut());
        memory::cast(&sum, dx)
    })
}

/// Each thread owns some rows of dx and looks for their indices, so every sum is in the order of j whoever forms it.
fn scatter<T: Store, A: Store<Real = T::Real>>(
    (outer, n, inner): Dims,
    index: &[i64],
    skip: Option<i64>,
    dy: &[T],
    dx: &mut [A],
) {
    if n * inner == 0 {
        return;
    }
    let part = |o: usize, first: usize, dx: &mut [A]| {
        dx.fill(A::default());
        let mine = first as i64..(first + dx.len() / inner) as i64;
        vectorize(
            #[inline(always)]
            move || {
                for (&k, dy) in index.iter().zip(dy[o * index.len() * inner..].chunks_exact(inner)) {
                    if mine.contains(&k) && Some(k) != skip {
                        let dx = &mut dx[(k as usize - first) * inner..][..inner];
                        for (dx, &dy) in dx.iter_mut().zip(dy) {
                            *dx = A::narrow(dx.widen() + dy.widen());
                        }
                    }
                }
            },
        );
    };
    if outer == 1 && dy.len() + dx.len() >= PARALLEL {
        let rows = n.div_ceil(rayon::current_num_threads());
        split::chunks(dx, rows * inner, |i, dx| part(0, i * rows, dx));
    } else {
        let work = (n + index.len()) * inner;
        split::rows(dx, n * inner, work, |first, dx| {
            dx.chunks_exact_mut(n * inner).enumerate().for_each(|(o, dx)| part(first + o, 0, dx));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cpu::testing::*, dtype::DType};

    #[test]
    fn gathers_and_scatters() {
        let cases = [
            (1, 5, 3, 8),
            (2, 4, 1, 6),
            (3, 2, 17, 2),
            (1, 50, 64, 1500),
            (40, 30, 65, 31),
            (1, 3, 0, 2),
            (2, 3, 4, 0),
        ];
        for (dtype, (outer, n, inner, picks)) in FLOATS.into_iter().flat_map(|d| cases.map(|c| (d, c))) {
            let chosen: Vec<usize> = (0..picks).map(|j| (j * 7 + j / 3) % n).collect();
            let index = indices(chosen.iter().map(|&k| k as i64));
            let x = buffer(dtype, &numbers(outer * n * inner, 1));
            let mut y = stale(dtype, outer * picks * inner);
            gather((outer, n, inner), &index, &x, &mut y).unwrap();
            let source = read(&x);
            let mut want = Vec::new();
            for o in 0..outer {
                chosen.iter().for_each(|k| want.extend_from_slice(&source[(o * n + k) * inner..][..inner]));
            }
            assert_eq!(read(&y), want);

            let mut dx = stale(dtype, outer * n * inner);
            scatter_add((outer, n, inner), &index, Some(1), &y, &mut dx).unwrap();
            // The rows that were picked come back as often as they were.
            let want: Vec<_> = (0..outer * n * inner)
                .map(|i| {
                    let k = i / inner % n;
                    source[i] * if k == 1 { 0 } else { chosen.iter().filter(|&&c| c == k).count() } as f64
                })
                .collect();
            close(&dx, &want, 16.0, &(dtype, outer, n, inner));
        }
    }

    /// In one row and in many, of which tasks begin and end in the middle.
    #[test]
    fn single_elements() {
        for (outer, n, picks) in [(1, 5, 5), (3, 4, 4), (1, 100_000, 100_000), (7, 20_001, 20_001), (5, 300, 30_000)] {
            let x = buffer(DType::F32, &numbers(outer * n, 1));
            let source = read(&x);
            let backwards: Vec<_> = (0..n).rev().collect();
            let mixed: Vec<_> = (0..picks).map(|j| j * 7 % n).collect();
            for chosen in [backwards, mixed] {
                let mut y = stale(DType::F32, outer * chosen.len());
                gather((outer, n, 1), &indices(chosen.iter().map(|&k| k as i64)), &x, &mut y).unwrap();
                let want: Vec<_> = source.chunks(n).flat_map(|row| chosen.iter().map(|&k| row[k])).collect();
                assert!(read(&y) == want, "{outer} × {n}, {}", chosen.len());
            }
        }
    }

    #[test]
    fn elements_along_an_axis() {
        for (dtype, (outer, n, inner, picks)) in FLOATS.into_iter().flat_map(|d| {
            [(1, 1, 1, 1), (3, 5, 4, 7), (2, 300, 1, 300), (7, 4, 900, 2), (1, 9, 3, 0), (0, 2, 2, 1)].map(|c| (d, c))
        }) {
            let x = buffer(dtype, &numbers(outer * n * inner, 1));
            let chosen: Vec<_> = (0..outer * picks * inner).map(|p| p * p % 31 % n).collect();
            let (source, index) = (read(&x), indices(chosen.iter().map(|&k| k as i64)));
            let mut y = stale(dtype, chosen.len());
            take_along((outer, n, inner), &index, &x, &mut y).unwrap();
            let from = |p: usize| (p / inner / picks * n + chosen[p]) * inner + p % inner;
            assert!(read(&y) == (0..chosen.len()).map(|p| source[from(p)]).collect::<Vec<_>>());

            let mut dx = stale(dtype, source.len());
            put_along((outer, n, inner), &index, &y, &mut dx).unwrap();
            let mut want = vec![0.0; source.len()];
            (0..chosen.len()).for_each(|p| want[from(p)] += read(&y)[p]);
            close(&dx, &want, 32.0, &(dtype, outer, n, inner));
        }
    }

    #[test]
    fn halves_are_summed_wide() {
        let mut dx = stale(DType::BF16, 2);
        scatter_add((1, 2, 1), &indices(vec![1; 3000]), None, &stale(DType::BF16, 3000), &mut dx).unwrap();
        assert_eq!(read(&dx), [0.0, 3008.0]);
    }

    #[test]
    fn threads_do_not_matter() {
        let dy = buffer(DType::F32, &numbers(3000 * 64, 2));
        same_on_any_threads(|| {
            let mut dx = stale(DType::F32, 50 * 64);
            scatter_add((1, 50, 64), &indices((0..3000).map(|j| j * j % 50)), None, &dy, &mut dx).unwrap();
            dx
        });
    }
}
