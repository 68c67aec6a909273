//! An argument string, split as Receptor splits it: like a shell's words, without any expansion.

/// Why a string cannot be split. The texts are Receptor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadArguments {
    /// A quote is never closed.
    #[error("EOF found when expecting closing quote")]
    OpenQuote,
    /// The last character is a backslash.
    #[error("EOF found after escape character")]
    OpenEscape,
}

/// The words of `text`: divided by space, tab, CR and LF; `'...'` is literal; in `"..."` and outside, a backslash takes
/// the next character as it is; `#` at the start of a word hides the rest of its line; empty quotes are an empty word.
pub fn split(text: &str) -> Result<Vec<String>, BadArguments> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        match letter {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '#' if word.is_none() => drop(rest.by_ref().find(|letter| *letter == '\n')),
            '\\' => word.get_or_insert_default().push(rest.next().ok_or(BadArguments::OpenEscape)?),
            '\'' => quoted(&mut rest, word.get_or_insert_default(), '\'')?,
            '"' => quoted(&mut rest, word.get_or_insert_default(), '"')?,
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(rest: &mut std::str::Chars<'_>, word: &mut String, quote: char) -> Result<(), BadArguments> {
    loop {
        match rest.next().ok_or(BadArguments::OpenQuote)? {
            letter if letter == quote => return Ok(()),
            '\\' if quote == '"' => word.push(rest.next().ok_or(BadArguments::OpenEscape)?),
            letter => word.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_split_as_receptor_splits_them() {
        for (text, words) in [
            ("", vec![]),
            (" a\tb\r\nc ", vec!["a", "b", "c"]),
            ("-c 'echo $0 $1' a", vec!["-c", "echo $0 $1", "a"]),
            (r#""a\d" a\ b"#, vec!["ad", "a b"]),
            ("a''b '' \"\"", vec!["ab", "", ""]),
            ("a #hidden b\nc#d", vec!["a", "c#d"]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text:?}");
        }
        assert_eq!(split("'a"), Err(BadArguments::OpenQuote));
        assert_eq!(split("a\\"), Err(BadArguments::OpenEscape));
    }
}
