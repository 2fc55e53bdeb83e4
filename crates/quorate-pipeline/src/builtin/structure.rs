//! What a change does to the shape of the code: copies instead of calls, files that outgrow their subject, new dependencies.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use quorate_evidence::check::{Finding, Severity};

use super::added::{self, FILE_MAX, File, display};
use super::{Opinion, finding};
use crate::subject::Subject;

/// As many lines as this, written again, are a copy.
const COPY_LINES: usize = 10;
/// A file longer than this is hard to hold in mind.
const FILE_LINES: usize = 1500;
/// The most source files read to look for originals.
const FILES_MAX: usize = 5000;
const SOURCES: [&str; 14] =
    ["rs", "py", "go", "js", "mjs", "ts", "tsx", "java", "c", "h", "cc", "cpp", "hpp", "rb"];
const MANIFESTS: [&str; 5] = ["Cargo.toml", "package.json", "go.mod", "pyproject.toml", "requirements.txt"];

pub(super) fn structure(subject: &Subject) -> Opinion {
    let (files, _) = added::files(subject);
    let mut findings: Vec<Finding> = copies(subject, &files);
    for file in &files {
        let lines = file.text.lines().count();
        if is_source(Path::new(&file.name))
            && lines > FILE_LINES
            && lines - file.added.len().min(lines) <= FILE_LINES
        {
            let message = format!("grows to {lines} lines");
            findings.push(finding("file-too-long", Severity::Warning, &file.name, None, message));
        }
        if MANIFESTS.iter().any(|name| file.name == *name || file.name.ends_with(&format!("/{name}")))
            && !file.added.is_empty()
        {
            let message = "may bring new dependencies".into();
            findings.push(finding("manifest-changed", Severity::Note, &file.name, None, message));
        }
    }
    findings.sort_by(|a, b| (&a.file, a.line, &a.rule).cmp(&(&b.file, b.line, &b.rule)));
    Opinion::of(findings, "no copy, no overgrown file")
}

fn is_source(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| SOURCES.contains(&extension))
}

/// A line as it counts for comparison; nothing where it says nothing.
fn substance(line: &str) -> Option<String> {
    let folded = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let thin = folded.chars().filter(|c| c.is_alphanumeric()).count() < 3;
    let aside =
        ["//", "#", "*", "/*", "use ", "import ", "from "].iter().any(|start| folded.starts_with(start));
    (!thin && !aside).then_some(folded)
}

fn windows(text: &str) -> Vec<(u64, Vec<String>)> {
    let lines: Vec<(u64, String)> =
        (1..).zip(text.lines()).filter_map(|(n, line)| Some((n, substance(line)?))).collect();
    lines
        .windows(COPY_LINES)
        .map(|window| (window[0].0, window.iter().map(|(_, line)| line.clone()).collect()))
        .collect()
}

/// Runs of added lines that stand somewhere else too.
fn copies(subject: &Subject, files: &[File]) -> Vec<Finding> {
    let mut fresh: BTreeMap<Vec<String>, Vec<(String, u64)>> = BTreeMap::new();
    for file in files.iter().filter(|file| is_source(Path::new(&file.name))) {
        let added: std::collections::BTreeSet<u64> = file.added.iter().map(|(number, _)| *number).collect();
        for (number, window) in windows(&file.text) {
            if added.contains(&number) {
                fresh.entry(window).or_default().push((file.name.clone(), number));
            }
        }
    }
    if fresh.is_empty() {
        return Vec::new();
    }
    let mut seen: BTreeMap<Vec<String>, (String, u64)> = BTreeMap::new();
    let mut findings = Vec::new();
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    for path in sources(&subject.checkout) {
        let name = display(path.strip_prefix(&subject.checkout).unwrap_or(&path));
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
        for (number, window) in windows(&text) {
            let Some(places) = fresh.get(&window) else { continue };
            let here = (name.clone(), number);
            let Some(first) = seen.get(&window).filter(|first| **first != here).cloned() else {
                seen.entry(window).or_insert(here);
                continue;
            };
            // The added side is the copy; where both are, the later one.
            let (copy, original) = if places.contains(&here) { (here, first) } else { (first, here) };
            // One finding a run, not one a line of it.
            let near = told.get(&copy.0).is_some_and(|last| copy.1.abs_diff(*last) <= 2 * COPY_LINES as u64);
            told.insert(copy.0.clone(), copy.1);
            if !near {
                let message =
                    format!("{COPY_LINES} or more lines that also stand at {}:{}", original.0, original.1);
                findings.push(finding("copied-code", Severity::Warning, &copy.0, Some(copy.1), message));
            }
        }
    }
    findings
}

fn readable(entry: &fs::DirEntry) -> bool {
    entry.metadata().is_ok_and(|metadata| metadata.len() <= FILE_MAX)
}

/// All source files of a checkout, in the order of their names.
fn sources(root: &Path) -> Vec<PathBuf> {
    let mut folders = vec![root.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type());
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            let built = ["target", "node_modules", "vendor", "third_party"]
                .iter()
                .any(|name| entry.file_name() == *name);
            match kind {
                Ok(kind) if kind.is_dir() && !hidden && !built => folders.push(path),
                Ok(kind) if kind.is_file() && is_source(&path) && readable(&entry) => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found.truncate(FILES_MAX);
    found
}

#[cfg(test)]
mod tests {
    use quorate_evidence::check::Status;

    use super::*;
    use crate::subject::{ChangeKind, ChangedPath};

    fn subject(base: &[(&str, &str)], change: &[(&str, &str)]) -> (tempfile::TempDir, Subject) {
        let folder = tempfile::tempdir().unwrap();
        for (side, files) in [("base", base.to_vec()), ("change", [base, change].concat())] {
            fs::create_dir(folder.path().join(side)).unwrap();
            for (name, text) in files {
                fs::write(folder.path().join(side).join(name), text).unwrap();
            }
        }
        let oid: quorate_base::GitOid = "a".repeat(40).parse().unwrap();
        let changed = |(name, _): &(&str, &str)| ChangedPath {
            path: name.into(),
            kind: ChangeKind::Modified,
            mode: 0o100_644,
        };
        let subject = Subject {
            checkout: folder.path().join("change"),
            base_checkout: Some(folder.path().join("base")),
            tree: oid.clone(),
            base_tree: oid,
            changed: change.iter().map(changed).collect(),
            tests: None,
        };
        (folder, subject)
    }

    fn code(seed: &str) -> String {
        (0..12).map(|i| format!("let {seed}_{i} = compute({i});\n")).collect()
    }

    #[test]
    fn a_copy_is_found_where_it_was_added_and_only_once() {
        let original = code("a");
        let (_folder, subject) = subject(&[("one.rs", &original)], &[("two.rs", &original)]);
        let opinion = structure(&subject);
        assert_eq!(opinion.status, Status::Partial);
        let places: Vec<_> = opinion.findings.iter().map(|f| (f.file.as_deref().unwrap(), f.line)).collect();
        assert_eq!(places, [("two.rs", Some(1))]);
    }

    #[test]
    fn an_old_copy_and_new_code_are_no_findings() {
        let old = code("a");
        let (_folder, subject) = subject(&[("one.rs", &old), ("two.rs", &old)], &[("three.rs", &code("b"))]);
        assert_eq!(structure(&subject).findings, []);
    }

    #[test]
    fn a_file_that_becomes_too_long_is_told() {
        let long: String = (0..1600).map(|i| format!("fn f{i}() {{}}\n")).collect();
        let (_folder, subject) = subject(&[("one.rs", "fn f() {}\n")], &[("one.rs", &long)]);
        let rules: Vec<_> = structure(&subject).findings.into_iter().map(|f| f.rule).collect();
        assert_eq!(rules, ["file-too-long"]);
    }
}
