//! Elementwise functions, reductions, softmax, products, indices, random numbers.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use gatefold::{DType, Device, Philox, Result, Tape, Tensor, Var};

use crate::{CPU, FLOATS, GPU, agree, agree_with_gradients, extents, gpu, numbers, same_bits, with_gradients};

#[test]
fn functions_of_one_argument() {
    if !gpu() {
        return;
    }
    type Function = (&'static str, f64, fn(&Var) -> Result<Var>);
    let functions: [Function; 16] = [
        ("neg", -2.0, |x| x.neg()),
        ("exp", -2.0, |x| x.exp()),
        ("log", 0.1, |x| x.log()),
        ("sqrt", 0.1, |x| x.sqrt()),
        ("abs", -2.0, |x| x.abs()),
        ("tanh", -2.0, |x| x.tanh()),
        ("sigmoid", -2.0, |x| x.sigmoid()),
        ("relu", -2.0, |x| x.relu()),
        ("power 0", -2.0, |x| x.powf(0.0)),
        ("power 2", -2.0, |x| x.powf(2.0)),
        ("power 3", -2.0, |x| x.powf(3.0)),
        ("power -1.5", 0.5, |x| x.powf(-1.5)),
        ("affine", -2.0, |x| x.mul_scalar(1.75)?.add_scalar(-0.3)),
        ("division", -2.0, |x| x.div_scalar(3.0)),
        ("clamp", -2.0, |x| x.clamp(-0.5, 0.75)),
        ("f32", -2.0, |x| x.to_dtype(DType::F32)),
    ];
    for dtype in FLOATS {
        for (name, low, f) in functions {
            for len in [1, 7, 300] {
                agree_with_gradients(name, &[numbers(&[len], low, 2.0, dtype, 1)], |x| f(&x[0]));
            }
        }
        // Of NaN, infinities, zeros.
        let odd = Tensor::from_slice(&[f64::NAN, f64::INFINITY, -f64::INFINITY, 0.0, -0.0, 1.0, -1.0, 90.0], 8, &CPU);
        let odd = odd.unwrap().to_dtype(dtype).unwrap();
        for (name, _, f) in functions {
            agree_with_gradients(name, std::slice::from_ref(&odd), |x| f(&x[0]));
        }
    }
}

/// Products and quotients with a number are one rounding, so they have the CPU's bits; −0 and the least divisors too.
#[test]
fn scalars_have_the_cpus_bits() {
    if !gpu() {
        return;
    }
    let all = [vec![0.0, -0.0, f64::NAN, f64::INFINITY, 1e-39, -1e-4], (1..300).map(f64::from).collect()].concat();
    let functions: [fn(&Var) -> Result<Var>; 4] = [
        |x| x.mul_scalar(-1.1),
        |x| x.div_scalar(49.0),
        |x| x.div_scalar(-3.3),
        |x| x.div_scalar(if x.dtype() == DType::F64 { 1e-310 } else { 1e-39 }),
    ];
    for dtype in FLOATS {
        let x = Tensor::from_slice(&all, all.len(), &CPU).unwrap().to_dtype(dtype).unwrap();
        for (i, f) in functions.iter().enumerate() {
            let run = |device: &Device| {
                let results = with_gradients(device, std::slice::from_ref(&x), |x| f(&x[0])).unwrap();
                results
                    .iter()
                    .flat_map(|y| y.to_f64_vec().unwrap())
                    .map(|y| if y.is_nan() { f64::NAN } else { y })
                    .collect()
            };
            let (got, want): (Vec<f64>, Vec<f64>) = (run(&GPU), run(&CPU));
            same_bits(&format!("{dtype}, {i}"), &got, &want);
        }
    }
}

/// The gradient of a maximum goes to the NaNs where there are some.
#[test]
fn maxima_with_nan() {
    if !gpu() {
        return;
    }
    for dtype in FLOATS {
        for values in [[1.0, 3.0, 3.0, -2.0], [1.0, f64::NAN, f64::INFINITY, f64::NAN]] {
            let x = Tensor::from_slice(&values, 4, &CPU).unwrap().to_dtype(dtype).unwrap();
            agree_with_gradients("max", &[x], |x| x[0].max());
        }
    }
}

#[test]
fn functions_of_two_arguments_broadcast() {
    if !gpu() {
        return;
    }
    let mut rng = Philox::seed(2);
    for dtype in FLOATS {
        let [a, b, c] = extents(&mut rng, 5);
        let shapes: [[Vec<usize>; 2]; 7] = [
            [vec![a * b * c], vec![a * b * c]],
            [vec![37], vec![]],
            [vec![], vec![37]],
            [vec![], vec![]],
            [vec![a, b, c], vec![b, 1]],
            [vec![a, 1, c], vec![b, 1]],
            [vec![2, 1, 2, 1, 2, 1, 2, 1, 2, 1], vec![1, 2, 1, 2, 1, 2, 1, 2, 1, 2]],
        ];
        for [x, y] in shapes {
            let inputs = [numbers(&x, -2.0, 2.0, dtype, 3), numbers(&y, 0.5, 2.0, dtype, 4)];
            let what = |op: &str| format!("{op} {x:?} {y:?} {dtype}");
            agree_with_gradients(&what("add"), &inputs, |v| v[0].add(&v[1]));
            agree_with_gradients(&what("sub"), &inputs, |v| v[0].sub(&v[1]));
            agree_with_gradients(&what("mul"), &inputs, |v| v[0].mul(&v[1]));
            agree_with_gradients(&what("div"), &inputs, |v| v[0].div(&v[1]));
        }
    }
}

#[test]
fn reductions() {
    if !gpu() {
        return;
    }
    let mut rng = Philox::seed(3);
    for dtype in FLOATS {
        let mut shapes = vec![[1, 1, 1], [3, 1500, 1], [1, 20_000, 1], [2, 700, 3], [1, 3, 70], [2, 40, 33]];
        shapes.extend([extents(&mut rng, 9), extents(&mut rng, 9)]);
        for shape in shapes {
            let x = numbers(&shape, -2.0, 2.0, dtype, 5);
            let what = |op: &str| format!("{op} {shape:?} {dtype}");
            for axis in 0..3 {
                agree_with_gradients(&what("mean"), std::slice::from_ref(&x), |v| v[0].mean_axis(axis, false));
                agree_with_gradients(&what("max"), std::slice::from_ref(&x), |v| Ok(v[0].max_axis(axis, true)?.0));
                agree(&what("argmax"), |d| Ok(vec![x.to_device(d)?.argmax(axis)?]));
            }
            agree_with_gradients(&what("mean of all"), std::slice::from_ref(&x), |v| v[0].mean());
            agree_with_gradients(&what("sum"), &[numbers(&shape, 0.0, 1e-3, dtype, 6)], |v| v[0].sum_axis(1, false));
        }
        // NaN wins; of nothing a sum is 0 and a mean NaN.
        let odd = Tensor::new([[1.0, f64::NAN, 3.0, f64::NAN], [f64::NEG_INFINITY; 4]], &CPU).unwrap();
        let odd = odd.to_dtype(dtype).unwrap();
        for axis in 0..2 {
            agree("argmax", |d| Ok(vec![odd.to_device(d)?.argmax(axis)?]));
            agree("max", |d| Ok(vec![Tape::new().constant(odd.to_device(d)?).max_axis(axis, false)?.0.into_tensor()]));
        }
        let none = Tensor::zeros([0, 3], dtype, &CPU).unwrap();
        for f in [Var::sum_axis, Var::mean_axis] {
            agree("of nothing", |d| Ok(vec![f(&Tape::new().constant(none.to_device(d)?), 0, false)?.into_tensor()]));
        }
    }
}

#[test]
fn softmax() {
    if !gpu() {
        return;
    }
    for dtype in FLOATS {
        for shape in [[1, 1, 1], [3, 5, 1], [2, 33, 1], [1, 1100, 1], [2, 7, 3], [1, 3, 300]] {
            let x = [numbers(&shape, -4.0, 4.0, dtype, 7)];
            agree_with_gradients(&format!("softmax {shape:?}"), &x, |v| v[0].softmax(1));
            agree_with_gradients(&format!("log softmax {shape:?}"), &x, |v| v[0].log_softmax(1));
            agree_with_gradients(&format!("logsumexp {shape:?}"), &x, |v| v[0].logsumexp(1, false));
        }
    }
}

#[test]
fn products() {
    if !gpu() {
        return;
    }
    let mut rng = Philox::seed(8);
    for dtype in FLOATS {
        let [m, k, n, batch] = extents(&mut rng, 20);
        let inputs = |a: &[usize], b: &[usize]| [numbers(a, -0.5, 0.5, dtype, 9), numbers(b, -0.5, 0.5, dtype, 10)];
        agree_with_gradients("matrices", &inputs(&[m, k], &[k, n]), |v| v[0].matmul(&v[1]));
        agree_with_gradients("batched", &inputs(&[batch, m, k], &[batch, k, n]), |v| v[0].matmul(&v[1]));
        agree_with_gradients("one for all", &inputs(&[batch, m, k], &[k, n]), |v| v[0].matmul(&v[1]));
        agree_with_gradients("vector", &inputs(&[k], &[k, n]), |v| v[0].matmul(&v[1]));
        agree_with_gradients("over nothing", &inputs(&[m, 0], &[0, n]), |v| v[0].matmul(&v[1]));
        let [x, w] = inputs(&[batch, m, k], &[n, k]);
        agree_with_gradients("linear", &[x, w, numbers(&[n], -1.0, 1.0, dtype, 11)], |v| {
            v[0].linear(&v[1], Some(&v[2]))
        });
    }
}

/// A linear layer forward and back on many threads at once, with captured steps replayed beside them: what each computes is what it computes
/// alone. cuBLAS makes a product of several kernels, which hand on sums in the handle's workspace, and a replay has products too. Where
/// something differs, it is told what: the numbers that came to the device, or a product of them.
#[test]
fn products_of_many_threads() {
    if !gpu() {
        return;
    }
    let rounds = if crate::softgpu::present() { 12 } else { 400 };
    let compute = |seed: u64| -> Result<Vec<Vec<f64>>> {
        let dtype = if seed.is_multiple_of(2) { DType::F32 } else { DType::F64 };
        let of = |shape: &[usize], n: u64| numbers(shape, -0.5, 0.5, dtype, 10 * seed + n).to_device(&GPU);
        let (tape, inputs) = (Tape::new(), [of(&[19, 4, 10], 0)?, of(&[19, 10], 1)?, of(&[19], 2)?]);
        let [x, w, b] = inputs.each_ref().map(|input| tape.variable(input.clone()));
        let y = x.linear(&w, Some(&b))?;
        let dy = of(y.dims(), 3)?;
        y.mul(&tape.constant(dy.clone()))?.sum()?.backward()?;
        let results = [y.tensor().clone(), x.grad().unwrap(), w.grad().unwrap(), b.grad().unwrap()];
        inputs.iter().chain([&dy]).chain(&results).map(Tensor::to_f64_vec).collect()
    };
    const WHAT: [&str; 8] = ["x", "w", "b", "dy", "y", "dx", "dw", "db"];
    let want: Vec<_> = (0..8).map(|seed| compute(seed).unwrap()).collect();
    let wrong = |seed: usize| {
        let got = compute(seed as u64).unwrap();
        let of = WHAT.iter().zip(got.iter().zip(&want[seed]));
        let of = of.filter_map(|(what, (got, want))| {
            let places: Vec<usize> = (0..want.len()).filter(|&i| got[i].to_bits() != want[i].to_bits()).collect();
            let &first = places.first()?;
            Some(format!(
                "{what}: {} of {}, [{first}] {:e} not {:e}",
                places.len(),
                want.len(),
                got[first],
                want[first]
            ))
        });
        of.collect::<Vec<_>>()
    };
    let left = AtomicUsize::new(8);
    let found = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| crate::captured::replay_while(|| left.load(Relaxed) > 0).unwrap());
        }
        let threads: Vec<_> = (0..8)
            .map(|seed| {
                let left = &left;
                scope.spawn(move || {
                    let _done = Done(left);
                    (0..rounds).map(|round| (round, wrong(seed))).find(|(_, w)| !w.is_empty())
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(found.is_empty(), "in rounds of threads: {found:?}");
}

/// Counts down, also where its thread panics.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[test]
fn indices() {
    if !gpu() {
        return;
    }
    let mut rng = Philox::seed(12);
    for dtype in FLOATS {
        for (rows, inner, count) in [(5, 3, 7), (40, 8, 300), (3, 1, 2500), (1, 5, 1), (300, 2, 0)] {
            let index: Vec<i64> = (0..count).map(|_| rng.below(rows) as i64).collect();
            let index = Tensor::from_slice(&index, [count], &CPU).unwrap();
            let what = format!("{count} of {rows}×{inner} {dtype}");
            let table = [numbers(&[rows as usize, inner], -1.0, 1.0, dtype, 13)];
            let at = |x: &Var| index.to_device(&x.device());
            agree_with_gradients(&what, &table, |v| v[0].embedding(&at(&v[0])?, Some(0)));
            agree_with_gradients(&what, &table, |v| v[0].index_select(0, &at(&v[0])?));
            let wide = [numbers(&[3, rows as usize, inner], -1.0, 1.0, dtype, 14)];
            agree_with_gradients(&what, &wide, |v| v[0].index_select(1, &at(&v[0])?));
        }
        agree_with_gradients("flip", &[numbers(&[3, 4], -1.0, 1.0, dtype, 15)], |v| v[0].flip(1));
    }
    // The order of a sum is the index's, so f32 has the CPU's bits.
    let index: Vec<i64> = (0..999).map(|_| rng.below(17) as i64).collect();
    let gradient = |device| -> Result<Vec<f32>> {
        let tape = Tape::new();
        let table = tape.variable(numbers(&[17, 3], -1.0, 1.0, DType::F32, 16).to_device(device)?);
        let y = table.embedding(&Tensor::from_slice(&index, 999, device)?, None)?;
        let weights = tape.constant(numbers(&[999, 3], -1.0, 1.0, DType::F32, 17).to_device(device)?);
        y.mul(&weights)?.sum()?.backward()?;
        table.grad().unwrap().to_vec::<f32>()
    };
    assert_eq!(gradient(&GPU).unwrap(), gradient(&CPU).unwrap());
}

/// Comparisons of all dtypes, NaN among them, and choices by what they find; more axes than a kernel walks through.
#[test]
fn masks() {
    if !gpu() {
        return;
    }
    let mut rng = Philox::seed(21);
    for dtype in FLOATS.into_iter().chain([DType::U32, DType::I64, DType::U8]) {
        let [a, b, c] = extents(&mut rng, 6);
        let shapes: [[Vec<usize>; 3]; 6] = [
            [vec![a * b * c * 40], vec![a * b * c * 40], vec![a * b * c * 40]],
            [vec![a, b, c], vec![b, 1], vec![]],
            [vec![], vec![a, 1, c], vec![b, 1]],
            [vec![], vec![], vec![]],
            [vec![0, 3], vec![3], vec![0, 1]],
            [
                vec![2, 1, 2, 1, 2, 1, 2, 1, 2, 1],
                vec![1, 2, 1, 2, 1, 2, 1, 2, 1, 2],
                vec![2, 1, 1, 2, 1, 2, 2, 1, 1, 1],
            ],
        ];
        for [x, y, m] in shapes {
            // Few values, so that some are equal.
            let values = |shape: &[usize], seed| {
                let all = numbers(shape, 0.0, 4.0, DType::F32, seed);
                let mut all = all.to_vec::<f32>().unwrap().iter().map(|v| v.floor()).collect::<Vec<_>>();
                if dtype.is_float() {
                    all.iter_mut().step_by(7).for_each(|v| *v = f32::NAN);
                }
                Tensor::from_slice(&all, shape, &CPU).unwrap()
            };
            let (x, y) = (values(&x, 1).to_dtype(dtype).unwrap(), values(&y, 2).to_dtype(dtype).unwrap());
            let mask = values(&m, 3).to_dtype(DType::U8).unwrap();
            agree(&format!("{dtype} {} {} {m:?}", x.shape(), y.shape()), |d| {
                let [x, y, mask] = [x.to_device(d)?, y.to_device(d)?, mask.to_device(d)?];
                Ok(vec![
                    x.eq(&y)?,
                    x.ne(&y)?,
                    x.lt(&y)?,
                    x.le(&y)?,
                    x.gt(&y)?,
                    x.ge(&y)?,
                    x.lt(2.0)?,
                    x.where_cond(&mask, &y)?,
                    mask.logical_not()?,
                    mask.logical_and(&x.ne(&y)?)?,
                    mask.logical_or(&x.ne(&y)?)?,
                    y.masked_fill(&y.eq(1.0)?, 7.0)?,
                ])
            });
        }
    }
    let mask = Tensor::from_slice(&[0u8, 1, 0, 2, 0], [5, 1], &CPU).unwrap();
    for dtype in FLOATS {
        let inputs = [numbers(&[4, 5, 3], -2.0, 2.0, dtype, 1), numbers(&[5, 1], -2.0, 2.0, dtype, 2)];
        let at = |x: &Var| mask.to_device(&x.device());
        agree_with_gradients("where", &inputs, |x| x[0].where_cond(&at(&x[0])?, &x[1]));
        agree_with_gradients("masked_fill", &inputs[..1], |x| x[0].masked_fill(&at(&x[0])?, f64::NEG_INFINITY)?.exp());
        for to in [DType::U8, DType::F32] {
            agree("cast", |d| Ok(vec![inputs[0].to_device(d)?.to_dtype(to)?, mask.to_device(d)?.to_dtype(dtype)?]));
        }
    }
    // Copies of bytes.
    agree("bytes", |d| {
        let x = Tensor::from_slice(&(0..105).collect::<Vec<u8>>(), [3, 5, 7], d)?;
        let index = Tensor::new([2i64, 0, 2], d)?;
        let full = Tensor::full(13, 200.0, DType::U8, d)?;
        Ok(vec![x.transpose(0, 2)?, x.narrow(1, 1, 3)?, x.index_select(1, &index)?, x.flip(2)?, full])
    });
}

#[test]
fn picks_along_an_axis() {
    if !gpu() {
        return;
    }
    let mut rng = Philox::seed(22);
    for dtype in FLOATS {
        for (shape, picks) in [([1, 1, 1], 1), ([3, 5, 4], 7), ([2, 300, 1], 40), ([2, 1100, 3], 3), ([1, 9, 3], 0)] {
            let x = numbers(&shape, -1.0, 1.0, dtype, 1);
            let count = shape[0] * picks * shape[2];
            let index: Vec<i64> = (0..count).map(|_| rng.below(shape[1] as u64) as i64).collect();
            let index = Tensor::from_slice(&index, [shape[0], picks, shape[2]], &CPU).unwrap();
            let what = format!("{shape:?} {picks} {dtype}");
            agree_with_gradients(&what, std::slice::from_ref(&x), |v| {
                v[0].gather(1, &index.to_device(&v[0].device())?)
            });
            // Some equal, some NaN.
            let mut odd: Vec<f64> = x.to_f64_vec().unwrap().iter().map(|v| (v * 4.0).round()).collect();
            odd.iter_mut().skip(2).step_by(11).for_each(|v| *v = f64::NAN);
            let odd = Tensor::from_slice(&odd, shape, &CPU).unwrap().to_dtype(dtype).unwrap();
            for (axis, n) in shape.into_iter().enumerate() {
                for k in [1, n.min(5)] {
                    let top = |d: &Device| odd.to_device(d)?.topk(k, axis as isize).map(|(y, i)| vec![y, i]);
                    agree(&format!("top {k} of {what} along {axis}"), top);
                }
            }
            agree_with_gradients("topk", &[x], |v| Ok(v[0].topk(shape[1].min(3), 1)?.0));
        }
        agree("one hot", |d| Ok(vec![Tensor::new([[2i64, 0], [1, 2]], d)?.one_hot(3, dtype)?]));
        agree("arange", |d| Ok(vec![Tensor::arange(-7..20, dtype, d)?]));
    }
}

#[test]
fn random_numbers_have_the_bits_of_the_cpu() {
    if !gpu() {
        return;
    }
    let same = |what: &str, of: &dyn Fn(&Device) -> Tensor| {
        let [got, want] = [GPU, CPU].map(|d| of(&d).to_f64_vec().unwrap());
        same_bits(what, &got, &want);
    };
    for dtype in FLOATS {
        for len in [1, 5, 1023] {
            for (low, high) in [(0.0, 1.0), (-0.37, 2.9), (1.0, 1.0), (1.0, 1.0 + 1e-3)] {
                let draw = |d: &Device| Tensor::uniform(len, low, high, dtype, d, &mut Philox::seed(18)).unwrap();
                same(&format!("{dtype} [{low}, {high})"), &draw);
            }
            let draw = |d: &Device| Tensor::normal(len, 0.5, 2.0, dtype, d, &mut Philox::seed(19)).unwrap();
            same(&format!("{dtype} normal"), &draw);
            for p in [0.0, 0.3, 0.9, 1.0] {
                let x = numbers(&[len], -1.0, 1.0, dtype, 20);
                let drop = |d: &Device| {
                    Tape::new().constant(x.to_device(d).unwrap()).dropout(p, 21, 22).unwrap().into_tensor()
                };
                same(&format!("{dtype} dropout {p}"), &drop);
            }
        }
    }
}
