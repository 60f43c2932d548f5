//! Rows picked by index, and their gradients.

use rayon::prelude::*;

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
        split::rows(y.slice_mut::<T>(), inner, inner, |first, y| {
            for (r, y) in (first..).zip(y.chunks_exact_mut(inner)) {
                let from = ((r / index.len()) * n + index[r % index.len()] as usize) * inner;
                y.copy_from_slice(&x[from..from + inner]);
            }
        });
    });
    Ok(())
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
        dx.par_chunks_mut(rows * inner).enumerate().for_each(|(i, dx)| part(0, i * rows, dx));
    } else {
        let work = (n + index.len()) * inner;
        split::rows(dx, n * inner, work, |first, dx| {
            dx.chunks_exact_mut(n * inner).enumerate().for_each(|(o, dx)| part(first + o, 0, dx));
        });
    }
}
