//! Functions of f64 without branches, so that a loop over them becomes vector code, and every processor has the same bits.

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

/// ln x: x = 2ᵉ m with m from √½ to √2, and ln m = 2 artanh((m − 1) / (m + 1)), whose next term is below 2⁻⁶⁰. Of 0 it is −∞, of what is below
/// NaN.
#[inline(always)]
pub fn ln(x: f64) -> f64 {
    const ROOT: u64 = 0x3fe6_a09e_667f_3bcd;
    // Numbers below the least normal one are made normal.
    let small = x < f64::MIN_POSITIVE;
    let normal = if small { x * 18_014_398_509_481_984.0 } else { x };
    let exponent = (normal.to_bits().wrapping_sub(ROOT) as i64) >> 52;
    let m = f64::from_bits(normal.to_bits().wrapping_sub((exponent as u64) << 52));
    // The exponent becomes a number without a conversion, which not every instruction set has.
    let e = f64::from_bits(MAGIC.to_bits().wrapping_add(exponent as u64)) - MAGIC;
    let e = if small { e - 54.0 } else { e };
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let mut p = 1.0 / 21.0;
    for k in (1..10).rev() {
        p = z.mul_add(p, 1.0 / (2 * k + 1) as f64);
    }
    // Of ln m all but 2 s, and ln 2 in two parts, the smaller ones first.
    let y = e.mul_add(7.440_617_110_012_397e-11, 2.0 * s * (z * p)) + 2.0 * s;
    let y = e.mul_add(0.693_147_180_485_539_1, y);
    let y = if x == 0.0 { f64::NEG_INFINITY } else { y };
    let y = if x < 0.0 { f64::NAN } else { y };
    // NaN and ∞ are their own.
    if x < f64::INFINITY { y } else { x }
}

/// ±1/n!, negative for n = 2, 3, 6, 7, …
const FACTORIALS: [f64; 18] = {
    let (mut all, mut n, mut factorial) = ([1.0; 18], 1, 1.0);
    while n < 18 {
        factorial *= n as f64;
        all[n] = if n % 4 < 2 { 1.0 / factorial } else { -1.0 / factorial };
        n += 1;
    }
    all
};

/// Sine and cosine of so many turns, from 0 to 1: of an eighth of a turn at most, by Taylor's series, and in which quarter that is.
#[inline(always)]
pub fn sin_cos_turns(turns: f64) -> (f64, f64) {
    let shifted = turns.mul_add(4.0, MAGIC);
    let t = (shifted - MAGIC).mul_add(-0.25, turns) * std::f64::consts::TAU;
    let z = t * t;
    let (mut p, mut q) = (0.0f64, 0.0f64);
    for k in (1..9).rev() {
        // 1/(2k + 1)! and 1/(2k)!, of alternating signs.
        p = z.mul_add(p, FACTORIALS[2 * k + 1]);
        q = z.mul_add(q, FACTORIALS[2 * k]);
    }
    let (mut sin, mut cos) = ((t * z).mul_add(p, t), z.mul_add(q, 1.0));
    let quarter = shifted.to_bits();
    if quarter & 1 == 1 {
        (sin, cos) = (cos, -sin);
    }
    if quarter & 2 == 2 {
        (sin, cos) = (-sin, -cos);
    }
    (sin, cos)
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
    fn logarithms() {
        for (low, high) in [(1e-300, 1e300), (1e-3, 3.0), (0.99, 1.01), (1.0, 1.0 + 1e-9)] {
            let off = worst(ln, f64::ln, low, high);
            assert!(off <= 3.0, "ln of {low} to {high}: {off}");
        }
        let small = f64::from_bits(12345);
        assert!((ln(small) - small.ln()).abs() <= 3.0 * f64::EPSILON * 512.0);
        assert_eq!((ln(0.0), ln(1.0), ln(f64::INFINITY)), (f64::NEG_INFINITY, 0.0, f64::INFINITY));
        assert!(ln(-1.0).is_nan() && ln(f64::NAN).is_nan() && ln(f64::NEG_INFINITY).is_nan());
    }

    /// Off by less than a unit of 1: in a sum of others that is what counts.
    #[test]
    fn turns() {
        let n = 1 << 20;
        for k in 0..=n {
            let turns = f64::from(k) / f64::from(n);
            let (sin, cos) = sin_cos_turns(turns);
            // Of what is left of quarters, which the standard library takes away less exactly than its functions are.
            let (quarter, rest) = ((4.0 * turns).round(), turns - (4.0 * turns).round() / 4.0);
            let (s, c) = (std::f64::consts::TAU * rest).sin_cos();
            let (s, c) = [(s, c), (c, -s), (-s, -c), (-c, s)][quarter as usize % 4];
            assert!((sin - s).abs() <= f64::EPSILON && (cos - c).abs() <= f64::EPSILON, "{turns}: {sin} {cos}");
        }
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
