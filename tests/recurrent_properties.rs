//! Equivalences that hold for every recurrent network, over random descriptors, lengths and states, in f64.

#[path = "common/nets.rs"]
mod nets;

use gatefold::{
    DType, Device, Tape, Tensor, Var,
    nn::{pack_padded_sequence, pad_packed_sequence},
};
use nets::{KINDS, Net, Options, all_near, contract, near, on, tensors, uniform};
use proptest::prelude::*;

/// A descriptor, the steps, a length for each sequence, whether a state is given, a seed.
type Case = (Options, usize, Vec<usize>, bool, u64);

fn cases() -> impl Strategy<Value = Case> {
    let options = (0..KINDS.len(), 1..6usize, 1..8usize, 0..4usize, 1..4usize, any::<[bool; 3]>());
    let options = options.prop_map(|(kind, input, hidden, proj, layers, [bidirectional, bias, batch_first])| {
        let options = Options::new(KINDS[kind], input, hidden);
        let proj = if options.kind.is_lstm() && proj < hidden { proj } else { 0 };
        Options { proj, layers, bidirectional, bias, batch_first, ..options }
    });
    (options, 1..7usize).prop_flat_map(|(options, steps)| {
        let lengths = prop::collection::vec(1..=steps, 1..5);
        (Just(options), Just(steps), lengths, any::<bool>(), 0..1000u64)
    })
}

/// x with NaN behind the ends of the sequences, or numbers there where nothing is cut off.
fn input(options: &Options, steps: usize, lengths: &[usize], seed: u64, padding: f64) -> Tensor {
    let batch = lengths.len();
    let lead = if options.batch_first { [batch, steps] } else { [steps, batch] };
    let mut values = uniform(&[steps * batch * options.input], DType::F64, seed).to_vec::<f64>().unwrap();
    for (b, &length) in lengths.iter().enumerate() {
        for t in length..steps {
            let row = if options.batch_first { b * steps + t } else { t * batch + b } * options.input;
            values[row..row + options.input].fill(padding);
        }
    }
    Tensor::from_slice(&values, [lead[0], lead[1], options.input], &Device::Cpu).unwrap()
}

fn axes(options: &Options) -> (isize, isize) {
    if options.batch_first { (1, 0) } else { (0, 1) }
}

/// Outputs, last state, gradients of x, state and parameters, from y (padded with zeros) and the last state.
fn results(net: &Net, x: &Var, state: &[Var], y: &Var, last: &[Var]) -> Vec<Tensor> {
    net.module().zero_grad();
    contract(&[y].into_iter().chain(last).collect::<Vec<_>>()).unwrap().backward().unwrap();
    let mut all = vec![y.tensor().clone()];
    all.extend(tensors(last));
    all.extend([x].into_iter().chain(state).map(|v| v.grad().unwrap()));
    all.extend(net.gradients());
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Padded with lengths, packed, and each sequence by itself.
    #[test]
    fn padded_packed_and_one_by_one((options, steps, lengths, given, seed) in cases()) {
        let net = options.net(seed);
        let x0 = input(&options, steps, &lengths, seed + 1, f64::NAN);
        let state0 = if given { options.state(Some(lengths.len()), seed + 2) } else { Vec::new() };
        let put = |tape: &Tape| (tape.variable(x0.clone()), on(tape, &state0));
        let (time, batch) = axes(&options);

        let (x, state) = put(&Tape::new());
        let some = |state: &'_ [Var]| (!state.is_empty()).then(|| state.to_vec());
        let (y, last) = net.forward_lengths(&x, &lengths, some(&state).as_deref()).unwrap();
        let padded = results(&net, &x, &state, &y, &last);

        let (x, state) = put(&Tape::new());
        let packed = pack_padded_sequence(&x, &lengths, options.batch_first, false).unwrap();
        let (y, last) = net.forward_packed(&packed, some(&state).as_deref()).unwrap();
        let (y, back) = pad_packed_sequence(&y, options.batch_first, 0.0, Some(steps)).unwrap();
        prop_assert_eq!(&back, &lengths);
        all_near(&results(&net, &x, &state, &y, &last), &padded);

        let tape = Tape::new();
        let (x, state) = put(&tape);
        let (mut ys, mut lasts) = (Vec::new(), Vec::new());
        for (b, &length) in lengths.iter().enumerate() {
            let one = x.narrow(batch, b, 1).unwrap().narrow(time, 0, length).unwrap();
            let own: Vec<Var> = state.iter().map(|s| s.narrow(1, b, 1).unwrap()).collect();
            let (y, last) = net.forward(&one, some(&own).as_deref()).unwrap();
            let mut rest = y.dims().to_vec();
            rest[time as usize] = steps - length;
            let zeros = tape.constant(Tensor::zeros(rest, DType::F64, &Device::Cpu).unwrap());
            ys.push(Var::concat(&[&y, &zeros], time).unwrap());
            lasts.push(last);
        }
        let y = Var::concat(&ys.iter().collect::<Vec<_>>(), batch).unwrap();
        let last: Vec<Var> = (0..lasts[0].len())
            .map(|i| Var::concat(&lasts.iter().map(|last| &last[i]).collect::<Vec<_>>(), 1).unwrap())
            .collect();
        all_near(&results(&net, &x, &state, &y, &last), &padded);
    }

    /// Layer by layer, step by step, with cells; a reverse direction is a forward one over the reversed sequence.
    #[test]
    fn cells_in_a_loop((options, steps, lengths, given, seed) in cases()) {
        let options = Options { proj: 0, ..options };
        let batch = lengths.len();
        let net = options.net(seed);
        let weights = net.module().state_dict();
        let tape = Tape::no_grad();
        let x = tape.constant(input(&options, steps, &vec![steps; batch], seed + 1, 0.0));
        let state = given.then(|| on(&tape, &options.state(Some(batch), seed + 2)));
        let (y, last) = net.forward(&x, state.as_deref()).unwrap();

        let mut layer_input = if options.batch_first { x.transpose(0, 1).unwrap() } else { x };
        for layer in 0..options.layers {
            let mut outputs = Vec::new();
            for direction in 0..options.directions() {
                let cell = options.cell(layer_input.dims()[2]);
                cell.load(&weights, layer, direction == 1);
                let row = (layer * options.directions() + direction) as isize;
                let mut h = state.as_ref().map(|s| s.iter().map(|s| s.select(0, row).unwrap()).collect::<Vec<_>>());
                let mut steps_out = vec![None; steps];
                for k in 0..steps {
                    let t = if direction == 1 { steps - 1 - k } else { k };
                    let next = cell.forward(&layer_input.select(0, t as isize).unwrap(), h.as_deref()).unwrap();
                    steps_out[t] = Some(next[0].clone());
                    h = Some(next);
                }
                for (end, last) in h.unwrap().iter().zip(&last) {
                    near(end.tensor(), last.select(0, row).unwrap().tensor());
                }
                let steps_out: Vec<Var> = steps_out.into_iter().flatten().collect();
                outputs.push(Var::stack(&steps_out.iter().collect::<Vec<_>>(), 0).unwrap());
            }
            layer_input = Var::concat(&outputs.iter().collect::<Vec<_>>(), 2).unwrap();
        }
        let want = if options.batch_first { layer_input.transpose(0, 1).unwrap() } else { layer_input };
        near(y.tensor(), want.tensor());
    }

    /// What another sequence of the batch holds does not matter, to the bit.
    #[test]
    fn rows_do_not_see_each_other((options, steps, mut lengths, _, seed) in cases()) {
        lengths.push(steps);
        let net = options.net(seed);
        let (_, batch) = axes(&options);
        let run = |last_row: u64| {
            let tape = Tape::no_grad();
            let x = tape.constant(input(&options, steps, &lengths, seed + 1, 0.0));
            let head = x.narrow(batch, 0, lengths.len() - 1).unwrap();
            let mut shape = x.dims().to_vec();
            shape[batch as usize] = 1;
            let x = Var::concat(&[&head, &tape.constant(uniform(&shape, DType::F64, last_row))], batch).unwrap();
            let (y, last) = net.forward_lengths(&x, &lengths, None).unwrap();
            let y = y.narrow(batch, 0, lengths.len() - 1).unwrap().tensor().to_vec::<f64>().unwrap();
            (y, last[0].narrow(1, 0, lengths.len() - 1).unwrap().tensor().to_vec::<f64>().unwrap())
        };
        prop_assert_eq!(run(1), run(2));
    }

    /// `batch_first` is a transposition, lengths of T are no lengths, and no batch axis is a batch of one.
    #[test]
    fn layouts((options, steps, lengths, given, seed) in cases()) {
        let batch = lengths.len();
        let (first, second) = (Options { batch_first: false, ..options }, Options { batch_first: true, ..options });
        let (a, b) = (first.net(seed), second.net(seed));
        let full = vec![steps; batch];
        let x0 = input(&first, steps, &full, seed + 1, 0.0);
        let state0 = options.state(Some(batch), seed + 2);
        let run = |net: &Net, transposed: bool, lengths: Option<&[usize]>| {
            let tape = Tape::new();
            let x = tape.variable(x0.clone());
            let state = if given { on(&tape, &state0) } else { Vec::new() };
            let some = given.then_some(&state[..]);
            let turn = |v: &Var| if transposed { v.transpose(0, 1).unwrap() } else { v.clone() };
            let (y, last) = match lengths {
                Some(lengths) => net.forward_lengths(&turn(&x), lengths, some).unwrap(),
                None => net.forward(&turn(&x), some).unwrap(),
            };
            results(net, &x, &state, &turn(&y), &last)
        };
        let want = run(&a, false, None);
        all_near(&run(&b, true, None), &want);
        all_near(&run(&a, false, Some(&full)), &want);

        let tape = Tape::no_grad();
        let one = tape.constant(input(&first, steps, &[steps], seed + 1, 0.0));
        let (y, last) = a.forward(&one, None).unwrap();
        let (flat, flat_last) = a.forward(&one.squeeze(1).unwrap(), None).unwrap();
        near(flat.tensor(), y.squeeze(1).unwrap().tensor());
        for (flat, last) in flat_last.iter().zip(&last) {
            near(flat.tensor(), last.squeeze(1).unwrap().tensor());
        }
    }
}
