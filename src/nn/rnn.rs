//! `Rnn`, `Lstm` and `Gru`: whole sequences through stacked layers.

use std::fmt;

use crate::{
    device::Device,
    dtype::DType,
    error::{Error, Result},
    nn::{MaskGenerator, Module, PackedSequence, Training, layer::Layer},
    recurrent::{Cell, Descriptor, Nonlinearity, ParameterKind},
    rng::Philox,
    tape::{Parameter, Tape, Var},
};

/// Hidden and cell state of an LSTM.
#[derive(Debug, Clone)]
pub struct LstmState {
    /// Hidden state `(L·D, B, R)`, R being `proj_size` or else `hidden_size`; of a cell `(B, H)`.
    pub h: Var,
    /// Cell state `(L·D, B, H)`; of a cell `(B, H)`.
    pub c: Var,
}

impl LstmState {
    /// A state of its two parts.
    pub fn new(h: Var, c: Var) -> Self {
        LstmState { h, c }
    }

    /// The same values without their history.
    pub fn detach(&self) -> Self {
        LstmState { h: self.h.detach(), c: self.c.detach() }
    }

    /// The same values without their history, on another tape: to go on from one chunk of a sequence to the next.
    pub fn detach_onto(&self, tape: &Tape) -> Self {
        LstmState { h: self.h.detach_onto(tape), c: self.c.detach_onto(tape) }
    }
}

impl From<(Var, Var)> for LstmState {
    fn from((h, c): (Var, Var)) -> Self {
        LstmState { h, c }
    }
}

impl From<LstmState> for (Var, Var) {
    fn from(state: LstmState) -> Self {
        (state.h, state.c)
    }
}

/// The configuration and the module of one kind of network: all that does not touch its state.
macro_rules! network {
    ($name:ident, $config:ident, $torch:literal, $cell:expr, $about:literal) => {
        #[doc = concat!("Settings of [`", stringify!($name), "`]; what is not set has PyTorch's default.")]
        #[derive(Debug, Clone, PartialEq)]
        pub struct $config {
            descriptor: Descriptor,
            batch_first: bool,
        }

        impl $config {
            /// Stacked layers; 1 at first.
            pub fn num_layers(mut self, layers: usize) -> Self {
                self.descriptor.num_layers = layers;
                self
            }

            /// Runs each layer in both directions.
            pub fn bidirectional(mut self, bidirectional: bool) -> Self {
                self.descriptor.bidirectional = bidirectional;
                self
            }

            /// Inputs and outputs are `(B, T, features)` instead of `(T, B, features)`. States are not affected.
            pub fn batch_first(mut self, batch_first: bool) -> Self {
                self.batch_first = batch_first;
                self
            }

            /// Biases b_ih and b_hh; on at first.
            pub fn bias(mut self, bias: bool) -> Self {
                self.descriptor.bias = bias;
                self
            }

            /// Probability of zeroing each output of every layer but the last, in training; so of a single layer none.
            pub fn dropout(mut self, p: f64) -> Self {
                self.descriptor.dropout = p;
                self
            }

            /// Type of the parameters; f32 at first.
            pub fn dtype(mut self, dtype: DType) -> Self {
                self.descriptor.dtype = dtype;
                self
            }

            /// The module, its parameters uniform on ±1/√hidden_size. The dropout masks get a seed from `rng` too.
            ///
            /// # Errors
            /// Settings that [`Descriptor::validate`] refuses, a device that is not there.
            pub fn init(self, device: &Device, rng: &mut Philox) -> Result<$name> {
                Ok($name(Layer::init(self.descriptor, self.batch_first, device, rng)?))
            }
        }

        #[doc = $about]
        #[derive(Debug)]
        pub struct $name(Layer);

        impl $name {
            /// Settings for inputs of `input_size` features and `hidden_size` units.
            #[expect(clippy::new_ret_no_self, reason = "a configuration becomes a module by init()")]
            pub fn new(input_size: usize, hidden_size: usize) -> $config {
                $config { descriptor: Descriptor::new($cell, input_size, hidden_size), batch_first: false }
            }

            /// What it computes, as the raw layer describes it.
            pub fn descriptor(&self) -> &Descriptor {
                &self.0.descriptor
            }

            /// Whether inputs and outputs are `(B, T, features)`.
            pub fn batch_first(&self) -> bool {
                self.0.batch_first
            }

            /// Input weights `(gates · hidden, input)` of a layer; direction 0 is forward, 1 reverse. PyTorch's `weight_ih_l0` is
            /// `weight_ih(0, 0)`. `None` for a layer or direction that is not there.
            pub fn weight_ih(&self, layer: usize, direction: usize) -> Option<&Parameter> {
                self.0.parameter(ParameterKind::WeightIh, layer, direction)
            }

            /// Recurrent weights `(gates · hidden, proj or hidden)`: PyTorch's `weight_hh_l0`.
            pub fn weight_hh(&self, layer: usize, direction: usize) -> Option<&Parameter> {
                self.0.parameter(ParameterKind::WeightHh, layer, direction)
            }

            /// Input biases `(gates · hidden)`: PyTorch's `bias_ih_l0`. `None` without biases.
            pub fn bias_ih(&self, layer: usize, direction: usize) -> Option<&Parameter> {
                self.0.parameter(ParameterKind::BiasIh, layer, direction)
            }

            /// Recurrent biases `(gates · hidden)`: PyTorch's `bias_hh_l0`. `None` without biases.
            pub fn bias_hh(&self, layer: usize, direction: usize) -> Option<&Parameter> {
                self.0.parameter(ParameterKind::BiasHh, layer, direction)
            }
        }

        impl Module for $name {
            fn children(&self) -> Vec<(&str, &dyn Module)> {
                Vec::new()
            }

            fn own_parameters(&self) -> Vec<(String, Parameter)> {
                self.0.named().collect()
            }

            fn training(&self) -> Option<&Training> {
                Some(&self.0.training)
            }

            fn mask_generator(&self) -> Option<&MaskGenerator> {
                self.0.drops().then_some(&self.0.masks)
            }

            fn repr(&self) -> String {
                self.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.descriptor.print(f, $torch, self.0.batch_first, false)
            }
        }
    };
}

/// The forward calls of the networks whose state is h alone.
macro_rules! hidden_state {
    ($name:ident, $op:literal) => {
        impl $name {
            /// Outputs and the last hidden state `(L·D, B, H)`. x is `(T, B, input_size)`, `(B, T, input_size)` with `batch_first`, or
            /// `(T, input_size)` without a batch, and then no result has one; outputs are laid out as x, with D·H features.
            /// The hidden state starts at `state`, or at zero. A batch of no sequences gives results without elements; no steps are an error.
            ///
            /// # Errors
            /// [`Error::Shape`], [`Error::DType`] or [`Error::Device`] of x or state.
            pub fn forward(&self, x: &Var, state: Option<&Var>) -> Result<(Var, Var)> {
                let (y, h, _) = self.0.forward($op, x, state, None)?;
                Ok((y, h))
            }

            /// [`forward`](Self::forward) of a padded batch: sequence b has the first `lengths[b]` steps, in any order of lengths. What
            /// stands behind is not read; outputs are 0 there, and the last state is that of each sequence's own last step.
            ///
            /// # Errors
            /// As [`forward`](Self::forward); a length of 0 or above T, or not one per sequence.
            pub fn forward_lengths(&self, x: &Var, lengths: &[usize], state: Option<&Var>) -> Result<(Var, Var)> {
                let (y, h, _) = self.0.forward_lengths($op, x, lengths, state, None)?;
                Ok((y, h))
            }

            /// [`forward`](Self::forward) of a packed batch. States are in the original order of the batch.
            ///
            /// # Errors
            /// As [`forward`](Self::forward); a packed sequence whose parts do not fit together.
            pub fn forward_packed(&self, x: &PackedSequence, state: Option<&Var>) -> Result<(PackedSequence, Var)> {
                let (y, h, _) = self.0.forward_packed($op, x, state, None)?;
                Ok((y, h))
            }
        }
    };
}

network!(
    Rnn,
    RnnConfig,
    "RNN",
    Cell::Rnn(Nonlinearity::Tanh),
    "The Elman network (Elman 1990): PyTorch's `nn.RNN`.

```text
h′ = tanh(W_ih x + b_ih + W_hh h + b_hh)      or relu, with `nonlinearity`
```

```
use gatefold::{DType, Device, Philox, Tape, Tensor, nn::{Nonlinearity, Rnn}};
let (device, mut rng) = (Device::Cpu, Philox::seed(1));
let rnn = Rnn::new(4, 2).nonlinearity(Nonlinearity::Relu).init(&device, &mut rng)?;
// One sequence of 5 steps, without a batch.
let x = Tensor::normal([5, 4], 0.0, 1.0, DType::F32, &device, &mut rng)?;
let (y, last) = rnn.forward(&Tape::new().constant(x), None)?;
assert_eq!((y.dims(), last.dims()), (&[5, 2][..], &[1, 2][..]));
# Ok::<(), gatefold::Error>(())
```"
);
hidden_state!(Rnn, "RNN");

impl RnnConfig {
    /// tanh (at first) or relu.
    pub fn nonlinearity(mut self, nonlinearity: Nonlinearity) -> Self {
        self.descriptor.cell = Cell::Rnn(nonlinearity);
        self
    }
}

network!(
    Gru,
    GruConfig,
    "GRU",
    Cell::Gru,
    "The gated recurrent unit, gates r z n: PyTorch's `nn.GRU`.

```text
r = σ(W_ir x + b_ir + W_hr h + b_hr)
z = σ(W_iz x + b_iz + W_hz h + b_hz)
n = tanh(W_in x + b_in + r ∘ (W_hn h + b_hn))
h′ = (1 − z) ∘ n + z ∘ h
```

With `reset_after(false)` it is that of Cho et al. 2014 (equations 5 to 8): n = tanh(W_in x + b_in + W_hn (r ∘ h) + b_hn).

```
use gatefold::{DType, Device, Philox, Tape, Tensor, nn::Gru};
let (device, mut rng) = (Device::Cpu, Philox::seed(1));
let gru = Gru::new(10, 20).bidirectional(true).batch_first(true).init(&device, &mut rng)?;
// 3 sequences of up to 5 steps: the second has four, the last two.
let x = Tensor::normal([3, 5, 10], 0.0, 1.0, DType::F32, &device, &mut rng)?;
let (y, last) = gru.forward_lengths(&Tape::new().constant(x), &[5, 4, 2], None)?;
assert_eq!((y.dims(), last.dims()), (&[3, 5, 40][..], &[2, 3, 20][..]));
# Ok::<(), gatefold::Error>(())
```"
);
hidden_state!(Gru, "GRU");

impl GruConfig {
    /// Whether the reset gate is applied after the matrix product ([`Cell::Gru`], as in PyTorch and cuDNN: the default), or to the
    /// state before it ([`Cell::GruResetBefore`], as in Cho et al.).
    pub fn reset_after(mut self, after: bool) -> Self {
        self.descriptor.cell = if after { Cell::Gru } else { Cell::GruResetBefore };
        self
    }
}

network!(
    Lstm,
    LstmConfig,
    "LSTM",
    Cell::Lstm,
    "The LSTM (Hochreiter & Schmidhuber 1997, Gers et al. 2000), gates i f g o: PyTorch's `nn.LSTM`.

```text
i = σ(W_ii x + b_ii + W_hi h + b_hi)
f = σ(W_if x + b_if + W_hf h + b_hf)
g = tanh(W_ig x + b_ig + W_hg h + b_hg)
o = σ(W_io x + b_io + W_ho h + b_ho)
c′ = f ∘ c + i ∘ g
h′ = o ∘ tanh(c′)
```

With `proj_size` h′ is W_hr (o ∘ tanh(c′)) (Sak et al. 2014). With `peephole(true)` the gates look at the cell, through diagonal weights (Graves
2013, equations 7 to 11): p_i ∘ c is added within i, p_f ∘ c within f, and p_o ∘ c′ within o.

```
use gatefold::{DType, Device, Philox, Tape, Tensor, nn::Lstm};
let (device, mut rng) = (Device::Cpu, Philox::seed(1));
let lstm = Lstm::new(10, 20).num_layers(2).init(&device, &mut rng)?;
// 3 sequences of 5 steps. What follows begins where they have ended.
let x = Tensor::normal([5, 3, 10], 0.0, 1.0, DType::F32, &device, &mut rng)?;
let tape = Tape::new();
let (y, last) = lstm.forward(&tape.constant(x.clone()), None)?;
assert_eq!((y.dims(), last.h.dims(), last.c.dims()), (&[5, 3, 20][..], &[2, 3, 20][..], &[2, 3, 20][..]));
let (_, last) = lstm.forward(&tape.constant(x), Some(&last))?;
last.c.sum()?.backward()?;
assert_eq!(lstm.weight_hh(1, 0).unwrap().grad().unwrap().dims(), [80, 20]);
# Ok::<(), gatefold::Error>(())
```"
);

impl LstmConfig {
    /// Projects the hidden state to `size` features, fewer than `hidden_size` (Sak et al. 2014); 0 for no projection.
    pub fn proj_size(mut self, size: usize) -> Self {
        self.descriptor.proj_size = size;
        self
    }

    /// Lets the gates see the cell state through diagonal weights ([`Cell::LstmPeephole`]).
    pub fn peephole(mut self, peephole: bool) -> Self {
        self.descriptor.cell = if peephole { Cell::LstmPeephole } else { Cell::Lstm };
        self
    }
}

impl Lstm {
    /// Projection `(proj, hidden)`: PyTorch's `weight_hr_l0`. `None` without one.
    pub fn weight_hr(&self, layer: usize, direction: usize) -> Option<&Parameter> {
        self.0.parameter(ParameterKind::WeightHr, layer, direction)
    }

    /// Peephole weights `(3 · hidden)`: p_i, p_f, p_o. `None` without them.
    pub fn weight_peephole(&self, layer: usize, direction: usize) -> Option<&Parameter> {
        self.0.parameter(ParameterKind::WeightPeephole, layer, direction)
    }

    /// Outputs and the last state. x is `(T, B, input_size)`, `(B, T, input_size)` with `batch_first`, or `(T, input_size)` without
    /// a batch, and then no result has one; outputs are laid out as x, with D·R features. The state starts at `state`, or at zero.
    /// A batch of no sequences gives results without elements; no steps are an error.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::DType`] or [`Error::Device`] of x or state.
    pub fn forward(&self, x: &Var, state: Option<&LstmState>) -> Result<(Var, LstmState)> {
        let (y, h, c) = self.0.forward("LSTM", x, state.map(|s| &s.h), state.map(|s| &s.c))?;
        Ok((y, lstm_state(h, c)?))
    }

    /// [`forward`](Self::forward) of a padded batch: sequence b has the first `lengths[b]` steps, in any order of lengths. What
    /// stands behind is not read; outputs are 0 there, and the last state is that of each sequence's own last step.
    ///
    /// # Errors
    /// As [`forward`](Self::forward); a length of 0 or above T, or not one per sequence.
    pub fn forward_lengths(&self, x: &Var, lengths: &[usize], state: Option<&LstmState>) -> Result<(Var, LstmState)> {
        let (y, h, c) = self.0.forward_lengths("LSTM", x, lengths, state.map(|s| &s.h), state.map(|s| &s.c))?;
        Ok((y, lstm_state(h, c)?))
    }

    /// [`forward`](Self::forward) of a packed batch. States are in the original order of the batch.
    ///
    /// # Errors
    /// As [`forward`](Self::forward); a packed sequence whose parts do not fit together.
    pub fn forward_packed(&self, x: &PackedSequence, state: Option<&LstmState>) -> Result<(PackedSequence, LstmState)> {
        let (y, h, c) = self.0.forward_packed("LSTM", x, state.map(|s| &s.h), state.map(|s| &s.c))?;
        Ok((y, lstm_state(h, c)?))
    }
}

pub(super) fn lstm_state(h: Var, c: Option<Var>) -> Result<LstmState> {
    match c {
        Some(c) => Ok(LstmState { h, c }),
        None => Err(Error::tape("LSTM", "the cell state is missing")),
    }
}
