//! Words as numbers.

use std::collections::HashMap;

/// Words numbered in the order in which they came.
///
/// ```
/// use gatefold::data::Vocabulary;
/// let words: Vocabulary = "the dog ate the apple".split(' ').collect();
/// assert_eq!((words.len(), words.index("apple"), words.index("cat")), (4, Some(3), None));
/// assert_eq!(words.word(1), Some("dog"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    words: Vec<String>,
    numbers: HashMap<String, i64>,
}

impl Vocabulary {
    /// An empty one.
    pub fn new() -> Self {
        Vocabulary::default()
    }

    /// The number of a word, which is added if it is new.
    pub fn add(&mut self, word: &str) -> i64 {
        if let Some(&number) = self.numbers.get(word) {
            return number;
        }
        let number = self.words.len() as i64;
        self.words.push(word.into());
        self.numbers.insert(word.into(), number);
        number
    }

    /// The number of a word.
    pub fn index(&self, word: &str) -> Option<i64> {
        self.numbers.get(word).copied()
    }

    /// The word of a number.
    pub fn word(&self, number: i64) -> Option<&str> {
        self.words.get(usize::try_from(number).ok()?).map(String::as_str)
    }

    /// How many words it has.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

impl<S: AsRef<str>> FromIterator<S> for Vocabulary {
    fn from_iter<I: IntoIterator<Item = S>>(words: I) -> Self {
        let mut vocabulary = Vocabulary::new();
        words.into_iter().for_each(|word| {
            vocabulary.add(word.as_ref());
        });
        vocabulary
    }
}
