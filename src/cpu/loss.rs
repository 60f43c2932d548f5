//! Losses and their gradients.

use super::Buffer;
use crate::{
    error::Result,
    kernel::{ClassLoss, PointwiseLoss},
};

/// y = loss(x, t)
pub fn pointwise_loss(
    _loss: PointwiseLoss,
    _x: &Buffer,
    _target: &Buffer,
    _weight: Option<&Buffer>,
    _pos_weight: Option<&Buffer>,
    _y: &mut Buffer,
) -> Result<()> {
    todo!()
}

/// dx and dtarget from dy.
#[expect(clippy::too_many_arguments, reason = "one launch: its buffers")]
pub fn pointwise_loss_backward(
    _loss: PointwiseLoss,
    _x: &Buffer,
    _target: &Buffer,
    _weight: Option<&Buffer>,
    _pos_weight: Option<&Buffer>,
    _dy: &Buffer,
    _dx: Option<&mut Buffer>,
    _dtarget: Option<&mut Buffer>,
) -> Result<()> {
    todo!()
}

/// Per-sample loss and weight.
pub fn class_loss(
    _loss: &ClassLoss,
    _x: &Buffer,
    _target: &Buffer,
    _weight: Option<&Buffer>,
    _y: &mut Buffer,
    _sample_weight: &mut Buffer,
) -> Result<()> {
    todo!()
}

/// dx from dy.
pub fn class_loss_backward(
    _loss: &ClassLoss,
    _target: &Buffer,
    _weight: Option<&Buffer>,
    _dy: &Buffer,
    _dx: &mut Buffer,
) -> Result<()> {
    todo!()
}
