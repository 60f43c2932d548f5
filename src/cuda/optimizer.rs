//! Optimizer steps. What is the same for every element is computed here, in f64, as the CPU does.

use super::{Buffer, abi, launch::float};
use crate::{error::Result, kernel::Update};

pub fn update(update: &Update, parameter: &mut Buffer, gradient: &Buffer, state: &mut [&mut Buffer]) -> Result<()> {
    let (context, name) = (parameter.context(), float("optimizer step", parameter.dtype())?);
    let (p, g, count) = (parameter.address(), gradient.address(), parameter.len() as u64);
    let mut states = state.iter().map(|s| s.address());
    // 0 where the update keeps no such state, or has none in this form.
    let mut next = |kept: bool| if kept { states.next().unwrap_or(0) } else { 0 };
    let grid = context.spread(parameter.len());
    match *update {
        Update::Sgd { lr, momentum, dampening, weight_decay, nesterov } => {
            let parameters = abi::Sgd {
                p,
                g,
                buffer: next(momentum != 0.0),
                count,
                lr,
                momentum,
                keep: 1.0 - dampening,
                decay: weight_decay,
                nesterov: nesterov.into(),
                unused: 0,
            };
            context.launch("sgd", name, &grid, &parameters)
        }
        Update::Adam { lr, beta1, beta2, eps, weight_decay, decoupled, amsgrad, step } => {
            let steps = step as f64;
            let parameters = abi::Adam {
                p,
                g,
                m: next(true),
                v: next(true),
                top: next(amsgrad),
                count,
                shrink: if decoupled { 1.0 - lr * weight_decay } else { 1.0 },
                decay: if decoupled { 0.0 } else { weight_decay },
                m_weight: 1.0 - beta1,
                beta2,
                v_weight: 1.0 - beta2,
                eps,
                size: lr / (1.0 - beta1.powf(steps)),
                root: (1.0 - beta2.powf(steps)).sqrt(),
            };
            context.launch("adam", name, &grid, &parameters)
        }
        Update::RmsProp { lr, alpha, eps, weight_decay, momentum, centered } => {
            let parameters = abi::RmsProp {
                p,
                g,
                v: next(true),
                mean: next(centered),
                buffer: next(momentum != 0.0),
                count,
                lr,
                alpha,
                v_weight: 1.0 - alpha,
                eps,
                decay: weight_decay,
                momentum,
            };
            context.launch("rmsprop", name, &grid, &parameters)
        }
        Update::Adagrad { lr, lr_decay, eps, weight_decay, step } => {
            let parameters = abi::Adagrad {
                p,
                g,
                sum: next(true),
                count,
                rate: lr / (1.0 + (step as f64 - 1.0) * lr_decay),
                eps,
                decay: weight_decay,
                unused: 0.0,
            };
            context.launch("adagrad", name, &grid, &parameters)
        }
    }
}
