//! Tagged sentences: a word, a tab and its tag to a line, a blank line between sentences.

use std::path::Path;

use crate::{
    error::{Error, Result},
    file::{self, lines},
};

const OP: &str = "read_tagged";

/// A sentence whose words have tags.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaggedSentence {
    /// Its words.
    pub words: Vec<String>,
    /// The tag of each.
    pub tags: Vec<String>,
}

/// Reads a file of tagged sentences, in UTF-8, with line ends of Unix or Windows. Several blank lines are as one.
///
/// # Errors
/// [`Error::File`], with line and column, for a line that is not two fields, an empty field, or bytes that are not UTF-8; and for a
/// file that cannot be read or has no sentence.
pub fn read_tagged(path: impl AsRef<Path>) -> Result<Vec<TaggedSentence>> {
    let path = path.as_ref();
    parse(&file::read(OP, path)?).map_err(|reason| Error::file(OP, path, reason))
}

fn parse(bytes: &[u8]) -> Result<Vec<TaggedSentence>, String> {
    let (mut sentences, mut sentence) = (Vec::new(), TaggedSentence::default());
    for line in lines(bytes) {
        let line = line?;
        if line.text.is_empty() {
            if !sentence.words.is_empty() {
                sentences.push(std::mem::take(&mut sentence));
            }
            continue;
        }
        let (word, tag) =
            line.text.split_once('\t').ok_or_else(|| line.fault(line.text.len(), "no tab, want word TAB tag"))?;
        if word.trim().is_empty() {
            return Err(line.fault(0, "no word before the tab"));
        }
        let start = word.len() + 1;
        if let Some((tag, _)) = tag.split_once('\t') {
            return Err(line.fault(start + tag.len(), "a second tab, want word TAB tag"));
        }
        if tag.trim().is_empty() {
            return Err(line.fault(start, "no tag after the tab"));
        }
        sentence.words.push(word.into());
        sentence.tags.push(tag.into());
    }
    if !sentence.words.is_empty() {
        sentences.push(sentence);
    }
    if sentences.is_empty() { Err("no sentences".into()) } else { Ok(sentences) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sentences() {
        let read = parse("\u{feff}the\tDET\r\ndog\tNN\r\n\r\n\nate\tV".as_bytes()).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].words, ["the", "dog"]);
        assert_eq!(read[1].tags, ["V"]);
    }

    #[test]
    fn faults_are_located() {
        for (text, want) in [
            (&b"a\tb\nno tag"[..], "line 2, column 7: no tab"),
            (b"\tb", "line 1, column 1: no word"),
            ("\n旅行\t\n".as_bytes(), "line 2, column 4: no tag"),
            (b"a\tb\tc", "line 1, column 4: a second tab"),
            (b"a\tb\n\n\xe6\x97\x85\xff\tb", "line 3, column 2: not UTF-8"),
            (b"", "no sentences"),
            (b"\n\n", "no sentences"),
        ] {
            let got = parse(text).unwrap_err();
            assert!(got.starts_with(want), "{got:?} is not {want:?}");
        }
        assert!(matches!(read_tagged("/no/such/file"), Err(Error::File { .. })));
    }

    proptest! {
        #[test]
        fn noise_is_an_error_or_sentences(bytes in proptest::collection::vec(prop_oneof![Just(b'\t'), Just(b'\n'), any::<u8>()], 0..200)) {
            for sentence in parse(&bytes).unwrap_or_default() {
                prop_assert!(!sentence.words.is_empty());
                prop_assert_eq!(sentence.words.len(), sentence.tags.len());
            }
        }
    }
}
