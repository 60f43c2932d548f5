//! Passes over rows in AVX-512.

use std::arch::x86_64::*;

use crate::cpu::lanes::{Lanes, each, sigmoid, tanh};

/// Vectors whose units are computed side by side, each operation for all of them: one alone would wait for its own results.
const ABREAST: usize = 2;

/// The units of vectors from j on, of n, as masks: none where there are no more.
#[inline(always)]
fn units<const N: usize>(n: usize, j: usize) -> [__mmask16; N] {
    let mut masks = [0; N];
    for k in 0..N {
        let rest = n.saturating_sub(j + 16 * k);
        masks[k] = if rest >= 16 { 0xffff } else { (1 << rest) - 1 };
    }
    masks
}

/// Units from j on, where the masks have them.
///
/// # Safety
/// They are there.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn load<const N: usize>(p: *const f32, j: usize, masks: [__mmask16; N]) -> Lanes<N> {
    // SAFETY: what is masked out is not touched.
    each!(N, k => unsafe { _mm512_maskz_loadu_ps(masks[k], p.wrapping_add(j + 16 * k)) })
}

/// Puts units from j on back, where the masks have them.
///
/// # Safety
/// They are there.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn store<const N: usize>(p: *mut f32, j: usize, masks: [__mmask16; N], x: Lanes<N>) {
    for k in 0..N {
        // SAFETY: what is masked out is not touched.
        unsafe { _mm512_mask_storeu_ps(p.wrapping_add(j + 16 * k), masks[k], x[k]) };
    }
}

/// `rows::lstm`; with peepholes where there are some. Activations are stored, and c′ in `kept` too, if there is that.
///
/// # Safety
/// The processor has AVX-512 F and DQ.
#[target_feature(enable = "avx512f,avx512dq")]
pub unsafe fn lstm(
    gates: [&mut [f32]; 4],
    bias: [&[f32]; 4],
    peephole: Option<[&[f32]; 3]>,
    c: &mut [f32],
    kept: Option<&mut [f32]>,
    h: &mut [f32],
) {
    const N: usize = ABREAST;
    let n = h.len();
    let kept = kept.map(|kept| kept[..n].as_mut_ptr());
    let gates = gates.map(|g| g[..n].as_mut_ptr());
    let (bias, peephole) = (bias.map(|b| b[..n].as_ptr()), peephole.map(|p| p.map(|p| p[..n].as_ptr())));
    let (c, h) = (c[..n].as_mut_ptr(), h.as_mut_ptr());
    for j in (0..n).step_by(16 * N) {
        let masks = units::<N>(n, j);
        // SAFETY: the masks end with the unit n, up to which every slice reaches.
        unsafe {
            let gate = |gate: usize| {
                let (x, b) = (load(gates[gate], j, masks), load(bias[gate], j, masks));
                each!(N, k => _mm512_add_ps(x[k], b[k]))
            };
            let (mut i, mut f, g, mut o) = (gate(0), gate(1), gate(2), gate(3));
            let before = load(c, j, masks);
            if let Some(p) = peephole {
                let (pi, pf) = (load(p[0], j, masks), load(p[1], j, masks));
                i = each!(N, k => _mm512_fmadd_ps(pi[k], before[k], i[k]));
                f = each!(N, k => _mm512_fmadd_ps(pf[k], before[k], f[k]));
            }
            let [i0, i1, f0, f1] = sigmoid([i[0], i[1], f[0], f[1]]);
            let (i, f, g) = ([i0, i1], [f0, f1], tanh(g));
            let cell = each!(N, k => _mm512_fmadd_ps(f[k], before[k], _mm512_mul_ps(i[k], g[k])));
            if let Some(p) = peephole {
                let po = load(p[2], j, masks);
                o = each!(N, k => _mm512_fmadd_ps(po[k], cell[k], o[k]));
            }
            let (o, t) = (sigmoid(o), tanh(cell));
            if let Some(kept) = kept {
                for (gate, value) in gates.into_iter().zip([i, f, g, o]) {
                    store(gate, j, masks, value);
                }
                store(kept, j, masks, cell);
            }
            store(c, j, masks, cell);
            store(h, j, masks, each!(N, k => _mm512_mul_ps(o[k], t[k])));
        }
    }
}

/// `rows::lstm_backward`; with peepholes where there are some.
///
/// # Safety
/// The processor has AVX-512 F and DQ.
#[target_feature(enable = "avx512f,avx512dq")]
pub unsafe fn lstm_backward(
    gates: [&mut [f32]; 4],
    peephole: Option<[&[f32]; 3]>,
    c: &[f32],
    c_before: &[f32],
    dh: &[f32],
    dc: &mut [f32],
) {
    const N: usize = ABREAST;
    let n = dh.len();
    let gates = gates.map(|g| g[..n].as_mut_ptr());
    let peephole = peephole.map(|p| p.map(|p| p[..n].as_ptr()));
    let (c, c_before, dh, dc) = (c[..n].as_ptr(), c_before[..n].as_ptr(), dh.as_ptr(), dc[..n].as_mut_ptr());
    let one = _mm512_set1_ps(1.0);
    for j in (0..n).step_by(16 * N) {
        let masks = units::<N>(n, j);
        // SAFETY: the masks end with the unit n, up to which every slice reaches.
        unsafe {
            let ts = tanh(load(c, j, masks));
            for (k, t) in ts.into_iter().enumerate() {
                let (j, mask) = (j + 16 * k, [masks[k]]);
                let load = |p: *const f32| load(p, j, mask)[0];
                let [i, f, g, o] = gates.map(|p| load(p));
                let d = load(dh);
                // x (1 − x), the derivative of σ, and 1 − x², that of tanh.
                let of_sigmoid = |x| _mm512_fnmadd_ps(x, x, x);
                let of_tanh = |x| _mm512_fnmadd_ps(x, x, one);
                let d_o = _mm512_mul_ps(_mm512_mul_ps(d, t), of_sigmoid(o));
                let mut d_c = _mm512_fmadd_ps(_mm512_mul_ps(d, o), of_tanh(t), load(dc));
                if let Some(p) = peephole {
                    d_c = _mm512_fmadd_ps(d_o, load(p[2]), d_c);
                }
                let d_i = _mm512_mul_ps(_mm512_mul_ps(d_c, g), of_sigmoid(i));
                let d_f = _mm512_mul_ps(_mm512_mul_ps(d_c, load(c_before)), of_sigmoid(f));
                let d_g = _mm512_mul_ps(_mm512_mul_ps(d_c, i), of_tanh(g));
                let mut before = _mm512_mul_ps(d_c, f);
                if let Some(p) = peephole {
                    before = _mm512_fmadd_ps(d_i, load(p[0]), before);
                    before = _mm512_fmadd_ps(d_f, load(p[1]), before);
                }
                for (gate, value) in gates.into_iter().zip([d_i, d_f, d_g, d_o]) {
                    store(gate, j, mask, [value]);
                }
                store(dc, j, mask, [before]);
            }
        }
    }
}

/// `rows::gru`; without `training` what the gates and q become is not stored.
///
/// # Safety
/// The processor has AVX-512 F and DQ.
#[target_feature(enable = "avx512f,avx512dq")]
pub unsafe fn gru(
    gates: [&mut [f32]; 3],
    bias: [&[f32]; 4],
    q: &mut [f32],
    before: &[f32],
    training: bool,
    h: &mut [f32],
) {
    const N: usize = ABREAST;
    let n = h.len();
    let (gates, bias) = (gates.map(|g| g[..n].as_mut_ptr()), bias.map(|b| b[..n].as_ptr()));
    let (q, before, h) = (q[..n].as_mut_ptr(), before[..n].as_ptr(), h.as_mut_ptr());
    for j in (0..n).step_by(16 * N) {
        let masks = units::<N>(n, j);
        // SAFETY: the masks end with the unit n, up to which every slice reaches.
        unsafe {
            let sum = |x: *const f32, b: *const f32| {
                let (x, b) = (load(x, j, masks), load(b, j, masks));
                each!(N, k => _mm512_add_ps(x[k], b[k]))
            };
            let (r, z) = (sum(gates[0], bias[0]), sum(gates[1], bias[1]));
            let [r0, r1, z0, z1] = sigmoid([r[0], r[1], z[0], z[1]]);
            let (r, z) = ([r0, r1], [z0, z1]);
            let (p, a) = (sum(q, bias[3]), sum(gates[2], bias[2]));
            let a = tanh(each!(N, k => _mm512_fmadd_ps(r[k], p[k], a[k])));
            if training {
                for (gate, value) in gates.into_iter().zip([r, z, a]) {
                    store(gate, j, masks, value);
                }
                store(q, j, masks, p);
            }
            let before = load(before, j, masks);
            store(h, j, masks, each!(N, k => _mm512_fmadd_ps(z[k], _mm512_sub_ps(before[k], a[k]), a[k])));
        }
    }
}

/// `rows::rnn` with tanh.
///
/// # Safety
/// The processor has AVX-512 F and DQ.
#[target_feature(enable = "avx512f,avx512dq")]
pub unsafe fn rnn(a: &mut [f32], bias: &[f32], training: bool, h: &mut [f32]) {
    const N: usize = 4;
    let n = h.len();
    let (a, bias, h) = (a[..n].as_mut_ptr(), bias[..n].as_ptr(), h.as_mut_ptr());
    for j in (0..n).step_by(16 * N) {
        let masks = units::<N>(n, j);
        // SAFETY: the masks end with the unit n, up to which every slice reaches.
        unsafe {
            let (x, b) = (load(a, j, masks), load(bias, j, masks));
            let y = tanh(each!(N, k => _mm512_add_ps(x[k], b[k])));
            if training {
                store(a, j, masks, y);
            }
            store(h, j, masks, y);
        }
    }
}
