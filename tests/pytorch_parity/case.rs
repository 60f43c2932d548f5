//! A case: configuration and tensors, and the comparison of results with them.

use std::path::Path;

use gatefold::{DType, Device, Result, Tape, Tensor, Var, nn::StateDict};
use serde_json::Value;

pub enum Outcome {
    Passed,
    Failed(Vec<String>),
    Unsupported(String),
}

pub struct Case {
    pub config: Value,
    pub tensors: StateDict,
    pub device: Device,
}

impl Case {
    pub fn load(path: &Path, device: Device) -> Result<Self, String> {
        let file = StateDict::load(path).map_err(|e| e.to_string())?;
        let config = file.metadata().get("config").ok_or("no config in the header")?;
        let config = serde_json::from_str(config).map_err(|e| format!("config: {e}"))?;
        let moved = file.into_iter().map(|(name, t)| Ok((name, t.to_device(&device)?))).collect::<Result<_>>();
        Ok(Case { config, tensors: moved.map_err(|e| e.to_string())?, device })
    }

    pub fn has(&self, key: &str) -> bool {
        self.config.get(key).is_some_and(|value| !value.is_null())
    }

    pub fn flag(&self, key: &str) -> bool {
        self.config.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    pub fn size(&self, key: &str) -> usize {
        self.config.get(key).and_then(Value::as_u64).unwrap_or(0) as usize
    }

    pub fn text(&self, key: &str) -> &str {
        self.config.get(key).and_then(Value::as_str).unwrap_or("")
    }

    pub fn dtype(&self) -> DType {
        if self.text("dtype") == "float64" { DType::F64 } else { DType::F32 }
    }

    /// The tensor of a name; a file without it is a broken case.
    pub fn tensor(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("the file has no tensor {name}"))
    }

    /// A tensor of the case as a variable, if the case has it.
    pub fn variable(&self, tape: &Tape, name: &str) -> Option<Var> {
        self.tensors.get(name).map(|t| tape.variable(t.clone()))
    }

    pub fn integers(&self, name: &str) -> Vec<usize> {
        self.tensor(name).to_f64_vec().expect("host copy").into_iter().map(|n| n as usize).collect()
    }
}

/// How far a result may be from PyTorch's.
#[derive(Clone, Copy)]
pub enum Bound {
    /// From the largest number.
    Absolute(f64),
    /// relative · |wanted| + absolute.
    Mixed { relative: f64, absolute: f64 },
}

/// Collects what does not fit.
#[derive(Default)]
pub struct Check {
    failures: Vec<String>,
}

impl Check {
    pub fn outcome(self) -> Outcome {
        if self.failures.is_empty() { Outcome::Passed } else { Outcome::Failed(self.failures) }
    }

    pub fn fail(&mut self, line: String) {
        self.failures.push(line);
    }

    /// Shape, dtype and every element; NaN fits NaN and an infinity the same one.
    pub fn compare(&mut self, name: &str, got: &Tensor, want: &Tensor, bound: Bound) {
        if got.shape() != want.shape() || got.dtype() != want.dtype() {
            let (gd, wd) = (got.dtype(), want.dtype());
            return self.fail(format!("{name}: got {gd} {}, want {wd} {}", got.shape(), want.shape()));
        }
        let (got, want) = (got.to_f64_vec().expect("host copy"), want.to_f64_vec().expect("host copy"));
        self.numbers(name, &got, &want, bound);
    }

    pub fn numbers(&mut self, name: &str, got: &[f64], want: &[f64], bound: Bound) {
        if got.len() != want.len() {
            return self.fail(format!("{name}: got {} numbers, want {}", got.len(), want.len()));
        }
        // The element that overshoots its bound by the largest factor speaks for all.
        let mut worst: Option<(f64, f64, usize)> = None;
        for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
            let (error, limit) = match bound {
                _ if w.is_nan() || g.is_nan() => (if w.is_nan() && g.is_nan() { 0.0 } else { f64::INFINITY }, 0.0),
                _ if w.is_infinite() || g.is_infinite() => (if w == g { 0.0 } else { f64::INFINITY }, 0.0),
                Bound::Absolute(limit) => ((g - w).abs(), limit),
                Bound::Mixed { relative, absolute } => ((g - w).abs(), relative * w.abs() + absolute),
            };
            let excess = |(error, limit, _): (f64, f64, usize)| error / limit.max(f64::MIN_POSITIVE);
            if error > limit && worst.is_none_or(|old| excess(old) < excess((error, limit, i))) {
                worst = Some((error, limit, i));
            }
        }
        if let Some((error, limit, i)) = worst {
            let line = format!(
                "{name}: largest error {error:.3e}, bound {limit:.3e}, at {i}: got {}, want {}",
                got[i], want[i]
            );
            self.fail(line);
        }
    }
}

pub fn largest(values: &[f64]) -> f64 {
    values.iter().filter(|v| v.is_finite()).fold(0.0, |m, v| m.max(v.abs()))
}
