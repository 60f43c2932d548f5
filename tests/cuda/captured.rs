//! Captured training steps: replays are the steps themselves, to the bit, and cost one launch.

use gatefold::{
    DType, Error, HasParameters, Parameter, Philox, Result, Tape, Tensor,
    nn::{Dropout, GeneratorState, Linear, Lstm, Module},
    optim::*,
    train::{CapturedStep, Prefetch},
};

use crate::{
    CPU, GPU, alone,
    counters::{counted, counting},
    gpu, numbers,
    raw::another_waits_for_the_context,
    skipped, softgpu,
};

const STEPS: usize = 9;

/// Two layers with dropout between them, dropout behind them, and a linear map.
struct Net {
    lstm: Lstm,
    dropout: Dropout,
    out: Linear,
}

impl Module for Net {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        vec![("lstm", &self.lstm), ("dropout", &self.dropout), ("out", &self.out)]
    }
}

impl Net {
    fn new(dtype: DType, dropout: f64) -> Result<Self> {
        let mut rng = Philox::seed(3);
        Ok(Net {
            lstm: Lstm::new(3, 8).num_layers(2).dropout(dropout).dtype(dtype).init(&GPU, &mut rng)?,
            dropout: Dropout::new(dropout).init(&GPU, &mut rng)?,
            out: Linear::new(8, 4).dtype(dtype).init(&GPU, &mut rng)?,
        })
    }

    /// The loss in f32, its gradients made.
    fn loss(&self, [x, y]: [&Tensor; 2]) -> Result<gatefold::Var> {
        let tape = Tape::new();
        let (states, _) = self.lstm.forward(&tape.constant(x.clone()), None)?;
        let last = self.dropout.forward(&states.select(0, -1)?)?;
        // The same generator twice in a step.
        let scores = self.out.forward(&self.dropout.forward(&last)?)?;
        scores.to_dtype(DType::F32)?.cross_entropy(y)
    }
}

/// Batches of four, and in the middle one of two.
fn batch(i: usize, dtype: DType) -> [Tensor; 2] {
    let count = if i == 5 { 2 } else { 4 };
    let classes: Vec<i64> = (0..count as i64).map(|b| (b + i as i64) % 4).collect();
    let x = numbers(&[6, count, 3], -1.0, 1.0, dtype, i as u64).to_device(&GPU).unwrap();
    [x, Tensor::from_slice(&classes, count, &GPU).unwrap()]
}

/// What a run leaves, to compare to the bit.
#[derive(Debug, PartialEq)]
struct Outcome {
    losses: Vec<u64>,
    parameters: Vec<Vec<u64>>,
    gradients: Vec<Option<Vec<u64>>>,
    numbers: Vec<(String, u64)>,
    tensors: Vec<(String, Vec<u64>)>,
    generators: Vec<(String, GeneratorState)>,
}

fn bits(tensor: &Tensor) -> Vec<u64> {
    tensor.to_f64_vec().unwrap().into_iter().map(f64::to_bits).collect()
}

fn outcome(net: &Net, optimizer: &dyn Optim, losses: &[Tensor]) -> Outcome {
    let state = optimizer.state();
    Outcome {
        losses: losses.iter().map(|loss| loss.item().unwrap().to_bits()).collect(),
        parameters: net.parameters().iter().map(|p| bits(&p.value())).collect(),
        gradients: net.parameters().iter().map(|p| p.grad().as_ref().map(bits)).collect(),
        numbers: state.numbers.into_iter().map(|(name, n)| (name, n.to_bits())).collect(),
        tensors: state.tensors.into_iter().map(|(name, t)| (name, bits(&t))).collect(),
        generators: net.generator_states(),
    }
}

/// Steps with a schedule, clipping and dropout, captured or not; and with a scaler where there is one.
fn train<A: Algorithm>(
    captured: bool,
    dtype: DType,
    rule: &dyn Fn(&Net) -> Optimizer<A>,
    scaler: Option<GradScaler>,
) -> Outcome {
    let net = Net::new(dtype, 0.3).unwrap();
    let (mut optimizer, mut scaler) = (rule(&net), scaler);
    let mut schedule = ExponentialLr::new(0.9).over(&mut optimizer).unwrap();
    let mut step = CapturedStep::new();
    let mut losses = Vec::new();
    for i in 0..STEPS {
        let [x, y] = batch(i, dtype);
        let mut body = |inputs: [&Tensor; 2], optimizer: &mut Optimizer<A>| {
            let loss = net.loss(inputs)?;
            optimizer.zero_grad();
            match &mut scaler {
                None => {
                    loss.backward()?;
                    clip_grad_norm_async(&net, 0.5, 2.0)?;
                    optimizer.step()?;
                }
                Some(scaler) => {
                    scaler.scale(&loss)?.backward()?;
                    scaler.unscale(&net)?;
                    clip_grad_norm_async(&net, 0.5, 2.0)?;
                    scaler.step(optimizer)?;
                    scaler.update()?;
                }
            }
            Ok([loss.into_tensor()])
        };
        let [loss] = if captured {
            step.run([&x, &y], &mut optimizer, body).unwrap()
        } else {
            body([&x, &y], &mut optimizer).unwrap()
        };
        losses.push(loss);
        if i % 3 == 2 {
            schedule.step(&mut optimizer).unwrap();
        }
    }
    assert_eq!(step.is_recorded(), captured && crate::caching());
    if let Some(scaler) = &scaler {
        assert!(scaler.get_scale().unwrap() < 1e5);
    }
    outcome(&net, &optimizer, &losses)
}

#[test]
fn replays_are_the_steps_themselves() {
    if !gpu() {
        return;
    }
    fn same<A: Algorithm>(dtype: DType, rule: impl Fn(&Net) -> Optimizer<A>) {
        let plain = train(false, dtype, &rule, None);
        assert!(plain.losses.windows(2).all(|w| w[0] != w[1]));
        assert_eq!(train(true, dtype, &rule, None), plain);
    }
    same(DType::F32, |net| Sgd::new(0.1).over([net]).unwrap());
    same(DType::F32, |net| Sgd::new(0.1).momentum(0.9).dampening(0.5).over([net]).unwrap());
    same(DType::F32, |net| AdamW::new(0.01).amsgrad(true).over([net]).unwrap());
    same(DType::F64, |net| Adam::new(0.01).over([net]).unwrap());
    same(DType::BF16, |net| Adam::new(0.01).master_weights(true).over([net]).unwrap());
    same(DType::F32, |net| RmsProp::new(0.01).momentum(0.5).centered(true).over([net]).unwrap());
    same(DType::F64, |net| Adagrad::new(0.1).lr_decay(0.1).over([net]).unwrap());
    // Two groups, of settings of their own.
    same(DType::F32, |net| {
        let mut optimizer = Adam::new(0.01).over([&net.lstm]).unwrap();
        optimizer.add_group(net.out.parameters(), |options| options.lr(0.1)).unwrap();
        optimizer
    });
}

/// Masks, comparisons with numbers and picks are made on the device: nothing of them is read while a step is recorded.
#[test]
fn masks_inside_of_a_step() {
    if !gpu() {
        return;
    }
    let run = |captured: bool| {
        let out = Linear::new(3, 4).init(&GPU, &mut Philox::seed(3)).unwrap();
        let (mut optimizer, mut step) = (Sgd::new(0.1).over([&out]).unwrap(), CapturedStep::new());
        let body = |[x, y]: [&Tensor; 2], optimizer: &mut Optimizer<Sgd>| {
            let scores = out.forward(&Tape::new().constant(x.clone()))?;
            let padding = y.ne(3)?.logical_and(&y.ge(0)?)?.logical_not()?.unsqueeze(-1)?;
            let leaky = scores.where_cond(&scores.tensor().gt(0)?, &scores.mul_scalar(0.1)?)?;
            let chosen = leaky.masked_fill(&padding, 0.0)?.gather(1, &y.unsqueeze(-1)?)?;
            let loss = chosen.sum()?.add(&leaky.topk(2, -1)?.0.sum()?)?;
            optimizer.zero_grad();
            loss.backward()?;
            optimizer.step()?;
            Ok([loss.into_tensor()])
        };
        let losses: Vec<u64> = (0..STEPS)
            .map(|i| {
                let [x, y] = batch(2 * i % 4, DType::F32);
                let x = x.select(0, 0).unwrap();
                let result =
                    if captured { step.run([&x, &y], &mut optimizer, body) } else { body([&x, &y], &mut optimizer) };
                result.unwrap()[0].item().unwrap().to_bits()
            })
            .collect();
        assert_eq!(step.is_recorded(), captured && crate::caching());
        losses
    };
    assert_eq!(run(true), run(false));
}

/// Dropout stands between layers: of one it draws nothing, recorded or not.
#[test]
fn one_layer_with_dropout() {
    if !gpu() {
        return;
    }
    let run = |captured: bool| {
        let lstm = Lstm::new(3, 8).dropout(0.5).init(&GPU, &mut Philox::seed(3)).unwrap();
        let (mut optimizer, mut step) = (Sgd::new(0.1).over([&lstm]).unwrap(), CapturedStep::new());
        let body = |[x, _]: [&Tensor; 2], optimizer: &mut Optimizer<Sgd>| {
            let loss = lstm.forward(&Tape::new().constant(x.clone()), None)?.0.sum()?;
            optimizer.zero_grad();
            loss.backward()?;
            optimizer.step()?;
            Ok([loss.into_tensor()])
        };
        for _ in 0..5 {
            let [x, y] = batch(0, DType::F32);
            match captured {
                true => step.run([&x, &y], &mut optimizer, body).unwrap(),
                false => body([&x, &y], &mut optimizer).unwrap(),
            };
        }
        assert_eq!(step.is_recorded(), captured && crate::caching());
        lstm.parameters().iter().map(|p| bits(&p.value())).collect::<Vec<_>>()
    };
    assert_eq!(run(true), run(false));
}

/// f16 with a scale so large that the first steps overflow and are skipped; inside of a replay too.
#[test]
fn scaled_steps() {
    if !gpu() {
        return;
    }
    let rule = |net: &Net| Adam::new(0.01).master_weights(true).over([net]).unwrap();
    let scaler = || GradScaler::new(&GPU).unwrap().init_scale(1e9).unwrap().backoff_factor(0.125).unwrap();
    let plain = train(false, DType::F16, &rule, Some(scaler()));
    assert_eq!(train(true, DType::F16, &rule, Some(scaler())), plain);
    let steps: Vec<f64> =
        plain.numbers.iter().filter(|(name, _)| name.ends_with(".step")).map(|(_, n)| f64::from_bits(*n)).collect();
    assert!(steps.iter().all(|&n| n > 0.0 && n < STEPS as f64), "some steps were skipped, and not counted: {steps:?}");
}

/// One launch, nothing from the driver, no copies but inputs and results.
#[test]
fn one_launch() -> Result<()> {
    if !gpu() || !counting() || !alone("captured::one_launch") {
        return Ok(());
    }
    let net = Net::new(DType::F32, 0.3)?;
    let mut optimizer = AdamW::new(0.01).over([&net])?;
    let mut step = CapturedStep::new();
    let [x, y] = batch(0, DType::F32);
    let body = |inputs: [&Tensor; 2], optimizer: &mut Optimizer<AdamW>| {
        let loss = net.loss(inputs)?;
        optimizer.zero_grad();
        loss.backward()?;
        clip_grad_norm_async(&net, 1.0, 2.0)?;
        optimizer.step()?;
        Ok([loss.into_tensor()])
    };
    body([&x, &y], &mut optimizer)?;
    let plain = counted(|| drop(body([&x, &y], &mut optimizer).unwrap()));
    let mut run = || step.run([&x, &y], &mut optimizer, body).unwrap();
    (0..6).for_each(|_| drop(run()));
    let counts = counted(|| drop(run()));
    assert_eq!(counts.graph_launches, 1, "{counts:?}");
    assert_eq!((counts.allocations, counts.frees, counts.host_allocations), (0, 0, 0), "{counts:?}");
    assert_eq!((counts.copies_h2d, counts.copies_d2h, counts.synchronisations), (0, 0, 0), "{counts:?}");
    // Two inputs and the loss, beside what is a part of the step: a select is a copy.
    assert_eq!(counts.copies_d2d, plain.copies_d2d + 3, "{counts:?}");
    assert!(run()[0].item()?.is_finite());
    Ok(())
}

/// A training loop that reads its loss every fourth step waits for the device as often, and no more; batches arrive beside the work.
#[test]
fn waits_once_every_few_steps() -> Result<()> {
    if !gpu() || !counting() || !alone("captured::waits_once_every_few_steps") {
        return Ok(());
    }
    let net = Net::new(DType::F32, 0.0)?;
    let mut optimizer = Sgd::new(0.1).over([&net])?;
    let mut step = CapturedStep::new();
    let host = |i: usize| -> Result<[Tensor; 2]> {
        let [x, y] = batch(i % 4, DType::F32);
        Ok([x.to_device(&CPU)?, y.to_device(&CPU)?])
    };
    let all = (0..32).map(host).collect::<Result<Vec<_>>>()?;
    let mut epoch = || {
        let mut read = 0.0;
        for (i, batch) in Prefetch::new(all.iter().cloned().map(Ok), &GPU).unwrap().enumerate() {
            let [x, y] = batch.unwrap();
            let body = |inputs: [&Tensor; 2], optimizer: &mut Optimizer<Sgd>| {
                let loss = net.loss(inputs)?;
                optimizer.zero_grad();
                loss.backward()?;
                optimizer.step()?;
                Ok([loss.into_tensor()])
            };
            let [loss] = step.run([&x, &y], &mut optimizer, body).unwrap();
            if i % 4 == 3 {
                read = loss.item().unwrap();
            }
        }
        read
    };
    let first = epoch();
    let mut last = 0.0;
    let counts = counted(|| last = epoch());
    assert_eq!(counts.synchronisations, 32 / 4, "{counts:?}");
    assert_eq!((counts.copies_h2d, counts.graph_launches), (2 * 32, 32), "{counts:?}");
    assert_eq!((counts.allocations, counts.host_allocations), (0, 0), "{counts:?}");
    assert!(last < first);
    Ok(())
}

fn body<'a>(net: &'a Net) -> impl FnMut([&Tensor; 2], &mut Optimizer<Adam>) -> Result<[Tensor; 1]> + 'a {
    |inputs, optimizer| {
        let loss = net.loss(inputs)?;
        optimizer.zero_grad();
        loss.backward()?;
        optimizer.step()?;
        Ok([loss.into_tensor()])
    }
}

/// Who holds parameters, gradients or state keeps them as they are; parameters that are set anew are what goes on.
#[test]
fn what_others_hold_stays() -> Result<()> {
    if !gpu() {
        return Ok(());
    }
    let run = |captured: bool| -> Result<Vec<Vec<Vec<u64>>>> {
        let net = Net::new(DType::F32, 0.3)?;
        let mut optimizer = Adam::new(0.01).over([&net])?;
        let mut step = CapturedStep::new();
        let mut held: Vec<Vec<Tensor>> = Vec::new();
        let fresh: Vec<Tensor> = net.parameters().iter().map(|p| p.value().to_device(&CPU).unwrap()).collect();
        for i in 0..16 {
            let [x, y] = batch(0, DType::F32);
            if captured {
                step.run([&x, &y], &mut optimizer, body(&net))?;
            } else {
                body(&net)([&x, &y], &mut optimizer)?;
            }
            match i {
                4 => held.push(net.parameters().iter().map(Parameter::value).collect()),
                7 => held.push(net.parameters().iter().filter_map(Parameter::grad).collect()),
                9 => held.push(optimizer.state().tensors.into_values().collect()),
                12 => net.parameters().iter().zip(&fresh).try_for_each(|(p, v)| p.set_value(v.to_device(&GPU)?))?,
                13 => optimizer.zero_grad(),
                _ => {}
            }
        }
        held.push(net.parameters().iter().map(Parameter::value).collect());
        Ok(held.iter().map(|tensors| tensors.iter().map(bits).collect()).collect())
    };
    assert_eq!(run(true)?, run(false)?);
    Ok(())
}

/// Learning rates that part and meet, plain steps and loaded states in between, momenta that come and go, generators put back, gradients
/// that others have made: the next call is what the step as written would be.
#[test]
fn what_changes_in_between() -> Result<()> {
    if !gpu() {
        return Ok(());
    }
    let run = |captured: bool, zero: bool| -> Result<Outcome> {
        let net = Net::new(DType::F32, 0.3)?;
        let mut optimizer = Sgd::new(0.1).over([&net.lstm])?;
        optimizer.add_group(net.out.parameters(), |options| options)?;
        let mut step = CapturedStep::new();
        let mut losses = Vec::new();
        let mut saved = None;
        for i in 0..40 {
            let [x, y] = batch(0, DType::F32);
            let body = |inputs: [&Tensor; 2], optimizer: &mut Optimizer<Sgd>| {
                let loss = net.loss(inputs)?;
                if zero {
                    optimizer.zero_grad();
                }
                loss.backward()?;
                optimizer.step()?;
                Ok([loss.into_tensor()])
            };
            let [loss] =
                if captured { step.run([&x, &y], &mut optimizer, body)? } else { body([&x, &y], &mut optimizer)? };
            losses.push(loss);
            match i {
                4 => optimizer.set_lr(1, 0.3)?,
                9 => optimizer.set_lr(0, 0.3)?,
                14 => optimizer.step()?,
                18 => saved = Some((optimizer.state(), net.generator_states())),
                19 => optimizer.set_momentum(0.5)?,
                24 => optimizer.set_momentum(0.0)?,
                28 => optimizer.load_state(&saved.as_ref().unwrap().0)?,
                29 => net.set_generator_states(&saved.as_ref().unwrap().1)?,
                // A micro-batch before the step.
                33 => net.loss([&x, &y])?.backward()?,
                36 => optimizer.zero_grad(),
                _ => {}
            }
        }
        Ok(outcome(&net, &optimizer, &losses))
    };
    for zero in [true, false] {
        assert_eq!(run(true, zero)?, run(false, zero)?, "zero_grad in the step: {zero}");
    }
    Ok(())
}

/// Replays a step that changes nothing, as long as `goes_on` says so: its loss is always the same.
pub fn replay_while(goes_on: impl Fn() -> bool) -> Result<()> {
    let net = Net::new(DType::F32, 0.0)?;
    let mut optimizer = Adam::new(0.0).over([&net])?;
    let mut step = CapturedStep::new();
    let [x, y] = batch(0, DType::F32);
    let mut loss = || step.run([&x, &y], &mut optimizer, body(&net))?[0].item();
    let first = loss()?;
    while goes_on() {
        assert_eq!(loss()?, first, "the loss of a step that changes nothing");
    }
    Ok(())
}

/// A step that panics while it is recorded leaves the device as it was.
#[test]
fn panics() -> Result<()> {
    if !gpu() || !crate::caching() || !alone("captured::panics") {
        return Ok(());
    }
    let net = Net::new(DType::F32, 0.0)?;
    let mut optimizer = Adam::new(0.01).over([&net])?;
    let mut step = CapturedStep::new();
    let [x, y] = batch(0, DType::F32);
    let mut run = |optimizer: &mut Optimizer<Adam>, bad: bool| {
        step.run([&x, &y], optimizer, |inputs, optimizer: &mut Optimizer<Adam>| {
            let [loss] = body(&net)(inputs, optimizer)?;
            assert!(!bad || loss.item().is_ok(), "a planted panic");
            Ok([loss])
        })
    };
    run(&mut optimizer, false)?;
    run(&mut optimizer, false)?;
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&mut optimizer, true)));
    assert!(caught.is_err());
    let before = GPU.memory_stats()?.reserved_bytes;
    for _ in 0..8 {
        let [loss] = run(&mut optimizer, false)?;
        assert!(loss.item()?.is_finite());
        assert_eq!(bits(&numbers(&[100], -1.0, 1.0, DType::F32, 1).to_device(&GPU)?).len(), 100);
    }
    // What is let go is handed out again.
    assert!(GPU.memory_stats()?.reserved_bytes < before + (1 << 20));
    Ok(())
}

/// A step may return its inputs; it may not keep them.
#[test]
fn inputs_that_are_results() -> Result<()> {
    if !gpu() || !crate::caching() {
        return Ok(());
    }
    let net = Net::new(DType::F32, 0.0)?;
    let mut optimizer = Adam::new(0.01).over([&net])?;
    let mut step = CapturedStep::new();
    for i in 0..5 {
        let [x, y] = batch(i % 4, DType::F32);
        let [_, back] = step.run([&x, &y], &mut optimizer, |[x, y], optimizer: &mut Optimizer<Adam>| {
            let [loss] = body(&net)([x, y], optimizer)?;
            Ok([loss, x.clone()])
        })?;
        assert_eq!(bits(&back), bits(&x));
    }
    let (mut step, mut kept) = (CapturedStep::new(), Vec::new());
    let [x, y] = batch(0, DType::F32);
    let mut run = || {
        step.run([&x, &y], &mut optimizer, |[x, y], optimizer: &mut Optimizer<Adam>| {
            kept.push(x.clone());
            body(&net)([x, y], optimizer)
        })
    };
    run()?;
    run()?;
    let error = run().unwrap_err().to_string();
    assert!(error.contains("keeps its inputs"), "{error}");
    Ok(())
}

/// Memory that a recorded step reads is not handed out to others as long as it may be replayed, even when the host has let it go.
#[test]
fn memory_of_a_recording() -> Result<()> {
    if !gpu() || !alone("captured::memory_of_a_recording") {
        return Ok(());
    }
    // What the libraries keep for themselves.
    let [x, y] = batch(0, DType::F32);
    Net::new(DType::F32, 0.0)?.loss([&x, &y])?.backward()?;
    drop((x, y));
    let before = GPU.memory_stats()?.allocated_bytes;
    let net = Net::new(DType::F32, 0.0)?;
    let mut optimizer = Sgd::new(0.0).over([&net])?;
    let mut step = CapturedStep::new();
    let [x, y] = batch(0, DType::F32);
    let mut weights = Some(numbers(&[4], 1.0, 2.0, DType::F32, 9).to_device(&GPU)?);
    let mut losses = Vec::new();
    for i in 0..8 {
        let [loss] = step.run([&x, &y], &mut optimizer, |inputs, optimizer: &mut Optimizer<Sgd>| {
            let loss = net.loss(inputs)?;
            let weighted = loss.mul(&loss.tape().constant(weights.clone().expect("until it is recorded")))?.sum()?;
            optimizer.zero_grad();
            weighted.backward()?;
            optimizer.step()?;
            Ok([weighted.into_tensor()])
        })?;
        losses.push(loss.item()?);
        if i == 4 && step.is_recorded() {
            weights = None;
        }
        // Others take memory of every size, and write to it.
        let others: Vec<Tensor> =
            (0..40).map(|n| Tensor::full([1 << (n % 12)], -7.0, DType::F32, &GPU).unwrap()).collect();
        drop(others);
    }
    assert!(losses.iter().all(|&loss| loss == losses[0] && loss > 0.0), "{losses:?}");
    let (held, was) = (GPU.memory_stats()?.allocated_bytes, before);
    drop((step, optimizer, net, x, y, weights));
    assert!(held > was);
    assert_eq!(GPU.memory_stats()?.allocated_bytes, was, "all of it comes back");
    Ok(())
}

/// What a replay could not do is refused, by name, and leaves everything as it was.
#[test]
fn refusals() -> Result<()> {
    if !gpu() || !crate::caching() {
        return Ok(());
    }
    type Extra<'a> = &'a dyn Fn(&gatefold::Var) -> Result<()>;
    let other = Parameter::new(Tensor::ones([3], DType::F32, &GPU)?);
    let ragged = Lstm::new(3, 2).init(&GPU, &mut Philox::seed(1))?;
    let extras: [(&str, Extra); 7] = [
        ("read", &|loss| loss.item().map(drop)),
        ("copy from the host", &|_| Tensor::new([1.0f32], &GPU).map(drop)),
        ("random", &|_| Tensor::uniform([3], 0.0, 1.0, DType::F32, &GPU, &mut Philox::seed(1)).map(drop)),
        ("drawn by a module", &|loss| loss.dropout(0.5, 1, 2).map(drop)),
        ("read", &|_| GPU.synchronize()),
        ("copy from the host", &|loss| {
            let x = loss.tape().constant(Tensor::ones([4, 2, 3], DType::F32, &GPU)?);
            ragged.forward_lengths(&x, &[4, 2], None).map(drop)
        }),
        ("parameters than in the step before", &|_| {
            other.set_grad(Some(Tensor::ones([3], DType::F32, &GPU)?))?;
            Sgd::new(0.1).over([&other])?.step()
        }),
    ];
    for (what, extra) in extras {
        let net = Net::new(DType::F32, 0.3)?;
        let mut optimizer = Adam::new(0.01).over([&net])?;
        let mut step = CapturedStep::new();
        let [x, y] = batch(0, DType::F32);
        let mut i = 0;
        let mut run = |optimizer: &mut Optimizer<Adam>, with: bool| {
            i += 1;
            step.run([&x, &y], optimizer, |inputs, optimizer: &mut Optimizer<Adam>| {
                let loss = net.loss(inputs)?;
                optimizer.zero_grad();
                loss.backward()?;
                optimizer.step()?;
                if with {
                    extra(&loss)?;
                }
                Ok([loss.into_tensor()])
            })
        };
        run(&mut optimizer, false)?;
        run(&mut optimizer, false)?;
        optimizer.zero_grad();
        let before = outcome(&net, &optimizer, &[]);
        let error = run(&mut optimizer, true).expect_err(what).to_string();
        assert!(error.contains(what), "{what}: {error}");
        assert_eq!(outcome(&net, &optimizer, &[]), before, "{what}");
        // And without it goes on, as if nothing had been.
        let [loss] = run(&mut optimizer, false)?;
        assert!(loss.item()?.is_finite());
        assert_eq!(optimizer.state().numbers["state.0.step"], 3.0);
    }
    Ok(())
}

/// Somebody waits for the whole device while a step is recorded: an `Err` that says so, everything as it was, and it goes on.
#[test]
fn recordings_that_others_end() -> Result<()> {
    if !gpu() || !crate::caching() || !alone("captured::recordings_that_others_end") {
        return Ok(());
    }
    let [x, y] = batch(0, DType::F32);
    // Where in the step somebody waits, and whether gradients are added to those of the step before.
    let run = |captured: bool, ended: Option<usize>, zero: bool| -> Result<Outcome> {
        let net = Net::new(DType::F32, 0.3)?;
        let mut optimizer = Adam::new(0.01).over([&net])?;
        let mut step = CapturedStep::new();
        let mut losses = Vec::new();
        let body = |[x, y]: [&Tensor; 2], optimizer: &mut Optimizer<Adam>, ended: Option<usize>| {
            let meets = |place| ended != Some(place) || another_waits_for_the_context();
            assert!(meets(0));
            let loss = net.loss([x, y])?;
            assert!(meets(1));
            if zero {
                optimizer.zero_grad();
            }
            loss.backward()?;
            optimizer.step()?;
            assert!(meets(2));
            Ok([loss.into_tensor()])
        };
        for i in 0..7 {
            if let Some(place) = ended.filter(|_| i == 2) {
                if zero {
                    optimizer.zero_grad();
                }
                let before = outcome(&net, &optimizer, &losses);
                let error = step.run([&x, &y], &mut optimizer, |inputs, o: &mut _| body(inputs, o, Some(place)));
                let error = error.expect_err("the recording was ended");
                assert!(matches!(error, Error::Unavailable { .. }), "{error}");
                assert!(error.to_string().contains("the capture was invalidated"), "{error}");
                assert_eq!(outcome(&net, &optimizer, &losses), before, "ended at {place}");
                assert!(!step.is_recorded());
            }
            let [loss] = if captured {
                step.run([&x, &y], &mut optimizer, |inputs, o: &mut _| body(inputs, o, None))?
            } else {
                body([&x, &y], &mut optimizer, None)?
            };
            losses.push(loss);
        }
        assert_eq!(step.is_recorded(), captured);
        Ok(outcome(&net, &optimizer, &losses))
    };
    for zero in [true, false] {
        let plain = run(false, None, zero)?;
        for place in 0..3 {
            assert_eq!(run(true, Some(place), zero)?, plain, "ended at {place}, zero_grad in the step: {zero}");
        }
    }
    Ok(())
}

/// Batches come in their order, on the device, and a batch that is not taken does no harm.
#[test]
fn prefetched_batches() -> Result<()> {
    if !gpu() {
        return Ok(());
    }
    let host = |i: usize| numbers(&[i * 37 + 1], -1.0, 1.0, DType::F32, i as u64);
    for (i, batch) in Prefetch::new((0..20).map(|i| Ok([host(i)])), &GPU)?.enumerate() {
        let [x] = batch?;
        assert_eq!(x.device(), GPU);
        let twice = Tape::no_grad().constant(x.clone()).add(&Tape::no_grad().constant(x));
        assert!(twice.is_err(), "two tapes");
        let [x] = [host(i).to_device(&GPU)?];
        assert_eq!(bits(&x), bits(&host(i)));
        if i == 10 {
            break;
        }
    }
    let mut prefetch = Prefetch::new((0..20).map(|i| Ok([host(i)])), &GPU)?;
    assert_eq!(prefetch.size_hint(), (20, Some(20)));
    for i in 0..20 {
        let [x] = prefetch.next().expect("a batch")?;
        assert_eq!(bits(&x), bits(&host(i)));
    }
    assert!(prefetch.next().is_none());
    Ok(())
}

/// A recording is of one device: its replays would not do what another one did.
#[test]
fn a_recording_is_of_one_device() -> Result<()> {
    if !gpu() || !crate::caching() {
        return Ok(());
    }
    let other = gatefold::Device::Cuda(1);
    if other.check("a second device").is_err() {
        if !softgpu::present() {
            skipped("there is one device");
            return Ok(());
        }
        // softgpu has two where it is told so, in a process of its own.
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "captured::a_recording_is_of_one_device", "--nocapture"])
            .env("SOFTGPU_DEVICE", "h200,h200")
            .output()
            .unwrap();
        let said = [child.stdout, child.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
        return Ok(());
    }
    let mut rng = Philox::seed(1);
    let net = Linear::new(3, 2).init(&GPU, &mut rng)?;
    let x = numbers(&[4, 3], -1.0, 1.0, DType::F32, 5);
    let (here, there) = (x.to_device(&GPU)?, x.to_device(&other)?);
    let mut optimizer = Sgd::new(0.1).over([&net])?;
    let mut step = CapturedStep::new();
    let mut on_both = |both: bool| {
        step.run([&here], &mut optimizer, |[x], optimizer| {
            if both {
                Tape::no_grad().constant(there.clone()).tanh()?;
            }
            let y = net.forward(&Tape::new().constant(x.clone()))?;
            let loss = y.mul(&y)?.mean()?;
            loss.backward()?;
            optimizer.step()?;
            optimizer.zero_grad();
            Ok([loss.into_tensor()])
        })
    };
    let calls = (0..4).map(|_| on_both(true).map(|_| ())).collect::<Vec<_>>();
    let refused = calls.iter().find_map(|call| call.as_ref().err()).expect("a recording that uses both").to_string();
    assert!(refused.contains("cuda:1") && refused.contains("work of cuda:0 is being recorded"), "{refused}");
    // Without it the step is recorded as ever.
    for _ in 0..4 {
        on_both(false)?;
    }
    assert!(step.is_recorded());
    Ok(())
}
