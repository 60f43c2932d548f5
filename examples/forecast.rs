//! What will the weather be? An LSTM sees the last hours (days, months) of several series and predicts one of them some steps ahead.
//!
//! `cargo run --release --example forecast`; `-- --help` lists the settings.

use std::{f64::consts::TAU, ops::Range, path::PathBuf, process::ExitCode, time::Instant};

use clap::{Parser, ValueEnum, value_parser};
use gatefold::{
    Device, Error, Philox, Result, Tape, Tensor, Var,
    data::{Batches, Standard, Table, Windows, fill_missing},
    nn::{Linear, Lstm, Module},
    optim::{Adam, CosineAnnealingLr, Mode, clip_grad_norm},
    train::{Chart, EarlyStopping, Mean, Progress},
};

mod common;

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
    /// Where to draw prediction and truth
    #[arg(long, value_name = "FILE.svg", default_value = "forecast.svg")]
    plot: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Set {
    /// Temperature at New York's JFK airport in °F, hourly
    Nyc,
    /// Highest temperature in Seattle in °C, daily
    Seattle,
    /// Airline passengers in thousands, monthly
    Airline,
}

/// Where a series is: its file, columns (that to predict first), steps that are seen, steps to a day or a year, and the column
/// of the hour where hours are missing.
type About = (&'static str, &'static [&'static str], usize, f64, Option<&'static str>);

const NYC: &[&str] = &["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"];
const SEATTLE: &[&str] = &["temp_max", "temp_min", "precipitation", "wind"];

impl Set {
    fn about(self) -> About {
        match self {
            Set::Nyc => ("weather/nyc_jfk_weather_2013_hourly.csv", NYC, 48, 24.0, Some("hour")),
            Set::Seattle => ("weather/seattle-weather.csv", SEATTLE, 21, 365.25, None),
            Set::Airline => ("airline/airline_passengers.csv", &["Passengers"], 24, 12.0, None),
        }
    }
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
    let (columns, ahead, hidden) = (settings.set.about().1, settings.ahead as usize, settings.hidden as usize);
    let (rows, width, standard, [training, validation, testing]) = read(settings)?;
    let windows = Windows::new(rows, width, settings.set.about().2, ahead)?;
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
        let tested = test(&model, &windows, validation.clone(), &standard, device)?;
        let stop = stopping.step(tested.errors.iter().map(|(model, _)| model).sum());
        if stopping.improved() {
            best = model.state_dict();
        }
        println!(
            "epoch {epoch:2}/{}  loss {:.4}  validation MAE {:.3}",
            settings.epochs,
            mean.value(),
            tested.errors[0].0
        );
        if stop {
            break;
        }
    }
    println!("trained in {:.1} s; the epoch with the best validation error is tested\n", began.elapsed().as_secs_f64());

    model.load_state_dict(&best)?;
    let tested = test(&model, &windows, testing, &standard, device)?;
    println!("mean absolute error of {} on the last fifth\nsteps ahead  LSTM     persistence", columns[0]);
    for (k, (mae, persistence)) in tested.errors.iter().enumerate() {
        println!("{:11}  {mae:<7.3}  {persistence:.3}", k + 1);
    }
    let shown = tested.one_ahead.len().saturating_sub(240)..tested.one_ahead.len();
    let line =
        |of: fn(&(f64, f64)) -> f64| shown.clone().map(|i| (i as f64, of(&tested.one_ahead[i]))).collect::<Vec<_>>();
    Chart::new(format!("{} one step ahead, the end of the last fifth", columns[0]))
        .axes("step", columns[0])
        .line("truth", line(|pair| pair.0))
        .line("predicted", line(|pair| pair.1))
        .save(&settings.plot)?;
    let (mae, persistence) = tested.errors[0];
    println!("\ndrawn in {}\ntest MAE {mae:.4}  persistence {persistence:.4}", settings.plot.display());
    println!("skill {:.4} (1 − MAE / persistence)", 1.0 - mae / persistence);
    Ok(())
}

struct Tested {
    /// For each number of steps ahead: the mean absolute error of the model, and of saying that nothing changes.
    errors: Vec<(f64, f64)>,
    /// Truth and prediction, one step ahead.
    one_ahead: Vec<(f64, f64)>,
}

fn test(model: &Forecaster, windows: &Windows, rows: Range<usize>, by: &Standard, device: &Device) -> Result<Tested> {
    let unit = |value: f32| by.mean(0) + by.deviation(0) * f64::from(value);
    let (mut sums, mut one_ahead): (Vec<(Mean, Mean)>, _) = (Vec::new(), Vec::new());
    let at: Vec<usize> = windows.within(rows.clone()).collect();
    if at.is_empty() {
        return Err(Error::argument(
            "--ahead",
            "more steps than there are to test with",
            format!("at most {}", rows.len()),
        ));
    }
    for at in at.chunks(256) {
        let (seen, next) = windows.batch(at, 0, device)?;
        let now = seen.select(1, -1)?.select(1, 0)?.to_vec::<f32>()?;
        let predicted = model.forward(&Tape::no_grad(), seen)?.tensor().to_vec::<f32>()?;
        let ahead = next.dims()[1];
        sums.resize(ahead, Default::default());
        for (i, (truth, predicted)) in next.to_vec::<f32>()?.into_iter().zip(predicted).enumerate() {
            let (truth, predicted, now) = (unit(truth), unit(predicted), unit(now[i / ahead]));
            sums[i % ahead].0.add((predicted - truth).abs(), 1);
            sums[i % ahead].1.add((now - truth).abs(), 1);
            if i % ahead == 0 {
                one_ahead.push((truth, predicted));
            }
        }
    }
    Ok(Tested { errors: sums.iter().map(|(model, same)| (model.value(), same.value())).collect(), one_ahead })
}

type Data = (Vec<f32>, usize, Standard, [Range<usize>; 3]);

/// Standardised rows, features to a row, mean and deviation of each; the rows to train on (70 %), to validate (10 %), to test.
fn read(settings: &Settings) -> Result<Data> {
    let (file, columns, _, period, clock) = settings.set.about();
    let table = Table::csv(common::data(None, file))?;
    let count = table.len();
    let mut features: Vec<Vec<f64>> = Vec::new();
    for &column in columns {
        let (filled, missing) = fill_missing(&table.numbers_or_missing(column)?)?;
        println!(
            "{column}: {count} rows, {missing} missing{}",
            if missing > 0 { ", the last before taken" } else { "" }
        );
        features.push(filled);
    }
    let time = match clock {
        Some(column) => table.numbers(column)?,
        None => (0..count).map(|i| i as f64).collect(),
    };
    features.extend([f64::sin, f64::cos].map(|wave| time.iter().map(|t| wave(TAU * t / period)).collect()));
    let width = features.len();
    let mut rows: Vec<f32> = (0..count).flat_map(|i| features.iter().map(move |column| column[i] as f32)).collect();
    // By the training rows alone: what comes later is not known then.
    let (a, b) = (count * 7 / 10, count * 8 / 10);
    let standard = Standard::fit(&rows[..a * width], width)?;
    standard.apply(&mut rows);
    Ok((rows, width, standard, [0..a, a..b, b..count]))
}
