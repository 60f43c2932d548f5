//! The numbers that kernels compute in (f32, f64), and how stored types become them.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use super::{double, simd::vectorize, split};
use crate::dtype::{Float, bf16, f16};

/// A stored floating-point type and the type it is computed in.
pub trait Store: Float {
    /// f64 for f64, f32 for the others.
    type Real: Real;
    /// Exact.
    fn widen(self) -> Self::Real;
    /// Rounded to nearest even.
    fn narrow(real: Self::Real) -> Self;
}

/// Numbers in the type that is computed in.
pub fn widen<S: Store>(from: &[S], to: &mut [S::Real]) {
    split::over(to, |start, to| {
        vectorize(
            #[inline(always)]
            || to.iter_mut().zip(&from[start..]).for_each(|(to, from)| *to = from.widen()),
        );
    });
}

/// The same back.
pub fn narrow<S: Store>(from: &[S::Real], to: &mut [S]) {
    split::over(to, |start, to| {
        vectorize(
            #[inline(always)]
            || to.iter_mut().zip(&from[start..]).for_each(|(to, &from)| *to = S::narrow(from)),
        );
    });
}

/// Their sums with what is there, rounded once.
pub fn narrow_sum<S: Store>(from: &[S::Real], to: &mut [S]) {
    split::over(to, |start, to| {
        vectorize(
            #[inline(always)]
            || to.iter_mut().zip(&from[start..]).for_each(|(to, &from)| *to = S::narrow(to.widen() + from)),
        );
    });
}

/// A type that kernels compute in: f32 or f64.
pub trait Real:
    Store<Real = Self>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + std::iter::Sum
{
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// −∞
    const NEG_INFINITY: Self;
    /// The nearest value.
    fn of(value: f64) -> Self;
    /// `self · a + b`, rounded once on every processor.
    fn fma(self, a: Self, b: Self) -> Self;
    /// eˣ
    fn exp(self) -> Self;
    /// ln x
    fn ln(self) -> Self;
    /// √x
    fn sqrt(self) -> Self;
    /// |x|
    fn abs(self) -> Self;
    /// tanh x
    fn tanh(self) -> Self;
    /// 1 / (1 + e⁻ˣ)
    fn sigmoid(self) -> Self;
    /// xᵖ
    fn powf(self, p: Self) -> Self;
    /// Whether it is NaN.
    fn is_nan(self) -> bool;
}

impl Store for f64 {
    type Real = f64;
    #[inline(always)]
    fn widen(self) -> f64 {
        self
    }
    #[inline(always)]
    fn narrow(real: f64) -> f64 {
        real
    }
}

impl Store for f32 {
    type Real = f32;
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
    #[inline(always)]
    fn narrow(real: f32) -> f32 {
        real
    }
}

// The conversions of the halves are written out, since those of the `half` crate choose an instruction at run time, which
// keeps a loop over them from becoming vector code.

impl Store for f16 {
    type Real = f32;
    #[inline(always)]
    fn widen(self) -> f32 {
        let bits = self.to_bits() as u32;
        let magnitude = (bits & 0x7fff) << 13;
        // The exponent is biased by 15 and is to be biased by 127: a factor of 2¹¹², right for subnormals too.
        let scaled = (f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23)).to_bits();
        let special = if magnitude >= 31 << 23 { 0xff << 23 } else { 0 };
        f32::from_bits(scaled | special | (bits & 0x8000) << 16)
    }
    /// After F. Giesen's `float_to_half_fast3_rtne`.
    #[inline(always)]
    fn narrow(real: f32) -> f16 {
        const SUBNORMAL: u32 = (127 - 15 + 23 - 10 + 1) << 23;
        let bits = real.to_bits() & 0x7fff_ffff;
        // Adding half of the last place kept, less one unless it is odd, rounds to even; a carry moves into the exponent.
        let normal = bits.wrapping_sub(112 << 23).wrapping_add(0xfff + (bits >> 13 & 1)) >> 13;
        // The adder rounds a subnormal to even, at the place that this summand puts last.
        let small = (f32::from_bits(bits) + f32::from_bits(SUBNORMAL)).to_bits().wrapping_sub(SUBNORMAL);
        let large = if bits > 0xff << 23 { 0x7e00 } else { 0x7c00 };
        let magnitude = if bits < 113 << 23 { small } else { normal };
        let magnitude = if bits >= (127 + 16) << 23 { large } else { magnitude };
        f16::from_bits((magnitude | (real.to_bits() >> 16 & 0x8000)) as u16)
    }
}

impl Store for bf16 {
    type Real = f32;
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits((self.to_bits() as u32) << 16)
    }
    #[inline(always)]
    fn narrow(real: f32) -> bf16 {
        let bits = real.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        // Rounding could carry a NaN into infinity, so it is cut off and made quiet instead.
        bf16::from_bits(if real.is_nan() { bits >> 16 | 0x40 } else { rounded } as u16)
    }
}

impl Real for f64 {
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    const NEG_INFINITY: f64 = f64::NEG_INFINITY;
    #[inline(always)]
    fn of(value: f64) -> f64 {
        value
    }
    #[inline(always)]
    fn fma(self, a: f64, b: f64) -> f64 {
        self.mul_add(a, b)
    }
    #[inline(always)]
    fn exp(self) -> f64 {
        double::exp(self)
    }
    #[inline(always)]
    fn ln(self) -> f64 {
        double::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> f64 {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn abs(self) -> f64 {
        f64::abs(self)
    }
    #[inline(always)]
    fn tanh(self) -> f64 {
        double::tanh(self)
    }
    #[inline(always)]
    fn sigmoid(self) -> f64 {
        double::sigmoid(self)
    }
    #[inline(always)]
    fn powf(self, p: f64) -> f64 {
        f64::powf(self, p)
    }
    #[inline(always)]
    fn is_nan(self) -> bool {
        f64::is_nan(self)
    }
}

impl Real for f32 {
    const ZERO: f32 = 0.0;
    const ONE: f32 = 1.0;
    const NEG_INFINITY: f32 = f32::NEG_INFINITY;
    #[inline(always)]
    fn of(value: f64) -> f32 {
        value as f32
    }
    #[inline(always)]
    fn fma(self, a: f32, b: f32) -> f32 {
        self.mul_add(a, b)
    }
    #[inline(always)]
    fn exp(self) -> f32 {
        exp(self)
    }
    #[inline(always)]
    fn ln(self) -> f32 {
        ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> f32 {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn abs(self) -> f32 {
        f32::abs(self)
    }
    #[inline(always)]
    fn tanh(self) -> f32 {
        tanh(self)
    }
    #[inline(always)]
    fn sigmoid(self) -> f32 {
        1.0 / (1.0 + exp(-self))
    }
    #[inline(always)]
    fn powf(self, p: f32) -> f32 {
        powf(self, p)
    }
    #[inline(always)]
    fn is_nan(self) -> bool {
        f32::is_nan(self)
    }
}

/// eˣ without branches, so that a loop over it becomes vector code. Argument reduction in two parts of ln 2 and the
/// degree-6 polynomial of S. Moshier's Cephes library (`expf`). Below −103.97 it is 0, above 88.72 ∞, NaN stays NaN.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // NaN must survive the clamp: comparisons with it are false, so it takes the arm that is x.
    let held = if x < -105.0 { -105.0 } else { x };
    let held = if held > 89.0 { 89.0 } else { held };
    // Adding and taking away 1.5·2²³ rounds to the nearest integer.
    const MAGIC: f32 = 12_582_912.0;
    let shifted = held.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(-0.693_359_4, held);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = 1.987_569_2e-4f32;
    let p = p.mul_add(r, 1.398_2e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let y = (p * r).mul_add(r, r) + 1.0;
    // 2ⁿ in two factors: n reaches from −151 to 128, and one exponent field would over- or underflow too early.
    let n = (shifted.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
    let half = n >> 1;
    let power = |e: i32| f32::from_bits((e.wrapping_add(127) as u32) << 23);
    y * power(half) * power(n.wrapping_sub(half))
}

/// ln x without branches: x = 2ᵉ (1 + z) with 1 + z from √½ to √2, and the polynomial of Cephes' `logf`. Of 0 it is −∞, of what is below
/// NaN.
#[inline(always)]
fn ln(x: f32) -> f32 {
    const ROOT: u32 = 0x3f35_04f3;
    // Numbers below the least normal one are made normal.
    let small = x < f32::MIN_POSITIVE;
    let normal = if small { x * 8_388_608.0 } else { x };
    let e = (normal.to_bits().wrapping_sub(ROOT) as i32) >> 23;
    let z = f32::from_bits(normal.to_bits().wrapping_sub((e as u32) << 23)) - 1.0;
    let e = e as f32 - if small { 23.0 } else { 0.0 };
    let p = 7.037_683_6e-2f32;
    let p = p.mul_add(z, -1.151_461e-1);
    let p = p.mul_add(z, 1.167_699_9e-1);
    let p = p.mul_add(z, -1.242_014_1e-1);
    let p = p.mul_add(z, 1.424_932_3e-1);
    let p = p.mul_add(z, -1.666_805_8e-1);
    let p = p.mul_add(z, 2.000_071_5e-1);
    let p = p.mul_add(z, -2.499_999_4e-1);
    let p = p.mul_add(z, 3.333_333e-1);
    let square = z * z;
    // ln 2 in two parts, the smaller one first.
    let y = e.mul_add(-2.121_944_4e-4, p * z * square);
    let y = e.mul_add(0.693_359_4, square.mul_add(-0.5, y) + z);
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    let y = if x < 0.0 { f32::NAN } else { y };
    // NaN and ∞ are their own.
    if x < f32::INFINITY { y } else { x }
}

/// xᵖ without branches, rounded from f64: 2 to the power of p log₂ |x|, with the signs and ends of C's `pow`.
#[inline(always)]
fn powf(x: f32, p: f32) -> f32 {
    let (a, p) = (f64::from(x.abs()), f64::from(p));
    // |x| = 2ᵉ m, with m from √½ to √2: every f32 but 0 is a normal f64.
    let bits = a.to_bits();
    let m = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
    // The exponent becomes a number without a conversion, which not every instruction set has: 2⁵² + e.
    let e = f64::from_bits(0x4330_0000_0000_0000 | bits >> 52) - (4_503_599_627_370_496.0 + 1023.0);
    let upper = m > std::f64::consts::SQRT_2;
    let (m, e) = (if upper { 0.5 * m } else { m }, if upper { e + 1.0 } else { e });
    // ln m = 2 artanh s; |s| is below 0.172, the next term below 2⁻⁴⁸ of the sum.
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let q = 1.0 / 17.0;
    let q = z.mul_add(q, 1.0 / 15.0);
    let q = z.mul_add(q, 1.0 / 13.0);
    let q = z.mul_add(q, 1.0 / 11.0);
    let q = z.mul_add(q, 1.0 / 9.0);
    let q = z.mul_add(q, 1.0 / 7.0);
    let q = z.mul_add(q, 1.0 / 5.0);
    let q = z.mul_add(q, 1.0 / 3.0);
    let q = z.mul_add(q, 1.0);
    let log = (2.0 * std::f64::consts::LOG2_E * s).mul_add(q, e);
    let log = if a == 0.0 { f64::NEG_INFINITY } else { log };
    let log = if a == f64::INFINITY { a } else { log };
    // Beyond these f32 has 0 and ∞; NaN takes neither arm.
    let t = p * log;
    let t = if t < -400.0 { -400.0 } else { t };
    let t = if t > 400.0 { 400.0 } else { t };
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    let shifted = t + MAGIC;
    let r = (t - (shifted - MAGIC)) * std::f64::consts::LN_2;
    let y = 1.0 / 3_628_800.0;
    let y = r.mul_add(y, 1.0 / 362_880.0);
    let y = r.mul_add(y, 1.0 / 40_320.0);
    let y = r.mul_add(y, 1.0 / 5_040.0);
    let y = r.mul_add(y, 1.0 / 720.0);
    let y = r.mul_add(y, 1.0 / 120.0);
    let y = r.mul_add(y, 1.0 / 24.0);
    let y = r.mul_add(y, 1.0 / 6.0);
    let y = r.mul_add(y, 0.5);
    let y = r.mul_add(y, 1.0);
    let y = r.mul_add(y, 1.0) * f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    let y = if a == 1.0 { 1.0 } else { y };
    let whole = p.trunc() == p;
    let odd = whole && (0.5 * p).trunc() != 0.5 * p;
    let y = if odd && x.is_sign_negative() { -y } else { y };
    let y = if x < 0.0 && x > f32::NEG_INFINITY && !whole { f64::NAN } else { y };
    let y = if x.is_nan() { f64::NAN } else { y };
    (if p == 0.0 { 1.0 } else { y }) as f32
}

/// tanh x without branches: the odd polynomial of Cephes' `tanhf` below 0.625, 1 − 2/(e²ˣ + 1) above.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let z = x * x;
    let p = -5.704_988_7e-3f32;
    let p = p.mul_add(z, 2.063_909e-2);
    let p = p.mul_add(z, -5.373_971_6e-2);
    let p = p.mul_add(z, 1.333_144_2e-1);
    let p = p.mul_add(z, -3.333_328e-1);
    let small = (p * z).mul_add(a, a);
    let large = 1.0 - 2.0 / (exp(a + a) + 1.0);
    (if a < 0.625 { small } else { large }).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance in units of the last place of the rounded f64 answer.
    fn ulps(got: f32, want: f64) -> f64 {
        let nearest = want as f32;
        if got.to_bits() == nearest.to_bits() || got == nearest {
            return 0.0;
        }
        if got.is_nan() {
            return f64::INFINITY;
        }
        let ulp = f32::from_bits(nearest.abs().to_bits() + 1) - nearest.abs();
        (got as f64 - want).abs() / ulp as f64
    }

    fn worst(f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, low: f32, high: f32) -> f64 {
        let n = 400_000;
        (0..=n)
            .map(|i| low + (high - low) * (i as f32 / n as f32))
            .map(|x| ulps(f(x), exact(x as f64)))
            .fold(0.0, f64::max)
    }

    #[test]
    fn within_two_ulps() {
        assert!(worst(exp, f64::exp, -87.0, 88.7) <= 2.0);
        assert!(worst(tanh, f64::tanh, -10.0, 10.0) <= 2.0);
        assert!(worst(tanh, f64::tanh, -1e-3, 1e-3) <= 2.0);
        assert!(worst(ln, f64::ln, 1e-30, 3.0) <= 2.0);
        assert!(worst(ln, f64::ln, 0.9, 1.1) <= 2.0);
        assert!(worst(ln, f64::ln, 1.0, 3e38) <= 2.0);
        assert!(worst(|x| ln(f32::from_bits(x as u32)), |x| (f32::from_bits(x as u32) as f64).ln(), 1.0, 8e6) <= 2.0);
        for p in [0.5, -0.5, 1.7, 3.0, -2.0, 1.0 / 3.0, 17.5, -0.01] {
            for (low, high) in [(1e-3, 2.0), (0.99, 1.01), (1.0, 100.0)] {
                assert!(worst(|x| powf(x, p), |x| x.powf(f64::from(p)), low, high) <= 1.0, "{p} of {low} to {high}");
            }
        }
        assert!(worst(Real::sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -80.0, 80.0) <= 2.5);
    }

    #[test]
    fn halves_convert_as_the_half_crate_does() {
        for bits in 0..=u16::MAX {
            let (a, b) = (f16::from_bits(bits), bf16::from_bits(bits));
            assert!(a.widen() == a.to_f32() || a.is_nan() && a.widen().is_nan(), "{bits:x}");
            assert!(b.widen() == b.to_f32() || b.is_nan() && b.widen().is_nan(), "{bits:x}");
            // Every half, the points midway to its neighbour, and their neighbours.
            for middle in [a.to_f32().to_bits(), a.to_f32().to_bits() | 0x1000, (bits as u32) << 16 | 0x8000] {
                for x in [middle.wrapping_sub(1), middle, middle + 1].map(f32::from_bits) {
                    let (a, b) = (<f16 as Store>::narrow(x), <bf16 as Store>::narrow(x));
                    assert!(a.to_bits() == f16::from_f32(x).to_bits() || x.is_nan() && a.is_nan(), "{x:e}");
                    assert!(b.to_bits() == bf16::from_f32(x).to_bits() || x.is_nan() && b.is_nan(), "{x:e}");
                }
            }
        }
    }

    /// As C's `pow` has them, which the standard library calls.
    #[test]
    fn powers_of_all_kinds() {
        let (no, yes) = (f32::NEG_INFINITY, f32::INFINITY);
        let numbers = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 1e-40, -1e-40, 3e38, -3e38, yes, no, f32::NAN];
        let powers =
            [0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 1.5, 100.0, -101.0, 16_777_215.0, yes, no, f32::NAN];
        for (x, p) in numbers.into_iter().flat_map(|x| powers.map(|p| (x, p))) {
            let (got, want) = (powf(x, p), f32::powf(x, p));
            let same = got.is_nan() && want.is_nan()
                || got.is_sign_negative() == want.is_sign_negative() && ulps(got, f64::from(want)) <= 1.0;
            assert!(same, "{x} to the power of {p}: {got}, wanted {want}");
        }
    }

    #[test]
    fn ends_and_nan() {
        assert_eq!(
            (ln(0.0), ln(-0.0), ln(f32::INFINITY), ln(1.0)),
            (f32::NEG_INFINITY, f32::NEG_INFINITY, f32::INFINITY, 0.0)
        );
        assert!(ln(-1.0).is_nan() && ln(f32::NAN).is_nan() && ln(f32::NEG_INFINITY).is_nan() && ln(-1e-40).is_nan());
        assert_eq!((exp(f32::INFINITY), exp(f32::NEG_INFINITY), exp(0.0)), (f32::INFINITY, 0.0, 1.0));
        assert_eq!((exp(1e30), exp(-1e30)), (f32::INFINITY, 0.0));
        assert_eq!((tanh(f32::INFINITY), tanh(f32::NEG_INFINITY), tanh(0.0)), (1.0, -1.0, 0.0));
        assert!(tanh(-0.0).is_sign_negative());
        assert_eq!((Real::sigmoid(f32::INFINITY), Real::sigmoid(f32::NEG_INFINITY)), (1.0, 0.0));
        assert!(exp(f32::NAN).is_nan() && tanh(f32::NAN).is_nan() && Real::sigmoid(f32::NAN).is_nan());
        assert!(exp(-103.0) > 0.0);
    }
}
