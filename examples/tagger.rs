//! A part-of-speech tagger: embedding, LSTM, linear map, log-softmax.
//!
//! `cargo run --release --example tagger` learns two sentences by heart; with `-- --data data/hkcancor` (or any file of word TAB tag
//! lines with blank lines between sentences) it trains a bidirectional one and tests it on sentences held out.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::Parser;
use gatefold::{
    Device, Error, Philox, Result, Tape, Tensor, Var,
    data::{Batches, TaggedSentence, Vocabulary, pad, read_tagged},
    loss::CrossEntropyLoss,
    nn::{Dropout, Embedding, Linear, Lstm, Module},
    optim::{Adam, Sgd},
};

/// Train a part-of-speech tagger.
#[derive(Parser)]
#[command(name = "tagger")]
struct Settings {
    /// data/hkcancor, or a file of word TAB tag lines; without it, the two sentences of the notes
    #[arg(long)]
    data: Option<PathBuf>,
    /// Times through the training sentences of --data
    #[arg(long, default_value_t = 6)]
    epochs: usize,
    /// Seed of the weights and of the order of the sentences (not of the split)
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let settings = Settings::parse();
    let done = match &settings.data {
        None => two_sentences(&settings),
        Some(data) => corpus(data, &settings),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tagger: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The notes' own: nine words, three tags, 300 epochs of SGD.
fn two_sentences(settings: &Settings) -> Result<()> {
    let sentences = [("The dog ate the apple", "DET NN V DET NN"), ("Everybody read that book", "NN V DET NN")];
    let words: Vocabulary = sentences.iter().flat_map(|(words, _)| words.split(' ')).collect();
    let tags: Vocabulary = ["DET", "NN", "V"].into_iter().collect();
    let device = Device::best();
    let numbers = |text: &str, of: &Vocabulary| {
        Tensor::new(text.split(' ').filter_map(|word| of.index(word)).collect::<Vec<_>>(), &device)
    };

    let mut rng = Philox::seed(settings.seed);
    let embedding = Embedding::new(words.len(), 6).init(&device, &mut rng)?;
    let lstm = Lstm::new(6, 6).init(&device, &mut rng)?;
    let score = Linear::new(6, tags.len()).init(&device, &mut rng)?;
    let mut optimizer = Sgd::new(0.1).over([&embedding, &lstm, &score])?;
    let forward = |tape: &Tape, text: &str| -> Result<Var> {
        let (states, _last) = lstm.forward(&embedding.forward(tape, &numbers(text, &words)?)?, None)?;
        score.forward(&states)?.log_softmax(-1)
    };

    println!("{embedding}\n{lstm}\n{score}\n\nbefore {:?}", forward(&Tape::no_grad(), sentences[0].0)?.tensor());
    for _ in 0..300 {
        for (text, answer) in sentences {
            let loss = forward(&Tape::new(), text)?.nll_loss(&numbers(answer, &tags)?)?;
            optimizer.zero_grad();
            loss.backward()?;
            optimizer.step()?;
        }
    }
    println!("after {:?}\n", forward(&Tape::no_grad(), sentences[0].0)?.tensor());
    for (text, answer) in sentences {
        let guesses = forward(&Tape::no_grad(), text)?.argmax(-1)?.to_vec::<i64>()?;
        let guesses = guesses.into_iter().filter_map(|tag| tags.word(tag)).collect::<Vec<_>>().join(" ");
        println!("{text}\n  {guesses}  {}", if guesses == answer { "right" } else { "wrong" });
    }
    Ok(())
}

const PADDING: i64 = 0;
const UNKNOWN: i64 = 1;
const IGNORE: i64 = -100;

struct Tagger {
    embedding: Embedding,
    lstm: Lstm,
    dropout: Dropout,
    score: Linear,
}

impl Tagger {
    /// Words `(B, T)` → scores `(B·T, tags)`.
    fn forward(&self, tape: &Tape, words: &Tensor, lengths: &[usize]) -> Result<Var> {
        let x = self.dropout.forward(&self.embedding.forward(tape, words)?)?;
        let (states, _last) = self.lstm.forward_lengths(&x, lengths, None)?;
        let scores = self.score.forward(&self.dropout.forward(&states)?)?;
        let tags = scores.dims()[2] as isize;
        scores.reshape([-1, tags])
    }
}

impl Module for Tagger {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        vec![("embedding", &self.embedding), ("lstm", &self.lstm), ("dropout", &self.dropout), ("score", &self.score)]
    }
}

fn corpus(data: &Path, settings: &Settings) -> Result<()> {
    let hkcancor = data.join("hkcancor.tsv");
    let mut sentences = read_tagged(if data.is_dir() { &hkcancor } else { data })?;
    if data.is_dir() {
        // The corpus has 94 tags; their first letters are its parts of speech.
        sentences
            .iter_mut()
            .flat_map(|s| &mut s.tags)
            .for_each(|tag| tag.truncate(tag.chars().next().map_or(0, char::len_utf8)));
    }
    Philox::seed(2015).shuffle(&mut sentences);
    let (held_out, training) = sentences.split_at(sentences.len() / 10);
    if held_out.is_empty() {
        return Err(Error::file("tagger", data, format!("{} sentences, want at least 10", sentences.len())));
    }
    let tags: Vocabulary = sentences.iter().flat_map(|s| &s.tags).collect();
    let mut words: Vocabulary = ["<padding>", "<unknown>"].into_iter().collect();
    let mut frequency = HashMap::new();
    for word in training.iter().flat_map(|s| &s.words) {
        *frequency.entry(words.add(word)).or_insert(0u32) += 1;
    }
    println!(
        "{} sentences to train on, {} held out; {} words, {} tags",
        training.len(),
        held_out.len(),
        words.len(),
        tags.len()
    );
    println!(
        "most frequent tag of each word: {:.4} right on the sentences held out",
        most_frequent(training, held_out)
    );

    let device = Device::best();
    let mut rng = Philox::seed(settings.seed);
    let tagger = Tagger {
        embedding: Embedding::new(words.len(), 100).padding_idx(PADDING).init(&device, &mut rng)?,
        lstm: Lstm::new(100, 128).bidirectional(true).batch_first(true).init(&device, &mut rng)?,
        dropout: Dropout::new(0.3).init(&device, &mut rng)?,
        score: Linear::new(256, tags.len()).init(&device, &mut rng)?,
    };
    println!("{}\n{} parameters on {device}", tagger.repr(), tagger.num_parameters());
    let mut optimizer = Adam::new(2e-3).over([&tagger])?;
    let cross_entropy = CrossEntropyLoss::new().ignore_index(IGNORE);
    let number = |sentence: &TaggedSentence| -> Vec<i64> {
        sentence.words.iter().map(|word| words.index(word).unwrap_or(UNKNOWN)).collect()
    };
    let answer = |sentence: &TaggedSentence| -> Vec<i64> {
        sentence.tags.iter().map(|tag| tags.index(tag).unwrap_or(IGNORE)).collect()
    };

    for epoch in 1..=settings.epochs {
        let (mut losses, began) = (Vec::new(), Instant::now());
        tagger.train();
        for batch in Batches::new(training.len(), 32)?.shuffle(&mut rng) {
            // A rare word is now and then made unknown, so that there is something to learn about unknown words.
            let mut hide =
                |word: i64| if rng.uniform() < 0.25 / (0.25 + frequency[&word] as f32) { UNKNOWN } else { word };
            let read: Vec<Vec<i64>> =
                batch.iter().map(|&i| number(&training[i]).into_iter().map(&mut hide).collect()).collect();
            let (read, lengths) = pad(&read, true, PADDING, &device)?;
            let (target, _) =
                pad(&batch.iter().map(|&i| answer(&training[i])).collect::<Vec<_>>(), true, IGNORE, &device)?;
            let scores = tagger.forward(&Tape::new(), &read, &lengths)?;
            let loss = cross_entropy.forward(&scores, &target.reshape([target.numel()])?)?;
            optimizer.zero_grad();
            loss.backward()?;
            optimizer.step()?;
            losses.push(loss.into_tensor());
        }
        // Read once: on a GPU each reading waits for it.
        let losses = Tensor::stack(&losses.iter().collect::<Vec<_>>(), 0)?.to_f64_vec()?;
        let spent = began.elapsed().as_secs_f64();

        tagger.eval();
        let (mut right, mut total) = (0, 0);
        for batch in Batches::new(held_out.len(), 64)? {
            let (read, lengths) =
                pad(&batch.iter().map(|&i| number(&held_out[i])).collect::<Vec<_>>(), true, PADDING, &device)?;
            let guesses = tagger.forward(&Tape::no_grad(), &read, &lengths)?.argmax(-1)?.to_vec::<i64>()?;
            let steps = read.dims()[1];
            for (row, &i) in batch.iter().enumerate() {
                let answer = answer(&held_out[i]);
                right += answer.iter().zip(&guesses[row * steps..]).filter(|(a, b)| a == b).count();
                total += answer.len();
            }
        }
        let accuracy = right as f64 / total as f64;
        println!(
            "epoch {epoch}/{}  loss {:.4}  held-out accuracy {accuracy:.4}  {spent:.1} s",
            settings.epochs,
            losses.iter().sum::<f64>() / losses.len() as f64
        );
    }
    Ok(())
}

/// How often the commonest tag of a word in training, or of all words if it is new, is right.
fn most_frequent(training: &[TaggedSentence], held_out: &[TaggedSentence]) -> f64 {
    fn pairs(sentences: &[TaggedSentence]) -> impl Iterator<Item = (&String, &String)> {
        sentences.iter().flat_map(|s| s.words.iter().zip(&s.tags))
    }
    fn commonest<'a>(counts: &HashMap<&'a String, u32>) -> Option<&'a String> {
        // Ties go to the first in the alphabet, so that two runs agree.
        counts.iter().max_by_key(|&(&tag, &n)| (n, std::cmp::Reverse(tag))).map(|(&tag, _)| tag)
    }
    let (mut by_word, mut of_all) = (HashMap::<_, HashMap<_, u32>>::new(), HashMap::new());
    for (word, tag) in pairs(training) {
        *by_word.entry(word).or_default().entry(tag).or_default() += 1;
        *of_all.entry(tag).or_default() += 1;
    }
    let guess = |word| commonest(by_word.get(word).unwrap_or(&of_all));
    let right = pairs(held_out).filter(|&(word, tag)| guess(word) == Some(tag)).count();
    right as f64 / pairs(held_out).count() as f64
}
