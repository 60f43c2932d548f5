//! softmax and its logarithm along one axis.

use super::{
    Buffer, Dims,
    real::{Real, Store},
};
use crate::{dtype::with_dtype, error::Result};

/// y = softmax(x) along n.
pub fn softmax(log: bool, (outer, n, inner): Dims, x: &Buffer, y: &mut Buffer) -> Result<()> {
    with_dtype!(float "softmax", y.dtype(), T => {
        let (x, y) = (x.slice::<T>(), y.slice_mut::<T>());
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let at = |j: usize| (o * n + j) * inner + i;
            let max = (0..n).map(|j| x[at(j)].widen()).fold(<T as Store>::Real::NEG_INFINITY, |a, x| {
                if x > a || x.is_nan() { x } else { a }
            });
            let sum: <T as Store>::Real = (0..n).map(|j| (x[at(j)].widen() - max).exp()).sum();
            for j in 0..n {
                let shifted = x[at(j)].widen() - max;
                y[at(j)] = T::narrow(if log { shifted - sum.ln() } else { shifted.exp() / sum });
            }
        }
        Ok(())
    })
}

/// dx from y and dy.
pub fn softmax_backward(log: bool, (outer, n, inner): Dims, y: &Buffer, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
    with_dtype!(float "softmax_backward", dx.dtype(), T => {
        let (y, dy, dx) = (y.slice::<T>(), dy.slice::<T>(), dx.slice_mut::<T>());
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let at = |j: usize| (o * n + j) * inner + i;
            let pair = |j: usize| (y[at(j)].widen(), dy[at(j)].widen());
            let sum: <T as Store>::Real = (0..n).map(|j| if log { pair(j).1 } else { pair(j).0 * pair(j).1 }).sum();
            for j in 0..n {
                let (y, dy) = pair(j);
                dx[at(j)] = T::narrow(if log { dy - y.exp() * sum } else { y * (dy - sum) });
            }
        }
        Ok(())
    })
}
