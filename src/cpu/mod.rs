//! The CPU backend: a file per family of kernels.

#[cfg(target_arch = "x86_64")]
mod amx;
mod arg_max;
mod buffer;
mod clip;
mod compare;
mod double;
pub mod elementwise;
pub mod gemm;
mod index;
#[cfg(target_arch = "x86_64")]
mod lanes;
pub(crate) mod loss;
mod memory;
mod optimizer;
pub mod random;
pub mod real;
pub mod recurrent;
mod reduce;
pub mod simd;
mod softmax;
pub mod split;
#[cfg(test)]
pub mod testing;
pub mod walk;

pub use buffer::{Buffer, CLASSES, class, index, release_all};

use crate::{
    dtype::{DType, Element},
    error::Result,
    kernel::{
        Binary, ClassLoss, Compare, Distribution, Gemm, Kernels, Live, PointwiseLoss, Reduce, ScaleRule, Step, Strided,
        Unary,
    },
};

/// The host's processor.
#[derive(Debug, Clone, Copy)]
pub struct Cpu;

/// `[outer, n, inner]`
type Dims = (usize, usize, usize);

impl Kernels for Cpu {
    type Buffer = Buffer;

    fn alloc(&self, dtype: DType, len: usize) -> Result<Buffer> {
        Buffer::new(dtype, len)
    }
    fn upload<T: Element>(&self, host: &[T]) -> Result<Buffer> {
        Buffer::from_slice(host)
    }
    fn write<T: Element>(&self, host: &[T], y: &mut Buffer) -> Result<()> {
        y.slice_mut::<T>().copy_from_slice(host);
        Ok(())
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
        compare::compare(op, shape, a, b, y)
    }
    fn select(
        &self,
        shape: &[usize],
        mask: (&Buffer, &[usize]),
        a: (&Buffer, &[usize]),
        b: (&Buffer, &[usize]),
        y: &mut Buffer,
    ) -> Result<()> {
        compare::select(shape, mask, a, b, y)
    }
    fn axpy(&self, alpha: f64, x: &Buffer, y: &mut Buffer) -> Result<()> {
        elementwise::axpy(alpha, x, y)
    }

    fn reduce(&self, op: Reduce, dims: Dims, x: &Buffer, y: &mut Buffer) -> Result<()> {
        reduce::reduce(op, dims, x, y)
    }
    fn arg_max(&self, dims: Dims, x: &Buffer, index: &mut Buffer) -> Result<()> {
        arg_max::arg_max(dims, x, index)
    }
    fn top_k(&self, count: usize, dims: Dims, x: &Buffer, index: &mut Buffer) -> Result<()> {
        arg_max::top_k(count, dims, x, index)
    }
    fn scatter_axis(&self, dims: Dims, index: &Buffer, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
        arg_max::scatter_axis(dims, index, dy, dx)
    }
    fn softmax(&self, log: bool, dims: Dims, x: &Buffer, y: &mut Buffer) -> Result<()> {
        softmax::softmax(log, dims, x, y)
    }
    fn softmax_backward(&self, log: bool, dims: Dims, y: &Buffer, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
        softmax::softmax_backward(log, dims, y, dy, dx)
    }
    fn gemm(&self, g: &Gemm, a: &Buffer, b: &Buffer, c: &mut Buffer) -> Result<()> {
        gemm::gemm(g, a, b, c)
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
    fn index_range(&self, index: &Buffer) -> Result<Option<(i64, i64)>> {
        reduce::index_range(index)
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
        optimizer::advance(settings, clocks, skip);
        Ok(())
    }
    fn unscale(&self, scale: Option<&Buffer>, found: &mut Buffer, xs: &mut [&mut Buffer]) -> Result<()> {
        optimizer::unscale(scale, found, xs)
    }
    fn update_scale(&self, by: ScaleRule, scale: &mut Buffer, steady: &mut Buffer, found: &mut Buffer) -> Result<()> {
        optimizer::update_scale(by, scale, steady, found);
        Ok(())
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
