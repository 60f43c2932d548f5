//! The main job: an LSTM reads handwritten digits row by row, 28 steps of 28 pixels, and says which digit it was.
//!
//! `cargo run --release --example mnist` trains it and reports; `-- --help` lists the settings.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum, value_parser};
use gatefold::{
    Device, Error, Philox, Result, Tape, Tensor, Var,
    data::{Batches, Digits, Mnist},
    nn::{Gru, Linear, Lstm, Module, Rnn},
    optim::{OneCycleLr, Sgd, clip_grad_norm_async},
    train::{CapturedStep, Confusion, Prefetch, Progress},
};

mod common;

/// Train a recurrent classifier on handwritten digits, or test a trained one.
#[derive(Parser)]
#[command(name = "mnist")]
struct Settings {
    /// Which learning rates
    #[arg(long, value_enum, default_value_t = Recipe::Default)]
    recipe: Recipe,
    /// Times through the training images
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u64).range(1..))]
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

#[derive(Clone, Copy, ValueEnum)]
enum Cell {
    Rnn,
    Lstm,
    LstmPeephole,
    Gru,
}

enum Recurrent {
    Rnn(Rnn),
    Lstm(Lstm),
    Gru(Gru),
}

impl Recurrent {
    fn module(&self) -> &dyn Module {
        match self {
            Recurrent::Rnn(rnn) => rnn,
            Recurrent::Lstm(lstm) => lstm,
            Recurrent::Gru(gru) => gru,
        }
    }
}

struct Classifier {
    rnn: Recurrent,
    out: Linear,
}

impl Classifier {
    fn new(settings: &Settings, rng: &mut Philox) -> Result<Self> {
        let (hidden, layers, device) = (settings.hidden as usize, settings.layers as usize, &settings.device);
        let rnn = match settings.cell {
            Cell::Rnn => Recurrent::Rnn(Rnn::new(28, hidden).num_layers(layers).batch_first(true).init(device, rng)?),
            Cell::Lstm | Cell::LstmPeephole => {
                let lstm = Lstm::new(28, hidden).num_layers(layers).batch_first(true);
                let peephole = matches!(settings.cell, Cell::LstmPeephole);
                Recurrent::Lstm(lstm.peephole(peephole).init(device, rng)?)
            }
            Cell::Gru => Recurrent::Gru(Gru::new(28, hidden).num_layers(layers).batch_first(true).init(device, rng)?),
        };
        Ok(Classifier { rnn, out: Linear::new(hidden, 10).init(device, rng)? })
    }

    /// Images `(B, 28, 28)` → scores `(B, 10)`, from the last hidden state of the last layer.
    fn forward(&self, tape: &Tape, images: Tensor) -> Result<Var> {
        let x = tape.constant(images);
        let h = match &self.rnn {
            Recurrent::Rnn(rnn) => rnn.forward(&x, None)?.1,
            Recurrent::Lstm(lstm) => lstm.forward(&x, None)?.1.h,
            Recurrent::Gru(gru) => gru.forward(&x, None)?.1,
        };
        self.out.forward(&h.select(0, -1)?)
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
        writable(&settings.save)?;
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
        let (mut running, began) = (Running::default(), Instant::now());
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
        confusion.add(&labels.to_vec::<i64>()?, &guesses.to_vec::<i64>()?)?;
    }
    Ok(confusion)
}

/// Loss and accuracy so far. Reading them waits for a GPU, so they are read for several batches at once.
#[derive(Default)]
struct Running {
    unread: Vec<[Tensor; 3]>,
    loss: f64,
    right: usize,
    seen: usize,
}

impl Running {
    const EVERY: usize = 20;

    fn add(&mut self, loss: Tensor, guesses: Tensor, labels: Tensor) -> Result<()> {
        self.unread.push([loss, guesses, labels]);
        if self.unread.len() < Self::EVERY { Ok(()) } else { self.read() }
    }

    fn read(&mut self) -> Result<()> {
        if self.unread.is_empty() {
            return Ok(());
        }
        let all = |i: usize| self.unread.iter().map(move |batch| &batch[i]).collect::<Vec<_>>();
        let losses = Tensor::stack(&all(0), 0)?.to_f64_vec()?;
        let [guesses, labels] = [1, 2].map(|i| Tensor::concat(&all(i), 0)?.to_vec::<i64>());
        let (guesses, labels) = (guesses?, labels?);
        for ([_, _, labels], loss) in self.unread.drain(..).zip(losses) {
            self.loss += loss * labels.numel() as f64;
        }
        self.right += guesses.iter().zip(&labels).filter(|(guess, label)| guess == label).count();
        self.seen += labels.len();
        Ok(())
    }
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.seen.max(1) as f64;
        write!(f, "loss {:.4}  accuracy {:6.2} %", self.loss / seen, 100.0 * self.right as f64 / seen)
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// An error before the training, rather than after it, where the model cannot be saved.
fn writable(path: &Path) -> Result<()> {
    let existed = path.exists();
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|_| if existed { Ok(()) } else { std::fs::remove_file(path) })
        .map_err(|error| Error::file("--save", path, error))
}
