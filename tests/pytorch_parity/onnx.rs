//! ONNX nodes: the reference numbers of the peephole LSTM and of the GRU with the reset gate before the product.

use gatefold::{
    DType, Philox, Result, Tape, Tensor, Var,
    nn::{Gru, Lstm, LstmState, Module, Nonlinearity, Rnn, StateDict},
};
use serde_json::Value;

use crate::case::{Bound, Case, Check, Outcome, largest};

/// Block `order[i]` of the first axis, split in as many blocks, becomes block i: ONNX's gates in PyTorch's order.
fn reorder(x: &Tensor, order: &[usize]) -> Result<Tensor> {
    let rows = x.dims()[0] / order.len();
    let index: Vec<i64> = order.iter().flat_map(|&block| block * rows..(block + 1) * rows).map(|i| i as i64).collect();
    x.index_select(0, &Tensor::from_slice(&index, index.len(), &x.device())?)
}

/// Each sequence of x `(T, B, …)` in reverse, what stands behind its end staying there.
fn reversed(x: &Tensor, lengths: &[usize]) -> Result<Tensor> {
    let (steps, batch) = (x.dims()[0], x.dims()[1]);
    let row = |t: usize, b: usize| if t < lengths[b] { lengths[b] - 1 - t } else { t } * batch + b;
    let index: Vec<i64> = (0..steps).flat_map(|t| (0..batch).map(move |b| row(t, b) as i64)).collect();
    let flat = x.reshape([&[steps * batch], &x.dims()[2..]].concat())?;
    flat.index_select(0, &Tensor::from_slice(&index, index.len(), &x.device())?)?.reshape(x.shape())
}

/// What the node asks for beyond what the crate claims.
fn unsupported(case: &Case, op: &str, directions: usize) -> Option<String> {
    let attributes = &case.config["attributes"];
    for name in ["clip", "activation_alpha", "activation_beta"] {
        if attributes.get(name).is_some_and(|v| !v.is_null() && v.as_array().is_none_or(|list| !list.is_empty())) {
            return Some(format!("{name}: not a setting of the crate"));
        }
    }
    if attributes.get("input_forget").and_then(Value::as_i64).unwrap_or(0) != 0 {
        return Some("input_forget: not a setting of the crate".into());
    }
    let default: &[&str] = match op {
        "LSTM" => &["sigmoid", "tanh", "tanh"],
        "GRU" => &["sigmoid", "tanh"],
        "RNN" => &["tanh"],
        _ => return Some(format!("operator {op:?}")),
    };
    let names = activations(case);
    let relu = op == "RNN" && names.iter().all(|name| name == "relu");
    let usual = names.iter().zip(default.iter().cycle()).all(|(name, usual)| name == usual);
    let whole = names.is_empty() || names.len() == default.len() * directions;
    (!(whole && (relu || usual))).then(|| format!("activations {names:?}"))
}

fn activations(case: &Case) -> Vec<String> {
    let list = case.config["attributes"].get("activations").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_lowercase).collect()
}

/// What the conversion of the weights has to know.
struct Gates {
    weights: &'static [usize],
    peepholes: &'static [usize],
}

pub fn run(case: &Case) -> Result<Outcome> {
    let attributes = &case.config["attributes"];
    let op = case.text("op");
    let direction = attributes.get("direction").and_then(Value::as_str).unwrap_or("forward");
    let directions = if direction == "bidirectional" { 2 } else { 1 };
    if let Some(why) = unsupported(case, op, directions) {
        return Ok(Outcome::Unsupported(why));
    }
    let batch_first = attributes.get("layout").and_then(Value::as_i64).unwrap_or(0) == 1;
    // With layout 1 the batch comes first everywhere.
    let steps_first = |x: &Tensor| if batch_first { x.transpose(0, 1) } else { Ok(x.clone()) };

    let gates = match op {
        "LSTM" => Gates { weights: &[0, 2, 3, 1], peepholes: &[0, 2, 1] },
        "GRU" => Gates { weights: &[1, 0, 2], peepholes: &[] },
        _ => Gates { weights: &[0], peepholes: &[] },
    };
    let (bias, peephole) = (case.tensors.get("B").is_some(), case.tensors.get("P").is_some());
    let state = parameters(case, &gates, directions)?;

    let x = steps_first(case.tensor("X"))?;
    let (steps, batch, input) = (x.dims()[0], x.dims()[1], x.dims()[2]);
    let hidden = case.tensor("R").dims()[2];
    let lengths = case.tensors.get("sequence_lens").map(|_| case.integers("sequence_lens"));
    if lengths.iter().flatten().any(|&length| length == 0) {
        return Ok(Outcome::Unsupported("a sequence of no steps".into()));
    }
    let full = vec![steps; batch];
    let flip = |x: &Tensor| {
        if direction == "reverse" { reversed(x, lengths.as_ref().unwrap_or(&full)) } else { Ok(x.clone()) }
    };

    let tape = Tape::no_grad();
    let x = tape.constant(flip(&x)?);
    let given = |name: &str| case.tensors.get(name).map(|t| steps_first(t).map(|t| tape.constant(t))).transpose();
    let (h0, c0) = (given("initial_h")?, given("initial_c")?);
    let (device, rng, dtype) = (&case.device, &mut Philox::seed(0), x.dtype());
    macro_rules! forward {
        ($config:expr, $state:expr) => {{
            let module = $config.bidirectional(directions == 2).bias(bias).dtype(dtype).init(device, rng)?;
            module.load_state_dict(&state)?;
            match &lengths {
                Some(lengths) => module.forward_lengths(&x, lengths, $state)?,
                None => module.forward(&x, $state)?,
            }
        }};
    }
    let (y, hn, cn): (Var, Var, Option<Var>) = match op {
        "LSTM" => {
            let zeros = |other: &Var| other.mul_scalar(0.0);
            let state0 = match (&h0, &c0) {
                (None, None) => None,
                (Some(h), Some(c)) => Some(LstmState::new(h.clone(), c.clone())),
                (Some(h), None) => Some(LstmState::new(h.clone(), zeros(h)?)),
                (None, Some(c)) => Some(LstmState::new(zeros(c)?, c.clone())),
            };
            let (y, last) = forward!(Lstm::new(input, hidden).peephole(peephole), state0.as_ref());
            (y, last.h, Some(last.c))
        }
        "GRU" => {
            let after = attributes.get("linear_before_reset").and_then(Value::as_i64).unwrap_or(0) != 0;
            let (y, h) = forward!(Gru::new(input, hidden).reset_after(after), h0.as_ref());
            (y, h, None)
        }
        _ => {
            let relu = activations(case).first().is_some_and(|name| name == "relu");
            let nonlinearity = if relu { Nonlinearity::Relu } else { Nonlinearity::Tanh };
            let (y, h) = forward!(Rnn::new(input, hidden).nonlinearity(nonlinearity), h0.as_ref());
            (y, h, None)
        }
    };

    // (T, B, D·H) to Y's (T, D, B, H), or with layout 1 (B, T, D, H).
    let y = flip(y.tensor())?.reshape([steps, batch, directions, hidden])?;
    let y = y.permute(if batch_first { &[1, 0, 2, 3] } else { &[0, 2, 1, 3] })?;
    let mut check = Check::default();
    let results = [("Y", Some(y)), ("Y_h", Some(hn.into_tensor())), ("Y_c", cn.map(Var::into_tensor))];
    for (name, got) in results {
        if let (Some(got), Some(want)) = (got, case.tensors.get(name)) {
            let got = if name == "Y" { got } else { steps_first(&got)? };
            check.compare(name, &got, want, bound(case, name, want)?);
        }
    }
    Ok(check.outcome())
}

/// As for the modules: 4 × ONNX Runtime's own distance from float64 plus 10⁻⁶.
fn bound(case: &Case, name: &str, want: &Tensor) -> Result<Bound> {
    let scale = largest(&want.to_f64_vec()?).max(1.0);
    if want.dtype() == DType::F64 {
        return Ok(Bound::Absolute(1e-9 * scale));
    }
    let gap = case.config.get("max_abs_diff_vs_numpy_float64").and_then(|gaps| gaps.get(name)).and_then(Value::as_f64);
    Ok(Bound::Absolute(4.0 * gap.unwrap_or(0.0) + 1e-6 * scale))
}

/// The node's weights under PyTorch's names.
fn parameters(case: &Case, gates: &Gates, directions: usize) -> Result<StateDict> {
    let mut state = StateDict::new();
    for d in 0..directions {
        let suffix = if d == 1 { "_l0_reverse" } else { "_l0" };
        let mut add = |name: &str, tensor: Tensor| state.insert(format!("{name}{suffix}"), tensor);
        let of = |name: &str| case.tensor(name).select(0, d as isize);
        add("weight_ih", reorder(&of("W")?, gates.weights)?);
        add("weight_hh", reorder(&of("R")?, gates.weights)?);
        if case.tensors.get("B").is_some() {
            let biases = of("B")?;
            let rows = biases.numel() / 2;
            add("bias_ih", reorder(&biases.narrow(0, 0, rows)?, gates.weights)?);
            add("bias_hh", reorder(&biases.narrow(0, rows, rows)?, gates.weights)?);
        }
        if case.tensors.get("P").is_some() {
            add("weight_peephole", reorder(&of("P")?, gates.peepholes)?);
        }
    }
    Ok(state)
}
