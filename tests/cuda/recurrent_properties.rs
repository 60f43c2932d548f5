//! Random recurrent networks on the GPU against the CPU: outputs, last states and gradients.
//!
//! Tolerances count roundings. In f16 and bf16 the CPU keeps states in f32 from step to step, and an engine that rounds h to the
//! storage type at each step, as cuDNN does, is as right: so a relative error of 2^-11 or 2^-8 for each step of each layer, and
//! backward the same again. In f64 and f32 a step's rounding errors are those of its products: a few units for each.

use gatefold::{DType, Device, Result, Tape, Tensor, Var, nn::pack_padded_sequence};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    CPU, GPU, check, gpu,
    nets::{KINDS, Kind, Options, contract, uniform},
    same_bits,
};

/// How the positions that belong to sequences are told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form {
    Full,
    Lengths,
    Packed,
}

#[derive(Debug, Clone)]
pub struct Case {
    pub options: Options,
    pub steps: usize,
    /// One for each sequence; of T steps each where the form is full.
    pub lengths: Vec<usize>,
    pub form: Form,
    /// Whether there are initial states.
    pub given: bool,
    pub seed: u64,
}

impl Case {
    pub fn batch(&self) -> usize {
        self.lengths.len()
    }

    /// The largest error that is no mistake, relative to the largest number of its tensor or 1.
    pub fn bound(&self, backward: bool) -> f64 {
        let passes = if backward { 2.0 } else { 1.0 };
        let steps = (self.steps * self.options.layers) as f64;
        passes
            * match self.options.dtype {
                DType::F64 => (steps + 8.0) * 2f64.powi(-51),
                DType::F32 => (steps + 8.0) * 2f64.powi(-22),
                DType::F16 => (steps + 1.0) * 2f64.powi(-11),
                _ => (steps + 1.0) * 2f64.powi(-8),
            }
    }

    /// A rectifier passes a gradient or does not: where states are rounded in other places, that flips where a sum is near 0, and
    /// only what comes before the gradients can be compared.
    pub fn compares_gradients(&self) -> bool {
        self.options.kind != Kind::Relu || self.options.dtype.size() > 2
    }

    /// The input, with NaN behind the ends of sequences.
    pub fn input(&self) -> Tensor {
        let (o, batch) = (&self.options, self.batch());
        let shape = if o.batch_first { [batch, self.steps, o.input] } else { [self.steps, batch, o.input] };
        let x = uniform(&shape, o.dtype, self.seed + 1);
        let mut values = x.to_f64_vec().unwrap();
        for (b, &length) in self.lengths.iter().enumerate() {
            for t in length..self.steps {
                let row = if o.batch_first { b * self.steps + t } else { t * batch + b };
                values[row * o.input..][..o.input].fill(f64::NAN);
            }
        }
        Tensor::from_slice(&values, shape, &CPU).unwrap().to_dtype(o.dtype).unwrap()
    }
}

pub fn cases() -> impl Strategy<Value = Case> {
    let extent = || prop_oneof![3 => 1..=20usize, 1 => select(&[4usize, 8, 12, 16, 20][..])];
    let net = (0..KINDS.len(), extent(), extent(), 0..=20usize, 1..=3usize, any::<[bool; 3]>());
    let dtype = select(&[DType::F32, DType::F32, DType::F64, DType::F16, DType::BF16][..]);
    let options = (net, dtype, prop_oneof![Just(0.0), Just(0.3)]).prop_map(|(net, dtype, dropout)| {
        let (kind, input, hidden, proj, layers, [bidirectional, bias, batch_first]) = net;
        let options = Options::new(KINDS[kind], input, hidden);
        // About half of the LSTMs.
        let proj = if options.kind.is_lstm() && proj < hidden { proj } else { 0 };
        Options { proj, layers, bidirectional, bias, batch_first, dropout, dtype, ..options }
    });
    let form = select(&[Form::Full, Form::Lengths, Form::Packed][..]);
    (options, 1..=9usize, form).prop_flat_map(|(options, steps, form)| {
        let shortest = if form == Form::Full { steps } else { 1 };
        (vec(shortest..=steps, 1..=9), any::<bool>(), 0..1000u64).prop_map(move |(lengths, given, seed)| {
            // Batch sizes of packed sequences end with the longest one.
            let steps = if form == Form::Packed { lengths.iter().copied().max().unwrap_or(steps) } else { steps };
            Case { options, steps, lengths, form, given, seed }
        })
    })
}

/// Numbers with a name.
pub type Named = Vec<(String, Vec<f64>)>;

pub fn run(case: &Case, device: &Device, training: bool) -> Result<Named> {
    let net = case.options.net(case.seed);
    net.module().to_device(device)?;
    let tape = if training { Tape::new() } else { Tape::no_grad() };
    if !training {
        net.module().eval();
    }
    let x = tape.variable(case.input().to_device(device)?);
    let mut state: Vec<Var> = Vec::new();
    if case.given {
        for s in case.options.state(Some(case.batch()), case.seed + 2) {
            state.push(tape.variable(s.to_device(device)?));
        }
    }
    let given = case.given.then_some(&state[..]);
    let (y, last) = match case.form {
        Form::Full => net.forward(&x, given)?,
        Form::Lengths => net.forward_lengths(&x, &case.lengths, given)?,
        Form::Packed => {
            let packed = pack_padded_sequence(&x, &case.lengths, case.options.batch_first, false)?;
            let (y, last) = net.forward_packed(&packed, given)?;
            (y.data, last)
        }
    };
    let mut results = vec![("y".to_string(), y.tensor().to_f64_vec()?)];
    for (name, s) in ["hn", "cn"].iter().zip(&last) {
        results.push((name.to_string(), s.tensor().to_f64_vec()?));
    }
    if training {
        contract(&[&y].into_iter().chain(&last).collect::<Vec<_>>())?.backward()?;
        for (name, var) in ["x", "h0", "c0"].iter().zip([&x].into_iter().chain(&state)) {
            results.push((format!("gradient of {name}"), var.grad().expect("a variable").to_f64_vec()?));
        }
        for (name, parameter) in net.module().named_parameters() {
            results.push((format!("gradient of {name}"), parameter.grad().expect("a parameter").to_f64_vec()?));
        }
    }
    Ok(results)
}

/// Near to the CPU's numbers, and the same bits twice.
#[track_caller]
pub fn compare(case: &Case, want: &Named, got: &Named, again: &Named) {
    assert_eq!(want.len(), got.len());
    for (((name, want), (_, got)), (_, again)) in want.iter().zip(got).zip(again) {
        same_bits(&format!("{name} twice"), got, again);
        assert_eq!(got.len(), want.len(), "{name}");
        let backward = name.starts_with("gradient");
        if backward && !case.compares_gradients() {
            let wrong = got.iter().enumerate().find(|(_, v)| !v.is_finite());
            assert!(wrong.is_none(), "{name}: {wrong:?}");
            continue;
        }
        let scale = want.iter().fold(1.0f64, |most, v| most.max(v.abs()));
        let bound = case.bound(backward) * scale;
        let right = |(got, want): &(&f64, &f64)| (*got - *want).abs() <= bound;
        let wrong: Vec<usize> = got.iter().zip(want).enumerate().filter(|(_, x)| !right(x)).map(|(i, _)| i).collect();
        if let [first, .., last] | [first @ last] = wrong[..] {
            let (n, all, got, want) = (wrong.len(), got.len(), got[first], want[first]);
            panic!(
                "{name}[{first}]: got {got}, want {want} within {bound:e}; {n} of {all} are wrong, the last is [{last}]"
            );
        }
    }
}

#[test]
fn training() {
    if !gpu() {
        return;
    }
    check(96, cases(), |case| {
        let on = |device| run(&case, device, true).unwrap();
        compare(&case, &on(&CPU), &on(&GPU), &on(&GPU));
    });
}

#[test]
fn inference() {
    if !gpu() {
        return;
    }
    check(64, cases(), |case| {
        let on = |device| run(&case, device, false).unwrap();
        compare(&case, &on(&CPU), &on(&GPU), &on(&GPU));
    });
}
