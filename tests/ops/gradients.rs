//! Every operation against difference quotients.

use gatefold::{Tensor, Var};

use crate::{
    common::gradcheck::{check, random},
    tensor,
};

/// Away from 0, of both signs: for what has a kink there.
fn signed(shape: &[usize], seed: u64) -> Tensor {
    let x = random(shape, -1.0, 1.0, seed).to_vec::<f64>().unwrap();
    tensor(&x.iter().map(|x| x + x.signum() * 0.1).collect::<Vec<_>>(), shape)
}

/// Distinct numbers in a scrambled order, at least 0.1 apart: for maxima.
fn distinct(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    tensor(&(0..n).map(|i| ((i * 7 + 3) % 31) as f64 * 0.1).collect::<Vec<_>>(), shape)
}

#[test]
fn arithmetic_broadcasts() {
    let shapes: &[(&[usize], &[usize])] = &[
        (&[3, 5], &[3, 5]),
        (&[3, 5], &[5]),
        (&[3, 5], &[3, 1]),
        (&[3, 1], &[1, 5]),
        (&[2, 1, 3], &[4, 1]),
        (&[], &[2, 3]),
        (&[1], &[]),
        (&[1, 3, 1, 2], &[2, 1, 5, 1]),
        (&[1, 1, 3], &[2, 2, 1]),
    ];
    for &(a, b) in shapes {
        for inputs in [[signed(a, 1), signed(b, 2)], [signed(b, 3), signed(a, 4)]] {
            check(&inputs, |_, x| x[0].add(&x[1]));
            check(&inputs, |_, x| x[0].sub(&x[1]));
            check(&inputs, |_, x| x[0].mul(&x[1]));
            check(&inputs, |_, x| x[0].div(&x[1]));
        }
    }
}

#[test]
fn one_var_as_both_arguments() {
    let x = [signed(&[7], 1)];
    check(&x, |_, x| x[0].mul(&x[0]));
    check(&x, |_, x| x[0].add(&x[0]));
    check(&x, |_, x| x[0].div(&x[0])?.add(&x[0].sub(&x[0])?));
    check(&[random(&[3, 3], -1.0, 1.0, 2)], |_, x| x[0].matmul(&x[0]));
}

#[test]
fn functions() {
    for shape in [&[3, 5][..], &[], &[17]] {
        let x = [signed(shape, 5)];
        check(&x, |_, x| x[0].add_scalar(2.5));
        check(&x, |_, x| x[0].sub_scalar(2.5));
        check(&x, |_, x| x[0].mul_scalar(-2.5));
        check(&x, |_, x| x[0].div_scalar(3.0));
        check(&x, |_, x| x[0].neg());
        check(&x, |_, x| x[0].exp());
        check(&x, |_, x| x[0].abs());
        check(&x, |_, x| x[0].tanh());
        check(&x, |_, x| x[0].sigmoid());
        check(&x, |_, x| x[0].relu());
        check(&x, |_, x| x[0].powf(2.0));
        check(&x, |_, x| x[0].powf(3.0));
        check(&x, |_, x| x[0].powf(0.0));
        check(&x, |_, x| x[0].clamp(-0.55, 0.45));
        check(&x, |_, x| x[0].clamp(f64::NEG_INFINITY, 0.45));
        check(&x, |_, x| x[0].dropout(0.4, 9, 2));
        let positive = [random(shape, 0.5, 2.0, 6)];
        check(&positive, |_, x| x[0].log());
        check(&positive, |_, x| x[0].sqrt());
        check(&positive, |_, x| x[0].powf(1.7));
        check(&positive, |_, x| x[0].powf(-0.5));
    }
}

#[test]
fn matmul() {
    let shapes: &[(&[usize], &[usize])] = &[
        (&[3, 5], &[5, 2]),
        (&[1, 1], &[1, 1]),
        (&[5], &[5]),
        (&[5], &[5, 3]),
        (&[3, 5], &[5]),
        (&[2, 3, 5], &[5, 2]),
        (&[3, 5], &[2, 5, 2]),
        (&[2, 3, 5], &[2, 5, 2]),
        (&[2, 3, 5], &[1, 5, 2]),
        (&[1, 3, 5], &[4, 5, 2]),
        (&[2, 3, 5], &[5]),
        (&[5], &[2, 5, 3]),
        (&[2, 1, 3, 2], &[3, 2, 2]),
        (&[2, 3, 1, 2], &[2, 1, 2, 3]),
        (&[1, 2, 3], &[1, 1, 3, 2]),
    ];
    for &(a, b) in shapes {
        check(&[random(a, -1.0, 1.0, 1), random(b, -1.0, 1.0, 2)], |_, x| x[0].matmul(&x[1]));
    }
}

#[test]
fn linear() {
    for lead in [&[][..], &[1], &[7], &[3, 2], &[2, 1, 3]] {
        let x = random(&[lead, &[5]].concat(), -1.0, 1.0, 1);
        let (w, b) = (random(&[3, 5], -1.0, 1.0, 2), random(&[3], -1.0, 1.0, 3));
        check(&[x.clone(), w.clone()], |_, x| x[0].linear(&x[1], None));
        check(&[x, w, b], |_, x| x[0].linear(&x[1], Some(&x[2])));
    }
}

#[test]
fn reductions() {
    for shape in [&[][..], &[7], &[3, 5]] {
        let x = [distinct(shape)];
        check(&x, |_, x| x[0].sum());
        check(&x, |_, x| x[0].mean());
        check(&x, |_, x| x[0].max());
    }
    for keepdim in [false, true] {
        for axis in -3..3 {
            let x = [distinct(&[3, 2, 5])];
            check(&x, |_, x| x[0].sum_axis(axis, keepdim));
            check(&x, |_, x| x[0].mean_axis(axis, keepdim));
            check(&x, |_, x| Ok(x[0].max_axis(axis, keepdim)?.0));
            check(&x, |_, x| x[0].logsumexp(axis, keepdim));
        }
    }
}

#[test]
fn softmax() {
    for axis in -3..3 {
        let x = [random(&[3, 2, 5], -3.0, 3.0, 1)];
        check(&x, |_, x| x[0].softmax(axis));
        check(&x, |_, x| x[0].log_softmax(axis));
    }
    check(&[random(&[1, 9], -30.0, 30.0, 1)], |_, x| x[0].log_softmax(1));
}

#[test]
fn shapes() {
    let x = [random(&[3, 2, 5], -1.0, 1.0, 1)];
    check(&x, |_, x| x[0].reshape([5, -1]));
    check(&x, |_, x| x[0].reshape(x[0].shape()));
    check(&x, |_, x| x[0].unsqueeze(-1));
    check(&x, |_, x| x[0].unsqueeze(0)?.squeeze(0)?.squeeze(1));
    for a in -3..3 {
        for b in -3..3 {
            check(&x, |_, x| x[0].transpose(a, b));
        }
        check(&x, |_, x| x[0].flip(a));
        check(&x, |_, x| x[0].narrow(a, 1, 1));
        check(&x, |_, x| x[0].narrow(a, 0, 0));
        check(&x, |_, x| x[0].narrow(a, 0, 2));
        check(&x, |_, x| x[0].select(a, -1));
        check(&x, |_, x| x[0].select(a, 0));
    }
    for axes in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0], [-1, 0, -2]] {
        check(&x, |_, x| x[0].permute(&axes));
    }
    for (from, to) in
        [(&[3, 1][..], &[3, 4][..]), (&[], &[2, 3]), (&[1, 2], &[3, 5, 2]), (&[2, 1, 3], &[-1, 4, -1]), (&[2], &[2])]
    {
        let to: Vec<isize> = to.to_vec();
        check(&[random(from, -1.0, 1.0, 1)], |_, x| x[0].expand(to.clone()));
    }
}

#[test]
fn parts() {
    for axis in -3..3isize {
        let shape = |extent: usize| {
            let mut shape = [3, 2, 5];
            shape[axis.rem_euclid(3) as usize] = extent;
            shape
        };
        let parts = [1, 4, 0, 2].map(|n| random(&shape(n), -1.0, 1.0, n as u64));
        check(&parts, |_, x| Var::concat(&x.iter().collect::<Vec<_>>(), axis));
        let one = [random(&[3, 2, 5], -1.0, 1.0, 1)];
        check(&one, |_, x| Var::concat(&[&x[0], &x[0]], axis));
        check(&one, |_, x| Var::concat(&[&x[0]], axis));
        // A chunk that is not used, one used twice.
        check(&one, |_, x| {
            let parts = x[0].chunk(3, axis)?;
            let last = &parts[parts.len() - 1];
            last.mul(last)?.sum()?.add(&parts[0].sum()?)
        });
        check(&one, |_, x| {
            let parts = x[0].unbind(axis)?;
            Var::stack(&parts.iter().rev().collect::<Vec<_>>(), axis)?.tanh()
        });
    }
    let equal = [random(&[3, 2], -1.0, 1.0, 1), random(&[3, 2], -1.0, 1.0, 2)];
    for axis in -3..3 {
        check(&equal, |_, x| Var::stack(&[&x[0], &x[1], &x[0]], axis));
    }
}

#[test]
fn indices() {
    let index = tensor(&[1i64, 0, 1, 1], 4);
    for axis in -3..3 {
        check(&[random(&[3, 2, 5], -1.0, 1.0, 1)], |_, x| x[0].index_select(axis, &index));
    }
    let table = [random(&[5, 3], -1.0, 1.0, 1)];
    for shape in [&[6][..], &[2, 3], &[1, 3, 2]] {
        let words = tensor(&[4i64, 0, 4, 2, 1, 4], shape);
        check(&table, |_, x| x[0].embedding(&words, None));
    }
    check(&table, |_, x| x[0].embedding(&tensor(&[3u32], ()), None));
}

#[test]
fn elements_along_an_axis() {
    let x = [distinct(&[3, 2, 5])];
    // An element that is taken twice, one that is not.
    check(&x, |_, x| x[0].gather(1, &tensor(&[1i64; 15], [3, 1, 5])));
    let index: Vec<i64> = (0..42).map(|i| i * i % 5 % 3).collect();
    check(&x, |_, x| x[0].gather(-3, &tensor(&index[..40], [4, 2, 5])));
    check(&x, |_, x| x[0].gather(2, &tensor(&index, [3, 2, 7])));
    for axis in -3..3isize {
        for k in 0..3 {
            check(&x, |_, x| Ok(x[0].topk(k.min(x[0].dims()[axis.rem_euclid(3) as usize]), axis)?.0));
        }
    }
}

#[test]
fn masks() {
    let mask = |shape: &[usize]| {
        let n: usize = shape.iter().product();
        tensor(&(0..n).map(|i| (i * 7 % 3) as u8).collect::<Vec<_>>(), shape)
    };
    let inputs = [random(&[3, 1, 5], -1.0, 1.0, 1), random(&[2, 1], -1.0, 1.0, 2)];
    for shape in [&[3, 2, 5][..], &[2, 1], &[5], &[], &[4, 1, 1, 1]] {
        check(&inputs, |_, x| x[0].where_cond(&mask(shape), &x[1]));
        check(&inputs, |_, x| x[1].where_cond(&mask(shape), &x[0]));
    }
    check(&inputs[..1], |_, x| x[0].where_cond(&mask(&[3, 2, 5]), &x[0]));
    for shape in [&[3, 1, 5][..], &[1, 5], &[]] {
        check(&inputs[..1], |_, x| x[0].masked_fill(&mask(shape), -2.0));
    }
}

#[test]
fn a_deep_composition() {
    let inputs = [random(&[4, 3], -1.0, 1.0, 1), random(&[5, 3], -1.0, 1.0, 2), random(&[5], -1.0, 1.0, 3)];
    check(&inputs, |_, x| {
        let mut h = x[0].linear(&x[1], Some(&x[2]))?.tanh()?;
        for _ in 0..5 {
            h = h.mul(&h.sigmoid()?)?.add(&x[2])?.softmax(-1)?.matmul(&x[1])?.linear(&x[1], None)?;
        }
        h.log_softmax(0)?.mean()
    });
}

/// The check itself: a derivative that is off by a thousandth is found.
#[test]
#[should_panic(expected = "the tape says")]
fn a_wrong_derivative_is_found() {
    check(&[random(&[3], 0.5, 1.0, 1)], |tape, x| {
        let wrong = |mut dy: Vec<Option<Tensor>>| {
            let dy = gatefold::Tape::no_grad().constant(dy.remove(0).unwrap());
            Ok(vec![Some(dy.mul_scalar(2.002)?.into_tensor())])
        };
        let y = x[0].mul_scalar(2.0)?.into_tensor();
        Ok(tape.record("wrong", &[&x[0]], vec![y], wrong)?.remove(0))
    });
}
