//! What moves elements: shapes, parts, indices, dropout, casts.

use gatefold::{DType, Device, Tape, Tensor, Var, ops::Extents};

use crate::{constant, count, gradient, tensor};

fn f64s(x: &Tensor) -> Vec<f64> {
    x.to_vec().unwrap()
}

#[test]
fn reshaping() {
    let x = Tape::no_grad().constant(count([2, 3, 4]));
    assert_eq!(x.reshape([6, 4]).unwrap().dims(), [6, 4]);
    assert_eq!(x.reshape([-1]).unwrap().dims(), [24]);
    assert_eq!(x.reshape([2, -1, 2]).unwrap().dims(), [2, 6, 2]);
    assert_eq!(x.reshape([4usize, 6]).unwrap().dims(), [4, 6]);
    assert_eq!(x.reshape(vec![4isize, -1]).unwrap().dims(), [4, 6]);
    assert_eq!(x.reshape(x.dims()).unwrap().dims(), [2, 3, 4]);
    assert_eq!(x.reshape(Extents::from(x.shape())).unwrap().dims(), [2, 3, 4]);
    assert_eq!(constant(&[1.0], [1, 1]).reshape(()).unwrap().shape().rank(), 0);
    assert_eq!(constant(&[1.0], ()).reshape([-1]).unwrap().dims(), [1]);
    let none = constant(&[] as &[f64], [0, 3]);
    assert_eq!(none.reshape([3, -1]).unwrap().dims(), [3, 0]);
    assert_eq!(none.reshape([0, 7]).unwrap().dims(), [0, 7]);
    assert_eq!(x.unsqueeze(-1).unwrap().dims(), [2, 3, 4, 1]);
    assert_eq!(x.unsqueeze(1).unwrap().dims(), [2, 1, 3, 4]);
    assert_eq!(x.unsqueeze(0).unwrap().squeeze(0).unwrap().dims(), [2, 3, 4]);
    assert_eq!(x.squeeze(1).unwrap().dims(), [2, 3, 4]);
    assert_eq!(constant(&[1.0], ()).unsqueeze(-1).unwrap().dims(), [1]);
}

#[test]
fn reordering() {
    let x = count([2, 3]);
    assert_eq!(f64s(&x.transpose(0, 1).unwrap()), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(f64s(&x.transpose(-1, -1).unwrap()), f64s(&x));
    let y = count([2, 1, 3]).permute(&[2, 0, 1]).unwrap();
    assert_eq!((y.dims(), f64s(&y)), (&[3, 2, 1][..], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
    assert_eq!(count([1, 4, 1]).permute(&[1, 2, 0]).unwrap().dims(), [4, 1, 1]);
    assert_eq!(count([0, 4]).transpose(0, 1).unwrap().dims(), [4, 0]);
    assert_eq!(count(()).permute(&[]).unwrap().rank(), 0);
    assert_eq!(f64s(&x.flip(0).unwrap()), [3.0, 4.0, 5.0, 0.0, 1.0, 2.0]);
    assert_eq!(f64s(&x.flip(-1).unwrap()), [2.0, 1.0, 0.0, 5.0, 4.0, 3.0]);
    assert_eq!(count([0, 2]).flip(0).unwrap().dims(), [0, 2]);
    let whole = tensor(&[1i64, 2, 3, 4], [2, 2]);
    assert_eq!(whole.transpose(0, 1).unwrap().to_vec::<i64>().unwrap(), [1, 3, 2, 4]);
    assert_eq!(whole.flip(1).unwrap().to_vec::<i64>().unwrap(), [2, 1, 4, 3]);
}

#[test]
fn taking_apart_and_together() {
    let x = count([2, 3]);
    assert_eq!(f64s(&x.narrow(1, 1, 2).unwrap()), [1.0, 2.0, 4.0, 5.0]);
    assert_eq!(x.narrow(0, 2, 0).unwrap().dims(), [0, 3]);
    let row = x.select(0, -1).unwrap();
    assert_eq!((row.dims(), f64s(&row)), (&[3][..], vec![3.0, 4.0, 5.0]));
    assert_eq!(f64s(&x.select(1, 0).unwrap()), [0.0, 3.0]);
    assert_eq!(count(1).select(0, 0).unwrap().rank(), 0);
    let y = Tensor::concat(&[&x, &x.narrow(1, 0, 1).unwrap()], -1).unwrap();
    assert_eq!((y.dims(), f64s(&y)), (&[2, 4][..], vec![0.0, 1.0, 2.0, 0.0, 3.0, 4.0, 5.0, 3.0]));
    assert_eq!(f64s(&Tensor::stack(&[&row, &row], 1).unwrap()), [3.0, 3.0, 4.0, 4.0, 5.0, 5.0]);
    assert_eq!(Tensor::stack(&[&row, &row], -2).unwrap().dims(), [2, 3]);
    assert_eq!(f64s(&Tensor::stack(&[&count(()), &count(())], 0).unwrap()), [0.0, 0.0]);
    let words = [tensor(&[1u32], 1), tensor(&[2u32, 3], 2)];
    assert_eq!(Tensor::concat(&[&words[0], &words[1]], 0).unwrap().to_vec::<u32>().unwrap(), [1, 2, 3]);

    let lengths = |n: usize, chunks: usize| -> Vec<usize> {
        Tape::no_grad().constant(count(n)).chunk(chunks, 0).unwrap().iter().map(|c| c.dims()[0]).collect()
    };
    // As torch.chunk.
    assert_eq!(lengths(12, 4), [3; 4]);
    assert_eq!(lengths(7, 3), [3, 3, 1]);
    assert_eq!(lengths(6, 4), [2, 2, 2]);
    assert_eq!(lengths(2, 5), [1, 1]);
    assert_eq!(lengths(0, 5), [0; 5]);
    let parts = Tape::no_grad().constant(x).unbind(1).unwrap();
    assert_eq!(parts.iter().map(|p| f64s(p.tensor())).collect::<Vec<_>>(), [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]);
    assert!(Tape::no_grad().constant(count([0, 2])).unbind(0).unwrap().is_empty());
}

#[test]
fn a_loop_of_unbound_steps_is_one_entry() {
    let tape = Tape::new();
    let steps = tape.variable(count([5, 2])).unbind(0).unwrap();
    assert_eq!((steps.len(), tape.len()), (5, 1));
}

#[test]
fn expanding() {
    let x = tensor(&[1.0, 2.0], [2, 1]);
    assert_eq!(f64s(&x.expand([2, 3]).unwrap()), [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    assert_eq!(x.expand([3, -1, 2]).unwrap().dims(), [3, 2, 2]);
    assert_eq!(x.expand([2, 0]).unwrap().dims(), [2, 0]);
    assert_eq!(f64s(&count(()).expand([2, 2]).unwrap()), [0.0; 4]);
    assert_eq!(tensor(&[7i64], 1).expand([3]).unwrap().to_vec::<i64>().unwrap(), [7, 7, 7]);
}

#[test]
fn rows_by_index() {
    let x = count([3, 2]);
    let index = tensor(&[2i64, 0, 2], 3);
    assert_eq!(f64s(&x.index_select(0, &index).unwrap()), [4.0, 5.0, 0.0, 1.0, 4.0, 5.0]);
    assert_eq!(f64s(&x.index_select(-1, &tensor(&[1u32], ())).unwrap()), [1.0, 3.0, 5.0]);
    assert_eq!(x.index_select(0, &tensor(&[] as &[i64], 0)).unwrap().dims(), [0, 2]);
    let labels = tensor(&[7i64, 8, 9], 3);
    assert_eq!(labels.index_select(0, &index).unwrap().to_vec::<i64>().unwrap(), [9, 7, 9]);

    let tape = Tape::new();
    let table = tape.variable(x);
    let words = table.embedding(&tensor(&[2i64, 0, 2, 1], [2, 2]), Some(-2)).unwrap();
    assert_eq!((words.dims(), f64s(words.tensor())), (&[2, 2, 2][..], vec![4.0, 5.0, 0.0, 1.0, 4.0, 5.0, 2.0, 3.0]));
    words.sum().unwrap().backward().unwrap();
    // Row 1 is padding, row 2 was read twice.
    assert_eq!(f64s(&table.grad().unwrap()), [1.0, 1.0, 0.0, 0.0, 2.0, 2.0]);
    let none = constant(&[1.0, 2.0], [1, 2]).embedding(&tensor(&[] as &[i64], [0, 3]), None).unwrap();
    assert_eq!(none.dims(), [0, 3, 2]);
}

/// The same bits whatever the number of repetitions of a row.
#[test]
fn gradients_of_rows_are_deterministic() {
    let run = || {
        let tape = Tape::new();
        let table = tape.variable(tensor(&[0.1f32; 300], [3, 100]));
        let index = tensor(&(0..1000).map(|i| i * 7 % 3).collect::<Vec<i64>>(), 1000);
        let y = table.embedding(&index, None).unwrap();
        let scale: Vec<f32> = (0..100_000).map(|i| (i as f32).sin()).collect();
        y.mul(&tape.constant(tensor(&scale, [1000, 100]))).unwrap().sum().unwrap().backward().unwrap();
        table.grad().unwrap().to_vec::<f32>().unwrap()
    };
    assert_eq!(run(), run());
}

#[test]
fn dropout_masks() {
    let n = 20_000;
    let tape = Tape::new();
    let x = tape.variable(Tensor::ones([n], DType::F32, &Device::Cpu).unwrap());
    let y = x.dropout(0.25, 7, 1).unwrap();
    assert_eq!(tape.len(), 1);
    let values = y.tensor().to_vec::<f32>().unwrap();
    assert!(values.iter().all(|&v| v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6));
    let kept = values.iter().filter(|&&v| v != 0.0).count() as f64 / n as f64;
    // Five standard deviations of a mean of Bernoulli draws.
    assert!((kept - 0.75).abs() < 5.0 * (0.75 * 0.25 / n as f64).sqrt(), "{kept}");
    assert_eq!(values, x.dropout(0.25, 7, 1).unwrap().tensor().to_vec::<f32>().unwrap());
    assert_ne!(values, x.dropout(0.25, 7, 2).unwrap().tensor().to_vec::<f32>().unwrap());
    assert_ne!(values, x.dropout(0.25, 8, 1).unwrap().tensor().to_vec::<f32>().unwrap());
    y.sum().unwrap().backward().unwrap();
    assert_eq!(x.grad().unwrap().to_vec::<f32>().unwrap(), values);

    let odd = [1.0, f64::INFINITY, f64::NAN];
    assert_eq!(constant(&odd[..2], 2).dropout(0.0, 1, 1).unwrap().tensor().to_vec::<f64>().unwrap(), odd[..2]);
    assert_eq!(constant(&odd, 3).dropout(1.0, 1, 1).unwrap().tensor().to_vec::<f64>().unwrap(), [0.0; 3]);
    assert_eq!(gradient(&[1.0, 2.0], |x| x.dropout(1.0, 1, 1)), [0.0, 0.0]);
}

#[test]
fn casts() {
    let tape = Tape::new();
    let x = tape.variable(tensor(&[1.5f32, -2.0], 2));
    let y = x.to_dtype(DType::F64).unwrap();
    assert_eq!(y.tensor().to_vec::<f64>().unwrap(), [1.5, -2.0]);
    let whole = x.to_dtype(DType::I64).unwrap();
    assert_eq!((whole.tensor().to_vec::<i64>().unwrap(), whole.requires_grad()), (vec![1, -2], false));
    assert!(!whole.to_dtype(DType::F32).unwrap().requires_grad());
    y.mul(&y).unwrap().sum().unwrap().backward().unwrap();
    assert_eq!(x.grad().unwrap().to_vec::<f32>().unwrap(), [3.0, -4.0]);
}

/// Shapes share memory: what is a view in PyTorch is no copy here.
#[test]
fn tensors_do_not_change_behind_a_view() {
    let x = count([2, 3]);
    let mut view: Tensor = x.reshape([3, 2]).unwrap();
    view.add_scaled(1.0, &view.clone()).unwrap();
    assert_eq!(f64s(&x), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let y: Var = Tape::no_grad().constant(x);
    assert_eq!(f64s(y.detach().tensor()), f64s(y.tensor()));
}
