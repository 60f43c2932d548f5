//! A recurrent network of the kind that `--cell` names.

use clap::ValueEnum;
use gatefold::{
    Device, Philox, Result, Tensor, Var,
    nn::{Gru, Lstm, LstmState, Module, Rnn},
};

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Cell {
    Rnn,
    Lstm,
    LstmPeephole,
    Gru,
}

pub enum Recurrent {
    Rnn(Rnn),
    Lstm(Lstm),
    Gru(Gru),
}

/// The last hidden state `(layers, B, hidden)`; and the last cell state of an LSTM.
pub type State = Vec<Var>;

impl Recurrent {
    pub fn new(
        cell: Cell,
        (input, hidden, layers): (usize, usize, usize),
        batch_first: bool,
        device: &Device,
        rng: &mut Philox,
    ) -> Result<Self> {
        Ok(match cell {
            Cell::Rnn => {
                let rnn = Rnn::new(input, hidden).num_layers(layers).batch_first(batch_first);
                Recurrent::Rnn(rnn.init(device, rng)?)
            }
            Cell::Lstm | Cell::LstmPeephole => {
                let lstm = Lstm::new(input, hidden).num_layers(layers).batch_first(batch_first);
                Recurrent::Lstm(lstm.peephole(cell == Cell::LstmPeephole).init(device, rng)?)
            }
            Cell::Gru => {
                let gru = Gru::new(input, hidden).num_layers(layers).batch_first(batch_first);
                Recurrent::Gru(gru.init(device, rng)?)
            }
        })
    }

    /// The output, and the state after it; an empty state is one of zeros.
    pub fn forward(&self, x: &Var, state: &[Var]) -> Result<(Var, State)> {
        match self {
            Recurrent::Rnn(rnn) => rnn.forward(x, state.first()).map(|(y, h)| (y, vec![h])),
            Recurrent::Gru(gru) => gru.forward(x, state.first()).map(|(y, h)| (y, vec![h])),
            Recurrent::Lstm(lstm) => {
                let state = match state {
                    [h, c] => Some(LstmState::new(h.clone(), c.clone())),
                    _ => None,
                };
                lstm.forward(x, state.as_ref()).map(|(y, last)| (y, vec![last.h, last.c]))
            }
        }
    }

    pub fn module(&self) -> &dyn Module {
        match self {
            Recurrent::Rnn(rnn) => rnn,
            Recurrent::Lstm(lstm) => lstm,
            Recurrent::Gru(gru) => gru,
        }
    }
}

/// A state without its history, to go on from.
pub fn carried(state: State) -> Vec<Tensor> {
    state.into_iter().map(Var::into_tensor).collect()
}
