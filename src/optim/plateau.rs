//! Learning rates that fall when a metric no longer improves.

use super::{optimizer::Optim, state::State};
use crate::error::{Error, Result};

/// Which way a metric improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Downwards, as a loss.
    #[default]
    Min,
    /// Upwards, as an accuracy.
    Max,
}

/// How the threshold of an improvement is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Threshold {
    /// As a part of the best so far.
    #[default]
    Relative,
    /// As it is.
    Absolute,
}

/// Multiplies the learning rate by a factor when a metric has not improved for more than `patience` steps. PyTorch's
/// `ReduceLROnPlateau`.
///
/// ```
/// use gatefold::{Device, DType, Parameter, Tensor, optim::{ReduceLrOnPlateau, Sgd}};
/// let w = Parameter::new(Tensor::zeros(3, DType::F32, &Device::Cpu)?);
/// let mut optimizer = Sgd::new(0.5).over([&w])?;
/// let mut schedule = ReduceLrOnPlateau::new().patience(1).over(&mut optimizer)?;
/// for loss in [1.0, 1.0, 1.0] {
///     schedule.step(loss, &mut optimizer)?;
/// }
/// assert_eq!(optimizer.lr(), 0.05);
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ReduceLrOnPlateau {
    mode: Mode,
    factor: f64,
    patience: u64,
    threshold: f64,
    threshold_mode: Threshold,
    cooldown: u64,
    min_lr: f64,
    eps: f64,
    best: Option<f64>,
    bad: u64,
    cooling: u64,
}

const NAME: &str = "ReduceLROnPlateau";

impl Default for ReduceLrOnPlateau {
    fn default() -> Self {
        ReduceLrOnPlateau::new()
    }
}

impl ReduceLrOnPlateau {
    /// With PyTorch's defaults: a metric that falls, factor 0.1, patience 10, relative threshold 10⁻⁴, no cooldown,
    /// no least rate, eps 10⁻⁸.
    pub fn new() -> Self {
        ReduceLrOnPlateau {
            mode: Mode::Min,
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
            threshold_mode: Threshold::Relative,
            cooldown: 0,
            min_lr: 0.0,
            eps: 1e-8,
            best: None,
            bad: 0,
            cooling: 0,
        }
    }

    /// Which way the metric improves.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// What the rate is multiplied by: in `[0, 1)`.
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// How many steps without improvement are let pass.
    pub fn patience(mut self, steps: u64) -> Self {
        self.patience = steps;
        self
    }

    /// How much better is better: finite.
    pub fn threshold(mut self, threshold: f64) -> Self {
        self.threshold = threshold;
        self
    }

    /// How the threshold is measured.
    pub fn threshold_mode(mut self, mode: Threshold) -> Self {
        self.threshold_mode = mode;
        self
    }

    /// How many steps after a reduction are not counted.
    pub fn cooldown(mut self, steps: u64) -> Self {
        self.cooldown = steps;
        self
    }

    /// The least rate: finite, 0 or above.
    pub fn min_lr(mut self, lr: f64) -> Self {
        self.min_lr = lr;
        self
    }

    /// A reduction by no more than this is not made: 0 or above.
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Starts it on an optimizer, as other schedules are: whether the settings are in their ranges shows before the first epoch. The rates
    /// stay as they are.
    ///
    /// # Errors
    /// [`Error::Argument`] for a setting outside its range.
    pub fn over(self, optimizer: &mut dyn Optim) -> Result<Self> {
        let _ = optimizer;
        self.check()?;
        Ok(self)
    }

    /// Takes the metric of an epoch, and reduces the rates of all groups if it is time. A NaN is no improvement.
    ///
    /// # Errors
    /// [`Error::Argument`] for a setting outside its range, where [`over`](Self::over) was not asked.
    pub fn step(&mut self, metric: f64, optimizer: &mut dyn Optim) -> Result<()> {
        self.check()?;
        if self.better(metric) {
            self.best = Some(metric);
            self.bad = 0;
        } else {
            self.bad += 1;
        }
        if self.cooling > 0 {
            self.cooling -= 1;
            self.bad = 0;
        }
        if self.bad > self.patience {
            let reduced = |lr: f64| {
                let lower = (lr * self.factor).max(self.min_lr);
                if lr - lower > self.eps { lower } else { lr }
            };
            let lrs: Vec<f64> = optimizer.lrs().into_iter().map(reduced).collect();
            optimizer.set_lrs(&lrs)?;
            self.cooling = self.cooldown;
            self.bad = 0;
        }
        Ok(())
    }

    fn better(&self, metric: f64) -> bool {
        let start = if self.mode == Mode::Min { f64::INFINITY } else { f64::NEG_INFINITY };
        let best = self.best.unwrap_or(start);
        match (self.mode, self.threshold_mode) {
            (Mode::Min, Threshold::Relative) => metric < best * (1.0 - self.threshold),
            (Mode::Min, Threshold::Absolute) => metric < best - self.threshold,
            (Mode::Max, Threshold::Relative) => metric > best * (1.0 + self.threshold),
            (Mode::Max, Threshold::Absolute) => metric > best + self.threshold,
        }
    }

    fn check(&self) -> Result<()> {
        let wrong = |name: &str, value: f64, want: &str| Err(Error::argument(NAME, format!("{name} {value}"), want));
        if !(0.0..1.0).contains(&self.factor) {
            return wrong("factor", self.factor, "a number in [0, 1)");
        }
        if !self.threshold.is_finite() {
            return wrong("threshold", self.threshold, "a finite number");
        }
        for (name, value) in [("min_lr", self.min_lr), ("eps", self.eps)] {
            if !(value.is_finite() && value >= 0.0) {
                return wrong(name, value, "a finite number of 0 or above");
            }
        }
        Ok(())
    }

    /// The best metric so far.
    pub fn best(&self) -> Option<f64> {
        self.best
    }

    /// What it needs to go on: `best` (once there is one), `num_bad_epochs`, `cooldown_counter`. The rates are in the
    /// optimizer's state.
    pub fn state(&self) -> State {
        let mut state = State::new(NAME);
        if let Some(best) = self.best {
            state.numbers.insert("best".into(), best);
        }
        state.numbers.insert("num_bad_epochs".into(), self.bad as f64);
        state.numbers.insert("cooldown_counter".into(), self.cooling as f64);
        state
    }

    /// Goes on from a state.
    ///
    /// # Errors
    /// [`Error::Argument`] for the state of another schedule, [`Error::StateDict`] for one that lacks a counter.
    pub fn load_state(&mut self, state: &State) -> Result<()> {
        const OP: &str = "ReduceLrOnPlateau::load_state";
        state.expect_kind(OP, NAME)?;
        let (bad, cooling) = (state.count(OP, "num_bad_epochs")?, state.count(OP, "cooldown_counter")?);
        self.best = state.numbers.get("best").copied();
        (self.bad, self.cooling) = (bad, cooling);
        Ok(())
    }
}
