//! Our side of the comparison with PyTorch: reads one JSON request a line, answers with seconds per call.
//!
//! Started by `run.py`, which asks this program and PyTorch in turn. A request is
//! `{"cell":"LSTM","t":64,"b":32,"i":128,"h":128,"layers":1,"bi":false,"mode":"train","threads":2,"repeats":5}`; the answer
//! `{"seconds":[…]}`. A training step is forward, sum of the output, backward with the gradient of every parameter, and
//! clearing the gradients; inference is the forward pass without recording.

use std::{
    collections::{HashMap, hash_map::Entry},
    io::{BufRead, Write},
    time::Instant,
};

use gatefold::{
    DType, Device, Philox, Result, Tape, Tensor,
    nn::{Gru, Lstm, Module, Rnn},
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

    fn call(&self, tape: &Tape, x: &Tensor) -> Result<gatefold::Var> {
        let x = tape.constant(x.clone());
        Ok(match self {
            Net::Lstm(m) => m.forward(&x, None)?.0,
            Net::Gru(m) => m.forward(&x, None)?.0,
            Net::Rnn(m) => m.forward(&x, None)?.0,
        })
    }

    fn train(&self, x: &Tensor) -> Result<()> {
        self.call(&Tape::new(), x)?.sum()?.backward()?;
        self.module().zero_grad();
        Ok(())
    }

    fn infer(&self, x: &Tensor) -> Result<()> {
        self.call(&Tape::no_grad(), x).map(|_| ())
    }
}

fn build(request: &serde_json::Value) -> Result<(Net, Tensor)> {
    let size = |name: &str| request[name].as_u64().unwrap_or(1) as usize;
    let (i, h, layers) = (size("i"), size("h"), size("layers"));
    let bi = request["bi"].as_bool().unwrap_or(false);
    let device = Device::Cpu;
    let mut rng = Philox::seed(1);
    macro_rules! net {
        ($kind:ident) => {
            Net::$kind($kind::new(i, h).num_layers(layers).bidirectional(bi).init(&device, &mut rng)?)
        };
    }
    let net = match request["cell"].as_str() {
        Some("GRU") => net!(Gru),
        Some("RNN") => net!(Rnn),
        _ => net!(Lstm),
    };
    let x = Tensor::normal([size("t"), size("b"), i], 0.0, 1.0, DType::F32, &device, &mut rng)?;
    Ok((net, x))
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
        let seconds = pool.install(|| -> Result<Vec<f64>> {
            let (net, x) = build(&request)?;
            let training = request["mode"].as_str() == Some("train");
            let run = || if training { net.train(&x) } else { net.infer(&x) };
            run()?;
            // Short calls are timed in groups, so that the clock and the first misses do not count.
            let start = Instant::now();
            run()?;
            let calls = (0.02 / start.elapsed().as_secs_f64()).clamp(1.0, 200.0) as usize;
            (0..number("repeats"))
                .map(|_| {
                    let start = Instant::now();
                    for _ in 0..calls {
                        run()?;
                    }
                    Ok(start.elapsed().as_secs_f64() / calls as f64)
                })
                .collect()
        })?;
        println!("{}", serde_json::json!({ "seconds": seconds }));
        std::io::stdout().flush()?;
    }
    Ok(())
}
