//! f16 and bf16: every operation against f32 from the same numbers.

use gatefold::{DType, Result, Tape, Tensor, Var};

use crate::{common::gradcheck::random, tensor};

/// Half a unit in the last place, relative to the number.
fn rounding(dtype: DType) -> f64 {
    if dtype == DType::F16 { 2f64.powi(-11) } else { 2f64.powi(-8) }
}

/// Runs `f` and its backward on `inputs` rounded to `dtype`, and in f32 from the same rounded numbers. Results are rounded
/// once; gradients pass a few kernels, each of which rounds: `steps` roundings, relative to 1 or the number.
#[track_caller]
fn check(inputs: &[Tensor], steps: f64, f: impl Fn(&[Var]) -> Result<Var>) {
    for dtype in [DType::F16, DType::BF16] {
        let run = |wide: bool| {
            let tape = Tape::new();
            let cast = |x: &Tensor| {
                let x = x.to_dtype(dtype)?;
                Ok(tape.variable(if wide { x.to_dtype(DType::F32)? } else { x }))
            };
            let vars = inputs.iter().map(cast).collect::<Result<Vec<_>>>()?;
            let y = f(&vars)?;
            assert_eq!(y.dtype(), vars[0].dtype());
            y.sum()?.backward()?;
            let gradients = vars.iter().map(|v| v.grad().unwrap());
            std::iter::once(y.tensor().clone()).chain(gradients).map(|t| t.to_f64_vec()).collect::<Result<Vec<_>>>()
        };
        let (narrow, wide) = (run(false).unwrap(), run(true).unwrap());
        for (which, (narrow, wide)) in narrow.iter().zip(&wide).enumerate() {
            let bound = rounding(dtype) * if which == 0 { 1.01 } else { steps };
            for (got, want) in narrow.iter().zip(wide) {
                let scale = if which == 0 { want.abs().max(1e-4) } else { want.abs().max(1.0) };
                assert!((got - want).abs() <= bound * scale, "{dtype}, output {which}: {got} for {want}");
            }
        }
    }
}

fn pair() -> [Tensor; 2] {
    [random(&[3, 5], 0.5, 2.0, 1), random(&[5], 0.5, 2.0, 2)]
}

#[test]
fn arithmetic() {
    check(&pair(), 1.0, |x| x[0].add(&x[1]));
    check(&pair(), 1.0, |x| x[0].sub(&x[1]));
    check(&pair(), 3.0, |x| x[0].mul(&x[1]));
    check(&pair(), 8.0, |x| x[0].div(&x[1]));
    check(&pair()[..1], 1.0, |x| x[0].mul_scalar(1.7));
    check(&pair()[..1], 1.0, |x| x[0].add_scalar(1.7));
    check(&pair()[..1], 1.0, |x| x[0].div_scalar(1.7));
}

#[test]
fn functions() {
    let x = &[random(&[65], 0.25, 1.5, 3)];
    // Where the derivative is computed from the rounded result, that rounding shows in it: twice in 1 − y².
    check(x, 3.0, |x| x[0].exp());
    check(x, 2.0, |x| x[0].log());
    check(x, 3.0, |x| x[0].sqrt());
    check(x, 3.0, |x| x[0].tanh());
    check(x, 3.0, |x| x[0].sigmoid());
    check(x, 3.0, |x| x[0].powf(1.5));
    check(x, 1.0, |x| x[0].neg()?.abs());
    check(x, 1.0, |x| x[0].relu()?.clamp(0.0, 1.0));
    check(x, 1.01, |x| x[0].dropout(0.5, 1, 1));
}

#[test]
fn products() {
    let k = 33;
    let inputs = [random(&[4, k], -1.0, 1.0, 1), random(&[3, k], -1.0, 1.0, 2), random(&[3], -1.0, 1.0, 3)];
    check(&inputs[..2], 2.0, |x| x[0].linear(&x[1], None));
    check(&inputs, 2.0, |x| x[0].linear(&x[1], Some(&x[2])));
    let batch = [random(&[2, 3, 4], -1.0, 1.0, 1), random(&[4, 2], -1.0, 1.0, 2)];
    check(&batch, 2.0, |x| x[0].matmul(&x[1]));
}

#[test]
fn reductions() {
    let x = &[random(&[7, 9], 0.5, 2.0, 4)];
    check(x, 1.01, |x| x[0].sum());
    check(x, 1.01, |x| x[0].mean());
    check(x, 1.0, |x| x[0].max());
    check(x, 1.01, |x| x[0].sum_axis(0, false));
    check(x, 1.01, |x| x[0].mean_axis(1, true));
    check(x, 1.0, |x| Ok(x[0].max_axis(0, false)?.0));
    // The sum of a softmax is 1 whatever x: its gradient is rounding alone.
    check(x, 8.0, |x| x[0].softmax(1));
    check(x, 16.0, |x| x[0].log_softmax(1));
    check(x, 3.0, |x| x[0].logsumexp(1, false));
}

#[test]
fn moves() {
    let x = &[random(&[3, 4], -1.0, 1.0, 5)];
    check(x, 1.0, |x| x[0].transpose(0, 1)?.reshape([2, -1])?.flip(0)?.narrow(1, 1, 4));
    check(x, 1.0, |x| Var::concat(&[&x[0], &x[0].select(0, 1)?.unsqueeze(0)?], 0));
    check(x, 1.0, |x| x[0].unsqueeze(0)?.expand([5, -1, -1]));
    check(x, 1.0, |x| x[0].embedding(&tensor(&[0i64, 2, 2], 3), None));
}

/// A sum in f16 would stop growing at 2048, and a count of ties overflow at 65504.
#[test]
fn long_sums() {
    let tape = Tape::new();
    let ones = Tensor::ones([70_000], DType::F16, &gatefold::Device::Cpu).unwrap();
    let x = tape.variable(ones);
    assert_eq!(x.mean().unwrap().item().unwrap(), 1.0);
    assert_eq!(x.narrow(0, 0, 30_000).unwrap().sum().unwrap().item().unwrap(), 30_000.0);
    x.max().unwrap().mul_scalar(7000.0).unwrap().backward().unwrap();
    let share = x.grad().unwrap().narrow(0, 0, 1).unwrap().item().unwrap();
    assert!((share - 0.1).abs() < 1e-4, "{share}");
}

/// What is summed over axes that are no neighbours is rounded once: here in turn it would be another number.
#[test]
fn broadcast_gradients_round_once() -> Result<()> {
    for (dtype, outer, inner) in [(DType::F16, 3, 2049), (DType::BF16, 301, 301)] {
        let tape = Tape::new();
        let x = tape.variable(Tensor::ones([1, 2, 1], dtype, &gatefold::Device::Cpu)?);
        x.expand([outer, 2, inner])?.sum()?.backward()?;
        let want = Tensor::full([1, 2, 1], (outer * inner) as f64, dtype, &gatefold::Device::Cpu)?;
        let gradient = x.grad().unwrap();
        assert_eq!((gradient.dtype(), gradient.to_f64_vec()?), (dtype, want.to_f64_vec()?));
    }
    Ok(())
}
