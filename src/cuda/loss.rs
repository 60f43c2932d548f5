//! Losses and their gradients.

use super::{Buffer, abi, launch::float};
use crate::{
    error::Result,
    kernel::{ClassLoss, PointwiseLoss},
};

/// The number of a loss and its parameter.
fn code(loss: PointwiseLoss) -> (u32, f64) {
    match loss {
        PointwiseLoss::Mse => (abi::LOSS_MSE, 0.0),
        PointwiseLoss::L1 | PointwiseLoss::SmoothL1 { beta: 0.0 } => (abi::LOSS_L1, 0.0),
        PointwiseLoss::Huber { delta } => (abi::LOSS_HUBER, delta),
        PointwiseLoss::SmoothL1 { beta } => (abi::LOSS_SMOOTH_L1, beta),
        PointwiseLoss::Bce => (abi::LOSS_BCE, 0.0),
        PointwiseLoss::BceWithLogits => (abi::LOSS_BCE_WITH_LOGITS, 0.0),
        PointwiseLoss::KlDiv { log_target: false } => (abi::LOSS_KL_DIV, 0.0),
        PointwiseLoss::KlDiv { log_target: true } => (abi::LOSS_KL_DIV_LOG_TARGET, 0.0),
    }
}

fn address(buffer: Option<&Buffer>) -> u64 {
    buffer.map_or(0, Buffer::address)
}

/// [`PointwiseLoss::Bce`] leaves a fault, which the next download tells, for an x or a t outside `[0, 1]`.
pub fn pointwise_loss(
    loss: PointwiseLoss,
    x: &Buffer,
    target: &Buffer,
    weight: Option<&Buffer>,
    pos_weight: Option<&Buffer>,
    y: &mut Buffer,
) -> Result<()> {
    let (context, name) = (y.context(), float("pointwise_loss", y.dtype())?);
    let (loss, bound) = code(loss);
    let p = abi::PointwiseLoss {
        x: x.address(),
        target: target.address(),
        weight: address(weight),
        pos_weight: address(pos_weight),
        y: y.address(),
        fault: context.fault,
        count: y.len() as u64,
        trailing: pos_weight.map_or(1, Buffer::len) as u64,
        bound,
        loss,
        unused: 0,
    };
    context.launch("pointwise_loss", name, &context.spread_vectors(y.len(), y.dtype()), &p)
}

#[expect(clippy::too_many_arguments, reason = "one launch: its buffers")]
pub fn pointwise_loss_backward(
    loss: PointwiseLoss,
    x: &Buffer,
    target: &Buffer,
    weight: Option<&Buffer>,
    pos_weight: Option<&Buffer>,
    dy: &Buffer,
    dx: Option<&mut Buffer>,
    dtarget: Option<&mut Buffer>,
) -> Result<()> {
    let (context, name) = (dy.context(), float("pointwise_loss", dy.dtype())?);
    let (loss, bound) = code(loss);
    for (out, to_target) in [(dx, 0), (dtarget, 1)] {
        let Some(out) = out else { continue };
        let p = abi::PointwiseLossBackward {
            x: x.address(),
            target: target.address(),
            weight: address(weight),
            pos_weight: address(pos_weight),
            dy: dy.address(),
            dx: out.address(),
            count: out.len() as u64,
            trailing: pos_weight.map_or(1, Buffer::len) as u64,
            bound,
            loss,
            to_target,
        };
        context.launch("pointwise_loss_backward", name, &context.spread_vectors(out.len(), out.dtype()), &p)?;
    }
    Ok(())
}

/// A target that is neither a class nor ignored leaves a fault, which the next download tells.
pub fn class_loss(
    loss: &ClassLoss,
    x: &Buffer,
    target: &Buffer,
    weight: Option<&Buffer>,
    y: &mut Buffer,
    sample_weight: &mut Buffer,
) -> Result<()> {
    let (context, name) = (y.context(), float("class_loss", y.dtype())?);
    let p = abi::ClassLoss {
        x: x.address(),
        target: target.address(),
        weight: address(weight),
        y: y.address(),
        sample_weight: sample_weight.address(),
        fault: context.fault,
        outer: loss.outer as u64,
        classes: loss.classes as u64,
        inner: loss.inner as u64,
        ignore_index: loss.ignore_index,
        smoothing: loss.label_smoothing,
    };
    context.launch("class_loss", name, &context.spread(y.len()), &p)
}

pub fn class_loss_backward(
    loss: &ClassLoss,
    target: &Buffer,
    weight: Option<&Buffer>,
    dy: &Buffer,
    dx: &mut Buffer,
) -> Result<()> {
    let (context, name) = (dx.context(), float("class_loss", dx.dtype())?);
    let p = abi::ClassLossBackward {
        target: target.address(),
        weight: address(weight),
        dy: dy.address(),
        dx: dx.address(),
        outer: loss.outer as u64,
        classes: loss.classes as u64,
        inner: loss.inner as u64,
        ignore_index: loss.ignore_index,
        smoothing: loss.label_smoothing,
    };
    context.launch("class_loss_backward", name, &context.spread(dx.len()), &p)
}
