//! The main job: an LSTM reads handwritten digits row by row, 28 steps of 28 pixels, and says which digit it was.
//!
//! `cargo run --release --example mnist` trains it and reports; `-- --help` lists the settings.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum, value_parser};
use gatefold::{
    Device, Philox, Result, Tape, Tensor, Var,
    data::{Batches, Digits, Mnist},
    nn::{Linear, Module},
    optim::{OneCycleLr, Sgd, clip_grad_norm_async},
    train::{CapturedStep, Confusion, Prefetch, Progress, Running},
};

use common::recurrent::{Cell, Recurrent};

mod common;

/// Train a recurrent classifier on handwritten digits, or test a trained one.
#[derive(Parser)]
#[command(name = "mnist")]
struct Settings {
    /// Which learning rates
    #[arg(long, value_enum, default_value_t = Recipe::Default)]
    recipe: Recipe,
    /// Times through the training images
    #[arg(long, default_value_t = 12, value_parser = value_parser!(u64).range(1..))]
    epochs: u64,
    /// Images to a batch
    #[arg(long, default_value_t = 128, value_parser = value_parser!(u64).range(1..))]
    batch: u64,
    /// Units of a layer
    #[arg(long, default_value_t = 128, value_parser = value_parser!(u64).range(1..=16_384))]
    hidden: u64,
    /// Stacked layers
    #[arg(long, default_value_t = 2, value_parser = value_parser!(u64).range(1..=64))]
    layers: u64,
    /// The recurrent network
    #[arg(long, value_enum, default_value_t = Cell::Lstm)]
    cell: Cell,
    /// Where to compute: cpu, cuda, cuda:N or best
    #[arg(long, default_value = "best")]
    device: Device,
    /// Seed of the weights and of the order of the images
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder of the four IDX files [default: data/mnist, here or where this example was built]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Train on the first N images only [default: all]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Where to write the trained model
    #[arg(long, default_value = "mnist.safetensors")]
    save: PathBuf,
    /// Test the model of this file instead of training one; --cell, --hidden and --layers must be what it was made with
    #[arg(long, value_name = "FILE")]
    load: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Recipe {
    /// One cycle from 0.04 up to 0.2 and down to nothing, gradients clipped at norm 1
    Default,
    /// Constant 0.1, no clipping
    Notes,
}

struct Classifier {
    rnn: Recurrent,
    out: Linear,
}

impl Classifier {
    fn new(settings: &Settings, rng: &mut Philox) -> Result<Self> {
        let (hidden, layers, device) = (settings.hidden as usize, settings.layers as usize, &settings.device);
        Ok(Classifier {
            rnn: Recurrent::new(settings.cell, (28, hidden, layers), true, device, rng)?,
            out: Linear::new(hidden, 10).init(device, rng)?,
        })
    }

    /// Images `(B, 28, 28)` → scores `(B, 10)`, from the last hidden state of the last layer.
    fn forward(&self, tape: &Tape, images: Tensor) -> Result<Var> {
        let (_, last) = self.rnn.forward(&tape.constant(images), &[])?;
        self.out.forward(&last[0].select(0, -1)?)
    }
}

impl Module for Classifier {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        vec![("rnn", self.rnn.module()), ("out", &self.out)]
    }
}

fn main() -> ExitCode {
    common::exit("mnist", run(&Settings::parse()))
}

fn run(settings: &Settings) -> Result<()> {
    settings.device.check("--device")?;
    let mut mnist = Mnist::load(common::data(settings.data.as_deref(), "mnist"))?;
    if let Some(limit) = settings.limit.map(|n| n as usize).filter(|&n| n < mnist.train.len()) {
        let (images, labels) = mnist.train.batch(&(0..limit).collect::<Vec<_>>(), &Device::Cpu)?;
        mnist.train = Digits { images, labels };
    }
    let mut rng = Philox::seed(settings.seed);
    let model = Classifier::new(settings, &mut rng)?;
    println!("{}\n{} parameters on {}", model.repr(), model.num_parameters(), settings.device);
    println!("{} images to train on, {} to test with", mnist.train.len(), mnist.test.len());

    if let Some(file) = &settings.load {
        model.load(file)?;
        println!("loaded {}", file.display());
    } else {
        common::writable("--save", &settings.save)?;
        train(&model, &mnist, settings, &mut rng)?;
        model.save(&settings.save)?;
        println!("saved {}", settings.save.display());
    }
    let confusion = test(&model, &mnist.test, settings)?;
    println!("\n{confusion}");
    println!("test accuracy {:.2} %", 100.0 * confusion.accuracy());
    Ok(())
}

fn train(model: &Classifier, mnist: &Mnist, settings: &Settings, rng: &mut Philox) -> Result<()> {
    let batches = || Batches::new(mnist.train.len(), settings.batch as usize);
    let mut optimizer = Sgd::new(0.1).momentum(0.9).over([model])?;
    let steps = settings.epochs.saturating_mul(batches()?.len() as u64);
    let mut schedule = match settings.recipe {
        // From a fifth of the greatest rate, where PyTorch's default is a 25th: see docs/decisions.md.
        Recipe::Default => Some(OneCycleLr::new(0.2, steps).div_factor(5.0).over(&mut optimizer)?),
        Recipe::Notes => None,
    };
    let start = Instant::now();
    let mut step = CapturedStep::new();
    for epoch in 1..=settings.epochs {
        let (mut running, began) = (Running::new(), Instant::now());
        let bar = Progress::new(format!("epoch {epoch:2}/{}", settings.epochs), batches()?.len());
        model.train();
        // On a GPU the next batch arrives while this one is worked on, a step is one launch, and nothing waits but a reading.
        let host = batches()?.shuffle(rng).map(|batch| {
            let (images, labels) = mnist.train.batch(&batch, &Device::Cpu)?;
            Ok([images, labels])
        });
        for batch in Prefetch::new(host, &settings.device)? {
            let [images, labels] = batch?;
            let [loss, guesses] = step.run([&images, &labels], &mut optimizer, |[images, labels], optimizer| {
                let scores = model.forward(&Tape::new(), images.clone())?;
                let loss = scores.cross_entropy(labels)?;
                optimizer.zero_grad();
                loss.backward()?;
                if settings.recipe == Recipe::Default {
                    clip_grad_norm_async(model, 1.0, 2.0)?;
                }
                optimizer.step()?;
                Ok([loss.into_tensor(), scores.argmax(1)?])
            })?;
            if let Some(schedule) = &mut schedule {
                schedule.step(&mut optimizer)?;
            }
            running.add(loss, guesses, labels)?;
            bar.step(running.to_string());
        }
        running.read()?;
        bar.finish();
        let spent = began.elapsed();
        let tested = 100.0 * test(model, &mnist.test, settings)?.accuracy();
        println!("epoch {epoch:2}/{}  {running}  test {tested:6.2} %  {}", settings.epochs, seconds(spent));
    }
    println!("trained in {}", seconds(start.elapsed()));
    Ok(())
}

/// How often each digit (row) was taken for each digit (column).
fn test(model: &Classifier, digits: &Digits, settings: &Settings) -> Result<Confusion> {
    model.eval();
    let mut confusion = Confusion::new((0..10).map(|digit| digit.to_string()))?;
    for batch in Batches::new(digits.len(), 500)? {
        let (images, labels) = digits.batch(&batch, &settings.device)?;
        let guesses = model.forward(&Tape::no_grad(), images)?.argmax(1)?;
        confusion.add(&guesses.to_vec::<i64>()?, &labels.to_vec::<i64>()?)?;
    }
    Ok(confusion)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
