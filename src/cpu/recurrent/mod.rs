//! One layer in one direction over a whole batch of sequences.
//!
//! Rows are packed as PyTorch packs them: the sequences that reach step t, longest first, stand at `offset(t)..offset(t) +
//! active(t)`. Either each task takes a range of sequences through all time steps, alone: sequences do not depend on each other. Or each
//! keeps the weights of a part of the units in its cache, for all sequences, and waits for the others after every step. Per step there
//! is one product with the packed recurrent weights and one pass over the gates; nothing is allocated.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod gradients;
mod rows;

use std::ops::Range;

pub use self::gradients::{Gradients, Kept, input_gradient, parameter_gradients};
use super::{
    gemm::{Columns, Form, GemmReal, Mat, Precision, Rows, Second, Source, gemm_rows, pack, packed_len},
    simd::vectorize,
    split::Shared,
};
use crate::{
    cell::{Cell, Nonlinearity},
    dtype::bf16,
};

/// Which sequences are there at each step.
#[derive(Debug, Default)]
pub struct Steps {
    /// Sequences at step t; never grows with t.
    active: Vec<usize>,
    /// First row of step t, and behind the last the number of rows.
    offset: Vec<usize>,
}

impl Steps {
    /// Refills from the number of sequences per step.
    pub fn refill(&mut self, active: impl Iterator<Item = usize>) {
        self.active.clear();
        self.offset.clear();
        self.offset.push(0);
        let mut rows = 0;
        for n in active {
            self.active.push(n);
            rows += n;
            self.offset.push(rows);
        }
    }

    /// Number of steps.
    pub fn len(&self) -> usize {
        self.active.len()
    }

    /// Rows in all.
    pub fn rows(&self) -> usize {
        self.offset[self.len()]
    }

    /// Sequences.
    pub fn batch(&self) -> usize {
        self.active.first().copied().unwrap_or(0)
    }

    /// Sequences at step t.
    pub fn active(&self, t: usize) -> usize {
        self.active[t]
    }

    /// First row of step t.
    pub fn offset(&self, t: usize) -> usize {
        self.offset[t]
    }

    /// The step that the recurrence takes as its s-th.
    fn step(&self, s: usize, reverse: bool) -> usize {
        if reverse { self.len() - 1 - s } else { s }
    }

    /// The row of sequence b in the step before t in the direction of the recurrence, if it has one.
    fn before(&self, t: usize, b: usize, reverse: bool) -> Option<usize> {
        let t = if reverse { t + 1 } else { t.checked_sub(1)? };
        (t < self.len() && b < self.active[t]).then(|| self.offset[t] + b)
    }

    /// The row of the last step that the recurrence takes with sequence b.
    pub fn last_row(&self, b: usize, reverse: bool) -> usize {
        let t = if reverse { 0 } else { self.active.partition_point(|&n| n > b) - 1 };
        self.offset[t] + b
    }

    /// Where to cut the sequences into `parts` of about as many rows.
    pub fn cut(&self, part: usize, parts: usize) -> usize {
        let target = self.rows() * part / parts;
        if part == parts {
            return self.batch();
        }
        // A sequence b is as long as there are steps with more than b sequences.
        let (mut sum, mut b) = (0, 0);
        let mut length = self.len();
        while sum < target && b < self.batch() {
            while length > 0 && self.active[length - 1] <= b {
                length -= 1;
            }
            sum += length;
            b += 1;
        }
        b
    }
}

/// Calls `row(0)` … `row(n − 1)` as vector code; see [`vectorize`].
#[inline(always)]
fn each(n: usize, mut row: impl FnMut(usize)) {
    vectorize(
        // A plain loop: inside an iterator's own function the row would become code for the least processor.
        #[inline(always)]
        move || {
            for b in 0..n {
                row(b);
            }
        },
    );
}

/// A weight in the type that is computed in, or as bf16: see [`Extents::all_half`].
#[derive(Clone, Copy)]
pub enum Stored<'a, T> {
    Real(&'a [T]),
    Half(&'a [bf16]),
}

impl<T> Stored<'_, T> {
    fn len(&self) -> usize {
        match self {
            Stored::Real(w) => w.len(),
            Stored::Half(w) => w.len(),
        }
    }

    /// As [`Mat::new`], of what begins with the `first` number.
    fn mat(&self, first: usize, rows: usize, rs: usize, cols: usize, cs: usize) -> Source<T> {
        match self {
            Stored::Real(w) => Source::Real(Mat::new(&w[first..], rows, rs, cols, cs)),
            Stored::Half(w) => Source::Half(Mat::new(&w[first..], rows, rs, cols, cs)),
        }
    }
}

/// The parameters of one layer and direction.
#[derive(Clone, Copy)]
pub struct Weights<'a, T> {
    /// `(G·H, I)`
    pub ih: Stored<'a, T>,
    /// `(G·H, R)`
    pub hh: Stored<'a, T>,
    /// `(G·H)` each.
    pub bias: Option<(&'a [T], &'a [T])>,
    /// `(R, H)`
    pub hr: Option<Stored<'a, T>>,
    /// `(3·H)`
    pub peephole: Option<&'a [T]>,
}

/// The extents of one layer and direction.
#[derive(Debug, Clone, Copy)]
pub struct Extents {
    pub cell: Cell,
    /// I
    pub input: usize,
    /// H
    pub hidden: usize,
    /// R
    pub output: usize,
    /// Runs from the last step to the first.
    pub reverse: bool,
    /// T, of the longest sequence.
    pub seq: usize,
    /// B
    pub batch: usize,
    /// Parts that the units are divided into, each with weights of its own; 1 where they are not [`divisible`](Self::divisible).
    pub parts: usize,
    /// The weights are packed for more calls than one.
    pub kept: bool,
    /// Of the products.
    pub precision: Precision,
}

/// Units of a part are a multiple of this, but for the last part: whole tiles of AMX.
pub const LINE: usize = 32;

impl Extents {
    fn gates(&self) -> usize {
        self.cell.gates() * self.hidden
    }

    /// Numbers per row kept beside gates and c: the GRU's W_hn h (or r ∘ h), the projected LSTM's h before projection.
    pub fn extra(&self) -> usize {
        match self.cell {
            Cell::Gru | Cell::GruResetBefore => self.hidden,
            Cell::Lstm | Cell::LstmPeephole if self.output != self.hidden => self.hidden,
            _ => 0,
        }
    }

    /// Columns of the recurrent product that go into the gates; the GRU's others go elsewhere.
    fn direct(&self) -> usize {
        match self.cell {
            Cell::Gru | Cell::GruResetBefore => 2 * self.hidden,
            _ => self.gates(),
        }
    }

    fn projected(&self) -> bool {
        self.output != self.hidden
    }

    /// The first unit of a part, and how many it has.
    fn units(&self, part: usize) -> (usize, usize) {
        let cut =
            |part| if part == self.parts { self.hidden } else { self.hidden.div_ceil(LINE) * part / self.parts * LINE };
        (cut(part), cut(part + 1) - cut(part))
    }

    /// Columns of a part in `count` gates, from its first unit on.
    fn columns(&self, part: usize, count: usize) -> Columns {
        if self.parts == 1 {
            return Columns::all(count * self.hidden);
        }
        Columns { width: self.units(part).1, count, apart: self.hidden }
    }

    /// How weights of k × n that a pass multiplies so many times are packed, if they are. The number of all sequences decides: not every
    /// step has, nor every thread takes, all of them.
    fn form<T: GemmReal>(&self, k: usize, n: usize, times: usize) -> Option<Form> {
        // Packed ones come faster, out of memory too.
        let few = if self.kept { 0 } else { T::few(self.batch, k, n) };
        match T::form(self.precision, self.batch, k, n) {
            Form::Panels if times <= few => None,
            form => Some(form),
        }
    }

    /// The weights of a part, one behind the other, each with how it is packed: of the forward pass W_hhᵀ for the gates, the GRU's other,
    /// W_ihᵀ, and W_hrᵀ; of the backward pass W_hh likewise, and W_hr. What there is not has no columns.
    pub fn operands<T: GemmReal>(&self, backward: bool, part: usize) -> [Operand; 4] {
        let (r, direct, g) = (self.output, self.direct(), self.gates());
        let others = usize::from(g > direct);
        let operand = |k: usize, columns: Columns, n: usize, times: usize| {
            let form = self.form::<T>(k, n, times);
            let len = match form {
                Some(form) if columns.width * columns.count > 0 => packed_len::<T>(form, k, columns),
                _ => 0,
            };
            Operand { k, columns, form, len }
        };
        let none = operand(0, Columns::all(0), 0, 0);
        let projection = |k, n| if self.projected() { operand(k, Columns::all(n), n, self.seq) } else { none };
        if backward {
            let columns = if self.parts == 1 { Columns::all(r) } else { self.columns(part, 1) };
            let other = if others > 0 { operand(g - direct, columns, r, self.seq) } else { none };
            return [operand(direct, columns, r, self.seq), other, none, projection(r, self.hidden)];
        }
        let of = |k, gates: usize, times| operand(k, self.columns(part, gates), gates * self.hidden, times);
        let [direct, all] = [direct, g].map(|n| n / self.hidden);
        // A stretch has many rows, for which two stretches' weights are better packed.
        let times = if self.seq > stretch(self.batch) { usize::MAX } else { 1 };
        [of(r, direct, self.seq), of(r, others, self.seq), of(self.input, all, times), projection(self.hidden, r)]
    }

    /// Whether every product with a weight has it packed in tiles of bf16, so that bf16 need not be widened.
    pub fn all_half<T: GemmReal>(&self) -> bool {
        let (r, g) = (self.output, self.gates());
        let fit = |k, n| matches!(T::form(self.precision, self.batch, k, n), Form::Tiles(Precision::Half));
        // The smallest that [`operands`](Self::operands) has, and the gradient of x's.
        fit(r, self.hidden) && fit(self.hidden, r) && fit(self.input, g) && fit(g, self.input)
    }

    /// The weights of [`operands`](Self::operands) where they lie; what there is not lies anywhere.
    fn given<T: GemmReal>(&self, weights: &Weights<'_, T>, backward: bool, part: usize) -> [Source<T>; 4] {
        let (r, h, i, direct, g) = (self.output, self.hidden, self.input, self.direct(), self.gates());
        assert!(weights.hh.len() == g * r && weights.ih.len() == g * i, "weights of other extents");
        let (u, _) = self.units(part);
        let hr = weights.hr.unwrap_or(Stored::Real(&[]));
        if backward {
            let from = |first: usize| weights.hh.mat((first * r + u).min(g * r), 0, r, 0, 1);
            return [from(0), from(direct), from(g), hr.mat(0, 0, h, 0, 1)];
        }
        // Columns of W are rows of what is multiplied.
        let from = |w: &Stored<'_, T>, first: usize, k: usize| w.mat(first * k, 0, 1, 0, k);
        let other = if g > direct { direct + u } else { 0 };
        [from(&weights.hh, u, r), from(&weights.hh, other, r), from(&weights.ih, u, i), hr.mat(0, 0, 1, 0, h)]
    }

    /// The weights of a part: those that [`pack_weights`] has packed, and the others where they lie.
    fn seconds<'a, T: GemmReal>(
        &self,
        weights: &Weights<'_, T>,
        packed: &'a [T],
        backward: bool,
        part: usize,
    ) -> [(Operand, Second<'a, T>); 4] {
        let before = (0..part).flat_map(|part| self.operands::<T>(backward, part));
        let mut rest = &packed[before.map(|o| o.len).sum()..];
        let (operands, given) = (self.operands::<T>(backward, part), self.given(weights, backward, part));
        std::array::from_fn(|k| {
            let (front, behind) = rest.split_at(operands[k].len);
            rest = behind;
            let second = match (operands[k].form, given[k]) {
                (Some(form), _) => Second::Packed(form, front),
                (None, Source::Real(given)) => Second::Given(given),
                // What there is not.
                (None, Source::Half(_)) => Second::Packed(Form::Panels, front),
            };
            (operands[k], second)
        })
    }

    /// Room for the packed weights of a pass, in however many parts: in most parts each gate is filled up to whole lines, in one part all
    /// of them together.
    pub fn pack_len<T: GemmReal>(&self, backward: bool) -> usize {
        let of = |e: &Extents| -> usize {
            (0..e.parts).flat_map(|part| e.operands::<T>(backward, part)).map(|o| o.len).sum()
        };
        let one = of(&Extents { parts: 1, ..*self });
        if self.divisible() { one.max(of(&Extents { parts: self.hidden.div_ceil(LINE), ..*self })) } else { one }
    }

    /// Whether the units may be divided: not where a step has two products, one of what the other has made.
    pub fn divisible(&self) -> bool {
        !self.projected() && self.cell != Cell::GruResetBefore
    }
}

/// One second operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operand {
    k: usize,
    columns: Columns,
    /// Not packed if `None`.
    form: Option<Form>,
    /// Elements packed.
    pub len: usize,
}

/// Forward of one layer and direction.
pub struct Forward<'a, T> {
    pub extents: Extents,
    pub steps: &'a Steps,
    pub weights: Weights<'a, T>,
    /// Whether h and c start at zero, so that the first step needs no product.
    pub zero: bool,
    /// Keeps what the backward pass needs.
    pub training: bool,
    /// `(rows, I)`
    pub x: &'a [T],
    /// `(rows, G·H)` in training: activations afterwards. Otherwise as many rows as [`stretch`] steps have, at most.
    pub gates: Shared<T>,
    /// `(rows, H)` in training, `(B, H)` otherwise; empty where [`Extents::extra`] is 0.
    pub extra: Shared<T>,
    /// `(rows, H)`: c of every step of an LSTM, in training; else empty.
    pub cells: Shared<T>,
    /// `(B, R)`: initial.
    pub h0: &'a [T],
    /// `(B, H)`: initial, then last.
    pub c: Shared<T>,
    /// y: rows `stride` apart, this direction's columns from `column`; h of every step.
    pub y: Shared<T>,
    pub stride: usize,
    pub column: usize,
    /// 4·H: see [`fill_bias`].
    pub bias: &'a [T],
    /// See [`pack_weights`].
    pub packed: &'a [T],
}

/// The biases as the cells add them: the sum of both, but for the n gate of [`Cell::Gru`] the input's, and behind it the state's.
pub fn fill_bias<T: GemmReal>(extents: &Extents, weights: &Weights<'_, T>, to: &mut [T]) {
    to.fill(T::ZERO);
    let Some((ih, hh)) = weights.bias else { return };
    let split = if extents.cell == Cell::Gru { 2 * extents.hidden } else { extents.gates() };
    for j in 0..extents.gates() {
        if j < split {
            to[j] = ih[j] + hh[j];
        } else {
            to[j] = ih[j];
            to[j + extents.hidden] = hh[j];
        }
    }
}

/// Packs the weights for the steps forward or backward.
pub fn pack_weights<T: GemmReal>(e: &Extents, weights: &Weights<'_, T>, backward: bool, mut to: &mut [T]) {
    for part in 0..e.parts {
        for (operand, from) in e.operands::<T>(backward, part).into_iter().zip(e.given(weights, backward, part)) {
            let (front, rest) = std::mem::take(&mut to).split_at_mut(operand.len);
            if let Some(form) = operand.form.filter(|_| operand.len > 0) {
                // SAFETY: the part's columns, in weights of the extents that were checked.
                unsafe { pack(form, from, operand.k, operand.columns, front) };
            }
            to = rest;
        }
    }
}

/// Steps whose products with W_ih a forward pass makes at once: their rows are enough to make fetching the weights worthwhile, and few
/// enough that the gates are still in the second cache when the recurrence comes to them.
pub fn stretch(batch: usize) -> usize {
    192usize.div_ceil(batch.max(1)).clamp(1, STRETCH)
}

/// The longest [`stretch`].
const STRETCH: usize = 32;

impl<T: GemmReal> Forward<'_, T> {
    /// The row in `gates` of step t's first sequence. Without training a step's place in its stretch decides, whatever lengths there
    /// are: another task may be a stretch ahead.
    fn gates_row(&self, t: usize) -> usize {
        if self.training {
            return self.steps.offset(t);
        }
        let s = if self.extents.reverse { self.steps.len() - 1 - t } else { t };
        s % stretch(self.steps.batch()) * self.steps.batch()
    }

    /// gates = x W_ihᵀ for the sequences `first..last` and a part's units, of a stretch from the s-th step.
    fn input_product(&self, s: usize, (first, last): (usize, usize), unit: usize, (w, w_ih): (Operand, Second<'_, T>)) {
        let (i, g) = (self.extents.input, self.extents.gates());
        // Rows of x and of the gates that lie behind each other go together: where they begin, and how many they are.
        let (mut spans, mut filled) = ([(0, 0, 0); STRETCH], 0);
        for s in s..(s + stretch(self.steps.batch())).min(self.steps.len()) {
            let t = self.steps.step(s, self.extents.reverse);
            let n = self.steps.active(t).min(last).saturating_sub(first);
            let (x, row) = (self.steps.offset(t) + first, self.gates_row(t) + first);
            match spans[..filled].last_mut() {
                _ if n == 0 => {}
                Some((from, to, count)) if *from + *count == x && *to + *count == row => *count += n,
                _ => {
                    spans[filled] = (x, row, n);
                    filled += 1;
                }
            }
        }
        let rows = spans.map(|(x, row, n)| {
            let x = self.x[x * i..][..n * i].as_ptr();
            Rows::raw(n, (x, i), (self.gates.at(row * g + unit, (n * g).saturating_sub(unit)), g))
        });
        // SAFETY: the gates' memory is borrowed for this pass, and these rows' columns are this task's alone.
        unsafe { gemm_rows(i, w.columns, &rows[..filled], w_ih, false, false) };
    }

    /// Takes the sequences `first..last` of one part of the units through some steps. Tasks have sequences or parts of their own; all
    /// parts of the step before are done.
    pub fn run(&self, steps: Range<usize>, sequences: (usize, usize), part: usize) {
        let weights = self.extents.seconds(&self.weights, self.packed, false, part);
        for s in steps {
            self.step(s, sequences, part, &weights);
        }
    }

    fn step(&self, s: usize, (first, last): (usize, usize), part: usize, weights: &[(Operand, Second<'_, T>); 4]) {
        let e = &self.extents;
        let (h_units, r, g) = (e.hidden, e.output, e.gates());
        let (direct, backwards) = (e.direct(), s % 2 == 1);
        let [(w, w_direct), (other, w_other), w_ih, (projection, w_hr)] = *weights;
        // The task's units; of h all where there is a projection.
        let (unit, units) = e.units(part);
        let outputs = if e.projected() { r } else { units };
        if s.is_multiple_of(stretch(self.steps.batch())) {
            self.input_product(s, (first, last), unit, w_ih);
        }
        let t = self.steps.step(s, e.reverse);
        let n = self.steps.active(t).min(last).saturating_sub(first);
        if n == 0 {
            return;
        }
        let row = self.steps.offset(t) + first;
        let gates_row = self.gates_row(t) + first;
        let extra_row = if self.training { row } else { first };
        // SAFETY: rows of the sequences first..last and columns of the part's units, which this task alone uses; so below.
        let gate = |b: usize, k: usize| unsafe { self.gates.part((gates_row + b) * g + k * h_units + unit, units) };
        // SAFETY: as above.
        let extra = |b: usize| unsafe { self.extra.part((extra_row + b) * h_units + unit, units) };
        // SAFETY: as above.
        let h = |b: usize| unsafe { self.y.part((row + b) * self.stride + self.column + unit, outputs) };
        let before = |b: usize| match self.steps.before(t, first + b, e.reverse) {
            // SAFETY: h of the step before, which is done.
            Some(row) => unsafe { self.y.read(row * self.stride + self.column + unit, outputs) },
            None => &self.h0[(first + b) * r + unit..][..outputs],
        };
        let bias = |k: usize| &self.bias[k * h_units + unit..][..units];
        // Rows of h before the step: of sequences that were there already, and of those that begin.
        let old = (0..n).take_while(|&b| self.steps.before(t, first + b, e.reverse).is_some()).count();
        let old_row = self.steps.before(t, first, e.reverse).unwrap_or(0);
        let product = |(w, b): (Operand, Second<'_, T>), c: (*mut T, usize), accumulate: bool| {
            let from =
                self.y.at(old_row * self.stride + self.column, if old > 0 { (old - 1) * self.stride + r } else { 0 });
            let begin = self.h0[(first + old) * r..(first + n) * r].as_ptr();
            let rows = [
                Rows::raw(old, (from, self.stride), c),
                Rows::raw(n - old, (begin, r), (c.0.wrapping_add(old * c.1), c.1)),
            ];
            let some = match old {
                0 => &rows[1..],
                _ if old == n => &rows[..1],
                _ => &rows[..],
            };
            // SAFETY: as above.
            unsafe { gemm_rows(r, w.columns, some, b, accumulate, backwards) };
        };
        let skip = self.zero && s == 0;
        let gates_at = |gate: usize| (self.gates.at(gates_row * g + gate * h_units + unit, 0), g);
        let extra_at = || (self.extra.at(extra_row * h_units + unit, 0), h_units);
        if !skip {
            product((w, w_direct), gates_at(0), true);
        }
        match e.cell {
            Cell::Gru => {
                if skip {
                    (0..n).for_each(|b| extra(b).fill(T::ZERO));
                } else {
                    product((other, w_other), extra_at(), false);
                }
                each(
                    n,
                    #[inline(always)]
                    |b| {
                        let gates = [gate(b, 0), gate(b, 1), gate(b, 2)];
                        let bias = [bias(0), bias(1), bias(2), bias(3)];
                        rows::gru_row(gates, bias, extra(b), before(b), self.training, h(b));
                    },
                );
            }
            Cell::GruResetBefore => {
                each(
                    n,
                    #[inline(always)]
                    |b| rows::gru_before_gates([gate(b, 0), gate(b, 1)], [bias(0), bias(1)], before(b), extra(b)),
                );
                if !skip {
                    let rows = Rows::raw(n, (extra_at().0.cast_const(), r), gates_at(direct / h_units));
                    // SAFETY: as above.
                    unsafe { gemm_rows(r, other.columns, &[rows], w_other, true, backwards) };
                }
                each(
                    n,
                    #[inline(always)]
                    |b| rows::gru_before_state([gate(b, 1), gate(b, 2)], bias(2), before(b), h(b)),
                );
            }
            Cell::Rnn(nonlinearity) => each(
                n,
                #[inline(always)]
                |b| match nonlinearity {
                    Nonlinearity::Tanh => rows::tanh_row(gate(b, 0), bias(0), self.training, h(b)),
                    Nonlinearity::Relu => rows::rnn::<T, true>(gate(b, 0), bias(0), h(b)),
                },
            ),
            Cell::Lstm | Cell::LstmPeephole => {
                let peephole = self.weights.peephole.map(|p| [0, 1, 2].map(|k| &p[k * h_units + unit..][..units]));
                each(
                    n,
                    #[inline(always)]
                    |b| {
                        let gates = [gate(b, 0), gate(b, 1), gate(b, 2), gate(b, 3)];
                        let bias = [bias(0), bias(1), bias(2), bias(3)];
                        // SAFETY: as above.
                        let c = unsafe { self.c.part((first + b) * h_units + unit, units) };
                        let h = if e.projected() { extra(b) } else { h(b) };
                        // SAFETY: as above.
                        let kept = || unsafe { self.cells.part((row + b) * h_units + unit, units) };
                        rows::lstm_row(gates, bias, peephole, c, self.training.then(kept), h);
                    },
                );
                if e.projected() {
                    let to = (self.y.at(row * self.stride + self.column, 0), self.stride);
                    let rows = Rows::raw(n, (extra_at().0.cast_const(), h_units), to);
                    // SAFETY: as above.
                    unsafe { gemm_rows(h_units, projection.columns, &[rows], w_hr, false, backwards) };
                }
            }
        }
    }
}

/// Backward through time of one layer and direction.
pub struct Backward<'a, T> {
    pub extents: Extents,
    pub steps: &'a Steps,
    pub weights: Weights<'a, T>,
    /// `(rows, G·H)`: activations, afterwards the gradients of the pre-activations.
    pub gates: Shared<T>,
    /// `(rows, H)`: as the forward pass left it; for [`Cell::Gru`] afterwards the gradient of W_hn h + b_hn.
    pub extra: Shared<T>,
    /// `(rows, H)`
    pub cells: &'a [T],
    /// y of the forward pass: rows `stride` apart, from `column`.
    pub y: &'a [T],
    /// Gradient of y in the same places, if any.
    pub dy: Option<&'a [T]>,
    pub stride: usize,
    pub column: usize,
    /// `(B, R)`
    pub h0: &'a [T],
    /// `(B, H)`
    pub c0: &'a [T],
    /// `(B, R)`: gradient of the last h, afterwards of the initial one.
    pub dh: Shared<T>,
    /// `(B, H)`
    pub dc: Shared<T>,
    /// `(B, H)`: scratch where there is a projection or the reset gate comes first.
    pub scratch: Shared<T>,
    /// `(rows, R)`: gradient of h after projection, where there is one.
    pub projected: Shared<T>,
    /// See [`pack_weights`].
    pub packed: &'a [T],
}

impl<T: GemmReal> Backward<'_, T> {
    /// Takes the sequences `first..last` of one part of the units back through some items: each is the last step but as many, first the
    /// gradient of h from the gates of the step that came before, then that of the gates. One item more than there are steps gives the
    /// gradient of the initial h. Tasks have sequences or parts of their own; all parts of the item before are done.
    pub fn run(&self, items: Range<usize>, sequences: (usize, usize), part: usize) {
        let weights = self.extents.seconds(&self.weights, self.packed, true, part);
        for item in items {
            self.step(item, sequences, part, &weights);
        }
    }

    fn step(&self, item: usize, (first, last): (usize, usize), part: usize, weights: &[(Operand, Second<'_, T>); 4]) {
        let e = &self.extents;
        let (h_units, r, g) = (e.hidden, e.output, e.gates());
        let direct = e.direct();
        let [(w, w_direct), (other, w_other), _, (projection, w_hr)] = *weights;
        let (unit, units) = e.units(part);
        let outputs = if e.projected() { r } else { units };
        // The sequences of the s-th step, as its first row and their number.
        let rows_of = |s: usize| {
            let t = self.steps.step(s, e.reverse);
            (self.steps.offset(t) + first, self.steps.active(t).min(last).saturating_sub(first))
        };
        let product =
            |(w, b): (Operand, Second<'_, T>), n: usize, a: (*mut T, usize), c: (*mut T, usize), accumulate: bool| {
                let rows = [Rows::raw(n, (a.0.cast_const(), a.1), c)];
                // SAFETY: rows of the sequences first..last and columns of the part's units, which this task alone uses, so below; of a all
                // columns of what is done.
                unsafe { gemm_rows(w.k, w.columns, &rows, b, accumulate, item % 2 == 1) };
            };
        let dh_at = (self.dh.at(first * r + unit, 0), r);
        if item > 0 {
            let (row, n) = rows_of(self.steps.len() - item);
            if n > 0 {
                let gru = matches!(e.cell, Cell::Gru | Cell::GruResetBefore);
                product((w, w_direct), n, (self.gates.at(row * g, 0), g), dh_at, gru);
                if e.cell == Cell::Gru {
                    product((other, w_other), n, (self.extra.at(row * h_units, 0), h_units), dh_at, true);
                }
            }
        }
        if item == self.steps.len() {
            return;
        }
        let s = self.steps.len() - 1 - item;
        let (t, (row, n)) = (self.steps.step(s, e.reverse), rows_of(s));
        if n == 0 {
            return;
        }
        // SAFETY: as above.
        let gate = |b: usize, k: usize| unsafe { self.gates.part((row + b) * g + k * h_units + unit, units) };
        // SAFETY: as above.
        let extra = |b: usize| unsafe { self.extra.part((row + b) * h_units + unit, units) };
        // SAFETY: as above.
        let dh = |b: usize| unsafe { self.dh.part((first + b) * r + unit, outputs) };
        let before = |b: usize| match self.steps.before(t, first + b, e.reverse) {
            Some(row) => &self.y[row * self.stride + self.column + unit..][..outputs],
            None => &self.h0[(first + b) * r + unit..][..outputs],
        };
        if let Some(dy) = self.dy {
            each(
                n,
                #[inline(always)]
                |b| {
                    let dy = &dy[(row + b) * self.stride + self.column + unit..][..outputs];
                    dh(b).iter_mut().zip(dy).for_each(|(d, &y)| *d += y);
                },
            );
        }
        match e.cell {
            Cell::Gru => each(
                n,
                #[inline(always)]
                |b| rows::gru_backward([gate(b, 0), gate(b, 1), gate(b, 2)], extra(b), before(b), dh(b)),
            ),
            Cell::GruResetBefore => {
                each(
                    n,
                    #[inline(always)]
                    |b| rows::gru_before_state_backward([gate(b, 1), gate(b, 2)], before(b), dh(b)),
                );
                let dq = (self.scratch.at(first * h_units, 0), r);
                product((other, w_other), n, (self.gates.at(row * g + direct, 0), g), dq, false);
                each(
                    n,
                    #[inline(always)]
                    |b| {
                        // SAFETY: as above.
                        let dq = unsafe { self.scratch.read((first + b) * h_units, h_units) };
                        rows::gru_before_gates_backward(gate(b, 0), before(b), dq, dh(b));
                    },
                );
            }
            Cell::Rnn(nonlinearity) => each(
                n,
                #[inline(always)]
                |b| match nonlinearity {
                    Nonlinearity::Tanh => rows::rnn_backward::<T, false>(gate(b, 0), dh(b)),
                    Nonlinearity::Relu => rows::rnn_backward::<T, true>(gate(b, 0), dh(b)),
                },
            ),
            Cell::Lstm | Cell::LstmPeephole => {
                if e.projected() {
                    // SAFETY: as above.
                    (0..n).for_each(|b| unsafe { self.projected.part((row + b) * r, r) }.copy_from_slice(dh(b)));
                    product((projection, w_hr), n, dh_at, (self.scratch.at(first * h_units, 0), h_units), false);
                }
                let peephole = self.weights.peephole.map(|p| [0, 1, 2].map(|k| &p[k * h_units + unit..][..units]));
                each(
                    n,
                    #[inline(always)]
                    |b| {
                        let c_before = match self.steps.before(t, first + b, e.reverse) {
                            Some(row) => &self.cells[row * h_units + unit..][..units],
                            None => &self.c0[(first + b) * h_units + unit..][..units],
                        };
                        let gates = [gate(b, 0), gate(b, 1), gate(b, 2), gate(b, 3)];
                        let c = &self.cells[(row + b) * h_units + unit..][..units];
                        // SAFETY: as above.
                        let (dh, dc) = unsafe {
                            let raw =
                                if e.projected() { self.scratch.read((first + b) * h_units, h_units) } else { dh(b) };
                            (raw, self.dc.part((first + b) * h_units + unit, units))
                        };
                        rows::lstm_row_backward(gates, peephole, c, c_before, dh, dc);
                    },
                );
            }
        }
    }
}
