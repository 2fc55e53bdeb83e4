//! The lines a change adds.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::subject::{ChangeKind, ChangedPath, Subject};

/// The largest file read.
pub(super) const FILE_MAX: u64 = 4 << 20;

/// A changed file whose text could be read.
#[derive(Debug)]
pub(super) struct File {
    pub(super) name: String,
    /// The whole text afterwards.
    pub(super) text: String,
    /// Numbers (from 1) and texts of lines that were not there before.
    pub(super) added: Vec<(u64, String)>,
}

/// Changed files, and how many were not read because they are too large or not text.
pub(super) fn files(subject: &Subject) -> (Vec<File>, usize) {
    let mut files = Vec::new();
    let mut unread = 0;
    for changed in &subject.changed {
        if changed.kind == ChangeKind::Deleted || changed.mode == 0o160_000 {
            continue;
        }
        match read(&subject.checkout, changed) {
            Some(text) => {
                let before =
                    subject.base_checkout.as_deref().and_then(|base| read(base, changed)).unwrap_or_default();
                let added = added(&before, &text);
                files.push(File { name: display(&changed.path), text, added });
            }
            None => unread += 1,
        }
    }
    (files, unread)
}

/// A path for people: what is not text, or would break a line, is escaped.
pub(super) fn display(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => path.as_os_str().as_bytes().escape_ascii().to_string(),
    }
}

/// The text of a file, or the target of a link; links are not followed, on any part of the way.
fn read(root: &Path, changed: &ChangedPath) -> Option<String> {
    let mut path = root.to_owned();
    let parts: Vec<_> = changed.path.components().collect();
    for (i, part) in parts.iter().enumerate() {
        path.push(part);
        let metadata = fs::symlink_metadata(&path).ok()?;
        if i + 1 < parts.len() && !metadata.is_dir() {
            return None;
        }
        if i + 1 == parts.len() {
            if metadata.is_symlink() {
                return Some(fs::read_link(&path).ok()?.to_string_lossy().into_owned());
            }
            if !metadata.is_file() || metadata.len() > FILE_MAX {
                return None;
            }
        }
    }
    let bytes = fs::read(&path).ok()?;
    // A NUL is what tells a binary file for git, too.
    if bytes.contains(&0) { None } else { Some(String::from_utf8_lossy(&bytes).into_owned()) }
}

/// Lines of `after` beyond as many equal ones as `before` has: moving a line adds nothing.
fn added(before: &str, after: &str) -> Vec<(u64, String)> {
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for line in before.lines() {
        *left.entry(line).or_default() += 1;
    }
    let mut added = Vec::new();
    for (number, line) in (1..).zip(after.lines()) {
        match left.get_mut(line) {
            Some(count) if *count > 0 => *count -= 1,
            _ => added.push((number, line.to_owned())),
        }
    }
    added
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_were_not_there_are_added() {
        assert_eq!(added("a\nb\n", "b\na\nb\nc\n"), [(3, "b".to_owned()), (4, "c".to_owned())]);
        assert_eq!(added("", "a"), [(1, "a".to_owned())]);
        assert_eq!(added("a", ""), []);
    }

    #[test]
    fn strange_names_are_shown_on_one_line() {
        use std::ffi::OsStr;
        assert_eq!(display(Path::new("plain name.rs")), "plain name.rs");
        assert_eq!(display(Path::new("two\nlines")), "two\\nlines");
        assert_eq!(display(Path::new(OsStr::from_bytes(b"\xff"))), "\\xff");
    }
}
