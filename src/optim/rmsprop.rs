//! RMSprop.

use super::rule::{Rule, not_negative, settings};
use crate::{
    error::{Error, Result},
    kernel::Update,
};

/// RMSprop (Hinton, lecture 6e; centered: Graves 2013, equations 38 to 45). PyTorch's `RMSprop`.
///
/// With g the gradient plus `weight_decay`·p: v ← αv + (1 − α)g², and p ← p − lr·g/(√v + ε). `centered` subtracts
/// from v the square of the averaged gradient; with momentum μ: b ← μb + g/(√v + ε), p ← p − lr·b.
#[derive(Debug, Clone)]
pub struct RmsProp {
    lr: f64,
    alpha: f64,
    eps: f64,
    weight_decay: f64,
    momentum: f64,
    centered: bool,
    master_weights: bool,
}

impl RmsProp {
    /// With this learning rate and PyTorch's defaults: α 0.99, ε 10⁻⁸.
    pub fn new(lr: f64) -> Self {
        RmsProp { lr, alpha: 0.99, eps: 1e-8, weight_decay: 0.0, momentum: 0.0, centered: false, master_weights: false }
    }
}

settings! {
    [] RmsProp;
    /// The learning rate: finite, 0 or above.
    lr: f64,
    /// The smoothing α: in `[0, 1]`; 0.99 unless set.
    alpha: f64,
    /// ε: finite, 0 or above; 10⁻⁸ unless set.
    eps: f64,
    /// The L2 penalty: finite, 0 or above; 0 unless set.
    weight_decay: f64,
    /// μ: finite, 0 or above; 0 unless set.
    momentum: f64,
    /// Divide by the standard deviation instead of the root of the mean square.
    centered: bool,
    /// Keep each f16 and bf16 parameter in f32 beside, and move that: not unless set.
    master_weights: bool,
}

impl Rule for RmsProp {
    const NAME: &'static str = "RMSprop";
    const SLOTS: &'static [&'static str] = &["square_avg", "grad_avg", "momentum_buffer"];

    fn uses(&self, slot: usize) -> bool {
        match slot {
            0 => true,
            1 => self.centered,
            _ => self.momentum != 0.0,
        }
    }

    fn momentum_mut(&mut self) -> Option<&mut f64> {
        Some(&mut self.momentum)
    }

    fn check(&self) -> Result<()> {
        let RmsProp { lr, alpha, eps, weight_decay, momentum, .. } = *self;
        let settings = [("lr", lr), ("eps", eps), ("weight_decay", weight_decay), ("momentum", momentum)];
        not_negative(Self::NAME, &settings)?;
        if !(0.0..=1.0).contains(&alpha) {
            return Err(Error::argument(Self::NAME, format!("alpha {alpha}"), "a number in [0, 1]"));
        }
        Ok(())
    }

    fn update(&self, _step: u64, _fresh: bool) -> Update {
        Update::RmsProp {
            lr: self.lr,
            alpha: self.alpha,
            eps: self.eps,
            weight_decay: self.weight_decay,
            momentum: self.momentum,
            centered: self.centered,
        }
    }
}
