//! Random shapes, dtypes and options: operations on the GPU against the CPU.

use gatefold::{DType, Device, Philox, Reduction, Result, Tape, Tensor, Var, loss::*};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{CPU, FLOATS, GPU, agree, agree_within, check, gpu, numbers, with_gradients};

const ALL: [DType; 6] = [DType::F64, DType::F32, DType::F16, DType::BF16, DType::U32, DType::I64];
const REDUCTIONS: [Reduction; 3] = [Reduction::Mean, Reduction::Sum, Reduction::None];

/// [`agree`]; or the same `Err` from both.
#[track_caller]
fn alike(what: &str, program: impl Fn(&Device) -> Result<Vec<Tensor>>) {
    match program(&CPU) {
        Ok(_) => agree(what, program),
        Err(want) => {
            let got = program(&GPU).expect_err("the CPU gives an Err");
            assert_eq!(got.to_string(), want.to_string(), "{what}");
        }
    }
}

/// [`alike`] of a function's value and gradients.
#[track_caller]
fn alike_with_gradients(what: &str, inputs: &[Tensor], f: impl Fn(&[Var]) -> Result<Var>) {
    alike(what, |device| with_gradients(device, inputs, &f));
}

fn exactly(_: DType) -> f64 {
    0.0
}

fn floats() -> impl Strategy<Value = DType> {
    select(&FLOATS[..])
}

/// Mostly small, seldom 0.
fn extent() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(0usize), 3 => Just(1usize), 16 => 2..6usize, 2 => 6..40usize]
}

fn shape(ranks: std::ops::Range<usize>) -> impl Strategy<Value = Vec<usize>> {
    vec(extent(), ranks).prop_filter("small", |shape| shape.iter().product::<usize>() <= 3000)
}

/// A shape and one of its axes, counted from the front or from the back.
fn with_axis(ranks: std::ops::Range<usize>) -> impl Strategy<Value = (Vec<usize>, isize)> {
    shape(ranks).prop_flat_map(|shape| {
        let rank = shape.len() as isize;
        (Just(shape), -rank..rank)
    })
}

#[test]
fn functions_of_one_argument() {
    if !gpu() {
        return;
    }
    type Function = (&'static str, f64, fn(&Var) -> Result<Var>);
    const FUNCTIONS: [Function; 14] = [
        ("neg", -3.0, |x| x.neg()),
        ("exp", -3.0, |x| x.exp()),
        ("log", 0.1, |x| x.log()),
        ("sqrt", 0.1, |x| x.sqrt()),
        ("abs", -3.0, |x| x.abs()),
        ("tanh", -3.0, |x| x.tanh()),
        ("sigmoid", -3.0, |x| x.sigmoid()),
        ("relu", -3.0, |x| x.relu()),
        ("square", -3.0, |x| x.powf(2.0)),
        ("power -1.5", 0.5, |x| x.powf(-1.5)),
        ("affine", -3.0, |x| x.mul_scalar(1.75)?.add_scalar(-0.3)),
        ("division", -3.0, |x| x.sub_scalar(0.2)?.div_scalar(3.0)),
        ("clamp", -3.0, |x| x.clamp(-0.5, 0.75)),
        ("to f32", -3.0, |x| x.to_dtype(DType::F32)),
    ];
    check(320, (0..FUNCTIONS.len(), shape(0..4), floats(), 0..1000u64), |(which, shape, dtype, seed)| {
        let (name, low, f) = FUNCTIONS[which];
        alike_with_gradients(name, &[numbers(&shape, low, 3.0, dtype, seed)], |v| f(&v[0]));
    });
}

#[test]
fn functions_of_two_arguments_broadcast() {
    if !gpu() {
        return;
    }
    // Of the whole shape each argument lacks some leading axes, and has 1 for some of the others.
    let part = |shape: Vec<usize>| {
        let rank = shape.len();
        (0..=rank, vec(any::<bool>(), rank))
            .prop_map(move |(from, kept)| (from..rank).map(|i| if kept[i] { shape[i] } else { 1 }).collect::<Vec<_>>())
    };
    let pair = shape(0..5).prop_flat_map(move |shape| (part(shape.clone()), part(shape)));
    type Function = (&'static str, fn(&Var, &Var) -> Result<Var>);
    const FUNCTIONS: [Function; 4] = [("add", Var::add), ("sub", Var::sub), ("mul", Var::mul), ("div", Var::div)];
    check(256, (0..4usize, pair, floats(), 0..1000u64), |(which, (a, b), dtype, seed)| {
        let (name, f) = FUNCTIONS[which];
        let inputs = [numbers(&a, -2.0, 2.0, dtype, seed), numbers(&b, 0.5, 2.0, dtype, seed + 1)];
        alike_with_gradients(name, &inputs, |v| f(&v[0], &v[1]));
    });
}

#[test]
fn reductions() {
    if !gpu() {
        return;
    }
    check(320, (0..6usize, with_axis(1..5), any::<bool>(), floats(), 0..1000u64), |(which, at, keep, dtype, seed)| {
        let (shape, axis) = at;
        let x = [numbers(&shape, -1.0, 1.0, dtype, seed)];
        let name = ["sum_axis", "mean_axis", "max_axis", "sum", "mean", "max"][which];
        alike_with_gradients(name, &x, |v| match which {
            0 => v[0].sum_axis(axis, keep),
            1 => v[0].mean_axis(axis, keep),
            2 => Ok(v[0].max_axis(axis, keep)?.0),
            3 => v[0].sum(),
            4 => v[0].mean(),
            _ => v[0].max(),
        });
    });
}

/// Of few different numbers, so that the largest is there several times.
#[test]
fn the_first_of_the_largest() {
    if !gpu() {
        return;
    }
    check(192, (with_axis(1..5), floats(), 0..1000u64), |((shape, axis), dtype, seed)| {
        let whole = numbers(&shape, 0.0, 4.0, DType::F64, seed).to_dtype(DType::I64).unwrap();
        let few = [whole.to_dtype(dtype).unwrap()];
        alike("argmax", |d| Ok(vec![few[0].to_device(d)?.argmax(axis)?]));
        alike_with_gradients("max", &few, |v| Ok(v[0].max_axis(axis, true)?.0));
    });
}

#[test]
fn softmax() {
    if !gpu() {
        return;
    }
    check(192, (0..3usize, with_axis(1..5), floats(), 0..1000u64), |(which, (shape, axis), dtype, seed)| {
        let x = [numbers(&shape, -4.0, 4.0, dtype, seed)];
        alike_with_gradients(["softmax", "log_softmax", "logsumexp"][which], &x, |v| match which {
            0 => v[0].softmax(axis),
            1 => v[0].log_softmax(axis),
            _ => v[0].logsumexp(axis, seed % 2 == 0),
        });
    });
}

#[test]
fn products() {
    if !gpu() {
        return;
    }
    let extents = (extent(), extent(), extent()).prop_filter("small", |(m, k, n)| m * k * n <= 20_000);
    let batches = (vec(0..4usize, 0..3), any::<[bool; 4]>());
    let case = (extents, batches, any::<[bool; 2]>(), any::<[bool; 2]>(), floats(), 0..1000u64);
    check(320, case, |((m, k, n), (batch, kept), transposed, vector, dtype, seed)| {
        // Each factor has the batch, or 1 in its place; a vector has none.
        let of = |which: usize, rows: usize, columns: usize| {
            let lead = batch.iter().enumerate().map(|(i, &b)| if kept[2 * which + i] { b } else { 1 });
            let (rows, columns) = if transposed[which] { (columns, rows) } else { (rows, columns) };
            numbers(&lead.chain([rows, columns]).collect::<Vec<_>>(), -1.0, 1.0, dtype, seed + which as u64)
        };
        let line = |seed| numbers(&[k], -1.0, 1.0, dtype, seed);
        let a = if vector[0] { line(seed) } else { of(0, m, k) };
        let b = if vector[1] { line(seed + 1) } else { of(1, k, n) };
        alike_with_gradients("matmul", &[a, b], |v| {
            let turn = |i: usize| if transposed[i] && !vector[i] { v[i].transpose(-1, -2) } else { Ok(v[i].clone()) };
            turn(0)?.matmul(&turn(1)?)
        });
        let x = numbers(&batch.iter().copied().chain([m, k]).collect::<Vec<_>>(), -1.0, 1.0, dtype, seed);
        let [weight, bias] = [numbers(&[n, k], -1.0, 1.0, dtype, seed + 1), numbers(&[n], -1.0, 1.0, dtype, seed + 2)];
        let inputs = [x, weight, bias];
        alike_with_gradients("linear", &inputs[..if vector[0] { 3 } else { 2 }], |v| v[0].linear(&v[1], v.get(2)));
    });
}

#[test]
fn indices() {
    if !gpu() {
        return;
    }
    let case = (1..40usize, 1..9usize, shape(0..3), any::<bool>(), any::<bool>(), floats(), 0..1000u64);
    check(192, case, |(rows, width, shape, padding, small, dtype, seed)| {
        let mut rng = Philox::seed(seed);
        let index: Vec<i64> = (0..shape.iter().product()).map(|_| rng.below(rows as u64) as i64).collect();
        let index = Tensor::from_slice(&index, shape, &CPU).unwrap();
        let index = index.to_dtype(if small { DType::U32 } else { DType::I64 }).unwrap();
        let padding = padding.then(|| rng.below(rows as u64) as i64);
        let table = [numbers(&[rows, width], -1.0, 1.0, dtype, seed)];
        alike_with_gradients("embedding", &table, |v| v[0].embedding(&index.to_device(&v[0].device())?, padding));
    });
    let case = (with_axis(1..4), 0..70usize, floats(), 0..1000u64);
    check(192, case, |((shape, axis), count, dtype, seed)| {
        let extent = shape[axis.rem_euclid(shape.len() as isize) as usize];
        let mut rng = Philox::seed(seed);
        let count = if extent == 0 { 0 } else { count };
        let index: Vec<i64> = (0..count).map(|_| rng.below(extent as u64) as i64).collect();
        let index = Tensor::from_slice(&index, count, &CPU).unwrap();
        let x = [numbers(&shape, -1.0, 1.0, dtype, seed)];
        alike_with_gradients("index_select", &x, |v| v[0].index_select(axis, &index.to_device(&v[0].device())?));
        alike_with_gradients("flip", &x, |v| v[0].flip(axis));
    });
}

#[test]
fn shapes() {
    if !gpu() {
        return;
    }
    let case = (0..9usize, with_axis(1..5), 0..1000u64, floats());
    check(384, case, |(which, (shape, axis), seed, dtype)| {
        let (mut rng, rank) = (Philox::seed(seed), shape.len());
        let at = axis.rem_euclid(rank as isize) as usize;
        let mut axes: Vec<isize> = (0..rank as isize).collect();
        rng.shuffle(&mut axes);
        let start = rng.below(shape[at] as u64 + 1) as usize;
        let len = rng.below((shape[at] - start) as u64 + 1) as usize;
        let wider: Vec<usize> = shape.iter().map(|&n| if n == 1 { rng.below(4) as usize } else { n }).collect();
        let x = [numbers(&shape, -1.0, 1.0, dtype, seed), numbers(&shape, -1.0, 1.0, dtype, seed + 1)];
        let names =
            ["transpose", "permute", "narrow", "select", "expand", "concat", "stack", "chunk", "reshape and squeeze"];
        let f = |v: &[Var]| match which {
            0 => v[0].transpose(axis, axes[0]),
            1 => v[0].permute(&axes),
            2 => v[0].narrow(axis, start, len),
            3 => v[0].select(axis, start as isize - 1),
            4 => v[0].expand([2].into_iter().chain(wider.iter().copied()).collect::<Vec<_>>()),
            5 => Var::concat(&[&v[0], &v[1].narrow(axis, start, len)?, &v[1]], axis),
            6 => Var::stack(&[&v[0], &v[1]], axis),
            7 => Var::concat(&v[0].chunk(1 + start, axis)?.iter().rev().collect::<Vec<_>>(), axis),
            _ => v[0].unsqueeze(axis)?.reshape([1, v[0].shape().numel()])?.squeeze(0),
        };
        alike_with_gradients(names[which], &x[..if matches!(which, 5 | 6) { 2 } else { 1 }], f);
        // Elements are moved, not computed: the bits of the CPU.
        let value = |d: &Device| {
            let tape = Tape::no_grad();
            let vars = x.iter().map(|x| Ok(tape.constant(x.to_device(d)?))).collect::<Result<Vec<_>>>()?;
            Ok(vec![f(&vars)?.into_tensor()])
        };
        if value(&CPU).is_ok() {
            agree_within(exactly, names[which], value);
        }
    });
}

#[test]
fn casts() {
    if !gpu() {
        return;
    }
    // Any bits of an f64 and numbers near the ends of the types.
    let number = prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        -1e5..1e5f64,
        (-1e-3..1e-3f64).prop_map(|x| x * 1e-4),
        (any::<i64>(), 0..12).prop_map(|(i, shift)| (i >> (5 * shift)) as f64 / 4.0),
    ];
    let case = (select(&ALL[..]), select(&ALL[..]), vec(number, 0..300));
    check(384, case, |(from, to, values)| {
        let x = Tensor::from_slice(&values, values.len(), &CPU).unwrap();
        agree_within(exactly, "f64 to the first", |d| Ok(vec![x.to_device(d)?.to_dtype(from)?]));
        let x = x.to_dtype(from).unwrap();
        agree_within(exactly, "cast", |d| Ok(vec![x.to_device(d)?.to_dtype(to)?]));
    });
}

#[test]
fn random_numbers() {
    if !gpu() {
        return;
    }
    let case = (shape(0..4), -3.0..3.0f64, 0.0..5.0f64, floats(), any::<u64>(), any::<u64>());
    check(256, case, |(shape, low, width, dtype, seed, stream)| {
        let rng = || Philox::seed(seed);
        agree_within(exactly, "uniform", |d| {
            Ok(vec![Tensor::uniform(shape.clone(), low, low + width, dtype, d, &mut rng())?])
        });
        agree_within(exactly, "normal", |d| Ok(vec![Tensor::normal(shape.clone(), low, width, dtype, d, &mut rng())?]));
        let x = numbers(&shape, -1.0, 1.0, dtype, 1);
        for p in [0.0, width / 5.0, 1.0] {
            agree_within(exactly, "dropout", |d| {
                let tape = Tape::new();
                let x = tape.variable(x.to_device(d)?);
                let y = x.dropout(p, seed, stream)?;
                y.sum()?.backward()?;
                Ok([y.tensor().clone()].into_iter().chain(x.grad()).collect())
            });
        }
    });
}

#[test]
fn losses_of_each_element() {
    if !gpu() {
        return;
    }
    let case = (0..9usize, select(&REDUCTIONS[..]), shape(1..4), any::<[bool; 2]>(), floats(), 0..1000u64);
    check(384, case, |(which, reduction, shape, [first, second], dtype, seed)| {
        let between = |low, high, seed| numbers(&shape, low, high, dtype, seed);
        let any = [between(-2.0, 2.0, seed), between(-2.0, 2.0, seed + 1)];
        let probabilities = [between(0.05, 0.95, seed), between(0.0, 1.0, seed + 1)];
        let mixed = [any[0].clone(), probabilities[1].clone()];
        let weight = numbers(&shape[shape.len() - 1..], 0.5, 2.0, dtype, seed + 2);
        let on = |v: &[Var]| weight.to_device(&v[0].device());
        // There is no gradient of the targets of the cross entropy of probabilities.
        let target =
            |v: &[Var]| Ok::<_, gatefold::Error>(v[0].tape().constant(probabilities[1].to_device(&v[0].device())?));
        let inputs = match which {
            4 | 5 => &probabilities[..1],
            6..=8 => &mixed,
            _ => &any,
        };
        let names = ["mse", "l1", "huber", "smooth l1", "bce", "bce weighted", "bce with logits", "kl", "kl mean"];
        alike_with_gradients(names[which], inputs, |v| match which {
            0 => MseLoss::new().reduction(reduction).forward(&v[0], &v[1]),
            1 => L1Loss::new().reduction(reduction).forward(&v[0], &v[1]),
            2 => HuberLoss::new().delta(0.4).reduction(reduction).forward(&v[0], &v[1]),
            3 => SmoothL1Loss::new().beta(if first { 0.0 } else { 0.4 }).reduction(reduction).forward(&v[0], &v[1]),
            4 => BceLoss::new().reduction(reduction).forward(&v[0], &target(v)?),
            5 => BceLoss::new().weight(on(v)?).reduction(reduction).forward(&v[0], &target(v)?),
            6 => {
                let mut loss = BceWithLogitsLoss::new().reduction(reduction);
                if first {
                    loss = loss.weight(on(v)?);
                }
                if second {
                    loss = loss.pos_weight(on(v)?);
                }
                loss.forward(&v[0], &v[1])
            }
            7 => KlDivLoss::new().log_target(first).reduction(reduction).forward(&v[0], &v[1].add_scalar(0.05)?),
            _ => KlDivLoss::new().log_target(first).batch_mean().forward(&v[0], &v[1].add_scalar(0.05)?),
        });
    });
}

#[test]
fn losses_of_classes() {
    if !gpu() {
        return;
    }
    let case = (1..40usize, shape(0..3), select(&REDUCTIONS[..]), any::<[bool; 4]>(), floats(), 0..1000u64);
    check(256, case, |(classes, samples, reduction, [weighted, ignoring, smooth, small], dtype, seed)| {
        let mut rng = Philox::seed(seed);
        let ignored = if small { 0 } else { -100 };
        let mut class = || match ignoring && rng.below(3) == 0 {
            true => ignored,
            false => rng.below(classes as u64) as i64,
        };
        let target: Vec<i64> = (0..samples.iter().product()).map(|_| class()).collect();
        let target = Tensor::from_slice(&target, samples.clone(), &CPU).unwrap();
        let target = target.to_dtype(if small { DType::U32 } else { DType::I64 }).unwrap();
        let mut shape = samples;
        shape.insert(shape.len().min(1), classes);
        let axis = isize::from(shape.len() > 1);
        let x = [numbers(&shape, -2.0, 2.0, dtype, seed)];
        let weight = numbers(&[classes], 0.5, 1.5, dtype, seed + 1);
        alike_with_gradients("cross entropy", &x, |v| {
            let device = v[0].device();
            let smoothing = if smooth { 0.2 } else { 0.0 };
            let mut loss =
                CrossEntropyLoss::new().label_smoothing(smoothing).ignore_index(ignored).reduction(reduction);
            if weighted {
                loss = loss.weight(weight.to_device(&device)?);
            }
            loss.forward(&v[0], &target.to_device(&device)?)
        });
        alike_with_gradients("nll", &x, |v| {
            let device = v[0].device();
            let mut loss = NllLoss::new().ignore_index(ignored).reduction(reduction);
            if weighted {
                loss = loss.weight(weight.to_device(&device)?);
            }
            loss.forward(&v[0].log_softmax(axis)?, &target.to_device(&device)?)
        });
    });
}
