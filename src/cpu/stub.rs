#![expect(unused)]
use super::*;
use crate::{dtype::*, error::Result, kernel::*};
impl Kernels for Cpu {
    type Buffer = Buffer;
    fn alloc(&self, dtype: DType, len: usize) -> Result<Self::Buffer> {
        todo!()
    }
    fn upload<T: Element>(&self, host: &[T]) -> Result<Self::Buffer> {
        todo!()
    }
    fn download<T: Element>(&self, x: &Self::Buffer, host: &mut [T]) -> Result<()> {
        todo!()
    }
    fn fill(&self, value: f64, y: &mut Self::Buffer) -> Result<()> {
        todo!()
    }
    fn cast(&self, x: &Self::Buffer, y: &mut Self::Buffer) -> Result<()> {
        todo!()
    }
    fn copy_strided(
        &self,
        shape: &[usize],
        x: &Self::Buffer,
        from: Strided<'_>,
        y: &mut Self::Buffer,
        to: Strided<'_>,
        accumulate: bool,
    ) -> Result<()> {
        todo!()
    }
    fn unary(&self, op: Unary, x: &Self::Buffer, y: &mut Self::Buffer) -> Result<()> {
        todo!()
    }
    fn unary_backward(
        &self,
        op: Unary,
        x: &Self::Buffer,
        y: &Self::Buffer,
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
    ) -> Result<()> {
        todo!()
    }
    fn binary(
        &self,
        op: Binary,
        shape: &[usize],
        a: (&Self::Buffer, &[usize]),
        b: (&Self::Buffer, &[usize]),
        y: &mut Self::Buffer,
    ) -> Result<()> {
        todo!()
    }
    fn axpy(&self, alpha: f64, x: &Self::Buffer, y: &mut Self::Buffer) -> Result<()> {
        todo!()
    }
    fn reduce(&self, op: Reduce, dims: (usize, usize, usize), x: &Self::Buffer, y: &mut Self::Buffer) -> Result<()> {
        todo!()
    }
    fn arg_max(&self, dims: (usize, usize, usize), x: &Self::Buffer, index: &mut Self::Buffer) -> Result<()> {
        todo!()
    }
    fn scatter_axis(
        &self,
        dims: (usize, usize, usize),
        index: &Self::Buffer,
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
    ) -> Result<()> {
        todo!()
    }
    fn softmax(&self, log: bool, dims: (usize, usize, usize), x: &Self::Buffer, y: &mut Self::Buffer) -> Result<()> {
        todo!()
    }
    fn softmax_backward(
        &self,
        log: bool,
        dims: (usize, usize, usize),
        y: &Self::Buffer,
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
    ) -> Result<()> {
        todo!()
    }
    fn gemm(&self, g: &Gemm, a: &Self::Buffer, b: &Self::Buffer, c: &mut Self::Buffer) -> Result<()> {
        todo!()
    }
    fn gather(
        &self,
        dims: (usize, usize, usize),
        index: &Self::Buffer,
        x: &Self::Buffer,
        y: &mut Self::Buffer,
    ) -> Result<()> {
        todo!()
    }
    fn scatter_add(
        &self,
        dims: (usize, usize, usize),
        index: &Self::Buffer,
        skip: Option<i64>,
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
    ) -> Result<()> {
        todo!()
    }
    fn index_range(&self, index: &Self::Buffer) -> Result<Option<(i64, i64)>> {
        todo!()
    }
    fn dropout(&self, seed: u64, stream: u64, p: f64, x: &Self::Buffer, y: &mut Self::Buffer) -> Result<()> {
        todo!()
    }
    fn random(&self, distribution: Distribution, seed: u64, stream: u64, y: &mut Self::Buffer) -> Result<()> {
        todo!()
    }
    fn pointwise_loss(
        &self,
        loss: PointwiseLoss,
        x: &Self::Buffer,
        target: &Self::Buffer,
        weight: Option<&Self::Buffer>,
        pos_weight: Option<&Self::Buffer>,
        y: &mut Self::Buffer,
    ) -> Result<()> {
        todo!()
    }
    fn pointwise_loss_backward(
        &self,
        loss: PointwiseLoss,
        x: &Self::Buffer,
        target: &Self::Buffer,
        weight: Option<&Self::Buffer>,
        pos_weight: Option<&Self::Buffer>,
        dy: &Self::Buffer,
        dx: Option<&mut Self::Buffer>,
        dtarget: Option<&mut Self::Buffer>,
    ) -> Result<()> {
        todo!()
    }
    fn class_loss(
        &self,
        loss: &ClassLoss,
        x: &Self::Buffer,
        target: &Self::Buffer,
        weight: Option<&Self::Buffer>,
        y: &mut Self::Buffer,
        sample_weight: &mut Self::Buffer,
    ) -> Result<()> {
        todo!()
    }
    fn class_loss_backward(
        &self,
        loss: &ClassLoss,
        target: &Self::Buffer,
        weight: Option<&Self::Buffer>,
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
    ) -> Result<()> {
        todo!()
    }
    fn update(
        &self,
        update: &Update,
        parameter: &mut Self::Buffer,
        gradient: &Self::Buffer,
        state: &mut [&mut Self::Buffer],
    ) -> Result<()> {
        todo!()
    }
    fn sum_of_squares(&self, x: &Self::Buffer) -> Result<f64> {
        todo!()
    }
}
