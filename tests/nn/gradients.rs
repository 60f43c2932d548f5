//! Every cell and option against difference quotients, in f64: input, states and each parameter.

use gatefold::{DType, Device, Result, Tape, Tensor, Var};

use crate::nets::{KINDS, Kind, Net, Options, contract, on, uniform};

const EPS: f64 = 1e-6;
/// The quotient is off by about ε² from curvature and 10⁻¹⁶/ε from rounding; a wrong formula misses by far more.
const TOLERANCE: f64 = 2e-7;

type Loss<'a> = dyn Fn(&Tape, &Var, Option<&[Var]>) -> Result<Var> + 'a;

fn check(name: &str, module: &dyn gatefold::nn::Module, x: &Tensor, state: &[Tensor], loss: &Loss<'_>) -> Result<()> {
    let value = |x: &Tensor, state: &[Tensor]| -> Result<f64> {
        let tape = Tape::no_grad();
        let state: Vec<Var> = state.iter().map(|t| tape.constant(t.clone())).collect();
        loss(&tape, &tape.constant(x.clone()), (!state.is_empty()).then_some(&state[..]))?.item()
    };
    module.zero_grad();
    let tape = Tape::new();
    let (xv, sv) = (tape.variable(x.clone()), on(&tape, state));
    loss(&tape, &xv, (!sv.is_empty()).then_some(&sv[..]))?.backward()?;

    let judge =
        |what: &str, gradient: Option<Tensor>, tensor: &Tensor, at: &dyn Fn(Tensor) -> Result<f64>| -> Result<()> {
            let numbers = tensor.to_vec::<f64>()?;
            let gradient = gradient.map_or(Ok(vec![0.0; numbers.len()]), |g| g.to_vec::<f64>())?;
            for (i, gradient) in gradient.iter().enumerate() {
                let moved = |by: f64| -> Result<f64> {
                    let mut numbers = numbers.clone();
                    numbers[i] += by;
                    at(Tensor::from_slice(&numbers, tensor.shape(), &Device::Cpu)?)
                };
                let quotient = (moved(EPS)? - moved(-EPS)?) / (2.0 * EPS);
                let error = (gradient - quotient).abs() / (1.0 + quotient.abs());
                assert!(error < TOLERANCE, "{name}: {what}[{i}]: the tape says {gradient}, the quotient {quotient}");
            }
            Ok(())
        };
    judge("x", xv.grad(), x, &|x| value(&x, state))?;
    for (i, var) in sv.iter().enumerate() {
        judge(["h0", "c0"][i], var.grad(), &state[i], &|moved| {
            let mut state = state.to_vec();
            state[i] = moved;
            value(x, &state)
        })?;
    }
    for (parameter_name, parameter) in module.named_parameters() {
        let old = parameter.value();
        judge(&parameter_name, parameter.grad(), &old, &|moved| {
            parameter.set_value(moved)?;
            value(x, state)
        })?;
        parameter.set_value(old)?;
    }
    Ok(())
}

fn network(options: Options, lengths: Option<&[usize]>, with_state: bool) -> Result<()> {
    let net: Net = options.net(11);
    let (steps, batch) = (4, 3);
    let shape = if options.batch_first { [batch, steps, options.input] } else { [steps, batch, options.input] };
    let x = uniform(&shape, DType::F64, 12);
    let state = if with_state { options.state(Some(batch), 13) } else { Vec::new() };
    check(&format!("{options:?}"), net.module(), &x, &state, &|_, x, state| {
        let (y, last) = match lengths {
            Some(lengths) => net.forward_lengths(x, lengths, state)?,
            None => net.forward(x, state)?,
        };
        contract(&[&y].into_iter().chain(&last).collect::<Vec<_>>())
    })
}

#[test]
fn every_kind() -> Result<()> {
    for kind in KINDS {
        network(Options::new(kind, 3, 2), None, true)?;
    }
    Ok(())
}

#[test]
fn stacked_and_bidirectional() -> Result<()> {
    for kind in KINDS {
        network(Options { layers: 2, bidirectional: true, ..Options::new(kind, 2, 3) }, None, true)?;
    }
    Ok(())
}

#[test]
fn without_biases_and_state_batch_first() -> Result<()> {
    for kind in KINDS {
        network(Options { bias: false, batch_first: true, ..Options::new(kind, 2, 3) }, None, false)?;
    }
    Ok(())
}

#[test]
fn unequal_lengths() -> Result<()> {
    for kind in KINDS {
        network(Options { layers: 2, bidirectional: true, ..Options::new(kind, 2, 2) }, Some(&[2, 4, 1]), true)?;
    }
    Ok(())
}

#[test]
fn projections() -> Result<()> {
    for kind in [Kind::Lstm, Kind::Peephole] {
        let options = Options { proj: 2, layers: 2, bidirectional: true, ..Options::new(kind, 3, 4) };
        network(options, None, true)?;
        network(options, Some(&[3, 1, 4]), true)?;
    }
    Ok(())
}

/// With dropout the masks of a call are drawn anew from the same place.
#[test]
fn between_layer_dropout() -> Result<()> {
    for kind in KINDS {
        let options = Options { layers: 3, bidirectional: true, dropout: 0.4, ..Options::new(kind, 2, 3) };
        let net = options.net(11);
        let start = net.module().generator_states();
        let x = uniform(&[4, 2, 2], DType::F64, 12);
        check(&format!("{options:?}"), net.module(), &x, &[], &|_, x, state| {
            net.module().set_generator_states(&start)?;
            let (y, last) = net.forward(x, state)?;
            contract(&[&y].into_iter().chain(&last).collect::<Vec<_>>())
        })?;
    }
    Ok(())
}

#[test]
fn cells() -> Result<()> {
    for kind in KINDS {
        for (bias, batch) in [(true, Some(3)), (false, Some(2)), (true, None)] {
            let options = Options { bias, ..Options::new(kind, 3, 2) };
            let cell = options.cell(3);
            let shape = |features| batch.into_iter().chain([features]).collect::<Vec<usize>>();
            let x = uniform(&shape(3), DType::F64, 12);
            let state: Vec<Tensor> =
                (0..1 + u64::from(kind.is_lstm())).map(|i| uniform(&shape(2), DType::F64, 13 + i)).collect();
            check(&format!("{options:?}"), cell.module(), &x, &state, &|_, x, state| {
                contract(&cell.forward(x, state)?.iter().collect::<Vec<_>>())
            })?;
            check(&format!("{options:?}"), cell.module(), &x, &[], &|_, x, state| {
                contract(&cell.forward(x, state)?.iter().collect::<Vec<_>>())
            })?;
        }
    }
    Ok(())
}
