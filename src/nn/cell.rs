//! `RnnCell`, `LstmCell` and `GruCell`: one time step.

use std::fmt;

use crate::{
    device::Device,
    dtype::DType,
    error::Result,
    nn::{LstmState, Module, Training, layer::Layer, rnn::lstm_state},
    recurrent::{Cell, Descriptor, Nonlinearity, ParameterKind},
    rng::Philox,
    tape::{Parameter, Var},
};

/// The configuration and the module of one kind of cell: all that does not touch its state.
macro_rules! cell {
    ($name:ident, $config:ident, $torch:literal, $cell:expr, $about:literal) => {
        #[doc = concat!("Settings of [`", stringify!($name), "`]; what is not set has PyTorch's default.")]
        #[derive(Debug, Clone, PartialEq)]
        pub struct $config(Descriptor);

        impl $config {
            /// Biases b_ih and b_hh; on at first.
            pub fn bias(mut self, bias: bool) -> Self {
                self.0.bias = bias;
                self
            }

            /// Type of the parameters; f32 at first.
            pub fn dtype(mut self, dtype: DType) -> Self {
                self.0.dtype = dtype;
                self
            }

            /// The cell, its parameters uniform on ±1/√hidden_size.
            ///
            /// # Errors
            /// Settings that [`Descriptor::validate`] refuses, a device that is not there.
            pub fn init(self, device: &Device, rng: &mut Philox) -> Result<$name> {
                Ok($name(Layer::init(self.0, false, device, rng)?))
            }
        }

        #[doc = $about]
        #[derive(Debug)]
        pub struct $name(Layer);

        impl $name {
            /// Settings for inputs of `input_size` features and `hidden_size` units.
            #[expect(clippy::new_ret_no_self, reason = "a configuration becomes a module by init()")]
            pub fn new(input_size: usize, hidden_size: usize) -> $config {
                $config(Descriptor::new($cell, input_size, hidden_size))
            }

            /// Input weights `(gates · hidden, input)`.
            pub fn weight_ih(&self) -> Option<&Parameter> {
                self.0.parameter(ParameterKind::WeightIh, 0, 0)
            }

            /// Recurrent weights `(gates · hidden, hidden)`.
            pub fn weight_hh(&self) -> Option<&Parameter> {
                self.0.parameter(ParameterKind::WeightHh, 0, 0)
            }

            /// Input biases `(gates · hidden)`; `None` without biases.
            pub fn bias_ih(&self) -> Option<&Parameter> {
                self.0.parameter(ParameterKind::BiasIh, 0, 0)
            }

            /// Recurrent biases `(gates · hidden)`; `None` without biases.
            pub fn bias_hh(&self) -> Option<&Parameter> {
                self.0.parameter(ParameterKind::BiasHh, 0, 0)
            }
        }

        impl Module for $name {
            fn children(&self) -> Vec<(&str, &dyn Module)> {
                Vec::new()
            }

            /// Without the layer in their names: `weight_ih`, not `weight_ih_l0`.
            fn own_parameters(&self) -> Vec<(String, Parameter)> {
                self.0.named().map(|(name, parameter)| (name.replace("_l0", ""), parameter)).collect()
            }

            fn training(&self) -> Option<&Training> {
                Some(&self.0.training)
            }

            fn repr(&self) -> String {
                self.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                print(f, $torch, &self.0.descriptor)
            }
        }
    };
}

/// As PyTorch prints it: what has its default value is left out.
fn print(f: &mut fmt::Formatter<'_>, name: &str, d: &Descriptor) -> fmt::Result {
    write!(f, "{name}({}, {}", d.input_size, d.hidden_size)?;
    if !d.bias {
        f.write_str(", bias=False")?;
    }
    f.write_str(match d.cell {
        Cell::Rnn(Nonlinearity::Relu) => ", nonlinearity=relu)",
        Cell::LstmPeephole => ", peephole=True)",
        Cell::GruResetBefore => ", reset_after=False)",
        _ => ")",
    })
}

/// The step of the cells whose state is h alone.
macro_rules! hidden_state {
    ($name:ident, $op:literal) => {
        impl $name {
            /// The next hidden state `(B, H)`: x is `(B, input_size)`, or `(input_size)` without a batch, and then the state is `(H)`.
            /// The step starts from `state`, or from zero.
            ///
            /// # Errors
            /// A wrong shape, dtype or device of x or state.
            pub fn forward(&self, x: &Var, state: Option<&Var>) -> Result<Var> {
                Ok(self.0.step($op, x, state, None)?.0)
            }
        }
    };
}

cell!(
    RnnCell,
    RnnCellConfig,
    "RNNCell",
    Cell::Rnn(Nonlinearity::Tanh),
    "One step of [`Rnn`](super::Rnn): PyTorch's `nn.RNNCell`.

```
use gatefold::{DType, Device, Philox, Tape, Tensor, nn::RnnCell};
let (device, mut rng) = (Device::Cpu, Philox::seed(1));
let cell = RnnCell::new(4, 2).init(&device, &mut rng)?;
let x = Tensor::normal([6, 3, 4], 0.0, 1.0, DType::F32, &device, &mut rng)?;
let tape = Tape::new();
let mut state = None;
for t in 0..6 {
    state = Some(cell.forward(&tape.constant(x.select(0, t)?), state.as_ref())?);
}
assert_eq!(state.unwrap().dims(), [3, 2]);
# Ok::<(), gatefold::Error>(())
```"
);
hidden_state!(RnnCell, "RNNCell");

impl RnnCellConfig {
    /// tanh (at first) or relu.
    pub fn nonlinearity(mut self, nonlinearity: Nonlinearity) -> Self {
        self.0.cell = Cell::Rnn(nonlinearity);
        self
    }
}

cell!(
    GruCell,
    GruCellConfig,
    "GRUCell",
    Cell::Gru,
    "One step of [`Gru`](super::Gru): PyTorch's `nn.GRUCell`. In a loop as [`RnnCell`]."
);
hidden_state!(GruCell, "GRUCell");

impl GruCellConfig {
    /// Whether the reset gate is applied after the matrix product, as [`GruConfig::reset_after`](super::GruConfig::reset_after).
    pub fn reset_after(mut self, after: bool) -> Self {
        self.0.cell = if after { Cell::Gru } else { Cell::GruResetBefore };
        self
    }
}

cell!(
    LstmCell,
    LstmCellConfig,
    "LSTMCell",
    Cell::Lstm,
    "One step of [`Lstm`](super::Lstm): PyTorch's `nn.LSTMCell`.

```
use gatefold::{DType, Device, Philox, Tape, Tensor, nn::LstmCell};
let (device, mut rng) = (Device::Cpu, Philox::seed(1));
let cell = LstmCell::new(4, 8).init(&device, &mut rng)?;
let x = Tensor::normal([3, 4], 0.0, 1.0, DType::F32, &device, &mut rng)?;
let tape = Tape::new();
let first = cell.forward(&tape.constant(x.clone()), None)?;
let second = cell.forward(&tape.constant(x), Some(&first))?;
assert_eq!((second.h.dims(), second.c.dims()), (&[3, 8][..], &[3, 8][..]));
# Ok::<(), gatefold::Error>(())
```"
);

impl LstmCellConfig {
    /// Peephole connections, as [`LstmConfig::peephole`](super::LstmConfig::peephole).
    pub fn peephole(mut self, peephole: bool) -> Self {
        self.0.cell = if peephole { Cell::LstmPeephole } else { Cell::Lstm };
        self
    }
}

impl LstmCell {
    /// Peephole weights `(3 · hidden)`: p_i, p_f, p_o. `None` without them.
    pub fn weight_peephole(&self) -> Option<&Parameter> {
        self.0.parameter(ParameterKind::WeightPeephole, 0, 0)
    }

    /// The next state, h and c `(B, H)`: x is `(B, input_size)`, or `(input_size)` without a batch, and then h and c are `(H)`.
    /// The step starts from `state`, or from zero.
    ///
    /// # Errors
    /// A wrong shape, dtype or device of x or state.
    pub fn forward(&self, x: &Var, state: Option<&LstmState>) -> Result<LstmState> {
        let (h, c) = self.0.step("LSTMCell", x, state.map(|s| &s.h), state.map(|s| &s.c))?;
        lstm_state(h, c)
    }
}
