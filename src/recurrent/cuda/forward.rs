//! Forward: a layer's input product, then its steps.

use std::ops::Range;

use super::{
    super::{Buf, Forward, Nonlinearity, Plan, Stream},
    Cell, Lane, Matrix, Net, ParameterKind, Run, Weights,
    order::Order,
    persistent,
    space::{ForwardSpace, LayerReserve, Space},
};
use crate::{
    cuda::recurrent::{RecurrentBias, RecurrentStates, RecurrentStep},
    error::Result,
};

pub(in super::super) fn forward(plan: &Plan, ordinal: usize, stream: &Stream, call: Forward<'_>) -> Result<()> {
    let training = call.reserve.is_some();
    let net = Net::of(plan, false);
    let space = ForwardSpace::new(&net, training, &mut Space::new(call.workspace.address()));
    let run = Run::new(plan, net, ordinal, stream, call.sequence, space.common.tables)?;
    let own = |b: Option<u64>| b.unwrap_or(0);
    let mut addresses = vec![
        1,
        call.x.address(),
        own(call.h0.map(|b| b.address())),
        own(call.c0.map(|b| b.address())),
        call.y.address(),
        call.hn.address(),
        own(call.cn.as_ref().map(|b| b.address())),
        call.workspace.address(),
        own(call.reserve.as_ref().map(|b| b.address())),
    ];
    addresses.extend(call.parameters.iter().map(Buf::address));
    let drops = training && run.net.dropout > 0.0;
    let seed_at = if drops { run.main.seed(space.common.seed, call.dropout_seed)? } else { 0 };
    let queued = run.replay(addresses, || queue(&run, &space, &call, seed_at));
    // Also behind an error: part of the work may be under way.
    let released = run.release(stream);
    queued.and(released)
}

/// Queues all of a call's work.
fn queue(run: &Run<'_>, space: &ForwardSpace, call: &Forward<'_>, seed_at: u64) -> Result<()> {
    let (net, order) = (&run.net, &run.order);
    let training = call.reserve.is_some();
    let reserve = call.reserve.as_ref().map(|reserve| LayerReserve::all(net, &mut Space::new(reserve.address())));
    let x = run.rows_in(call.x.address(), space.common.x, net.input)?;
    let h_first = run.hidden_in(call.h0, space.common.h_first)?;
    let c_first = run.cells_in(call.c0, space.common.c_first)?;
    persistent::clear_flags(run, space.flags)?;
    run.fork()?;

    // Where the rows go on to the caller as they lie, the last layer writes them there.
    let direct = order.strides.is_none();
    let y = |l: usize| match &reserve {
        Some(reserve) => reserve[l].y,
        None if direct && l + 1 == net.layers => call.y.address(),
        None => space.y[l],
    };
    let mut passes = Vec::with_capacity(net.states());
    for l in 0..net.layers {
        let below = match (l.checked_sub(1), &reserve) {
            (None, _) => x,
            (Some(below), Some(reserve)) if net.dropout > 0.0 => reserve[below].dropped,
            (Some(below), _) => y(below),
        };
        for d in 0..net.directions {
            let i = l * net.directions + d;
            let state = |base: u64, width: usize| if base == 0 { 0 } else { run.at(base, i * net.batch * width) };
            let own = reserve.as_ref().map(|reserve| &reserve[l]);
            passes.push(Pass {
                run,
                lane: run.lane(l, d),
                weights: run.weights(call.parameters, l, d),
                layer: l,
                reverse: d == 1,
                below,
                bias: space.bias[i],
                q: space.q[i],
                pre: space.pre[i],
                gates: own.map_or(0, |own| own.gates[d]),
                kept: own.map_or(space.kept[i], |own| own.kept[d]),
                exchange: space.exchange[i],
                initial: space.initial[i],
                cells: own.map_or(space.c[i], |own| own.cells[d]),
                training,
                h_first: state(h_first, net.output),
                c_first: if c_first == 0 { 0 } else { run.real_at(c_first, i * net.batch * net.hidden) },
                y: run.at(y(l), d * net.output),
            });
        }
    }
    passes.iter().try_for_each(Pass::sum_biases)?;
    let last_states = (call.hn.address(), call.cn.as_ref().map(|cn| cn.address()));

    for (l, k) in run.waves() {
        let steps = net.stretch(order.steps(), k);
        for d in 0..net.directions {
            let i = l * net.directions + d;
            let pass = &passes[i];
            if l > 0 {
                pass.lane.wait_for(run.lane(l - 1, 0))?;
            }
            if net.persistent.is_some() {
                pass.input(steps.clone())?;
                continue;
            }
            pass.steps(steps.clone())?;
            if k + 1 == net.stretches {
                // Now, for in inference a layer further on takes over this one's memory.
                pass.last_states(pass.lane, i, last_states)?;
            }
        }
        let first = run.meet(l)?;
        if let Some(tiling) = &net.persistent {
            let own = &passes[l * net.directions..][..net.directions];
            persistent::forward(run, first, tiling, own, steps.clone(), persistent::flags(run, space.flags, (l, k)))?;
            if k + 1 == net.stretches {
                for (d, pass) in own.iter().enumerate() {
                    pass.last_states(first, l * net.directions + d, last_states)?;
                }
            }
        }
        if let Some(reserve) = &reserve
            && net.dropout > 0.0
            && l + 1 < net.layers
            && !steps.is_empty()
        {
            let mask = (seed_at, l as u64, net.dropout);
            let (from, to) = (order.at(steps.start) * net.width(), order.at(steps.end) * net.width());
            first.drop_out(net.dtype, mask, (reserve[l].y, reserve[l].dropped), (from, to - from))?;
        }
    }
    run.join()?;
    let last = y(net.layers - 1);
    if !direct {
        run.rows_out(last, call.y.address(), net.width())?;
    } else if training {
        run.main.copy(last, call.y.address(), order.rows() * net.width() * net.size())?;
    }
    Ok(())
}

/// One layer and direction.
pub(super) struct Pass<'a> {
    run: &'a Run<'a>,
    lane: Lane,
    pub weights: Weights,
    layer: usize,
    pub reverse: bool,
    /// The layer's input `[rows, width]`.
    below: u64,
    pub bias: u64,
    q: u64,
    pre: u64,
    /// In inference none.
    pub gates: u64,
    pub kept: u64,
    pub exchange: u64,
    pub initial: u64,
    /// Training: of all rows. Inference: of the batch, in place.
    pub cells: u64,
    pub training: bool,
    pub h_first: u64,
    pub c_first: u64,
    /// This direction's columns of the output.
    pub y: u64,
}

impl Pass<'_> {
    fn sum_biases(&self) -> Result<()> {
        let net = &self.run.net;
        let fill = RecurrentBias {
            ih: self.weights.get(ParameterKind::BiasIh),
            hh: self.weights.get(ParameterKind::BiasHh),
            to: self.bias,
            gates: (net.cell.gates() * net.hidden) as u64,
            hidden: net.hidden as u64,
            split: (if net.cell == Cell::Gru { 2 * net.hidden } else { net.gates }) as u64,
        };
        self.lane.launch("recurrent_bias", net.dtype, net.gates, &fill)
    }

    /// Whether the pre-activations lie where the gates are kept.
    fn in_place(&self) -> bool {
        self.training && self.run.net.dtype == self.run.net.real
    }

    /// Pre-activations of the rows from `first` on.
    pub fn pre(&self, first: usize) -> u64 {
        if self.in_place() { self.run.real_at(self.gates, first * self.run.net.gates) } else { self.pre }
    }

    /// x W_ih of those steps.
    fn input(&self, steps: Range<usize>) -> Result<()> {
        let (run, net, order) = (self.run, &self.run.net, &self.run.order);
        let (k, first) = (net.layer_input(self.layer), order.at(steps.start));
        let (rows, pre) = (order.at(steps.end) - first, self.pre(first));
        let below = Matrix::new(run.at(self.below, first * k), k);
        for (column, row, count) in net.input_gates() {
            let w = Matrix::new(run.at(self.weights.get(ParameterKind::WeightIh), row * k), k).t();
            let to = Matrix::new(run.real_at(pre, column), net.gates);
            run.multiply(self.lane, (rows, count, k), below, w, to, false)?;
        }
        Ok(())
    }

    fn steps(&self, steps: Range<usize>) -> Result<()> {
        if steps.is_empty() {
            return Ok(());
        }
        self.input(steps.clone())?;
        let (run, net, order) = (self.run, &self.run.net, &self.run.order);
        let first = order.at(steps.start);
        let pre = self.pre(first);
        for s in 0..steps.len() {
            let t = if self.reverse { steps.end - 1 - s } else { steps.start + s };
            self.step(order, t, run.real_at(pre, (order.at(t) - first) * net.gates))?;
        }
        Ok(())
    }

    fn step(&self, order: &Order, t: usize, pre: u64) -> Result<()> {
        let (run, net) = (self.run, &self.run.net);
        let (hidden, r, width) = (net.hidden, net.output, net.width());
        let (row, n) = (order.at(t), order.active(t));
        let (before_row, before) = order.before(t, self.reverse);
        // Who else needs h needs it for the product only.
        let gated = matches!(net.cell, Cell::Gru | Cell::GruResetBefore);
        let kept = if self.training { run.at(self.kept, row * net.kept) } else { self.kept };
        let y = run.at(self.y, row * width);
        let mut p = RecurrentStep {
            pre,
            gates: if self.training { run.at(self.gates, row * net.gates) } else { 0 },
            q: self.q,
            kept,
            bias: self.bias,
            c_before: if self.training { run.real_at(self.cells, before_row * hidden) } else { self.cells },
            c_first: self.c_first,
            c: if self.training { run.real_at(self.cells, row * hidden) } else { self.cells },
            h_before: if gated { run.at(self.y, before_row * width) } else { 0 },
            h_first: if gated { self.h_first } else { 0 },
            y,
            peephole: self.weights.get(ParameterKind::WeightPeephole),
            count: n as u64,
            before: before as u64,
            hidden: hidden as u64,
            stride: width as u64,
            vector: 0,
        };
        if net.projected {
            // What is projected is not the state.
            (p.y, p.stride) = (kept, hidden as u64);
        }
        p.vector = run.vector(&[p.h_before, p.h_first, p.y, p.c_first, p.peephole]);
        let items = n * hidden / if p.vector == 1 { 4 } else { 1 };
        let launch = |name| self.lane.launch(name, net.dtype, items, &p);
        let w = Matrix::new(self.weights.get(ParameterKind::WeightHh), r).t();
        let pre = Matrix::new(pre, net.gates);
        match net.cell {
            Cell::Gru => {
                self.recurrent((n, before, before_row), 3 * hidden, w, Matrix::new(self.q, 3 * hidden), false)?;
                launch("gru")
            }
            Cell::GruResetBefore => {
                self.recurrent((n, before, before_row), 2 * hidden, w, pre, true)?;
                launch("gru_before_gates")?;
                // Where there is no earlier state, r ∘ h is zero.
                let begun = if self.h_first == 0 { before } else { n };
                if begun > 0 {
                    let w = Matrix { at: run.at(w.at, 2 * hidden * r), ..w };
                    let candidates = Matrix::new(run.real_at(pre.at, 2 * hidden), net.gates);
                    run.multiply(self.lane, (begun, hidden, r), Matrix::new(kept, hidden), w, candidates, true)?;
                }
                launch("gru_before_state")
            }
            cell => {
                self.recurrent((n, before, before_row), net.gates, w, pre, true)?;
                launch(match cell {
                    Cell::LstmPeephole => "lstm_peephole",
                    Cell::Rnn(Nonlinearity::Tanh) => "rnn_tanh",
                    Cell::Rnn(Nonlinearity::Relu) => "rnn_relu",
                    _ => "lstm",
                })?;
                if !net.projected {
                    return Ok(());
                }
                let w = Matrix::new(self.weights.get(ParameterKind::WeightHr), hidden).t();
                run.multiply_out(self.lane, (n, r, hidden), Matrix::new(kept, hidden), w, Matrix::new(y, width), false)
            }
        }
    }

    /// `to` (+)= h W_hhᵀ: of the sequences that have an earlier step, and of those that begin here with an h0.
    fn recurrent(
        &self,
        (n, before, before_row): (usize, usize, usize),
        gates: usize,
        w: Matrix,
        to: Matrix,
        add: bool,
    ) -> Result<()> {
        let (run, net) = (self.run, &self.run.net);
        let (r, width) = (net.output, net.width());
        if before > 0 {
            let h = Matrix::new(run.at(self.y, before_row * width), width);
            run.multiply(self.lane, (before, gates, r), h, w, to, add)?;
        }
        if n > before && self.h_first != 0 {
            let h = Matrix::new(run.at(self.h_first, before * r), r);
            let to = Matrix { at: run.real_at(to.at, before * to.row), ..to };
            run.multiply(self.lane, (n - before, gates, r), h, w, to, add)?;
        }
        Ok(())
    }

    /// hn and cn of this layer and direction.
    fn last_states(&self, lane: Lane, i: usize, (hn, cn): (u64, Option<u64>)) -> Result<()> {
        let (run, net) = (self.run, &self.run.net);
        let (r, hidden) = (net.output, net.hidden);
        // Backwards every sequence ends at step 0, whose rows come first.
        let last = u64::from(!self.reverse);
        let hn = run.at(hn, i * net.batch * r);
        let p = RecurrentStates { count: 1, stride: net.width() as u64, last, ..run.states(self.y, hn, r) };
        run.move_states(lane, "hidden_out", &p)?;
        let Some(cn) = cn else { return Ok(()) };
        let cn = run.at(cn, i * net.batch * hidden);
        let last = if self.training { last } else { 0 };
        let p = RecurrentStates { count: 1, last, ..run.states(self.cells, cn, hidden) };
        run.move_states(lane, "states_out", &p)
    }
}
