//! burn's `Lstm`, `Gru`, `Rnn` and their `Bi…` forms on `Flex`, its CPU backend in plain Rust, with autodiff where gradients are asked
//! for. Layers are stacked here. All defaults are PyTorch's: its GRU is `reset_after`, sequences lie batch-first.

use burn::{
    module::Param,
    nn::{
        BiGru, BiGruConfig, BiLstm, BiLstmConfig, BiRnn, BiRnnConfig, GateController, Gru, GruConfig, Linear, Lstm,
        LstmConfig, Rnn, RnnConfig,
    },
    tensor::{Device, Gradients, Tensor, TensorData},
};

use crate::{Case, Net, Result, Weights};

type Layer = Box<dyn Fn(Tensor<3>) -> Tensor<3>>;
/// The gates of one direction of one layer, in PyTorch's order.
type Gates = Vec<GateController>;

pub struct Burn {
    layers: Vec<Layer>,
    /// Handles of what `layers` have.
    gates: Vec<Gates>,
    /// B × T × I.
    x: Tensor<3>,
    train: bool,
}

/// Rows × columns to columns × rows: burn's matrices are the transposes of PyTorch's.
fn transposed(matrix: &[f32], rows: usize) -> Vec<f32> {
    let columns = matrix.len() / rows;
    (0..matrix.len()).map(|k| matrix[k % rows * columns + k / rows]).collect()
}

fn gates(w: &Weights, h: usize, device: &Device) -> Gates {
    let linear = |matrix: &[f32], bias: &[f32]| Linear {
        weight: Param::from_data(TensorData::new(transposed(matrix, h), [matrix.len() / h, h]), device),
        bias: Some(Param::from_data(TensorData::new(bias.to_vec(), [h]), device)),
    };
    let of_inputs = w.w_ih.chunks(w.inputs * h).zip(w.b_ih.chunks(h));
    let of_hidden = w.w_hh.chunks(h * h).zip(w.b_hh.chunks(h));
    let both = of_inputs.zip(of_hidden).map(|((w_ih, b_ih), (w_hh, b_hh))| GateController {
        input_transform: linear(w_ih, b_ih),
        hidden_transform: linear(w_hh, b_hh),
    });
    both.collect()
}

/// `gates`: of each direction.
fn layer(cell: &str, inputs: usize, h: usize, gates: &[Gates], device: &Device) -> Result<Layer> {
    let lstm = |of: &Gates| Lstm {
        input_gate: of[0].clone(),
        forget_gate: Some(of[1].clone()),
        cell_gate: of[2].clone(),
        output_gate: of[3].clone(),
        ..LstmConfig::new(inputs, h, true).init(device)
    };
    let gru = |of: &Gates| Gru {
        reset_gate: of[0].clone(),
        update_gate: of[1].clone(),
        new_gate: of[2].clone(),
        ..GruConfig::new(inputs, h, true).init(device)
    };
    let rnn = |of: &Gates| Rnn { gate: of[0].clone(), ..RnnConfig::new(inputs, h, true).init(device) };
    Ok(match (cell, gates) {
        ("LSTM", [one]) => {
            let m = lstm(one);
            Box::new(move |x| m.forward(x, None).0)
        }
        ("LSTM", [forward, reverse]) => {
            let both = BiLstmConfig::new(inputs, h, true).init(device);
            let m = BiLstm { forward: lstm(forward), reverse: lstm(reverse), ..both };
            Box::new(move |x| m.forward(x, None).0)
        }
        ("GRU", [one]) => {
            let m = gru(one);
            Box::new(move |x| m.forward(x, None))
        }
        ("GRU", [forward, reverse]) => {
            let both = BiGruConfig::new(inputs, h, true).init(device);
            let m = BiGru { forward: gru(forward), reverse: gru(reverse), ..both };
            Box::new(move |x| m.forward(x, None).0)
        }
        ("RNN", [one]) => {
            let m = rnn(one);
            Box::new(move |x| m.forward(x, None).0)
        }
        ("RNN", [forward, reverse]) => {
            let both = BiRnnConfig::new(inputs, h, true).init(device);
            let m = BiRnn { forward: rnn(forward), reverse: rnn(reverse), ..both };
            Box::new(move |x| m.forward(x, None).0)
        }
        _ => return Err(format!("burn: cell {cell} in {} directions", gates.len()).into()),
    })
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.into_data().try_to_vec().map_err(|e| format!("burn: {e:?}").into())
}

pub fn net(case: &Case) -> Result<Box<dyn Net>> {
    // Without autodiff nothing is recorded.
    let device = if case.train { Device::flex().autodiff() } else { Device::flex() };
    let gates: Vec<_> = case.weights.iter().map(|w| gates(w, case.h, &device)).collect();
    let layers = case.weights.chunks(case.directions).zip(gates.chunks(case.directions));
    let layers =
        layers.map(|(w, of)| layer(&case.cell, w[0].inputs, case.h, of, &device)).collect::<Result<Vec<_>>>()?;
    let x: Vec<f32> = (0..case.b)
        .flat_map(|b| (0..case.t).map(move |t| (t * case.b + b) * case.i))
        .flat_map(|start| &case.x[start..start + case.i])
        .copied()
        .collect();
    let x = Tensor::from_data(TensorData::new(x, [case.b, case.t, case.i]), &device);
    Ok(Box::new(Burn { layers, gates, x, train: case.train }))
}

/// Of one direction of one layer, in PyTorch's layout.
fn of_gates(gates: &[GateController], gradients: &Gradients) -> Result<Weights> {
    let mut w = Weights::default();
    let none = "burn: a parameter without a gradient";
    for gate in gates {
        for (linear, matrix, vector) in
            [(&gate.input_transform, &mut w.w_ih, &mut w.b_ih), (&gate.hidden_transform, &mut w.w_hh, &mut w.b_hh)]
        {
            let gradient = linear.weight.val().grad(gradients).ok_or(none)?;
            let inputs = gradient.dims()[0];
            matrix.extend(transposed(&flat(gradient)?, inputs));
            let bias = linear.bias.as_ref().ok_or("burn: no bias")?;
            vector.extend(flat(bias.val().grad(gradients).ok_or(none)?)?);
        }
    }
    Ok(w)
}

impl Burn {
    fn forward(&self) -> Tensor<3> {
        self.layers.iter().fold(self.x.clone(), |x, layer| layer(x))
    }
}

impl Net for Burn {
    fn run(&self) -> Result<()> {
        let y = self.forward();
        if self.train {
            y.sum().backward();
        }
        Ok(())
    }

    fn check(&self) -> Result<(Vec<f32>, Vec<Weights>)> {
        let y = self.forward();
        let flat_y = flat(y.clone().swap_dims(0, 1))?;
        if !self.train {
            return Ok((flat_y, Vec::new()));
        }
        let gradients = y.sum().backward();
        Ok((flat_y, self.gates.iter().map(|of| of_gates(of, &gradients)).collect::<Result<_>>()?))
    }
}
