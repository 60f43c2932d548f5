//! The CUDA backend against the CPU's: the same programs on both, every kernel and dtype, twice. Runs on a GPU, or with
//! `softgpu/run cargo test --features cuda --test cuda` without one; where there is no driver each test says that it is skipped.
#![cfg(feature = "cuda")]

mod counters;
mod errors;
mod lanes;
mod layout;
mod losses;
#[path = "../common/nets.rs"]
mod nets;
mod ops;
mod optim;
mod recurrent;

use gatefold::{DType, Device, Philox, Result, Tape, Tensor, Var};

const CPU: Device = Device::Cpu;
const GPU: Device = Device::Cuda(0);
const FLOATS: [DType; 4] = [DType::F64, DType::F32, DType::F16, DType::BF16];

/// Whether there is a GPU; says so where there is none. A GPU that cannot be opened is a failure.
fn gpu() -> bool {
    match GPU.check("test") {
        Ok(()) => true,
        Err(e) if e.to_string().contains("no NVIDIA driver") => {
            println!("skipped: no CUDA driver");
            false
        }
        Err(e) if e.to_string().contains("no CUDA kernels") => {
            println!("skipped: built without nvcc");
            false
        }
        Err(e) => panic!("{e}"),
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
    assert!(child.status.success(), "{said}");
    print!("{said}");
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
        for (j, (&got, &want)) in got_values[i].iter().zip(&want_values[i]).enumerate() {
            let near = got == want
                || (got.is_nan() && want.is_nan())
                || (want.is_finite() && (got - want).abs() <= bound * want.abs().max(1.0));
            assert!(near, "{what}: output {i}[{j}] {}: got {got}, want {want}", got_tensor.dtype());
        }
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&got_values[i]), bits(&again[i]), "{what}: twice the same call, the same bits");
    }
}

/// [`agree`] of a function's value and, contracted with fixed numbers, its gradients.
#[track_caller]
fn agree_with_gradients(what: &str, inputs: &[Tensor], f: impl Fn(&[Var]) -> Result<Var>) {
    agree(what, |device| {
        let tape = Tape::new();
        let vars = inputs.iter().map(|x| Ok(tape.variable(x.to_device(device)?))).collect::<Result<Vec<_>>>()?;
        let y = f(&vars)?;
        let weights = numbers(y.dims(), -1.0, 1.0, y.dtype(), 77).to_device(device)?;
        y.mul(&tape.constant(weights))?.sum()?.backward()?;
        Ok([y.tensor().clone()].into_iter().chain(vars.iter().filter_map(Var::grad)).collect())
    });
}
