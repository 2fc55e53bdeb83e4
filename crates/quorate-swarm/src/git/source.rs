//! The user's repository, as it is found. Reading it changes nothing.

use std::path::{Path, PathBuf};

use quorate_base::GitOid;

use super::program::{Error, Git, check_version, io_at, split_nul, to_path};

/// A user's repository.
#[derive(Debug, Clone)]
pub struct Source {
    top: PathBuf,
    git_dir: PathBuf,
    common_dir: PathBuf,
    branch: Option<String>,
    changed: usize,
    submodules: Vec<PathBuf>,
}

/// Finds the repository a folder is in.
pub fn discover(folder: &Path) -> Result<Source, Error> {
    let folder = folder.canonicalize().map_err(io_at(folder))?;
    check_version()?;
    let ask = |question: &[&str]| Git::from_folder(&folder).arg("rev-parse").args(question);
    let (code, _, stderr) = ask(&["--git-dir"]).outcome()?;
    if code != 0 {
        if stderr.contains("not a git repository") {
            return Err(Error::NotARepository { path: folder });
        }
        return Err(Error::Failed { args: "rev-parse --git-dir".into(), code, stderr });
    }
    let inside = ask(&["--is-inside-work-tree"]).run()?;
    if inside.trim_ascii() != b"true" {
        return Err(Error::Bare { path: folder });
    }
    let top = ask(&["--show-toplevel"]).path()?;
    let git_dir = ask(&["--absolute-git-dir"]).path()?;
    let common_dir = ask(&["--path-format=absolute", "--git-common-dir"]).path()?;
    let mut source = Source { top, git_dir, common_dir, branch: None, changed: 0, submodules: Vec::new() };
    source.head_commit()?;
    if let (0, name, _) = Git::from_folder(&source.top).args(["symbolic-ref", "--quiet", "HEAD"]).outcome()? {
        let name = String::from_utf8_lossy(&name);
        source.branch = name.trim_end_matches('\n').strip_prefix("refs/heads/").map(str::to_owned);
    }
    let status = source
        .git()
        .under_user_settings()
        .env("GIT_WORK_TREE", &source.top)
        .args([
            "status",
            "--porcelain=v2",
            "-z",
            "--untracked-files=all",
            "--no-renames",
            "--ignore-submodules=dirty",
        ])
        .run()?;
    source.changed = split_nul(&status).filter(|line| !line.starts_with(b"# ")).count();
    source.submodules = source.find_submodules()?;
    Ok(source)
}

impl Source {
    /// The worktree's top folder.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// The git folder that all worktrees of the repository share.
    pub fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// The git folder of this worktree; the repository's own unless it is a linked worktree.
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// The branch checked out; none where HEAD is detached.
    pub fn branch(&self) -> Option<&str> {
        self.branch.as_deref()
    }

    /// A call on the user's repository.
    pub(super) fn git(&self) -> Git {
        Git::from_folder(&self.top).env("GIT_DIR", &self.git_dir)
    }

    /// Number of paths that differ from the current commit, untracked ones included.
    pub fn changed_count(&self) -> usize {
        self.changed
    }

    /// Paths at which the current commit has other repositories, relative to the top.
    pub fn submodules(&self) -> &[PathBuf] {
        &self.submodules
    }

    /// The commit checked out.
    pub fn head_commit(&self) -> Result<GitOid, Error> {
        self.resolve("HEAD").map_err(|error| match error {
            Error::NoSuchRevision { .. } => Error::NoCommits { path: self.top.clone() },
            other => other,
        })
    }

    /// The commit a revision names.
    pub fn resolve(&self, rev: &str) -> Result<GitOid, Error> {
        let no_such = || Error::NoSuchRevision { rev: rev.chars().take(200).collect() };
        if rev.is_empty() || rev.contains('\0') {
            return Err(no_such());
        }
        let wanted = format!("{rev}^{{commit}}");
        let git = self.git().args(["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted]);
        match git.outcome()? {
            (0, answer, _) => String::from_utf8_lossy(&answer).trim().parse().map_err(|_| no_such()),
            _ => Err(no_such()),
        }
    }

    /// The first parent of a commit; none of a root.
    pub fn parent_of(&self, commit: &GitOid) -> Result<Option<GitOid>, Error> {
        match self.resolve(&format!("{commit}^1")) {
            Ok(parent) => Ok(Some(parent)),
            Err(Error::NoSuchRevision { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn find_submodules(&self) -> Result<Vec<PathBuf>, Error> {
        let listing = self.git().args(["ls-tree", "-r", "-z", "HEAD"]).run()?;
        let links = split_nul(&listing).filter(|entry| entry.starts_with(b"160000 "));
        Ok(links.filter_map(|entry| entry.splitn(2, |byte| *byte == b'\t').nth(1).map(to_path)).collect())
    }
}
