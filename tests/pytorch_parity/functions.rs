//! Losses, softmax and its kin, pointwise functions, embedding, linear.

use gatefold::{
    DType, Reduction, Result, Tape, Tensor, Var,
    loss::{
        BceLoss, BceWithLogitsLoss, CrossEntropyLoss, HuberLoss, KlDivLoss, L1Loss, MseLoss, NllLoss, SmoothL1Loss,
    },
};
use serde_json::Value;

use crate::case::{Bound, Case, Check, Outcome};

/// In float32 both sides are a few roundings of 2⁻²⁴ from the true number: of the result, of the terms of a sum (tens of
/// order 1 here), and of saved outputs such as 1 − tanh² that cancel. 32 and 16 of them leave room for that, and none for a
/// wrong formula. In float64 10⁻⁹.
fn bound(dtype: DType) -> Bound {
    match dtype {
        DType::F64 => Bound::Mixed { relative: 1e-9, absolute: 1e-9 },
        _ => Bound::Mixed { relative: 32.0 / 16_777_216.0, absolute: 16.0 / 16_777_216.0 },
    }
}

fn reduction(case: &Case) -> Option<Reduction> {
    match case.config["kwargs"].get("reduction").and_then(Value::as_str).unwrap_or("mean") {
        "mean" => Some(Reduction::Mean),
        "sum" => Some(Reduction::Sum),
        "none" => Some(Reduction::None),
        _ => None,
    }
}

pub fn run(case: &Case) -> Result<Outcome> {
    let tape = Tape::new();
    // Every float input is a variable, so that a gradient which the case lacks cannot disturb the others.
    let mut variables: Vec<(&str, Var)> = Vec::new();
    for (name, tensor) in case.tensors.iter() {
        if !["grad.", "output."].iter().any(|start| name.starts_with(start)) && !matches!(name, "output" | "w") {
            let wanted = case.tensors.get(&format!("grad.{name}")).is_some();
            let var = if wanted { tape.variable(tensor.clone()) } else { tape.constant(tensor.clone()) };
            variables.push((name, var));
        }
    }
    let var = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, var)| var);
    let Some(output) = forward(case, &var)? else {
        return Ok(Outcome::Unsupported(format!("{} {}", case.text("op"), case.config["kwargs"])));
    };
    output.mul(&tape.constant(case.tensor("w").clone()))?.sum()?.backward()?;

    let mut check = Check::default();
    let want = case.tensor("output");
    check.compare("output", output.tensor(), want, bound(want.dtype()));
    for (name, var) in &variables {
        let key = format!("grad.{name}");
        if let Some(want) = case.tensors.get(&key) {
            let zeros = || Tensor::zeros(var.shape(), var.dtype(), &case.device);
            check.compare(&key, &var.grad().map_or_else(zeros, Ok)?, want, bound(want.dtype()));
        }
    }
    Ok(check.outcome())
}

/// `None`: not claimed.
fn forward<'a>(case: &Case, var: &dyn Fn(&str) -> Option<&'a Var>) -> Result<Option<Var>> {
    let kwargs = &case.config["kwargs"];
    let number = |key: &str| kwargs.get(key).and_then(Value::as_f64);
    let integer = |key: &str| kwargs.get(key).and_then(Value::as_i64);
    let flag = |key: &str| kwargs.get(key).and_then(Value::as_bool).unwrap_or(false);
    let tensor = |name: &str| var(name).map(|v| v.tensor().clone());
    let op = case.text("op");
    let index = var("index").or_else(|| var("indices")).or_else(|| var("input").filter(|_| op == "embedding"));
    if op == "embedding" {
        let known = ["padding_idx", "note", "max_norm", "scale_grad_by_freq", "sparse", "norm_type"];
        let set = |key: &str| kwargs.get(key).is_some_and(|v| !v.is_null() && v != &Value::Bool(false));
        let (Some(index), Some(weight)) = (index, var("weight")) else { return Ok(None) };
        if ["max_norm", "scale_grad_by_freq", "sparse"].iter().any(|key| set(key)) || unknown(kwargs, &known) {
            return Ok(None);
        }
        return weight.embedding(index.tensor(), integer("padding_idx")).map(Some);
    }
    let Some(x) = var("input") else { return Ok(None) };
    let dim = integer("dim").map(|dim| dim as isize);
    let pointwise = |f: fn(&Var) -> Result<Var>| if unknown(kwargs, &["note"]) { Ok(None) } else { f(x).map(Some) };
    match (op, dim) {
        ("softmax" | "log_softmax", _) if unknown(kwargs, &["dim", "note"]) => Ok(None),
        ("logsumexp", _) if unknown(kwargs, &["dim", "keepdim", "note"]) => Ok(None),
        ("softmax", Some(dim)) => x.softmax(dim).map(Some),
        ("log_softmax", Some(dim)) => x.log_softmax(dim).map(Some),
        ("logsumexp", Some(dim)) => x.logsumexp(dim, flag("keepdim")).map(Some),
        ("exp", _) => pointwise(Var::exp),
        ("log", _) => pointwise(Var::log),
        ("sqrt", _) => pointwise(Var::sqrt),
        ("neg", _) => pointwise(Var::neg),
        ("abs", _) => pointwise(Var::abs),
        ("tanh", _) => pointwise(Var::tanh),
        ("sigmoid", _) => pointwise(Var::sigmoid),
        ("relu", _) => pointwise(Var::relu),
        ("pow", _) => number("exponent").map(|exponent| x.powf(exponent)).transpose(),
        ("clamp", _) if !unknown(kwargs, &["min", "max", "note"]) => {
            let (low, high) = (number("min").unwrap_or(f64::NEG_INFINITY), number("max").unwrap_or(f64::INFINITY));
            x.clamp(low, high).map(Some)
        }
        ("add" | "sub" | "mul" | "div", _) if !unknown(kwargs, &["note"]) => {
            let Some(other) = var("other") else { return Ok(None) };
            let f = match op {
                "add" => Var::add,
                "sub" => Var::sub,
                "mul" => Var::mul,
                _ => Var::div,
            };
            f(x, other).map(Some)
        }
        ("gather", Some(dim)) => index.map(|index| x.gather(dim, index.tensor())).transpose(),
        ("topk", Some(dim)) => {
            let (values, index) = x.topk(integer("k").unwrap_or(0) as usize, dim)?;
            assert_eq!(index.to_vec::<i64>()?, case.tensor("output.indices").to_vec::<i64>()?, "{}", case.text("name"));
            Ok(Some(values))
        }
        ("masked_fill", _) => {
            let (Some(mask), Some(value)) = (tensor("mask"), number("value")) else { return Ok(None) };
            x.masked_fill(&mask, value).map(Some)
        }
        ("where", _) => {
            let (Some(mask), Some(other)) = (tensor("condition"), var("other")) else { return Ok(None) };
            x.where_cond(&mask, other).map(Some)
        }
        ("linear", _) => var("weight").map(|weight| x.linear(weight, var("bias"))).transpose(),
        _ => match var("target") {
            Some(target) => loss(case, x, target, tensor("weight"), tensor("pos_weight")),
            None => Ok(None),
        },
    }
}

/// Whether a keyword argument is set that is not among the known ones.
fn unknown(kwargs: &Value, known: &[&str]) -> bool {
    let mut all = kwargs.as_object().into_iter().flatten();
    all.any(|(key, value)| !known.contains(&key.as_str()) && !value.is_null())
}

fn loss(case: &Case, x: &Var, target: &Var, weight: Option<Tensor>, pos_weight: Option<Tensor>) -> Result<Option<Var>> {
    let kwargs = &case.config["kwargs"];
    let number = |key: &str| kwargs.get(key).and_then(Value::as_f64);
    let known = ["reduction", "ignore_index", "label_smoothing", "beta", "delta", "log_target", "note"];
    if unknown(kwargs, &known) {
        return Ok(None);
    }
    let op = case.text("op");
    let reduction = reduction(case);
    let ignore = kwargs.get("ignore_index").and_then(Value::as_i64);
    match (op, reduction) {
        ("kl_div", reduction) => {
            let log_target = kwargs.get("log_target").and_then(Value::as_bool).unwrap_or(false);
            let loss = KlDivLoss::new().log_target(log_target);
            let loss = match reduction {
                Some(reduction) => loss.reduction(reduction),
                None => loss.batch_mean(),
            };
            loss.forward(x, target).map(Some)
        }
        (_, None) => Ok(None),
        // Class probabilities as a target are not claimed.
        ("nll_loss" | "cross_entropy", _) if target.dtype().is_float() => Ok(None),
        ("nll_loss", Some(reduction)) => {
            let mut loss = NllLoss::new().reduction(reduction);
            if let Some(weight) = weight {
                loss = loss.weight(weight);
            }
            if let Some(index) = ignore {
                loss = loss.ignore_index(index);
            }
            loss.forward(x, target.tensor()).map(Some)
        }
        ("cross_entropy", Some(reduction)) => {
            let mut loss = CrossEntropyLoss::new().reduction(reduction);
            loss = loss.label_smoothing(number("label_smoothing").unwrap_or(0.0));
            if let Some(weight) = weight {
                loss = loss.weight(weight);
            }
            if let Some(index) = ignore {
                loss = loss.ignore_index(index);
            }
            loss.forward(x, target.tensor()).map(Some)
        }
        ("binary_cross_entropy", Some(reduction)) => {
            let mut loss = BceLoss::new().reduction(reduction);
            if let Some(weight) = weight {
                loss = loss.weight(weight);
            }
            loss.forward(x, target).map(Some)
        }
        ("binary_cross_entropy_with_logits", Some(reduction)) => {
            let mut loss = BceWithLogitsLoss::new().reduction(reduction);
            if let Some(weight) = weight {
                loss = loss.weight(weight);
            }
            if let Some(weight) = pos_weight {
                loss = loss.pos_weight(weight);
            }
            loss.forward(x, target).map(Some)
        }
        // Weighted regression losses are not claimed.
        _ if weight.is_some() => Ok(None),
        ("mse_loss", Some(reduction)) => MseLoss::new().reduction(reduction).forward(x, target).map(Some),
        ("l1_loss", Some(reduction)) => L1Loss::new().reduction(reduction).forward(x, target).map(Some),
        ("huber_loss", Some(reduction)) => {
            let loss = HuberLoss::new().delta(number("delta").unwrap_or(1.0)).reduction(reduction);
            loss.forward(x, target).map(Some)
        }
        ("smooth_l1_loss", Some(reduction)) => {
            let loss = SmoothL1Loss::new().beta(number("beta").unwrap_or(1.0)).reduction(reduction);
            loss.forward(x, target).map(Some)
        }
        _ => Ok(None),
    }
}
