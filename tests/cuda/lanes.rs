//! Recurrent layers as the device sees them: layers and directions that run side by side, the caller's own memory and stream, and
//! how little is launched.

use std::ffi::c_void;

use gatefold::{
    DType, HasParameters, Philox, Result, Tape, Tensor, Var,
    nn::{Gru, Linear, Lstm, Module},
    recurrent::{Backward, Buf, BufMut, Cell, CudaBuf, CudaStream, Descriptor, Forward, Plan, Sequence, Shape, Stream},
};

use crate::{
    CPU, GPU, alone,
    counters::{Counts, counted},
    gpu,
    nets::{KINDS, Options, near, tensors, uniform},
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
    if !gpu() {
        return;
    }
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

/// Device memory and a stream that are not the crate's.
struct Theirs {
    driver: libloading::Library,
    stream: *mut c_void,
}

impl Theirs {
    fn call<F: Copy>(&self, name: &str) -> F {
        // SAFETY: callers name the type of the driver's function.
        unsafe { *self.driver.get::<F>(name.as_bytes()).unwrap() }
    }

    fn new() -> Self {
        // SAFETY: the library is open already.
        let driver = unsafe { libloading::Library::new("libcuda.so.1") }.unwrap();
        let mut theirs = Theirs { driver, stream: std::ptr::null_mut() };
        let retain: unsafe extern "C" fn(*mut *mut c_void, i32) -> i32 = theirs.call("cuDevicePrimaryCtxRetain");
        let current: unsafe extern "C" fn(*mut c_void) -> i32 = theirs.call("cuCtxSetCurrent");
        let create: unsafe extern "C" fn(*mut *mut c_void, u32) -> i32 = theirs.call("cuStreamCreate");
        let mut context = std::ptr::null_mut();
        // SAFETY: as the driver's manual has them; 1 is a stream that does not wait for the default one.
        unsafe {
            assert_eq!((retain(&mut context, 0), current(context)), (0, 0));
            assert_eq!(create(&mut theirs.stream, 1), 0);
        }
        theirs
    }

    /// Memory with those numbers once the stream has come to it.
    fn upload(&self, host: &[f32]) -> u64 {
        let alloc: unsafe extern "C" fn(*mut u64, usize) -> i32 = self.call("cuMemAlloc_v2");
        let copy: unsafe extern "C" fn(u64, *const c_void, usize, *mut c_void) -> i32 =
            self.call("cuMemcpyHtoDAsync_v2");
        let mut address = 0;
        // SAFETY: the memory is as long as what is copied, which pageable memory gives away before the call returns.
        unsafe {
            assert_eq!(alloc(&mut address, size_of_val(host).max(1)), 0);
            assert_eq!(copy(address, host.as_ptr().cast(), size_of_val(host), self.stream), 0);
        }
        address
    }

    fn download(&self, from: u64, len: usize) -> Vec<f32> {
        let copy: unsafe extern "C" fn(*mut c_void, u64, usize, *mut c_void) -> i32 = self.call("cuMemcpyDtoHAsync_v2");
        let wait: unsafe extern "C" fn(*mut c_void) -> i32 = self.call("cuStreamSynchronize");
        let mut host = vec![0f32; len];
        // SAFETY: the lengths agree, and the copy has ended when the stream was waited for.
        unsafe {
            assert_eq!(copy(host.as_mut_ptr().cast(), from, 4 * len, self.stream), 0);
            assert_eq!(wait(self.stream), 0);
        }
        host
    }
}

#[test]
fn memory_and_stream_of_the_caller() -> Result<()> {
    if !gpu() {
        return Ok(());
    }
    let descriptor = Descriptor { num_layers: 2, bidirectional: true, ..Descriptor::new(Cell::Lstm, 5, 8) };
    let shape = Shape { seq: 6, batch: 3 };
    let (rows, width, states) = (18, 16, 4);
    let numbers = |len: usize, seed: u64| -> Vec<f32> {
        Tensor::uniform(len, -0.5, 0.5, DType::F32, &CPU, &mut Philox::seed(seed)).unwrap().to_vec().unwrap()
    };
    let (x, dy) = (numbers(rows * 5, 1), numbers(rows * width, 2));
    let parameters: Vec<Vec<f32>> =
        descriptor.parameters().iter().enumerate().map(|(i, s)| numbers(s.numel(), 10 + i as u64)).collect();
    let lengths = [4, 6, 1];
    let sequence = Sequence::Lengths(&lengths);

    let plan = Plan::new(&descriptor, shape, &CPU)?;
    let (mut y, mut hn, mut cn) = (vec![0f32; rows * width], vec![0f32; states * 24], vec![0f32; states * 24]);
    let (mut workspace, mut reserve) = (vec![0f32; plan.workspace_len()], vec![0f32; plan.reserve_len()]);
    let mut dx = vec![0f32; rows * 5];
    // Added to, so that what is there counts.
    let mut gradients: Vec<Vec<f32>> = parameters.iter().map(|p| vec![0.25; p.len()]).collect();
    let bufs: Vec<Buf> = parameters.iter().map(Buf::from).collect();
    plan.forward(
        &Stream::Host,
        Forward {
            x: (&x).into(),
            h0: None,
            c0: None,
            parameters: &bufs,
            sequence,
            y: (&mut y).into(),
            hn: (&mut hn).into(),
            cn: Some((&mut cn).into()),
            dropout_seed: 0,
            workspace: (&mut workspace).into(),
            reserve: Some((&mut reserve).into()),
        },
    )?;
    // One parameter's gradient is not wanted.
    let mut wanted: Vec<Option<BufMut>> = gradients.iter_mut().map(|g| Some(g.into())).collect();
    wanted[3] = None;
    plan.backward(
        &Stream::Host,
        Backward {
            x: (&x).into(),
            h0: None,
            c0: None,
            parameters: &bufs,
            sequence,
            dy: Some((&dy).into()),
            dhn: None,
            dcn: None,
            dx: Some((&mut dx).into()),
            dh0: None,
            dc0: None,
            dparameters: &mut wanted,
            accumulate: true,
            dropout_seed: 0,
            workspace: (&mut workspace).into(),
            reserve: (&mut reserve).into(),
        },
    )?;

    let theirs = Theirs::new();
    let plan = Plan::new(&descriptor, shape, &GPU)?;
    // SAFETY: a stream of this device that is never destroyed.
    let stream = Stream::Cuda(unsafe { CudaStream::from_raw(0, theirs.stream) });
    // SAFETY: memory of that many numbers, never freed, each lent to one place of a call.
    let lent = |address: u64, len: usize| unsafe { CudaBuf::new(0, address, len, DType::F32) };
    let put = |host: &[f32]| lent(theirs.upload(host), host.len());
    let empty = |len: usize| theirs.upload(&vec![f32::NAN; len]);
    let bufs: Vec<Buf> = parameters.iter().map(|p| put(p).into()).collect();
    let (gy, ghn, gcn, gdx) = (empty(y.len()), empty(hn.len()), empty(cn.len()), empty(dx.len()));
    let (space, kept) = (empty(plan.workspace_len()), empty(plan.reserve_len()));
    let gx = put(&x);
    plan.forward(
        &stream,
        Forward {
            x: gx.into(),
            h0: None,
            c0: None,
            parameters: &bufs,
            sequence,
            y: lent(gy, y.len()).into(),
            hn: lent(ghn, hn.len()).into(),
            cn: Some(lent(gcn, cn.len()).into()),
            dropout_seed: 0,
            workspace: lent(space, plan.workspace_len()).into(),
            reserve: Some(lent(kept, plan.reserve_len()).into()),
        },
    )?;
    let sums: Vec<u64> = parameters.iter().map(|p| theirs.upload(&vec![0.25; p.len()])).collect();
    let mut wanted: Vec<Option<BufMut>> =
        sums.iter().zip(&parameters).map(|(&at, p)| Some(lent(at, p.len()).into())).collect();
    wanted[3] = None;
    plan.backward(
        &stream,
        Backward {
            x: gx.into(),
            h0: None,
            c0: None,
            parameters: &bufs,
            sequence,
            dy: Some(put(&dy).into()),
            dhn: None,
            dcn: None,
            dx: Some(lent(gdx, dx.len()).into()),
            dh0: None,
            dc0: None,
            dparameters: &mut wanted,
            accumulate: true,
            dropout_seed: 0,
            workspace: lent(space, plan.workspace_len()).into(),
            reserve: lent(kept, plan.reserve_len()).into(),
        },
    )?;
    let compare = |what: &str, at: u64, want: &[f32]| {
        for (i, (got, want)) in theirs.download(at, want.len()).iter().zip(want).enumerate() {
            assert!((got - want).abs() <= 1e-5 * want.abs().max(1.0), "{what}[{i}]: got {got}, want {want}");
        }
    };
    for (what, at, want) in [("y", gy, &y), ("hn", ghn, &hn), ("cn", gcn, &cn), ("dx", gdx, &dx)] {
        compare(what, at, want);
    }
    sums.iter().zip(&gradients).for_each(|(&at, want)| compare("a parameter's gradient", at, want));

    // SAFETY: refused before it is looked at.
    let elsewhere = Stream::Cuda(unsafe { CudaStream::from_raw(1, theirs.stream) });
    let refused = |stream: &Stream, plan: &Plan| {
        let forward = Forward {
            x: gx.into(),
            h0: None,
            c0: None,
            parameters: &bufs,
            sequence,
            y: lent(gy, y.len()).into(),
            hn: lent(ghn, hn.len()).into(),
            cn: None,
            dropout_seed: 0,
            workspace: lent(space, plan.workspace_len()).into(),
            reserve: None,
        };
        let error = plan.forward(stream, forward).unwrap_err();
        assert!(matches!(error, gatefold::Error::Device { .. }), "{error}");
    };
    refused(&elsewhere, &plan);
    refused(&stream, &Plan::new(&descriptor, shape, &CPU)?);
    Ok(())
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
    if !gpu() || !alone("lanes::launches_of_a_sequence") {
        return Ok(());
    }
    const T: usize = 12;
    let mut rng = Philox::seed(1);
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
            let Some(counts) = counted(infer) else { return Ok(()) };
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
            let Some(counts) = counted(train) else { return Ok(()) };
            undisturbed(&counts);
            assert!(counts.gemm_calls <= 2 * steps + passes * (3 * products + 1), "{name}: {counts:?}");
            assert!(counts.launches <= 2 * steps + passes * (kernels + 5) + 10, "{name}: {counts:?}");
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
    (0..5).for_each(|_| drop(train(&lstm)));
    let Some(counts) = counted(|| drop(train(&lstm))) else { return Ok(()) };
    assert_eq!((counts.graph_launches, counts.allocations), (4, 0), "forward and backward of two layers: {counts:?}");

    // Inference of a whole sequence: one launch, and nothing else.
    let gru = Gru::new(5, 8).init(&GPU, &mut rng)?;
    let infer = || drop(gru.forward(&Tape::no_grad().constant(x.clone()), None).unwrap());
    (0..3).for_each(|_| infer());
    let Some(counts) = counted(infer) else { return Ok(()) };
    undisturbed(&counts);
    assert_eq!((counts.graph_launches, counts.memsets, counts.copies_d2d), (1, 0, 0), "{counts:?}");
    GPU.allow_graphs(false)?;
    let Some(counts) = counted(infer) else { return Ok(()) };
    assert_eq!((counts.graph_launches, counts.launches > 9), (0, true), "{counts:?}");
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
    let run = || {
        let tape = Tape::new();
        let x = tape.variable(x.clone());
        let (y, _) = net.forward(&x, None)?;
        let square = y.mul(&y)?.sum()?;
        square.backward()?;
        Ok([y.tensor().to_f64_vec()?, x.grad().expect("a variable").to_f64_vec()?].concat())
    };
    let exact: Vec<f64> = run()?;
    GPU.allow_tf32(true)?;
    let rounded: Vec<f64> = run()?;
    GPU.allow_tf32(false)?;
    assert_eq!(run()?, exact);
    assert_ne!(rounded, exact);
    // Sums of 16 products of factors below 1, each rounded by 2⁻¹¹ of itself, over six steps.
    let far = rounded.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(far < 6.0 * 16.0 * 2.0 / 2048.0, "{far}");
    Ok(())
}
