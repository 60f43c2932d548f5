//! The CUDA backend against the CPU's: the same programs on both, every kernel and dtype, twice. Runs on a GPU, or with
//! `softgpu/run cargo test --features cuda --test cuda` without one; where there is no driver each test says that it is skipped,
//! or fails where `GATEFOLD_TESTS_NEED_GPU` is set.
//!
//! Random cases are the same in each run. `PROPTEST_CASES` asks for another number of them, `PROPTEST_RNG_SEED` for others,
//! `GATEFOLD_TEST_RANDOM=1` for others in each run.
#![cfg(feature = "cuda")]

#[path = "../common/gradcheck.rs"]
mod gradcheck;
#[path = "../common/nets.rs"]
mod nets;
#[path = "../common/skipped.rs"]
mod skipping;

mod captured;
mod counters;
mod errors;
mod gradients;
mod lanes;
mod layout;
mod losses;
mod memory;
mod mnist;
mod ops;
mod optim;
mod persistent;
mod properties;
mod raw;
mod recurrent;
mod recurrent_properties;
mod schedules;
mod softgpu;

use std::fmt::Debug;

use gatefold::{DType, Device, Philox, Result, Tape, Tensor, Var};
use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngSeed, TestRunner},
};

use skipping::skipped;

const CPU: Device = Device::Cpu;
const GPU: Device = Device::Cuda(0);
const FLOATS: [DType; 4] = [DType::F64, DType::F32, DType::F16, DType::BF16];

/// Whether there is a GPU; says so where there is none. A GPU that cannot be opened is a failure.
#[track_caller]
fn gpu() -> bool {
    match GPU.check("test") {
        Ok(()) => return true,
        // Where there must be one, as scripts/test says: nothing passes for want of a driver or of kernels.
        Err(e) if std::env::var_os("GATEFOLD_TESTS_NEED_GPU").is_some() => panic!("{e}"),
        Err(e) if e.to_string().contains("no NVIDIA driver") => skipped("no CUDA driver"),
        Err(e) if e.to_string().contains("no CUDA kernels") => skipped("built without nvcc"),
        Err(e) => panic!("{e}"),
    }
    false
}

/// Whether the crate keeps the device's memory, as it does unless memory checkers are to see each buffer.
fn caching() -> bool {
    std::env::var_os("GATEFOLD_NO_CUDA_MEMORY_CACHING").is_none_or(|v| v.is_empty() || v == "0")
}

/// Runs a property on random cases, and where it fails says the smallest case that does.
#[track_caller]
fn check<S: Strategy>(cases: u32, strategy: S, property: impl Fn(S::Value))
where
    S::Value: Debug,
{
    let set = |name| std::env::var_os(name).is_some();
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if !set("PROPTEST_CASES") {
        config.cases = cases;
    }
    if !set("PROPTEST_RNG_SEED") {
        let clock = || std::time::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_nanos() as u64);
        config.rng_seed = RngSeed::Fixed(if set("GATEFOLD_TEST_RANDOM") { clock() } else { 2026 });
    }
    let seed = config.rng_seed;
    let run = |case| {
        property(case);
        Ok(())
    };
    if let Err(e) = TestRunner::new(config).run(&strategy, run) {
        panic!("{e}\nPROPTEST_RNG_SEED={seed} draws it again");
    }
}

/// Runs a test in a process of its own, where no other takes memory of the device or is told of its faults. Whether this is
/// that process; where it is not, the other has passed.
fn alone(test: &str) -> bool {
    const CHILD: &str = "GATEFOLD_TEST_ALONE";
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = [child.stdout, child.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    // One that the driver ends has not said why.
    assert!(child.status.success() && said.contains("1 passed"), "{}: {said}", child.status);
    print!("{said}");
    // What it had to leave out counts here too.
    said.lines().filter_map(|line| line.strip_prefix("skipped: ")?.split_once(": ")).for_each(|(_, why)| skipped(why));
    false
}

/// What two correct answers in a dtype may differ by, relative to max(1, |x|).
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-12,
        DType::F32 => 4e-6,
        DType::F16 => 4e-3,
        DType::BF16 => 3e-2,
        _ => 0.0,
    }
}

/// Uniform numbers on the CPU.
fn numbers(shape: &[usize], low: f64, high: f64, dtype: DType, seed: u64) -> Tensor {
    Tensor::uniform(shape, low, high, dtype, &CPU, &mut Philox::seed(seed)).unwrap()
}

/// Extents from 1 to `most`.
fn extents<const N: usize>(rng: &mut Philox, most: u64) -> [usize; N] {
    std::array::from_fn(|_| 1 + rng.below(most) as usize)
}

/// Runs a program on the CPU and twice on the GPU: near to one another, and the same bits.
#[track_caller]
fn agree(what: &str, program: impl Fn(&Device) -> Result<Vec<Tensor>>) {
    agree_within(tolerance, what, program);
}

/// [`agree`] with other tolerances.
#[track_caller]
fn agree_within(tolerance: impl Fn(DType) -> f64, what: &str, program: impl Fn(&Device) -> Result<Vec<Tensor>>) {
    let read = |device: &Device| {
        program(device).and_then(|all| all.iter().map(Tensor::to_f64_vec).collect::<Result<Vec<_>>>().map(|v| (all, v)))
    };
    let ((want, want_values), (got, got_values), (_, again)) = match (read(&CPU), read(&GPU), read(&GPU)) {
        (Ok(want), Ok(got), Ok(again)) => (want, got, again),
        (want, got, _) => panic!("{what}: {:?} on the CPU, {:?} on the GPU", want.err(), got.err()),
    };
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got_tensor, want_tensor)) in got.iter().zip(&want).enumerate() {
        assert_eq!(got_tensor.device(), GPU, "{what}");
        assert_eq!((got_tensor.dims(), got_tensor.dtype()), (want_tensor.dims(), want_tensor.dtype()), "{what}");
        let bound = tolerance(got_tensor.dtype());
        let near = |got: f64, want: f64| {
            got == want
                || (got.is_nan() && want.is_nan())
                || (want.is_finite() && (got - want).abs() <= bound * want.abs().max(1.0))
        };
        let wrong = |got: &[f64]| (0..got.len()).filter(|&j| !near(got[j], want_values[i][j])).collect::<Vec<_>>();
        let places = wrong(&got_values[i]);
        if let Some(&j) = places.first() {
            // What happens once tells most by what else is wrong.
            let later = got_tensor.to_f64_vec().map(|values| wrong(&values).len());
            panic!(
                "{what}: output {i}[{j}] {}: got {}, want {}; wrong at {} of {} places (the last is {:?}), at {later:?} read once more, at {} \
                 when called again",
                got_tensor.dtype(),
                got_values[i][j],
                want_values[i][j],
                places.len(),
                want_values[i].len(),
                places.last(),
                wrong(&again[i]).len(),
            );
        }
        same_bits(&format!("{what}: output {i} of the same call twice"), &got_values[i], &again[i]);
    }
}

/// The same bits; where not, says the first place that differs and not all numbers.
#[track_caller]
fn same_bits(what: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}: how many");
    let differ = |&i: &usize| got[i].to_bits() != want[i].to_bits();
    if let Some(i) = (0..got.len()).find(differ) {
        let count = (0..got.len()).filter(differ).count();
        panic!("{what}: not the same bits at {i}: {:e} and {:e}; at {count} places of {}", got[i], want[i], got.len());
    }
}

/// [`agree`] of a function's value and, contracted with fixed numbers, its gradients.
#[track_caller]
fn agree_with_gradients(what: &str, inputs: &[Tensor], f: impl Fn(&[Var]) -> Result<Var>) {
    agree(what, |device| with_gradients(device, inputs, &f));
}

/// A function's value and, contracted with fixed numbers, its gradients.
fn with_gradients(device: &Device, inputs: &[Tensor], f: impl Fn(&[Var]) -> Result<Var>) -> Result<Vec<Tensor>> {
    let tape = Tape::new();
    let vars = inputs.iter().map(|x| Ok(tape.variable(x.to_device(device)?))).collect::<Result<Vec<_>>>()?;
    let y = f(&vars)?;
    let weights = numbers(y.dims(), -1.0, 1.0, y.dtype(), 77).to_device(device)?;
    y.mul(&tape.constant(weights))?.sum()?.backward()?;
    let all = vars.iter().enumerate().filter(|(_, var)| var.dtype().is_float());
    let gradients = all.map(|(i, var)| var.grad().unwrap_or_else(|| panic!("input {i} has no gradient")));
    Ok([y.tensor().clone()].into_iter().chain(gradients).collect())
}
