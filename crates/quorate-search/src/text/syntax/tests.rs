use proptest::prelude::*;

use super::*;
use crate::text::tokenizer;

fn parsed(text: &str) -> Result<Option<Parsed>, Error> {
    let mut analyzer = tokenizer::analyzer();
    parse(text, Words::Any, |piece| tokenizer::words(&mut analyzer, piece))
}

fn clause(words: &[&str], open: bool) -> Clause {
    Clause { words: words.iter().map(ToString::to_string).collect(), open }
}

#[test]
fn words_phrases_beginnings_and_signs_are_told_apart() {
    let got = parsed(r#"plain +must -not "a Phrase" -"no phrase" deplo* "open end"* snake_case - a-b"#);
    let expect = Parsed {
        required: vec![clause(&["must"], false)],
        optional: vec![
            clause(&["plain"], false),
            clause(&["a", "phrase"], false),
            clause(&["deplo"], true),
            clause(&["open", "end"], true),
            clause(&["snake", "case"], false),
            clause(&["a", "b"], false),
        ],
        excluded: vec![clause(&["not"], false), clause(&["no", "phrase"], false)],
    };
    assert_eq!(got, Ok(Some(expect)));
}

#[test]
fn faults_are_told_with_their_place() {
    assert_eq!(parsed("ab \"cd"), Err(Error::UnclosedQuote { at: 3 }));
    assert_eq!(parsed("ab *"), Err(Error::BarePrefix { at: 3 }));
    assert_eq!(parsed("-ab"), Err(Error::NothingToFind));
    assert_eq!(parsed("?!"), Err(Error::NothingToFind));
    assert_eq!(parsed(" \n"), Ok(None));
    assert_eq!(parsed(&"a ".repeat(200)), Err(Error::TooManyWords { max: QUERY_WORDS_MAX }));
    assert!(matches!(parsed(&"a".repeat(10_000)), Err(Error::QueryTooLong { .. })));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(\\PC|[-+*\" \\n\u{301}é漢ab]){0,60}") {
        let _ = parsed(&text);
    }
}
