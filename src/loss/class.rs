//! Losses against classes.

use super::{Reduction, builder, incoming, only, total};
use crate::{
    error::{Error, Result},
    kernel::{Binary, ClassLoss, Reduce},
    ops::elementwise::binary,
    shape::Shape,
    storage,
    tape::Var,
    tensor::Tensor,
};

/// PyTorch's default of the target that costs nothing.
const IGNORE: i64 = -100;

/// Negative log-likelihood: −x\[class\] of log-probabilities x. PyTorch's `NLLLoss`.
///
/// ```
/// use gatefold::{Device, Tape, Tensor, loss::NllLoss};
/// let tape = Tape::new();
/// let x = tape.variable(Tensor::new([[-0.1f32, -2.4], [-1.6, -0.2]], &Device::Cpu)?);
/// let classes = Tensor::new([0i64, 1], &Device::Cpu)?;
/// let loss = NllLoss::new().forward(&x, &classes)?;
/// assert!((loss.item()? - 0.15).abs() < 1e-6);
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct NllLoss {
    weight: Option<Tensor>,
    ignore_index: i64,
    reduction: Reduction,
}

/// Negative log-likelihood of the softmax of scores. PyTorch's `CrossEntropyLoss` against class indices.
///
/// With label smoothing ε the target is (1 − ε) of the class and ε/C of each of the C classes, with the class weights
/// on both parts, and the mean still divides by the weights of the target classes (Szegedy et al. 2016, section 7, as
/// PyTorch has it).
///
/// ```
/// use gatefold::{Device, Tape, Tensor, loss::CrossEntropyLoss};
/// let tape = Tape::new();
/// let scores = tape.variable(Tensor::new([[2.0f32, 0.0, 0.0]], &Device::Cpu)?);
/// let classes = Tensor::new([0i64], &Device::Cpu)?;
/// let loss = CrossEntropyLoss::new().label_smoothing(0.1).forward(&scores, &classes)?;
/// assert!((loss.item()? - 0.372873).abs() < 1e-5);
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct CrossEntropyLoss {
    nll: NllLoss,
    label_smoothing: f64,
}

builder!(NllLoss);

impl Default for NllLoss {
    fn default() -> Self {
        NllLoss::new()
    }
}

impl NllLoss {
    /// Without weights; ignores −100; the mean.
    pub fn new() -> Self {
        NllLoss { weight: None, ignore_index: IGNORE, reduction: Reduction::Mean }
    }

    /// A factor for each class: C elements.
    pub fn weight(mut self, weight: Tensor) -> Self {
        self.weight = Some(weight);
        self
    }

    /// The target that costs nothing and weighs nothing; it need not be a class.
    pub fn ignore_index(mut self, index: i64) -> Self {
        self.ignore_index = index;
        self
    }

    /// The loss of `input`, log-probabilities of shape (C), (N, C) or (N, C, d₁, …), against `target`, classes (int64
    /// or uint32) of shape (), (N) or (N, d₁, …): a scalar, or the target's shape with [`Reduction::None`]. A batch
    /// that is ignored as a whole has the mean NaN and the sum 0.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::DType`], [`Error::Device`] where input, target and weight do not fit;
    /// [`Error::Argument`] for a target that is neither a class nor ignored.
    pub fn forward(&self, input: &Var, target: &Tensor) -> Result<Var> {
        self.run("nll_loss", input, target, None)
    }

    /// With `smoothing` of scores, else of log-probabilities. One entry on the tape.
    fn run(&self, op: &'static str, input: &Var, target: &Tensor, smoothing: Option<f64>) -> Result<Var> {
        let x = input.tensor();
        x.expect_float(op)?;
        let (axis, samples) = self.fit(op, x, target)?;
        let (outer, classes, inner) = x.shape().around(axis);
        let loss = ClassLoss {
            outer,
            classes,
            inner,
            ignore_index: self.ignore_index,
            label_smoothing: smoothing.unwrap_or(0.0),
        };
        let target = self.classes(op, target, classes)?;
        let dtype = x.dtype();
        let weight = match &self.weight {
            Some(weight) => Some(weight.to_dtype(dtype.wide())?),
            None => None,
        };

        let mut log = x.to_dtype(dtype.wide())?;
        if smoothing.is_some() && log.numel() > 0 {
            let mut y = log.like(log.shape())?;
            storage::softmax(true, (outer, classes, inner), log.storage(), y.storage_mut()?)?;
            log = y;
        }
        let (mut each, mut weights) = (log.like(&samples)?, log.like(&samples)?);
        let factors = weight.as_ref().map(Tensor::storage);
        storage::class_loss(
            &loss,
            log.storage(),
            target.storage(),
            factors,
            each.storage_mut()?,
            weights.storage_mut()?,
        )?;
        let (y, divisor) = match self.reduction {
            Reduction::None => (each, None),
            Reduction::Sum => (total(Reduce::Sum, &each)?, None),
            Reduction::Mean => {
                let divisor = total(Reduce::Sum, &weights)?;
                (binary(op, Binary::Div, &total(Reduce::Sum, &each)?, &divisor)?, Some(divisor))
            }
        };

        let probabilities = smoothing.is_some().then_some(log);
        let shape = input.shape().clone();
        let outputs = input.tape().record_own(op, &[input], vec![y.to_dtype(dtype)?], move |gradients| {
            let mut dy = incoming(op, gradients)?.to_dtype(dtype.wide())?;
            if let Some(divisor) = divisor {
                dy = binary(op, Binary::Div, &dy, &divisor)?;
            }
            dy = dy.expanded(&samples)?;
            let mut dx = dy.like(shape)?;
            if dx.numel() == 0 {
                return Ok(vec![Some(dx.to_dtype(dtype)?)]);
            }
            let factors = weight.as_ref().map(Tensor::storage);
            storage::class_loss_backward(&loss, target.storage(), factors, dy.storage(), dx.storage_mut()?)?;
            if let Some(log) = probabilities {
                let mut scores = dx.like(dx.shape())?;
                let dims = (outer, classes, inner);
                storage::softmax_backward(true, dims, log.storage(), dx.storage(), scores.storage_mut()?)?;
                dx = scores;
            }
            Ok(vec![Some(dx.to_dtype(dtype)?)])
        })?;
        Ok(only(outputs))
    }

    /// The class axis and the shape of the target.
    fn fit(&self, op: &'static str, x: &Tensor, target: &Tensor) -> Result<(usize, Shape)> {
        if x.rank() == 0 {
            return Err(Error::shape(op, x.shape(), "an input of shape (C), (N, C) or (N, C, d1, ...)"));
        }
        let axis = usize::from(x.rank() > 1);
        let samples = x.shape().without(axis);
        if target.shape() != &samples {
            return Err(Error::shape(
                op,
                format!("target {} for input {}", target.shape(), x.shape()),
                format!("target {samples}"),
            ));
        }
        if target.device() != x.device() {
            return Err(Error::device(op, target.device(), x.device()));
        }
        if let Some(weight) = &self.weight {
            if weight.dims() != [x.dims()[axis]] {
                return Err(Error::shape(
                    op,
                    format!("weight {}", weight.shape()),
                    format!("weight [{}], one of each class", x.dims()[axis]),
                ));
            }
            x.expect_kin(op, weight)?;
        }
        Ok((axis, samples))
    }

    /// The target as i64, each of which is a class or ignored.
    fn classes(&self, op: &'static str, target: &Tensor, classes: usize) -> Result<Tensor> {
        let target = target.as_index(op)?;
        let inside = |class: i64| (0..classes as i64).contains(&class);
        if storage::index_range(target.storage())?.is_some_and(|(low, high)| !(inside(low) && inside(high))) {
            let values = target.to_vec::<i64>()?;
            if let Some(i) = values.iter().position(|&class| class != self.ignore_index && !inside(class)) {
                return Err(Error::argument(
                    op,
                    format!("target {} at {i}", values[i]),
                    format!("a class in 0..{classes}, or {} to ignore the sample", self.ignore_index),
                ));
            }
        }
        Ok(target)
    }
}

impl Default for CrossEntropyLoss {
    fn default() -> Self {
        CrossEntropyLoss::new()
    }
}

impl CrossEntropyLoss {
    /// Without weights and smoothing; ignores −100; the mean.
    pub fn new() -> Self {
        CrossEntropyLoss { nll: NllLoss::new(), label_smoothing: 0.0 }
    }

    /// A factor for each class: C elements.
    pub fn weight(mut self, weight: Tensor) -> Self {
        self.nll = self.nll.weight(weight);
        self
    }

    /// The target that costs nothing and weighs nothing; it need not be a class.
    pub fn ignore_index(mut self, index: i64) -> Self {
        self.nll = self.nll.ignore_index(index);
        self
    }

    /// ε in `[0, 1]`: how much of the target is spread over all classes.
    pub fn label_smoothing(mut self, epsilon: f64) -> Self {
        self.label_smoothing = epsilon;
        self
    }

    /// What becomes of the single losses: [`Reduction::Mean`] unless set.
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.nll = self.nll.reduction(reduction);
        self
    }

    /// The loss of `input`, unnormalised scores of shape (C), (N, C) or (N, C, d₁, …), against `target`, classes (int64
    /// or uint32) of shape (), (N) or (N, d₁, …): a scalar, or the target's shape with [`Reduction::None`].
    ///
    /// # Errors
    /// As [`NllLoss::forward`], and [`Error::Argument`] for a label smoothing outside `[0, 1]`.
    pub fn forward(&self, input: &Var, target: &Tensor) -> Result<Var> {
        const OP: &str = "cross_entropy";
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return Err(Error::argument(OP, format!("label_smoothing {}", self.label_smoothing), "0 to 1"));
        }
        self.nll.run(OP, input, target, Some(self.label_smoothing))
    }
}
