//! A run's own repository: bare, on borrowed objects. Agents work in its worktrees, the user's is left alone.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use quorate_base::{GitOid, Timestamp};

use super::program::{Error, Git, io_at, split_nul, to_path};
use super::source::Source;

/// A run's own repository.
#[derive(Debug, Clone)]
pub struct PrivateRepository {
    path: PathBuf,
    config: &'static str,
    /// Git's own folders for worktrees that were found whole.
    pub(super) whole: Arc<Mutex<BTreeSet<OsString>>>,
    pub(super) turns: Arc<Mutex<()>>,
}

/// Who a commit is by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    pub email: String,
}

impl Identity {
    /// Quorate itself.
    pub fn quorate() -> Self {
        Self { name: "quorate".into(), email: "quorate@quorate.invalid".into() }
    }
}

/// What a change does to one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathChange {
    pub path: PathBuf,
    pub status: PathStatus,
    /// Mode before and after, as git writes it (100644, 100755, 120000, 160000); 0 where there is none.
    pub old_mode: u32,
    pub new_mode: u32,
    /// What the path points to afterwards, if it is a symbolic link then.
    pub symlink_target: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathStatus {
    Added,
    Modified,
    Deleted,
    TypeChanged,
}

/// What came of merging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merge {
    Clean { tree: GitOid },
    Conflict { paths: Vec<PathBuf>, messages: String },
}

/// Mode of a symbolic link in a tree.
const SYMLINK: u32 = 0o120_000;

/// The settings of the repository, which its worktrees share. An agent's own git calls must neither run hooks nor
/// throw away what no branch holds.
macro_rules! config {
    ($version:literal, $extensions:literal) => {
        concat!(
            "[core]\n\trepositoryformatversion = ",
            $version,
            "\n\tfilemode = true\n\tbare = true\n\thooksPath = /dev/null\n[gc]\n\tauto = 0\n\tpruneExpire = never\n",
            "[maintenance]\n\tauto = false\n",
            $extensions
        )
    };
}

const CONFIG_SHA1: &str = config!("0", "");
const CONFIG_SHA256: &str = config!("1", "[extensions]\n\tobjectformat = sha256\n");

/// Files by which an agent could change how git reads another agent's worktree or history.
const UNWANTED: [&str; 3] = ["config.worktree", "info/attributes", "info/grafts"];

pub(super) fn identify(git: Git, identity: &Identity, now: Timestamp) -> Git {
    let date = format!("@{} +0000", now.0 / 1000);
    let quorate = Identity::quorate();
    git.env("GIT_AUTHOR_NAME", &identity.name)
        .env("GIT_AUTHOR_EMAIL", &identity.email)
        .env("GIT_AUTHOR_DATE", &date)
        .env("GIT_COMMITTER_NAME", &quorate.name)
        .env("GIT_COMMITTER_EMAIL", &quorate.email)
        .env("GIT_COMMITTER_DATE", &date)
}

impl PrivateRepository {
    /// Makes the repository of a run on top of the user's objects. `refs/quorate/base` keeps the user's current commit.
    pub fn create(path: &Path, source: &Source) -> Result<Self, Error> {
        let path = std::path::absolute(path).map_err(io_at(path))?;
        fs::create_dir_all(&path).map_err(io_at(&path))?;
        let path = path.canonicalize().map_err(io_at(&path))?;
        let head = source.head_commit()?;
        let (format, config) =
            if head.as_str().len() == 64 { ("sha256", CONFIG_SHA256) } else { ("sha1", CONFIG_SHA1) };
        let format = format!("--object-format={format}");
        Git::from_folder(&path).args(["init", "--quiet", "--bare", "--template=", &format, "."]).run()?;
        let objects = source.common_dir().join("objects");
        let info = path.join("objects").join("info");
        fs::create_dir_all(&info)
            .and_then(|()| fs::write(info.join("alternates"), quoted(&objects)))
            .map_err(io_at(&info))?;
        // A shallow clone's history ends where the user's does.
        let shallow = source.common_dir().join("shallow");
        if shallow.exists() {
            fs::copy(&shallow, path.join("shallow")).map_err(io_at(&shallow))?;
        }
        let made = Self { path, config, whole: Arc::default(), turns: Arc::default() };
        made.git()?.args(["update-ref", "refs/quorate/base", head.as_str()]).run()?;
        Ok(made)
    }

    /// The repository of an earlier run, or of another process.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let not_one = || Error::NotARepository { path: path.to_owned() };
        let path = path.canonicalize().map_err(|_| not_one())?;
        let config = fs::read_to_string(path.join("config")).map_err(|_| not_one())?;
        if !path.join("objects").is_dir() {
            return Err(not_one());
        }
        let sha256 = config.lines().any(|line| line.trim().eq_ignore_ascii_case("objectformat = sha256"));
        Ok(Self {
            path,
            config: if sha256 { CONFIG_SHA256 } else { CONFIG_SHA1 },
            whole: Arc::default(),
            turns: Arc::default(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A call on this repository, with its settings as they were made: `git config` in one agent's worktree writes to
    /// the file all of them share.
    pub(super) fn git(&self) -> Result<Git, Error> {
        let path = self.path.join("config");
        let found = fs::read(&path);
        if !found.is_ok_and(|found| found == self.config.as_bytes()) {
            let aside = self.scrap();
            fs::write(&aside.0, self.config)
                .and_then(|()| fs::rename(&aside.0, &path))
                .map_err(io_at(&path))?;
        }
        for name in UNWANTED {
            let path = self.path.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_at(&path)(error)),
                _ => {}
            }
        }
        Ok(Git::in_dir(&self.path))
    }

    /// The tree of a commit. An error where the commit is not there.
    pub fn tree_of(&self, commit: &GitOid) -> Result<GitOid, Error> {
        self.git()?.args(["rev-parse", "--verify", "--quiet", &format!("{commit}^{{tree}}")]).oid()
    }

    /// The parents of a commit, in their order.
    pub fn parents_of(&self, commit: &GitOid) -> Result<Vec<GitOid>, Error> {
        let answer = self.git()?.args(["rev-list", "--no-walk", "--parents", commit.as_str()]).run()?;
        let text = String::from_utf8_lossy(&answer);
        let wrong = || Error::Answer { args: "rev-list".into(), answer: text.chars().take(200).collect() };
        text.split_whitespace().skip(1).map(|oid| oid.parse().map_err(|_| wrong())).collect()
    }

    /// The whole message of a commit.
    pub fn message_of(&self, commit: &GitOid) -> Result<String, Error> {
        let message =
            self.git()?.args(["log", "-1", "--format=%B", "--no-show-signature", commit.as_str()]).run()?;
        Ok(String::from_utf8_lossy(&message).into_owned())
    }

    /// The best common ancestor; the base itself where histories share nothing.
    pub fn merge_base(&self, base: &GitOid, commit: &GitOid) -> Result<GitOid, Error> {
        let args = "merge-base";
        match self.git()?.args([args, base.as_str(), commit.as_str()]).outcome()? {
            (0, answer, _) => {
                let text = String::from_utf8_lossy(&answer);
                text.trim()
                    .parse()
                    .map_err(|_| Error::Answer { args: args.into(), answer: text.into_owned() })
            }
            (1, _, _) => Ok(base.clone()),
            (code, _, stderr) => Err(Error::Failed { args: args.into(), code, stderr }),
        }
    }

    /// Writes a commit and keeps it; the same arguments give the same commit. Times are to the second.
    pub fn commit_tree(
        &self,
        tree: &GitOid,
        parents: &[GitOid],
        message: &str,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<GitOid, Error> {
        let mut git = self.git()?.args(["commit-tree", "--no-gpg-sign", tree.as_str()]);
        for parent in parents {
            git = git.args(["-p", parent.as_str()]);
        }
        let commit = identify(git, identity, now).input(message.as_bytes().to_vec()).oid()?;
        // What no ref holds is lost when an agent tidies up what it takes for its own repository.
        self.keep(&commit)?;
        Ok(commit)
    }

    /// Holds a commit by a ref; answers the ref.
    pub(super) fn keep(&self, commit: &GitOid) -> Result<String, Error> {
        let name = format!("refs/quorate/commits/{commit}");
        self.git()?.args(["update-ref", &name, commit.as_str()]).run()?;
        Ok(name)
    }

    /// The paths in which two trees differ.
    pub fn changed_paths(&self, base: &GitOid, tree: &GitOid) -> Result<Vec<PathChange>, Error> {
        let args =
            ["diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", base.as_str(), tree.as_str()];
        let raw = self.git()?.args(args).run()?;
        let mut pieces = split_nul(&raw);
        let mut changes = Vec::new();
        let mut links = Vec::new();
        while let (Some(head), Some(path)) = (pieces.next(), pieces.next()) {
            let fields: Vec<_> = head.split(|byte| *byte == b' ').map(String::from_utf8_lossy).collect();
            let wrong = || Error::Answer {
                args: "diff-tree".into(),
                answer: String::from_utf8_lossy(head).into_owned(),
            };
            let [old, new, _, oid, status] = fields.as_slice() else { return Err(wrong()) };
            let mode = |text: &str| u32::from_str_radix(text, 8).map_err(|_| wrong());
            let status = match status.as_ref() {
                "A" => PathStatus::Added,
                "M" => PathStatus::Modified,
                "D" => PathStatus::Deleted,
                "T" => PathStatus::TypeChanged,
                _ => return Err(wrong()),
            };
            let (old_mode, new_mode) = (mode(old.trim_start_matches(':'))?, mode(new)?);
            if new_mode == SYMLINK {
                links.push((changes.len(), oid.to_string()));
            }
            changes.push(PathChange {
                path: to_path(path),
                status,
                old_mode,
                new_mode,
                symlink_target: None,
            });
        }
        let oids: Vec<&str> = links.iter().map(|(_, oid)| oid.as_str()).collect();
        for ((index, _), target) in links.iter().zip(self.blobs(&oids)?) {
            changes[*index].symlink_target = Some(target);
        }
        Ok(changes)
    }

    /// The contents of blobs.
    fn blobs(&self, oids: &[&str]) -> Result<Vec<Vec<u8>>, Error> {
        if oids.is_empty() {
            return Ok(Vec::new());
        }
        let input = oids.iter().flat_map(|oid| [oid.as_bytes(), b"\n"].concat()).collect();
        let answer = self.git()?.args(["cat-file", "--batch"]).input(input).run()?;
        let mut rest = answer.as_slice();
        let mut next = || {
            // `OID blob SIZE`, a line break, so many bytes, a line break.
            let line = rest.iter().position(|byte| *byte == b'\n')?;
            let size =
                std::str::from_utf8(&rest[..line]).ok()?.split_once(" blob ")?.1.parse::<usize>().ok()?;
            let content = rest.get(line + 1..)?.get(..size)?.to_vec();
            rest = rest.get(line + 1 + size + 1..)?;
            Some(content)
        };
        let wrong = || Error::Answer { args: "cat-file".into(), answer: "a link's target is missing".into() };
        oids.iter().map(|_| next().ok_or_else(wrong)).collect()
    }

    /// Merges two commits in memory.
    pub fn merge(&self, base: &GitOid, ours: &GitOid, theirs: &GitOid) -> Result<Merge, Error> {
        let base = format!("--merge-base={base}");
        let args = ["merge-tree", "--write-tree", "-z", "--name-only", &base, ours.as_str(), theirs.as_str()];
        let (code, answer, stderr) = self.git()?.args(args).outcome()?;
        let failed = |stderr| Error::Failed { args: args.join(" "), code, stderr };
        let mut pieces = answer.split(|byte| *byte == 0);
        let tree = pieces.next().map(String::from_utf8_lossy).unwrap_or_default();
        match code {
            0 => Ok(Merge::Clean { tree: tree.trim().parse().map_err(|_| failed(tree.into_owned()))? }),
            1 => {
                // Paths up to an empty piece, then messages: a number of paths, as many paths, a kind, and words.
                let paths: Vec<PathBuf> =
                    pieces.by_ref().take_while(|piece| !piece.is_empty()).map(to_path).collect();
                let mut messages = String::new();
                while let Some(count) =
                    pieces.next().and_then(|piece| std::str::from_utf8(piece).ok()?.parse::<usize>().ok())
                {
                    messages.push_str(
                        &pieces.by_ref().nth(count + 1).map(String::from_utf8_lossy).unwrap_or_default(),
                    );
                }
                Ok(Merge::Conflict { paths, messages })
            }
            _ => Err(failed(stderr)),
        }
    }
}

/// A path as `objects/info/alternates` takes it: one a line, in C's quotes where it has a line break itself.
fn quoted(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    if !bytes.contains(&b'\n') {
        // Only a first character could be taken for a quote or a comment, and that is a slash.
        return [bytes, b"\n"].concat();
    }
    let mut out = vec![b'"'];
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            b'\n' => out.extend(b"\\n"),
            _ => out.push(*byte),
        }
    }
    out.extend(b"\"\n");
    out
}
