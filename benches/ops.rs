//! Operations, losses and optimizers: bytes/s beside a plain copy, FLOP/s of products, and what the tape itself costs.
//!
//! `cargo bench --bench ops -- elementwise` runs a part.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use gatefold::{
    DType, Device, Parameter, Philox, Result, Tape, Tensor, Var,
    loss::{BceWithLogitsLoss, HuberLoss},
    optim::{Adam, AdamW, Sgd, clip_grad_norm},
};

/// 16 MiB of f32: beyond the private caches.
const LARGE: usize = 1 << 22;

fn random(shape: impl Into<gatefold::Shape>) -> Tensor {
    Tensor::normal(shape, 0.0, 1.0, DType::F32, &Device::Cpu, &mut Philox::seed(1)).expect("a small tensor")
}

fn quick<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group
}

fn elementwise(c: &mut Criterion) {
    let mut group = quick(c, "elementwise");
    let (a, b, row) = (random([4096, 1024]), random([4096, 1024]), random([1024]));
    let bytes = |buffers: u64| Throughput::Bytes(buffers * 4 * LARGE as u64);
    let source = a.to_vec::<f32>().expect("f32");
    let mut target = vec![0f32; LARGE];
    group.throughput(bytes(2));
    group.bench_function("copy (slices, 1 thread)", |bench| bench.iter(|| target.copy_from_slice(black_box(&source))));
    let tape = Tape::no_grad();
    let (va, vb, vrow) = (tape.constant(a), tape.constant(b), tape.constant(row));
    type Op = fn(&Var, &Var, &Var) -> Result<Var>;
    let ops: [(&str, u64, Op); 9] = [
        ("add", 3, |a, b, _| a.add(b)),
        ("mul", 3, |a, b, _| a.mul(b)),
        ("add a row", 2, |a, _, row| a.add(row)),
        ("tanh", 2, |a, _, _| a.tanh()),
        ("sigmoid", 2, |a, _, _| a.sigmoid()),
        ("exp", 2, |a, _, _| a.exp()),
        ("dropout", 2, |a, _, _| a.dropout(0.5, 1, 0)),
        ("log_softmax of 1024", 2, |a, _, _| a.log_softmax(-1)),
        ("sum of 1024", 1, |a, _, _| a.sum_axis(-1, false)),
    ];
    for (name, buffers, op) in ops {
        group.throughput(bytes(buffers));
        group.bench_function(name, |bench| bench.iter(|| op(&va, &vb, &vrow).expect("shapes fit")));
    }
    group.throughput(bytes(2));
    group.bench_function("transpose", |bench| bench.iter(|| va.transpose(0, 1).expect("two axes")));
    group.finish();
}

fn products(c: &mut Criterion) {
    let mut group = quick(c, "matmul");
    for (m, k, n) in [(128, 128, 10), (32, 512, 2048), (512, 512, 512), (3200, 512, 2048)] {
        let tape = Tape::no_grad();
        let (a, b, w) = (tape.constant(random([m, k])), tape.constant(random([k, n])), tape.constant(random([n, k])));
        group.throughput(Throughput::Elements((2 * m * k * n) as u64));
        group.bench_function(format!("{m}x{k}x{n}"), |bench| bench.iter(|| a.matmul(&b).expect("shapes fit")));
        group.bench_function(format!("linear {m}x{k}x{n}"), |bench| {
            bench.iter(|| a.linear(&w, None).expect("shapes fit"))
        });
    }
    group.finish();
}

fn training(c: &mut Criterion) {
    let mut group = quick(c, "training");
    let logits = random([4096, 1024]);
    let target =
        Tensor::from_slice(&(0..4096i64).map(|i| i % 1024).collect::<Vec<_>>(), [4096], &Device::Cpu).expect("fits");
    group.throughput(Throughput::Bytes(4 * LARGE as u64));
    group.bench_function("cross entropy of 1024 classes, forward + backward", |bench| {
        bench.iter(|| {
            let tape = Tape::new();
            tape.variable(logits.clone()).log_softmax(-1)?.nll_loss(&target)?.backward()
        });
    });
    // Forward they read two and write one; backward they read those two and the gradient and write one.
    let (input, wanted) = (random([LARGE]), random([LARGE]));
    type Loss = fn(&Var, &Tensor) -> Result<Var>;
    let losses: [(&str, Loss); 4] = [
        ("mean squared error", |x, t| x.mse_loss(t)),
        ("L1", |x, t| x.l1_loss(t)),
        ("Huber", |x, t| HuberLoss::new().forward(x, t)),
        ("binary cross entropy with logits", |x, t| BceWithLogitsLoss::new().forward(x, t)),
    ];
    for (name, loss) in losses {
        let tape = Tape::no_grad();
        let x = tape.constant(input.clone());
        group.throughput(Throughput::Bytes(2 * 4 * LARGE as u64));
        group.bench_function(format!("{name}, forward"), |bench| bench.iter(|| loss(&x, &wanted).expect("one shape")));
        group.throughput(Throughput::Bytes(5 * 4 * LARGE as u64));
        group.bench_function(format!("{name}, forward + backward"), |bench| {
            bench.iter(|| loss(&Tape::new().variable(input.clone()), &wanted)?.backward());
        });
    }
    let table = Parameter::new(random([30_000, 128]));
    let index = Tensor::from_slice(&(0..8192i64).map(|i| i * 31 % 30_000).collect::<Vec<_>>(), [8192], &Device::Cpu)
        .expect("fits");
    group.throughput(Throughput::Bytes(8192 * 128 * 4));
    group.bench_function("embedding of 8192 words, forward", |bench| {
        let tape = Tape::no_grad();
        bench.iter(|| tape.parameter(&table).embedding(&index, None).expect("indices in range"));
    });
    let fresh = || {
        let parameter = Parameter::new(random([LARGE]));
        parameter.set_grad(Some(random([LARGE]))).expect("the same shape");
        parameter
    };
    group.throughput(Throughput::Bytes(5 * 4 * LARGE as u64));
    let mut sgd = Sgd::new(0.1).momentum(0.9).over_parameters([fresh()]).expect("a valid optimizer");
    group
        .bench_function("SGD with momentum", |bench| bench.iter(|| sgd.step().expect("a gradient of the right shape")));
    group.throughput(Throughput::Bytes(7 * 4 * LARGE as u64));
    let mut adam = Adam::new(0.1).over_parameters([fresh()]).expect("a valid optimizer");
    group.bench_function("Adam", |bench| bench.iter(|| adam.step().expect("a gradient of the right shape")));
    let mut adamw = AdamW::new(0.1).over_parameters([fresh()]).expect("a valid optimizer");
    group.bench_function("AdamW", |bench| bench.iter(|| adamw.step().expect("a gradient of the right shape")));
    let clipped = [fresh()];
    group.throughput(Throughput::Bytes(4 * LARGE as u64));
    group.bench_function("gradient norm", |bench| {
        bench.iter(|| clip_grad_norm(&clipped, 1e30, 2.0).expect("a finite norm"))
    });
    group.finish();
}

/// What the tape and an optimizer cost where the arithmetic costs nothing.
fn overhead(c: &mut Criterion) {
    let mut group = quick(c, "overhead");
    for parameters in [1usize, 10, 100] {
        let all: Vec<Parameter> = (0..parameters).map(|_| Parameter::new(random([4]))).collect();
        let mut sgd = Sgd::new(0.1).momentum(0.9).over_parameters(all.iter().cloned()).expect("a valid optimizer");
        group.bench_function(format!("step over {parameters} parameters of 4 numbers"), |bench| {
            bench.iter(|| -> Result<()> {
                let tape = Tape::new();
                let mut sum = tape.parameter(&all[0]);
                for parameter in &all[1..] {
                    sum = sum.add(&tape.parameter(parameter))?;
                }
                sgd.zero_grad();
                sum.sum()?.backward()?;
                sgd.step()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, elementwise, products, training, overhead);
criterion_main!(benches);
