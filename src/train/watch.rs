//! Histograms of a model's parameters and gradients while it trains.

use super::EventWriter;
use crate::{
    error::{Error, Result},
    nn::Module,
    tape::Parameter,
};

/// Logs a model's parameters and gradients every few steps, as `wandb.watch` does.
///
/// ```
/// use gatefold::{Device, Philox, Tape, Tensor, nn::Linear, train::{EventWriter, Watch}};
/// let folder = std::env::temp_dir().join(format!("gatefold-watch-{}", std::process::id()));
/// let model = Linear::new(2, 1).init(&Device::Cpu, &mut Philox::seed(1))?;
/// let (watch, mut events) = (Watch::new(&model, 100)?, EventWriter::new(&folder)?);
/// for step in 0..200 {
///     let x = Tape::new().constant(Tensor::new([[1f32, 2.0]], &Device::Cpu)?);
///     model.forward(&x)?.sum()?.backward()?;
///     watch.log(&mut events, step)?; // at 0 and 100: parameters/weight, gradients/weight, …
/// }
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Watch {
    parameters: Vec<(String, Parameter)>,
    every: u64,
}

impl Watch {
    /// Watches the parameters that a model has now, at every step whose number `every` divides.
    ///
    /// # Errors
    /// [`Error::Argument`] for every 0 steps.
    pub fn new(model: &(impl Module + ?Sized), every: u64) -> Result<Self> {
        if every == 0 {
            return Err(Error::argument("Watch::new", "every 0 steps", "at least 1"));
        }
        Ok(Watch { parameters: model.named_parameters(), every })
    }

    /// Logs, if it is time: the histograms `parameters/NAME`, and `gradients/NAME` of those that have a gradient. Its place is
    /// between `backward` and the next `zero_grad`. On a GPU it waits for the device when it logs.
    ///
    /// # Errors
    /// As [`EventWriter::histogram`].
    pub fn log(&self, events: &mut EventWriter, step: u64) -> Result<()> {
        if !step.is_multiple_of(self.every) {
            return Ok(());
        }
        for (name, parameter) in &self.parameters {
            events.histogram(&format!("parameters/{name}"), &parameter.value(), step)?;
            if let Some(gradient) = parameter.grad() {
                events.histogram(&format!("gradients/{name}"), &gradient, step)?;
            }
        }
        Ok(())
    }
}
