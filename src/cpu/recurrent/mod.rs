//! One layer in one direction over a whole batch of sequences.
//!
//! Rows are packed as PyTorch packs them: the sequences that reach step t, longest first, stand at `offset(t)..offset(t) +
//! active(t)`. Each task takes a range of sequences through all time steps, alone: sequences do not depend on each other, so
//! there is nothing to wait for between steps. Per step there is one product with the packed recurrent weights and
//! one pass over the gates; nothing is allocated.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod rows;

use super::{
    gemm::{Form, GemmReal, Mat, MatMut, Rows, gemm_packed, gemm_packed_rows, pack, packed_len, product},
    simd::{Isa, isa, vectorize},
    split::Shared,
};
use crate::{
    cell::{Cell, Nonlinearity},
    dtype::DType,
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

/// All rows of an LSTM's step by code written for this processor and type, if there is some. `raw` is σ(o) ∘ tanh(c).
fn lstm_rows<T: GemmReal>(
    gates: &mut [T],
    bias: &[T],
    peephole: Option<&[T]>,
    c: &mut [T],
    raw: &mut [T],
    units: usize,
) -> bool {
    #[cfg(target_arch = "x86_64")]
    if T::DTYPE == DType::F32 && isa() >= Isa::Avx512 {
        let peephole = peephole.map(bytemuck::cast_slice);
        let (gates, c, raw) =
            (bytemuck::cast_slice_mut(gates), bytemuck::cast_slice_mut(c), bytemuck::cast_slice_mut(raw));
        // SAFETY: the processor has it.
        unsafe { avx512::lstm(gates, bytemuck::cast_slice(bias), peephole, c, raw, units) };
        return true;
    }
    let _ = (gates, bias, peephole, c, raw, units);
    false
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

/// Row `b` of rows `width` long.
#[inline(always)]
fn at<T>(rows: &[T], b: usize, width: usize) -> &[T] {
    &rows[b * width..][..width]
}

/// The same, to write.
#[inline(always)]
fn at_mut<T>(rows: &mut [T], b: usize, width: usize) -> &mut [T] {
    &mut rows[b * width..][..width]
}

/// The parameters of one layer and direction.
#[derive(Clone, Copy)]
pub struct Weights<'a, T> {
    /// `(G·H, I)`
    pub ih: &'a [T],
    /// `(G·H, R)`
    pub hh: &'a [T],
    /// `(G·H)` each.
    pub bias: Option<(&'a [T], &'a [T])>,
    /// `(R, H)`
    pub hr: Option<&'a [T]>,
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
    /// B
    pub batch: usize,
}

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

    /// How weights of k × n are packed. The number of all sequences decides: not every step has, nor every thread takes, all of them.
    fn form<T: GemmReal>(&self, k: usize, n: usize) -> Form {
        T::kept_form(self.batch, k, n)
    }

    fn packed_len<T: GemmReal>(&self, k: usize, n: usize) -> usize {
        if n == 0 { 0 } else { packed_len::<T>(self.form::<T>(k, n), k, n) }
    }

    /// Packs k × n weights at the front of `to` and leaves what is behind them.
    fn pack<T: GemmReal>(&self, b: Mat<T>, k: usize, n: usize, to: &mut &mut [T]) {
        let (front, rest) = std::mem::take(to).split_at_mut(self.packed_len::<T>(k, n));
        pack(self.form::<T>(k, n), b, k, n, front);
        *to = rest;
    }

    /// Room for the packed weights of a forward pass.
    pub fn forward_pack_len<T: GemmReal>(&self) -> usize {
        let other = self.gates() - self.direct();
        self.packed_len::<T>(self.output, self.direct())
            + self.packed_len::<T>(self.output, other)
            + if self.projected() { self.packed_len::<T>(self.hidden, self.output) } else { 0 }
            + self.packed_len::<T>(self.input, self.gates())
    }

    /// Room for the packed weights of a backward pass.
    pub fn backward_pack_len<T: GemmReal>(&self) -> usize {
        let other = self.gates() - self.direct();
        self.packed_len::<T>(self.direct(), self.output)
            + if other > 0 { self.packed_len::<T>(other, self.output) } else { 0 }
            + if self.projected() { self.packed_len::<T>(self.output, self.hidden) } else { 0 }
    }
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
    /// `(B, R)`: initial, then last.
    pub h: Shared<T>,
    /// `(B, H)`: initial, then last.
    pub c: Shared<T>,
    /// y: rows `stride` apart, this direction's columns from `column`.
    pub y: Shared<T>,
    pub stride: usize,
    pub column: usize,
    /// 4·H: see [`fill_bias`].
    pub bias: &'a [T],
    /// See [`pack_forward`].
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

/// Packs W_hhᵀ, W_hrᵀ where there is one, and W_ihᵀ for the forward steps.
pub fn pack_forward<T: GemmReal>(e: &Extents, weights: &Weights<'_, T>, mut to: &mut [T]) {
    let (r, direct, other) = (e.output, e.direct(), e.gates() - e.direct());
    e.pack(Mat::new(weights.hh, r, 1, direct, r), r, direct, &mut to);
    if other > 0 {
        e.pack(Mat::new(&weights.hh[direct * r..], r, 1, other, r), r, other, &mut to);
    }
    if let Some(hr) = weights.hr {
        e.pack(Mat::new(hr, e.hidden, 1, r, e.hidden), e.hidden, r, &mut to);
    }
    e.pack(Mat::new(weights.ih, e.input, 1, e.gates(), e.input), e.input, e.gates(), &mut to);
}

/// Packs W_hh (and W_hr) for the backward steps.
pub fn pack_backward<T: GemmReal>(e: &Extents, weights: &Weights<'_, T>, mut to: &mut [T]) {
    let (r, direct, other) = (e.output, e.direct(), e.gates() - e.direct());
    e.pack(Mat::new(weights.hh, direct, r, r, 1), direct, r, &mut to);
    if other > 0 {
        e.pack(Mat::new(&weights.hh[direct * r..], other, r, r, 1), other, r, &mut to);
    }
    if let Some(hr) = weights.hr {
        e.pack(Mat::new(hr, r, e.hidden, e.hidden, 1), r, e.hidden, &mut to);
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

    /// gates = x W_ihᵀ for the sequences `first..last` of a stretch from the s-th step.
    fn input_product(&self, s: usize, (first, last): (usize, usize), w_ih: &[T]) {
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
            // SAFETY: rows of the sequences first..last, which this task alone touches.
            let gates = unsafe { self.gates.part(row * g, n * g) };
            Rows::new((n, g, i), (&self.x[x * i..], i), (gates, g))
        });
        // SAFETY: the gates' memory is borrowed for this pass, and these rows are this task's alone.
        unsafe { gemm_packed_rows(self.extents.form::<T>(i, g), (g, i), &rows[..filled], w_ih, false) };
    }

    /// Takes the sequences `first..last` through all steps. Called with disjoint ranges by several threads.
    pub fn run(&self, first: usize, last: usize) {
        let e = &self.extents;
        let (h_units, r, g) = (e.hidden, e.output, e.gates());
        let direct = e.direct();
        let other = g - direct;
        let (w_direct, rest) = self.packed.split_at(e.packed_len::<T>(r, direct));
        let (w_other, rest) = rest.split_at(e.packed_len::<T>(r, other));
        let (w_hr, w_ih) = rest.split_at(if e.projected() { e.packed_len::<T>(h_units, r) } else { 0 });
        let peep = self.weights.peephole.unwrap_or(&[]);
        let stretch = stretch(self.steps.batch());
        for s in 0..self.steps.len() {
            if s.is_multiple_of(stretch) {
                self.input_product(s, (first, last), w_ih);
            }
            let t = self.steps.step(s, e.reverse);
            let n = self.steps.active(t).min(last).saturating_sub(first);
            if n == 0 {
                continue;
            }
            let row = self.steps.offset(t) + first;
            let extra_row = if self.training { row } else { first };
            // SAFETY: all of these are rows of the sequences first..last, which this task alone touches.
            let (gates, h, c, extra) = unsafe {
                (
                    self.gates.part((self.gates_row(t) + first) * g, n * g),
                    self.h.part(first * r, n * r),
                    if e.cell.has_cell_state() { self.c.part(first * h_units, n * h_units) } else { &mut [] },
                    if e.extra() > 0 { self.extra.part(extra_row * h_units, n * h_units) } else { &mut [] },
                )
            };
            let skip = self.zero && s == 0;
            if !skip {
                gemm_packed(e.form::<T>(r, direct), (n, direct, r), (h, r), w_direct, (gates, g), true);
            }
            match e.cell {
                Cell::Gru => {
                    if skip {
                        extra.fill(T::ZERO);
                    } else {
                        gemm_packed(e.form::<T>(r, other), (n, other, r), (h, r), w_other, (extra, other), false);
                    }
                    each(
                        n,
                        #[inline(always)]
                        |b| {
                            rows::gru(at_mut(gates, b, g), self.bias, at_mut(extra, b, h_units), at_mut(h, b, r));
                        },
                    );
                }
                Cell::GruResetBefore => {
                    each(
                        n,
                        #[inline(always)]
                        |b| {
                            rows::gru_before_gates(
                                at_mut(gates, b, g),
                                self.bias,
                                at(h, b, r),
                                at_mut(extra, b, h_units),
                            );
                        },
                    );
                    if !skip {
                        let candidates = &mut gates[direct..];
                        gemm_packed(e.form::<T>(r, other), (n, other, r), (extra, r), w_other, (candidates, g), true);
                    }
                    each(
                        n,
                        #[inline(always)]
                        |b| {
                            rows::gru_before_state(at_mut(gates, b, g), self.bias, at_mut(h, b, r));
                        },
                    );
                }
                Cell::Rnn(nonlinearity) => each(
                    n,
                    #[inline(always)]
                    |b| {
                        let (gates, h) = (at_mut(gates, b, g), at_mut(h, b, r));
                        match nonlinearity {
                            Nonlinearity::Tanh => rows::rnn::<T, false>(gates, self.bias, h),
                            Nonlinearity::Relu => rows::rnn::<T, true>(gates, self.bias, h),
                        }
                    },
                ),
                Cell::Lstm | Cell::LstmPeephole => {
                    let raw = if e.projected() { &mut *extra } else { &mut *h };
                    if !lstm_rows(gates, self.bias, self.weights.peephole, c, raw, h_units) {
                        each(
                            n,
                            #[inline(always)]
                            |b| {
                                let (gates, c) = (at_mut(gates, b, g), at_mut(c, b, h_units));
                                let h = at_mut(raw, b, h_units);
                                if e.cell == Cell::LstmPeephole {
                                    rows::lstm::<T, true>(gates, self.bias, peep, c, h);
                                } else {
                                    rows::lstm::<T, false>(gates, self.bias, peep, c, h);
                                }
                            },
                        );
                    }
                    if e.projected() {
                        gemm_packed(e.form::<T>(h_units, r), (n, r, h_units), (extra, h_units), w_hr, (h, r), false);
                    }
                    if self.training {
                        // SAFETY: this step's rows of the task's sequences.
                        unsafe { self.cells.part(row * h_units, n * h_units) }.copy_from_slice(c);
                    }
                }
            }
            for b in 0..n {
                // SAFETY: this direction's columns of this task's rows.
                unsafe { self.y.part((row + b) * self.stride + self.column, r) }.copy_from_slice(at(h, b, r));
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
    /// See [`pack_backward`].
    pub packed: &'a [T],
}

impl<T: GemmReal> Backward<'_, T> {
    /// Takes the sequences `first..last` back through all steps. Called with disjoint ranges by several threads.
    pub fn run(&self, first: usize, last: usize) {
        let e = &self.extents;
        let (h_units, r, g) = (e.hidden, e.output, e.gates());
        let direct = e.direct();
        let other = g - direct;
        let (w_direct, rest) = self.packed.split_at(e.packed_len::<T>(direct, r));
        let (w_other, w_hr) = rest.split_at(if other > 0 { e.packed_len::<T>(other, r) } else { 0 });
        let peep = self.weights.peephole.unwrap_or(&[]);
        for s in (0..self.steps.len()).rev() {
            let t = self.steps.step(s, e.reverse);
            let n = self.steps.active(t).min(last).saturating_sub(first);
            if n == 0 {
                continue;
            }
            let row = self.steps.offset(t) + first;
            // SAFETY: all of these are rows of the sequences first..last, which this task alone touches.
            let (gates, dh, dc, extra) = unsafe {
                (
                    self.gates.part(row * g, n * g),
                    self.dh.part(first * r, n * r),
                    if e.cell.has_cell_state() { self.dc.part(first * h_units, n * h_units) } else { &mut [] },
                    if e.extra() > 0 { self.extra.part(row * h_units, n * h_units) } else { &mut [] },
                )
            };
            if let Some(dy) = self.dy {
                each(
                    n,
                    #[inline(always)]
                    |b| {
                        let dy = &dy[(row + b) * self.stride + self.column..][..r];
                        dh[b * r..][..r].iter_mut().zip(dy).for_each(|(d, &y)| *d += y);
                    },
                );
            }
            let h_before = |b: usize| match self.steps.before(t, first + b, e.reverse) {
                Some(row) => &self.y[row * self.stride + self.column..][..r],
                None => &self.h0[(first + b) * r..][..r],
            };
            match e.cell {
                Cell::Gru => {
                    each(
                        n,
                        #[inline(always)]
                        |b| {
                            rows::gru_backward(
                                at_mut(gates, b, g),
                                at_mut(extra, b, h_units),
                                h_before(b),
                                at_mut(dh, b, r),
                            );
                        },
                    );
                    gemm_packed(e.form::<T>(direct, r), (n, r, direct), (gates, g), w_direct, (dh, r), true);
                    gemm_packed(e.form::<T>(other, r), (n, r, other), (extra, other), w_other, (dh, r), true);
                }
                Cell::GruResetBefore => {
                    // SAFETY: scratch rows of this task's sequences.
                    let dq = unsafe { self.scratch.part(first * h_units, n * h_units) };
                    each(
                        n,
                        #[inline(always)]
                        |b| {
                            rows::gru_before_state_backward(at_mut(gates, b, g), h_before(b), at_mut(dh, b, r));
                        },
                    );
                    gemm_packed(e.form::<T>(other, r), (n, r, other), (&gates[direct..], g), w_other, (dq, r), false);
                    each(
                        n,
                        #[inline(always)]
                        |b| {
                            rows::gru_before_gates_backward(
                                at_mut(gates, b, g),
                                h_before(b),
                                at(dq, b, h_units),
                                at_mut(dh, b, r),
                            );
                        },
                    );
                    gemm_packed(e.form::<T>(direct, r), (n, r, direct), (gates, g), w_direct, (dh, r), true);
                }
                Cell::Rnn(nonlinearity) => {
                    each(
                        n,
                        #[inline(always)]
                        |b| {
                            let (gates, dh) = (at_mut(gates, b, g), at(dh, b, r));
                            match nonlinearity {
                                Nonlinearity::Tanh => rows::rnn_backward::<T, false>(gates, dh),
                                Nonlinearity::Relu => rows::rnn_backward::<T, true>(gates, dh),
                            }
                        },
                    );
                    gemm_packed(e.form::<T>(direct, r), (n, r, direct), (gates, g), w_direct, (dh, r), false);
                }
                Cell::Lstm | Cell::LstmPeephole => {
                    let draw = if e.projected() {
                        // SAFETY: rows of this task's sequences; dh is n × R, the scratch n × H.
                        unsafe {
                            self.projected.part(row * r, n * r).copy_from_slice(dh);
                            let draw = self.scratch.part(first * h_units, n * h_units);
                            gemm_packed(
                                e.form::<T>(r, h_units),
                                (n, h_units, r),
                                (dh, r),
                                w_hr,
                                (draw, h_units),
                                false,
                            );
                            &*draw
                        }
                    } else {
                        &*dh
                    };
                    each(
                        n,
                        #[inline(always)]
                        |b| {
                            let c_before = match self.steps.before(t, first + b, e.reverse) {
                                Some(row) => &self.cells[row * h_units..][..h_units],
                                None => &self.c0[(first + b) * h_units..][..h_units],
                            };
                            let gates = at_mut(gates, b, g);
                            let c = &self.cells[(row + b) * h_units..][..h_units];
                            let (dh, dc) = (at(draw, b, h_units), at_mut(dc, b, h_units));
                            if e.cell == Cell::LstmPeephole {
                                rows::lstm_backward::<T, true>(gates, peep, c, c_before, dh, dc);
                            } else {
                                rows::lstm_backward::<T, false>(gates, peep, c, c_before, dh, dc);
                            }
                        },
                    );
                    gemm_packed(e.form::<T>(direct, r), (n, r, direct), (gates, g), w_direct, (dh, r), false);
                }
            }
        }
    }
}

/// Gradients of one layer and direction's parameters, where wanted.
pub struct Gradients<'a, T> {
    pub ih: Option<&'a mut [T]>,
    pub hh: Option<&'a mut [T]>,
    pub bias_ih: Option<&'a mut [T]>,
    pub bias_hh: Option<&'a mut [T]>,
    pub hr: Option<&'a mut [T]>,
    pub peephole: Option<&'a mut [T]>,
}

/// Everything [`parameter_gradients`] reads, after the backward steps.
pub struct Kept<'a, T> {
    pub extents: Extents,
    pub steps: &'a Steps,
    /// `(rows, I)`
    pub x: &'a [T],
    pub gates: &'a [T],
    pub extra: &'a [T],
    pub cells: &'a [T],
    pub projected: &'a [T],
    pub y: &'a [T],
    pub stride: usize,
    pub column: usize,
    pub h0: &'a [T],
    pub c0: &'a [T],
}

/// One product per weight, over all rows; sums over rows for the others. `states` is scratch of rows × R. With `add` into what is there.
pub fn parameter_gradients<T: GemmReal>(k: &Kept<'_, T>, to: Gradients<'_, T>, add: bool, states: &mut [T]) {
    let e = &k.extents;
    let (rows, h, r, g, i) = (k.steps.rows(), e.hidden, e.output, e.gates(), e.input);
    let beta = if add { T::ONE } else { T::ZERO };
    if let Some(ih) = to.ih {
        let a = Mat::new(k.gates, g, 1, rows, g);
        product((g, i, rows), a, Mat::new(k.x, rows, i, i, 1), MatMut::new(ih, g, i, i), T::ONE, beta);
    }
    if let Some(hh) = to.hh {
        let direct = e.direct();
        let (hh_direct, hh_other) = hh.split_at_mut(direct * r);
        // dW (+)= dgatesᵀ h, for the rows of a range and the h before each of them.
        let mut add_rows = |first: usize, count: usize, before: Mat<T>, beta: T| {
            let a = Mat::new(&k.gates[first * g..], direct, 1, count, g);
            product((direct, r, count), a, before, MatMut::new(hh_direct, direct, r, r), T::ONE, beta);
            match e.cell {
                Cell::Gru => {
                    let a = Mat::new(&k.extra[first * h..], h, 1, count, h);
                    product((h, r, count), a, before, MatMut::new(hh_other, h, r, r), T::ONE, beta);
                }
                Cell::GruResetBefore => {
                    let a = Mat::new(&k.gates[first * g + direct..], h, 1, count, g);
                    let before = Mat::new(&k.extra[first * h..], count, r, r, 1);
                    product((h, r, count), a, before, MatMut::new(hh_other, h, r, r), T::ONE, beta);
                }
                _ => {}
            }
        };
        let batch = k.steps.batch();
        if rows == k.steps.len() * batch {
            // All sequences are of one length: the h before a row stands in y, a step away; but for the first step's, h0.
            let others = rows - batch;
            let (first, rest, y) = if e.reverse { (others, 0, batch) } else { (0, batch, 0) };
            add_rows(first, batch, Mat::new(k.h0, batch, r, r, 1), beta);
            if others > 0 {
                let y = &k.y[y * k.stride + k.column..];
                add_rows(rest, others, Mat::new(y, others, k.stride, r, 1), T::ONE);
            }
        } else {
            // h before each step, in the order of the rows.
            let states = &mut states[..rows * r];
            for t in 0..k.steps.len() {
                for b in 0..k.steps.active(t) {
                    let from = match k.steps.before(t, b, e.reverse) {
                        Some(row) => &k.y[row * k.stride + k.column..][..r],
                        None => &k.h0[b * r..][..r],
                    };
                    states[(k.steps.offset(t) + b) * r..][..r].copy_from_slice(from);
                }
            }
            add_rows(0, rows, Mat::new(states, rows, r, r, 1), beta);
        }
    }
    if let Some(bias) = to.bias_ih {
        column_sums(k.gates, g, bias, add);
    }
    if let Some(bias) = to.bias_hh {
        if e.cell == Cell::Gru {
            let (direct, other) = bias.split_at_mut(2 * h);
            column_sums(k.gates, g, direct, add);
            column_sums(k.extra, h, other, add);
        } else {
            column_sums(k.gates, g, bias, add);
        }
    }
    if let Some(hr) = to.hr {
        let (a, b) = (Mat::new(k.projected, r, 1, rows, r), Mat::new(k.extra, rows, h, h, 1));
        product((r, h, rows), a, b, MatMut::new(hr, r, h, h), T::ONE, beta);
    }
    if let Some(peephole) = to.peephole {
        if !add {
            peephole.fill(T::ZERO);
        }
        let (pi, rest) = peephole.split_at_mut(h);
        let (pf, po) = rest.split_at_mut(h);
        for t in 0..k.steps.len() {
            for b in 0..k.steps.active(t) {
                let row = k.steps.offset(t) + b;
                let before = match k.steps.before(t, b, e.reverse) {
                    Some(row) => &k.cells[row * h..][..h],
                    None => &k.c0[b * h..][..h],
                };
                let (gates, c) = (&k.gates[row * g..][..g], &k.cells[row * h..][..h]);
                vectorize(
                    #[inline(always)]
                    || {
                        for j in 0..h {
                            pi[j] = gates[j].fma(before[j], pi[j]);
                            pf[j] = gates[h + j].fma(before[j], pf[j]);
                            po[j] = gates[3 * h + j].fma(c[j], po[j]);
                        }
                    },
                );
            }
        }
    }
}

/// `to[j] (+)= Σ rows[·][j]` over rows `width` apart, from the first row to the last.
fn column_sums<T: GemmReal>(rows: &[T], width: usize, to: &mut [T], add: bool) {
    if !add {
        to.fill(T::ZERO);
    }
    vectorize(
        #[inline(always)]
        || {
            for row in rows.chunks_exact(width) {
                to.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x);
            }
        },
    );
}

/// dx (+)= dgates W_ih for all rows at once.
pub fn input_gradient<T: GemmReal>(e: &Extents, rows: usize, gates: &[T], w_ih: &[T], dx: &mut [T], add: bool) {
    let (g, i) = (e.gates(), e.input);
    let (a, b) = (Mat::new(gates, rows, g, g, 1), Mat::new(w_ih, g, i, i, 1));
    let beta = if add { T::ONE } else { T::ZERO };
    product((rows, i, g), a, b, MatMut::new(dx, rows, i, i), T::ONE, beta);
}
