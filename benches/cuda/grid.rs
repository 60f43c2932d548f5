//! What is measured: cells, precisions and sizes, the most important first.

use std::fmt;

use gatefold::{
    DType,
    recurrent::{Cell, Descriptor, Nonlinearity, Shape},
};

/// How numbers are stored and multiplied.
#[derive(Clone, Copy, PartialEq)]
pub enum Precision {
    F32,
    /// f32 whose products round their factors to TF32.
    Tf32,
    F16,
    BF16,
}

impl Precision {
    pub const ALL: [Precision; 4] = [Precision::BF16, Precision::Tf32, Precision::F16, Precision::F32];

    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Tf32 => "TF32",
            Precision::F16 => "f16",
            Precision::BF16 => "bf16",
        }
    }

    pub fn dtype(self) -> DType {
        match self {
            Precision::F32 | Precision::Tf32 => DType::F32,
            Precision::F16 => DType::F16,
            Precision::BF16 => DType::BF16,
        }
    }

    /// How far two correct networks may be apart, ‖a − b‖ / ‖b‖ of any result. Halves and TF32: 16 units of the last place that
    /// products, h and the kept gates are rounded to, since those roundings meet at random in every step. f32: sums of up to 65,536
    /// rows in another order lose up to some 1e-5. A wrong gate, bias or step is off by more than 0.1.
    pub fn tolerance(self) -> f64 {
        match self {
            Precision::F32 => 1e-4,
            Precision::Tf32 | Precision::F16 => 16.0 / 2048.0,
            Precision::BF16 => 16.0 / 256.0,
        }
    }
}

pub const CELLS: [(&str, Cell); 3] =
    [("LSTM", Cell::Lstm), ("GRU", Cell::Gru), ("RNN tanh", Cell::Rnn(Nonlinearity::Tanh))];

/// (B, H, T)
const SIZES: [(usize, usize, usize); 10] = [
    (64, 512, 512),
    (64, 1024, 512),
    (16, 768, 1024),
    (128, 1024, 256),
    (1, 256, 512),
    (256, 1024, 256),
    (64, 256, 512),
    (16, 512, 512),
    (32, 128, 100),
    (64, 2048, 256),
];
/// Of `--smoke`: one on vectors of four units, one on single ones.
const SMOKE: [(usize, usize, usize); 2] = [(3, 8, 4), (2, 5, 3)];

/// One network and one size. The input is as wide as the state.
#[derive(Clone)]
pub struct Case {
    pub cell: (&'static str, Cell),
    pub precision: Precision,
    pub batch: usize,
    pub hidden: usize,
    pub seq: usize,
}

impl Case {
    pub fn descriptor(&self) -> Descriptor {
        let mut descriptor = Descriptor::new(self.cell.1, self.hidden, self.hidden);
        descriptor.dtype = self.precision.dtype();
        descriptor
    }

    pub fn shape(&self) -> Shape {
        Shape { seq: self.seq, batch: self.batch }
    }

    /// Of the matrix products forward; backward there are twice as many.
    pub fn flops(&self) -> u64 {
        2 * (self.seq * self.batch * self.cell.1.gates() * self.hidden * 2 * self.hidden) as u64
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { cell, precision, batch, hidden, seq } = self;
        write!(f, "{} {} B{batch} H{hidden} T{seq}", cell.0, precision.name())
    }
}

/// All cases, by the sum of what they come late in: size by one place, precision by two, cell by three.
pub fn cases(smoke: bool) -> Vec<Case> {
    let sizes: &[_] = if smoke { &SMOKE } else { &SIZES };
    let mut cases = Vec::new();
    for (c, cell) in CELLS.into_iter().enumerate() {
        for (p, precision) in Precision::ALL.into_iter().enumerate() {
            for (s, &(batch, hidden, seq)) in sizes.iter().enumerate() {
                cases.push((s + 2 * p + 3 * c, Case { cell, precision, batch, hidden, seq }));
            }
        }
    }
    cases.sort_by_key(|(rank, _)| *rank);
    cases.into_iter().map(|(_, case)| case).collect()
}
