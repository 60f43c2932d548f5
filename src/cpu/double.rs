//! eˣ, tanh and the sigmoid of f64 without branches, so that a loop over them becomes vector code.

/// Adding and taking away 1.5·2⁵² rounds to the nearest integer, which then stands in the last bits.
const MAGIC: f64 = 6_755_399_441_055_744.0;

/// x = n ln 2 + r: [`MAGIC`] + n, and eʳ − 1, for |x| below 2¹⁰. ln 2 is taken away in two parts, of which n times the first is exact. With
/// |r| up to ½ ln 2 the polynomial, by Chebyshev interpolation of (eʳ − 1 − r) / r², is off by 2⁻⁵⁶ of eʳ.
#[inline(always)]
fn reduced(x: f64) -> (f64, f64) {
    let shifted = x.mul_add(std::f64::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(-0.693_147_180_485_539_1, x);
    let r = n.mul_add(-7.440_617_110_012_397e-11, r);
    let p = 2.510_038_549_551_032e-8;
    let p = r.mul_add(p, 2.762_008_844_540_974_6e-7);
    let p = r.mul_add(p, 2.755_726_845_999_706_4e-6);
    let p = r.mul_add(p, 2.480_152_129_595_437_6e-5);
    let p = r.mul_add(p, 1.984_126_986_305_385_3e-4);
    let p = r.mul_add(p, 1.388_888_891_721_371_7e-3);
    let p = r.mul_add(p, 8.333_333_333_330_062e-3);
    let p = r.mul_add(p, 4.166_666_666_662_413e-2);
    let p = r.mul_add(p, 1.666_666_666_666_666_9e-1);
    let p = r.mul_add(p, 0.5);
    (shifted, (p * r).mul_add(r, r))
}

/// eˣ. Below −745.14 it is 0, above 709.79 ∞, NaN stays NaN.
#[inline(always)]
pub fn exp(x: f64) -> f64 {
    // NaN must survive the clamp: comparisons with it are false, so it takes the arm that is x.
    let held = if x < -746.0 { -746.0 } else { x };
    let held = if held > 710.0 { 710.0 } else { held };
    let (shifted, p) = reduced(held);
    // 2ⁿ in two factors: n reaches from −1076 to 1024, and one exponent field would over- or underflow too early.
    let n = (shifted.to_bits() as i64).wrapping_sub(MAGIC.to_bits() as i64);
    let half = n >> 1;
    let power = |e: i64| f64::from_bits((e.wrapping_add(1023) as u64) << 52);
    (p + 1.0) * power(half) * power(n.wrapping_sub(half))
}

/// tanh x = (e²ˣ − 1) / (e²ˣ − 1 + 2), its numerator without cancellation.
#[inline(always)]
pub fn tanh(x: f64) -> f64 {
    let a = x.abs();
    // Beyond it is 1.
    let held = if a > 22.0 { 22.0 } else { a };
    let (shifted, p) = reduced(held + held);
    // MAGIC's own last bits are zero.
    let power = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    let y = p.mul_add(power, power - 1.0);
    (y / (y + 2.0)).copysign(x)
}

/// 1 / (1 + e⁻ˣ)
#[inline(always)]
pub fn sigmoid(x: f64) -> f64 {
    // e⁻ˣ overflows to ∞ for large negative x, and 1/(1+∞) is the right 0.
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest distance from the standard library's, which are within one unit in the last place, in such units.
    fn worst(f: impl Fn(f64) -> f64, exact: impl Fn(f64) -> f64, low: f64, high: f64) -> f64 {
        let n = 400_000;
        let off = |x: f64| {
            let (got, want) = (f(x), exact(x));
            let ulp = f64::from_bits(want.abs().to_bits() + 1) - want.abs();
            if got == want { 0.0 } else { (got - want).abs() / ulp }
        };
        (0..=n).map(|i| off(low + (high - low) * (i as f64 / n as f64))).fold(0.0, f64::max)
    }

    #[test]
    fn within_a_few_units() {
        for (low, high) in [(-700.0, 709.7), (-1.0, 1.0), (-1e-6, 1e-6)] {
            let off = worst(exp, f64::exp, low, high);
            assert!(off <= 2.0, "exp of {low} to {high}: {off}");
        }
        for (low, high) in [(-25.0, 25.0), (-1.0, 1.0), (-1e-3, 1e-3), (-1e-300, 1e-300)] {
            let off = worst(tanh, f64::tanh, low, high);
            assert!(off <= 4.0, "tanh of {low} to {high}: {off}");
        }
        let off = worst(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -300.0, 300.0);
        assert!(off <= 3.0, "sigmoid: {off}");
    }

    #[test]
    fn ends() {
        assert_eq!((exp(f64::NEG_INFINITY), exp(f64::INFINITY), exp(0.0)), (0.0, f64::INFINITY, 1.0));
        assert_eq!((exp(-746.0), exp(709.8), exp(709.0) < f64::INFINITY), (0.0, f64::INFINITY, true));
        // Subnormals are rounded once more.
        assert!((exp(-740.0) - f64::exp(-740.0)).abs() <= f64::from_bits(1));
        assert_eq!((tanh(f64::INFINITY), tanh(f64::NEG_INFINITY), tanh(1e300)), (1.0, -1.0, 1.0));
        assert_eq!((sigmoid(f64::INFINITY), sigmoid(f64::NEG_INFINITY), sigmoid(0.0)), (1.0, 0.0, 0.5));
        assert!(tanh(-0.0) == 0.0 && tanh(-0.0).is_sign_negative() && tanh(f64::MIN_POSITIVE / 4.0) > 0.0);
        assert!(exp(f64::NAN).is_nan() && tanh(f64::NAN).is_nan() && sigmoid(f64::NAN).is_nan());
    }
}
