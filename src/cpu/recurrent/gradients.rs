//! The gradients of a layer's parameters and of its input, after the steps backward.

use super::{Extents, Steps, Stored};
use crate::{
    cell::Cell,
    cpu::{
        gemm::{Form, GemmReal, Mat, MatMut, Output, Source, product, product_in_tiles, products},
        simd::vectorize,
        split::{PARALLEL, Shared, chunks, tasks},
    },
};

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
    /// Whether h0 is zero.
    pub zero: bool,
    pub c0: &'a [T],
}

/// One product per weight, over all rows; sums over rows for the others. `states` is scratch of rows × R. With `add` into what is there.
pub fn parameter_gradients<T: GemmReal>(k: &Kept<'_, T>, mut to: Gradients<'_, T>, add: bool, states: &mut [T]) {
    let e = &k.extents;
    let (rows, h, r, g, i) = (k.steps.rows(), e.hidden, e.output, e.gates(), e.input);
    let beta = if add { T::ONE } else { T::ZERO };
    let direct = e.direct();
    // Of W_ih the gates that W_hh shares, and the others.
    let (mut ih, ih_other) = to.ih.map(|ih| ih.split_at_mut(direct * i)).unzip();
    let (mut hh, mut hh_other) = to.hh.map(|hh| hh.split_at_mut(direct * r)).unzip();
    if let Some(other) = ih_other.filter(|other| !other.is_empty()) {
        let a = Mat::new(&k.gates[direct..], g - direct, 1, rows, g);
        let (x, c) = (Mat::new(k.x, rows, i, i, 1), MatMut::new(other, g - direct, i, i));
        product(e.precision, (g - direct, i, rows), a, x, c, (T::ONE, beta));
    }
    let some_hh = hh.is_some();
    // dW (+)= dgatesᵀ x and dgatesᵀ h, for the rows of a range and the h before each of them.
    let mut add_rows = |first: usize, count: usize, before: Option<Mat<T>>, (beta_x, beta_h): (T, T)| {
        let a = Mat::new(&k.gates[first * g..], direct, 1, count, g);
        let x = Mat::new(&k.x[first * i..], count, i, i, 1);
        let x = ih.as_mut().map(|ih| Output { n: i, b: x, c: MatMut::new(ih, direct, i, i), beta: beta_x });
        let states = hh.as_mut().zip(before);
        let states = states.map(|(hh, b)| Output { n: r, b, c: MatMut::new(hh, direct, r, r), beta: beta_h });
        match (x, states) {
            (Some(x), Some(h)) => products(e.precision, (direct, count), a, &[x, h]),
            (Some(one), None) | (None, Some(one)) => products(e.precision, (direct, count), a, &[one]),
            (None, None) => {}
        }
        let (Some(hh_other), Some(before)) = (hh_other.as_mut(), before) else { return };
        match e.cell {
            Cell::Gru => {
                let a = Mat::new(&k.extra[first * h..], h, 1, count, h);
                product(e.precision, (h, r, count), a, before, MatMut::new(hh_other, h, r, r), (T::ONE, beta_h));
            }
            Cell::GruResetBefore => {
                let a = Mat::new(&k.gates[first * g + direct..], h, 1, count, g);
                let before = Mat::new(&k.extra[first * h..], count, r, r, 1);
                product(e.precision, (h, r, count), a, before, MatMut::new(hh_other, h, r, r), (T::ONE, beta_h));
            }
            _ => {}
        }
    };
    let batch = k.steps.batch();
    if rows == k.steps.len() * batch {
        // All sequences are of one length: the h before a row stands in y, a step away; but for the first step's, h0.
        let others = rows - batch;
        let (first, rest, y) = if e.reverse { (others, 0, batch) } else { (0, batch, 0) };
        let before = (!k.zero || others == 0).then(|| Mat::new(k.h0, batch, r, r, 1));
        add_rows(first, batch, before, (beta, beta));
        if others > 0 {
            let y = &k.y[y * k.stride + k.column..];
            let beta_h = if before.is_some() { T::ONE } else { beta };
            add_rows(rest, others, Some(Mat::new(y, others, k.stride, r, 1)), (T::ONE, beta_h));
        }
    } else {
        if some_hh {
            // h before each step, in the order of the rows.
            let to = Shared::new(states);
            each_step(k.steps, r, &|t| {
                for b in 0..k.steps.active(t) {
                    let from = match k.steps.before(t, b, e.reverse) {
                        Some(row) => &k.y[row * k.stride + k.column..][..r],
                        None => &k.h0[b * r..][..r],
                    };
                    // SAFETY: each row is written once.
                    unsafe { to.part((k.steps.offset(t) + b) * r, r) }.copy_from_slice(from);
                }
            });
        }
        add_rows(0, rows, Some(Mat::new(&states[..rows * r], rows, r, r, 1)), (beta, beta));
    }
    let biases = [to.bias_ih.take(), to.bias_hh.take()];
    if e.cell == Cell::Gru {
        let [ih, hh] = biases;
        if let Some(ih) = ih {
            column_sums(k.gates, g, ih, add);
        }
        if let Some(hh) = hh {
            let (direct, other) = hh.split_at_mut(2 * h);
            column_sums(k.gates, g, direct, add);
            column_sums(k.extra, h, other, add);
        }
    } else {
        match biases {
            [Some(ih), Some(hh)] if !add => {
                // The same sums.
                column_sums(k.gates, g, ih, false);
                hh.copy_from_slice(ih);
            }
            biases => biases.into_iter().flatten().for_each(|bias| column_sums(k.gates, g, bias, add)),
        }
    }
    if let Some(hr) = to.hr {
        let (a, b) = (Mat::new(k.projected, r, 1, rows, r), Mat::new(k.extra, rows, h, h, 1));
        product(e.precision, (r, h, rows), a, b, MatMut::new(hr, r, h, h), (T::ONE, beta));
    }
    if let Some(peephole) = to.peephole {
        if !add {
            peephole.fill(T::ZERO);
        }
        let (pi, rest) = peephole.split_at_mut(h);
        let (pf, po) = rest.split_at_mut(h);
        for (to, gate) in [(pi, 0), (pf, 1), (po, 3)] {
            shared_out(rows * h, to, |first, to| peephole_sums(k, gate, first, to));
        }
    }
}

/// Calls `f` with each step, on the threads of the pool where rows of `width` numbers make that worthwhile.
fn each_step(steps: &Steps, width: usize, f: &(dyn Fn(usize) + Sync)) {
    if steps.rows() * width < PARALLEL { (0..steps.len()).for_each(f) } else { tasks(steps.len(), f) }
}

/// Columns of a task that sums over rows: whole lines of the cache, few enough for the sums to stay in registers.
const COLUMNS: usize = 64;
/// Rows whose sum is added to the others': a chain over all of them would lose digits.
const CHAIN: usize = 128;

/// Calls `f` with the first of some columns and what they are summed into, `work` numbers in all.
fn shared_out<T: GemmReal>(work: usize, to: &mut [T], f: impl Fn(usize, &mut [T]) + Sync) {
    if work < PARALLEL {
        to.chunks_mut(COLUMNS).enumerate().for_each(|(k, to)| f(k * COLUMNS, to));
    } else {
        chunks(to, COLUMNS, |k, to| f(k * COLUMNS, to));
    }
}

/// The gradients of up to [`COLUMNS`] peephole weights of a gate, from the `first` on: of the gradients of its pre-activations and the cells
/// that it looks at, the step's own for o and else those before it.
fn peephole_sums<T: GemmReal>(k: &Kept<'_, T>, gate: usize, first: usize, to: &mut [T]) {
    let (h, g, count) = (k.extents.hidden, k.extents.gates(), to.len());
    vectorize(
        #[inline(always)]
        || {
            let (mut sums, mut summed) = ([T::ZERO; COLUMNS], 0);
            let sums = &mut sums[..count];
            let mut flush = |sums: &mut [T]| {
                to.iter_mut().zip(&mut *sums).for_each(|(to, sum)| *to += *sum);
                sums.fill(T::ZERO);
            };
            for t in 0..k.steps.len() {
                for b in 0..k.steps.active(t) {
                    let row = k.steps.offset(t) + b;
                    let cells = match k.steps.before(t, b, k.extents.reverse) {
                        _ if gate == 3 => &k.cells[row * h + first..][..count],
                        Some(row) => &k.cells[row * h + first..][..count],
                        None => &k.c0[b * h + first..][..count],
                    };
                    let gradients = &k.gates[row * g + gate * h + first..][..count];
                    for j in 0..count {
                        sums[j] = gradients[j].fma(cells[j], sums[j]);
                    }
                    summed += 1;
                    if summed % CHAIN == 0 {
                        flush(sums);
                    }
                }
            }
            flush(sums);
        },
    );
}

/// `to[j] (+)= Σ rows[·][j]` over rows `width` apart, from the first row to the last.
fn column_sums<T: GemmReal>(rows: &[T], width: usize, to: &mut [T], add: bool) {
    shared_out(rows.len(), to, |first, to| {
        if !add {
            to.fill(T::ZERO);
        }
        vectorize(
            #[inline(always)]
            || {
                for rows in rows.chunks(CHAIN * width) {
                    let mut sums = [T::ZERO; COLUMNS];
                    if to.len() == COLUMNS {
                        for row in rows[first..].chunks(width) {
                            for j in 0..COLUMNS {
                                sums[j] += row[j];
                            }
                        }
                    } else {
                        for row in rows[first..].chunks(width) {
                            sums[..to.len()].iter_mut().zip(row).for_each(|(sum, &x)| *sum += x);
                        }
                    }
                    to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
                }
            },
        );
    });
}

/// dx (+)= dgates W_ih for all rows at once.
pub fn input_gradient<T: GemmReal>(
    e: &Extents,
    rows: usize,
    gates: &[T],
    w_ih: Stored<'_, T>,
    dx: &mut [T],
    add: bool,
) {
    let (g, i) = (e.gates(), e.input);
    let (a, b) = (Mat::new(gates, rows, g, g, 1), w_ih.mat(0, g, i, i, 1));
    let to = MatMut::new(dx, rows, i, i);
    if let Form::Tiles(precision) = T::form(e.precision, e.batch, g, i) {
        return product_in_tiles(precision, (rows, i, g), a, b, to, add);
    }
    let Source::Real(b) = b else { unreachable!("bf16 where there are no tiles") };
    product(e.precision, (rows, i, g), a, b, to, (T::ONE, if add { T::ONE } else { T::ZERO }));
}
