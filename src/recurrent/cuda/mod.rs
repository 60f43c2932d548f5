//! A plan on a GPU, step by step: one input product for all steps, then per step one product and one pointwise kernel; backward the
//! same way, and one product per weight after the loop. Everything is queued; nothing waits and nothing is allocated.
//!
//! Products take x, h, the weights and the gradients of gates in the network's dtype and sum in f32 (f64 for f64);
//! pre-activations, cell states and the gradients that are carried from step to step are of that type, all else of the
//! network's.
//!
//! The two directions run on two lanes. Layers of one direction run as a wavefront where the sequence is long enough to be cut:
//! a layer begins when the one below has done its first stretch. Gradients of weights are computed aside, while the layer below
//! goes on. Lanes join at the end.
//!
//! Where the plan is persistent, all steps of a stretch of a layer and both its directions are one launch instead, and as many layers
//! run side by side as the plan says that there is room for.
//!
//! No launch that is persistent ever waits for another in its kernel, and one whose blocks are not all there yet keeps no place from one
//! that is: those that may run at once, one a lane, fit on the device together ([`Tiling::blocks_at_once`], which the driver has been
//! asked for). Behind the fork of a call nothing of an earlier call runs, for the main lane has waited for all of it, and calls of
//! several threads queue one after the other ([`Cuda::together`]). Whatever else runs on the device comes to its end by itself.

mod backward;
mod forward;
mod order;
mod persistent;
mod space;

use std::ops::Range;

pub(super) use backward::backward;
pub(super) use forward::forward;
use order::Order;
pub(super) use persistent::{chosen, wavefront};
pub(super) use space::{reserve_len, workspace_len};

use super::{
    Buf, Cell, Nonlinearity, ParameterKind, Plan, Sequence, Stream, Tiling,
    persistent::{Exchange, begins, waves},
};
use crate::{
    cuda::{
        Cuda,
        recurrent::{
            ASIDE, CELL_GRU, CELL_GRU_RESET_BEFORE, CELL_LSTM, CELL_LSTM_PEEPHOLE, CELL_RNN_RELU, CELL_RNN_TANH, Lane,
            Matrix, RecurrentRows, RecurrentStates,
        },
    },
    dtype::DType,
    error::{Error, Result},
};

const OP: &str = "recurrent";

/// Rows of a stretch at least, and stretches of a wavefront at most: products over fewer rows would not fill the device.
const STRETCH: usize = 512;
const STRETCHES: usize = 8;

/// Extents of a plan.
struct Net {
    layers: usize,
    directions: usize,
    seq: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    output: usize,
    cell: Cell,
    /// Columns of the gates in memory: the GRU keeps W_hn h + b_hn among them.
    gates: usize,
    lstm: bool,
    projected: bool,
    dropout: f64,
    /// Numbers kept per row beside the gates: the projected LSTM's h before projection, r ∘ h of the GRU that resets first.
    kept: usize,
    dtype: DType,
    /// What is computed in.
    real: DType,
    /// Stretches that the steps are cut into, and layers that may run side by side.
    stretches: usize,
    beside: usize,
    /// All steps of a layer in one launch.
    persistent: Option<Tiling>,
}

impl Net {
    /// Of a call forward or backward.
    fn of(plan: &Plan, backward: bool) -> Net {
        let (d, shape) = (plan.descriptor(), plan.shape());
        let projected = d.proj_size > 0;
        let columns = if d.cell == Cell::Gru { 4 } else { d.cell.gates() };
        let persistent = plan.choice().tiling(backward);
        let wave = d.num_layers > 1 && !d.bidirectional;
        let most = if wave { STRETCHES.min(shape.seq) } else { 1 };
        let (beside, stretches) = match &persistent {
            Some(tiling) => (tiling.layers.min(tiling.stretches), tiling.stretches),
            None => (d.num_layers, (shape.seq * shape.batch / STRETCH).clamp(1, most)),
        };
        Net {
            layers: d.num_layers,
            directions: d.directions(),
            seq: shape.seq,
            batch: shape.batch,
            input: d.input_size,
            hidden: d.hidden_size,
            output: d.output_size(),
            cell: d.cell,
            gates: columns * d.hidden_size,
            lstm: d.cell.has_cell_state(),
            projected,
            // Between layers only.
            dropout: if d.num_layers > 1 { d.dropout } else { 0.0 },
            kept: if projected || d.cell == Cell::GruResetBefore { d.hidden_size } else { 0 },
            dtype: d.dtype,
            real: plan.compute_dtype(),
            stretches,
            beside,
            persistent,
        }
    }

    /// Features of a layer's output.
    fn width(&self) -> usize {
        self.directions * self.output
    }

    fn layer_input(&self, layer: usize) -> usize {
        if layer == 0 { self.input } else { self.width() }
    }

    /// States of one kind that a network has.
    fn states(&self) -> usize {
        self.layers * self.directions
    }

    /// Rows of W_hh that h is multiplied by in the first product of a step.
    fn recurrent_gates(&self) -> usize {
        match self.cell {
            Cell::Gru => 3 * self.hidden,
            Cell::GruResetBefore => 2 * self.hidden,
            _ => self.gates,
        }
    }

    /// Which columns of the gates belong to which rows of W_ih: `(column, row, count)`.
    fn input_gates(&self) -> Vec<(usize, usize, usize)> {
        let h = self.hidden;
        if self.cell == Cell::Gru { vec![(0, 0, 2 * h), (3 * h, 2 * h, h)] } else { vec![(0, 0, self.gates)] }
    }

    /// The stretches' steps.
    fn stretch(&self, steps: usize, k: usize) -> Range<usize> {
        steps * k / self.stretches..steps * (k + 1) / self.stretches
    }

    /// Rows of a stretch at most.
    fn stretch_rows(&self) -> usize {
        self.seq.div_ceil(self.stretches) * self.batch
    }

    /// Flags of all persistent launches.
    fn flags(&self) -> usize {
        self.persistent.map_or(0, |tiling| tiling.flags() * self.layers * self.stretches)
    }

    /// Units in whole chunks of the depth of a persistent product: 64 bytes.
    fn padded(&self) -> usize {
        self.hidden.next_multiple_of(64 / self.size())
    }

    /// Gates behind the product with h, where a step has one.
    fn products(&self) -> usize {
        self.recurrent_gates() / self.hidden
    }

    /// Numbers that are exchanged of a row, where a persistent step has one product and goes through memory; else 0.
    fn exchanged(&self, backward: bool) -> usize {
        match &self.persistent {
            Some(t) if t.exchange == Exchange::Memory && t.exchanges == 1 => {
                self.padded() * if backward { self.products() } else { 1 }
            }
            _ => 0,
        }
    }

    /// Launches of one direction that run at once, or may.
    fn apart(&self) -> usize {
        if self.directions == 2 { 2 } else { self.beside.min(ASIDE) }
    }

    fn size(&self) -> usize {
        self.dtype.size()
    }

    fn real_size(&self) -> usize {
        self.real.size()
    }
}

/// A call under way.
struct Run<'a> {
    plan: &'a Plan,
    cuda: Cuda,
    net: Net,
    order: Order,
    main: Lane,
    lanes: Vec<Lane>,
    aside: Lane,
}

impl<'a> Run<'a> {
    /// Waits for the caller's stream, and brings the tables of the rows to `tables` where there are some.
    fn new(
        plan: &'a Plan,
        net: Net,
        ordinal: usize,
        stream: &Stream,
        sequence: Sequence<'_>,
        tables: u64,
    ) -> Result<Self> {
        let cuda = Cuda::open(OP, ordinal)?;
        if net.batch * net.hidden > u32::MAX as usize / 4 {
            let got = format!("a batch of {} and a hidden size of {}", net.batch, net.hidden);
            return Err(Error::shape(OP, got, "below 2³⁰ units in a step on a GPU"));
        }
        let main = cuda.lane(0)?;
        if let Stream::Cuda(theirs) = stream {
            // SAFETY: who made the `CudaStream` promised that it is one of this device.
            unsafe { main.wait_for_callers(theirs.raw())? };
        }
        let lanes = match net.directions {
            1 if net.stretches > 1 => net.beside.min(ASIDE),
            directions => directions,
        };
        let lanes = (0..lanes).map(|i| cuda.lane(i)).collect::<Result<Vec<_>>>()?;
        // A single layer's gradients have nothing to run beside.
        let aside = if net.states() == 1 { main } else { cuda.lane(ASIDE)? };
        let order = Order::new(plan, sequence, main, tables)?;
        Ok(Run { plan, cuda, net, order, main, lanes, aside })
    }

    /// Runs a call whose work is queued by `work`, or replays it: `addresses` is all else that it depends on.
    fn replay(&self, addresses: Vec<u64>, work: impl Fn() -> Result<()>) -> Result<()> {
        // Whoever comes next finds the lanes joined, whatever has happened to this call.
        let work = || work().inspect_err(|_| drop(self.join()));
        let (net, order) = (&self.net, &self.order);
        let launches = 4 * net.states() * if net.persistent.is_some() { 8 * net.stretches } else { order.steps() };
        // Those of a graph, too, must not run beside another call's; and on lanes beside the main one neither must products, for what is
        // captured of a lane runs in the main one's order, in the same workspace of cuBLAS.
        let alone = net.persistent.is_some() || self.lanes.len() > 1 || net.states() > 1;
        let _together = if alone { self.cuda.together() } else { None };
        if !(self.plan.may_capture() && self.cuda.replays()) {
            return work();
        }
        let d = self.plan.descriptor();
        let mut key = Vec::with_capacity(16 + addresses.len() + order.steps());
        let sizes = [net.layers, net.directions, net.seq, net.batch, net.input, net.hidden, net.output];
        key.extend(sizes.map(|n| n as u64));
        let modes = self.cuda.modes();
        key.extend([kind(d.cell), d.dtype as u64, u64::from(d.bias), net.dropout.to_bits(), modes]);
        key.push(self.plan.has_products().into());
        key.push(net.persistent.map_or(0, |tiling| 1 + tiling.exchange as u64));
        key.extend([net.stretches as u64, net.persistent.map_or(0, |tiling| tiling.layers as u64)]);
        let strides = order.strides.map_or([0; 2], |(step, sequence)| [step as u64, sequence as u64]);
        key.extend(strides.into_iter().chain([order.offsets, order.sequences]));
        if order.offsets != 0 {
            key.extend((0..=order.steps()).map(|t| order.at(t) as u64));
        }
        key.extend(addresses);
        self.cuda.replay(key, (launches, modes), work)
    }

    /// The lane of a direction of the layer that comes `place`-th.
    fn lane(&self, place: usize, direction: usize) -> Lane {
        if self.net.directions == 2 { self.lanes[direction] } else { self.lanes[place % self.lanes.len()] }
    }

    /// All lanes wait for the main one.
    fn fork(&self) -> Result<()> {
        self.lanes.iter().chain([&self.aside]).try_for_each(|lane| lane.wait_for(self.main))
    }

    /// The layers' stretches in the order in which they are queued, as `(place, stretch)`. Layers further on come first: what they
    /// wait for is then on its lane already, and nothing that comes behind it.
    fn waves(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (layers, stretches, beside) = (self.net.layers, self.net.stretches, self.net.beside);
        let at = move |wave: usize, place| {
            let k = wave.checked_sub(begins(place, beside, stretches))?;
            (k < stretches).then_some((place, k))
        };
        let all = waves(layers, beside, stretches);
        (0..all).flat_map(move |wave| (0..layers).rev().filter_map(move |place| at(wave, place)))
    }

    /// A layer's first lane, once it waits for the others: who needs both directions waits for this one.
    fn meet(&self, place: usize) -> Result<Lane> {
        let first = self.lane(place, 0);
        (1..self.net.directions).try_for_each(|d| first.wait_for(self.lane(place, d)))?;
        Ok(first)
    }

    /// The main lane waits for all.
    fn join(&self) -> Result<()> {
        self.lanes.iter().chain([&self.aside]).try_for_each(|&lane| self.main.wait_for(lane))
    }

    /// The caller's stream waits for the main lane.
    fn release(&self, stream: &Stream) -> Result<()> {
        match stream {
            // SAFETY: as above.
            Stream::Cuda(theirs) => unsafe { self.main.release_callers(theirs.raw()) },
            Stream::Host => Ok(()),
        }
    }

    /// The address of an element of the network's dtype.
    fn at(&self, base: u64, elements: usize) -> u64 {
        base + (elements * self.net.size()) as u64
    }

    /// The same of the type that is computed in.
    fn real_at(&self, base: u64, elements: usize) -> u64 {
        base + (elements * self.net.real_size()) as u64
    }

    /// A product into the type that is computed in.
    fn multiply(
        &self,
        lane: Lane,
        dims: (usize, usize, usize),
        a: Matrix,
        b: Matrix,
        c: Matrix,
        add: bool,
    ) -> Result<()> {
        if !self.plan.has_products() {
            return Ok(());
        }
        lane.multiply((self.net.dtype, self.net.real), dims, a, b, c, add)
    }

    /// A product into the network's dtype.
    fn multiply_out(
        &self,
        lane: Lane,
        dims: (usize, usize, usize),
        a: Matrix,
        b: Matrix,
        c: Matrix,
        add: bool,
    ) -> Result<()> {
        if !self.plan.has_products() {
            return Ok(());
        }
        lane.multiply((self.net.dtype, self.net.dtype), dims, a, b, c, add)
    }

    /// x or dy as packed rows: the caller's own where they lie so, else gathered into `to`.
    fn rows_in(&self, from: u64, to: u64, width: usize) -> Result<u64> {
        match self.order.strides {
            None => Ok(from),
            Some(strides) => {
                self.main.move_rows(false, self.net.dtype, self.rows(from, to, width, strides)).map(|()| to)
            }
        }
    }

    /// Packed rows to the caller's order; who has rows in order already writes them there himself.
    fn rows_out(&self, from: u64, to: u64, width: usize) -> Result<()> {
        let Some(strides) = self.order.strides else { return Ok(()) };
        if self.order.gaps {
            self.main.clear(to, self.net.seq * self.net.batch * width * self.net.size())?;
        }
        self.main.move_rows(true, self.net.dtype, self.rows(from, to, width, strides))
    }

    fn rows(&self, from: u64, to: u64, width: usize, strides: (usize, usize)) -> RecurrentRows {
        RecurrentRows {
            from,
            to,
            offsets: self.order.offsets,
            sequences: self.order.sequences,
            steps: self.order.steps() as u64,
            batch: self.net.batch as u64,
            rows: self.order.rows() as u64,
            width: width as u64,
            step_stride: strides.0 as u64,
            sequence_stride: strides.1 as u64,
            vector: 0,
        }
    }

    /// All of the network's states of one kind between the caller's order and `[states, batch, width]`.
    fn states(&self, from: u64, to: u64, width: usize) -> RecurrentStates {
        RecurrentStates {
            from,
            to,
            offsets: self.order.offsets,
            sequences: self.order.sequences,
            steps: self.order.steps() as u64,
            count: self.net.states() as u64,
            batch: self.net.batch as u64,
            width: width as u64,
            stride: width as u64,
            last: 0,
        }
    }

    fn move_states(&self, lane: Lane, name: &'static str, p: &RecurrentStates) -> Result<()> {
        lane.launch(name, self.net.dtype, (p.count * p.batch * p.width) as usize, p)
    }

    /// The caller's h0 in the order of the rows; 0 if there is none.
    fn hidden_in(&self, h0: Option<Buf<'_>>, to: u64) -> Result<u64> {
        self.first_in("hidden_in", h0, self.net.output, true, to)
    }

    /// The caller's c0 in that order and the type that is computed in.
    fn cells_in(&self, c0: Option<Buf<'_>>, to: u64) -> Result<u64> {
        self.first_in("states_in", c0, self.net.hidden, self.net.dtype == self.net.real, to)
    }

    /// The caller's own memory where it is `fit` and in order.
    fn first_in(&self, name: &'static str, from: Option<Buf<'_>>, width: usize, fit: bool, to: u64) -> Result<u64> {
        let Some(from) = from else { return Ok(0) };
        if fit && self.order.sequences == 0 {
            return Ok(from.address());
        }
        self.move_states(self.main, name, &self.states(from.address(), to, width)).map(|()| to)
    }

    /// The parameters of a layer and direction.
    fn weights(&self, all: &[Buf<'_>], l: usize, d: usize) -> Weights {
        let specs = self.plan.descriptor().layer_parameters(l, d);
        let first = (l * self.net.directions + d) * specs.len();
        let addresses = all[first..first + specs.len()].iter().map(Buf::address);
        Weights { list: specs.iter().map(|s| s.kind).zip(addresses).collect(), first }
    }

    /// Whether a step may move four units at once: every row begins where such a move may.
    fn vector(&self, addresses: &[u64]) -> u64 {
        let bytes = (4 * self.net.size() as u64).min(16);
        u64::from(self.net.hidden.is_multiple_of(4) && addresses.iter().all(|a| a.is_multiple_of(bytes)))
    }
}

fn kind(cell: Cell) -> u64 {
    match cell {
        Cell::Rnn(Nonlinearity::Tanh) => CELL_RNN_TANH.into(),
        Cell::Rnn(Nonlinearity::Relu) => CELL_RNN_RELU.into(),
        Cell::Lstm => CELL_LSTM.into(),
        Cell::LstmPeephole => CELL_LSTM_PEEPHOLE.into(),
        Cell::Gru => CELL_GRU.into(),
        Cell::GruResetBefore => CELL_GRU_RESET_BEFORE.into(),
    }
}

/// Parameters of one layer and direction: kinds and addresses, and the place of the first in the network's list.
struct Weights {
    list: Vec<(ParameterKind, u64)>,
    first: usize,
}

impl Weights {
    /// 0 where there is none.
    fn get(&self, kind: ParameterKind) -> u64 {
        self.list.iter().find(|(k, _)| *k == kind).map_or(0, |(_, address)| *address)
    }
}
