//! What a repository is made of, told from the files at its top.

use std::fs;
use std::path::Path;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Project {
    pub families: Vec<Family>,
}

/// One language family with its commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    pub name: &'static str,
    /// The file that shows it.
    pub because: &'static str,
    pub test: Vec<String>,
    pub build: Option<Vec<String>>,
}

/// The largest manifest read.
const MANIFEST_MAX: u64 = 1 << 20;

/// Looks at a repository.
pub fn detect(root: &Path) -> Project {
    let argv = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let has = |name: &str| root.join(name).is_file();
    let mut families = Vec::new();
    if has("Cargo.toml") {
        families.push(Family {
            name: "rust",
            because: "Cargo.toml",
            test: argv("cargo test --quiet --workspace"),
            build: Some(argv("cargo build --quiet --workspace --all-targets")),
        });
    }
    if has("go.mod") {
        families.push(Family {
            name: "go",
            because: "go.mod",
            test: argv("go test ./..."),
            build: Some(argv("go build ./...")),
        });
    }
    if let Some(because) =
        ["pyproject.toml", "setup.py", "pytest.ini", "tox.ini"].into_iter().find(|name| has(name))
    {
        families.push(Family { name: "python", because, test: argv("python3 -m pytest -q"), build: None });
    }
    if has("package.json") && script(root, "test") {
        let build = script(root, "build").then(|| argv("npm run build"));
        families.push(Family { name: "node", because: "package.json", test: argv("npm test"), build });
    }
    if families.is_empty() && has("Makefile") && makefile_has(root, "test") {
        families.push(Family {
            name: "make",
            because: "Makefile",
            test: argv("make test"),
            build: Some(argv("make")),
        });
    }
    Project { families }
}

fn read(path: &Path) -> Option<String> {
    let metadata = fs::symlink_metadata(path).ok()?;
    (metadata.is_file() && metadata.len() <= MANIFEST_MAX).then(|| fs::read_to_string(path).ok())?
}

fn script(root: &Path, name: &str) -> bool {
    let manifest = read(&root.join("package.json"))
        .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let script = manifest.as_ref().and_then(|m| m.get("scripts")?.get(name)?.as_str());
    // What `npm init` writes is no test.
    script.is_some_and(|script| !script.contains("no test specified"))
}

fn makefile_has(root: &Path, target: &str) -> bool {
    let prefix = format!("{target}:");
    read(&root.join("Makefile")).is_some_and(|text| text.lines().any(|line| line.starts_with(&prefix)))
}

/// How to get a program.
pub fn install_hint(program: &str) -> String {
    let name = program.rsplit('/').next().unwrap_or(program);
    match name {
        "cargo" | "rustc" => "install Rust with rustup (https://rustup.rs)".into(),
        "rustfmt" | "cargo-fmt" => "rustup component add rustfmt".into(),
        "cargo-clippy" | "clippy-driver" => "rustup component add clippy".into(),
        "go" | "gofmt" => "install Go (https://go.dev/dl), or your system's package `golang`".into(),
        "python3" | "python" => {
            "install Python 3 (https://www.python.org), or your system's package `python3`".into()
        }
        "pytest" => "python3 -m pip install pytest".into(),
        "node" | "npm" | "npx" => {
            "install Node.js (https://nodejs.org), or your system's package `nodejs`".into()
        }
        "java" | "javac" => "install a JDK, for example your system's package `default-jdk`".into(),
        "git" => "install git (https://git-scm.com), or your system's package `git`".into(),
        "make" => "install your system's package `make`".into(),
        _ => format!("install `{name}` so that it is found in PATH"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let names: Vec<_> = detect(folder.path()).families.iter().map(|family| family.name).collect();
        assert_eq!(names, expected, "{files:?}");
    }

    #[test]
    fn families_are_told_from_their_manifests() {
        check(&[], &[]);
        check(&[("Cargo.toml", "")], &["rust"]);
        check(&[("go.mod", ""), ("pyproject.toml", "")], &["go", "python"]);
        check(&[("package.json", "{\"scripts\":{\"test\":\"node --test\"}}")], &["node"]);
        check(
            &[(
                "package.json",
                "{\"scripts\":{\"test\":\"echo \\\"Error: no test specified\\\" && exit 1\"}}",
            )],
            &[],
        );
        check(&[("package.json", "not json")], &[]);
        check(&[("Makefile", "all:\n\ntest: all\n")], &["make"]);
        check(&[("Makefile", "all:\n")], &[]);
    }
}
