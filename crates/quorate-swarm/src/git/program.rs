//! One call of the git program.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use quorate_base::GitOid;

/// Git could not do what it was asked, or will not here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "git is not installed; install it (Debian: apt install git; macOS: xcode-select --install), then try again"
    )]
    Missing,
    #[error("git could not be started: {0}")]
    Start(io::Error),
    #[error("git {args} failed ({code}): {stderr}")]
    Failed { args: String, code: i32, stderr: String },
    #[error("git {args} answered what was not expected: {answer}")]
    Answer { args: String, answer: String },
    #[error("{} is in no git repository; create one with `git init` and commit something", path.display())]
    NotARepository { path: PathBuf },
    #[error("{} is a bare repository; Quorate needs one with a worktree: make one with `git clone` or `git worktree add`", path.display())]
    Bare { path: PathBuf },
    #[error("{} has no commit yet; agents start from one: make a first commit", path.display())]
    NoCommits { path: PathBuf },
    #[error("`{rev}` names no commit here; `git log --oneline --all` shows what there is")]
    NoSuchRevision { rev: String },
    #[error("the agent made a git repository of its own in {}; a change cannot hold one", path.display())]
    EmbeddedRepository { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Error {
    /// The user can mend it by asking differently.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Missing
                | Self::NotARepository { .. }
                | Self::Bare { .. }
                | Self::NoCommits { .. }
                | Self::NoSuchRevision { .. }
        )
    }
}

/// A call being put together.
#[derive(Debug)]
pub(super) struct Git {
    command: Command,
    args: String,
    input: Option<Vec<u8>>,
}

impl Git {
    /// A call in a repository given by its git folder.
    pub(super) fn in_dir(git_dir: &Path) -> Self {
        let mut git = Self::bare();
        git.command.arg("--git-dir").arg(git_dir);
        git
    }

    /// A call that finds its repository from a folder.
    pub(super) fn from_folder(folder: &Path) -> Self {
        let mut git = Self::bare();
        git.command.arg("-C").arg(folder);
        git
    }

    fn bare() -> Self {
        let mut command = Command::new("git");
        command.env_clear().stdin(Stdio::null());
        for name in ["PATH", "HOME", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let fixed = [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("LC_ALL", "C"),
        ];
        command.envs(fixed);
        let settings = [
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "core.quotePath=false",
            "protocol.ext.allow=never",
            "gc.auto=0",
            "maintenance.auto=false",
            "advice.graftFileDeprecated=false",
            // Whose folder it is does not matter: nothing from it is executed.
            "safe.directory=*",
        ];
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        Self { command, args: String::new(), input: None }
    }

    pub(super) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        let arg = arg.as_ref();
        if !self.args.is_empty() {
            self.args.push(' ');
        }
        self.args.push_str(&arg.to_string_lossy());
        self.command.arg(arg);
        self
    }

    pub(super) fn args<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    pub(super) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it with this as the current folder.
    pub(super) fn in_folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub(super) fn input(mut self, input: Vec<u8>) -> Self {
        self.command.stdin(Stdio::piped());
        self.input = Some(input);
        self
    }

    /// Runs it; exit code, output, complaint.
    pub(super) fn outcome(mut self) -> Result<(i32, Vec<u8>, String), Error> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = |error: io::Error| {
            if error.kind() == io::ErrorKind::NotFound { Error::Missing } else { Error::Start(error) }
        };
        let mut child = self.command.spawn().map_err(start)?;
        if let (Some(input), Some(mut stdin)) = (self.input.take(), child.stdin.take()) {
            // Inputs are far smaller than a pipe holds; git reads them whole before it answers.
            let _ = stdin.write_all(&input);
        }
        let output = child.wait_with_output().map_err(Error::Start)?;
        let stderr = String::from_utf8_lossy(&output.stderr).trim().chars().take(2000).collect();
        Ok((output.status.code().unwrap_or(-1), output.stdout, stderr))
    }

    /// Runs it; anything but exit code 0 is an error.
    pub(super) fn run(self) -> Result<Vec<u8>, Error> {
        let args = self.args.clone();
        match self.outcome()? {
            (0, stdout, _) => Ok(stdout),
            (code, _, stderr) => Err(Error::Failed { args, code, stderr }),
        }
    }

    /// Runs it and reads one object id.
    pub(super) fn oid(self) -> Result<GitOid, Error> {
        let args = self.args.clone();
        let answer = self.run()?;
        let text = String::from_utf8_lossy(&answer);
        text.trim().parse().map_err(|_| Error::Answer { args, answer: text.chars().take(200).collect() })
    }

    /// Runs it and reads one path, whatever it is made of.
    pub(super) fn path(self) -> Result<PathBuf, Error> {
        let mut answer = self.run()?;
        if answer.last() == Some(&b'\n') {
            answer.pop();
        }
        Ok(OsString::from_vec(answer).into())
    }
}

/// The pieces between NULs.
pub(super) fn split_nul(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == 0).filter(|piece| !piece.is_empty())
}

pub(super) fn to_path(bytes: &[u8]) -> PathBuf {
    OsStr::from_bytes(bytes).into()
}

pub(super) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.to_owned(), source }
}
