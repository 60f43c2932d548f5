//! The kernel of the interface: products of buffers.

use super::{
    GemmReal, Mat, MatMut, PARALLEL, Precision, product,
    space::{WIDE, with_space},
};
use crate::{
    cpu::{
        Buffer,
        real::{Real, Store, narrow, widen},
        split,
    },
    dtype::with_dtype,
    error::Result,
    kernel::Gemm,
};

/// The kernel of the interface: batched, any floating-point dtype. f16 and bf16 are widened, multiplied in f32 or, where
/// tiles are for them, in the bits that they have, and rounded once.
pub fn gemm(g: &Gemm, a: &Buffer, b: &Buffer, c: &mut Buffer) -> Result<()> {
    with_dtype!(float "gemm", c.dtype(), T => {
        let (xs, ys) = (a.slice::<T>(), b.slice::<T>());
        let zs = c.slice_mut::<T>();
        batched::<T>(g, xs, ys, zs);
        Ok(())
    })
}

pub(super) fn batched<S: Store<Real: GemmReal>>(g: &Gemm, a: &[S], b: &[S], c: &mut [S]) {
    let (m, n, k) = (g.m, g.n, g.k);
    let (alpha, beta) = (S::Real::of(g.alpha), S::Real::of(g.beta));
    let one = |i: usize, c: &mut [S]| {
        let (a, b) = (&a[i * g.stride_a..][..m * k], &b[i * g.stride_b..][..k * n]);
        let run = |a: &[S::Real], b: &[S::Real], c: &mut [S::Real]| {
            let (ars, acs) = if g.trans_a { (1, m) } else { (k, 1) };
            let (brs, bcs) = if g.trans_b { (1, k) } else { (n, 1) };
            let (a, b) = (Mat::new(a, m, ars, k, acs), Mat::new(b, k, brs, n, bcs));
            product(Precision::of(S::DTYPE), (m, n, k), a, b, MatMut::new(c, m, n, n), (alpha, beta));
        };
        // A stored type that computes in itself is used as it lies.
        if S::DTYPE == <S::Real as crate::dtype::Element>::DTYPE {
            run(bytemuck::cast_slice(a), bytemuck::cast_slice(b), bytemuck::cast_slice_mut(c));
        } else {
            with_space(&WIDE, a.len() + b.len() + c.len(), |space: &mut [S::Real]| {
                let (x, rest) = space.split_at_mut(a.len());
                let (y, z) = rest.split_at_mut(b.len());
                widen(a, x);
                widen(b, y);
                if beta != S::Real::ZERO {
                    widen(c, z);
                }
                run(x, y, z);
                narrow(z, c);
            });
        }
    };
    if m * n * g.batch == 0 {
        return;
    }
    // Threads share a product, or many products.
    let work = m.saturating_mul(n).saturating_mul(k);
    let shared = work >= PARALLEL || work.saturating_mul(g.batch) < PARALLEL;
    let each = if shared { g.batch } else { g.batch.div_ceil(4 * rayon::current_num_threads()) };
    split::chunks(&mut c[..g.batch * m * n], each * m * n, |task, c| {
        c.chunks_mut(m * n).enumerate().for_each(|(i, c)| one(task * each + i, c));
    });
}
