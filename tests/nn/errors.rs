//! What callers can get wrong is an `Err` that says so.

use gatefold::{
    DType, Device, Error, Philox, Result, Tape, Tensor, Var,
    nn::{Dropout, Embedding, Gru, Linear, Lstm, LstmCell, LstmState, Module, PackedSequence, Rnn, RnnCell},
    nn::{pack_padded_sequence, pack_sequence, pad_packed_sequence, pad_sequence},
};

use crate::nets::uniform;

const DEVICE: Device = Device::Cpu;

fn rng() -> Philox {
    Philox::seed(1)
}

fn var(tape: &Tape, shape: &[usize]) -> Var {
    tape.constant(uniform(shape, DType::F32, 1))
}

macro_rules! refused {
    // By its text.
    ($call:expr, $text:literal) => {
        match $call {
            Err(error) => assert_eq!(error.to_string(), $text),
            Ok(_) => panic!("accepted: {}", stringify!($call)),
        }
    };
    ($call:expr, $variant:ident) => {
        match $call {
            Err(Error::$variant { .. }) => {}
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("accepted: {}", stringify!($call)),
        }
    };
}

#[test]
fn configurations() {
    refused!(Lstm::new(0, 3).init(&DEVICE, &mut rng()), Argument);
    refused!(Lstm::new(3, 0).init(&DEVICE, &mut rng()), Argument);
    refused!(Gru::new(3, 3).num_layers(0).init(&DEVICE, &mut rng()), Argument);
    refused!(Lstm::new(3, 3).proj_size(3).init(&DEVICE, &mut rng()), Argument);
    refused!(Rnn::new(3, 3).dropout(1.5).init(&DEVICE, &mut rng()), Argument);
    refused!(Rnn::new(3, 3).dropout(f64::NAN).init(&DEVICE, &mut rng()), Argument);
    refused!(Rnn::new(3, 3).dtype(DType::I64).init(&DEVICE, &mut rng()), DType);
    refused!(Lstm::new(usize::MAX, 2).init(&DEVICE, &mut rng()), Shape);
    refused!(Lstm::new(2, usize::MAX).init(&DEVICE, &mut rng()), Shape);
    refused!(RnnCell::new(0, 1).init(&DEVICE, &mut rng()), Argument);
    refused!(Linear::new(0, 1).init(&DEVICE, &mut rng()), Argument);
    refused!(Linear::new(usize::MAX, 2).init(&DEVICE, &mut rng()), Shape);
    refused!(Embedding::new(0, 1).init(&DEVICE, &mut rng()), Argument);
    refused!(Embedding::new(3, 1).padding_idx(3).init(&DEVICE, &mut rng()), Argument);
    refused!(Embedding::new(3, 1).padding_idx(i64::MIN).init(&DEVICE, &mut rng()), Argument);
    refused!(Dropout::new(-0.1).init(&DEVICE, &mut rng()), Argument);
    refused!(Lstm::new(2, 2).init(&Device::Cuda(99), &mut rng()), Unavailable);
    refused!(Embedding::from_pretrained(Tensor::new([1.0f32], &DEVICE).unwrap(), true), Shape);
    refused!(Embedding::from_pretrained(Tensor::new([[1i64]], &DEVICE).unwrap(), true), DType);
}

#[test]
fn inputs_and_states() -> Result<()> {
    let tape = Tape::new();
    let lstm = Lstm::new(4, 3).init(&DEVICE, &mut rng())?;
    for shape in [&[4][..], &[2, 3, 5], &[2, 5], &[1, 2, 3, 4], &[], &[0, 2, 4], &[0, 4]] {
        refused!(lstm.forward(&var(&tape, shape), None), Shape);
    }
    refused!(lstm.forward(&tape.constant(uniform(&[2, 3, 4], DType::F64, 1)), None), DType);
    let x = var(&tape, &[2, 3, 4]);
    for (h, c) in [([1, 3, 3], [1, 3, 4]), ([1, 2, 3], [1, 3, 3]), ([2, 3, 3], [2, 3, 3])] {
        let state = LstmState::new(var(&tape, &h), var(&tape, &c));
        refused!(lstm.forward(&x, Some(&state)), Shape);
    }
    // A state with a batch axis for an input without one.
    let state = LstmState::new(var(&tape, &[1, 1, 3]), var(&tape, &[1, 1, 3]));
    refused!(lstm.forward(&var(&tape, &[2, 4]), Some(&state)), Shape);
    let other = Tape::new();
    let state = LstmState::new(other.variable(uniform(&[1, 3, 3], DType::F32, 1)), var(&tape, &[1, 3, 3]));
    refused!(lstm.forward(&x, Some(&state)), Tape);

    let cell = LstmCell::new(4, 3).init(&DEVICE, &mut rng())?;
    refused!(cell.forward(&x, None), Shape);
    refused!(cell.forward(&var(&tape, &[3, 5]), None), Shape);
    let state = LstmState::new(var(&tape, &[2, 3]), var(&tape, &[2, 3]));
    refused!(cell.forward(&var(&tape, &[3, 4]), Some(&state)), Shape);

    // What is given is got, and what the module has is wanted.
    let linear = Linear::new(4, 3).init(&DEVICE, &mut rng())?;
    refused!(linear.forward(&var(&tape, &[2, 5])), Shape);
    refused!(
        linear.forward(&tape.constant(uniform(&[2, 4], DType::F64, 1))),
        "linear: wrong dtype: got float64, want float32"
    );
    refused!(
        lstm.forward(&tape.constant(uniform(&[2, 3, 4], DType::F64, 1)), None),
        "LSTM: wrong dtype: got float64, want the module's float32"
    );
    let (gru, state) = (Gru::new(4, 3).init(&DEVICE, &mut rng())?, var(&tape, &[1, 2, 3]));
    refused!(gru.forward(&x, Some(&state)), "GRU: wrong shape: got h0 [1, 2, 3], want [1, 3, 3]");
    let state = tape.constant(uniform(&[1, 3, 3], DType::F16, 1));
    refused!(gru.forward(&x, Some(&state)), "GRU: wrong dtype: got float16, want float32");
    let state = LstmState::new(var(&tape, &[2, 3]), var(&tape, &[2, 3]));
    refused!(cell.forward(&var(&tape, &[3, 4]), Some(&state)), "LSTMCell: wrong shape: got h0 [2, 3], want [3, 3]");
    refused!(
        Linear::new(2, 3).dtype(DType::I64).init(&DEVICE, &mut rng()),
        "Linear: wrong dtype: got int64, want a floating-point dtype"
    );
    let embedding = Embedding::new(4, 3).init(&DEVICE, &mut rng())?;
    refused!(embedding.forward(&tape, &Tensor::new([4i64], &DEVICE)?), Argument);
    refused!(embedding.forward(&tape, &Tensor::new([-1i64], &DEVICE)?), Argument);
    refused!(embedding.forward(&tape, &Tensor::new([1.0f32], &DEVICE)?), DType);
    Ok(())
}

#[test]
fn lengths() -> Result<()> {
    let tape = Tape::new();
    let (gru, x) = (Gru::new(4, 3).init(&DEVICE, &mut rng())?, var(&tape, &[5, 3, 4]));
    refused!(gru.forward_lengths(&x, &[5, 0, 1], None), Argument);
    refused!(gru.forward_lengths(&x, &[5, 6, 1], None), Argument);
    refused!(gru.forward_lengths(&x, &[5, 1], None), Shape);
    refused!(gru.forward_lengths(&var(&tape, &[5, 4]), &[5], None), Shape);
    refused!(pack_padded_sequence(&x, &[5, 0, 1], false, false), Argument);
    refused!(pack_padded_sequence(&x, &[6, 1, 1], false, false), Argument);
    refused!(pack_padded_sequence(&x, &[5, 1], false, false), Shape);
    refused!(pack_padded_sequence(&x, &[1, 2, 3], false, true), Argument);
    refused!(pack_padded_sequence(&var(&tape, &[4]), &[4], false, true), Shape);
    refused!(pack_padded_sequence(&var(&tape, &[4, 0]), &[], false, true), Shape);
    let short = pack_padded_sequence(&x, &[2, 1, 1], false, true)?;
    refused!(pad_packed_sequence(&short, false, 0.0, Some(usize::MAX)), Shape);
    refused!(pad_packed_sequence(&short, true, 0.0, Some(1 << 60)), Shape);
    refused!(pad_sequence(&[], false, 0.0), "pad_sequence: wrong shape: got no sequences, want at least one");
    refused!(pad_sequence(&[var(&tape, &[])], false, 0.0), Shape);
    refused!(pad_sequence(&[var(&tape, &[2, 3]), var(&tape, &[2, 4])], false, 0.0), Shape);
    refused!(pack_sequence(&[var(&tape, &[1, 3]), var(&tape, &[2, 3])], true), Argument);
    refused!(pack_sequence(&[var(&tape, &[1, 3]), var(&tape, &[0, 3])], true), Argument);

    let packed = pack_padded_sequence(&x, &[2, 5, 1], false, false)?;
    // Before rows are put in order: of five three would do, and two would be too few for that.
    for rows in [5, 2] {
        let state = var(&tape, &[1, rows, 3]);
        refused!(gru.forward_packed(&packed, Some(&state)), Shape);
    }
    refused!(pad_packed_sequence(&packed, false, 0.0, Some(4)), Argument);
    let with = |f: fn(&mut PackedSequence)| {
        let mut packed = packed.clone();
        f(&mut packed);
        packed
    };
    for broken in [
        with(|p| p.batch_sizes.push(1)),
        with(|p| p.batch_sizes.clear()),
        with(|p| p.batch_sizes = vec![3, 4, 1]),
        with(|p| p.batch_sizes = vec![usize::MAX, 1]),
    ] {
        refused!(pad_packed_sequence(&broken, false, 0.0, None), Shape);
        refused!(gru.forward_packed(&broken, None), Shape);
    }
    for broken in [
        with(|p| p.sorted_indices = None),
        with(|p| p.unsorted_indices = Some(vec![0, 0, 9])),
        with(|p| p.sorted_indices = Some(vec![0])),
    ] {
        refused!(pad_packed_sequence(&broken, false, 0.0, None), Argument);
        refused!(gru.forward_packed(&broken, None), Argument);
        broken.lengths();
    }
    Ok(())
}

/// What is refused draws no mask: the next one is that of a run without it.
#[test]
fn a_refused_call_draws_no_mask() -> Result<()> {
    let tape = Tape::new();
    let lstm = Lstm::new(4, 3).num_layers(2).dropout(0.5).init(&DEVICE, &mut rng())?;
    let dropout = Dropout::new(0.5).init(&DEVICE, &mut rng())?;
    let states = || (lstm.generator_states(), dropout.generator_states());
    let before = states();
    let h = LstmState { h: var(&tape, &[2, 9, 3]), c: var(&tape, &[2, 3, 3]) };
    assert!(lstm.forward(&var(&tape, &[2, 3, 4]), Some(&h)).is_err());
    assert!(dropout.forward(&tape.constant(Tensor::new([1i64], &DEVICE)?)).is_err());
    assert_eq!(states(), before);
    lstm.forward(&var(&tape, &[2, 3, 4]), None)?;
    dropout.forward(&var(&tape, &[2]))?;
    assert!(states().0 != before.0 && states().1 != before.1);
    Ok(())
}

/// Packed data have two axes, and a batch has no more steps than memory could hold.
#[test]
fn packed_extents() -> Result<()> {
    let tape = Tape::new();
    let gru = Gru::new(4, 3).init(&DEVICE, &mut rng())?;
    let packed = pack_padded_sequence(&var(&tape, &[3, 2, 4]), &[3, 2], false, true)?;
    for shape in [&[5, 1, 4][..], &[5, 2, 2]] {
        let data = if shape[1] == 1 { packed.data.reshape(shape)? } else { var(&tape, shape) };
        match gru.forward_packed(&PackedSequence { data, ..packed.clone() }, None) {
            Err(error) => assert!(error.to_string().starts_with("GRU"), "{error}"),
            Ok(_) => panic!("accepted: {shape:?}"),
        }
    }
    refused!(pad_packed_sequence(&packed, false, 0.0, Some(1 << 44)), Shape);
    let nothing =
        pack_padded_sequence(&tape.constant(Tensor::zeros([3, 2, 0], DType::F32, &DEVICE)?), &[3, 2], false, true)?;
    refused!(pad_packed_sequence(&nothing, false, 0.0, Some(usize::MAX)), Shape);
    let huge = tape.constant(Tensor::zeros([1 << 63, 2, 0], DType::F32, &DEVICE)?);
    refused!(pack_padded_sequence(&huge, &[1, 1], false, true), Shape);
    let long = tape.constant(Tensor::zeros([usize::MAX, 0], DType::F32, &DEVICE)?);
    refused!(pad_sequence(&[long.clone(), long], false, 0.0), Shape);
    Ok(())
}

#[test]
fn a_failed_call_leaves_the_module_usable() -> Result<()> {
    let tape = Tape::new();
    let lstm = Lstm::new(4, 3).init(&DEVICE, &mut rng())?;
    assert!(lstm.forward(&var(&tape, &[2, 3, 9]), None).is_err());
    lstm.forward(&var(&tape, &[2, 3, 4]), None)?.0.sum()?.backward()?;
    assert!(lstm.named_parameters().iter().all(|(_, p)| p.grad().is_some()));
    Ok(())
}
