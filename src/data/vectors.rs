//! Word vectors: files of GloVe and word2vec.

use std::path::Path;

use super::Vocabulary;
use crate::{
    device::Device,
    dtype::DType,
    error::{Error, Result},
    file::{self, Line, lines},
    rng::Philox,
    tensor::Tensor,
};

/// Words and a vector of each.
///
/// ```
/// use gatefold::{Device, Philox, data::{Vocabulary, WordVectors}, nn::Embedding};
/// let path = std::env::temp_dir().join(format!("gatefold-vectors-{}.txt", std::process::id()));
/// std::fs::write(&path, "the 0.5 -0.25\ndog 1 2\n")?;
/// let vectors = WordVectors::glove(&path)?;
/// assert_eq!((vectors.dim(), vectors.vector("dog")), (2, Some(&[1.0, 2.0][..])));
///
/// let words: Vocabulary = ["dog", "apple"].into_iter().collect();
/// let (table, found) = vectors.table(&words, &Device::Cpu, &mut Philox::seed(1))?;
/// let embedding = Embedding::from_pretrained(table, false)?;
/// assert_eq!(found, 1);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct WordVectors {
    words: Vocabulary,
    dim: usize,
    values: Vec<f32>,
}

impl WordVectors {
    /// Reads the text of GloVe: a word and its numbers to a line, spaces between them. The first line says how many; a word
    /// with spaces in it is what stands before the last so many. Of a word that comes twice the first vector counts.
    ///
    /// # Errors
    /// [`Error::File`], with line and column, for a file that cannot be read or has no vectors, a line with too few numbers, and
    /// what is not a number.
    pub fn glove(path: impl AsRef<Path>) -> Result<Self> {
        read("WordVectors::glove", path.as_ref(), glove)
    }

    /// Reads the text of word2vec and fastText: a line with the number of words and that of numbers to each, then lines as GloVe's.
    ///
    /// # Errors
    /// As [`glove`](Self::glove), and where the first line is not two numbers or promises other lines than there are.
    pub fn word2vec(path: impl AsRef<Path>) -> Result<Self> {
        read("WordVectors::word2vec", path.as_ref(), word2vec)
    }

    /// Reads the binary form of word2vec: the first line of its text, then for each word its bytes, a space, and the numbers as
    /// little-endian f32, with or without a line end after them.
    ///
    /// # Errors
    /// [`Error::File`], with the word and the byte, for a file that cannot be read, is cut off, goes on after the last word, or has
    /// a word that is not UTF-8 or a number that is not finite.
    pub fn word2vec_binary(path: impl AsRef<Path>) -> Result<Self> {
        read("WordVectors::word2vec_binary", path.as_ref(), word2vec_binary)
    }

    /// Reads any of the three. A first line of two whole numbers makes it word2vec's, text if its second line has as many numbers
    /// as the first one promises, else binary.
    ///
    /// # Errors
    /// Those of the form that it seems to have.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        read("WordVectors::read", path.as_ref(), |bytes| match head(bytes) {
            None => glove(bytes),
            Some((_, dim, rest)) => {
                let second = rest.split(|&byte| byte == b'\n').next().unwrap_or_default();
                let numbers = std::str::from_utf8(second).map_or(0, |text| {
                    text.split_whitespace().rev().take_while(|word| word.parse::<f32>().is_ok()).count()
                });
                if numbers >= dim { word2vec(bytes) } else { word2vec_binary(bytes) }
            }
        })
    }

    /// The words, in the order of the file.
    pub fn words(&self) -> &Vocabulary {
        &self.words
    }

    /// Numbers to a vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The vector of a word.
    pub fn vector(&self, word: &str) -> Option<&[f32]> {
        let row = self.words.index(word)? as usize;
        Some(&self.values[row * self.dim..][..self.dim])
    }

    /// A table `(words of the vocabulary, dim)` in f32 for [`Embedding::from_pretrained`](crate::nn::Embedding::from_pretrained), and
    /// how many of the words were found. The others are drawn from a normal distribution with the mean and the deviation of all
    /// numbers in the file.
    ///
    /// # Errors
    /// A device that is not there, memory that cannot be had.
    pub fn table(&self, vocabulary: &Vocabulary, device: &Device, rng: &mut Philox) -> Result<(Tensor, usize)> {
        let count = self.values.len().max(1) as f64;
        let mean = self.values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let variance = self.values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count;
        let shape = [vocabulary.len(), self.dim];
        let mut rows = Tensor::normal(shape, mean, variance.sqrt(), DType::F32, &Device::Cpu, rng)?.to_vec::<f32>()?;
        let mut found = 0;
        for (row, word) in rows.chunks_exact_mut(self.dim).zip(vocabulary.words()) {
            if let Some(vector) = self.vector(word) {
                row.copy_from_slice(vector);
                found += 1;
            }
        }
        Ok((Tensor::from_slice(&rows, shape, device)?, found))
    }

    fn new(dim: usize) -> Self {
        WordVectors { words: Vocabulary::new(), dim, values: Vec::new() }
    }

    /// Room for one more vector, unless the word has one.
    fn push(&mut self, word: &str, vector: impl IntoIterator<Item = f32>) {
        if self.words.index(word).is_none() {
            self.words.add(word);
            self.values.extend(vector);
        }
    }

    fn finish(self) -> Result<Self, String> {
        if self.words.is_empty() { Err("no word vectors".into()) } else { Ok(self) }
    }
}

fn read(
    op: &'static str,
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<WordVectors, String>,
) -> Result<WordVectors> {
    parse(&file::read(op, path)?).map_err(|reason| Error::file(op, path, reason))
}

fn glove(bytes: &[u8]) -> Result<WordVectors, String> {
    // A line of two numbers is also a word and one number to it, if the next line is so too.
    if let Some((words, dim, rest)) = head(bytes) {
        let next = lines(rest).next().transpose()?.map_or(0, |line| line.text.trim_end().split(' ').count());
        if next > 2 {
            return Err(format!(
                "line 1, column 1: \"{words} {dim}\" is the head of word2vec's or fastText's form: read it as that"
            ));
        }
    }
    let mut vectors: Option<WordVectors> = None;
    for line in lines(bytes) {
        let line = line?;
        if !line.text.trim().is_empty() {
            let dim = line.text.trim_end().split(' ').count() - 1;
            text(line, vectors.get_or_insert_with(|| WordVectors::new(dim)))?;
        }
    }
    vectors.ok_or("no word vectors")?.finish()
}

/// A word and its numbers, counted from the end.
fn text(line: Line<'_>, vectors: &mut WordVectors) -> Result<(), String> {
    let fields: Vec<(usize, &str)> = Line { text: line.text.trim_end(), ..line }.split(' ').collect();
    let (dim, count) = (vectors.dim, fields.len() - 1);
    if count < dim || dim == 0 {
        return Err(line.fault(line.text.len(), format!("{count} numbers, want {}", dim.max(1))));
    }
    let numbers = &fields[fields.len() - dim..];
    let mut vector = Vec::with_capacity(dim);
    for &(at, number) in numbers {
        let value = number.parse().ok().filter(|value: &f32| value.is_finite());
        vector.push(value.ok_or_else(|| line.fault(at, format!("{number:?}, want a number")))?);
    }
    let end = numbers[0].0 - 1;
    if end == 0 {
        return Err(line.fault(0, "no word before the numbers"));
    }
    vectors.push(&line.text[..end], vector);
    Ok(())
}

/// The number of words and of numbers to each in the first line of word2vec, and what follows it.
fn head(bytes: &[u8]) -> Option<(usize, usize, &[u8])> {
    // Two numbers of 20 digits, and no more of a file that may have no line ends.
    let end = bytes.iter().take(64).position(|&byte| byte == b'\n')?;
    let line = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Some(words)), Some(Some(dim)), None) if dim > 0 => Some((words, dim, &bytes[end + 1..])),
        _ => None,
    }
}

const NO_HEAD: &str = "line 1, column 1: want the number of words and that of numbers to each";

fn word2vec(bytes: &[u8]) -> Result<WordVectors, String> {
    let (words, dim, _) = head(bytes).ok_or(NO_HEAD)?;
    let (mut vectors, mut count) = (WordVectors::new(dim), 0);
    for line in lines(bytes).skip(1) {
        let line = line?;
        if !line.text.trim().is_empty() {
            text(line, &mut vectors)?;
            count += 1;
        }
    }
    if count == words { vectors.finish() } else { Err(format!("{count} words, want the {words} of its first line")) }
}

fn word2vec_binary(bytes: &[u8]) -> Result<WordVectors, String> {
    let (words, dim, mut rest) = head(bytes).ok_or(NO_HEAD)?;
    let width = dim.checked_mul(4).ok_or(NO_HEAD)?;
    let mut vectors = WordVectors::new(dim);
    for number in 1..=words {
        let fault = |rest: &[u8], reason: &str| format!("word {number}, byte {}: {reason}", bytes.len() - rest.len());
        // A line end after the vector before.
        rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        let end = rest.iter().position(|&byte| byte == b' ').ok_or_else(|| fault(rest, "the file ends within it"))?;
        let word = std::str::from_utf8(&rest[..end]).map_err(|_| fault(rest, "not UTF-8"))?;
        let (vector, after) =
            rest[end + 1..].split_at_checked(width).ok_or_else(|| fault(rest, "the file ends within its vector"))?;
        let values: Vec<f32> = vector.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        if !values.iter().all(|value| value.is_finite()) {
            return Err(fault(rest, "a number that is not finite"));
        }
        vectors.push(word, values);
        rest = after;
    }
    if !rest.strip_prefix(b"\n").unwrap_or(rest).is_empty() {
        return Err(format!("byte {}: more after the {words} words of its first line", bytes.len() - rest.len()));
    }
    vectors.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn binary(words: &[(&str, [f32; 2])], end: &str) -> Vec<u8> {
        let mut bytes = format!("{} 2\n", words.len()).into_bytes();
        for (word, vector) in words {
            bytes.extend(format!("{word} ").bytes());
            vector.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
            bytes.extend(end.bytes());
        }
        bytes
    }

    #[test]
    fn three_forms() {
        let words = [("the", [0.5, -0.25]), ("größe", [1.0, 2e-3])];
        let text = "the 0.5 -0.25\ngröße 1 2e-3\n";
        let want = glove(text.as_bytes()).unwrap();
        assert_eq!(want.vector("größe"), Some(&[1.0, 2e-3][..]));
        assert_eq!(word2vec(format!("2 2\n{text}").as_bytes()).unwrap(), want);
        assert_eq!(word2vec_binary(&binary(&words, "\n")).unwrap(), want);
        assert_eq!(word2vec_binary(&binary(&words, "")).unwrap(), want);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vectors");
        for bytes in [text.into(), format!("2 2\n{text}").into_bytes(), binary(&words, "\n"), binary(&words, "")] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(WordVectors::read(&path).unwrap(), want);
        }
        assert!(WordVectors::read(folder.path()).is_err());
    }

    #[test]
    fn the_head_of_another_form_is_no_word() {
        let error = glove(b"2 2\nthe 0.5 -0.25\ndog 1 2\n").unwrap_err();
        assert_eq!(error, "line 1, column 1: \"2 2\" is the head of word2vec's or fastText's form: read it as that");
        // Numbers are words, too.
        let vectors = glove(b"7 2\nthe 0.5\n").unwrap();
        assert_eq!((vectors.words().len(), vectors.vector("7")), (2, Some(&[2.0][..])));
    }

    #[test]
    fn words_with_spaces_and_twice() {
        let vectors = glove(b"a 1 2\r\n. . 3 4 \r\na 5 6").unwrap();
        assert_eq!((vectors.words().len(), vectors.dim()), (2, 2));
        assert_eq!((vectors.vector(". ."), vectors.vector("a")), (Some(&[3.0, 4.0][..]), Some(&[1.0, 2.0][..])));
    }

    #[test]
    fn unknown_words_are_drawn() {
        let vectors = glove(b"a 1 2\nb 3 4").unwrap();
        let words: Vocabulary = ["b", "x", "a"].into_iter().collect();
        let draw = |seed| vectors.table(&words, &Device::Cpu, &mut Philox::seed(seed)).unwrap();
        let (table, found) = draw(1);
        let rows = table.to_vec::<f32>().unwrap();
        assert_eq!((table.dims(), found), (&[3, 2][..], 2));
        assert_eq!((&rows[..2], &rows[4..]), (&[3.0, 4.0][..], &[1.0, 2.0][..]));
        assert_ne!(rows[2..4], draw(2).0.to_vec::<f32>().unwrap()[2..4]);
    }

    #[test]
    fn faults_are_located() {
        for (bytes, want) in [
            (&b""[..], "no word vectors"),
            (b"the", "line 1, column 4: 0 numbers"),
            (b"the 1 2\na 3", "line 2, column 4: 1 numbers, want 2"),
            (b"the 1 2\na x 3", "line 2, column 3: \"x\", want a number"),
            (b"the 1 2\na 3 nan", "line 2, column 5: \"nan\""),
            (b"the 1 2\n 3 4", "line 2, column 1: no word"),
            (b"the 1\n\xff 1", "line 2, column 1: not UTF-8"),
        ] {
            let got = glove(bytes).unwrap_err();
            assert!(got.starts_with(want), "{got:?} is not {want:?}");
        }
        assert!(word2vec(b"the 1").unwrap_err().starts_with("line 1, column 1: want the number"));
        assert!(word2vec(b"2 1\nthe 1\n").unwrap_err().starts_with("1 words, want the 2"));
        let whole = binary(&[("a", [1.0, 2.0]), ("b", [3.0, 4.0])], "");
        assert!(word2vec_binary(&whole[..whole.len() - 1]).unwrap_err().starts_with("word 2, byte 14: the file ends"));
        assert!(word2vec_binary(&[&whole[..], b"x"].concat()).unwrap_err().starts_with("byte 24: more after"));
        assert!(word2vec_binary(&binary(&[("a", [f32::NAN, 0.0])], "")).unwrap_err().contains("not finite"));
        assert!(word2vec_binary(b"99999999999999999 4611686018427387905\n").is_err());
    }

    proptest! {
        #[test]
        fn noise_is_an_error_or_vectors(bytes in proptest::collection::vec(prop_oneof![Just(b' '), Just(b'\n'), Just(b'1'), any::<u8>()], 0..100)) {
            for parse in [glove, word2vec, word2vec_binary] {
                if let Ok(vectors) = parse(&bytes) {
                    prop_assert_eq!(vectors.values.len(), vectors.dim * vectors.words.len());
                }
            }
        }
    }
}
