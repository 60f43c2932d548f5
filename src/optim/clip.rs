//! Gradient clipping.

use std::collections::HashSet;

use crate::{
    error::{Error, Result},
    kernel::{Reduce, Unary},
    storage,
    tape::{HasParameters, Parameter},
    tensor::Tensor,
};

/// Scales all gradients together so that their norm, taken as if they were one vector, is at most `max_norm`; gives
/// the norm they had. PyTorch's `clip_grad_norm_`: the factor is min(1, `max_norm`/(norm + 10⁻⁶)).
///
/// `norm_type` is p of the p-norm: 2 as a rule, infinity for the greatest magnitude, or another number above 0.
/// Parameters without a gradient do not count. Where the norm is not finite the gradients become so too, as in
/// PyTorch; see [`clip_grad_norm_finite`].
///
/// ```
/// use gatefold::{Device, Parameter, Tensor, optim::clip_grad_norm};
/// let w = Parameter::new(Tensor::new([0.0f32, 0.0], &Device::Cpu)?);
/// w.set_grad(Some(Tensor::new([3.0f32, 4.0], &Device::Cpu)?))?;
/// assert_eq!(clip_grad_norm(&w, 1.0, 2.0)?, 5.0);
/// let clipped = w.grad().unwrap().to_vec::<f32>()?;
/// assert!((clipped[0] - 0.6).abs() < 1e-6 && (clipped[1] - 0.8).abs() < 1e-6);
/// # Ok::<(), gatefold::Error>(())
/// ```
///
/// # Errors
/// [`Error::Argument`] for a `max_norm` that is NaN or below 0, or a `norm_type` that is NaN or not above 0.
pub fn clip_grad_norm(parameters: &(impl HasParameters + ?Sized), max_norm: f64, norm_type: f64) -> Result<f64> {
    clip("clip_grad_norm", parameters, max_norm, norm_type, false)
}

/// [`clip_grad_norm`] with PyTorch's `error_if_nonfinite=True`.
///
/// # Errors
/// As there, and [`Error::Argument`] where the norm is NaN or infinite; the gradients are left as they are then.
pub fn clip_grad_norm_finite(parameters: &(impl HasParameters + ?Sized), max_norm: f64, norm_type: f64) -> Result<f64> {
    clip("clip_grad_norm_finite", parameters, max_norm, norm_type, true)
}

/// Holds every element of every gradient inside ±`clip_value`; NaN stays. PyTorch's `clip_grad_value_`.
///
/// # Errors
/// [`Error::Argument`] for a value that is NaN or below 0.
pub fn clip_grad_value(parameters: &(impl HasParameters + ?Sized), clip_value: f64) -> Result<()> {
    if clip_value.is_nan() || clip_value < 0.0 {
        return Err(Error::argument("clip_grad_value", format!("clip_value {clip_value}"), "a number of 0 or above"));
    }
    rewrite(&unique(parameters), Unary::Clamp { low: -clip_value, high: clip_value })
}

fn clip(
    op: &'static str,
    parameters: &(impl HasParameters + ?Sized),
    max_norm: f64,
    norm_type: f64,
    finite: bool,
) -> Result<f64> {
    if max_norm.is_nan() || max_norm < 0.0 {
        return Err(Error::argument(op, format!("max_norm {max_norm}"), "a number of 0 or above"));
    }
    if norm_type.is_nan() || norm_type <= 0.0 {
        return Err(Error::argument(op, format!("norm_type {norm_type}"), "a number above 0, or infinity"));
    }
    let parameters = unique(parameters);
    let norm = norm(&parameters, norm_type)?;
    if finite && !norm.is_finite() {
        return Err(Error::argument(op, format!("gradients of norm {norm}"), "a finite norm"));
    }
    let factor = max_norm / (norm + 1e-6);
    if factor < 1.0 || factor.is_nan() {
        rewrite(&parameters, Unary::Affine { scale: factor, shift: 0.0 })?;
    }
    Ok(norm)
}

/// Each parameter once: a shared one has one gradient.
fn unique(parameters: &(impl HasParameters + ?Sized)) -> Vec<Parameter> {
    let mut seen = HashSet::new();
    parameters.parameters().into_iter().filter(|p| seen.insert(p.id())).collect()
}

fn norm(parameters: &[Parameter], p: f64) -> Result<f64> {
    let gradients = parameters.iter().filter_map(Parameter::grad).filter(|g| g.numel() > 0);
    if p == f64::INFINITY {
        let mut greatest = 0.0;
        for gradient in gradients {
            let largest = reduced(Reduce::Max, &mapped(Unary::Abs, &gradient)?)?;
            if largest > greatest || largest.is_nan() {
                greatest = largest;
            }
        }
        return Ok(greatest);
    }
    let mut sum = 0.0;
    for gradient in gradients {
        sum += if p == 2.0 {
            storage::sum_of_squares(gradient.storage())?
        } else {
            let power = mapped(Unary::Powf(p), &mapped(Unary::Abs, &gradient)?)?;
            reduced(Reduce::Sum, &power)?
        };
    }
    Ok(if p == 2.0 { sum.sqrt() } else { sum.powf(1.0 / p) })
}

fn mapped(op: Unary, x: &Tensor) -> Result<Tensor> {
    let mut y = x.like(x.shape())?;
    storage::unary(op, x.storage(), y.storage_mut()?)?;
    Ok(y)
}

fn reduced(op: Reduce, x: &Tensor) -> Result<f64> {
    let mut y = x.like(())?;
    storage::reduce(op, (1, x.numel(), 1), x.storage(), y.storage_mut()?)?;
    y.item()
}

fn rewrite(parameters: &[Parameter], op: Unary) -> Result<()> {
    for parameter in parameters {
        parameter.modify(|_, gradient| {
            if let Some(gradient) = gradient {
                *gradient = mapped(op, gradient)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}
