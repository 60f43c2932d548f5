//! candle's and burn's side of the comparison: `rust-peers candle|burn` answers the requests of `../run.py` like `../peer.rs`.
//!
//! Beyond that program's requests: `"check":true` with `"x"` (T·B·I numbers, time-major) and `"weights"` (for each layer and
//! direction the four parameters of PyTorch, flat, in its order of gates) is answered by `{"y":[…],"gradients":[…]}`, the latter
//! of `y.sum()` in the order and layout of `weights`. What the library has not is answered by `{"missing":"why"}`. Both libraries
//! take their number of threads from `RAYON_NUM_THREADS`, once a process.

#[cfg(feature = "burn")]
mod burn_side;
#[cfg(feature = "candle")]
mod candle_side;

use std::{
    error::Error,
    io::{BufRead, Write},
    time::Instant,
};

use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One direction of one layer, in PyTorch's layout: gates by rows.
#[derive(Default)]
struct Weights {
    inputs: usize,
    w_ih: Vec<f32>,
    w_hh: Vec<f32>,
    b_ih: Vec<f32>,
    b_hh: Vec<f32>,
}

struct Case {
    cell: String,
    t: usize,
    b: usize,
    i: usize,
    h: usize,
    directions: usize,
    train: bool,
    /// T × B × I.
    x: Vec<f32>,
    /// Layer by layer, in each the directions.
    weights: Vec<Weights>,
}

/// Uniform in ±bound, by xorshift.
fn uniform(state: &mut u64, bound: f32, count: usize) -> Vec<f32> {
    let mut next = || {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        ((*state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * bound
    };
    (0..count).map(|_| next()).collect()
}

fn numbers(value: &Value) -> Result<Vec<f32>> {
    let list = value.as_array().ok_or("expected a list of numbers")?;
    list.iter().map(|v| v.as_f64().map(|v| v as f32).ok_or_else(|| "expected a number".into())).collect()
}

impl Case {
    fn new(request: &Value) -> Result<Case> {
        let size = |name: &str| -> Result<usize> {
            request[name].as_u64().map(|v| v as usize).ok_or_else(|| format!("request: no {name}").into())
        };
        let (t, b, i, h, layers) = (size("t")?, size("b")?, size("i")?, size("h")?, size("layers")?);
        let directions = if request["bi"].as_bool() == Some(true) { 2 } else { 1 };
        let cell = request["cell"].as_str().ok_or("request: no cell")?.to_string();
        let rows = match cell.as_str() {
            "LSTM" => 4 * h,
            "GRU" => 3 * h,
            "RNN" => h,
            _ => return Err(format!("request: cell {cell}, expected LSTM, GRU or RNN").into()),
        };
        let mut state = 0x2545_F491_4F6C_DD1D;
        let bound = 1.0 / (h as f32).sqrt();
        let mut weights = Vec::new();
        for index in 0..layers * directions {
            let inputs = if index < directions { i } else { h * directions };
            let counts = [rows * inputs, rows * h, rows, rows];
            let [w_ih, w_hh, b_ih, b_hh] = match request["weights"].get(index) {
                Some(given) => {
                    let mut read = [vec![], vec![], vec![], vec![]];
                    for (k, count) in counts.into_iter().enumerate() {
                        read[k] = numbers(&given[k])?;
                        if read[k].len() != count {
                            return Err(
                                format!("weights {index}.{k}: {} numbers, expected {count}", read[k].len()).into()
                            );
                        }
                    }
                    read
                }
                None => counts.map(|count| uniform(&mut state, bound, count)),
            };
            weights.push(Weights { inputs, w_ih, w_hh, b_ih, b_hh });
        }
        let x = if request["x"].is_array() { numbers(&request["x"])? } else { uniform(&mut state, 1.7, t * b * i) };
        if x.len() != t * b * i {
            return Err(format!("x: {} numbers, expected {}", x.len(), t * b * i).into());
        }
        let train = request["mode"].as_str() == Some("train");
        Ok(Case { cell, t, b, i, h, directions, train, x, weights })
    }
}

trait Net {
    /// One training step or one inference.
    fn run(&self) -> Result<()>;

    /// The output, T × B × directions · H, and of its sum the gradients of `Case::weights`.
    fn check(&self) -> Result<(Vec<f32>, Vec<Weights>)>;
}

fn seconds(net: &dyn Net, repeats: usize) -> Result<Vec<f64>> {
    let timed = |calls: usize| -> Result<f64> {
        let start = Instant::now();
        for _ in 0..calls {
            net.run()?;
        }
        Ok(start.elapsed().as_secs_f64() / calls as f64)
    };
    // The first call finds nothing in the caches and allocates: it never counts.
    timed(1)?;
    let second = timed(1)?;
    let calls = (0.02 / second).clamp(1.0, 200.0) as usize;
    let mut times = if calls == 1 { vec![second] } else { vec![] };
    while times.len() < repeats {
        times.push(timed(calls)?);
    }
    Ok(times)
}

fn answer(library: &str, request: &Value) -> Result<Value> {
    let case = Case::new(request)?;
    let net: Box<dyn Net> = match library {
        "candle" if case.cell == "RNN" => return Ok(json!({"missing": "candle-nn has no RNN with tanh"})),
        #[cfg(feature = "candle")]
        "candle" => candle_side::net(&case)?,
        #[cfg(feature = "burn")]
        "burn" => burn_side::net(&case)?,
        _ => return Err(format!("rust-peers: {library:?}, expected candle or burn, built with that feature").into()),
    };
    if request["check"].as_bool() == Some(true) {
        let (y, gradients) = net.check()?;
        let gradients: Vec<_> = gradients.into_iter().map(|w| [w.w_ih, w.w_hh, w.b_ih, w.b_hh]).collect();
        return Ok(json!({"y": y, "gradients": gradients}));
    }
    Ok(json!({"seconds": seconds(&*net, request["repeats"].as_u64().unwrap_or(1) as usize)?}))
}

fn main() -> Result<()> {
    let library = std::env::args().nth(1).unwrap_or_default();
    for line in std::io::stdin().lock().lines() {
        println!("{}", answer(&library, &serde_json::from_str(&line?)?)?);
        std::io::stdout().flush()?;
    }
    Ok(())
}
