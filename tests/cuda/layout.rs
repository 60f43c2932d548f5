//! Between host and device, dtypes, shapes.

use gatefold::{DType, Tensor, Var};

use crate::{CPU, FLOATS, GPU, agree, agree_with_gradients, gpu, numbers};

const ALL: [DType; 6] = [DType::F64, DType::F32, DType::F16, DType::BF16, DType::U32, DType::I64];

#[test]
fn there_and_back() {
    if !gpu() {
        return;
    }
    for dtype in ALL {
        // Beyond 8 MiB a copy is made in pieces.
        for len in [0, 1, 1000, if dtype == DType::F64 { 1_200_000 } else { 4097 }] {
            let x = numbers(&[len], 0.0, 100.0, DType::F64, 1).to_dtype(dtype).unwrap();
            let back = x.to_device(&GPU).unwrap().to_device(&CPU).unwrap();
            assert_eq!(back.to_f64_vec().unwrap(), x.to_f64_vec().unwrap());
        }
        agree("full", |d| Ok(vec![Tensor::full([3, 5], 2.75, dtype, d)?, Tensor::zeros(70, dtype, d)?]));
    }
}

#[test]
fn conversions() {
    if !gpu() {
        return;
    }
    let odd = [0.0, -0.0, 0.4, 2.5, -2.5, 65504.0, 65520.0, 1e10, -1e10, 1e300, -1e300, 1e-9, 1e-300];
    let halves =
        [1.0 + 1.0 / 256.0, 1.0 + 1.0 / 256.0 + 1e-12, 1.0 + 1.0 / 2048.0 + 1e-12, -(3.0 + 3e-8) * 2f64.powi(-25)];
    let last = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 4294967295.0, 4294967296.0, 9.3e18];
    let odd = [&odd[..], &halves, &last].concat();
    let odd = Tensor::from_slice(&odd, odd.len(), &CPU).unwrap();
    for from in ALL {
        for to in ALL {
            let x = odd.to_dtype(from).unwrap();
            let want = x.to_dtype(to).unwrap().to_f64_vec().unwrap();
            let got = x.to_device(&GPU).unwrap().to_dtype(to).unwrap().to_f64_vec().unwrap();
            let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            assert!(
                got.len() == want.len() && got.iter().zip(&want).all(same),
                "{from} to {to}: got {got:?}, want {want:?}"
            );
        }
    }
}

#[test]
fn shapes() {
    if !gpu() {
        return;
    }
    for dtype in FLOATS {
        let x = [numbers(&[3, 4, 5], -1.0, 1.0, dtype, 2)];
        agree_with_gradients("transpose", &x, |v| v[0].transpose(0, 2));
        agree_with_gradients("permute", &x, |v| v[0].permute(&[1, 2, 0]));
        agree_with_gradients("narrow", &x, |v| v[0].narrow(1, 1, 2));
        agree_with_gradients("select", &x, |v| v[0].select(2, -1));
        agree_with_gradients("reshape", &x, |v| v[0].reshape([6, 10]));
        agree_with_gradients("concat", &x, |v| Var::concat(&[&v[0], &v[0].mul_scalar(2.0)?], 1));
        agree_with_gradients("stack", &x, |v| Var::stack(&[&v[0], &v[0]], 1));
        agree_with_gradients("chunk", &x, |v| Var::concat(&v[0].chunk(2, 1)?.iter().rev().collect::<Vec<_>>(), 0));
        let line = [numbers(&[4, 1], -1.0, 1.0, dtype, 3)];
        agree_with_gradients("expand", &line, |v| v[0].expand([2, 4, 3]));
        // More dimensions than a kernel walks through.
        let deep = [numbers(&[2; 10], -1.0, 1.0, dtype, 4)];
        agree_with_gradients("deep", &deep, |v| v[0].permute(&[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]));
    }
    for dtype in [DType::U32, DType::I64] {
        let x = numbers(&[3, 4, 5], 0.0, 9.0, DType::F64, 5).to_dtype(dtype).unwrap();
        agree("transpose", |d| Ok(vec![x.to_device(d)?.transpose(0, 2)?]));
    }
}
