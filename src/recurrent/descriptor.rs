//! What a recurrent network is: cell, sizes, options, and the parameters that follow from them.

use std::fmt;

use crate::{
    cell::{Cell, Nonlinearity},
    dtype::DType,
    error::{Error, Result},
};

/// What a parameter is to its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ParameterKind {
    /// Input weights `(gates · hidden, input)`.
    WeightIh,
    /// Recurrent weights `(gates · hidden, proj or hidden)`.
    WeightHh,
    /// Input biases `(gates · hidden)`.
    BiasIh,
    /// Recurrent biases `(gates · hidden)`.
    BiasHh,
    /// Projection `(proj, hidden)`.
    WeightHr,
    /// Peephole weights `(3 · hidden)`: p_i, p_f, p_o.
    WeightPeephole,
}

/// One parameter: where it belongs and what it looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSpec {
    /// What it is to its layer.
    pub kind: ParameterKind,
    /// Layer, from 0.
    pub layer: usize,
    /// 0 forward, 1 reverse.
    pub direction: usize,
    /// Extents.
    pub shape: Vec<usize>,
}

impl ParameterSpec {
    /// PyTorch's name, such as `weight_ih_l0` or `bias_hh_l1_reverse`; the peephole's is `weight_peephole_l0`.
    pub fn name(&self) -> String {
        let kind = match self.kind {
            ParameterKind::WeightIh => "weight_ih",
            ParameterKind::WeightHh => "weight_hh",
            ParameterKind::BiasIh => "bias_ih",
            ParameterKind::BiasHh => "bias_hh",
            ParameterKind::WeightHr => "weight_hr",
            ParameterKind::WeightPeephole => "weight_peephole",
        };
        format!("{kind}_l{}{}", self.layer, if self.direction == 1 { "_reverse" } else { "" })
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A recurrent network: everything but the numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Descriptor {
    /// The recurrence.
    pub cell: Cell,
    /// Features of the input.
    pub input_size: usize,
    /// Units H.
    pub hidden_size: usize,
    /// Size of the projected hidden state (LSTM cells only); 0 for none.
    pub proj_size: usize,
    /// Stacked layers.
    pub num_layers: usize,
    /// Each layer runs in both directions.
    pub bidirectional: bool,
    /// Biases b_ih and b_hh.
    pub bias: bool,
    /// Probability of zeroing each output of every layer but the last, in training.
    pub dropout: f64,
    /// Type of inputs, outputs and parameters.
    pub dtype: DType,
}

impl Descriptor {
    /// One layer, one direction, with biases, in f32.
    pub fn new(cell: Cell, input_size: usize, hidden_size: usize) -> Self {
        Descriptor {
            cell,
            input_size,
            hidden_size,
            proj_size: 0,
            num_layers: 1,
            bidirectional: false,
            bias: true,
            dropout: 0.0,
            dtype: DType::F32,
        }
    }

    /// 2 if bidirectional, else 1.
    pub fn directions(&self) -> usize {
        1 + usize::from(self.bidirectional)
    }

    /// Size of h: the projection's, or the number of units.
    pub fn output_size(&self) -> usize {
        if self.proj_size > 0 { self.proj_size } else { self.hidden_size }
    }

    /// Features that a layer reads: the input's for layer 0, else both directions of the layer below.
    pub fn layer_input_size(&self, layer: usize) -> usize {
        if layer == 0 { self.input_size } else { self.directions() * self.output_size() }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Argument`] for a zero size, a projection that is not smaller than `hidden_size` or stands with a cell that is not an
    /// LSTM, and a dropout outside `[0, 1]`; [`Error::DType`] for integers; [`Error::Shape`] where sizes overflow.
    pub fn validate(&self) -> Result<()> {
        const OP: &str = "recurrent descriptor";
        for (name, size) in
            [("input_size", self.input_size), ("hidden_size", self.hidden_size), ("num_layers", self.num_layers)]
        {
            if size == 0 {
                return Err(Error::argument(OP, format!("{name} = 0"), "at least 1"));
            }
        }
        if self.proj_size > 0 && !self.cell.has_cell_state() {
            return Err(Error::argument(
                OP,
                format!("proj_size = {} with {:?}", self.proj_size, self.cell),
                "an LSTM cell",
            ));
        }
        if self.proj_size >= self.hidden_size && self.proj_size > 0 {
            return Err(Error::argument(
                OP,
                format!("proj_size = {}", self.proj_size),
                format!("less than hidden_size = {}", self.hidden_size),
            ));
        }
        if !(0.0..=1.0).contains(&self.dropout) {
            return Err(Error::argument(OP, format!("dropout = {}", self.dropout), "a probability in [0, 1]"));
        }
        if !self.dtype.is_float() {
            return Err(Error::dtype(OP, self.dtype, "a floating-point dtype"));
        }
        let widest = self.input_size.max(self.hidden_size.saturating_mul(2));
        let too_large = || Error::shape(OP, format!("{self:?}"), "weights that memory can hold");
        self.hidden_size
            .checked_mul(4)
            .and_then(|n| n.checked_mul(widest))
            .and_then(|n| n.checked_mul(self.num_layers))
            .filter(|&n| n <= isize::MAX as usize / 64)
            .map(|_| ())
            .ok_or_else(too_large)
    }

    /// The parameters of one layer and direction, in PyTorch's order: `weight_ih`, `weight_hh`, then the biases, the projection and
    /// the peepholes where they exist.
    pub fn layer_parameters(&self, layer: usize, direction: usize) -> Vec<ParameterSpec> {
        let rows = self.cell.gates() * self.hidden_size;
        let mut specs = Vec::with_capacity(6);
        let mut add = |kind, shape| specs.push(ParameterSpec { kind, layer, direction, shape });
        add(ParameterKind::WeightIh, vec![rows, self.layer_input_size(layer)]);
        add(ParameterKind::WeightHh, vec![rows, self.output_size()]);
        if self.bias {
            add(ParameterKind::BiasIh, vec![rows]);
            add(ParameterKind::BiasHh, vec![rows]);
        }
        if self.proj_size > 0 {
            add(ParameterKind::WeightHr, vec![self.proj_size, self.hidden_size]);
        }
        if self.cell == Cell::LstmPeephole {
            add(ParameterKind::WeightPeephole, vec![3 * self.hidden_size]);
        }
        specs
    }

    /// Elements of the parameters of one layer and direction, in the order of [`layer_parameters`](Self::layer_parameters), without memory.
    pub(crate) fn layer_numels(&self, layer: usize) -> impl Iterator<Item = usize> + use<> {
        self.layer_sizes(layer).map(|(_, numel)| numel)
    }

    /// The same, each with what it is.
    pub(crate) fn layer_sizes(&self, layer: usize) -> impl Iterator<Item = (ParameterKind, usize)> + use<> {
        let rows = self.cell.gates() * self.hidden_size;
        let biases = if self.bias { rows } else { 0 };
        let peephole = if self.cell == Cell::LstmPeephole { 3 * self.hidden_size } else { 0 };
        [
            (ParameterKind::WeightIh, rows * self.layer_input_size(layer)),
            (ParameterKind::WeightHh, rows * self.output_size()),
            (ParameterKind::BiasIh, biases),
            (ParameterKind::BiasHh, biases),
            (ParameterKind::WeightHr, self.proj_size * self.hidden_size),
            (ParameterKind::WeightPeephole, peephole),
        ]
        .into_iter()
        .filter(|&(_, n)| n > 0)
    }

    /// All parameters: layer by layer, within a layer forward before reverse. [`super::Forward::parameters`] are in this order.
    pub fn parameters(&self) -> Vec<ParameterSpec> {
        (0..self.num_layers)
            .flat_map(|layer| (0..self.directions()).map(move |direction| (layer, direction)))
            .flat_map(|(layer, direction)| self.layer_parameters(layer, direction))
            .collect()
    }
}

impl Descriptor {
    /// As PyTorch prints a module of that name; PyTorch leaves `nonlinearity` out.
    pub(crate) fn print(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: &str,
        batch_first: bool,
        nonlinearity: bool,
    ) -> fmt::Result {
        write!(f, "{name}({}, {}", self.input_size, self.hidden_size)?;
        if self.proj_size > 0 {
            write!(f, ", proj_size={}", self.proj_size)?;
        }
        if self.num_layers != 1 {
            write!(f, ", num_layers={}", self.num_layers)?;
        }
        if !self.bias {
            f.write_str(", bias=False")?;
        }
        if batch_first {
            f.write_str(", batch_first=True")?;
        }
        if self.dropout != 0.0 {
            write!(f, ", dropout={:?}", self.dropout)?;
        }
        if self.bidirectional {
            f.write_str(", bidirectional=True")?;
        }
        f.write_str(match self.cell {
            Cell::Rnn(Nonlinearity::Relu) if nonlinearity => ", nonlinearity=relu)",
            Cell::LstmPeephole => ", peephole=True)",
            Cell::GruResetBefore => ", reset_after=False)",
            _ => ")",
        })
    }
}

/// In PyTorch's words, `LSTM(100, 20, num_layers=4)`: what has its default value is left out. The variants that PyTorch does not
/// print or have are named too.
impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.cell {
            Cell::Rnn(_) => "RNN",
            Cell::Lstm | Cell::LstmPeephole => "LSTM",
            Cell::Gru | Cell::GruResetBefore => "GRU",
        };
        self.print(f, name, false, true)
    }
}
