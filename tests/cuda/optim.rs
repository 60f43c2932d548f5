//! Optimizers and clipping.

use gatefold::{Device, Parameter, Result, Tensor, optim::*};

use crate::{FLOATS, agree, gpu, numbers};

/// Three steps with gradients of their own.
fn train(
    dtype: gatefold::DType,
    device: &Device,
    make: impl Fn(&[Parameter]) -> Result<Box<dyn Optim>>,
) -> Result<Vec<Tensor>> {
    let parameters = [
        Parameter::new(numbers(&[3, 5], -1.0, 1.0, dtype, 1).to_device(device)?),
        Parameter::new(numbers(&[301], -1.0, 1.0, dtype, 2).to_device(device)?),
    ];
    let mut optimizer = make(&parameters)?;
    for step in 0..3 {
        for (i, parameter) in parameters.iter().enumerate() {
            let gradient = numbers(parameter.value().dims(), -1.0, 1.0, dtype, 10 * step + i as u64);
            parameter.set_grad(Some(gradient.to_device(device)?))?;
        }
        clip_grad_norm(&parameters[..], 1.5, 2.0)?;
        optimizer.step()?;
    }
    Ok(parameters.iter().map(Parameter::value).collect())
}

#[test]
fn three_steps() {
    if !gpu() {
        return;
    }
    for dtype in FLOATS {
        for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
            agree("sgd", |d| {
                train(dtype, d, |p| {
                    let rule = Sgd::new(0.1).momentum(momentum).nesterov(nesterov).weight_decay(0.01);
                    Ok(Box::new(rule.over([&p[0], &p[1]])?))
                })
            });
        }
        for amsgrad in [false, true] {
            agree("adam", |d| {
                train(dtype, d, |p| {
                    Ok(Box::new(Adam::new(0.01).amsgrad(amsgrad).weight_decay(0.01).over([&p[0], &p[1]])?))
                })
            });
            agree("adamw", |d| {
                train(dtype, d, |p| Ok(Box::new(AdamW::new(0.01).amsgrad(amsgrad).over([&p[0], &p[1]])?)))
            });
        }
        for (momentum, centered) in [(0.0, false), (0.9, false), (0.0, true), (0.9, true)] {
            agree("rmsprop", |d| {
                train(dtype, d, |p| {
                    Ok(Box::new(RmsProp::new(0.01).momentum(momentum).centered(centered).over([&p[0], &p[1]])?))
                })
            });
        }
        agree("adagrad", |d| train(dtype, d, |p| Ok(Box::new(Adagrad::new(0.01).lr_decay(0.1).over([&p[0], &p[1]])?))));
    }
}
