//! A repository in a folder of its own, and the program run in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A small repository with a settings file whose checks are quick.
pub(crate) struct Room {
    folder: tempfile::TempDir,
}

/// What the program answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Checks that need nothing but a shell: tests are a file's content.
pub(crate) const CHECKS: &str = r#"
[checks.tests]
validator = "tests"
command = ["sh", "-c", "grep -q good value.txt || { echo 'test value ... FAILED'; exit 1; }"]
timeout = "1m"
[checks.secrets]
validator = "security"
builtin = "secrets"
"#;

impl Room {
    pub(crate) fn new() -> Self {
        let room = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(room.repo()).unwrap();
        room.git(&["init", "-q", "-b", "main", "."]);
        room.write("value.txt", "good\n");
        room.write("notes.txt", "one\ntwo\nthree\nfour\nfive\nsix\nseven\n");
        room.commit("first");
        room
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where what belongs to the user and not to the repository lies.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.repo().join(name), text).unwrap();
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        let mut git = Command::new("git");
        git.current_dir(self.repo())
            .args(["-c", "user.name=T", "-c", "user.email=t@example.invalid"])
            .args(args);
        let output = git.env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub(crate) fn commit(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
    }

    /// A swarm file beside the repository's own files, kept out of its history.
    pub(crate) fn swarm(&self, text: &str) {
        self.write("swarm.toml", text);
        self.write(".git/info/exclude", "swarm.toml\nquorate.toml\n*.sh\n");
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.current_dir(self.repo()).args(args).env_remove("QUORATE_TEST_DIE");
        // Port blocks are the user's; a test leaves nothing in the home of whoever runs it.
        command.env("XDG_STATE_HOME", self.state());
        command
    }

    pub(crate) fn quorate(&self, args: &[&str]) -> Answer {
        Answer::of(&self.command(args).output().unwrap())
    }

    /// The last JSON document the command prints.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let answer = self.quorate(&[args, &["--json"]].concat());
        let line = answer.out.lines().last().unwrap_or_else(|| panic!("{args:?}: {answer:?}"));
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{args:?}: {error}: {answer:?}"))
    }

    /// Commit subjects on a branch, oldest first, without those of the base.
    pub(crate) fn landed(&self, branch: &str) -> Vec<String> {
        let log = self.git(&["log", "--reverse", "--format=%s", &format!("main..{branch}")]);
        log.lines().map(str::to_owned).collect()
    }
}

impl Answer {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Live processes that carry a run's marker.
pub(crate) fn marked(run: &str) -> Vec<String> {
    let needle = format!("QUORATE_RUN={run}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|item| item == needle.as_bytes()) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}
