//! What a change adds to and takes from the public interface of source files, read line by line.
//!
//! It reports; it does not judge. Whether a removal breaks somebody is for tests, versions and people to say.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use quorate_evidence::check::{Finding, Severity};

use super::added::{FILE_MAX, display};
use super::{Opinion, finding};
use crate::subject::Subject;

pub(super) fn interface(subject: &Subject) -> Opinion {
    let mut findings: Vec<Finding> = Vec::new();
    let (mut removed_count, mut added_count) = (0_u32, 0_u32);
    for changed in &subject.changed {
        let Some(reader) = reader(&changed.path) else { continue };
        let items = |root: Option<&Path>| {
            root.map(|root| items(&root.join(&changed.path), reader)).unwrap_or_default()
        };
        let (before, after) = (items(subject.base_checkout.as_deref()), items(Some(&subject.checkout)));
        let name = display(&changed.path);
        for item in before.difference(&after) {
            removed_count += 1;
            let message = format!("no longer there as it was: {item}");
            findings.push(finding("public-item-removed", Severity::Note, &name, None, message));
        }
        for item in after.difference(&before) {
            added_count += 1;
            findings.push(finding("public-item-added", Severity::Note, &name, None, format!("new: {item}")));
        }
    }
    let mut opinion = Opinion::of(findings, "the public interface was compared");
    opinion.reason = format!("{removed_count} public items removed or changed, {added_count} added");
    opinion.measures.insert("public_items_removed".into(), f64::from(removed_count));
    opinion.measures.insert("public_items_added".into(), f64::from(added_count));
    opinion
}

type Reader = fn(&str) -> Option<String>;

fn reader(path: &Path) -> Option<Reader> {
    match path.extension()?.to_str()? {
        "rs" => Some(rust),
        "py" => Some(python),
        "go" => Some(go),
        "ts" | "tsx" | "js" | "mjs" => Some(javascript),
        _ => None,
    }
}

fn items(path: &Path, reader: Reader) -> BTreeSet<String> {
    let plain =
        fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= FILE_MAX);
    let text = if plain { fs::read(path).unwrap_or_default() } else { Vec::new() };
    String::from_utf8_lossy(&text).lines().filter_map(reader).collect()
}

/// A declaration up to its body, with its spaces folded.
fn signature(line: &str, body: &[char]) -> String {
    let head = line.split(body).next().unwrap_or(line);
    head.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn rust(line: &str) -> Option<String> {
    let line = line.trim_start();
    let rest = line.strip_prefix("pub ")?;
    let kinds = [
        "fn ",
        "async fn ",
        "unsafe fn ",
        "const ",
        "struct ",
        "enum ",
        "trait ",
        "type ",
        "static ",
        "mod ",
        "use ",
        "union ",
    ];
    kinds.iter().any(|kind| rest.starts_with(kind)).then(|| signature(line, &['{', ';', '=']))
}

fn python(line: &str) -> Option<String> {
    let rest = line
        .strip_prefix("def ")
        .or_else(|| line.strip_prefix("class "))
        .or_else(|| line.strip_prefix("async def "))?;
    (!rest.starts_with('_')).then(|| line.trim_end_matches([':', ' ']).to_owned())
}

fn go(line: &str) -> Option<String> {
    let rest = ["func ", "type ", "const ", "var "].iter().find_map(|kind| line.strip_prefix(kind))?;
    let name = if rest.starts_with('(') { rest.split_once(") ")?.1 } else { rest };
    name.starts_with(|c: char| c.is_uppercase()).then(|| signature(line, &['{', '=']))
}

fn javascript(line: &str) -> Option<String> {
    line.starts_with("export ").then(|| signature(line, &['{', '=', ';']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_declarations_are_told_from_others() {
        assert_eq!(rust("    pub fn  a(x: u8) -> u8 {").as_deref(), Some("pub fn a(x: u8) -> u8"));
        assert_eq!(rust("pub(crate) fn a() {"), None);
        assert_eq!(rust("fn a() {"), None);
        assert_eq!(python("def a(x):").as_deref(), Some("def a(x)"));
        assert_eq!(python("def _a(x):"), None);
        assert_eq!(go("func (s *S) Do(x int) error {").as_deref(), Some("func (s *S) Do(x int) error"));
        assert_eq!(go("func do() {"), None);
        assert_eq!(javascript("export function a(x) {").as_deref(), Some("export function a(x)"));
    }
}
