//! Memory of one backend or the other, and the dispatch of kernels to it.

use crate::{
    cpu::{self, Cpu},
    device::Device,
    dtype::{DType, Element},
    error::{Error, Result},
    kernel::{
        Binary, ClassLoss, Compare, Distribution, Gemm, Kernels, Live, PointwiseLoss, Reduce, ScaleRule, Step, Strided,
        Unary,
    },
};
#[cfg(feature = "cuda")]
use crate::{
    cuda::{self, Cuda},
    dtype::with_dtype,
};

/// What a thread has that holds a lock while it calls kernels.
pub(crate) use cpu::split::Holding;

/// Device memory of a tensor.
///
/// One variant a backend. A kernel runs where its first buffer lies, and refuses any that lies elsewhere.
pub(crate) enum Storage {
    Cpu(cpu::Buffer),
    #[cfg(feature = "cuda")]
    Cuda(cuda::Buffer),
}

/// A backend as storages know it.
trait Backend: Kernels + Copy {
    /// The backend's buffer of a storage.
    fn buffer<'a>(self, op: &'static str, storage: &'a Storage) -> Result<&'a Self::Buffer>;
    /// The same, to write.
    fn buffer_mut<'a>(self, op: &'static str, storage: &'a mut Storage) -> Result<&'a mut Self::Buffer>;
}

impl Backend for Cpu {
    fn buffer<'a>(self, op: &'static str, storage: &'a Storage) -> Result<&'a cpu::Buffer> {
        storage.cpu(op)
    }
    fn buffer_mut<'a>(self, op: &'static str, storage: &'a mut Storage) -> Result<&'a mut cpu::Buffer> {
        storage.cpu_mut(op)
    }
}

#[cfg(feature = "cuda")]
impl Backend for Cuda {
    fn buffer<'a>(self, op: &'static str, storage: &'a Storage) -> Result<&'a cuda::Buffer> {
        let (lies, here) = (storage.device(), Device::Cuda(self.ordinal()));
        match storage {
            Storage::Cuda(b) if lies == here => Ok(b),
            _ => Err(Error::device(op, lies, here)),
        }
    }
    fn buffer_mut<'a>(self, op: &'static str, storage: &'a mut Storage) -> Result<&'a mut cuda::Buffer> {
        let (lies, here) = (storage.device(), Device::Cuda(self.ordinal()));
        match storage {
            Storage::Cuda(b) if lies == here => Ok(b),
            _ => Err(Error::device(op, lies, here)),
        }
    }
}

/// Runs the body with the backend of a storage.
macro_rules! on {
    ($storage:expr, $backend:ident => $body:expr) => {
        match $storage {
            Storage::Cpu(_) => {
                let $backend = Cpu;
                $body
            }
            #[cfg(feature = "cuda")]
            Storage::Cuda(buffer) => {
                let $backend = Cuda::of(buffer);
                $body
            }
        }
    };
}

impl Storage {
    pub fn alloc(device: Device, dtype: DType, len: usize) -> Result<Self> {
        match device {
            Device::Cpu => Cpu.alloc(dtype, len).map(Storage::Cpu),
            #[cfg(feature = "cuda")]
            Device::Cuda(ordinal) => Cuda::open("allocate", ordinal)?.alloc(dtype, len).map(Storage::Cuda),
            #[cfg(not(feature = "cuda"))]
            other => Err(other.unbuilt("allocate")),
        }
    }

    pub fn upload<T: Element>(device: Device, host: &[T]) -> Result<Self> {
        match device {
            Device::Cpu => Cpu.upload(host).map(Storage::Cpu),
            #[cfg(feature = "cuda")]
            Device::Cuda(ordinal) => Cuda::open("upload", ordinal)?.upload(host).map(Storage::Cuda),
            #[cfg(not(feature = "cuda"))]
            other => Err(other.unbuilt("upload")),
        }
    }

    pub fn device(&self) -> Device {
        match self {
            Storage::Cpu(_) => Device::Cpu,
            #[cfg(feature = "cuda")]
            Storage::Cuda(b) => Device::Cuda(Cuda::of(b).ordinal()),
        }
    }

    pub fn dtype(&self) -> DType {
        match self {
            Storage::Cpu(b) => b.dtype(),
            #[cfg(feature = "cuda")]
            Storage::Cuda(b) => b.dtype(),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Storage::Cpu(b) => b.len(),
            #[cfg(feature = "cuda")]
            Storage::Cuda(b) => b.len(),
        }
    }

    /// Where it lies on a GPU; 0 on the CPU.
    pub fn address(&self) -> u64 {
        match self {
            Storage::Cpu(_) => 0,
            #[cfg(feature = "cuda")]
            Storage::Cuda(b) => b.address(),
        }
    }

    /// The GPU's buffer, where it is one.
    #[cfg(feature = "cuda")]
    pub fn cuda(&self) -> Option<&cuda::Buffer> {
        match self {
            Storage::Cuda(b) => Some(b),
            Storage::Cpu(_) => None,
        }
    }

    /// The GPU's buffer, to write.
    #[cfg(feature = "cuda")]
    pub fn cuda_mut(&mut self, op: &'static str) -> Result<&mut cuda::Buffer> {
        match self {
            Storage::Cuda(b) => Ok(b),
            Storage::Cpu(_) => Err(Error::device(op, Device::Cpu, "a CUDA device")),
        }
    }

    /// The CPU's buffer, for what reads host memory directly.
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "there is no other backend"))]
    pub fn cpu(&self, op: &'static str) -> Result<&cpu::Buffer> {
        match self {
            Storage::Cpu(b) => Ok(b),
            #[cfg(feature = "cuda")]
            other => Err(Error::device(op, other.device(), Device::Cpu)),
        }
    }

    /// The elements, where the host can read them as they lie.
    pub fn host<T: Element>(&self) -> Option<&[T]> {
        match self {
            Storage::Cpu(b) => Some(b.slice()),
            #[cfg(feature = "cuda")]
            Storage::Cuda(_) => None,
        }
    }

    /// The CPU's buffer, to write.
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "there is no other backend"))]
    pub fn cpu_mut(&mut self, op: &'static str) -> Result<&mut cpu::Buffer> {
        match self {
            Storage::Cpu(b) => Ok(b),
            #[cfg(feature = "cuda")]
            other => Err(Error::device(op, other.device(), Device::Cpu)),
        }
    }
}

/// The work of a step, captured, that runs again with one launch.
#[cfg(feature = "cuda")]
pub(crate) use cuda::StepGraph as Captured;

/// No other backend captures.
#[cfg(not(feature = "cuda"))]
pub(crate) enum Captured {}

#[cfg(not(feature = "cuda"))]
impl Captured {
    pub fn launch(&self, _op: &'static str) -> Result<()> {
        match *self {}
    }
}

/// Whether steps can be captured there.
pub(crate) fn captures(device: Device) -> bool {
    match device {
        Device::Cpu => false,
        #[cfg(feature = "cuda")]
        Device::Cuda(ordinal) => Cuda::open("capture", ordinal).is_ok_and(Cuda::captures),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => false,
    }
}

/// Captures what `step` queues, instead of running it.
#[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "there is no backend that captures"))]
pub(crate) fn capture<R>(device: Device, op: &'static str, step: impl FnOnce() -> Result<R>) -> Result<(Captured, R)> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(ordinal) => Cuda::open(op, ordinal)?.capture(op, step),
        other => Err(Error::device(op, other, "a device that captures")),
    }
}

/// Seeds and streams of the next replay's masks: `[draws, 4]` to `[draws, 2]` of i64, whose bits count.
pub(crate) fn draw_masks(draws: &Storage, drawn: &mut Storage) -> Result<()> {
    const OP: &str = "draw_masks";
    match draws {
        #[cfg(feature = "cuda")]
        Storage::Cuda(buffer) => Cuda::of(buffer).draw_masks(buffer, drawn.cuda_mut(OP)?),
        Storage::Cpu(_) => Err(Error::device(OP, drawn.device(), "a device that captures")),
    }
}

/// A copy of the CPU's memory on a device, under way beside what else that device does: whoever uses it calls [`arrived`] first.
pub(crate) fn upload_beside(device: Device, from: &Storage) -> Result<Storage> {
    const OP: &str = "upload";
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(ordinal) => {
            let cuda = Cuda::open(OP, ordinal)?;
            let from = from.cpu(OP)?;
            with_dtype!(from.dtype(), T => cuda.upload_beside(from.slice::<T>())).map(Storage::Cuda)
        }
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => Err(device.unbuilt(OP)),
        Device::Cpu => {
            let mut to = Storage::alloc(device, from.dtype(), from.len())?;
            cast(from, &mut to).map(|()| to)
        }
    }
}

/// What is queued on the device from here on finds the copies of [`upload_beside`] done.
pub(crate) fn arrived(device: Device) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(ordinal) => Cuda::open("upload", ordinal)?.arrived(),
        _ => Ok(()),
    }
}

/// Forwards a kernel to the backend of its first buffer.
macro_rules! launch {
    ($($(#[$m:meta])* fn $name:ident($($plain:ident: $p:ty),* ; $first:ident: $first_kind:ident $(, $x:ident: $kind:ident)*) $(-> $r:ty)?;)*) => {$(
        $(#[$m])*
        pub(crate) fn $name(
            $($plain: $p,)* $first: launch!(@type $first_kind) $(, $x: launch!(@type $kind))*
        ) -> Result<launch!(@ret $($r)?)> {
            on!(launch!(@storage $first_kind $first), backend => backend.$name(
                $($plain,)* launch!(@arg backend, $name, $first_kind $first) $(, launch!(@arg backend, $name, $kind $x))*
            ))
        }
    )*};
    (@type x) => { &Storage };
    (@type y) => { &mut Storage };
    (@type opt) => { Option<&Storage> };
    (@type opt_mut) => { Option<&mut Storage> };
    (@type walk) => { (&Storage, &[usize]) };
    (@storage walk $x:ident) => { $x.0 };
    (@storage $kind:ident $x:ident) => { &*$x };
    (@arg $on:ident, $op:ident, x $x:ident) => { $on.buffer(stringify!($op), $x)? };
    (@arg $on:ident, $op:ident, y $x:ident) => { $on.buffer_mut(stringify!($op), $x)? };
    (@arg $on:ident, $op:ident, opt $x:ident) => { $x.map(|x| $on.buffer(stringify!($op), x)).transpose()? };
    (@arg $on:ident, $op:ident, opt_mut $x:ident) => { $x.map(|x| $on.buffer_mut(stringify!($op), x)).transpose()? };
    (@arg $on:ident, $op:ident, walk $x:ident) => { ($on.buffer(stringify!($op), $x.0)?, $x.1) };
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
    fn compare(op: Compare, shape: &[usize]; a: walk, b: walk, y: y);
    fn select(shape: &[usize]; mask: walk, a: walk, b: walk, y: y);
    fn axpy(alpha: f64; x: x, y: y);
    fn reduce(op: Reduce, dims: Dims; x: x, y: y);
    fn arg_max(dims: Dims; x: x, index: y);
    fn top_k(count: usize, dims: Dims; x: x, index: y);
    fn scatter_axis(dims: Dims; index: x, dy: x, dx: y);
    fn softmax(log: bool, dims: Dims; x: x, y: y);
    fn softmax_backward(log: bool, dims: Dims; y: x, dy: x, dx: y);
    fn gemm(g: &Gemm; a: x, b: x, c: y);
    fn gather(dims: Dims; index: x, x: x, y: y);
    fn take_along(dims: Dims; index: x, x: x, y: y);
    fn put_along(dims: Dims; index: x, dy: x, dx: y);
    fn index_range(; index: x) -> Option<(i64, i64)>;
    fn dropout(seed: u64, stream: u64, p: f64; x: x, y: y);
    fn random(distribution: Distribution, seed: u64, stream: u64; y: y);
    fn pointwise_loss(loss: PointwiseLoss; x: x, target: x, weight: opt, pos_weight: opt, y: y);
    #[expect(clippy::too_many_arguments, reason = "one launch: its buffers")]
    fn pointwise_loss_backward(loss: PointwiseLoss; x: x, target: x, weight: opt, pos_weight: opt, dy: x, dx: opt_mut, dtarget: opt_mut);
    fn class_loss(loss: &ClassLoss; x: x, target: x, weight: opt, y: y, sample_weight: y);
    fn class_loss_backward(loss: &ClassLoss; target: x, weight: opt, dy: x, dx: y);
}

/// y = y · x in the memory that y has, where the backend does that. Whether it did.
pub(crate) fn mul_onto(x: &Storage, y: &mut Storage) -> Result<bool> {
    match (x, y) {
        (Storage::Cpu(x), Storage::Cpu(y)) => cpu::elementwise::mul_onto(x, y).map(|()| true),
        #[cfg(feature = "cuda")]
        _ => Ok(false),
    }
}

/// y = y + y likewise.
pub(crate) fn double(y: &mut Storage) -> Result<bool> {
    match y {
        Storage::Cpu(y) => cpu::elementwise::double(y).map(|()| true),
        #[cfg(feature = "cuda")]
        _ => Ok(false),
    }
}

/// y = the sum of a pointwise loss over `divisor`, in one pass, on the CPU.
pub(crate) fn pointwise_loss_sum(
    loss: PointwiseLoss,
    x: &Storage,
    target: &Storage,
    (weight, pos_weight): (Option<&Storage>, Option<&Storage>),
    divisor: f64,
    y: &mut Storage,
) -> Result<()> {
    const OP: &str = "pointwise_loss";
    let weights = (weight.map(|w| w.cpu(OP)).transpose()?, pos_weight.map(|w| w.cpu(OP)).transpose()?);
    cpu::loss::pointwise_loss_sum(loss, x.cpu(OP)?, target.cpu(OP)?, weights, divisor, y.cpu_mut(OP)?)
}

/// See [`Kernels::write`].
pub(crate) fn write<T: Element>(host: &[T], y: &mut Storage) -> Result<()> {
    on!(&*y, backend => backend.write(host, backend.buffer_mut("write", y)?))
}

pub(crate) fn download<T: Element>(x: &Storage, host: &mut [T]) -> Result<()> {
    on!(x, backend => backend.download(backend.buffer("download", x)?, host))
}

pub(crate) fn copy_strided(
    shape: &[usize],
    x: &Storage,
    from: Strided<'_>,
    y: &mut Storage,
    to: Strided<'_>,
    accumulate: bool,
) -> Result<()> {
    const OP: &str = "copy_strided";
    on!(x, backend => {
        backend.copy_strided(shape, backend.buffer(OP, x)?, from, backend.buffer_mut(OP, y)?, to, accumulate)
    })
}

pub(crate) fn scatter_add(
    dims: Dims,
    index: &Storage,
    skip: Option<i64>,
    dy: &Storage,
    dx: &mut Storage,
) -> Result<()> {
    const OP: &str = "scatter_add";
    on!(dy, backend => {
        let (index, dy, dx) = (backend.buffer(OP, index)?, backend.buffer(OP, dy)?, backend.buffer_mut(OP, dx)?);
        backend.scatter_add(dims, index, skip, dy, dx)
    })
}

/// One optimizer step; parameters may lie on several devices, each with its gradient and state, but those of a live step on one.
pub(crate) fn update(mut steps: Vec<Step<'_, Storage>>, live: Option<&Live<'_, Storage>>) -> Result<()> {
    const OP: &str = "optimizer step";
    while let Some(first) = steps.first().map(|step| step.gradient) {
        let device = first.device();
        let lies_here = |step: &Step<'_, Storage>| step.gradient.device() == device;
        let (here, elsewhere) = if steps.iter().all(lies_here) {
            (steps, Vec::new())
        } else {
            steps.into_iter().partition::<Vec<_>, _>(lies_here)
        };
        steps = elsewhere;
        on!(first, backend => {
            let buffers = |Step { update, parameter, gradient, state, master, clock }| {
                let parameter = backend.buffer_mut(OP, parameter)?;
                let gradient = backend.buffer(OP, gradient)?;
                let master = master.map(|m| backend.buffer_mut(OP, m)).transpose()?;
                let mut step = Step { update, parameter, gradient, state: [None, None, None], master, clock };
                for (to, from) in step.state.iter_mut().zip(state) {
                    *to = from.map(|s| backend.buffer_mut(OP, s)).transpose()?;
                }
                Ok(step)
            };
            let mut here = here.into_iter().map(buffers).collect::<Result<Vec<_>>>()?;
            let live = match live {
                None => None,
                Some(live) => Some(Live {
                    clocks: backend.buffer(OP, live.clocks)?,
                    skip: live.skip.map(|skip| backend.buffer(OP, skip)).transpose()?,
                    scale: live.scale.map(|scale| backend.buffer(OP, scale)).transpose()?,
                }),
            };
            backend.update(&mut here, live.as_ref())
        })?;
    }
    Ok(())
}

/// See [`Kernels::advance`].
pub(crate) fn advance(settings: &Storage, clocks: &mut Storage, skip: Option<&Storage>) -> Result<()> {
    const OP: &str = "advance";
    on!(settings, backend => {
        let skip = skip.map(|skip| backend.buffer(OP, skip)).transpose()?;
        backend.advance(backend.buffer(OP, settings)?, backend.buffer_mut(OP, clocks)?, skip)
    })
}

/// See [`Kernels::unscale`].
pub(crate) fn unscale(scale: Option<&Storage>, found: &mut Storage, xs: Vec<&mut Storage>) -> Result<()> {
    const OP: &str = "unscale";
    on!(&*found, backend => {
        let mut xs = xs.into_iter().map(|x| backend.buffer_mut(OP, x)).collect::<Result<Vec<_>>>()?;
        let scale = scale.map(|scale| backend.buffer(OP, scale)).transpose()?;
        backend.unscale(scale, backend.buffer_mut(OP, found)?, &mut xs)
    })
}

/// See [`Kernels::update_scale`].
pub(crate) fn update_scale(
    by: ScaleRule,
    scale: &mut Storage,
    steady: &mut Storage,
    found: &mut Storage,
) -> Result<()> {
    const OP: &str = "update_scale";
    on!(&*scale, backend => {
        let [scale, steady] = [backend.buffer_mut(OP, scale)?, backend.buffer_mut(OP, steady)?];
        backend.update_scale(by, scale, steady, backend.buffer_mut(OP, found)?)
    })
}

/// See [`Kernels::norm`].
pub(crate) fn norm(p: f64, max_norm: f64, xs: &[&Storage], norm: &mut Storage, factor: &mut Storage) -> Result<()> {
    const OP: &str = "norm";
    on!(&*norm, backend => {
        let xs = xs.iter().map(|x| backend.buffer(OP, x)).collect::<Result<Vec<_>>>()?;
        backend.norm(p, max_norm, &xs, backend.buffer_mut(OP, norm)?, backend.buffer_mut(OP, factor)?)
    })
}

/// See [`Kernels::scale_each`].
pub(crate) fn scale_each(factor: &Storage, xs: Vec<&mut Storage>) -> Result<()> {
    const OP: &str = "scale_each";
    on!(factor, backend => {
        let mut xs = xs.into_iter().map(|x| backend.buffer_mut(OP, x)).collect::<Result<Vec<_>>>()?;
        backend.scale_each(backend.buffer(OP, factor)?, &mut xs)
    })
}

/// See [`Kernels::clamp_each`]. All x lie on one device.
pub(crate) fn clamp_each(low: f64, high: f64, xs: Vec<&mut Storage>) -> Result<()> {
    const OP: &str = "clamp_each";
    let Some(first) = xs.first() else { return Ok(()) };
    on!(&**first, backend => {
        let mut xs = xs.into_iter().map(|x| backend.buffer_mut(OP, x)).collect::<Result<Vec<_>>>()?;
        backend.clamp_each(low, high, &mut xs)
    })
}
