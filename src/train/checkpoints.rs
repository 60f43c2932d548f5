//! The checkpoints of a run: the last ones and the best.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Checkpoint, checkpoint::is_damaged};
use crate::{
    error::{Error, Result},
    file,
    optim::Mode,
};

const OP: &str = "Checkpoints";
const BEST: &str = "best.safetensors";
/// The number of the best checkpoint that says how good it is.
const METRIC: &str = "best metric";

/// A folder of the last few checkpoints of one run, and the best.
///
/// ```
/// use gatefold::{Device, Philox, nn::Linear, optim::{Mode, Sgd}, train::{Checkpoint, Checkpoints}};
/// let folder = std::env::temp_dir().join(format!("gatefold-checkpoints-{}", std::process::id()));
/// let mut rng = Philox::seed(1);
/// let model = Linear::new(2, 1).init(&Device::Cpu, &mut rng)?;
/// let optimizer = Sgd::new(0.1).over([&model])?;
///
/// let mut checkpoints = Checkpoints::new(&folder)?.keep_last(2);
/// for (epoch, accuracy) in [0.7, 0.9, 0.8].into_iter().enumerate() {
///     let checkpoint = Checkpoint::new(&model, &optimizer, &rng).at(epoch as u64 + 1, 0);
///     checkpoints.save(&checkpoint)?;
///     checkpoints.save_best(&checkpoint, accuracy, Mode::Max)?;
/// }
/// assert_eq!(checkpoints.latest()?.unwrap().checkpoint.epoch, 3);
/// assert_eq!(checkpoints.best()?.unwrap().epoch, 2);
/// assert_eq!(std::fs::read_dir(&folder)?.count(), 3);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
    /// The metric of the best one, once that has been asked for.
    metric: Option<f64>,
}

/// The newest checkpoint that could be read.
#[derive(Debug, Clone)]
pub struct Latest {
    /// What it holds.
    pub checkpoint: Checkpoint,
    /// Its file.
    pub path: PathBuf,
    /// What was wrong with newer ones.
    pub refused: Vec<Error>,
}

impl Checkpoints {
    /// Those of a folder, which is made if it is not there; it belongs to one run, which is the only one to write there. What
    /// an interrupted run had half written is removed.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn new(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let fail = |e| Error::file(OP, folder, e);
        fs::create_dir_all(folder).map_err(fail)?;
        for entry in fs::read_dir(folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = [".checkpoint-", ".best."].iter().any(|start| name.starts_with(start));
            if ours && name.ends_with(file::TEMPORARY) {
                fs::remove_file(entry.path()).map_err(fail)?;
            }
        }
        Ok(Checkpoints { folder: folder.into(), keep: 3, metric: None })
    }

    /// How many of the last checkpoints are kept: 3 unless set, and never less than 1.
    pub fn keep_last(mut self, count: usize) -> Self {
        self.keep = count.max(1);
        self
    }

    /// Writes a checkpoint as `checkpoint-EPOCH-BATCH.safetensors`, then removes the oldest ones, which a run that is killed in between
    /// leaves to its next save. Gives its path.
    ///
    /// # Errors
    /// As [`Checkpoint::save`]; [`Error::File`] where an old one cannot be removed.
    pub fn save(&self, checkpoint: &Checkpoint) -> Result<PathBuf> {
        let position = (checkpoint.epoch, checkpoint.batch);
        let path = self.folder.join(format!("checkpoint-{}-{}.safetensors", position.0, position.1));
        checkpoint.save(&path)?;
        // Newer ones, of an earlier course of the run, are left alone.
        let older = self.all()?.into_iter().filter(|(other, _)| *other <= position).map(|(_, path)| path);
        for path in older.skip(self.keep) {
            fs::remove_file(&path).map_err(|e| Error::file(OP, path, e))?;
        }
        Ok(path)
    }

    /// Writes a checkpoint as `best.safetensors` if its metric is better than that of the one there; says whether it was. A NaN
    /// is never better. One that is there and damaged, or has no metric, counts for nothing.
    ///
    /// # Errors
    /// As [`Checkpoint::save`]; as [`Checkpoint::load`] where the one there cannot be read, or is whole and something else.
    pub fn save_best(&mut self, checkpoint: &Checkpoint, metric: f64, mode: Mode) -> Result<bool> {
        let better = match (self.best_metric()?, mode) {
            (None, _) => !metric.is_nan(),
            (Some(best), Mode::Min) => metric < best,
            (Some(best), Mode::Max) => metric > best,
        };
        if better {
            checkpoint.clone().with_number(METRIC, metric).save(self.folder.join(BEST))?;
            self.metric = Some(metric);
        }
        Ok(better)
    }

    /// The metric of the best checkpoint there; its file is read once.
    fn best_metric(&mut self) -> Result<Option<f64>> {
        let Some(path) = self.best_path()? else { return Ok(None) };
        if self.metric.is_none() {
            let bytes = file::read(OP, &path)?;
            if !is_damaged(&bytes) {
                self.metric = Checkpoint::from_bytes(OP, &path, &bytes)?.numbers.get(METRIC).copied();
            }
        }
        Ok(self.metric)
    }

    /// The checkpoint farthest on, by epoch and batch, that can be read; `None` in a folder without any. Of a run that was begun again from
    /// an earlier point that may be one of its earlier course, until the new one is past it: such files are to be removed by hand.
    ///
    /// # Errors
    /// Where there are checkpoints and none can be read: what is wrong with the newest.
    pub fn latest(&self) -> Result<Option<Latest>> {
        let mut refused = Vec::new();
        for (_, path) in self.all()? {
            match Checkpoint::load(&path) {
                Ok(checkpoint) => return Ok(Some(Latest { checkpoint, path, refused })),
                Err(error) => refused.push(error),
            }
        }
        refused.into_iter().next().map_or(Ok(None), Err)
    }

    /// The best checkpoint; `None` where there is none yet.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn best(&self) -> Result<Option<Checkpoint>> {
        self.best_path()?.map(Checkpoint::load).transpose()
    }

    /// Where the best checkpoint is, if there is one.
    fn best_path(&self) -> Result<Option<PathBuf>> {
        let path = self.folder.join(BEST);
        let there = path.try_exists().map_err(|e| Error::file(OP, &path, e))?;
        Ok(there.then_some(path))
    }

    /// Position and path of each, the newest first.
    fn all(&self) -> Result<Vec<((u64, u64), PathBuf)>> {
        let fail = |e| Error::file(OP, &self.folder, e);
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let position = name.strip_prefix("checkpoint-").and_then(|rest| rest.strip_suffix(".safetensors"));
            if let Some((epoch, batch)) = position.and_then(|position| position.split_once('-'))
                && let (Ok(epoch), Ok(batch)) = (epoch.parse(), batch.parse())
            {
                all.push(((epoch, batch), path));
            }
        }
        all.sort_by(|(a, _), (b, _)| b.cmp(a));
        Ok(all)
    }
}
