use tantivy::tokenizer::{AsciiFoldingFilter, TextAnalyzer, Token, TokenStream, Tokenizer};

/// A word counts up to this many bytes.
const WORD_BYTES_MAX: usize = 128;

/// What makes words of text, of documents and queries alike: runs of letters and digits, without case and accents.
pub(super) fn analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(Words).filter(AsciiFoldingFilter).build()
}

/// The words of a piece of a query.
pub(super) fn words(analyzer: &mut TextAnalyzer, text: &str) -> Vec<String> {
    let mut words = Vec::new();
    analyzer.token_stream(text).process(&mut |token| words.push(token.text.clone()));
    words
}

#[derive(Debug, Clone, Default)]
struct Words;

impl Tokenizer for Words {
    type TokenStream<'a> = Stream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Stream<'a> {
        Stream { text, at: 0, token: Token::default() }
    }
}

struct Stream<'a> {
    text: &'a str,
    at: usize,
    token: Token,
}

impl TokenStream for Stream<'_> {
    fn advance(&mut self) -> bool {
        self.token.text.clear();
        let mut start = None;
        for (offset, c) in self.text[self.at..].char_indices() {
            let here = self.at + offset;
            if is_mark(c) {
                continue;
            }
            match start {
                Some(start) if !c.is_alphanumeric() || is_word_alone(c) => return self.finish(start, here),
                None if !c.is_alphanumeric() => continue,
                None if is_word_alone(c) => {
                    self.token.text.push(c);
                    return self.finish(here, here + c.len_utf8());
                }
                None => start = Some(here),
                Some(_) => {}
            }
            self.push(c);
        }
        match start {
            Some(start) => self.finish(start, self.text.len()),
            None => false,
        }
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}

impl Stream<'_> {
    fn push(&mut self, c: char) {
        for lower in c.to_lowercase().filter(|&lower| !is_mark(lower)) {
            // The sigma at a word's end is the same letter.
            let lower = if lower == 'ς' { 'σ' } else { lower };
            if self.token.text.len() + lower.len_utf8() <= WORD_BYTES_MAX {
                self.token.text.push(lower);
            }
        }
    }

    fn finish(&mut self, from: usize, to: usize) -> bool {
        self.token.offset_from = from;
        self.token.offset_to = to;
        self.token.position = self.token.position.wrapping_add(1);
        self.at = to;
        true
    }
}

/// Combining accents: `e` followed by one is the same as `é`, and that the same as `e`.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}')
}

/// Scripts that put no space between words: each character is searched as a word of its own.
fn is_word_alone(c: char) -> bool {
    matches!(c,
        '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests;
