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
    device::Device,
    dtype::DType,
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

/// Normal with deviation √(2/((1 + a²) · fan in)), after He et al. 2015 for a leaky ReLU of slope a: `nn.init.kaiming_normal_`.
///
/// # Errors
/// [`Error::Shape`] for a parameter of less than two axes.
pub fn kaiming_normal(parameter: &Parameter, a: f64, rng: &mut Philox) -> Result<()> {
    normal(parameter, 0.0, (2.0 / ((1.0 + a * a) * fans(parameter)?.0)).sqrt(), rng)
}

/// `gain` times a random matrix whose rows, or columns where those are fewer, are orthogonal and of length 1 (Saxe et al. 2014):
/// `nn.init.orthogonal_`, often used for recurrent weights. A weight `(out, in, …)` is seen as `(out, in · …)`.
///
/// # Errors
/// [`Error::Shape`] for a parameter of less than two axes; [`Error::Argument`] for a gain that is not finite.
pub fn orthogonal(parameter: &Parameter, gain: f64, rng: &mut Philox) -> Result<()> {
    if !gain.is_finite() {
        return Err(Error::argument("nn::init::orthogonal", format!("gain {gain}"), "a finite number"));
    }
    let (columns, _) = fans(parameter)?;
    let old = parameter.value();
    let (rows, columns) = (old.dims()[0], columns as usize);
    let (few, many) = (rows.min(columns), rows.max(columns));
    let mut vectors = Tensor::normal([few, many], 0.0, 1.0, DType::F64, &Device::Cpu, rng)?.to_vec::<f64>()?;
    // What a QR decomposition whose R has a positive diagonal gives, as PyTorch makes it by turning signs: Gram and Schmidt, twice over each
    // vector, so that nothing of the others is left to rounding.
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for i in 0..few {
        let (done, rest) = vectors.split_at_mut(i * many);
        let vector = &mut rest[..many];
        for other in done.chunks_exact(many).chain(done.chunks_exact(many)) {
            let along = dot(other, vector);
            vector.iter_mut().zip(other).for_each(|(v, o)| *v -= along * o);
        }
        let length = dot(vector, vector).sqrt();
        vector.iter_mut().for_each(|v| *v /= length);
    }
    vectors.iter_mut().for_each(|v| *v *= gain);
    let value = Tensor::from_slice(&vectors, [few, many], &Device::Cpu)?;
    let value = if rows <= columns { value } else { value.transpose(0, 1)? };
    parameter.set_value(value.reshape(old.shape())?.to_dtype(old.dtype())?.to_device(&old.device())?)
}

fn fans(parameter: &Parameter) -> Result<(f64, f64)> {
    match *parameter.shape() {
        [out, input, ref rest @ ..] if out > 0 && input > 0 => {
            let field = rest.iter().map(|&n| n as f64).product::<f64>();
            Ok((input as f64 * field, out as f64 * field))
        }
        _ => Err(Error::shape("nn::init", parameter.shape(), "a weight (out, in, …)")),
    }
}
