//! State dicts: tensors by name, and their `.safetensors` files.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    path::Path,
};

use bytemuck::Pod;
use safetensors::{
    Dtype, SafeTensors,
    tensor::{TensorView, View},
};

use crate::{
    device::Device,
    dtype::{DType, bf16, f16, with_dtype},
    error::{Error, Result},
    file,
    tensor::Tensor,
};

/// Tensors by name, in order: PyTorch's `state_dict()`.
///
/// ```
/// use gatefold::{Device, Philox, nn::{Lstm, Module, StateDict}};
/// let (device, mut rng) = (Device::Cpu, Philox::seed(1));
/// let lstm = Lstm::new(6, 4).init(&device, &mut rng)?;
/// let path = std::env::temp_dir().join(format!("lstm-{}.safetensors", std::process::id()));
/// lstm.state_dict().save(&path)?;
/// let state = StateDict::load(&path)?;
/// assert_eq!((state.len(), state.get("weight_hh_l0").unwrap().dims()), (4, &[16, 4][..]));
/// Lstm::new(6, 4).init(&device, &mut rng)?.load_state_dict(&state)?;
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct StateDict {
    entries: Vec<(String, Tensor)>,
    places: HashMap<String, usize>,
    metadata: BTreeMap<String, String>,
    /// Of a module in which two parameters have one name: that.
    pub(super) twice: Option<String>,
}

impl StateDict {
    /// Without entries.
    pub fn new() -> Self {
        StateDict::default()
    }

    /// Adds an entry, or replaces one in its place; gives the old tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) -> Option<Tensor> {
        let name = name.into();
        match self.places.get(&name) {
            Some(&place) => Some(std::mem::replace(&mut self.entries[place].1, tensor)),
            None => {
                self.places.insert(name.clone(), self.entries.len());
                self.entries.push((name, tensor));
                None
            }
        }
    }

    /// The tensor of a name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.places.get(name).map(|&place| &self.entries[place].1)
    }

    /// The names, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// Names and tensors, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.entries.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The entries whose names begin with `prefix`, without it: `encoder.` takes an encoder out of a larger model.
    ///
    /// ```
    /// use gatefold::{Device, Tensor, nn::StateDict};
    /// let whole: StateDict = [("encoder.weight".to_string(), Tensor::new([1f32], &Device::Cpu)?)].into_iter().collect();
    /// assert_eq!(whole.strip_prefix("encoder.").keys().collect::<Vec<_>>(), ["weight"]);
    /// assert!(whole.strip_prefix("decoder.").is_empty());
    /// # Ok::<(), gatefold::Error>(())
    /// ```
    pub fn strip_prefix(&self, prefix: &str) -> StateDict {
        let inside =
            self.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_string(), tensor.clone())));
        inside.collect()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Why the module that it is of cannot be had back from it.
    pub(crate) fn fault(&self) -> Option<String> {
        let name = self.twice.as_ref()?;
        Some(format!("two parameters of the module have the name {name}; give each child a name of its own"))
    }

    /// Words that go with the tensors: the file's `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The same, to write.
    pub fn metadata_mut(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.metadata
    }

    /// Writes a `.safetensors` file, which PyTorch's `safetensors.torch.load_file` reads.
    ///
    /// It is written beside `path` under another name, synchronised, and renamed: whenever the machine stops, `path` is the
    /// old file or the new one.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let (op, path) = ("StateDict::save", path.as_ref());
        let bytes = self.to_bytes().map_err(|e| Error::file(op, path, e))?;
        file::write(op, path, &bytes)
    }

    /// Reads a `.safetensors` file into host memory: entries in the file's order. Integers of sizes that this crate lacks are converted to
    /// int64, booleans to uint8.
    ///
    /// # Errors
    /// [`Error::File`] for a file that is not there, not whole or malformed, and for a dtype that this crate has not. Nothing
    /// is allocated that the file's own size does not justify.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let (op, path) = ("StateDict::load", path.as_ref());
        StateDict::from_bytes(&file::read(op, path)?).map_err(|e| Error::file(op, path, e))
    }

    /// What a `.safetensors` file of it holds, or why there is none.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        if let Some(fault) = self.fault() {
            return Err(fault);
        }
        let failed = RefCell::new(None);
        let entries = self.iter().map(|(name, tensor)| (name, Entry { tensor, failed: &failed }));
        // What PyTorch's own writer says of itself; some readers want it.
        let mut metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        metadata.extend(self.metadata.clone());
        let bytes = safetensors::serialize(entries, Some(metadata)).map_err(|e| e.to_string())?;
        failed.take().map_or(Ok(bytes), |error| Err(error.to_string()))
    }

    /// What [`to_bytes`](Self::to_bytes) made, or why it is none.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        // A zip file, as torch.save writes it today, or the bare pickle of before, whose first entry is a long number. The mark of a pickle
        // alone, 0x80 and 2, is also the length of a header of 640 bytes.
        if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(&[0x80, 2, 0x8a, 0x0a]) {
            return Err(
                "a file of torch.save; write it anew with safetensors.torch.save_file(model.state_dict(), path)".into(),
            );
        }
        let text = |e: safetensors::SafeTensorError| e.to_string();
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(text)?;
        let file = SafeTensors::deserialize(bytes).map_err(text)?;
        let mut views = file.tensors();
        views.sort_by(|(a, x), (b, y)| (x.data().as_ptr(), a).cmp(&(y.data().as_ptr(), b)));
        let mut state = StateDict::new();
        for (name, view) in views {
            let tensor = tensor_of(&view).map_err(|e| format!("{name}: {e}"))?;
            state.insert(name, tensor);
        }
        state.metadata.extend(header.metadata().clone().unwrap_or_default());
        Ok(state)
    }
}

impl FromIterator<(String, Tensor)> for StateDict {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(entries: I) -> Self {
        let mut state = StateDict::new();
        entries.into_iter().for_each(|(name, tensor)| {
            state.insert(name, tensor);
        });
        state
    }
}

impl<'a> IntoIterator for &'a StateDict {
    type Item = (&'a str, &'a Tensor);
    type IntoIter = Box<dyn Iterator<Item = Self::Item> + 'a>;
    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

impl IntoIterator for StateDict {
    type Item = (String, Tensor);
    type IntoIter = std::vec::IntoIter<(String, Tensor)>;
    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

fn dtype_in_file(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::U32 => Dtype::U32,
        DType::I64 => Dtype::I64,
        DType::U8 => Dtype::U8,
    }
}

/// A tensor that is written when its turn comes: from where it lies, or by a copy that is let go behind it.
struct Entry<'a> {
    tensor: &'a Tensor,
    /// What the device met, which the trait has no place for.
    failed: &'a RefCell<Option<Error>>,
}

impl View for Entry<'_> {
    fn dtype(&self) -> Dtype {
        dtype_in_file(self.tensor.dtype())
    }
    fn shape(&self) -> &[usize] {
        self.tensor.dims()
    }
    fn data(&self) -> Cow<'_, [u8]> {
        bytes_of(self.tensor).unwrap_or_else(|error| {
            self.failed.replace(Some(error));
            Cow::default()
        })
    }
    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.dtype().size()
    }
}

fn bytes_of(tensor: &Tensor) -> Result<Cow<'_, [u8]>> {
    with_dtype!(tensor.dtype(), T => Ok(match tensor.storage().host::<T>() {
        Some(values) => bytemuck::cast_slice(values).into(),
        None => bytemuck::cast_slice::<T, u8>(&tensor.to_vec::<T>()?).to_vec().into(),
    }))
}

fn tensor_of(view: &TensorView<'_>) -> Result<Tensor> {
    let (shape, bytes, device) = (view.shape(), view.data(), &Device::Cpu);
    /// The file does not promise alignment.
    fn read<T: Pod>(bytes: &[u8]) -> Vec<T> {
        bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
    }
    /// Widened to int64.
    fn wide<T: Pod + Into<i64>>(bytes: &[u8]) -> Vec<i64> {
        read::<T>(bytes).into_iter().map(Into::into).collect()
    }
    match view.dtype() {
        Dtype::F64 => Tensor::from_slice(&read::<f64>(bytes), shape, device),
        Dtype::F32 => Tensor::from_slice(&read::<f32>(bytes), shape, device),
        Dtype::F16 => Tensor::from_slice(&read::<f16>(bytes), shape, device),
        Dtype::BF16 => Tensor::from_slice(&read::<bf16>(bytes), shape, device),
        Dtype::U32 => Tensor::from_slice(&read::<u32>(bytes), shape, device),
        Dtype::I64 => Tensor::from_slice(&read::<i64>(bytes), shape, device),
        Dtype::U8 | Dtype::BOOL => Tensor::from_slice(bytes, shape, device),
        Dtype::I32 => Tensor::from_slice(&wide::<i32>(bytes), shape, device),
        Dtype::I16 => Tensor::from_slice(&wide::<i16>(bytes), shape, device),
        Dtype::I8 => Tensor::from_slice(&wide::<i8>(bytes), shape, device),
        Dtype::U16 => Tensor::from_slice(&wide::<u16>(bytes), shape, device),
        other => Err(Error::dtype("StateDict::load", format!("{other:?}"), "a dtype of this crate")),
    }
}
