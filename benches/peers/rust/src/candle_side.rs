//! candle-nn's `LSTM` and `GRU`: single steps of one layer in one direction. Layers, directions and the loop over time are made
//! here, from steps kept apart, which saves candle the padded gradient of a slice at each step.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap, rnn};

use crate::{Case, Net, Result, Weights};

const NAMES: [&str; 4] = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"];

struct Candle<R: rnn::RNN> {
    cells: Vec<R>,
    hidden: fn(&R::State) -> Tensor,
    directions: usize,
    batch: usize,
    /// One tensor a time step.
    x: Vec<Tensor>,
    train: bool,
    parameters: Vec<[Var; 4]>,
}

pub fn net(case: &Case) -> Result<Box<dyn Net>> {
    if case.cell == "LSTM" {
        let new = |inputs, h, vb: VarBuilder| Ok(rnn::lstm(inputs, h, rnn::LSTMConfig::default(), vb)?);
        Ok(Box::new(Candle::new(case, new, |state: &rnn::LSTMState| state.h.clone())?))
    } else {
        let new = |inputs, h, vb: VarBuilder| Ok(rnn::gru(inputs, h, rnn::GRUConfig::default(), vb)?);
        Ok(Box::new(Candle::new(case, new, |state: &rnn::GRUState| state.h.clone())?))
    }
}

impl<R: rnn::RNN> Candle<R> {
    fn new(
        case: &Case,
        new: impl Fn(usize, usize, VarBuilder) -> Result<R>,
        hidden: fn(&R::State) -> Tensor,
    ) -> Result<Self> {
        let device = Device::Cpu;
        let (mut cells, mut parameters) = (Vec::new(), Vec::new());
        for w in &case.weights {
            let rows = w.b_ih.len();
            let vars = [
                Var::from_slice(&w.w_ih, (rows, w.inputs), &device)?,
                Var::from_slice(&w.w_hh, (rows, case.h), &device)?,
                Var::from_slice(&w.b_ih, rows, &device)?,
                Var::from_slice(&w.b_hh, rows, &device)?,
            ];
            let named = NAMES.iter().map(|name| name.to_string()).zip(vars.clone());
            let builder = if case.train {
                let map = VarMap::new();
                map.data().lock().map_err(|_| "a poisoned lock")?.extend(named);
                VarBuilder::from_varmap(&map, DType::F32, &device)
            } else {
                // Without variables nothing is recorded.
                let tensors: HashMap<_, _> = named.map(|(name, var)| (name, var.as_tensor().detach())).collect();
                VarBuilder::from_tensors(tensors, DType::F32, &device)
            };
            cells.push(new(w.inputs, case.h, builder)?);
            parameters.push(vars);
        }
        let step = case.b * case.i;
        let x = (0..case.t)
            .map(|t| Ok(Tensor::from_slice(&case.x[t * step..(t + 1) * step], (case.b, case.i), &device)?))
            .collect::<Result<_>>()?;
        let (directions, batch, train) = (case.directions, case.b, case.train);
        Ok(Candle { cells, hidden, directions, batch, x, train, parameters })
    }

    fn forward(&self) -> Result<Tensor> {
        let mut steps = self.x.clone();
        for layer in self.cells.chunks(self.directions) {
            let mut outputs = Vec::new();
            for (direction, cell) in layer.iter().enumerate() {
                let mut state = cell.zero_state(self.batch)?;
                let mut output = Vec::with_capacity(steps.len());
                for k in 0..steps.len() {
                    let t = if direction == 0 { k } else { steps.len() - 1 - k };
                    state = cell.step(&steps[t], &state)?;
                    output.push((self.hidden)(&state));
                }
                if direction == 1 {
                    output.reverse();
                }
                outputs.push(output);
            }
            steps = match outputs.as_slice() {
                [forward, backward] => forward
                    .iter()
                    .zip(backward)
                    .map(|(f, b)| Tensor::cat(&[f, b], 1))
                    .collect::<candle_core::Result<_>>()?,
                _ => outputs.swap_remove(0),
            };
        }
        Ok(Tensor::stack(&steps, 0)?)
    }
}

impl<R: rnn::RNN> Net for Candle<R> {
    fn run(&self) -> Result<()> {
        let y = self.forward()?;
        if self.train {
            y.sum_all()?.backward()?;
        }
        Ok(())
    }

    fn check(&self) -> Result<(Vec<f32>, Vec<Weights>)> {
        let y = self.forward()?;
        let flat = y.flatten_all()?.to_vec1()?;
        if !self.train {
            return Ok((flat, Vec::new()));
        }
        let gradients = y.sum_all()?.backward()?;
        let of = |var: &Var| -> Result<Vec<f32>> {
            Ok(gradients.get(var).ok_or("candle: a parameter without a gradient")?.flatten_all()?.to_vec1()?)
        };
        let all = self.parameters.iter().map(|[a, b, c, d]| {
            Ok(Weights { w_ih: of(a)?, w_hh: of(b)?, b_ih: of(c)?, b_hh: of(d)?, ..Weights::default() })
        });
        Ok((flat, all.collect::<Result<_>>()?))
    }
}
