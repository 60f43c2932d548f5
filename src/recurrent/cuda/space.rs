//! Where everything lies in the workspace and the reserve. The same lines count their sizes and hand out addresses.

use super::{super::Plan, Net, order::Order};
use crate::cuda::Cuda;

/// Memory handed out from the front; what it counts from 0 is a size.
pub(super) struct Space {
    at: u64,
}

impl Space {
    pub fn new(at: u64) -> Self {
        Space { at }
    }

    /// Room for that many elements, from a multiple of 256 bytes on.
    fn take(&mut self, elements: usize, size: usize) -> u64 {
        let at = self.at;
        self.at += (elements * size).next_multiple_of(256) as u64;
        at
    }
}

/// What a call of either kind needs first.
pub(super) struct Common {
    /// Tables of [`Order`].
    pub tables: u64,
    /// The seed of the dropout masks.
    pub seed: u64,
    /// x in the order of the rows.
    pub x: u64,
    /// Initial states `[states, batch, R]` and `[states, batch, H]`.
    pub h_first: u64,
    pub c_first: u64,
}

impl Common {
    fn new(net: &Net, space: &mut Space) -> Self {
        let (rows, states) = (net.seq * net.batch, net.states());
        Common {
            tables: space.take(Order::tables_len(super::super::Shape { seq: net.seq, batch: net.batch }), 8),
            seed: space.take(1, 8),
            x: space.take(rows * net.input, net.size()),
            h_first: space.take(states * net.batch * net.output, net.size()),
            c_first: space.take(if net.lstm { states * net.batch * net.hidden } else { 0 }, net.real_size()),
        }
    }
}

/// The workspace of a forward call. Each list is of one address for each layer and direction.
pub(super) struct ForwardSpace {
    pub common: Common,
    /// `[gates + hidden]`
    pub bias: Vec<u64>,
    /// h W_hh of the GRU `[batch, 3 hidden]`.
    pub q: Vec<u64>,
    /// Pre-activations of a stretch, where the reserve does not hold them.
    pub pre: Vec<u64>,
    /// Inference: cell states `[batch, hidden]`, and what training keeps per row: of a step, or of all in one launch, whose blocks
    /// exchange it.
    pub c: Vec<u64>,
    pub kept: Vec<u64>,
    /// Of the blocks of each persistent launch.
    pub flags: u64,
    /// What the blocks of a persistent launch exchange, of a stretch's rows, and the states before them.
    pub exchange: Vec<u64>,
    pub initial: Vec<u64>,
    /// Inference, and of the last layer what goes to the caller in another order: outputs `[rows, width]` by layer.
    pub y: Vec<u64>,
}

impl ForwardSpace {
    pub fn new(net: &Net, training: bool, space: &mut Space) -> Self {
        let (rows, batch, t, c) = (net.seq * net.batch, net.batch, net.size(), net.real_size());
        let common = Common::new(net, space);
        let each =
            |space: &mut Space, elements: usize, size| (0..net.states()).map(|_| space.take(elements, size)).collect();
        let unless = |kept: bool, elements: usize| if kept { 0 } else { elements };
        let in_reserve = training && t == c;
        // Layers that run one after the other share their memory.
        let apart = net.stretches > 1;
        let pre = {
            let elements = unless(in_reserve, net.stretch_rows() * net.gates);
            let own: Vec<u64> =
                (0..if apart { net.layers } else { net.directions }).map(|_| space.take(elements, c)).collect();
            (0..net.states()).map(|i| own[i % own.len()]).collect()
        };
        let (exchange, initial) = (net.exchanges(space, false), net.initials(space));
        let y = {
            let elements = unless(training, rows * net.width());
            let own: Vec<u64> =
                (0..if apart { net.layers } else { net.layers.min(2) }).map(|_| space.take(elements, t)).collect();
            (0..net.layers).map(|l| own[l % own.len()]).collect()
        };
        ForwardSpace {
            common,
            bias: each(space, net.gates + net.hidden, c),
            q: each(space, if net.cell == super::Cell::Gru { batch * 3 * net.hidden } else { 0 }, c),
            pre,
            c: each(space, unless(training || !net.lstm, batch * net.hidden), c),
            kept: each(space, unless(training, net.persistent.map_or(batch, |_| rows) * net.kept), t),
            flags: space.take(net.flags(), 4),
            exchange,
            initial,
            y,
        }
    }
}

/// The workspace of a backward call.
pub(super) struct BackwardSpace {
    pub common: Common,
    /// dy and dx in the order of the rows, of the layers in turn; and the gradient of the network's input.
    pub dy: [u64; 2],
    pub dx: u64,
    /// Gradients of the states, `[states, batch, R]` and `[states, batch, H]`.
    pub dh: u64,
    pub dc: u64,
    /// `[batch, hidden]` for each layer and direction: the gradient of h before the projection, or of r ∘ h.
    pub scratch: Vec<u64>,
    /// The gradient of the projected h, for all rows, for each layer and direction.
    pub projected: Vec<u64>,
    /// The state before each step, for all rows.
    pub previous: u64,
    /// Sums over the rows of parts.
    pub sums: u64,
    /// Of the blocks of each persistent launch.
    pub flags: u64,
    /// What they exchange.
    pub exchange: Vec<u64>,
}

impl Net {
    /// Room for what is exchanged, by layer in the order in which they run and direction: launches that run one after the other share it.
    fn exchanges(&self, space: &mut Space, backward: bool) -> Vec<u64> {
        self.shared_out(space, self.stretch_rows() * self.exchanged(backward))
    }

    fn initials(&self, space: &mut Space) -> Vec<u64> {
        self.shared_out(space, if self.exchanged(false) > 0 { self.batch * self.padded() } else { 0 })
    }

    fn shared_out(&self, space: &mut Space, elements: usize) -> Vec<u64> {
        if elements == 0 {
            return vec![0; self.states()];
        }
        let own: Vec<u64> = (0..self.apart()).map(|_| space.take(elements, self.size())).collect();
        (0..self.states()).map(|i| own[i % own.len()]).collect()
    }
}

impl BackwardSpace {
    pub fn new(net: &Net, space: &mut Space) -> Self {
        let (rows, batch, t, c) = (net.seq * net.batch, net.batch, net.size(), net.real_size());
        let states = net.states();
        let common = Common::new(net, space);
        let each = |space: &mut Space, elements: usize, size| (0..states).map(|_| space.take(elements, size)).collect();
        let when = |needed: bool, elements: usize| if needed { elements } else { 0 };
        let sums = Cuda::sum_space(net.gates).max(when(net.lstm, 3 * Cuda::sum_space(net.hidden)));
        BackwardSpace {
            common,
            dy: [space.take(rows * net.width(), t), space.take(when(net.layers > 1, rows * net.width()), t)],
            dx: space.take(rows * net.input, t),
            dh: space.take(states * batch * net.output, c),
            dc: space.take(when(net.lstm, states * batch * net.hidden), c),
            scratch: each(space, when(net.kept > 0, batch * net.hidden), c),
            projected: each(space, when(net.projected, rows * net.output), t),
            previous: space.take(rows * net.output, t),
            sums: space.take(sums, c),
            flags: space.take(net.flags(), 4),
            exchange: net.exchanges(space, true),
        }
    }
}

/// What one layer's forward pass leaves in the reserve.
pub(super) struct LayerReserve {
    pub gates: Vec<u64>,
    pub cells: Vec<u64>,
    pub kept: Vec<u64>,
    pub y: u64,
    /// y after dropout.
    pub dropped: u64,
}

impl LayerReserve {
    pub fn all(net: &Net, space: &mut Space) -> Vec<Self> {
        (0..net.layers).map(|l| LayerReserve::new(net, l + 1 == net.layers, space)).collect()
    }

    fn new(net: &Net, last: bool, space: &mut Space) -> Self {
        let rows = net.seq * net.batch;
        let each = |space: &mut Space, width: usize, size| {
            (0..net.directions).map(|_| space.take(rows * width, size)).collect()
        };
        LayerReserve {
            gates: each(space, net.gates, net.size()),
            cells: each(space, if net.lstm { net.hidden } else { 0 }, net.real_size()),
            kept: each(space, net.kept, net.size()),
            y: space.take(rows * net.width(), net.size()),
            dropped: space.take(if net.dropout > 0.0 && !last { rows * net.width() } else { 0 }, net.size()),
        }
    }
}

/// Elements of the type that is computed in, of whatever `fill` takes.
fn len(net: &Net, fill: impl FnOnce(&mut Space)) -> usize {
    let mut space = Space::new(0);
    fill(&mut space);
    (space.at as usize).div_ceil(net.real_size())
}

pub(in super::super) fn workspace_len(plan: &Plan) -> usize {
    let net = Net::of(plan, false);
    let forward = |training| len(&net, |space| drop(ForwardSpace::new(&net, training, space)));
    let net = Net::of(plan, true);
    let backward = len(&net, |space| drop(BackwardSpace::new(&net, space)));
    forward(false).max(forward(true)).max(backward)
}

pub(in super::super) fn reserve_len(plan: &Plan) -> usize {
    let net = Net::of(plan, false);
    len(&net, |space| drop(LayerReserve::all(&net, space)))
}
