//! `Linear`.

use std::fmt;

use crate::{
    device::Device,
    dtype::DType,
    error::{Error, Result},
    nn::{Module, Training},
    rng::Philox,
    tape::{Parameter, Var},
    tensor::Tensor,
};

/// Settings of [`Linear`].
#[derive(Debug, Clone, PartialEq)]
pub struct LinearConfig {
    in_features: usize,
    out_features: usize,
    bias: bool,
    dtype: DType,
}

impl LinearConfig {
    /// Adds a bias; on at first.
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Type of the parameters; f32 at first.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// The module, weight and bias uniform on ±1/√in_features: PyTorch's `kaiming_uniform_(a=√5)`.
    ///
    /// # Errors
    /// No features, an integer dtype, a device that is not there.
    pub fn init(self, device: &Device, rng: &mut Philox) -> Result<Linear> {
        let LinearConfig { in_features, out_features, bias, dtype } = self;
        if in_features == 0 || out_features == 0 {
            return Err(Error::argument("Linear", format!("{in_features} to {out_features}"), "at least one feature"));
        }
        if !dtype.is_float() {
            return Err(Error::dtype("Linear", dtype, "a floating-point dtype"));
        }
        let bound = 1.0 / (in_features as f64).sqrt();
        let mut draw = |shape: &[usize]| Tensor::uniform(shape, -bound, bound, dtype, device, rng).map(Parameter::new);
        let weight = draw(&[out_features, in_features])?;
        let bias = if bias { Some(draw(&[out_features])?) } else { None };
        Ok(Linear { in_features, out_features, weight, bias, training: Training::new() })
    }
}

/// x Wᵀ + b over the last axis: PyTorch's `nn.Linear`.
///
/// ```
/// use gatefold::{DType, Device, Philox, Tape, Tensor, nn::Linear};
/// let (device, mut rng) = (Device::Cpu, Philox::seed(1));
/// let score = Linear::new(20, 3).init(&device, &mut rng)?;
/// let states = Tensor::normal([5, 2, 20], 0.0, 1.0, DType::F32, &device, &mut rng)?;
/// assert_eq!(score.forward(&Tape::new().constant(states))?.dims(), [5, 2, 3]);
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug)]
pub struct Linear {
    in_features: usize,
    out_features: usize,
    weight: Parameter,
    bias: Option<Parameter>,
    training: Training,
}

impl Linear {
    /// Settings for a map of `in_features` to `out_features`.
    #[expect(clippy::new_ret_no_self, reason = "a configuration becomes a module by init()")]
    pub fn new(in_features: usize, out_features: usize) -> LinearConfig {
        LinearConfig { in_features, out_features, bias: true, dtype: DType::F32 }
    }

    /// Weight `(out_features, in_features)`.
    pub fn weight(&self) -> &Parameter {
        &self.weight
    }

    /// Bias `(out_features)`.
    pub fn bias(&self) -> Option<&Parameter> {
        self.bias.as_ref()
    }

    /// `(…, in_features)` → `(…, out_features)`.
    ///
    /// # Errors
    /// A wrong last axis, dtype or device.
    pub fn forward(&self, x: &Var) -> Result<Var> {
        let tape = x.tape();
        x.linear(&tape.parameter(&self.weight), self.bias.as_ref().map(|b| tape.parameter(b)).as_ref())
    }
}

impl Module for Linear {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        Vec::new()
    }

    fn own_parameters(&self) -> Vec<(String, Parameter)> {
        let bias = self.bias.iter().map(|bias| ("bias".into(), bias.clone()));
        [("weight".into(), self.weight.clone())].into_iter().chain(bias).collect()
    }

    fn training(&self) -> Option<&Training> {
        Some(&self.training)
    }

    fn repr(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Linear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bias = if self.bias.is_some() { "True" } else { "False" };
        write!(f, "Linear(in_features={}, out_features={}, bias={bias})", self.in_features, self.out_features)
    }
}
