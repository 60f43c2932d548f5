//! Any of the recurrent networks, with any option, behind one interface.
#![allow(dead_code, reason = "each test uses a part")]

use gatefold::{
    DType, Device, Philox, Result, Tape, Tensor, Var,
    nn::{Gru, GruCell, Lstm, LstmCell, LstmState, Module, Nonlinearity, PackedSequence, Rnn, RnnCell, StateDict},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tanh,
    Relu,
    Lstm,
    Peephole,
    Gru,
    ResetBefore,
}

pub const KINDS: [Kind; 6] = [Kind::Tanh, Kind::Relu, Kind::Lstm, Kind::Peephole, Kind::Gru, Kind::ResetBefore];

impl Kind {
    pub fn is_lstm(self) -> bool {
        matches!(self, Kind::Lstm | Kind::Peephole)
    }

    fn nonlinearity(self) -> Nonlinearity {
        if self == Kind::Relu { Nonlinearity::Relu } else { Nonlinearity::Tanh }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub kind: Kind,
    pub input: usize,
    pub hidden: usize,
    /// 0: none; only with an LSTM.
    pub proj: usize,
    pub layers: usize,
    pub bidirectional: bool,
    pub bias: bool,
    pub batch_first: bool,
    pub dropout: f64,
    pub dtype: DType,
}

impl Options {
    pub fn new(kind: Kind, input: usize, hidden: usize) -> Self {
        Options {
            kind,
            input,
            hidden,
            proj: 0,
            layers: 1,
            bidirectional: false,
            bias: true,
            batch_first: false,
            dropout: 0.0,
            dtype: DType::F64,
        }
    }

    pub fn directions(&self) -> usize {
        1 + usize::from(self.bidirectional)
    }

    /// Features of h.
    pub fn output(&self) -> usize {
        if self.proj > 0 { self.proj } else { self.hidden }
    }

    pub fn net(&self, seed: u64) -> Net {
        let (device, rng) = (&Device::Cpu, &mut Philox::seed(seed));
        macro_rules! layers {
            ($config:expr) => {
                $config
                    .num_layers(self.layers)
                    .bidirectional(self.bidirectional)
                    .bias(self.bias)
                    .batch_first(self.batch_first)
                    .dropout(self.dropout)
                    .dtype(self.dtype)
            };
        }
        match self.kind {
            Kind::Tanh | Kind::Relu => {
                let config = layers!(Rnn::new(self.input, self.hidden)).nonlinearity(self.kind.nonlinearity());
                Net::Rnn(config.init(device, rng).unwrap())
            }
            Kind::Lstm | Kind::Peephole => {
                let config = layers!(Lstm::new(self.input, self.hidden)).peephole(self.kind == Kind::Peephole);
                Net::Lstm(config.proj_size(self.proj).init(device, rng).unwrap())
            }
            Kind::Gru | Kind::ResetBefore => {
                let config = layers!(Gru::new(self.input, self.hidden)).reset_after(self.kind == Kind::Gru);
                Net::Gru(config.init(device, rng).unwrap())
            }
        }
    }

    /// The cell of one layer; no projection.
    pub fn cell(&self, input: usize) -> Step {
        let (device, rng) = (&Device::Cpu, &mut Philox::seed(0));
        match self.kind {
            Kind::Tanh | Kind::Relu => {
                let config = RnnCell::new(input, self.hidden).nonlinearity(self.kind.nonlinearity());
                Step::Rnn(config.bias(self.bias).dtype(self.dtype).init(device, rng).unwrap())
            }
            Kind::Lstm | Kind::Peephole => {
                let config = LstmCell::new(input, self.hidden).peephole(self.kind == Kind::Peephole);
                Step::Lstm(config.bias(self.bias).dtype(self.dtype).init(device, rng).unwrap())
            }
            Kind::Gru | Kind::ResetBefore => {
                let config = GruCell::new(input, self.hidden).reset_after(self.kind == Kind::Gru);
                Step::Gru(config.bias(self.bias).dtype(self.dtype).init(device, rng).unwrap())
            }
        }
    }

    /// Random h (and c) for a batch, or without a batch axis.
    pub fn state(&self, batch: Option<usize>, seed: u64) -> Vec<Tensor> {
        let rows = self.layers * self.directions();
        let shape = |features| [rows].into_iter().chain(batch).chain([features]).collect::<Vec<_>>();
        let h = uniform(&shape(self.output()), self.dtype, seed);
        let c = self.kind.is_lstm().then(|| uniform(&shape(self.hidden), self.dtype, seed + 1));
        [h].into_iter().chain(c).collect()
    }
}

/// Uniform on [−1, 1).
pub fn uniform(shape: &[usize], dtype: DType, seed: u64) -> Tensor {
    Tensor::uniform(shape, -1.0, 1.0, dtype, &Device::Cpu, &mut Philox::seed(seed)).unwrap()
}

pub fn on(tape: &Tape, state: &[Tensor]) -> Vec<Var> {
    state.iter().map(|t| tape.variable(t.clone())).collect()
}

pub enum Net {
    Rnn(Rnn),
    Lstm(Lstm),
    Gru(Gru),
}

fn pair(state: Option<&[Var]>) -> Option<LstmState> {
    state.map(|s| LstmState::new(s[0].clone(), s[1].clone()))
}

/// h, or h and c, as a list.
macro_rules! run {
    ($net:expr, $method:ident($($arg:expr),*), $state:expr) => {
        match $net {
            Net::Rnn(m) => m.$method($($arg,)* $state.map(|s| &s[0])).map(|(y, h)| (y, vec![h])),
            Net::Gru(m) => m.$method($($arg,)* $state.map(|s| &s[0])).map(|(y, h)| (y, vec![h])),
            Net::Lstm(m) => m.$method($($arg,)* pair($state).as_ref()).map(|(y, s)| (y, vec![s.h, s.c])),
        }
    };
}

impl Net {
    pub fn module(&self) -> &dyn Module {
        match self {
            Net::Rnn(m) => m,
            Net::Lstm(m) => m,
            Net::Gru(m) => m,
        }
    }

    pub fn forward(&self, x: &Var, state: Option<&[Var]>) -> Result<(Var, Vec<Var>)> {
        run!(self, forward(x), state)
    }

    pub fn forward_lengths(&self, x: &Var, lengths: &[usize], state: Option<&[Var]>) -> Result<(Var, Vec<Var>)> {
        run!(self, forward_lengths(x, lengths), state)
    }

    pub fn forward_packed(&self, x: &PackedSequence, state: Option<&[Var]>) -> Result<(PackedSequence, Vec<Var>)> {
        run!(self, forward_packed(x), state)
    }

    /// The gradients of the parameters, zero where there is none.
    pub fn gradients(&self) -> Vec<Tensor> {
        let zeros = |shape: gatefold::Shape, dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
        let all = self.module().parameters();
        all.iter().map(|p| p.grad().unwrap_or_else(|| zeros(p.shape(), p.value().dtype()))).collect()
    }
}

pub enum Step {
    Rnn(RnnCell),
    Lstm(LstmCell),
    Gru(GruCell),
}

impl Step {
    pub fn module(&self) -> &dyn Module {
        match self {
            Step::Rnn(m) => m,
            Step::Lstm(m) => m,
            Step::Gru(m) => m,
        }
    }

    /// Takes the weights of one layer and direction of a network.
    pub fn load(&self, from: &StateDict, layer: usize, reverse: bool) {
        let suffix = format!("_l{layer}{}", if reverse { "_reverse" } else { "" });
        let own = from.iter().filter_map(|(name, t)| Some((name.strip_suffix(&suffix)?.to_string(), t.clone())));
        self.module().load_state_dict(&own.collect()).unwrap();
    }

    pub fn forward(&self, x: &Var, state: Option<&[Var]>) -> Result<Vec<Var>> {
        match self {
            Step::Rnn(m) => Ok(vec![m.forward(x, state.map(|s| &s[0]))?]),
            Step::Gru(m) => Ok(vec![m.forward(x, state.map(|s| &s[0]))?]),
            Step::Lstm(m) => m.forward(x, pair(state).as_ref()).map(|s| vec![s.h, s.c]),
        }
    }
}

/// The same numbers but for rounding, in f64.
#[track_caller]
pub fn near(a: &Tensor, b: &Tensor) {
    assert_eq!(a.shape(), b.shape());
    let (a, b) = (a.to_f64_vec().unwrap(), b.to_f64_vec().unwrap());
    for (i, (a, b)) in a.iter().zip(&b).enumerate() {
        assert!((a - b).abs() <= 1e-11 * (1.0 + b.abs()), "element {i}: {a} and {b}");
    }
}

#[track_caller]
pub fn all_near(a: &[Tensor], b: &[Tensor]) {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).for_each(|(a, b)| near(a, b));
}

pub fn tensors(vars: &[Var]) -> Vec<Tensor> {
    vars.iter().map(|v| v.tensor().clone()).collect()
}

/// Σ x·w over all of these with fixed random weights: a scalar that every element matters to.
pub fn contract(vars: &[&Var]) -> Result<Var> {
    let mut sum: Option<Var> = None;
    for (i, v) in vars.iter().enumerate() {
        let weights = uniform(v.dims(), v.dtype(), 1000 + i as u64).to_device(&v.device())?;
        let part = v.mul(&v.tape().constant(weights))?.sum()?;
        sum = Some(match sum {
            Some(sum) => sum.add(&part)?,
            None => part,
        });
    }
    Ok(sum.expect("one or more"))
}
