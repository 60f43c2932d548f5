//! Passes over rows in AVX-512: reciprocals by an estimate and one Newton step, powers of two by `vscalefps`. A
//! division of sixteen numbers takes as long as eight products do.

use std::arch::x86_64::*;

/// Vectors whose units are computed side by side, each operation for all of them: one alone would wait for its own results.
const ABREAST: usize = 2;

type Lanes<const N: usize> = [__m512; N];

/// A value for each of some vectors, by a loop that is unrolled.
macro_rules! each {
    ($n:ident, $k:ident => $value:expr) => {{
        let mut y = [_mm512_setzero_ps(); $n];
        for $k in 0..$n {
            y[$k] = $value;
        }
        y
    }};
}

/// eˣ for x from −105 to 89, which others are taken for; NaN stays NaN. The polynomial is that of `Real::exp`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn exp<const N: usize>(x: Lanes<N>) -> Lanes<N> {
    let set = |v: f32| _mm512_set1_ps(v);
    // NaN as the second operand is what min and max give back.
    let x = each!(N, k => _mm512_min_ps(set(89.0), _mm512_max_ps(set(-105.0), x[k])));
    let n = each!(N, k => _mm512_mul_ps(x[k], set(std::f32::consts::LOG2_E)));
    let n = each!(N, k => _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(n[k]));
    let r = each!(N, k => _mm512_fmadd_ps(n[k], set(-0.693_359_4), x[k]));
    let r = each!(N, k => _mm512_fmadd_ps(n[k], set(2.121_944_4e-4), r[k]));
    let p = each!(N, k => _mm512_fmadd_ps(set(1.987_569_2e-4), r[k], set(1.398_2e-3)));
    let p = each!(N, k => _mm512_fmadd_ps(p[k], r[k], set(8.333_452e-3)));
    let p = each!(N, k => _mm512_fmadd_ps(p[k], r[k], set(4.166_579_6e-2)));
    let p = each!(N, k => _mm512_fmadd_ps(p[k], r[k], set(1.666_666_5e-1)));
    let p = each!(N, k => _mm512_fmadd_ps(p[k], r[k], set(0.5)));
    let p = each!(N, k => _mm512_mul_ps(p[k], r[k]));
    let y = each!(N, k => _mm512_fmadd_ps(p[k], r[k], r[k]));
    let y = each!(N, k => _mm512_add_ps(y[k], set(1.0)));
    each!(N, k => _mm512_scalef_ps(y[k], n[k]))
}

/// 1 / d for d from 1 to 10³⁷.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn reciprocal<const N: usize>(d: Lanes<N>) -> Lanes<N> {
    let y = each!(N, k => _mm512_rcp14_ps(d[k]));
    let e = each!(N, k => _mm512_fnmadd_ps(d[k], y[k], _mm512_set1_ps(1.0)));
    each!(N, k => _mm512_fmadd_ps(e[k], y[k], y[k]))
}

/// 1 / (1 + e⁻ˣ); below −85, where that is under 2 · 10⁻³⁷, zero.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn sigmoid<const N: usize>(x: Lanes<N>) -> Lanes<N> {
    let low = _mm512_set1_ps(-85.0);
    let minus = each!(N, k => _mm512_sub_ps(_mm512_setzero_ps(), _mm512_max_ps(low, x[k])));
    let d = exp(minus);
    let d = each!(N, k => _mm512_add_ps(d[k], _mm512_set1_ps(1.0)));
    let y = reciprocal(d);
    // Not less: NaN as well.
    each!(N, k => _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x[k], low), y[k]))
}

/// tanh x, as `Real::tanh` has it.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn tanh<const N: usize>(x: Lanes<N>) -> Lanes<N> {
    let set = |v: f32| _mm512_set1_ps(v);
    let a = each!(N, k => _mm512_min_ps(set(40.0), _mm512_abs_ps(x[k])));
    let twice = each!(N, k => _mm512_add_ps(a[k], a[k]));
    let d = exp(twice);
    let d = each!(N, k => _mm512_add_ps(d[k], set(1.0)));
    let part = reciprocal(d);
    let large = each!(N, k => _mm512_fnmadd_ps(set(2.0), part[k], set(1.0)));
    let z = each!(N, k => _mm512_mul_ps(x[k], x[k]));
    let p = each!(N, k => _mm512_fmadd_ps(set(-5.704_988_7e-3), z[k], set(2.063_909e-2)));
    let p = each!(N, k => _mm512_fmadd_ps(p[k], z[k], set(-5.373_971_6e-2)));
    let p = each!(N, k => _mm512_fmadd_ps(p[k], z[k], set(1.333_144_2e-1)));
    let p = each!(N, k => _mm512_fmadd_ps(p[k], z[k], set(-3.333_328e-1)));
    let p = each!(N, k => _mm512_mul_ps(p[k], z[k]));
    let small = each!(N, k => _mm512_fmadd_ps(p[k], a[k], a[k]));
    let y = each!(N, k => _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a[k], set(0.625)), large[k], small[k]));
    // The sign is x's.
    let sign = set(-0.0);
    each!(N, k => _mm512_or_ps(_mm512_andnot_ps(sign, y[k]), _mm512_and_ps(x[k], sign)))
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{
        simd::{Isa, isa},
        testing::skipped,
    };

    #[target_feature(enable = "avx512f,avx512dq")]
    fn sixteen(f: impl Fn(__m512) -> __m512, x: &[f32; 16]) -> [f32; 16] {
        let mut y = [0.0; 16];
        // SAFETY: sixteen numbers each.
        unsafe { _mm512_storeu_ps(y.as_mut_ptr(), f(_mm512_loadu_ps(x.as_ptr()))) };
        y
    }

    fn ulps(got: f32, want: f64) -> f64 {
        if got.is_nan() {
            return f64::INFINITY;
        }
        let nearest = (want as f32).abs();
        (got as f64 - want).abs() / (f32::from_bits(nearest.to_bits() + 1) - nearest) as f64
    }

    /// As exact as the functions that they replace.
    #[test]
    fn within_two_ulps_and_exact_at_the_ends() {
        if isa() < Isa::Avx512 {
            return skipped("no AVX-512");
        }
        // SAFETY: the processor has it.
        let (sigmoids, tanhs) =
            unsafe { (|x: &[f32; 16]| sixteen(|x| sigmoid([x])[0], x), |x: &[f32; 16]| sixteen(|x| tanh([x])[0], x)) };
        let (mut worst_sigmoid, mut worst_tanh) = (0f64, 0f64);
        for k in 0..40_000 {
            let x: [f32; 16] = std::array::from_fn(|i| -80.0 + (k * 16 + i) as f32 * (160.0 / 640_000.0));
            for (x, y) in x.into_iter().zip(sigmoids(&x)) {
                worst_sigmoid = worst_sigmoid.max(ulps(y, 1.0 / (1.0 + (-x as f64).exp())));
            }
            for scale in [1.0, 1.0 / 16.0] {
                let x = x.map(|x| x * scale);
                for (x, y) in x.into_iter().zip(tanhs(&x)) {
                    worst_tanh = worst_tanh.max(ulps(y, (x as f64).tanh()));
                }
            }
        }
        assert!(worst_sigmoid <= 2.5 && worst_tanh <= 2.0, "{worst_sigmoid} and {worst_tanh} ulp");
        let ends = [f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::NAN, 1e30, -1e30, -100.0];
        let x: [f32; 16] = std::array::from_fn(|i| ends[i % 8]);
        let (s, t) = (sigmoids(&x), tanhs(&x));
        assert_eq!(s[..4], [1.0, 0.0, 0.5, 0.5]);
        assert_eq!((s[5], s[6], s[7]), (1.0, 0.0, 0.0));
        assert_eq!(t[..4], [1.0, -1.0, 0.0, 0.0]);
        assert!(t[3].is_sign_negative() && s[4].is_nan() && t[4].is_nan());
        assert_eq!((t[5], t[6], t[7]), (1.0, -1.0, -1.0));
    }
}
