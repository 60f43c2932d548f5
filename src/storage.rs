//! Memory of one backend or the other, and the dispatch of kernels to it.

use crate::{
    cpu::{self, Cpu},
    device::Device,
    dtype::{DType, Element},
    error::Result,
    kernel::{Binary, ClassLoss, Distribution, Gemm, Kernels, PointwiseLoss, Reduce, Strided, Unary, Update},
};

/// Device memory of a tensor.
///
/// One variant a backend. A kernel takes its backend from its output; callers have checked that its inputs lie there too.
pub(crate) enum Storage {
    Cpu(cpu::Buffer),
}

impl Storage {
    pub fn alloc(device: Device, dtype: DType, len: usize) -> Result<Self> {
        device.check("allocate")?;
        Cpu.alloc(dtype, len).map(Storage::Cpu)
    }

    pub fn upload<T: Element>(device: Device, host: &[T]) -> Result<Self> {
        device.check("upload")?;
        Cpu.upload(host).map(Storage::Cpu)
    }

    pub fn device(&self) -> Device {
        match self {
            Storage::Cpu(_) => Device::Cpu,
        }
    }

    pub fn dtype(&self) -> DType {
        match self {
            Storage::Cpu(b) => b.dtype(),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Storage::Cpu(b) => b.len(),
        }
    }

    /// The CPU's buffer, for what reads host memory directly.
    pub fn cpu(&self) -> &cpu::Buffer {
        match self {
            Storage::Cpu(b) => b,
        }
    }

    /// The CPU's buffer, to write.
    pub fn cpu_mut(&mut self) -> &mut cpu::Buffer {
        match self {
            Storage::Cpu(b) => b,
        }
    }
}

/// Forwards a kernel to the CPU backend: with one backend, every argument is its.
macro_rules! launch {
    ($($(#[$m:meta])* fn $name:ident($($plain:ident: $p:ty),* ; $($x:ident: $kind:ident),*) $(-> $r:ty)?;)*) => {$(
        $(#[$m])*
        pub(crate) fn $name($($plain: $p,)* $($x: launch!(@type $kind)),*) -> Result<launch!(@ret $($r)?)> {
            Cpu.$name($($plain,)* $(launch!(@arg $kind $x)),*)
        }
    )*};
    (@type x) => { &Storage };
    (@type y) => { &mut Storage };
    (@type opt) => { Option<&Storage> };
    (@type opt_mut) => { Option<&mut Storage> };
    (@type walk) => { (&Storage, &[usize]) };
    (@arg x $x:ident) => { $x.cpu() };
    (@arg y $x:ident) => { $x.cpu_mut() };
    (@arg opt $x:ident) => { $x.map(Storage::cpu) };
    (@arg opt_mut $x:ident) => { $x.map(Storage::cpu_mut) };
    (@arg walk $x:ident) => { ($x.0.cpu(), $x.1) };
    (@ret) => { () };
    (@ret $r:ty) => { $r };
}

type Dims = (usize, usize, usize);

launch! {
    fn fill(value: f64; y: y);
    fn cast(; x: x, y: y);
    fn unary(op: Unary; x: x, y: y);
    fn unary_backward(op: Unary; x: x, y: x, dy: x, dx: y);
    fn binary(op: Binary, shape: &[usize]; a: walk, b: walk, y: y);
    fn axpy(alpha: f64; x: x, y: y);
    fn reduce(op: Reduce, dims: Dims; x: x, y: y);
    fn arg_max(dims: Dims; x: x, index: y);
    fn scatter_axis(dims: Dims; index: x, dy: x, dx: y);
    fn softmax(log: bool, dims: Dims; x: x, y: y);
    fn softmax_backward(log: bool, dims: Dims; y: x, dy: x, dx: y);
    fn gemm(g: &Gemm; a: x, b: x, c: y);
    fn gather(dims: Dims; index: x, x: x, y: y);
    fn index_range(; index: x) -> Option<(i64, i64)>;
    fn dropout(seed: u64, stream: u64, p: f64; x: x, y: y);
    fn random(distribution: Distribution, seed: u64, stream: u64; y: y);
    fn pointwise_loss(loss: PointwiseLoss; x: x, target: x, weight: opt, pos_weight: opt, y: y);
    #[expect(clippy::too_many_arguments, reason = "one launch: its buffers")]
    fn pointwise_loss_backward(loss: PointwiseLoss; x: x, target: x, weight: opt, pos_weight: opt, dy: x, dx: opt_mut, dtarget: opt_mut);
    fn class_loss(loss: &ClassLoss; x: x, target: x, weight: opt, y: y, sample_weight: y);
    fn class_loss_backward(loss: &ClassLoss; target: x, weight: opt, dy: x, dx: y);
    fn sum_of_squares(; x: x) -> f64;
}

pub(crate) fn download<T: Element>(x: &Storage, host: &mut [T]) -> Result<()> {
    Cpu.download(x.cpu(), host)
}

pub(crate) fn copy_strided(
    shape: &[usize],
    x: &Storage,
    from: Strided<'_>,
    y: &mut Storage,
    to: Strided<'_>,
    accumulate: bool,
) -> Result<()> {
    Cpu.copy_strided(shape, x.cpu(), from, y.cpu_mut(), to, accumulate)
}

pub(crate) fn scatter_add(
    dims: Dims,
    index: &Storage,
    skip: Option<i64>,
    dy: &Storage,
    dx: &mut Storage,
) -> Result<()> {
    Cpu.scatter_add(dims, index.cpu(), skip, dy.cpu(), dx.cpu_mut())
}

pub(crate) fn update(
    update: &Update,
    parameter: &mut Storage,
    gradient: &Storage,
    state: &mut [&mut Storage],
) -> Result<()> {
    let mut state: Vec<&mut cpu::Buffer> = state.iter_mut().map(|s| s.cpu_mut()).collect();
    Cpu.update(update, parameter.cpu_mut(), gradient.cpu(), &mut state)
}
