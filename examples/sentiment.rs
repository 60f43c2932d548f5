//! Is a review good or bad? Word vectors, a bidirectional LSTM of two layers, the last hidden state of both directions.
//!
//! `cargo run --release --example sentiment` trains it; `-- --save FILE`, then `-- --load FILE --predict "a sentence"`.
//! `-- --help` lists the settings.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::{Parser, value_parser};
use gatefold::{
    Device, Error, Philox, Result, Tape, Tensor, Var,
    data::{Batches, Table, Vocabulary, WordVectors, pad, tokenize},
    loss::BceWithLogitsLoss,
    nn::{Dropout, Embedding, Linear, Lstm, Module, StateDict},
    optim::{Adam, Mode, clip_grad_norm},
    train::{EarlyStopping, Mean, Progress},
};

mod common;

/// Learn whether reviews are good or bad.
#[derive(Parser)]
#[command(name = "sentiment")]
struct Settings {
    /// An aclImdb folder (train/pos/*.txt and so on), or a table with tabs between columns `label` (pos or 1, neg or 0) and `text`
    /// [default: data/movie-snippets]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Word vectors of GloVe or word2vec, text or binary [default: data/glove]
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
    /// Where to write the trained model, and beside it its vocabulary
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Use this model instead of training one
    #[arg(long, value_name = "FILE", requires = "predict")]
    load: Option<PathBuf>,
    /// Say what the model takes a sentence for
    #[arg(long, value_name = "SENTENCE")]
    predict: Option<String>,
}

const PADDING: &str = "<padding>";

struct Classifier {
    embedding: Embedding,
    lstm: Lstm,
    dropout: Dropout,
    out: Linear,
}

impl Classifier {
    fn new(table: Tensor, hidden: usize, device: &Device, rng: &mut Philox) -> Result<Self> {
        let lstm = Lstm::new(table.dims()[1], hidden).num_layers(2).bidirectional(true).dropout(0.5).batch_first(true);
        Ok(Classifier {
            embedding: Embedding::from_pretrained(table, false)?.with_padding_idx(0)?,
            lstm: lstm.init(device, rng)?,
            dropout: Dropout::new(0.5).init(device, rng)?,
            out: Linear::new(2 * hidden, 1).init(device, rng)?,
        })
    }

    /// Words `(B, T)` → scores `(B)`: above 0 for good.
    fn forward(&self, tape: &Tape, words: &Tensor, lengths: &[usize]) -> Result<Var> {
        let x = self.dropout.forward(&self.embedding.forward(tape, words)?)?;
        let (_, last) = self.lstm.forward_lengths(&x, lengths, None)?;
        let both = Var::concat(&[&last.h.select(0, -2)?, &last.h.select(0, -1)?], 1)?;
        self.out.forward(&self.dropout.forward(&both)?)?.squeeze(1)
    }
}

impl Module for Classifier {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        vec![("embedding", &self.embedding), ("lstm", &self.lstm), ("dropout", &self.dropout), ("out", &self.out)]
    }
}

fn main() -> ExitCode {
    common::exit("sentiment", run(&Settings::parse()))
}

fn run(settings: &Settings) -> Result<()> {
    settings.device.check("--device")?;
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
        Some(folder) if folder.is_dir() => imdb(folder)?,
        file => snippets(file.as_deref())?,
    };
    println!("{} texts to train on, {} to validate, {} to test", training.len(), validation.len(), testing.len());
    let vectors = WordVectors::read(common::data(settings.vectors.as_deref(), "glove/glove.6B.50d.movie4600.txt"))?;
    let mut words = Vocabulary::new().special(PADDING).unknown("<unknown>");
    words.extend(training.iter().flat_map(|text| &text.words));
    let words = words.min_frequency(2).most_frequent(10_000);
    let (table, found) = vectors.table(&words, device, &mut rng)?;
    println!("{} words, {found} of them with vectors of {}", words.len(), vectors.dim());
    let model = Classifier::new(table, settings.hidden as usize, device, &mut rng)?;
    println!("{}\n{} parameters on {device}", model.repr(), model.num_parameters());

    let [training, validation, testing] = [training, validation, testing].map(|texts| numbers(texts, &words));
    let (training, validation, testing) = (training?, validation?, testing?);
    let mut optimizer = Adam::new(1e-3).over([&model])?;
    let (mut stopping, mut best) = (EarlyStopping::new(Mode::Max, 3)?, (model.state_dict(), 0.0));
    println!("before        test {:.4}", accuracy(&model, &testing, device)?);
    let began = Instant::now();
    for epoch in 1..=settings.epochs {
        let lengths: Vec<usize> = training.iter().map(|(words, _)| words.len()).collect();
        let batches = Batches::by_length(lengths, settings.batch as usize)?.shuffle(&mut rng.fork(epoch));
        let (mut mean, bar) = (Mean::new(), Progress::new(format!("epoch {epoch}/{}", settings.epochs), batches.len()));
        model.train();
        for batch in batches {
            let (x, lengths, targets) = texts(&training, &batch, device)?;
            let loss = BceWithLogitsLoss::new().forward(&model.forward(&Tape::new(), &x, &lengths)?, &targets)?;
            optimizer.zero_grad();
            loss.backward()?;
            clip_grad_norm(&model, 5.0, 2.0)?;
            optimizer.step()?;
            mean.add(loss.item()?, batch.len());
            bar.step(format!("loss {:.4}", mean.value()));
        }
        bar.finish();
        let (valid, test) = (accuracy(&model, &validation, device)?, accuracy(&model, &testing, device)?);
        println!(
            "epoch {epoch:2}/{}  loss {:.4}  validation {valid:.4}  test {test:.4}  {:.0} s",
            settings.epochs,
            mean.value(),
            began.elapsed().as_secs_f64()
        );
        let stop = stopping.step(valid);
        if stopping.improved() {
            best = (model.state_dict(), test);
        }
        if stop {
            break;
        }
    }
    model.load_state_dict(&best.0)?;
    if let Some(file) = &settings.save {
        model.save(file)?;
        words.save(beside(file))?;
        println!("saved {} and {}", file.display(), beside(file).display());
    }
    println!("test accuracy {:.4} (of the epoch with the best validation accuracy)", best.1);
    Ok((model, words))
}

fn beside(file: &Path) -> PathBuf {
    file.with_extension("words.jsonl")
}

/// A model as it was saved; its sizes are those of its parameters.
fn load(file: &Path, device: &Device) -> Result<(Classifier, Vocabulary)> {
    let (state, words) = (StateDict::load(file)?, Vocabulary::load(beside(file))?);
    let dims = |name: &str| {
        let dims = state.get(name).map(|tensor| tensor.dims().to_vec()).filter(|dims| dims.len() == 2);
        dims.ok_or_else(|| Error::file("sentiment", file, format!("no matrix {name}: not a model of this program")))
    };
    let (table, hidden) = (dims("embedding.weight")?, dims("lstm.weight_hh_l0")?[1]);
    if table[0] != words.len() {
        return Err(Error::file(
            "sentiment",
            beside(file),
            format!("{} words, want the model's {}", words.len(), table[0]),
        ));
    }
    let zeros = Tensor::zeros(table, gatefold::DType::F32, device)?;
    let model = Classifier::new(zeros, hidden, device, &mut Philox::seed(0))?;
    model.load_state_dict(&state)?;
    Ok((model, words))
}

struct Text {
    words: Vec<String>,
    good: bool,
}

type Numbered = (Vec<i64>, bool);

fn numbers(texts: Vec<Text>, words: &Vocabulary) -> Result<Vec<Numbered>> {
    texts.into_iter().map(|text| Ok((words.encode(text.words)?, text.good))).collect()
}

fn texts(all: &[Numbered], batch: &[usize], device: &Device) -> Result<(Tensor, Vec<usize>, Tensor)> {
    let (x, lengths) = pad(&batch.iter().map(|&i| &all[i].0).collect::<Vec<_>>(), true, 0, device)?;
    let targets: Vec<f32> = batch.iter().map(|&i| f32::from(all[i].1)).collect();
    Ok((x, lengths, Tensor::new(targets, device)?))
}

fn accuracy(model: &Classifier, all: &[Numbered], device: &Device) -> Result<f64> {
    model.eval();
    let mut mean = Mean::new();
    for batch in Batches::by_length(all.iter().map(|(words, _)| words.len()).collect::<Vec<_>>(), 64)? {
        let (x, lengths, targets) = texts(all, &batch, device)?;
        let scores = model.forward(&Tape::no_grad(), &x, &lengths)?.tensor().to_vec::<f32>()?;
        for (score, target) in scores.into_iter().zip(targets.to_vec::<f32>()?) {
            mean.add(f64::from(u8::from((score > 0.0) == (target > 0.5))), 1);
        }
    }
    Ok(mean.value())
}

/// A table of texts, in tenths: eight to train on, one to validate, one to test. Of the snippets those that are rated clearly.
fn snippets(file: Option<&Path>) -> Result<[Vec<Text>; 3]> {
    let path = common::data(file, "movie-snippets/vader_movie_snippets.tsv");
    let table = Table::tsv(&path)?;
    let mut goods: Vec<Option<bool>> = Vec::new();
    if file.is_none() {
        goods.extend(table.numbers("mean_sentiment")?.into_iter().map(|r| (r.abs() > 0.2).then_some(r > 0.0)));
    } else {
        for (row, label) in table.text("label")?.into_iter().enumerate() {
            let wrong =
                || Error::file("sentiment", &path, format!("row {}: label {label:?}, want pos, neg, 1 or 0", row + 1));
            goods.push(Some(good(label).ok_or_else(wrong)?));
        }
    }
    let labelled = table.text("text")?.into_iter().zip(goods);
    let all = labelled.filter_map(|(text, good)| Some(Text { words: tokenize(text), good: good? }));
    let mut all: Vec<Text> = all.filter(|text| !text.words.is_empty()).collect();
    if all.len() < 10 {
        return Err(Error::file("sentiment", path, format!("{} texts, want at least 10", all.len())));
    }
    Philox::seed(2014).shuffle(&mut all);
    let tenth = all.len() / 10;
    let testing = all.split_off(all.len() - tenth);
    let validation = all.split_off(all.len() - tenth);
    Ok([all, validation, testing])
}

fn good(label: &str) -> Option<bool> {
    match label {
        "pos" | "1" => Some(true),
        "neg" | "0" => Some(false),
        _ => None,
    }
}

/// The reviews of an aclImdb folder; a tenth of those to train on is to validate.
fn imdb(folder: &Path) -> Result<[Vec<Text>; 3]> {
    let fail = |path: &Path, e: std::io::Error| Error::file("sentiment", path, e);
    let read = |part: &str| -> Result<Vec<Text>> {
        let mut texts = Vec::new();
        for label in ["pos", "neg"] {
            let folder = folder.join(part).join(label);
            let entries =
                fs::read_dir(&folder).and_then(|all| all.map(|e| Ok(e?.path())).collect::<Result<Vec<_>, _>>());
            let mut paths = entries.map_err(|e| fail(&folder, e))?;
            paths.sort();
            for path in paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "txt")) {
                let words = tokenize(&fs::read_to_string(&path).map_err(|e| fail(&path, e))?);
                texts.extend((!words.is_empty()).then_some(Text { words, good: label == "pos" }));
            }
        }
        Philox::seed(2014).shuffle(&mut texts);
        if texts.len() < 10 {
            return Err(Error::file(
                "sentiment",
                folder.join(part),
                format!("{} texts, want at least 10", texts.len()),
            ));
        }
        Ok(texts)
    };
    let (mut training, testing) = (read("train")?, read("test")?);
    let validation = training.split_off(training.len() - training.len() / 10);
    Ok([training, validation, testing])
}
