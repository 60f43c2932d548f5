//! Optimizer steps. What is the same for every element is computed here, in f64, as the CPU does.

use super::{
    Buffer, abi,
    launch::float,
    multi_tensor::{Column, Table, column, launches},
};
use crate::{
    error::Result,
    kernel::{Step, Update},
};

pub fn update(steps: &mut [Step<'_, Buffer>]) -> Result<()> {
    launches(steps, |step| step.parameter, |step| step.update, launch)
}

/// One launch over parameters of one dtype and update.
fn launch(steps: &[&Step<'_, Buffer>], table: &Table) -> Result<()> {
    let &Step { parameter: ref first, update, .. } = steps[0];
    let (context, name) = (first.context(), float("optimizer step", first.dtype())?);
    let p = column(steps.iter().map(|step| step.parameter.address()));
    let g = column(steps.iter().map(|step| step.gradient.address()));
    let &Table { count, first, tensors, .. } = table;
    let grid = table.grid();
    let mut slot = 0;
    // The next state of each; 0 where the update keeps no such state, or has none in this form.
    let mut next = |kept: bool| -> Column {
        if !kept {
            return column(std::iter::empty());
        }
        slot += 1;
        column(steps.iter().map(|step| step.state[slot - 1].as_ref().map_or(0, |state| state.address())))
    };
    match update {
        Update::Sgd { lr, momentum, dampening, weight_decay, nesterov } => {
            let parameters = abi::Sgd {
                p,
                g,
                buffer: next(momentum != 0.0),
                count,
                first,
                tensors,
                nesterov: nesterov.into(),
                lr,
                momentum,
                keep: 1.0 - dampening,
                decay: weight_decay,
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
                first,
                tensors,
                unused: 0,
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
                first,
                tensors,
                unused: 0,
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
                first,
                tensors,
                unused: 0,
                rate: lr / (1.0 + (step as f64 - 1.0) * lr_decay),
                eps,
                decay: weight_decay,
            };
            context.launch("adagrad", name, &grid, &parameters)
        }
    }
}
