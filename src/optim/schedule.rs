//! Learning rates that change by the number of the step.

use std::f64::consts::PI;

use super::{optimizer::Optim, state::State};
use crate::error::{Error, Result};

/// A learning rate as a function of the step: what a [`Schedule`] follows. Implement it for one of your own.
pub trait Rate {
    /// What it is called in a state.
    const NAME: &'static str;

    /// `Err` for a setting outside its range; `groups` is the number of groups of the optimizer.
    fn check(&self, groups: usize) -> Result<()> {
        let _ = groups;
        Ok(())
    }

    /// What a group starts from, given the rate that it has.
    fn base(&self, group: usize, lr: f64) -> f64 {
        let _ = group;
        lr
    }

    /// The rate of a group after `step` steps.
    fn rate(&self, base: f64, group: usize, step: u64) -> f64;

    /// The momentum after `step` steps; `None` leaves it alone.
    fn momentum(&self, step: u64) -> Option<f64> {
        let _ = step;
        None
    }

    /// The least and the greatest momentum that it sets, where it does: tried on the optimizer when it starts. To be overridden together with
    /// [`momentum`](Self::momentum).
    fn momenta(&self) -> Option<(f64, f64)> {
        None
    }

    /// The last step that it is made for.
    fn last(&self) -> Option<u64> {
        None
    }
}

/// A rate at work on the groups of an optimizer.
///
/// Made by `over`, which sets the rates of step 0 as PyTorch's constructors do; then [`step`](Self::step) after each
/// epoch or each optimizer step, whichever the rate is counted in. Every rate is computed from the one that its group
/// started from, so nothing drifts: what else has set the rate in between is overwritten. So two schedules of one optimizer do not
/// multiply, as they do in PyTorch's recursive forms: the last one that is stepped sets the rate. And what a group starts from is the rate
/// that it has then, not PyTorch's `initial_lr`: one that is made behind another starts from what that has set. One after the other they are a
/// [`SequentialLr`](super::SequentialLr), a product is a [`LambdaLr`].
///
/// ```
/// use gatefold::{Device, DType, Parameter, Tensor, optim::{Sgd, StepLr}};
/// let w = Parameter::new(Tensor::zeros(3, DType::F32, &Device::Cpu)?);
/// let mut optimizer = Sgd::new(0.5).over([&w])?;
/// let mut schedule = StepLr::new(2, 0.1).over(&mut optimizer)?;
/// schedule.step(&mut optimizer)?;
/// assert_eq!(optimizer.lr(), 0.5);
/// schedule.step(&mut optimizer)?;
/// assert_eq!(optimizer.lr(), 0.05);
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Schedule<R> {
    rate: R,
    base: Vec<f64>,
    step: u64,
}

impl<R: Rate> Schedule<R> {
    /// Starts a rate on an optimizer.
    ///
    /// # Errors
    /// [`Error::Argument`] for settings outside their range, and where the rate cycles the momentum of an optimizer
    /// that has none.
    pub fn new(rate: R, optimizer: &mut dyn Optim) -> Result<Self> {
        let lrs = optimizer.lrs();
        rate.check(lrs.len())?;
        // What would be refused in the middle of a run is refused here.
        if let Some((least, greatest)) = rate.momenta() {
            optimizer.takes_momentum(least)?;
            optimizer.takes_momentum(greatest)?;
        }
        let base = lrs.iter().enumerate().map(|(group, &lr)| rate.base(group, lr)).collect();
        let schedule = Schedule { rate, base, step: 0 };
        schedule.apply(0, optimizer)?;
        Ok(schedule)
    }

    /// Goes to the next step and sets the optimizer's rates.
    ///
    /// # Errors
    /// [`Error::Argument`] beyond the last step, for an optimizer with another number of groups than it started on, and for a rate or momentum
    /// out of range. Nothing is changed then.
    pub fn step(&mut self, optimizer: &mut dyn Optim) -> Result<()> {
        self.apply(self.step + 1, optimizer)?;
        self.step += 1;
        Ok(())
    }

    fn apply(&self, step: u64, optimizer: &mut dyn Optim) -> Result<()> {
        if let Some(last) = self.rate.last().filter(|&last| step > last) {
            return Err(Error::argument(R::NAME, format!("step {step}"), format!("at most {last} steps")));
        }
        let groups = optimizer.lrs().len();
        if groups != self.base.len() {
            return Err(Error::argument(
                R::NAME,
                format!("an optimizer of {groups} groups"),
                format!("the {} it started on", self.base.len()),
            ));
        }
        let before = optimizer.lrs();
        optimizer.set_lrs(&self.lrs(step))?;
        if let Some(momentum) = self.rate.momentum(step)
            && let Err(e) = optimizer.set_momentum(momentum)
        {
            // Both or neither.
            optimizer.set_lrs(&before)?;
            return Err(e);
        }
        Ok(())
    }

    fn lrs(&self, step: u64) -> Vec<f64> {
        self.base.iter().enumerate().map(|(group, &base)| self.rate.rate(base, group, step)).collect()
    }

    /// How many steps it has taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// What it needs to go on: `step` and `base.{group}`. The settings of the rate are not in it.
    pub fn state(&self) -> State {
        let mut state = State::new(R::NAME);
        state.numbers.insert("step".into(), self.step as f64);
        for (group, &base) in self.base.iter().enumerate() {
            state.numbers.insert(format!("base.{group}"), base);
        }
        state
    }

    /// Goes on from a state, and sets the optimizer's rates to those of its step.
    ///
    /// # Errors
    /// [`Error::Argument`] for the state of another schedule, [`Error::StateDict`] for one of fewer groups or more.
    pub fn load_state(&mut self, state: &State, optimizer: &mut dyn Optim) -> Result<()> {
        const OP: &str = "Schedule::load_state";
        state.expect_kind(OP, R::NAME)?;
        let known = self.state().numbers;
        let unexpected: Vec<_> = state.numbers.keys().filter(|key| !known.contains_key(*key)).cloned().collect();
        if !unexpected.is_empty() {
            return Err(Error::StateDict { op: OP, missing: Vec::new(), unexpected, misshaped: Vec::new() });
        }
        let base =
            (0..self.base.len()).map(|group| state.number(OP, &format!("base.{group}"))).collect::<Result<_>>()?;
        let loaded = std::mem::replace(&mut self.base, base);
        let step = state.count(OP, "step");
        match step.and_then(|step| self.apply(step, optimizer).map(|()| step)) {
            Ok(step) => self.step = step,
            Err(error) => {
                self.base = loaded;
                return Err(error);
            }
        }
        Ok(())
    }
}

macro_rules! over {
    ($($rate:ty),*) => {$(
        impl $rate {
            /// Starts it on an optimizer, whose rates become those of step 0.
            ///
            /// # Errors
            /// As [`Schedule::new`](crate::optim::Schedule::new).
            pub fn over(
                self,
                optimizer: &mut dyn $crate::optim::Optim,
            ) -> $crate::Result<$crate::optim::Schedule<Self>> {
                $crate::optim::Schedule::new(self, optimizer)
            }
        }
    )*};
}
pub(super) use over;
over!(StepLr, ExponentialLr, CosineAnnealingLr, LambdaLr);

/// `Err` unless γ is finite and 0 or above.
fn check_gamma(op: &'static str, gamma: f64) -> Result<()> {
    if gamma.is_finite() && gamma >= 0.0 {
        Ok(())
    } else {
        Err(Error::argument(op, format!("gamma {gamma}"), "a finite number of 0 or above"))
    }
}

/// base · γ^⌊step/`step_size`⌋. PyTorch's `StepLR`.
#[derive(Debug, Clone)]
pub struct StepLr {
    step_size: u64,
    gamma: f64,
}

impl StepLr {
    /// Multiplies by `gamma` every `step_size` steps.
    pub fn new(step_size: u64, gamma: f64) -> Self {
        StepLr { step_size, gamma }
    }
}

impl Rate for StepLr {
    const NAME: &'static str = "StepLR";

    fn check(&self, _groups: usize) -> Result<()> {
        if self.step_size == 0 {
            return Err(Error::argument(Self::NAME, "step_size 0", "1 or above"));
        }
        check_gamma(Self::NAME, self.gamma)
    }

    fn rate(&self, base: f64, _group: usize, step: u64) -> f64 {
        base * self.gamma.powf((step / self.step_size.max(1)) as f64)
    }
}

/// base · γ^step. PyTorch's `ExponentialLR`.
#[derive(Debug, Clone)]
pub struct ExponentialLr {
    gamma: f64,
}

impl ExponentialLr {
    /// Multiplies by `gamma` every step.
    pub fn new(gamma: f64) -> Self {
        ExponentialLr { gamma }
    }
}

impl Rate for ExponentialLr {
    const NAME: &'static str = "ExponentialLR";

    fn check(&self, _groups: usize) -> Result<()> {
        check_gamma(Self::NAME, self.gamma)
    }

    fn rate(&self, base: f64, _group: usize, step: u64) -> f64 {
        base * self.gamma.powf(step as f64)
    }
}

/// η + ½(base − η)(1 + cos(π·step/T)): half a cosine down to η in T steps, and up again in the next T (Loshchilov &
/// Hutter 2017, equation 5, without restarts). PyTorch's `CosineAnnealingLR`, which computes each rate from the one
/// before; its recursion has this closed form, and the two differ by rounding only, as long as nothing else sets the
/// rate.
#[derive(Debug, Clone)]
pub struct CosineAnnealingLr {
    t_max: u64,
    eta_min: f64,
}

impl CosineAnnealingLr {
    /// Down to 0 in `t_max` steps.
    pub fn new(t_max: u64) -> Self {
        CosineAnnealingLr { t_max, eta_min: 0.0 }
    }

    /// η, the least rate: finite, 0 or above; 0 unless set.
    pub fn eta_min(mut self, eta_min: f64) -> Self {
        self.eta_min = eta_min;
        self
    }
}

impl Rate for CosineAnnealingLr {
    const NAME: &'static str = "CosineAnnealingLR";

    fn check(&self, _groups: usize) -> Result<()> {
        if self.t_max == 0 {
            return Err(Error::argument(Self::NAME, "t_max 0", "1 or above"));
        }
        if !(self.eta_min.is_finite() && self.eta_min >= 0.0) {
            return Err(Error::argument(
                Self::NAME,
                format!("eta_min {}", self.eta_min),
                "a finite number of 0 or above",
            ));
        }
        Ok(())
    }

    fn rate(&self, base: f64, _group: usize, step: u64) -> f64 {
        self.eta_min + (base - self.eta_min) * (1.0 + (PI * step as f64 / self.t_max as f64).cos()) / 2.0
    }
}

/// base times a function of the step. PyTorch's `LambdaLR`.
pub struct LambdaLr(Box<dyn Fn(u64) -> f64 + Send + Sync>);

impl LambdaLr {
    /// base · `factor(step)`.
    pub fn new(factor: impl Fn(u64) -> f64 + Send + Sync + 'static) -> Self {
        LambdaLr(Box::new(factor))
    }

    /// A linear warm-up: (step + 1)/`warmup` until it is 1, then constant. The first step has a rate above 0.
    pub fn warmup(warmup: u64) -> Self {
        LambdaLr::new(move |step| rise(step, warmup))
    }

    /// [`warmup`](Self::warmup), then in a straight line to 0 at step `total`.
    pub fn warmup_then_linear(warmup: u64, total: u64) -> Self {
        let peak = warmup.saturating_sub(1);
        LambdaLr::new(move |step| {
            if step <= peak {
                rise(step, warmup)
            } else {
                total.saturating_sub(step) as f64 / total.saturating_sub(peak).max(1) as f64
            }
        })
    }
}

fn rise(step: u64, warmup: u64) -> f64 {
    if step < warmup { (step + 1) as f64 / warmup as f64 } else { 1.0 }
}

impl std::fmt::Debug for LambdaLr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LambdaLr(..)")
    }
}

impl Rate for LambdaLr {
    const NAME: &'static str = "LambdaLR";

    fn rate(&self, base: f64, _group: usize, step: u64) -> f64 {
        base * (self.0)(step)
    }
}
