//! A plan on the CPU: layers and directions over the caller's memory.

use std::{cell::RefCell, ops::Range, sync::Arc};

use super::{Backward, Buf, BufMut, Forward, Keep, Layout, ParameterKind, Plan, Sequence};
use crate::cpu::{
    Buffer,
    gemm::{GemmReal, Precision},
    random::dropout_slice,
    real::{Real, Store, narrow, narrow_sum, widen},
    recurrent::{
        self as layer, Extents, Gradients, Kept, LINE, Steps, Stored, Weights, fill_bias, input_gradient, pack_weights,
        parameter_gradients, stretch,
    },
    simd::vectorize,
    split::{self, MOST_PARTS, Shared, in_step, tasks},
};
use crate::dtype::DType;
use smallvec::SmallVec;

/// Multiply-adds of all layers in one direction below which a call stays on the calling thread: handing out work costs microseconds.
const PARALLEL: usize = 1 << 20;

/// Stretches of scratch begin on lines of the cache (of 16 numbers in f32).
fn align(len: usize) -> usize {
    len.next_multiple_of(16)
}

/// Scratch, handed out from the front.
struct Space<'a, T>(&'a mut [T]);

impl<'a, T> Space<'a, T> {
    fn take(&mut self, len: usize) -> &'a mut [T] {
        let (part, rest) = std::mem::take(&mut self.0).split_at_mut(align(len));
        self.0 = rest;
        &mut part[..len]
    }
}

/// Extents of a call that several sizes are made of.
struct Net {
    layers: usize,
    directions: usize,
    seq: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    output: usize,
    gates: usize,
    lstm: bool,
    projected: bool,
    dropout: bool,
    extra: usize,
    half: bool,
    parameters: usize,
}

impl Net {
    fn of(plan: &Plan) -> Net {
        let d = plan.descriptor();
        Net {
            layers: d.num_layers,
            directions: d.directions(),
            seq: plan.shape().seq,
            batch: plan.shape().batch,
            input: d.input_size,
            hidden: d.hidden_size,
            output: d.output_size(),
            gates: d.cell.gates() * d.hidden_size,
            lstm: d.cell.has_cell_state(),
            projected: d.proj_size > 0,
            dropout: d.dropout > 0.0,
            extra: extents(plan, 0, 0).extra(),
            half: d.dtype.size() == 2,
            // Layers above the first are alike.
            parameters: d.directions()
                * (d.layer_numels(0).sum::<usize>() + (d.num_layers - 1) * d.layer_numels(1).sum::<usize>()),
        }
    }

    /// Features of every layer's output.
    fn width(&self) -> usize {
        self.directions * self.output
    }

    /// Rows of gates that are there at a time in inference.
    fn gate_rows(&self) -> usize {
        stretch(self.batch).min(self.seq) * self.batch
    }

    /// Cells kept per row.
    fn cells(&self) -> usize {
        if self.lstm { self.hidden } else { 0 }
    }
}

fn extents(plan: &Plan, layer: usize, direction: usize) -> Extents {
    let d = plan.descriptor();
    Extents {
        cell: d.cell,
        input: d.layer_input_size(layer),
        hidden: d.hidden_size,
        output: d.output_size(),
        reverse: direction == 1,
        seq: plan.shape().seq,
        batch: plan.shape().batch,
        parts: 1,
        kept: false,
        precision: match Precision::of(d.dtype) {
            Precision::Half if few_units(plan) => Precision::Full,
            precision => precision,
        },
    }
}

/// Whether a step has so little to multiply that tiles of bf16 would take longer to set up than vectors to multiply in f32.
fn few_units(plan: &Plan) -> bool {
    let (d, batch) = (plan.descriptor(), plan.shape().batch);
    batch < 16 && batch.saturating_mul(d.cell.gates() * d.hidden_size * d.output_size()) < 36 << 10
}

/// Room for a pass's packed weights of any one layer and direction.
fn pack_len(plan: &Plan, backward: bool) -> usize {
    fn of<T: GemmReal>(plan: &Plan, backward: bool) -> usize {
        // Layers above the first are alike.
        let layers = 0..plan.descriptor().num_layers.min(2);
        layers.map(|l| extents(plan, l, 0).pack_len::<T>(backward)).max().unwrap_or(0)
    }
    if plan.compute_dtype() == DType::F64 { of::<f64>(plan, backward) } else { of::<f32>(plan, backward) }
}

pub(super) fn workspace_len(plan: &Plan) -> usize {
    let net = Net::of(plan);
    let rows = plan.shape().seq * net.batch;
    let d = net.directions;
    let (forward_pack, backward_pack) = (pack_len(plan, false), pack_len(plan, true));
    let parameters = if net.half { align(net.parameters) } else { 0 };
    let states = d * (align(net.batch * net.output) + align(net.batch * net.hidden));
    let forward = parameters + d * (align(4 * net.hidden) + align(forward_pack)) + states;
    let inference = align(rows * net.input)
        + d * (align(net.gate_rows() * net.gates) + align(net.batch * net.extra))
        + 2 * align(rows * net.width());
    let backward = 2 * parameters
        + d * align(backward_pack)
        + 2 * states
        + d * align(net.batch * net.hidden)
        + if net.projected { d * align(rows * net.output) } else { 0 }
        + align(rows * net.output)
        + 2 * align(rows * net.width())
        + align(rows * net.input);
    (forward + inference).max(backward)
}

pub(super) fn reserve_len(plan: &Plan) -> usize {
    let net = Net::of(plan);
    let rows = plan.shape().seq * net.batch;
    let direction = align(rows * net.gates) + align(rows * net.cells()) + align(rows * net.extra);
    let dropped = if net.dropout { (net.layers - 1) * align(rows * net.width()) } else { 0 };
    align(rows * net.input) + net.layers * (net.directions * direction + align(rows * net.width())) + dropped
}

/// What one layer's forward pass leaves in the reserve.
struct LayerReserve<'a, T> {
    gates: [&'a mut [T]; 2],
    cells: [&'a mut [T]; 2],
    extra: [&'a mut [T]; 2],
    y: &'a mut [T],
    dropped: &'a mut [T],
}

/// One stretch per direction.
fn pair<'a, T>(space: &mut Space<'a, T>, directions: usize, len: usize) -> [&'a mut [T]; 2] {
    let first = space.take(len);
    [first, if directions == 2 { space.take(len) } else { &mut [] }]
}

/// What `of` makes for each direction, of its stretch.
fn by_direction<'a, T, R>(
    directions: usize,
    pair: &'a mut [&mut [T]; 2],
    of: impl Fn(usize, &'a mut [T]) -> R,
) -> SmallVec<[R; 2]> {
    pair.iter_mut().take(directions).enumerate().map(|(d, part)| of(d, part)).collect()
}

fn shared<T>(pair: &mut [&mut [T]; 2]) -> [Shared<T>; 2] {
    let [a, b] = pair;
    [Shared::new(a), Shared::new(b)]
}

/// The reserve of layer `l`, counted from the front of what is behind the staged x.
fn layer_reserve<'a, T>(net: &Net, rows: usize, last: bool, space: &mut Space<'a, T>) -> LayerReserve<'a, T> {
    LayerReserve {
        gates: pair(space, net.directions, rows * net.gates),
        cells: pair(space, net.directions, rows * net.cells()),
        extra: pair(space, net.directions, rows * net.extra),
        y: space.take(rows * net.width()),
        dropped: space.take(if net.dropout && !last { rows * net.width() } else { 0 }),
    }
}

thread_local! {
    /// The steps and order of the sequences of a call, kept so that a steady state allocates nothing.
    static ORDER: RefCell<(Steps, Vec<usize>)> = RefCell::default();
}

/// How packed rows are found in the caller's memory.
struct Order<'a> {
    steps: &'a Steps,
    /// The caller's sequence that stands k-th; empty: the k-th.
    sequences: &'a [usize],
    /// Rows of the caller's memory from a step to the next and from a sequence to the next; `None`: they are packed already.
    strides: Option<(usize, usize)>,
    /// Some of the caller's rows belong to no sequence.
    gaps: bool,
}

impl Order<'_> {
    fn sequence(&self, k: usize) -> usize {
        self.sequences.get(k).copied().unwrap_or(k)
    }

    /// Calls `f(packed row, caller's row)` for all rows, of `width` numbers, in pieces of some steps.
    fn each(&self, width: usize, f: &(dyn Fn(usize, usize) + Sync)) {
        let some = |range: Range<usize>| {
            for t in range {
                for k in 0..self.steps.active(t) {
                    let row = self.steps.offset(t) + k;
                    let theirs = self.strides.map_or(row, |(step, sequence)| t * step + self.sequence(k) * sequence);
                    f(row, theirs);
                }
            }
        };
        let steps = self.steps.len();
        if self.steps.rows() * width < split::PARALLEL {
            return some(0..steps);
        }
        let each = (split::PIECE / (self.steps.batch() * width)).max(1);
        tasks(steps.div_ceil(each), &|task| some(task * each..steps.min((task + 1) * each)));
    }
}

fn with_order<R>(plan: &Plan, sequence: Sequence<'_>, body: impl FnOnce(&Order<'_>) -> R) -> R {
    let super::Shape { seq, batch } = plan.shape();
    let (mut steps, mut sequences) = ORDER.take();
    sequences.clear();
    let strides = match plan.memory_layout() {
        Layout::TimeMajor => (batch, 1),
        Layout::BatchMajor => (1, seq),
    };
    let mut gaps = false;
    let mut identity = strides.1 == 1 || batch == 1;
    match sequence {
        Sequence::Lengths(lengths) if lengths.iter().any(|&n| n < seq) => {
            gaps = true;
            identity = false;
            sequences.extend(0..batch);
            // Stable without memory: the index breaks ties.
            sequences.sort_unstable_by(|&a, &b| lengths[b].cmp(&lengths[a]).then(a.cmp(&b)));
            let longest = lengths[sequences[0]];
            let mut n = batch;
            steps.refill((0..longest).map(|t| {
                while lengths[sequences[n - 1]] <= t {
                    n -= 1;
                }
                n
            }));
        }
        Sequence::Packed { batch_sizes } => {
            identity = true;
            steps.refill(batch_sizes.iter().copied());
        }
        _ => steps.refill((0..seq).map(|_| batch)),
    }
    let order = Order { steps: &steps, sequences: &sequences, strides: (!identity).then_some(strides), gaps };
    let result = body(&order);
    ORDER.set((steps, sequences));
    result
}

/// Whether the caller's rows are packed rows of the computing type as they lie.
fn as_packed<S: Store>(order: &Order<'_>) -> bool {
    order.strides.is_none() && is_real::<S>()
}

/// The caller's rows as packed rows of the computing type: themselves where that is what they are, else gathered into `staging`.
fn packed_rows<'a, S: Store<Real: GemmReal>>(
    order: &Order<'_>,
    from: &'a [S],
    width: usize,
    staging: &'a mut [S::Real],
) -> &'a [S::Real] {
    if as_packed::<S>(order) {
        return bytemuck::cast_slice(from);
    }
    if order.strides.is_none() {
        widen(&from[..order.steps.rows() * width], &mut staging[..order.steps.rows() * width]);
        return staging;
    }
    let to = Shared::new(staging);
    order.each(width, &|row, theirs| {
        // SAFETY: each row is gathered once.
        let to = unsafe { to.part(row * width, width) };
        vectorize(
            #[inline(always)]
            || to.iter_mut().zip(&from[theirs * width..][..width]).for_each(|(to, from)| *to = from.widen()),
        );
    });
    staging
}

/// Packed rows back to the caller's, zeros where no sequence is.
fn unpack_rows<S: Store<Real: GemmReal>>(order: &Order<'_>, from: &[S::Real], width: usize, to: &mut [S]) {
    if order.gaps {
        split::over(to, |_, to| to.fill(S::default()));
    }
    if order.strides.is_none() {
        return narrow(&from[..order.steps.rows() * width], &mut to[..order.steps.rows() * width]);
    }
    let to = Shared::new(to);
    order.each(width, &|row, theirs| {
        // SAFETY: each of the caller's rows is written once.
        let to = unsafe { to.part(theirs * width, width) };
        vectorize(
            #[inline(always)]
            || to.iter_mut().zip(&from[row * width..][..width]).for_each(|(to, &from)| *to = S::narrow(from)),
        );
    });
}

/// States of one layer and direction in the order of the rows; zeros if not given.
fn load_state<S: Store<Real: GemmReal>>(order: &Order<'_>, from: Option<&[S]>, width: usize, to: &mut [S::Real]) {
    let Some(from) = from else { return to.fill(S::Real::ZERO) };
    for (k, to) in to.chunks_exact_mut(width).enumerate() {
        let from = &from[order.sequence(k) * width..][..width];
        to.iter_mut().zip(from).for_each(|(to, from)| *to = from.widen());
    }
}

fn store_state<S: Store<Real: GemmReal>>(order: &Order<'_>, from: &[S::Real], width: usize, to: &mut [S]) {
    for (k, from) in from.chunks_exact(width).enumerate() {
        let to = &mut to[order.sequence(k) * width..][..width];
        to.iter_mut().zip(from).for_each(|(to, &from)| *to = S::narrow(from));
    }
}

/// Whether the stored type computes in itself.
fn is_real<S: Store>() -> bool {
    S::DTYPE == <S::Real as crate::dtype::Element>::DTYPE
}

/// The caller's parameters in the computing type, or in bf16 where [`Extents::all_half`] says so.
struct Parameters<'a, S: Store> {
    plan: &'a Plan,
    given: &'a [Buf<'a>],
    /// Half types: those that are widened, each where it would stand among all of them.
    staged: &'a [S::Real],
}

/// Whether a layer's weights are taken as bf16.
fn as_half<S: Store<Real: GemmReal>>(plan: &Plan, layer: usize) -> bool {
    S::DTYPE == DType::BF16 && extents(plan, layer, 0).all_half::<S::Real>()
}

impl<'a, S: Store<Real: GemmReal>> Parameters<'a, S> {
    /// But for the matrices that `unused` names by kind, layer and direction.
    fn new(
        plan: &'a Plan,
        given: &'a [Buf<'a>],
        space: &mut Space<'a, S::Real>,
        unused: impl Fn(ParameterKind, usize, usize) -> bool,
    ) -> Self {
        let mut staged: &'a [S::Real] = &[];
        if !is_real::<S>() {
            let all = space.take(given.iter().map(Buf::len).sum());
            let d = plan.descriptor();
            let (mut at, mut rest) = (0, given.iter());
            for layer in 0..d.num_layers {
                let half = as_half::<S>(plan, layer);
                let of = |direction| d.layer_sizes(layer).map(move |(kind, numel)| (kind, numel, direction));
                for ((kind, numel, direction), buf) in (0..d.directions()).flat_map(of).zip(&mut rest) {
                    let matrix =
                        matches!(kind, ParameterKind::WeightIh | ParameterKind::WeightHh | ParameterKind::WeightHr);
                    if !(matrix && (half || unused(kind, layer, direction))) {
                        widen(buf.host::<S>(), &mut all[at..][..numel]);
                    }
                    at += numel;
                }
            }
            staged = all;
        }
        Parameters { plan, given, staged }
    }

    fn weights(&self, layer: usize, direction: usize) -> Weights<'a, S::Real> {
        let d = self.plan.descriptor();
        let (first, mut at) = first_parameter(self.plan, layer, direction);
        let mut index = first;
        let mut next = |exists: bool| {
            if !exists {
                return None;
            }
            let buf = self.given[index];
            let slice = if is_real::<S>() { buf.host::<S::Real>() } else { &self.staged[at..][..buf.len()] };
            index += 1;
            at += buf.len();
            Some((buf, slice))
        };
        let half = as_half::<S>(self.plan, layer);
        let stored = |(buf, slice): (Buf<'a>, &'a [S::Real])| {
            if half { Stored::Half(bytemuck::cast_slice(buf.host::<S>())) } else { Stored::Real(slice) }
        };
        let (ih, hh) = (next(true).map(stored), next(true).map(stored));
        let (bias_ih, bias_hh) = (next(d.bias), next(d.bias));
        Weights {
            ih: ih.unwrap_or(Stored::Real(&[])),
            hh: hh.unwrap_or(Stored::Real(&[])),
            bias: bias_ih.zip(bias_hh).map(|((_, ih), (_, hh))| (ih, hh)),
            hr: next(d.proj_size > 0).map(stored),
            peephole: next(d.cell == super::Cell::LstmPeephole).map(|(_, slice)| slice),
        }
    }
}

/// Index of a layer and direction's first parameter, and the elements before it.
fn first_parameter(plan: &Plan, layer: usize, direction: usize) -> (usize, usize) {
    let d = plan.descriptor();
    let each = d.layer_numels(0).count();
    let before: usize = (0..layer).map(|l| d.directions() * d.layer_numels(l).sum::<usize>()).sum();
    ((layer * d.directions() + direction) * each, before + direction * d.layer_numels(layer).sum::<usize>())
}

/// Multiply-adds of a step from which on sharing it out gains more than waiting for each other after it costs.
const STEP: usize = 3 << 16;
/// Weights of a direction, in bytes, that fit into a core's cache beside all else.
const CACHED: usize = 1 << 20;

/// Sequences whose products take about as long as reading the weights.
const READ: usize = 4;

/// Steps that are few.
const FEW_STEPS: usize = 8;

/// Ranges of sequences for so many threads. Fewer than four sequences leave most of the register tile empty; more ranges would only read
/// the weights more often.
fn ranges(net: &Net, threads: usize) -> usize {
    threads.clamp(1, net.batch.div_ceil(4))
}

/// How a layer's work is divided: among how many threads, and into how many parts of its units.
fn divide(plan: &Plan, steps: &Steps) -> (usize, usize) {
    let net = Net::of(plan);
    let step = net.batch * net.gates * net.output;
    // A few sequences take as long as one: until the weights have been read.
    let all = net.layers * steps.len() * net.batch.max(READ) * net.gates * (net.output + net.input);
    let threads = if all < PARALLEL { 1 } else { rayon::current_num_threads() };
    let each = (threads / net.directions).max(1);
    // Sequences need no waiting. But every thread reads all weights for its own, however few: they had better lie in its cache.
    let cached = net.gates * net.output * size_of::<f32>() <= CACHED;
    // In few steps it reads them from farther, and there is little to wait for.
    let most = if !cached {
        16
    } else if steps.len() <= FEW_STEPS {
        4
    } else {
        0
    };
    let few = ranges(&net, each) < each || net.batch <= most * each;
    let parts = if few && extents(plan, 0, 0).divisible() && step >= STEP {
        each.min(net.hidden.div_ceil(LINE)).min(MOST_PARTS)
    } else {
        1
    };
    // Fewer parts than there are ranges would leave threads without work.
    (threads, if parts < ranges(&net, each) { 1 } else { parts })
}

/// Calls `run(direction, items, sequences, part)` for all of these: by sequences, each of which goes through its items, or in step.
fn over(
    net: &Net,
    steps: &Steps,
    (threads, parts): (usize, usize),
    items: usize,
    run: impl Fn(usize, Range<usize>, (usize, usize), usize) + Sync,
) {
    if parts > 1 {
        return in_step(net.directions, parts, items, &|d, item, part| run(d, item..item + 1, (0, net.batch), part));
    }
    let ranges = ranges(net, threads / net.directions);
    let task = |task: usize| {
        let (d, range) = (task / ranges, task % ranges);
        let range = (steps.cut(range, ranges), steps.cut(range + 1, ranges));
        run(d, 0..items, range, 0);
    };
    if threads == 1 {
        (0..net.directions * ranges).for_each(task);
    } else {
        tasks(net.directions * ranges, &task);
    }
}

/// The extents of a layer and direction in so many parts, its number, and which parameters are its own.
fn of_layer(plan: &Plan, (l, d, parts): (usize, usize, usize)) -> (Extents, (usize, Range<usize>)) {
    let (first, _) = first_parameter(plan, l, d);
    let range = first..first + plan.descriptor().layer_numels(l).count();
    (Extents { parts, ..extents(plan, l, d) }, (l * plan.descriptor().directions() + d, range))
}

/// For each layer and direction the packed weights that are kept, and of what extents they are. Empty where nothing was looked for.
type Found = SmallVec<[Option<(Extents, Arc<Buffer>)>; 4]>;

/// Looks, of halves, for what need not be widened.
fn found<S: Store<Real: GemmReal>>(plan: &Plan, parts: usize, keep: Option<Keep<'_>>, backward: bool) -> Found {
    let Some(keep) = keep.filter(|_| !is_real::<S>()) else { return Found::new() };
    let d = plan.descriptor();
    let all = (0..d.num_layers).flat_map(|l| (0..d.directions()).map(move |d| (l, d, parts)));
    all.map(|layer| {
        let (e, place) = of_layer(plan, layer);
        keep.found::<S::Real>(place, &e, backward)
    })
    .collect()
}

/// The packed weights of a layer and direction for one pass, and of what extents they are: kept ones, or those that it packs into `space`.
fn packed<'a, T: GemmReal>(
    plan: &Plan,
    (l, d, parts): (usize, usize, usize),
    weights: &Weights<'_, T>,
    (keep, found): (Option<Keep<'_>>, &Found),
    backward: bool,
    space: &'a mut [T],
) -> (Extents, PackedWeights<'a, T>) {
    if let Some(Some((e, buffer))) = found.get(l * plan.descriptor().directions() + d) {
        return (*e, PackedWeights::Kept(buffer.clone()));
    }
    let (e, place) = of_layer(plan, (l, d, parts));
    if let Some(keep) = keep
        && let Some((e, buffer)) = keep.packed(place, &e, weights, backward)
    {
        return (e, PackedWeights::Kept(buffer));
    }
    pack_weights(&e, weights, backward, space);
    (e, PackedWeights::Here(space))
}

/// Where packed weights lie.
enum PackedWeights<'a, T> {
    Kept(Arc<Buffer>),
    Here(&'a [T]),
}

impl<T: GemmReal> PackedWeights<'_, T> {
    fn slice(&self) -> &[T] {
        match self {
            PackedWeights::Kept(buffer) => buffer.slice(),
            PackedWeights::Here(slice) => slice,
        }
    }
}

pub(super) fn forward<S: Store<Real: GemmReal>>(plan: &Plan, mut call: Forward<'_>, keep: Option<Keep<'_>>) {
    with_order(plan, call.sequence, |order| forward_ordered::<S>(plan, order, &mut call, keep));
}

fn forward_ordered<S: Store<Real: GemmReal>>(
    plan: &Plan,
    order: &Order<'_>,
    call: &mut Forward<'_>,
    keep: Option<Keep<'_>>,
) {
    let net = Net::of(plan);
    let (steps, rows) = (order.steps, order.steps.rows());
    let directions = net.directions;
    let training = call.reserve.is_some();
    let keep = keep.filter(|_| Keep::pays(plan.shape(), training));
    let mut space = Space(call.workspace.host_mut::<S::Real>());
    let mut reserve = Space(call.reserve.as_mut().map_or(&mut [][..], BufMut::host_mut::<S::Real>));
    let division = divide(plan, steps);
    let found = found::<S>(plan, division.1, keep, false);
    let is_found = |_, layer: usize, d| found.get(layer * directions + d).is_some_and(Option::is_some);
    let parameters = Parameters::<S>::new(plan, call.parameters, &mut space, is_found);
    let bias = pair(&mut space, directions, 4 * net.hidden);
    let mut pack_space = pair(&mut space, directions, pack_len(plan, false));
    let h = pair(&mut space, directions, net.batch * net.output);
    let mut c = pair(&mut space, directions, net.batch * net.hidden);
    let staging = if training { &mut reserve } else { &mut space }.take(rows * net.input);
    let x = packed_rows::<S>(order, call.x.host::<S>(), net.input, staging);
    // Inference: the gates of a stretch of steps, and two outputs that take turns.
    let inference = |len: usize| if training { 0 } else { len };
    let mut gates = pair(&mut space, directions, inference(net.gate_rows() * net.gates));
    let mut extra = pair(&mut space, directions, inference(net.batch * net.extra));
    let mut outputs = [space.take(inference(rows * net.width())), space.take(inference(rows * net.width()))];
    let (h0, c0) = (call.h0.map(Buf::host::<S>), call.c0.map(Buf::host::<S>));
    let hn = call.hn.host_mut::<S>();
    let mut cn = call.cn.as_mut().map(BufMut::host_mut::<S>);
    let state = |i: usize, width: usize| i * net.batch * width..(i + 1) * net.batch * width;

    // In training: the output of the layer below, in the reserve.
    let mut below: &[S::Real] = x;
    // Without training the last layer writes where the caller wants it, where that is how rows lie.
    let mut theirs: Option<&mut [S::Real]> = (!training && as_packed::<S>(order))
        .then(|| &mut bytemuck::cast_slice_mut(call.y.host_mut::<S>())[..rows * net.width()]);
    for l in 0..net.layers {
        let last = l + 1 == net.layers;
        let weights = [parameters.weights(l, 0), parameters.weights(l, directions - 1)];
        let mut own = training.then(|| layer_reserve(&net, rows, last, &mut reserve));
        let [even, odd] = &mut outputs;
        let (write, read) = if l.is_multiple_of(2) { (&mut **even, &**odd) } else { (&mut **odd, &**even) };
        let input = if training || l == 0 { below } else { read };
        let write = match &mut theirs {
            Some(theirs) if last => &mut **theirs,
            _ => write,
        };
        let (layer_gates, layer_extra, cells, y) = match &mut own {
            Some(r) => (&mut r.gates, &mut r.extra, shared(&mut r.cells), &mut *r.y),
            None => (&mut gates, &mut extra, [Shared::new(&mut []), Shared::new(&mut [])], write),
        };
        for d in 0..directions {
            let i = l * directions + d;
            load_state::<S>(order, h0.map(|h| &h[state(i, net.output)]), net.output, h[d]);
            if net.lstm {
                load_state::<S>(order, c0.map(|c| &c[state(i, net.hidden)]), net.hidden, c[d]);
            }
            fill_bias(&extents(plan, l, d), &weights[d], bias[d]);
        }
        let packed = by_direction(directions, &mut pack_space, |d, space| {
            packed(plan, (l, d, division.1), &weights[d], (keep, &found), false, space)
        });
        let (shared_gates, shared_extra) = (shared(layer_gates), shared(layer_extra));
        let (shared_c, shared_y) = (shared(&mut c), Shared::new(&mut *y));
        let (bias, first_h) = (&bias, &h);
        over(&net, steps, division, steps.len(), |d, items, range, part| {
            let pass = layer::Forward {
                extents: packed[d].0,
                steps,
                weights: weights[d],
                zero: h0.is_none(),
                training,
                x: input,
                gates: shared_gates[d],
                extra: shared_extra[d],
                cells: cells[d],
                h0: first_h[d],
                c: shared_c[d],
                y: shared_y,
                stride: net.width(),
                column: d * net.output,
                bias: bias[d],
                packed: packed[d].1.slice(),
            };
            pass.run(items, range, part);
        });
        for d in 0..directions {
            let i = l * directions + d;
            for (k, last) in h[d].chunks_exact_mut(net.output).enumerate() {
                let row = steps.last_row(k, d == 1);
                last.copy_from_slice(&y[row * net.width() + d * net.output..][..net.output]);
            }
            store_state::<S>(order, h[d], net.output, &mut hn[state(i, net.output)]);
            if let Some(cn) = &mut cn {
                store_state::<S>(order, c[d], net.hidden, &mut cn[state(i, net.hidden)]);
            }
        }
        if let Some(r) = own {
            if net.dropout && !last {
                dropout_slice(call.dropout_seed, l as u64, plan.descriptor().dropout, r.y, r.dropped);
                below = r.dropped;
            } else {
                below = r.y;
            }
        }
    }
    if theirs.is_none() {
        let output = if training { below } else { &*outputs[(net.layers - 1) % 2] };
        unpack_rows::<S>(order, output, net.width(), call.y.host_mut::<S>());
    }
}

pub(super) fn backward<S: Store<Real: GemmReal>>(plan: &Plan, mut call: Backward<'_>, keep: Option<Keep<'_>>) {
    with_order(plan, call.sequence, |order| backward_ordered::<S>(plan, order, &mut call, keep));
}

fn backward_ordered<S: Store<Real: GemmReal>>(
    plan: &Plan,
    order: &Order<'_>,
    call: &mut Backward<'_>,
    keep: Option<Keep<'_>>,
) {
    let net = Net::of(plan);
    let (steps, rows) = (order.steps, order.steps.rows());
    let (directions, width) = (net.directions, net.width());
    let keep = keep.filter(|_| Keep::pays(plan.shape(), true));
    let mut space = Space(call.workspace.host_mut::<S::Real>());
    let mut reserve = Space(call.reserve.host_mut::<S::Real>());
    let division = divide(plan, steps);
    let found = found::<S>(plan, division.1, keep, true);
    // The gradient of what came in takes W_ih where it lies.
    let is_found = |kind, layer: usize, d| {
        kind != ParameterKind::WeightIh && found.get(layer * directions + d).is_some_and(Option::is_some)
    };
    let parameters = Parameters::<S>::new(plan, call.parameters, &mut space, is_found);
    let staged_gradients = space.take(if is_real::<S>() { 0 } else { net.parameters });
    let mut pack_space = pair(&mut space, directions, pack_len(plan, true));
    let mut dh = pair(&mut space, directions, net.batch * net.output);
    let mut dc = pair(&mut space, directions, net.batch * net.hidden);
    let h_first = pair(&mut space, directions, net.batch * net.output);
    let c_first = pair(&mut space, directions, net.batch * net.hidden);
    let mut scratch = pair(&mut space, directions, net.batch * net.hidden);
    let mut projected = pair(&mut space, directions, if net.projected { rows * net.output } else { 0 });
    let states = space.take(rows * net.output);
    let [mut upper, mut lower] = [space.take(rows * width), space.take(rows * width)];
    let dx_staging = space.take(rows * net.input);
    let staging = reserve.take(rows * net.input);
    // The forward pass has gathered x there already, where it had to.
    let x: &[S::Real] = if as_packed::<S>(order) { bytemuck::cast_slice(call.x.host::<S>()) } else { staging };

    let (h0, c0) = (call.h0.map(Buf::host::<S>), call.c0.map(Buf::host::<S>));
    let (dhn, dcn) = (call.dhn.map(Buf::host::<S>), call.dcn.map(Buf::host::<S>));
    let state = |i: usize, width: usize| i * net.batch * width..(i + 1) * net.batch * width;
    // Of the output: as it lies where that is how rows are packed, else gathered, like the gradient of every layer below.
    let dy = call.dy.map(Buf::host::<S>);
    let given: Option<&[S::Real]> = dy.filter(|_| as_packed::<S>(order)).map(bytemuck::cast_slice);
    if let Some(dy) = dy.filter(|_| given.is_none()) {
        packed_rows::<S>(order, dy, width, &mut *upper);
    }
    // Layers from the last to the first: each takes its reserve off the end.
    let mut rest = reserve.0;
    let layer_len = |last: bool| {
        directions * (align(rows * net.gates) + align(rows * net.cells()) + align(rows * net.extra))
            + align(rows * width)
            + if net.dropout && !last { align(rows * width) } else { 0 }
    };
    for l in (0..net.layers).rev() {
        let last = l + 1 == net.layers;
        let start = l * layer_len(false);
        let (below, own) = rest.split_at_mut(start);
        rest = below;
        let mut own = layer_reserve(&net, rows, last, &mut Space(&mut own[..layer_len(last)]));
        let input: &[S::Real] = if l == 0 {
            x
        } else {
            // The layer below's output (dropped out where there is dropout) is the last stretch of its reserve.
            &rest[start - align(rows * width)..][..rows * width]
        };
        let weights = [parameters.weights(l, 0), parameters.weights(l, directions - 1)];
        for d in 0..directions {
            let i = l * directions + d;
            load_state::<S>(order, h0.map(|h| &h[state(i, net.output)]), net.output, h_first[d]);
            load_state::<S>(order, dhn.map(|h| &h[state(i, net.output)]), net.output, dh[d]);
            if net.lstm {
                load_state::<S>(order, c0.map(|c| &c[state(i, net.hidden)]), net.hidden, c_first[d]);
                load_state::<S>(order, dcn.map(|c| &c[state(i, net.hidden)]), net.hidden, dc[d]);
            }
        }
        {
            let packed = by_direction(directions, &mut pack_space, |d, space| {
                packed(plan, (l, d, division.1), &weights[d], (keep, &found), true, space)
            });
            let (gates, extra) = (shared(&mut own.gates), shared(&mut own.extra));
            let (dh, dc) = (shared(&mut dh), shared(&mut dc));
            let (scratch, projected) = (shared(&mut scratch), shared(&mut projected));
            let (cells, y, upper) = (&own.cells, &*own.y, &*upper);
            let (h_first, c_first) = (&h_first, &c_first);
            // The last item is the gradient of the initial h.
            let items = steps.len() + usize::from(call.dh0.is_some());
            over(&net, steps, division, items, |d, items, range, part| {
                let pass = layer::Backward {
                    extents: packed[d].0,
                    steps,
                    weights: weights[d],
                    gates: gates[d],
                    extra: extra[d],
                    cells: cells[d],
                    y,
                    dy: if last { given.or(dy.is_some().then_some(upper)) } else { Some(upper) },
                    stride: width,
                    column: d * net.output,
                    h0: h_first[d],
                    c0: c_first[d],
                    dh: dh[d],
                    dc: dc[d],
                    scratch: scratch[d],
                    projected: projected[d],
                    packed: packed[d].1.slice(),
                };
                pass.run(items, range, part);
            });
        }
        for d in 0..directions {
            let e = extents(plan, l, d);
            let i = l * directions + d;
            if let Some(dh0) = &mut call.dh0 {
                store_state::<S>(order, dh[d], net.output, &mut dh0.host_mut::<S>()[state(i, net.output)]);
            }
            if let Some(dc0) = &mut call.dc0 {
                store_state::<S>(order, dc[d], net.hidden, &mut dc0.host_mut::<S>()[state(i, net.hidden)]);
            }
            if !call.dparameters.is_empty() {
                let kept = Kept {
                    extents: e,
                    steps,
                    x: input,
                    gates: own.gates[d],
                    extra: own.extra[d],
                    cells: own.cells[d],
                    projected: projected[d],
                    y: own.y,
                    stride: width,
                    column: d * net.output,
                    h0: h_first[d],
                    zero: h0.is_none(),
                    c0: c_first[d],
                };
                parameter_gradients_to::<S>(
                    plan,
                    l,
                    d,
                    &kept,
                    call.dparameters,
                    call.accumulate,
                    staged_gradients,
                    states,
                );
            }
            if l > 0 {
                input_gradient(&e, rows, own.gates[d], weights[d].ih, lower, d > 0);
            } else if let Some(dx) = &mut call.dx {
                // Where the caller wants it, where that is how rows lie.
                let to = match as_packed::<S>(order) {
                    true => &mut bytemuck::cast_slice_mut(dx.host_mut::<S>())[..rows * net.input],
                    false => &mut *dx_staging,
                };
                input_gradient(&e, rows, own.gates[d], weights[d].ih, to, d > 0);
            }
        }
        if l > 0 {
            if net.dropout {
                // The mask is that of the forward pass; `upper` is free by now.
                dropout_slice(call.dropout_seed, l as u64 - 1, plan.descriptor().dropout, lower, upper);
            } else {
                std::mem::swap(&mut upper, &mut lower);
            }
        }
    }
    if let Some(dx) = call.dx.as_mut().filter(|_| !as_packed::<S>(order)) {
        unpack_rows::<S>(order, dx_staging, net.input, dx.host_mut::<S>());
    }
}

/// [`parameter_gradients`] into the caller's buffers; half types through f32.
#[expect(clippy::too_many_arguments, reason = "what one layer's gradients are made of")]
fn parameter_gradients_to<S: Store<Real: GemmReal>>(
    plan: &Plan,
    l: usize,
    d: usize,
    kept: &Kept<'_, S::Real>,
    to: &mut [Option<BufMut<'_>>],
    accumulate: bool,
    staged: &mut [S::Real],
    states: &mut [S::Real],
) {
    let descriptor = plan.descriptor();
    let (first, _) = first_parameter(plan, l, d);
    let mut gradients = Gradients { ih: None, hh: None, bias_ih: None, bias_hh: None, hr: None, peephole: None };
    let mut rest = &mut *staged;
    for ((kind, _), buffer) in descriptor.layer_sizes(l).zip(to[first..].iter_mut()) {
        let Some(buffer) = buffer else { continue };
        let wanted = if is_real::<S>() {
            buffer.host_mut::<S::Real>()
        } else {
            let (part, others) = std::mem::take(&mut rest).split_at_mut(buffer.len());
            rest = others;
            part
        };
        *match kind {
            ParameterKind::WeightIh => &mut gradients.ih,
            ParameterKind::WeightHh => &mut gradients.hh,
            ParameterKind::BiasIh => &mut gradients.bias_ih,
            ParameterKind::BiasHh => &mut gradients.bias_hh,
            ParameterKind::WeightHr => &mut gradients.hr,
            ParameterKind::WeightPeephole => &mut gradients.peephole,
        } = Some(wanted);
    }
    parameter_gradients(kept, gradients, accumulate && is_real::<S>(), states);
    if !is_real::<S>() {
        let mut at = 0;
        for buffer in to[first..].iter_mut().take(descriptor.layer_numels(l).count()).flatten() {
            let from = &staged[at..][..buffer.len()];
            if accumulate {
                narrow_sum(from, buffer.host_mut::<S>());
            } else {
                narrow(from, buffer.host_mut::<S>());
            }
            at += from.len();
        }
    }
}
