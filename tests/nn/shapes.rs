//! The calls that the programs make, and the shapes they get.

use gatefold::{
    DType, Device, HasParameters, Philox, Result, Tape, Tensor,
    nn::{Embedding, Gru, GruCell, Lstm, LstmCell, LstmState, Rnn, RnnCell},
};

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

fn setup() -> (Device, Philox, Tape) {
    (Device::Cpu, Philox::seed(1), Tape::new())
}

#[test]
fn rnn_cell_in_a_loop() -> Result<()> {
    let (device, mut rng, tape) = setup();
    let cell = RnnCell::new(100, 200).init(&device, &mut rng)?;
    assert_eq!(cell.weight_hh().unwrap().shape().dims(), [200, 200]);
    let x = tape.constant(zeros(&[6, 5, 100]));
    let mut h = tape.constant(zeros(&[5, 200]));
    for t in 0..6 {
        h = cell.forward(&x.select(0, t)?, Some(&h))?;
        assert_eq!(h.dims(), [5, 200]);
    }
    // Without a batch axis.
    assert_eq!(cell.forward(&tape.constant(zeros(&[100])), None)?.dims(), [200]);
    Ok(())
}

#[test]
fn rnn() -> Result<()> {
    let (device, mut rng, tape) = setup();
    let rnn = Rnn::new(100, 200).init(&device, &mut rng)?;
    assert_eq!(rnn.weight_hh(0, 0).unwrap().shape().dims(), [200, 200]);
    let x = tape.constant(zeros(&[6, 5, 100]));
    let (y, h) = rnn.forward(&x, None)?;
    assert_eq!((y.dims(), h.dims()), (&[6, 5, 200][..], &[1, 5, 200][..]));
    let (y, h) = rnn.forward(&x, Some(&tape.constant(zeros(&[1, 5, 200]))))?;
    assert_eq!((y.dims(), h.dims()), (&[6, 5, 200][..], &[1, 5, 200][..]));

    let (x, rnn) = (tape.constant(zeros(&[3, 1, 4])), Rnn::new(4, 2).num_layers(1).init(&device, &mut rng)?);
    let (y, h) = rnn.forward(&x, None)?;
    assert_eq!((y.dims(), h.dims()), (&[3, 1, 2][..], &[1, 1, 2][..]));
    Ok(())
}

#[test]
fn lstm() -> Result<()> {
    let (device, mut rng, tape) = setup();
    let check = |lstm: &Lstm, x: [usize; 3], y: [usize; 3], state: [usize; 3]| -> Result<()> {
        let x = tape.constant(zeros(&x));
        let (out, last) = lstm.forward(&x, None)?;
        assert_eq!((out.dims(), last.h.dims(), last.c.dims()), (&y[..], &state[..], &state[..]));
        let given = LstmState::new(tape.constant(zeros(&state)), tape.constant(zeros(&state)));
        let (out, last) = lstm.forward(&x, Some(&given))?;
        assert_eq!((out.dims(), last.h.dims(), last.c.dims()), (&y[..], &state[..], &state[..]));
        Ok(())
    };
    let lstm = Lstm::new(50, 100).num_layers(2).init(&device, &mut rng)?;
    assert_eq!(lstm.weight_hh(0, 0).unwrap().shape().dims(), [400, 100]);
    check(&lstm, [10, 3, 50], [10, 3, 100], [2, 3, 100])?;
    let lstm = Lstm::new(10, 20).num_layers(2).init(&device, &mut rng)?;
    check(&lstm, [5, 3, 10], [5, 3, 20], [2, 3, 20])?;
    let lstm = Lstm::new(10, 20).num_layers(2).bidirectional(true).init(&device, &mut rng)?;
    check(&lstm, [5, 3, 10], [5, 3, 40], [4, 3, 20])?;
    let lstm = Lstm::new(100, 20).num_layers(4).init(&device, &mut rng)?;
    check(&lstm, [10, 3, 100], [10, 3, 20], [4, 3, 20])?;
    let lstm = Lstm::new(10, 20).batch_first(true).init(&device, &mut rng)?;
    check(&lstm, [5, 3, 10], [5, 3, 20], [1, 5, 20])
}

#[test]
fn lstm_with_a_projection() -> Result<()> {
    let (device, mut rng, tape) = setup();
    let lstm = Lstm::new(10, 20).proj_size(7).bidirectional(true).init(&device, &mut rng)?;
    assert_eq!(lstm.weight_hh(0, 0).unwrap().shape().dims(), [80, 7]);
    assert_eq!(lstm.weight_hr(0, 1).unwrap().shape().dims(), [7, 20]);
    let (y, last) = lstm.forward(&tape.constant(zeros(&[5, 3, 10])), None)?;
    assert_eq!((y.dims(), last.h.dims(), last.c.dims()), (&[5, 3, 14][..], &[2, 3, 7][..], &[2, 3, 20][..]));
    Ok(())
}

#[test]
fn without_a_batch() -> Result<()> {
    let (device, mut rng, tape) = setup();
    let lstm = Lstm::new(10, 20).num_layers(2).batch_first(true).init(&device, &mut rng)?;
    let x = tape.constant(zeros(&[5, 10]));
    let (y, last) = lstm.forward(&x, None)?;
    assert_eq!((y.dims(), last.h.dims(), last.c.dims()), (&[5, 20][..], &[2, 20][..], &[2, 20][..]));
    assert_eq!(lstm.forward(&x, Some(&last))?.0.dims(), [5, 20]);
    Ok(())
}

#[test]
fn lstm_cells_stacked() -> Result<()> {
    let (device, mut rng, tape) = setup();
    let cell = LstmCell::new(100, 20).init(&device, &mut rng)?;
    let (low, high) = (LstmCell::new(100, 30).init(&device, &mut rng)?, LstmCell::new(30, 20).init(&device, &mut rng)?);
    let (mut one, mut two, mut three) = (None, None, None);
    for _ in 0..10 {
        let x = tape.constant(zeros(&[3, 100]));
        let state = cell.forward(&x, one.as_ref())?;
        assert_eq!((state.h.dims(), state.c.dims()), (&[3, 20][..], &[3, 20][..]));
        one = Some(state);
        let state = low.forward(&x, two.as_ref())?;
        let top = high.forward(&state.h, three.as_ref())?;
        assert_eq!((state.h.dims(), top.h.dims()), (&[3, 30][..], &[3, 20][..]));
        (two, three) = (Some(state), Some(top));
    }
    Ok(())
}

#[test]
fn gru() -> Result<()> {
    let (device, mut rng, tape) = setup();
    let gru = Gru::new(10, 20).init(&device, &mut rng)?;
    assert_eq!(gru.weight_hh(0, 0).unwrap().shape().dims(), [60, 20]);
    let (y, h) = gru.forward(&tape.constant(zeros(&[3, 32, 10])), None)?;
    assert_eq!((y.dims(), h.dims()), (&[3, 32, 20][..], &[1, 32, 20][..]));
    // As in Cho et al.: no biases, three sets of weights.
    let cho = Gru::new(10, 20).reset_after(false).bias(false).init(&device, &mut rng)?;
    assert!(cho.bias_ih(0, 0).is_none() && cho.weight_ih(0, 0).unwrap().shape().dims() == [60, 10]);
    assert_eq!(cho.forward(&tape.constant(zeros(&[3, 32, 10])), None)?.0.dims(), [3, 32, 20]);
    let cell = GruCell::new(10, 20).init(&device, &mut rng)?;
    assert_eq!(cell.forward(&tape.constant(zeros(&[32, 10])), None)?.dims(), [32, 20]);
    Ok(())
}

#[test]
fn peephole_lstm() -> Result<()> {
    let (device, mut rng, tape) = setup();
    let lstm = Lstm::new(4, 5).peephole(true).init(&device, &mut rng)?;
    assert_eq!(lstm.weight_peephole(0, 0).unwrap().shape().dims(), [15]);
    assert_eq!(lstm.forward(&tape.constant(zeros(&[3, 2, 4])), None)?.0.dims(), [3, 2, 5]);
    Ok(())
}

#[test]
fn embedding() -> Result<()> {
    let (device, mut rng, tape) = setup();
    let embedding = Embedding::new(9, 6).init(&device, &mut rng)?;
    for shape in [&[][..], &[5], &[2, 5], &[2, 3, 0]] {
        let index = Tensor::zeros(shape, DType::I64, &device)?;
        assert_eq!(embedding.forward(&tape, &index)?.dims(), [shape, &[6]].concat());
    }
    assert_eq!(embedding.forward(&tape, &Tensor::new([1u32, 2], &device)?)?.dims(), [2, 6]);
    Ok(())
}

/// As in PyTorch: nothing out, nothing for the states and the input, zeros for the weights.
#[test]
fn no_sequences() -> Result<()> {
    let (device, mut rng, tape) = setup();
    for batch_first in [false, true] {
        let lstm = Lstm::new(3, 4).num_layers(2).bidirectional(true).dropout(0.5).proj_size(2).batch_first(batch_first);
        let lstm = lstm.init(&device, &mut rng)?;
        let dims = if batch_first { [0, 5, 3] } else { [5, 0, 3] };
        for given in [false, true] {
            let tape = Tape::new();
            let x = tape.variable(zeros(&dims));
            let state = LstmState::new(tape.variable(zeros(&[4, 0, 2])), tape.variable(zeros(&[4, 0, 4])));
            let (y, last) = lstm.forward(&x, given.then_some(&state))?;
            assert_eq!(y.dims(), [dims[0], dims[1], 4]);
            assert_eq!((last.h.dims(), last.c.dims()), (&[4, 0, 2][..], &[4, 0, 4][..]));
            y.sum()?.add(&last.c.sum()?)?.backward()?;
            assert_eq!(x.grad().unwrap().dims(), dims);
            assert_eq!(state.c.grad().map(|g| g.dims().to_vec()), given.then(|| vec![4, 0, 4]));
        }
        for parameter in lstm.parameters() {
            let gradient = parameter.grad().expect("one of zeros");
            assert_eq!(gradient.shape(), parameter.value().shape());
            assert!(gradient.to_f64_vec()?.iter().all(|&g| g == 0.0));
        }
        let x = tape.variable(zeros(&dims));
        // States of a sequence that is not there.
        let wrong = LstmState::new(tape.variable(zeros(&[4, 1, 2])), tape.variable(zeros(&[4, 1, 4])));
        assert!(lstm.forward(&x, Some(&wrong)).is_err());
    }
    let gru = Gru::new(3, 4).init(&device, &mut rng)?;
    let (y, h) = gru.forward(&tape.constant(zeros(&[5, 0, 3])), None)?;
    assert_eq!((y.dims(), h.dims()), (&[5, 0, 4][..], &[1, 0, 4][..]));
    let cell = GruCell::new(3, 4).init(&device, &mut rng)?;
    assert_eq!(cell.forward(&tape.constant(zeros(&[0, 3])), None)?.dims(), [0, 4]);
    let cell = LstmCell::new(3, 4).init(&device, &mut rng)?;
    let state = cell.forward(&tape.constant(zeros(&[0, 3])), None)?;
    assert_eq!((state.h.dims(), state.c.dims()), (&[0, 4][..], &[0, 4][..]));
    Ok(())
}
