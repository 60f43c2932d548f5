//! Loss and accuracy of an epoch as it goes on, for the fewest waits.

use std::fmt;

use super::Mean;
use crate::{
    error::{Error, Result},
    tensor::Tensor,
};

/// Batches that are read together.
const EVERY: usize = 20;

/// Loss and accuracy of the batches of an epoch so far. Reading them waits for a GPU, so they are read for twenty batches at once,
/// and what is shown is as of the last reading.
///
/// ```
/// use gatefold::{Device, Tensor, train::Running};
/// let mut running = Running::new();
/// for predictions in [[0i64, 1], [1, 1]] {
///     let loss = Tensor::from_slice(&[0.5f32], [], &Device::Cpu)?; // the mean over the batch
///     running.add(loss, Tensor::new(predictions, &Device::Cpu)?, Tensor::new([1i64, 1], &Device::Cpu)?)?;
/// }
/// running.read()?;
/// assert_eq!((running.loss(), running.accuracy()), (0.5, 0.75));
/// assert_eq!(running.to_string(), "loss 0.5000  accuracy  75.00 %");
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Running {
    unread: Vec<[Tensor; 3]>,
    loss: Mean,
    right: Mean,
}

impl Running {
    /// Of nothing yet.
    pub fn new() -> Self {
        Running::default()
    }

    /// Adds a batch: its loss, a scalar that is the mean over its samples; what they were taken for and what they are, int64 of one
    /// shape. Samples whose class is below 0, such as PyTorch's −100 for padding, are passed over.
    ///
    /// # Errors
    /// [`Error::Shape`] for a loss of several numbers, or predictions and targets of unequal numbers. Of a reading: [`Error::DType`], what
    /// kernels on a GPU met.
    pub fn add(&mut self, loss: Tensor, predictions: Tensor, targets: Tensor) -> Result<()> {
        const OP: &str = "Running::add";
        if loss.numel() != 1 {
            return Err(Error::shape(OP, format!("a loss {}", loss.shape()), "one number"));
        }
        if predictions.numel() != targets.numel() {
            let got = format!("{} predictions", predictions.numel());
            return Err(Error::shape(OP, got, format!("{}, one for each target", targets.numel())));
        }
        let flat = [targets.numel()];
        self.unread.push([loss.reshape([1])?, predictions.reshape(flat)?, targets.reshape(flat)?]);
        if self.unread.len() < EVERY { Ok(()) } else { self.read() }
    }

    /// Reads what was not read yet.
    ///
    /// # Errors
    /// As [`add`](Self::add); the batches that were not read are lost then.
    pub fn read(&mut self) -> Result<()> {
        let unread = std::mem::take(&mut self.unread);
        if unread.is_empty() {
            return Ok(());
        }
        let all = |i: usize| Tensor::concat(&unread.iter().map(|batch| &batch[i]).collect::<Vec<_>>(), 0);
        let (losses, predictions, targets) =
            (all(0)?.to_f64_vec()?, all(1)?.to_vec::<i64>()?, all(2)?.to_vec::<i64>()?);
        let mut start = 0;
        for ([_, _, of], loss) in unread.iter().zip(losses) {
            let batch = start..start + of.numel();
            start = batch.end;
            let counted = predictions[batch.clone()].iter().zip(&targets[batch]).filter(|(_, target)| **target >= 0);
            let (count, right) = counted.fold((0, 0u32), |(n, right), (a, b)| (n + 1, right + u32::from(a == b)));
            if count > 0 {
                self.loss.add(loss, count);
                self.right.add(f64::from(right) / count as f64, count);
            }
        }
        Ok(())
    }

    /// The mean loss of the samples that were read; NaN of none.
    pub fn loss(&self) -> f64 {
        self.loss.value()
    }

    /// The part of the samples that were read that was taken for what it is; NaN of none.
    pub fn accuracy(&self) -> f64 {
        self.right.value()
    }
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (loss, accuracy) = if self.loss.count() == 0 { (0.0, 0.0) } else { (self.loss(), self.accuracy()) };
        write!(f, "loss {loss:.4}  accuracy {:6.2} %", 100.0 * accuracy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;

    #[test]
    fn padding_is_passed_over_and_batches_count_by_their_samples() {
        let tensor = |values: &[i64]| Tensor::from_slice(values, [values.len()], &Device::Cpu).unwrap();
        let loss = |value: f32| Tensor::from_slice(&[value], [], &Device::Cpu).unwrap();
        let mut running = Running::new();
        assert_eq!(running.to_string(), "loss 0.0000  accuracy   0.00 %");
        running.add(loss(1.0), tensor(&[1, 2, 3]), tensor(&[1, -100, 3])).unwrap();
        running.add(loss(f32::NAN), tensor(&[1]), tensor(&[-100])).unwrap();
        running.add(loss(4.0), tensor(&[7]), tensor(&[8])).unwrap();
        assert!(running.loss().is_nan(), "nothing was read");
        running.read().unwrap();
        assert_eq!((running.loss(), running.accuracy()), (2.0, 2.0 / 3.0));
        for _ in 0..EVERY {
            running.add(loss(2.0), tensor(&[0; 3]), tensor(&[0; 3])).unwrap();
        }
        assert!(running.unread.is_empty());
        assert_eq!((running.loss(), running.accuracy()), (2.0, 62.0 / 63.0));
        assert!(matches!(running.add(loss(1.0), tensor(&[1]), tensor(&[1, 2])), Err(Error::Shape { .. })));
        assert!(matches!(running.add(tensor(&[1, 2]), tensor(&[1]), tensor(&[1])), Err(Error::Shape { .. })));
    }
}
