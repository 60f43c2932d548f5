//! The same numbers by different roads. Random sizes and options are in `tests/recurrent_properties.rs`.

use gatefold::{DType, Device, Result, Tape, Tensor, Var};

use crate::nets::{KINDS, Options, all_near, contract, near, on, tensors, uniform};

/// A state handed on from chunk to chunk gives what the whole sequence gives, gradients included.
#[test]
fn chunks_with_the_state_handed_on() -> Result<()> {
    for kind in KINDS {
        let net = Options { layers: 2, ..Options::new(kind, 3, 4) }.net(1);
        let x = uniform(&[7, 2, 3], DType::F64, 2);
        let whole = |chunks: &[usize]| -> Result<_> {
            net.module().zero_grad();
            let tape = Tape::new();
            let x = tape.variable(x.clone());
            let (mut outputs, mut state, mut start) = (Vec::new(), None::<Vec<Var>>, 0);
            for &steps in chunks {
                let (y, last) = net.forward(&x.narrow(0, start, steps)?, state.as_deref())?;
                outputs.push(y);
                state = Some(last);
                start += steps;
            }
            let y = Var::concat(&outputs.iter().collect::<Vec<_>>(), 0)?;
            let state = state.unwrap();
            contract(&[&y].into_iter().chain(&state).collect::<Vec<_>>())?.backward()?;
            let mut all = vec![y.into_tensor(), x.grad().unwrap()];
            all.extend(tensors(&state));
            all.extend(net.gradients());
            Ok(all)
        };
        all_near(&whole(&[3, 1, 3])?, &whole(&[7])?);
    }
    Ok(())
}

/// Bits do not depend on the number of threads. Large enough that the work is split.
#[test]
fn one_thread_or_two() -> Result<()> {
    for kind in KINDS {
        let options =
            Options { layers: 2, bidirectional: true, dropout: 0.3, dtype: DType::F32, ..Options::new(kind, 20, 65) };
        let run = |threads: usize| -> Result<Vec<Vec<f32>>> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let net = options.net(3);
                let tape = Tape::new();
                let x = tape.variable(uniform(&[12, 17, 20], DType::F32, 4));
                let (y, last) =
                    net.forward_lengths(&x, &[12, 1, 5, 7, 7, 3, 12, 2, 9, 4, 8, 11, 6, 10, 1, 5, 12], None)?;
                contract(&[&y].into_iter().chain(&last).collect::<Vec<_>>())?.backward()?;
                let mut all = vec![y.into_tensor(), x.grad().unwrap()];
                all.extend(tensors(&last));
                all.extend(net.gradients());
                all.iter().map(Tensor::to_vec::<f32>).collect()
            })
        };
        assert_eq!(run(1)?, run(2)?, "{kind:?}");
    }
    Ok(())
}

/// Where products go through tiles, one number that is not finite changes no bit of other sequences by how they are divided.
#[test]
fn one_thread_or_two_beside_an_infinity() -> Result<()> {
    for kind in KINDS {
        // Both threads have sequences of one direction.
        let options = Options { dtype: DType::F32, ..Options::new(kind, 96, 100) };
        let run = |threads: usize| -> Result<Vec<Vec<u32>>> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let net = options.net(3);
                let mut x = uniform(&[6, 64, 96], DType::F32, 4).to_vec::<f32>()?;
                (x[0], x[(2 * 64 + 5) * 96]) = (f32::INFINITY, 3.4e38);
                let x = Tape::new().variable(Tensor::from_slice(&x, [6, 64, 96], &Device::Cpu)?);
                let (y, last) = net.forward(&x, None)?;
                contract(&[&y].into_iter().chain(&last).collect::<Vec<_>>())?.backward()?;
                let all = [vec![y.into_tensor(), x.grad().unwrap()], tensors(&last), net.gradients()].concat();
                let bits = |t: &Tensor| Ok(t.to_vec::<f32>()?.into_iter().map(f32::to_bits).collect());
                all.iter().map(bits).collect()
            })
        };
        assert!(run(1)? == run(2)?, "{kind:?}");
    }
    Ok(())
}

/// Half precision stays close to float32, within a few of its roundings.
#[test]
fn half_precision() -> Result<()> {
    for (dtype, bound) in [(DType::F16, 4e-3), (DType::BF16, 3e-2)] {
        for kind in KINDS {
            let options = Options { layers: 2, bidirectional: true, dtype, ..Options::new(kind, 6, 8) };
            let (half, full) = (options.net(1), Options { dtype: DType::F32, ..options }.net(2));
            full.module().load_state_dict(&half.module().state_dict())?;
            let x = uniform(&[5, 3, 6], dtype, 3);
            let run = |net: &crate::nets::Net, x: Tensor| -> Result<_> {
                let tape = Tape::new();
                let x = tape.variable(x);
                let (y, last) = net.forward(&x, None)?;
                assert_eq!((y.dtype(), last[0].dtype()), (x.dtype(), x.dtype()));
                y.sum()?.backward()?;
                let gradients = net.gradients();
                Ok([vec![y.tensor().clone(), x.grad().unwrap()], tensors(&last), gradients].concat())
            };
            for (a, b) in run(&half, x.clone())?.iter().zip(&run(&full, x.to_dtype(DType::F32)?)?) {
                let (a, b) = (a.to_f64_vec()?, b.to_f64_vec()?);
                let scale = b.iter().fold(1f64, |m, v| m.max(v.abs()));
                assert_eq!(a.len(), b.len());
                for (a, b) in a.iter().zip(&b) {
                    assert!((a - b).abs() <= bound * scale, "{kind:?} {dtype}: {a} and {b}, of at most {scale}");
                }
            }
        }
    }
    Ok(())
}

/// An update between forward and backward does not reach into what the backward uses, and tied parameters add up.
#[test]
fn the_tape_keeps_the_values_it_used() -> Result<()> {
    let options = Options::new(crate::nets::Kind::Gru, 2, 3);
    let gradient = |disturb: bool| -> Result<Vec<Tensor>> {
        let net = options.net(1);
        let tape = Tape::new();
        let (y, _) = net.forward(&tape.constant(uniform(&[4, 2, 2], DType::F64, 2)), None)?;
        if disturb {
            for parameter in net.module().parameters() {
                parameter.set_value(Tensor::zeros(parameter.shape(), DType::F64, &Device::Cpu)?)?;
            }
        }
        contract(&[&y])?.backward()?;
        Ok(net.gradients())
    };
    all_near(&gradient(true)?, &gradient(false)?);

    // The same network twice on one tape.
    let net = options.net(1);
    let x = uniform(&[4, 2, 2], DType::F64, 2);
    let once = |times: usize| -> Result<Vec<Tensor>> {
        net.module().zero_grad();
        let tape = Tape::new();
        let mut sum = tape.constant(Tensor::zeros((), DType::F64, &Device::Cpu)?);
        for _ in 0..times {
            sum = sum.add(&net.forward(&tape.constant(x.clone()), None)?.0.sum()?)?;
        }
        sum.backward()?;
        Ok(net.gradients())
    };
    for (two, one) in once(2)?.iter().zip(&once(1)?) {
        let mut sum = one.clone();
        sum.add_scaled(1.0, one)?;
        near(two, &sum);
    }
    Ok(())
}

/// Only what needs a gradient gets one, whichever it is, and it is the same one.
#[test]
fn gradients_that_are_asked_for_alone() -> Result<()> {
    for kind in KINDS {
        let options = Options { layers: 2, ..Options::new(kind, 3, 4) };
        let net = options.net(1);
        let (x, state) = (uniform(&[5, 2, 3], DType::F64, 2), options.state(Some(2), 3));
        let parameters = net.module().parameters();
        let run = |wanted: &dyn Fn(usize) -> bool| -> Result<Vec<Option<Tensor>>> {
            net.module().zero_grad();
            parameters.iter().enumerate().for_each(|(i, p)| p.set_requires_grad(wanted(3 + i)));
            let tape = Tape::new();
            let put =
                |i: usize, t: &Tensor| if wanted(i) { tape.variable(t.clone()) } else { tape.constant(t.clone()) };
            let x = put(0, &x);
            let state: Vec<Var> = state.iter().enumerate().map(|(i, t)| put(1 + i, t)).collect();
            let (y, last) = net.forward(&x, Some(&state))?;
            let loss = contract(&[&y].into_iter().chain(&last).collect::<Vec<_>>())?;
            if !loss.requires_grad() {
                assert!(tape.is_empty());
                return Ok(vec![None; 3 + parameters.len()]);
            }
            loss.backward()?;
            let mut all = vec![x.grad(), state[0].grad(), state.get(1).and_then(Var::grad)];
            all.extend(parameters.iter().map(|p| p.grad()));
            Ok(all)
        };
        let together = run(&|_| true)?;
        run(&|_| false)?;
        for i in 0..together.len() {
            let alone = run(&|k| k == i)?;
            for (k, gradient) in alone.iter().enumerate() {
                match (gradient, &together[k]) {
                    (Some(a), Some(b)) if k == i => assert_eq!(a.to_vec::<f64>()?, b.to_vec::<f64>()?),
                    (None, b) => assert!(k != i || b.is_none()),
                    _ => panic!("{kind:?}: input {k} got a gradient where {i} alone wanted one"),
                }
            }
        }
    }
    Ok(())
}

/// A loss of the last state alone, or of outputs alone.
#[test]
fn a_loss_of_a_part_of_the_results() -> Result<()> {
    for kind in KINDS {
        let options = Options { layers: 2, bidirectional: true, ..Options::new(kind, 3, 4) };
        let net = options.net(1);
        let gradients = |pick: &dyn Fn(&Var, &[Var]) -> Result<Var>| -> Result<Vec<Tensor>> {
            net.module().zero_grad();
            let tape = Tape::new();
            let x = tape.variable(uniform(&[5, 2, 3], DType::F64, 2));
            let (y, last) = net.forward(&x, Some(&on(&tape, &options.state(Some(2), 3))))?;
            pick(&y, &last)?.backward()?;
            Ok([vec![x.grad().unwrap()], net.gradients()].concat())
        };
        let all = gradients(&|y, last| contract(&[y].into_iter().chain(last).collect::<Vec<_>>()))?;
        let zero = |v: &Var| v.mul_scalar(0.0)?.sum();
        // Σ of the parts is the whole: each is got with the others cut off.
        let mut sum: Option<Vec<Tensor>> = None;
        for part in 0..1 + usize::from(kind.is_lstm()) + 1 {
            let piece = gradients(&|y, last| {
                let vars: Vec<&Var> = [y].into_iter().chain(last).collect();
                let weights = uniform(vars[part].dims(), DType::F64, 1000 + part as u64);
                let one = vars[part].mul(&y.tape().constant(weights))?.sum()?;
                // A detached part has no gradient at all; a part times zero has one of zeros.
                if part == 0 { Ok(one) } else { one.add(&zero(y)?) }
            })?;
            sum = Some(match sum {
                None => piece,
                Some(mut sum) => {
                    for (s, p) in sum.iter_mut().zip(&piece) {
                        s.add_scaled(1.0, p)?;
                    }
                    sum
                }
            });
        }
        all_near(&sum.unwrap(), &all);
    }
    Ok(())
}
