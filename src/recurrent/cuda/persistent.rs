//! A layer's steps, or a stretch of them, in one launch: whether the device has room for it, and the launches.

use std::ops::Range;

use super::{
    super::{
        Algorithm, Cell, Choice, Descriptor, DeviceProperties, Exchange, ParameterKind, PersistentPlan, Shape, Tiling,
        algorithm::OP, choose,
    },
    Net, Run, Weights,
    backward::Pass as BackwardPass,
    forward::Pass as ForwardPass,
    kind,
};
use crate::{
    cuda::{
        Cuda,
        recurrent::{
            InCluster, Lane, Parameters, PersistentBackward, PersistentExchange, PersistentForward, PersistentPass,
            Together, Twice,
        },
    },
    dtype::DType,
    error::{Error, Result},
};

const ASKED: &str = "it was asked for";

/// The algorithm of a plan on a GPU. A persistent one has been told by the driver that all its blocks fit at once.
pub(in super::super) fn chosen(
    algorithm: Algorithm,
    descriptor: &Descriptor,
    shape: Shape,
    ordinal: usize,
) -> Result<Choice> {
    let cuda = Cuda::open(OP, ordinal)?;
    if algorithm == Algorithm::Auto && !cuda.persistent() {
        return Ok(Choice::Stepwise { reason: "Device::allow_persistent has switched the other off".into() });
    }
    let mut device = properties(cuda);
    loop {
        let asked = |exchange| -> Result<Choice> {
            let plan = PersistentPlan::fit_with(descriptor, shape, &device, exchange)?.into();
            Ok(Choice::Persistent { plan, backward: true, reason: ASKED.into() })
        };
        let choice = match algorithm {
            Algorithm::Auto => choose(descriptor, shape, &device),
            Algorithm::Stepwise => Choice::Stepwise { reason: ASKED.into() },
            Algorithm::Persistent => asked(None)?,
            Algorithm::PersistentBy(exchange) => asked(Some(exchange))?,
        };
        let Some(plan) = choice.persistent() else { return Ok(choice) };
        if let Some((members, room)) = without_room(cuda, (descriptor.cell, descriptor.dtype), plan)? {
            // Fewer than the properties have it, so this ends; and of larger ones there are no more.
            for (size, clusters) in device.clusters.iter_mut().enumerate().filter(|(size, _)| 1 << size >= members) {
                *clusters = (*clusters).min((room * members) >> size);
            }
            continue;
        }
        return match (crowded(cuda, (descriptor.cell, descriptor.dtype), plan)?, algorithm) {
            (None, _) => Ok(choice),
            (Some(reason), Algorithm::Auto) => Ok(Choice::Stepwise { reason }),
            (Some(reason), _) => {
                let what = format!("a persistent plan for {descriptor}, {} sequences", shape.batch);
                Err(Error::Unavailable { op: OP, what, reason })
            }
        };
    }
}

/// The plan with so many layers side by side in that many stretches, if the driver has room for them.
pub(in super::super) fn wavefront(
    plan: &PersistentPlan,
    descriptor: &Descriptor,
    ordinal: usize,
    (layers, stretches): (usize, usize),
) -> Result<PersistentPlan> {
    let cuda = Cuda::open(OP, ordinal)?;
    let plan = plan.wavefront(layers, stretches)?;
    let network = (descriptor.cell, descriptor.dtype);
    let reason = match without_room(cuda, network, &plan)? {
        Some((members, room)) => Some(format!("the driver has room at once for {room} clusters of {members} blocks")),
        None => crowded(cuda, network, &plan)?,
    };
    match reason {
        None => Ok(plan),
        Some(reason) => {
            let what = format!("{layers} layers side by side of {descriptor}");
            Err(Error::Unavailable { op: OP, what, reason })
        }
    }
}

fn properties(cuda: Cuda) -> DeviceProperties {
    let ((multiprocessors, (major, minor)), limits) = (cuda.size(), cuda.limits());
    DeviceProperties {
        multiprocessors,
        capability: (major as u32, minor as u32),
        shared_per_block: limits.shared_per_block,
        registers: limits.registers,
        cooperative: limits.cooperative,
        // As many as fit by number, until the driver is asked: it depends on the kernel.
        clusters: if limits.clusters { [1, 2, 4, 8, 16].map(|blocks| multiprocessors / blocks) } else { [0; 5] },
    }
}

/// Why the device has no room at once for all blocks of the launches through memory that may run side by side, by the driver's account. Of
/// clusters none waits for another.
fn crowded(cuda: Cuda, (cell, dtype): (Cell, DType), plan: &PersistentPlan) -> Result<Option<String>> {
    let of = |pass: &Tiling| (pass.exchange == Exchange::Memory).then_some(*pass);
    let room = [
        of(&plan.forward).map(|t| Ok((room::<PersistentForward>(cuda, dtype, name(FORWARD, cell, &t), &t)?, t))),
        of(&plan.backward).map(|t| Ok((room::<PersistentBackward>(cuda, dtype, name(BACKWARD, cell, &t), &t)?, t))),
    ];
    for pass in room.into_iter().flatten() {
        let (room, tiling) = pass?;
        if room < tiling.blocks_at_once() {
            return Ok(Some(format!("the driver says that {room} blocks fit at once, of {tiling}")));
        }
    }
    Ok(None)
}

fn room<P: Parameters>(cuda: Cuda, dtype: DType, name: &'static str, tiling: &Tiling) -> Result<usize>
where
    Twice<P>: Parameters,
{
    let ask = if tiling.exchanges == 2 { Cuda::resident::<Twice<P>> } else { Cuda::resident::<P> };
    ask(cuda, name, dtype, tiling.threads(), tiling.shared)
}

/// Clusters that are not all there at once by the driver's account: of how many blocks, and how many there are. Clusters do not wait for
/// each other, but a pass would take the time of two.
fn without_room(cuda: Cuda, (cell, dtype): (Cell, DType), plan: &PersistentPlan) -> Result<Option<(usize, usize)>> {
    type Ask = fn(Cuda, &'static str, DType, usize, usize, usize) -> Result<usize>;
    let passes: [(_, _, Ask); 2] = [
        (&plan.forward, FORWARD, Cuda::clusters::<InCluster<PersistentForward>>),
        (&plan.backward, BACKWARD, Cuda::clusters::<InCluster<PersistentBackward>>),
    ];
    for (t, names, ask) in passes.into_iter().filter(|(t, ..)| t.exchange == Exchange::Cluster) {
        let room = ask(cuda, name(names, cell, t), dtype, t.threads(), t.shared, t.members)?;
        if room < t.layers * t.directions * t.groups {
            return Ok(Some((t.members, room)));
        }
    }
    Ok(None)
}

/// The kernels by the sequences of their tiles: through memory once a step, of the RNN, the LSTM and the GRU (the last with more units to a
/// block), and twice a step; and in clusters.
struct Names {
    once: [&'static [&'static str]; 3],
    twice: [&'static str; 3],
    clusters: [&'static str; 3],
}

const FORWARD: Names = Names {
    once: [
        &["persistent_forward_rnn8", "persistent_forward_rnn16"],
        &["persistent_forward_lstm8", "persistent_forward_lstm16"],
        &["persistent_forward_gru8", "persistent_forward_gru16"],
    ],
    twice: ["persistent_forward_two8", "persistent_forward_two16", "persistent_forward_two32"],
    clusters: ["persistent_forward_cluster8", "persistent_forward_cluster16", "persistent_forward_cluster32"],
};
const BACKWARD: Names = Names {
    once: [
        &["persistent_backward_rnn8x16", "persistent_backward_rnn16x16", "persistent_backward_rnn8x32"],
        &["persistent_backward_lstm8x16", "persistent_backward_lstm16x16", "persistent_backward_lstm8x32"],
        &["persistent_backward_gru8x16", "persistent_backward_gru16x16", "persistent_backward_gru8x32"],
    ],
    twice: ["persistent_backward_two8", "persistent_backward_two16", "persistent_backward_two32"],
    clusters: ["persistent_backward_cluster8", "persistent_backward_cluster16", "persistent_backward_cluster32"],
};

fn name(names: Names, cell: Cell, tiling: &Tiling) -> &'static str {
    let of = match tiling.exchange {
        Exchange::Cluster => &names.clusters[..],
        Exchange::Memory if tiling.exchanges == 2 => &names.twice,
        Exchange::Memory => match cell {
            Cell::Rnn(_) => names.once[0],
            Cell::Lstm | Cell::LstmPeephole => names.once[1],
            _ => names.once[2],
        },
    };
    match tiling.tile {
        8 if tiling.units > 16 && tiling.exchange == Exchange::Memory => of[2],
        8 => of[0],
        16 => of[1],
        _ => of[2],
    }
}

/// Whether rows of so many bytes may be read 16 at once from those addresses on.
fn vectors(bytes: &[usize], addresses: impl IntoIterator<Item = u64>) -> u64 {
    u64::from(bytes.iter().all(|n| n.is_multiple_of(16)) && addresses.into_iter().all(|a| a.is_multiple_of(16)))
}

/// What a step's second product multiplies with, where it has one.
fn weight_second(run: &Run<'_>, weights: &Weights) -> u64 {
    let net = &run.net;
    match net.cell {
        Cell::GruResetBefore => run.at(weights.get(ParameterKind::WeightHh), 2 * net.hidden * net.hidden),
        _ => weights.get(ParameterKind::WeightHr),
    }
}

/// Units of h that are a block's.
fn outputs(net: &Net, tiling: &Tiling) -> u64 {
    if net.projected { net.output.div_ceil(tiling.members) as u64 } else { tiling.units as u64 }
}

/// On the main lane, before the others: the flags of all launches, so that no launch waits for a memset of its own.
pub(super) fn clear_flags(run: &Run<'_>, flags: u64) -> Result<()> {
    run.main.clear(flags, run.net.flags() * size_of::<u32>())
}

/// Those of a layer's stretch.
pub(super) fn flags(run: &Run<'_>, flags: u64, (place, stretch): (usize, usize)) -> u64 {
    let of_launch = run.net.persistent.map_or(0, |tiling| tiling.flags());
    flags + ((place * run.net.stretches + stretch) * of_launch * size_of::<u32>()) as u64
}

/// Steps of a launch, which knows of no others: where its rows are counted from, and where the states before its first lie.
struct Stretch<'a> {
    run: &'a Run<'a>,
    offsets: u64,
    steps: usize,
    /// The first of its rows where they are counted from that one; 0 where the offsets count all.
    row: usize,
    first: usize,
    /// How many rows.
    count: usize,
    /// The first row of the step before, if there is one: its sequences include all that have a step here.
    before: Option<usize>,
    /// How many sequences may have a state before this.
    batch: usize,
}

impl<'a> Stretch<'a> {
    fn new(run: &'a Run<'a>, steps: Range<usize>) -> Self {
        let (order, first) = (&run.order, run.order.at(steps.start));
        let count = order.at(steps.end) - first;
        let before = steps.start.checked_sub(1).map(|t| order.at(t));
        // States before the first step are [batch, hidden]: of both directions' rows, or of reversed ones, they would not be.
        debug_assert!(before.is_none() || run.net.directions == 1);
        let (offsets, row) = match order.offsets {
            0 => (0, first),
            table => (table + (steps.start * size_of::<i64>()) as u64, 0),
        };
        let batch = before.map_or(run.net.batch, |_| order.active(steps.start));
        Stretch { run, batch, offsets, steps: steps.len(), row, first, count, before }
    }

    /// Rows of so many numbers of the network's dtype from where the launch counts; 0: none.
    fn rows(&self, base: u64, width: usize) -> u64 {
        if base == 0 { 0 } else { self.run.at(base, self.row * width) }
    }

    /// The same of the type that is computed in.
    fn real_rows(&self, base: u64, width: usize) -> u64 {
        if base == 0 { 0 } else { self.run.real_at(base, self.row * width) }
    }

    /// Where the first of all rows would be, of an exchange that holds this stretch's only.
    fn exchange(&self, base: u64, width: usize) -> u64 {
        if base == 0 { 0 } else { base.wrapping_sub(self.run.at(0, (self.first - self.row) * width)) }
    }

    /// Nothing is exchanged yet.
    fn prepare(&self, lane: Lane, (exchange, initial, first): (u64, u64, u64), gates: usize) -> Result<()> {
        let net = &self.run.net;
        if exchange == 0 {
            return Ok(());
        }
        let p = PersistentExchange {
            exchange,
            initial,
            first,
            rows: self.count as u64,
            gates: gates as u64,
            hidden: net.hidden as u64,
            padded: net.padded() as u64,
            batch: self.batch as u64,
        };
        let all = self.count * gates + if initial == 0 { 0 } else { self.batch };
        lane.launch("persistent_exchange", net.dtype, all * net.padded() * net.size() / 16, &p)
    }

    /// Outputs of the step before, or the first states.
    fn h_before(&self, y: u64, h_first: u64) -> u64 {
        self.before.map_or(h_first, |row| self.run.at(y, row * self.run.net.width()))
    }

    /// Its cell states in `cells` of all rows, or the first ones.
    fn c_before(&self, cells: u64, c_first: u64) -> u64 {
        self.before.map_or(c_first, |row| self.run.real_at(cells, row * self.run.net.hidden))
    }
}

/// Through memory all blocks run at once; of clusters those of each.
fn launch<P: Parameters>(lane: Lane, net: &Net, names: Names, tiling: &Tiling, p: P) -> Result<()>
where
    InCluster<P>: Parameters,
    Twice<P>: Parameters,
{
    let (name, dtype) = (name(names, net.cell, tiling), net.dtype);
    let grid = (tiling.blocks(), tiling.threads(), tiling.shared);
    match tiling.exchange {
        Exchange::Memory if tiling.exchanges == 2 => lane.launch_together(name, dtype, grid, Together::All, &Twice(p)),
        Exchange::Memory => lane.launch_together(name, dtype, grid, Together::All, &p),
        Exchange::Cluster => {
            lane.launch_together(name, dtype, grid, Together::Clusters(tiling.members as u32), &InCluster(p))
        }
    }
}

/// These steps of a layer's directions, whose pre-activations are there.
pub(super) fn forward(
    run: &Run<'_>,
    lane: Lane,
    tiling: &Tiling,
    passes: &[ForwardPass<'_>],
    steps: Range<usize>,
    flags: u64,
) -> Result<()> {
    let net = &run.net;
    let Some(first) = passes.first().filter(|_| !steps.is_empty()) else { return Ok(()) };
    let stretch = Stretch::new(run, steps);
    let pass = |of: &ForwardPass<'_>| PersistentPass {
        weight: of.weights.get(ParameterKind::WeightHh),
        weight_second: weight_second(run, &of.weights),
        bias: of.bias,
        peephole: of.weights.get(ParameterKind::WeightPeephole),
        // Those of other steps may have no place in memory: what is counted from where they would be.
        pre: of.pre(stretch.first).wrapping_sub(run.real_at(0, (stretch.first - stretch.row) * net.gates)),
        gates: stretch.rows(of.gates, net.gates),
        cells: if of.training { stretch.real_rows(of.cells, net.hidden) } else { of.cells },
        kept: if net.kept > 0 { stretch.rows(of.kept, net.kept) } else { 0 },
        exchange: stretch.exchange(of.exchange, net.exchanged(false)),
        initial: of.initial,
        y: stretch.rows(of.y, net.width()),
        h_first: stretch.h_before(of.y, of.h_first),
        c_first: match stretch.before {
            Some(_) if !of.training => of.cells,
            _ => stretch.c_before(of.cells, of.c_first),
        },
        reverse: of.reverse.into(),
        ..PersistentPass::default()
    };
    let both = [pass(first), pass(passes.last().unwrap_or(first))];
    for (of, pass) in passes.iter().zip(&both) {
        stretch.prepare(lane, (of.exchange, of.initial, pass.h_first), 1)?;
    }
    let rows = [net.hidden * net.size(), net.output * net.size()];
    let p = PersistentForward {
        pass: both,
        offsets: stretch.offsets,
        flags,
        steps: stretch.steps as u64,
        batch: net.batch as u64,
        hidden: net.hidden as u64,
        output: net.output as u64,
        stride: net.width() as u64,
        cell: kind(net.cell),
        passes: passes.len() as u64,
        groups: tiling.groups as u64,
        group: tiling.group as u64,
        tiles: tiling.tiles as u64,
        members: tiling.members as u64,
        units: tiling.units as u64,
        outputs: outputs(net, tiling),
        training: first.training.into(),
        exact: (!run.cuda.tf32()).into(),
        vector: vectors(&rows, both.iter().flat_map(|p| [p.weight, p.weight_second, p.kept, p.y, p.h_first])),
    };
    launch(lane, net, FORWARD, tiling, p)
}

/// These steps of a layer's directions backward: gates become their gradients, dh and dc those of the states before the first.
pub(super) fn backward(
    run: &Run<'_>,
    lane: Lane,
    tiling: &Tiling,
    passes: &[BackwardPass<'_>],
    steps: Range<usize>,
    flags: u64,
) -> Result<()> {
    let net = &run.net;
    let Some(first) = passes.first().filter(|_| !steps.is_empty()) else { return Ok(()) };
    let stretch = Stretch::new(run, steps);
    let pass = |of: &BackwardPass<'_>| PersistentPass {
        weight: of.weights.get(ParameterKind::WeightHh),
        weight_second: weight_second(run, &of.weights),
        peephole: of.weights.get(ParameterKind::WeightPeephole),
        gates: stretch.rows(of.gates, net.gates),
        cells: stretch.real_rows(of.cells, net.hidden),
        kept: if net.projected { stretch.rows(of.projected, net.output) } else { 0 },
        exchange: stretch.exchange(of.exchange, net.exchanged(true)),
        y: stretch.rows(of.y, net.width()),
        h_first: stretch.h_before(of.y, of.h_first),
        c_first: stretch.c_before(of.cells, of.c_first),
        dy: stretch.rows(of.dy, net.width()),
        dh: of.dh,
        dc: of.dc,
        reverse: of.reverse.into(),
        ..PersistentPass::default()
    };
    let both = [pass(first), pass(passes.last().unwrap_or(first))];
    for of in passes {
        stretch.prepare(lane, (of.exchange, 0, 0), net.products())?;
    }
    let projected = if net.projected { net.output } else { 0 };
    let rows = [net.gates, net.recurrent_gates(), projected].map(|n| n * net.size());
    let p = PersistentBackward {
        pass: both,
        offsets: stretch.offsets,
        flags,
        steps: stretch.steps as u64,
        batch: net.batch as u64,
        hidden: net.hidden as u64,
        output: net.output as u64,
        stride: net.width() as u64,
        cell: kind(net.cell),
        passes: passes.len() as u64,
        groups: tiling.groups as u64,
        group: tiling.group as u64,
        tiles: tiling.tiles as u64,
        members: tiling.members as u64,
        units: tiling.units as u64,
        outputs: outputs(net, tiling),
        exact: (!run.cuda.tf32()).into(),
        vector: vectors(&rows, both.iter().flat_map(|p| [p.gates, p.kept])),
    };
    launch(lane, net, BACKWARD, tiling, p)
}
