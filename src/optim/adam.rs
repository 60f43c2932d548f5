//! Adam and its sister with decoupled weight decay.

use super::rule::{Rule, below_one, not_negative, settings};
use crate::{error::Result, kernel::Update};

/// Adam (Kingma & Ba 2015, algorithm 1). PyTorch's `Adam`: its formula and settings are those of [`Adaptive`].
///
/// ```
/// use gatefold::{Device, Philox, nn::Lstm, optim::Adam};
/// let lstm = Lstm::new(6, 4).init(&Device::Cpu, &mut Philox::seed(1))?;
/// let optimizer = Adam::new(1e-3).betas(0.9, 0.98).over([&lstm])?;
/// # Ok::<(), gatefold::Error>(())
/// ```
pub type Adam = Adaptive<false>;

/// Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2). PyTorch's `AdamW`: see [`Adaptive`].
pub type AdamW = Adaptive<true>;

/// What [`Adam`] and [`AdamW`] have in common.
///
/// m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε). The weight decay λ is
/// an L2 penalty, g + λp, in [`Adam`]; in [`AdamW`] the parameter itself is first scaled by 1 − lr·λ. With `amsgrad`
/// (Reddi et al. 2018) the greatest v so far stands for v.
#[derive(Debug, Clone)]
pub struct Adaptive<const DECOUPLED: bool> {
    lr: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    amsgrad: bool,
    master_weights: bool,
}

impl<const DECOUPLED: bool> Adaptive<DECOUPLED> {
    /// With this learning rate and PyTorch's defaults: β 0.9 and 0.999, ε 10⁻⁸, weight decay 0 (Adam) or 0.01 (AdamW).
    pub fn new(lr: f64) -> Self {
        let weight_decay = if DECOUPLED { 0.01 } else { 0.0 };
        Adaptive { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay, amsgrad: false, master_weights: false }
    }

    /// β₁ and β₂: each in `[0, 1)`.
    pub fn betas(self, beta1: f64, beta2: f64) -> Self {
        self.beta1(beta1).beta2(beta2)
    }
}

settings! {
    [const DECOUPLED: bool] Adaptive<DECOUPLED>;
    /// The learning rate: finite, 0 or above.
    lr: f64,
    /// β₁: in `[0, 1)`; 0.9 unless set.
    beta1: f64,
    /// β₂: in `[0, 1)`; 0.999 unless set.
    beta2: f64,
    /// ε: finite, 0 or above; 10⁻⁸ unless set.
    eps: f64,
    /// The L2 penalty ([`Adam`]) or the decay of the weights themselves ([`AdamW`]): finite, 0 or above.
    weight_decay: f64,
    /// Divide by the greatest second moment so far.
    amsgrad: bool,
    /// Keep each f16 and bf16 parameter in f32 beside, and move that: not unless set.
    master_weights: bool,
}

impl<const DECOUPLED: bool> Rule for Adaptive<DECOUPLED> {
    const NAME: &'static str = if DECOUPLED { "AdamW" } else { "Adam" };
    const SLOTS: &'static [&'static str] = &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"];

    fn uses(&self, slot: usize) -> bool {
        slot < 2 || self.amsgrad
    }

    /// β₁, as PyTorch's schedules have it.
    fn momentum_mut(&mut self) -> Option<&mut f64> {
        Some(&mut self.beta1)
    }

    fn check(&self) -> Result<()> {
        let Adaptive { lr, beta1, beta2, eps, weight_decay, .. } = *self;
        not_negative(Self::NAME, &[("lr", lr), ("eps", eps), ("weight_decay", weight_decay)])?;
        below_one(Self::NAME, &[("beta1", beta1), ("beta2", beta2)])
    }

    fn update(&self, step: u64, _fresh: bool) -> Update {
        Update::Adam {
            lr: self.lr,
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            weight_decay: self.weight_decay,
            decoupled: DECOUPLED,
            amsgrad: self.amsgrad,
            step,
        }
    }
}
