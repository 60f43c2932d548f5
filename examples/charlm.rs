//! A language model of characters: it reads Shakespeare's plays and goes on writing.
//!
//! `cargo run --release --example charlm`; with `-- --run FOLDER` it keeps checkpoints, and goes on from the last one when it is
//! started again. `-- --help` lists the settings.

use std::{fs, path::PathBuf, process::ExitCode, time::Instant};

use clap::{Parser, ValueEnum, value_parser};
use gatefold::{
    Device, Error, Philox, Result, Tape, Tensor, Var,
    data::{Vocabulary, characters},
    nn::{Embedding, Gru, Linear, Lstm, LstmState, Module},
    optim::{Adam, CosineAnnealingLr, State, clip_grad_norm},
    train::{Checkpoint, Checkpoints, EventWriter, Mean, Progress},
};

mod common;

/// Train a language model of characters, and let it write.
#[derive(Parser)]
#[command(name = "charlm")]
struct Settings {
    /// The recurrent network
    #[arg(long, value_enum, default_value_t = Cell::Lstm)]
    cell: Cell,
    /// Times through the first nine tenths of the text
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u64).range(1..))]
    epochs: u64,
    /// Units of each of the two layers
    #[arg(long, default_value_t = 256, value_parser = value_parser!(u64).range(1..=4096))]
    hidden: u64,
    /// Places of the text that are read side by side
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u64).range(1..=4096))]
    batch: u64,
    /// Characters to a step of training, after which the state goes on without its history
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u64).range(1..=4096))]
    chunk: u64,
    /// Where to compute: cpu, cuda, cuda:N or best
    #[arg(long, default_value = "best")]
    device: Device,
    /// Seed of the weights and of what it writes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A text in UTF-8 [default: data/shakespeare/shakespeare_tragedies.txt]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Folder for checkpoints and TensorBoard
    #[arg(long, value_name = "FOLDER")]
    run: Option<PathBuf>,
    /// How many characters it writes in the end
    #[arg(long, default_value_t = 400)]
    write: usize,
    /// What it begins with
    #[arg(long, default_value = "HAMLET.\n")]
    prompt: String,
    /// Below 1 it writes what is likelier, above what is less likely
    #[arg(long, default_value_t = 0.8)]
    temperature: f64,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Cell {
    Lstm,
    Gru,
}

enum Recurrent {
    Lstm(Lstm),
    Gru(Gru),
}

struct Model {
    embedding: Embedding,
    rnn: Recurrent,
    out: Linear,
}

/// h, and c of an LSTM, without their history.
type Carried = Vec<Tensor>;

impl Model {
    /// Characters `(T, B)` and a state → scores `(T·B, characters)` and the state after them.
    fn forward(&self, tape: &Tape, x: &Tensor, carried: &Carried) -> Result<(Var, Carried)> {
        let (x, state): (_, Vec<Var>) =
            (self.embedding.forward(tape, x)?, carried.iter().map(|part| tape.constant(part.clone())).collect());
        let (y, last) = match &self.rnn {
            Recurrent::Lstm(lstm) => {
                let state = match state.as_slice() {
                    [h, c] => Some(LstmState::new(h.clone(), c.clone())),
                    _ => None,
                };
                let (y, last) = lstm.forward(&x, state.as_ref())?;
                (y, vec![last.h.into_tensor(), last.c.into_tensor()])
            }
            Recurrent::Gru(gru) => {
                let (y, h) = gru.forward(&x, state.first())?;
                (y, vec![h.into_tensor()])
            }
        };
        let scores = self.out.forward(&y)?;
        let classes = scores.dims()[2] as isize;
        Ok((scores.reshape([-1, classes])?, last))
    }
}

impl Module for Model {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        let rnn: &dyn Module = match &self.rnn {
            Recurrent::Lstm(lstm) => lstm,
            Recurrent::Gru(gru) => gru,
        };
        vec![("embedding", &self.embedding), ("rnn", rnn), ("out", &self.out)]
    }
}

/// A text cut into places that are read side by side, so many characters at a time.
struct Chunks<'a> {
    text: &'a [i64],
    batch: usize,
    chunk: usize,
}

impl Chunks<'_> {
    fn len(&self) -> usize {
        (self.text.len() / self.batch).saturating_sub(1) / self.chunk
    }

    /// The characters `(T, B)` of a chunk, and for each the one after it `(T·B)`.
    fn get(&self, number: usize, device: &Device) -> Result<(Tensor, Tensor)> {
        let each = self.text.len() / self.batch;
        let take = |after: usize| -> Vec<i64> {
            let steps = number * self.chunk + after..(number + 1) * self.chunk + after;
            steps.flat_map(|t| (0..self.batch).map(move |b| self.text[b * each + t])).collect()
        };
        let next = take(1);
        Ok((Tensor::from_slice(&take(0), [self.chunk, self.batch], device)?, Tensor::new(next, device)?))
    }
}

fn main() -> ExitCode {
    common::exit("charlm", run(&Settings::parse()))
}

fn run(settings: &Settings) -> Result<()> {
    let device = &settings.device;
    device.check("--device")?;
    let path = common::data(settings.data.as_deref(), "shakespeare/shakespeare_tragedies.txt");
    let text = fs::read_to_string(&path).map_err(|e| Error::file("charlm", &path, e))?;
    let letters: Vocabulary = characters(&text).collect();
    let numbers = letters.encode(characters(&text))?;
    let (train, held_out) = numbers.split_at(numbers.len() / 10 * 9);
    let train = Chunks { text: train, batch: settings.batch as usize, chunk: settings.chunk as usize };
    let held_out = Chunks { text: held_out, batch: 16, chunk: 128 };
    if train.len() == 0 || held_out.len() == 0 {
        return Err(Error::file("charlm", path, format!("{} characters, too few", numbers.len())));
    }
    println!("{} characters, {} different ones", numbers.len(), letters.len());

    let (hidden, mut rng) = (settings.hidden as usize, Philox::seed(settings.seed));
    let model = Model {
        embedding: Embedding::new(letters.len(), 64).init(device, &mut rng)?,
        rnn: match settings.cell {
            Cell::Lstm => Recurrent::Lstm(Lstm::new(64, hidden).num_layers(2).init(device, &mut rng)?),
            Cell::Gru => Recurrent::Gru(Gru::new(64, hidden).num_layers(2).init(device, &mut rng)?),
        },
        out: Linear::new(hidden, letters.len()).init(device, &mut rng)?,
    };
    println!("{}\n{} parameters on {device}", model.repr(), model.num_parameters());
    let mut optimizer = Adam::new(3e-3).over([&model])?;
    let steps = settings.epochs.saturating_mul(train.len() as u64);
    let mut schedule = CosineAnnealingLr::new(steps).eta_min(3e-4).over(&mut optimizer)?;

    let (mut epoch, mut batch, mut carried) = (0, 0, Carried::new());
    let checkpoints = settings.run.as_ref().map(|run| Checkpoints::new(run.join("checkpoints"))).transpose()?;
    let mut events = settings.run.as_ref().map(EventWriter::new).transpose()?;
    if let Some(latest) = checkpoints.as_ref().map(Checkpoints::latest).transpose()?.flatten() {
        let checkpoint = latest.checkpoint;
        checkpoint.restore(&model, &mut optimizer)?;
        schedule.load_state(checkpoint.state("schedule")?, &mut optimizer)?;
        let state = checkpoint.state("carried")?;
        carried = state.tensors.values().map(|part| part.to_device(device)).collect::<Result<_>>()?;
        (rng, epoch, batch) = (checkpoint.rng, checkpoint.epoch, checkpoint.batch);
        println!("goes on from {}", latest.path.display());
    }
    let began = Instant::now();
    while epoch < settings.epochs {
        let bar = Progress::new(format!("epoch {}/{}", epoch + 1, settings.epochs), train.len()).resume(batch as usize);
        let mut mean = Mean::new();
        while (batch as usize) < train.len() {
            let (x, next) = train.get(batch as usize, device)?;
            let (scores, last) = model.forward(&Tape::new(), &x, &carried)?;
            let loss = scores.cross_entropy(&next)?;
            optimizer.zero_grad();
            loss.backward()?;
            clip_grad_norm(&model, 1.0, 2.0)?;
            optimizer.step()?;
            schedule.step(&mut optimizer)?;
            carried = last;
            batch += 1;
            mean.add(bits(loss.item()?), next.numel());
            bar.step(format!("{:.3} bits per character", mean.value()));
            if let Some(events) = &mut events {
                events.scalar("bits/train", bits(loss.item()?), epoch * train.len() as u64 + batch)?;
            }
            if let Some(checkpoints) = checkpoints.as_ref().filter(|_| batch % 50 == 0) {
                checkpoints.save(&checkpoint(&model, &optimizer, &rng, schedule.state(), &carried).at(epoch, batch))?;
            }
        }
        bar.finish();
        (epoch, batch, carried) = (epoch + 1, 0, Carried::new());
        let tested = test(&model, &held_out, device)?;
        if let Some(events) = &mut events {
            events.scalar("bits/held out", tested, epoch * train.len() as u64)?;
        }
        if let Some(checkpoints) = &checkpoints {
            checkpoints.save(&checkpoint(&model, &optimizer, &rng, schedule.state(), &carried).at(epoch, batch))?;
        }
        println!(
            "epoch {epoch}/{}  {:.4} bits per character  held out {tested:.4}  {:.0} s",
            settings.epochs,
            mean.value(),
            began.elapsed().as_secs_f64()
        );
    }
    let tested = test(&model, &held_out, device)?;
    println!("\n{}\n", write(&model, &letters, settings, &mut rng)?);
    println!("trained in {:.0} s\nheld-out bits per character {tested:.4}", began.elapsed().as_secs_f64());
    Ok(())
}

fn checkpoint(
    model: &Model,
    optimizer: &dyn gatefold::optim::Optim,
    rng: &Philox,
    schedule: State,
    carried: &Carried,
) -> Checkpoint {
    let mut state = State::new("carried");
    state.tensors.extend(carried.iter().enumerate().map(|(i, part)| (i.to_string(), part.clone())));
    Checkpoint::new(model, optimizer, rng).with_state("schedule", schedule).with_state("carried", state)
}

/// Nats as bits.
fn bits(nats: f64) -> f64 {
    nats / std::f64::consts::LN_2
}

/// Bits per character of a text that was not trained on.
fn test(model: &Model, text: &Chunks<'_>, device: &Device) -> Result<f64> {
    let (mut mean, mut carried) = (Mean::new(), Carried::new());
    for number in 0..text.len() {
        let (x, next) = text.get(number, device)?;
        let (scores, last) = model.forward(&Tape::no_grad(), &x, &carried)?;
        mean.add(bits(scores.cross_entropy(&next)?.item()?), next.numel());
        carried = last;
    }
    Ok(mean.value())
}

/// The prompt, and what the model writes after it.
fn write(model: &Model, letters: &Vocabulary, settings: &Settings, rng: &mut Philox) -> Result<String> {
    let mut text = settings.prompt.clone();
    let mut read = letters.encode(characters(&text))?;
    let mut carried = Carried::new();
    for _ in 0..settings.write {
        let x = Tensor::from_slice(&read, [read.len(), 1], &settings.device)?;
        let (scores, last) = model.forward(&Tape::no_grad(), &x, &carried)?;
        carried = last;
        let weights = scores.select(0, -1)?.div_scalar(settings.temperature.max(1e-3))?.softmax(-1)?;
        let weights = weights.tensor().to_vec::<f32>()?;
        let mut left = rng.uniform();
        let chosen = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        read = vec![chosen.unwrap_or(0) as i64];
        text.push_str(letters.word(read[0]).unwrap_or_default());
    }
    Ok(text)
}
