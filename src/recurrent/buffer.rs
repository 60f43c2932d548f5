//! Memory that the caller owns, as the raw layer takes it.

use crate::{
    device::Device,
    dtype::{DType, Element, bf16, f16},
};

/// Read-only memory of the caller.
#[non_exhaustive]
#[derive(Debug, Clone, Copy)]
pub enum Buf<'a> {
    /// Host memory, f64.
    F64(&'a [f64]),
    /// Host memory, f32.
    F32(&'a [f32]),
    /// Host memory, f16.
    F16(&'a [f16]),
    /// Host memory, bf16.
    BF16(&'a [bf16]),
}

/// Memory of the caller that is written.
#[non_exhaustive]
#[derive(Debug)]
pub enum BufMut<'a> {
    /// Host memory, f64.
    F64(&'a mut [f64]),
    /// Host memory, f32.
    F32(&'a mut [f32]),
    /// Host memory, f16.
    F16(&'a mut [f16]),
    /// Host memory, bf16.
    BF16(&'a mut [bf16]),
}

macro_rules! buffer {
    ($($variant:ident $t:ty),*) => {
        $(
            impl<'a> From<&'a [$t]> for Buf<'a> {
                fn from(slice: &'a [$t]) -> Self { Buf::$variant(slice) }
            }
            impl<'a> From<&'a Vec<$t>> for Buf<'a> {
                fn from(vec: &'a Vec<$t>) -> Self { Buf::$variant(vec) }
            }
            impl<'a> From<&'a mut [$t]> for BufMut<'a> {
                fn from(slice: &'a mut [$t]) -> Self { BufMut::$variant(slice) }
            }
            impl<'a> From<&'a mut Vec<$t>> for BufMut<'a> {
                fn from(vec: &'a mut Vec<$t>) -> Self { BufMut::$variant(vec) }
            }
        )*
        impl Buf<'_> {
            /// Number of elements.
            pub fn len(&self) -> usize { match self { $(Buf::$variant(s) => s.len(),)* } }
            /// Element type.
            pub fn dtype(&self) -> DType { match self { $(Buf::$variant(_) => DType::$variant,)* } }
        }
        impl BufMut<'_> {
            /// Number of elements.
            pub fn len(&self) -> usize { match self { $(BufMut::$variant(s) => s.len(),)* } }
            /// Element type.
            pub fn dtype(&self) -> DType { match self { $(BufMut::$variant(_) => DType::$variant,)* } }
        }
    };
}
buffer!(F64 f64, F32 f32, F16 f16, BF16 bf16);

impl Buf<'_> {
    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where it lies.
    pub fn device(&self) -> Device {
        Device::Cpu
    }
}

impl BufMut<'_> {
    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where it lies.
    pub fn device(&self) -> Device {
        Device::Cpu
    }
}

impl<'a> Buf<'a> {
    /// The elements; the caller has checked the dtype.
    pub(crate) fn host<T: Element>(self) -> &'a [T] {
        match self {
            Buf::F64(s) => bytemuck::cast_slice(s),
            Buf::F32(s) => bytemuck::cast_slice(s),
            Buf::F16(s) => bytemuck::cast_slice(s),
            Buf::BF16(s) => bytemuck::cast_slice(s),
        }
    }
}

impl BufMut<'_> {
    /// The elements, to write; the caller has checked the dtype.
    pub(crate) fn host_mut<T: Element>(&mut self) -> &mut [T] {
        match self {
            BufMut::F64(s) => bytemuck::cast_slice_mut(s),
            BufMut::F32(s) => bytemuck::cast_slice_mut(s),
            BufMut::F16(s) => bytemuck::cast_slice_mut(s),
            BufMut::BF16(s) => bytemuck::cast_slice_mut(s),
        }
    }
}
