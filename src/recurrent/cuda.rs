//! A plan on a GPU, step by step: one input product for all steps, then per step one product and one pointwise kernel; backward the
//! same way, and one product per weight after the loop. Everything is queued on the device's stream; nothing waits.
//!
//! It computes in f32 (f64 for f64): inputs and parameters of f16 and bf16 are widened into the workspace first.

use super::{Backward, Buf, BufMut, Cell, Forward, Layout, Nonlinearity, ParameterKind, Plan, Sequence};
use crate::{
    cuda::{
        Buffer, Cuda,
        recurrent::{
            Matrix, RecurrentBias, RecurrentPeephole, RecurrentPrevious, RecurrentRows, RecurrentStates, RecurrentStep,
            RecurrentStepBackward,
        },
    },
    dtype::DType,
    error::Result,
};

const OP: &str = "recurrent";

/// Stretches of scratch begin at 256 bytes.
fn align(len: usize) -> usize {
    len.next_multiple_of(64)
}

/// Scratch, handed out from the front.
struct Space {
    at: u64,
    size: usize,
}

impl Space {
    fn take(&mut self, len: usize) -> u64 {
        let at = self.at;
        self.at += (align(len) * self.size) as u64;
        at
    }

    fn pair(&mut self, directions: usize, len: usize) -> [u64; 2] {
        let first = self.take(len);
        [first, if directions == 2 { self.take(len) } else { 0 }]
    }
}

/// Extents of a call.
struct Net {
    layers: usize,
    directions: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    output: usize,
    gates: usize,
    lstm: bool,
    projected: bool,
    dropout: f64,
    /// Numbers kept per row beside gates and cells: the GRU's W_hn h (or r ∘ h), the projected LSTM's h before projection.
    extra: usize,
    half: bool,
    parameters: usize,
}

impl Net {
    fn of(plan: &Plan) -> Net {
        let d = plan.descriptor();
        let projected = d.proj_size > 0;
        Net {
            layers: d.num_layers,
            directions: d.directions(),
            batch: plan.shape().batch,
            input: d.input_size,
            hidden: d.hidden_size,
            output: d.output_size(),
            gates: d.cell.gates() * d.hidden_size,
            lstm: d.cell.has_cell_state(),
            projected,
            dropout: d.dropout,
            extra: if projected || matches!(d.cell, Cell::Gru | Cell::GruResetBefore) { d.hidden_size } else { 0 },
            half: d.dtype.size() == 2,
            parameters: (0..d.num_layers).map(|l| d.directions() * d.layer_numels(l).sum::<usize>()).sum(),
        }
    }

    fn width(&self) -> usize {
        self.directions * self.output
    }

    fn cells(&self) -> usize {
        if self.lstm { self.hidden } else { 0 }
    }

    fn layer_input(&self, layer: usize) -> usize {
        if layer == 0 { self.input } else { self.width() }
    }
}

pub(super) fn workspace_len(plan: &Plan) -> usize {
    let net = Net::of(plan);
    let rows = plan.shape().seq * net.batch;
    let d = net.directions;
    let parameters = if net.half { align(net.parameters) } else { 0 };
    let states = d * (align(net.batch * net.output) + align(net.batch * net.hidden));
    let q = d * align(net.batch * net.gates);
    let forward = parameters + d * align(net.gates + net.hidden) + states + q;
    let inference = align(rows * net.input)
        + d * (align(rows * net.gates) + align(net.batch * net.extra))
        + 2 * align(rows * net.width());
    let backward = 2 * parameters
        + q
        + 2 * states
        + d * align(net.batch * net.hidden)
        + if net.projected { d * align(rows * net.output) } else { 0 }
        + align(rows * net.hidden)
        + align(net.gates)
        + 2 * align(rows * net.width())
        + align(rows * net.input);
    (forward + inference).max(backward)
}

pub(super) fn reserve_len(plan: &Plan) -> usize {
    let net = Net::of(plan);
    let rows = plan.shape().seq * net.batch;
    align(rows * net.input) + (0..net.layers).map(|l| layer_len(&net, rows, l + 1 == net.layers)).sum::<usize>()
}

fn layer_len(net: &Net, rows: usize, last: bool) -> usize {
    net.directions * (align(rows * net.gates) + align(rows * net.cells()) + align(rows * net.extra))
        + align(rows * net.width())
        + if net.dropout > 0.0 && !last { align(rows * net.width()) } else { 0 }
}

/// What one layer's forward pass leaves in the reserve.
struct LayerReserve {
    gates: [u64; 2],
    cells: [u64; 2],
    extra: [u64; 2],
    y: u64,
    dropped: u64,
}

impl LayerReserve {
    fn of(net: &Net, rows: usize, last: bool, space: &mut Space) -> Self {
        LayerReserve {
            gates: space.pair(net.directions, rows * net.gates),
            cells: space.pair(net.directions, rows * net.cells()),
            extra: space.pair(net.directions, rows * net.extra),
            y: space.take(rows * net.width()),
            dropped: space.take(if net.dropout > 0.0 && !last { rows * net.width() } else { 0 }),
        }
    }
}

/// How packed rows stand in the caller's memory; the tables are on the device too.
struct Order {
    offset: Vec<i64>,
    /// The caller's rows from a step to the next and from a sequence to the next; `None`: they are packed already.
    strides: Option<(usize, usize)>,
    gaps: bool,
    offsets: Buffer,
    sequences: Option<Buffer>,
}

impl Order {
    fn new(plan: &Plan, cuda: Cuda, sequence: Sequence<'_>) -> Result<Self> {
        let super::Shape { seq, batch } = plan.shape();
        let strides = match plan.memory_layout() {
            Layout::TimeMajor => (batch, 1),
            Layout::BatchMajor => (1, seq),
        };
        let identity = strides.1 == 1;
        let (active, strides, sequences): (Vec<usize>, _, Vec<i64>) = match sequence {
            Sequence::Lengths(lengths) if lengths.iter().any(|&n| n < seq) => {
                let mut order: Vec<i64> = (0..batch as i64).collect();
                order.sort_by_key(|&b| std::cmp::Reverse(lengths[b as usize]));
                let longest = lengths.iter().copied().max().unwrap_or(0);
                let active = (0..longest).map(|t| lengths.iter().filter(|&&n| n > t).count()).collect();
                (active, Some(strides), order)
            }
            Sequence::Packed { batch_sizes } => (batch_sizes.to_vec(), None, Vec::new()),
            _ => (vec![batch; seq], (!identity).then_some(strides), Vec::new()),
        };
        let mut offset = vec![0];
        for n in active {
            offset.push(offset[offset.len() - 1] + n as i64);
        }
        let gaps = !sequences.is_empty();
        let offsets = cuda.table(&offset)?;
        let sequences = if gaps { Some(cuda.table(&sequences)?) } else { None };
        Ok(Order { offset, strides, gaps, offsets, sequences })
    }

    fn steps(&self) -> usize {
        self.offset.len() - 1
    }

    fn rows(&self) -> usize {
        self.offset[self.steps()] as usize
    }

    fn at(&self, t: usize) -> usize {
        self.offset[t] as usize
    }

    fn active(&self, t: usize) -> usize {
        (self.offset[t + 1] - self.offset[t]) as usize
    }

    /// First row of the step before t in the direction of the recurrence, and how many sequences have one.
    fn before(&self, t: usize, reverse: bool) -> (usize, usize) {
        match if reverse { (t + 1 < self.steps()).then_some(t + 1) } else { t.checked_sub(1) } {
            Some(before) => (self.at(before), self.active(before).min(self.active(t))),
            None => (0, 0),
        }
    }

    fn sequences(&self) -> u64 {
        self.sequences.as_ref().map_or(0, Buffer::address)
    }
}

/// A call under way.
struct Run<'a> {
    plan: &'a Plan,
    cuda: Cuda,
    net: Net,
    order: Order,
    /// The caller's type, and the one that is computed in.
    given: DType,
    real: DType,
    size: u64,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, ordinal: usize, sequence: Sequence<'_>) -> Result<Self> {
        let cuda = Cuda::open(OP, ordinal)?;
        let (given, real) = (plan.descriptor().dtype, plan.compute_dtype());
        let order = Order::new(plan, cuda, sequence)?;
        Ok(Run { plan, cuda, net: Net::of(plan), order, given, real, size: real.size() as u64 })
    }

    fn part(&self, base: u64, elements: usize) -> u64 {
        base + elements as u64 * self.size
    }

    fn launch<P: crate::cuda::Parameters>(&self, name: &'static str, items: usize, p: &P) -> Result<()> {
        self.cuda.step(name, self.real, items, p)
    }

    fn multiply(&self, dims: (usize, usize, usize), a: Matrix, b: Matrix, c: Matrix, add: bool) -> Result<()> {
        self.cuda.multiply(self.real, dims, a, b, c, add)
    }

    /// Whether the caller's rows are packed rows of the computing type as they lie.
    fn direct(&self) -> bool {
        self.order.strides.is_none() && self.given == self.real
    }

    fn rows(&self, from: u64, to: u64, width: usize) -> RecurrentRows {
        let (step, sequence, offsets) = match self.order.strides {
            Some((step, sequence)) => (step, sequence, self.order.offsets.address()),
            // Packed already: one step of all rows.
            None => (0, 1, self.order.offsets.address()),
        };
        RecurrentRows {
            from,
            to,
            offsets,
            sequences: self.order.sequences(),
            steps: if self.order.strides.is_some() { self.order.steps() as u64 } else { 1 },
            rows: self.order.rows() as u64,
            width: width as u64,
            step_stride: step as u64,
            sequence_stride: sequence as u64,
        }
    }

    fn rows_in(&self, from: u64, to: u64, width: usize) -> Result<()> {
        self.cuda.step("rows_in", self.given, self.order.rows() * width, &self.rows(from, to, width))
    }

    fn rows_out(&self, from: u64, to: &BufMut<'_>, width: usize) -> Result<()> {
        if self.order.gaps {
            // SAFETY: the caller's buffer, which it lends for this call alone.
            unsafe { self.cuda.clear(to.address(), to.len() * self.given.size())? };
        }
        self.cuda.step("rows_out", self.given, self.order.rows() * width, &self.rows(from, to.address(), width))
    }

    fn states(&self, from: u64, to: u64, width: usize) -> RecurrentStates {
        let (batch, width) = (self.net.batch as u64, width as u64);
        RecurrentStates { from, to, sequences: self.order.sequences(), batch, width }
    }

    /// State `i` of the caller's (zeros if not given), in the order of the rows.
    fn states_in(&self, from: Option<Buf<'_>>, i: usize, width: usize, to: u64) -> Result<()> {
        let each = self.net.batch * width;
        let from = from.map_or(0, |b| b.address() + (i * each * self.given.size()) as u64);
        self.cuda.step("states_in", self.given, each, &self.states(from, to, width))
    }

    fn states_out(&self, from: u64, to: &BufMut<'_>, i: usize, width: usize) -> Result<()> {
        let each = self.net.batch * width;
        let to = to.address() + (i * each * self.given.size()) as u64;
        self.cuda.step("states_out", self.given, each, &self.states(from, to, width))
    }

    /// Addresses of all parameters in the computing type, in order; half types are widened into `space`.
    fn parameters(&self, given: &[Buf<'_>], space: &mut Space) -> Result<Vec<u64>> {
        if self.given == self.real {
            return Ok(given.iter().map(Buf::address).collect());
        }
        let mut at = space.take(self.net.parameters);
        let mut addresses = Vec::with_capacity(given.len());
        for buf in given {
            // SAFETY: the workspace is the call's own, and has room for every parameter.
            unsafe { self.cuda.convert((buf.address(), self.given), (at, self.real), buf.len())? };
            addresses.push(at);
            at = self.part(at, buf.len());
        }
        Ok(addresses)
    }

    /// The parameters of a layer and direction: their kinds, addresses and places in the list.
    fn layer<'b>(&'b self, all: &'b [u64], l: usize, d: usize) -> Weights<'b> {
        let specs = self.plan.descriptor().layer_parameters(l, d);
        let first = (l * self.net.directions + d) * specs.len();
        Weights { kinds: specs.iter().map(|s| s.kind).collect(), addresses: &all[first..first + specs.len()], first }
    }

    fn cell(&self) -> Cell {
        self.plan.descriptor().cell
    }
}

struct Weights<'a> {
    kinds: Vec<ParameterKind>,
    addresses: &'a [u64],
    first: usize,
}

impl Weights<'_> {
    /// 0 where there is none.
    fn get(&self, kind: ParameterKind) -> u64 {
        self.kinds.iter().position(|&k| k == kind).map_or(0, |i| self.addresses[i])
    }
}

pub(super) fn forward(plan: &Plan, ordinal: usize, call: Forward<'_>) -> Result<()> {
    let run = Run::new(plan, ordinal, call.sequence)?;
    let (net, order) = (&run.net, &run.order);
    let (rows, directions, size) = (order.rows(), net.directions, run.size as usize);
    let training = call.reserve.is_some();
    let mut space = Space { at: call.workspace.address(), size };
    let mut reserve = Space { at: call.reserve.as_ref().map_or(0, BufMut::address), size };
    let parameters = run.parameters(call.parameters, &mut space)?;
    let bias = space.pair(directions, net.gates + net.hidden);
    let h = space.pair(directions, net.batch * net.output);
    let c = space.pair(directions, net.batch * net.hidden);
    let q = space.pair(directions, net.batch * net.gates);
    let staging = if training { &mut reserve } else { &mut space }.take(rows * net.input);
    let x = if run.direct() {
        call.x.address()
    } else {
        run.rows_in(call.x.address(), staging, net.input)?;
        staging
    };
    let inference = |len: usize| if training { 0 } else { len };
    let gates = space.pair(directions, inference(rows * net.gates));
    let extra = space.pair(directions, inference(net.batch * net.extra));
    let outputs = [space.take(inference(rows * net.width())), space.take(inference(rows * net.width()))];

    let mut below = x;
    for l in 0..net.layers {
        let last = l + 1 == net.layers;
        let own = training.then(|| LayerReserve::of(net, rows, last, &mut reserve));
        let (gates, extra, cells, y) = match &own {
            Some(r) => (r.gates, r.extra, r.cells, r.y),
            None => (gates, extra, [0; 2], outputs[l % 2]),
        };
        for d in 0..directions {
            let weights = run.layer(&parameters, l, d);
            let i = l * directions + d;
            run.states_in(call.h0, i, net.output, h[d])?;
            if net.lstm {
                run.states_in(call.c0, i, net.hidden, c[d])?;
            }
            let split = if run.cell() == Cell::Gru { 2 * net.hidden } else { net.gates };
            let fill = RecurrentBias {
                ih: weights.get(ParameterKind::BiasIh),
                hh: weights.get(ParameterKind::BiasHh),
                to: bias[d],
                gates: net.gates as u64,
                hidden: net.hidden as u64,
                split: split as u64,
            };
            run.launch("recurrent_bias", net.gates + net.hidden, &fill)?;
            let k = net.layer_input(l);
            let w = Matrix::new(weights.get(ParameterKind::WeightIh), k).t();
            run.multiply((rows, net.gates, k), Matrix::new(below, k), w, Matrix::new(gates[d], net.gates), false)?;
            let pass = Pass {
                run: &run,
                weights: &weights,
                reverse: d == 1,
                zero: call.h0.is_none(),
                training,
                gates: gates[d],
                extra: extra[d],
                cells: cells[d],
                h: h[d],
                c: c[d],
                q: q[d],
                bias: bias[d],
                y: run.part(y, d * net.output),
            };
            pass.steps()?;
            run.states_out(h[d], &call.hn, i, net.output)?;
            if let Some(cn) = &call.cn {
                run.states_out(c[d], cn, i, net.hidden)?;
            }
        }
        below = y;
        if let Some(r) = own
            && net.dropout > 0.0
            && !last
        {
            let mask = (call.dropout_seed, l as u64, net.dropout);
            // SAFETY: both are stretches of the reserve.
            unsafe { run.cuda.drop_out(run.real, mask, r.y, r.dropped, rows * net.width())? };
            below = r.dropped;
        }
    }
    run.rows_out(below, &call.y, net.width())
}

/// The steps of one layer and direction.
struct Pass<'a> {
    run: &'a Run<'a>,
    weights: &'a Weights<'a>,
    reverse: bool,
    zero: bool,
    training: bool,
    gates: u64,
    extra: u64,
    cells: u64,
    h: u64,
    c: u64,
    q: u64,
    bias: u64,
    y: u64,
}

impl Pass<'_> {
    fn steps(&self) -> Result<()> {
        let (run, net) = (self.run, &self.run.net);
        let (hidden, r, g) = (net.hidden, net.output, net.gates);
        let w = Matrix::new(self.weights.get(ParameterKind::WeightHh), r).t();
        let h = Matrix::new(self.h, r);
        for s in 0..run.order.steps() {
            let t = if self.reverse { run.order.steps() - 1 - s } else { s };
            let (row, n) = (run.order.at(t), run.order.active(t));
            let skip = self.zero && s == 0;
            let gates = Matrix::new(run.part(self.gates, row * g), g);
            let extra = run.part(self.extra, if self.training { row * net.extra } else { 0 });
            let y = run.part(self.y, row * net.width());
            let mut p = RecurrentStep {
                gates: gates.at,
                bias: self.bias,
                q: 0,
                kept: extra,
                cells: if self.training { run.part(self.cells, row * net.cells()) } else { 0 },
                c: self.c,
                h: self.h,
                y,
                peephole: self.weights.get(ParameterKind::WeightPeephole),
                count: n as u64,
                hidden: hidden as u64,
                stride: net.width() as u64,
            };
            let items = n * hidden;
            match run.cell() {
                Cell::Gru => {
                    if !skip {
                        run.multiply((n, g, r), h, w, Matrix::new(self.q, g), false)?;
                        p.q = self.q;
                    }
                    run.launch("gru", items, &p)?;
                }
                Cell::GruResetBefore => {
                    if !skip {
                        run.multiply((n, 2 * hidden, r), h, w, gates, true)?;
                    }
                    run.launch("gru_before_gates", items, &p)?;
                    if !skip {
                        let w = Matrix { at: run.part(w.at, 2 * hidden * r), ..w };
                        let candidates = Matrix::new(run.part(gates.at, 2 * hidden), g);
                        run.multiply((n, hidden, r), Matrix::new(extra, hidden), w, candidates, true)?;
                    }
                    run.launch("gru_before_state", items, &p)?;
                }
                cell => {
                    if !skip {
                        run.multiply((n, g, r), h, w, gates, true)?;
                    }
                    if net.projected {
                        (p.h, p.y) = (extra, 0);
                    }
                    let name = match cell {
                        Cell::LstmPeephole => "lstm_peephole",
                        Cell::Rnn(Nonlinearity::Tanh) => "rnn_tanh",
                        Cell::Rnn(Nonlinearity::Relu) => "rnn_relu",
                        _ => "lstm",
                    };
                    run.launch(name, items, &p)?;
                    if net.projected {
                        let w = Matrix::new(self.weights.get(ParameterKind::WeightHr), hidden).t();
                        run.multiply((n, r, hidden), Matrix::new(extra, hidden), w, h, false)?;
                        // SAFETY: h is workspace, y this direction's columns of this step's rows.
                        unsafe { run.cuda.copy_rows(run.real, (n, r), h, Matrix::new(y, net.width()), false)? };
                    }
                }
            }
        }
        Ok(())
    }
}

pub(super) fn backward(plan: &Plan, ordinal: usize, call: Backward<'_>) -> Result<()> {
    let run = Run::new(plan, ordinal, call.sequence)?;
    let (net, order) = (&run.net, &run.order);
    let (rows, directions, size, width) = (order.rows(), net.directions, run.size as usize, net.width());
    let mut space = Space { at: call.workspace.address(), size };
    let mut reserve = Space { at: call.reserve.address(), size };
    let parameters = run.parameters(call.parameters, &mut space)?;
    let staged = space.take(if net.half { net.parameters } else { 0 });
    let q = space.pair(directions, net.batch * net.gates);
    let dh = space.pair(directions, net.batch * net.output);
    let dc = space.pair(directions, net.batch * net.hidden);
    let h_first = space.pair(directions, net.batch * net.output);
    let c_first = space.pair(directions, net.batch * net.hidden);
    let scratch = space.pair(directions, net.batch * net.hidden);
    let projected = space.pair(directions, if net.projected { rows * net.output } else { 0 });
    let states = space.take(rows * net.hidden);
    let sums = space.take(net.gates);
    let [mut upper, mut lower] = [space.take(rows * width), space.take(rows * width)];
    let dx_staging = space.take(rows * net.input);
    let staging = reserve.take(rows * net.input);
    // The forward pass has gathered x there already, where it had to.
    let x = if run.direct() { call.x.address() } else { staging };
    if let Some(dy) = call.dy {
        run.rows_in(dy.address(), upper, width)?;
    }
    let all: Vec<LayerReserve> =
        (0..net.layers).map(|l| LayerReserve::of(net, rows, l + 1 == net.layers, &mut reserve)).collect();
    for l in (0..net.layers).rev() {
        let last = l + 1 == net.layers;
        let own = &all[l];
        let input = match l {
            0 => x,
            _ if net.dropout > 0.0 => all[l - 1].dropped,
            _ => all[l - 1].y,
        };
        for d in 0..directions {
            let weights = run.layer(&parameters, l, d);
            let i = l * directions + d;
            run.states_in(call.h0, i, net.output, h_first[d])?;
            run.states_in(call.dhn, i, net.output, dh[d])?;
            if net.lstm {
                run.states_in(call.c0, i, net.hidden, c_first[d])?;
                run.states_in(call.dcn, i, net.hidden, dc[d])?;
            }
            let pass = BackPass {
                run: &run,
                weights: &weights,
                reverse: d == 1,
                gates: own.gates[d],
                extra: own.extra[d],
                cells: own.cells[d],
                y: run.part(own.y, d * net.output),
                dy: if call.dy.is_some() || !last { run.part(upper, d * net.output) } else { 0 },
                h_first: h_first[d],
                c_first: c_first[d],
                dh: dh[d],
                dc: dc[d],
                q: q[d],
                scratch: scratch[d],
                projected: projected[d],
                states,
                sums,
            };
            pass.steps()?;
            if let Some(dh0) = &call.dh0 {
                run.states_out(dh[d], dh0, i, net.output)?;
            }
            if let Some(dc0) = &call.dc0 {
                run.states_out(dc[d], dc0, i, net.hidden)?;
            }
            if !call.dparameters.is_empty() {
                let wanted = &mut call.dparameters[weights.first..][..weights.kinds.len()];
                pass.gradients(wanted, input, net.layer_input(l), call.accumulate, staged)?;
            }
            let k = net.layer_input(l);
            let (gates, w) =
                (Matrix::new(own.gates[d], net.gates), Matrix::new(weights.get(ParameterKind::WeightIh), k));
            if l > 0 {
                run.multiply((rows, k, net.gates), gates, w, Matrix::new(lower, k), d > 0)?;
            } else if call.dx.is_some() {
                run.multiply((rows, k, net.gates), gates, w, Matrix::new(dx_staging, k), d > 0)?;
            }
        }
        if l > 0 {
            if net.dropout > 0.0 {
                let mask = (call.dropout_seed, l as u64 - 1, net.dropout);
                // SAFETY: both are stretches of the workspace; `upper` is free by now.
                unsafe { run.cuda.drop_out(run.real, mask, lower, upper, rows * width)? };
            } else {
                std::mem::swap(&mut upper, &mut lower);
            }
        }
    }
    match &call.dx {
        Some(dx) => run.rows_out(dx_staging, dx, net.input),
        None => Ok(()),
    }
}

/// The steps of one layer and direction, backward, and what comes of them.
struct BackPass<'a> {
    run: &'a Run<'a>,
    weights: &'a Weights<'a>,
    reverse: bool,
    gates: u64,
    extra: u64,
    cells: u64,
    y: u64,
    dy: u64,
    h_first: u64,
    c_first: u64,
    dh: u64,
    dc: u64,
    q: u64,
    scratch: u64,
    projected: u64,
    states: u64,
    sums: u64,
}

impl BackPass<'_> {
    fn steps(&self) -> Result<()> {
        let (run, net) = (self.run, &self.run.net);
        let (hidden, r, g, width) = (net.hidden, net.output, net.gates, net.width());
        let w = Matrix::new(self.weights.get(ParameterKind::WeightHh), r);
        let dh = Matrix::new(self.dh, r);
        for s in (0..run.order.steps()).rev() {
            let t = if self.reverse { run.order.steps() - 1 - s } else { s };
            let (row, n) = (run.order.at(t), run.order.active(t));
            let (before_row, before) = run.order.before(t, self.reverse);
            let gates = Matrix::new(run.part(self.gates, row * g), g);
            let dy = if self.dy == 0 { 0 } else { run.part(self.dy, row * width) };
            let mut p = RecurrentStepBackward {
                gates: gates.at,
                q: self.q,
                kept: run.part(self.extra, row * net.extra),
                c: run.part(self.cells, row * net.cells()),
                c_before: run.part(self.cells, before_row * net.cells()),
                c_first: self.c_first,
                h_before: run.part(self.y, before_row * width),
                h_first: self.h_first,
                dy,
                dh: self.dh,
                dc: self.dc,
                peephole: self.weights.get(ParameterKind::WeightPeephole),
                count: n as u64,
                before: before as u64,
                hidden: hidden as u64,
                stride: width as u64,
            };
            let items = n * hidden;
            match run.cell() {
                Cell::Gru => {
                    run.launch("gru_backward", items, &p)?;
                    run.multiply((n, r, g), Matrix::new(self.q, g), w, dh, true)?;
                }
                Cell::GruResetBefore => {
                    run.launch("gru_before_state_backward", items, &p)?;
                    let candidates = Matrix::new(run.part(gates.at, 2 * hidden), g);
                    let w_n = Matrix::new(run.part(w.at, 2 * hidden * r), r);
                    run.multiply((n, r, hidden), candidates, w_n, Matrix::new(self.scratch, r), false)?;
                    p.q = self.scratch;
                    run.launch("gru_before_gates_backward", items, &p)?;
                    run.multiply((n, r, 2 * hidden), gates, w, dh, true)?;
                }
                cell => {
                    if net.projected {
                        // SAFETY: stretches of the workspace, and this direction's columns of dy.
                        unsafe {
                            if dy != 0 {
                                run.cuda.copy_rows(run.real, (n, r), Matrix::new(dy, width), dh, true)?;
                            }
                            let kept = Matrix::new(run.part(self.projected, row * r), r);
                            run.cuda.copy_rows(run.real, (n, r), dh, kept, false)?;
                        }
                        let w_hr = Matrix::new(self.weights.get(ParameterKind::WeightHr), hidden);
                        run.multiply((n, hidden, r), dh, w_hr, Matrix::new(self.scratch, hidden), false)?;
                        (p.dh, p.dy) = (self.scratch, 0);
                    }
                    let name = match cell {
                        Cell::LstmPeephole => "lstm_peephole_backward",
                        Cell::Rnn(Nonlinearity::Tanh) => "rnn_tanh_backward",
                        Cell::Rnn(Nonlinearity::Relu) => "rnn_relu_backward",
                        _ => "lstm_backward",
                    };
                    run.launch(name, items, &p)?;
                    run.multiply((n, r, g), gates, w, dh, false)?;
                }
            }
        }
        Ok(())
    }

    /// The state before each step, for all rows, in `states`.
    fn previous(&self, y: u64, stride: usize, first: u64, width: usize) -> Result<()> {
        let run = self.run;
        let p = RecurrentPrevious {
            y,
            first,
            to: self.states,
            offsets: run.order.offsets.address(),
            steps: run.order.steps() as u64,
            rows: run.order.rows() as u64,
            width: width as u64,
            stride: stride as u64,
            reverse: u64::from(self.reverse),
        };
        run.launch("previous", run.order.rows() * width, &p)
    }

    /// One product per weight over all rows, sums over rows for the biases and peepholes; half types by way of `staged`.
    fn gradients(
        &self,
        wanted: &mut [Option<BufMut<'_>>],
        x: u64,
        k: usize,
        accumulate: bool,
        staged: u64,
    ) -> Result<()> {
        let run = self.run;
        let direct = run.given == run.real;
        let mut at = staged;
        for (kind, buffer) in self.weights.kinds.iter().zip(wanted) {
            let Some(buffer) = buffer else { continue };
            let to = if direct { buffer.address() } else { at };
            self.gradient(*kind, to, x, k, accumulate && direct)?;
            if !direct {
                // SAFETY: `staged` has room for every parameter; the buffer is the caller's, lent for this call.
                unsafe {
                    if accumulate {
                        // The sum in f32 of both, rounded once: the old values pass through the states' memory.
                        let old = self.states;
                        for first in (0..buffer.len()).step_by(run.order.rows() * run.net.hidden) {
                            let len = (buffer.len() - first).min(run.order.rows() * run.net.hidden);
                            let theirs = buffer.address() + (first * run.given.size()) as u64;
                            run.cuda.convert((theirs, run.given), (old, run.real), len)?;
                            run.cuda.add(run.real, old, run.part(at, first), len)?;
                        }
                    }
                    run.cuda.convert((at, run.real), (buffer.address(), run.given), buffer.len())?;
                }
                at = run.part(at, buffer.len());
            }
        }
        Ok(())
    }

    fn gradient(&self, kind: ParameterKind, to: u64, x: u64, k: usize, add: bool) -> Result<()> {
        let (run, net) = (self.run, &self.run.net);
        let (rows, hidden, r, g) = (run.order.rows(), net.hidden, net.output, net.gates);
        let gates = Matrix::new(self.gates, g);
        match kind {
            ParameterKind::WeightIh => {
                run.multiply((g, k, rows), gates.t(), Matrix::new(x, k), Matrix::new(to, k), add)
            }
            ParameterKind::WeightHh => {
                self.previous(self.y, net.width(), self.h_first, r)?;
                let (states, extra) = (Matrix::new(self.states, r), Matrix::new(self.extra, hidden));
                let direct = if net.gates == 3 * hidden { 2 * hidden } else { g };
                run.multiply((direct, r, rows), gates.t(), states, Matrix::new(to, r), add)?;
                let rest = Matrix::new(run.part(to, direct * r), r);
                match run.cell() {
                    Cell::Gru => run.multiply((hidden, r, rows), extra.t(), states, rest, add),
                    Cell::GruResetBefore => {
                        let candidates = Matrix::new(run.part(gates.at, direct), g).t();
                        run.multiply((hidden, r, rows), candidates, extra, rest, add)
                    }
                    _ => Ok(()),
                }
            }
            ParameterKind::WeightHr => {
                let (dh, raw) = (Matrix::new(self.projected, r), Matrix::new(self.extra, hidden));
                run.multiply((r, hidden, rows), dh.t(), raw, Matrix::new(to, hidden), add)
            }
            ParameterKind::BiasIh | ParameterKind::BiasHh => {
                let into = if add { self.sums } else { to };
                // SAFETY: stretches of workspace and reserve, and the caller's gradient.
                unsafe {
                    run.cuda.sum_rows(run.real, self.gates, rows, g, into)?;
                    if kind == ParameterKind::BiasHh && run.cell() == Cell::Gru {
                        run.cuda.sum_rows(run.real, self.extra, rows, hidden, run.part(into, 2 * hidden))?;
                    }
                    if add { run.cuda.add(run.real, into, to, g) } else { Ok(()) }
                }
            }
            ParameterKind::WeightPeephole => {
                self.previous(self.cells, hidden, self.c_first, hidden)?;
                let p = RecurrentPeephole {
                    gates: self.gates,
                    cells: self.cells,
                    before: self.states,
                    to,
                    rows: rows as u64,
                    hidden: hidden as u64,
                    add: u64::from(add),
                };
                run.launch("peephole_gradient", hidden, &p)
            }
        }
    }
}
