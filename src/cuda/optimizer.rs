//! Optimizer steps, and what a scaled loss needs beside them. What is the same for every element is computed by the host in f64, as on
//! the CPU, or by the device from a clock.

use super::{
    Buffer, abi,
    driver::Address,
    launch::float,
    multi_tensor::{Column, Table, column, launches},
};
use crate::{
    error::Result,
    kernel::{self, CLOCK, Live, ScaleRule, Step, Update},
};

const _: () = assert!(CLOCK == 1 + abi::MAX_NUMBERS && kernel::CLOCK_STILL == abi::CLOCK_STILL);
const _: () = assert!(kernel::CLOCK_ADAM == abi::CLOCK_ADAM && kernel::CLOCK_ADAGRAD == abi::CLOCK_ADAGRAD);

pub fn update(steps: &mut [Step<'_, Buffer>], live: Option<&Live<'_, Buffer>>) -> Result<()> {
    // Those that one clock belongs to are alike; without clocks that number says nothing.
    let key = |step: &Step<'_, Buffer>| (step.update, live.map(|_| step.clock), step.master.is_some());
    launches(steps, |step| step.parameter, key, |steps, table| launch(steps, table, live))
}

/// One launch over parameters of one dtype and update.
fn launch(steps: &[&Step<'_, Buffer>], table: &Table, live: Option<&Live<'_, Buffer>>) -> Result<()> {
    let &Step { parameter: ref first, update, clock, .. } = steps[0];
    let (context, name) = (first.context(), float("optimizer step", first.dtype())?);
    let p = column(steps.iter().map(|step| step.parameter.address()));
    let g = column(steps.iter().map(|step| step.gradient.address()));
    let master = column(steps.iter().map(|step| step.master.as_ref().map_or(0, |m| m.address())));
    let &Table { count, first, tensors, .. } = table;
    let (grid, numbers) = (table.grid(), update.numbers());
    let word = size_of::<f64>() as Address;
    let clock = live.map_or(0, |live| live.clocks.address() + (clock * CLOCK + 1) as Address * word);
    let skip = live.and_then(|live| live.skip).map_or(0, Buffer::address);
    let scale = live.and_then(|live| live.scale).map_or(0, Buffer::address);
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
        Update::Sgd { momentum, nesterov, .. } => {
            let buffer = next(momentum != 0.0);
            let nesterov = nesterov.into();
            let parameters =
                abi::Sgd { p, g, buffer, master, count, first, numbers, live: clock, skip, scale, tensors, nesterov };
            context.launch("sgd", name, &grid, &parameters)
        }
        Update::Adam { amsgrad, .. } => {
            let (m, v, top) = (next(true), next(true), next(amsgrad));
            let parameters = abi::Adam {
                p,
                g,
                m,
                v,
                top,
                master,
                count,
                first,
                numbers,
                live: clock,
                skip,
                scale,
                tensors,
                unused: 0,
            };
            context.launch("adam", name, &grid, &parameters)
        }
        Update::RmsProp { momentum, centered, .. } => {
            let (v, mean, buffer) = (next(true), next(centered), next(momentum != 0.0));
            let parameters = abi::RmsProp {
                p,
                g,
                v,
                mean,
                buffer,
                master,
                count,
                first,
                numbers,
                live: clock,
                skip,
                scale,
                tensors,
                unused: 0,
            };
            context.launch("rmsprop", name, &grid, &parameters)
        }
        Update::Adagrad { .. } => {
            let sum = next(true);
            let parameters =
                abi::Adagrad { p, g, sum, master, count, first, numbers, live: clock, skip, scale, tensors, unused: 0 };
            context.launch("adagrad", name, &grid, &parameters)
        }
    }
}

pub fn advance(settings: &Buffer, clocks: &mut Buffer, skip: Option<&Buffer>) -> Result<()> {
    let (context, count) = (clocks.context(), clocks.len() / CLOCK);
    let p = abi::Advance {
        settings: settings.address(),
        clocks: clocks.address(),
        skip: skip.map_or(0, Buffer::address),
        count: count as u64,
    };
    context.launch("advance", "", &context.spread(count), &p)
}

pub fn unscale(scale: Option<&Buffer>, found: &mut Buffer, xs: &mut [&mut Buffer]) -> Result<()> {
    let (context, found) = (found.context(), found.address());
    let launch = |xs: &[&&mut Buffer], table: &Table| {
        let p = abi::Unscale {
            x: column(xs.iter().map(|x| x.address())),
            count: table.count,
            first: table.first,
            scale: scale.map_or(0, Buffer::address),
            found,
            tensors: table.tensors,
            unused: 0,
        };
        context.launch("unscale", float("unscale", xs[0].dtype())?, &table.grid(), &p)
    };
    launches(xs, |x| x, |_| (), launch)
}

pub fn update_scale(by: ScaleRule, scale: &mut Buffer, steady: &mut Buffer, found: &mut Buffer) -> Result<()> {
    let context = scale.context();
    let p = abi::UpdateScale {
        scale: scale.address(),
        steady: steady.address(),
        found: found.address(),
        growth: by.growth as f32,
        backoff: by.backoff as f32,
        interval: by.interval as f32,
        unused: 0,
    };
    context.launch("update_scale", "", &context.spread(1), &p)
}
