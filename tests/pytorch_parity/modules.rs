//! Cases of `nn.RNN`, `nn.LSTM`, `nn.GRU` and their cells.

use gatefold::{
    DType, Philox, Result, Tape, Tensor, Var,
    nn::{
        Gru, GruCell, Lstm, LstmCell, LstmState, Module, Nonlinearity, PackedSequence, Rnn, RnnCell, StateDict,
        pack_padded_sequence, pad_packed_sequence,
    },
};

use crate::case::{Bound, Case, Check, Outcome, largest};

/// 4 × PyTorch's own distance from float64 plus 10⁻⁶ in float32, 10⁻⁹ relative in float64.
///
/// That distance is the largest of a tensor's, and so says what rounding does to its numbers. Of the loss, one number, it says little: it
/// is a sum of up to a thousand terms in which PyTorch's errors cancel as it happens (of 520 terms, 73 in all, 3·10⁻⁸ is left in one
/// case), and in another correct order of the products before it others do. What the loss may be off by follows from what its terms may
/// be: the weights are normal, of mean 0, and drawn independently of all errors, so errors add up in squares; and an element's bound is
/// several times what most are off by. Hence in float32 the loss has √Σ(weight · bound of the result)² beside the bound of a sum of its
/// own. In float64 10⁻⁹ is so far above any rounding that it need not have.
fn bound(case: &Case, name: &str, want: &[f64]) -> f64 {
    let number = |key: &str| case.config.get(key).and_then(|table| table.get(name)).and_then(serde_json::Value::as_f64);
    let scale = number("max_abs").unwrap_or_else(|| largest(want)).max(1.0);
    if case.dtype() == DType::F64 {
        return 1e-9 * scale;
    }
    4.0 * number("max_abs_err_vs_float64").unwrap_or(0.0) + 1e-6 * scale
}

/// Results of one way through the module, and what the gradients belong to.
struct Outputs {
    output: Option<Var>,
    hn: Var,
    cn: Option<Var>,
    packed: Option<(PackedSequence, PackedSequence)>,
}

/// A module or cell: how it runs is all that differs.
enum Net {
    Rnn(Rnn),
    Lstm(Lstm),
    Gru(Gru),
    RnnCell(RnnCell),
    LstmCell(LstmCell),
    GruCell(GruCell),
}

/// One of the three ways to hand over a batch.
enum Batch<'a> {
    Whole,
    Lengths(&'a [usize]),
    Packed(&'a PackedSequence),
}

impl Net {
    fn new(case: &Case) -> Result<Option<Self>> {
        let (input, hidden) = (case.size("input_size"), case.size("hidden_size"));
        let (device, rng, dtype) = (&case.device, &mut Philox::seed(0), case.dtype());
        let (bias, nonlinearity) = (case.config.get("bias") != Some(&false.into()), case.text("nonlinearity"));
        let nonlinearity = if nonlinearity == "relu" { Nonlinearity::Relu } else { Nonlinearity::Tanh };
        macro_rules! layers {
            ($config:expr) => {
                $config
                    .num_layers(case.size("num_layers").max(1))
                    .bidirectional(case.flag("bidirectional"))
                    .batch_first(case.flag("batch_first"))
                    .bias(bias)
                    .dtype(dtype)
            };
        }
        Ok(Some(match case.text("module") {
            "RNN" => Net::Rnn(layers!(Rnn::new(input, hidden)).nonlinearity(nonlinearity).init(device, rng)?),
            "LSTM" => Net::Lstm(layers!(Lstm::new(input, hidden)).proj_size(case.size("proj_size")).init(device, rng)?),
            "GRU" => Net::Gru(layers!(Gru::new(input, hidden)).init(device, rng)?),
            "RNNCell" => {
                let cell = RnnCell::new(input, hidden).bias(bias).dtype(dtype).nonlinearity(nonlinearity);
                Net::RnnCell(cell.init(device, rng)?)
            }
            "LSTMCell" => Net::LstmCell(LstmCell::new(input, hidden).bias(bias).dtype(dtype).init(device, rng)?),
            "GRUCell" => Net::GruCell(GruCell::new(input, hidden).bias(bias).dtype(dtype).init(device, rng)?),
            _ => return Ok(None),
        }))
    }

    fn module(&self) -> &dyn Module {
        match self {
            Net::Rnn(m) => m,
            Net::Lstm(m) => m,
            Net::Gru(m) => m,
            Net::RnnCell(m) => m,
            Net::LstmCell(m) => m,
            Net::GruCell(m) => m,
        }
    }

    fn run(&self, x: &Var, batch: Batch<'_>, h: Option<&Var>, c: Option<&Var>) -> Result<Outputs> {
        let zeros = |h: &Var| h.tape().constant(h.tensor().clone()).mul_scalar(0.0);
        let state = match (h, c) {
            (Some(h), Some(c)) => Some(LstmState::new(h.clone(), c.clone())),
            (Some(h), None) if matches!(self, Net::LstmCell(_)) => Some(LstmState::new(h.clone(), zeros(h)?)),
            _ => None,
        };
        let state = state.as_ref();
        macro_rules! hidden {
            ($m:expr) => {
                match batch {
                    Batch::Whole => $m.forward(x, h).map(|(y, h)| (Ok(y), h, None))?,
                    Batch::Lengths(lengths) => $m.forward_lengths(x, lengths, h).map(|(y, h)| (Ok(y), h, None))?,
                    Batch::Packed(packed) => $m.forward_packed(packed, h).map(|(y, h)| (Err(y), h, None))?,
                }
            };
        }
        let cell = |hn: Var, cn: Option<Var>| Ok(Outputs { output: None, hn, cn, packed: None });
        let (y, hn, cn) = match self {
            Net::Rnn(m) => hidden!(m),
            Net::Gru(m) => hidden!(m),
            Net::Lstm(m) => match batch {
                Batch::Whole => m.forward(x, state).map(|(y, s)| (Ok(y), s.h, Some(s.c)))?,
                Batch::Lengths(lengths) => {
                    m.forward_lengths(x, lengths, state).map(|(y, s)| (Ok(y), s.h, Some(s.c)))?
                }
                Batch::Packed(packed) => m.forward_packed(packed, state).map(|(y, s)| (Err(y), s.h, Some(s.c)))?,
            },
            Net::RnnCell(m) => return cell(m.forward(x, h)?, None),
            Net::GruCell(m) => return cell(m.forward(x, h)?, None),
            Net::LstmCell(m) => {
                let state = m.forward(x, state)?;
                return cell(state.h, Some(state.c));
            }
        };
        Ok(match (y, batch) {
            (Err(y), Batch::Packed(x)) => Outputs { output: None, hn, cn, packed: Some((x.clone(), y)) },
            (y, _) => Outputs { output: y.ok(), hn, cn, packed: None },
        })
    }
}

pub fn run(case: &Case) -> Result<Outcome> {
    let Some(net) = Net::new(case)? else {
        return Ok(Outcome::Unsupported(format!("module {:?}", case.text("module"))));
    };
    if case.config.get("dropout").and_then(serde_json::Value::as_f64).unwrap_or(0.0) > 0.0 {
        return Ok(Outcome::Unsupported("dropout: the masks are not PyTorch's".into()));
    }
    let parameters = case.tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix("param.")?.into(), t.clone())));
    net.module().load_state_dict(&parameters.collect::<StateDict>())?;
    let mut check = Check::default();
    if case.flag("packed") {
        let lengths = case.integers("lengths");
        once(case, &net, Some((&lengths, true)), &mut check)?;
        once(case, &net, Some((&lengths, false)), &mut check)?;
    } else {
        once(case, &net, None, &mut check)?;
    }
    Ok(check.outcome())
}

/// Forward and backward; with lengths packed, or else padded.
fn once(case: &Case, net: &Net, lengths: Option<(&[usize], bool)>, check: &mut Check) -> Result<()> {
    let way = if let Some((_, false)) = lengths { " (padded, with lengths)" } else { "" };
    let limit = |name: &str| bound(case, name, &case.tensor(name).to_f64_vec().unwrap_or_default());
    let mut compare = |name: &str, got: &Tensor, limit: f64| {
        check.compare(&format!("{name}{way}"), got, case.tensor(name), Bound::Absolute(limit));
    };
    net.module().zero_grad();
    let tape = Tape::new();
    let x = tape.variable(case.tensor("input").clone());
    let (h, c) = (case.variable(&tape, "hx"), case.variable(&tape, "cx"));
    let state = (h.as_ref(), c.as_ref());

    let outputs = match lengths {
        None => net.run(&x, Batch::Whole, state.0, state.1)?,
        Some((lengths, false)) => net.run(&x, Batch::Lengths(lengths), state.0, state.1)?,
        Some((lengths, true)) => {
            let packed = pack_padded_sequence(&x, lengths, case.flag("batch_first"), case.flag("enforce_sorted"))?;
            let mut outputs = net.run(&x, Batch::Packed(&packed), state.0, state.1)?;
            if let Some((_, y)) = &outputs.packed {
                let steps = case.tensor("output").dims()[usize::from(case.flag("batch_first"))];
                outputs.output = Some(pad_packed_sequence(y, case.flag("batch_first"), 0.0, Some(steps))?.0);
            }
            outputs
        }
    };

    // The loss of the case; its value from the results in f64, so that only they are judged.
    let mut loss: Option<Var> = None;
    let (mut value, mut squares) = (0.0, 0.0);
    let hn = Some(outputs.hn.clone());
    for (name, result, weight) in
        [("output", &outputs.output, "w_out"), ("hn", &hn, "w_hn"), ("cn", &outputs.cn, "w_cn")]
    {
        let (Some(result), Some(weight)) = (result, case.tensors.get(weight)) else { continue };
        let (a, b) = (result.tensor().to_f64_vec()?, weight.to_f64_vec()?);
        value += a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>();
        let each = limit(name);
        squares += b.iter().map(|b| (b * each).powi(2)).sum::<f64>();
        let part = result.mul(&tape.constant(weight.clone()))?.sum()?;
        loss = Some(match loss {
            Some(loss) => loss.add(&part)?,
            None => part,
        });
    }
    loss.expect("a result has a weight").backward()?;

    for (name, result) in [("output", &outputs.output), ("hn", &hn), ("cn", &outputs.cn)] {
        if let Some(result) = result.as_ref().filter(|_| case.tensors.get(name).is_some()) {
            compare(name, result.tensor(), limit(name));
        }
    }
    let terms = if case.dtype() == DType::F32 { squares.sqrt() } else { 0.0 };
    compare("loss", &Tensor::from_slice(&[value], 1, &case.device)?.to_dtype(case.dtype())?, limit("loss") + terms);
    for (name, variable) in [("grad.input", &Some(x)), ("grad.hx", &h), ("grad.cx", &c)] {
        if let Some(variable) = variable {
            let zeros = || Tensor::zeros(variable.shape(), variable.dtype(), &case.device);
            compare(name, &variable.grad().map_or_else(zeros, Ok)?, limit(name));
        }
    }
    for (name, parameter) in net.module().named_parameters() {
        let zeros = || Tensor::zeros(parameter.shape(), case.dtype(), &case.device);
        let name = format!("grad.param.{name}");
        compare(&name, &parameter.grad().map_or_else(zeros, Ok)?, limit(&name));
    }
    if let Some((x, y)) = &outputs.packed {
        compare_packed(case, x, y, lengths.map_or(&[], |(lengths, _)| lengths), check)?;
    }
    Ok(())
}

/// Among sequences of equal length PyTorch's order is whatever its sort left; rows are compared in that order.
fn compare_packed(
    case: &Case,
    x: &PackedSequence,
    y: &PackedSequence,
    lengths: &[usize],
    check: &mut Check,
) -> Result<()> {
    let sizes = case.integers("packed.batch_sizes");
    if x.batch_sizes != sizes || y.batch_sizes != sizes {
        check.fail(format!("packed.batch_sizes: got {:?}, want {sizes:?}", x.batch_sizes));
        return Ok(());
    }
    let theirs = case.tensors.get("packed.sorted_indices").map(|_| case.integers("packed.sorted_indices"));
    let identity = || (0..lengths.len()).collect::<Vec<_>>();
    let (order, places) = match (&theirs, &x.sorted_indices, &x.unsorted_indices) {
        (None, None, None) => (identity(), identity()),
        (Some(theirs), Some(ours), Some(places)) => {
            if theirs.iter().zip(ours).any(|(&a, &b)| lengths.get(a) != lengths.get(b)) {
                check.fail(format!("packed.sorted_indices: got {ours:?}, want {theirs:?}"));
                return Ok(());
            }
            let inverse = ours.iter().enumerate().all(|(place, &b)| places[b] == place);
            if !inverse || y.sorted_indices != x.sorted_indices || y.unsorted_indices != x.unsorted_indices {
                check.fail(format!("packed.unsorted_indices: got {places:?} for {ours:?}"));
                return Ok(());
            }
            (theirs.clone(), places.clone())
        }
        (_, ours, _) => {
            check.fail(format!("packed.sorted_indices: got {ours:?}, want {theirs:?}"));
            return Ok(());
        }
    };
    let mut rows = Vec::new();
    let mut start = 0;
    for &size in &sizes {
        rows.extend(order[..size].iter().map(|&b| (start + places[b]) as i64));
        start += size;
    }
    let rows = Tensor::from_slice(&rows, rows.len(), &case.device)?;
    for (name, packed) in [("packed.data", x), ("packed.output_data", y)] {
        let want = case.tensor(name);
        let limit = bound(case, name, &want.to_f64_vec()?);
        check.compare(name, &packed.data.tensor().index_select(0, &rows)?, want, Bound::Absolute(limit));
    }
    Ok(())
}
