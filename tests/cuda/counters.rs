//! What the driver is asked for: launches, copies, allocations, waits. softgpu counts them; a real driver does not.

use gatefold::{
    DType, Device, HasParameters, Parameter, Philox, Result, Tape, Tensor, loss::CrossEntropyLoss, nn::Linear, optim::*,
};

use crate::{CPU, GPU, alone, gpu, numbers, skipped};

/// `struct softgpu_counts` of `softgpu/include/softgpu_counters.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub launches: u64,
    pub graph_launches: u64,
    pub gemm_calls: u64,
    pub gemm_flops: u64,
    pub copies_h2d: u64,
    pub bytes_h2d: u64,
    pub copies_d2h: u64,
    pub bytes_d2h: u64,
    pub copies_d2d: u64,
    pub bytes_d2d: u64,
    pub memsets: u64,
    pub bytes_set: u64,
    pub allocations: u64,
    pub frees: u64,
    pub bytes_allocated: u64,
    pub host_allocations: u64,
    pub host_frees: u64,
    pub synchronisations: u64,
    pub event_records: u64,
    pub event_waits: u64,
    pub queries: u64,
    pub live_allocations: u64,
    pub live_bytes: u64,
    pub peak_bytes: u64,
    pub faults: u64,
}

type Reset = unsafe extern "C" fn();
type Read = unsafe extern "C" fn(*mut Counts, u64) -> i32;

fn functions() -> Option<(Reset, Read)> {
    // SAFETY: the types are those of the header; the library is never closed.
    unsafe {
        let driver = cudarc::driver::sys::culib();
        let reset = driver.get::<Reset>(b"softgpu_thread_reset\0").ok()?;
        Some((*reset, *driver.get::<Read>(b"softgpu_thread_counters\0").ok()?))
    }
}

/// Whether there is something to count and the driver does; says so where not. There is a driver.
#[track_caller]
pub fn counting() -> bool {
    if !crate::caching() {
        skipped("what is counted is that of the caching allocator");
    } else if functions().is_none() {
        skipped("this driver does not count");
    } else {
        return true;
    }
    false
}

/// What `f` asks of the driver on this thread, which counts: see [`counting`].
pub fn counted(f: impl FnOnce()) -> Counts {
    let (reset, read) = functions().expect("a driver that counts");
    // SAFETY: takes nothing.
    unsafe { reset() };
    f();
    let mut counts = Counts::default();
    // SAFETY: writes one struct of this size, or nothing where it knows another.
    assert_eq!(unsafe { read(&mut counts, size_of::<Counts>() as u64) }, 0, "softgpu_counters.h has changed");
    counts
}

/// Nothing but kernels: no memory from the driver, no copies, no waits.
#[track_caller]
fn only_kernels(what: &str, counts: Counts) {
    let Counts { copies_h2d, copies_d2h, copies_d2d, memsets, .. } = counts;
    assert_eq!((copies_h2d, copies_d2h, copies_d2d, memsets), (0, 0, 0, 0), "{what}: {counts:?}");
    steady(what, counts);
}

/// No memory from the driver, no waits.
#[track_caller]
fn steady(what: &str, counts: Counts) {
    let Counts { allocations, frees, host_allocations, host_frees, synchronisations, .. } = counts;
    assert_eq!((allocations, frees, host_allocations, host_frees), (0, 0, 0, 0), "{what}: {counts:?}");
    assert_eq!(synchronisations, 0, "{what}: {counts:?}");
}

/// Parameters of odd lengths with gradients.
fn parameters(count: usize, dtype: DType) -> Result<Vec<Parameter>> {
    (0..count)
        .map(|i| {
            let parameter = Parameter::new(numbers(&[i * 701 + 1], -1.0, 1.0, dtype, i as u64).to_device(&GPU)?);
            parameter.set_grad(Some(numbers(&[i * 701 + 1], -1.0, 1.0, dtype, i as u64 + 100).to_device(&GPU)?))?;
            Ok(parameter)
        })
        .collect()
}

#[test]
fn optimizer_steps() -> Result<()> {
    if !gpu() || !counting() {
        return Ok(());
    }
    let launches = |what: &str, optimizer: &mut dyn Optim, want: u64| {
        // The first step makes the state.
        optimizer.step().unwrap();
        let counts = counted(|| optimizer.step().unwrap());
        only_kernels(what, counts);
        assert_eq!(counts.launches, want, "{what}");
    };
    launches("sgd", &mut Sgd::new(0.1).over([&parameters(12, DType::F32)?])?, 1);
    launches("adam", &mut Adam::new(0.1).over([&parameters(12, DType::F32)?])?, 1);
    launches("adamw", &mut AdamW::new(0.1).amsgrad(true).over([&parameters(12, DType::BF16)?])?, 1);
    launches("rmsprop", &mut RmsProp::new(0.1).momentum(0.9).over([&parameters(64, DType::F16)?])?, 1);
    launches("adagrad", &mut Adagrad::new(0.1).over([&parameters(65, DType::F64)?])?, 2);
    launches("dtypes", &mut Adam::new(0.1).over([&parameters(3, DType::F32)?, &parameters(3, DType::F16)?])?, 2);
    let (early, late) = (parameters(3, DType::F32)?, parameters(3, DType::F32)?);
    let mut optimizer = Adam::new(0.1).over([&early])?;
    optimizer.step()?;
    optimizer.add_group(late.parameters(), |options| options)?;
    launches("numbers of steps", &mut optimizer, 2);
    Ok(())
}

#[test]
fn clipping() -> Result<()> {
    if !gpu() || !counting() || !alone("counters::clipping") {
        return Ok(());
    }
    let all = parameters(12, DType::F32)?;
    let clip = |max_norm: f64| {
        let run = || clip_grad_norm(&all, max_norm, 2.0).map(drop).unwrap();
        run();
        counted(run)
    };
    let counts = clip(1e9);
    assert_eq!((counts.launches, counts.synchronisations), (2, 1), "{counts:?}");
    // The norm, and the word in which kernels note faults.
    assert_eq!((counts.copies_d2h, counts.bytes_d2h), (2, 8 + 32), "{counts:?}");
    assert_eq!((counts.copies_h2d, counts.allocations, counts.host_allocations), (0, 0, 0), "{counts:?}");
    // Far below what it was, so that it is clipped each time.
    for max_norm in [1e-3, 1e-6] {
        let run = || clip_grad_norm(&all, max_norm, 2.0).map(drop).unwrap();
        let counts = counted(run);
        assert_eq!((counts.launches, counts.synchronisations, counts.copies_h2d), (3, 1, 0), "{counts:?}");
    }
    for p in [1.0, 2.0, f64::INFINITY] {
        let run = || clip_grad_norm_async(&all, 0.1, p).map(drop).unwrap();
        let counts = counted(run);
        only_kernels("clip_grad_norm_async", counts);
        assert_eq!(counts.launches, 3, "{counts:?}");
    }
    let counts = counted(|| clip_grad_value(&all, 0.1).unwrap());
    only_kernels("clip_grad_value", counts);
    assert_eq!(counts.launches, 1);
    Ok(())
}

/// Forward, backward, clipping, step, `zero_grad`: once it runs, the host only queues kernels.
#[test]
fn training_steps() -> Result<()> {
    if !gpu() || !counting() || !alone("counters::training_steps") {
        return Ok(());
    }
    const BATCH: usize = 8;
    let mut rng = Philox::seed(1);
    let layers = [(20, 16), (16, 10)].map(|(from, to)| Linear::new(from, to).init(&GPU, &mut rng).unwrap());
    let mut optimizer = Adam::new(0.01).over([&layers[0], &layers[1]])?;
    let batch = |device: &Device| {
        let x = numbers(&[BATCH, 20], -1.0, 1.0, DType::F32, 1).to_device(device).unwrap();
        let classes: Vec<i64> = (0..BATCH as i64).collect();
        (x, Tensor::from_slice(&classes, BATCH, device).unwrap())
    };
    let pass = |(x, classes): &(Tensor, Tensor)| {
        let tape = Tape::new();
        let hidden = layers[0].forward(&tape.constant(x.clone())).unwrap().tanh().unwrap();
        let loss = CrossEntropyLoss::new().forward(&layers[1].forward(&hidden).unwrap(), classes).unwrap();
        loss.backward().unwrap();
        loss.into_tensor()
    };
    let mut train = |batch: &(Tensor, Tensor), passes: usize| {
        optimizer.zero_grad();
        let losses: Vec<Tensor> = (0..passes).map(|_| pass(batch)).collect();
        clip_grad_norm_async(&optimizer, 1.0, 2.0).unwrap();
        optimizer.step().unwrap();
        losses
    };
    let there = batch(&GPU);
    let first = train(&there, 1)[0].item()?;
    for passes in [1, 2] {
        // The allocator learns what is in use at once.
        (0..3).for_each(|_| drop(train(&there, passes)));
        let counts = counted(|| (0..5).for_each(|_| drop(train(&there, passes))));
        steady(&format!("{passes} passes"), counts);
        assert_eq!((counts.copies_h2d, counts.copies_d2h), (0, 0), "{counts:?}");
        assert!(counts.launches > 0 && counts.gemm_calls >= 5 * 5 * passes as u64, "{counts:?}");
        println!("{passes} passes, 5 steps: {counts:?}");
    }
    // A batch from the host is two copies, and waits for nothing.
    let here = batch(&CPU);
    let fresh = || (here.0.to_device(&GPU).unwrap(), here.1.to_device(&GPU).unwrap());
    (0..3).for_each(|_| drop(train(&fresh(), 1)));
    GPU.synchronize()?;
    let counts = counted(|| drop(train(&fresh(), 1)));
    steady("a batch", counts);
    assert_eq!((counts.copies_h2d, counts.bytes_h2d), (2, (BATCH * 20 * 4 + BATCH * 8) as u64), "{counts:?}");
    let last = train(&there, 1)[0].item()?;
    assert!(last < first / 2.0, "it learns: {first} to {last}");
    Ok(())
}
