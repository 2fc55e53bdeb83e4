use proptest::prelude::*;

use super::{Error, Filter, View};
use crate::message::{Message, Priority};

fn check(filter: &str, message: &Message, expected: bool) {
    let compiled = Filter::new(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
    assert_eq!(compiled.accepts(&View::new("run.7.done", message)), expected, "{filter}");
}

fn message() -> Message {
    Message::new(
        br#"{"score": 0.75, "name": "parser", "ok": true, "deep": {"list": ["a", "b"]}, "none": null}"#,
    )
    .with_priority(Priority::High)
    .with_header("role", "tester")
    .with_header("attempt", "3")
}

#[test]
fn each_operator_means_what_it_says() {
    for (filter, expected) in [
        ("role = tester", true),
        ("role = 'tester'", true),
        ("role != \"coder\"", true),
        ("role eq coder", false),
        ("attempt > 2", true),
        ("attempt <= 2", false),
        ("data.score ge 0.75", true),
        ("data.score lt 0.75", false),
        ("data.ok = true", true),
        ("data.ok = false", false),
        ("role in [coder, tester]", true),
        ("attempt in [1, 2]", false),
        ("role in []", false),
        ("data.name contains ars", true),
        ("data.deep.list contains b", true),
        ("data.deep.list.0 = a", true),
        ("data.deep.list contains c", false),
        (r#"data.name matches "^p\w+r$""#, true),
        ("topic matches '^run[.]'", true),
        ("exists role", true),
        ("exists data.deep", true),
        ("exists data.none", false),
        ("not exists draft", true),
        ("priority >= high", true),
        ("priority = critical", false),
        ("priority in [critical, high]", true),
        ("size > 10", true),
    ] {
        check(filter, &message(), expected);
    }
}

#[test]
fn and_binds_closer_than_or_and_parentheses_closest() {
    check("role = coder and attempt = 1 or data.ok = true", &message(), true);
    check("role = coder and (attempt = 1 or data.ok = true)", &message(), false);
    check("not (role = coder or role = planner) and attempt = 3", &message(), true);
}

#[test]
fn a_missing_field_satisfies_no_comparison() {
    check("ghost != x", &message(), false);
    check("not ghost = x", &message(), true);
    check("data.name > 3", &message(), false);
    check("data.score = 0.75", &Message::new(b"not json"), false);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (filter, expected) in [
        ("", "at position 0: a field expected, found the end"),
        ("role", "at position 4: an operator (= != < <= > >= in contains matches) expected, found the end"),
        ("role =", "at position 6: a value expected, found the end"),
        ("role = a b", "at position 9: `and`, `or` or the end expected, found `b`"),
        ("(role = a", "at position 9: `)` expected, found the end"),
        ("role = 'a", "at position 7: the text has no closing quote"),
        (
            "priority > soon",
            "at position 11: critical, high, normal, low or background expected, found `soon`",
        ),
        ("role ~ a", "at position 5: a field, a value or a sign expected, found '~'"),
    ] {
        assert_eq!(Filter::new(filter).unwrap_err().to_string(), expected, "{filter}");
    }
    assert!(matches!(Filter::new("a matches '('").unwrap_err(), Error::Expression { at: 10, .. }));
    assert!(matches!(Filter::new(r"a matches '\w{500}{500}'").unwrap_err(), Error::Expression { .. }));
}

#[test]
fn a_filter_has_bounds() {
    assert_eq!(Filter::new(&"(".repeat(100)).unwrap_err(), Error::TooDeep);
    assert_eq!(Filter::new(&"not ".repeat(100)).unwrap_err(), Error::TooDeep);
    assert_eq!(Filter::new(&"a=1 and ".repeat(200)).unwrap_err(), Error::TooMany);
    assert_eq!(Filter::new(&"x".repeat(5000)).unwrap_err(), Error::Length(5000));
    assert_eq!(Filter::new(&format!("a in [{}]", "1,".repeat(400))).unwrap_err(), Error::ListTooLong);
}

proptest! {
    #[test]
    fn any_text_is_a_filter_or_an_error(text in ".{0,200}") {
        if let Ok(filter) = Filter::new(&text) {
            filter.accepts(&View::new("a.b", &message()));
        }
    }

    #[test]
    fn words_of_the_language_in_any_order_are_a_filter_or_an_error(
        words in proptest::collection::vec(
            prop_oneof!["and", "or", "not", "exists", "in", "matches", "contains", "[()=<>,]", "\\[", "\\]", "'a'", "data\\.x", "1"], 0..30,
        ),
    ) {
        if let Ok(filter) = Filter::new(&words.join(" ")) {
            filter.accepts(&View::new("a.b", &message()));
        }
    }
}
