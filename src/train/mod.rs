//! What a training program needs around the model: metrics, a progress bar, early stopping, checkpoints, a log for TensorBoard,
//! charts, ONNX files; and what keeps a GPU busy: captured steps, batches that arrive beside the work.
//!
//! These are parts to be used or not, no framework: the loop stays the program's own.
//!
//! ```
//! use gatefold::{Device, Philox, Tape, Tensor, data::Batches, nn::Linear, optim::{Mode, Sgd}};
//! use gatefold::train::{Checkpoint, Checkpoints, EarlyStopping, EventWriter, Mean, Progress};
//! let folder = std::env::temp_dir().join(format!("gatefold-train-{}", std::process::id()));
//! let mut rng = Philox::seed(1);
//! let model = Linear::new(1, 1).init(&Device::Cpu, &mut rng)?;
//! let mut optimizer = Sgd::new(0.3).over([&model])?;
//!
//! let checkpoints = Checkpoints::new(folder.join("checkpoints"))?;
//! let mut events = EventWriter::new(&folder)?;
//! let mut stopping = EarlyStopping::new(Mode::Min, 3)?.min_delta(1e-4);
//! for epoch in 0..100 {
//!     let batches = Batches::new(8, 2)?.shuffle(&mut rng.fork(epoch));
//!     let (mut mean, bar) = (Mean::new(), Progress::new(format!("epoch {epoch}"), batches.len()));
//!     for batch in batches {
//!         let x: Vec<[f32; 1]> = batch.iter().map(|&i| [i as f32 / 8.0]).collect();
//!         let x = Tape::new().constant(Tensor::new(x, &Device::Cpu)?);
//!         let loss = model.forward(&x)?.mse_loss(&x)?;
//!         optimizer.zero_grad();
//!         loss.backward()?;
//!         optimizer.step()?;
//!         mean.add(loss.item()?, batch.len());
//!         bar.step(format!("loss {:.4}", mean.value()));
//!     }
//!     bar.finish();
//!     events.scalar("loss", mean.value(), epoch)?;
//!     checkpoints.save(&Checkpoint::new(&model, &optimizer, &rng).at(epoch + 1, 0))?;
//!     if stopping.step(mean.value()) {
//!         break;
//!     }
//! }
//! assert!(stopping.best().unwrap() < 0.01);
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod captured_step;
mod chart;
mod checkpoint;
mod checkpoints;
mod crc;
mod events;
mod forecast;
mod histogram;
mod metrics;
mod onnx;
mod picture;
mod prefetch;
mod progress;
mod proto;
mod running;
mod stopping;
mod watch;

pub use captured_step::CapturedStep;
pub use chart::Chart;
pub use checkpoint::Checkpoint;
pub use checkpoints::{Checkpoints, Latest};
pub use events::{EventWriter, HyperParameter, read_scalars};
pub use forecast::ForecastErrors;
pub use metrics::{Confusion, Mean};
pub use onnx::{OnnxGraph, OnnxValue};
pub use prefetch::Prefetch;
pub use progress::Progress;
pub use running::Running;
pub use stopping::EarlyStopping;
pub use watch::Watch;
