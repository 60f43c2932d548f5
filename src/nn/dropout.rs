//! `Dropout`.

use std::fmt;

use crate::{
    device::Device,
    error::{Error, Result},
    nn::{MaskGenerator, Module, Training},
    rng::Philox,
    tape::Var,
};

/// Settings of [`Dropout`].
#[derive(Debug, Clone, PartialEq)]
pub struct DropoutConfig {
    p: f64,
}

impl DropoutConfig {
    /// The module; its masks get a seed from `rng`.
    ///
    /// # Errors
    /// A `p` outside `[0, 1]`, a device that is not there.
    pub fn init(self, device: &Device, rng: &mut Philox) -> Result<Dropout> {
        device.check("Dropout")?;
        if !(0.0..=1.0).contains(&self.p) {
            return Err(Error::argument("Dropout", format!("p = {}", self.p), "a probability in [0, 1]"));
        }
        Ok(Dropout { p: self.p, training: Training::new(), masks: MaskGenerator::new(rng.split()) })
    }
}

/// Zeroes elements with probability p and scales the others by 1/(1 − p), in training: PyTorch's `nn.Dropout`.
///
/// ```
/// use gatefold::{DType, Device, Philox, Tape, Tensor, nn::{Dropout, Module}};
/// let (device, mut rng) = (Device::Cpu, Philox::seed(1));
/// let dropout = Dropout::new(0.5).init(&device, &mut rng)?;
/// let x = Tape::new().constant(Tensor::ones(8, DType::F32, &device)?);
/// assert!(dropout.forward(&x)?.to_vec::<f32>()?.iter().all(|&y| y == 0.0 || y == 2.0));
/// dropout.eval();
/// assert_eq!(dropout.forward(&x)?.to_vec::<f32>()?, [1.0; 8]);
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug)]
pub struct Dropout {
    p: f64,
    training: Training,
    masks: MaskGenerator,
}

impl Dropout {
    /// Settings for a probability of `p`.
    #[expect(clippy::new_ret_no_self, reason = "a configuration becomes a module by init()")]
    pub fn new(p: f64) -> DropoutConfig {
        DropoutConfig { p }
    }

    /// x with a new mask, or in evaluation mode x itself.
    ///
    /// # Errors
    /// An integer dtype.
    pub fn forward(&self, x: &Var) -> Result<Var> {
        if !self.training.is_training() || self.p == 0.0 {
            return Ok(x.clone());
        }
        // What is refused draws no mask.
        x.tensor().expect_float("dropout")?;
        let (seed, stream) = self.masks.draw();
        x.dropout(self.p, seed, stream)
    }
}

impl Module for Dropout {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        Vec::new()
    }

    fn training(&self) -> Option<&Training> {
        Some(&self.training)
    }

    fn mask_generator(&self) -> Option<&MaskGenerator> {
        Some(&self.masks)
    }

    fn repr(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Dropout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dropout(p={:?}, inplace=False)", self.p)
    }
}
