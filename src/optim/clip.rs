//! Gradient clipping.

use std::collections::HashSet;

use crate::{
    device::Device,
    dtype::DType,
    error::{Error, Result},
    storage::{self, Storage},
    tape::{HasParameters, Parameter, lock_gradients},
    tensor::Tensor,
};

/// Scales all gradients together so that their norm, taken as if they were one vector, is at most `max_norm`; gives
/// the norm they had. PyTorch's `clip_grad_norm_`: the factor is min(1, `max_norm`/(norm + 10⁻⁶)).
///
/// `norm_type` is p of the p-norm: 2 as a rule, infinity for the greatest magnitude, or another number above 0. Its
/// sums are in f64. Parameters without a gradient do not count. As in PyTorch an infinite norm makes finite gradients 0 and infinite ones
/// NaN, and a norm of NaN makes all of them NaN; see [`clip_grad_norm_finite`]. To know the norm the host waits for the device, once; see
/// [`clip_grad_norm_async`].
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
/// [`Error::Argument`] for a `max_norm` that is NaN or below 0, or a `norm_type` that is NaN or not above 0;
/// [`Error::DType`] for gradients of integers.
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

/// [`clip_grad_norm`] without waiting for the device, as PyTorch's does it: the factor is computed and applied there, and
/// the norm is a scalar of f64 on it, which [`Tensor::item`] waits for.
///
/// ```
/// use gatefold::{Device, Parameter, Tensor, optim::clip_grad_norm_async};
/// let w = Parameter::new(Tensor::new([0.0f32, 0.0], &Device::Cpu)?);
/// w.set_grad(Some(Tensor::new([3.0f32, 4.0], &Device::Cpu)?))?;
/// let norm = clip_grad_norm_async(&w, 10.0, 2.0)?;
/// assert_eq!((norm.item()?, w.grad().unwrap().to_vec::<f32>()?), (5.0, vec![3.0, 4.0]));
/// # Ok::<(), gatefold::Error>(())
/// ```
///
/// # Errors
/// As there, and [`Error::Device`] for gradients on several devices.
pub fn clip_grad_norm_async(
    parameters: &(impl HasParameters + ?Sized),
    max_norm: f64,
    norm_type: f64,
) -> Result<Tensor> {
    const OP: &str = "clip_grad_norm_async";
    check(OP, max_norm, norm_type)?;
    let parameters = unique(parameters);
    let mut locked = lock_gradients(&parameters);
    let mut places = places(OP, locked.each.iter_mut().filter_map(|g| g.as_mut()))?;
    if let [first, second, ..] = &places[..] {
        return Err(Error::device(OP, second.device, first.device));
    }
    let Some(place) = places.pop() else { return Tensor::zeros((), DType::F64, &Device::Cpu) };
    let (norm, factor) = place.norm(max_norm, norm_type)?;
    place.scale(&factor)?;
    Ok(norm)
}

/// Holds every element of every gradient inside ±`clip_value`; NaN stays. PyTorch's `clip_grad_value_`.
///
/// # Errors
/// [`Error::Argument`] for a value that is NaN or below 0; [`Error::DType`] for gradients of integers.
pub fn clip_grad_value(parameters: &(impl HasParameters + ?Sized), clip_value: f64) -> Result<()> {
    const OP: &str = "clip_grad_value";
    if clip_value.is_nan() || clip_value < 0.0 {
        return Err(Error::argument(OP, format!("clip_value {clip_value}"), "a number of 0 or above"));
    }
    let parameters = unique(parameters);
    let mut locked = lock_gradients(&parameters);
    for place in places(OP, locked.each.iter_mut().filter_map(|g| g.as_mut()))? {
        storage::clamp_each(-clip_value, clip_value, place.storages()?)?;
    }
    Ok(())
}

fn check(op: &'static str, max_norm: f64, norm_type: f64) -> Result<()> {
    if max_norm.is_nan() || max_norm < 0.0 {
        return Err(Error::argument(op, format!("max_norm {max_norm}"), "a number of 0 or above"));
    }
    if norm_type.is_nan() || norm_type <= 0.0 {
        return Err(Error::argument(op, format!("norm_type {norm_type}"), "a number above 0, or infinity"));
    }
    Ok(())
}

fn clip(
    op: &'static str,
    parameters: &(impl HasParameters + ?Sized),
    max_norm: f64,
    norm_type: f64,
    finite: bool,
) -> Result<f64> {
    check(op, max_norm, norm_type)?;
    let parameters = unique(parameters);
    let mut locked = lock_gradients(&parameters);
    let places = places(op, locked.each.iter_mut().filter_map(|g| g.as_mut()))?;
    let each = places.iter().map(|place| place.norm(max_norm, norm_type)).collect::<Result<Vec<_>>>()?;
    let norms = each.iter().map(|(norm, _)| norm.item()).collect::<Result<Vec<_>>>()?;
    let norm = if let [norm] = norms[..] { norm } else { join(&norms, norm_type) };
    if finite && !norm.is_finite() {
        return Err(Error::argument(op, format!("gradients of norm {norm}"), "a finite norm"));
    }
    let factor = max_norm / (norm + 1e-6);
    if factor < 1.0 || factor.is_nan() {
        for (place, (_, own)) in places.into_iter().zip(each) {
            let joint = if norms.len() == 1 { own } else { Tensor::full((), factor, DType::F64, &place.device)? };
            place.scale(&joint)?;
        }
    }
    Ok(norm)
}

/// The norm of all devices from that of each.
fn join(norms: &[f64], p: f64) -> f64 {
    if p == f64::INFINITY {
        norms.iter().fold(0.0, |a, &b| if b > a || b.is_nan() { b } else { a })
    } else {
        norms.iter().map(|norm| norm.powf(p)).sum::<f64>().powf(1.0 / p)
    }
}

/// Each parameter once: a shared one has one gradient.
pub(super) fn unique(parameters: &(impl HasParameters + ?Sized)) -> Vec<Parameter> {
    let mut seen = HashSet::new();
    parameters.parameters().into_iter().filter(|p| seen.insert(p.id())).collect()
}

/// The gradients that lie on one device.
struct Place<'a> {
    device: Device,
    gradients: Vec<&'a mut Tensor>,
}

fn places<'a>(op: &'static str, gradients: impl Iterator<Item = &'a mut Tensor>) -> Result<Vec<Place<'a>>> {
    let mut places: Vec<Place<'a>> = Vec::new();
    for gradient in gradients {
        gradient.expect_float(op)?;
        let device = gradient.device();
        match places.iter_mut().find(|place| place.device == device) {
            Some(place) => place.gradients.push(gradient),
            None => places.push(Place { device, gradients: vec![gradient] }),
        }
    }
    Ok(places)
}

impl<'a> Place<'a> {
    /// The norm, and the factor that brings it down: scalars on the device.
    fn norm(&self, max_norm: f64, p: f64) -> Result<(Tensor, Tensor)> {
        let scalar = || Tensor::uninit((), DType::F64, self.device);
        let (mut norm, mut factor) = (scalar()?, scalar()?);
        let gradients: Vec<&Storage> = self.gradients.iter().map(|g| g.storage()).collect();
        storage::norm(p, max_norm, &gradients, norm.storage_mut()?, factor.storage_mut()?)?;
        Ok((norm, factor))
    }

    fn scale(self, factor: &Tensor) -> Result<()> {
        storage::scale_each(factor.storage(), self.storages()?)
    }

    /// To write: what is shared is copied first.
    fn storages(self) -> Result<Vec<&'a mut Storage>> {
        self.gradients.into_iter().map(Tensor::storage_mut).collect()
    }
}
