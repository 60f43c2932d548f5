//! Device memory of the CUDA backend: typed at run time, given back to the device's allocator when dropped.

use super::{allocator::Stretch, context::Context, driver::Address};
use crate::{
    dtype::DType,
    error::{Error, Result},
};

/// A typed stretch of device memory.
pub struct Buffer {
    context: &'static Context,
    address: Address,
    /// What goes back to the allocator; a view has none.
    stretch: Option<Stretch>,
    len: usize,
    dtype: DType,
}

impl Buffer {
    /// `len` elements of unspecified contents.
    pub fn new(context: &'static Context, op: &'static str, dtype: DType, len: usize) -> Result<Self> {
        let none = || Error::OutOfMemory { op, bytes: usize::MAX, device: format!("cuda:{}", context.handles.ordinal) };
        let bytes = len.checked_mul(dtype.size()).ok_or_else(none)?;
        let stretch = context.allocator.acquire(&context.handles, op, bytes)?;
        Ok(Buffer { context, address: stretch.address, stretch: Some(stretch), len, dtype })
    }

    /// Memory that belongs to somebody else.
    ///
    /// # Safety
    /// The elements lie in memory of this device that outlives the view and what is queued with it, and where the view is written
    /// nobody else uses them meanwhile.
    #[cfg(test)]
    pub unsafe fn view(context: &'static Context, address: Address, dtype: DType, len: usize) -> Self {
        Buffer { context, address, stretch: None, len, dtype }
    }

    /// The device that it lies on.
    pub fn context(&self) -> &'static Context {
        self.context
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.len * self.dtype.size()
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where it begins.
    pub fn address(&self) -> Address {
        self.address
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(stretch) = self.stretch {
            self.context.allocator.release(&self.context.handles, stretch);
        }
    }
}
