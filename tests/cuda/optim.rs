//! Optimizers and clipping.

use gatefold::{DType, Device, Parameter, Result, Tape, Tensor, optim::*};

use crate::{CPU, FLOATS, GPU, agree, gpu, numbers, same_bits};

/// More parameters than one launch takes, in a scaler's hands: with an infinity in one gradient now and then.
#[test]
fn scaled_steps() {
    if !gpu() {
        return;
    }
    for dtype in FLOATS {
        agree("scaled", |device| {
            let parameters: Vec<Parameter> = (0..70)
                .map(|i| Ok(Parameter::new(numbers(&[3 * i + 1], -1.0, 1.0, dtype, i as u64).to_device(device)?)))
                .collect::<Result<_>>()?;
            let mut optimizer = Adam::new(0.01).master_weights(true).over([&parameters])?;
            let mut scaler = GradScaler::new(device)?.init_scale(64.0)?.growth_interval(2)?;
            let mut scales = Vec::new();
            for step in 0..8 {
                for (i, parameter) in parameters.iter().enumerate() {
                    let gradient = numbers(&[3 * i + 1], -9.0, 9.0, dtype, 100 * step + i as u64);
                    let bad = if step % 3 == 1 && i == 67 { f64::INFINITY } else { 1.0 };
                    let gradient = Tape::no_grad().constant(gradient).mul_scalar(bad)?.into_tensor();
                    parameter.set_grad(Some(gradient.to_device(device)?))?;
                }
                scaler.step(&mut optimizer)?;
                scaler.update()?;
                scales.push(scaler.get_scale()?);
            }
            let counted = optimizer.state().numbers["state.0.step"];
            assert_eq!((scales, counted), (vec![64.0, 32.0, 32.0, 64.0, 32.0, 32.0, 64.0, 32.0], 5.0));
            Ok(parameters.iter().map(Parameter::value).collect())
        });
    }
}

/// Two optimizers, the second unscaled in two parts: each is skipped for its own gradients, and nothing is left for the step behind.
#[test]
fn a_scaler_of_two_optimizers() {
    if !gpu() {
        return;
    }
    agree("two optimizers", |device| {
        let all: Vec<Parameter> = (0..3)
            .map(|i| Ok(Parameter::new(numbers(&[5], -1.0, 1.0, DType::F32, i).to_device(device)?)))
            .collect::<Result<_>>()?;
        let mut first = Sgd::new(0.5).over([&all[0]])?;
        let mut second = Sgd::new(0.5).over([&all[1], &all[2]])?;
        let mut scaler = GradScaler::new(device)?.init_scale(64.0)?;
        let (mut scales, mut moved) = (Vec::new(), Vec::new());
        for bad in 0..4 {
            let before = all.iter().map(|p| p.value().to_vec::<f32>()).collect::<Result<Vec<_>>>()?;
            for (i, parameter) in all.iter().enumerate() {
                let value = if i == bad { f64::INFINITY } else { 64.0 };
                parameter.set_grad(Some(Tensor::full([5], value, DType::F32, device)?))?;
            }
            all[1..].iter().try_for_each(|parameter| scaler.unscale(parameter))?;
            scaler.step(&mut first)?;
            scaler.step(&mut second)?;
            scaler.update()?;
            scales.push(scaler.get_scale()?);
            for (parameter, before) in all.iter().zip(before) {
                moved.push(parameter.value().to_vec::<f32>()? != before);
            }
        }
        assert_eq!(scales, [32.0, 16.0, 8.0, 8.0]);
        let (no, yes) = (false, true);
        assert_eq!(moved, [no, yes, yes, yes, no, no, yes, no, no, yes, yes, yes]);
        Ok(all.iter().map(Parameter::value).collect())
    });
}

/// Steps that the device has skipped are known to it alone; what moves to another device takes the count along.
#[test]
fn skipped_steps_and_a_move() -> Result<()> {
    if !gpu() {
        return Ok(());
    }
    for (from, to) in [(CPU, GPU), (GPU, CPU)] {
        let w = Parameter::new(Tensor::zeros([3], DType::F32, &from)?);
        let mut adam = Adam::new(0.1).over([&w])?;
        let mut step = |device: &Device, skip: f64| {
            w.set_grad(Some(Tensor::ones([3], DType::F32, device)?))?;
            adam.step_unless(&Tensor::full((), skip, DType::F32, device)?)
        };
        [1.0, 1.0, 1.0, 0.0].into_iter().try_for_each(|skip| step(&from, skip))?;
        w.set_value(w.value().to_device(&to)?)?;
        step(&to, 0.0)?;
        assert_eq!(adam.state().numbers["state.0.step"], 2.0, "from {from} to {to}");
    }
    Ok(())
}

/// A weight of 1 takes the gradient as it is, to the bit.
#[test]
fn first_moments_without_memory() -> Result<()> {
    if !gpu() {
        return Ok(());
    }
    let w = Parameter::new(Tensor::zeros([3], DType::F32, &GPU)?);
    let mut adam = Adam::new(0.1).betas(0.0, 0.999).over([&w])?;
    let mut centered = RmsProp::new(0.1).alpha(0.0).centered(true).over([&w])?;
    for gradient in [1.0f32, 1e-9] {
        w.set_grad(Some(Tensor::full([3], f64::from(gradient), DType::F32, &GPU)?))?;
        for (optimizer, name) in [(&mut adam as &mut dyn Optim, "exp_avg"), (&mut centered, "grad_avg")] {
            optimizer.step()?;
            let moment = optimizer.state().tensors[&format!("state.0.{name}")].to_vec::<f32>()?;
            assert_eq!(moment, [gradient; 3], "{name}");
        }
    }
    Ok(())
}

/// Three steps with gradients of their own.
fn train(dtype: DType, device: &Device, make: impl Fn(&[Parameter]) -> Result<Box<dyn Optim>>) -> Result<Vec<Tensor>> {
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
        agree("masters", |d| {
            train(dtype, d, |p| Ok(Box::new(RmsProp::new(1e-4).master_weights(true).over([&p[0], &p[1]])?)))
        });
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

/// Lengths around a chunk's, more tensors than a launch takes, all dtypes, and parameters that take fewer steps than others.
#[test]
fn many_parameters() {
    if !gpu() {
        return;
    }
    let lengths = [1, 0, 3, 4095, 4096, 4097, 12_291].into_iter().chain(20..85).collect::<Vec<usize>>();
    let run = |device: &Device, make: &dyn Fn(Vec<Parameter>) -> Result<Box<dyn Optim>>| {
        let mut parameters = Vec::new();
        for dtype in FLOATS {
            for (i, &len) in lengths.iter().enumerate() {
                parameters.push(Parameter::new(numbers(&[len], -1.0, 1.0, dtype, i as u64).to_device(device)?));
            }
        }
        let mut optimizer = make(parameters.clone())?;
        for step in 0..3 {
            for (i, parameter) in parameters.iter().enumerate().filter(|(i, _)| step != 1 || i % 3 > 0) {
                let value = parameter.value();
                let gradient = numbers(value.dims(), -1.0, 1.0, value.dtype(), 1000 * (step + 1) + i as u64);
                parameter.set_grad(Some(gradient.to_device(device)?))?;
            }
            optimizer.step()?;
            optimizer.zero_grad();
        }
        Ok(parameters.iter().map(Parameter::value).collect())
    };
    agree("sgd", |d| run(d, &|p| Ok(Box::new(Sgd::new(0.1).momentum(0.9).dampening(0.2).over_parameters(p)?))));
    agree("adam", |d| run(d, &|p| Ok(Box::new(Adam::new(0.01).over_parameters(p)?))));
    agree("adamw", |d| run(d, &|p| Ok(Box::new(AdamW::new(0.01).amsgrad(true).over_parameters(p)?))));
    agree("rmsprop", |d| {
        run(d, &|p| Ok(Box::new(RmsProp::new(0.01).centered(true).momentum(0.5).over_parameters(p)?)))
    });
    agree("adagrad", |d| run(d, &|p| Ok(Box::new(Adagrad::new(0.01).over_parameters(p)?))));
}

/// Norms and clipped gradients, of one dtype and of all together; the norm that is waited for and the one that is not.
#[test]
fn clipping() {
    if !gpu() {
        return;
    }
    let parameters = |device: &Device, dtypes: &[DType], odd: f64| -> Result<Vec<Parameter>> {
        let mut all = Vec::new();
        for (i, &dtype) in dtypes.iter().enumerate() {
            for (j, len) in [1usize, 0, 4097, 300, 20_000].into_iter().enumerate() {
                let mut gradient = numbers(&[len], -0.1, 0.1, dtype, 10 * i as u64 + j as u64);
                if i == 0 && len == 300 {
                    gradient.add_scaled(odd, &Tensor::ones(len, dtype, &Device::Cpu)?)?;
                }
                let parameter = Parameter::new(Tensor::zeros(len, dtype, device)?);
                parameter.set_grad(Some(gradient.to_device(device)?))?;
                all.push(parameter);
            }
        }
        // Two gradients in one piece of memory: each is scaled once.
        all.push(Parameter::new(all[3].value()));
        all[all.len() - 1].set_grad(all[3].grad())?;
        Ok(all)
    };
    let gradients = |all: &[Parameter]| all.iter().filter_map(Parameter::grad).collect::<Vec<_>>();
    let sets = FLOATS.map(|dtype| vec![dtype]).into_iter().chain([FLOATS.to_vec()]).collect::<Vec<_>>();
    for dtypes in &sets {
        for norm_type in [0.5, 1.0, 2.0, 3.0, f64::INFINITY] {
            for (max_norm, odd) in
                [(1e9, 0.0), (0.05, 0.0), (1.0, f64::INFINITY), (1.0, f64::NAN), (f64::INFINITY, 0.0)]
            {
                let what = format!("{dtypes:?} {norm_type} {max_norm} {odd}");
                agree(&what, |device| {
                    let all = parameters(device, dtypes, odd)?;
                    let norm = clip_grad_norm(&all, max_norm, norm_type)?;
                    Ok([vec![Tensor::new(norm, device)?], gradients(&all)].concat())
                });
                agree(&what, |device| {
                    let (all, waited) = (parameters(device, dtypes, odd)?, parameters(device, dtypes, odd)?);
                    let norm = clip_grad_norm_async(&all, max_norm, norm_type)?;
                    assert_eq!((norm.device(), norm.dtype(), norm.rank()), (*device, DType::F64, 0));
                    let other = clip_grad_norm(&waited, max_norm, norm_type)?;
                    assert_eq!(norm.item()?.to_bits(), other.to_bits(), "{what}");
                    for (a, b) in gradients(&all).iter().zip(gradients(&waited)) {
                        same_bits(&what, &a.to_f64_vec()?, &b.to_f64_vec()?);
                    }
                    Ok([vec![norm], gradients(&all)].concat())
                });
            }
        }
        agree("clip_grad_value", |device| {
            let all = parameters(device, dtypes, f64::NAN)?;
            clip_grad_value(&all, 0.03)?;
            Ok(gradients(&all))
        });
    }
}

/// Parameters of two devices: a norm over both that is waited for, and none that is not.
#[test]
fn two_devices() -> Result<()> {
    if !gpu() {
        return Ok(());
    }
    let make = || -> Result<Vec<Parameter>> {
        [(GPU, [3.0f32, 0.0]), (CPU, [0.0, 4.0])]
            .into_iter()
            .map(|(device, gradient)| {
                let parameter = Parameter::new(Tensor::zeros(2, DType::F32, &device)?);
                parameter.set_grad(Some(Tensor::new(gradient, &device)?))?;
                Ok(parameter)
            })
            .collect()
    };
    for (p, want) in [(2.0, 5.0), (1.0, 7.0), (f64::INFINITY, 4.0)] {
        let all = make()?;
        let norm = clip_grad_norm(&all, 1.0, p)?;
        assert!((norm - want).abs() < 1e-12, "{norm}");
        let [here, there] = [0, 1].map(|i| all[i].grad().unwrap().to_vec::<f32>().unwrap());
        assert!((here[0] as f64 - 3.0 / want).abs() < 1e-6 && (there[1] as f64 - 4.0 / want).abs() < 1e-6);
    }
    let all = make()?;
    assert!(matches!(clip_grad_norm_async(&all, 1.0, 2.0), Err(gatefold::Error::Device { .. })));
    Sgd::new(1.0).over([&all])?.step()?;
    assert_eq!(all[0].value().to_vec::<f32>()?, [-3.0, 0.0]);
    assert_eq!(all[1].value().to_vec::<f32>()?, [0.0, -4.0]);
    Ok(())
}
