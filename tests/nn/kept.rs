//! Modules keep packed weights between calls on the CPU: what they compute is that of the weights they have now.

use std::sync::Arc;

use gatefold::{
    DType, Device, HasParameters, Philox, Tape, Tensor,
    nn::{Lstm, LstmCell},
    optim::Sgd,
};

fn input(dims: [usize; 3], seed: u64) -> Tensor {
    Tensor::normal(dims, 0.0, 1.0, DType::F32, &Device::Cpu, &mut Philox::seed(seed)).unwrap()
}

fn output(lstm: &Lstm, x: &Tensor) -> Vec<f32> {
    let tape = Tape::no_grad();
    lstm.forward(&tape.constant(x.clone()), None).unwrap().0.tensor().to_vec().unwrap()
}

/// Another module with the same values, which has kept nothing.
fn twin(of: &Lstm) -> Lstm {
    let twin = Lstm::new(6, 40).num_layers(2).init(&Device::Cpu, &mut Philox::seed(99)).unwrap();
    for (to, from) in twin.parameters().iter().zip(of.parameters()) {
        to.set_value(
            Tensor::from_slice(&from.value().to_vec::<f32>().unwrap(), from.value().dims(), &Device::Cpu).unwrap(),
        )
        .unwrap();
    }
    twin
}

#[test]
fn every_way_to_change_weights_is_seen() {
    let lstm = Lstm::new(6, 40).num_layers(2).init(&Device::Cpu, &mut Philox::seed(1)).unwrap();
    let mut optimizer = Sgd::new(0.1).over([&lstm]).unwrap();
    let shapes = [[1, 1, 6], [5, 3, 6], [4, 20, 6]];
    let agree = |what: &str| {
        for dims in shapes {
            let x = input(dims, 5);
            let wanted = output(&twin(&lstm), &x);
            for call in 0..3 {
                assert_eq!(output(&lstm, &x), wanted, "{what}, {dims:?}, call {call}");
            }
        }
    };
    agree("at first");
    let before = output(&lstm, &input([5, 3, 6], 5));
    for step in 0..3 {
        let tape = Tape::new();
        let y = lstm.forward(&tape.constant(input([5, 3, 6], 7)), None).unwrap().0;
        y.mul(&y).unwrap().mean().unwrap().backward().unwrap();
        optimizer.step().unwrap();
        optimizer.zero_grad();
        drop(y);
        agree(&format!("step {step} of the optimizer"));
    }
    assert_ne!(output(&lstm, &input([5, 3, 6], 5)), before, "the optimizer moved nothing");
    let weight = &lstm.parameters()[1];
    weight.set_value(Tensor::ones(weight.value().dims(), DType::F32, &Device::Cpu).unwrap()).unwrap();
    agree("a value that was set");
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
    let lstm = Arc::new(Lstm::new(6, 40).num_layers(2).init(&Device::Cpu, &mut Philox::seed(4)).unwrap());
    let x = input([3, 2, 6], 9);
    let wanted = output(&twin(&lstm), &x);
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
