//! Readers of data files, vocabularies and batches.

mod batches;
mod idx;
mod mnist;
mod tagged;
mod vocabulary;

pub use batches::{Batches, pad};
pub use idx::Idx;
pub use mnist::{Digits, Mnist};
pub use tagged::{TaggedSentence, read_tagged};
pub use vocabulary::Vocabulary;
