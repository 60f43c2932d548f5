//! The raw layer against central differences, in f64.

use super::*;
use crate::{device::Device, dtype::DType, rng::Philox};

struct Case {
    plan: Plan,
    lengths: Option<Vec<usize>>,
    /// x, h0, c0, then the parameters.
    inputs: Vec<Vec<f64>>,
    weights: [Vec<f64>; 3],
}

fn random(len: usize, rng: &mut Philox) -> Vec<f64> {
    (0..len).map(|_| rng.uniform() as f64 - 0.5).collect()
}

impl Case {
    fn new(descriptor: &Descriptor, shape: Shape, layout: Layout, ragged: bool, rng: &mut Philox) -> Case {
        let plan = Plan::new(descriptor, shape, &Device::Cpu).unwrap().layout(layout);
        let d = descriptor;
        let states = d.num_layers * d.directions() * shape.batch;
        let rows = shape.seq * shape.batch;
        let (h, c) = (states * d.output_size(), if d.cell.has_cell_state() { states * d.hidden_size } else { 0 });
        let mut inputs = vec![random(rows * d.input_size, rng), random(h, rng), random(c, rng)];
        inputs.extend(d.parameters().iter().map(|p| random(p.numel(), rng)));
        let lengths = ragged.then(|| (0..shape.batch).map(|_| 1 + rng.below(shape.seq as u64) as usize).collect());
        let weights = [random(rows * d.directions() * d.output_size(), rng), random(h, rng), random(c, rng)];
        Case { plan, lengths, inputs, weights }
    }

    fn sequence(&self) -> Sequence<'_> {
        self.lengths.as_deref().map_or(Sequence::Full, Sequence::Lengths)
    }

    /// Σ w·output, and the reserve if asked.
    fn loss(&self, inputs: &[Vec<f64>], reserve: Option<&mut Vec<f64>>) -> f64 {
        let lstm = self.plan.descriptor().cell.has_cell_state();
        let [wy, wh, wc] = &self.weights;
        let (mut y, mut hn, mut cn) = (vec![f64::NAN; wy.len()], vec![f64::NAN; wh.len()], vec![f64::NAN; wc.len()]);
        let mut workspace = vec![f64::NAN; self.plan.workspace_len()];
        let parameters: Vec<Buf<'_>> = inputs[3..].iter().map(Buf::from).collect();
        self.plan
            .forward(
                &Stream::Host,
                Forward {
                    x: (&inputs[0]).into(),
                    h0: Some((&inputs[1]).into()),
                    c0: lstm.then(|| (&inputs[2]).into()),
                    parameters: &parameters,
                    sequence: self.sequence(),
                    y: (&mut y).into(),
                    hn: (&mut hn).into(),
                    cn: lstm.then_some((&mut cn).into()),
                    dropout_seed: 3,
                    workspace: (&mut workspace).into(),
                    reserve: reserve.map(Into::into),
                },
            )
            .unwrap();
        [(&y, wy), (&hn, wh), (&cn, wc)].iter().flat_map(|(a, w)| a.iter().zip(*w)).map(|(a, w)| a * w).sum()
    }

    fn gradients(&self) -> Vec<Vec<f64>> {
        let lstm = self.plan.descriptor().cell.has_cell_state();
        let mut reserve = vec![f64::NAN; self.plan.reserve_len()];
        self.loss(&self.inputs, Some(&mut reserve));
        let mut workspace = vec![f64::NAN; self.plan.workspace_len()];
        let mut gradients: Vec<Vec<f64>> = self.inputs.iter().map(|x| vec![f64::NAN; x.len()]).collect();
        let parameters: Vec<Buf<'_>> = self.inputs[3..].iter().map(Buf::from).collect();
        let (states, dparameters) = gradients.split_at_mut(3);
        let [dx, dh0, dc0] = states else { unreachable!() };
        let mut dparameters: Vec<_> = dparameters.iter_mut().map(|d| Some(BufMut::from(d))).collect();
        self.plan
            .backward(
                &Stream::Host,
                Backward {
                    x: (&self.inputs[0]).into(),
                    h0: Some((&self.inputs[1]).into()),
                    c0: lstm.then(|| (&self.inputs[2]).into()),
                    parameters: &parameters,
                    sequence: self.sequence(),
                    dy: Some((&self.weights[0]).into()),
                    dhn: Some((&self.weights[1]).into()),
                    dcn: lstm.then(|| (&self.weights[2]).into()),
                    dx: Some(dx.into()),
                    dh0: Some(dh0.into()),
                    dc0: lstm.then_some(dc0.into()),
                    dparameters: &mut dparameters,
                    accumulate: false,
                    dropout_seed: 3,
                    workspace: (&mut workspace).into(),
                    reserve: (&mut reserve).into(),
                },
            )
            .unwrap();
        gradients
    }

    /// Central differences with step 1e-5 err by about 1e-10 from the third derivative and 1e-11 from rounding; 1e-7 leaves
    /// room for sums over many outputs.
    fn check(&self, rng: &mut Philox) {
        let gradients = self.gradients();
        let training = |inputs: &[Vec<f64>]| {
            let mut reserve = vec![0.0; self.plan.reserve_len()];
            self.loss(inputs, Some(&mut reserve))
        };
        for (which, gradient) in gradients.iter().enumerate() {
            for _ in 0..gradient.len().min(12) {
                let at = rng.below(gradient.len() as u64) as usize;
                let moved = |by: f64| {
                    let mut inputs = self.inputs.clone();
                    inputs[which][at] += by;
                    training(&inputs)
                };
                let want = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let got = gradient[at];
                let error = (got - want).abs();
                assert!(
                    error <= 1e-7 * want.abs().max(1.0),
                    "{} {:?} lengths {:?}: input {which} at {at}: {got} against {want}",
                    self.plan.descriptor(),
                    self.plan.shape(),
                    self.lengths
                );
            }
        }
    }
}

const CELLS: [Cell; 6] = [
    Cell::Rnn(Nonlinearity::Tanh),
    Cell::Rnn(Nonlinearity::Relu),
    Cell::Lstm,
    Cell::LstmPeephole,
    Cell::Gru,
    Cell::GruResetBefore,
];

#[test]
fn gradients_of_every_cell_and_option() {
    let mut rng = Philox::seed(11);
    for cell in CELLS {
        for variant in 0..16 {
            let mut d = Descriptor::new(cell, 3, 5);
            d.dtype = DType::F64;
            d.bidirectional = variant & 1 != 0;
            d.num_layers = if variant & 2 != 0 { 3 } else { 1 };
            d.bias = variant & 4 == 0;
            d.dropout = if variant & 6 == 6 { 0.3 } else { 0.0 };
            d.proj_size = if variant & 8 != 0 && cell.has_cell_state() { 2 } else { 0 };
            let layout = if variant & 4 != 0 { Layout::BatchMajor } else { Layout::TimeMajor };
            let shape = Shape { seq: 4, batch: 3 };
            Case::new(&d, shape, layout, variant & 8 != 0, &mut rng).check(&mut rng);
        }
    }
}

#[test]
fn inference_equals_training_and_threads_change_nothing() {
    let mut rng = Philox::seed(12);
    for cell in CELLS {
        let mut d = Descriptor::new(cell, 40, 70);
        d.dtype = DType::F64;
        d.bidirectional = true;
        d.num_layers = 2;
        let case = Case::new(&d, Shape { seq: 9, batch: 33 }, Layout::TimeMajor, true, &mut rng);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| (case.loss(&case.inputs, None), case.gradients()))
        };
        let one = run(1);
        assert_eq!(one.0, case.loss(&case.inputs, Some(&mut vec![0.0; case.plan.reserve_len()])), "{cell:?}");
        for threads in [2, 5, 5, 5] {
            let more = run(threads);
            assert_eq!(one.0, more.0, "{cell:?}, {threads} threads");
            assert!(one.1 == more.1, "gradients of {cell:?}, {threads} threads");
        }
    }
}

/// The same in f32, whose products may be made in tiles, with lengths and one direction: more threads divide the units there.
#[test]
fn threads_change_nothing_in_f32() {
    use crate::{
        Tape, Tensor,
        nn::{Gru, Lstm, Rnn},
        tape::HasParameters,
    };
    // More units for fewer sequences: a step must be worth dividing. The last's weights are larger by parts than at once, and only so
    // too large for tiles.
    let extents = [(40, 100, 33), (40, 200, 7), (288, 225, 16)];
    let nets = (0..4).flat_map(|which| [(which, false), (which, true)]);
    for ((which, bidirectional), (input, hidden, batch)) in nets.flat_map(|net| extents.map(|extents| (net, extents))) {
        let lengths: Vec<usize> = (0..batch).map(|b| 1 + b * 7 % 4).collect();
        let run = |threads: usize, lengths: Option<&[usize]>| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut rng = Philox::seed(14);
                let x: Vec<f32> = (0..4 * batch * input).map(|_| rng.uniform() - 0.5).collect();
                let x = Tensor::new(x, &Device::Cpu).unwrap().reshape([4, batch, input]).unwrap();
                let tape = Tape::new();
                let x = tape.constant(x);
                macro_rules! of {
                    ($layer:expr) => {{
                        let layer = $layer.bidirectional(bidirectional).init(&Device::Cpu, &mut rng).unwrap();
                        let y = match lengths {
                            Some(lengths) => layer.forward_lengths(&x, lengths, None).unwrap().0,
                            None => layer.forward(&x, None).unwrap().0,
                        };
                        y.sum().unwrap().backward().unwrap();
                        let gradients =
                            layer.parameters().into_iter().map(|p| p.grad().unwrap().to_vec::<f32>().unwrap());
                        (y.tensor().to_vec::<f32>().unwrap(), gradients.collect::<Vec<_>>())
                    }};
                }
                match which {
                    0 => of!(Lstm::new(input, hidden)),
                    1 => of!(Lstm::new(input, hidden).proj_size(50)),
                    2 => of!(Gru::new(input, hidden)),
                    _ => of!(Rnn::new(input, hidden)),
                }
            })
        };
        for lengths in [None, Some(&lengths[..])] {
            let one = run(1, lengths);
            for threads in [2, 5, 9] {
                assert!(one == run(threads, lengths), "{which}, {bidirectional}, {batch}, {threads} threads");
            }
        }
    }
}

#[test]
fn halves_follow_f32() {
    use crate::dtype::bf16;
    let mut rng = Philox::seed(13);
    let mut d = Descriptor::new(Cell::Lstm, 3, 4);
    d.dtype = DType::BF16;
    let plan = Plan::new(&d, Shape { seq: 3, batch: 2 }, &Device::Cpu).unwrap();
    let mut half = |len: usize| random(len, &mut rng).into_iter().map(bf16::from_f64).collect::<Vec<_>>();
    let x = half(18);
    let parameters: Vec<_> = d.parameters().iter().map(|p| half(p.numel())).collect();
    let wide = |v: &Vec<bf16>| v.iter().map(|x| x.to_f32()).collect::<Vec<_>>();
    let (mut y, mut hn, mut cn) = (half(24), half(8), half(8));
    let mut workspace = vec![0f32; plan.workspace_len()];
    let views: Vec<Buf<'_>> = parameters.iter().map(Buf::from).collect();
    let call = Forward {
        x: (&x).into(),
        h0: None,
        c0: None,
        parameters: &views,
        sequence: Sequence::Full,
        y: (&mut y).into(),
        hn: (&mut hn).into(),
        cn: Some((&mut cn).into()),
        dropout_seed: 0,
        workspace: (&mut workspace).into(),
        reserve: None,
    };
    plan.forward(&Stream::Host, call).unwrap();
    d.dtype = DType::F32;
    let plan = Plan::new(&d, Shape { seq: 3, batch: 2 }, &Device::Cpu).unwrap();
    let parameters: Vec<_> = parameters.iter().map(wide).collect();
    let views: Vec<Buf<'_>> = parameters.iter().map(Buf::from).collect();
    let (mut y32, mut hn32, mut cn32) = (vec![0f32; 24], vec![0f32; 8], vec![0f32; 8]);
    let x = wide(&x);
    let call = Forward {
        x: (&x).into(),
        h0: None,
        c0: None,
        parameters: &views,
        sequence: Sequence::Full,
        y: (&mut y32).into(),
        hn: (&mut hn32).into(),
        cn: Some((&mut cn32).into()),
        dropout_seed: 0,
        workspace: (&mut workspace).into(),
        reserve: None,
    };
    plan.forward(&Stream::Host, call).unwrap();
    // Only the result is rounded: the states between the steps stay f32.
    assert_eq!(y, y32.iter().map(|&v| bf16::from_f32(v)).collect::<Vec<_>>());
    assert_eq!(cn, cn32.iter().map(|&v| bf16::from_f32(v)).collect::<Vec<_>>());
}

#[test]
fn wrong_buffers_are_errors() {
    let d = Descriptor::new(Cell::Gru, 2, 3);
    let plan = Plan::new(&d, Shape { seq: 2, batch: 1 }, &Device::Cpu).unwrap();
    let parameters: Vec<_> = d.parameters().iter().map(|p| vec![0f32; p.numel()]).collect();
    let views: Vec<Buf<'_>> = parameters.iter().map(Buf::from).collect();
    let run = |x: usize, views: &[Buf<'_>], sequence: Sequence<'_>, cn: bool, space: usize| {
        let (x, mut y, mut hn, mut c) = (vec![0f32; x], vec![0f32; 6], vec![0f32; 3], vec![0f32; 3]);
        let mut workspace = vec![0f32; space];
        let call = Forward {
            x: (&x).into(),
            h0: None,
            c0: None,
            parameters: views,
            sequence,
            y: (&mut y).into(),
            hn: (&mut hn).into(),
            cn: cn.then_some((&mut c).into()),
            dropout_seed: 0,
            workspace: (&mut workspace).into(),
            reserve: None,
        };
        plan.forward(&Stream::Host, call)
    };
    let space = plan.workspace_len();
    assert!(run(4, &views, Sequence::Full, false, space).is_ok());
    assert!(run(5, &views, Sequence::Full, false, space).is_err());
    assert!(run(4, &views[1..], Sequence::Full, false, space).is_err());
    let of_f64: Vec<_> = d.parameters().iter().map(|p| vec![0f64; p.numel()]).collect();
    let of_f64: Vec<Buf<'_>> = of_f64.iter().map(Buf::from).collect();
    let refused = run(4, &of_f64, Sequence::Full, false, space);
    assert!(matches!(refused, Err(crate::Error::DType { .. })), "{refused:?}");
    let swapped: Vec<Buf<'_>> = views.iter().copied().rev().collect();
    let refused = run(4, &swapped, Sequence::Full, false, space);
    assert!(matches!(refused, Err(crate::Error::Shape { .. })), "{refused:?}");
    assert!(run(4, &views, Sequence::Full, true, space).is_err());
    assert!(run(4, &views, Sequence::Full, false, space - 1).is_err());
    for lengths in [&[0][..], &[3], &[1, 1], &[]] {
        assert!(run(4, &views, Sequence::Lengths(lengths), false, space).is_err());
    }
    for batch_sizes in [&[1][..], &[1, 2], &[1, 0], &[2, 1], &[]] {
        assert!(run(4, &views, Sequence::Packed { batch_sizes }, false, space).is_err());
    }
    assert!(Plan::new(&d, Shape { seq: 0, batch: 1 }, &Device::Cpu).is_err());
    assert!(Plan::new(&d, Shape { seq: usize::MAX, batch: 2 }, &Device::Cpu).is_err());
}
