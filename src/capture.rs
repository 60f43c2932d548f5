//! What a thread notes while it captures a training step, so that replays go on as the step itself would: the masks that were drawn,
//! and the optimizers that were stepped. Where nothing can be captured it notes them too, for the same steps are refused.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::error::{Error, Result};

/// What a mask generator knows: a seed, and how often it has been asked.
#[derive(Debug, Default)]
pub(crate) struct Generator {
    pub seed: AtomicU64,
    pub calls: AtomicU64,
}

/// A mask that a generator was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Draw {
    pub generator: Arc<Generator>,
    /// Its seed, and the number of this call.
    pub seed: u64,
    pub call: u64,
    /// The call has a seed of its own, made from the generator's; else the generator's seed and the call's number are the mask's.
    pub own_seed: bool,
    /// The seed and stream that the mask is made by.
    pub drawn: (u64, u64),
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// The step runs as written.
    Plain,
    /// The step runs, in the form in which it will be captured.
    Rehearsal,
    /// The step is captured and does not run.
    Capture {
        /// Device memory of the seeds and streams that replays draw: 16 bytes for each draw.
        drawn: u64,
    },
}

/// What was noted.
#[derive(Default)]
pub(crate) struct Notes {
    pub draws: Vec<Draw>,
    /// The optimizers that were stepped, each as often as it was.
    pub optimizers: Vec<u64>,
}

thread_local! {
    static NOTES: RefCell<Option<(Mode, Notes)>> = const { RefCell::new(None) };
}

/// Ends the recording of this thread, also where the step fails.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        NOTES.take();
    }
}

fn recorded<R>(mode: Mode, step: impl FnOnce() -> Result<R>) -> Result<(R, Notes)> {
    if NOTES.with_borrow(Option::is_some) {
        return Err(Error::argument("CapturedStep", "a captured step inside of another", "one at a time"));
    }
    NOTES.set(Some((mode, Notes::default())));
    let end = End;
    let result = step();
    let notes = NOTES.take().map(|(_, notes)| notes).unwrap_or_default();
    drop(end);
    match result {
        Ok(result) => Ok((result, notes)),
        Err(e) => {
            if matches!(mode, Mode::Capture { .. }) {
                notes.undo();
            }
            Err(e)
        }
    }
}

/// Runs a step as it is written, where nothing can be captured.
pub(crate) fn plain<R>(step: impl FnOnce() -> Result<R>) -> Result<(R, Notes)> {
    recorded(Mode::Plain, step)
}

/// Runs a step in the form in which it can be captured.
pub(crate) fn rehearse<R>(step: impl FnOnce() -> Result<R>) -> Result<(R, Notes)> {
    recorded(Mode::Rehearsal, step)
}

/// Calls a step whose work is captured; `drawn` is device memory of 16 bytes for each draw. Where it fails, no mask counts as drawn.
pub(crate) fn capture<R>(drawn: u64, step: impl FnOnce() -> Result<R>) -> Result<(R, Notes)> {
    recorded(Mode::Capture { drawn }, step)
}

impl Notes {
    /// Takes the draws back.
    pub fn undo(&self) {
        for draw in &self.draws {
            draw.generator.calls.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Whether a step is rehearsed or captured on this thread: optimizers then keep on the device what changes from step to step.
pub(crate) fn live() -> bool {
    NOTES.with_borrow(|notes| matches!(notes, Some((Mode::Rehearsal | Mode::Capture { .. }, _))))
}

/// Whether a step is captured on this thread.
pub(crate) fn capturing() -> bool {
    NOTES.with_borrow(|notes| matches!(notes, Some((Mode::Capture { .. }, _))))
}

/// `Err` inside of a capture: for what replays could not do again.
pub(crate) fn refuse(op: &'static str, what: &str) -> Result<()> {
    if !capturing() {
        return Ok(());
    }
    Err(Error::argument(
        op,
        format!("{what} inside of a captured step"),
        "what the device can do again alone: move it out of the step, or run the step without CapturedStep",
    ))
}

/// Notes a draw.
pub(crate) fn note_draw(draw: impl FnOnce() -> Draw) {
    NOTES.with_borrow_mut(|notes| {
        if let Some((_, notes)) = notes {
            notes.draws.push(draw());
        }
    });
}

/// Notes a step of an optimizer.
pub(crate) fn note_optimizer(id: u64) {
    NOTES.with_borrow_mut(|notes| {
        if let Some((_, notes)) = notes {
            notes.optimizers.push(id);
        }
    });
}

/// Inside of a capture, where a replay finds the seed and, 8 bytes further on, the stream of a mask.
///
/// # Errors
/// Where no generator drew it: every replay would have the same mask.
#[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "no other backend captures"))]
pub(crate) fn drawn_at(op: &'static str, seed: u64, stream: u64) -> Result<Option<u64>> {
    NOTES.with_borrow(|notes| {
        let Some((Mode::Capture { drawn }, notes)) = notes else { return Ok(None) };
        match notes.draws.iter().rposition(|draw| draw.drawn == (seed, stream)) {
            Some(i) => Ok(Some(drawn + 16 * i as u64)),
            None => Err(Error::argument(
                op,
                format!("a mask of seed {seed} and stream {stream} inside of a captured step"),
                "one drawn by a module's generator: each replay would have the same mask",
            )),
        }
    })
}
