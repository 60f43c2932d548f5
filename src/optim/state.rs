//! The state of an optimizer or a schedule: named numbers and tensors, and their file.

use std::{collections::BTreeMap, path::Path};

use crate::{
    device::Device,
    error::{Error, Result},
    nn::StateDict,
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

/// The metadata that says what the state is of.
const KIND: &str = "gatefold.state";
const NUMBER: &str = "number/";
const TENSOR: &str = "tensor/";

impl State {
    /// An empty state of some kind.
    pub fn new(kind: impl Into<String>) -> Self {
        State { kind: kind.into(), numbers: BTreeMap::new(), tensors: BTreeMap::new() }
    }

    /// The same as tensors alone, to be written with others: the numbers as f64 tensors of rank 0 (as text they would
    /// not come back to the bit, and infinities not at all) named `number/…`, the tensors as `tensor/…`, the kind
    /// among the metadata.
    pub fn to_state_dict(&self) -> Result<StateDict> {
        let mut dict = StateDict::new();
        for (name, value) in &self.numbers {
            dict.insert(format!("{NUMBER}{name}"), Tensor::new(*value, &Device::Cpu)?);
        }
        for (name, tensor) in &self.tensors {
            dict.insert(format!("{TENSOR}{name}"), tensor.clone());
        }
        dict.metadata_mut().insert(KIND.into(), self.kind.clone());
        Ok(dict)
    }

    /// The way back; entries and metadata of others are passed over.
    ///
    /// # Errors
    /// [`Error::Argument`] where the metadata does not name a kind; [`Error::Shape`] for a number that is none.
    pub fn from_state_dict(dict: &StateDict) -> Result<Self> {
        let kind = dict.metadata().get(KIND).ok_or_else(|| {
            Error::argument("State::from_state_dict", "tensors without a kind", format!("the metadata {KIND}"))
        })?;
        let mut state = State::new(kind);
        for (name, tensor) in dict.iter() {
            state.insert_entry(name, tensor.clone())?;
        }
        Ok(state)
    }

    /// Takes over an entry of [`to_state_dict`](Self::to_state_dict); others are passed over.
    pub(crate) fn insert_entry(&mut self, name: &str, tensor: Tensor) -> Result<()> {
        if let Some(name) = name.strip_prefix(NUMBER) {
            self.numbers.insert(name.into(), tensor.item()?);
        } else if let Some(name) = name.strip_prefix(TENSOR) {
            self.tensors.insert(name.into(), tensor);
        }
        Ok(())
    }

    /// Writes the state as a safetensors file, exact to the bit and all or nothing: see [`StateDict::save`].
    ///
    /// # Errors
    /// [`Error::File`] where that fails.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.to_state_dict()?.save(path)
    }

    /// Reads a file that [`save`](Self::save) wrote; the tensors lie on the CPU.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be read or is something else.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        State::from_state_dict(&StateDict::load(path)?).map_err(|e| Error::file("State::load", path, e))
    }

    /// `Err` unless it is the state of such a thing.
    pub(crate) fn expect_kind(&self, op: &'static str, kind: &str) -> Result<()> {
        if self.kind == kind {
            Ok(())
        } else {
            Err(Error::argument(op, format!("the state of {}", self.kind), format!("the state of {kind}")))
        }
    }

    /// A number that has to be there.
    pub(crate) fn number(&self, op: &'static str, key: &str) -> Result<f64> {
        self.numbers.get(key).copied().ok_or_else(|| Error::StateDict {
            op,
            missing: vec![key.to_string()],
            unexpected: Vec::new(),
            misshaped: Vec::new(),
        })
    }

    /// A number of steps that has to be there.
    pub(crate) fn count(&self, op: &'static str, key: &str) -> Result<u64> {
        let value = self.number(op, key)?;
        whole(value).ok_or_else(|| Error::StateDict {
            op,
            missing: Vec::new(),
            unexpected: Vec::new(),
            misshaped: vec![format!("{key}: got {value}, want a count")],
        })
    }
}

/// The number as a count, where it is one that f64 holds exactly.
pub(super) fn whole(value: f64) -> Option<u64> {
    ((0.0..9e15).contains(&value) && value.fract() == 0.0).then_some(value as u64)
}
