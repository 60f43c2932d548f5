//! Gradients of the GPU's own kernels against central differences, in f64.

use gatefold::{DType, Result, Tensor, Var, loss::*};

use crate::{
    GPU, gpu,
    gradcheck::{check_module, check_on, random},
    nets::{KINDS, Kind, Options, contract, uniform},
};

fn network(options: Options, lengths: Option<&[usize]>) -> Result<()> {
    let (net, steps, batch) = (options.net(11), 3, 2);
    net.module().to_device(&GPU)?;
    let x = uniform(&[steps, batch, options.input], DType::F64, 12);
    let state = options.state(Some(batch), 13);
    check_module(&format!("{options:?}"), &GPU, net.module(), &x, &state, &|_, x, state| {
        let (y, last) = match lengths {
            Some(lengths) => net.forward_lengths(x, lengths, state)?,
            None => net.forward(x, state)?,
        };
        contract(&[&y].into_iter().chain(&last).collect::<Vec<_>>())
    })
}

#[test]
fn recurrent_layers() {
    if !gpu() {
        return;
    }
    for kind in KINDS {
        network(Options { layers: 2, bidirectional: true, ..Options::new(kind, 3, 2) }, Some(&[1, 3])).unwrap();
        network(Options { bias: false, ..Options::new(kind, 2, 3) }, None).unwrap();
    }
    for kind in [Kind::Lstm, Kind::Peephole] {
        network(Options { proj: 2, layers: 2, ..Options::new(kind, 2, 3) }, Some(&[3, 2])).unwrap();
    }
}

#[test]
fn cells() {
    if !gpu() {
        return;
    }
    for kind in KINDS {
        let options = Options::new(kind, 3, 2);
        let cell = options.cell(3);
        cell.module().to_device(&GPU).unwrap();
        let x = uniform(&[2, 3], DType::F64, 12);
        let state: Vec<Tensor> =
            (0..1 + u64::from(kind.is_lstm())).map(|i| uniform(&[2, 2], DType::F64, 13 + i)).collect();
        check_module(&format!("{options:?}"), &GPU, cell.module(), &x, &state, &|_, x, state| {
            contract(&cell.forward(x, state)?.iter().collect::<Vec<_>>())
        })
        .unwrap();
    }
}

#[test]
fn operations() {
    if !gpu() {
        return;
    }
    let x = [random(&[3, 4], -1.0, 1.0, 1)];
    let pair = [random(&[2, 3, 4], -1.0, 1.0, 2), random(&[4, 1], 0.5, 1.5, 3)];
    check_on(&GPU, &pair, |_, v| v[0].transpose(1, 2)?.mul(&v[1])?.div(&v[1].exp()?));
    check_on(&GPU, &pair, |_, v| v[0].matmul(&v[1]));
    check_on(&GPU, &x, |_, v| v[0].tanh()?.add(&v[0].sigmoid()?)?.powf(2.0)?.mean_axis(0, false));
    check_on(&GPU, &x, |_, v| v[0].softmax(0)?.mul(&v[0].log_softmax(1)?));
    check_on(&GPU, &x, |_, v| v[0].logsumexp(1, true)?.sub(&v[0].max_axis(1, true)?.0));
    check_on(&GPU, &x, |_, v| Var::concat(&[&v[0].narrow(1, 1, 2)?, &v[0].flip(1)?], 1));
    check_on(&GPU, &x, |_, v| v[0].dropout(0.4, 5, 6));
    let index = Tensor::new([2i64, 0, 2, 2, 1], &GPU).unwrap();
    check_on(&GPU, &x, |_, v| v[0].embedding(&index, None));
}

#[test]
fn losses() {
    if !gpu() {
        return;
    }
    let scores = [random(&[4, 3], -2.0, 2.0, 1)];
    let classes = Tensor::new([2i64, 0, -100, 1], &GPU).unwrap();
    let weight = random(&[3], 0.5, 1.5, 2).to_device(&GPU).unwrap();
    check_on(&GPU, &scores, |_, v| {
        CrossEntropyLoss::new().weight(weight.clone()).label_smoothing(0.1).forward(&v[0], &classes)
    });
    check_on(&GPU, &scores, |_, v| NllLoss::new().weight(weight.clone()).forward(&v[0].log_softmax(1)?, &classes));
    let pair = [random(&[4, 3], -2.0, 2.0, 3), random(&[4, 3], 0.1, 0.9, 4)];
    check_on(&GPU, &pair, |_, v| BceWithLogitsLoss::new().pos_weight(weight.clone()).forward(&v[0], &v[1]));
    check_on(&GPU, &pair, |_, v| BceLoss::new().forward(&v[0].sigmoid()?, &v[1]));
    check_on(&GPU, &pair, |_, v| KlDivLoss::new().batch_mean().forward(&v[0], &v[1]));
    check_on(&GPU, &pair, |_, v| HuberLoss::new().delta(0.7).forward(&v[0], &v[1]));
    check_on(&GPU, &pair, |_, v| v[0].mse_loss(&v[1]));
}
