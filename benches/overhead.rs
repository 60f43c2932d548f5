//! What the tape and an optimizer cost in a training step: the step beside the same arithmetic without them.
//!
//! `cargo bench --bench overhead` prints the medians of the two, timed in turn in one process on one thread, and their difference beside
//! the bound of 10 µs and 1 µs a parameter. `-- --check` fails where it is above; a NAME after it picks cases, `--rounds N` sets how often.
//!
//! The step: a new tape, `Lstm::forward`, the mean squared error, `backward`, SGD with momentum, `zero_grad`. Without: one `Plan`
//! for all calls, its forward and backward over buffers made once, and loss and SGD in loops over slices, the latter compiled for this
//! processor's vectors. Both end at the same parameters, or the run fails.

use std::{hint::black_box, process::ExitCode, time::Instant};

use gatefold::{
    DType, Device, HasParameters, Philox, Result, Tape, Tensor,
    nn::Lstm,
    optim::{Optimizer, Sgd},
    recurrent::{Backward, Buf, BufMut, Cell, Descriptor, Forward, Plan, Sequence, Shape, Stream},
};

/// T, B, I, H, layers
const CASES: [Case; 7] = [
    (1, 1, 64, 64, 1),
    (4, 1, 64, 64, 1),
    (16, 1, 64, 64, 1),
    (64, 1, 64, 64, 1),
    (1, 1, 64, 64, 4),
    (16, 1, 64, 64, 4),
    (16, 8, 128, 128, 1),
];

const LR: f32 = 0.01;
const MOMENTUM: f32 = 0.9;
/// A measurement, in seconds: many calls where they are short.
const LONG_ENOUGH: f64 = 1e-3;

/// Microseconds.
fn bound(parameters: usize) -> f64 {
    10.0 + parameters as f64
}

/// The step with all that the library brings.
struct Taped {
    lstm: Lstm,
    optimizer: Optimizer<Sgd>,
    x: Tensor,
    target: Tensor,
}

impl Taped {
    fn step(&mut self) -> Result<()> {
        let tape = Tape::new();
        let (y, _) = self.lstm.forward(&tape.constant(self.x.clone()), None)?;
        y.mse_loss(&self.target)?.backward()?;
        self.optimizer.step()?;
        self.optimizer.zero_grad();
        Ok(())
    }
}

/// SGD's arithmetic.
#[inline(always)]
fn move_all(parameters: &mut [f32], gradients: &[f32], momenta: &mut [f32]) {
    for ((p, g), m) in parameters.iter_mut().zip(gradients).zip(momenta) {
        *m = MOMENTUM * *m + g;
        *p -= LR * *m;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn move_all_avx2(parameters: &mut [f32], gradients: &[f32], momenta: &mut [f32]) {
    move_all(parameters, gradients, momenta);
}

fn sgd(parameters: &mut [f32], gradients: &[f32], momenta: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has AVX2 and FMA.
        return unsafe { move_all_avx2(parameters, gradients, momenta) };
    }
    move_all(parameters, gradients, momenta);
}

/// The mean squared error, and its gradient to `dy`.
#[inline(always)]
fn mean_squares(y: &[f32], target: &[f32], dy: &mut [f32]) -> f32 {
    let (count, mut sums) = (y.len() as f32, [0.0; 16]);
    let rows = y.chunks_exact(16).zip(target.chunks_exact(16)).zip(dy.chunks_exact_mut(16));
    for ((y, target), dy) in rows {
        for k in 0..16 {
            let off = y[k] - target[k];
            sums[k] += off * off;
            dy[k] = 2.0 / count * off;
        }
    }
    sums.iter().sum::<f32>() / count
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn mean_squares_avx2(y: &[f32], target: &[f32], dy: &mut [f32]) -> f32 {
    mean_squares(y, target, dy)
}

/// [`mean_squares`] of a multiple of 16 numbers.
fn loss(y: &[f32], target: &[f32], dy: &mut [f32]) -> f32 {
    assert!(y.len().is_multiple_of(16));
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has AVX2 and FMA.
        return unsafe { mean_squares_avx2(y, target, dy) };
    }
    mean_squares(y, target, dy)
}

/// Numbers that begin at a cache line, as tensors do.
struct Buffer {
    storage: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    fn new(len: usize) -> Self {
        let storage = vec![0.0f32; len + 16];
        let start = storage.as_ptr().align_offset(64);
        Buffer { storage, start, len }
    }

    fn of(values: &[f32]) -> Self {
        let mut buffer = Buffer::new(values.len());
        buffer.numbers_mut().copy_from_slice(values);
        buffer
    }

    fn numbers(&self) -> &[f32] {
        &self.storage[self.start..][..self.len]
    }

    fn numbers_mut(&mut self) -> &mut [f32] {
        &mut self.storage[self.start..][..self.len]
    }
}

/// The arithmetic alone.
struct Raw {
    plan: Plan,
    x: Buffer,
    target: Buffer,
    parameters: Vec<Buffer>,
    gradients: Vec<Buffer>,
    momenta: Vec<Buffer>,
    y: Buffer,
    dy: Buffer,
    hn: Buffer,
    cn: Buffer,
    workspace: Buffer,
    reserve: Buffer,
}

impl Raw {
    fn step(&mut self) -> Result<()> {
        let views: Vec<Buf<'_>> = self.parameters.iter().map(|p| p.numbers().into()).collect();
        let forward = Forward {
            x: self.x.numbers().into(),
            h0: None,
            c0: None,
            parameters: &views,
            sequence: Sequence::Full,
            y: self.y.numbers_mut().into(),
            hn: self.hn.numbers_mut().into(),
            cn: Some(self.cn.numbers_mut().into()),
            dropout_seed: 0,
            workspace: self.workspace.numbers_mut().into(),
            reserve: Some(self.reserve.numbers_mut().into()),
        };
        self.plan.forward(&Stream::Host, forward)?;
        let (y, target) = (self.y.numbers(), self.target.numbers());
        black_box(loss(y, target, self.dy.numbers_mut()));
        let mut wanted: Vec<Option<BufMut<'_>>> =
            self.gradients.iter_mut().map(|g| Some(g.numbers_mut().into())).collect();
        let backward = Backward {
            x: self.x.numbers().into(),
            h0: None,
            c0: None,
            parameters: &views,
            sequence: Sequence::Full,
            dy: Some(self.dy.numbers().into()),
            dhn: None,
            dcn: None,
            dx: None,
            dh0: None,
            dc0: None,
            dparameters: &mut wanted,
            accumulate: false,
            dropout_seed: 0,
            workspace: self.workspace.numbers_mut().into(),
            reserve: self.reserve.numbers_mut().into(),
        };
        self.plan.backward(&Stream::Host, backward)?;
        for ((p, g), m) in self.parameters.iter_mut().zip(&self.gradients).zip(&mut self.momenta) {
            sgd(p.numbers_mut(), g.numbers(), m.numbers_mut());
        }
        Ok(())
    }
}

type Case = (usize, usize, usize, usize, usize);

fn sides((seq, batch, input, hidden, layers): Case) -> Result<(Taped, Raw)> {
    let (device, mut rng) = (Device::Cpu, Philox::seed(1));
    let lstm = Lstm::new(input, hidden).num_layers(layers).init(&device, &mut rng)?;
    let x = Tensor::normal([seq, batch, input], 0.0, 1.0, DType::F32, &device, &mut rng)?;
    let target = Tensor::normal([seq, batch, hidden], 0.0, 0.5, DType::F32, &device, &mut rng)?;
    let mut d = Descriptor::new(Cell::Lstm, input, hidden);
    d.num_layers = layers;
    let plan = Plan::new(&d, Shape { seq, batch }, &device)?;
    let parameters =
        lstm.parameters().iter().map(|p| Ok(Buffer::of(&p.value().to_vec()?))).collect::<Result<Vec<_>>>()?;
    let raw = Raw {
        x: Buffer::of(&x.to_vec()?),
        target: Buffer::of(&target.to_vec()?),
        gradients: parameters.iter().map(|p| Buffer::new(p.len)).collect(),
        momenta: parameters.iter().map(|p| Buffer::new(p.len)).collect(),
        y: Buffer::new(seq * batch * hidden),
        dy: Buffer::new(seq * batch * hidden),
        hn: Buffer::new(layers * batch * hidden),
        cn: Buffer::new(layers * batch * hidden),
        workspace: Buffer::new(plan.workspace_len()),
        reserve: Buffer::new(plan.reserve_len()),
        parameters,
        plan,
    };
    let optimizer = Sgd::new(f64::from(LR)).momentum(f64::from(MOMENTUM)).over([&lstm])?;
    Ok((Taped { lstm, optimizer, x, target }, raw))
}

fn seconds(calls: usize, step: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..calls {
        step()?;
    }
    Ok(start.elapsed().as_secs_f64() / calls as f64)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Fails unless the parameters are the same with the tape and without it: but for rounding, 10⁻⁶ of the largest of each. NaN is not the same.
fn agree(name: &str, taped: &Taped, raw: &Raw) -> std::result::Result<(), Failure> {
    let parameters = taped.lstm.parameters();
    if parameters.len() != raw.parameters.len() {
        return Err(format!("{name}: {} parameters and {}", parameters.len(), raw.parameters.len()).into());
    }
    for (index, (parameter, b)) in parameters.iter().zip(&raw.parameters).enumerate() {
        let (a, b) = (parameter.value().to_vec::<f32>()?, b.numbers());
        let scale = a.iter().fold(0f32, |most, a| most.max(a.abs()));
        if a.len() != b.len() || !a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-6 * scale) {
            return Err(format!("{name}: parameter {index} is not the same with the tape and without it").into());
        }
    }
    Ok(())
}

/// Whether all cases are within the bound.
fn run(rounds: usize, wanted: &str) -> std::result::Result<bool, Failure> {
    println!("LSTM, f32, one thread; medians of {rounds} rounds in turn, in µs");
    println!("{:24} {:>10} {:>10} {:>10} {:>10} {:>7}", "", "parameters", "step", "without", "difference", "bound");
    let mut within = true;
    for case in CASES {
        let (seq, batch, input, hidden, layers) = case;
        let name = format!("T{seq} B{batch} I{input} H{hidden} L{layers}");
        if !name.contains(wanted) {
            continue;
        }
        let (mut taped, mut raw) = sides(case)?;
        for _ in 0..3 {
            taped.step()?;
            raw.step()?;
        }
        let parameters = taped.lstm.parameters();
        agree(&name, &taped, &raw)?;
        // As many of the other side, so that both end at the same parameters.
        seconds(10, &mut || taped.step())?;
        let calls = (LONG_ENOUGH / seconds(10, &mut || raw.step())?).clamp(1.0, 1000.0) as usize;
        let (mut with, mut without, mut difference) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (a, b) = (seconds(calls, &mut || taped.step())?, seconds(calls, &mut || raw.step())?);
            with.push(1e6 * a);
            without.push(1e6 * b);
            difference.push(1e6 * (a - b));
        }
        agree(&name, &taped, &raw)?;
        let (difference, bound) = (median(difference), bound(parameters.len()));
        let (with, without) = (median(with), median(without));
        let verdict = if difference <= bound { "" } else { "  above" };
        within &= difference <= bound;
        println!("{name:24} {:10} {with:10.1} {without:10.1} {difference:10.1} {bound:7.0}{verdict}", parameters.len());
    }
    Ok(within)
}

fn main() -> std::result::Result<ExitCode, Failure> {
    let (mut check, mut rounds, mut name) = (false, 200, String::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--check" => check = true,
            // What cargo adds.
            "--bench" => {}
            "--rounds" => rounds = arguments.next().ok_or("--rounds: a number is missing")?.parse::<usize>()?.max(1),
            _ if argument.starts_with('-') => return Err(format!("{argument}: expected --check or --rounds N").into()),
            _ => name = argument,
        }
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let within = pool.install(|| run(rounds, &name))?;
    Ok(if within || !check { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
