//! What will the weather be? An LSTM sees the last hours (days, months) of several series and predicts one of them some steps ahead.
//!
//! `cargo run --release --example forecast`; `-- --help` lists the settings.

use std::{ops::Range, path::PathBuf, process::ExitCode, time::Instant};

use clap::{Parser, value_parser};
use gatefold::{
    Device, Error, Philox, Result, Tape, Tensor, Var,
    data::{Batches, Standard, Windows},
    nn::{Linear, Lstm, Module},
    optim::{Adam, CosineAnnealingLr, Mode, clip_grad_norm},
    train::{Chart, EarlyStopping, ForecastErrors, Mean, Progress},
};

#[path = "../common/mod.rs"]
mod common;
mod series;

use series::Set;

/// Forecast a time series from several.
#[derive(Parser)]
#[command(name = "forecast")]
struct Settings {
    /// Which series
    #[arg(long, value_enum, default_value_t = Set::Nyc)]
    set: Set,
    /// How many steps ahead to predict
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u64).range(1..=48))]
    ahead: u64,
    /// Times through the training windows, at most: it stops after 5 without a better validation error
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u64).range(1..))]
    epochs: u64,
    /// Units of the LSTM
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u64).range(1..=4096))]
    hidden: u64,
    /// Where to compute: cpu, cuda, cuda:N or best
    #[arg(long, default_value = "best")]
    device: Device,
    /// Seed of the weights and of the order of the windows
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to draw prediction and truth; a .png needs the feature `plotters`
    #[arg(long, value_name = "FILE.svg|FILE.png", default_value = "forecast.svg")]
    plot: PathBuf,
}

struct Forecaster {
    lstm: Lstm,
    out: Linear,
}

impl Forecaster {
    /// What was seen `(B, T, features)` → the first feature in the next steps `(B, ahead)`: the last one seen and a change.
    fn forward(&self, tape: &Tape, seen: Tensor) -> Result<Var> {
        let now = tape.constant(seen.select(1, -1)?.narrow(1, 0, 1)?);
        let (_, last) = self.lstm.forward(&tape.constant(seen), None)?;
        self.out.forward(&last.h.select(0, -1)?)?.add(&now)
    }
}

impl Module for Forecaster {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        vec![("lstm", &self.lstm), ("out", &self.out)]
    }
}

fn main() -> ExitCode {
    common::exit("forecast", run(&Settings::parse()))
}

fn run(settings: &Settings) -> Result<()> {
    settings.device.check("--device")?;
    common::drawable("--plot", &settings.plot)?;
    let (ahead, hidden) = (settings.ahead as usize, settings.hidden as usize);
    let about = settings.set.about();
    let (rows, width, standard, [training, validation, testing]) = about.read()?;
    let windows = Windows::new(rows, width, about.seen, ahead)?;
    let (device, mut rng) = (&settings.device, Philox::seed(settings.seed));
    let model = Forecaster {
        lstm: Lstm::new(width, hidden).batch_first(true).init(device, &mut rng)?,
        out: Linear::new(hidden, ahead).init(device, &mut rng)?,
    };
    println!("{}\n{} parameters on {device}", model.repr(), model.num_parameters());

    let at: Vec<usize> = windows.within(training).collect();
    let mut optimizer = Adam::new(1e-3).over([&model])?;
    let mut schedule = CosineAnnealingLr::new(settings.epochs).eta_min(5e-5).over(&mut optimizer)?;
    let (mut stopping, mut best, began) = (EarlyStopping::new(Mode::Min, 5)?, model.state_dict(), Instant::now());
    for epoch in 1..=settings.epochs {
        let batches = Batches::new(at.len(), 64)?.shuffle(&mut rng.fork(epoch));
        let (mut mean, bar) = (Mean::new(), Progress::new(format!("epoch {epoch}/{}", settings.epochs), batches.len()));
        for batch in batches {
            let at: Vec<usize> = batch.iter().map(|&i| at[i]).collect();
            let (seen, next) = windows.batch(&at, 0, device)?;
            let loss = model.forward(&Tape::new(), seen)?.l1_loss(&next)?;
            optimizer.zero_grad();
            loss.backward()?;
            clip_grad_norm(&model, 1.0, 2.0)?;
            optimizer.step()?;
            mean.add(loss.item()?, at.len());
            bar.step(format!("loss {:.4}", mean.value()));
        }
        bar.finish();
        schedule.step(&mut optimizer)?;
        let (errors, _) = test(&model, &windows, validation.clone(), &standard, device)?;
        let stop = stopping.step(errors.sum());
        if stopping.improved() {
            best = model.state_dict();
        }
        let (epochs, loss, mae) = (settings.epochs, mean.value(), errors.model(0));
        println!("epoch {epoch:2}/{epochs}  loss {loss:.4}  validation MAE {mae:.3}");
        if stop {
            break;
        }
    }
    println!("trained in {:.1} s; the epoch with the best validation error is tested\n", began.elapsed().as_secs_f64());

    model.load_state_dict(&best)?;
    let (errors, one_ahead) = test(&model, &windows, testing, &standard, device)?;
    println!("mean absolute error of {} on the last fifth\n{errors}", about.columns[0]);
    let shown = one_ahead.len().saturating_sub(240)..one_ahead.len();
    let line = |of: fn(&(f64, f64)) -> f64| shown.clone().map(|i| (i as f64, of(&one_ahead[i]))).collect::<Vec<_>>();
    Chart::new(format!("{} one step ahead, the end of the last fifth", about.columns[0]))
        .axes("step", about.columns[0])
        .line("truth", line(|pair| pair.0))
        .line("predicted", line(|pair| pair.1))
        .save(&settings.plot)?;
    println!("drawn in {}", settings.plot.display());
    println!("test MAE {:.4}  persistence {:.4}", errors.model(0), errors.persistence(0));
    println!("skill {:.4} (1 − MAE / persistence)", errors.skill(0));
    Ok(())
}

/// Truth and prediction.
type Pairs = Vec<(f64, f64)>;

/// The errors in the series' own unit, and what was predicted one step ahead.
fn test(
    model: &Forecaster,
    windows: &Windows,
    rows: Range<usize>,
    by: &Standard,
    device: &Device,
) -> Result<(ForecastErrors, Pairs)> {
    let (mut errors, mut one_ahead) = (ForecastErrors::new(), Vec::new());
    let at: Vec<usize> = windows.within(rows.clone()).collect();
    if at.is_empty() {
        let want = format!("at most {}", rows.len());
        return Err(Error::argument("--ahead", "more steps than there are to test with", want));
    }
    let units = |values: Vec<f32>| values.into_iter().map(|value| by.restore(0, value)).collect::<Vec<f64>>();
    for at in at.chunks(256) {
        let (seen, next) = windows.batch(at, 0, device)?;
        let (now, ahead) = (seen.select(1, -1)?.select(1, 0)?, next.dims()[1]);
        let predicted = model.forward(&Tape::no_grad(), seen)?;
        let [now, truth, predicted] = [&now, &next, predicted.tensor()].map(|tensor| tensor.to_vec::<f32>().map(units));
        let (truth, predicted) = (truth?, predicted?);
        for (now, (truth, predicted)) in now?.into_iter().zip(truth.chunks(ahead).zip(predicted.chunks(ahead))) {
            errors.add(now, predicted, truth)?;
            one_ahead.push((truth[0], predicted[0]));
        }
    }
    Ok((errors, one_ahead))
}
