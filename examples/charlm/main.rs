//! A language model of characters: it reads Shakespeare's plays and goes on writing.
//!
//! `cargo run --release --example charlm`; with `-- --run FOLDER` it keeps checkpoints, and goes on from the last one when it is
//! started again. `-- --help` lists the settings.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::{Parser, value_parser};
use gatefold::{
    Device, Error, Philox, Result, Tape, Tensor,
    data::{Chunks, Vocabulary, characters},
    nn::Module,
    optim::{Adam, CosineAnnealingLr, Optim, State, clip_grad_norm},
    train::{Checkpoint, Checkpoints, EventWriter, Mean, Progress},
};

#[path = "../common/mod.rs"]
mod common;
mod model;

use common::recurrent::Cell;
use model::{Model, bits, test, write};

/// Train a language model of characters, and let it write.
#[derive(Parser)]
#[command(name = "charlm")]
struct Settings {
    /// The recurrent network
    #[arg(long, value_enum, default_value_t = Cell::Lstm)]
    cell: Cell,
    /// Times through the first nine tenths of the text
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u64).range(1..))]
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

fn main() -> ExitCode {
    common::exit("charlm", run(&Settings::parse()))
}

fn run(settings: &Settings) -> Result<()> {
    let device = &settings.device;
    device.check("--device")?;
    let path = common::data(settings.data.as_deref(), "shakespeare/shakespeare_tragedies.txt");
    let text = common::text("charlm", &path)?;
    let letters: Vocabulary = characters(&text).collect();
    let numbers = letters.encode(characters(&text))?;
    let (train, held_out) = numbers.split_at(numbers.len() / 10 * 9);
    let train = Chunks::new(train.to_vec(), settings.batch as usize, settings.chunk as usize)?;
    let held_out = Chunks::new(held_out.to_vec(), 16, 128)?;
    if train.is_empty() || held_out.is_empty() {
        return Err(Error::file("charlm", path, format!("{} characters, too few", numbers.len())));
    }
    // Before the training: what it writes in the end begins with these.
    if !letters.encode(characters(&settings.prompt)).is_ok_and(|prompt| !prompt.is_empty()) {
        return Err(Error::argument("--prompt", format!("{:?}", settings.prompt), "characters of the text"));
    }
    println!("{} characters, {} different ones", numbers.len(), letters.len());

    let (hidden, mut rng) = (settings.hidden as usize, Philox::seed(settings.seed));
    let model = Model::new(settings.cell, letters.len(), hidden, device, &mut rng)?;
    println!("{}\n{} parameters on {device}", model.repr(), model.num_parameters());
    let mut optimizer = Adam::new(3e-3).over([&model])?;
    let steps = settings.epochs.saturating_mul(train.len() as u64);
    let mut schedule = CosineAnnealingLr::new(steps).eta_min(3e-4).over(&mut optimizer)?;

    // Where training stands: all that a checkpoint holds beside model, optimizer and schedule.
    let (mut epoch, mut batch, mut state, mut mean) = (0, 0, Vec::new(), Mean::new());
    let checkpoints = settings.run.as_ref().map(|run| Checkpoints::new(run.join("checkpoints"))).transpose()?;
    if let Some(run) = &settings.run {
        same_letters(&letters, &run.join("letters.jsonl"))?;
    }
    let mut events = settings.run.as_ref().map(EventWriter::new).transpose()?;
    if let Some(latest) = checkpoints.as_ref().map(Checkpoints::latest).transpose()?.flatten() {
        let checkpoint = latest.checkpoint;
        checkpoint.restore(&model, &mut optimizer)?;
        schedule.load_state(checkpoint.state("schedule")?, &mut optimizer)?;
        let carried = checkpoint.state("carried")?.tensors.values();
        state = carried.map(|part| part.to_device(device)).collect::<Result<_>>()?;
        mean = Mean::from_state((checkpoint.number("sum")?, checkpoint.number("count")? as u64));
        (rng, epoch, batch) = (checkpoint.rng, checkpoint.epoch, checkpoint.batch);
        println!("goes on from {}", latest.path.display());
    }
    let (began, chunks) = (Instant::now(), train.len() as u64);
    while epoch < settings.epochs {
        let bar = Progress::new(format!("epoch {}/{}", epoch + 1, settings.epochs), train.len()).resume(batch as usize);
        while batch < chunks {
            let (x, next) = train.get(batch as usize, device)?;
            let (scores, last) = model.forward(&Tape::new(), &x, &state)?;
            let loss = scores.cross_entropy(&next)?;
            optimizer.zero_grad();
            loss.backward()?;
            clip_grad_norm(&model, 1.0, 2.0)?;
            optimizer.step()?;
            schedule.step(&mut optimizer)?;
            (batch, state) = (batch + 1, last);
            let loss = bits(loss.item()?);
            mean.add(loss, next.numel());
            bar.step(format!("{:.3} bits per character", mean.value()));
            if let Some(events) = &mut events {
                events.scalar("bits/train", loss, epoch * chunks + batch)?;
            }
            if let Some(checkpoints) = checkpoints.as_ref().filter(|_| batch % 50 == 0) {
                let now = checkpoint(&model, &optimizer, &rng, schedule.state(), &state, mean);
                checkpoints.save(&now.at(epoch, batch))?;
            }
        }
        bar.finish();
        let trained = std::mem::take(&mut mean).value();
        (epoch, batch, state) = (epoch + 1, 0, Vec::new());
        let tested = test(&model, &held_out, device)?;
        if let Some(events) = &mut events {
            events.scalar("bits/held out", tested, epoch * chunks)?;
        }
        if let Some(checkpoints) = &checkpoints {
            let now = checkpoint(&model, &optimizer, &rng, schedule.state(), &state, mean);
            checkpoints.save(&now.at(epoch, batch))?;
        }
        let (epochs, spent) = (settings.epochs, began.elapsed().as_secs_f64());
        println!("epoch {epoch}/{epochs}  {trained:.4} bits per character  held out {tested:.4}  {spent:.0} s");
    }
    let tested = test(&model, &held_out, device)?;
    println!("\n{}\n", write(&model, &letters, settings, &mut rng)?);
    println!("trained in {:.0} s\nheld-out bits per character {tested:.4}", began.elapsed().as_secs_f64());
    Ok(())
}

/// A model knows its characters by their numbers: a run goes on with those that it began with, or not at all.
fn same_letters(letters: &Vocabulary, path: &Path) -> Result<()> {
    if !path.exists() {
        return letters.save(path);
    }
    let before = Vocabulary::load(path)?;
    if before.words().eq(letters.words()) {
        return Ok(());
    }
    let reason =
        format!("the run's {} characters are not the text's {}, or not in its order", before.len(), letters.len());
    Err(Error::file("--run", path, reason))
}

fn checkpoint(
    model: &Model,
    optimizer: &dyn Optim,
    rng: &Philox,
    schedule: State,
    carried: &[Tensor],
    mean: Mean,
) -> Checkpoint {
    let mut state = State::new("carried");
    state.tensors.extend(carried.iter().enumerate().map(|(i, part)| (i.to_string(), part.clone())));
    let (sum, count) = mean.state();
    Checkpoint::new(model, optimizer, rng)
        .with_state("schedule", schedule)
        .with_state("carried", state)
        .with_number("sum", sum)
        .with_number("count", count as f64)
}
