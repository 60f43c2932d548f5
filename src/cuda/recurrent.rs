//! What a recurrent layer launches: its own kernels and products over parts of buffers, on one device.

use super::{
    Buffer, Cuda, abi,
    abi::Parameters,
    blas::{self, Rows},
    driver::Address,
    elementwise,
    launch::suffix,
    memory, random, reduce,
};
use crate::{
    dtype::DType,
    error::Result,
    kernel::{Gemm, Reduce},
};
pub use abi::{
    RecurrentBias, RecurrentPeephole, RecurrentPrevious, RecurrentRows, RecurrentStates, RecurrentStep,
    RecurrentStepBackward,
};

/// A matrix in device memory: where it begins, elements from a row to the next, and whether it is read transposed.
#[derive(Debug, Clone, Copy)]
pub struct Matrix {
    pub at: Address,
    pub row: usize,
    pub transposed: bool,
}

impl Matrix {
    pub fn new(at: Address, row: usize) -> Self {
        Matrix { at, row, transposed: false }
    }

    pub fn t(self) -> Self {
        Matrix { transposed: !self.transposed, ..self }
    }
}

impl Cuda {
    /// c = a × b (+ c with `add`): m × k times k × n, of one dtype.
    pub fn multiply(
        self,
        dtype: DType,
        (m, n, k): (usize, usize, usize),
        a: Matrix,
        b: Matrix,
        c: Matrix,
        add: bool,
    ) -> Result<()> {
        let beta = if add { 1.0 } else { 0.0 };
        let (trans_a, trans_b) = (a.transposed, b.transposed);
        let g = Gemm { batch: 1, m, n, k, trans_a, trans_b, stride_a: 0, stride_b: 0, alpha: 1.0, beta };
        blas::product(self.0, dtype, &g, Rows { a: a.row, b: b.row, c: c.row }, [a.at, b.at, c.at])
    }

    /// Queues a kernel of the recurrent layers with a thread for each of `items`.
    pub fn step<P: Parameters>(self, name: &'static str, dtype: DType, items: usize, parameters: &P) -> Result<()> {
        self.0.launch(name, suffix(dtype), &self.0.spread(items), parameters)
    }

    /// Small tables of the host's, in device memory.
    pub fn table(self, numbers: &[i64]) -> Result<Buffer> {
        memory::upload(self.0, numbers)
    }

    /// # Safety
    /// As [`Buffer::view`].
    unsafe fn view(self, at: Address, dtype: DType, len: usize) -> Buffer {
        // SAFETY: the caller's promise.
        unsafe { Buffer::view(self.0, at, dtype, len) }
    }

    /// `to[len] = from[len]`, converted.
    ///
    /// # Safety
    /// Both stretches are in memory of this device that outlives what is queued, and nobody else uses `to`.
    pub unsafe fn convert(
        self,
        (from, kind): (Address, DType),
        (to, into): (Address, DType),
        len: usize,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        let (from, mut to) = unsafe { (self.view(from, kind, len), self.view(to, into, len)) };
        memory::cast(&from, &mut to)
    }

    /// `to[len] += from[len]`
    ///
    /// # Safety
    /// As [`convert`](Self::convert).
    pub unsafe fn add(self, dtype: DType, from: Address, to: Address, len: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        let (from, mut to) = unsafe { (self.view(from, dtype, len), self.view(to, dtype, len)) };
        elementwise::axpy(1.0, &from, &mut to)
    }

    /// Dropout of `len` elements.
    ///
    /// # Safety
    /// As [`convert`](Self::convert).
    pub unsafe fn drop_out(
        self,
        dtype: DType,
        (seed, stream, p): (u64, u64, f64),
        from: Address,
        to: Address,
        len: usize,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        let (from, mut to) = unsafe { (self.view(from, dtype, len), self.view(to, dtype, len)) };
        random::dropout(seed, stream, p, &from, &mut to)
    }

    /// `to[width] = Σ from[rows, width]` over rows, in an order of its own that never changes.
    ///
    /// # Safety
    /// As [`convert`](Self::convert).
    pub unsafe fn sum_rows(self, dtype: DType, from: Address, rows: usize, width: usize, to: Address) -> Result<()> {
        // SAFETY: the caller's promise.
        let (from, mut to) = unsafe { (self.view(from, dtype, rows * width), self.view(to, dtype, width)) };
        reduce::reduce(Reduce::Sum, (1, rows, width), &from, &mut to)
    }

    /// Copies (or adds) `rows` rows of `width` between matrices of other row lengths.
    ///
    /// # Safety
    /// As [`convert`](Self::convert).
    pub unsafe fn copy_rows(
        self,
        dtype: DType,
        (rows, width): (usize, usize),
        from: Matrix,
        to: Matrix,
        add: bool,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        let (source, mut target) = unsafe {
            let reach = |m: Matrix| (rows - 1) * m.row + width;
            (self.view(from.at, dtype, reach(from)), self.view(to.at, dtype, reach(to)))
        };
        let walk = |strides| crate::kernel::Strided { strides, offset: 0 };
        memory::copy_strided(&[rows, width], &source, walk(&[from.row, 1]), &mut target, walk(&[to.row, 1]), add)
    }

    /// Zero bytes.
    ///
    /// # Safety
    /// As [`convert`](Self::convert).
    pub unsafe fn clear(self, to: Address, bytes: usize) -> Result<()> {
        self.0.handles.set_bytes("recurrent", to, 0, bytes)
    }
}
