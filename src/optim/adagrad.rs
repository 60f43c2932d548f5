//! Adagrad.

use super::rule::{Rule, Settings, not_negative, settings};
use crate::{error::Result, kernel::Update};

/// Adagrad (Duchi et al. 2011, in its diagonal form). PyTorch's `Adagrad`.
///
/// With g the gradient plus `weight_decay`·p: s ← s + g², p ← p − lr/(1 + (t − 1)·`lr_decay`) · g/(√s + ε) in step t.
#[derive(Debug, Clone)]
pub struct Adagrad {
    lr: f64,
    lr_decay: f64,
    weight_decay: f64,
    initial_accumulator_value: f64,
    eps: f64,
    master_weights: bool,
}

impl Adagrad {
    /// With this learning rate and PyTorch's defaults: ε 10⁻¹⁰, the sum starting at 0.
    pub fn new(lr: f64) -> Self {
        Adagrad {
            lr,
            lr_decay: 0.0,
            weight_decay: 0.0,
            initial_accumulator_value: 0.0,
            eps: 1e-10,
            master_weights: false,
        }
    }
}

settings! {
    [] Adagrad;
    /// The learning rate: finite, 0 or above.
    lr: f64,
    /// The decay of the learning rate: finite, 0 or above; 0 unless set.
    lr_decay: f64,
    /// The L2 penalty: finite, 0 or above; 0 unless set.
    weight_decay: f64,
    /// What the sum of squares starts at: finite, 0 or above; 0 unless set.
    initial_accumulator_value: f64,
    /// ε: finite, 0 or above; 10⁻¹⁰ unless set.
    eps: f64,
    /// Keep each f16 and bf16 parameter in f32 beside, and move that: not unless set.
    master_weights: bool,
}

impl Rule for Adagrad {
    const NAME: &'static str = "Adagrad";
    const SLOTS: &'static [&'static str] = &["sum"];

    fn uses(&self, _slot: usize) -> bool {
        true
    }

    fn initial(&self) -> f64 {
        self.initial_accumulator_value
    }

    fn momentum_mut(&mut self) -> Option<&mut f64> {
        None
    }

    fn check(&self) -> Result<()> {
        not_negative(Self::NAME, &self.settings())
    }

    fn update(&self, step: u64, _fresh: bool) -> Update {
        Update::Adagrad { lr: self.lr, lr_decay: self.lr_decay, eps: self.eps, weight_decay: self.weight_decay, step }
    }
}
