//! Checkpoints: all that a training needs to go on as if it had not stopped.

use std::{collections::BTreeMap, ops::Range, path::Path};

use super::crc::crc32c;
use crate::{
    device::Device,
    error::{Error, Result},
    file,
    nn::{GeneratorState, Module, StateDict},
    optim::{Optim, State},
    rng::Philox,
    tensor::Tensor,
};

/// A training between two batches: model, optimizer, schedules, random numbers and where it stands.
///
/// A run that is stopped at any moment and goes on from its last checkpoint reaches bit for bit the parameters of one that was
/// not, if all that changes is in it and the order of each epoch comes from its number:
///
/// ```
/// use gatefold::{Device, Philox, Tape, Tensor, data::Batches, nn::{Linear, Module}};
/// use gatefold::{optim::{Adam, StepLr}, train::Checkpoint};
///
/// fn train(file: &std::path::Path, stop: bool) -> gatefold::Result<Tensor> {
///     let mut rng = Philox::seed(1);
///     let model = Linear::new(1, 1).init(&Device::Cpu, &mut rng)?;
///     let mut optimizer = Adam::new(0.1).over([&model])?;
///     let mut schedule = StepLr::new(1, 0.5).over(&mut optimizer)?;
///     let (mut epoch, mut batch) = (0, 0);
///     if file.exists() {
///         let checkpoint = Checkpoint::load(file)?;
///         checkpoint.restore(&model, &mut optimizer)?;
///         schedule.load_state(checkpoint.state("schedule")?, &mut optimizer)?;
///         (rng, epoch, batch) = (checkpoint.rng, checkpoint.epoch, checkpoint.batch);
///     }
///     while epoch < 3 {
///         let batches = Batches::new(8, 2)?.shuffle(&mut rng.fork(epoch));
///         for samples in batches.skip(batch as usize) {
///             let x: Vec<[f32; 1]> = samples.iter().map(|&i| [i as f32]).collect();
///             let x = Tape::new().constant(Tensor::new(x, &Device::Cpu)?);
///             let loss = model.forward(&x)?.mse_loss(&x)?;
///             optimizer.zero_grad();
///             loss.backward()?;
///             optimizer.step()?;
///             batch += 1;
///             let checkpoint = Checkpoint::new(&model, &optimizer, &rng).at(epoch, batch);
///             checkpoint.with_state("schedule", schedule.state()).save(file)?;
///             if stop && batch == 3 {
///                 return Ok(model.weight().value());
///             }
///         }
///         schedule.step(&mut optimizer)?;
///         (epoch, batch) = (epoch + 1, 0);
///     }
///     Ok(model.weight().value())
/// }
///
/// # let folder = std::env::temp_dir().join(format!("gatefold-checkpoint-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// let (a, b) = (folder.join("a"), folder.join("b"));
/// train(&a, true)?;
/// assert_eq!(train(&a, false)?.to_vec::<f32>()?, train(&b, false)?.to_vec::<f32>()?);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The epoch that it is in, counted from 0.
    pub epoch: u64,
    /// Batches of that epoch that are done.
    pub batch: u64,
    /// Parameters by name.
    pub model: StateDict,
    /// Where each dropout's generator stands.
    pub generators: Vec<(String, GeneratorState)>,
    /// The generator of the training.
    pub rng: Philox,
    /// The states of the optimizer (`optimizer`), schedules and others by name.
    pub states: BTreeMap<String, State>,
    /// Numbers by name: running sums, metrics.
    pub numbers: BTreeMap<String, f64>,
}

/// The metadata that says that a file is a checkpoint, and of which form.
const VERSION: (&str, &str) = ("gatefold.checkpoint", "1");
const CRC: &str = "gatefold.crc32c";
const OPTIMIZER: &str = "optimizer";

impl Checkpoint {
    /// Of the present moment, before the first batch of the first epoch. Later changes of the model do not change it.
    pub fn new(model: &(impl Module + ?Sized), optimizer: &dyn Optim, rng: &Philox) -> Self {
        Checkpoint {
            epoch: 0,
            batch: 0,
            model: model.state_dict(),
            generators: model.generator_states(),
            rng: rng.clone(),
            states: BTreeMap::from([(OPTIMIZER.to_string(), optimizer.state())]),
            numbers: BTreeMap::new(),
        }
    }

    /// In this epoch, counted from 0, after so many of its batches.
    pub fn at(mut self, epoch: u64, batch: u64) -> Self {
        (self.epoch, self.batch) = (epoch, batch);
        self
    }

    /// With the state of something else, such as a schedule; its name has no `/`.
    pub fn with_state(mut self, name: &str, state: State) -> Self {
        self.states.insert(name.into(), state);
        self
    }

    /// With a number.
    pub fn with_number(mut self, name: &str, number: f64) -> Self {
        self.numbers.insert(name.into(), number);
        self
    }

    /// The state that [`with_state`](Self::with_state) gave.
    ///
    /// # Errors
    /// [`Error::StateDict`] where there is none of this name.
    pub fn state(&self, name: &str) -> Result<&State> {
        self.states.get(name).ok_or_else(|| missing("Checkpoint::state", name))
    }

    /// The number that [`with_number`](Self::with_number) gave.
    ///
    /// # Errors
    /// [`Error::StateDict`] where there is none of this name.
    pub fn number(&self, name: &str) -> Result<f64> {
        self.numbers.get(name).copied().ok_or_else(|| missing("Checkpoint::number", name))
    }

    /// Puts model, dropout generators and optimizer where they were. The rest is for the caller: [`rng`](Self::rng),
    /// [`epoch`](Self::epoch), [`batch`](Self::batch), and other [`states`](Self::states).
    ///
    /// # Errors
    /// [`Error::StateDict`] or [`Error::Argument`] where it is of another model or optimizer; nothing has been changed then.
    pub fn restore(&self, model: &(impl Module + ?Sized), optimizer: &mut dyn Optim) -> Result<()> {
        let state = self.state(OPTIMIZER)?;
        let (values, generators) = (model.state_dict(), model.generator_states());
        let restored = model
            .load_state_dict(&self.model)
            .and_then(|()| model.set_generator_states(&self.generators))
            .and_then(|()| optimizer.load_state(state));
        if restored.is_err() {
            model.load_state_dict(&values)?;
            model.set_generator_states(&generators)?;
        }
        restored
    }

    /// Writes it as one `.safetensors` file, all or nothing: whenever the machine stops, `path` is the old file or the new one.
    /// A checksum over every byte is in its metadata.
    ///
    /// # Errors
    /// [`Error::Argument`] for a state whose name has a `/`; [`Error::File`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let (op, path) = ("Checkpoint::save", path.as_ref());
        if let Some(fault) = self.model.fault() {
            return Err(Error::file(op, path, fault));
        }
        let mut dict = StateDict::new();
        for (name, tensor) in self.model.iter() {
            dict.insert(format!("model/{name}"), tensor.clone());
        }
        for (name, &number) in &self.numbers {
            dict.insert(format!("number/{name}"), Tensor::new(number, &Device::Cpu)?);
        }
        let mut words = BTreeMap::from([VERSION, (CRC, "00000000")].map(|(k, v)| (k.to_string(), v.to_string())));
        for (name, state) in &self.states {
            if name.contains('/') {
                return Err(Error::argument(op, format!("a state {name:?}"), "a name without /"));
            }
            words.insert(format!("state/{name}"), state.kind.clone());
            for (key, tensor) in state.to_state_dict()? {
                dict.insert(format!("state/{name}/{key}"), tensor);
            }
        }
        let (seed, position) = self.rng.state();
        words.insert("position".into(), format!("{} {}", self.epoch, self.batch));
        words.insert("rng".into(), format!("{seed} {position}"));
        for (name, state) in &self.generators {
            words.insert(format!("generator/{name}"), format!("{} {}", state.seed, state.calls));
        }
        *dict.metadata_mut() = words;
        let mut bytes = dict.to_bytes().map_err(|e| Error::file(op, path, e))?;
        seal(&mut bytes).ok_or_else(|| Error::file(op, path, "no place for the checksum"))?;
        file::write(op, path, &bytes)
    }

    /// Reads what [`save`](Self::save) wrote; the tensors lie on the CPU.
    ///
    /// # Errors
    /// [`Error::File`] for a file that cannot be read, is not whole, has a byte that is not as it was written, or is something else.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let (op, path) = ("Checkpoint::load", path.as_ref());
        Checkpoint::from_bytes(op, path, &file::read(op, path)?)
    }

    /// Of the bytes of a file.
    pub(super) fn from_bytes(op: &'static str, path: &Path, bytes: &[u8]) -> Result<Self> {
        parse(bytes).map_err(|reason| Error::file(op, path, reason))
    }
}

fn missing(op: &'static str, name: &str) -> Error {
    Error::StateDict { op, missing: vec![name.into()], unexpected: Vec::new(), misshaped: Vec::new() }
}

/// Where the eight digits of the checksum are in the header of the file.
fn place(bytes: &[u8]) -> Option<Range<usize>> {
    let len = u64::from_le_bytes(*bytes.first_chunk()?);
    let header = bytes.get(8..)?.get(..usize::try_from(len).ok()?)?;
    // Within a name or a word the quotation marks would be escaped.
    let key = format!("\"{CRC}\":\"");
    let start = 8 + header.windows(key.len()).position(|part| part == key.as_bytes())? + key.len();
    bytes.get(start..start + 8).map(|_| start..start + 8)
}

/// The checksum of everything but its own digits, and those.
fn checksum(bytes: &[u8], place: &Range<usize>) -> String {
    format!("{:08x}", crc32c(&[&bytes[..place.start], b"00000000", &bytes[place.end..]]))
}

fn seal(bytes: &mut [u8]) -> Option<()> {
    let place = place(bytes)?;
    let sum = checksum(bytes, &place);
    bytes[place].copy_from_slice(sum.as_bytes());
    Some(())
}

/// Whether they are a part of a checkpoint, or one of which a byte has changed; not whether they are something else.
pub(super) fn is_damaged(bytes: &[u8]) -> bool {
    match place(bytes) {
        Some(place) => checksum(bytes, &place).as_bytes() != &bytes[place],
        None => StateDict::from_bytes(bytes).is_err(),
    }
}

fn parse(bytes: &[u8]) -> Result<Checkpoint, String> {
    const DAMAGED: &str = "damaged or not whole: its checksum is not that of its bytes";
    let place = place(bytes).ok_or("not a checkpoint, or the beginning of one: it has no checksum")?;
    if checksum(bytes, &place).as_bytes() != &bytes[place] {
        return Err(DAMAGED.into());
    }
    let dict = StateDict::from_bytes(bytes)?;
    let words = dict.metadata();
    let word = |key: &str| words.get(key).ok_or_else(|| format!("no {key} in its metadata"));
    let numbers = |key: &str, text: &str| {
        let pair = text.split_once(' ').and_then(|(a, b)| Some((a.parse::<u64>().ok()?, b.parse::<u64>().ok()?)));
        pair.ok_or_else(|| format!("{key} {text:?} in its metadata, want two numbers"))
    };
    if word(VERSION.0)? != VERSION.1 {
        return Err(format!("a checkpoint of form {:?}, want {:?}", words[VERSION.0], VERSION.1));
    }
    let (epoch, batch) = numbers("position", word("position")?)?;
    let mut checkpoint = Checkpoint {
        epoch,
        batch,
        model: StateDict::new(),
        generators: Vec::new(),
        rng: Philox::from_state(numbers("rng", word("rng")?)?),
        states: BTreeMap::new(),
        numbers: BTreeMap::new(),
    };
    // Their order is lost in the file; it does not matter.
    for (key, text) in words {
        if let Some(name) = key.strip_prefix("generator/") {
            let (seed, calls) = numbers(key, text)?;
            checkpoint.generators.push((name.into(), GeneratorState { seed, calls }));
        } else if let Some(name) = key.strip_prefix("state/") {
            checkpoint.states.insert(name.into(), State::new(text));
        }
    }
    for (key, tensor) in dict {
        if let Some(name) = key.strip_prefix("model/") {
            checkpoint.model.insert(name, tensor);
        } else if let Some(name) = key.strip_prefix("number/") {
            let number = tensor.item().map_err(|e| e.to_string())?;
            checkpoint.numbers.insert(name.into(), number);
        } else if let Some((name, key)) = key.strip_prefix("state/").and_then(|rest| rest.split_once('/')) {
            let state = checkpoint.states.get_mut(name).ok_or_else(|| format!("{key} of no state"))?;
            state.insert_entry(key, tensor).map_err(|e| e.to_string())?;
        }
    }
    Ok(checkpoint)
}
