//! Tensors print as PyTorch prints them: against `tests/fixtures/printed.json`, which `printed.py` beside it wrote.

use gatefold::{DType, Device, Tensor};

#[test]
fn as_pytorch() {
    let cases: serde_json::Value =
        serde_json::from_str(include_str!("fixtures/printed.json")).expect("the fixture is JSON");
    let cases = cases.as_array().expect("a list of cases");
    assert!(cases.len() >= 25);
    for case in cases {
        let shape: Vec<usize> =
            case["shape"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
        let values: Vec<f64> = match case["values"].as_array() {
            Some(list) => {
                list.iter().map(|v| v.as_f64().unwrap_or_else(|| v.as_str().unwrap().parse().unwrap())).collect()
            }
            None => {
                let divisor = case["values"].as_f64().unwrap();
                (0..shape.iter().product()).map(|i: usize| i as f64 / divisor).collect()
            }
        };
        let dtypes = [DType::F64, DType::F32, DType::F16, DType::BF16, DType::U32, DType::I64, DType::U8];
        let dtype = dtypes.into_iter().find(|d| case["dtype"] == d.name()).expect("a dtype of the crate");
        let tensor = Tensor::from_slice(&values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        assert_eq!(format!("{tensor:?}"), case["text"].as_str().unwrap(), "{}", case["name"]);
        assert_eq!(format!("{tensor}"), format!("{tensor:?}"));
    }
}

/// To the last digit, where f64 would round.
#[test]
fn large_integers() {
    let tensor = Tensor::new([9_007_199_254_740_993i64, -1, i64::MIN], &Device::Cpu).unwrap();
    assert_eq!(format!("{tensor:?}"), "tensor([    9007199254740993,                   -1, -9223372036854775808])");
}
