//! The network, and batches for it.

use gatefold::{
    Device, Philox, Result, Tape, Tensor, Var,
    data::{TaggedSentence, Vocabulary, characters, pad},
    nn::{Dropout, Embedding, Linear, Lstm, Module},
};

pub const PADDING: i64 = 0;
pub const UNKNOWN: i64 = 1;
/// The tag of padding, which no loss counts.
pub const IGNORE: i64 = -100;

/// What numbers stand for.
pub struct Vocabularies {
    pub words: Vocabulary,
    pub letters: Vocabulary,
    pub tags: Vocabulary,
}

impl Vocabularies {
    /// Words and characters of the training sentences, tags of all.
    pub fn new(training: &[TaggedSentence], held_out: &[TaggedSentence], min_frequency: u64) -> Self {
        let mut words = Vocabulary::new().special("<padding>").unknown("<unknown>");
        let mut letters = words.clone();
        words.extend(training.iter().flat_map(|s| &s.words));
        letters.extend(training.iter().flat_map(|s| &s.words).flat_map(|word| characters(word)));
        Vocabularies {
            words: words.min_frequency(min_frequency),
            letters: letters.min_frequency(2),
            tags: held_out.iter().chain(training).flat_map(|s| &s.tags).collect(),
        }
    }
}

/// Sentences side by side.
pub struct Batch {
    /// `(B, T)`
    words: Tensor,
    pub lengths: Vec<usize>,
    /// `(B·T)`
    pub tags: Tensor,
    spelling: Option<Spelling>,
}

/// The different words of a batch.
struct Spelling {
    /// Their characters `(N, L)`
    letters: Tensor,
    lengths: Vec<usize>,
    /// Which of them each word is `(B·T)`; padding is taken for the first, and passed over by the lengths.
    which: Tensor,
}

impl Batch {
    /// `hide` says which words are to be taken for unknown ones.
    pub fn new(
        sentences: &[&TaggedSentence],
        of: &Vocabularies,
        chars: bool,
        mut hide: impl FnMut(&str) -> bool,
        device: &Device,
    ) -> Result<Self> {
        let (mut words, mut tags, mut which) = (Vec::new(), Vec::new(), Vec::new());
        let mut different = Vocabulary::new();
        for sentence in sentences {
            let mut numbers = of.words.encode(&sentence.words)?;
            let hidden = sentence.words.iter().map(|word| hide(word));
            numbers.iter_mut().zip(hidden).filter(|(_, hide)| *hide).for_each(|(number, _)| *number = UNKNOWN);
            words.push(numbers);
            tags.push(of.tags.encode(&sentence.tags)?);
            which.push(sentence.words.iter().map(|word| different.add(word)).collect::<Vec<_>>());
        }
        let (words, lengths) = pad(&words, true, PADDING, device)?;
        let flat = |numbers: &[Vec<i64>], padding| -> Result<Tensor> {
            pad(numbers, true, padding, device)?.0.reshape([words.numel()])
        };
        let spelling = if chars {
            let letters = different.words().map(|word| of.letters.encode(characters(word)));
            let (letters, lengths) = pad(&letters.collect::<Result<Vec<_>>>()?, true, PADDING, device)?;
            Some(Spelling { letters, lengths, which: flat(&which, 0)? })
        } else {
            None
        };
        Ok(Batch { tags: flat(&tags, IGNORE)?, words, lengths, spelling })
    }
}

pub struct Tagger {
    embedding: Embedding,
    chars: Option<Characters>,
    lstm: Lstm,
    dropout: Dropout,
    score: Linear,
}

/// Reads the characters of words from both ends.
struct Characters {
    embedding: Embedding,
    lstm: Lstm,
}

impl Tagger {
    pub fn new(of: &Vocabularies, chars: bool, device: &Device, rng: &mut Philox) -> Result<Self> {
        let embedding = Embedding::new(of.words.len(), 100).padding_idx(PADDING).init(device, rng)?;
        let chars = if chars { Some(Characters::new(of.letters.len(), device, rng)?) } else { None };
        let width = 100 + chars.as_ref().map_or(0, |_| 2 * Characters::HIDDEN);
        Ok(Tagger {
            embedding,
            chars,
            lstm: Lstm::new(width, 128).bidirectional(true).batch_first(true).init(device, rng)?,
            dropout: Dropout::new(0.3).init(device, rng)?,
            score: Linear::new(256, of.tags.len()).init(device, rng)?,
        })
    }

    /// Scores `(B·T, tags)`.
    pub fn forward(&self, tape: &Tape, batch: &Batch) -> Result<Var> {
        let mut x = self.embedding.forward(tape, &batch.words)?;
        if let (Some(chars), Some(spelling)) = (&self.chars, &batch.spelling) {
            let spelt = chars.forward(tape, spelling)?;
            let [b, t] = [0, 1].map(|axis| batch.words.dims()[axis] as isize);
            x = Var::concat(&[&x, &spelt.reshape([b, t, -1])?], 2)?;
        }
        let (states, _last) = self.lstm.forward_lengths(&self.dropout.forward(&x)?, &batch.lengths, None)?;
        let scores = self.score.forward(&self.dropout.forward(&states)?)?;
        let tags = scores.dims()[2] as isize;
        scores.reshape([-1, tags])
    }
}

impl Characters {
    const HIDDEN: usize = 64;

    fn new(letters: usize, device: &Device, rng: &mut Philox) -> Result<Self> {
        let embedding = Embedding::new(letters, 32).padding_idx(PADDING).init(device, rng)?;
        let lstm = Lstm::new(32, Self::HIDDEN).bidirectional(true).batch_first(true).init(device, rng)?;
        Ok(Characters { embedding, lstm })
    }

    /// The last hidden states of both directions, for each place of the batch `(B·T, 2·HIDDEN)`.
    fn forward(&self, tape: &Tape, words: &Spelling) -> Result<Var> {
        let x = self.embedding.forward(tape, &words.letters)?;
        let (_, last) = self.lstm.forward_lengths(&x, &words.lengths, None)?;
        let both = Var::concat(&[&last.h.select(0, 0)?, &last.h.select(0, 1)?], 1)?;
        both.index_select(0, &words.which)
    }
}

impl Module for Tagger {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        let mut children: Vec<(&str, &dyn Module)> = vec![("embedding", &self.embedding)];
        children.extend(self.chars.iter().map(|chars| ("chars", chars as &dyn Module)));
        children.extend([("lstm", &self.lstm as &dyn Module), ("dropout", &self.dropout), ("score", &self.score)]);
        children
    }
}

impl Module for Characters {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        vec![("embedding", &self.embedding), ("lstm", &self.lstm)]
    }
}
