//! Properties over random shapes: broadcasting against its definition, and moves that undo one another.

use gatefold::{Shape, Tape, Tensor, Var};
use proptest::prelude::*;

use crate::{common::gradcheck::random, count};

fn f64s(x: &Tensor) -> Vec<f64> {
    x.to_vec().unwrap()
}

fn shape(rank: std::ops::Range<usize>) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0usize..5, rank)
}

/// A shape, and two that broadcast to it.
fn broadcasting() -> impl Strategy<Value = (Vec<usize>, Vec<usize>, Vec<usize>)> {
    let stretched = |dims: Vec<usize>, ones: Vec<bool>, drop: usize| -> Vec<usize> {
        dims.iter().zip(ones).map(|(&d, one)| if one { 1 } else { d }).skip(drop).collect()
    };
    prop::collection::vec(1usize..5, 0..5).prop_flat_map(move |dims| {
        let n = dims.len();
        let part = move || (prop::collection::vec(any::<bool>(), n), 0..=n);
        (Just(dims), part(), part()).prop_map(move |(dims, (p, i), (q, j))| {
            (dims.clone(), stretched(dims.clone(), p, i), stretched(dims, q, j))
        })
    })
}

/// The element of a tensor of shape `dims` that stands at `index` of what it is stretched to.
fn stretched_at(dims: &[usize], values: &[f64], index: &[usize]) -> f64 {
    let index = &index[index.len() - dims.len()..];
    values[dims.iter().zip(index).fold(0, |at, (&d, &i)| at * d + if d == 1 { 0 } else { i })]
}

/// Every index of a shape, in row-major order.
fn indices(dims: &[usize]) -> Vec<Vec<usize>> {
    dims.iter().fold(vec![vec![]], |all, &d| {
        all.iter().flat_map(|head| (0..d).map(|i| [head.as_slice(), &[i]].concat()).collect::<Vec<_>>()).collect()
    })
}

proptest! {
    #[test]
    fn broadcasting_is_stretching((_, a, b) in broadcasting(), op in 0usize..4) {
        let tape = Tape::new();
        let (x, y) = (tape.variable(random(&a, 0.5, 2.0, 1)), tape.variable(random(&b, 0.5, 2.0, 2)));
        let (u, v) = (f64s(x.tensor()), f64s(y.tensor()));
        type Case = (fn(&Var, &Var) -> gatefold::Result<Var>, fn(f64, f64) -> f64);
        let cases: [Case; 4] =
            [(Var::add, |a, b| a + b), (Var::sub, |a, b| a - b), (Var::mul, |a, b| a * b), (Var::div, |a, b| a / b)];
        let z = cases[op].0(&x, &y).unwrap();
        let dims = Shape::broadcast(x.shape(), y.shape(), "test").unwrap();
        prop_assert_eq!(z.shape(), &dims);
        let at = indices(&dims);
        let want: Vec<f64> =
            at.iter().map(|i| cases[op].1(stretched_at(&a, &u, i), stretched_at(&b, &v, i))).collect();
        prop_assert_eq!(f64s(z.tensor()), want);

        // Each input's gradient is the sum over the places where it was read; of a sum, their number.
        z.sum().unwrap().backward().unwrap();
        if op == 0 {
            let places = dims.numel() as f64;
            prop_assert!(f64s(&x.grad().unwrap()).iter().all(|&g| g == places / u.len() as f64));
            prop_assert!(f64s(&y.grad().unwrap()).iter().all(|&g| g == places / v.len() as f64));
        }
    }

    #[test]
    fn expanding_is_adding_zeros((to, from, _) in broadcasting()) {
        let tape = Tape::no_grad();
        let (x, zeros) = (tape.constant(count(from)), tape.constant(count(to.as_slice()).expand(&to[..]).unwrap()));
        let zeros = zeros.mul_scalar(0.0).unwrap();
        prop_assert_eq!(f64s(x.expand(to).unwrap().tensor()), f64s(x.add(&zeros).unwrap().tensor()));
    }

    #[test]
    fn shapes_that_do_not_broadcast_are_refused(a in shape(0..4), b in shape(0..4)) {
        let tape = Tape::no_grad();
        let fits = a.iter().rev().zip(b.iter().rev()).all(|(x, y)| x == y || *x == 1 || *y == 1);
        prop_assert_eq!(tape.constant(count(a)).add(&tape.constant(count(b))).is_ok(), fits);
    }

    #[test]
    fn permutations_pick_and_undo((dims, axes) in shape(0..5).prop_flat_map(|dims| {
        let axes: Vec<isize> = (0..dims.len() as isize).collect();
        (Just(dims), Just(axes).prop_shuffle())
    })) {
        let x = count(dims.as_slice());
        let y = x.permute(&axes).unwrap();
        for (value, index) in f64s(&y).into_iter().zip(indices(y.dims())) {
            let mut back = vec![0; dims.len()];
            axes.iter().zip(index).for_each(|(&a, i)| back[a as usize] = i);
            prop_assert_eq!(value, stretched_at(&dims, &f64s(&x), &back));
        }
        let mut inverse = vec![0; axes.len()];
        axes.iter().enumerate().for_each(|(i, &a)| inverse[a as usize] = i as isize);
        let back = y.permute(&inverse).unwrap();
        prop_assert_eq!((back.dims(), f64s(&back)), (x.dims(), f64s(&x)));
    }

    #[test]
    fn transposing_and_flipping_twice_change_nothing(
        (dims, a, b) in shape(1..5).prop_flat_map(|d| { let n = d.len() as isize; (Just(d), -n..n, -n..n) })
    ) {
        let x = count(dims);
        let y = x.transpose(a, b).unwrap().transpose(b, a).unwrap();
        prop_assert_eq!((y.dims(), f64s(&y)), (x.dims(), f64s(&x)));
        let y = x.flip(a).unwrap().flip(b).unwrap().flip(a).unwrap().flip(b).unwrap();
        prop_assert_eq!(f64s(&y), f64s(&x));
    }

    #[test]
    fn parts_join_again(
        (dims, axis, cut, chunks) in shape(1..5).prop_flat_map(|d| {
            let n = d.len();
            (Just(d), 0..n, 0usize..5, 1usize..6)
        })
    ) {
        let x = Tape::no_grad().constant(count(dims.as_slice()));
        let (n, at) = (dims[axis], cut.min(dims[axis]));
        let axis = axis as isize;
        let parts = [x.narrow(axis, 0, at).unwrap(), x.narrow(axis, at, n - at).unwrap()];
        let joined = Var::concat(&[&parts[0], &parts[1]], axis).unwrap();
        prop_assert_eq!((joined.dims(), f64s(joined.tensor())), (x.dims(), f64s(x.tensor())));
        let parts = x.chunk(chunks, axis - dims.len() as isize).unwrap();
        prop_assert!(parts.len() <= chunks);
        let joined = Var::concat(&parts.iter().collect::<Vec<_>>(), axis).unwrap();
        prop_assert_eq!((joined.dims(), f64s(joined.tensor())), (x.dims(), f64s(x.tensor())));
        if n > 0 {
            let parts = x.unbind(axis).unwrap();
            prop_assert_eq!(f64s(parts[n - 1].tensor()), f64s(x.select(axis, -1).unwrap().tensor()));
            let joined = Var::stack(&parts.iter().collect::<Vec<_>>(), axis).unwrap();
            prop_assert_eq!((joined.dims(), f64s(joined.tensor())), (x.dims(), f64s(x.tensor())));
        }
    }

    #[test]
    fn reductions_are_their_loops(
        (dims, axis) in shape(1..5).prop_flat_map(|d| { let n = d.len(); (Just(d), 0..n) })
    ) {
        let x = Tape::no_grad().constant(random(&dims, -1.0, 1.0, 3));
        let (values, n) = (f64s(x.tensor()), dims[axis]);
        let (outer, inner): (usize, usize) = (dims[..axis].iter().product(), dims[axis + 1..].iter().product());
        let axis = axis as isize;
        let lines: Vec<Vec<f64>> = (0..outer * inner)
            .map(|i| (0..n).map(|j| values[(i / inner * n + j) * inner + i % inner]).collect())
            .collect();
        let near = |got: &Var, want: &dyn Fn(&[f64]) -> f64| {
            let got = f64s(got.tensor());
            got.len() == lines.len() && got.iter().zip(&lines).all(|(g, line)| (g - want(line)).abs() < 1e-12)
        };
        prop_assert!(near(&x.sum_axis(axis, false).unwrap(), &|l| l.iter().sum()));
        if n > 0 {
            prop_assert!(near(&x.mean_axis(axis, true).unwrap(), &|l| l.iter().sum::<f64>() / n as f64));
            prop_assert!(near(&x.logsumexp(axis, true).unwrap(), &|l| l.iter().map(|v| v.exp()).sum::<f64>().ln()));
            let (max, index) = x.max_axis(axis, false).unwrap();
            prop_assert!(near(&max, &|l| l.iter().copied().fold(f64::NEG_INFINITY, f64::max)));
            let index = index.to_vec::<i64>().unwrap();
            prop_assert_eq!(index.len(), lines.len());
            for ((m, i), line) in f64s(max.tensor()).iter().zip(index).zip(&lines) {
                prop_assert_eq!(line[i as usize], *m);
            }
        }
    }
}
