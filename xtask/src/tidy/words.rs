//! Words that say nothing, and so stand in no name and no document.
//!
//! Each is put together from two halves, so that this file passes its own rule.

use std::path::Path;

/// Boasts. A number that a command measured says more.
const PROSE: [&str; 9] = [
    concat!("ult", "ra"),
    concat!("enhance", "d"),
    concat!("production ", "ready"),
    concat!("production-", "ready"),
    concat!("blazing", "ly"),
    concat!("enterprise-", "grade"),
    concat!("state of the ", "art"),
    concat!("state-of-the-", "art"),
    concat!("battle-", "tested"),
];

/// Parts of names that do not say what a thing is.
const NAMES: [&str; 6] = [
    concat!("man", "ager"),
    concat!("help", "er"),
    concat!("help", "ers"),
    concat!("ut", "il"),
    concat!("ut", "ils"),
    concat!("enhance", "d"),
];

/// Keywords after which Rust declares a name.
const DECLARES: [&str; 9] = ["struct", "enum", "union", "trait", "type", "fn", "mod", "const", "static"];

/// A word in a text for people.
pub(super) fn in_prose(text: &str) -> Option<String> {
    let lower = text.to_lowercase();
    let found = PROSE.into_iter().find(|word| stands_alone(&lower, word))?;
    Some(format!("`{found}` says nothing: give a measured number, or leave it out"))
}

/// A word in the name of a file or folder.
pub(super) fn in_path(path: &Path) -> Option<String> {
    path.components().find_map(|part| {
        let name = part.as_os_str().to_string_lossy();
        in_name(name.split('.').next().unwrap_or_default())
    })
}

/// A word in a name that a line of Rust declares.
pub(super) fn in_declaration(line: &str) -> Option<String> {
    let code = line.split("//").next().unwrap_or_default();
    let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        if DECLARES.contains(&word) {
            return in_name(words.next()?);
        }
    }
    None
}

fn in_name(name: &str) -> Option<String> {
    let part = segments(name).into_iter().find(|part| NAMES.contains(&part.as_str()))?;
    Some(format!("`{name}`: `{part}` does not say what it is; name it by what it does or holds"))
}

/// The words of a name, in lower case: `FooBar`, `foo_bar` and `foo-bar` have two.
fn segments(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut lower_before = false;
    for c in name.chars() {
        let splits = c == '_' || c == '-' || (c.is_uppercase() && lower_before);
        if splits {
            parts.push(String::new());
        }
        if c != '_' && c != '-' {
            parts.last_mut().expect("there is always a part").extend(c.to_lowercase());
        }
        lower_before = c.is_lowercase() || c.is_numeric();
    }
    parts
}

/// Whether a word stands in a text with no letter directly before or after it.
fn stands_alone(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_judged_by_its_words() {
        let manager = concat!("Man", "ager");
        assert!(in_declaration(&format!("pub(crate) struct Task{manager};")).is_some());
        assert!(in_declaration(&format!("fn task_{}(", manager.to_lowercase())).is_some());
        assert!(in_declaration(&format!("let x = {manager}::new();")).is_none());
        assert!(in_declaration("fn utilization(").is_none());
        assert!(in_declaration("struct Utility;").is_none());
    }

    #[test]
    fn a_file_is_judged_by_its_name() {
        assert!(in_path(Path::new(concat!("crates/x/src/ut", "ils.rs"))).is_some());
        assert!(in_path(Path::new(concat!("crates/x/help", "er/lib.rs"))).is_some());
        assert!(in_path(Path::new("crates/x/src/utilization.rs")).is_none());
    }

    #[test]
    fn a_boast_is_found_as_a_word() {
        assert!(in_prose(concat!("An Ult", "ra-fast engine")).is_some());
        assert!(in_prose("ultraviolet and ultramarine").is_none());
    }
}
