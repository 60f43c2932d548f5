//! Gradients against central differences, in f64.
#![allow(dead_code, reason = "each test uses a part")]

use gatefold::{DType, Device, Philox, Result, Tape, Tensor, Var, nn::Module};

/// Step of the difference quotient.
const EPS: f64 = 1e-6;
/// Tolerance, relative to 1 + |gradient|. The quotient is off by ε²·f‴/6 ≈ 1e-13 from its curvature and by about
/// 1e-16·|f|/ε ≈ 1e-10·|f| from rounding; sums of hundreds of terms of order 1 stay two digits below this. A wrong
/// formula misses by far more.
const TOLERANCE: f64 = 1e-6;
/// The same of a small network, whose outputs are below 1.
const MODULE_TOLERANCE: f64 = 2e-7;

/// Numbers in `[low, high)` that depend on the seed alone.
pub fn random(shape: &[usize], low: f64, high: f64, seed: u64) -> Tensor {
    Tensor::uniform(shape, low, high, DType::F64, &Device::Cpu, &mut Philox::seed(seed)).unwrap()
}

/// Checks the gradients of `f` at `inputs` (f64): its outputs, contracted with fixed random weights, are differentiated
/// by the tape and by moving each element of each input. Also that each input alone gets the gradient it gets among all.
#[track_caller]
pub fn check(inputs: &[Tensor], f: impl Fn(&Tape, &[Var]) -> Result<Var>) {
    check_on(&Device::Cpu, inputs, f);
}

/// [`check`] on a device; the inputs are given on the CPU.
#[track_caller]
pub fn check_on(device: &Device, inputs: &[Tensor], f: impl Fn(&Tape, &[Var]) -> Result<Var>) {
    let on = |x: &Tensor| x.to_device(device).unwrap();
    let value = |inputs: &[Tensor]| {
        let tape = Tape::no_grad();
        let vars: Vec<Var> = inputs.iter().map(|x| tape.constant(on(x))).collect();
        f(&tape, &vars).unwrap().into_tensor()
    };
    let output = value(inputs);
    assert_eq!(output.dtype(), DType::F64, "gradients are checked in f64");
    let weights = random(output.dims(), -1.0, 1.0, 0x5EED);
    let weigh = weights.to_vec::<f64>().unwrap();
    let loss = |inputs: &[Tensor]| -> f64 {
        value(inputs).to_vec::<f64>().unwrap().iter().zip(&weigh).map(|(y, w)| y * w).sum()
    };

    // Gradients of the inputs for which `wanted`, by the tape.
    let by_tape = |wanted: &dyn Fn(usize) -> bool| -> Vec<Option<Vec<f64>>> {
        let tape = Tape::new();
        let put = |(i, x): (usize, &Tensor)| if wanted(i) { tape.variable(on(x)) } else { tape.constant(on(x)) };
        let vars: Vec<Var> = inputs.iter().enumerate().map(put).collect();
        let y = f(&tape, &vars).unwrap();
        if !y.requires_grad() {
            return vec![None; inputs.len()];
        }
        y.mul(&tape.constant(on(&weights))).unwrap().sum().unwrap().backward().unwrap();
        let read = |(x, g): (&Tensor, Tensor)| {
            assert_eq!((g.dims(), g.dtype()), (x.dims(), x.dtype()), "a gradient has the shape of its input");
            g.to_vec::<f64>().unwrap()
        };
        inputs.iter().zip(&vars).map(|(x, v)| v.grad().map(|g| read((x, g)))).collect()
    };

    let together = by_tape(&|_| true);
    for (i, input) in inputs.iter().enumerate() {
        if !input.dtype().is_float() {
            continue;
        }
        let x = input.to_vec::<f64>().unwrap();
        // Where nothing flows back the gradient is zero.
        let gradient = together[i].clone().unwrap_or_else(|| vec![0.0; x.len()]);
        for j in 0..x.len() {
            let moved = |by: f64| {
                let mut x = x.clone();
                x[j] += by;
                let mut inputs = inputs.to_vec();
                inputs[i] = Tensor::from_slice(&x, input.shape(), &Device::Cpu).unwrap();
                loss(&inputs)
            };
            let quotient = (moved(EPS) - moved(-EPS)) / (2.0 * EPS);
            let error = (gradient[j] - quotient).abs() / (1.0 + quotient.abs());
            assert!(
                error <= TOLERANCE,
                "input {i}, element {j}: the tape says {}, the difference quotient {quotient}",
                gradient[j]
            );
        }
        assert_eq!(by_tape(&|k| k == i)[i], together[i], "input {i} alone has another gradient");
    }
}

/// A loss of an input and states.
pub type Loss<'a> = dyn Fn(&Tape, &Var, Option<&[Var]>) -> Result<Var> + 'a;

/// Checks the gradients of a module's parameters, of its input and of its states, where the module lies; input and states are given
/// on the CPU.
pub fn check_module(
    name: &str,
    device: &Device,
    module: &dyn Module,
    x: &Tensor,
    state: &[Tensor],
    loss: &Loss<'_>,
) -> Result<()> {
    let on = |x: &Tensor| x.to_device(device).unwrap();
    let value = |x: &Tensor, state: &[Tensor]| -> Result<f64> {
        let tape = Tape::no_grad();
        let state: Vec<Var> = state.iter().map(|t| tape.constant(on(t))).collect();
        loss(&tape, &tape.constant(on(x)), (!state.is_empty()).then_some(&state[..]))?.item()
    };
    module.zero_grad();
    let tape = Tape::new();
    let xv = tape.variable(on(x));
    let sv: Vec<Var> = state.iter().map(|t| tape.variable(on(t))).collect();
    loss(&tape, &xv, (!sv.is_empty()).then_some(&sv[..]))?.backward()?;

    let judge = |what: &str,
                 gradient: Option<Tensor>,
                 tensor: &Tensor,
                 at: &dyn Fn(Tensor) -> Result<f64>|
     -> Result<()> {
        let numbers = tensor.to_vec::<f64>()?;
        let gradient = gradient.map_or(Ok(vec![0.0; numbers.len()]), |g| g.to_vec::<f64>())?;
        for (i, gradient) in gradient.iter().enumerate() {
            let moved = |by: f64| -> Result<f64> {
                let mut numbers = numbers.clone();
                numbers[i] += by;
                at(Tensor::from_slice(&numbers, tensor.shape(), &Device::Cpu)?)
            };
            let quotient = (moved(EPS)? - moved(-EPS)?) / (2.0 * EPS);
            let error = (gradient - quotient).abs() / (1.0 + quotient.abs());
            assert!(error < MODULE_TOLERANCE, "{name}: {what}[{i}]: the tape says {gradient}, the quotient {quotient}");
        }
        Ok(())
    };
    judge("x", xv.grad(), x, &|x| value(&x, state))?;
    for (i, var) in sv.iter().enumerate() {
        judge(["h0", "c0"][i], var.grad(), &state[i], &|moved| {
            let mut state = state.to_vec();
            state[i] = moved;
            value(x, &state)
        })?;
    }
    for (parameter_name, parameter) in module.named_parameters() {
        let old = parameter.value();
        judge(&parameter_name, parameter.grad(), &old, &|moved| {
            parameter.set_value(on(&moved))?;
            value(x, state)
        })?;
        parameter.set_value(old)?;
    }
    Ok(())
}
