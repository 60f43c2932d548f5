//! Losses: gradients, edges, refusals. PyTorch's stored numbers are in `pytorch_parity`.

#[path = "common/gradcheck.rs"]
mod gradcheck;

use gatefold::{DType, Device, Error, Reduction, Result, Tape, Tensor, Var, loss::*};
use gradcheck::{check, random};

const CPU: Device = Device::Cpu;
const REDUCTIONS: [Reduction; 3] = [Reduction::Mean, Reduction::Sum, Reduction::None];

fn classes(values: &[i64], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &CPU).unwrap()
}

/// Asserts that two lists agree: NaN with NaN, infinities with themselves, the rest within `bound`·max(1, |want|).
#[track_caller]
fn close(what: &str, got: &[f64], want: &[f64], bound: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let same = if want.is_finite() {
            (got - want).abs() <= bound * want.abs().max(1.0)
        } else {
            got == want || (got.is_nan() && want.is_nan())
        };
        assert!(same, "{what}[{i}]: got {got}, want {want}");
    }
}

/// The gradients of a pointwise loss with respect to prediction and target, under every reduction.
fn check_pair(x: Tensor, t: Tensor, loss: impl Fn(&Var, &Var, Reduction) -> Result<Var>) {
    for how in REDUCTIONS {
        check(&[x.clone(), t.clone()], |_, v| loss(&v[0], &v[1], how));
    }
}

#[test]
fn gradients_of_pointwise_losses() {
    let x = || random(&[3, 4], -2.0, 2.0, 1);
    let t = || random(&[3, 4], -2.0, 2.0, 2);
    check_pair(x(), t(), |x, t, r| MseLoss::new().reduction(r).forward(x, t));
    check_pair(x(), t(), |x, t, r| L1Loss::new().reduction(r).forward(x, t));
    for size in [0.3, 1.0, 5.0] {
        check_pair(x(), t(), |x, t, r| HuberLoss::new().delta(size).reduction(r).forward(x, t));
        check_pair(x(), t(), |x, t, r| SmoothL1Loss::new().beta(size).reduction(r).forward(x, t));
    }
    check_pair(x(), t(), |x, t, r| SmoothL1Loss::new().beta(0.0).reduction(r).forward(x, t));

    let part = |seed| random(&[3, 4], 0.1, 0.9, seed);
    check_pair(part(3), part(4), |x, t, r| BceLoss::new().reduction(r).forward(x, t));
    for weight in [part(5), random(&[4], 0.1, 2.0, 6), random(&[3, 1], 0.1, 2.0, 7)] {
        let loss = BceLoss::new().weight(weight.clone());
        check_pair(part(3), part(4), |x, t, r| loss.clone().reduction(r).forward(x, t));
        let loss = BceWithLogitsLoss::new().weight(weight.clone());
        check_pair(x(), part(4), |x, t, r| loss.clone().reduction(r).forward(x, t));
        let loss = BceWithLogitsLoss::new().pos_weight(weight.clone()).weight(part(8));
        check_pair(x(), part(4), |x, t, r| loss.clone().reduction(r).forward(x, t));
    }
    check_pair(x(), part(4), |x, t, r| BceWithLogitsLoss::new().reduction(r).forward(x, t));

    check_pair(x(), part(4), |x, t, r| KlDivLoss::new().reduction(r).forward(x, t));
    check_pair(x(), t(), |x, t, r| KlDivLoss::new().log_target(true).reduction(r).forward(x, t));
    check(&[x(), part(4)], |_, v| KlDivLoss::new().batch_mean().forward(&v[0], &v[1]));
}

#[test]
fn gradients_of_class_losses() {
    let cases = [
        (vec![5], classes(&[3], &[])),
        (vec![4, 5], classes(&[0, 4, 2, 2], &[4])),
        (vec![2, 5, 3], classes(&[0, 1, 2, 3, 4, 2], &[2, 3])),
        (vec![2, 5, 3, 1], classes(&[0, 1, 2, 3, 4, 2], &[2, 3, 1])),
    ];
    for (shape, target) in cases {
        let x = random(&shape, -2.0, 2.0, 11);
        for how in REDUCTIONS {
            for weight in [None, Some(random(&[5], 0.2, 2.0, 12))] {
                for ignore in [-100, 2] {
                    let nll = NllLoss::new().ignore_index(ignore).reduction(how);
                    let nll = weight.clone().map_or(nll.clone(), |w| nll.weight(w));
                    check(std::slice::from_ref(&x), |_, v| nll.forward(&v[0], &target));
                    for smoothing in [0.0, 0.1, 1.0] {
                        let loss = CrossEntropyLoss::new().ignore_index(ignore).reduction(how);
                        let loss = weight.clone().map_or(loss.clone(), |w| loss.weight(w)).label_smoothing(smoothing);
                        check(std::slice::from_ref(&x), |_, v| loss.forward(&v[0], &target));
                    }
                }
            }
        }
    }
}

/// What PyTorch 2.15 gives where a formula has a corner, a pole or no derivative.
#[test]
fn corners() -> Result<()> {
    type Loss = fn(&Var, &Var) -> Result<Var>;
    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;
    let cases: [(Loss, [&[f32]; 5]); 4] = [
        (
            |x, t| L1Loss::new().reduction(Reduction::None).forward(x, t),
            [
                &[NAN, 1.0, -0.5, INF],
                &[0.0, 1.0, 0.0, INF],
                &[NAN, 0.0, 0.5, NAN],
                &[0.0, 0.0, -1.0, 0.0],
                &[0.0, 0.0, 1.0, 0.0],
            ],
        ),
        (
            |x, t| BceLoss::new().reduction(Reduction::None).forward(x, t),
            [
                &[0.0, 1.0, 0.3],
                &[0.2, 0.5, 0.0],
                &[20.0, 50.0, 0.356675],
                &[-2e11, 5e11, 1.428571],
                &[INF, -INF, 0.847298],
            ],
        ),
        (
            |x, t| KlDivLoss::new().reduction(Reduction::None).forward(x, t),
            [
                &[-1.0, 1.0, -INF, -INF],
                &[0.0, 0.5, 0.0, 0.2],
                &[0.0, -0.846574, NAN, INF],
                &[0.0, -0.5, 0.0, -0.2],
                &[NAN, -std::f32::consts::LN_2, NAN, INF],
            ],
        ),
        (
            |x, t| KlDivLoss::new().log_target(true).reduction(Reduction::None).forward(x, t),
            [&[-1.0, 1.0], &[-0.4, -INF], &[0.402192, NAN], &[-0.67032, 0.0], &[1.072512, NAN]],
        ),
    ];
    for (i, (loss, [x, t, y, dx, dt])) in cases.into_iter().enumerate() {
        let tape = Tape::new();
        let variable = |v: &[f32]| Tensor::from_slice(v, v.len(), &CPU).map(|v| tape.variable(v));
        let (x, t) = (variable(x)?, variable(t)?);
        let loss = loss(&x, &t)?;
        loss.sum()?.backward()?;
        for (got, want) in [(loss.tensor(), y), (&x.grad().unwrap(), dx), (&t.grad().unwrap(), dt)] {
            let want: Vec<f64> = want.iter().map(|&v| v as f64).collect();
            close(&format!("case {i}"), &got.to_f64_vec()?, &want, 1e-5);
        }
    }
    Ok(())
}

#[test]
fn methods_are_the_defaults() -> Result<()> {
    let tape = Tape::new();
    let x = tape.variable(random(&[4, 3], -1.0, 1.0, 21));
    let target = classes(&[0, 2, 1, -100], &[4]);
    assert_eq!(x.cross_entropy(&target)?.item()?, CrossEntropyLoss::default().forward(&x, &target)?.item()?);
    assert_eq!(tape.len(), 2, "a loss is one entry");
    let log = x.log_softmax(-1)?;
    assert!((log.nll_loss(&target)?.item()? - x.cross_entropy(&target)?.item()?).abs() < 1e-12);
    let t = random(&[4, 3], -1.0, 1.0, 22);
    assert_eq!(x.mse_loss(&t)?.item()?, MseLoss::default().forward(&x, &t)?.item()?);
    assert_eq!(x.l1_loss(&t)?.item()?, L1Loss::default().forward(&x, &t)?.item()?);
    Ok(())
}

#[test]
fn indices_may_be_u32() -> Result<()> {
    let tape = Tape::new();
    let x = tape.variable(random(&[3, 3], -1.0, 1.0, 21));
    let unsigned = Tensor::new([0u32, 2, 1], &CPU)?;
    assert_eq!(x.cross_entropy(&unsigned)?.item()?, x.cross_entropy(&classes(&[0, 2, 1], &[3]))?.item()?);
    Ok(())
}

#[test]
fn of_nothing() -> Result<()> {
    let tape = Tape::new();
    let x = tape.variable(Tensor::zeros([0, 3], DType::F32, &CPU)?);
    let t = Tensor::zeros([0, 3], DType::F32, &CPU)?;
    let none = classes(&[], &[0]);
    assert!(x.mse_loss(&t)?.item()?.is_nan());
    assert!(x.cross_entropy(&none)?.item()?.is_nan());
    assert_eq!(MseLoss::new().reduction(Reduction::Sum).forward(&x, &t)?.item()?, 0.0);
    assert_eq!(CrossEntropyLoss::new().reduction(Reduction::Sum).forward(&x, &none)?.item()?, 0.0);
    assert_eq!(CrossEntropyLoss::new().reduction(Reduction::None).forward(&x, &none)?.dims(), [0]);
    let loss = x.mse_loss(&t)?;
    loss.backward()?;
    assert_eq!(x.grad().unwrap().dims(), [0, 3]);
    // Extents whose product overflows.
    let tape = Tape::new();
    let x = tape.variable(Tensor::zeros([0, 1 << 33, 1 << 33], DType::F32, &CPU)?);
    let loss = CrossEntropyLoss::new().reduction(Reduction::Sum).forward(&x, &classes(&[], &[0, 1 << 33]))?;
    loss.backward()?;
    assert_eq!(x.grad().unwrap().dims(), [0, 1 << 33, 1 << 33]);
    Ok(())
}

/// In f32 this β is 0.
#[test]
fn a_beta_below_the_least_number() -> Result<()> {
    for dtype in [DType::F32, DType::F16, DType::F64] {
        let tape = Tape::new();
        let x = tape.variable(Tensor::full([2], 3.0, dtype, &CPU)?);
        let loss = SmoothL1Loss::new().beta(1e-46).reduction(Reduction::Sum);
        loss.forward(&x, &Tensor::zeros([2], dtype, &CPU)?)?.backward()?;
        assert_eq!(x.grad().unwrap().to_f64_vec()?, [1.0; 2], "{dtype}");
    }
    Ok(())
}

/// f16 and bf16 are computed in f32: the sum of many losses neither overflows nor loses its small terms.
#[test]
fn halves() -> Result<()> {
    for dtype in [DType::F16, DType::BF16] {
        let wide = Tensor::full([400, 500], 1.5, DType::F32, &CPU)?;
        let tape = Tape::new();
        let x = tape.variable(wide.to_dtype(dtype)?);
        let loss = x.mse_loss(&Tensor::zeros([400, 500], dtype, &CPU)?)?;
        assert_eq!((loss.dtype(), loss.item()?), (dtype, 2.25));
        loss.backward()?;
        let gradient = x.grad().unwrap();
        assert_eq!(gradient.dtype(), dtype);
        // 3/200000: in f16 a subnormal.
        assert!((gradient.to_f64_vec()?[7] / 1.5e-5 - 1.0).abs() < 0.01);

        let tape = Tape::new();
        let scores = random(&[64, 7], -3.0, 3.0, 31).to_dtype(dtype)?;
        let target = classes(&(0..64).map(|i| i % 7).collect::<Vec<_>>(), &[64]);
        let (x, exact) = (tape.variable(scores.clone()), tape.variable(scores.to_dtype(DType::F32)?));
        let loss = CrossEntropyLoss::new().label_smoothing(0.1);
        let (got, want) = (loss.forward(&x, &target)?.item()?, loss.forward(&exact, &target)?.item()?);
        assert!((got - want).abs() < 0.01, "{got} {want}");
    }
    Ok(())
}

#[test]
fn threads_do_not_matter() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let tape = Tape::new();
            let x = tape.variable(random(&[3000, 50], -1.0, 1.0, 41).to_dtype(DType::F32).unwrap());
            let t = random(&[3000, 50], 0.0, 1.0, 42).to_dtype(DType::F32).unwrap();
            let target = classes(&(0..3000).map(|i| i % 50).collect::<Vec<_>>(), &[3000]);
            let class = CrossEntropyLoss::new().label_smoothing(0.1).forward(&x, &target).unwrap();
            let point = BceWithLogitsLoss::new().forward(&x, &t).unwrap();
            let sum = class.add(&point).unwrap();
            sum.backward().unwrap();
            (sum.item().unwrap().to_bits(), x.grad().unwrap().to_vec::<f32>().unwrap())
        })
    };
    assert!(run(1) == run(5));
}

fn argument<T: std::fmt::Debug>(result: Result<T>, op: &str) {
    assert!(matches!(&result, Err(Error::Argument { op: o, .. }) if *o == op), "{result:?}");
}
fn shape<T: std::fmt::Debug>(result: Result<T>, op: &str) {
    assert!(matches!(&result, Err(Error::Shape { op: o, .. }) if *o == op), "{result:?}");
}
fn dtype<T: std::fmt::Debug>(result: Result<T>, op: &str) {
    assert!(matches!(&result, Err(Error::DType { op: o, .. }) if *o == op), "{result:?}");
}

#[test]
fn refusals_of_class_losses() -> Result<()> {
    let tape = Tape::new();
    let x = tape.variable(random(&[4, 3], -1.0, 1.0, 51));
    let target = classes(&[0, 1, 2, 0], &[4]);
    for wrong in [3, -1, i64::MIN, i64::MAX] {
        argument(x.nll_loss(&classes(&[0, wrong, -100, 0], &[4])), "nll_loss");
        argument(x.cross_entropy(&classes(&[0, wrong, -100, 0], &[4])), "cross_entropy");
    }
    // -100 is a class like any other once something else is ignored.
    argument(NllLoss::new().ignore_index(1).forward(&x, &classes(&[0, 1, -100, 0], &[4])), "nll_loss");
    shape(x.nll_loss(&classes(&[0, 1, 2], &[3])), "nll_loss");
    shape(x.nll_loss(&classes(&[0, 1, 2, 0], &[4, 1])), "nll_loss");
    shape(tape.variable(random(&[], 0.0, 1.0, 1)).nll_loss(&classes(&[0], &[])), "nll_loss");
    dtype(x.nll_loss(&random(&[4], 0.0, 1.0, 1)), "nll_loss");
    dtype(tape.constant(classes(&[0; 12], &[4, 3])).nll_loss(&target), "nll_loss");
    shape(NllLoss::new().weight(random(&[4], 0.0, 1.0, 1)).forward(&x, &target), "nll_loss");
    shape(CrossEntropyLoss::new().weight(random(&[3, 1], 0.0, 1.0, 1)).forward(&x, &target), "cross_entropy");
    dtype(NllLoss::new().weight(Tensor::ones(3, DType::F32, &CPU)?).forward(&x, &target), "nll_loss");
    for wrong in [-0.1, 1.1, f64::NAN] {
        argument(CrossEntropyLoss::new().label_smoothing(wrong).forward(&x, &target), "cross_entropy");
    }
    Ok(())
}

#[test]
fn refusals_of_pointwise_losses() -> Result<()> {
    let tape = Tape::new();
    let x = tape.variable(random(&[4, 3], 0.0, 1.0, 51));
    let t = random(&[4, 3], 0.0, 1.0, 52);
    shape(x.mse_loss(&random(&[3, 4], 0.0, 1.0, 1)), "mse_loss");
    shape(x.l1_loss(&random(&[3], 0.0, 1.0, 1)), "l1_loss");
    dtype(x.mse_loss(&t.to_dtype(DType::F32)?), "mse_loss");
    dtype(tape.constant(classes(&[1], &[1])).mse_loss(&classes(&[1], &[1])), "mse_loss");
    for wrong in [0.0, -1.0, f64::NAN] {
        argument(HuberLoss::new().delta(wrong).forward(&x, &t), "huber_loss");
    }
    for wrong in [-1.0, f64::NAN, f64::INFINITY] {
        argument(SmoothL1Loss::new().beta(wrong).forward(&x, &t), "smooth_l1_loss");
    }
    for wrong in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let mut values = t.to_vec::<f64>()?;
        values[5] = wrong;
        let outside = Tensor::from_slice(&values, [4, 3], &CPU)?;
        argument(BceLoss::new().forward(&x, &outside), "binary_cross_entropy");
        argument(BceLoss::new().forward(&tape.constant(outside), &t), "binary_cross_entropy");
    }
    let op = "binary_cross_entropy_with_logits";
    for weight in [random(&[4], 0.0, 1.0, 1), random(&[2, 4, 3], 0.0, 1.0, 1)] {
        shape(BceLoss::new().weight(weight.clone()).forward(&x, &t), "binary_cross_entropy");
        shape(BceWithLogitsLoss::new().weight(weight.clone()).forward(&x, &t), op);
        shape(BceWithLogitsLoss::new().pos_weight(weight).forward(&x, &t), op);
    }
    dtype(BceWithLogitsLoss::new().weight(Tensor::ones(3, DType::F32, &CPU)?).forward(&x, &t), op);
    let other = Tape::new().variable(t);
    assert!(matches!(x.mse_loss(&other), Err(Error::Tape { .. })));
    Ok(())
}
