//! Every cell and option against difference quotients, in f64: input, states and each parameter.

use gatefold::{DType, Device, Result, Tensor};

use crate::{
    gradcheck::check_module,
    nets::{KINDS, Kind, Net, Options, contract, uniform},
};

fn network(options: Options, lengths: Option<&[usize]>, with_state: bool) -> Result<()> {
    let net: Net = options.net(11);
    let (steps, batch) = (4, 3);
    let shape = if options.batch_first { [batch, steps, options.input] } else { [steps, batch, options.input] };
    let x = uniform(&shape, DType::F64, 12);
    let state = if with_state { options.state(Some(batch), 13) } else { Vec::new() };
    check_module(&format!("{options:?}"), &Device::Cpu, net.module(), &x, &state, &|_, x, state| {
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
        check_module(&format!("{options:?}"), &Device::Cpu, net.module(), &x, &[], &|_, x, state| {
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
            check_module(&format!("{options:?}"), &Device::Cpu, cell.module(), &x, &state, &|_, x, state| {
                contract(&cell.forward(x, state)?.iter().collect::<Vec<_>>())
            })?;
            check_module(&format!("{options:?}"), &Device::Cpu, cell.module(), &x, &[], &|_, x, state| {
                contract(&cell.forward(x, state)?.iter().collect::<Vec<_>>())
            })?;
        }
    }
    Ok(())
}
