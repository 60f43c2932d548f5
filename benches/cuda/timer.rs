//! Times with criterion, rows of the report, and the seconds that all of it may take.

use std::{
    cell::RefCell,
    fmt::Display,
    time::{Duration, Instant},
};

use criterion::{Criterion, SamplingMode};
use serde_json::{Value, json};

use super::{
    gpu::{Gpu, Result},
    grid::Case,
};

/// Samples of each row; criterion takes no fewer.
const SAMPLES: usize = 10;

/// What a row is of.
#[derive(Clone)]
pub struct Key {
    group: &'static str,
    contender: &'static str,
    what: String,
    case: Option<Case>,
    mode: Option<&'static str>,
    flops: Option<u64>,
    bytes: Option<u64>,
    samples: Option<u64>,
    difference: Option<f64>,
}

impl Key {
    pub fn new(group: &'static str, contender: &'static str, what: String) -> Key {
        Key {
            group,
            contender,
            what,
            case: None,
            mode: None,
            flops: None,
            bytes: None,
            samples: None,
            difference: None,
        }
    }

    /// `mode`: inference or training for the forward pass alone; backward for what comes behind it, or with it.
    pub fn of(case: &Case, group: &'static str, contender: &'static str, mode: &'static str) -> Key {
        Key { case: Some(case.clone()), mode: Some(mode), ..Key::new(group, contender, case.to_string()) }
    }

    /// Bytes that are moved.
    pub fn bytes(self, bytes: u64) -> Key {
        Key { bytes: Some(bytes), ..self }
    }

    /// FLOPs of the matrix products.
    pub fn flops(self, flops: u64) -> Key {
        Key { flops: Some(flops), ..self }
    }

    /// What one call trains on.
    pub fn samples(self, samples: u64) -> Key {
        Key { samples: Some(samples), ..self }
    }

    /// From the results of the first contender.
    pub fn difference(self, difference: Option<f64>) -> Key {
        Key { difference, ..self }
    }

    fn json(&self) -> Value {
        let case = self.case.as_ref().map(|case| {
            json!({
                "cell": case.cell.0,
                "precision": case.precision.name(),
                "batch": case.batch,
                "hidden": case.hidden,
                "seq": case.seq,
            })
        });
        let mut row = json!({"group": self.group, "contender": self.contender, "what": self.what});
        let rest = [
            ("case", json!(case)),
            ("mode", json!(self.mode)),
            ("flops", json!(self.flops)),
            ("bytes", json!(self.bytes)),
            ("samples", json!(self.samples)),
            ("difference", json!(self.difference)),
        ];
        for (name, value) in rest.into_iter().filter(|(_, value)| !value.is_null()) {
            row[name] = value;
        }
        row
    }

    fn label(&self) -> String {
        let mode = self.mode.map(|mode| format!(" {mode}")).unwrap_or_default();
        format!("{}: {}{mode}, {}", self.group, self.what, self.contender)
    }
}

pub struct Timer<'a> {
    pub gpu: &'a Gpu,
    criterion: Criterion,
    began: Instant,
    allowed: Duration,
    each: (Duration, Duration),
    pub rows: Vec<Value>,
    pub left_out: Vec<String>,
    pub refused: Vec<Value>,
    /// Contenders that compute something else, and calls that failed.
    pub wrong: Vec<String>,
}

impl<'a> Timer<'a> {
    /// `row`: milliseconds that a row is measured for.
    pub fn new(gpu: &'a Gpu, folder: &std::path::Path, allowed: Duration, row: u64) -> Timer<'a> {
        let each = ((row / 2).max(1), row.max(1));
        Timer {
            gpu,
            criterion: Criterion::default().without_plots().nresamples(1001).output_directory(folder),
            began: Instant::now(),
            allowed,
            each: (Duration::from_millis(each.0), Duration::from_millis(each.1)),
            rows: Vec::new(),
            left_out: Vec::new(),
            refused: Vec::new(),
            wrong: Vec::new(),
        }
    }

    pub fn spent(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether the time is used up; `what` is left out then.
    pub fn is_over(&mut self, what: impl Display) -> bool {
        let over = self.spent() >= self.allowed;
        if over {
            self.left_out.push(what.to_string());
        }
        over
    }

    pub fn refuse(&mut self, what: &Case, contender: &str, status: String) {
        println!("{what}, {contender}: refused: {status}");
        self.refused.push(json!({"what": what.to_string(), "contender": contender, "status": status}));
    }

    pub fn fault(&mut self, what: String) {
        println!("WRONG: {what}");
        self.wrong.push(what);
    }

    /// A row of times by the GPU's events, from before the first call to behind what the last has queued.
    pub fn gpu_time(&mut self, key: Key, mut call: impl FnMut() -> Result<()>) -> Result<()> {
        let gpu = self.gpu;
        self.time(key, |times| gpu.time(times, &mut call))
    }

    /// A row of times by the host's clock, all work of the GPU being waited for before and after.
    pub fn wall_time(&mut self, key: Key, mut call: impl FnMut() -> gatefold::Result<()>) -> Result<()> {
        let gpu = self.gpu;
        self.time(key, |times| {
            gpu.synchronize()?;
            let start = Instant::now();
            (0..times).try_for_each(|_| call()).map_err(|e| e.to_string())?;
            gpu.synchronize()?;
            Ok(start.elapsed())
        })
    }

    fn time(&mut self, key: Key, mut calls: impl FnMut(u64) -> Result<Duration>) -> Result<()> {
        let label = key.label();
        if self.is_over(&label) {
            return Ok(());
        }
        // What is only done once: kernels are loaded, a graph is captured.
        calls(3).map_err(|e| format!("{label}: {e}"))?;
        let taken: RefCell<Vec<(u64, Duration)>> = RefCell::default();
        let failed: RefCell<Option<String>> = RefCell::default();
        let mut group = self.criterion.benchmark_group(key.group);
        group
            .sample_size(SAMPLES)
            .sampling_mode(SamplingMode::Flat)
            .warm_up_time(self.each.0)
            .measurement_time(self.each.1);
        group.bench_function(&label, |bencher| {
            bencher.iter_custom(|times| {
                let mut failed = failed.borrow_mut();
                if failed.is_none() {
                    match calls(times) {
                        Ok(time) => {
                            taken.borrow_mut().push((times, time));
                            return time.max(Duration::from_nanos(1));
                        }
                        Err(what) => *failed = Some(what),
                    }
                }
                // Criterion goes on; it is told so much that it does not ask for many.
                Duration::from_secs(times)
            })
        });
        group.finish();
        if let Some(what) = failed.into_inner() {
            return Err(format!("{label}: {what}"));
        }
        // Before the samples criterion has warmed up.
        let taken = taken.into_inner();
        let taken = &taken[taken.len().saturating_sub(SAMPLES)..];
        let mut seconds: Vec<f64> = taken.iter().map(|&(times, time)| time.as_secs_f64() / times as f64).collect();
        seconds.sort_by(f64::total_cmp);
        let (low, high) = (seconds[(seconds.len() - 1) / 2], seconds[seconds.len() / 2]);
        let mut row = key.json();
        row["n"] = json!(seconds.len());
        row["calls"] = json!(taken.iter().map(|(times, _)| times).sum::<u64>());
        // The driver in software has no times.
        let kept = |seconds: f64| (!self.gpu.software).then_some(seconds);
        row["median_s"] = json!(kept((low + high) / 2.0));
        row["min_s"] = json!(kept(seconds[0]));
        self.rows.push(row);
        Ok(())
    }
}
