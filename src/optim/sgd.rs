//! Stochastic gradient descent.

use super::rule::{Rule, not_negative, settings};
use crate::{
    error::{Error, Result},
    kernel::Update,
};

/// Stochastic gradient descent with momentum (Sutskever et al. 2013, in PyTorch's form). PyTorch's `SGD`.
///
/// With g the gradient plus `weight_decay`·p: b ← μb + (1 − τ)g, starting at b = g; then p ← p − lr·b, or with
/// Nesterov momentum p ← p − lr·(g + μb).
#[derive(Debug, Clone)]
pub struct Sgd {
    lr: f64,
    momentum: f64,
    dampening: f64,
    weight_decay: f64,
    nesterov: bool,
    master_weights: bool,
}

impl Sgd {
    /// Plain descent with this learning rate.
    pub fn new(lr: f64) -> Self {
        Sgd { lr, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false, master_weights: false }
    }
}

settings! {
    [] Sgd;
    /// The learning rate: finite, 0 or above.
    lr: f64,
    /// μ: finite, 0 or above; 0 unless set.
    momentum: f64,
    /// τ: finite; 0 unless set.
    dampening: f64,
    /// The L2 penalty: finite, 0 or above; 0 unless set.
    weight_decay: f64,
    /// Nesterov momentum: needs a momentum and no dampening.
    nesterov: bool,
    /// Keep each f16 and bf16 parameter in f32 beside, and move that: not unless set.
    master_weights: bool,
}

impl Rule for Sgd {
    const NAME: &'static str = "SGD";
    const SLOTS: &'static [&'static str] = &["momentum_buffer"];

    fn uses(&self, _slot: usize) -> bool {
        self.momentum != 0.0
    }

    fn momentum_mut(&mut self) -> Option<&mut f64> {
        Some(&mut self.momentum)
    }

    fn check(&self) -> Result<()> {
        let Sgd { lr, momentum, dampening, weight_decay, nesterov, .. } = *self;
        not_negative(Self::NAME, &[("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay)])?;
        if !dampening.is_finite() {
            return Err(Error::argument(Self::NAME, format!("dampening {dampening}"), "a finite number"));
        }
        if nesterov && (momentum == 0.0 || dampening != 0.0) {
            return Err(Error::argument(
                Self::NAME,
                format!("nesterov with momentum {momentum} and dampening {dampening}"),
                "a momentum above 0 and no dampening",
            ));
        }
        Ok(())
    }

    fn update(&self, _step: u64, fresh: bool) -> Update {
        Update::Sgd {
            lr: self.lr,
            momentum: self.momentum,
            // The buffer starts as the gradient itself.
            dampening: if fresh { 0.0 } else { self.dampening },
            weight_decay: self.weight_decay,
            nesterov: self.nesterov,
        }
    }
}
