//! Recurrent layers through the raw interface: forward (inference) and forward + backward, in FLOP/s.
//!
//! `cargo bench --bench recurrent -- 'LSTM/f32'` runs a part. FLOPs are those of the matrix products: 2·T·B·G·H·(I + R) a layer and
//! direction forward, twice that backward (gradients of the input and of the parameters).

use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use gatefold::{
    DType, Device, Philox,
    recurrent::{Backward, Buf, BufMut, Cell, Descriptor, Forward, Nonlinearity, Plan, Sequence, Shape, Stream},
};

/// T, B, I, H, layers, bidirectional
const SIZES: [(usize, usize, usize, usize, usize, bool); 8] = [
    (64, 1, 64, 64, 1, false),
    (64, 32, 128, 128, 1, false),
    (128, 32, 256, 256, 1, false),
    (100, 32, 512, 512, 1, false),
    (50, 64, 1024, 1024, 1, false),
    (100, 32, 128, 256, 2, true),
    (28, 128, 28, 128, 2, false),
    (200, 30, 100, 256, 2, true),
];

fn flops(d: &Descriptor, shape: Shape) -> u64 {
    let rows = (shape.seq * shape.batch * d.directions()) as u64;
    let gates = (d.cell.gates() * d.hidden_size) as u64;
    (0..d.num_layers).map(|l| 2 * rows * gates * (d.layer_input_size(l) + d.output_size()) as u64).sum()
}

/// Buffers of one network, all of one type.
macro_rules! case {
    ($name:ident, $t:ty, $dtype:expr) => {
        fn $name(group: &mut BenchmarkGroup<'_, WallTime>, mut d: Descriptor, shape: Shape, label: &str) {
            d.dtype = $dtype;
            let plan = Plan::new(&d, shape, &Device::Cpu).expect("a valid plan");
            let mut rng = Philox::seed(1);
            let mut random = |len: usize| (0..len).map(|_| (rng.uniform() - 0.5) as $t * 0.2).collect::<Vec<$t>>();
            let rows = shape.seq * shape.batch;
            let states = d.num_layers * d.directions() * shape.batch;
            let x = random(rows * d.input_size);
            let dy = random(rows * d.directions() * d.output_size());
            let parameters: Vec<Vec<$t>> = d.parameters().iter().map(|p| random(p.numel())).collect();
            let views: Vec<Buf<'_>> = parameters.iter().map(Buf::from).collect();
            let mut gradients = parameters.clone();
            let mut dx = x.clone();
            let (mut y, mut hn) = (dy.clone(), random(states * d.output_size()));
            let mut cn = d.cell.has_cell_state().then(|| random(states * d.hidden_size));
            let mut workspace = random(plan.workspace_len());
            let mut reserve = random(plan.reserve_len());
            let mut forward = |workspace: &mut Vec<$t>, reserve: Option<&mut Vec<$t>>| {
                let call = Forward {
                    x: (&x).into(),
                    h0: None,
                    c0: None,
                    parameters: &views,
                    sequence: Sequence::Full,
                    y: (&mut y).into(),
                    hn: (&mut hn).into(),
                    cn: cn.as_mut().map(Into::into),
                    dropout_seed: 0,
                    workspace: workspace.into(),
                    reserve: reserve.map(Into::into),
                };
                plan.forward(&Stream::Host, call).expect("buffers of the plan's sizes");
            };
            let work = flops(&d, shape);
            group.throughput(Throughput::Elements(work));
            group.bench_function(format!("forward/{label}"), |b| b.iter(|| forward(&mut workspace, None)));
            group.throughput(Throughput::Elements(3 * work));
            group.bench_function(format!("forward+backward/{label}"), |b| {
                b.iter(|| {
                    forward(&mut workspace, Some(&mut reserve));
                    let mut wanted: Vec<Option<BufMut<'_>>> = gradients.iter_mut().map(|g| Some(g.into())).collect();
                    let call = Backward {
                        x: (&x).into(),
                        h0: None,
                        c0: None,
                        parameters: &views,
                        sequence: Sequence::Full,
                        dy: Some((&dy).into()),
                        dhn: None,
                        dcn: None,
                        dx: Some((&mut dx).into()),
                        dh0: None,
                        dc0: None,
                        dparameters: &mut wanted,
                        accumulate: false,
                        dropout_seed: 0,
                        workspace: (&mut workspace).into(),
                        reserve: (&mut reserve).into(),
                    };
                    plan.backward(&Stream::Host, call).expect("buffers of the plan's sizes");
                })
            });
        }
    };
}
case!(case_f32, f32, DType::F32);
case!(case_f64, f64, DType::F64);

fn recurrent(c: &mut Criterion) {
    let cells = [
        ("LSTM", Cell::Lstm),
        ("LSTM-peephole", Cell::LstmPeephole),
        ("GRU", Cell::Gru),
        ("GRU-reset-before", Cell::GruResetBefore),
        ("RNN", Cell::Rnn(Nonlinearity::Tanh)),
    ];
    for (name, cell) in cells {
        for dtype in ["f32", "f64"] {
            let mut group = c.benchmark_group(format!("{name}/{dtype}"));
            group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
            for (seq, batch, input, hidden, layers, bidirectional) in SIZES {
                let mut d = Descriptor::new(cell, input, hidden);
                d.num_layers = layers;
                d.bidirectional = bidirectional;
                let label =
                    format!("T{seq} B{batch} I{input} H{hidden} L{layers}{}", if bidirectional { " bi" } else { "" });
                if dtype == "f32" {
                    case_f32(&mut group, d, Shape { seq, batch }, &label);
                } else {
                    case_f64(&mut group, d, Shape { seq, batch }, &label);
                }
            }
            group.finish();
        }
    }
}

criterion_group!(benches, recurrent);
criterion_main!(benches);
