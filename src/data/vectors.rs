//! Word vectors: files of GloVe and word2vec.

use std::{
    io::{self, BufRead, Read, Seek, SeekFrom},
    path::Path,
};

use super::Vocabulary;
use crate::{
    device::Device,
    dtype::DType,
    error::{Error, Result},
    file::{self, Line, each_line},
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
    /// Of all numbers in the file.
    moments: Moments,
}

/// Mean and deviation of numbers that are not kept.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Moments {
    count: f64,
    mean: f64,
    /// Of the distances from the mean.
    squares: f64,
}

impl Moments {
    /// Adds the numbers of a vector, by their own mean: sums of all squares would lose what is small beside the mean.
    fn add(&mut self, vector: &[f32]) {
        let count = vector.len() as f64;
        let mean = vector.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let (all, apart) = (self.count + count, mean - self.mean);
        self.squares += vector.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>();
        self.squares += apart * apart * self.count * count / all;
        self.mean += apart * count / all;
        self.count = all;
    }

    fn deviation(&self) -> f64 {
        (self.squares / self.count.max(1.0)).sqrt()
    }
}

/// A file, or bytes that stand for one.
trait Source: BufRead + Seek {}
impl<T: BufRead + Seek> Source for T {}

/// The words that are kept of a file; `None`: all.
type Only<'a> = Option<&'a Vocabulary>;

impl WordVectors {
    /// Reads the text of GloVe: a word and its numbers to a line, spaces between them. The first line says how many; a word
    /// with spaces in it is what stands before the last so many. Of a word that comes twice the first vector counts.
    ///
    /// # Errors
    /// [`Error::File`], with line and column, for a file that cannot be read or has no vectors, a line with too few numbers, and
    /// what is not a number.
    pub fn glove(path: impl AsRef<Path>) -> Result<Self> {
        read("WordVectors::glove", path.as_ref(), |file| glove(file, None))
    }

    /// Reads the text of word2vec and fastText: a line with the number of words and that of numbers to each, then lines as GloVe's.
    ///
    /// # Errors
    /// As [`glove`](Self::glove), and where the first line is not two numbers or promises other lines than there are.
    pub fn word2vec(path: impl AsRef<Path>) -> Result<Self> {
        read("WordVectors::word2vec", path.as_ref(), |file| word2vec(file, None))
    }

    /// Reads the binary form of word2vec: the first line of its text, then for each word its bytes, a space, and the numbers as
    /// little-endian f32, with or without a line end after them.
    ///
    /// # Errors
    /// [`Error::File`], with the word and the byte, for a file that cannot be read, is cut off, goes on after the last word, or has
    /// a word that is not UTF-8 or a number that is not finite.
    pub fn word2vec_binary(path: impl AsRef<Path>) -> Result<Self> {
        read("WordVectors::word2vec_binary", path.as_ref(), |file| word2vec_binary(file, None))
    }

    /// Reads any of the three. A first line of two whole numbers makes it word2vec's, text if its second line has as many numbers
    /// as the first one promises, else binary.
    ///
    /// # Errors
    /// Those of the form that it seems to have.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        read("WordVectors::read", path.as_ref(), |file| any_form(file, None))
    }

    /// Reads any of the three, and keeps the vectors of a vocabulary's words alone: of a file with millions of words as much memory as
    /// those take. Their [`table`](Self::table) is the same as that of the whole file.
    ///
    /// # Errors
    /// Those of [`read`](Self::read). That none of the words is in the file is no error.
    pub fn read_for(path: impl AsRef<Path>, words: &Vocabulary) -> Result<Self> {
        read("WordVectors::read_for", path.as_ref(), |file| any_form(file, Some(words)))
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
    /// how many of the words were found. Of the others, special words such as `<padding>` are zeros, as padding is in a new
    /// [`Embedding`](crate::nn::Embedding); all else, the word for unknown words too, is drawn from a normal distribution with the mean and
    /// the deviation of all numbers in the file.
    ///
    /// # Errors
    /// A device that is not there, memory that cannot be had.
    pub fn table(&self, vocabulary: &Vocabulary, device: &Device, rng: &mut Philox) -> Result<(Tensor, usize)> {
        let (shape, mean, deviation) = ([vocabulary.len(), self.dim], self.moments.mean, self.moments.deviation());
        let mut rows = Tensor::normal(shape, mean, deviation, DType::F32, &Device::Cpu, rng)?.to_vec::<f32>()?;
        vocabulary.placeholders().for_each(|row| rows[row * self.dim..][..self.dim].fill(0.0));
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
        WordVectors { words: Vocabulary::new(), dim, values: Vec::new(), moments: Moments::default() }
    }

    /// Counts a vector, and keeps it if it is asked for and its word has none.
    fn push(&mut self, word: &str, vector: &[f32], only: Only<'_>) {
        self.moments.add(vector);
        if only.is_none_or(|words| words.index(word).is_some()) && self.words.index(word).is_none() {
            self.words.add(word);
            self.values.extend(vector);
        }
    }

    fn finish(self) -> Result<Self, String> {
        if self.moments.count == 0.0 { Err("no word vectors".into()) } else { Ok(self) }
    }
}

fn read(
    op: &'static str,
    path: &Path,
    parse: impl FnOnce(&mut io::BufReader<std::fs::File>) -> Result<WordVectors, String>,
) -> Result<WordVectors> {
    parse(&mut file::open(op, path)?).map_err(|reason| Error::file(op, path, reason))
}

fn any_form(from: &mut impl Source, only: Only<'_>) -> Result<WordVectors, String> {
    match head(from)? {
        None => glove(from, only),
        Some(head) => {
            let numbers =
                second(from, &head)?.split_whitespace().rev().take_while(|n| n.parse::<f32>().is_ok()).count();
            if numbers >= head.dim { word2vec(from, only) } else { word2vec_binary(from, only) }
        }
    }
}

fn glove(from: &mut impl Source, only: Only<'_>) -> Result<WordVectors, String> {
    // A line of two numbers is also a word and one number to it, if the next line is so too.
    if let Some(head) = head(from)?
        && second(from, &head)?.trim_end().split(' ').count() > 2
    {
        let Head { words, dim, .. } = head;
        return Err(format!(
            "line 1, column 1: \"{words} {dim}\" is the head of word2vec's or fastText's form: read it as that"
        ));
    }
    let mut vectors: Option<WordVectors> = None;
    each_line(from, |line| {
        if line.text.trim().is_empty() {
            return Ok(());
        }
        let dim = line.text.trim_end().split(' ').count() - 1;
        text(line, vectors.get_or_insert_with(|| WordVectors::new(dim)), only)
    })?;
    vectors.ok_or("no word vectors")?.finish()
}

/// A word and its numbers, counted from the end.
fn text(line: Line<'_>, vectors: &mut WordVectors, only: Only<'_>) -> Result<(), String> {
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
    vectors.push(&line.text[..end], &vector, only);
    Ok(())
}

/// The first line of word2vec's forms.
struct Head {
    words: usize,
    /// Numbers to each.
    dim: usize,
    /// Bytes of the line.
    len: u64,
}

/// The head of a source, if it has one; the source stays at its beginning.
fn head(from: &mut impl Source) -> Result<Option<Head>, String> {
    let mut bytes = Vec::new();
    // Two numbers of 20 digits, and no more of a file that may have no line ends.
    from.by_ref().take(64).read_until(b'\n', &mut bytes).map_err(reason)?;
    from.rewind().map_err(reason)?;
    let line = bytes.strip_suffix(b"\n").and_then(|line| str::from_utf8(line).ok()).unwrap_or_default();
    let line = line.strip_prefix('\u{feff}').unwrap_or(line);
    let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
    Ok(match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Some(words)), Some(Some(dim)), None) if dim > 0 => Some(Head { words, dim, len: bytes.len() as u64 }),
        _ => None,
    })
}

/// The line behind a head, if it is text; the source stays at its beginning.
fn second(from: &mut impl Source, head: &Head) -> Result<String, String> {
    let mut bytes = Vec::new();
    from.seek(SeekFrom::Start(head.len)).map_err(reason)?;
    from.read_until(b'\n', &mut bytes).map_err(reason)?;
    from.rewind().map_err(reason)?;
    Ok(String::from_utf8(bytes).unwrap_or_default())
}

fn reason(error: io::Error) -> String {
    error.to_string()
}

const NO_HEAD: &str = "line 1, column 1: want the number of words and that of numbers to each";

fn word2vec(from: &mut impl Source, only: Only<'_>) -> Result<WordVectors, String> {
    let Head { words, dim, .. } = head(from)?.ok_or(NO_HEAD)?;
    let (mut vectors, mut count) = (WordVectors::new(dim), 0);
    each_line(from, |line| {
        if line.number > 1 && !line.text.trim().is_empty() {
            text(line, &mut vectors, only)?;
            count += 1;
        }
        Ok(())
    })?;
    if count == words { vectors.finish() } else { Err(format!("{count} words, want the {words} of its first line")) }
}

fn word2vec_binary(from: &mut impl Source, only: Only<'_>) -> Result<WordVectors, String> {
    let Head { words, dim, len } = head(from)?.ok_or(NO_HEAD)?;
    let width = dim.checked_mul(4).ok_or(NO_HEAD)?;
    from.seek(SeekFrom::Start(len)).map_err(reason)?;
    let (mut vectors, mut at) = (WordVectors::new(dim), len);
    let (mut word, mut vector) = (Vec::new(), Vec::new());
    for number in 1..=words {
        // A line end after the vector before.
        at += line_end(from)?;
        let fault = |reason: &str| format!("word {number}, byte {at}: {reason}");
        word.clear();
        from.read_until(b' ', &mut word).map_err(reason)?;
        let name = word.strip_suffix(b" ").ok_or_else(|| fault("the file ends within it"))?;
        let name = str::from_utf8(name).map_err(|_| fault("not UTF-8"))?;
        // As much memory as there are bytes, whatever the head says.
        vector.clear();
        from.by_ref().take(width as u64).read_to_end(&mut vector).map_err(reason)?;
        if vector.len() < width {
            return Err(fault("the file ends within its vector"));
        }
        let values: Vec<f32> = vector.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        if !values.iter().all(|value| value.is_finite()) {
            return Err(fault("a number that is not finite"));
        }
        vectors.push(name, &values, only);
        at += (word.len() + width) as u64;
    }
    line_end(from)?;
    if !from.fill_buf().map_err(reason)?.is_empty() {
        return Err(format!("byte {at}: more after the {words} words of its first line"));
    }
    vectors.finish()
}

/// Passes over a line feed that comes next; how many bytes that were.
fn line_end(from: &mut impl Source) -> Result<u64, String> {
    let here = from.fill_buf().map_err(reason)?.first() == Some(&b'\n');
    from.consume(here.into());
    Ok(here.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::io::Cursor;

    use super::*;

    fn glove(bytes: &[u8]) -> Result<WordVectors, String> {
        super::glove(&mut Cursor::new(bytes), None)
    }

    fn word2vec(bytes: &[u8]) -> Result<WordVectors, String> {
        super::word2vec(&mut Cursor::new(bytes), None)
    }

    fn word2vec_binary(bytes: &[u8]) -> Result<WordVectors, String> {
        super::word2vec_binary(&mut Cursor::new(bytes), None)
    }

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
        std::fs::write(&path, format!("\u{feff}2 2\n{text}")).unwrap();
        assert_eq!(WordVectors::read(&path).unwrap(), want);
    }

    /// Of each form, with a word twice and one that nobody asks for; what is drawn for others is the same to the bit.
    #[test]
    fn only_the_words_of_a_vocabulary() {
        let words = [("the", [0.5, -0.25]), ("größe", [1.0, 2e-3]), ("x", [-3.0, 7.5]), ("the", [9.0, 9.0])];
        let text = words.map(|(word, [a, b])| format!("{word} {a} {b}\n")).concat();
        let mut wanted = Vocabulary::new().special("<padding>").unknown("<unknown>");
        wanted.extend(["größe", "cat", "the"]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vectors");
        for bytes in [text.clone().into(), format!("4 2\n{text}").into_bytes(), binary(&words, "\n")] {
            std::fs::write(&path, bytes).unwrap();
            let (all, some) = (WordVectors::read(&path).unwrap(), WordVectors::read_for(&path, &wanted).unwrap());
            assert_eq!((all.words().len(), some.words().words().collect::<Vec<_>>()), (3, vec!["the", "größe"]));
            assert_eq!((some.values.len(), some.vector("x")), (4, None));
            let table = |of: &WordVectors| {
                let (table, found) = of.table(&wanted, &Device::Cpu, &mut Philox::seed(1)).unwrap();
                (table.to_vec::<f32>().unwrap(), found)
            };
            assert_eq!(table(&some), table(&all));
            assert_eq!((table(&some).1, &table(&some).0[8..]), (2, &[0.5, -0.25][..]));
        }
        let none = WordVectors::read_for(&path, &["cat"].into_iter().collect()).unwrap();
        assert_eq!((none.words().len(), none.dim()), (0, 2));
        std::fs::write(&path, "the 1 2\nx 1 y\n").unwrap();
        let error = WordVectors::read_for(&path, &wanted).unwrap_err().to_string();
        assert!(error.starts_with("WordVectors::read_for: ") && error.contains("line 2, column 5: \"y\""), "{error}");
    }

    /// Mean and deviation of a list, whatever lies between them.
    #[test]
    fn moments_of_what_is_not_kept() {
        let mut moments = Moments::default();
        let vectors = [[1e6f32, 1e6 + 1.0, 1e6 + 2.0], [1e6 + 3.0, 1e6 + 4.0, 1e6 + 5.0]];
        vectors.iter().for_each(|vector| moments.add(vector));
        assert_eq!((moments.mean, moments.squares), (1e6 + 2.5, 17.5));
        assert!((moments.deviation() - (17.5f64 / 6.0).sqrt()).abs() < 1e-12);
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

    /// But for special words: of padding nothing is drawn, and what is drawn for others does not depend on that.
    #[test]
    fn padding_is_zeros() {
        let vectors = glove(b"a 1 2\nb 3 4\n<end> 5 6").unwrap();
        let rows = |words: Vocabulary| {
            let words = words.special("<start>").special("<end>");
            vectors.table(&words, &Device::Cpu, &mut Philox::seed(1)).unwrap().0.to_vec::<f32>().unwrap()
        };
        let special = rows(Vocabulary::new().special("<padding>").unknown("<unknown>"));
        let plain = rows(["<padding>", "<unknown>"].into_iter().collect());
        assert_eq!((&special[..2], &special[4..]), (&[0.0; 2][..], &[0.0, 0.0, 5.0, 6.0][..]));
        assert_eq!(special[2..4], plain[2..4]);
        assert!(plain[..4].iter().all(|&value| value != 0.0));
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
