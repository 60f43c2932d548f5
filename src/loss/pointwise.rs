//! Losses of each element of a prediction against a target of the same shape.

use super::{Reduction, Target, builder, incoming, only, total};
use crate::{
    device::Device,
    dtype::DType,
    error::{Error, Result},
    kernel::{PointwiseLoss, Reduce},
    ops::elementwise::scaled,
    shape::Shape,
    storage,
    tape::Var,
    tensor::Tensor,
};

/// [`Reduction`], and the one that [`KlDivLoss`] has beside.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum Reduced {
    #[default]
    Mean,
    Sum,
    None,
    /// The sum over the number of rows.
    BatchMean,
}

impl From<Reduction> for Reduced {
    fn from(reduction: Reduction) -> Self {
        match reduction {
            Reduction::Mean => Reduced::Mean,
            Reduction::Sum => Reduced::Sum,
            Reduction::None => Reduced::None,
        }
    }
}

/// (x − t)². PyTorch's `MSELoss`.
///
/// ```
/// use gatefold::{Device, Reduction, Tape, Tensor, loss::MseLoss};
/// let tape = Tape::new();
/// let x = tape.variable(Tensor::new([1.0f32, 2.0], &Device::Cpu)?);
/// let target = Tensor::new([0.0f32, 0.0], &Device::Cpu)?;
/// assert_eq!(MseLoss::new().forward(&x, &target)?.item()?, 2.5);
/// assert_eq!(MseLoss::new().reduction(Reduction::Sum).forward(&x, &target)?.item()?, 5.0);
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct MseLoss {
    reduction: Reduced,
}

/// |x − t|. PyTorch's `L1Loss`.
#[derive(Debug, Clone, Default)]
pub struct L1Loss {
    reduction: Reduced,
}

/// ½(x − t)² up to δ, δ(|x − t| − ½δ) beyond (Huber 1964). PyTorch's `HuberLoss`.
#[derive(Debug, Clone)]
pub struct HuberLoss {
    delta: f64,
    reduction: Reduced,
}

/// ½(x − t)²/β below β, |x − t| − ½β beyond (Girshick 2015, with PyTorch's β). PyTorch's `SmoothL1Loss`.
#[derive(Debug, Clone)]
pub struct SmoothL1Loss {
    beta: f64,
    reduction: Reduced,
}

/// −(t ln x + (1 − t) ln(1 − x)) of probabilities, each logarithm held at −100 or above. PyTorch's `BCELoss`.
#[derive(Debug, Clone, Default)]
pub struct BceLoss {
    weight: Option<Tensor>,
    reduction: Reduced,
}

/// [`BceLoss`] of sigmoid(x), computed from x without overflow. PyTorch's `BCEWithLogitsLoss`.
#[derive(Debug, Clone, Default)]
pub struct BceWithLogitsLoss {
    weight: Option<Tensor>,
    pos_weight: Option<Tensor>,
    reduction: Reduced,
}

/// t (ln t − x) of log-probabilities x: the Kullback–Leibler divergence of the target from the prediction. PyTorch's
/// `KLDivLoss`.
#[derive(Debug, Clone, Default)]
pub struct KlDivLoss {
    log_target: bool,
    reduction: Reduced,
}

builder!(MseLoss, L1Loss, HuberLoss, SmoothL1Loss, BceLoss, BceWithLogitsLoss, KlDivLoss);

impl MseLoss {
    /// The mean.
    pub fn new() -> Self {
        MseLoss::default()
    }

    /// The loss of `input` against a target of the same shape and dtype: a scalar, or that shape with
    /// [`Reduction::None`].
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::DType`], [`Error::Device`] where the two differ; [`Error::DType`] for integers.
    pub fn forward(&self, input: &Var, target: &impl Target) -> Result<Var> {
        Run::new("mse_loss", PointwiseLoss::Mse, self.reduction).of(input, target)
    }
}

impl L1Loss {
    /// The mean.
    pub fn new() -> Self {
        L1Loss::default()
    }

    /// The loss of `input` against a target of the same shape and dtype: a scalar, or that shape with
    /// [`Reduction::None`].
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::DType`], [`Error::Device`] where the two differ; [`Error::DType`] for integers.
    pub fn forward(&self, input: &Var, target: &impl Target) -> Result<Var> {
        Run::new("l1_loss", PointwiseLoss::L1, self.reduction).of(input, target)
    }
}

impl Default for HuberLoss {
    fn default() -> Self {
        HuberLoss::new()
    }
}

impl HuberLoss {
    /// δ = 1; the mean.
    pub fn new() -> Self {
        HuberLoss { delta: 1.0, reduction: Reduced::Mean }
    }

    /// Where the parabola ends: above 0.
    pub fn delta(mut self, delta: f64) -> Self {
        self.delta = delta;
        self
    }

    /// The loss of `input` against a target of the same shape and dtype: a scalar, or that shape with
    /// [`Reduction::None`].
    ///
    /// # Errors
    /// [`Error::Argument`] unless δ > 0; [`Error::Shape`], [`Error::DType`], [`Error::Device`] where the two differ;
    /// [`Error::DType`] for integers.
    pub fn forward(&self, input: &Var, target: &impl Target) -> Result<Var> {
        const OP: &str = "huber_loss";
        if self.delta.is_nan() || self.delta <= 0.0 {
            return Err(Error::argument(OP, format!("delta {}", self.delta), "a delta above 0"));
        }
        Run::new(OP, PointwiseLoss::Huber { delta: self.delta }, self.reduction).of(input, target)
    }
}

impl Default for SmoothL1Loss {
    fn default() -> Self {
        SmoothL1Loss::new()
    }
}

impl SmoothL1Loss {
    /// β = 1; the mean.
    pub fn new() -> Self {
        SmoothL1Loss { beta: 1.0, reduction: Reduced::Mean }
    }

    /// Where the parabola ends: 0 (which makes it [`L1Loss`]) or above.
    pub fn beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }

    /// The loss of `input` against a target of the same shape and dtype: a scalar, or that shape with
    /// [`Reduction::None`].
    ///
    /// # Errors
    /// [`Error::Argument`] unless β ≥ 0; [`Error::Shape`], [`Error::DType`], [`Error::Device`] where the two differ;
    /// [`Error::DType`] for integers.
    pub fn forward(&self, input: &Var, target: &impl Target) -> Result<Var> {
        const OP: &str = "smooth_l1_loss";
        if !(self.beta >= 0.0 && self.beta.is_finite()) {
            return Err(Error::argument(OP, format!("beta {}", self.beta), "a finite beta of 0 or above"));
        }
        // What the arithmetic of the dtype has no number for is 0: L1.
        let beta = if input.dtype() == DType::F64 { self.beta } else { f64::from(self.beta as f32) };
        Run::new(OP, PointwiseLoss::SmoothL1 { beta }, self.reduction).of(input, target)
    }
}

impl BceLoss {
    /// Without weights; the mean.
    pub fn new() -> Self {
        BceLoss::default()
    }

    /// A factor for each element, of a shape that broadcasts to the input's.
    pub fn weight(mut self, weight: Tensor) -> Self {
        self.weight = Some(weight);
        self
    }

    /// The loss of `input`, probabilities, against a target of the same shape and dtype: a scalar, or that shape with
    /// [`Reduction::None`]. At inputs of 0 and 1 the gradient is held as in PyTorch: the denominator x(1 − x) at 10⁻¹².
    ///
    /// # Errors
    /// [`Error::Argument`] for an input or a target outside `[0, 1]`, NaN among them; [`Error::Shape`],
    /// [`Error::DType`], [`Error::Device`] where input, target and weight do not fit; [`Error::DType`] for integers.
    pub fn forward(&self, input: &Var, target: &impl Target) -> Result<Var> {
        let run = Run::new("binary_cross_entropy", PointwiseLoss::Bce, self.reduction);
        Run { weight: self.weight.as_ref(), ..run }.of(input, target)
    }
}

impl BceWithLogitsLoss {
    /// Without weights; the mean.
    pub fn new() -> Self {
        BceWithLogitsLoss::default()
    }

    /// A factor for each element, of a shape that broadcasts to the input's.
    pub fn weight(mut self, weight: Tensor) -> Self {
        self.weight = Some(weight);
        self
    }

    /// A factor of the t term, of a shape that broadcasts to the input's; one of each class weighs its positives.
    pub fn pos_weight(mut self, weight: Tensor) -> Self {
        self.pos_weight = Some(weight);
        self
    }

    /// The loss of `input`, any numbers, against a target of the same shape and dtype: a scalar, or that shape with
    /// [`Reduction::None`].
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::DType`], [`Error::Device`] where input, target and weights do not fit;
    /// [`Error::DType`] for integers.
    pub fn forward(&self, input: &Var, target: &impl Target) -> Result<Var> {
        let run = Run::new("binary_cross_entropy_with_logits", PointwiseLoss::BceWithLogits, self.reduction);
        Run { weight: self.weight.as_ref(), pos_weight: self.pos_weight.as_ref(), ..run }.of(input, target)
    }
}

impl KlDivLoss {
    /// The target is a probability; the mean over the elements, as PyTorch's default is. The divergence itself is
    /// [`batch_mean`](Self::batch_mean).
    pub fn new() -> Self {
        KlDivLoss::default()
    }

    /// Whether the target is a log-probability too: eᵗ (t − x).
    pub fn log_target(mut self, log_target: bool) -> Self {
        self.log_target = log_target;
        self
    }

    /// The sum divided by the first extent: PyTorch's `reduction="batchmean"`.
    pub fn batch_mean(mut self) -> Self {
        self.reduction = Reduced::BatchMean;
        self
    }

    /// The loss of `input`, log-probabilities, against a target of the same shape and dtype: a scalar, or that shape
    /// with [`Reduction::None`].
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::DType`], [`Error::Device`] where the two differ; [`Error::DType`] for integers.
    pub fn forward(&self, input: &Var, target: &impl Target) -> Result<Var> {
        Run::new("kl_div", PointwiseLoss::KlDiv { log_target: self.log_target }, self.reduction).of(input, target)
    }
}

/// One call of a pointwise loss.
struct Run<'a> {
    op: &'static str,
    loss: PointwiseLoss,
    reduction: Reduced,
    weight: Option<&'a Tensor>,
    pos_weight: Option<&'a Tensor>,
}

impl Run<'_> {
    fn new(op: &'static str, loss: PointwiseLoss, reduction: Reduced) -> Self {
        Run { op, loss, reduction, weight: None, pos_weight: None }
    }

    fn of(self, input: &Var, target: &impl Target) -> Result<Var> {
        let Run { op, loss, reduction, .. } = self;
        let target = &target.on(input.tape());
        input.tensor().expect_float(op)?;
        input.tensor().expect_like(op, target.tensor())?;
        let dtype = input.dtype();
        let shape = input.shape().clone();
        let (x, t) = (input.tensor().to_dtype(dtype.wide())?, target.tensor().to_dtype(dtype.wide())?);
        let weight = self.factor(self.weight, input.tensor())?;
        let pos_weight = self.factor(self.pos_weight, input.tensor())?;

        let (w, p) = (weight.as_ref().map(Tensor::storage), pos_weight.as_ref().map(Tensor::storage));
        // What sums and mean divide by, and the factor of the gradient that comes of it.
        let (divisor, scale) = match reduction {
            Reduced::None | Reduced::Sum => (1.0, 1.0),
            Reduced::Mean => (shape.numel() as f64, 1.0 / shape.numel() as f64),
            Reduced::BatchMean => {
                let rows = shape.first().copied().unwrap_or(1) as f64;
                (rows, 1.0 / rows)
            }
        };
        let each = || {
            let mut each = x.like(&shape)?;
            storage::pointwise_loss(loss, x.storage(), t.storage(), w, p, each.storage_mut()?)?;
            Ok::<_, Error>(each)
        };
        let y = match reduction {
            Reduced::None => each()?,
            _ if x.device() == Device::Cpu => {
                let mut y = x.like(())?;
                storage::pointwise_loss_sum(loss, x.storage(), t.storage(), (w, p), divisor, y.storage_mut()?)?;
                y
            }
            Reduced::Sum => total(Reduce::Sum, &each()?)?,
            Reduced::Mean => total(Reduce::Mean, &each()?)?,
            Reduced::BatchMean => scaled(op, total(Reduce::Sum, &each()?)?, scale)?,
        };

        let (for_input, for_target) = (input.requires_grad(), target.requires_grad());
        let outputs = input.tape().record_own(op, &[input, target], vec![y.to_dtype(dtype)?], move |gradients| {
            let mut dy = incoming(op, gradients)?.to_dtype(dtype.wide())?;
            if reduction != Reduced::None {
                dy = scaled(op, dy, scale)?;
                // The CPU takes one for all.
                if dy.device() != Device::Cpu {
                    dy = dy.expanded(&shape)?;
                }
            }
            let mut dx = if for_input { Some(x.like(&shape)?) } else { None };
            let mut dt = if for_target { Some(x.like(&shape)?) } else { None };
            storage::pointwise_loss_backward(
                loss,
                x.storage(),
                t.storage(),
                weight.as_ref().map(Tensor::storage),
                pos_weight.as_ref().map(Tensor::storage),
                dy.storage(),
                dx.as_mut().map(Tensor::storage_mut).transpose()?,
                dt.as_mut().map(Tensor::storage_mut).transpose()?,
            )?;
            let narrow = |d: Option<Tensor>| d.map(|d| d.to_dtype(dtype)).transpose();
            Ok(vec![narrow(dx)?, narrow(dt)?])
        })?;
        Ok(only(outputs))
    }

    /// A weight stretched to the input's shape, in the dtype that is computed in.
    fn factor(&self, weight: Option<&Tensor>, x: &Tensor) -> Result<Option<Tensor>> {
        let Some(weight) = weight else { return Ok(None) };
        x.expect_kin(self.op, weight)?;
        if Shape::broadcast(weight.shape(), x.shape(), self.op).ok().as_ref() != Some(x.shape()) {
            return Err(Error::shape(
                self.op,
                format!("weight {} for input {}", weight.shape(), x.shape()),
                "a weight that broadcasts to the input",
            ));
        }
        let weight = weight.to_dtype(x.dtype().wide())?;
        weight.expanded(x.shape()).map(Some)
    }
}
