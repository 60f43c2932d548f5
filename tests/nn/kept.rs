//! Modules keep packed weights between calls on the CPU: what they compute is that of the weights they have now.

use std::sync::Arc;

use gatefold::{
    DType, Device, HasParameters, Philox, Tape, Tensor,
    nn::{Lstm, LstmCell, init},
    optim::{Optimizer, Sgd},
    train::Checkpoint,
};

use crate::nets::{Kind, Net, Options};

fn input(dims: [usize; 3], seed: u64) -> Tensor {
    Tensor::normal(dims, 0.0, 1.0, DType::F32, &Device::Cpu, &mut Philox::seed(seed)).unwrap()
}

fn output(net: &Net, x: &Tensor) -> Vec<f32> {
    let tape = Tape::no_grad();
    net.forward(&tape.constant(x.clone()), None).unwrap().0.tensor().to_vec().unwrap()
}

fn options(kind: Kind) -> Options {
    Options { layers: 2, dtype: DType::F32, ..Options::new(kind, 6, 40) }
}

/// Another module with the same values, which has kept nothing.
fn twin(of: &Net, kind: Kind) -> Net {
    let twin = options(kind).net(99);
    let (to, from) = (twin.module().parameters(), of.module().parameters());
    assert_eq!(to.len(), from.len());
    for (to, from) in to.iter().zip(from) {
        let numbers = from.value().to_vec::<f32>().unwrap();
        to.set_value(Tensor::from_slice(&numbers, from.value().dims(), &Device::Cpu).unwrap()).unwrap();
    }
    twin
}

fn step(net: &Net, optimizer: &mut Optimizer<Sgd>) {
    let y = net.forward(&Tape::new().constant(input([5, 3, 6], 7)), None).unwrap().0;
    y.mul(&y).unwrap().mean().unwrap().backward().unwrap();
    optimizer.step().unwrap();
    optimizer.zero_grad();
}

/// A way to give a network other weights, with its optimizer or by another network.
type Change = fn(&Net, &mut Optimizer<Sgd>, &Net);

#[test]
fn every_way_to_change_weights_is_seen() {
    let ways: [(&str, Change); 5] = [
        ("a step of the optimizer", |net, optimizer, _| step(net, optimizer)),
        ("a value that was set", |net, _, _| {
            let weight = &net.module().parameters()[1];
            weight.set_value(Tensor::ones(weight.value().dims(), DType::F32, &Device::Cpu).unwrap()).unwrap();
        }),
        ("nn::init", |net, _, _| {
            init::uniform(&net.module().parameters()[1], -0.3, 0.3, &mut Philox::seed(3)).unwrap();
        }),
        ("a state dict", |net, _, other| {
            net.module().load_state_dict(&other.module().state_dict()).unwrap();
        }),
        ("a checkpoint", |net, optimizer, other| {
            let of_other = Sgd::new(0.1).over([other.module()]).unwrap();
            Checkpoint::new(other.module(), &of_other, &Philox::seed(4)).restore(net.module(), optimizer).unwrap();
        }),
    ];
    let shapes = [[1, 1, 6], [5, 3, 6], [4, 20, 6]];
    for kind in [Kind::Lstm, Kind::Gru, Kind::Tanh] {
        let (net, other) = (options(kind).net(1), options(kind).net(2));
        let mut optimizer = Sgd::new(0.1).over([net.module()]).unwrap();
        let agree = |what: &str| {
            for dims in shapes {
                let x = input(dims, 5);
                let wanted = output(&twin(&net, kind), &x);
                for call in 0..3 {
                    assert_eq!(output(&net, &x), wanted, "{kind:?}, {what}, {dims:?}, call {call}");
                }
            }
        };
        agree("at first");
        for round in 0..2 {
            for (what, change) in ways {
                // What came before has left other weights than `other`'s, and each way is taken while the weights are kept.
                step(&net, &mut optimizer);
                agree("before");
                let before = output(&net, &input([5, 3, 6], 5));
                change(&net, &mut optimizer, &other);
                agree(&format!("{what}, round {round}"));
                assert_ne!(output(&net, &input([5, 3, 6], 5)), before, "{kind:?}: {what} changed nothing");
            }
        }
    }
}

/// The steps of a cell in training use kept weights: the gradients are those of the layer over the whole sequence.
#[test]
fn a_cell_in_a_loop_is_a_layer() {
    for (batch, hidden) in [(2, 24), (20, 32)] {
        let cell = LstmCell::new(6, hidden).init(&Device::Cpu, &mut Philox::seed(2)).unwrap();
        let layer = Lstm::new(6, hidden).init(&Device::Cpu, &mut Philox::seed(3)).unwrap();
        for (to, from) in layer.parameters().iter().zip(cell.parameters()) {
            to.set_value(from.value()).unwrap();
        }
        let x = input([7, batch, 6], 8);
        let tape = Tape::new();
        let (mut state, mut sum) = (None, None);
        for t in 0..7 {
            let next = cell.forward(&tape.constant(x.select(0, t).unwrap()), state.as_ref()).unwrap();
            let square = next.h.mul(&next.h).unwrap().sum().unwrap();
            sum = Some(match sum {
                Some(sum) => square.add(&sum).unwrap(),
                None => square,
            });
            state = Some(next);
        }
        sum.unwrap().backward().unwrap();
        let y = layer.forward(&Tape::new().constant(x), None).unwrap().0;
        y.mul(&y).unwrap().sum().unwrap().backward().unwrap();
        for (a, b) in cell.parameters().iter().zip(layer.parameters()) {
            let (a, b): (Vec<f32>, Vec<f32>) =
                (a.grad().unwrap().to_vec().unwrap(), b.grad().unwrap().to_vec().unwrap());
            let most = b.iter().fold(0f32, |most, b| most.max(b.abs()));
            // Sums of the same terms in another order, 7 · B of each.
            assert_eq!(a.len(), b.len());
            for (a, b) in a.iter().zip(&b) {
                assert!((a - b).abs() <= 32.0 * f32::EPSILON * most, "{a} and {b}, of at most {most}");
            }
        }
    }
}

/// Many threads call one module, whose weights are kept meanwhile.
#[test]
fn threads_share_what_is_kept() {
    let lstm = Arc::new(options(Kind::Lstm).net(4));
    let x = input([3, 2, 6], 9);
    let wanted = output(&twin(&lstm, Kind::Lstm), &x);
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (lstm, x) = (lstm.clone(), x.clone());
            std::thread::spawn(move || (0..50).map(|_| output(&lstm, &x)).collect::<Vec<_>>())
        })
        .collect();
    for thread in threads {
        assert!(thread.join().unwrap().iter().all(|y| *y == wanted));
    }
}

/// Weights in halves, which are packed as they are stored by some processors and widened by others: kept, and after other numbers have
/// come. A single step in training too, whose gradients need some of them beside.
#[test]
fn weights_in_halves_are_kept() {
    let kinds = [(Kind::Lstm, 0), (Kind::Lstm, 40), (Kind::Gru, 0), (Kind::ResetBefore, 0), (Kind::Tanh, 0)];
    for ((kind, proj), dtype) in kinds.into_iter().flat_map(|kind| [DType::BF16, DType::F16].map(|dtype| (kind, dtype)))
    {
        let options = |kind, proj| Options { layers: 2, proj, dtype, ..Options::new(kind, 64, 96) };
        let net = options(kind, proj).net(1);
        let run = |net: &Net, dims: [usize; 3]| {
            let x = input(dims, 5).to_dtype(dtype).unwrap();
            let y = net.forward(&Tape::no_grad().constant(x.clone()), None).unwrap().0;
            let tape = Tape::new();
            let x = tape.variable(x);
            net.module().zero_grad();
            net.forward(&x, None).unwrap().0.to_dtype(DType::F32).unwrap().sum().unwrap().backward().unwrap();
            let all = [y.into_tensor(), x.grad().unwrap()].into_iter();
            let gradients = net.module().parameters().into_iter().map(|p| p.grad().unwrap());
            all.chain(gradients).flat_map(|t| t.to_f64_vec().unwrap()).collect::<Vec<_>>()
        };
        for dims in [[1, 1, 64], [1, 20, 64], [5, 3, 64], [5, 33, 64]] {
            for seed in [2, 3] {
                // The numbers of another network, which keeps nothing in its only call.
                let other = options(kind, proj).net(seed);
                let wanted = run(&other, dims);
                net.module().load_state_dict(&other.module().state_dict()).unwrap();
                for call in 0..3 {
                    assert_eq!(run(&net, dims), wanted, "{kind:?}, projected {proj}, {dims:?}, call {call}");
                }
            }
        }
    }
}
