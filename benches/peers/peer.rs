//! Our side of the comparison with PyTorch and others: reads one JSON request a line, answers with seconds per call.
//!
//! Started by `run.py`, which asks this program and the others in turn. A request is
//! `{"cell":"LSTM","t":64,"b":32,"i":128,"h":128,"layers":1,"bi":false,"mode":"train","threads":2,"repeats":5}`; the answer
//! `{"seconds":[…]}`. A training step is forward, sum of the output, backward with the gradient of every parameter, and
//! clearing the gradients; inference is the forward pass without recording.
//!
//! `"carried":true` in a case of inference gives the call a state to begin with. `"dtype":"bf16"` makes the network of that.
//!
//! `"check":true` in a case, with `"x"` (T·B·I numbers, time-major), `"weights"` (for each layer and direction the four parameters of PyTorch,
//! flat) and for a carried case `"state"`, is answered by `{"y":[…],"gradients":[[…],…]}`, the latter of `y.sum()` like `weights`, in training.
//!
//! `"tf32":true` in a case lets products round their factors, where this processor gains by that (`Device::allow_tf32`).
//!
//! `"what":"memory"` in a case is answered by `{"before_bytes":…,"peak_bytes":…}`, the resident set before the network is made
//! and its peak after `repeats` calls: for a process that has done nothing else. `{"what":"peak","threads":2}` is answered by
//! `{"gflops":…,"instructions":"AVX-512"}`, what the processor's f32 multiply-adds reach from registers on that many threads.

use std::{
    collections::{HashMap, hash_map::Entry},
    io::{BufRead, Write},
    time::Instant,
};

use gatefold::{
    DType, Device, Parameter, Philox, Result, Tape, Tensor,
    nn::{Gru, Lstm, LstmState, Module, Rnn},
};

enum Net {
    Lstm(Lstm),
    Gru(Gru),
    Rnn(Rnn),
}

impl Net {
    fn module(&self) -> &dyn Module {
        match self {
            Net::Lstm(m) => m,
            Net::Gru(m) => m,
            Net::Rnn(m) => m,
        }
    }

    fn call(&self, tape: &Tape, x: &Tensor, state: Option<&Tensor>) -> Result<gatefold::Var> {
        let x = tape.constant(x.clone());
        let state = state.map(|s| tape.constant(s.clone()));
        Ok(match self {
            Net::Lstm(m) => {
                let state = state.map(|s| LstmState { h: s.clone(), c: s });
                m.forward(&x, state.as_ref())?.0
            }
            Net::Gru(m) => m.forward(&x, state.as_ref())?.0,
            Net::Rnn(m) => m.forward(&x, state.as_ref())?.0,
        })
    }

    fn train(&self, x: &Tensor) -> Result<()> {
        self.call(&Tape::new(), x, None)?.sum()?.backward()?;
        self.module().zero_grad();
        Ok(())
    }

    fn infer(&self, x: &Tensor, state: Option<&Tensor>) -> Result<()> {
        self.call(&Tape::no_grad(), x, state).map(|_| ())
    }
}

fn build(request: &serde_json::Value) -> Result<(Net, Tensor, Option<Tensor>)> {
    let size = |name: &str| request[name].as_u64().unwrap_or(1) as usize;
    let (i, h, layers) = (size("i"), size("h"), size("layers"));
    let bi = request["bi"].as_bool().unwrap_or(false);
    let device = Device::Cpu;
    let dtype = if request["dtype"].as_str() == Some("bf16") { DType::BF16 } else { DType::F32 };
    let mut rng = Philox::seed(1);
    macro_rules! net {
        ($kind:ident) => {
            Net::$kind($kind::new(i, h).num_layers(layers).bidirectional(bi).dtype(dtype).init(&device, &mut rng)?)
        };
    }
    let net = match request["cell"].as_str() {
        Some("GRU") => net!(Gru),
        Some("RNN") => net!(Rnn),
        _ => net!(Lstm),
    };
    let x = Tensor::normal([size("t"), size("b"), i], 0.0, 1.0, dtype, &device, &mut rng)?;
    let rows = layers * if bi { 2 } else { 1 };
    let state = request["carried"].as_bool().unwrap_or(false);
    let state = state.then(|| Tensor::uniform([rows, size("b"), h], -0.5, 0.5, dtype, &device, &mut rng));
    Ok((net, x, state.transpose()?))
}

/// A list of a request as a tensor like another; what is no number is left out, and so the length is wrong.
fn given(list: &serde_json::Value, like: &Tensor) -> Result<Tensor> {
    let numbers = list.as_array().into_iter().flatten().filter_map(|v| v.as_f64().map(|v| v as f32));
    Tensor::from_slice(&numbers.collect::<Vec<f32>>(), like.dims(), &Device::Cpu)?.to_dtype(like.dtype())
}

/// What the network makes of the request's own input, state and weights.
fn check(
    request: &serde_json::Value,
    net: &Net,
    (x, state): (&Tensor, Option<&Tensor>),
    training: bool,
) -> Result<serde_json::Value> {
    let parameters = net.module().parameters();
    for (k, parameter) in parameters.iter().enumerate() {
        parameter.set_value(given(&request["weights"][k / 4][k % 4], &parameter.value())?)?;
    }
    let x = given(&request["x"], x)?;
    let state = state.map(|state| given(&request["state"], state)).transpose()?;
    let numbers = |t: &Tensor| t.to_dtype(DType::F32)?.to_vec::<f32>();
    let tape = if training { Tape::new() } else { Tape::no_grad() };
    let y = net.call(&tape, &x, state.as_ref())?;
    let mut gradients = Vec::new();
    if training {
        y.sum()?.backward()?;
        for of in parameters.chunks(4) {
            let zeros = |p: &Parameter| Tensor::zeros(p.shape(), DType::F32, &Device::Cpu);
            let of = of.iter().map(|p| numbers(&p.grad().map_or_else(|| zeros(p), Ok)?));
            gradients.push(of.collect::<Result<Vec<_>>>()?);
        }
    }
    Ok(serde_json::json!({ "y": numbers(y.tensor())?, "gradients": gradients }))
}

/// What f32 multiply-adds reach when nothing is loaded or stored.
mod peak {
    /// Accumulators: more than the latency of the instruction times how many begin in a cycle, fewer than there are registers.
    const CHAINS: usize = 12;

    /// Instructions, floating-point operations in a round, and a loop of so many rounds.
    pub type Loop = (&'static str, usize, fn(usize) -> f32);

    #[cfg(target_arch = "x86_64")]
    mod x86 {
        use super::CHAINS;
        use std::arch::x86_64::*;

        #[target_feature(enable = "avx512f")]
        pub fn avx512(rounds: usize) -> f32 {
            let (factor, term) = (_mm512_set1_ps(0.999), _mm512_set1_ps(0.001));
            let mut sums = [_mm512_setzero_ps(); CHAINS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = _mm512_fmadd_ps(*sum, factor, term);
                }
            }
            let mut total = 0.0;
            for sum in sums {
                total += _mm512_reduce_add_ps(sum);
            }
            total
        }

        #[target_feature(enable = "avx2,fma")]
        pub fn avx2(rounds: usize) -> f32 {
            let (factor, term) = (_mm256_set1_ps(0.999), _mm256_set1_ps(0.001));
            let mut sums = [_mm256_setzero_ps(); CHAINS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = _mm256_fmadd_ps(*sum, factor, term);
                }
            }
            let mut total = 0.0;
            for sum in sums {
                total += _mm_cvtss_f32(_mm256_castps256_ps128(sum));
            }
            total
        }
    }

    /// With a fused multiply-add where every processor of the architecture has one, otherwise two instructions.
    fn plain(rounds: usize) -> f32 {
        let mut sums = [[0f32; 4]; CHAINS];
        for _ in 0..rounds {
            for sum in sums.as_flattened_mut() {
                let (factor, term) = (0.999, 0.001);
                *sum = if cfg!(target_arch = "aarch64") { sum.mul_add(factor, term) } else { *sum * factor + term };
            }
        }
        sums.as_flattened().iter().sum()
    }

    pub fn widest() -> Loop {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: the processor has AVX-512F.
                return ("AVX-512", 2 * 16 * CHAINS, |rounds| unsafe { x86::avx512(rounds) });
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the processor has AVX2 and FMA.
                return ("AVX2", 2 * 8 * CHAINS, |rounds| unsafe { x86::avx2(rounds) });
            }
        }
        (if cfg!(target_arch = "aarch64") { "NEON" } else { "without FMA" }, 2 * 4 * CHAINS, plain)
    }
}

/// The best of five tries of about 20 ms each, all threads at once.
fn peak(pool: &rayon::ThreadPool) -> serde_json::Value {
    let (instructions, flops, run) = peak::widest();
    let timed = |rounds: usize| {
        let start = Instant::now();
        pool.broadcast(|_| std::hint::black_box(run(std::hint::black_box(rounds))));
        start.elapsed().as_secs_f64()
    };
    timed(10_000);
    let rounds = (10_000.0 * 0.02 / timed(10_000).max(1e-6)).clamp(1e4, 1e9) as usize;
    let best = (0..5).map(|_| timed(rounds)).fold(f64::INFINITY, f64::min);
    let gflops = (flops * rounds * pool.current_num_threads()) as f64 / best / 1e9;
    serde_json::json!({ "gflops": gflops, "instructions": instructions })
}

/// A line of /proc/self/status, in bytes; none where there is no such file.
fn status(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Seconds of each of so many repetitions.
fn seconds(run: impl Fn() -> Result<()>, repeats: usize) -> Result<Vec<f64>> {
    run()?;
    // Short calls are timed in groups, so that the clock and the first misses do not count.
    let start = Instant::now();
    run()?;
    let calls = (0.02 / start.elapsed().as_secs_f64()).clamp(1.0, 200.0) as usize;
    let timed = |_| {
        let start = Instant::now();
        for _ in 0..calls {
            run()?;
        }
        Ok(start.elapsed().as_secs_f64() / calls as f64)
    };
    (0..repeats).map(timed).collect()
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut pools: HashMap<usize, rayon::ThreadPool> = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let request: serde_json::Value = serde_json::from_str(&line?)?;
        let number = |name: &str| request[name].as_u64().unwrap_or(1) as usize;
        let threads = number("threads");
        let pool = match pools.entry(threads) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(rayon::ThreadPoolBuilder::new().num_threads(threads).build()?),
        };
        if request["what"].as_str() == Some("peak") {
            println!("{}", peak(pool));
            std::io::stdout().flush()?;
            continue;
        }
        let answer = pool.install(|| -> Result<serde_json::Value> {
            let before = status("VmRSS");
            Device::Cpu.allow_tf32(request["tf32"].as_bool().unwrap_or(false))?;
            let (net, x, state) = build(&request)?;
            let training = request["mode"].as_str() == Some("train");
            if request["check"].as_bool() == Some(true) {
                return check(&request, &net, (&x, state.as_ref()), training);
            }
            let run = || if training { net.train(&x) } else { net.infer(&x, state.as_ref()) };
            if request["what"].as_str() == Some("memory") {
                (0..number("repeats")).try_for_each(|_| run())?;
                return Ok(serde_json::json!({ "before_bytes": before, "peak_bytes": status("VmHWM") }));
            }
            Ok(serde_json::json!({ "seconds": seconds(run, number("repeats"))? }))
        })?;
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}
