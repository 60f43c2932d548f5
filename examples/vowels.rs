//! Who speaks? A bidirectional GRU hears two vowels, 7 to 29 steps of 12 coefficients, and tells nine speakers apart.
//!
//! `cargo run --release --example vowels`; `-- --help` lists the settings.

use std::{path::PathBuf, process::ExitCode, time::Instant};

use clap::{Parser, value_parser};
use gatefold::{
    Device, Error, Philox, Result, Tape, Tensor, Var,
    data::{Batches, Standard, TimeSeries, pad_features},
    nn::{Dropout, Gru, Linear, Module},
    optim::{Adam, clip_grad_norm},
    train::{Confusion, EventWriter, Mean, Progress, Watch},
};

mod common;

/// Tell nine speakers of Japanese vowels apart.
#[derive(Parser)]
#[command(name = "vowels")]
struct Settings {
    /// Times through the training utterances
    #[arg(long, default_value_t = 40, value_parser = value_parser!(u64).range(1..))]
    epochs: u64,
    /// Units of each direction
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u64).range(1..=4096))]
    hidden: u64,
    /// Where to compute: cpu, cuda, cuda:N or best
    #[arg(long, default_value = "best")]
    device: Device,
    /// Seed of the weights and of the order of the utterances
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder of JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts [default: data/japanese-vowels]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Folder for TensorBoard: losses, and how parameters and gradients are distributed
    #[arg(long, value_name = "FOLDER")]
    log: Option<PathBuf>,
    /// Draw the confusion matrix; a .png needs the feature `plotters`
    #[arg(long, value_name = "FILE.svg|FILE.png")]
    plot: Option<PathBuf>,
}

struct Classifier {
    gru: Gru,
    dropout: Dropout,
    out: Linear,
}

impl Classifier {
    /// Utterances `(B, T, channels)` → scores `(B, classes)`, from the last hidden state of both directions.
    fn forward(&self, x: &Var, lengths: &[usize]) -> Result<Var> {
        let (_, h) = self.gru.forward_lengths(x, lengths, None)?;
        let both = Var::concat(&[&h.select(0, 0)?, &h.select(0, 1)?], 1)?;
        self.out.forward(&self.dropout.forward(&both)?)
    }
}

impl Module for Classifier {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        vec![("gru", &self.gru), ("dropout", &self.dropout), ("out", &self.out)]
    }
}

fn main() -> ExitCode {
    common::exit("vowels", run(&Settings::parse()))
}

fn run(settings: &Settings) -> Result<()> {
    settings.device.check("--device")?;
    settings.plot.iter().try_for_each(|plot| common::drawable("--plot", plot))?;
    let folder = common::data(settings.data.as_deref(), "japanese-vowels");
    let mut train = TimeSeries::read(folder.join("JapaneseVowels_TRAIN.ts"))?;
    let mut test = TimeSeries::read(folder.join("JapaneseVowels_TEST.ts"))?;
    if (train.channels, &train.classes) != (test.channels, &test.classes) || train.classes.is_empty() {
        return Err(Error::file("vowels", folder, "channels or classes differ in the two files, or there are none"));
    }
    println!("{} utterances to train on, {} to test with", train.series.len(), test.series.len());
    let all: Vec<f32> = train.series.iter().flat_map(|series| &series.values).copied().collect();
    let standard = Standard::fit(&all, train.channels)?;
    train.series.iter_mut().chain(&mut test.series).for_each(|series| standard.apply(&mut series.values));

    let (hidden, device) = (settings.hidden as usize, &settings.device);
    let mut rng = Philox::seed(settings.seed);
    let model = Classifier {
        gru: Gru::new(train.channels, hidden).batch_first(true).bidirectional(true).init(device, &mut rng)?,
        dropout: Dropout::new(0.3).init(device, &mut rng)?,
        out: Linear::new(2 * hidden, train.classes.len()).init(device, &mut rng)?,
    };
    println!("{}\n{} parameters on {device}", model.repr(), model.num_parameters());
    let mut optimizer = Adam::new(3e-3).over([&model])?;
    let mut events = settings.log.as_ref().map(EventWriter::new).transpose()?;
    let watch = Watch::new(&model, 50)?;

    let (began, mut step) = (Instant::now(), 0);
    for epoch in 1..=settings.epochs {
        model.train();
        let lengths: Vec<usize> = train.series.iter().map(|series| series.len).collect();
        let batches = Batches::by_length(lengths, 18)?.shuffle(&mut rng.fork(epoch));
        let (mut mean, bar) = (Mean::new(), Progress::new(format!("epoch {epoch}/{}", settings.epochs), batches.len()));
        for batch in batches {
            let (x, lengths, targets) = utterances(&train, &batch, device)?;
            let loss = model.forward(&Tape::new().constant(x), &lengths)?.cross_entropy(&targets)?;
            optimizer.zero_grad();
            loss.backward()?;
            clip_grad_norm(&model, 1.0, 2.0)?;
            optimizer.step()?;
            mean.add(loss.item()?, batch.len());
            bar.step(format!("loss {:.4}", mean.value()));
            if let Some(events) = &mut events {
                events.scalar("loss", loss.item()?, step)?;
                watch.log(events, step)?;
            }
            step += 1;
        }
        bar.finish();
        if epoch % 10 == 0 || epoch == settings.epochs {
            println!("epoch {epoch:2}/{}  loss {:.4}", settings.epochs, mean.value());
        }
    }
    println!("trained in {:.1} s\n", began.elapsed().as_secs_f64());

    model.eval();
    let mut confusion = Confusion::new(test.classes.clone())?;
    for batch in Batches::new(test.series.len(), 64)? {
        let (x, lengths, targets) = utterances(&test, &batch, device)?;
        let scores = model.forward(&Tape::no_grad().constant(x), &lengths)?;
        confusion.add(&scores.argmax(1)?.to_vec::<i64>()?, &targets.to_vec::<i64>()?)?;
    }
    println!("{confusion}\n{}", confusion.report());
    if let Some(path) = &settings.plot {
        confusion.save_plot(path)?;
    }
    if let Some(mut events) = events {
        events.scalar("test accuracy", confusion.accuracy(), step)?;
        events.finish()?;
    }
    println!("test accuracy {:.4}", confusion.accuracy());
    Ok(())
}

/// Some utterances as one padded tensor, their lengths and their speakers.
fn utterances(set: &TimeSeries, batch: &[usize], device: &Device) -> Result<(Tensor, Vec<usize>, Tensor)> {
    let values: Vec<&[f32]> = batch.iter().map(|&i| set.series[i].values.as_slice()).collect();
    let (x, lengths) = pad_features(&values, set.channels, true, 0.0, device)?;
    let speakers: Vec<i64> = batch.iter().filter_map(|&i| set.series[i].class).collect();
    Ok((x, lengths, Tensor::new(speakers, device)?))
}
