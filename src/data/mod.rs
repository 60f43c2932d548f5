//! Readers of data files, tokenizers, vocabularies and batches.
//!
//! A reader gives an [`Error::File`](crate::Error::File) that names the file and, where it has lines, line and column of what is
//! wrong. From a text to batches for an embedding:
//!
//! ```
//! use gatefold::{Device, Philox, data::{Background, Batches, Vocabulary, pad, tokenize}};
//! let texts = ["The dog ate the apple.", "Everybody read that book!", "It's good."].map(tokenize);
//! let mut words = Vocabulary::new().special("<padding>").unknown("<unknown>");
//! words.extend(texts.iter().flatten());
//! let numbers = texts.iter().map(|text| words.encode(text)).collect::<gatefold::Result<Vec<_>>>()?;
//!
//! let lengths: Vec<usize> = numbers.iter().map(Vec::len).collect();
//! let batches = Batches::by_length(lengths, 2)?.shuffle(&mut Philox::seed(1));
//! let batches = batches.map(move |batch| {
//!     let batch: Vec<_> = batch.iter().map(|&i| &numbers[i]).collect();
//!     pad(&batch, true, 0, &Device::Cpu)
//! });
//! for batch in Background::new(batches, 2)? {
//!     let (words, lengths) = batch?;
//!     println!("{} of lengths {lengths:?}", words.shape());
//! }
//! # Ok::<(), gatefold::Error>(())
//! ```

mod background;
mod batches;
mod chunks;
mod conllu;
mod folders;
mod idx;
mod mnist;
mod series;
mod standard;
mod table;
mod tagged;
mod tokenize;
mod vectors;
mod vocabulary;
mod windows;

pub use background::Background;
pub use batches::{Batches, pad, pad_features};
pub use chunks::Chunks;
pub use conllu::{ConlluSentence, ConlluWord, read_conllu};
pub use folders::read_text_folders;
pub use idx::Idx;
pub use mnist::{Digits, Mnist};
pub use series::{Series, TimeSeries};
pub use standard::{Standard, fill_missing};
pub use table::{Table, TableReader};
pub use tagged::{TaggedSentence, read_tagged};
pub use tokenize::{characters, tokenize};
pub use vectors::WordVectors;
pub use vocabulary::Vocabulary;
pub use windows::Windows;
