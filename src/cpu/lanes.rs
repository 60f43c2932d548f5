//! Functions of f32 in AVX-512, for some vectors at a time: powers of two by `vscalefps`, tables of 32 numbers by `vpermt2ps`, and reciprocals
//! by an estimate and one Newton step: a division of sixteen numbers takes as long as eight products do.

use std::arch::x86_64::*;

pub type Lanes<const N: usize> = [__m512; N];

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
pub(in crate::cpu) use each;

/// e to the power of ±x for x that are held between −105 and 105 or NaN, by the polynomial of `Real::exp`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn power<const N: usize, const MINUS: bool>(x: Lanes<N>) -> Lanes<N> {
    let set = |v: f32| _mm512_set1_ps(v);
    // Adding 1.5·2²³ rounds to an integer.
    const MAGIC: f32 = 12_582_912.0;
    const SCALE: f32 = std::f32::consts::LOG2_E;
    let n = each!(N, k => _mm512_fmadd_ps(x[k], set(if MINUS { -SCALE } else { SCALE }), set(MAGIC)));
    let n = each!(N, k => _mm512_sub_ps(n[k], set(MAGIC)));
    let high = set(0.693_359_4);
    let r = each!(N, k => if MINUS { _mm512_fnmsub_ps(n[k], high, x[k]) } else { _mm512_fnmadd_ps(n[k], high, x[k]) });
    let r = each!(N, k => _mm512_fmadd_ps(n[k], set(2.121_944_4e-4), r[k]));
    let mut y = each!(N, k => _mm512_fmadd_ps(set(1.987_569_2e-4), r[k], set(1.398_2e-3)));
    for c in [8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5, 1.0, 1.0] {
        y = each!(N, k => _mm512_fmadd_ps(y[k], r[k], set(c)));
    }
    each!(N, k => _mm512_scalef_ps(y[k], n[k]))
}

/// eˣ: 0 below −103.97, ∞ above 88.72; NaN stays NaN.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub fn exp<const N: usize>(x: Lanes<N>) -> Lanes<N> {
    // NaN as the second operand is what min and max give back.
    let (low, high) = (_mm512_set1_ps(-105.0), _mm512_set1_ps(105.0));
    power::<N, false>(each!(N, k => _mm512_min_ps(high, _mm512_max_ps(low, x[k]))))
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
pub fn sigmoid<const N: usize>(x: Lanes<N>) -> Lanes<N> {
    let (low, high) = (_mm512_set1_ps(-85.0), _mm512_set1_ps(105.0));
    let d = power::<N, true>(each!(N, k => _mm512_min_ps(high, _mm512_max_ps(low, x[k]))));
    let y = reciprocal(each!(N, k => _mm512_add_ps(d[k], _mm512_set1_ps(1.0))));
    // Not less: NaN as well.
    each!(N, k => _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x[k], low), y[k]))
}

/// tanh in 31 pieces: below 2⁻⁴, four to an octave from there to 8, up to 10, and 1 above. The middle of each, and the coefficients of a
/// polynomial of the distance from it: least squares with weights that even out the largest relative error, below 2⁻²⁵ before rounding.
#[rustfmt::skip]
static TANH: [[f32; 32]; 8] = [
    [
        0.0, 0.0703125, 0.0859375, 0.1015625, 0.1171875, 0.140625, 0.171875, 0.203125, 0.234375, 0.28125, 0.34375, 0.40625,
        0.46875, 0.5625, 0.6875, 0.8125, 0.9375, 1.125, 1.375, 1.625, 1.875, 2.25, 2.75, 3.25, 3.75, 4.5, 5.5, 6.5, 7.5,
        9.0, 0.0, 0.0,
    ],
    [
        0.0, 0.07019686, 0.08572657, 0.10121473, 0.11665399, 0.1397053, 0.17020231, 0.20037672, 0.2301757, 0.2740616,
        0.33082113, 0.38528398, 0.43718877, 0.50983, 0.59637356, 0.6709671, 0.7340715, 0.8093011, 0.8798267, 0.9253462,
        0.95404524, 0.9780261, 0.99185973, 0.99699765, 0.99889445, 0.99975324, 0.9999666, 0.99999547, 0.9999994, 0.99999994,
        1.0, 1.0,
    ],
    [
        1.0, 0.9950724, 0.9926509, 0.9897556, 0.98639184, 0.9804824, 0.9710312, 0.9598492, 0.94701916, 0.9248902, 0.8905574,
        0.85155624, 0.80886596, 0.7400734, 0.6443386, 0.5498032, 0.461139, 0.34503177, 0.22590497, 0.14373437, 0.08979764,
        0.043464918, 0.016214289, 0.0059957164, 0.002209893, 0.0004935282, 6.680606e-05, 9.041478e-06, 1.2236358e-06,
        6.101395e-08, 0.0, 0.0,
    ],
    [
        0.0, -0.06985096, -0.08509656, -0.10017785, -0.11506654, -0.1369786, -0.16527174, -0.19233143, -0.2179808,
        -0.2534769, -0.29461518, -0.32809097, -0.35362712, -0.3773116, -0.3842665, -0.36889982, -0.33850902, -0.2792346,
        -0.19875723, -0.13300405, -0.085671015, -0.04250981, -0.016082298, -0.005977715, -0.0022074496, -0.0004934051,
        -6.680366e-05, -9.041415e-06, -1.2236321e-06, -6.100371e-08, 0.0, 0.0,
    ],
    [
        -0.333333, -0.32678747, -0.3235886, -0.31977907, -0.3153743, -0.30769083, -0.29554743, -0.281411, -0.26549914,
        -0.23882847, -0.19938754, -0.15744391, -0.11502019, -0.05432678, 0.014386494, 0.0642517, 0.094776735, 0.1109748,
        0.09957127, 0.07516396, 0.051801734, 0.027087774, 0.010546261, 0.003960982, 0.0014682882, 0.00032842296,
        4.4484525e-05, 6.021009e-06, 8.1486746e-07, 3.9869267e-08, 0.0, 0.0,
    ],
    [
        0.0, 0.046222605, 0.056105632, 0.06575904, 0.07514531, 0.08864555, 0.10539342, 0.12049861, 0.13377169, 0.14994594,
        0.16416664, 0.17002426, 0.16816126, 0.15346824, 0.11950943, 0.07985611, 0.04326363, 0.0032677609, -0.021352576,
        -0.025217928, -0.020864224, -0.012323291, -0.0050999825, -0.0019566533, -0.0007308995, -0.0001640642,
        -2.2241045e-05, -3.010683e-06, -4.0746423e-07, -1.9962018e-08, 0.0, 0.0,
    ],
    [
        0.13304277, 0.12779196, 0.12513408, 0.12195025, 0.118260704, 0.1119512, 0.102142364, 0.09097614, 0.078744665,
        0.059055794, 0.03195448, 0.0059283366, -0.0171588, -0.04347754, -0.061568465, -0.06266866, -0.05305983, -0.03203843,
        -0.009513986, 0.0013949851, 0.004600992, 0.003976858, 0.0019148147, 0.00077049143, 0.00029264655, 6.83042e-05,
        9.2797845e-06, 1.256539e-06, 1.7006614e-07, 9.5769e-09, 0.0, 0.0,
    ],
    [
        0.0, -0.021119535, -0.0301025, -0.0354301, -0.04371918, -0.048161045, -0.056114912, -0.06251766, -0.06746447,
        -0.07172268, -0.071788654, -0.06621408, -0.056392, -0.03734624, -0.011679845, 0.007185967, 0.016954293, 0.018466301,
        0.010983224, 0.0041260314, 0.00065360795, -0.00071515597, -0.0005455698, -0.00024369496, -9.572095e-05,
        -2.2633956e-05, -3.086844e-06, -4.181931e-07, -5.6604108e-08, -3.1740026e-09, 0.0, 0.0,
    ],
];

/// The bits that are an exponent and two more, of 2⁻⁴, which begins the second piece.
const SECOND: i32 = (127 - 4) << 2;

/// tanh x.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub fn tanh<const N: usize>(x: Lanes<N>) -> Lanes<N> {
    let a = each!(N, k => _mm512_min_ps(_mm512_set1_ps(10.0), _mm512_abs_ps(x[k])));
    let mut piece = [_mm512_setzero_si512(); N];
    for k in 0..N {
        let octave = _mm512_srli_epi32::<21>(_mm512_castps_si512(a[k]));
        piece[k] = _mm512_max_epi32(_mm512_sub_epi32(octave, _mm512_set1_epi32(SECOND - 1)), _mm512_setzero_si512());
    }
    let of = |row: &[f32; 32]| {
        // SAFETY: 32 numbers.
        let (low, high) = unsafe { (_mm512_loadu_ps(row.as_ptr()), _mm512_loadu_ps(row[16..].as_ptr())) };
        each!(N, k => _mm512_permutex2var_ps(low, piece[k], high))
    };
    let middle = of(&TANH[0]);
    let u = each!(N, k => _mm512_sub_ps(a[k], middle[k]));
    let mut y = of(&TANH[7]);
    for row in TANH[1..7].iter().rev() {
        let next = of(row);
        y = each!(N, k => _mm512_fmadd_ps(y[k], u[k], next[k]));
    }
    // The sign is x's, the rest y's.
    let sign = _mm512_set1_epi32(i32::MIN);
    each!(N, k => _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0xca>(sign, _mm512_castps_si512(x[k]), _mm512_castps_si512(y[k]))))
}

/// y = f(x) for a function of vectors.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub fn map(x: &[f32], y: &mut [f32], f: impl Fn(Lanes<4>) -> Lanes<4>) {
    const STRIDE: usize = 4 * 16;
    let (wholes, rest) = x.as_chunks::<STRIDE>();
    let (to, to_rest) = y.as_chunks_mut::<STRIDE>();
    let one = |x: &[f32; STRIDE], y: &mut [f32; STRIDE]| {
        let mut lanes = [_mm512_setzero_ps(); 4];
        // SAFETY: four vectors of sixteen numbers.
        unsafe {
            for k in 0..4 {
                lanes[k] = _mm512_loadu_ps(x[16 * k..].as_ptr());
            }
            for (k, lane) in f(lanes).into_iter().enumerate() {
                _mm512_storeu_ps(y[16 * k..].as_mut_ptr(), lane);
            }
        }
    };
    wholes.iter().zip(to).for_each(|(x, y)| one(x, y));
    if !rest.is_empty() {
        let (mut x, mut y) = ([0.0; STRIDE], [0.0; STRIDE]);
        x[..rest.len()].copy_from_slice(rest);
        one(&x, &mut y);
        to_rest.copy_from_slice(&y[..rest.len()]);
    }
}

/// Numbers whose exponentials are summed before that is added to the others'.
const BLOCK: usize = 1024;
/// Vectors at a time.
const FOUR: usize = 4;

/// Calls `f` with four vectors of x at a time, where they begin, and which of their numbers there are: at the end x may have fewer.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn each_four(x: &[f32], nothing: __m512, mut f: impl FnMut(usize, Lanes<FOUR>, [__mmask16; 4])) {
    let (wholes, rest) = x.as_chunks::<64>();
    for (i, x) in wholes.iter().enumerate() {
        // SAFETY: four vectors.
        f(i * 64, each!(FOUR, k => unsafe { _mm512_loadu_ps(x[16 * k..].as_ptr()) }), [u16::MAX; 4]);
    }
    if !rest.is_empty() {
        let there: [__mmask16; 4] =
            std::array::from_fn(|k| ((1u32 << rest.len().saturating_sub(16 * k).min(16)) - 1) as u16);
        let some = |k: usize| {
            // SAFETY: masked to what there is.
            unsafe { _mm512_mask_loadu_ps(nothing, there[k], rest.as_ptr().wrapping_add(16 * k)) }
        };
        f(wholes.len() * 64, each!(FOUR, k => some(k)), there);
    }
}

/// softmax of a row, or its logarithm. The lanes stay in registers, which those of an array in a loop over it do not.
#[target_feature(enable = "avx512f,avx512dq")]
pub fn softmax(log: bool, x: &[f32], y: &mut [f32]) {
    let least = _mm512_set1_ps(f32::NEG_INFINITY);
    let mut most = [least; 4];
    // A NaN is left out here; its exponential is NaN, and so is the sum.
    each_four(x, least, |_, x, _| most = each!(FOUR, k => _mm512_max_ps(x[k], most[k])));
    let most = _mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3]));
    let most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    let mut sum = 0.0;
    for (x, y) in x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)) {
        let mut sums = [_mm512_setzero_ps(); 4];
        each_four(x, least, |at, x, there| {
            let e = exp(each!(FOUR, k => _mm512_sub_ps(x[k], most)));
            sums = each!(FOUR, k => _mm512_mask_add_ps(sums[k], there[k], sums[k], e[k]));
            if !log {
                // SAFETY: y is as long as x.
                (0..4).for_each(|k| unsafe {
                    _mm512_mask_storeu_ps(y.as_mut_ptr().wrapping_add(at + 16 * k), there[k], e[k])
                });
            }
        });
        sum += _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])));
    }
    if log {
        let shift = _mm512_set1_ps(sum.ln());
        each_four(x, least, |at, x, there| {
            let of = each!(FOUR, k => _mm512_sub_ps(_mm512_sub_ps(x[k], most), shift));
            // SAFETY: as above.
            (0..4).for_each(|k| unsafe {
                _mm512_mask_storeu_ps(y.as_mut_ptr().wrapping_add(at + 16 * k), there[k], of[k])
            });
        });
    } else {
        let scale = 1.0 / sum;
        y.iter_mut().for_each(|y| *y *= scale);
    }
}

/// Sixteen by sixteen: rows become columns.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn transpose(rows: &[__m512; 16]) -> [__m512; 16] {
    let (mut two, mut four) = ([_mm512_setzero_pd(); 16], [_mm512_setzero_ps(); 16]);
    for i in 0..8 {
        let (a, b) = (rows[2 * i], rows[2 * i + 1]);
        two[2 * i] = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
        two[2 * i + 1] = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
    }
    for i in 0..4 {
        for half in 0..2 {
            let (a, b) = (two[4 * i + half], two[4 * i + half + 2]);
            four[4 * i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            four[4 * i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    // Quarters of the rows 4 i to 4 i + 3 now hold the columns q, q + 4, q + 8 and q + 12.
    let mut columns = [_mm512_setzero_ps(); 16];
    for q in 0..4 {
        let (a, b, c, d) = (four[q], four[4 + q], four[8 + q], four[12 + q]);
        let (even, odd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
        let (even_behind, odd_behind) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
        columns[q] = _mm512_shuffle_f32x4::<0x88>(even, even_behind);
        columns[q + 4] = _mm512_shuffle_f32x4::<0x88>(odd, odd_behind);
        columns[q + 8] = _mm512_shuffle_f32x4::<0xdd>(even, even_behind);
        columns[q + 12] = _mm512_shuffle_f32x4::<0xdd>(odd, odd_behind);
    }
    columns
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
        let exponentials = |x: &[f32; 16]| {
            // SAFETY: the processor has it.
            unsafe { sixteen(|x| exp([x])[0], x) }
        };
        let mut worst_exp = 0f64;
        for k in 0..40_000 {
            let x: [f32; 16] = std::array::from_fn(|i| -87.0 + (k * 16 + i) as f32 * (175.7 / 640_000.0));
            for (x, y) in x.into_iter().zip(exponentials(&x)) {
                worst_exp = worst_exp.max(ulps(y, (x as f64).exp()));
            }
        }
        assert!(worst_exp <= 2.0, "{worst_exp} ulp");
        let e = exponentials(&[
            0.0,
            -0.0,
            1e30,
            -1e30,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            -103.0,
            88.7,
            89.0,
            1e-30,
            -88.0,
            -95.0,
            1.0,
            -1.0,
            0.5,
        ]);
        assert_eq!(e[..6], [1.0, 1.0, f32::INFINITY, 0.0, f32::INFINITY, 0.0]);
        assert!(e[6].is_nan() && e[7] > 0.0 && e[8].is_finite() && e[9] == f32::INFINITY && e[10] == 1.0);
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
