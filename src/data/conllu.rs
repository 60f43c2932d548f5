//! CoNLL-U: sentences with their words' lemmas, tags, features and syntax, the format of Universal Dependencies.

use std::path::Path;

use super::TaggedSentence;
use crate::{
    error::{Error, Result},
    file::{self, Line, lines},
};

const OP: &str = "read_conllu";

/// A sentence of a CoNLL-U file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConlluSentence {
    /// The lines before it that begin with `#`, without that.
    pub comments: Vec<String>,
    /// Its syntactic words.
    pub words: Vec<ConlluWord>,
}

/// A word of a CoNLL-U file; `None` where the file has `_`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConlluWord {
    /// As it stands in the text.
    pub form: String,
    /// As it stands in a dictionary.
    pub lemma: Option<String>,
    /// Universal part-of-speech tag.
    pub upos: Option<String>,
    /// Tag of the language's own tag set.
    pub xpos: Option<String>,
    /// Morphological features, `Case=Nom|Number=Sing`.
    pub feats: Option<String>,
    /// The word that it depends on, counted from 1; 0 for the root.
    pub head: Option<usize>,
    /// How it depends on it.
    pub deprel: Option<String>,
    /// Enhanced dependencies.
    pub deps: Option<String>,
    /// Anything else.
    pub misc: Option<String>,
}

impl ConlluSentence {
    /// Its words with their universal part-of-speech tags, `_` where there is none.
    pub fn tagged(&self) -> TaggedSentence {
        TaggedSentence {
            words: self.words.iter().map(|word| word.form.clone()).collect(),
            tags: self.words.iter().map(|word| word.upos.clone().unwrap_or_else(|| "_".into())).collect(),
        }
    }
}

/// Reads a CoNLL-U file, in UTF-8: ten fields to a word, tabs between them, a blank line behind each sentence. Lines of
/// multi-word tokens (`1-2`) and of empty nodes (`1.1`) are passed over: what stays are the syntactic words.
///
/// # Errors
/// [`Error::File`], with line and column, for a line that has not ten fields, a word that is not numbered by its place, a word
/// without a form, a head that is not a word of the sentence, or bytes that are not UTF-8; and for a file that cannot be read or
/// has no sentence.
pub fn read_conllu(path: impl AsRef<Path>) -> Result<Vec<ConlluSentence>> {
    let path = path.as_ref();
    parse(&file::read(OP, path)?).map_err(|reason| Error::file(OP, path, reason))
}

fn parse(bytes: &[u8]) -> Result<Vec<ConlluSentence>, String> {
    let (mut sentences, mut sentence) = (Vec::new(), ConlluSentence::default());
    // Heads can be checked when the whole sentence is known.
    let mut heads = Vec::new();
    for line in lines(bytes) {
        let line = line?;
        if line.text.is_empty() {
            finish(&mut sentence, &mut heads, &mut sentences)?;
        } else if let Some(comment) = line.text.strip_prefix('#') {
            if sentence.words.is_empty() {
                sentence.comments.push(comment.trim().into());
            } else {
                return Err(line.fault(0, "a comment within a sentence"));
            }
        } else {
            word(line, &mut sentence, &mut heads)?;
        }
    }
    finish(&mut sentence, &mut heads, &mut sentences)?;
    if sentences.is_empty() { Err("no sentences".into()) } else { Ok(sentences) }
}

fn word<'a>(line: Line<'a>, sentence: &mut ConlluSentence, heads: &mut Vec<(Line<'a>, usize)>) -> Result<(), String> {
    let fields: Vec<(usize, &str)> = line.split('\t').collect();
    let &[id, form, lemma, upos, xpos, feats, head, deprel, deps, misc] = fields.as_slice() else {
        let reason = format!("{} fields, want 10 with tabs between them", fields.len());
        return Err(line.fault(line.text.len(), reason));
    };
    if let Some(&(at, _)) = fields.iter().find(|(_, field)| field.is_empty()) {
        return Err(line.fault(at, "an empty field, want _ for none"));
    }
    let numbers = |separator| id.1.split_once(separator).map(|(a, b)| (a.parse::<usize>(), b.parse::<usize>()));
    if let Some((Ok(_), Ok(_))) = numbers('-').or_else(|| numbers('.')) {
        return Ok(());
    }
    let want = sentence.words.len() + 1;
    if id.1.parse() != Ok(want) {
        return Err(line.fault(id.0, format!("word {:?}, want {want}", id.1)));
    }
    let given = |(_, field): (usize, &str)| (field != "_").then(|| field.to_string());
    let depends = match head.1 {
        "_" => None,
        number => Some(number.parse().map_err(|_| line.fault(head.0, format!("head {number:?}, want a number")))?),
    };
    heads.push((line, head.0));
    sentence.words.push(ConlluWord {
        form: form.1.into(),
        // An underscore's lemma is an underscore.
        lemma: if form.1 == "_" { Some(lemma.1.into()) } else { given(lemma) },
        upos: given(upos),
        xpos: given(xpos),
        feats: given(feats),
        head: depends,
        deprel: given(deprel),
        deps: given(deps),
        misc: given(misc),
    });
    Ok(())
}

fn finish(
    sentence: &mut ConlluSentence,
    heads: &mut Vec<(Line<'_>, usize)>,
    sentences: &mut Vec<ConlluSentence>,
) -> Result<(), String> {
    let count = sentence.words.len();
    for (word, (line, at)) in sentence.words.iter().zip(heads.drain(..)) {
        if let Some(head) = word.head.filter(|&head| head > count) {
            return Err(line.fault(at, format!("head {head} of a sentence of {count} words")));
        }
    }
    if count > 0 {
        sentences.push(std::mem::take(sentence));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "# text = Let's go_.\n\
        1-2\tLet's\t_\t_\t_\t_\t_\t_\t_\t_\n\
        1\tLet\tlet\tVERB\tVB\tMood=Imp\t0\troot\t_\t_\n\
        2\t's\twe\tPRON\tPRP\t_\t1\tobj\t_\tSpaceAfter=No\n\
        2.1\tx\t_\t_\t_\t_\t_\t_\t_\t_\n\
        3\t_\t_\tPUNCT\t.\t_\t1\tpunct\t_\t_\n\n\n\
        1\tgo\tgo\t_\t_\t_\t_\t_\t_\t_";

    #[test]
    fn sentences() {
        let read = parse(TEXT.as_bytes()).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].comments, ["text = Let's go_."]);
        assert_eq!(read[0].tagged().words, ["Let", "'s", "_"]);
        assert_eq!(read[0].tagged().tags, ["VERB", "PRON", "PUNCT"]);
        let [first, second, third] = read[0].words.as_slice() else { panic!("{read:?}") };
        assert_eq!(
            (first.feats.as_deref(), first.head, first.deprel.as_deref()),
            (Some("Mood=Imp"), Some(0), Some("root"))
        );
        assert_eq!((second.lemma.as_deref(), second.misc.as_deref()), (Some("we"), Some("SpaceAfter=No")));
        assert_eq!((third.lemma.as_deref(), third.feats.as_deref()), (Some("_"), None));
        assert_eq!((read[1].words[0].head, read[1].tagged().tags), (None, vec!["_".to_string()]));
        assert_eq!(parse(TEXT.replace('\n', "\r\n").as_bytes()).unwrap(), read);
    }

    #[test]
    fn faults_are_located() {
        let word = |id: &str, head: &str| format!("{id}\tä\tb\tc\td\te\t{head}\tg\th\ti");
        for (text, want) in [
            (String::new(), "no sentences"),
            ("# only\n".into(), "no sentences"),
            (format!("{}\n1\ta b", word("1", "0")), "line 2, column 6: 2 fields, want 10"),
            (word("2", "0"), "line 1, column 1: word \"2\", want 1"),
            (word("1-x", "0"), "line 1, column 1: word \"1-x\", want 1"),
            (word("1", "x"), "line 1, column 13: head \"x\", want a number"),
            (word("1", "2"), "line 1, column 13: head 2 of a sentence of 1 words"),
            (word("1", ""), "line 1, column 13: an empty field"),
            (format!("{}\n# x", word("1", "0")), "line 2, column 1: a comment within"),
        ] {
            let got = parse(text.as_bytes()).unwrap_err();
            assert!(got.starts_with(want), "{got:?} is not {want:?}");
        }
        assert!(parse(b"1\t\xff").unwrap_err().starts_with("line 1, column 3: not UTF-8"));
        assert!(matches!(read_conllu("/no/such/file"), Err(Error::File { .. })));
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_an_error_or_sentences(at in 0..TEXT.len(), byte in any::<u8>()) {
            let mut bytes = TEXT.as_bytes().to_vec();
            bytes[at] = byte;
            for sentence in parse(&bytes).unwrap_or_default() {
                prop_assert!(!sentence.words.is_empty());
            }
        }
    }
}
