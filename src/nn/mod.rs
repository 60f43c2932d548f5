//! Modules: parameters and the function they parametrise.
//!
//! A configuration (`Lstm::new(6, 6).num_layers(2)`) becomes a module by `init(&device, &mut rng)`. Every module is a
//! [`Module`]; so is your own struct of modules when it names its [`children`](Module::children):
//!
//! ```
//! use gatefold::{Device, Philox, Result, nn::{Embedding, Linear, Lstm, Module}};
//!
//! struct Tagger {
//!     embedding: Embedding,
//!     lstm: Lstm,
//!     score: Linear,
//! }
//!
//! impl Module for Tagger {
//!     fn children(&self) -> Vec<(&str, &dyn Module)> {
//!         vec![("embedding", &self.embedding), ("lstm", &self.lstm), ("score", &self.score)]
//!     }
//! }
//!
//! let (device, mut rng) = (Device::Cpu, Philox::seed(1));
//! let tagger = Tagger {
//!     embedding: Embedding::new(9, 6).init(&device, &mut rng)?,
//!     lstm: Lstm::new(6, 6).init(&device, &mut rng)?,
//!     score: Linear::new(6, 3).init(&device, &mut rng)?,
//! };
//! assert_eq!(tagger.num_parameters(), 9 * 6 + 4 * 6 * (6 + 6 + 2) + 7 * 3);
//! tagger.eval();
//! println!("{}\n{}", tagger.repr(), tagger.describe());
//! # Ok::<(), gatefold::Error>(())
//! ```
//!
//! On the CPU a recurrent module keeps its weights once more, packed as its products want them, once it was called twice with the same
//! ones: for inference in calls of up to 2048 steps in all, and for the steps of a cell. They are packed anew when a parameter was written.

mod cell;
mod dropout;
mod embedding;
pub mod init;
mod layer;
mod linear;
mod module;
mod packed;
mod rnn;
mod state_dict;

pub use cell::{GruCell, GruCellConfig, LstmCell, LstmCellConfig, RnnCell, RnnCellConfig};
pub use dropout::{Dropout, DropoutConfig};
pub use embedding::{Embedding, EmbeddingConfig};
pub use linear::{Linear, LinearConfig};
pub use module::{GeneratorState, IncompatibleKeys, MaskGenerator, Module, Training};
pub use packed::{PackedSequence, length_mask, pack_padded_sequence, pack_sequence, pad_packed_sequence, pad_sequence};
pub use rnn::{Gru, GruConfig, Lstm, LstmConfig, LstmState, Rnn, RnnConfig};
pub use state_dict::StateDict;

pub use crate::{recurrent::Nonlinearity, tape::HasParameters};
