//! Element types.
//!
//! ```
//! use gatefold::{DType, Device, Tensor, dtype::bf16};
//! let x = Tensor::new([1.0f32, 0.1], &Device::Cpu)?.to_dtype(DType::BF16)?;
//! assert_eq!((x.dtype(), x.dtype().size()), (DType::BF16, 2));
//! assert_eq!(x.to_vec::<bf16>()?, [1.0, 0.1].map(bf16::from_f32));
//! # Ok::<(), gatefold::Error>(())
//! ```

use std::fmt;

pub use half::{bf16, f16};

/// The element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16: storage, computed in f32.
    F16,
    /// bfloat16: storage, computed in f32.
    BF16,
    /// Unsigned 32-bit integer, for indices.
    U32,
    /// Signed 64-bit integer, for indices and targets.
    I64,
    /// Unsigned 8-bit integer, for masks of zeros and ones (PyTorch's `bool`) and pixels.
    U8,
}

impl DType {
    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            DType::F64 | DType::I64 => 8,
            DType::F32 | DType::U32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::U8 => 1,
        }
    }

    /// Whether it is one of the four floating-point types.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F64 | DType::F32 | DType::F16 | DType::BF16)
    }

    /// What arithmetic on it is done in where precision counts: f64 for f64, f32 for the other floats.
    pub(crate) const fn wide(self) -> DType {
        if matches!(self, DType::F64) { DType::F64 } else { DType::F32 }
    }

    /// PyTorch's name of it, such as `float32`; `u32` is `uint32`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F64 => "float64",
            DType::F32 => "float32",
            DType::F16 => "float16",
            DType::BF16 => "bfloat16",
            DType::U32 => "uint32",
            DType::I64 => "int64",
            DType::U8 => "uint8",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that a tensor can hold.
pub trait Element:
    sealed::Sealed + bytemuck::Pod + Default + PartialEq + PartialOrd + Send + Sync + fmt::Debug + fmt::Display
{
    /// Its [`DType`].
    const DTYPE: DType;
    /// The value as f64; an i64 beyond 2⁵³ is rounded.
    fn to_f64(self) -> f64;
    /// The nearest value; out of range saturates for integers and becomes infinite for floats. Called as
    /// `<T as Element>::from_f64` where `T` may be a name for a half: those have a rougher method of the same name.
    fn from_f64(value: f64) -> Self;
}

/// An [`Element`] that is a floating-point type.
pub trait Float: Element {}

macro_rules! element {
    ($($t:ty => $dtype:ident, $to:expr, $from:expr;)*) => {$(
        impl sealed::Sealed for $t {}
        impl Element for $t {
            const DTYPE: DType = DType::$dtype;
            #[inline(always)]
            fn to_f64(self) -> f64 { $to(self) }
            #[inline(always)]
            fn from_f64(value: f64) -> Self { $from(value) }
        }
    )*};
}

element! {
    f64 => F64, |x| x, |x| x;
    f32 => F32, |x| x as f64, |x| x as f32;
    f16 => F16, f16::to_f64, |x| f16::from_f32(to_odd(x));
    bf16 => BF16, bf16::to_f64, |x| bf16::from_f32(to_odd(x));
    u32 => U32, |x| x as f64, |x| x as u32;
    i64 => I64, |x| x as f64, |x| x as i64;
    u8 => U8, |x| x as f64, |x| x as u8;
}

/// The nearer odd f32 where none is exact: rounded again to a half it is the f64 rounded once. The `half` crate's own
/// conversion from f64 rounds twice, or looks at the upper 32 bits only.
fn to_odd(x: f64) -> f32 {
    let near = x as f32;
    if near as f64 == x || near.is_nan() || near.to_bits() & 1 == 1 {
        return near;
    }
    f32::from_bits(if (near as f64).abs() > x.abs() { near.to_bits() - 1 } else { near.to_bits() + 1 })
}

impl Float for f64 {}
impl Float for f32 {}
impl Float for f16 {}
impl Float for bf16 {}

/// Runs `$body` with `$t` standing for the Rust type of `$dtype`: all seven, or only the floating-point ones
/// (an `Err` naming `$op` otherwise).
macro_rules! with_dtype {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::dtype::DType::F64 => {
                type $t = f64;
                $body
            }
            $crate::dtype::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::dtype::DType::F16 => {
                type $t = $crate::dtype::f16;
                $body
            }
            $crate::dtype::DType::BF16 => {
                type $t = $crate::dtype::bf16;
                $body
            }
            $crate::dtype::DType::U32 => {
                type $t = u32;
                $body
            }
            $crate::dtype::DType::I64 => {
                type $t = i64;
                $body
            }
            $crate::dtype::DType::U8 => {
                type $t = u8;
                $body
            }
        }
    };
    (float $op:expr, $dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::dtype::DType::F64 => {
                type $t = f64;
                $body
            }
            $crate::dtype::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::dtype::DType::F16 => {
                type $t = $crate::dtype::f16;
                $body
            }
            $crate::dtype::DType::BF16 => {
                type $t = $crate::dtype::bf16;
                $body
            }
            other => Err($crate::error::Error::dtype($op, other, "a floating-point dtype")),
        }
    };
}
pub(crate) use with_dtype;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_once_from_f64() {
        // Just above the middle of 1 and its successor, by less than an f32 can tell.
        let above = |step: f64| 1.0 + step / 2.0 + 1e-12;
        assert_eq!(<bf16 as Element>::from_f64(above(1.0 / 128.0)).to_f64(), 1.0 + 1.0 / 128.0);
        assert_eq!(<f16 as Element>::from_f64(above(1.0 / 1024.0)).to_f64(), 1.0 + 1.0 / 1024.0);
        assert_eq!(<bf16 as Element>::from_f64(1.0 + 1.0 / 256.0).to_f64(), 1.0);
        assert_eq!(<f16 as Element>::from_f64(-(3.0 + 3e-8) * 2f64.powi(-25)).to_f64(), -2.0 * 2f64.powi(-24));
        assert_eq!(<bf16 as Element>::from_f64(1e300).to_f64(), f64::INFINITY);
        assert_eq!(<f16 as Element>::from_f64(-1e-300).to_f64(), 0.0);
        assert!(<f16 as Element>::from_f64(f64::NAN).is_nan());
    }
}
