//! The mathematics of one row (one sequence at one time step): forward and backward of every cell.
//!
//! Gates and biases come gate by gate, as slices of the units' numbers, so the loops over units become vector code inside [`vectorize`]. `gates` holds
//! pre-activations coming in and activations going out; backward finds activations and leaves the gradients of the
//! pre-activations.
//!
//! [`vectorize`]: crate::cpu::simd::vectorize

#[cfg(target_arch = "x86_64")]
use super::avx512;
use crate::cpu::{gemm::GemmReal, real::Real};
#[cfg(target_arch = "x86_64")]
use crate::{
    cpu::simd::{Isa, isa},
    dtype::DType,
};

/// Elman with tanh or ReLU: `a` pre-activations to activations, which are h′.
#[inline(always)]
pub fn rnn<T: Real, const RELU: bool>(a: &mut [T], bias: &[T], h: &mut [T]) {
    let n = h.len();
    let (a, bias) = (&mut a[..n], &bias[..n]);
    for j in 0..n {
        let x = a[j] + bias[j];
        // NaN stays NaN: only a number below zero becomes zero.
        let y = if RELU { if x < T::ZERO { T::ZERO } else { x } } else { x.tanh() };
        a[j] = y;
        h[j] = y;
    }
}

/// `a` activations to gradients of the pre-activations.
#[inline(always)]
pub fn rnn_backward<T: Real, const RELU: bool>(a: &mut [T], dh: &[T]) {
    let n = dh.len();
    let a = &mut a[..n];
    for j in 0..n {
        let y = a[j];
        a[j] = if RELU { if y > T::ZERO || y.is_nan() { dh[j] } else { T::ZERO } } else { dh[j] * (T::ONE - y * y) };
    }
}

/// LSTM, with peepholes p = (p_i, p_f, p_o) if `PEEP`: c becomes c′, h receives σ(o) ∘ tanh(c′).
#[inline(always)]
pub fn lstm<T: Real, const PEEP: bool>(
    gates: [&mut [T]; 4],
    bias: [&[T]; 4],
    peep: [&[T]; 3],
    c: &mut [T],
    h: &mut [T],
) {
    let n = h.len();
    let [gi, gf, gg, go] = gates.map(|g| &mut g[..n]);
    let [bi, bf, bg, bo] = bias.map(|b| &b[..n]);
    let c = &mut c[..n];
    let [pi, pf, po] = if PEEP { peep.map(|p| &p[..n]) } else { [bi; 3] };
    for j in 0..n {
        let (mut i, mut f, mut o) = (gi[j] + bi[j], gf[j] + bf[j], go[j] + bo[j]);
        if PEEP {
            i = pi[j].fma(c[j], i);
            f = pf[j].fma(c[j], f);
        }
        let (i, f, g) = (i.sigmoid(), f.sigmoid(), (gg[j] + bg[j]).tanh());
        let cell = f.fma(c[j], i * g);
        if PEEP {
            o = po[j].fma(cell, o);
        }
        let o = o.sigmoid();
        gi[j] = i;
        gf[j] = f;
        gg[j] = g;
        go[j] = o;
        c[j] = cell;
        h[j] = o * cell.tanh();
    }
}

/// `gates` activations to gradients; `dc` gradient of c′ to that of c. `dh` is the gradient of σ(o) ∘ tanh(c′).
#[inline(always)]
pub fn lstm_backward<T: Real, const PEEP: bool>(
    gates: [&mut [T]; 4],
    peep: [&[T]; 3],
    c: &[T],
    c_before: &[T],
    dh: &[T],
    dc: &mut [T],
) {
    let n = dh.len();
    let [gi, gf, gg, go] = gates.map(|g| &mut g[..n]);
    let (c, c_before, dc) = (&c[..n], &c_before[..n], &mut dc[..n]);
    let [pi, pf, po] = if PEEP { peep.map(|p| &p[..n]) } else { [c; 3] };
    for j in 0..n {
        let (i, f, g, o) = (gi[j], gf[j], gg[j], go[j]);
        let t = c[j].tanh();
        let d_o = dh[j] * t * (o * (T::ONE - o));
        let mut d_c = (dh[j] * o).fma(T::ONE - t * t, dc[j]);
        if PEEP {
            d_c = d_o.fma(po[j], d_c);
        }
        let d_i = d_c * g * (i * (T::ONE - i));
        let d_f = d_c * c_before[j] * (f * (T::ONE - f));
        let mut before = d_c * f;
        if PEEP {
            before = d_i.fma(pi[j], before);
            before = d_f.fma(pf[j], before);
        }
        gi[j] = d_i;
        gf[j] = d_f;
        gg[j] = d_c * i * (T::ONE - g * g);
        go[j] = d_o;
        dc[j] = before;
    }
}

/// GRU with the reset gate after the product. `q` comes in as W_hn h and goes out as W_hn h + b_hn; `bias` is r, z, n of the
/// input, n of the state; h receives h′.
#[inline(always)]
pub fn gru<T: Real>(gates: [&mut [T]; 3], bias: [&[T]; 4], q: &mut [T], before: &[T], h: &mut [T]) {
    let n = h.len();
    let [gr, gz, gn] = gates.map(|g| &mut g[..n]);
    let [br, bz, bn, bq] = bias.map(|b| &b[..n]);
    let (q, before) = (&mut q[..n], &before[..n]);
    for j in 0..n {
        let r = (gr[j] + br[j]).sigmoid();
        let z = (gz[j] + bz[j]).sigmoid();
        let p = q[j] + bq[j];
        let a = r.fma(p, gn[j] + bn[j]).tanh();
        gr[j] = r;
        gz[j] = z;
        gn[j] = a;
        q[j] = p;
        h[j] = z.fma(before[j] - a, a);
    }
}

/// Leaves in `gates` the gradients of the input's pre-activations, in `q` that of W_hn h + b_hn, and in `dh` the part z ∘ dh of the
/// gradient of h.
#[inline(always)]
pub fn gru_backward<T: Real>(gates: [&mut [T]; 3], q: &mut [T], h_before: &[T], dh: &mut [T]) {
    let n = dh.len();
    let [gr, gz, gn] = gates.map(|g| &mut g[..n]);
    let (q, h_before) = (&mut q[..n], &h_before[..n]);
    for j in 0..n {
        let (r, z, a, p, d) = (gr[j], gz[j], gn[j], q[j], dh[j]);
        let d_a = d * (T::ONE - z) * (T::ONE - a * a);
        gz[j] = d * (h_before[j] - a) * (z * (T::ONE - z));
        gr[j] = d_a * p * (r * (T::ONE - r));
        gn[j] = d_a;
        q[j] = d_a * r;
        dh[j] = d * z;
    }
}

/// First half of the GRU with the reset gate before the product: r, z, and `q` = r ∘ h.
#[inline(always)]
pub fn gru_before_gates<T: Real>(gates: [&mut [T]; 2], bias: [&[T]; 2], h: &[T], q: &mut [T]) {
    let n = h.len();
    let [gr, gz] = gates.map(|g| &mut g[..n]);
    let ([br, bz], q) = (bias.map(|b| &b[..n]), &mut q[..n]);
    for j in 0..n {
        let r = (gr[j] + br[j]).sigmoid();
        gr[j] = r;
        gz[j] = (gz[j] + bz[j]).sigmoid();
        q[j] = r * h[j];
    }
}

/// Second half: n, and h′ in h.
#[inline(always)]
pub fn gru_before_state<T: Real>([gz, gn]: [&mut [T]; 2], bias: &[T], before: &[T], h: &mut [T]) {
    let n = h.len();
    let (gz, gn, bn, before) = (&gz[..n], &mut gn[..n], &bias[..n], &before[..n]);
    for j in 0..n {
        let a = (gn[j] + bn[j]).tanh();
        gn[j] = a;
        h[j] = gz[j].fma(before[j] - a, a);
    }
}

/// First half of its backward: gradients of n and z, and z ∘ dh in `dh`.
#[inline(always)]
pub fn gru_before_state_backward<T: Real>(gates: [&mut [T]; 2], h_before: &[T], dh: &mut [T]) {
    let n = dh.len();
    let [gz, gn] = gates.map(|g| &mut g[..n]);
    let h_before = &h_before[..n];
    for j in 0..n {
        let (z, a, d) = (gz[j], gn[j], dh[j]);
        gn[j] = d * (T::ONE - z) * (T::ONE - a * a);
        gz[j] = d * (h_before[j] - a) * (z * (T::ONE - z));
        dh[j] = d * z;
    }
}

/// Second half: from the gradient `dq` of r ∘ h, that of r and its part of dh.
#[inline(always)]
pub fn gru_before_gates_backward<T: Real>(gr: &mut [T], h_before: &[T], dq: &[T], dh: &mut [T]) {
    let n = dh.len();
    let (gr, h_before, dq) = (&mut gr[..n], &h_before[..n], &dq[..n]);
    for j in 0..n {
        let r = gr[j];
        dh[j] = dq[j].fma(r, dh[j]);
        gr[j] = dq[j] * h_before[j] * (r * (T::ONE - r));
    }
}

/// A row of an LSTM's step, with peepholes if there are some. h receives σ(o) ∘ tanh(c); `kept` c′ as well. Without it the gates are
/// not needed any more.
#[inline(always)]
pub fn lstm_row<T: GemmReal>(
    gates: [&mut [T]; 4],
    bias: [&[T]; 4],
    peephole: Option<[&[T]; 3]>,
    c: &mut [T],
    kept: Option<&mut [T]>,
    h: &mut [T],
) {
    #[cfg(target_arch = "x86_64")]
    if T::DTYPE == DType::F32 && isa() >= Isa::Avx512 {
        use bytemuck::{cast_slice, cast_slice_mut};
        let (gates, bias) = (gates.map(cast_slice_mut), bias.map(cast_slice));
        let (peephole, kept) = (peephole.map(|p| p.map(cast_slice)), kept.map(cast_slice_mut));
        // SAFETY: the processor has it.
        return unsafe { avx512::lstm(gates, bias, peephole, cast_slice_mut(c), kept, cast_slice_mut(h)) };
    }
    match peephole {
        Some(peephole) => lstm::<T, true>(gates, bias, peephole, c, h),
        None => lstm::<T, false>(gates, bias, [&[]; 3], c, h),
    }
    if let Some(kept) = kept {
        kept.copy_from_slice(c);
    }
}

/// A row of an LSTM's step back; see [`lstm_backward`].
#[inline(always)]
pub fn lstm_row_backward<T: GemmReal>(
    gates: [&mut [T]; 4],
    peephole: Option<[&[T]; 3]>,
    c: &[T],
    c_before: &[T],
    dh: &[T],
    dc: &mut [T],
) {
    #[cfg(target_arch = "x86_64")]
    if T::DTYPE == DType::F32 && isa() >= Isa::Avx512 {
        use bytemuck::{cast_slice, cast_slice_mut};
        let (gates, peephole) = (gates.map(cast_slice_mut), peephole.map(|p| p.map(cast_slice)));
        let (c, c_before, dh) = (cast_slice(c), cast_slice(c_before), cast_slice(dh));
        // SAFETY: the processor has it.
        return unsafe { avx512::lstm_backward(gates, peephole, c, c_before, dh, cast_slice_mut(dc)) };
    }
    match peephole {
        Some(peephole) => lstm_backward::<T, true>(gates, peephole, c, c_before, dh, dc),
        None => lstm_backward::<T, false>(gates, [&[]; 3], c, c_before, dh, dc),
    }
}

/// A row of a GRU's step; see [`gru`]. Without `training` neither gates nor q are needed any more.
#[inline(always)]
pub fn gru_row<T: GemmReal>(
    gates: [&mut [T]; 3],
    bias: [&[T]; 4],
    q: &mut [T],
    before: &[T],
    training: bool,
    h: &mut [T],
) {
    #[cfg(target_arch = "x86_64")]
    if T::DTYPE == DType::F32 && isa() >= Isa::Avx512 {
        use bytemuck::{cast_slice, cast_slice_mut};
        let (gates, bias) = (gates.map(cast_slice_mut), bias.map(cast_slice));
        let (q, before, h) = (cast_slice_mut(q), cast_slice(before), cast_slice_mut(h));
        // SAFETY: the processor has it.
        return unsafe { avx512::gru(gates, bias, q, before, training, h) };
    }
    let _ = training;
    gru(gates, bias, q, before, h);
}

/// A row of an Elman step with tanh; see [`rnn`].
#[inline(always)]
pub fn tanh_row<T: GemmReal>(a: &mut [T], bias: &[T], training: bool, h: &mut [T]) {
    #[cfg(target_arch = "x86_64")]
    if T::DTYPE == DType::F32 && isa() >= Isa::Avx512 {
        use bytemuck::{cast_slice, cast_slice_mut};
        // SAFETY: the processor has it.
        return unsafe { avx512::rnn(cast_slice_mut(a), cast_slice(bias), training, cast_slice_mut(h)) };
    }
    let _ = training;
    rnn::<T, false>(a, bias, h);
}
