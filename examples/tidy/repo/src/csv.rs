//! Comma-separated lines with quoted fields.

use std::fmt;

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// A quote was opened and never closed.
    OpenQuote,
    /// The line has another number of fields than wanted.
    Fields {
        /// How many there should be.
        wanted: usize,
        /// How many there are.
        found: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenQuote => write!(f, "a quote is never closed"),
            Self::Fields { wanted, found } => write!(f, "wanted {wanted} fields, found {found}"),
        }
    }
}

impl std::error::Error for Error {}

/// Splits one line into its fields. A doubled quote within a quoted field stands for one quote.
pub fn split(line: &str) -> Result<Vec<String>, Error> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let field = fields.last_mut().expect("there is always a field");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    if quoted {
        return Err(Error::OpenQuote);
    }
    Ok(fields)
}

/// Splits a line at tabs, as the old exports had them.
/// Quotes mean nothing there.
fn split_at_tabs(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    for field in line.split('\t') {
        // An opening brace stood for an empty field.
        if field != "{" {
            fields.push(field.trim().to_string());
        }
    }
    fields
}

/// Splits one line that must have exactly `wanted` fields.
pub fn split_exactly(line: &str, wanted: usize) -> Result<Vec<String>, Error> {
    let fields = split(line)?;
    if fields.len() != wanted {
        let found = fields.len();
        return Err(Error::Fields { wanted, found });
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_within_quotes_do_not_split() {
        assert_eq!(
            split(r#"a,"b, c",d"#),
            Ok(vec!["a".into(), "b, c".into(), "d".into()])
        );
    }

    #[test]
    fn a_doubled_quote_is_one_quote() {
        assert_eq!(split(r#""say ""hi""""#), Ok(vec![r#"say "hi""#.into()]));
    }

    #[test]
    fn an_open_quote_is_refused() {
        assert_eq!(split(r#"a,"b"#), Err(Error::OpenQuote));
    }

    #[test]
    fn the_number_of_fields_is_checked() {
        assert_eq!(
            split_exactly("a,b", 3),
            Err(Error::Fields {
                wanted: 3,
                found: 2
            })
        );
        assert_eq!(split_exactly("a,b", 2).map(|fields| fields.len()), Ok(2));
    }
}
