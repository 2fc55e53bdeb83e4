//! One call of the git program.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::thread;

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
    #[error("this is git {found}; Quorate needs {} or newer", version(NEEDED))]
    TooOld { found: String },
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
    #[error("{} holds a git repository of its own, which a change cannot: remove its `.git`, or ignore the folder", path.display())]
    EmbeddedRepository { path: PathBuf },
    /// Unreadable files, names git refuses, a worktree that is gone.
    #[error("the files in {} cannot be taken in as a change: {reason}", path.display())]
    Unstageable { path: PathBuf, reason: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// The oldest git that can merge in memory onto a named base.
const NEEDED: [u32; 2] = [2, 40];

fn version([major, minor]: [u32; 2]) -> String {
    format!("{major}.{minor}")
}

/// Refuses a git that lacks what is needed.
pub(super) fn check_version() -> Result<(), Error> {
    let answer = Git::bare().arg("version").run()?;
    let text = String::from_utf8_lossy(&answer);
    let found = text.trim().trim_start_matches("git version ");
    let mut numbers = found.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let has = [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)];
    if has < NEEDED { Err(Error::TooOld { found: found.to_owned() }) } else { Ok(()) }
}

impl Error {
    /// The disk is full or failed, whether git says so or the system does.
    pub fn is_disk(&self) -> bool {
        match self {
            Self::Failed { stderr, .. } => [
                "No space left on device",
                "Out of diskspace",
                "Read-only file system",
                "Disk quota exceeded",
            ]
            .iter()
            .any(|why| stderr.contains(why)),
            Self::Io { .. } => true,
            _ => false,
        }
    }

    /// The user can mend it by asking differently.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Missing
                | Self::TooOld { .. }
                | Self::NotARepository { .. }
                | Self::Bare { .. }
                | Self::NoCommits { .. }
                | Self::NoSuchRevision { .. }
                | Self::EmbeddedRepository { .. }
                | Self::Unstageable { .. }
        )
    }
}

/// The git program by its whole path. A name that is looked up in a changed environment would be started by copying this
/// process, which with many agents has much to copy, and is slow for long after; where it is not found, starting it says so.
fn program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let files = std::env::split_paths(&path)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join("git"));
        let runs = |file: &PathBuf| {
            file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
        };
        files.into_iter().find(runs).unwrap_or_else(|| PathBuf::from("git"))
    });
    &PROGRAM
}

/// A call being put together.
#[derive(Debug)]
pub(super) struct Git {
    command: Command,
    args: String,
    input: Option<Vec<u8>>,
}

impl Git {
    /// A call in a repository of ours, given by its git folder: no setting of the user's counts.
    pub(super) fn in_dir(git_dir: &Path) -> Self {
        let mut git = Self::bare();
        git.command
            .arg("-c")
            .arg("core.excludesFile=/dev/null")
            .arg("-c")
            .arg("core.attributesFile=/dev/null");
        git.command.arg("--git-dir").arg(git_dir).current_dir(git_dir);
        git
    }

    /// A call that finds its repository from a folder.
    pub(super) fn from_folder(folder: &Path) -> Self {
        let mut git = Self::bare();
        git.command.current_dir(folder);
        git
    }

    /// With the user's own settings, for questions about the user's own files: what is ignored, and how contents are
    /// converted, is as the user's own git has it.
    pub(super) fn under_user_settings(mut self) -> Self {
        self.command.env_remove("GIT_CONFIG_GLOBAL").env_remove("GIT_CONFIG_NOSYSTEM");
        if let Some(value) = std::env::var_os("XDG_CONFIG_HOME") {
            self.command.env("XDG_CONFIG_HOME", value);
        }
        self
    }

    fn bare() -> Self {
        let mut command = Command::new(program());
        command.env_clear().stdin(Stdio::null());
        for name in ["PATH", "HOME", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let fixed = [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            // An agent could have git show one object in place of another: what is judged would not be what lands.
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_GRAFT_FILE", "/dev/null"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("LC_ALL", "C"),
        ];
        command.envs(fixed);
        let settings = [
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "core.quotePath=false",
            "core.splitIndex=false",
            // The journal says that a commit exists once it is durable; so must its objects be.
            "core.fsync=committed,loose-object",
            "core.fsyncMethod=batch",
            "protocol.ext.allow=never",
            "gc.auto=0",
            "maintenance.auto=false",
            "fetch.writeCommitGraph=false",
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
        let folder = self.command.get_current_dir().map(Path::to_owned);
        let start = |error: io::Error| match folder {
            _ if error.kind() != io::ErrorKind::NotFound => Error::Start(error),
            Some(path) if !path.is_dir() => Error::NotARepository { path },
            _ => Error::Missing,
        };
        let mut child = self.command.spawn().map_err(start)?;
        let (input, stdin) = (self.input.take(), child.stdin.take());
        let output = thread::scope(|scope| {
            if let (Some(input), Some(mut stdin)) = (input, stdin) {
                // Beside the reading, so that neither side waits for the other; a git that stops reading says why itself.
                scope.spawn(move || stdin.write_all(&input));
            }
            child.wait_with_output()
        });
        let output = output.map_err(Error::Start)?;
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
