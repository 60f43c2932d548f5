//! Backward: a layer's steps from its end, then the gradient of its input; beside it those of its weights.

use std::ops::Range;

use super::{
    super::{Backward, Buf, BufMut, Nonlinearity, Plan, Stream},
    Cell, Lane, Matrix, Net, ParameterKind, Run, Weights, persistent,
    space::{BackwardSpace, LayerReserve, Space},
};
use crate::{
    cuda::{
        Cuda,
        recurrent::{
            RecurrentPeephole, RecurrentPrevious, RecurrentProjected, RecurrentStepBackward, RecurrentSums,
            RecurrentTotals,
        },
    },
    error::Result,
};

pub(in super::super) fn backward(plan: &Plan, ordinal: usize, stream: &Stream, call: Backward<'_>) -> Result<()> {
    let net = Net::of(plan, true);
    let space = BackwardSpace::new(&net, &mut Space::new(call.workspace.address()));
    let run = Run::new(plan, net, ordinal, stream, call.sequence, space.common.tables)?;
    let own = |b: Option<u64>| b.unwrap_or(0);
    let mut addresses = vec![
        2 + u64::from(call.accumulate),
        call.x.address(),
        own(call.h0.map(|b| b.address())),
        own(call.c0.map(|b| b.address())),
        own(call.dy.map(|b| b.address())),
        own(call.dhn.map(|b| b.address())),
        own(call.dcn.map(|b| b.address())),
        own(call.dx.as_ref().map(|b| b.address())),
        own(call.dh0.as_ref().map(|b| b.address())),
        own(call.dc0.as_ref().map(|b| b.address())),
        call.workspace.address(),
        call.reserve.address(),
    ];
    addresses.extend(call.parameters.iter().map(Buf::address));
    addresses.extend(call.dparameters.iter().map(|b| own(b.as_ref().map(|b| b.address()))));
    let drops = run.net.dropout > 0.0;
    let seed_at = if drops { run.main.seed(space.common.seed, call.dropout_seed)? } else { 0 };
    let queued = run.replay(addresses, || queue(&run, &space, &call, seed_at));
    // Also behind an error: part of the work may be under way.
    let released = run.release(stream);
    queued.and(released)
}

/// Queues all of a call's work.
fn queue(run: &Run<'_>, space: &BackwardSpace, call: &Backward<'_>, seed_at: u64) -> Result<()> {
    let (net, order) = (&run.net, &run.order);
    let (layers, directions, width) = (net.layers, net.directions, net.width());
    let reserve = LayerReserve::all(net, &mut Space::new(call.reserve.address()));
    let wanted = !call.dparameters.is_empty();
    let x = if wanted { run.rows_in(call.x.address(), space.common.x, net.input)? } else { 0 };
    let h_first = run.hidden_in(call.h0, space.common.h_first)?;
    let c_first = run.cells_in(call.c0, space.common.c_first)?;
    let dy = call.dy.map(|dy| run.rows_in(dy.address(), space.dy[0], width)).transpose()?.unwrap_or(0);
    run.move_states(run.main, "states_in", &run.states(call.dhn.map_or(0, |b| b.address()), space.dh, net.output))?;
    if net.lstm {
        run.move_states(run.main, "states_in", &run.states(call.dcn.map_or(0, |b| b.address()), space.dc, net.hidden))?;
    }
    // The gradient of x goes where the caller wants it as it is, or in another order.
    let dx = call.dx.as_ref().map_or(0, |dx| if order.strides.is_none() { dx.address() } else { space.dx });
    persistent::clear_flags(run, space.flags)?;
    run.fork()?;

    // The gradient of a layer's output: the caller's for the last, then two stretches of memory in turn.
    let upper = |place: usize| if place == 0 { dy } else { space.dy[place % 2] };
    let mut passes = Vec::with_capacity(net.states());
    for l in 0..layers {
        for d in 0..directions {
            let i = l * directions + d;
            let own = &reserve[l];
            let dy = upper(layers - 1 - l);
            let real = |base: u64, width: usize| if base == 0 { 0 } else { run.real_at(base, i * net.batch * width) };
            passes.push(Pass {
                run,
                lane: run.lane(layers - 1 - l, d),
                weights: run.weights(call.parameters, l, d),
                layer: l,
                reverse: d == 1,
                gates: own.gates[d],
                kept: own.kept[d],
                cells: own.cells[d],
                y: run.at(own.y, d * net.output),
                dy: if dy == 0 { 0 } else { run.at(dy, d * net.output) },
                h_first: if h_first == 0 { 0 } else { run.at(h_first, i * net.batch * net.output) },
                c_first: real(c_first, net.hidden),
                dh: real(space.dh, net.output),
                dc: real(space.dc, net.hidden),
                scratch: space.scratch[i],
                projected: space.projected[i],
                exchange: space.exchange[(layers - 1 - l) * directions + d],
            });
        }
    }

    for (place, k) in run.waves() {
        let l = layers - 1 - place;
        let own = &passes[l * directions..][..directions];
        let steps = net.stretch(order.steps(), net.stretches - 1 - k);
        for pass in own {
            if place > 0 {
                pass.lane.wait_for(run.lane(place - 1, 0))?;
            }
            if net.persistent.is_none() {
                pass.steps(steps.clone())?;
            }
        }
        let first = run.meet(place)?;
        if let Some(tiling) = &net.persistent {
            persistent::backward(
                run,
                first,
                tiling,
                own,
                steps.clone(),
                persistent::flags(run, space.flags, (place, k)),
            )?;
        }
        let to = if l == 0 { dx } else { upper(place + 1) };
        if to != 0 && !steps.is_empty() {
            own.iter().try_for_each(|pass| pass.input_gradient(first, steps.clone(), to))?;
            if l > 0 && net.dropout > 0.0 {
                let mask = (seed_at, l as u64 - 1, net.dropout);
                let (from, end) = (order.at(steps.start) * width, order.at(steps.end) * width);
                first.drop_out(net.dtype, mask, (to, to), (from, end - from))?;
            }
        }
        if wanted && k + 1 == net.stretches {
            run.aside.wait_for(first)?;
            let input = match l.checked_sub(1) {
                None => x,
                Some(below) if net.dropout > 0.0 => reserve[below].dropped,
                Some(below) => reserve[below].y,
            };
            for pass in own {
                let wanted = &call.dparameters[pass.weights.first..][..pass.weights.list.len()];
                Gradients { pass, lane: run.aside, space, input, add: call.accumulate }.all(wanted)?;
            }
        }
    }
    run.join()?;
    if let Some(dh0) = &call.dh0 {
        run.move_states(run.main, "states_out", &run.states(space.dh, dh0.address(), net.output))?;
    }
    if let Some(dc0) = &call.dc0 {
        run.move_states(run.main, "states_out", &run.states(space.dc, dc0.address(), net.hidden))?;
    }
    if let Some(buffer) = &call.dx
        && order.strides.is_some()
    {
        run.rows_out(dx, buffer.address(), net.input)?;
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
    pub gates: u64,
    kept: u64,
    pub cells: u64,
    /// This direction's columns of the layer's output, and of its gradient; dy = 0: none.
    pub y: u64,
    pub dy: u64,
    pub h_first: u64,
    pub c_first: u64,
    pub dh: u64,
    pub dc: u64,
    scratch: u64,
    pub projected: u64,
    pub exchange: u64,
}

impl Pass<'_> {
    fn steps(&self, steps: Range<usize>) -> Result<()> {
        for s in 0..steps.len() {
            // Against the direction of the recurrence.
            self.step(if self.reverse { steps.start + s } else { steps.end - 1 - s })?;
        }
        Ok(())
    }

    fn step(&self, t: usize) -> Result<()> {
        let (run, net, order) = (self.run, &self.run.net, &self.run.order);
        let (hidden, r, g, width) = (net.hidden, net.output, net.gates, net.width());
        let (row, n) = (order.at(t), order.active(t));
        let (before_row, before) = order.before(t, self.reverse);
        // Who else needs h needs it for the product only.
        let gated = matches!(net.cell, Cell::Gru | Cell::GruResetBefore);
        let gates = Matrix::new(run.at(self.gates, row * g), g);
        let mut p = RecurrentStepBackward {
            gates: gates.at,
            q: self.scratch,
            c: run.real_at(self.cells, row * hidden),
            c_before: run.real_at(self.cells, before_row * hidden),
            c_first: self.c_first,
            h_before: if gated { run.at(self.y, before_row * width) } else { 0 },
            h_first: if gated { self.h_first } else { 0 },
            dy: if self.dy == 0 { 0 } else { run.at(self.dy, row * width) },
            dh: self.dh,
            dc: self.dc,
            peephole: self.weights.get(ParameterKind::WeightPeephole),
            count: n as u64,
            before: before as u64,
            hidden: hidden as u64,
            stride: width as u64,
            vector: 0,
        };
        if net.projected {
            let kept = run.at(self.projected, row * r);
            let sum = RecurrentProjected {
                dh: self.dh,
                dy: p.dy,
                to: kept,
                count: n as u64,
                width: r as u64,
                stride: width as u64,
            };
            self.lane.launch("projected_gradient", net.dtype, n * r, &sum)?;
            let w = Matrix::new(self.weights.get(ParameterKind::WeightHr), hidden);
            let to = Matrix::new(self.scratch, hidden);
            run.multiply(self.lane, (n, hidden, r), Matrix::new(kept, r), w, to, false)?;
            (p.dh, p.dy) = (self.scratch, 0);
        }
        p.vector = run.vector(&[p.h_before, p.h_first, p.dy, p.c_first, p.peephole]);
        let items = n * hidden / if p.vector == 1 { 4 } else { 1 };
        let launch = |name| self.lane.launch(name, net.dtype, items, &p);
        let w = Matrix::new(self.weights.get(ParameterKind::WeightHh), r);
        let (dh, back) = (Matrix::new(self.dh, r), net.recurrent_gates());
        match net.cell {
            Cell::Gru => {
                launch("gru_backward")?;
                run.multiply(self.lane, (n, r, back), gates, w, dh, true)
            }
            Cell::GruResetBefore => {
                launch("gru_before_state_backward")?;
                let candidates = Matrix::new(run.at(gates.at, 2 * hidden), g);
                let w_n = Matrix::new(run.at(w.at, 2 * hidden * r), r);
                run.multiply(self.lane, (n, r, hidden), candidates, w_n, Matrix::new(self.scratch, r), false)?;
                launch("gru_before_gates_backward")?;
                run.multiply(self.lane, (n, r, back), gates, w, dh, true)
            }
            cell => {
                launch(match cell {
                    Cell::LstmPeephole => "lstm_peephole_backward",
                    Cell::Rnn(Nonlinearity::Tanh) => "rnn_tanh_backward",
                    Cell::Rnn(Nonlinearity::Relu) => "rnn_relu_backward",
                    _ => "lstm_backward",
                })?;
                run.multiply(self.lane, (n, r, back), gates, w, dh, false)
            }
        }
    }

    /// What a stretch adds to the gradient of the layer's input; the forward direction comes first.
    fn input_gradient(&self, lane: Lane, steps: Range<usize>, to: u64) -> Result<()> {
        let (run, net, order) = (self.run, &self.run.net, &self.run.order);
        let (k, first) = (net.layer_input(self.layer), order.at(steps.start));
        let rows = order.at(steps.end) - first;
        for (i, (column, row, count)) in net.input_gates().into_iter().enumerate() {
            let gates = Matrix::new(run.at(self.gates, first * net.gates + column), net.gates);
            let w = Matrix::new(run.at(self.weights.get(ParameterKind::WeightIh), row * k), k);
            let to = Matrix::new(run.at(to, first * k), k);
            run.multiply_out(lane, (rows, k, count), gates, w, to, self.reverse || i > 0)?;
        }
        Ok(())
    }
}

/// Gradients of the parameters of one layer and direction, when all its steps are done: one product per weight over all rows, sums
/// over rows for biases and peepholes.
struct Gradients<'a> {
    pass: &'a Pass<'a>,
    lane: Lane,
    space: &'a BackwardSpace,
    /// The layer's input.
    input: u64,
    add: bool,
}

impl Gradients<'_> {
    fn all(&self, wanted: &[Option<BufMut<'_>>]) -> Result<()> {
        let kinds = self.pass.weights.list.iter().map(|(kind, _)| *kind);
        let wanted: Vec<(ParameterKind, u64)> =
            kinds.zip(wanted).filter_map(|(kind, b)| Some((kind, b.as_ref()?.address()))).collect();
        if wanted.iter().any(|(kind, _)| matches!(kind, ParameterKind::BiasIh | ParameterKind::BiasHh)) {
            self.sum_gates()?;
        }
        wanted.into_iter().try_for_each(|(kind, to)| self.one(kind, to))
    }

    fn one(&self, kind: ParameterKind, to: u64) -> Result<()> {
        let (pass, run, net) = (self.pass, self.pass.run, &self.pass.run.net);
        let (rows, hidden, r, g) = (run.order.rows(), net.hidden, net.output, net.gates);
        let columns = |from: usize| Matrix::new(run.at(pass.gates, from), g).t();
        match kind {
            ParameterKind::WeightIh => {
                let k = net.layer_input(pass.layer);
                net.input_gates().into_iter().try_for_each(|(column, row, count)| {
                    let to = Matrix::new(run.at(to, row * k), k);
                    let x = Matrix::new(self.input, k);
                    run.multiply_out(self.lane, (count, k, rows), columns(column), x, to, self.add)
                })
            }
            ParameterKind::WeightHh => {
                self.recurrent(net.recurrent_gates(), Matrix::new(to, r))?;
                if net.cell != Cell::GruResetBefore {
                    return Ok(());
                }
                let (kept, to) = (Matrix::new(pass.kept, hidden), Matrix::new(run.at(to, 2 * hidden * r), r));
                run.multiply_out(self.lane, (hidden, r, rows), columns(2 * hidden), kept, to, self.add)
            }
            ParameterKind::WeightHr => {
                let (dh, raw) = (Matrix::new(pass.projected, r), Matrix::new(pass.kept, hidden));
                run.multiply_out(self.lane, (r, hidden, rows), dh.t(), raw, Matrix::new(to, hidden), self.add)
            }
            ParameterKind::BiasIh => net
                .input_gates()
                .into_iter()
                .try_for_each(|(column, row, count)| self.total(rows, (column, g), count, run.at(to, row))),
            ParameterKind::BiasHh => self.total(rows, (0, g), net.cell.gates() * hidden, to),
            ParameterKind::WeightPeephole => self.peephole(to),
        }
    }

    /// `to` = gradients of gatesᵀ × the states before each step.
    fn recurrent(&self, gates: usize, to: Matrix) -> Result<()> {
        let (pass, run, net, order) = (self.pass, self.pass.run, &self.pass.run.net, &self.pass.run.order);
        let (rows, r, g, width, batch) = (order.rows(), net.output, net.gates, net.width(), net.batch);
        let from = |row: usize| Matrix::new(run.at(pass.gates, row * g), g).t();
        let multiply =
            |rows, gates_of, states, add| run.multiply_out(self.lane, (gates, r, rows), gates_of, states, to, add);
        if order.offsets != 0 {
            let p = RecurrentPrevious {
                y: pass.y,
                first: pass.h_first,
                to: self.space.previous,
                offsets: order.offsets,
                steps: order.steps() as u64,
                batch: batch as u64,
                rows: rows as u64,
                width: r as u64,
                stride: width as u64,
                reverse: u64::from(pass.reverse),
            };
            self.lane.launch("previous", net.dtype, rows * r, &p)?;
            return multiply(rows, from(0), Matrix::new(self.space.previous, r), self.add);
        }
        // Every step has the whole batch: the states before are the outputs, one step over.
        let (later, earlier) = if pass.reverse { (0, batch) } else { (batch, 0) };
        let mut add = self.add;
        if rows > batch {
            let states = Matrix::new(run.at(pass.y, earlier * width), width);
            multiply(rows - batch, from(later), states, add)?;
            add = true;
        }
        let first = if pass.reverse { rows - batch } else { 0 };
        if pass.h_first != 0 {
            multiply(batch, from(first), Matrix::new(pass.h_first, r), add)
        } else if !add {
            self.lane.clear(to.at, gates * r * net.size())
        } else {
            Ok(())
        }
    }

    /// Sums of the gates' gradients over the rows of each part.
    fn sum_gates(&self) -> Result<()> {
        let (run, net) = (self.pass.run, &self.pass.run.net);
        let (rows, width) = (run.order.rows(), net.gates);
        let part = Cuda::sum_part(rows, width);
        let (from, to) = (self.pass.gates, self.space.sums);
        let p = RecurrentSums { from, to, rows: rows as u64, width: width as u64, part: part as u64 };
        self.lane.sum("row_sums", net.dtype, (rows.div_ceil(part), width), &p)
    }

    /// `to[count]` (+)= the sums of the parts' columns, of which there are `width`.
    fn total(&self, rows: usize, (column, width): (usize, usize), count: usize, to: u64) -> Result<()> {
        let run = self.pass.run;
        let parts = rows.div_ceil(Cuda::sum_part(rows, width));
        self.part_totals(parts, run.real_at(self.space.sums, column), width, count, to)
    }

    fn part_totals(&self, parts: usize, from: u64, stride: usize, count: usize, to: u64) -> Result<()> {
        let (parts, stride, add) = (parts as u64, stride as u64, u64::from(self.add));
        let p = RecurrentTotals { from, to, parts, stride, count: count as u64, add };
        self.lane.launch("part_totals", self.pass.run.net.dtype, count, &p)
    }

    fn peephole(&self, to: u64) -> Result<()> {
        let (pass, run, net) = (self.pass, self.pass.run, &self.pass.run.net);
        let (rows, hidden) = (run.order.rows(), net.hidden);
        let part = Cuda::sum_part(rows, hidden);
        let p = RecurrentPeephole {
            gates: pass.gates,
            cells: pass.cells,
            first: pass.c_first,
            to: self.space.sums,
            offsets: run.order.offsets,
            steps: run.order.steps() as u64,
            batch: net.batch as u64,
            rows: rows as u64,
            hidden: hidden as u64,
            part: part as u64,
            reverse: u64::from(pass.reverse),
        };
        let parts = rows.div_ceil(part);
        self.lane.sum("peephole_sums", net.dtype, (parts, hidden), &p)?;
        self.part_totals(parts, self.space.sums, 3 * hidden, 3 * hidden, to)
    }
}
