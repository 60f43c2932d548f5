//! Recurrent layers: every cell and option on the GPU against the CPU, forward and backward.

use gatefold::{
    DType, Device, Philox, Result, Tape, Tensor, Var,
    nn::{Gru, Lstm, Module, Rnn},
    recurrent::Nonlinearity,
};

enum Net {
    Rnn(Rnn),
    Lstm(Lstm),
    Gru(Gru),
}

impl Net {
    fn module(&self) -> &dyn Module {
        match self {
            Net::Rnn(m) => m,
            Net::Lstm(m) => m,
            Net::Gru(m) => m,
        }
    }

    /// y, and the last states.
    fn run(&self, x: &Var, lengths: Option<&[usize]>) -> Result<Vec<Var>> {
        Ok(match (self, lengths) {
            (Net::Rnn(m), None) => m.forward(x, None).map(|(y, h)| vec![y, h])?,
            (Net::Rnn(m), Some(n)) => m.forward_lengths(x, n, None).map(|(y, h)| vec![y, h])?,
            (Net::Gru(m), None) => m.forward(x, None).map(|(y, h)| vec![y, h])?,
            (Net::Gru(m), Some(n)) => m.forward_lengths(x, n, None).map(|(y, h)| vec![y, h])?,
            (Net::Lstm(m), None) => m.forward(x, None).map(|(y, s)| vec![y, s.h, s.c])?,
            (Net::Lstm(m), Some(n)) => m.forward_lengths(x, n, None).map(|(y, s)| vec![y, s.h, s.c])?,
        })
    }
}

/// Outputs and gradients of one training step of net number `kind`, as f64.
fn step(device: Device, kind: usize, variant: usize, dtype: DType) -> Result<Vec<Vec<f64>>> {
    let (seq, batch, input, hidden) = (5, 4, 3 + kind, 6 + variant % 3);
    let mut rng = Philox::seed(7);
    let layers = 1 + variant % 2;
    let (bi, first, bias) = (variant & 2 != 0, variant & 4 != 0, variant & 8 == 0);
    let dropout = if variant & 1 != 0 { 0.4 } else { 0.0 };
    macro_rules! build {
        ($config:expr) => {
            $config
                .num_layers(layers)
                .bidirectional(bi)
                .batch_first(first)
                .bias(bias)
                .dropout(dropout)
                .dtype(dtype)
                .init(&Device::Cpu, &mut rng)?
        };
    }
    let net = match kind {
        0 => Net::Rnn(build!(Rnn::new(input, hidden))),
        1 => Net::Rnn(build!(Rnn::new(input, hidden).nonlinearity(Nonlinearity::Relu))),
        2 => Net::Lstm(build!(Lstm::new(input, hidden))),
        3 => Net::Lstm(build!(Lstm::new(input, hidden).peephole(true))),
        4 => Net::Lstm(build!(Lstm::new(input, hidden).proj_size(2))),
        5 => Net::Lstm(build!(Lstm::new(input, hidden).proj_size(3).peephole(true))),
        6 => Net::Gru(build!(Gru::new(input, hidden))),
        _ => Net::Gru(build!(Gru::new(input, hidden).reset_after(false))),
    };
    net.module().to_device(&device)?;
    let shape = if first { [batch, seq, input] } else { [seq, batch, input] };
    let x = Tensor::normal(shape, 0.0, 1.0, dtype, &Device::Cpu, &mut rng)?.to_device(&device)?;
    let lengths = [3usize, 5, 1, 4];
    let tape = Tape::new();
    let x = tape.variable(x);
    let outputs = net.run(&x, variant.is_multiple_of(3).then_some(&lengths[..]))?;
    let mut loss: Option<Var> = None;
    for output in &outputs {
        // A weighted sum, so that every output's gradient differs.
        let n = output.tensor().numel();
        let weights: Vec<f64> = (0..n).map(|i| ((i * 7 + 3) % 11) as f64 / 11.0 - 0.4).collect();
        let weights = Tensor::from_slice(&weights, output.shape().clone(), &Device::Cpu)?;
        let weights = tape.constant(weights.to_dtype(dtype)?.to_device(&device)?);
        let part = output.mul(&weights)?.sum()?;
        loss = Some(match loss {
            Some(sum) => sum.add(&part)?,
            None => part,
        });
    }
    loss.expect("at least one output").backward()?;
    let mut results: Vec<Vec<f64>> = outputs.iter().map(|v| v.tensor().to_f64_vec()).collect::<Result<_>>()?;
    results.push(x.grad().expect("x is a variable").to_f64_vec()?);
    for parameter in net.module().parameters() {
        results.push(parameter.grad().expect("every parameter is used").to_f64_vec()?);
    }
    Ok(results)
}

/// Sums of at most some hundred products in another order: a few roundings of the dtype, of values of about 1 to 10.
fn bound(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-12,
        DType::F32 => 2e-5,
        DType::F16 => 2e-2,
        _ => 1.6e-1,
    }
}

#[test]
fn as_on_the_cpu() {
    if !super::gpu() {
        return;
    }
    let device = super::GPU;
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        for kind in 0..8 {
            for variant in 0..16usize {
                if dtype.size() == 2 && !variant.is_multiple_of(5) {
                    continue;
                }
                let want = step(Device::Cpu, kind, variant, dtype).unwrap();
                let got = step(device, kind, variant, dtype).unwrap();
                assert_eq!(got, step(device, kind, variant, dtype).unwrap(), "the same bits twice");
                assert_eq!(want.len(), got.len());
                for (which, (w, g)) in want.iter().zip(&got).enumerate() {
                    for (i, (w, g)) in w.iter().zip(g).enumerate() {
                        let error = (w - g).abs() / w.abs().max(1.0);
                        assert!(
                            error <= bound(dtype),
                            "{dtype} net {kind} variant {variant}: result {which} at {i}: {g} against {w}"
                        );
                    }
                }
            }
        }
    }
}
