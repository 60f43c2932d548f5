//! The raw layer over memory of the driver's own, on the GPU against the CPU: accumulated and partial gradients too, on the crate's
//! stream and on one of the caller's. Each buffer is an allocation of its exact size and what is written begins as NaN, so what is
//! not written or written elsewhere shows.

use std::sync::OnceLock;

use cudarc::driver::{result, sys};
use gatefold::{
    DType, Device, Philox,
    dtype::{Element, bf16, f16},
    recurrent::*,
};
use proptest::prelude::*;

use crate::{
    CPU, GPU, check,
    counters::{counted, counting},
    gpu,
    nets::Kind,
    recurrent_properties::{Case, Form, Named, cases, compare},
};

enum Host {
    F64(Vec<f64>),
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

macro_rules! each {
    ($host:expr, $v:ident => $body:expr) => {
        match $host {
            Host::F64($v) => $body,
            Host::F32($v) => $body,
            Host::F16($v) => $body,
            Host::BF16($v) => $body,
        }
    };
}

/// The crate's context, current on this thread.
fn current() {
    static CONTEXT: OnceLock<usize> = OnceLock::new();
    // SAFETY: there is a driver and a device: `gpu` has opened it. The context is retained once and never released.
    unsafe {
        let retain = || result::primary_ctx::retain(result::device::get(0).unwrap()).unwrap();
        let context = *CONTEXT.get_or_init(|| retain() as usize);
        result::ctx::set_current(context as sys::CUcontext).unwrap();
    }
}

/// Waits for the whole context on a thread of its own, as another library of the process may. Whether somebody was capturing: the
/// driver refuses then, and the capture is over.
pub fn another_waits_for_the_context() -> bool {
    let wait = || {
        current();
        match result::ctx::synchronize() {
            Ok(()) => false,
            Err(e) if e.0 == sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED => true,
            Err(e) => panic!("{e:?}"),
        }
    };
    std::thread::spawn(wait).join().expect("it does not panic")
}

/// A stream for uploads. The driver's plain copy out of pageable memory may return before its end, and to wait for the whole context
/// is not allowed: it would end what other tests capture.
fn uploads() -> sys::CUstream {
    static STREAM: OnceLock<usize> = OnceLock::new();
    let made = || result::stream::create(result::stream::StreamKind::NonBlocking).unwrap() as usize;
    *STREAM.get_or_init(made) as sys::CUstream
}

/// Where a plan runs, how, and on which stream.
#[derive(Clone, Copy)]
pub struct Place {
    device: Device,
    /// Null: the crate's.
    theirs: sys::CUstream,
    /// Forward and backward.
    algorithms: [Algorithm; 2],
    /// Of persistent plans: layers side by side, and stretches. Then there is a pass of inference too.
    waves: Option<(usize, usize)>,
}

impl Place {
    pub fn of(device: Device) -> Place {
        Place { device, theirs: std::ptr::null_mut(), algorithms: [Algorithm::Auto; 2], waves: None }
    }

    /// On the GPU.
    pub fn by(forward: Algorithm, backward: Algorithm) -> Place {
        Place { algorithms: [forward, backward], ..Place::of(GPU) }
    }

    /// The same, so many layers side by side in that many stretches.
    pub fn in_waves(self, layers: usize, stretches: usize) -> Place {
        Place { waves: Some((layers, stretches)), ..self }
    }

    /// A stream of the caller's, which does not wait for the default one.
    fn with_stream() -> Place {
        current();
        let theirs = result::stream::create(result::stream::StreamKind::NonBlocking).unwrap();
        Place { theirs, ..Place::of(GPU) }
    }

    fn stream(self) -> Stream {
        if self.theirs.is_null() {
            return Stream::Host;
        }
        // SAFETY: the stream is never destroyed.
        Stream::Cuda(unsafe { CudaStream::from_raw(0, self.theirs.cast()) })
    }
}

/// Memory of the caller: on the host, and on the GPU where there is an address.
struct Memory {
    host: Host,
    place: Place,
    address: Option<u64>,
    len: usize,
    dtype: DType,
}

impl Memory {
    fn new(values: &[f64], dtype: DType, place: Place) -> Memory {
        fn of<T: Element>(values: &[f64]) -> Vec<T> {
            values.iter().map(|&v| <T as Element>::from_f64(v)).collect()
        }
        let host = match dtype {
            DType::F64 => Host::F64(of(values)),
            DType::F32 => Host::F32(of(values)),
            DType::F16 => Host::F16(of(values)),
            _ => Host::BF16(of(values)),
        };
        let address = (place.device == GPU).then(|| {
            current();
            // SAFETY: a context is current, and no size is 0. The copy has ended when its stream has been waited for, or comes
            // first on the caller's stream; what it copies lives as long as the memory.
            unsafe {
                let address = result::malloc_sync(values.len() * dtype.size()).unwrap();
                let stream = if place.theirs.is_null() { uploads() } else { place.theirs };
                each!(&host, v => result::memcpy_htod_async(address, v, stream).unwrap());
                if place.theirs.is_null() {
                    result::stream::synchronize(stream).unwrap();
                }
                address
            }
        });
        Memory { host, place, address, len: values.len(), dtype }
    }

    fn random(len: usize, dtype: DType, place: Place, seed: u64) -> Memory {
        Memory::new(&random(len, seed), dtype, place)
    }

    /// NaN, until somebody writes.
    fn unwritten(len: usize, dtype: DType, place: Place) -> Memory {
        Memory::new(&vec![f64::NAN; len], dtype, place)
    }

    fn of_device(&self, address: u64) -> CudaBuf<'_> {
        // SAFETY: the allocation lives as long as self, and is freed when the device has ended its work.
        unsafe { CudaBuf::new(0, address, self.len, self.dtype) }
    }

    fn buf(&self) -> Buf<'_> {
        match self.address {
            Some(address) => self.of_device(address).into(),
            None => each!(&self.host, v => v.into()),
        }
    }

    fn buf_mut(&mut self) -> BufMut<'_> {
        match self.address {
            Some(address) => self.of_device(address).into(),
            None => each!(&mut self.host, v => v.into()),
        }
    }

    fn read(&mut self) -> Vec<f64> {
        if let Some(address) = self.address {
            current();
            if self.place.theirs.is_null() {
                GPU.synchronize().unwrap();
            } else {
                // SAFETY: the stream is never destroyed.
                unsafe { result::stream::synchronize(self.place.theirs).unwrap() };
            }
            // SAFETY: the allocation is as long as the vector, and nothing writes it any more.
            each!(&mut self.host, v => unsafe { result::memcpy_dtoh_sync(v, address).unwrap() });
        }
        each!(&self.host, v => v.iter().map(|v| Element::to_f64(*v)).collect())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            current();
            // SAFETY: it came from the driver, and freeing waits for the device. An error is that of a test which fails already.
            let _ = unsafe { result::free_sync(address) };
        }
    }
}

fn random(len: usize, seed: u64) -> Vec<f64> {
    let mut rng = Philox::seed(seed);
    (0..len).map(|_| 2.0 * f64::from(rng.uniform()) - 1.0).collect()
}

/// Which of the buffers that need not be there are.
#[derive(Debug, Clone, Copy)]
pub struct Given {
    dy: bool,
    dlast: bool,
    dx: bool,
    dstates: bool,
    accumulate: bool,
    /// Of parameter i bit i; none of them where all bits are 0.
    dparameters: u64,
}

impl Given {
    /// Everything, written over what is there.
    pub const ALL: Given =
        Given { dy: true, dlast: true, dx: true, dstates: true, accumulate: false, dparameters: u64::MAX };
}

pub fn descriptor(case: &Case) -> Descriptor {
    let o = &case.options;
    let cell = match o.kind {
        Kind::Tanh => Cell::Rnn(Nonlinearity::Tanh),
        Kind::Relu => Cell::Rnn(Nonlinearity::Relu),
        Kind::Lstm => Cell::Lstm,
        Kind::Peephole => Cell::LstmPeephole,
        Kind::Gru => Cell::Gru,
        Kind::ResetBefore => Cell::GruResetBefore,
    };
    Descriptor {
        proj_size: o.proj,
        num_layers: o.layers,
        bidirectional: o.bidirectional,
        bias: o.bias,
        dropout: o.dropout,
        dtype: o.dtype,
        ..Descriptor::new(cell, o.input, o.hidden)
    }
}

pub fn run(case: &Case, given: Given, place: Place) -> Named {
    run_with(case, given, place, &|_, _| ())
}

/// The same, after `change` has been at the numbers of x, h0, c0 and each parameter, by their names.
pub fn run_with(case: &Case, given: Given, place: Place, change: &dyn Fn(&str, &mut [f64])) -> Named {
    let (device, stream) = (&place.device, place.stream());
    let (o, d, dtype) = (&case.options, descriptor(case), case.options.dtype);
    let shape = Shape { seq: case.steps, batch: case.batch() };
    let layout = if o.batch_first { Layout::BatchMajor } else { Layout::TimeMajor };
    let plan = |algorithm| {
        let plan = Plan::new(&d, shape, device).unwrap().layout(layout).algorithm(algorithm).unwrap();
        match place.waves {
            Some((layers, stretches)) => plan.wavefront(layers, stretches).unwrap(),
            None => plan,
        }
    };
    let plans = if *device == CPU { [Algorithm::Auto; 2] } else { place.algorithms }.map(plan);
    let [plan, plan_backward] = &plans;
    let batch_sizes: Vec<usize> =
        (0..case.steps).map(|t| case.lengths.iter().filter(|&&length| length > t).count()).collect();
    let (sequence, rows) = match case.form {
        Form::Full => (Sequence::Full, case.steps * case.batch()),
        Form::Lengths => (Sequence::Lengths(&case.lengths), case.steps * case.batch()),
        Form::Packed => (Sequence::Packed { batch_sizes: &batch_sizes }, batch_sizes.iter().sum()),
    };
    let states = d.num_layers * d.directions() * case.batch();
    let (h, c) = (states * d.output_size(), states * d.hidden_size);
    let lstm = d.cell.has_cell_state();
    let random = |len, seed| Memory::random(len, dtype, place, case.seed + seed);
    let some = |wanted: bool, len, seed| wanted.then(|| random(len, seed));
    let unwritten = |wanted: bool, len| wanted.then(|| Memory::unwritten(len, dtype, place));

    let input = |name: &str, mut values: Vec<f64>| {
        change(name, &mut values);
        Memory::new(&values, dtype, place)
    };
    let x = match case.form {
        Form::Packed => self::random(rows * d.input_size, case.seed + 1),
        _ => case.input().to_f64_vec().unwrap(),
    };
    let x = input("x", x);
    let state = |wanted: bool, name, len, seed| wanted.then(|| input(name, self::random(len, case.seed + seed)));
    let (h0, c0) = (state(case.given, "h0", h, 2), state(case.given && lstm, "c0", c, 3));
    let specs = d.parameters();
    let weights: Vec<Memory> = specs
        .iter()
        .enumerate()
        .map(|(i, spec)| {
            // As a layer is initialised: within 1/√H.
            let mut rng = Philox::seed(case.seed + 100 + i as u64);
            let bound = 1.0 / (d.hidden_size as f64).sqrt();
            let value = |_| (2.0 * f64::from(rng.uniform()) - 1.0) * bound;
            input(&spec.name(), (0..spec.numel()).map(value).collect())
        })
        .collect();
    let parameters: Vec<Buf<'_>> = weights.iter().map(Memory::buf).collect();
    let width = d.directions() * d.output_size();
    let mut y = Memory::unwritten(rows * width, dtype, place);
    let mut hn = Memory::unwritten(h, dtype, place);
    let mut cn = unwritten(lstm, c);
    let scratch = |len: usize| Memory::unwritten(len.max(1), plan.compute_dtype(), place);
    let mut workspace = scratch(plan.workspace_len());
    let mut forward = |outputs: [&mut Memory; 2], cn: &mut Option<Memory>, reserve: Option<&mut Memory>| {
        let [y, hn] = outputs;
        let call = Forward {
            x: x.buf(),
            h0: h0.as_ref().map(Memory::buf),
            c0: c0.as_ref().map(Memory::buf),
            parameters: &parameters,
            sequence,
            y: y.buf_mut(),
            hn: hn.buf_mut(),
            cn: cn.as_mut().map(Memory::buf_mut),
            dropout_seed: case.seed,
            workspace: workspace.buf_mut(),
            reserve: reserve.map(Memory::buf_mut),
        };
        plan.forward(&stream, call).unwrap();
    };
    let mut results = Vec::new();
    if place.waves.is_some() {
        let [mut y, mut hn] = [rows * width, h].map(|len| Memory::unwritten(len, dtype, place));
        let mut cn = unwritten(lstm, c);
        forward([&mut y, &mut hn], &mut cn, None);
        results.extend([("y in inference".to_string(), y.read()), ("hn in inference".into(), hn.read())]);
        results.extend(cn.as_mut().map(|cn| ("cn in inference".into(), cn.read())));
    }
    let mut reserve = scratch(plan.reserve_len());
    forward([&mut y, &mut hn], &mut cn, Some(&mut reserve));

    let (dy, dhn, dcn) = (some(given.dy, rows * width, 4), some(given.dlast, h, 5), some(given.dlast && lstm, c, 6));
    let mut dx = unwritten(given.dx, rows * d.input_size);
    let (mut dh0, mut dc0) = (unwritten(given.dstates, h), unwritten(given.dstates && lstm, c));
    let mut gradients: Vec<Option<Memory>> = specs
        .iter()
        .enumerate()
        .map(|(i, spec)| {
            let wanted = given.dparameters >> (i % 64) & 1 == 1;
            let seed = 200 + i as u64;
            if given.accumulate { some(wanted, spec.numel(), seed) } else { unwritten(wanted, spec.numel()) }
        })
        .collect();
    let mut dparameters: Vec<Option<BufMut<'_>>> =
        gradients.iter_mut().map(|g| g.as_mut().map(Memory::buf_mut)).collect();
    // What the forward call needed is gone.
    let mut workspace = scratch(plan_backward.workspace_len());
    plan_backward
        .backward(
            &stream,
            Backward {
                x: x.buf(),
                h0: h0.as_ref().map(Memory::buf),
                c0: c0.as_ref().map(Memory::buf),
                parameters: &parameters,
                sequence,
                dy: dy.as_ref().map(Memory::buf),
                dhn: dhn.as_ref().map(Memory::buf),
                dcn: dcn.as_ref().map(Memory::buf),
                dx: dx.as_mut().map(Memory::buf_mut),
                dh0: dh0.as_mut().map(Memory::buf_mut),
                dc0: dc0.as_mut().map(Memory::buf_mut),
                dparameters: if given.dparameters == 0 { &mut [] } else { &mut dparameters },
                accumulate: given.accumulate,
                dropout_seed: case.seed,
                workspace: workspace.buf_mut(),
                reserve: reserve.buf_mut(),
            },
        )
        .unwrap();

    results.extend([("y".to_string(), y.read()), ("hn".into(), hn.read())]);
    results.extend(cn.as_mut().map(|cn| ("cn".into(), cn.read())));
    for (name, memory) in [("x", &mut dx), ("h0", &mut dh0), ("c0", &mut dc0)] {
        results.extend(memory.as_mut().map(|m| (format!("gradient of {name}"), m.read())));
    }
    for (spec, memory) in specs.iter().zip(&mut gradients) {
        results.extend(memory.as_mut().map(|m| (format!("gradient of {}", spec.name()), m.read())));
    }
    results
}

#[test]
fn plans() {
    if !gpu() {
        return;
    }
    let parameters = prop_oneof![Just(u64::MAX), Just(0), any::<u64>()];
    let given = (any::<[bool; 5]>(), parameters).prop_map(|([dy, dlast, dx, dstates, accumulate], dparameters)| {
        Given { dy, dlast, dx, dstates, accumulate, dparameters }
    });
    check(96, (cases(), given), |(case, given)| {
        let on = |place| run(&case, given, place);
        compare(&case, &on(Place::of(CPU)), &on(Place::of(GPU)), &on(Place::with_stream()));
    });
}

/// A call of full sequences in inference, from states of zeros.
fn inference<'a>(x: &'a Memory, parameters: &'a [Buf<'a>], [y, hn, workspace]: [&'a mut Memory; 3]) -> Forward<'a> {
    Forward {
        x: x.buf(),
        h0: None,
        c0: None,
        parameters,
        sequence: Sequence::Full,
        y: y.buf_mut(),
        hn: hn.buf_mut(),
        cn: None,
        dropout_seed: 0,
        workspace: workspace.buf_mut(),
        reserve: None,
    }
}

#[test]
fn streams_of_other_devices() {
    if !gpu() {
        return;
    }
    let (descriptor, shape) = (Descriptor::new(Cell::Gru, 2, 3), Shape { seq: 1, batch: 1 });
    let place = Place::with_stream();
    // SAFETY: refused before it is looked at.
    let elsewhere = Stream::Cuda(unsafe { CudaStream::from_raw(1, place.theirs.cast()) });
    for (device, stream) in [(GPU, &elsewhere), (CPU, &place.stream())] {
        let memory = |len| Memory::new(&vec![0.0; len], DType::F32, Place::of(device));
        let (x, mut y, mut hn, mut workspace) = (memory(2), memory(3), memory(3), memory(1));
        let forward = inference(&x, &[], [&mut y, &mut hn, &mut workspace]);
        let error = Plan::new(&descriptor, shape, &device).unwrap().forward(stream, forward).unwrap_err();
        assert!(matches!(error, gatefold::Error::Device { .. }), "{error}");
    }
}

/// What waits for a stream that is being captured is captured with it: such a stream is refused, and its capture goes on.
#[test]
fn streams_that_are_captured() {
    if !gpu() {
        return;
    }
    let (descriptor, place) = (Descriptor::new(Cell::Gru, 2, 3), Place::with_stream());
    let plan = Plan::new(&descriptor, Shape { seq: 1, batch: 1 }, &GPU).unwrap();
    let memory = |len| Memory::new(&vec![0.5; len], DType::F32, Place::of(GPU));
    let parameters: Vec<Memory> = descriptor.parameters().iter().map(|spec| memory(spec.numel())).collect();
    let parameters: Vec<Buf<'_>> = parameters.iter().map(Memory::buf).collect();
    let (x, mut y, mut hn, mut workspace) = (memory(2), memory(3), memory(3), memory(plan.workspace_len()));
    let mut forward = || plan.forward(&place.stream(), inference(&x, &parameters, [&mut y, &mut hn, &mut workspace]));
    forward().unwrap();
    // SAFETY: the stream lives, and nobody else uses it.
    unsafe {
        result::stream::begin_capture(place.theirs, sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
        let error = forward().unwrap_err().to_string();
        assert!(error.contains("one that is being captured"), "{error}");
        let graph = result::stream::end_capture(place.theirs).unwrap();
        result::graph::destroy(graph).unwrap();
    }
    forward().unwrap();
}

/// What measures the pointwise kernels measures nothing else, and all of them.
#[test]
fn plans_without_products() {
    if !gpu() || !counting() {
        return;
    }
    let (place, shape) = (Place::of(GPU), Shape { seq: 5, batch: 2 });
    for cell in [Cell::Lstm, Cell::Gru, Cell::Rnn(Nonlinearity::Tanh)] {
        let descriptor = Descriptor::new(cell, 3, 4);
        let random = |len| Memory::random(len, DType::F32, place, 1);
        let weights: Vec<Memory> = descriptor.parameters().iter().map(|spec| random(spec.numel())).collect();
        let parameters: Vec<Buf<'_>> = weights.iter().map(Memory::buf).collect();
        let (x, mut y, mut hn, mut cn) = (random(5 * 2 * 3), random(5 * 2 * 4), random(2 * 4), random(2 * 4));
        let mut asked = |plan: Plan| {
            let plan = plan.graphs(false);
            let (mut workspace, mut reserve) = (random(plan.workspace_len()), random(plan.reserve_len()));
            let call = Forward {
                cn: cell.has_cell_state().then(|| cn.buf_mut()),
                reserve: Some(reserve.buf_mut()),
                ..inference(&x, &parameters, [&mut y, &mut hn, &mut workspace])
            };
            counted(|| plan.forward(&Stream::Host, call).unwrap())
        };
        let plan = Plan::new(&descriptor, shape, &GPU).unwrap().algorithm(Algorithm::Stepwise).unwrap();
        let (with, without) = (asked(plan.clone()), asked(plan.without_products()));
        assert!(with.gemm_calls >= 5, "{cell:?}: {with:?}");
        assert_eq!((without.gemm_calls, without.launches), (0, with.launches), "{cell:?}: {without:?}");
    }
}
