//! Early stopping.

use crate::{
    error::{Error, Result},
    optim::{Mode, State},
};

const NAME: &str = "EarlyStopping";

/// Ends a training that no longer gets better.
///
/// ```
/// use gatefold::{optim::Mode, train::EarlyStopping};
/// let mut stopping = EarlyStopping::new(Mode::Min, 2)?;
/// let losses = [0.9, 0.5, 0.6, 0.5, 0.4];
/// let epochs = losses.iter().take_while(|&&loss| !stopping.step(loss)).count();
/// assert_eq!((epochs, stopping.best()), (3, Some(0.5)));
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct EarlyStopping {
    mode: Mode,
    patience: u64,
    min_delta: f64,
    best: Option<f64>,
    bad: u64,
}

impl EarlyStopping {
    /// Stops when a metric has not improved for `patience` steps.
    ///
    /// # Errors
    /// [`Error::Argument`] for a patience of 0.
    pub fn new(mode: Mode, patience: u64) -> Result<Self> {
        if patience == 0 {
            return Err(Error::argument(NAME, "patience 0", "at least 1 step"));
        }
        Ok(EarlyStopping { mode, patience, min_delta: 0.0, best: None, bad: 0 })
    }

    /// How much better is better: 0 unless set; its sign does not matter.
    pub fn min_delta(mut self, delta: f64) -> Self {
        self.min_delta = delta.abs();
        self
    }

    /// Takes the metric of a step (an epoch, say); `true` when it is time to stop. A NaN is no improvement.
    pub fn step(&mut self, metric: f64) -> bool {
        let improved = match (self.best, self.mode) {
            (None, _) => !metric.is_nan(),
            (Some(best), Mode::Min) => metric < best - self.min_delta,
            (Some(best), Mode::Max) => metric > best + self.min_delta,
        };
        if improved {
            (self.best, self.bad) = (Some(metric), 0);
        } else {
            self.bad += 1;
        }
        self.bad >= self.patience
    }

    /// Whether the last step was the best so far: the moment to keep a model.
    pub fn improved(&self) -> bool {
        self.best.is_some() && self.bad == 0
    }

    /// The best metric so far.
    pub fn best(&self) -> Option<f64> {
        self.best
    }

    /// What it needs to go on, for a checkpoint. The settings are not in it.
    pub fn state(&self) -> State {
        let mut state = State::new(NAME);
        state.numbers.extend(self.best.map(|best| ("best".to_string(), best)));
        state.numbers.insert("bad".into(), self.bad as f64);
        state
    }

    /// Goes on from a state.
    ///
    /// # Errors
    /// [`Error::Argument`] for the state of something else, [`Error::StateDict`] where its count of steps is missing or none, or its best
    /// metric is NaN; nothing is changed then.
    pub fn load_state(&mut self, state: &State) -> Result<()> {
        const OP: &str = "EarlyStopping::load_state";
        state.expect_kind(OP, NAME)?;
        let (bad, best) = (state.count(OP, "bad")?, state.numbers.get("best").copied());
        if best.is_some_and(f64::is_nan) {
            let misshaped = vec!["best: got NaN, want a metric".to_string()];
            return Err(Error::StateDict { op: OP, missing: Vec::new(), unexpected: Vec::new(), misshaped });
        }
        (self.bad, self.best) = (bad, best);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_deltas() {
        let run = |mode, delta, metrics: &[f64]| {
            let mut stopping = EarlyStopping::new(mode, 2).unwrap().min_delta(delta);
            metrics.iter().map(|&metric| (stopping.step(metric), stopping.improved())).collect::<Vec<_>>()
        };
        let (go, better, stop) = ((false, false), (false, true), (true, false));
        assert_eq!(run(Mode::Min, 0.0, &[1.0, 0.9, 0.9, f64::NAN]), [better, better, go, stop]);
        assert_eq!(run(Mode::Max, 0.0, &[1.0, 0.9, 1.1, 1.1]), [better, go, better, go]);
        assert_eq!(run(Mode::Min, 0.2, &[1.0, 0.9, 0.79, 0.7, 0.6]), [better, go, better, go, stop]);
        assert_eq!(run(Mode::Min, 0.0, &[f64::NAN, f64::NAN]), [go, stop]);
        assert!(EarlyStopping::new(Mode::Min, 0).is_err());
    }

    #[test]
    fn goes_on() {
        let mut a = EarlyStopping::new(Mode::Max, 3).unwrap();
        [0.1, 0.5, 0.4].iter().for_each(|&metric| _ = a.step(metric));
        let mut b = EarlyStopping::new(Mode::Max, 3).unwrap();
        b.load_state(&a.state()).unwrap();
        assert_eq!(a, b);
        assert!(b.load_state(&State::new("Adam")).is_err());
        for (name, number) in
            [("bad", f64::INFINITY), ("bad", f64::NAN), ("bad", 0.5), ("bad", -1.0), ("best", f64::NAN)]
        {
            let mut state = a.state();
            state.numbers.insert(name.into(), number);
            assert!(matches!(b.load_state(&state), Err(Error::StateDict { .. })), "{name} {number}");
            assert_eq!(a, b);
        }
    }
}
