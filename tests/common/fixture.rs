//! Cases that PyTorch made: see `tests/fixtures/README.md`.

use std::{collections::BTreeMap, fs, path::Path};

use gatefold::{Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// One file: its configuration and its tensors.
pub struct Case {
    pub name: String,
    pub config: Value,
    pub tensors: BTreeMap<String, Tensor>,
}

impl Case {
    pub fn read(path: &Path) -> Case {
        let bytes = fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let config = serde_json::from_str(&header.metadata().as_ref().unwrap()["config"]).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file
            .iter()
            .map(|(name, view)| {
                let tensor = match view.dtype() {
                    Dtype::F32 => {
                        Tensor::from_slice(&words(view.data(), f32::from_le_bytes), view.shape(), &Device::Cpu)
                    }
                    Dtype::F64 => {
                        Tensor::from_slice(&words(view.data(), f64::from_le_bytes), view.shape(), &Device::Cpu)
                    }
                    Dtype::I64 => {
                        Tensor::from_slice(&words(view.data(), i64::from_le_bytes), view.shape(), &Device::Cpu)
                    }
                    other => panic!("{name} is {other:?}"),
                };
                (name.to_string(), tensor.unwrap())
            })
            .collect();
        Case { name: path.file_stem().unwrap().to_string_lossy().into_owned(), config, tensors }
    }

    /// A setting among the `kwargs`.
    pub fn kwarg(&self, name: &str) -> Option<&Value> {
        self.config["kwargs"].get(name)
    }

    /// A setting that is a number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.kwarg(name).map(|v| v.as_f64().unwrap())
    }

    /// A setting that is true.
    pub fn flag(&self, name: &str) -> bool {
        self.kwarg(name).is_some_and(|v| v.as_bool().unwrap())
    }
}

fn words<T, const N: usize>(bytes: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
    bytes.chunks_exact(N).map(|word| read(word.try_into().unwrap())).collect()
}

/// All cases of a kind (`functions`, `optimizers`), the made and the given.
pub fn cases(kind: &str) -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut files: Vec<_> = [root.join(kind), root.join("samples").join(kind)]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    files.sort();
    files.iter().map(|path| Case::read(path)).collect()
}

/// Asserts that two lists agree: NaN with NaN, infinities with themselves, the rest within `bound`·max(1, |want|).
#[track_caller]
pub fn close(what: &str, got: &[f64], want: &[f64], bound: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let same = if want.is_finite() {
            (got - want).abs() <= bound * want.abs().max(1.0)
        } else {
            got == want || (got.is_nan() && want.is_nan())
        };
        assert!(same, "{what}[{i}]: got {got}, want {want}");
    }
}
