//! Rows picked by index, and their gradients.

use super::{Buffer, Dims, real::Store};
use crate::{dtype::with_dtype, error::Result};

/// y\[outer, j, inner\] = x\[outer, index\[j\], inner\]
pub fn gather((outer, n, inner): Dims, index: &Buffer, x: &Buffer, y: &mut Buffer) -> Result<()> {
    let index = index.slice::<i64>();
    with_dtype!(y.dtype(), T => {
        let (x, y) = (x.slice::<T>(), y.slice_mut::<T>());
        for o in 0..outer {
            for (j, &k) in index.iter().enumerate() {
                let (to, from) = ((o * index.len() + j) * inner, (o * n + k as usize) * inner);
                y[to..to + inner].copy_from_slice(&x[from..from + inner]);
            }
        }
    });
    Ok(())
}

/// dx = 0, then dx\[outer, index\[j\], inner\] += dy\[outer, j, inner\]
pub fn scatter_add(
    (outer, n, inner): Dims,
    index: &Buffer,
    skip: Option<i64>,
    dy: &Buffer,
    dx: &mut Buffer,
) -> Result<()> {
    let index = index.slice::<i64>();
    with_dtype!(float "scatter_add", dx.dtype(), T => {
        let (dy, dx) = (dy.slice::<T>(), dx.slice_mut::<T>());
        dx.fill(T::default());
        for o in 0..outer {
            for (j, &k) in index.iter().enumerate().filter(|&(_, &k)| Some(k) != skip) {
                let (from, to) = ((o * index.len() + j) * inner, (o * n + k as usize) * inner);
                for (dx, dy) in dx[to..to + inner].iter_mut().zip(&dy[from..from + inner]) {
                    *dx = T::narrow(dx.widen() + dy.widen());
                }
            }
        }
        Ok(())
    })
}
