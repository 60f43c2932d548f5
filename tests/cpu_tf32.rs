//! `Device::allow_tf32` on the CPU: what it changes, and that it is taken back. It holds for the process, so this is a test of its own.

#[path = "common/skipped.rs"]
mod skipped;

use gatefold::{DType, Device, HasParameters, Philox, Result, Tape, Tensor, nn::Lstm};
use skipped::skipped;

/// The output and each parameter's gradient of a step.
fn step(lstm: &Lstm, x: &Tensor) -> Result<Vec<Vec<f32>>> {
    let tape = Tape::new();
    let (y, _) = lstm.forward(&tape.constant(x.clone()), None)?;
    let mut all = vec![y.tensor().to_vec::<f32>()?];
    y.mul(&y)?.sum()?.backward()?;
    for parameter in lstm.parameters() {
        all.push(parameter.grad().expect("a gradient").to_vec::<f32>()?);
        parameter.zero_grad();
    }
    Ok(all)
}

/// Whether products round their factors here where that is allowed: by the tiles of AMX, unless a lesser set of instructions is asked for.
fn rounds() -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let amx = flags.split_whitespace().any(|flag| flag == "amx_bf16");
    cfg!(all(target_arch = "x86_64", target_os = "linux")) && amx && std::env::var_os("GATEFOLD_ISA").is_none()
}

/// Products of factors of 16 bits are wrong by 2⁻¹⁵ at most, of both signs and on average by a few times 2⁻¹⁸, so pre-activations of 128
/// such terms by less than 10⁻⁴, and what 20 steps make of that by less than
/// 10⁻³ of the largest number of each tensor.
#[test]
fn rounded_factors_by_choice() -> Result<()> {
    let device = Device::Cpu;
    let mut rng = Philox::seed(3);
    let lstm = Lstm::new(64, 128).num_layers(2).init(&device, &mut rng)?;
    let x = Tensor::normal([20, 32, 64], 0.0, 1.0, DType::F32, &device, &mut rng)?;
    let exact = step(&lstm, &x)?;
    device.allow_tf32(true)?;
    let rounded = step(&lstm, &x)?;
    assert_eq!(rounded, step(&lstm, &x)?, "the same bits twice");
    device.allow_tf32(false)?;
    assert_eq!(exact, step(&lstm, &x)?, "taken back");
    assert_eq!(exact.len(), rounded.len());
    for (k, (exact, rounded)) in exact.iter().zip(&rounded).enumerate() {
        let largest = exact.iter().fold(0f32, |most, x| most.max(x.abs()));
        assert_eq!(exact.len(), rounded.len());
        for (a, b) in exact.iter().zip(rounded) {
            assert!((a - b).abs() <= 1e-3 * largest, "tensor {k}: {a} and {b}, of at most {largest}");
        }
    }
    if rounds() {
        assert_ne!(exact, rounded, "nothing is rounded, and this processor has AMX");
    } else if rounded == exact {
        skipped("nothing is rounded on this processor");
    }
    Ok(())
}
