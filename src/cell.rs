//! The recurrences: what one time step computes.

/// The nonlinearity of the Elman network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Nonlinearity {
    /// tanh
    #[default]
    Tanh,
    /// max(x, 0)
    Relu,
}

/// The recurrence of one time step.
///
/// Row blocks of the weights are in PyTorch's gate order. σ is the logistic function, ∘ the elementwise product.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cell {
    /// Elman 1990: h′ = f(W_ih x + b_ih + W_hh h + b_hh).
    Rnn(Nonlinearity),
    /// Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000; gates i f g o:
    /// c′ = σ(f) ∘ c + σ(i) ∘ tanh(g), h′ = σ(o) ∘ tanh(c′). With a projection (Sak et al. 2014) h′ = W_hr (σ(o) ∘ tanh(c′)).
    Lstm,
    /// The LSTM with peepholes of Gers & Schmidhuber 2000, as Graves 2013 (eq. 7–11) writes it: p_i ∘ c is added to i, p_f ∘ c
    /// to f and p_o ∘ c′ to o, with diagonal weights.
    LstmPeephole,
    /// The GRU of PyTorch and cuDNN, gates r z n, with the reset gate after the product:
    /// n = tanh(W_in x + b_in + r ∘ (W_hn h + b_hn)), h′ = (1 − z) ∘ n + z ∘ h.
    Gru,
    /// The GRU of Cho et al. 2014 with the reset gate before the product: n = tanh(W_in x + b_in + W_hn (r ∘ h) + b_hn), and
    /// h′ = (1 − z) ∘ n + z ∘ h as in [`Gru`](Cell::Gru) (ONNX's `linear_before_reset = 0`).
    GruResetBefore,
}

impl Cell {
    /// Row blocks of the weights: 1 for an Elman network, 4 for an LSTM, 3 for a GRU.
    pub const fn gates(self) -> usize {
        match self {
            Cell::Rnn(_) => 1,
            Cell::Lstm | Cell::LstmPeephole => 4,
            Cell::Gru | Cell::GruResetBefore => 3,
        }
    }

    /// Whether it has a cell state c beside h.
    pub const fn has_cell_state(self) -> bool {
        matches!(self, Cell::Lstm | Cell::LstmPeephole)
    }
}
