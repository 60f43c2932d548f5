//! Results and gradients of PyTorch, from `tests/fixtures/functions` (how they were made: its README).

use std::{fs, path::Path};

use gatefold::{DType, Result, Tape, Tensor, Var};
use safetensors::{SafeTensors, tensor::Dtype};

use crate::tensor;

struct Case {
    config: serde_json::Value,
    file: Vec<u8>,
}

impl Case {
    fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.file).unwrap().tensor(name).is_ok()
    }

    fn tensor(&self, name: &str) -> Tensor {
        let file = SafeTensors::deserialize(&self.file).unwrap();
        let view = file.tensor(name).unwrap();
        let (shape, data) = (view.shape(), view.data());
        fn numbers<const N: usize, T>(data: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
            data.as_chunks().0.iter().copied().map(read).collect()
        }
        match view.dtype() {
            Dtype::F32 => tensor(&numbers(data, f32::from_le_bytes), shape),
            Dtype::F64 => tensor(&numbers(data, f64::from_le_bytes), shape),
            Dtype::I64 => tensor(&numbers(data, i64::from_le_bytes), shape),
            other => panic!("fixture of {other:?}"),
        }
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.config["kwargs"][key].as_f64()
    }

    fn axis(&self) -> isize {
        self.number("dim").unwrap() as isize
    }

    fn apply(&self, op: &str, x: &[Var]) -> Result<Var> {
        match op {
            "linear" => x[0].linear(&x[1], x.get(2)),
            "embedding" => x[0].embedding(&self.tensor("index"), self.number("padding_idx").map(|i| i as i64)),
            "softmax" => x[0].softmax(self.axis()),
            "log_softmax" => x[0].log_softmax(self.axis()),
            "logsumexp" => x[0].logsumexp(self.axis(), self.config["kwargs"]["keepdim"].as_bool().unwrap_or(false)),
            "pow" => x[0].powf(self.number("exponent").unwrap()),
            "exp" => x[0].exp(),
            "log" => x[0].log(),
            "neg" => x[0].neg(),
            "relu" => x[0].relu(),
            "sigmoid" => x[0].sigmoid(),
            "sqrt" => x[0].sqrt(),
            "tanh" => x[0].tanh(),
            other => panic!("fixture of {other}"),
        }
    }
}

/// Results agree to a few units in the last place of what was added up, here of order 1 to 10; infinities and NaN exactly.
fn agree(what: &str, got: &Tensor, want: &Tensor) {
    assert_eq!((got.dims(), got.dtype()), (want.dims(), want.dtype()), "{what}");
    let unit = if got.dtype() == DType::F64 { 1e-14 } else { 2e-6 };
    for (i, (got, want)) in got.to_f64_vec().unwrap().into_iter().zip(want.to_f64_vec().unwrap()).enumerate() {
        let same = got == want || got.is_nan() && want.is_nan();
        assert!(same || (got - want).abs() <= unit * (1.0 + want.abs()), "{what}[{i}]: {got}, PyTorch {want}");
    }
}

#[test]
fn functions_agree() {
    let mut seen = 0;
    let ops = ["linear", "embedding", "softmax", "log_softmax", "logsumexp", "pw"];
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/functions")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if !ops.iter().any(|op| name.starts_with(&format!("{op}_"))) {
            continue;
        }
        let file = fs::read(&path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&file).unwrap();
        let config = serde_json::from_str(&header.metadata().as_ref().unwrap()["config"]).unwrap();
        let case = Case { config, file };

        let tape = Tape::new();
        let inputs: Vec<&str> = ["input", "weight", "bias"].into_iter().filter(|n| case.has(n)).collect();
        let vars: Vec<Var> = inputs.iter().map(|n| tape.variable(case.tensor(n))).collect();
        let y = case.apply(case.config["op"].as_str().unwrap(), &vars).unwrap();
        agree(&format!("{name}: output"), y.tensor(), &case.tensor("output"));
        // The gradients are those of Σ w·y; y may hold ∞ where w·y would be NaN, but only w flows back.
        y.mul(&tape.constant(case.tensor("w"))).unwrap().sum().unwrap().backward().unwrap();
        for (input, var) in inputs.iter().zip(&vars) {
            agree(&format!("{name}: grad.{input}"), &var.grad().unwrap(), &case.tensor(&format!("grad.{input}")));
        }
        seen += 1;
    }
    assert!(seen >= 70, "{seen} fixtures");
}
