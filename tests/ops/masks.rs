//! Comparisons, masks, picks along an axis: values, and what is refused.

use gatefold::{
    DType, Device, Error, Result, Tape, Tensor,
    dtype::{Element, bf16},
    nn::length_mask,
};

use crate::{constant, tensor};

fn bytes(mask: Result<Tensor>) -> Vec<u8> {
    mask.unwrap().to_vec::<u8>().unwrap()
}

#[test]
fn comparisons() {
    let (x, y) = (tensor(&[1.0, 2.0, f64::NAN, -0.0], 4), tensor(&[1.0, 3.0, f64::NAN, 0.0], 4));
    assert_eq!(bytes(x.eq(&y)), [1, 0, 0, 1]);
    assert_eq!(bytes(x.ne(&y)), [0, 1, 1, 0]);
    assert_eq!(bytes(x.lt(&y)), [0, 1, 0, 0]);
    assert_eq!(bytes(x.le(&y)), [1, 1, 0, 1]);
    assert_eq!(bytes(y.gt(&x)), [0, 1, 0, 0]);
    assert_eq!(bytes(y.ge(2.0)), [0, 1, 0, 0]);
    // Broadcast; integers beyond what f64 holds.
    let (big, one) = (1i64 << 53, tensor(&[(1i64 << 53) + 1], [1, 1]));
    let all = tensor(&[big, big + 1, big + 2], [3, 1]);
    assert_eq!((all.lt(&one).unwrap().dims(), bytes(all.lt(&one))), (&[3, 1][..], vec![1, 0, 0]));
    assert_eq!(bytes(tensor(&[i64::MIN, i64::MAX], 2).le(-(2f64.powi(63)))), [1, 0]);
    assert_eq!(bytes(x.ge(1.0f32)), bytes(x.ge(1)));
    assert_eq!(tensor(&[1u32, 2], [2, 1]).ge(&tensor(&[1u32, 2, 3], 3)).unwrap().dims(), [2, 3]);
    // A number is rounded to the dtype of what it is compared with, as 0.1 is there.
    let tenth = tensor(&[<bf16 as Element>::from_f64(0.1)], 1);
    assert_eq!(bytes(tenth.eq(0.1)), [1]);
    // The accuracy of predictions.
    let hits = tensor(&[2i64, 0, 1], 3).eq(&tensor(&[2i64, 1, 1], 3)).unwrap().to_dtype(DType::F32).unwrap();
    assert_eq!(Tape::new().constant(hits).mean().unwrap().item().unwrap(), f64::from(2.0f32 / 3.0));
    // On a tape.
    assert_eq!(bytes(x.eq(&constant(&[2.0], ()))), [0, 1, 0, 0]);
    assert_eq!(tensor::<f32>(&[], [0, 2]).eq(1.0).unwrap().dims(), [0, 2]);
}

#[test]
fn masks_of_masks() {
    let (a, b) = (tensor(&[0u8, 0, 1, 7], 4), tensor(&[0u8, 3, 0, 1], 4));
    assert_eq!(bytes(a.logical_not()), [1, 1, 0, 0]);
    assert_eq!(bytes(a.logical_and(&b)), [0, 0, 0, 1]);
    assert_eq!(bytes(a.logical_or(&b)).iter().map(|&m| m != 0).collect::<Vec<_>>(), [false, true, true, true]);
    assert_eq!(bytes(a.logical_or(&b)), [0, 1, 1, 1]);
    let mask = length_mask(&[2, 0, 3], 3, false, &Device::Cpu).unwrap();
    assert_eq!((mask.dims(), mask.to_vec::<u8>().unwrap()), (&[3, 3][..], vec![1, 0, 1, 1, 0, 1, 0, 0, 1]));
    let first = length_mask(&[2, 0, 3], 3, true, &Device::Cpu).unwrap();
    assert_eq!(bytes(mask.transpose(0, 1)), first.to_vec::<u8>().unwrap());
    assert!(matches!(length_mask(&[4], 3, true, &Device::Cpu), Err(Error::Argument { .. })));
    assert_eq!(length_mask(&[], usize::MAX, false, &Device::Cpu).unwrap().dims(), [usize::MAX, 0]);
    assert!(length_mask(&[usize::MAX >> 8; 2], usize::MAX >> 8, true, &Device::Cpu).is_err());
    // Printed, cast and moved as any other; classes of files of bytes.
    assert_eq!(Tensor::new([[1u8, 0]], &Device::Cpu).unwrap().one_hot(2, DType::F32).unwrap().dims(), [1, 2, 2]);
    assert_eq!(format!("{a:?}"), "tensor([0, 0, 1, 7], dtype=torch.uint8)");
    assert_eq!(
        tensor(&[-1.0, 0.5, 300.0, f64::NAN], 4).to_dtype(DType::U8).unwrap().to_vec::<u8>().unwrap(),
        [0, 0, 255, 0]
    );
    assert_eq!(bytes(a.flip(0)), [7, 1, 0, 0]);
}

#[test]
fn filling_and_choosing() {
    let x = tensor(&[1.0, f64::NAN, 3.0], 3);
    let mask = tensor(&[0u8, 1, 0], 3);
    assert_eq!(
        x.masked_fill(&mask, f64::NEG_INFINITY).unwrap().to_vec::<f64>().unwrap(),
        [1.0, f64::NEG_INFINITY, 3.0]
    );
    let whole = tensor(&[1i64, 2, 3], 3);
    assert_eq!(whole.masked_fill(&mask, -100.0).unwrap().to_vec::<i64>().unwrap(), [1, -100, 3]);
    assert_eq!(whole.where_cond(&mask, &tensor(&[9i64], ())).unwrap().to_vec::<i64>().unwrap(), [9, 2, 9]);
    // The gradient of what is not chosen is 0 and no product with it, which would be NaN.
    let tape = Tape::new();
    let (x, zero) = (tape.variable(tensor(&[0.0, 4.0], 2)), tape.constant(tensor(&[0.0], ())));
    let root = x.sqrt().unwrap().where_cond(&x.tensor().gt(0.0).unwrap(), &zero).unwrap();
    root.sum().unwrap().backward().unwrap();
    let gradient = x.grad().unwrap().to_vec::<f64>().unwrap();
    assert!(
        gradient[0].is_nan() && gradient[1] == 0.25,
        "sqrt's own slope is infinite there, as in PyTorch: {gradient:?}"
    );
    let tape = Tape::new();
    let x = tape.variable(tensor(&[0.0, 4.0], 2));
    let mask = x.tensor().gt(0.0).unwrap();
    let safe = x.where_cond(&mask, &tape.constant(tensor(&[1.0], ()))).unwrap();
    safe.log().unwrap().masked_fill(&mask.logical_not().unwrap(), 0.0).unwrap().sum().unwrap().backward().unwrap();
    assert_eq!(x.grad().unwrap().to_vec::<f64>().unwrap(), [0.0, 0.25]);
}

#[test]
fn picks() {
    let x = tensor(&[3.0, f64::NAN, 5.0, 5.0, -1.0, f64::NEG_INFINITY], [2, 3]);
    let (values, index) = x.topk(3, -1).unwrap();
    assert_eq!(index.to_vec::<i64>().unwrap(), [1, 2, 0, 0, 1, 2]);
    let values = values.to_vec::<f64>().unwrap();
    assert!(values[0].is_nan() && values[1..] == [5.0, 3.0, 5.0, -1.0, f64::NEG_INFINITY], "{values:?}");
    assert_eq!(x.topk(1, 0).unwrap().1.to_vec::<i64>().unwrap(), [1, 0, 0]);
    assert_eq!(x.topk(0, 1).unwrap().0.dims(), [2, 0]);
    let labels = tensor(&[10i64, 20, 30, 40], [2, 2]);
    assert_eq!(labels.gather(0, &tensor(&[1u32, 0], [1, 2])).unwrap().to_vec::<i64>().unwrap(), [30, 20]);
    let index = tensor(&[2i64, 0], [1, 2]);
    let hot = index.one_hot(3, DType::F64).unwrap();
    assert_eq!((hot.dims(), hot.to_vec::<f64>().unwrap()), (&[1, 2, 3][..], vec![0.0, 0.0, 1.0, 1.0, 0.0, 0.0]));
    assert_eq!(tensor::<i64>(&[], 0).one_hot(0, DType::F32).unwrap().dims(), [0, 0]);
    let whole = Tensor::arange(-2..3, DType::BF16, &Device::Cpu).unwrap();
    assert_eq!(whole.to_f64_vec().unwrap(), [-2.0, -1.0, 0.0, 1.0, 2.0]);
    assert_eq!(Tensor::arange(250..256, DType::U8, &Device::Cpu).unwrap().numel(), 6);
    assert_eq!(Tensor::arange(5..5, DType::I64, &Device::Cpu).unwrap().dims(), [0]);
}

#[test]
fn refusals() {
    let name = |result: Result<Tensor>| {
        let text = result.unwrap_err().to_string();
        text.split(": ").take(2).collect::<Vec<_>>().join(": ")
    };
    let (x, mask) = (tensor(&[1.0, 2.0], 2), tensor(&[1u8, 0], 2));
    let three = tensor(&[1.0; 3], 3);
    assert_eq!(name(x.eq(&three)), "eq: wrong shape");
    assert_eq!(name(x.le(&mask)), "le: wrong dtype");
    assert_eq!(name(mask.gt(0.5)), "gt: invalid argument");
    assert_eq!(name(mask.lt(f64::NAN)), "lt: invalid argument");
    assert_eq!(name(mask.eq(256)), "eq: invalid argument");
    assert_eq!(name(tensor(&[i64::MAX], 1).lt(2f64.powi(63))), "lt: invalid argument");
    let whole = tensor(&[1i64, 2], 2);
    for value in [f64::NEG_INFINITY, f64::NAN, 0.5, 1e19] {
        assert_eq!(name(whole.masked_fill(&mask, value)), "masked_fill: invalid argument");
    }
    assert_eq!(name(mask.masked_fill(&mask, -1.0)), "masked_fill: invalid argument");
    assert_eq!(name(x.logical_not()), "logical_not: wrong dtype");
    assert_eq!(name(mask.logical_and(&x)), "logical_and: wrong dtype");
    assert_eq!(name(x.logical_and(&mask)), "logical_and: wrong dtype");
    assert_eq!(name(x.logical_or(&mask)), "logical_or: wrong dtype");
    assert_eq!(name(x.where_cond(&x, &x)), "where_cond: wrong dtype");
    assert_eq!(name(x.where_cond(&mask, &mask)), "where_cond: wrong dtype");
    assert_eq!(name(x.where_cond(&mask, &three)), "where_cond: wrong shape");
    assert_eq!(name(x.masked_fill(&tensor(&[1u8; 4], [2, 2]), 0.0)), "masked_fill: wrong shape");
    assert_eq!(name(x.masked_fill(&tensor(&[1i64; 2], 2), 0.0)), "masked_fill: wrong dtype");
    let index = |k: i64| tensor(&[k, 0], 2);
    assert_eq!(name(x.gather(0, &index(2))), "gather: invalid argument");
    assert_eq!(name(x.gather(0, &index(-1))), "gather: invalid argument");
    assert_eq!(name(x.gather(1, &index(0))), "gather: wrong shape");
    assert_eq!(name(x.gather(0, &tensor(&[0i64], ()))), "gather: wrong shape");
    assert_eq!(name(tensor(&[0.0; 6], [2, 3]).gather(0, &tensor(&[0i64; 4], [2, 2]))), "gather: wrong shape");
    assert_eq!(name(x.gather(0, &x)), "gather: wrong dtype");
    assert_eq!(name(x.topk(3, 0).map(|(y, _)| y)), "topk: invalid argument");
    assert_eq!(name(x.topk(1, 1).map(|(y, _)| y)), "topk: wrong shape");
    assert_eq!(name(index(0).topk(1, 0).map(|(y, _)| y)), "topk: wrong dtype");
    assert_eq!(name(index(3).one_hot(3, DType::F32)), "one_hot: invalid argument");
    assert_eq!(name(index(0).one_hot(3, DType::I64)), "one_hot: wrong dtype");
    assert_eq!(name(x.one_hot(3, DType::F32)), "one_hot: wrong dtype");
    assert_eq!(name(Tensor::arange(0..258, DType::BF16, &Device::Cpu)), "arange: invalid argument");
    assert_eq!(name(Tensor::arange(-1..2, DType::U8, &Device::Cpu)), "arange: invalid argument");
    assert!(Tensor::arange(i64::MIN..i64::MAX, DType::I64, &Device::Cpu).is_err());
    let whole = Tape::no_grad().constant(tensor(&[1i64, 2], 2));
    assert!(matches!(whole.masked_fill(&mask, 0.0), Err(Error::DType { op: "masked_fill", .. })));
    assert!(matches!(whole.where_cond(&mask, &whole), Err(Error::DType { op: "where_cond", .. })));
}
