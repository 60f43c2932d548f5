//! The network, how well it knows a text, and what it writes.

use gatefold::{
    Device, Philox, Result, Tape, Tensor, Var,
    data::{Chunks, Vocabulary, characters},
    nn::{Embedding, Linear, Module},
    train::Mean,
};

use crate::{
    Settings,
    common::recurrent::{Cell, Recurrent, carried},
};

pub struct Model {
    embedding: Embedding,
    rnn: Recurrent,
    out: Linear,
}

impl Model {
    pub fn new(cell: Cell, letters: usize, hidden: usize, device: &Device, rng: &mut Philox) -> Result<Self> {
        Ok(Model {
            embedding: Embedding::new(letters, 64).init(device, rng)?,
            rnn: Recurrent::new(cell, (64, hidden, 2), false, device, rng)?,
            out: Linear::new(hidden, letters).init(device, rng)?,
        })
    }

    /// Characters `(T, B)` and a state → scores `(T·B, characters)` and the state after them, without its history.
    pub fn forward(&self, tape: &Tape, x: &Tensor, state: &[Tensor]) -> Result<(Var, Vec<Tensor>)> {
        let state: Vec<Var> = state.iter().map(|part| tape.constant(part.clone())).collect();
        let (y, last) = self.rnn.forward(&self.embedding.forward(tape, x)?, &state)?;
        let scores = self.out.forward(&y)?;
        let classes = scores.dims()[2] as isize;
        Ok((scores.reshape([-1, classes])?, carried(last)))
    }
}

impl Module for Model {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        vec![("embedding", &self.embedding), ("rnn", self.rnn.module()), ("out", &self.out)]
    }
}

/// Nats as bits.
pub fn bits(nats: f64) -> f64 {
    nats / std::f64::consts::LN_2
}

/// Bits per character of a text that was not trained on.
pub fn test(model: &Model, text: &Chunks, device: &Device) -> Result<f64> {
    let (mut mean, mut state) = (Mean::new(), Vec::new());
    for chunk in 0..text.len() {
        let (x, next) = text.get(chunk, device)?;
        let (scores, last) = model.forward(&Tape::no_grad(), &x, &state)?;
        mean.add(bits(scores.cross_entropy(&next)?.item()?), next.numel());
        state = last;
    }
    Ok(mean.value())
}

/// The prompt, and what the model writes after it.
pub fn write(model: &Model, letters: &Vocabulary, settings: &Settings, rng: &mut Philox) -> Result<String> {
    let mut text = settings.prompt.clone();
    let (mut read, mut state) = (letters.encode(characters(&text))?, Vec::new());
    for _ in 0..settings.write {
        let x = Tensor::from_slice(&read, [read.len(), 1], &settings.device)?;
        let (scores, last) = model.forward(&Tape::no_grad(), &x, &state)?;
        state = last;
        let weights = scores.select(0, -1)?.div_scalar(settings.temperature.max(1e-3))?.softmax(-1)?;
        read = vec![rng.choose(&weights.tensor().to_vec::<f32>()?).unwrap_or(0) as i64];
        text.push_str(letters.word(read[0]).unwrap_or_default());
    }
    Ok(text)
}
