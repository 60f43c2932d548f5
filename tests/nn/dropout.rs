//! Dropout: reproducible from the seed, absent in evaluation, resumable from a checkpoint.

use gatefold::{
    DType, Device, Error, Philox, Result, Tape, Tensor,
    nn::{Dropout, Module},
};

use crate::{
    modules::tagger,
    nets::{KINDS, Options, uniform},
};

fn ones(n: usize) -> Tensor {
    Tensor::ones(n, DType::F32, &Device::Cpu).unwrap()
}

fn mask(dropout: &Dropout, n: usize) -> Result<Vec<f32>> {
    dropout.forward(&Tape::no_grad().constant(ones(n)))?.tensor().to_vec()
}

#[test]
fn masks_come_from_the_seed() -> Result<()> {
    let new = |seed| Dropout::new(0.25).init(&Device::Cpu, &mut Philox::seed(seed));
    let (a, b, c) = (new(1)?, new(1)?, new(2)?);
    let first = mask(&a, 4000)?;
    assert_eq!(first, mask(&b, 4000)?);
    assert_ne!(first, mask(&a, 4000)?);
    assert_ne!(first, mask(&c, 4000)?);
    assert!(first.iter().all(|&v| v == 0.0 || v == 1.0 / 0.75));
    let kept = first.iter().filter(|&&v| v != 0.0).count() as f64 / 4000.0;
    assert!((kept - 0.75).abs() < 0.03, "{kept}");

    a.eval();
    let calls = a.generator_states();
    assert_eq!(mask(&a, 10)?, vec![1.0; 10]);
    assert_eq!(a.generator_states(), calls);
    let all = Dropout::new(1.0).init(&Device::Cpu, &mut Philox::seed(1))?;
    assert_eq!(mask(&all, 10)?, vec![0.0; 10]);
    Ok(())
}

#[test]
fn the_gradient_goes_through_the_mask() -> Result<()> {
    let dropout = Dropout::new(0.5).init(&Device::Cpu, &mut Philox::seed(1))?;
    let tape = Tape::new();
    let x = tape.variable(ones(100));
    let y = dropout.forward(&x)?;
    y.sum()?.backward()?;
    assert_eq!(x.grad().unwrap().to_vec::<f32>()?, y.tensor().to_vec::<f32>()?);
    Ok(())
}

#[test]
fn between_layers() -> Result<()> {
    for kind in KINDS {
        let options =
            Options { layers: 3, bidirectional: true, dropout: 0.5, dtype: DType::F32, ..Options::new(kind, 4, 8) };
        let x = uniform(&[6, 3, 4], DType::F32, 2);
        let run = |net: &crate::nets::Net, tape: Tape| -> Result<Vec<f32>> {
            net.forward(&tape.constant(x.clone()), None)?.0.tensor().to_vec()
        };
        let (a, b) = (options.net(1), options.net(1));
        let first = run(&a, Tape::new())?;
        // The same masks whether or not anything is recorded.
        assert_eq!(first, run(&b, Tape::no_grad())?, "{kind:?}");
        assert_ne!(first, run(&a, Tape::new())?);
        let plain = Options { dropout: 0.0, ..options }.net(1);
        assert_ne!(first, run(&plain, Tape::new())?);
        a.module().eval();
        let quiet = run(&a, Tape::new())?;
        assert_eq!(quiet, run(&a, Tape::no_grad())?);
        assert_eq!(quiet, run(&plain, Tape::no_grad())?);
        a.module().train();
        assert_ne!(quiet, run(&a, Tape::new())?);
        // One layer has nothing between.
        let one = Options { layers: 1, ..options }.net(1);
        assert_eq!(run(&one, Tape::new())?, run(&one, Tape::new())?);
        assert!(one.module().generator_states().is_empty());
    }
    Ok(())
}

/// With a probability of 1 the layers above get zeros.
#[test]
fn everything_dropped() -> Result<()> {
    for kind in KINDS {
        let options = Options { layers: 2, dropout: 1.0, ..Options::new(kind, 4, 3) };
        let net = options.net(1);
        let run = |seed| -> Result<Vec<f64>> {
            let x = Tape::new().constant(uniform(&[5, 2, 4], DType::F64, seed));
            net.forward(&x, None)?.0.tensor().to_vec()
        };
        assert_eq!(run(1)?, run(2)?, "{kind:?}");
        assert!(run(1)?.iter().all(|v| v.is_finite()));
    }
    Ok(())
}

#[test]
fn generator_states_resume_a_run() -> Result<()> {
    let (model, words) = (tagger(1), Tensor::new([1i64, 2, 3, 4, 5], &Device::Cpu)?);
    let run = |model: &crate::modules::Tagger| -> Result<Vec<f32>> {
        let tape = Tape::no_grad();
        let x = model.dropout.forward(&model.embedding.forward(&tape, &words)?)?;
        model.lstm.forward(&x, None)?.0.tensor().to_vec()
    };
    run(&model)?;
    let (state, masks) = (model.state_dict(), model.generator_states());
    let names: Vec<&str> = masks.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names, masks[1].1.calls), (vec!["dropout", "lstm"], 1));
    let next = run(&model)?;

    let resumed = tagger(7);
    resumed.load_state_dict(&state)?;
    assert_ne!(run(&resumed)?, next);
    resumed.set_generator_states(&masks)?;
    assert_eq!(run(&resumed)?, next);

    let renamed: Vec<_> = masks.iter().map(|(name, state)| (format!("{name}2"), *state)).collect();
    assert!(matches!(resumed.set_generator_states(&renamed), Err(Error::StateDict { .. })));
    assert!(matches!(resumed.set_generator_states(&masks[1..]), Err(Error::StateDict { .. })));
    Ok(())
}
