//! The one-cycle policy.

use std::f64::consts::PI;

use super::schedule::{Rate, over};
use crate::error::{Error, Result};

/// How one rate becomes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Anneal {
    /// Along half a cosine.
    #[default]
    Cos,
    /// In a straight line.
    Linear,
}

impl Anneal {
    fn between(self, start: f64, end: f64, part: f64) -> f64 {
        match self {
            Anneal::Cos => end + (start - end) / 2.0 * (1.0 + (PI * part).cos()),
            Anneal::Linear => (end - start) * part + start,
        }
    }
}

/// Up to a greatest learning rate and down to nearly nothing, the momentum the other way round (Smith & Topin 2019).
/// PyTorch's `OneCycleLR`; step it after every batch.
///
/// From `max_lr/div_factor` to `max_lr` in the first `pct_start` of the steps, then to
/// `max_lr/div_factor/final_div_factor`; with `three_phase` first back as it came. The last of these rates is that after
/// `total_steps − 1` steps, and stays for one step more, which a loop takes behind its last batch: PyTorch goes on in its line there, to a
/// rate that no batch uses and that may be below 0.
#[derive(Debug, Clone)]
pub struct OneCycleLr {
    max_lr: Vec<f64>,
    total_steps: u64,
    pct_start: f64,
    anneal: Anneal,
    cycle_momentum: bool,
    base_momentum: f64,
    max_momentum: f64,
    div_factor: f64,
    final_div_factor: f64,
    three_phase: bool,
}

over!(OneCycleLr);

impl OneCycleLr {
    /// With PyTorch's defaults: 0.3 of the steps up, cosines, momentum between 0.95 and 0.85, factors of 25 and 10⁴,
    /// two phases.
    pub fn new(max_lr: f64, total_steps: u64) -> Self {
        OneCycleLr {
            max_lr: vec![max_lr],
            total_steps,
            pct_start: 0.3,
            anneal: Anneal::Cos,
            cycle_momentum: true,
            base_momentum: 0.85,
            max_momentum: 0.95,
            div_factor: 25.0,
            final_div_factor: 1e4,
            three_phase: false,
        }
    }

    /// A greatest rate for each group, in place of one for all.
    pub fn max_lrs(mut self, max_lrs: impl Into<Vec<f64>>) -> Self {
        self.max_lr = max_lrs.into();
        self
    }

    /// The part of the steps in which the rate rises: in `[0, 1]`.
    pub fn pct_start(mut self, part: f64) -> Self {
        self.pct_start = part;
        self
    }

    /// Along cosines or in straight lines.
    pub fn anneal(mut self, anneal: Anneal) -> Self {
        self.anneal = anneal;
        self
    }

    /// Whether the momentum (β₁ for Adam) cycles too.
    pub fn cycle_momentum(mut self, cycle: bool) -> Self {
        self.cycle_momentum = cycle;
        self
    }

    /// The least momentum, at the greatest rate.
    pub fn base_momentum(mut self, momentum: f64) -> Self {
        self.base_momentum = momentum;
        self
    }

    /// The greatest momentum, at the first and last rates.
    pub fn max_momentum(mut self, momentum: f64) -> Self {
        self.max_momentum = momentum;
        self
    }

    /// The first rate is `max_lr` over this: above 0.
    pub fn div_factor(mut self, factor: f64) -> Self {
        self.div_factor = factor;
        self
    }

    /// The last rate is the first over this: above 0.
    pub fn final_div_factor(mut self, factor: f64) -> Self {
        self.final_div_factor = factor;
        self
    }

    /// Whether the rate goes back to the first before it goes to the last.
    pub fn three_phase(mut self, three: bool) -> Self {
        self.three_phase = three;
        self
    }

    fn greatest(&self, group: usize) -> f64 {
        self.max_lr.get(group).or(self.max_lr.first()).copied().unwrap_or(f64::NAN)
    }

    /// From which of (first, greatest, last) to which a step goes, and how far.
    fn phase(&self, step: u64) -> (Point, Point, f64) {
        let (total, rising) = (self.total_steps as f64, self.pct_start * self.total_steps as f64);
        let mut phases = vec![(rising - 1.0, Point::First, Point::Greatest)];
        if self.three_phase {
            phases.push((2.0 * rising - 2.0, Point::Greatest, Point::First));
            phases.push((total - 1.0, Point::First, Point::Last));
        } else {
            phases.push((total - 1.0, Point::Greatest, Point::Last));
        }
        let step = step as f64;
        let mut start = 0.0;
        let last = phases.len() - 1;
        for &(end, from, to) in &phases[..last] {
            if step <= end {
                return (from, to, part(step, start, end));
            }
            start = end;
        }
        let (end, from, to) = phases[last];
        (from, to, part(step, start, end))
    }
}

/// How far a step is between two others; all the way beyond the second, and where there is nothing between them.
fn part(step: f64, start: f64, end: f64) -> f64 {
    if end <= start { 1.0 } else { ((step - start) / (end - start)).min(1.0) }
}

#[derive(Clone, Copy, PartialEq)]
enum Point {
    First,
    Greatest,
    Last,
}

impl Rate for OneCycleLr {
    const NAME: &'static str = "OneCycleLR";

    fn check(&self, groups: usize) -> Result<()> {
        let wrong = |got: String, want: &str| Err(Error::argument(Self::NAME, got, want));
        if self.max_lr.len() != 1 && self.max_lr.len() != groups {
            return wrong(
                format!("{} greatest rates", self.max_lr.len()),
                &format!("1 or {groups}, one of each group"),
            );
        }
        if let Some(lr) = self.max_lr.iter().find(|lr| !(lr.is_finite() && **lr >= 0.0)) {
            return wrong(format!("max_lr {lr}"), "a finite number of 0 or above");
        }
        if self.total_steps == 0 {
            return wrong("total_steps 0".into(), "1 or above");
        }
        if !(0.0..=1.0).contains(&self.pct_start) {
            return wrong(format!("pct_start {}", self.pct_start), "a number in [0, 1]");
        }
        for (name, factor) in [("div_factor", self.div_factor), ("final_div_factor", self.final_div_factor)] {
            if !(factor.is_finite() && factor > 0.0) {
                return wrong(format!("{name} {factor}"), "a finite number above 0");
            }
        }
        Ok(())
    }

    fn base(&self, group: usize, _lr: f64) -> f64 {
        self.greatest(group) / self.div_factor
    }

    fn rate(&self, base: f64, group: usize, step: u64) -> f64 {
        let at = |point| match point {
            Point::First => base,
            Point::Greatest => self.greatest(group),
            Point::Last => base / self.final_div_factor,
        };
        let (from, to, part) = self.phase(step);
        self.anneal.between(at(from), at(to), part)
    }

    fn momentum(&self, step: u64) -> Option<f64> {
        let at = |point| if point == Point::Greatest { self.base_momentum } else { self.max_momentum };
        let (from, to, part) = self.phase(step);
        self.cycle_momentum.then(|| self.anneal.between(at(from), at(to), part))
    }

    fn momenta(&self) -> Option<(f64, f64)> {
        self.cycle_momentum.then_some((self.base_momentum, self.max_momentum))
    }

    fn last(&self) -> Option<u64> {
        Some(self.total_steps)
    }
}
