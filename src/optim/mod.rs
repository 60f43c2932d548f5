//! Optimizers, learning-rate schedules and gradient clipping, with PyTorch's names, defaults and formulas.
//!
//! Networks of f16 and bf16 keep f32 masters of their parameters with `master_weights(true)`; [`GradScaler`] keeps small gradients of
//! f16 from vanishing.
//!
//! An algorithm such as [`Sgd`] holds settings; put `over` parameters it becomes an [`Optimizer`], which is one and
//! the same for all algorithms: groups, state, saving.
//!
//! On a GPU a step is one kernel for up to 64 parameters that have dtype, settings and number of steps in common, as are
//! the scaling and the limiting of gradients; a norm is one more. None of them waits for the device but
//! [`clip_grad_norm`] and [`clip_grad_norm_finite`], which give the norm to the host: [`clip_grad_norm_async`] leaves it
//! there.
//!
//! ```
//! use gatefold::{Device, Parameter, Tape, Tensor, optim::Sgd};
//! let w = Parameter::new(Tensor::new([1.0f32, 2.0], &Device::Cpu)?);
//! let mut optimizer = Sgd::new(0.5).momentum(0.9).over([&w])?;
//! let tape = Tape::new();
//! let loss = tape.parameter(&w).mse_loss(&Tensor::new([0.0f32, 0.0], &Device::Cpu)?)?;
//! optimizer.zero_grad();
//! loss.backward()?;
//! optimizer.step()?;
//! assert_eq!(w.value().to_vec::<f32>()?, [0.5, 1.0]);
//! # Ok::<(), gatefold::Error>(())
//! ```

mod adagrad;
mod adam;
mod clip;
mod clocks;
mod one_cycle;
mod optimizer;
mod plateau;
mod rmsprop;
mod rule;
mod scaler;
mod schedule;
mod sequential;
mod sgd;
mod state;

pub use adagrad::Adagrad;
pub use adam::{Adam, AdamW, Adaptive};
pub use clip::{clip_grad_norm, clip_grad_norm_async, clip_grad_norm_finite, clip_grad_value};
pub use one_cycle::{Anneal, OneCycleLr};
#[doc(hidden)]
pub use optimizer::Counts;
pub use optimizer::{Algorithm, Optim, Optimizer};
pub use plateau::{Mode, ReduceLrOnPlateau, Threshold};
pub use rmsprop::RmsProp;
pub use scaler::GradScaler;
pub use schedule::{CosineAnnealingLr, ExponentialLr, LambdaLr, Rate, Schedule, StepLr};
pub use sequential::SequentialLr;
pub use sgd::Sgd;
pub use state::State;
