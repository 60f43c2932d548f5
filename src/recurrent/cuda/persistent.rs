//! All steps of a layer in one launch: whether the device has room for it, and the launches.

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
        recurrent::{InCluster, Lane, Parameters, PersistentBackward, PersistentForward, PersistentPass, Together},
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
        if let Some(members) = without_room(cuda, descriptor.dtype, plan)? {
            // Sixteen blocks are more than every such device has room for; without eight it goes through memory.
            device.cluster_blocks = if members > 8 { 8 } else { 0 };
            continue;
        }
        return match (crowded(cuda, descriptor.dtype, plan)?, algorithm) {
            (None, _) => Ok(choice),
            (Some(reason), Algorithm::Auto) => Ok(Choice::Stepwise { reason }),
            (Some(reason), _) => {
                let what = format!("a persistent plan for {descriptor}, {} sequences", shape.batch);
                Err(Error::Unavailable { op: OP, what, reason })
            }
        };
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
        cluster_blocks: if limits.clusters { 16 } else { 0 },
    }
}

/// Why the device has no room for all blocks of a launch through memory at once, by the driver's account. Of clusters none waits for
/// another.
fn crowded(cuda: Cuda, dtype: DType, plan: &PersistentPlan) -> Result<Option<String>> {
    let of = |pass: &Tiling| (pass.exchange == Exchange::Memory).then_some(*pass);
    let room = [
        of(&plan.forward).map(|t| Ok((room::<PersistentForward>(cuda, dtype, name(FORWARD, &t), &t)?, t))),
        of(&plan.backward).map(|t| Ok((room::<PersistentBackward>(cuda, dtype, name(BACKWARD, &t), &t)?, t))),
    ];
    for pass in room.into_iter().flatten() {
        let (room, tiling) = pass?;
        if room < tiling.blocks() {
            return Ok(Some(format!("the driver says that {room} blocks fit at once, of {tiling}")));
        }
    }
    Ok(None)
}

fn room<P: Parameters>(cuda: Cuda, dtype: DType, name: &'static str, tiling: &Tiling) -> Result<usize> {
    cuda.resident::<P>(name, dtype, tiling.threads(), tiling.shared)
}

/// The blocks of clusters of which not all of a pass run at once by the driver's account, as the model has it.
fn without_room(cuda: Cuda, dtype: DType, plan: &PersistentPlan) -> Result<Option<usize>> {
    type Ask = fn(Cuda, &'static str, DType, usize, usize, usize) -> Result<usize>;
    let passes: [(_, _, Ask); 2] = [
        (&plan.forward, FORWARD, Cuda::clusters::<InCluster<PersistentForward>>),
        (&plan.backward, BACKWARD, Cuda::clusters::<InCluster<PersistentBackward>>),
    ];
    let mut largest = None;
    for (t, names, ask) in passes.into_iter().filter(|(t, ..)| t.exchange == Exchange::Cluster) {
        if ask(cuda, name(names, t), dtype, t.threads(), t.shared, t.members)? < t.directions * t.groups {
            largest = largest.max(Some(t.members));
        }
    }
    Ok(largest)
}

/// The kernels, through memory once and twice a step and in clusters, by the sequences of their tiles.
type Names = [[&'static str; 3]; 3];
const FORWARD: Names = [
    ["persistent_forward8", "persistent_forward16", "persistent_forward32"],
    ["persistent_forward_two8", "persistent_forward_two16", "persistent_forward_two32"],
    ["persistent_forward_cluster8", "persistent_forward_cluster16", "persistent_forward_cluster32"],
];
const BACKWARD: Names = [
    ["persistent_backward8", "persistent_backward16", "persistent_backward32"],
    ["persistent_backward_two8", "persistent_backward_two16", "persistent_backward_two32"],
    ["persistent_backward_cluster8", "persistent_backward_cluster16", "persistent_backward_cluster32"],
];

fn name(names: Names, tiling: &Tiling) -> &'static str {
    let of = match tiling.exchange {
        Exchange::Memory => names[tiling.exchanges - 1],
        Exchange::Cluster => names[2],
    };
    match tiling.tile {
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

/// Through memory all blocks run at once; of clusters those of each.
fn launch<P: Parameters>(lane: Lane, dtype: DType, names: Names, tiling: &Tiling, flags: u64, p: P) -> Result<()>
where
    InCluster<P>: Parameters,
{
    let (name, grid) = (name(names, tiling), (tiling.blocks(), tiling.threads(), tiling.shared));
    match tiling.exchange {
        Exchange::Memory => {
            lane.clear(flags, tiling.flags() * size_of::<u32>())?;
            lane.launch_together(name, dtype, grid, Together::All, &p)
        }
        Exchange::Cluster => {
            lane.launch_together(name, dtype, grid, Together::Clusters(tiling.members as u32), &InCluster(p))
        }
    }
}

/// All steps of a layer's directions, whose pre-activations are there.
pub(super) fn forward(
    run: &Run<'_>,
    lane: Lane,
    tiling: &Tiling,
    passes: &[ForwardPass<'_>],
    flags: u64,
) -> Result<()> {
    let (net, order) = (&run.net, &run.order);
    let Some(first) = passes.first() else { return Ok(()) };
    let pass = |of: &ForwardPass<'_>| PersistentPass {
        weight: of.weights.get(ParameterKind::WeightHh),
        weight_second: weight_second(run, &of.weights),
        bias: of.bias,
        peephole: of.weights.get(ParameterKind::WeightPeephole),
        pre: of.pre(0),
        gates: of.gates,
        cells: of.cells,
        kept: if net.kept > 0 { of.kept } else { 0 },
        y: of.y,
        h_first: of.h_first,
        c_first: of.c_first,
        reverse: of.reverse.into(),
        ..PersistentPass::default()
    };
    let both = [pass(first), pass(passes.last().unwrap_or(first))];
    let rows = [net.hidden * net.size(), net.output * net.size()];
    let p = PersistentForward {
        pass: both,
        offsets: order.offsets,
        flags,
        steps: order.steps() as u64,
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
    launch(lane, net.dtype, FORWARD, tiling, flags, p)
}

/// All steps of a layer's directions backward: gates become their gradients, dh and dc those of the first states.
pub(super) fn backward(
    run: &Run<'_>,
    lane: Lane,
    tiling: &Tiling,
    passes: &[BackwardPass<'_>],
    flags: u64,
) -> Result<()> {
    let (net, order) = (&run.net, &run.order);
    let Some(first) = passes.first() else { return Ok(()) };
    let pass = |of: &BackwardPass<'_>| PersistentPass {
        weight: of.weights.get(ParameterKind::WeightHh),
        weight_second: weight_second(run, &of.weights),
        peephole: of.weights.get(ParameterKind::WeightPeephole),
        gates: of.gates,
        cells: of.cells,
        kept: if net.projected { of.projected } else { 0 },
        y: of.y,
        h_first: of.h_first,
        c_first: of.c_first,
        dy: of.dy,
        dh: of.dh,
        dc: of.dc,
        reverse: of.reverse.into(),
        ..PersistentPass::default()
    };
    let both = [pass(first), pass(passes.last().unwrap_or(first))];
    let projected = if net.projected { net.output } else { 0 };
    let rows = [net.gates, net.recurrent_gates(), projected].map(|n| n * net.size());
    let p = PersistentBackward {
        pass: both,
        offsets: order.offsets,
        flags,
        steps: order.steps() as u64,
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
    launch(lane, net.dtype, BACKWARD, tiling, flags, p)
}
