//! Words as numbers.

use std::{collections::HashMap, path::Path};

use serde_json::{Value, json};

use crate::{
    error::{Error, Result},
    file::{self, lines},
};

/// Words numbered in the order in which they came, with how often each came.
///
/// ```
/// use gatefold::data::Vocabulary;
/// let words: Vocabulary = "the dog ate the apple".split(' ').collect();
/// assert_eq!((words.len(), words.index("apple"), words.index("cat")), (4, Some(3), None));
/// assert_eq!((words.word(1), words.count("the")), (Some("dog"), 2));
/// ```
///
/// Special words are never dropped, and one of them can stand for all that are unknown. They come first where they are named before
/// other words are added:
///
/// ```
/// use gatefold::data::Vocabulary;
/// let mut words = Vocabulary::new().special("<padding>").unknown("<unknown>");
/// words.extend("the dog ate the apple".split(' '));
/// let words = words.min_frequency(2);
/// assert_eq!(words.encode(["the", "apple"])?, [2, 1]);
/// assert_eq!(words.decode(&[2, 1, 0])?, ["the", "<unknown>", "<padding>"]);
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vocabulary {
    entries: Vec<Entry>,
    numbers: HashMap<String, i64>,
    unknown: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    word: String,
    count: u64,
    special: bool,
}

impl Vocabulary {
    /// An empty one.
    pub fn new() -> Self {
        Vocabulary::default()
    }

    /// With a word that is there whether it comes or not, such as `<padding>`. A new one is numbered behind those that there are.
    pub fn special(mut self, word: &str) -> Self {
        let number = self.number(word);
        self.entries[number as usize].special = true;
        self
    }

    /// With a special word that stands for every word that is not in the vocabulary, such as `<unknown>`.
    pub fn unknown(self, word: &str) -> Self {
        let mut vocabulary = self.special(word);
        vocabulary.unknown = vocabulary.index(word);
        vocabulary
    }

    /// The number of a word, which is counted, and added if it is new.
    pub fn add(&mut self, word: &str) -> i64 {
        let number = self.number(word);
        self.entries[number as usize].count += 1;
        number
    }

    fn number(&mut self, word: &str) -> i64 {
        if let Some(&number) = self.numbers.get(word) {
            return number;
        }
        let number = self.entries.len() as i64;
        self.entries.push(Entry { word: word.into(), count: 0, special: false });
        self.numbers.insert(word.into(), number);
        number
    }

    /// Without the words that came less than `count` times; the others are numbered anew, in their order.
    pub fn min_frequency(self, count: u64) -> Self {
        let unknown = self.unknown_word().map(str::to_owned);
        Vocabulary::of(self.entries.into_iter().filter(|e| e.special || e.count >= count).collect(), unknown)
    }

    /// The special words and, from the commonest on, as many others as make `size` together. Words that came equally often
    /// stay in their order.
    pub fn most_frequent(self, size: usize) -> Self {
        let unknown = self.unknown_word().map(str::to_owned);
        let (mut entries, mut others): (Vec<_>, Vec<_>) = self.entries.into_iter().partition(|e| e.special);
        others.sort_by_key(|e| std::cmp::Reverse(e.count));
        others.truncate(size.saturating_sub(entries.len()));
        entries.extend(others);
        Vocabulary::of(entries, unknown)
    }

    fn of(entries: Vec<Entry>, unknown: Option<String>) -> Self {
        let numbers: HashMap<_, _> = entries.iter().enumerate().map(|(i, e)| (e.word.clone(), i as i64)).collect();
        let unknown = unknown.and_then(|word| numbers.get(&word).copied());
        Vocabulary { entries, numbers, unknown }
    }

    /// The number of a word that is in the vocabulary.
    pub fn index(&self, word: &str) -> Option<i64> {
        self.numbers.get(word).copied()
    }

    /// The number of a word, or else of the one for unknown words.
    pub fn lookup(&self, word: &str) -> Option<i64> {
        self.index(word).or(self.unknown)
    }

    /// The word of a number.
    pub fn word(&self, number: i64) -> Option<&str> {
        self.entries.get(usize::try_from(number).ok()?).map(|entry| entry.word.as_str())
    }

    /// How often a word came.
    pub fn count(&self, word: &str) -> u64 {
        self.index(word).map_or(0, |number| self.entries[number as usize].count)
    }

    /// The word for unknown words.
    pub fn unknown_word(&self) -> Option<&str> {
        self.word(self.unknown?)
    }

    /// The special words, but for the one for unknown words, by their numbers.
    pub(super) fn placeholders(&self) -> impl Iterator<Item = usize> {
        let special = self.entries.iter().enumerate().filter(|(_, entry)| entry.special).map(|(number, _)| number);
        special.filter(|&number| self.unknown != Some(number as i64))
    }

    /// The words in the order of their numbers.
    pub fn words(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.iter().map(|entry| entry.word.as_str())
    }

    /// How many words it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The numbers of words; those that are unknown have that of the word for them.
    ///
    /// # Errors
    /// [`Error::Argument`] for an unknown word, where there is none for them.
    pub fn encode<S: AsRef<str>>(&self, words: impl IntoIterator<Item = S>) -> Result<Vec<i64>> {
        let number = |word: S| {
            let word = word.as_ref();
            let wrong = || Error::argument("Vocabulary::encode", format!("{word:?}"), "a word of the vocabulary");
            self.lookup(word).ok_or_else(wrong)
        };
        words.into_iter().map(number).collect()
    }

    /// The words of numbers.
    ///
    /// # Errors
    /// [`Error::Argument`] for a number that no word has.
    pub fn decode(&self, numbers: &[i64]) -> Result<Vec<&str>> {
        let wrong = |n: i64| Error::argument("Vocabulary::decode", n, format!("a number in 0..{}", self.len()));
        numbers.iter().map(|&n| self.word(n).ok_or_else(|| wrong(n))).collect()
    }

    /// Writes it as lines of JSON, all or nothing: `{"words": 3, "unknown": 1}`, then `["the", 2]` for each word in order, with a
    /// third entry `"special"` for one that is.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut text = format!("{}\n", json!({"words": self.len(), "unknown": self.unknown}));
        for Entry { word, count, special } in &self.entries {
            let line = if *special { json!([word, count, "special"]) } else { json!([word, count]) };
            text += &format!("{line}\n");
        }
        file::write("Vocabulary::save", path.as_ref(), text.as_bytes())
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`Error::File`], with line and column, for a file that cannot be read, is not whole or is something else.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let (op, path) = ("Vocabulary::load", path.as_ref());
        parse(&file::read(op, path)?).map_err(|reason| Error::file(op, path, reason))
    }
}

fn parse(bytes: &[u8]) -> Result<Vocabulary, String> {
    let mut vocabulary = Vocabulary::new();
    let mut header = None;
    for line in lines(bytes) {
        let line = line?;
        if line.text.is_empty() {
            continue;
        }
        let value: Value = serde_json::from_str(line.text)
            .map_err(|e| format!("line {}, column {}: not JSON: {e}", line.number, e.column()))?;
        if header.is_none() {
            let words = value.get("words").and_then(Value::as_u64);
            let words = words.ok_or_else(|| line.fault(0, "want {\"words\": their number, \"unknown\": …}"))?;
            header = Some((words, value.get("unknown").and_then(Value::as_i64)));
            continue;
        }
        let wrong = || line.fault(0, "want [\"word\", count] or [\"word\", count, \"special\"]");
        let (word, count, special) = match value.as_array().map(Vec::as_slice) {
            Some([word, count]) => (word, count, false),
            Some([word, count, Value::String(special)]) if special == "special" => (word, count, true),
            _ => return Err(wrong()),
        };
        let (word, count) = (word.as_str().ok_or_else(wrong)?, count.as_u64().ok_or_else(wrong)?);
        if vocabulary.index(word).is_some() {
            return Err(line.fault(0, format!("{word:?} a second time")));
        }
        vocabulary.number(word);
        vocabulary.entries.last_mut().into_iter().for_each(|e| (e.count, e.special) = (count, special));
    }
    let (words, unknown) = header.ok_or("empty, want a vocabulary")?;
    if words != vocabulary.len() as u64 {
        return Err(format!("{} words, want the {words} of its first line: it is not whole", vocabulary.len()));
    }
    if let Some(number) = unknown.filter(|&number| vocabulary.word(number).is_none()) {
        return Err(format!("line 1, column 1: unknown words are {number}, want a number in 0..{words}"));
    }
    vocabulary.unknown = unknown;
    Ok(vocabulary)
}

impl<S: AsRef<str>> Extend<S> for Vocabulary {
    fn extend<I: IntoIterator<Item = S>>(&mut self, words: I) {
        words.into_iter().for_each(|word| {
            self.add(word.as_ref());
        });
    }
}

impl<S: AsRef<str>> FromIterator<S> for Vocabulary {
    fn from_iter<I: IntoIterator<Item = S>>(words: I) -> Self {
        let mut vocabulary = Vocabulary::new();
        vocabulary.extend(words);
        vocabulary
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some() -> Vocabulary {
        let mut words = Vocabulary::new().special("<padding>").unknown("<unknown>");
        words.extend("b a c b a b \n \" d".split(' '));
        words
    }

    #[test]
    fn rare_words_go_and_numbers_close_up() {
        let words = some();
        assert_eq!(words.len(), 8);
        let words = words.min_frequency(2);
        assert_eq!(words.words().collect::<Vec<_>>(), ["<padding>", "<unknown>", "b", "a"]);
        assert_eq!((words.count("b"), words.count("a"), words.count("c"), words.count("<unknown>")), (3, 2, 0, 0));
        assert_eq!((words.lookup("c"), words.index("c")), (Some(1), None));
    }

    #[test]
    fn most_frequent_first() {
        let words: Vocabulary = "a b b c c c d".split(' ').collect();
        let words = words.special("z").most_frequent(4);
        assert_eq!(words.words().collect::<Vec<_>>(), ["z", "c", "b", "a"]);
        assert_eq!(words.unknown_word(), None);
        assert_eq!(some().most_frequent(0).words().collect::<Vec<_>>(), ["<padding>", "<unknown>"]);
    }

    #[test]
    fn refuses() {
        let words: Vocabulary = ["a"].into_iter().collect();
        assert!(matches!(words.encode(["b"]), Err(Error::Argument { got, .. }) if got == "\"b\""));
        assert!(words.decode(&[1]).is_err() && words.decode(&[-1]).is_err());
    }

    #[test]
    fn saved_and_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words.jsonl");
        for words in [some(), some().min_frequency(2), Vocabulary::new()] {
            words.save(&path).unwrap();
            assert_eq!(Vocabulary::load(&path).unwrap(), words);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(Vocabulary::load(folder.path()).is_err());
    }

    #[test]
    fn faults_are_located() {
        for (text, want) in [
            ("", "empty"),
            ("[1]", "line 1, column 1: want {\"words\""),
            ("{\"words\": 1}\n[\"a\" 2]", "line 2, column 6: not JSON"),
            ("{\"words\": 1}\n[\"a\", -2]", "line 2, column 1: want [\"word\""),
            ("{\"words\": 1}\n[\"a\", 2, \"x\"]", "line 2, column 1: want"),
            ("{\"words\": 2}\n[\"a\", 2]\n[\"a\", 1]", "line 3, column 1: \"a\" a second time"),
            ("{\"words\": 2}\n[\"a\", 2]", "1 words, want the 2"),
            ("{\"words\": 1, \"unknown\": 1}\n[\"a\", 2]", "line 1, column 1: unknown words are 1"),
        ] {
            let got = parse(text.as_bytes()).unwrap_err();
            assert!(got.starts_with(want), "{got:?} is not {want:?}");
        }
    }

    proptest! {
        #[test]
        fn every_word_comes_back(list in proptest::collection::vec(any::<String>(), 0..20)) {
            let words: Vocabulary = list.iter().collect();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("words");
            words.save(&path).unwrap();
            let loaded = Vocabulary::load(&path).unwrap();
            prop_assert_eq!(&loaded, &words);
            prop_assert_eq!(loaded.decode(&loaded.encode(&list).unwrap()).unwrap(), list);
        }
    }
}
