//! Layers in f32, whose products and passes have kernels of their own for wide and for tiled weights, against the same layers in f64, which have
//! others: at sizes that fill panels, and at odd ones that leave a tail in each.

use gatefold::{DType, Result, Tape, Tensor};

use crate::nets::{KINDS, Kind, Net, Options, on, tensors, uniform};

/// T, B, I, H: whole lines of units and a part of one, odd numbers of units and sequences, many units, and one sequence.
const SIZES: [[usize; 4]; 4] = [[5, 33, 40, 100], [6, 17, 24, 77], [3, 40, 64, 256], [4, 1, 30, 90]];

/// Output and last state, without recording and with; gradients of x, the state and the parameters, each with its name. What goes in are
/// numbers of `narrow`.
fn step(
    net: &Net,
    options: &Options,
    [steps, batch, ..]: [usize; 4],
    narrow: DType,
) -> Result<Vec<(String, Vec<f64>)>> {
    let dtype = options.dtype;
    let put = |t: Tensor| t.to_dtype(narrow)?.to_dtype(dtype);
    let x = put(uniform(&[steps, batch, options.input], DType::F64, 2))?;
    let state = Options { dtype: DType::F64, ..*options }.state(Some(batch), 3);
    let state = state.into_iter().map(put).collect::<Result<Vec<_>>>()?;

    let plain = Tape::no_grad();
    let (y, last) = net.forward(&plain.constant(x.clone()), Some(&on(&plain, &state)))?;
    let mut all = vec![("y of inference".to_string(), y.into_tensor())];
    all.extend(tensors(&last).into_iter().enumerate().map(|(i, t)| (format!("last state {i} of inference"), t)));

    let tape = Tape::new();
    let (x, state) = (tape.variable(x), on(&tape, &state));
    let (y, last) = net.forward(&x, Some(&state))?;
    // The same weights of the sum in both, which `contract` would draw anew in each dtype.
    let outputs: Vec<_> = [&y].into_iter().chain(&last).collect();
    let mut sum = None;
    for (i, output) in outputs.iter().enumerate() {
        let weights = put(uniform(output.dims(), DType::F64, 10 + i as u64))?;
        let part = output.mul(&tape.constant(weights))?.sum()?;
        sum = Some(if let Some(sum) = sum { part.add(&sum)? } else { part });
    }
    sum.expect("an output").backward()?;
    all.push(("y".into(), y.tensor().clone()));
    all.extend(tensors(&last).into_iter().enumerate().map(|(i, t)| (format!("last state {i}"), t)));
    all.push(("gradient of x".into(), x.grad().expect("a variable")));
    all.extend(
        state.iter().enumerate().map(|(i, s)| (format!("gradient of state {i}"), s.grad().expect("a variable"))),
    );
    let named = net.module().named_parameters();
    all.extend(
        named.iter().map(|(name, p)| (format!("gradient of {name}"), p.grad().expect("a parameter of the sum"))),
    );
    all.into_iter().map(|(name, t)| Ok((name, t.to_f64_vec()?))).collect()
}

/// Holds every kind of network in `dtype` to itself in f64, each tensor relative to its own largest number, and says how much of the bound
/// is used. The bound is of the terms that a sum has at most: those of a gate's products, of a gradient's over the gates, or of a weight's
/// over all rows.
fn follows_f64(dtype: DType, bound: impl Fn(f64) -> f64) -> Result<()> {
    let mut cases: Vec<_> = KINDS.map(|kind| (kind, false)).into();
    cases.push((Kind::Lstm, true));
    // A unit whose sum is next to zero has its whole gradient or none.
    cases.retain(|(kind, _)| *kind != Kind::Relu || dtype == DType::F32);
    let mut worst = 0f64;
    for size @ [steps, batch, input, hidden] in SIZES {
        for &(kind, projected) in &cases {
            let proj = if projected { hidden / 2 + 1 } else { 0 };
            let narrow = Options { proj, dtype, ..Options::new(kind, input, hidden) };
            let wide = Options { dtype: DType::F64, ..narrow };
            let (a, b) = (narrow.net(1), wide.net(1));
            for (to, from) in b.module().parameters().iter().zip(a.module().parameters()) {
                to.set_value(from.value().to_dtype(DType::F64)?)?;
            }
            let (got, want) = (step(&a, &narrow, size, dtype)?, step(&b, &wide, size, dtype)?);
            assert_eq!(got.len(), want.len());
            let bound = bound((input + hidden).max(4 * hidden).max(steps * batch) as f64);
            for ((name, got), (_, want)) in got.iter().zip(&want) {
                let largest = want.iter().fold(0f64, |most, x| most.max(x.abs()));
                assert!(got.len() == want.len() && largest > 0.0, "{kind:?} {size:?}, {name}");
                for (i, (a, b)) in got.iter().zip(want).enumerate() {
                    let off = (a - b).abs() / largest;
                    worst = worst.max(off / bound);
                    assert!(
                        off <= bound,
                        "{kind:?}{} {size:?}, {name}[{i}]: {a} in {dtype}, {b} in f64, of at most {largest}: off by {off:e}, allowed is {bound:e}",
                        if projected { " projected" } else { "" }
                    );
                }
            }
        }
    }
    println!("{dtype}: the largest difference is {worst:.2} of what is allowed");
    Ok(())
}

/// An f32 sum of n terms is off by about √n · 2⁻²⁴ of what its terms come to. The largest number stands for these terms: most sums are far
/// below it, and every set of instructions here takes less than half of what is allowed.
#[test]
fn f32_is_f64_but_for_rounding() -> Result<()> {
    follows_f64(DType::F32, |terms| terms.sqrt() * 2f64.powi(-24))
}

/// A result is rounded once, by at most half a unit in the last place, 2⁻⁹ or 2⁻¹² of it. Where tiles multiply (bf16, and f16 in two parts of
/// it), so is each factor that is no parameter and no input; in sums such errors mostly cancel. Four are allowed, for steps upon steps.
#[test]
fn halves_are_f64_but_for_their_bits() -> Result<()> {
    follows_f64(DType::BF16, |_| 4.0 * 2f64.powi(-9))?;
    follows_f64(DType::F16, |_| 4.0 * 2f64.powi(-12))
}
