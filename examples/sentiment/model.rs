//! The network, its file, and how often it is right.

use std::path::Path;

use gatefold::{
    DType, Device, Error, Philox, Result, Tape, Tensor, Var,
    data::{Batches, Vocabulary},
    nn::{Dropout, Embedding, Linear, Lstm, Module, StateDict},
    train::Mean,
};

use crate::reviews::{self, Numbered};

pub struct Classifier {
    embedding: Embedding,
    lstm: Lstm,
    dropout: Dropout,
    out: Linear,
}

impl Classifier {
    pub fn new(table: Tensor, hidden: usize, device: &Device, rng: &mut Philox) -> Result<Self> {
        let lstm = Lstm::new(table.dims()[1], hidden).num_layers(2).bidirectional(true).dropout(0.5).batch_first(true);
        Ok(Classifier {
            embedding: Embedding::from_pretrained(table, false)?.with_padding_idx(0)?,
            lstm: lstm.init(device, rng)?,
            dropout: Dropout::new(0.5).init(device, rng)?,
            out: Linear::new(2 * hidden, 1).init(device, rng)?,
        })
    }

    /// Words `(B, T)` → scores `(B)`: above 0 for good.
    pub fn forward(&self, tape: &Tape, words: &Tensor, lengths: &[usize]) -> Result<Var> {
        let x = self.dropout.forward(&self.embedding.forward(tape, words)?)?;
        let (_, last) = self.lstm.forward_lengths(&x, lengths, None)?;
        let both = Var::concat(&[&last.h.select(0, -2)?, &last.h.select(0, -1)?], 1)?;
        self.out.forward(&self.dropout.forward(&both)?)?.squeeze(1)
    }
}

impl Module for Classifier {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        vec![("embedding", &self.embedding), ("lstm", &self.lstm), ("dropout", &self.dropout), ("out", &self.out)]
    }
}

/// The metadata of a model's file that its words are.
const WORDS: &str = "words";

/// A vocabulary to which words are to be added: 0 is padding.
pub fn no_words() -> Vocabulary {
    Vocabulary::new().special("<padding>").unknown("<unknown>")
}

/// Writes a model and its words as one file: with other words its numbers would mean nothing.
pub fn save(model: &Classifier, words: &Vocabulary, file: &Path) -> Result<()> {
    let mut state = model.state_dict();
    // No word has a line end in it.
    let words: Vec<&str> = words.words().collect();
    state.metadata_mut().insert(WORDS.into(), words.join("\n"));
    state.save(file)
}

/// A model as it was saved; its sizes are those of its parameters.
pub fn load(file: &Path, device: &Device) -> Result<(Classifier, Vocabulary)> {
    let state = StateDict::load(file)?;
    let wrong = |reason: String| Error::file("sentiment", file, reason);
    let listed = state.metadata().get(WORDS);
    let listed = listed.ok_or_else(|| wrong("no words in it, want a model of this program".into()))?;
    let mut words = no_words();
    words.extend(listed.lines());
    let dims = |name: &str| {
        let dims = state.get(name).map(|tensor| tensor.dims().to_vec()).filter(|dims| dims.len() == 2);
        dims.ok_or_else(|| wrong(format!("no matrix {name} in it, want a model of this program")))
    };
    let (table, hidden) = (dims("embedding.weight")?, dims("lstm.weight_hh_l0")?[1]);
    if table[0] != words.len() {
        return Err(wrong(format!("{} words, want the {} of its embedding", words.len(), table[0])));
    }
    let zeros = Tensor::zeros(table, DType::F32, device)?;
    let model = Classifier::new(zeros, hidden, device, &mut Philox::seed(0))?;
    model.load_state_dict(&state)?;
    Ok((model, words))
}

/// The part of the reviews that are taken for what they are.
pub fn accuracy(model: &Classifier, all: &[Numbered], device: &Device) -> Result<f64> {
    model.eval();
    let mut mean = Mean::new();
    for batch in Batches::by_length(all.iter().map(|(words, _)| words.len()).collect::<Vec<_>>(), 64)? {
        let (x, lengths, targets) = reviews::batch(all, &batch, device)?;
        let scores = model.forward(&Tape::no_grad(), &x, &lengths)?;
        mean.add(taken_right(scores.tensor(), &targets)?, batch.len());
    }
    Ok(mean.value())
}

/// The same of a batch.
pub fn taken_right(scores: &Tensor, targets: &Tensor) -> Result<f64> {
    let (scores, targets) = (scores.to_vec::<f32>()?, targets.to_vec::<f32>()?);
    let right = scores.iter().zip(&targets).filter(|(score, target)| (**score > 0.0) == (**target > 0.5)).count();
    Ok(right as f64 / targets.len() as f64)
}
