//! The interface of a backend: every kernel that the operations above launch, and the words they are described in.
//!
//! Both backends implement [`Kernels`]. Shapes and dtypes are checked by the callers; a kernel may rely on them.
//! A tensor of rank n around one axis is seen as `[outer, n, inner]`.

use crate::{
    dtype::{DType, Element},
    error::Result,
};

/// An elementwise function of one argument.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unary {
    /// −x
    Neg,
    /// eˣ
    Exp,
    /// ln x
    Log,
    /// √x
    Sqrt,
    /// |x|
    Abs,
    /// tanh x
    Tanh,
    /// 1 / (1 + e⁻ˣ)
    Sigmoid,
    /// max(x, 0)
    Relu,
    /// xᵖ
    Powf(f64),
    /// scale · x + shift
    Affine {
        /// The factor.
        scale: f64,
        /// The summand.
        shift: f64,
    },
    /// x / divisor
    Quotient(f64),
    /// x held inside `[low, high]`
    Clamp {
        /// The lower end.
        low: f64,
        /// The upper end.
        high: f64,
    },
}

/// An elementwise function of two arguments that broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// a + b
    Add,
    /// a − b
    Sub,
    /// a · b
    Mul,
    /// a / b
    Div,
}

/// A comparison of two arguments that broadcast; with a NaN all but `Ne` are false.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// a = b
    Eq,
    /// a ≠ b
    Ne,
    /// a < b
    Lt,
    /// a ≤ b
    Le,
    /// a > b
    Gt,
    /// a ≥ b
    Ge,
}

/// A reduction over one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduce {
    /// Σ x
    Sum,
    /// Σ x / n
    Mean,
    /// max x; NaN if any is NaN
    Max,
}

/// `c[i] = alpha · a[i] × b[i] + beta · c[i]` over a batch of row-major matrices: `a` is m×k (k×m if `trans_a`), `b` is
/// k×n (n×k if `trans_b`), `c` is m×n.
#[derive(Debug, Clone, Copy)]
pub struct Gemm {
    /// Number of matrices.
    pub batch: usize,
    /// Rows of c.
    pub m: usize,
    /// Columns of c.
    pub n: usize,
    /// The summed extent.
    pub k: usize,
    /// a is stored k×m.
    pub trans_a: bool,
    /// b is stored n×k.
    pub trans_b: bool,
    /// Elements from one a to the next: 0 to use one a for all.
    pub stride_a: usize,
    /// Elements from one b to the next: 0 to use one b for all.
    pub stride_b: usize,
    /// Factor of the product.
    pub alpha: f64,
    /// Factor of the old c; with 0 the old c is not read.
    pub beta: f64,
}

/// A walk through a buffer: element (i, j, …) is at `offset + i·strides[0] + j·strides[1] + …`.
#[derive(Debug, Clone, Copy)]
pub struct Strided<'a> {
    /// Elements from one index to the next, per dimension.
    pub strides: &'a [usize],
    /// Where the walk starts, in elements.
    pub offset: usize,
}

/// A distribution to fill a buffer from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Distribution {
    /// Uniform on `[low, high)`.
    Uniform {
        /// The lower end.
        low: f64,
        /// The upper end.
        high: f64,
    },
    /// Normal.
    Normal {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        std: f64,
    },
}

/// A loss of each element of a prediction x against a target t of the same shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PointwiseLoss {
    /// (x − t)²
    Mse,
    /// |x − t|
    L1,
    /// ½(x − t)² up to `delta`, δ(|x − t| − ½δ) beyond.
    Huber {
        /// Where the parabola ends.
        delta: f64,
    },
    /// ½(x − t)²/β up to `beta`, |x − t| − ½β beyond; β = 0 is L1.
    SmoothL1 {
        /// Where the parabola ends.
        beta: f64,
    },
    /// −(t ln x + (1 − t) ln(1 − x)), each logarithm held at −100 or above as PyTorch does.
    Bce,
    /// [`Bce`](Self::Bce) of sigmoid(x), computed without overflow; see `pos_weight` of the kernel.
    BceWithLogits,
    /// t ln t − t x, where 0 ln 0 = 0; of a target that is a logarithm, eᵗ (t − x).
    KlDiv {
        /// The target is a logarithm.
        log_target: bool,
    },
}

/// Negative log-likelihood of classes: `x` is `[outer, classes, inner]` of log-probabilities, the target `[outer, inner]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassLoss {
    /// Product of the extents before the class axis.
    pub outer: usize,
    /// Number of classes C.
    pub classes: usize,
    /// Product of the extents behind the class axis.
    pub inner: usize,
    /// Targets of this value cost nothing and weigh nothing.
    pub ignore_index: i64,
    /// ε: (1 − ε) of the loss is on the target, ε/C on each class.
    pub label_smoothing: f64,
}

/// How one step of an optimizer moves a parameter. Formulas are PyTorch's, named at the optimizers above.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Update {
    /// state: momentum buffer where `momentum` ≠ 0.
    Sgd {
        /// Learning rate.
        lr: f64,
        /// Momentum factor μ.
        momentum: f64,
        /// Dampening τ of the momentum (0 is passed on the first step, as PyTorch starts the buffer at the gradient).
        dampening: f64,
        /// L2 penalty.
        weight_decay: f64,
        /// Nesterov momentum.
        nesterov: bool,
    },
    /// state: first moment, second moment, and with `amsgrad` the maximum of the second.
    Adam {
        /// Learning rate.
        lr: f64,
        /// β₁
        beta1: f64,
        /// β₂
        beta2: f64,
        /// ε
        eps: f64,
        /// L2 penalty, or the decay of the weights themselves if `decoupled`.
        weight_decay: f64,
        /// AdamW.
        decoupled: bool,
        /// Keep the maximum of the second moments.
        amsgrad: bool,
        /// Number of this step, from 1.
        step: u64,
    },
    /// state: square average, then the gradient average if `centered`, then the buffer if `momentum` ≠ 0.
    RmsProp {
        /// Learning rate.
        lr: f64,
        /// Smoothing α.
        alpha: f64,
        /// ε
        eps: f64,
        /// L2 penalty.
        weight_decay: f64,
        /// Momentum factor.
        momentum: f64,
        /// Normalise by the variance.
        centered: bool,
    },
    /// state: sum of squares.
    Adagrad {
        /// Learning rate.
        lr: f64,
        /// Decay of the learning rate.
        lr_decay: f64,
        /// ε
        eps: f64,
        /// L2 penalty.
        weight_decay: f64,
        /// Number of this step, from 1.
        step: u64,
    },
}

/// The numbers of an optimizer step that are the same for every element, in the order that [`Update::numbers`] gives them.
pub type Numbers = [f64; 8];

/// What [`Kernels::advance`] makes the numbers of a step from: the formula by which some of them depend on the step (none, Adam's or
/// Adagrad's), three settings, and the numbers as they are at the first step.
pub const CLOCK_SETTINGS: usize = 4 + 8;
pub const CLOCK_STILL: u32 = 0;
pub const CLOCK_ADAM: u32 = 1;
pub const CLOCK_ADAGRAD: u32 = 2;
/// A clock: steps taken, and the [`Numbers`] of the last one.
pub const CLOCK: usize = 1 + 8;

impl Update {
    /// What every element of the step computes with.
    pub fn numbers(&self) -> Numbers {
        match *self {
            Update::Sgd { lr, momentum, dampening, weight_decay, .. } => {
                [lr, momentum, 1.0 - dampening, weight_decay, 0.0, 0.0, 0.0, 0.0]
            }
            Update::Adam { lr, beta1, beta2, eps, weight_decay, decoupled, step, .. } => {
                let (shrink, decay) = if decoupled { (1.0 - lr * weight_decay, 0.0) } else { (1.0, weight_decay) };
                let size = lr / (1.0 - whole_power(beta1, step));
                let root = (1.0 - whole_power(beta2, step)).sqrt();
                [shrink, decay, 1.0 - beta1, beta2, 1.0 - beta2, eps, size, root]
            }
            Update::RmsProp { lr, alpha, eps, weight_decay, momentum, .. } => {
                [lr, alpha, 1.0 - alpha, eps, weight_decay, momentum, 0.0, 0.0]
            }
            Update::Adagrad { lr, lr_decay, eps, weight_decay, step } => {
                let rate = lr / (1.0 + (step as f64 - 1.0) * lr_decay);
                [rate, eps, weight_decay, 0.0, 0.0, 0.0, 0.0, 0.0]
            }
        }
    }

    /// What of a formula is decided by the host: two of one form differ in [`numbers`](Self::numbers) alone.
    pub fn form(&self) -> u64 {
        match *self {
            Update::Sgd { momentum, nesterov, .. } => u64::from(momentum != 0.0) << 1 | u64::from(nesterov),
            Update::Adam { decoupled, amsgrad, .. } => 4 | u64::from(decoupled) << 1 | u64::from(amsgrad),
            Update::RmsProp { momentum, centered, .. } => 8 | u64::from(momentum != 0.0) << 1 | u64::from(centered),
            Update::Adagrad { .. } => 12,
        }
    }

    /// The settings of a clock that makes the same numbers of any step.
    pub fn clock_settings(&self) -> [f64; CLOCK_SETTINGS] {
        let mut first = *self;
        let head = match &mut first {
            Update::Sgd { .. } | Update::RmsProp { .. } => [f64::from(CLOCK_STILL), 0.0, 0.0, 0.0],
            Update::Adam { lr, beta1, beta2, step, .. } => {
                *step = 1;
                [f64::from(CLOCK_ADAM), *lr, *beta1, *beta2]
            }
            Update::Adagrad { lr, lr_decay, step, .. } => {
                *step = 1;
                [f64::from(CLOCK_ADAGRAD), *lr, *lr_decay, 0.0]
            }
        };
        let mut settings = [0.0; CLOCK_SETTINGS];
        settings[..4].copy_from_slice(&head);
        settings[4..].copy_from_slice(&first.numbers());
        settings
    }
}

/// baseⁿ by squaring: products alone, so that every backend has the same bits. Its error, about n/2 roundings, is far below what
/// 1 − βⁿ is divided by.
pub fn whole_power(mut base: f64, mut n: u64) -> f64 {
    let mut power = 1.0;
    while n > 0 {
        if n & 1 == 1 {
            power *= base;
        }
        base *= base;
        n >>= 1;
    }
    power
}

/// One parameter of an optimizer step: what moves it, and its memory.
pub struct Step<'a, B> {
    /// The formula.
    pub update: Update,
    /// What is moved.
    pub parameter: &'a mut B,
    /// Its gradient, of the same dtype and length.
    pub gradient: &'a B,
    /// What [`Update`] names, in its order, without gaps; f64 for f64 parameters and f32 for all others.
    pub state: [Option<&'a mut B>; 3],
    /// Of an f16 or bf16 parameter: its value in f32, which is moved in its place and then rounded into it. Where the two differ by
    /// more than that rounding, the parameter was set by somebody else and wins.
    pub master: Option<&'a mut B>,
    /// Which of the clocks of [`Live`] is the step's.
    pub clock: usize,
}

/// An optimizer step of which only the device's memory knows some things.
pub struct Live<'a, B> {
    /// `[clocks, CLOCK]` of f64: the steps' numbers are taken from there, not from [`Step::update`].
    pub clocks: &'a B,
    /// \[1\] of f32: nothing is done where it is not 0.
    pub skip: Option<&'a B>,
    /// \[1\] of f32: what gradients are to be divided by; as for [`Kernels::unscale`].
    pub scale: Option<&'a B>,
}

/// How [`Kernels::update_scale`] moves a scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScaleRule {
    /// Factor after `interval` steps without infinities.
    pub growth: f64,
    /// Factor after a step with one.
    pub backoff: f64,
    /// Steps.
    pub interval: u32,
}

/// What a backend does. `Buffer` is its memory: a length, a dtype, and initialised contents.
pub trait Kernels {
    /// Memory of this backend.
    type Buffer;

    /// `len` elements with unspecified (but initialised) contents.
    fn alloc(&self, dtype: DType, len: usize) -> Result<Self::Buffer>;
    /// A copy of host memory.
    fn upload<T: Element>(&self, host: &[T]) -> Result<Self::Buffer>;
    /// y = a copy of host memory of its length and type.
    fn write<T: Element>(&self, host: &[T], y: &mut Self::Buffer) -> Result<()>;
    /// A copy into host memory of the same length and type.
    fn download<T: Element>(&self, x: &Self::Buffer, host: &mut [T]) -> Result<()>;
    /// y = value
    fn fill(&self, value: f64, y: &mut Self::Buffer) -> Result<()>;
    /// y = x, between any dtypes; floats to integers truncate.
    fn cast(&self, x: &Self::Buffer, y: &mut Self::Buffer) -> Result<()>;
    /// Copies `shape` elements from one walk to another; with `accumulate` (floats only) adds them.
    fn copy_strided(
        &self,
        shape: &[usize],
        x: &Self::Buffer,
        from: Strided<'_>,
        y: &mut Self::Buffer,
        to: Strided<'_>,
        accumulate: bool,
    ) -> Result<()>;

    /// y = op(x)
    fn unary(&self, op: Unary, x: &Self::Buffer, y: &mut Self::Buffer) -> Result<()>;
    /// dx = dy · op′(x), given x and y = op(x). Callers keep one end and pass it for both: y for exp, √, tanh, sigmoid and
    /// relu, x for the others.
    fn unary_backward(
        &self,
        op: Unary,
        x: &Self::Buffer,
        y: &Self::Buffer,
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
    ) -> Result<()>;
    /// y = op(a, b) over `shape`; a and b are read with their strides (0 where stretched).
    fn binary(
        &self,
        op: Binary,
        shape: &[usize],
        a: (&Self::Buffer, &[usize]),
        b: (&Self::Buffer, &[usize]),
        y: &mut Self::Buffer,
    ) -> Result<()>;
    /// y (u8) = whether the comparison holds, over `shape`; a and b of one dtype, read with their strides.
    fn compare(
        &self,
        op: Compare,
        shape: &[usize],
        a: (&Self::Buffer, &[usize]),
        b: (&Self::Buffer, &[usize]),
        y: &mut Self::Buffer,
    ) -> Result<()>;
    /// y = a where the mask (u8) is not 0, else b, over `shape`; all three are read with their strides.
    fn select(
        &self,
        shape: &[usize],
        mask: (&Self::Buffer, &[usize]),
        a: (&Self::Buffer, &[usize]),
        b: (&Self::Buffer, &[usize]),
        y: &mut Self::Buffer,
    ) -> Result<()>;
    /// y += alpha · x
    fn axpy(&self, alpha: f64, x: &Self::Buffer, y: &mut Self::Buffer) -> Result<()>;
    /// `[outer, n, inner]` → `[outer, inner]`; n = 0 gives 0 for a sum, NaN for a mean, −∞ for a maximum.
    fn reduce(&self, op: Reduce, dims: (usize, usize, usize), x: &Self::Buffer, y: &mut Self::Buffer) -> Result<()>;
    /// Index (i64) of the first maximum along n; a NaN counts as the maximum, as in PyTorch.
    fn arg_max(&self, dims: (usize, usize, usize), x: &Self::Buffer, index: &mut Self::Buffer) -> Result<()>;
    /// Indices (i64) `[outer, count, inner]` of the greatest along n, from the greatest down, in the order of [`arg_max`](Self::arg_max).
    fn top_k(
        &self,
        count: usize,
        dims: (usize, usize, usize),
        x: &Self::Buffer,
        index: &mut Self::Buffer,
    ) -> Result<()>;
    /// dx = 0 but at `index[outer, inner]` of n, where it is dy.
    fn scatter_axis(
        &self,
        dims: (usize, usize, usize),
        index: &Self::Buffer,
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
    ) -> Result<()>;
    /// softmax along n, or its logarithm.
    fn softmax(&self, log: bool, dims: (usize, usize, usize), x: &Self::Buffer, y: &mut Self::Buffer) -> Result<()>;
    /// dx from y and dy.
    fn softmax_backward(
        &self,
        log: bool,
        dims: (usize, usize, usize),
        y: &Self::Buffer,
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
    ) -> Result<()>;
    /// See [`Gemm`].
    fn gemm(&self, g: &Gemm, a: &Self::Buffer, b: &Self::Buffer, c: &mut Self::Buffer) -> Result<()>;

    /// y\[outer, j, inner\] = x\[outer, index\[j\], inner\]; indices (i64) are checked by the caller.
    fn gather(
        &self,
        dims: (usize, usize, usize),
        index: &Self::Buffer,
        x: &Self::Buffer,
        y: &mut Self::Buffer,
    ) -> Result<()>;
    /// dx = 0, then dx\[outer, index\[j\], inner\] += dy\[outer, j, inner\] in the order of j; an index equal to `skip` adds nothing.
    fn scatter_add(
        &self,
        dims: (usize, usize, usize),
        index: &Self::Buffer,
        skip: Option<i64>,
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
    ) -> Result<()>;
    /// y\[outer, j, inner\] = x\[outer, index\[outer, j, inner\], inner\]; indices (i64) are checked by the caller.
    fn take_along(
        &self,
        dims: (usize, usize, usize),
        index: &Self::Buffer,
        x: &Self::Buffer,
        y: &mut Self::Buffer,
    ) -> Result<()>;
    /// dx = 0, then dx\[outer, index\[outer, j, inner\], inner\] += dy\[outer, j, inner\] in the order of j.
    fn put_along(
        &self,
        dims: (usize, usize, usize),
        index: &Self::Buffer,
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
    ) -> Result<()>;
    /// The least and greatest index (i64), for checking; `None` when there is none, or when the backend's kernels check every
    /// index themselves.
    fn index_range(&self, index: &Self::Buffer) -> Result<Option<(i64, i64)>>;

    /// y = x/(1−p) where word i of the stream (see [`crate::rng`]) is a uniform ≥ p, else 0. The same call is its backward.
    fn dropout(&self, seed: u64, stream: u64, p: f64, x: &Self::Buffer, y: &mut Self::Buffer) -> Result<()>;
    /// Fills from a distribution: the same bits for the same seed on every backend.
    fn random(&self, distribution: Distribution, seed: u64, stream: u64, y: &mut Self::Buffer) -> Result<()>;

    /// y = loss(x, t), times `weight` where given (same length). `pos_weight` (BCE with logits) has the length of a
    /// trailing block of x and scales the t term. [`PointwiseLoss::Bce`] refuses an x or t outside `[0, 1]`: at once, or where
    /// the backend does not wait for its kernels with the next download.
    fn pointwise_loss(
        &self,
        loss: PointwiseLoss,
        x: &Self::Buffer,
        target: &Self::Buffer,
        weight: Option<&Self::Buffer>,
        pos_weight: Option<&Self::Buffer>,
        y: &mut Self::Buffer,
    ) -> Result<()>;
    /// dx (and, where asked, dtarget) from dy of the same length.
    #[expect(clippy::too_many_arguments, reason = "one launch: its buffers")]
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
    ) -> Result<()>;
    /// Per-sample loss and per-sample weight (that of the target class; 0 when ignored) from log-probabilities. Targets
    /// (i64) are checked by the caller: a class or `ignore_index`.
    fn class_loss(
        &self,
        loss: &ClassLoss,
        x: &Self::Buffer,
        target: &Self::Buffer,
        weight: Option<&Self::Buffer>,
        y: &mut Self::Buffer,
        sample_weight: &mut Self::Buffer,
    ) -> Result<()>;
    /// dx of the per-sample loss from dy `[outer, inner]`.
    fn class_loss_backward(
        &self,
        loss: &ClassLoss,
        target: &Self::Buffer,
        weight: Option<&Self::Buffer>,
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
    ) -> Result<()>;

    /// One optimizer step over many parameters, in place.
    fn update(&self, steps: &mut [Step<'_, Self::Buffer>], live: Option<&Live<'_, Self::Buffer>>) -> Result<()>;
    /// Counts a step at each clock, and makes its numbers from `settings` `[clocks, CLOCK_SETTINGS]` of f64: see [`Live`].
    fn advance(&self, settings: &Self::Buffer, clocks: &mut Self::Buffer, skip: Option<&Self::Buffer>) -> Result<()>;
    /// x = x / scale for each x of floats, where there is a scale; found \[1\] becomes 1 where an x then holds an infinity or a NaN,
    /// and stays else. scale \[1\] and found are f32, and 1/scale is rounded to f32 first.
    fn unscale(
        &self,
        scale: Option<&Self::Buffer>,
        found: &mut Self::Buffer,
        xs: &mut [&mut Self::Buffer],
    ) -> Result<()>;
    /// The scale of a loss after a step, all \[1\] of f32: times `backoff` where found is not 0, times `growth` at every
    /// `interval`-th step in a row without; `steady` counts those. found becomes 0.
    fn update_scale(
        &self,
        by: ScaleRule,
        scale: &mut Self::Buffer,
        steady: &mut Self::Buffer,
        found: &mut Self::Buffer,
    ) -> Result<()>;
    /// norm \[1\] = the p-norm (p > 0, infinity for the greatest magnitude) of all x as one vector, summed in an order that does
    /// not depend on the number of threads; factor \[1\] = max_norm/(norm + 10⁻⁶), 1 where that is more, NaN where it is NaN.
    /// Both of f64, as are the sums; the x of any floating-point dtypes.
    fn norm(
        &self,
        p: f64,
        max_norm: f64,
        xs: &[&Self::Buffer],
        norm: &mut Self::Buffer,
        factor: &mut Self::Buffer,
    ) -> Result<()>;
    /// x = factor · x for each x; factor \[1\] of f64.
    fn scale_each(&self, factor: &Self::Buffer, xs: &mut [&mut Self::Buffer]) -> Result<()>;
    /// x held inside `[low, high]`, for each x; NaN stays.
    fn clamp_each(&self, low: f64, high: f64, xs: &mut [&mut Self::Buffer]) -> Result<()>;
}
