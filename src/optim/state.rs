//! The state of an optimizer or a schedule: named numbers and tensors, and their file.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::Write,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use safetensors::{SafeTensors, tensor::TensorView};

use crate::{
    device::Device,
    dtype::{DType, with_dtype},
    error::{Error, Result},
    tensor::Tensor,
};

/// What an optimizer or a schedule needs to go on: numbers and tensors by name.
#[derive(Debug, Clone)]
pub struct State {
    /// What it is the state of, such as `Adam`.
    pub kind: String,
    /// Settings and counters.
    pub numbers: BTreeMap<String, f64>,
    /// Moments and buffers.
    pub tensors: BTreeMap<String, Tensor>,
}

const FORMAT: &str = "gatefold-state-1";
const NUMBER: &str = "number/";
const TENSOR: &str = "tensor/";

impl State {
    /// An empty state of some kind.
    pub fn new(kind: impl Into<String>) -> Self {
        State { kind: kind.into(), numbers: BTreeMap::new(), tensors: BTreeMap::new() }
    }

    /// Writes the state as a safetensors file, exact to the bit. It is written beside the file under a temporary name, flushed to the disk and
    /// renamed: the file is the old one or the new one, never half of it.
    ///
    /// # Errors
    /// [`Error::File`] where that fails.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        replace(path, &self.encode(path)?).map_err(|e| Error::file("save state", path, e))
    }

    /// Reads a file that [`save`](Self::save) wrote; the tensors lie on the CPU.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be read or is something else.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|e| Error::file("load state", path, e))?;
        State::decode(&bytes).map_err(|reason| Error::file("load state", path, reason))
    }

    /// `Err` unless it is the state of such a thing.
    pub(super) fn expect_kind(&self, op: &'static str, kind: &str) -> Result<()> {
        if self.kind == kind {
            Ok(())
        } else {
            Err(Error::argument(op, format!("the state of {}", self.kind), format!("the state of {kind}")))
        }
    }

    /// A number that has to be there.
    pub(super) fn number(&self, key: &str) -> Result<f64> {
        self.numbers.get(key).copied().ok_or_else(|| Error::StateDict {
            missing: vec![key.to_string()],
            unexpected: Vec::new(),
            misshaped: Vec::new(),
        })
    }

    /// A number of steps that has to be there.
    pub(super) fn count(&self, key: &str) -> Result<u64> {
        let value = self.number(key)?;
        whole(value).ok_or_else(|| Error::StateDict {
            missing: Vec::new(),
            unexpected: Vec::new(),
            misshaped: vec![format!("{key}: got {value}, want a count")],
        })
    }

    fn encode(&self, path: &Path) -> Result<Vec<u8>> {
        // Numbers are tensors of rank 0: as text they would not come back to the bit, and infinities not at all.
        let numbers = self.numbers.iter().map(|(name, value)| {
            (format!("{NUMBER}{name}"), safetensors::Dtype::F64, Vec::new(), value.to_le_bytes().to_vec())
        });
        let mut parts: Vec<_> = numbers.collect();
        for (name, tensor) in &self.tensors {
            let bytes = with_dtype!(tensor.dtype(), T => bytemuck::cast_slice(&tensor.to_vec::<T>()?).to_vec());
            parts.push((format!("{TENSOR}{name}"), stored(tensor.dtype()), tensor.dims().to_vec(), bytes));
        }
        let fail = |e| Error::file("save state", path, e);
        let views = parts
            .iter()
            .map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(fail)?;
        let header = [("format", FORMAT), ("kind", &self.kind)].map(|(k, v)| (k.to_string(), v.to_string()));
        safetensors::serialize(views, Some(HashMap::from(header))).map_err(fail)
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
        let header = header.metadata().as_ref().filter(|h| h.get("format").is_some_and(|f| f == FORMAT));
        let header = header.ok_or_else(|| format!("not a state file: its header does not say {FORMAT}"))?;
        let mut state = State::new(header.get("kind").cloned().unwrap_or_default());
        for (name, view) in SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?.iter() {
            if let Some(name) = name.strip_prefix(NUMBER) {
                let value = <[u8; 8]>::try_from(view.data()).map_err(|_| format!("{name} is not a number"))?;
                state.numbers.insert(name.to_string(), f64::from_le_bytes(value));
            } else if let Some(name) = name.strip_prefix(TENSOR) {
                state.tensors.insert(name.to_string(), read(&view).map_err(|e| format!("{name}: {e}"))?);
            } else {
                return Err(format!("unknown entry {name}"));
            }
        }
        Ok(state)
    }
}

/// The number as a count, where it is one that f64 holds exactly.
pub(super) fn whole(value: f64) -> Option<u64> {
    ((0.0..9e15).contains(&value) && value.fract() == 0.0).then_some(value as u64)
}

fn stored(dtype: DType) -> safetensors::Dtype {
    match dtype {
        DType::F64 => safetensors::Dtype::F64,
        DType::F32 => safetensors::Dtype::F32,
        DType::F16 => safetensors::Dtype::F16,
        DType::BF16 => safetensors::Dtype::BF16,
        DType::U32 => safetensors::Dtype::U32,
        DType::I64 => safetensors::Dtype::I64,
    }
}

fn read(view: &TensorView<'_>) -> Result<Tensor, String> {
    const ALL: [DType; 6] = [DType::F64, DType::F32, DType::F16, DType::BF16, DType::U32, DType::I64];
    let dtype = ALL.into_iter().find(|&d| stored(d) == view.dtype());
    let dtype = dtype.ok_or_else(|| format!("dtype {:?} is not one of the crate's", view.dtype()))?;
    with_dtype!(dtype, T => {
        // Copied and not cast: nothing aligns the bytes of a file.
        let mut values = vec![T::default(); view.data().len() / dtype.size()];
        bytemuck::cast_slice_mut(&mut values).copy_from_slice(view.data());
        Tensor::from_slice(&values, view.shape(), &Device::Cpu).map_err(|e| e.to_string())
    })
}

/// Puts a file in the place of another, all or nothing.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| std::io::Error::other("the path does not name a file"))?;
    let unique = format!(".{}.{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let mut hidden = name.to_os_string();
    hidden.push(unique);
    let temporary = path.with_file_name(hidden);
    let write = || {
        let mut file = File::create_new(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        // What went wrong is worth telling, not that its remains could not be removed.
        let _ = fs::remove_file(&temporary);
    })?;
    // The rename itself reaches the disk with its directory; not every system lets one be opened.
    let directory = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(directory) = File::open(directory) {
        let _ = directory.sync_all();
    }
    Ok(())
}
