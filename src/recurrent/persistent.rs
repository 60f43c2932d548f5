//! How the work of a persistent plan is divided: which blocks keep which weights, and what that costs by a model.

use std::fmt;

use super::{Descriptor, DeviceProperties, Shape, algorithm::OP};
use crate::{
    cell::Cell,
    dtype::DType,
    error::{Error, Result},
};

/// Warps of a block, which share out the depth of a product, and its threads. As in `kernels/persistent.cuh`.
const WARPS: usize = 8;
const THREADS: usize = 32 * WARPS;
/// Units of a block at most, backward with one product a step, in a cluster too, and sequences of a tensor core's tile.
const UNITS: usize = 16;
const MOST_UNITS: usize = 32;
const CLUSTER_UNITS: usize = 32;
const COLUMNS: usize = 8;
/// Blocks of a cluster, in the order of [`DeviceProperties::clusters`].
const CLUSTERS: [usize; 5] = [1, 2, 4, 8, 16];
/// Tiles side by side in one go through the weights.
const TILES: [usize; 3] = [1, 2, 4];

/// The model, in cycles: what one multiprocessor moves in one, what a product of the tensor cores takes of it, and what passes
/// between a store in one block and its use in another. Figures of data sheets, and what an H100 took (`benches/results`): of other
/// cards nothing was measured.
const SHARED_BYTES: usize = 128;
const L2_BYTES: usize = 40;
/// Where a step has two products and blocks wait for flags; and what a go costs beside what it moves (latencies, barriers, instructions).
const EXCHANGE: usize = 1800;
const GO: usize = 4500;
/// Where a step has one product: the same, and what a multiprocessor reads of L2 in a cycle while all others do. 1.7 µs a step were
/// measured of 768 units and 16 sequences (LSTM, bf16), 4.2 of 1024 and 64.
const ONCE_EXCHANGE: usize = 1100;
const ONCE_GO: usize = 900;
const ONCE_L2_BYTES: usize = 20;
/// Tiles side by side there, and what one more go forward costs where they are not: an H200 took 2.5 µs a step for 512 units and 64 sequences in
/// one go of sixteen to a group, 2.9 in two of eight (LSTM in bf16; a GRU 2.3 and 2.9).
const ONCE_TILES: usize = 2;
const ONCE_NARROW: usize = 300;
/// The same in a cluster, which took 2.2 µs a step with nothing to do where the way through memory took 1.2; and what a multiprocessor
/// sends in a cycle (3.3 TB/s were measured of all together).
const CLUSTER_EXCHANGE: usize = 900;
const CLUSTER_GO: usize = 2600;
const CLUSTER_BYTES: usize = 14;
/// What waiting for one more block costs; what one more go costs even where the exchange of the one before hides it.
const MEMBER: usize = 4;
const ANOTHER: usize = 150;
/// Step by step: what a product and a pointwise kernel cost in a graph however little they do (4.9 µs), and how much of the weights a
/// multiprocessor reads in a cycle, forward and backward.
const LAUNCHES: usize = 8500;
const STEP_BYTES: [usize; 2] = [40, 6];

/// Layers of a wavefront at most, a lane each, and its stretches. Beginning a stretch costs at most one part in so many of its steps.
const BESIDE: usize = 3;
const STRETCHES: usize = 32;
const BEGINNING: usize = 16;

/// How the blocks of a group come by what the others computed in the step before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exchange {
    /// Through global memory (L2): each block waits for the others' flags and reads.
    Memory,
    /// The blocks of a group are one cluster and each writes into the others' shared memory: forward its states, backward its part of
    /// what reaches their states. From compute capability 9.0 on.
    Cluster,
}

/// One pass over the steps, forward or backward, in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tiling {
    /// How the blocks of a group hear of each other.
    pub exchange: Exchange,
    /// Units whose weights a block keeps.
    pub units: usize,
    /// Blocks that share out the units: they wait for each other in every step.
    pub members: usize,
    /// Groups of sequences, which do not wait for each other.
    pub groups: usize,
    /// Sequences of a group, the last of which may have fewer.
    pub group: usize,
    /// Sequences in one go through the weights: 8, 16 or 32.
    pub tile: usize,
    /// Goes that a group needs for each step; while one is exchanged the next is computed.
    pub tiles: usize,
    /// Both directions of a layer run in one launch.
    pub directions: usize,
    /// Exchanges of a step: two where it has two products, the one of what the other has made.
    pub exchanges: usize,
    /// Layers whose launches may run side by side: the device has room for all blocks of so many.
    pub layers: usize,
    /// Launches that a layer's steps are cut into: 1 where layers run one after the other.
    pub stretches: usize,
    /// Steps of a launch at most.
    pub stretch: usize,
    /// Bytes of dynamic shared memory of a block.
    pub shared: usize,
    /// Cycles of a step by the model.
    pub cycles: usize,
    /// The same of a layer's share, where several run side by side.
    pub layer_cycles: usize,
    /// Cycles of a step that is run by a product and a pointwise kernel of its own.
    pub stepwise_cycles: usize,
}

impl Tiling {
    /// Blocks of a launch, all of which run at once.
    pub fn blocks(&self) -> usize {
        self.directions * self.groups * self.members
    }

    /// Blocks of all launches that may run at once: never more than the device has room for, lest two launches that are not wholly
    /// there wait for their own and keep each other's places.
    pub fn blocks_at_once(&self) -> usize {
        self.layers * self.blocks()
    }

    /// Threads of a block.
    pub const fn threads(&self) -> usize {
        THREADS
    }

    /// Flags in global memory by which blocks tell that a step is done; where it has one product, what they exchange tells by itself.
    pub fn flags(&self) -> usize {
        match self.exchange {
            Exchange::Memory if self.exchanges == 2 => self.blocks() * self.tiles,
            _ => 0,
        }
    }
}

impl fmt::Display for Tiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} blocks of {THREADS} threads ({} × {} {} × {} blocks of {} units), {} sequences a group in {} of {}{}, {} bytes of \
             shared memory",
            self.blocks(),
            self.directions,
            self.groups,
            match self.exchange {
                Exchange::Memory => "groups",
                Exchange::Cluster => "clusters",
            },
            self.members,
            self.units,
            self.group,
            self.tiles,
            self.tile,
            if self.exchanges == 2 { ", two exchanges a step" } else { "" },
            self.shared,
        )?;
        match self.layers {
            1 => Ok(()),
            n => write!(f, ", {n} layers side by side in {} stretches of {} steps", self.stretches, self.stretch),
        }
    }
}

/// What a step multiplies beside G H rows of length H.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Second {
    Nothing,
    /// The GRU that resets before the product: of its three gates the last has a product of its own.
    Reset,
    /// A projection to so many units, which are all that the gates see.
    Projection(usize),
}

/// What a pass multiplies: rows of `size` bytes a number, forward G H rows of length H, backward H of length G H.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Product {
    gates: usize,
    second: Second,
    backward: bool,
    size: usize,
    directions: usize,
    layers: usize,
    hidden: usize,
    seq: usize,
    batch: usize,
    /// The only exchange that may be, where there is one.
    exchange: Option<Exchange>,
}

impl Product {
    /// The division that the model finds best, if any fits: of layers one after the other, or of a wavefront.
    fn best(&self, device: &DeviceProperties) -> Option<Tiling> {
        // The layer above needs both directions of the one below.
        let most = if self.directions == 1 { self.layers.min(BESIDE) } else { 1 };
        let all = (1..=most).filter_map(|layers| {
            let tiling = self.beside(device, layers)?;
            let stretches = self.stretches(device, &tiling)?;
            Some((self.all_cycles(device, &tiling, stretches), self.cut(tiling, stretches)))
        });
        all.min_by_key(|(cycles, _)| *cycles).map(|(_, tiling)| tiling)
    }

    /// The fastest steps where so many layers have to share the device.
    fn beside(&self, device: &DeviceProperties, layers: usize) -> Option<Tiling> {
        let share = &DeviceProperties {
            multiprocessors: device.multiprocessors / layers,
            clusters: device.clusters.map(|room| room / layers),
            ..*device
        };
        let all = (1..=MOST_UNITS).rev().flat_map(|units| TILES.map(|tiles| (units, tiles)));
        let memory = all.filter_map(|(units, tiles)| match self.second {
            Second::Nothing => self.once_tiling(share, units, tiles),
            _ => self.tiling(share, units, tiles),
        });
        let all = CLUSTERS.into_iter().rev().flat_map(|blocks| TILES.map(|tiles| (blocks, tiles)));
        let cluster = all.filter_map(|(blocks, tiles)| self.cluster_tiling(share, blocks, tiles));
        let may = |t: &Tiling| self.exchange.is_none_or(|exchange| exchange == t.exchange);
        let best = memory.chain(cluster).filter(may).min_by_key(|t| (t.cycles, t.blocks()))?;
        Some(Tiling { layers, stepwise_cycles: self.stepwise(device), ..best })
    }

    /// The stretches that the model finds best, if any are long enough.
    fn stretches(&self, device: &DeviceProperties, t: &Tiling) -> Option<usize> {
        if t.layers == 1 {
            return Some(1);
        }
        let long = self.seq.saturating_mul(t.cycles) / (BEGINNING * beginning(t));
        let most = long.min(self.seq).min(STRETCHES);
        (t.layers..=most).min_by_key(|&stretches| self.all_cycles(device, t, stretches))
    }

    /// A pass over all layers in that many stretches.
    fn cut(&self, t: Tiling, stretches: usize) -> Tiling {
        let stretch = self.seq.div_ceil(stretches);
        let steps = waves(self.layers, t.layers.min(stretches), stretches).saturating_mul(stretch);
        let layer_cycles = t.cycles.saturating_mul(steps) / self.layers.saturating_mul(self.seq).max(1);
        Tiling { stretches, stretch, layer_cycles, ..t }
    }

    /// The model of all layers: each wave is a stretch of those that run side by side, its beginning, and the product that hands it on.
    fn all_cycles(&self, device: &DeviceProperties, t: &Tiling, stretches: usize) -> usize {
        let weights = self.directions * self.gates * self.hidden * self.output();
        let handed = t.layers * weights * self.batch / (self.rate(device) * device.multiprocessors);
        let wave = self.seq.div_ceil(stretches).saturating_mul(t.cycles + handed).saturating_add(beginning(t));
        waves(self.layers, t.layers, stretches).saturating_mul(wave)
    }

    /// Blocks that keep so many units each, in as many groups as there is room for.
    fn divide(&self, exchange: Exchange, units: usize, members: usize, tile: usize, room: usize) -> Tiling {
        let group = self.batch.div_ceil(room.min(self.batch.div_ceil(tile)));
        Tiling {
            exchange,
            units,
            members,
            groups: self.batch.div_ceil(group),
            group,
            tile,
            tiles: group.div_ceil(tile),
            directions: self.directions,
            exchanges: 1,
            layers: 1,
            stretches: 1,
            stretch: self.seq,
            shared: 0,
            cycles: 0,
            layer_cycles: 0,
            stepwise_cycles: 0,
        }
    }

    /// With one product a step, of whole octets of units: as `kernels/persistent_once.cuh` lays shared memory out.
    fn once_tiling(&self, device: &DeviceProperties, units: usize, side: usize) -> Option<Tiling> {
        let wide = units > UNITS;
        if !units.is_multiple_of(COLUMNS) || side > ONCE_TILES || wide && (side > 1 || !self.backward) {
            return None;
        }
        let (members, tile) = (self.hidden.div_ceil(units), side * COLUMNS);
        let room = device.multiprocessors / (members * self.directions);
        if room == 0 {
            return None;
        }
        let divided = self.divide(Exchange::Memory, units, members, tile, room);
        let chunk = 64 / self.size;
        let padded = self.hidden.next_multiple_of(chunk);
        // Rows by eights, the depth, and floats of a cell's sum.
        let (eights, depth, values) = match self.backward {
            false => (self.gates * units / COLUMNS, padded, if self.gates == 1 { 1 } else { 4 }),
            true => (units / COLUMNS, self.gates * padded, 1),
        };
        let held = match (self.size, self.backward) {
            (4, _) => 0,
            (_, false) => 4,
            (_, true) if self.gates == 1 => 4,
            (_, true) if wide => 8,
            (_, true) if side == 2 && self.gates == 4 => 12,
            (_, true) => 4 * self.gates,
        };
        let each = (depth / chunk).div_ceil(WARPS);
        let rest = WARPS * each.saturating_sub(held) * eights * 512;
        let cells = 8 * COLUMNS * side * units / COLUMNS;
        let shared = rest + 2 * WARPS * cells * values * 4 + divided.tiles * THREADS * 4;
        if shared > device.shared_per_block {
            return None;
        }
        let rows = eights * COLUMNS;
        let tensor = self.tensor(device, depth / chunk, rows, side);
        let parts = (depth / chunk).div_ceil(each);
        let read = tile * depth * self.size / ONCE_L2_BYTES;
        let go = ONCE_GO + tensor + read.max(rest / SHARED_BYTES) + 2 * parts * cells * values * 4 / SHARED_BYTES;
        let narrow = if side == 1 && !self.backward { ONCE_NARROW * (divided.tiles - 1) } else { 0 };
        let cycles = (ONCE_EXCHANGE + go).max(divided.tiles * go) + ANOTHER * divided.tiles + narrow;
        Some(Tiling { shared, cycles, ..divided })
    }

    /// With so many units to a block and tiles side by side: as many groups as the device has room for.
    fn tiling(&self, device: &DeviceProperties, units: usize, side: usize) -> Option<Tiling> {
        let (members, tile) = (self.hidden.div_ceil(units), side * COLUMNS);
        let room = device.multiprocessors / (members * self.directions);
        if room == 0 || units > UNITS {
            return None;
        }
        let divided = self.divide(Exchange::Memory, units, members, tile, room);
        let tiles = divided.tiles;
        let padded = if tile == COLUMNS { tile } else { tile + COLUMNS };
        let products = self.products(units, members);
        // Forward the update gate is kept from the first product to the second.
        let states = if self.backward { 1 } else { products.len() };
        let (mut shared, mut sums, mut cycles) = (states * tiles * side.div_ceil(2) * THREADS * 4, 0, 0);
        for &(rows, depth) in &products {
            let (rows, chunks) = (rows.next_multiple_of(COLUMNS), depth.div_ceil(64 / self.size));
            let weights = chunks * rows * 64;
            shared += weights;
            sums = sums.max(WARPS * rows * padded * 4);
            let tensor = self.tensor(device, chunks, rows, side);
            let warps = chunks.div_ceil(chunks.div_ceil(WARPS));
            let moved = (weights + 2 * warps * rows * tile * 4) / SHARED_BYTES;
            let read = tile * depth * self.size / L2_BYTES;
            let go = moved.max(tensor) + read + GO;
            cycles += (EXCHANGE + go).max(tiles * go) + ANOTHER * tiles + MEMBER * members;
        }
        shared += sums;
        if shared > device.shared_per_block {
            return None;
        }
        Some(Tiling { exchanges: products.len(), shared, cycles, ..divided })
    }

    /// Units of h: all that the gates see.
    fn output(&self) -> usize {
        match self.second {
            // So that fewer units never fit worse.
            Second::Projection(size) => size.min(self.hidden),
            _ => self.hidden,
        }
    }

    /// Rows and depth of a block's products in a step, where it has so many units.
    fn products(&self, units: usize, members: usize) -> Vec<(usize, usize)> {
        let (gates, hidden, output) = (self.gates, self.hidden, self.output());
        let outputs = output.div_ceil(members);
        match (self.second, self.backward) {
            (Second::Nothing, false) => vec![(gates * units, hidden)],
            (Second::Nothing, true) => vec![(units, gates * hidden)],
            (Second::Reset, false) => vec![(2 * units, hidden), (units, hidden)],
            (Second::Reset, true) => vec![(units, 2 * hidden), (units, hidden)],
            (Second::Projection(_), false) => vec![(gates * units, output), (outputs, hidden)],
            (Second::Projection(_), true) => vec![(outputs, gates * hidden), (units, output)],
        }
    }

    /// With clusters of so many blocks, each of which has units: as many as fit at once. As `kernels/persistent_*_cluster.cu` lay their
    /// shared memory out.
    fn cluster_tiling(&self, device: &DeviceProperties, members: usize, side: usize) -> Option<Tiling> {
        let room = device.clusters[members.ilog2() as usize] / self.directions;
        if room == 0 || self.second != Second::Nothing {
            return None;
        }
        // States are sent 16 bytes at a time; of their gradients eight units are one row of the tensor cores' tiles.
        let together = if self.backward { COLUMNS } else { 16 / self.size };
        let units = self.hidden.div_ceil(members).next_multiple_of(together);
        if units > CLUSTER_UNITS || units * (members - 1) >= self.hidden {
            return None;
        }
        let tile = side * COLUMNS;
        let divided = self.divide(Exchange::Cluster, units, members, tile, room);
        let tiles = divided.tiles;
        let (rows, depth) =
            if self.backward { (self.hidden, self.gates * units) } else { (self.gates * units, self.hidden) };
        let (rows, chunks) = (rows.next_multiple_of(COLUMNS), depth.div_ceil(64 / self.size));
        let padded = if tile == COLUMNS { tile } else { tile + COLUMNS };
        // A row of states, or of gradients of gates.
        let (weights, line) = (chunks * rows * 64, (chunks | 1) * 64);
        // What is kept beside the weights, what goes through shared memory in a go, and what is sent.
        let (kept, passed, sent) = if self.backward {
            let parts = members * units * 4;
            // Two sixteens of rows at a time go through all gradients in the stage.
            let read = rows.div_ceil(32) * tile * chunks * 64;
            (tiles * 2 * parts * padded + tile * line, read + parts * tile, rows * tile * 4)
        } else {
            // Groups of warps share out the rows, and the warps of one the depth.
            let shares = rows.div_ceil(16).next_power_of_two().min(4);
            let parts = chunks.div_ceil(chunks.div_ceil(WARPS / shares));
            let sums = WARPS / shares * rows * padded * 4;
            let stage = tile * (units * self.size + 16);
            let passed = 2 * parts * rows * tile * 4 + shares * tile * chunks * 64;
            (sums + tiles * 2 * tile * line + stage, passed, members * tile * units * self.size)
        };
        let shared = weights + kept + tiles * (side * THREADS * 4 + 2 * 8 + 4);
        if shared > device.shared_per_block {
            return None;
        }
        let go = ((weights + passed) / SHARED_BYTES).max(self.tensor(device, chunks, rows, side))
            + sent / CLUSTER_BYTES
            + CLUSTER_GO;
        let cycles = (CLUSTER_EXCHANGE + go).max(tiles * go) + ANOTHER * tiles;
        Some(Tiling { shared, cycles, ..divided })
    }

    /// The tensor cores' cycles of a multiprocessor: 1024 products of halves a cycle on large cards, 512 on others; half as many of
    /// TF32, of which f32 takes three for one.
    fn tensor(&self, device: &DeviceProperties, chunks: usize, rows: usize, side: usize) -> usize {
        let slow = if matches!(device.capability, (8, 0) | (9, _) | (10, _)) { 2 } else { 4 };
        let times = if self.size == 4 { 3 } else { 1 };
        chunks * 2 * rows.div_ceil(16) * side * times * slow
    }

    /// The model of a step by itself: two launches, or as many for each of its products, and the products, which are bound by reading
    /// the weights from L2 or by arithmetic.
    fn stepwise(&self, device: &DeviceProperties) -> usize {
        let numbers = match self.second {
            Second::Projection(_) => (self.gates + 1) * self.output(),
            _ => self.gates * self.hidden,
        };
        let weights = self.directions * numbers * self.hidden;
        let launches = match (self.second, self.backward) {
            (Second::Nothing, _) => LAUNCHES,
            // Two products, but one pointwise kernel.
            (Second::Projection(_), false) => LAUNCHES / 2 * 3,
            _ => 2 * LAUNCHES,
        };
        let all = device.multiprocessors;
        let bytes = STEP_BYTES[usize::from(self.backward)];
        launches + (weights * self.size / (bytes * all)).max(weights * self.batch / (self.rate(device) * all))
    }

    /// Multiplications of a library's product in a cycle of a multiprocessor: of halves what an H100 did, and as much of what the units
    /// of other cards can do; of f32 two fifths.
    fn rate(&self, device: &DeviceProperties) -> usize {
        match device.capability {
            _ if self.size == 4 => 100,
            (9 | 10, _) => 450,
            (8, 0) => 225,
            _ => 110,
        }
    }
}

/// What a launch costs before its first step: itself and the product before it, and fetching the weights.
fn beginning(t: &Tiling) -> usize {
    t.shared / L2_BYTES + LAUNCHES
}

/// In which wave of a wavefront the layer that comes `place`-th begins, where so many run side by side: a wave behind the one before,
/// or where that many run already as soon as the first of those is done. So whoever has a stretch to hand on is a wave ahead, as long
/// as there are at least as many stretches as layers side by side.
pub(super) fn begins(place: usize, layers: usize, stretches: usize) -> usize {
    (place / layers).saturating_mul(stretches).saturating_add(place % layers)
}

/// Waves of a whole pass.
pub(super) fn waves(all: usize, layers: usize, stretches: usize) -> usize {
    begins(all - 1, layers, stretches).saturating_add(stretches)
}

/// Both passes at a number of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Passes {
    product: Product,
    device: DeviceProperties,
}

impl Passes {
    fn tilings(&self, hidden: usize) -> Option<(Tiling, Tiling)> {
        self.both(hidden, |product| product.best(&self.device))
    }

    fn both(&self, hidden: usize, pass: impl Fn(Product) -> Option<Tiling>) -> Option<(Tiling, Tiling)> {
        let pass = |backward| pass(Product { backward, hidden, ..self.product });
        Some((pass(false)?, pass(true)?))
    }

    /// Fewer units never fit worse, so the most that do are found by halving; but in clusters, whose sizes are few.
    fn largest(&self) -> usize {
        if self.product.exchange == Some(Exchange::Cluster) {
            let most = CLUSTER_UNITS * self.device.cluster_blocks();
            return (1..=most).rev().find(|&hidden| self.tilings(hidden).is_some()).unwrap_or(0);
        }
        let (mut fits, mut above) = (0, self.device.multiprocessors * UNITS + 1);
        while above - fits > 1 {
            let middle = fits + (above - fits) / 2;
            if self.tilings(middle).is_some() { fits = middle } else { above = middle }
        }
        fits
    }
}

/// A persistent run of one shape on one device: how both passes are divided. Printed, it says what it takes of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersistentPlan {
    /// The steps forward.
    pub forward: Tiling,
    /// The steps backward.
    pub backward: Tiling,
    passes: Passes,
}

impl PersistentPlan {
    /// Divides the work, where the device has room for all of it at once.
    ///
    /// A block keeps the weights of some units in shared memory: forward the gates' rows of W_hh of up to 16, backward the columns of up to 32. The
    /// blocks that share out the units of a layer, and of both directions, run at the same time, one to a multiprocessor.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with the reason where they do not fit; for f64; and for devices below compute capability 8.0.
    pub fn fit(descriptor: &Descriptor, shape: Shape, device: &DeviceProperties) -> Result<Self> {
        Self::fit_with(descriptor, shape, device, None)
    }

    /// The same, with states and gradients exchanged in that way. In clusters a block keeps the weights of up to 32 units.
    ///
    /// # Errors
    /// As [`PersistentPlan::fit`]; and for [`Exchange::Cluster`] where a device has no clusters (compute capability below 9.0), none of
    /// 1, 2, 4, 8 or 16 blocks holds all units, or a step has two products one after the other: with a projection, and of the GRU that
    /// resets before the product.
    pub fn fit_by(
        descriptor: &Descriptor,
        shape: Shape,
        device: &DeviceProperties,
        exchange: Exchange,
    ) -> Result<Self> {
        Self::fit_with(descriptor, shape, device, Some(exchange))
    }

    pub(super) fn fit_with(
        descriptor: &Descriptor,
        shape: Shape,
        device: &DeviceProperties,
        exchange: Option<Exchange>,
    ) -> Result<Self> {
        descriptor.validate()?;
        let refuse = |reason: String| {
            let what = format!("a persistent plan for {descriptor}, {} sequences", shape.batch);
            Err(Error::Unavailable { op: OP, what, reason })
        };
        let (major, minor) = device.capability;
        if major < 8 {
            return refuse(format!("compute capability {major}.{minor}: the tensor cores' products need 8.0"));
        }
        if device.multiprocessors == 0 {
            return refuse("the device has no multiprocessors".into());
        }
        if !device.cooperative {
            return refuse("the device cannot promise to run all blocks of a launch at once".into());
        }
        if descriptor.dtype == DType::F64 {
            return refuse("f64: the tensor cores' products are of halves and TF32".into());
        }
        let second = match descriptor.cell {
            _ if descriptor.proj_size > 0 => Second::Projection(descriptor.proj_size),
            Cell::GruResetBefore => Second::Reset,
            _ => Second::Nothing,
        };
        if exchange == Some(Exchange::Cluster) && second != Second::Nothing {
            let what = if second == Second::Reset { "a GRU that resets before the product" } else { "a projection" };
            return refuse(format!("{what} needs a second product in every step, and clusters exchange once a step"));
        }
        let units = shape.batch.saturating_mul(descriptor.hidden_size);
        if units == 0 || units >= 1 << 30 || shape.seq.saturating_mul(shape.batch) >= 1 << 31 {
            return refuse(format!("{} steps of {} sequences cannot be counted in 32 bits", shape.seq, shape.batch));
        }
        let product = Product {
            gates: descriptor.cell.gates(),
            second,
            backward: false,
            size: descriptor.dtype.size(),
            directions: descriptor.directions(),
            layers: descriptor.num_layers,
            hidden: descriptor.hidden_size,
            seq: shape.seq,
            batch: shape.batch,
            exchange,
        };
        if exchange == Some(Exchange::Cluster) && device.cluster_blocks() == 0 {
            return refuse(format!(
                "no clusters of thread blocks on this device, of compute capability {major}.{minor}: they need 9.0, kernels built for \
                 it, and room for one"
            ));
        }
        let passes = Passes { product, device: *device };
        match passes.tilings(descriptor.hidden_size) {
            Some((forward, backward)) => Ok(PersistentPlan { forward, backward, passes }),
            None if exchange == Some(Exchange::Cluster) => refuse(format!(
                "{} hidden units do not fit into a cluster of 1, 2, 4, 8 or 16 blocks ({} at most on this device), each with up to \
                 {CLUSTER_UNITS} units, in multiples of eight, and {} bytes of shared memory: at most {} would",
                descriptor.hidden_size,
                device.cluster_blocks(),
                device.shared_per_block,
                passes.largest()
            )),
            None => refuse(format!(
                "{} hidden units do not fit into {} blocks of {} bytes of shared memory: at most {} would",
                descriptor.hidden_size,
                device.multiprocessors,
                device.shared_per_block,
                passes.largest()
            )),
        }
    }

    /// The same network with so many layers side by side in that many stretches, or in one: one after the other.
    ///
    /// # Errors
    /// [`Error::Argument`] for no layers or stretches, for more layers than the network or a wavefront has or than there are stretches,
    /// for more stretches than steps, and for several of both directions; [`Error::Unavailable`] where the device has no room for them.
    #[cfg(feature = "cuda")]
    pub(super) fn wavefront(&self, layers: usize, stretches: usize) -> Result<Self> {
        let product = &self.passes.product;
        let most = if product.directions == 1 { product.layers.min(BESIDE) } else { 1 };
        if !(1..=most).contains(&layers)
            || !(1..=product.seq).contains(&stretches)
            || (stretches > 1 && !(2..=stretches).contains(&layers))
        {
            return Err(Error::argument(
                OP,
                format!("{layers} layers side by side in {stretches} stretches"),
                format!(
                    "1 to {most} layers and 1 to {} stretches: one, or at least as many as layers, two or more",
                    product.seq
                ),
            ));
        }
        let of = |product: Product| Some(product.cut(product.beside(&self.passes.device, layers)?, stretches));
        match self.passes.both(product.hidden, of) {
            Some((forward, backward)) => Ok(PersistentPlan { forward, backward, passes: self.passes }),
            None => Err(Error::Unavailable {
                op: OP,
                what: format!("{layers} persistent layers of {} units side by side", product.hidden),
                reason: format!(
                    "a share of {} multiprocessors has no room for one",
                    self.passes.device.multiprocessors
                ),
            }),
        }
    }

    /// The most hidden units that would fit, all else being equal.
    pub fn largest_hidden(&self) -> usize {
        self.passes.largest()
    }
}

impl fmt::Display for PersistentPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "forward:  {}", self.forward)?;
        writeln!(f, "backward: {}", self.backward)?;
        write!(f, "up to {} hidden units would fit", self.largest_hidden())
    }
}
