/// Tells how many tokens a text has for the model that will read it. Any `Fn(&str) -> usize` does.
///
/// The same text must always have the same number.
pub trait CountTokens {
    /// The number of tokens.
    fn tokens(&self, text: &str) -> usize;
}

impl<F: Fn(&str) -> usize> CountTokens for F {
    fn tokens(&self, text: &str) -> usize {
        self(text)
    }
}

/// An approximation that needs no model's vocabulary and means to err upwards.
///
/// Vocabularies of today's models hold most short English words as one token and break the rest into pieces of some
/// four letters. So: one token for each begun 4 ASCII letters of a run, for each begun 3 digits, for each other visible
/// character, for each line's end, and for each begun 4 spaces of an indent. Letters beyond ASCII count one each,
/// which is much for Latin with accents and about right for Chinese. Dense code and unusual names can still have more
/// tokens than this says: where the bound is hard, leave a margin or count with the model's own vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ApproximateTokens;

impl CountTokens for ApproximateTokens {
    fn tokens(&self, text: &str) -> usize {
        let mut tokens = 0;
        let mut before = Kind::Space;
        let mut run = 0_usize;
        for c in text.chars() {
            let kind = Kind::of(c);
            run = if kind == before { run + 1 } else { 1 };
            before = kind;
            tokens += match kind {
                Kind::Letter => usize::from(run % 4 == 1),
                Kind::Digit => usize::from(run % 3 == 1),
                // A single space belongs to the word behind it.
                Kind::Space => usize::from(run % 4 == 2),
                Kind::Other => 1,
            };
        }
        tokens
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Digit,
    Space,
    Other,
}

impl Kind {
    fn of(c: char) -> Self {
        match c {
            'a'..='z' | 'A'..='Z' => Self::Letter,
            '0'..='9' => Self::Digit,
            ' ' | '\t' | '\r' => Self::Space,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests;
