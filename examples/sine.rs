//! sin → cos: from the sine at ten points of a half period an LSTM predicts the cosine there, its state carried from one half
//! period to the next.
//!
//! `cargo run --release --example sine` trains it and draws its curves in sine.svg; `-- --help` lists the settings.

use std::{f64::consts::PI, path::PathBuf, process::ExitCode};

use clap::{Parser, value_parser};
use gatefold::{
    Device, Philox, Result, Tape, Tensor,
    nn::{Linear, Lstm, LstmState},
    optim::Adam,
    train::{Chart, Progress},
};

mod common;

/// Predict the cosine from the sine.
#[derive(Parser)]
#[command(name = "sine")]
struct Settings {
    /// Half periods to train on, one after the other
    #[arg(long, visible_alias = "epochs", default_value_t = 300, value_parser = value_parser!(u64).range(1..))]
    steps: u64,
    /// Where to compute: cpu, cuda, cuda:N or best
    #[arg(long, default_value = "best")]
    device: Device,
    /// Seed of the weights
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to draw the last half periods; a .png needs the feature `plotters`
    #[arg(long, value_name = "FILE.svg|FILE.png", default_value = "sine.svg")]
    plot: PathBuf,
}

const POINTS: usize = 10;

fn main() -> ExitCode {
    common::exit("sine", run(&Settings::parse()))
}

fn run(settings: &Settings) -> Result<()> {
    let device = settings.device;
    device.check("--device")?;
    common::drawable("--plot", &settings.plot)?;
    let mut rng = Philox::seed(settings.seed);
    let lstm = Lstm::new(2, 32).num_layers(2).batch_first(true).init(&device, &mut rng)?;
    let out = Linear::new(32, 1).init(&device, &mut rng)?;
    let mut optimizer = Adam::new(0.02).over([&lstm, &out])?;

    let bar = Progress::new("training", settings.steps as usize);
    let mut carried: Option<LstmState> = None;
    // Angle in half periods, sine, cosine, prediction.
    let mut seen: Vec<[f64; 4]> = Vec::new();
    let mut last_loss = f64::NAN;
    for step in 1..=settings.steps {
        let angles: Vec<f64> = (0..POINTS).map(|i| (step - 1) as f64 + i as f64 / (POINTS - 1) as f64).collect();
        // The sine twice, as two channels.
        let sines: Vec<[f32; 2]> = angles.iter().map(|a| [(a * PI).sin() as f32; 2]).collect();
        let cosines: Vec<[f32; 1]> = angles.iter().map(|a| [(a * PI).cos() as f32]).collect();

        let tape = Tape::new();
        // A new tape for each chunk: the values of the state go on, their history does not.
        let state = carried.map(|state| state.detach_onto(&tape));
        let (states, last) = lstm.forward(&tape.constant(Tensor::new([&sines], &device)?), state.as_ref())?;
        let prediction = out.forward(&states)?;
        let loss = prediction.mse_loss(&Tensor::new([&cosines], &device)?)?;
        optimizer.zero_grad();
        loss.backward()?;
        optimizer.step()?;
        carried = Some(last.detach());

        last_loss = loss.item()?;
        bar.step(format!("loss {last_loss:.6}"));
        if step % 50 == 0 {
            println!("step {step:3}  loss {last_loss:.6}");
        }
        let predicted = prediction.tensor().to_vec::<f32>()?;
        seen.extend((0..POINTS).map(|i| [angles[i], sines[i][0].into(), cosines[i][0].into(), predicted[i].into()]));
    }
    bar.finish();

    println!("\nsine      cosine    predicted");
    for [_, sine, cosine, predicted] in &seen[seen.len() - POINTS..] {
        println!("{sine:8.4}  {cosine:8.4}  {predicted:8.4}");
    }
    // The last six half periods.
    let shown = &seen[seen.len().saturating_sub(6 * POINTS)..];
    let line = |i: usize| shown.iter().map(move |point| (point[0], point[i]));
    Chart::new("the cosine from the sine")
        .axes("half periods", "")
        .line("sine", line(1))
        .line("cosine", line(2))
        .line("predicted", line(3))
        .save(&settings.plot)?;
    let off = seen[seen.len() - POINTS..].iter().map(|[_, _, cosine, predicted]| (cosine - predicted).abs());
    println!("\ndrawn in {}\nlargest error of these {:.4}", settings.plot.display(), off.fold(0.0, f64::max));
    println!("final loss {last_loss:.6}");
    Ok(())
}
