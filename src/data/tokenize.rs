//! Texts as words or characters.

/// The words of an English text.
///
/// The rules, which are near to those of the Penn Treebank, by which the published GloVe vectors were counted:
/// 1. Upper case becomes lower case. `<br>`, `<br/>` and `<br />` are white space, which separates.
/// 2. Letters, digits and combining marks in a row are a word. Within it an apostrophe or a hyphen stays between two letters or
///    digits (`rock'n'roll`, `well-known`), a full stop or a comma between two digits (`3.5`, `10,000`). ’ is an apostrophe.
/// 3. The endings `n't`, `'s`, `'m`, `'d`, `'re`, `'ve` and `'ll` are words of their own: `don't` is `do` `n't`.
/// 4. Every other character is a word of its own; the same one several times in a row (`...`, `--`, `''`) is one word.
///
/// ```
/// use gatefold::data::tokenize;
/// let words = tokenize("It's a well-known film; I don't like it...<br />2.5 stars");
/// assert_eq!(words.join(" "), "it 's a well-known film ; i do n't like it ... 2.5 stars");
/// ```
pub fn tokenize(text: &str) -> Vec<String> {
    let mut lower = text.to_lowercase().replace('’', "'");
    for tag in ["<br />", "<br/>", "<br>"] {
        lower = lower.replace(tag, " ");
    }
    let chars: Vec<char> = lower.chars().collect();
    let (mut words, mut at) = (Vec::new(), 0);
    while at < chars.len() {
        let start = at;
        at += 1;
        if chars[start].is_whitespace() {
            continue;
        }
        if in_word(chars[start]) {
            while at < chars.len() && (in_word(chars[at]) || joins(&chars, at)) {
                at += 1;
            }
            contractions(&chars[start..at], &mut words);
        } else {
            // `'s` and its like after a bracket or a quotation mark are not endings; they are taken for what they look like.
            while at < chars.len() && chars[at] == chars[start] {
                at += 1;
            }
            words.push(chars[start..at].iter().collect());
        }
    }
    words
}

fn in_word(c: char) -> bool {
    // Combining marks are neither letters nor digits.
    c.is_alphanumeric() || ('\u{300}'..='\u{36f}').contains(&c)
}

/// Whether the character in the middle stays within a word.
fn joins(chars: &[char], at: usize) -> bool {
    let Some(&after) = chars.get(at + 1) else { return false };
    let before = chars[at - 1];
    match chars[at] {
        '\'' | '-' => in_word(before) && in_word(after),
        '.' | ',' => before.is_ascii_digit() && after.is_ascii_digit(),
        _ => false,
    }
}

fn contractions(word: &[char], words: &mut Vec<String>) {
    let text: String = word.iter().collect();
    for ending in ["n't", "'s", "'m", "'d", "'re", "'ve", "'ll"] {
        if let Some(stem) = text.strip_suffix(ending).filter(|stem| !stem.is_empty()) {
            words.extend([stem.to_string(), ending.to_string()]);
            return;
        }
    }
    words.push(text);
}

/// The characters of a text, each as a word.
///
/// ```
/// use gatefold::data::{Vocabulary, characters};
/// let letters: Vocabulary = characters("hello").collect();
/// assert_eq!(letters.encode(characters("hole"))?, [0, 3, 2, 1]);
/// # Ok::<(), gatefold::Error>(())
/// ```
pub fn characters(text: &str) -> impl Iterator<Item = &str> {
    text.char_indices().map(|(start, c)| &text[start..start + c.len_utf8()])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules() {
        for (text, want) in [
            ("", ""),
            ("  \t\n ", ""),
            ("The ROCK", "the rock"),
            ("he's we've I'm they'll you'd we're won't", "he 's we 've i 'm they 'll you 'd we 're wo n't"),
            ("rock'n'roll o'clock well-known -- dash- -x", "rock'n'roll o'clock well-known -- dash - - x"),
            ("$10,000.50, 3.5. 4.", "$ 10,000.50 , 3.5 . 4 ."),
            ("''Conan'' \"x\"", "'' conan '' \" x \""),
            ("don’t", "do n't"),
            ("n't 's", "n't ' s"),
            ("a<br />b<br>c<br/>d", "a b c d"),
            ("café naïve e\u{301}t", "café naïve e\u{301}t"),
            ("what?!", "what ? !"),
        ] {
            assert_eq!(tokenize(text).join(" "), want, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_but_white_space_is_lost(text in "[a-z0-9 '.,!-]{0,40}") {
            prop_assert_eq!(tokenize(&text).concat(), text.replace(' ', ""));
        }

        #[test]
        fn any_text(text in any::<String>()) {
            for word in tokenize(&text) {
                prop_assert!(!word.is_empty() && !word.contains(char::is_whitespace));
            }
            prop_assert_eq!(characters(&text).collect::<String>(), text);
        }
    }
}
