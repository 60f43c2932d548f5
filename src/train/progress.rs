//! A bar that shows how far an epoch is.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar on a terminal, with rate and time left; where the standard error is none it is quiet.
///
/// ```
/// use gatefold::train::{Mean, Progress};
/// let mut loss = Mean::new();
/// let bar = Progress::new("epoch 1/10", 3);
/// for batch in [0.9, 0.8, 0.7] {
///     loss.add(batch, 128);
///     bar.step(format!("loss {:.4}", loss.value()));
/// }
/// bar.finish();
/// ```
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar of so many steps, with a word before it.
    pub fn new(prefix: impl Into<String>, steps: usize) -> Self {
        if !std::io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let template = "{prefix} {bar:30} {pos}/{len}  {msg}  {per_sec}, {eta} left";
        let bar = ProgressBar::new(steps as u64).with_prefix(prefix.into());
        Progress(ProgressStyle::with_template(template).map_or(bar.clone(), |style| bar.with_style(style)))
    }

    /// Begins `done` steps on, as a resumed epoch does; they do not count for the rate.
    pub fn resume(self, done: usize) -> Self {
        self.0.set_position(done as u64);
        self.0.reset_eta();
        self
    }

    /// One step more, and what to show beside it.
    pub fn step(&self, message: impl Into<String>) {
        self.0.set_message(message.into());
        self.0.inc(1);
    }

    /// Takes the bar away.
    pub fn finish(self) {
        self.0.finish_and_clear();
    }
}
