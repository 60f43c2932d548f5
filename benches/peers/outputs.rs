//! Our side of the comparison of outputs with PyTorch: writes models, their inputs and what comes out, for `outputs.py`.
//!
//! `peer-outputs FOLDER` writes for each of some networks `NAME.model.safetensors`, as a program saves its model, and
//! `NAME.calls.safetensors`: words `(B, T)`, lengths `(B)`, scores `(B, T, 5)`, last states; what the network is stands in its metadata.

use std::{path::PathBuf, process::ExitCode};

use gatefold::{
    DType, Device, Philox, Result, Tape, Tensor, Var,
    nn::{Embedding, Gru, Linear, Lstm, Module, Rnn, StateDict},
    recurrent::Nonlinearity,
};

const WORDS: usize = 50;
const LENGTHS: [usize; 6] = [7, 12, 1, 12, 3, 9];

enum Cell {
    Lstm(Lstm),
    Gru(Gru),
    Rnn(Rnn),
}

struct Net {
    embedding: Embedding,
    rnn: Cell,
    out: Linear,
}

/// What a network is: the arguments of PyTorch's module beside the sizes.
#[derive(Clone, Copy)]
struct Case {
    cell: &'static str,
    layers: usize,
    bidirectional: bool,
    bias: bool,
    proj: usize,
    dtype: DType,
}

impl Net {
    fn new(case: Case, rng: &mut Philox) -> Result<Self> {
        let (Case { layers, bidirectional, bias, dtype, .. }, device) = (case, &Device::Cpu);
        macro_rules! options {
            ($config:expr) => {
                $config.num_layers(layers).bidirectional(bidirectional).bias(bias).batch_first(true).dtype(dtype)
            };
        }
        let rnn = match case.cell {
            "LSTM" => Cell::Lstm(options!(Lstm::new(24, 32)).proj_size(case.proj).init(device, rng)?),
            "GRU" => Cell::Gru(options!(Gru::new(24, 32)).init(device, rng)?),
            cell => {
                let nonlinearity = if cell == "RNN relu" { Nonlinearity::Relu } else { Nonlinearity::Tanh };
                Cell::Rnn(options!(Rnn::new(24, 32)).nonlinearity(nonlinearity).init(device, rng)?)
            }
        };
        let width = (1 + usize::from(bidirectional)) * if case.proj > 0 { case.proj } else { 32 };
        Ok(Net {
            embedding: Embedding::new(WORDS, 24).padding_idx(0).dtype(dtype).init(device, rng)?,
            rnn,
            out: Linear::new(width, 5).dtype(dtype).init(device, rng)?,
        })
    }

    /// Scores `(B, T, 5)`, and the last states.
    fn forward(&self, words: &Tensor) -> Result<(Var, Vec<Var>)> {
        let x = self.embedding.forward(&Tape::no_grad(), words)?;
        let (y, last) = match &self.rnn {
            Cell::Rnn(rnn) => rnn.forward_lengths(&x, &LENGTHS, None).map(|(y, h)| (y, vec![h]))?,
            Cell::Gru(gru) => gru.forward_lengths(&x, &LENGTHS, None).map(|(y, h)| (y, vec![h]))?,
            Cell::Lstm(lstm) => lstm.forward_lengths(&x, &LENGTHS, None).map(|(y, last)| (y, vec![last.h, last.c]))?,
        };
        Ok((self.out.forward(&y)?, last))
    }
}

impl Module for Net {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        let rnn: &dyn Module = match &self.rnn {
            Cell::Lstm(lstm) => lstm,
            Cell::Gru(gru) => gru,
            Cell::Rnn(rnn) => rnn,
        };
        vec![("embedding", &self.embedding), ("rnn", rnn), ("out", &self.out)]
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [DType::F32, DType::F64] {
        for cell in ["LSTM", "GRU", "RNN tanh", "RNN relu"] {
            for (layers, bidirectional, bias) in [(1, false, true), (2, true, true), (1, true, false)] {
                cases.push(Case { cell, layers, bidirectional, bias, proj: 0, dtype });
            }
        }
        cases.push(Case { cell: "LSTM", layers: 2, bidirectional: true, bias: true, proj: 10, dtype });
    }
    cases
}

fn write(folder: PathBuf) -> Result<()> {
    let mut rng = Philox::seed(1);
    for (i, case) in cases().into_iter().enumerate() {
        let net = Net::new(case, &mut rng)?;
        let longest = LENGTHS.into_iter().max().unwrap_or(0);
        let word =
            |i: usize| if i % longest < LENGTHS[i / longest] { 1 + rng.below(WORDS as u64 - 1) as i64 } else { 0 };
        let words: Vec<i64> = (0..LENGTHS.len() * longest).map(word).collect();
        let words = Tensor::from_slice(&words, [LENGTHS.len(), longest], &Device::Cpu)?;
        let (scores, last) = net.forward(&words)?;

        let mut calls = StateDict::new();
        calls.insert("lengths", Tensor::new(LENGTHS.map(|n| n as i64), &Device::Cpu)?);
        calls.insert("words", words);
        calls.insert("scores", scores.into_tensor());
        last.into_iter().zip(["h", "c"]).for_each(|(state, name)| drop(calls.insert(name, state.into_tensor())));
        for (key, value) in [
            ("cell", case.cell.to_string()),
            ("num_layers", case.layers.to_string()),
            ("bidirectional", u8::from(case.bidirectional).to_string()),
            ("bias", u8::from(case.bias).to_string()),
            ("proj_size", case.proj.to_string()),
            ("dtype", case.dtype.to_string()),
        ] {
            calls.metadata_mut().insert(key.into(), value);
        }
        net.save(folder.join(format!("{i:02}.model.safetensors")))?;
        calls.save(folder.join(format!("{i:02}.calls.safetensors")))?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("peer-outputs FOLDER");
        return ExitCode::FAILURE;
    };
    match write(folder.into()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer-outputs: {error}");
            ExitCode::FAILURE
        }
    }
}
