//! A part-of-speech tagger: embedding, LSTM, linear map, log-softmax.
//!
//! `cargo run --release --example tagger` learns two sentences by heart, with `-- --chinese FILE.txt` those of a Chinese text, which
//! jieba cuts and tags. With `-- --data data/hkcancor` (or any file of word TAB tag lines with blank lines between sentences, a .conllu
//! file, or a folder of these) it trains a bidirectional one and tests it on other sentences; `--chars` has it read how words are
//! spelt. `-- --help` lists the settings.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, value_parser};
use gatefold::{
    Device, Error, Philox, Result, Tape, Tensor, Var,
    data::{TaggedSentence, Vocabulary},
    nn::{Embedding, Linear, Lstm},
    optim::Sgd,
};
use jieba_rs::Jieba;

#[path = "../common/mod.rs"]
mod common;
mod corpus;
mod model;

/// Train a part-of-speech tagger.
#[derive(Parser)]
#[command(name = "tagger")]
struct Settings {
    /// Tagged sentences: data/hkcancor, a file of word TAB tag lines, a .conllu file, or a folder with *train.conllu and
    /// *dev.conllu; without it, the two sentences of the notes
    #[arg(long)]
    data: Option<PathBuf>,
    /// The sentences to test with, as --data [default: the folder's *dev.conllu, or a tenth of --data]
    #[arg(long, value_name = "FILE", requires = "data")]
    dev: Option<PathBuf>,
    /// Cut and tag the sentences of this Chinese text, and learn them by heart
    #[arg(long, value_name = "FILE.txt", conflicts_with = "data")]
    chinese: Option<PathBuf>,
    /// Beside each word's embedding, what a bidirectional LSTM makes of its characters
    #[arg(long, requires = "data")]
    chars: bool,
    /// Words that come less often in the training sentences are unknown
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u64).range(1..))]
    min_frequency: u64,
    /// Times through the training sentences [default: 6 of --data, 300 of those learned by heart]
    #[arg(long, value_parser = value_parser!(u64).range(1..))]
    epochs: Option<u64>,
    /// Numbers to a word where sentences are learned by heart [default: 6, of a Chinese text 10]
    #[arg(long, conflicts_with = "data", value_parser = value_parser!(u64).range(1..=4096))]
    embedding: Option<u64>,
    /// Units of the LSTM there [default: as many]
    #[arg(long, conflicts_with = "data", value_parser = value_parser!(u64).range(1..=4096))]
    hidden: Option<u64>,
    /// Learning rate there
    #[arg(long, conflicts_with = "data", default_value_t = 0.1)]
    lr: f64,
    /// Where to compute: cpu, cuda, cuda:N or best
    #[arg(long, default_value = "best")]
    device: Device,
    /// Seed of the weights and of the order of the sentences (not of the split)
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    common::exit("tagger", run(&Settings::parse()))
}

fn run(settings: &Settings) -> Result<()> {
    settings.device.check("--device")?;
    match (&settings.data, &settings.chinese) {
        (Some(data), _) => corpus::train(data, settings),
        (None, Some(text)) => by_heart(&cut(text)?, 10, settings),
        (None, None) => {
            let sentence = |text: &str, tags: &str| {
                let [words, tags] = [text, tags].map(|s| s.split(' ').map(str::to_string).collect());
                TaggedSentence { words, tags }
            };
            let two = [
                sentence("The dog ate the apple", "DET NN V DET NN"),
                sentence("Everybody read that book", "NN V DET NN"),
            ];
            by_heart(&two, 6, settings)
        }
    }
}

/// A Chinese text as tagged sentences, which end with 。！？ or a line.
fn cut(path: &PathBuf) -> Result<Vec<TaggedSentence>> {
    let text = common::text("--chinese", path)?;
    let jieba = Jieba::new();
    let mut sentences = Vec::new();
    for text in text.lines().flat_map(|line| line.split_inclusive(['。', '！', '？'])) {
        let tagged = jieba.tag(text, true);
        let (words, tags): (Vec<_>, Vec<_>) = tagged
            .iter()
            .filter(|token| !token.word.trim().is_empty())
            .map(|token| (token.word.to_string(), token.tag.to_string()))
            .unzip();
        if !words.is_empty() {
            sentences.push(TaggedSentence { words, tags });
        }
    }
    if sentences.is_empty() { Err(Error::file("--chinese", path, "no sentences")) } else { Ok(sentences) }
}

/// The notes' own: a small network, SGD of one sentence at a time.
fn by_heart(sentences: &[TaggedSentence], size: usize, settings: &Settings) -> Result<()> {
    let words: Vocabulary = sentences.iter().flat_map(|s| &s.words).collect();
    let tags: Vocabulary = sentences.iter().flat_map(|s| &s.tags).collect();
    let (device, epochs) = (&settings.device, settings.epochs.unwrap_or(300));
    println!("{} sentences, {} words, {} tags", sentences.len(), words.len(), tags.len());

    let mut rng = Philox::seed(settings.seed);
    let width = settings.embedding.map_or(size, |width| width as usize);
    let hidden = settings.hidden.map_or(width, |hidden| hidden as usize);
    let embedding = Embedding::new(words.len(), width).init(device, &mut rng)?;
    let lstm = Lstm::new(width, hidden).init(device, &mut rng)?;
    let score = Linear::new(hidden, tags.len()).init(device, &mut rng)?;
    let mut optimizer = Sgd::new(settings.lr).over([&embedding, &lstm, &score])?;
    let forward = |tape: &Tape, sentence: &TaggedSentence| -> Result<Var> {
        let numbers = Tensor::new(words.encode(&sentence.words)?, device)?;
        let (states, _last) = lstm.forward(&embedding.forward(tape, &numbers)?, None)?;
        score.forward(&states)?.log_softmax(-1)
    };

    println!("{embedding}\n{lstm}\n{score}\n\nbefore {:?}", forward(&Tape::no_grad(), &sentences[0])?.tensor());
    for epoch in 1..=epochs {
        let mut sum = 0.0;
        for sentence in sentences {
            let answer = Tensor::new(tags.encode(&sentence.tags)?, device)?;
            let loss = forward(&Tape::new(), sentence)?.nll_loss(&answer)?;
            optimizer.zero_grad();
            loss.backward()?;
            optimizer.step()?;
            sum += loss.item()?;
        }
        if epoch % 30 == 0 || epoch == epochs {
            println!("epoch {epoch:3}/{epochs}  loss {:.4}", sum / sentences.len() as f64);
        }
    }
    println!("after {:?}\n", forward(&Tape::no_grad(), &sentences[0])?.tensor());
    let (mut right, mut total) = (0, 0);
    for sentence in sentences {
        let guesses = forward(&Tape::no_grad(), sentence)?.argmax(-1)?.to_vec::<i64>()?;
        let guesses = tags.decode(&guesses)?;
        let verdict = if guesses == sentence.tags { "right" } else { "wrong" };
        println!("{}\n  {}  {verdict}", sentence.words.join(" "), guesses.join(" "));
        right += guesses.iter().zip(&sentence.tags).filter(|(guess, tag)| guess == tag).count();
        total += guesses.len();
    }
    println!("\ntraining accuracy {:.4}", right as f64 / total as f64);
    Ok(())
}
