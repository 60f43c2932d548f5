//! Initial distributions: PyTorch's `nn.init`.
//!
//! Each fills a parameter anew; the same generator gives the same numbers on every device. Fans are counted as PyTorch
//! does: of a weight `(out, in, …)` the fan in is in · …, the fan out is out · ….
//!
//! ```
//! use gatefold::{Device, Philox, nn::{Lstm, init}};
//! let mut rng = Philox::seed(1);
//! let lstm = Lstm::new(10, 20).init(&Device::Cpu, &mut rng)?;
//! let (ih, bias) = (lstm.weight_ih(0, 0).unwrap(), lstm.bias_hh(0, 0).unwrap());
//! init::xavier_uniform(ih, 1.0, &mut rng)?; // (80, 10): within √(6 / 90)
//! init::constant(bias, 0.0)?;
//! let bound = (6.0f32 / 90.0).sqrt();
//! assert!(ih.value().to_vec::<f32>()?.iter().all(|w| w.abs() <= bound));
//! # Ok::<(), gatefold::Error>(())
//! ```

use crate::{
    error::{Error, Result},
    rng::Philox,
    tape::Parameter,
    tensor::Tensor,
};

/// Uniform on `[low, high)`: `nn.init.uniform_`.
///
/// # Errors
/// Bounds that are not finite or in the wrong order.
pub fn uniform(parameter: &Parameter, low: f64, high: f64, rng: &mut Philox) -> Result<()> {
    let old = parameter.value();
    parameter.set_value(Tensor::uniform(old.shape(), low, high, old.dtype(), &old.device(), rng)?)
}

/// Normal: `nn.init.normal_`.
///
/// # Errors
/// A mean or deviation that is not finite, a negative deviation.
pub fn normal(parameter: &Parameter, mean: f64, std: f64, rng: &mut Philox) -> Result<()> {
    let old = parameter.value();
    parameter.set_value(Tensor::normal(old.shape(), mean, std, old.dtype(), &old.device(), rng)?)
}

/// One value everywhere: `nn.init.constant_`.
///
/// # Errors
/// When memory cannot be had.
pub fn constant(parameter: &Parameter, value: f64) -> Result<()> {
    let old = parameter.value();
    parameter.set_value(Tensor::full(old.shape(), value, old.dtype(), &old.device())?)
}

/// Uniform on ±`gain`·√(6/(fan in + fan out)), after Glorot and Bengio 2010: `nn.init.xavier_uniform_`.
///
/// # Errors
/// [`Error::Shape`] for a parameter of less than two axes.
pub fn xavier_uniform(parameter: &Parameter, gain: f64, rng: &mut Philox) -> Result<()> {
    let (fan_in, fan_out) = fans(parameter)?;
    let bound = gain * (6.0 / (fan_in + fan_out)).sqrt();
    uniform(parameter, -bound, bound, rng)
}

/// Normal with deviation `gain`·√(2/(fan in + fan out)): `nn.init.xavier_normal_`.
///
/// # Errors
/// [`Error::Shape`] for a parameter of less than two axes.
pub fn xavier_normal(parameter: &Parameter, gain: f64, rng: &mut Philox) -> Result<()> {
    let (fan_in, fan_out) = fans(parameter)?;
    normal(parameter, 0.0, gain * (2.0 / (fan_in + fan_out)).sqrt(), rng)
}

/// Uniform on ±√(6/((1 + a²) · fan in)), after He et al. 2015 for a leaky ReLU of slope a: `nn.init.kaiming_uniform_`.
///
/// # Errors
/// [`Error::Shape`] for a parameter of less than two axes.
pub fn kaiming_uniform(parameter: &Parameter, a: f64, rng: &mut Philox) -> Result<()> {
    let bound = (6.0 / ((1.0 + a * a) * fans(parameter)?.0)).sqrt();
    uniform(parameter, -bound, bound, rng)
}

fn fans(parameter: &Parameter) -> Result<(f64, f64)> {
    match *parameter.shape() {
        [out, input, ref rest @ ..] if out > 0 && input > 0 => {
            let field = rest.iter().product::<usize>() as f64;
            Ok((input as f64 * field, out as f64 * field))
        }
        _ => Err(Error::shape("nn::init", parameter.shape(), "a weight (out, in, …)")),
    }
}
