//! The rules of the repository that no compiler checks: sizes, words, places, and configuration that must not drift apart.

mod words;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The largest file: what is larger is generated, or belongs elsewhere.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The longest text: what is longer holds more than one idea.
const FILE_LINES_MAX: usize = 1200;
/// Texts nobody writes by hand.
const GENERATED: [&str; 2] = ["Cargo.lock", "LICENSE-APACHE"];

/// Folders under which people keep their home; in two parts, so that this file passes its own rule.
const HOMES: [&str; 3] = [concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/ro", "ot/")];
/// Tests that do not run, and code that is not there.
const UNFINISHED: [&str; 2] = [concat!("#[igno", "re"), concat!("unimplemen", "ted!(")];

/// A rule that a file breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, from the root of the repository.
    pub file: PathBuf,
    /// The line, counted from 1; none where the whole file is meant.
    pub line: Option<usize>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// The files of the repository: what git knows, and what it would know after `git add`.
pub fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"];
    let output =
        Command::new("git").args(args).current_dir(root).output().context("cannot run git ls-files")?;
    ensure!(
        output.status.success(),
        "git ls-files failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let paths = names.map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned()));
    // Deleted and not committed yet: git still names them. A link is judged where it leads.
    Ok(paths
        .filter(|path| root.join(path).symlink_metadata().is_ok_and(|metadata| metadata.is_file()))
        .collect())
}

/// Every rule on every file.
pub fn check(root: &Path, files: &[PathBuf]) -> Result<Vec<Fault>> {
    let mut faults = Vec::new();
    let shared = fs::read_to_string(root.join("clippy.toml")).context("cannot read clippy.toml")?;
    for file in files {
        let path = root.join(file);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        faults.extend(size(bytes.len() as u64).map(|message| whole(file, message)));
        faults.extend(words::in_path(file).map(|message| whole(file, message)));
        let Ok(text) = std::str::from_utf8(&bytes) else {
            continue;
        };
        if !GENERATED.iter().any(|name| file.ends_with(name)) {
            faults.extend(length(text).map(|message| whole(file, message)));
        }
        faults.extend(lines(file, text));
        // The example has settings of its own: it stands for somebody else's repository.
        let own = !file.starts_with("examples");
        if own && file.ends_with("clippy.toml") && file.parent() != Some(Path::new("")) {
            faults.extend(unshared(&shared, text).into_iter().map(|message| whole(file, message)));
        }
        if own && file.ends_with("Cargo.toml") && file.parent() != Some(Path::new("")) {
            faults.extend(manifest(text).map(|message| whole(file, message)));
        }
    }
    Ok(faults)
}

fn whole(file: &Path, message: String) -> Fault {
    Fault { file: file.to_owned(), line: None, message }
}

fn size(bytes: u64) -> Option<String> {
    (bytes > FILE_BYTES_MAX).then(|| format!("{bytes} bytes, allowed are {FILE_BYTES_MAX}"))
}

fn length(text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > FILE_LINES_MAX)
        .then(|| format!("{lines} lines, allowed are {FILE_LINES_MAX}: it holds more than one idea"))
}

fn lines(file: &Path, text: &str) -> Vec<Fault> {
    let rust = file.extension().is_some_and(|extension| extension == "rs");
    let prose = file.extension().is_some_and(|extension| extension == "md");
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut found =
            |message| faults.push(Fault { file: file.to_owned(), line: Some(index + 1), message });
        if let Some(folder) = home(line) {
            found(format!("the path of a home folder ({folder}…): it means nothing on another machine"));
        }
        if rust && let Some(what) = UNFINISHED.iter().find(|what| line.contains(**what)) {
            found(format!("`{what}`: what is not finished does not lie here"));
        }
        let said = if prose { Some(line) } else { comment(file, line) };
        if let Some(message) = said.and_then(words::in_prose) {
            found(message);
        }
        if rust && let Some(message) = words::in_declaration(line) {
            found(message);
        }
    }
    faults
}

/// The home folder that a line names: a name must follow, so that a bare prefix in a list of prefixes is none.
fn home(line: &str) -> Option<&'static str> {
    HOMES.into_iter().find(|prefix| {
        line.match_indices(prefix).any(|(at, _)| {
            let starts = line[..at]
                .chars()
                .next_back()
                .is_none_or(|before| !before.is_alphanumeric() && before != '.');
            let named =
                line[at + prefix.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '.');
            starts && named
        })
    })
}

/// What a line says to people, where it is a comment.
fn comment<'a>(file: &Path, line: &'a str) -> Option<&'a str> {
    let mark = match file.extension()?.to_str()? {
        "rs" => "//",
        "toml" | "sh" | "py" => "#",
        _ => return None,
    };
    line.find(mark).map(|at| &line[at..])
}

/// Lines of the root's `clippy.toml` that a crate's own lacks: the nearest file replaces the root's, it does not extend it.
fn unshared(shared: &str, own: &str) -> Vec<String> {
    let meant = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let own: Vec<_> = own.lines().map(str::trim).filter(meant).collect();
    let lacking = shared.lines().map(str::trim).filter(meant).filter(|line| !own.contains(line));
    lacking.map(|line| format!("lacks `{line}`, which the root's clippy.toml has")).collect()
}

/// A member that does not take the workspace's lints.
fn manifest(text: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim);
    let inherits = lines.by_ref().any(|line| line == "[lints]") && lines.next() == Some("workspace = true");
    (!inherits).then(|| {
        "does not inherit the lints of the workspace: add `[lints]` with `workspace = true`".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, text: &str) -> Vec<String> {
        lines(Path::new(file), text).iter().map(Fault::to_string).collect()
    }

    #[test]
    fn large_files_and_long_texts_are_faults() {
        assert!(size(FILE_BYTES_MAX).is_none());
        assert!(size(FILE_BYTES_MAX + 1).is_some());
        assert!(length(&"x\n".repeat(FILE_LINES_MAX)).is_none());
        assert!(length(&"x\n".repeat(FILE_LINES_MAX + 1)).is_some());
    }

    #[test]
    fn the_path_of_a_home_folder_is_a_fault_with_its_line() {
        let text = format!("one\nsee {}somebody/notes\n", HOMES[0]);
        let message = format!(
            "notes.txt:2: the path of a home folder ({}…): it means nothing on another machine",
            HOMES[0]
        );
        assert_eq!(found("notes.txt", &text), [message]);
        assert!(found("notes.txt", &format!("see {} and docs{}x", HOMES[0], HOMES[0])).is_empty());
    }

    #[test]
    fn tests_that_do_not_run_are_faults() {
        assert_eq!(found("src/lib.rs", &format!("{}]\n", UNFINISHED[0])).len(), 1);
        assert!(found("notes.md", &format!("{}]\n", UNFINISHED[0])).is_empty());
    }

    #[test]
    fn boasts_are_faults_in_prose_and_comments_only() {
        let boast = concat!("production ", "ready");
        assert_eq!(found("README.md", boast).len(), 1);
        assert_eq!(found("src/lib.rs", &format!("//! It is {boast}.")).len(), 1);
        assert_eq!(found("typos.toml", &format!("a = 1 # {boast}")).len(), 1);
        assert!(found("src/lib.rs", &format!("let text = \"{boast}\";")).is_empty());
    }

    #[test]
    fn a_crates_clippy_settings_hold_the_shared_ones() {
        let shared = "# why\na = true\nb = 1\n";
        assert!(unshared(shared, "b = 1\na = true\nown = 2\n").is_empty());
        assert_eq!(unshared(shared, "b = 1\n"), ["lacks `a = true`, which the root's clippy.toml has"]);
    }

    #[test]
    fn a_member_inherits_the_lints() {
        assert!(manifest("[package]\n\n[lints]\nworkspace = true\n").is_none());
        assert!(manifest("[package]\n").is_some());
        assert!(manifest("[lints]\n[dependencies]\n").is_some());
    }
}
