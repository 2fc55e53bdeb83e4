//! Things a change should not bring along unnoticed.

use std::path::{Component, Path, PathBuf};

use quorate_evidence::check::{Finding, Severity};

use super::added::{self, display};
use super::{Opinion, finding};
use crate::subject::{ChangeKind, Subject};

/// Files that run on other machines or at other times than anybody expects of a change.
const SENSITIVE: [&str; 8] = [
    ".github/workflows/",
    ".gitlab-ci.yml",
    ".githooks/",
    ".husky/",
    ".gitattributes",
    ".gitmodules",
    "build.rs",
    ".cargo/config.toml",
];

pub(super) fn hygiene(subject: &Subject) -> Opinion {
    let mut findings: Vec<Finding> = Vec::new();
    for changed in subject.changed.iter().filter(|changed| changed.kind != ChangeKind::Deleted) {
        let name = display(&changed.path);
        if changed.mode == 0o120_000 {
            let target = std::fs::read_link(subject.checkout.join(&changed.path)).unwrap_or_default();
            if leaves(&changed.path, &target) {
                let message = format!("a link out of the tree, to {}", display(&target));
                let found = finding("symlink-out-of-tree", Severity::Error, &name, None, message);
                findings.push(Finding { cwe: Some("CWE-59".into()), ..found });
            }
        }
        if changed.mode == 0o160_000 && changed.kind == ChangeKind::Added {
            findings.push(finding("new-submodule", Severity::Warning, &name, None, "a new submodule".into()));
        }
        if is_executable_format(&subject.checkout.join(&changed.path)) && changed.kind == ChangeKind::Added {
            let message = "a compiled program in the source tree".into();
            findings.push(finding("binary-added", Severity::Error, &name, None, message));
        }
        if SENSITIVE.iter().any(|place| {
            if place.ends_with('/') {
                name.starts_with(place)
            } else {
                name == *place || name.ends_with(&format!("/{place}"))
            }
        }) {
            let message = "changes what runs at build time, in CI or in git".into();
            findings.push(finding("sensitive-file", Severity::Note, &name, None, message));
        }
    }
    let (files, _) = added::files(subject);
    for file in files.iter().filter(|file| file.name.ends_with(".rs")) {
        findings.extend(unsafe_without_reason(file));
    }
    findings.sort_by(|a, b| (&a.file, a.line, &a.rule).cmp(&(&b.file, b.line, &b.rule)));
    Opinion::of(findings, "nothing unexpected in the changed files")
}

/// Added `unsafe` blocks without a `SAFETY` comment above them.
fn unsafe_without_reason(file: &added::File) -> Vec<Finding> {
    let lines: Vec<&str> = file.text.lines().collect();
    let opens = |line: &str| line.contains("unsafe {") && !line.trim_start().starts_with("//");
    let explained = |number: u64| {
        let at = usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1).min(lines.len());
        lines[..at].iter().rev().take(6).any(|line| line.contains("SAFETY"))
    };
    file.added
        .iter()
        .filter(|(number, line)| opens(line) && !explained(*number) && !line.contains("SAFETY"))
        .map(|(number, _)| {
            let message = "an unsafe block without a SAFETY comment".into();
            finding("unsafe-without-reason", Severity::Warning, &file.name, Some(*number), message)
        })
        .collect()
}

/// Whether a link's target lies outside the tree; an absolute one always does.
fn leaves(link: &Path, target: &Path) -> bool {
    let mut at = PathBuf::from(link.parent().unwrap_or_else(|| Path::new("")));
    for part in target.components() {
        match part {
            Component::Normal(name) => at.push(name),
            Component::ParentDir => {
                if !at.pop() {
                    return true;
                }
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return true,
        }
    }
    false
}

fn is_executable_format(path: &Path) -> bool {
    use std::io::Read;
    let mut start = [0; 4];
    let is_file = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    let read = is_file && std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok();
    read && (start == *b"\x7fELF" || start[..2] == *b"MZ" || start == [0xcf, 0xfa, 0xed, 0xfe])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_leave_the_tree_are_told_from_those_that_stay() {
        for (link, target, out) in [
            ("a/b", "../c", false),
            ("a/b", "../../c", true),
            ("a", "/etc/passwd", true),
            ("a/b/c", "../../x/../y", false),
            ("a", "..", true),
            ("a", "./b", false),
        ] {
            assert_eq!(leaves(Path::new(link), Path::new(target)), out, "{link} -> {target}");
        }
    }
}
