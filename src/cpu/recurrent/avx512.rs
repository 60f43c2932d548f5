//! The LSTM's passes over rows, in AVX-512: reciprocals by an estimate and one Newton step, powers of two by `vscalefps`. A
//! division of sixteen numbers takes as long as eight products do.

use std::arch::x86_64::*;

/// eˣ for x from −105 to 89, which others are taken for; NaN stays NaN. The polynomial is that of `Real::exp`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn exp(x: __m512) -> __m512 {
    let set = |v: f32| _mm512_set1_ps(v);
    // NaN as the second operand is what min and max give back.
    let x = _mm512_min_ps(set(89.0), _mm512_max_ps(set(-105.0), x));
    let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(_mm512_mul_ps(
        x,
        set(std::f32::consts::LOG2_E),
    ));
    let r = _mm512_fmadd_ps(n, set(-0.693_359_4), x);
    let r = _mm512_fmadd_ps(n, set(2.121_944_4e-4), r);
    let p = set(1.987_569_2e-4);
    let p = _mm512_fmadd_ps(p, r, set(1.398_2e-3));
    let p = _mm512_fmadd_ps(p, r, set(8.333_452e-3));
    let p = _mm512_fmadd_ps(p, r, set(4.166_579_6e-2));
    let p = _mm512_fmadd_ps(p, r, set(1.666_666_5e-1));
    let p = _mm512_fmadd_ps(p, r, set(0.5));
    let y = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(p, r), r, r), set(1.0));
    _mm512_scalef_ps(y, n)
}

/// 1 / d for d from 1 to 10³⁷.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn reciprocal(d: __m512) -> __m512 {
    let y = _mm512_rcp14_ps(d);
    _mm512_fmadd_ps(_mm512_fnmadd_ps(d, y, _mm512_set1_ps(1.0)), y, y)
}

/// 1 / (1 + e⁻ˣ); below −85, where that is under 2 · 10⁻³⁷, zero.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn sigmoid(x: __m512) -> __m512 {
    let low = _mm512_set1_ps(-85.0);
    let held = _mm512_max_ps(low, x);
    let d = _mm512_add_ps(exp(_mm512_sub_ps(_mm512_setzero_ps(), held)), _mm512_set1_ps(1.0));
    // Not less: NaN as well.
    _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, low), reciprocal(d))
}

/// tanh x, as `Real::tanh` has it.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn tanh(x: __m512) -> __m512 {
    let set = |v: f32| _mm512_set1_ps(v);
    let a = _mm512_min_ps(set(40.0), _mm512_abs_ps(x));
    let z = _mm512_mul_ps(x, x);
    let p = set(-5.704_988_7e-3);
    let p = _mm512_fmadd_ps(p, z, set(2.063_909e-2));
    let p = _mm512_fmadd_ps(p, z, set(-5.373_971_6e-2));
    let p = _mm512_fmadd_ps(p, z, set(1.333_144_2e-1));
    let p = _mm512_fmadd_ps(p, z, set(-3.333_328e-1));
    let small = _mm512_fmadd_ps(_mm512_mul_ps(p, z), a, a);
    let part = reciprocal(_mm512_add_ps(exp(_mm512_add_ps(a, a)), set(1.0)));
    let large = _mm512_fnmadd_ps(set(2.0), part, set(1.0));
    let y = _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, set(0.625)), large, small);
    let sign = _mm512_and_ps(x, set(-0.0));
    _mm512_or_ps(_mm512_andnot_ps(set(-0.0), y), sign)
}

/// Units from j on, as a mask, of n.
#[inline(always)]
fn units(n: usize, j: usize) -> __mmask16 {
    if n - j >= 16 { 0xffff } else { (1 << (n - j)) - 1 }
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
    let n = h.len();
    let kept = kept.map(|kept| kept[..n].as_mut_ptr());
    let gates = gates.map(|g| g[..n].as_mut_ptr());
    let (bias, peephole) = (bias.map(|b| b[..n].as_ptr()), peephole.map(|p| p.map(|p| p[..n].as_ptr())));
    let (c, h) = (c[..n].as_mut_ptr(), h.as_mut_ptr());
    for j in (0..n).step_by(16) {
        let mask = units(n, j);
        // SAFETY: the mask ends with the unit n, up to which every slice reaches.
        unsafe {
            let load = |p: *const f32| _mm512_maskz_loadu_ps(mask, p.add(j));
            let gate = |k: usize| _mm512_add_ps(load(gates[k]), load(bias[k]));
            let (mut i, mut f, g, mut o) = (gate(0), gate(1), gate(2), gate(3));
            let before = load(c);
            if let Some(p) = peephole {
                i = _mm512_fmadd_ps(load(p[0]), before, i);
                f = _mm512_fmadd_ps(load(p[1]), before, f);
            }
            let (i, f, g) = (sigmoid(i), sigmoid(f), tanh(g));
            let cell = _mm512_fmadd_ps(f, before, _mm512_mul_ps(i, g));
            if let Some(p) = peephole {
                o = _mm512_fmadd_ps(load(p[2]), cell, o);
            }
            let o = sigmoid(o);
            if let Some(kept) = kept {
                for (gate, value) in gates.into_iter().zip([i, f, g, o]) {
                    _mm512_mask_storeu_ps(gate.add(j), mask, value);
                }
                _mm512_mask_storeu_ps(kept.add(j), mask, cell);
            }
            _mm512_mask_storeu_ps(c.add(j), mask, cell);
            _mm512_mask_storeu_ps(h.add(j), mask, _mm512_mul_ps(o, tanh(cell)));
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
    let n = dh.len();
    let gates = gates.map(|g| g[..n].as_mut_ptr());
    let peephole = peephole.map(|p| p.map(|p| p[..n].as_ptr()));
    let (c, c_before, dh, dc) = (c[..n].as_ptr(), c_before[..n].as_ptr(), dh.as_ptr(), dc[..n].as_mut_ptr());
    let one = _mm512_set1_ps(1.0);
    for j in (0..n).step_by(16) {
        let mask = units(n, j);
        // SAFETY: the mask ends with the unit n, up to which every slice reaches.
        unsafe {
            let load = |p: *const f32| _mm512_maskz_loadu_ps(mask, p.add(j));
            let [i, f, g, o] = gates.map(|p| load(p));
            let (t, d) = (tanh(load(c)), load(dh));
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
                _mm512_mask_storeu_ps(gate.add(j), mask, value);
            }
            _mm512_mask_storeu_ps(dc.add(j), mask, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::{Isa, isa};

    #[target_feature(enable = "avx512f,avx512dq")]
    fn sixteen(f: impl Fn(__m512) -> __m512, x: &[f32; 16]) -> [f32; 16] {
        let mut y = [0.0; 16];
        // SAFETY: sixteen numbers each.
        unsafe { _mm512_storeu_ps(y.as_mut_ptr(), f(_mm512_loadu_ps(x.as_ptr()))) };
        y
    }

    fn ulps(got: f32, want: f64) -> f64 {
        let nearest = (want as f32).abs();
        (got as f64 - want).abs() / (f32::from_bits(nearest.to_bits() + 1) - nearest) as f64
    }

    /// As exact as the functions that they replace.
    #[test]
    fn within_two_ulps_and_exact_at_the_ends() {
        if isa() < Isa::Avx512 {
            println!("skipped: no AVX-512");
            return;
        }
        // SAFETY: the processor has it.
        let (sigmoids, tanhs) =
            unsafe { (|x: &[f32; 16]| sixteen(|x| sigmoid(x), x), |x: &[f32; 16]| sixteen(|x| tanh(x), x)) };
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
