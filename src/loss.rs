//! Losses, with PyTorch's names, options and numbers.
//!
//! Each is a struct of options with a `forward`, and the common ones are methods on [`Var`] too. A loss is one entry
//! on the tape. Arithmetic on f16 and bf16 is in f32: the inputs are widened first, and the loss and the gradients
//! rounded last.
//!
//! ```
//! use gatefold::{Device, Reduction, Tape, Tensor, loss::CrossEntropyLoss};
//! let tape = Tape::new();
//! let scores = tape.variable(Tensor::new([[2.0f32, 0.0], [0.0, 0.0], [9.0, 9.0]], &Device::Cpu)?);
//! let classes = Tensor::new([0i64, 1, -100], &Device::Cpu)?; // the last one is padding
//! let mean = scores.cross_entropy(&classes)?;
//! let each = CrossEntropyLoss::new().reduction(Reduction::None).forward(&scores, &classes)?;
//! let each = each.tensor().to_vec::<f32>()?;
//! assert!((each[1] - 2f32.ln()).abs() < 1e-6 && each[2] == 0.0);
//! assert!((mean.item()? - f64::from((each[0] + each[1]) / 2.0)).abs() < 1e-6);
//! # Ok::<(), gatefold::Error>(())
//! ```

mod class;
mod pointwise;

pub use class::{CrossEntropyLoss, NllLoss};
pub use pointwise::{BceLoss, BceWithLogitsLoss, HuberLoss, KlDivLoss, L1Loss, MseLoss, SmoothL1Loss};

use crate::{
    error::{Error, Result},
    kernel::Reduce,
    ops::reduce::reduce,
    tape::{Tape, Var},
    tensor::Tensor,
};

/// What becomes of the losses of the single elements or samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reduction {
    /// Their mean; for class losses weighted by the weights of the target classes. Of nothing it is NaN.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// They stay as they are.
    None,
}

/// What a prediction can be compared with: a tensor, or a var, which gets a gradient too.
pub trait Target {
    /// The target on the tape of the prediction.
    fn on(&self, tape: &Tape) -> Var;
}

impl Target for Tensor {
    fn on(&self, tape: &Tape) -> Var {
        tape.constant(self.clone())
    }
}

impl Target for Var {
    fn on(&self, _tape: &Tape) -> Var {
        self.clone()
    }
}

impl Var {
    /// [`NllLoss`] with its defaults: of log-probabilities against classes (int64 or uint32), averaged.
    ///
    /// # Errors
    /// As [`NllLoss::forward`].
    pub fn nll_loss(&self, target: &Tensor) -> Result<Var> {
        NllLoss::new().forward(self, target)
    }

    /// [`CrossEntropyLoss`] with its defaults: of unnormalised scores against classes (int64 or uint32), averaged.
    ///
    /// # Errors
    /// As [`CrossEntropyLoss::forward`].
    pub fn cross_entropy(&self, target: &Tensor) -> Result<Var> {
        CrossEntropyLoss::new().forward(self, target)
    }

    /// [`MseLoss`] with its defaults: the mean of (x − t)².
    ///
    /// # Errors
    /// As [`MseLoss::forward`].
    pub fn mse_loss(&self, target: &impl Target) -> Result<Var> {
        MseLoss::new().forward(self, target)
    }

    /// [`L1Loss`] with its defaults: the mean of |x − t|.
    ///
    /// # Errors
    /// As [`L1Loss::forward`].
    pub fn l1_loss(&self, target: &impl Target) -> Result<Var> {
        L1Loss::new().forward(self, target)
    }
}

/// Builder methods that all losses have.
macro_rules! builder {
    ($($name:ident),*) => {$(
        impl $name {
            /// What becomes of the single losses: [`Reduction::Mean`] unless set.
            pub fn reduction(mut self, reduction: Reduction) -> Self {
                self.reduction = reduction.into();
                self
            }
        }
    )*};
}
use builder;

/// Σ or mean of all elements, as a scalar.
fn total(op: Reduce, x: &Tensor) -> Result<Tensor> {
    reduce(op, (1, x.numel(), 1), x, ())
}

/// The one output of an entry.
fn only(mut outputs: Vec<Var>) -> Var {
    outputs.swap_remove(0)
}

/// The one gradient that an entry with one output gets: it is never called without.
fn incoming(op: &'static str, mut gradients: Vec<Option<Tensor>>) -> Result<Tensor> {
    gradients.pop().flatten().ok_or_else(|| Error::tape(op, "its backward was called without a gradient"))
}
