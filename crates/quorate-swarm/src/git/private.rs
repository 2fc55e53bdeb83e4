//! A run's own repository: bare, on borrowed objects, with the worktrees of agents and validators.
//!
//! What is in a worktree is not trusted: its `.git` file is never followed. Every call names the git folder, the worktree
//! and an index of its own.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_base::{GitOid, Timestamp};

use super::program::{Error, Git, io_at, split_nul, to_path};
use super::source::{Source, discover};

/// A run's own repository.
#[derive(Debug, Clone)]
pub struct PrivateRepository {
    path: PathBuf,
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

static INDEXES: AtomicU64 = AtomicU64::new(0);

/// Makes a new repository in `dir` of everything in `folder` that its ignore files do not exclude.
pub fn init_from_copy(dir: &Path, folder: &Path, now: Timestamp) -> Result<Source, Error> {
    copy_folder(folder, dir)?;
    Git::from_folder(dir).args(["init", "--quiet", "--initial-branch=main", "."]).run()?;
    Git::from_folder(dir).args(["add", "--all", "."]).run()?;
    let identity = Identity::quorate();
    let commit = Git::from_folder(dir).args(["commit", "--quiet", "--no-verify", "-m", "Copy"]);
    identify(commit, &identity, now).run()?;
    discover(dir)
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(io_at(to))?;
    for entry in fs::read_dir(from).map_err(io_at(from))? {
        let entry = entry.map_err(io_at(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(io_at(&source))?;
        if entry.file_name() == ".git" {
            return Err(Error::EmbeddedRepository { path: source });
        }
        if kind.is_dir() {
            // Build results of the original have no place in a fresh copy.
            if entry.file_name() != "target" && entry.file_name() != crate::workspace::FOLDER {
                copy_folder(&source, &target)?;
            }
        } else if kind.is_symlink() {
            let link = fs::read_link(&source).map_err(io_at(&source))?;
            std::os::unix::fs::symlink(link, &target).map_err(io_at(&target))?;
        } else if kind.is_file() {
            fs::copy(&source, &target).map_err(io_at(&target))?;
        }
    }
    Ok(())
}

fn identify(git: Git, identity: &Identity, now: Timestamp) -> Git {
    let date = format!("@{} +0000", now.0 / 1000);
    git.env("GIT_AUTHOR_NAME", &identity.name)
        .env("GIT_AUTHOR_EMAIL", &identity.email)
        .env("GIT_AUTHOR_DATE", &date)
        .env("GIT_COMMITTER_NAME", "quorate")
        .env("GIT_COMMITTER_EMAIL", "quorate@quorate.invalid")
        .env("GIT_COMMITTER_DATE", &date)
}

impl PrivateRepository {
    /// Makes the repository of a run on top of the user's objects.
    pub fn create(path: &Path, source: &Source) -> Result<Self, Error> {
        let format = Git::in_dir(source.git_dir()).args(["rev-parse", "--show-object-format"]).run()?;
        let format = format!("--object-format={}", String::from_utf8_lossy(&format).trim());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io_at(parent))?;
        }
        Git::from_folder(path.parent().unwrap_or(path))
            .args(["init", "--quiet", "--bare", "--template="])
            .arg(&format)
            .arg(path)
            .run()?;
        let objects = source.common_dir().join("objects");
        let alternates = path.join("objects").join("info").join("alternates");
        fs::create_dir_all(path.join("objects").join("info")).map_err(io_at(path))?;
        fs::write(&alternates, quoted(&objects)).map_err(io_at(&alternates))?;
        // A shallow clone's history ends where the user's does.
        let shallow = source.common_dir().join("shallow");
        if shallow.exists() {
            fs::copy(&shallow, path.join("shallow")).map_err(io_at(&shallow))?;
        }
        Ok(Self { path: path.to_owned() })
    }

    /// The repository of an earlier run.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if path.join("objects").is_dir() {
            return Ok(Self { path: path.to_owned() });
        }
        Err(Error::NotARepository { path: path.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn git(&self) -> Git {
        Git::in_dir(&self.path)
    }

    pub fn tree_of(&self, commit: &GitOid) -> Result<GitOid, Error> {
        self.git().args(["rev-parse", "--verify", "--quiet", &format!("{commit}^{{tree}}")]).oid()
    }

    pub fn message_of(&self, commit: &GitOid) -> Result<String, Error> {
        let message =
            self.git().args(["log", "-1", "--format=%B", "--no-show-signature", commit.as_str()]).run()?;
        Ok(String::from_utf8_lossy(&message).into_owned())
    }

    /// The best common ancestor; the base itself where histories share nothing.
    pub fn merge_base(&self, base: &GitOid, commit: &GitOid) -> Result<GitOid, Error> {
        match self.git().args(["merge-base", base.as_str(), commit.as_str()]).outcome()? {
            (0, answer, _) => {
                let text = String::from_utf8_lossy(&answer);
                text.trim()
                    .parse()
                    .map_err(|_| Error::Answer { args: "merge-base".into(), answer: text.into_owned() })
            }
            _ => Ok(base.clone()),
        }
    }

    /// Checks a commit out in a folder of its own.
    pub fn add_worktree(&self, path: &Path, commit: &GitOid) -> Result<(), Error> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io_at(parent))?;
        }
        // Git picks a free name for a worktree and then takes it; two at once may pick the same.
        let _turn = self.turn()?;
        self.git()
            .args(["worktree", "add", "--quiet", "--detach", "--force"])
            .arg(path)
            .arg(commit.as_str())
            .run()?;
        Ok(())
    }

    /// Waits until nobody else, in any process, is adding a worktree.
    fn turn(&self) -> Result<fs::File, Error> {
        let path = self.path.join("worktrees.lock");
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_at(&path))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|errno| io_at(&path)(errno.into()))?;
        Ok(file)
    }

    /// Removes a worktree, also one half made or half removed; one that is not there is no error.
    pub fn remove_worktree(&self, path: &Path) -> Result<(), Error> {
        remove_folder(path)?;
        if let Some(name) = self.worktree_name(path) {
            let admin = self.path.join("worktrees").join(name);
            remove_folder(&admin)?;
        }
        Ok(())
    }

    /// Removes every worktree below a folder but those to be kept.
    pub fn remove_worktrees_below(&self, folder: &Path, keep: &BTreeSet<PathBuf>) -> Result<(), Error> {
        for (admin, path) in self.worktrees()? {
            if path.starts_with(folder) && !keep.contains(&path) {
                remove_folder(&path)?;
                remove_folder(&admin)?;
            }
        }
        // Folders whose worktree was not registered yet, or is not any more.
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(io_at(folder))?,
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if !keep.iter().any(|kept| kept.starts_with(&path)) {
                remove_folder(&path)?;
            }
        }
        Ok(())
    }

    /// The administrative folders of all worktrees, with the worktrees' own.
    fn worktrees(&self) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
        let folder = self.path.join("worktrees");
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(io_at(&folder))?,
        };
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let Ok(mut gitdir) = fs::read(entry.path().join("gitdir")) else { continue };
            if gitdir.last() == Some(&b'\n') {
                gitdir.pop();
            }
            if let Some(worktree) = to_path(&gitdir).parent() {
                found.push((entry.path(), worktree.to_owned()));
            }
        }
        Ok(found)
    }

    /// The name git gave a worktree; found by its place, never by what stands in it.
    fn worktree_name(&self, path: &Path) -> Option<std::ffi::OsString> {
        let path = canonical(path);
        let found = self.worktrees().ok()?.into_iter().find(|(_, worktree)| canonical(worktree) == path)?;
        found.0.file_name().map(OsStr::to_owned)
    }

    /// A call on a worktree with an index that nobody else has, which is removed with what is returned.
    fn in_worktree(&self, path: &Path) -> Result<(Git, Scrap), Error> {
        let name = self.worktree_name(path).ok_or_else(|| Error::NotARepository { path: path.to_owned() })?;
        let scrap = self.scrap();
        let git = Git::in_dir(&self.path.join("worktrees").join(name))
            .env("GIT_WORK_TREE", path)
            .env("GIT_INDEX_FILE", &scrap.0);
        Ok((git, scrap))
    }

    fn scrap(&self) -> Scrap {
        let n = INDEXES.fetch_add(1, Ordering::Relaxed);
        Scrap(self.path.join(format!("index-{}-{n}", std::process::id())))
    }

    fn with_index(&self, path: &Path, scrap: &Scrap) -> Result<Git, Error> {
        let (git, own) = self.in_worktree(path)?;
        drop(own);
        Ok(git.env("GIT_INDEX_FILE", &scrap.0))
    }

    /// The tree of everything in a worktree that is not ignored.
    pub fn snapshot(&self, path: &Path) -> Result<GitOid, Error> {
        refuse_embedded(path)?;
        let scrap = self.scrap();
        // From the commit it was made of, so that what the agent did to its own index means nothing.
        let head = self.worktree_commit(path)?;
        self.with_index(path, &scrap)?.args(["read-tree", head.as_str()]).run()?;
        self.with_index(path, &scrap)?.in_folder(path).args(["add", "--all", "."]).run()?;
        self.with_index(path, &scrap)?.arg("write-tree").oid()
    }

    /// The commit a worktree stands on: its own HEAD, which an agent that commits has moved.
    fn worktree_commit(&self, path: &Path) -> Result<GitOid, Error> {
        let (git, _scrap) = self.in_worktree(path)?;
        git.args(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).oid()
    }

    /// The tree of the user's worktree as it is, without touching the user's index.
    pub fn worktree_tree(&self, source: &Source) -> Result<GitOid, Error> {
        let scrap = self.scrap();
        let git =
            || Git::in_dir(&self.path).env("GIT_WORK_TREE", source.top()).env("GIT_INDEX_FILE", &scrap.0);
        let head = source.head_commit()?;
        git().args(["read-tree", head.as_str()]).run()?;
        // The private repository's exclude file is empty; the user's own counts for the user's worktree.
        let exclude = source.common_dir().join("info").join("exclude");
        let info = self.path.join("info");
        if exclude.exists() {
            fs::create_dir_all(&info).map_err(io_at(&info))?;
            fs::copy(&exclude, info.join("exclude")).map_err(io_at(&exclude))?;
        }
        git().in_folder(source.top()).args(["add", "--all", "."]).run()?;
        git().arg("write-tree").oid()
    }

    /// Writes a commit; the same arguments give the same commit.
    pub fn commit_tree(
        &self,
        tree: &GitOid,
        parents: &[GitOid],
        message: &str,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<GitOid, Error> {
        let mut git = self.git().args(["commit-tree", "--no-gpg-sign", tree.as_str()]);
        for parent in parents {
            git = git.args(["-p", parent.as_str()]);
        }
        identify(git, identity, now).input(message.as_bytes().to_vec()).oid()
    }

    /// The paths in which two trees differ.
    pub fn changed_paths(&self, base: &GitOid, tree: &GitOid) -> Result<Vec<PathChange>, Error> {
        let raw = self
            .git()
            .args(["diff-tree", "-r", "-z", "--raw", "--no-renames", base.as_str(), tree.as_str()])
            .run()?;
        let mut pieces = split_nul(&raw);
        let mut changes = Vec::new();
        while let (Some(head), Some(path)) = (pieces.next(), pieces.next()) {
            let fields: Vec<_> = head.split(|byte| *byte == b' ').map(String::from_utf8_lossy).collect();
            let wrong = || Error::Answer {
                args: "diff-tree".into(),
                answer: String::from_utf8_lossy(head).into_owned(),
            };
            let [old, new, _, _, status] = fields.as_slice() else { return Err(wrong()) };
            let mode = |text: &str| u32::from_str_radix(text, 8).map_err(|_| wrong());
            let status = match status.as_ref() {
                "A" => PathStatus::Added,
                "M" => PathStatus::Modified,
                "D" => PathStatus::Deleted,
                "T" => PathStatus::TypeChanged,
                _ => return Err(wrong()),
            };
            changes.push(PathChange {
                path: to_path(path),
                status,
                old_mode: mode(old.trim_start_matches(':'))?,
                new_mode: mode(new)?,
            });
        }
        Ok(changes)
    }

    /// Merges two commits in memory.
    pub fn merge(&self, base: &GitOid, ours: &GitOid, theirs: &GitOid) -> Result<Merge, Error> {
        let base = format!("--merge-base={base}");
        let git = self.git().args([
            "merge-tree",
            "--write-tree",
            "-z",
            "--name-only",
            &base,
            ours.as_str(),
            theirs.as_str(),
        ]);
        let (code, answer, stderr) = git.outcome()?;
        let failed = |code, stderr| Error::Failed { args: "merge-tree".into(), code, stderr };
        let mut sections = answer.split(|byte| *byte == 0);
        let tree = sections.next().map(String::from_utf8_lossy).unwrap_or_default();
        match code {
            0 => Ok(Merge::Clean { tree: tree.trim().parse().map_err(|_| failed(0, tree.into_owned()))? }),
            1 => {
                // Paths up to an empty piece, then messages.
                let paths: Vec<PathBuf> =
                    sections.by_ref().take_while(|piece| !piece.is_empty()).map(to_path).collect();
                let messages: Vec<_> =
                    sections.map(|piece| String::from_utf8_lossy(piece).into_owned()).collect();
                Ok(Merge::Conflict { paths, messages: messages.join(" ") })
            }
            code => Err(failed(code, stderr)),
        }
    }

    /// Whether every tracked file in a worktree still is what the tree says, by content and not by dates.
    pub fn checkout_is(&self, path: &Path, tree: &GitOid) -> Result<bool, Error> {
        let scrap = self.scrap();
        self.with_index(path, &scrap)?.args(["read-tree", tree.as_str()]).run()?;
        // A fresh index knows no dates: refreshing compares contents.
        let (refreshed, _, _) =
            self.with_index(path, &scrap)?.args(["update-index", "-q", "--really-refresh"]).outcome()?;
        if refreshed != 0 {
            return Ok(false);
        }
        let (same, _, _) = self
            .with_index(path, &scrap)?
            .args(["diff-files", "--quiet", "--ignore-submodules"])
            .outcome()?;
        Ok(same == 0)
    }
}

/// An index file nobody else has.
#[derive(Debug)]
struct Scrap(PathBuf);

impl Drop for Scrap {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A path as `objects/info/alternates` takes it.
fn quoted(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'"' | b'\\' | b'\n' | b'#')) {
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

/// The path with its folder resolved; the last part may be gone.
fn canonical(path: &Path) -> PathBuf {
    let resolved = path.parent().and_then(|parent| parent.canonicalize().ok()).zip(path.file_name());
    resolved.map_or_else(|| path.to_owned(), |(parent, name)| parent.join(name))
}

/// A repository inside a worktree would be taken in as a link to a commit nobody has.
fn refuse_embedded(folder: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(io_at(folder))? {
        let entry = entry.map_err(io_at(folder))?;
        let path = entry.path();
        if !entry.file_type().map_err(io_at(&path))?.is_dir() {
            continue;
        }
        if entry.file_name() == ".git" {
            return Err(Error::EmbeddedRepository { path: folder.to_owned() });
        }
        if entry.file_name() != "target" && entry.file_name() != "node_modules" {
            refuse_embedded(&path)?;
        }
    }
    Ok(())
}

fn remove_folder(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_at(path)(error)),
        Ok(metadata) if metadata.is_dir() => match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(_) => {
                make_writable(path);
                fs::remove_dir_all(path).map_err(io_at(path))
            }
            Ok(()) => Ok(()),
        },
        Ok(_) => fs::remove_file(path).map_err(io_at(path)),
    }
}

/// Read-only folders, as some tools leave them, keep their contents from being removed.
fn make_writable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}
