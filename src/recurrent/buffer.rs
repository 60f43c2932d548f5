//! Memory that the caller owns, as the raw layer takes it.

#[cfg(feature = "cuda")]
use crate::cuda;
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
    /// Memory of a GPU.
    #[cfg(feature = "cuda")]
    Cuda(CudaBuf<'a>),
}

/// A stretch of a GPU's memory.
#[cfg(feature = "cuda")]
#[derive(Debug, Clone, Copy)]
pub struct CudaBuf<'a> {
    pub(super) ordinal: usize,
    pub(super) address: u64,
    len: usize,
    dtype: DType,
    memory: std::marker::PhantomData<&'a ()>,
}

#[cfg(feature = "cuda")]
impl<'a> CudaBuf<'a> {
    /// `len` elements of `dtype` from `address`, which must be aligned to 16 bytes, on the GPU of that ordinal.
    ///
    /// # Safety
    /// The memory belongs to the device's primary context and stays allocated for `'a` and until what was queued on the crate's
    /// stream has run; where it becomes a [`BufMut`] nobody else uses it meanwhile.
    pub unsafe fn new(ordinal: usize, address: u64, len: usize, dtype: DType) -> Self {
        CudaBuf { ordinal, address, len, dtype, memory: std::marker::PhantomData }
    }
}

#[cfg(feature = "cuda")]
impl<'a> From<&'a cuda::Buffer> for Buf<'a> {
    fn from(b: &'a cuda::Buffer) -> Self {
        // SAFETY: the buffer is borrowed for as long; when it is dropped its memory is reused in the stream's order.
        Buf::Cuda(unsafe { CudaBuf::new(cuda::Cuda::of(b).ordinal(), b.address(), b.len(), b.dtype()) })
    }
}

#[cfg(feature = "cuda")]
impl<'a> From<&'a mut cuda::Buffer> for BufMut<'a> {
    fn from(b: &'a mut cuda::Buffer) -> Self {
        // SAFETY: as above, and the borrow is unique.
        BufMut::Cuda(unsafe { CudaBuf::new(cuda::Cuda::of(b).ordinal(), b.address(), b.len(), b.dtype()) })
    }
}

#[cfg(feature = "cuda")]
impl<'a> From<CudaBuf<'a>> for Buf<'a> {
    fn from(buf: CudaBuf<'a>) -> Self {
        Buf::Cuda(buf)
    }
}

#[cfg(feature = "cuda")]
impl<'a> From<CudaBuf<'a>> for BufMut<'a> {
    fn from(buf: CudaBuf<'a>) -> Self {
        BufMut::Cuda(buf)
    }
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
    /// Memory of a GPU.
    #[cfg(feature = "cuda")]
    Cuda(CudaBuf<'a>),
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
            pub fn len(&self) -> usize {
                match self {
                    $(Buf::$variant(s) => s.len(),)*
                    #[cfg(feature = "cuda")]
                    Buf::Cuda(c) => c.len,
                }
            }
            /// Element type.
            pub fn dtype(&self) -> DType {
                match self {
                    $(Buf::$variant(_) => DType::$variant,)*
                    #[cfg(feature = "cuda")]
                    Buf::Cuda(c) => c.dtype,
                }
            }
        }
        impl BufMut<'_> {
            /// Number of elements.
            pub fn len(&self) -> usize {
                match self {
                    $(BufMut::$variant(s) => s.len(),)*
                    #[cfg(feature = "cuda")]
                    BufMut::Cuda(c) => c.len,
                }
            }
            /// Element type.
            pub fn dtype(&self) -> DType {
                match self {
                    $(BufMut::$variant(_) => DType::$variant,)*
                    #[cfg(feature = "cuda")]
                    BufMut::Cuda(c) => c.dtype,
                }
            }
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
        match self {
            #[cfg(feature = "cuda")]
            Buf::Cuda(c) => Device::Cuda(c.ordinal),
            _ => Device::Cpu,
        }
    }

    /// The address in device memory; the caller has checked the device.
    #[cfg(feature = "cuda")]
    pub(super) fn address(&self) -> u64 {
        match self {
            Buf::Cuda(c) => c.address,
            _ => 0,
        }
    }
}

impl BufMut<'_> {
    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where it lies.
    pub fn device(&self) -> Device {
        match self {
            #[cfg(feature = "cuda")]
            BufMut::Cuda(c) => Device::Cuda(c.ordinal),
            _ => Device::Cpu,
        }
    }

    /// The address in device memory; the caller has checked the device.
    #[cfg(feature = "cuda")]
    pub(super) fn address(&self) -> u64 {
        match self {
            BufMut::Cuda(c) => c.address,
            _ => 0,
        }
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
            // Plans see to it that buffers lie on their device.
            #[cfg(feature = "cuda")]
            Buf::Cuda(_) => &[],
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
            #[cfg(feature = "cuda")]
            BufMut::Cuda(_) => &mut [],
        }
    }
}
