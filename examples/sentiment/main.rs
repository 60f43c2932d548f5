//! Is a review good or bad? Word vectors, a bidirectional LSTM of two layers, the last hidden state of both directions.
//!
//! `cargo run --release --example sentiment` trains it; `-- --save FILE`, then `-- --load FILE --predict "a sentence"`.
//! `-- --help` lists the settings.

use std::{path::PathBuf, process::ExitCode, time::Instant};

use clap::{Parser, value_parser};
use gatefold::{
    Device, Error, Philox, Result, Tape,
    data::{Batches, Vocabulary, WordVectors, pad, tokenize},
    loss::BceWithLogitsLoss,
    nn::Module,
    optim::{Adam, Mode, clip_grad_norm},
    train::{EarlyStopping, EventWriter, Mean, Progress, Watch},
};

#[path = "../common/mod.rs"]
mod common;
mod model;
mod reviews;

use model::{Classifier, accuracy, load, no_words, save, taken_right};

/// Learn whether reviews are good or bad.
#[derive(Parser)]
#[command(name = "sentiment")]
struct Settings {
    /// An aclImdb folder (train/pos/*.txt and so on), or a table with tabs between columns: `text`, and `label` (pos or 1, neg or 0) or
    /// `mean_sentiment` (good above 0.2, bad below -0.2) [default: data/movie-snippets/vader_movie_snippets.tsv]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Word vectors of GloVe or word2vec, text or binary [default: data/glove/glove.6B.50d.movie4600.txt]
    #[arg(long)]
    vectors: Option<PathBuf>,
    /// Times through the training texts, at most: it stops after 3 without a better validation accuracy
    #[arg(long, default_value_t = 8, value_parser = value_parser!(u64).range(1..))]
    epochs: u64,
    /// Units of each layer and direction
    #[arg(long, default_value_t = 256, value_parser = value_parser!(u64).range(1..=4096))]
    hidden: u64,
    /// Texts to a batch
    #[arg(long, default_value_t = 30, value_parser = value_parser!(u64).range(1..))]
    batch: u64,
    /// Where to compute: cpu, cuda, cuda:N or best
    #[arg(long, default_value = "best")]
    device: Device,
    /// Seed of the weights and of the order of the texts (not of the split)
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write the trained model and its words
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Use this model instead of training one
    #[arg(long, value_name = "FILE", requires = "predict")]
    load: Option<PathBuf>,
    /// Folder for TensorBoard: loss and accuracy, and how parameters and gradients are distributed
    #[arg(long, value_name = "FOLDER", conflicts_with = "load")]
    log: Option<PathBuf>,
    /// Say what the model takes a sentence for
    #[arg(long, value_name = "SENTENCE")]
    predict: Option<String>,
}

fn main() -> ExitCode {
    common::exit("sentiment", run(&Settings::parse()))
}

fn run(settings: &Settings) -> Result<()> {
    settings.device.check("--device")?;
    // Before the training: what is asked for behind it.
    if let Some(file) = &settings.save {
        common::writable("--save", file)?;
    }
    if settings.predict.as_ref().is_some_and(|sentence| tokenize(sentence).is_empty()) {
        return Err(Error::argument("--predict", "no words", "a sentence"));
    }
    let (model, words) = match &settings.load {
        Some(file) => load(file, &settings.device)?,
        None => train(settings)?,
    };
    if let Some(sentence) = &settings.predict {
        model.eval();
        let numbers = words.encode(tokenize(sentence))?;
        let (x, lengths) = pad(&[numbers], true, 0, &settings.device)?;
        let good = model.forward(&Tape::no_grad(), &x, &lengths)?.sigmoid()?.item()?;
        println!("{sentence}\n  {}  {good:.3}", if good > 0.5 { "good" } else { "bad" });
    }
    Ok(())
}

fn train(settings: &Settings) -> Result<(Classifier, Vocabulary)> {
    let (device, mut rng) = (&settings.device, Philox::seed(settings.seed));
    let [training, validation, testing] = match &settings.data {
        Some(folder) if folder.is_dir() => reviews::imdb(folder)?,
        file => reviews::table(&common::data(file.as_deref(), "movie-snippets/vader_movie_snippets.tsv"))?,
    };
    println!("{} texts to train on, {} to validate, {} to test", training.len(), validation.len(), testing.len());
    let mut words = no_words();
    words.extend(training.iter().flat_map(|review| &review.words));
    let words = words.min_frequency(2).most_frequent(10_000);
    let path = common::data(settings.vectors.as_deref(), "glove/glove.6B.50d.movie4600.txt");
    let vectors = WordVectors::read_for(path, &words)?;
    let (table, found) = vectors.table(&words, device, &mut rng)?;
    println!("{} words, {found} of them with vectors of {}", words.len(), vectors.dim());
    let model = Classifier::new(table, settings.hidden as usize, device, &mut rng)?;
    println!("{}\n{} parameters on {device}", model.repr(), model.num_parameters());

    let [training, validation, testing] = [training, validation, testing].map(|all| reviews::numbers(all, &words));
    let (training, validation, testing) = (training?, validation?, testing?);
    let mut optimizer = Adam::new(1e-3).over([&model])?;
    let (mut stopping, mut best) = (EarlyStopping::new(Mode::Max, 3)?, (model.state_dict(), 0.0));
    println!("before        test {:.4}", accuracy(&model, &testing, device)?);
    let mut events = settings.log.as_ref().map(EventWriter::new).transpose()?;
    let (watch, mut step) = (Watch::new(&model, 100)?, 0);
    let began = Instant::now();
    for epoch in 1..=settings.epochs {
        let lengths: Vec<usize> = training.iter().map(|(words, _)| words.len()).collect();
        let batches = Batches::by_length(lengths, settings.batch as usize)?.shuffle(&mut rng.fork(epoch));
        let bar = Progress::new(format!("epoch {epoch}/{}", settings.epochs), batches.len());
        let (mut mean, mut right) = (Mean::new(), Mean::new());
        model.train();
        for batch in batches {
            let (x, lengths, targets) = reviews::batch(&training, &batch, device)?;
            let scores = model.forward(&Tape::new(), &x, &lengths)?;
            let loss = BceWithLogitsLoss::new().forward(&scores, &targets)?;
            optimizer.zero_grad();
            loss.backward()?;
            clip_grad_norm(&model, 5.0, 2.0)?;
            optimizer.step()?;
            let (loss, part) = (loss.item()?, taken_right(scores.tensor(), &targets)?);
            mean.add(loss, batch.len());
            right.add(part, batch.len());
            bar.step(format!("loss {:.4}  accuracy {:.4}", mean.value(), right.value()));
            if let Some(events) = &mut events {
                if step % 10 == 0 {
                    events.scalar("loss/train", mean.value(), step)?;
                    events.scalar("accuracy/train", right.value(), step)?;
                }
                watch.log(events, step)?;
            }
            step += 1;
        }
        bar.finish();
        let (valid, test) = (accuracy(&model, &validation, device)?, accuracy(&model, &testing, device)?);
        let (epochs, loss, spent) = (settings.epochs, mean.value(), began.elapsed().as_secs_f64());
        let right = right.value();
        println!(
            "epoch {epoch:2}/{epochs}  loss {loss:.4}  training {right:.4}  validation {valid:.4}  test {test:.4}  {spent:.0} s"
        );
        if let Some(events) = &mut events {
            events.scalar("accuracy/validation", valid, step)?;
        }
        let stop = stopping.step(valid);
        if stopping.improved() {
            best = (model.state_dict(), test);
        }
        if stop {
            break;
        }
    }
    events.map_or(Ok(()), EventWriter::finish)?;
    model.load_state_dict(&best.0)?;
    if let Some(file) = &settings.save {
        save(&model, &words, file)?;
        println!("saved {}", file.display());
    }
    println!("test accuracy {:.4} (of the epoch with the best validation accuracy)", best.1);
    Ok((model, words))
}
