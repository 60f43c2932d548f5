//! One schedule after another.

use std::fmt;

use super::schedule::{Rate, over};
use crate::error::{Error, Result};

/// A [`Rate`] behind a pointer.
trait Part: Send + Sync {
    fn name(&self) -> &'static str;
    fn check(&self, groups: usize) -> Result<()>;
    fn rate(&self, lr: f64, group: usize, step: u64) -> f64;
    fn momentum(&self, step: u64) -> Option<f64>;
    fn momenta(&self) -> Option<(f64, f64)>;
    fn last(&self) -> Option<u64>;
}

impl<R: Rate + Send + Sync> Part for R {
    fn name(&self) -> &'static str {
        R::NAME
    }
    fn check(&self, groups: usize) -> Result<()> {
        Rate::check(self, groups)
    }
    fn rate(&self, lr: f64, group: usize, step: u64) -> f64 {
        Rate::rate(self, self.base(group, lr), group, step)
    }
    fn momentum(&self, step: u64) -> Option<f64> {
        Rate::momentum(self, step)
    }
    fn momenta(&self) -> Option<(f64, f64)> {
        Rate::momenta(self)
    }
    fn last(&self) -> Option<u64> {
        Rate::last(self)
    }
}

/// One rate after another, each from its milestone on. PyTorch's `SequentialLR`.
///
/// Each counts its steps from its own milestone, and starts from the rate that its group had when the whole was started, not from where
/// the one before has left it.
///
/// ```
/// use gatefold::{Device, DType, Parameter, Tensor, optim::{CosineAnnealingLr, LambdaLr, SequentialLr, Sgd}};
/// let w = Parameter::new(Tensor::zeros(3, DType::F32, &Device::Cpu)?);
/// let mut optimizer = Sgd::new(0.5).over([&w])?;
/// let rate = SequentialLr::new(LambdaLr::warmup(4)).then(4, CosineAnnealingLr::new(100));
/// let mut schedule = rate.over(&mut optimizer)?;
/// assert_eq!(optimizer.lr(), 0.125);
/// for _ in 0..4 {
///     schedule.step(&mut optimizer)?;
/// }
/// assert_eq!(optimizer.lr(), 0.5);
/// # Ok::<(), gatefold::Error>(())
/// ```
pub struct SequentialLr {
    /// With the step from which each holds.
    parts: Vec<(u64, Box<dyn Part>)>,
}

over!(SequentialLr);

impl SequentialLr {
    /// Begins with a rate.
    pub fn new(first: impl Rate + Send + Sync + 'static) -> Self {
        SequentialLr { parts: vec![(0, Box::new(first))] }
    }

    /// Goes on with another from step `milestone`, which is above that of the one before.
    pub fn then(mut self, milestone: u64, next: impl Rate + Send + Sync + 'static) -> Self {
        self.parts.push((milestone, Box::new(next)));
        self
    }

    /// The rate that holds at a step, and its own step.
    fn at(&self, step: u64) -> (&dyn Part, u64) {
        let behind = self.parts.partition_point(|(milestone, _)| *milestone <= step).max(1);
        let (milestone, part) = &self.parts[behind - 1];
        (&**part, step - milestone)
    }
}

impl fmt::Debug for SequentialLr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SequentialLr ")?;
        f.debug_map().entries(self.parts.iter().map(|(milestone, part)| (milestone, part.name()))).finish()
    }
}

impl Rate for SequentialLr {
    const NAME: &'static str = "SequentialLR";

    fn check(&self, groups: usize) -> Result<()> {
        for pair in self.parts.windows(2) {
            let [(start, part), (end, _)] = pair else { continue };
            if end <= start {
                return Err(Error::argument(
                    Self::NAME,
                    format!("milestone {end} behind {start}"),
                    "milestones that grow",
                ));
            }
            if let Some(last) = part.last().filter(|&last| end - start - 1 > last) {
                let got = format!("{} steps of {}", end - start - 1, part.name());
                return Err(Error::argument(Self::NAME, got, format!("at most {last}")));
            }
        }
        self.parts.iter().try_for_each(|(_, part)| part.check(groups))
    }

    fn rate(&self, base: f64, group: usize, step: u64) -> f64 {
        let (part, step) = self.at(step);
        part.rate(base, group, step)
    }

    fn momentum(&self, step: u64) -> Option<f64> {
        let (part, step) = self.at(step);
        part.momentum(step)
    }

    fn momenta(&self) -> Option<(f64, f64)> {
        let all = self.parts.iter().filter_map(|(_, part)| part.momenta());
        // Not f64::min, which passes NaN over.
        let lesser = |a: f64, b: f64| if b < a || b.is_nan() { b } else { a };
        let greater = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
        all.reduce(|a, b| (lesser(a.0, b.0), greater(a.1, b.1)))
    }

    fn last(&self) -> Option<u64> {
        let (milestone, part) = self.parts.last()?;
        part.last()?.checked_add(*milestone)
    }
}
