//! The text of a query, taken apart. Pure: what a word is, is handed in.

use crate::query::{QUERY_BYTES_MAX, QUERY_WORDS_MAX};
use crate::{Error, Words};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Parsed {
    pub(super) required: Vec<Clause>,
    pub(super) optional: Vec<Clause>,
    pub(super) excluded: Vec<Clause>,
}

/// Words that stand side by side; `open` if the last is only a beginning. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clause {
    pub(super) words: Vec<String>,
    pub(super) open: bool,
}

/// `None` for blank text.
pub(super) fn parse(
    text: &str,
    unsigned: Words,
    mut split: impl FnMut(&str) -> Vec<String>,
) -> Result<Option<Parsed>, Error> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(Error::QueryTooLong { bytes: text.len(), max: QUERY_BYTES_MAX });
    }
    if text.trim().is_empty() {
        return Ok(None);
    }
    let mut parsed = Parsed::default();
    let mut words_left = QUERY_WORDS_MAX;
    let mut at = 0;
    while let Some(piece) = next_piece(text, &mut at)? {
        let words = split(piece.text);
        if words.is_empty() {
            match piece.star {
                Some(at) => return Err(Error::BarePrefix { at }),
                None => continue,
            }
        }
        words_left =
            words_left.checked_sub(words.len()).ok_or(Error::TooManyWords { max: QUERY_WORDS_MAX })?;
        let list = match (piece.sign, unsigned) {
            (Some('-'), _) => &mut parsed.excluded,
            (None, Words::Any) => &mut parsed.optional,
            _ => &mut parsed.required,
        };
        list.push(Clause { words, open: piece.star.is_some() });
    }
    if parsed.required.is_empty() && parsed.optional.is_empty() {
        return Err(Error::NothingToFind);
    }
    Ok(Some(parsed))
}

struct Piece<'a> {
    sign: Option<char>,
    text: &'a str,
    star: Option<usize>,
}

/// The next piece from `at` on, which moves behind it.
fn next_piece<'a>(text: &'a str, at: &mut usize) -> Result<Option<Piece<'a>>, Error> {
    let rest = &text[*at..];
    let trimmed = rest.trim_start();
    let mut start = *at + rest.len() - trimmed.len();
    let Some(first) = trimmed.chars().next() else { return Ok(None) };
    let sign = matches!(first, '+' | '-').then_some(first);
    start += usize::from(sign.is_some());
    let rest = &text[start..];
    if let Some(phrase) = rest.strip_prefix('"') {
        let end = phrase.find('"').ok_or(Error::UnclosedQuote { at: start })?;
        let after = start + 1 + end + 1;
        let star = text[after..].starts_with('*').then_some(after);
        *at = after + usize::from(star.is_some());
        return Ok(Some(Piece { sign, text: &phrase[..end], star }));
    }
    let word = &rest[..rest.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(rest.len())];
    *at = start + word.len();
    let star = word.ends_with('*').then(|| *at - 1);
    Ok(Some(Piece { sign, text: word, star }))
}

#[cfg(test)]
mod tests;
