//! Errors of forecasts.

use std::fmt;

use super::Mean;
use crate::error::{Error, Result};

/// Mean absolute errors of forecasts of several steps, by how many steps ahead, beside those of persistence, which says that nothing
/// changes.
///
/// ```
/// use gatefold::train::ForecastErrors;
/// let mut errors = ForecastErrors::new();
/// errors.add(20.0, &[21.0, 19.0], &[22.0, 22.0])?; // 20 now, 21 and 19 are predicted, 22 and 22 follow
/// assert_eq!((errors.model(0), errors.persistence(0), errors.skill(0)), (1.0, 2.0, 0.5));
/// assert_eq!(errors.skill(1), -0.5);
/// println!("{errors}");
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ForecastErrors {
    steps: Vec<(Mean, Mean)>,
}

impl ForecastErrors {
    /// Of no forecast yet.
    pub fn new() -> Self {
        ForecastErrors::default()
    }

    /// Adds a forecast: what the series is now, what is predicted for the steps after, what they are.
    ///
    /// # Errors
    /// [`Error::Shape`] for steps that are not as many as truths, or as those of the forecasts before; nothing is added then.
    pub fn add(&mut self, now: f64, predicted: &[f64], truth: &[f64]) -> Result<()> {
        let ahead = if self.steps.is_empty() { truth.len() } else { self.steps.len() };
        if predicted.len() != ahead || truth.len() != ahead {
            let got = format!("{} steps predicted, {} that are true", predicted.len(), truth.len());
            return Err(Error::shape("ForecastErrors::add", got, format!("{ahead} of each")));
        }
        self.steps.resize(ahead, Default::default());
        for ((model, persistence), (predicted, truth)) in self.steps.iter_mut().zip(predicted.iter().zip(truth)) {
            model.add((predicted - truth).abs(), 1);
            persistence.add((now - truth).abs(), 1);
        }
        Ok(())
    }

    /// How many steps the forecasts are of.
    pub fn ahead(&self) -> usize {
        self.steps.len()
    }

    /// The mean absolute error of what is predicted `step` + 1 steps ahead; NaN of none.
    pub fn model(&self, step: usize) -> f64 {
        self.steps.get(step).map_or(f64::NAN, |(model, _)| model.value())
    }

    /// That of saying that nothing changes.
    pub fn persistence(&self, step: usize) -> f64 {
        self.steps.get(step).map_or(f64::NAN, |(_, persistence)| persistence.value())
    }

    /// 1 − model / persistence: 0 for a model that is no better, 1 for one that is never wrong.
    pub fn skill(&self, step: usize) -> f64 {
        1.0 - self.model(step) / self.persistence(step)
    }

    /// The sum of the model's errors over the steps ahead; NaN of none.
    pub fn sum(&self) -> f64 {
        if self.steps.is_empty() { f64::NAN } else { self.steps.iter().map(|(model, _)| model.value()).sum() }
    }
}

/// A table of both errors by steps ahead.
impl fmt::Display for ForecastErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "steps ahead  model    persistence")?;
        for step in 0..self.ahead() {
            writeln!(f, "{:11}  {:<7.3}  {:.3}", step + 1, self.model(step), self.persistence(step))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_by_step() {
        let mut errors = ForecastErrors::new();
        assert!(errors.sum().is_nan() && errors.model(0).is_nan() && errors.skill(0).is_nan());
        errors.add(1.0, &[2.0, 3.0], &[2.0, 5.0]).unwrap();
        errors.add(0.0, &[2.0, 3.0], &[1.0, -1.0]).unwrap();
        assert_eq!((errors.ahead(), errors.model(0), errors.model(1), errors.sum()), (2, 0.5, 3.0, 3.5));
        assert_eq!((errors.persistence(0), errors.persistence(1)), (1.0, 2.5));
        let table = "steps ahead  model    persistence\n          1  0.500    1.000\n          2  3.000    2.500\n";
        assert_eq!(errors.to_string(), table);
        let before = errors.clone();
        for (predicted, truth) in [(&[1.0][..], &[1.0][..]), (&[1.0, 2.0], &[1.0]), (&[1.0], &[1.0, 2.0])] {
            assert!(matches!(errors.add(0.0, predicted, truth), Err(Error::Shape { .. })));
        }
        assert_eq!(errors, before);
        assert!(ForecastErrors::new().add(0.0, &[], &[1.0]).is_err());
    }
}
