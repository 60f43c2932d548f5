//! Matrix products.

use super::{
    Buffer,
    real::{Real, Store},
};
use crate::{dtype::with_dtype, error::Result, kernel::Gemm};

/// See [`Gemm`].
pub fn gemm(g: &Gemm, a: &Buffer, b: &Buffer, c: &mut Buffer) -> Result<()> {
    with_dtype!(float "gemm", c.dtype(), T => {
        let (a, b, c) = (a.slice::<T>(), b.slice::<T>(), c.slice_mut::<T>());
        let (alpha, beta) = (<T as Store>::Real::of(g.alpha), <T as Store>::Real::of(g.beta));
        for i in 0..g.batch {
            let (a, b) = (&a[i * g.stride_a..], &b[i * g.stride_b..]);
            for (r, q) in (0..g.m).flat_map(|r| (0..g.n).map(move |q| (r, q))) {
                let mut sum = <T as Store>::Real::ZERO;
                for p in 0..g.k {
                    let x = a[if g.trans_a { p * g.m + r } else { r * g.k + p }].widen();
                    let y = b[if g.trans_b { q * g.k + p } else { p * g.n + q }].widen();
                    sum += x * y;
                }
                let c = &mut c[(i * g.m + r) * g.n + q];
                *c = T::narrow(if g.beta == 0.0 { alpha * sum } else { alpha * sum + beta * c.widen() });
            }
        }
        Ok(())
    })
}
