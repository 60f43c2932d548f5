//! The CUDA backend: a file per family of kernels, and below them the driver, memory and launches.
//!
//! Everything of a device runs on one stream and nothing waits for it but a download. What a kernel finds wrong with its data
//! (an index, a class, a probability) it notes on the device; the next download tells it as an `Err`.

mod abi;
mod allocator;
mod blas;
mod buffer;
mod clip;
mod context;
mod driver;
mod elementwise;
mod graph;
mod index;
mod lane;
mod launch;
mod loss;
mod memory;
mod multi_tensor;
mod optimizer;
mod random;
pub mod recurrent;
mod reduce;
mod softmax;
mod staging;

use std::sync::atomic::Ordering;

pub use buffer::Buffer;
use context::Context;
pub use graph::StepGraph;

use crate::{
    device::MemoryStats,
    dtype::{DType, Element},
    error::Result,
    kernel::{
        Binary, ClassLoss, Compare, Distribution, Gemm, Kernels, Live, PointwiseLoss, Reduce, ScaleRule, Step, Strided,
        Unary,
    },
};

/// One GPU.
#[derive(Clone, Copy)]
pub struct Cuda(&'static Context);

/// `[outer, n, inner]`
type Dims = (usize, usize, usize);

impl Cuda {
    /// The GPU of that ordinal; opened on first use.
    pub fn open(op: &'static str, ordinal: usize) -> Result<Self> {
        context::open(op, ordinal).map(Cuda)
    }

    /// The GPU that a buffer lies on.
    pub fn of(buffer: &Buffer) -> Self {
        Cuda(buffer.context())
    }

    /// Its ordinal.
    pub fn ordinal(self) -> usize {
        self.0.handles.ordinal
    }

    /// Its memory.
    pub fn memory_stats(self) -> MemoryStats {
        let (pinned_bytes, pinned_allocations) = self.0.staging.stats();
        MemoryStats { pinned_bytes, pinned_allocations, ..self.0.allocator.stats() }
    }

    /// Gives the memory that is kept and not in use back to the driver.
    pub fn release_memory(self, op: &'static str) -> Result<()> {
        self.0.allocator.trim(&self.0.handles, op)?;
        self.0.staging.trim(&self.0.handles, op)
    }

    /// Waits for everything that was queued, and tells what its kernels met.
    pub fn synchronize(self, op: &'static str) -> Result<()> {
        self.0.download(op, 0, &mut [])
    }

    /// Whether recurrent calls may be captured and replayed.
    pub fn allow_graphs(self, allow: bool) {
        self.0.replay.store(allow, Ordering::Relaxed);
    }

    /// Whether steps can be captured: their memory must be kept.
    pub fn captures(self) -> bool {
        self.0.allocator.has_pools() && self.0.replay.load(Ordering::Relaxed)
    }

    /// See [`StepGraph::capture`].
    pub fn capture<R>(self, op: &'static str, step: impl FnOnce() -> Result<R>) -> Result<(StepGraph, R)> {
        StepGraph::capture(self.0, op, step)
    }

    /// See [`random::draw_masks`].
    pub fn draw_masks(self, draws: &Buffer, drawn: &mut Buffer) -> Result<()> {
        random::draw_masks(draws, drawn)
    }

    /// A copy of host memory, on a stream for copies alone.
    pub fn upload_beside<T: Element>(self, host: &[T]) -> Result<Buffer> {
        memory::upload_beside(self.0, host)
    }

    /// The device's stream waits for the copies beside it.
    pub fn arrived(self) -> Result<()> {
        lane::Lane::of(self.0, 0)?.wait_for(self.0, lane::Lane::copies(self.0)?)
    }

    /// Whether recurrent layers may run all their steps in one launch.
    pub fn allow_persistent(self, allow: bool) {
        self.0.persistent.store(allow, Ordering::Relaxed);
    }

    /// Whether f32 products may use TF32.
    pub fn allow_tf32(self, allow: bool) {
        // Not in the middle of a capture by another thread.
        self.0.handles.entered(|| self.0.tf32.store(allow, Ordering::Relaxed));
    }
}

impl Kernels for Cuda {
    type Buffer = Buffer;

    fn alloc(&self, dtype: DType, len: usize) -> Result<Buffer> {
        Buffer::new(self.0, "allocate", dtype, len)
    }
    fn upload<T: Element>(&self, host: &[T]) -> Result<Buffer> {
        memory::upload(self.0, host)
    }
    fn write<T: Element>(&self, host: &[T], y: &mut Buffer) -> Result<()> {
        memory::write(host, y)
    }
    fn download<T: Element>(&self, x: &Buffer, host: &mut [T]) -> Result<()> {
        memory::download(x, host)
    }
    fn fill(&self, value: f64, y: &mut Buffer) -> Result<()> {
        memory::fill(value, y)
    }
    fn cast(&self, x: &Buffer, y: &mut Buffer) -> Result<()> {
        memory::cast(x, y)
    }
    fn copy_strided(
        &self,
        shape: &[usize],
        x: &Buffer,
        from: Strided<'_>,
        y: &mut Buffer,
        to: Strided<'_>,
        accumulate: bool,
    ) -> Result<()> {
        memory::copy_strided(shape, x, from, y, to, accumulate)
    }

    fn unary(&self, op: Unary, x: &Buffer, y: &mut Buffer) -> Result<()> {
        elementwise::unary(op, x, y)
    }
    fn unary_backward(&self, op: Unary, x: &Buffer, y: &Buffer, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
        elementwise::unary_backward(op, x, y, dy, dx)
    }
    fn binary(
        &self,
        op: Binary,
        shape: &[usize],
        a: (&Buffer, &[usize]),
        b: (&Buffer, &[usize]),
        y: &mut Buffer,
    ) -> Result<()> {
        elementwise::binary(op, shape, a, b, y)
    }
    fn compare(
        &self,
        op: Compare,
        shape: &[usize],
        a: (&Buffer, &[usize]),
        b: (&Buffer, &[usize]),
        y: &mut Buffer,
    ) -> Result<()> {
        elementwise::compare(op, shape, a, b, y)
    }
    fn select(
        &self,
        shape: &[usize],
        mask: (&Buffer, &[usize]),
        a: (&Buffer, &[usize]),
        b: (&Buffer, &[usize]),
        y: &mut Buffer,
    ) -> Result<()> {
        elementwise::select(shape, mask, a, b, y)
    }
    fn axpy(&self, alpha: f64, x: &Buffer, y: &mut Buffer) -> Result<()> {
        elementwise::axpy(alpha, x, y)
    }

    fn reduce(&self, op: Reduce, dims: Dims, x: &Buffer, y: &mut Buffer) -> Result<()> {
        reduce::reduce(op, dims, x, y)
    }
    fn arg_max(&self, dims: Dims, x: &Buffer, index: &mut Buffer) -> Result<()> {
        reduce::arg_max(dims, x, index)
    }
    fn top_k(&self, count: usize, dims: Dims, x: &Buffer, index: &mut Buffer) -> Result<()> {
        reduce::top_k(count, dims, x, index)
    }
    fn scatter_axis(&self, dims: Dims, index: &Buffer, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
        reduce::scatter_axis(dims, index, dy, dx)
    }
    fn softmax(&self, log: bool, dims: Dims, x: &Buffer, y: &mut Buffer) -> Result<()> {
        softmax::softmax(log, dims, x, y)
    }
    fn softmax_backward(&self, log: bool, dims: Dims, y: &Buffer, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
        softmax::softmax_backward(log, dims, y, dy, dx)
    }
    fn gemm(&self, g: &Gemm, a: &Buffer, b: &Buffer, c: &mut Buffer) -> Result<()> {
        blas::gemm(g, a, b, c)
    }

    fn gather(&self, dims: Dims, index: &Buffer, x: &Buffer, y: &mut Buffer) -> Result<()> {
        index::gather(dims, index, x, y)
    }
    fn scatter_add(&self, dims: Dims, index: &Buffer, skip: Option<i64>, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
        index::scatter_add(dims, index, skip, dy, dx)
    }
    fn take_along(&self, dims: Dims, index: &Buffer, x: &Buffer, y: &mut Buffer) -> Result<()> {
        index::take_along(dims, index, x, y)
    }
    fn put_along(&self, dims: Dims, index: &Buffer, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
        index::put_along(dims, index, dy, dx)
    }
    fn index_range(&self, _: &Buffer) -> Result<Option<(i64, i64)>> {
        // The kernels look at each index themselves: reading them back here would wait for the device.
        Ok(None)
    }

    fn dropout(&self, seed: u64, stream: u64, p: f64, x: &Buffer, y: &mut Buffer) -> Result<()> {
        random::dropout(seed, stream, p, x, y)
    }
    fn random(&self, distribution: Distribution, seed: u64, stream: u64, y: &mut Buffer) -> Result<()> {
        random::random(distribution, seed, stream, y)
    }

    fn pointwise_loss(
        &self,
        loss: PointwiseLoss,
        x: &Buffer,
        target: &Buffer,
        weight: Option<&Buffer>,
        pos_weight: Option<&Buffer>,
        y: &mut Buffer,
    ) -> Result<()> {
        loss::pointwise_loss(loss, x, target, weight, pos_weight, y)
    }
    fn pointwise_loss_backward(
        &self,
        loss: PointwiseLoss,
        x: &Buffer,
        target: &Buffer,
        weight: Option<&Buffer>,
        pos_weight: Option<&Buffer>,
        dy: &Buffer,
        dx: Option<&mut Buffer>,
        dtarget: Option<&mut Buffer>,
    ) -> Result<()> {
        loss::pointwise_loss_backward(loss, x, target, weight, pos_weight, dy, dx, dtarget)
    }
    fn class_loss(
        &self,
        loss: &ClassLoss,
        x: &Buffer,
        target: &Buffer,
        weight: Option<&Buffer>,
        y: &mut Buffer,
        sample_weight: &mut Buffer,
    ) -> Result<()> {
        loss::class_loss(loss, x, target, weight, y, sample_weight)
    }
    fn class_loss_backward(
        &self,
        loss: &ClassLoss,
        target: &Buffer,
        weight: Option<&Buffer>,
        dy: &Buffer,
        dx: &mut Buffer,
    ) -> Result<()> {
        loss::class_loss_backward(loss, target, weight, dy, dx)
    }

    fn update(&self, steps: &mut [Step<'_, Buffer>], live: Option<&Live<'_, Buffer>>) -> Result<()> {
        optimizer::update(steps, live)
    }
    fn advance(&self, settings: &Buffer, clocks: &mut Buffer, skip: Option<&Buffer>) -> Result<()> {
        optimizer::advance(settings, clocks, skip)
    }
    fn unscale(&self, scale: Option<&Buffer>, found: &mut Buffer, xs: &mut [&mut Buffer]) -> Result<()> {
        optimizer::unscale(scale, found, xs)
    }
    fn update_scale(&self, by: ScaleRule, scale: &mut Buffer, steady: &mut Buffer, found: &mut Buffer) -> Result<()> {
        optimizer::update_scale(by, scale, steady, found)
    }
    fn norm(&self, p: f64, max_norm: f64, xs: &[&Buffer], norm: &mut Buffer, factor: &mut Buffer) -> Result<()> {
        clip::norm(p, max_norm, xs, norm, factor)
    }
    fn scale_each(&self, factor: &Buffer, xs: &mut [&mut Buffer]) -> Result<()> {
        clip::scale_each(factor, xs)
    }
    fn clamp_each(&self, low: f64, high: f64, xs: &mut [&mut Buffer]) -> Result<()> {
        clip::clamp_each(low, high, xs)
    }
}
