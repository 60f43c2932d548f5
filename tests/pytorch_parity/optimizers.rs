//! Optimizers fed with stored gradients, and learning-rate schedules.

use gatefold::{
    DType, Parameter, Result, Tensor,
    optim::{
        Adagrad, Adam, AdamW, Anneal, CosineAnnealingLr, ExponentialLr, LambdaLr, Mode, OneCycleLr, Optim,
        ReduceLrOnPlateau, RmsProp, Sgd, StepLr, Threshold,
    },
};
use serde_json::Value;

use crate::case::{Bound, Case, Check, Outcome, largest};

/// Keyword arguments that have not been asked for yet: one left over is a setting that the crate has not.
struct Arguments<'a> {
    rest: Vec<(&'a str, &'a Value)>,
}

impl<'a> Arguments<'a> {
    fn of(case: &'a Case) -> Self {
        let all = case.config.get("kwargs").and_then(Value::as_object);
        // PyTorch's ways of running, and settings that are off.
        let idle = |key: &str, value: &Value| {
            matches!(key, "foreach" | "fused" | "capturable" | "differentiable" | "note" | "last_epoch" | "verbose")
                || value.is_null()
                || (key == "maximize" && value == &Value::Bool(false))
        };
        let rest = all.into_iter().flatten().filter(|(key, value)| !idle(key, value));
        Arguments { rest: rest.map(|(key, value)| (key.as_str(), value)).collect() }
    }

    fn take(&mut self, key: &str) -> Option<&'a Value> {
        let at = self.rest.iter().position(|(name, _)| *name == key)?;
        Some(self.rest.remove(at).1)
    }

    fn number(&mut self, key: &str) -> Option<f64> {
        self.take(key)?.as_f64()
    }

    fn flag(&mut self, key: &str) -> Option<bool> {
        self.take(key)?.as_bool()
    }

    fn text(&mut self, key: &str) -> Option<&'a str> {
        self.take(key)?.as_str()
    }

    fn unknown(&self) -> Option<Outcome> {
        let names: Vec<_> = self.rest.iter().map(|(key, value)| format!("{key}={value}")).collect();
        (!names.is_empty()).then(|| Outcome::Unsupported(format!("settings {names:?}")))
    }
}

/// Applies the settings that are there: `set!(config, arguments, number momentum, flag nesterov)`.
macro_rules! set {
    ($config:expr, $arguments:expr, $($kind:ident $name:ident),*) => {{
        let mut config = $config;
        $(if let Some(value) = $arguments.$kind(stringify!($name)) {
            config = config.$name(value);
        })*
        config
    }};
}

pub fn run(case: &Case) -> Result<Outcome> {
    let mut a = Arguments::of(case);
    let start = case.tensor("flat_params");
    let (rows, dtype) = (start.to_f64_vec()?, start.dtype());
    let width = start.dims()[1];
    let parameters = parameters(case, &rows[..width], dtype)?;
    let list = parameters.iter().map(|(parameter, _)| parameter.clone());

    let name = case.text("optimizer");
    let lr = a.number("lr").unwrap_or(if matches!(name, "RMSprop" | "Adagrad") { 0.01 } else { 0.001 });
    let betas = |a: &mut Arguments<'_>| {
        let value = a.take("betas")?.as_array()?;
        Some((value.first()?.as_f64()?, value.get(1)?.as_f64()?))
    };
    macro_rules! adaptive {
        ($kind:ident) => {{
            let config = set!($kind::new(lr), a, number eps, number weight_decay, flag amsgrad);
            let (beta1, beta2) = betas(&mut a).unwrap_or((0.9, 0.999));
            let config = config.betas(beta1, beta2);
            if let Some(outcome) = a.unknown() {
                return Ok(outcome);
            }
            Box::new(config.over_parameters(list)?)
        }};
    }
    macro_rules! plain {
        ($config:expr) => {{
            let config = $config;
            if let Some(outcome) = a.unknown() {
                return Ok(outcome);
            }
            Box::new(config.over_parameters(list)?)
        }};
    }
    let mut optimizer: Box<dyn Optim> = match name {
        "SGD" => {
            plain!(set!(Sgd::new(lr), a, number momentum, number dampening, number weight_decay, flag nesterov))
        }
        "Adam" if a.take("decoupled_weight_decay") == Some(&Value::Bool(true)) => {
            return Ok(Outcome::Unsupported("decoupled_weight_decay: AdamW is its own optimizer".into()));
        }
        "Adam" => adaptive!(Adam),
        "AdamW" => adaptive!(AdamW),
        "RMSprop" => plain!(
            set!(RmsProp::new(lr), a, number alpha, number eps, number weight_decay, number momentum, flag centered)
        ),
        "Adagrad" => plain!(
            set!(Adagrad::new(lr), a, number lr_decay, number weight_decay, number initial_accumulator_value, number eps)
        ),
        other => return Ok(Outcome::Unsupported(format!("optimizer {other}"))),
    };

    let gradients = case.tensor("flat_grads").to_f64_vec()?;
    let mut check = Check::default();
    for (step, gradient) in gradients.chunks(width).enumerate() {
        for (parameter, at) in &parameters {
            let piece = &gradient[*at..at + parameter.shape().numel()];
            let piece = Tensor::from_slice(piece, parameter.shape(), &case.device)?.to_dtype(dtype)?;
            parameter.set_grad(Some(piece))?;
        }
        optimizer.step()?;
        let want = &rows[(step + 1) * width..(step + 2) * width];
        let mut got = Vec::with_capacity(width);
        for (parameter, _) in &parameters {
            got.extend(parameter.value().to_f64_vec()?);
        }
        // In float32 a step rounds a handful of times and errors add up over the steps.
        let relative = if dtype == DType::F64 { 1e-9 } else { 1e-6 * (step + 1) as f64 };
        check.numbers(&format!("step {}", step + 1), &got, want, Bound::Absolute(relative * largest(want).max(1.0)));
    }
    Ok(check.outcome())
}

/// The parameters of the case, and where each begins in a flat row.
fn parameters(case: &Case, flat: &[f64], dtype: DType) -> Result<Vec<(Parameter, usize)>> {
    let mut at = 0;
    let order = case.config.get("param_order").and_then(Value::as_array).into_iter().flatten();
    order
        .map(|entry| {
            let shape: Vec<usize> =
                entry[1].as_array().into_iter().flatten().filter_map(Value::as_u64).map(|n| n as usize).collect();
            let numel: usize = shape.iter().product();
            let value = Tensor::from_slice(&flat[at..at + numel], shape, &case.device)?.to_dtype(dtype)?;
            at += numel;
            Ok((Parameter::new(value), at - numel))
        })
        .collect()
}

pub fn run_schedule(case: &Case) -> Result<Outcome> {
    let mut a = Arguments::of(case);
    let number = |key: &str| case.config.get(key).and_then(Value::as_f64);
    let parameter = Parameter::new(Tensor::zeros(1, DType::F64, &case.device)?);
    let sgd = Sgd::new(number("base_lr").unwrap_or(0.1)).momentum(number("momentum").unwrap_or(0.0));
    let mut optimizer = sgd.over_parameters([parameter])?;
    let whole = |value: Option<f64>| value.unwrap_or(0.0) as u64;
    let steps = case.tensor("lrs").numel();
    let metrics = case.tensors.get("metrics").map(Tensor::to_f64_vec).transpose()?.unwrap_or_default();

    let name = case.text("scheduler");
    if name == "ReduceLROnPlateau" {
        let mut plateau = set!(ReduceLrOnPlateau::new(), a, number factor, number threshold, number min_lr, number eps);
        if let Some(mode) = a.text("mode") {
            plateau = plateau.mode(if mode == "max" { Mode::Max } else { Mode::Min });
        }
        if let Some(mode) = a.text("threshold_mode") {
            plateau = plateau.threshold_mode(if mode == "abs" { Threshold::Absolute } else { Threshold::Relative });
        }
        if let Some(patience) = a.number("patience") {
            plateau = plateau.patience(patience as u64);
        }
        if let Some(cooldown) = a.number("cooldown") {
            plateau = plateau.cooldown(cooldown as u64);
        }
        if let Some(outcome) = a.unknown() {
            return Ok(outcome);
        }
        return follow(case, &mut optimizer, steps, |k, optimizer| plateau.step(metrics[k], optimizer));
    }
    macro_rules! scheduled {
        ($config:expr) => {{
            let config = $config;
            if let Some(outcome) = a.unknown() {
                return Ok(outcome);
            }
            let mut schedule = config.over(&mut optimizer)?;
            follow(case, &mut optimizer, steps, |_, optimizer| schedule.step(optimizer))
        }};
    }
    match name {
        "StepLR" => {
            let (size, gamma) = (whole(a.number("step_size")), a.number("gamma").unwrap_or(0.1));
            scheduled!(StepLr::new(size, gamma))
        }
        "ExponentialLR" => {
            let gamma = a.number("gamma").unwrap_or(1.0);
            scheduled!(ExponentialLr::new(gamma))
        }
        "CosineAnnealingLR" => {
            let t_max = whole(a.number("T_max"));
            scheduled!(set!(CosineAnnealingLr::new(t_max), a, number eta_min))
        }
        "LambdaLR-linear-warmup" => {
            let warmup = whole(a.number("warmup_steps"));
            scheduled!(LambdaLr::warmup(warmup))
        }
        "OneCycleLR" => {
            let (max_lr, total) = (a.number("max_lr").unwrap_or(0.1), whole(a.number("total_steps")));
            let mut config = set!(
                OneCycleLr::new(max_lr, total), a, number pct_start, flag cycle_momentum, number base_momentum,
                number max_momentum, number div_factor, number final_div_factor, flag three_phase
            );
            if let Some(anneal) = a.text("anneal_strategy") {
                config = config.anneal(if anneal == "linear" { Anneal::Linear } else { Anneal::Cos });
            }
            scheduled!(config)
        }
        other => Ok(Outcome::Unsupported(format!("scheduler {other}"))),
    }
}

/// The rates (and momenta) before each step, against the stored ones.
fn follow(
    case: &Case,
    optimizer: &mut dyn Optim,
    steps: usize,
    mut step: impl FnMut(usize, &mut dyn Optim) -> Result<()>,
) -> Result<Outcome> {
    let (mut lrs, mut momenta) = (Vec::new(), Vec::new());
    for k in 0..steps {
        lrs.push(optimizer.lrs()[0]);
        momenta.push(optimizer.momenta().map_or(0.0, |m| m[0]));
        optimizer.step()?;
        if k + 1 < steps {
            step(k, optimizer)?;
        }
    }
    let mut check = Check::default();
    let bound = Bound::Mixed { relative: 1e-9, absolute: 1e-12 };
    check.numbers("lrs", &lrs, &case.tensor("lrs").to_f64_vec()?, bound);
    if let Some(want) = case.tensors.get("momentums") {
        check.numbers("momentums", &momenta, &want.to_f64_vec()?, bound);
    }
    Ok(check.outcome())
}
