//! Recurrent layers as the device sees them: layers and directions that run side by side, graphs, and how little is launched.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use gatefold::{
    DType, HasParameters, Philox, Result, Tape, Tensor, Var,
    nn::{Gru, Linear, Lstm, Module},
    recurrent::{Cell, Descriptor, Plan, Shape},
};

use crate::{
    CPU, GPU, alone,
    counters::{Counts, counted, counting},
    gpu,
    nets::{KINDS, Options, near, tensors, uniform},
    persistent::{capable, made_ready},
    raw::another_waits_for_the_context,
};

/// Outputs, last states and gradients of a net, recorded or not.
fn results(options: &Options, device: gatefold::Device, lengths: Option<&[usize]>, steps: usize) -> Vec<Tensor> {
    let net = options.net(1);
    net.module().to_device(&device).unwrap();
    let x = uniform(&[steps, 24, options.input], options.dtype, 2).to_device(&device).unwrap();
    let inference = Tape::no_grad();
    let run = |tape: &Tape| {
        let x = tape.variable(x.clone());
        let (y, last) = match lengths {
            Some(lengths) => net.forward_lengths(&x, lengths, None).unwrap(),
            None => net.forward(&x, None).unwrap(),
        };
        (x, [y].into_iter().chain(last).collect::<Vec<_>>())
    };
    net.module().eval();
    let mut all = tensors(&run(&inference).1);
    net.module().train();
    let tape = Tape::new();
    let (x, outputs) = run(&tape);
    all.extend(tensors(&outputs));
    let weights: Vec<_> = outputs
        .iter()
        .enumerate()
        .map(|(i, v)| tape.constant(uniform(v.dims(), v.dtype(), 10 + i as u64).to_device(&device).unwrap()))
        .collect();
    let parts: Vec<_> = outputs.iter().zip(&weights).map(|(v, w)| v.mul(w).unwrap().sum().unwrap()).collect();
    let loss = parts[1..].iter().fold(parts[0].clone(), |sum, part| sum.add(part).unwrap());
    loss.backward().unwrap();
    all.push(x.grad().unwrap());
    all.extend(net.module().parameters().iter().map(|p| p.grad().unwrap()));
    all
}

/// Long enough that layers run as a wavefront of several stretches: a lane that does not wait reads what is not there yet.
#[test]
fn stretches_and_directions() {
    if !gpu() || !alone("lanes::stretches_and_directions") {
        return;
    }
    // A persistent layer has fewer stretches.
    GPU.allow_persistent(false).unwrap();
    for kind in KINDS {
        for (layers, bidirectional, dropout) in [(4, false, 0.0), (2, false, 0.4), (3, true, 0.4)] {
            let options = Options { layers, bidirectional, dropout, ..Options::new(kind, 3, 4) };
            // The masks of dropout are drawn by a generator of the module's, which begins anew with it.
            let lengths: Vec<usize> = (0..24).map(|b| 1 + b * 67 % 90).collect();
            for lengths in [None, Some(&lengths[..])] {
                let want = results(&options, CPU, lengths, 90);
                let got = results(&options, GPU, lengths, 90);
                assert_eq!(want.len(), got.len());
                for (i, (want, got)) in want.iter().zip(&got).enumerate() {
                    println!("{options:?}, lengths {}: result {i}", lengths.is_some());
                    near(&got.to_device(&CPU).unwrap(), want);
                }
            }
        }
    }
}

/// Nothing but work on the device: no memory from the driver, no copies to or from the host, no waits.
#[track_caller]
fn undisturbed(counts: &Counts) {
    assert_eq!((counts.allocations, counts.host_allocations, counts.synchronisations), (0, 0, 0), "{counts:?}");
    assert_eq!((counts.copies_h2d, counts.copies_d2h), (0, 0), "{counts:?}");
}

/// A sequence is one product and one kernel a step, and for a layer and direction: one product for its input (the GRU's gates
/// lie in two pieces: two), one kernel for the biases and one for each last state.
#[test]
fn launches_of_a_sequence() -> Result<()> {
    if !gpu() || !counting() || !alone("lanes::launches_of_a_sequence") {
        return Ok(());
    }
    const T: usize = 12;
    let mut rng = Philox::seed(1);
    GPU.allow_persistent(false)?;
    for (layers, bidirectional) in [(1, false), (3, false), (2, true)] {
        let passes = (layers * if bidirectional { 2 } else { 1 }) as u64;
        let lstm = Lstm::new(5, 8).num_layers(layers).bidirectional(bidirectional).init(&GPU, &mut rng)?;
        let gru = Gru::new(5, 8).num_layers(layers).bidirectional(bidirectional).init(&GPU, &mut rng)?;
        let x = uniform(&[T, 4, 5], DType::F32, 2).to_device(&GPU)?;
        type Run<'a> = &'a dyn Fn(&Tape) -> Result<Var>;
        let runs: [(&str, Run, u64, u64); 2] = [
            ("lstm", &|tape| lstm.forward(&tape.variable(x.clone()), None).map(|(y, _)| y), 1, 3),
            ("gru", &|tape| gru.forward(&tape.variable(x.clone()), None).map(|(y, _)| y), 2, 2),
        ];
        for (name, run, products, kernels) in runs {
            let infer = || drop(run(&Tape::no_grad()).unwrap());
            infer();
            let counts = counted(infer);
            undisturbed(&counts);
            let steps = passes * T as u64;
            assert!(counts.gemm_calls <= steps + passes * products, "{name}: {counts:?}");
            assert!(counts.launches <= steps + passes * kernels, "{name}: {counts:?}");

            // Forward and backward, with the sum that makes a loss of it and its two gradients' kernels: per step again one
            // product and one kernel each way; for a layer and direction the products of dx, dW_ih and dW_hh (the GRU's
            // in two pieces each but for dW_hh), and at most five sums of the biases.
            let train = || {
                let tape = Tape::new();
                run(&tape).unwrap().sum().unwrap().backward().unwrap();
                lstm.zero_grad();
                gru.zero_grad();
            };
            (0..3).for_each(|_| train());
            let counts = counted(train);
            undisturbed(&counts);
            assert!(counts.gemm_calls <= 2 * steps + passes * (3 * products + 1), "{name}: {counts:?}");
            assert!(counts.launches <= 2 * steps + passes * (kernels + 5) + 10, "{name}: {counts:?}");
        }
    }
    Ok(())
}

/// Where a layer's steps are one launch: the input's products, the biases, that launch and the last states, however many steps there are.
/// Long sequences of several layers are cut: then a launch and a product for each stretch. What is exchanged through memory takes a
/// launch more, of each direction and stretch.
#[test]
fn launches_of_persistent_sequences() -> Result<()> {
    if !capable() || !counting() || !alone("lanes::launches_of_persistent_sequences") {
        return Ok(());
    }
    let mut rng = Philox::seed(1);
    for (layers, bidirectional) in [(1, false), (3, false), (2, true)] {
        let (layer, passes) = (layers as u64, (layers * if bidirectional { 2 } else { 1 }) as u64);
        let lstm = Lstm::new(5, 8).num_layers(layers).bidirectional(bidirectional).init(&GPU, &mut rng)?;
        for steps in [12, 40, 500] {
            let d = Descriptor { num_layers: layers, bidirectional, ..Descriptor::new(Cell::Lstm, 5, 8) };
            let plan = Plan::new(&d, Shape { seq: steps, batch: 4 }, &GPU)?;
            let plan = plan.choice().persistent().expect("it is chosen");
            let [stretches, back] = [plan.forward, plan.backward].map(|t| t.stretches as u64);
            assert_eq!([stretches > 1, back > 1], [steps == 500 && layers == 3; 2], "{plan}");
            let x = uniform(&[steps, 4, 5], DType::F32, 2).to_device(&GPU)?;
            let infer = || drop(lstm.forward(&Tape::no_grad().constant(x.clone()), None).unwrap());
            infer();
            let counts = counted(infer);
            undisturbed(&counts);
            assert_eq!(
                (counts.gemm_calls, counts.launches, counts.memsets),
                (passes * stretches, 3 * passes + (layer + made_ready() * passes) * stretches, 0),
                "{counts:?}"
            );
            let train = || {
                let tape = Tape::new();
                lstm.forward(&tape.variable(x.clone()), None).unwrap().0.sum().unwrap().backward().unwrap();
                lstm.zero_grad();
            };
            (0..3).for_each(|_| train());
            let counts = counted(train);
            undisturbed(&counts);
            assert!(counts.gemm_calls <= (2 + stretches + back) * passes, "{counts:?}");
            let all = 8 * passes + (layer + made_ready() * passes) * (stretches + back) + 10;
            assert!(counts.launches <= all, "{counts:?}");
        }
    }
    Ok(())
}

/// The second call in the same memory captures its launches, and from then on a call is one launch of the graph: the same bits.
#[test]
fn graphs_of_sequences() -> Result<()> {
    if !gpu() || !alone("lanes::graphs_of_sequences") {
        return Ok(());
    }
    let mut rng = Philox::seed(1);
    let lstm = Lstm::new(5, 8).num_layers(2).dropout(0.5).init(&GPU, &mut rng)?;
    let gru = Gru::new(16, 8).bidirectional(true).init(&GPU, &mut rng)?;
    let scale = Linear::new(5, 5).init(&GPU, &mut rng)?;
    let x = uniform(&[9, 4, 5], DType::F32, 2).to_device(&GPU)?;
    let lengths = [3, 9, 5, 1];
    let train = |lstm: &Lstm| {
        let tape = Tape::new();
        // An input that is computed, so that its memory comes from the allocator.
        let x = scale.forward(&tape.constant(x.clone())).unwrap();
        let (y, state) = lstm.forward_lengths(&x, &lengths, None).unwrap();
        let pair = Var::concat(&[&y, &y.mul(&y).unwrap()], 2).unwrap();
        let (z, last) = gru.forward(&pair, None).unwrap();
        let loss = z.mul(&z).unwrap().sum().unwrap().add(&last.sum().unwrap()).unwrap();
        loss.add(&state.c.sum().unwrap()).unwrap().backward().unwrap();
        let all = [lstm.parameters(), gru.parameters(), scale.parameters()].concat();
        let gradients = all.iter().map(|p| p.grad().unwrap().to_f64_vec().unwrap()).collect::<Vec<_>>();
        all.iter().for_each(|p| p.zero_grad());
        gradients
    };
    // The same masks in the same calls of each round: a layer's generator begins anew with it.
    let round = |graphs: bool| -> Result<Vec<_>> {
        GPU.allow_graphs(graphs)?;
        let fresh = Lstm::new(5, 8).num_layers(2).dropout(0.5).init(&GPU, &mut Philox::seed(1))?;
        Ok((0..5).map(|_| train(&fresh)).collect())
    };
    let plain = round(false)?;
    assert_ne!(plain[0], plain[1], "masks differ from call to call");
    assert_eq!(round(true)?, plain);
    // Long enough for a wavefront of persistent layers, where those are chosen.
    let long = uniform(&[300, 4, 5], DType::F32, 2).to_device(&GPU)?;
    let wave = Lstm::new(5, 8).num_layers(3).init(&GPU, &mut rng)?;
    let long_round = |graphs: bool| -> Result<Vec<_>> {
        GPU.allow_graphs(graphs)?;
        let train = || {
            let tape = Tape::new();
            let x = scale.forward(&tape.constant(long.clone())).unwrap();
            let (y, state) = wave.forward(&x, None).unwrap();
            let loss = y.mul(&y).unwrap().sum().unwrap().add(&state.c.sum().unwrap()).unwrap();
            loss.backward().unwrap();
            let all = [wave.parameters(), scale.parameters()].concat();
            let gradients = all.iter().map(|p| p.grad().unwrap().to_f64_vec().unwrap()).collect::<Vec<_>>();
            all.iter().for_each(|p| p.zero_grad());
            gradients
        };
        Ok((0..3).map(|_| train()).collect())
    };
    assert_eq!(long_round(true)?, long_round(false)?);
    GPU.allow_persistent(false)?;
    let plain = round(false)?;
    assert_eq!(round(true)?, plain);
    if !counting() {
        return Ok(());
    }
    (0..5).for_each(|_| drop(train(&lstm)));
    let counts = counted(|| drop(train(&lstm)));
    assert_eq!((counts.graph_launches, counts.allocations), (4, 0), "forward and backward of two layers: {counts:?}");

    // Inference of a whole sequence: one launch, and nothing else.
    let gru = Gru::new(5, 8).init(&GPU, &mut rng)?;
    let infer = || drop(gru.forward(&Tape::no_grad().constant(x.clone()), None).unwrap());
    (0..3).for_each(|_| infer());
    let counts = counted(infer);
    undisturbed(&counts);
    assert_eq!((counts.graph_launches, counts.memsets, counts.copies_d2d), (1, 0, 0), "{counts:?}");
    if capable() {
        // What a persistent one exchanges through memory is made ready by a kernel in it.
        GPU.allow_persistent(true)?;
        (0..3).for_each(|_| infer());
        let counts = counted(infer);
        undisturbed(&counts);
        assert_eq!((counts.graph_launches, counts.memsets, counts.copies_d2d), (1, 0, 0), "{counts:?}");
        GPU.allow_persistent(false)?;
    }
    GPU.allow_graphs(false)?;
    let counts = counted(infer);
    assert_eq!((counts.graph_launches, counts.launches > 9), (0, true), "{counts:?}");
    Ok(())
}

/// Somebody waits for the whole device while a call is captured: it is computed all the same, and a later one is captured.
#[test]
fn captures_that_others_end() -> Result<()> {
    // Only calls that meet the same addresses again are captured.
    if !gpu() || !crate::caching() || !alone("lanes::captures_that_others_end") {
        return Ok(());
    }
    GPU.allow_persistent(false)?;
    let fresh = || Lstm::new(5, 8).num_layers(2).init(&GPU, &mut Philox::seed(1));
    let inputs =
        (1..12).map(|steps| uniform(&[steps, 4, 5], DType::F32, 2).to_device(&GPU)).collect::<Result<Vec<_>>>()?;
    let infer =
        |net: &Lstm, x: &Tensor| net.forward(&Tape::no_grad().constant(x.clone()), None)?.0.tensor().to_f64_vec();
    GPU.allow_graphs(false)?;
    let lstm = fresh()?;
    let want = inputs.iter().map(|x| infer(&lstm, x)).collect::<Result<Vec<_>>>()?;
    GPU.allow_graphs(true)?;
    let met = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(120) {
                if another_waits_for_the_context() {
                    met.store(true, Ordering::Relaxed);
                    return;
                }
            }
        });
        // Other parameters in other memory each time, so that there is always something to capture.
        let mut held = Vec::new();
        while !waits.is_finished() {
            let net = fresh().unwrap();
            for (x, want) in inputs.iter().zip(&want) {
                (0..3).for_each(|_| assert!(infer(&net, x).unwrap() == *want));
            }
            held.push(net);
        }
    });
    assert!(met.into_inner(), "no capture was met");
    // A few calls are left out, then it is tried again, and goes on as ever.
    for _ in 0..8 {
        for (x, want) in inputs.iter().zip(&want) {
            assert!(infer(&lstm, x)? == *want);
        }
    }
    if counting() {
        for x in &inputs {
            let counts = counted(|| drop(infer(&lstm, x).unwrap()));
            assert_eq!(counts.graph_launches, 1, "it was not captured later: {counts:?}");
        }
    }
    Ok(())
}

/// TF32 keeps ten bits of each factor: near to f32, and not the same.
#[test]
fn tf32_by_choice() -> Result<()> {
    if !gpu() || !alone("lanes::tf32_by_choice") {
        return Ok(());
    }
    let net = Options { dtype: DType::F32, ..Options::new(KINDS[2], 16, 16) }.net(1);
    net.module().to_device(&GPU)?;
    let x = uniform(&[6, 4, 16], DType::F32, 2).to_device(&GPU)?;
    let run = || -> Result<Vec<Vec<f64>>> {
        let tape = Tape::new();
        let x = tape.variable(x.clone());
        let (y, _) = net.forward(&x, None)?;
        let square = y.mul(&y)?.sum()?;
        square.backward()?;
        let gradients = net.gradients();
        net.module().zero_grad();
        [y.tensor(), &x.grad().expect("a variable")].into_iter().chain(&gradients).map(Tensor::to_f64_vec).collect()
    };
    let exact = run()?;
    GPU.allow_tf32(true)?;
    let rounded = run()?;
    GPU.allow_tf32(false)?;
    assert_eq!(run()?, exact);
    assert_ne!(rounded, exact);
    // Both factors of a product are rounded by 2⁻¹¹ of themselves, so it by 2⁻¹⁰; of sums of 32 products such errors partly cancel, and what six
    // steps make of them comes to four times as much: of the largest number of each tensor.
    for (k, (rounded, exact)) in rounded.iter().zip(&exact).enumerate() {
        let largest = exact.iter().fold(0f64, |most, x| most.max(x.abs()));
        assert_eq!(rounded.len(), exact.len());
        for (a, b) in rounded.iter().zip(exact) {
            assert!((a - b).abs() < largest / 256.0, "tensor {k}: {a} and {b}, of at most {largest}");
        }
    }
    Ok(())
}
