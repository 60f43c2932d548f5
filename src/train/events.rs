//! Event files that TensorBoard shows.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    crc::crc32c,
    histogram::Histogram,
    proto::{Field, Message, fields},
};
use crate::{
    error::{Error, Result},
    file,
    tensor::Tensor,
};

const OP: &str = "EventWriter";

/// Writes what happens in a run to an event file of TensorBoard: `tensorboard --logdir FOLDER` shows it.
///
/// ```
/// use gatefold::{Device, Tensor, train::EventWriter};
/// let folder = std::env::temp_dir().join(format!("gatefold-events-{}", std::process::id()));
/// let mut events = EventWriter::new(&folder)?;
/// events.hyper_parameters(&[("lr", 0.1.into()), ("cell", "gru".into())], &["loss"])?;
/// for step in 0..10 {
///     events.scalar("loss", 1.0 / (step + 1) as f64, step)?;
/// }
/// events.histogram("weights", &Tensor::new([0.1f32, 0.2, 0.2], &Device::Cpu)?, 9)?;
/// events.text("notes", "one *GRU*", 9)?;
/// events.finish()?;
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Each event is in the file when its call returns; a process that is killed leaves all but the last one readable. Every writer
/// has a file of its own: a run that goes on makes another in the same folder, and TensorBoard joins them.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
    session: bool,
}

/// The value of a hyper-parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum HyperParameter {
    /// A number.
    Number(f64),
    /// A word.
    Text(String),
    /// Yes or no.
    Bool(bool),
}

impl From<f64> for HyperParameter {
    fn from(value: f64) -> Self {
        HyperParameter::Number(value)
    }
}

impl From<&str> for HyperParameter {
    fn from(value: &str) -> Self {
        HyperParameter::Text(value.into())
    }
}

impl From<bool> for HyperParameter {
    fn from(value: bool) -> Self {
        HyperParameter::Bool(value)
    }
}

impl EventWriter {
    /// Begins an event file in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn new(folder: impl AsRef<Path>) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let folder = folder.as_ref();
        fs::create_dir_all(folder).map_err(|e| Error::file(OP, folder, e))?;
        // TensorBoard reads the files of a folder in the order of their names.
        let (seconds, process) = (now() as u64, std::process::id());
        let (path, file) = loop {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("events.out.tfevents.{seconds:010}.gatefold.{process}.{next}"));
            match File::create_new(&path) {
                Ok(file) => break (path, file),
                // Of a process of the same number in the same second: in containers that share the folder each is the first.
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::file(OP, path, e)),
            }
        };
        let mut events = EventWriter { file, path, session: false };
        events.record(Message::new().double(1, now()).text(3, "brain.Event:2"))?;
        Ok(events)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A number at a step; TensorBoard keeps it as f32.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn scalar(&mut self, tag: &str, value: f64, step: u64) -> Result<()> {
        self.summary(step, Message::new().text(1, tag).float(2, value as f32))
    }

    /// How the elements of a tensor are distributed at a step. Those that are not finite are left out, and counted as the
    /// scalar `TAG/not_finite` if there are any.
    ///
    /// # Errors
    /// [`Error::File`]; what the device met.
    pub fn histogram(&mut self, tag: &str, tensor: &Tensor, step: u64) -> Result<()> {
        let values = tensor.to_f64_vec()?;
        let (histogram, left_out) = Histogram::of(&values);
        if left_out > 0 {
            self.scalar(&format!("{tag}/not_finite"), left_out as f64, step)?;
        }
        match histogram {
            Some(histogram) => self.summary(step, Message::new().text(1, tag).message(5, histogram.message())),
            None => Ok(()),
        }
    }

    /// A text at a step, which TensorBoard shows as Markdown.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn text(&mut self, tag: &str, text: &str, step: u64) -> Result<()> {
        // DT_STRING is 7; one row of one text.
        let shape = Message::new().message(2, Message::new().int(1, 1));
        let tensor = Message::new().int(1, 7).message(2, shape).text(8, text);
        let value = Message::new().text(1, tag).message(8, tensor);
        self.summary(step, value.message(9, plugin("text", Message::new())))
    }

    /// The settings of the run, once at its beginning, and the tags of the scalars by which runs are to be compared.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn hyper_parameters(&mut self, parameters: &[(&str, HyperParameter)], metrics: &[&str]) -> Result<()> {
        let (mut experiment, mut session) = (Message::new().double(3, now()), Message::new());
        for (name, value) in parameters {
            // Types 1 string, 2 bool, 3 float64; values of google.protobuf.Value.
            let (kind, value) = match value {
                HyperParameter::Text(text) => (1, Message::new().text(3, text)),
                HyperParameter::Bool(yes) => (2, Message::new().int(4, (*yes).into())),
                HyperParameter::Number(number) => (3, Message::new().double(2, *number)),
            };
            experiment = experiment.message(4, Message::new().text(1, name).int(4, kind));
            session = session.message(1, Message::new().text(1, name).message(2, value));
        }
        for tag in metrics {
            experiment = experiment.message(5, Message::new().message(1, Message::new().text(2, tag)));
        }
        self.hparams("_hparams_/experiment", 2, experiment)?;
        self.hparams("_hparams_/session_start_info", 3, session.double(5, now()))?;
        self.session = true;
        Ok(())
    }

    /// Says that the run has come to its end, and waits until all is on the disk.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn finish(mut self) -> Result<()> {
        if self.session {
            // Status 1 is success.
            self.hparams("_hparams_/session_end_info", 4, Message::new().int(1, 1).double(2, now()))?;
        }
        self.file.sync_all().map_err(|e| Error::file(OP, &self.path, e))
    }

    fn hparams(&mut self, tag: &str, field: u32, content: Message) -> Result<()> {
        let value = Message::new().text(1, tag);
        self.summary(0, value.message(9, plugin("hparams", Message::new().message(field, content))))
    }

    fn summary(&mut self, step: u64, value: Message) -> Result<()> {
        let event = Message::new().double(1, now()).int(2, step).message(5, Message::new().message(1, value));
        self.record(event)
    }

    /// A record of TensorFlow: length, its checksum, bytes, their checksum.
    fn record(&mut self, event: Message) -> Result<()> {
        let event = event.into_bytes();
        let length = (event.len() as u64).to_le_bytes();
        let record = [&length[..], &masked(&length), &event, &masked(&event)].concat();
        self.file.write_all(&record).map_err(|e| Error::file(OP, &self.path, e))
    }
}

/// The scalars of an event file by tag, as steps and values in their order: those of [`EventWriter`] and of other writers that keep
/// them as numbers, not as tensors. What a killed run left unfinished at the end is passed over.
///
/// ```
/// use gatefold::train::{Chart, EventWriter, read_scalars};
/// let folder = std::env::temp_dir().join(format!("gatefold-scalars-{}", std::process::id()));
/// let mut events = EventWriter::new(&folder)?;
/// for step in 0..10 {
///     events.scalar("loss", 1.0 / (step + 1) as f64, step)?;
/// }
/// let scalars = read_scalars(events.path())?;
/// assert_eq!(scalars["loss"][1], (1, 0.5));
/// let curve = scalars["loss"].iter().map(|&(step, value)| (step as f64, value));
/// Chart::new("training").axes("step", "loss").line("loss", curve).save(folder.join("loss.svg"))?;
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::File`], with the byte, for a file that cannot be read, a record whose checksum is not that of its bytes, and one that
/// is no event.
pub fn read_scalars(path: impl AsRef<Path>) -> Result<BTreeMap<String, Vec<(u64, f64)>>> {
    let (op, path) = ("read_scalars", path.as_ref());
    let bytes = file::read(op, path)?;
    scalars(&bytes).map_err(|reason| Error::file(op, path, reason))
}

fn scalars(bytes: &[u8]) -> Result<BTreeMap<String, Vec<(u64, f64)>>, String> {
    let mut all: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
    let mut rest = bytes;
    loop {
        let at = bytes.len() - rest.len();
        let Some((event, after)) = next_record(rest).map_err(|reason| format!("byte {at}: {reason}"))? else {
            return Ok(all);
        };
        rest = after;
        let mut add = || -> Option<()> {
            let (mut step, mut found) = (0, Vec::new());
            for (number, field) in fields(event)? {
                match (number, field) {
                    (2, Field::Int(number)) => step = number,
                    (5, Field::Bytes(summary)) => {
                        for (number, value) in fields(summary)? {
                            if let (1, Field::Bytes(value)) = (number, value) {
                                found.extend(scalar(value)?);
                            }
                        }
                    }
                    _ => {}
                }
            }
            found.into_iter().for_each(|(tag, value)| all.entry(tag).or_default().push((step, value)));
            Some(())
        };
        add().ok_or_else(|| format!("byte {at}: not an event"))?;
    }
}

/// Tag and number of a summary's value; inside, `None` for one that is no number.
fn scalar(value: &[u8]) -> Option<Option<(String, f64)>> {
    let (mut tag, mut number) = (None, None);
    for (field, content) in fields(value)? {
        match (field, content) {
            (1, Field::Bytes(text)) => tag = Some(String::from_utf8(text.to_vec()).ok()?),
            (2, Field::Fixed32(bytes)) => number = Some(f64::from(f32::from_le_bytes(bytes))),
            _ => {}
        }
    }
    Some(tag.zip(number))
}

/// The payload of a record and what follows it; `None` where the bytes end before it does.
type Record<'a> = Option<(&'a [u8], &'a [u8])>;

fn next_record(bytes: &[u8]) -> Result<Record<'_>, &'static str> {
    const DAMAGED: &str = "damaged: a checksum is not that of its bytes";
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
    let Some((sum, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    if *sum != masked(length) {
        return Err(DAMAGED);
    }
    let len = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let Some((event, rest)) = rest.split_at_checked(len) else { return Ok(None) };
    let Some((sum, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    if *sum == masked(event) { Ok(Some((event, rest))) } else { Err(DAMAGED) }
}

/// Metadata of a value: which of TensorBoard's plugins shows it.
fn plugin(name: &str, content: Message) -> Message {
    Message::new().message(1, Message::new().text(1, name).message(2, content))
}

/// Checksums are masked, because those of bytes that hold their own checksum are weak.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c(&[bytes]).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;

    /// The payloads of the records of a file, each checked; and what is behind the last whole one.
    fn records(mut bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
        let mut all = Vec::new();
        while let Some((event, rest)) = next_record(bytes).unwrap() {
            all.push(event);
            bytes = rest;
        }
        (all, bytes)
    }

    #[test]
    fn scalars_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventWriter::new(folder.path()).unwrap();
        events.hyper_parameters(&[("lr", 0.1.into())], &["a"]).unwrap();
        events.scalar("a", 0.5, 7).unwrap();
        events.text("t", "text", 7).unwrap();
        events.histogram("h", &Tensor::new([1f32, 2.0], &Device::Cpu).unwrap(), 7).unwrap();
        events.scalar("b", -1.0, 1 << 40).unwrap();
        events.scalar("a", 0.25, 8).unwrap();
        let bytes = fs::read(events.path()).unwrap();
        let want = BTreeMap::from([("a".to_string(), vec![(7, 0.5), (8, 0.25)]), ("b".into(), vec![(1 << 40, -1.0)])]);
        assert_eq!(read_scalars(events.path()).unwrap(), want);
        // A file that was cut off anywhere is the beginning of the whole one; one with a changed byte is refused.
        for len in 0..bytes.len() {
            let found = scalars(&bytes[..len]).unwrap();
            assert!(found.iter().all(|(tag, values)| want[tag].starts_with(values)));
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            assert!(scalars(&bytes).unwrap_err().contains("damaged"));
        }
        let noise =
            [&3u64.to_le_bytes()[..], &masked(&3u64.to_le_bytes()), b"\x08\xff\xff", &masked(b"\x08\xff\xff")].concat();
        assert_eq!(scalars(&noise).unwrap_err(), "byte 0: not an event");
        assert!(read_scalars(folder.path()).is_err());
    }

    #[test]
    fn records_are_framed_and_whole_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventWriter::new(folder.path()).unwrap();
        let other = EventWriter::new(folder.path()).unwrap();
        assert_ne!(events.path(), other.path());
        events.scalar("loss", 0.5, 7).unwrap();
        let bytes = fs::read(events.path()).unwrap();
        let (all, rest) = records(&bytes);
        assert!(rest.is_empty());
        assert_eq!(&all[0][9..], b"\x1a\x0dbrain.Event:2");
        assert_eq!(&all[1][9..], b"\x10\x07\x2a\x0d\x0a\x0b\x0a\x04loss\x15\x00\x00\x00\x3f");
    }

    /// What a process of the same number has begun is left alone.
    #[test]
    fn names_that_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let first = EventWriter::new(folder.path()).unwrap();
        let name = first.path().file_name().unwrap().to_str().unwrap().to_string();
        let (start, number) = name.rsplit_once('.').unwrap();
        let (_, process) = start.rsplit_once(".gatefold.").unwrap();
        let number: u64 = number.parse().unwrap();
        // Of this second and the next ones; other tests begin files meanwhile.
        let seconds = now() as u64;
        for (second, number) in (seconds..seconds + 5).flat_map(|s| (number + 1..number + 50).map(move |n| (s, n))) {
            let taken = format!("events.out.tfevents.{second:010}.gatefold.{process}.{number}");
            fs::write(folder.path().join(taken), "other").unwrap();
        }
        let second = EventWriter::new(folder.path()).unwrap();
        assert!(records(&fs::read(second.path()).unwrap()).0.len() == 1, "a file of its own");
    }

    #[test]
    fn what_is_not_finite_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventWriter::new(folder.path()).unwrap();
        let tensor = |values: [f32; 2]| Tensor::new(values, &Device::Cpu).unwrap();
        events.histogram("w", &tensor([f32::NAN, 1.0]), 0).unwrap();
        events.histogram("w", &tensor([f32::NAN, f32::INFINITY]), 1).unwrap();
        let bytes = fs::read(events.path()).unwrap();
        let (all, _) = records(&bytes);
        let has = |text: &str| all.iter().filter(|e| e.windows(text.len()).any(|w| w == text.as_bytes())).count();
        assert_eq!((all.len(), has("w/not_finite")), (4, 2));
    }

    #[test]
    fn refuses() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(EventWriter::new(&file), Err(Error::File { .. })));
    }
}
