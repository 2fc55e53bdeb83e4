//! The one thing done to the user's repository: objects come in, and one branch moves by compare-and-swap.

use std::path::{Path, PathBuf};

use quorate_base::GitOid;

use super::private::{Identity, PrivateRepository};
use super::program::{Error, Git, split_nul, to_path};

/// The branch was not moved.
#[derive(Debug, thiserror::Error)]
pub enum LandError {
    #[error("the branch is not where it was left{}", found.as_ref().map(|oid| format!(", but at {oid}")).unwrap_or_default())]
    Moved { found: Option<GitOid> },
    #[error("the branch is checked out in {}; moving it would turn that worktree's files into changes", worktree.display())]
    CheckedOut { worktree: PathBuf },
    #[error(transparent)]
    Git(#[from] Error),
}

/// Whether git accepts this as a branch's name.
pub fn is_branch_name(name: &str) -> Result<bool, Error> {
    if name.starts_with('-') || name == "HEAD" || name.contains('\0') {
        return Ok(false);
    }
    let (code, _, _) = Git::from_folder(Path::new("/"))
        .args(["check-ref-format", &format!("refs/heads/{name}")])
        .outcome()?;
    Ok(code == 0)
}

/// The commit a branch of the user's repository points at.
pub fn branch_head(repository: &Path, branch: &str) -> Result<Option<GitOid>, Error> {
    let name = format!("refs/heads/{branch}");
    let listing = Git::from_folder(repository)
        .args(["for-each-ref", "--format=%(objectname) %(refname)", &name])
        .run()?;
    let listing = String::from_utf8_lossy(&listing);
    // The pattern takes in branches below a branch of that name.
    let exact = listing.lines().find_map(|line| line.strip_suffix(&name)?.strip_suffix(' '));
    let answer =
        || Error::Answer { args: "for-each-ref".into(), answer: listing.chars().take(200).collect() };
    exact.map(|oid| oid.parse().map_err(|_| answer())).transpose()
}

/// Brings a commit into the user's repository and moves a branch to it, if the branch still is where it was left.
pub fn land(
    repository: &Path,
    private: &PrivateRepository,
    branch: &str,
    from: Option<&GitOid>,
    to: &GitOid,
) -> Result<(), LandError> {
    let found = branch_head(repository, branch)?;
    if found.as_ref() != from {
        return Err(LandError::Moved { found });
    }
    if let Some(worktree) = checked_out(repository, branch)? {
        return Err(LandError::CheckedOut { worktree });
    }
    fetch(repository, private, to)?;
    swap(repository, branch, from, to)
}

/// Moves a branch if it still is where it was left; git decides, whoever else is at it.
pub(super) fn swap(
    repository: &Path,
    branch: &str,
    from: Option<&GitOid>,
    to: &GitOid,
) -> Result<(), LandError> {
    let zero = "0".repeat(to.as_str().len());
    let old = from.map_or(zero.as_str(), GitOid::as_str);
    let reference = format!("refs/heads/{branch}");
    let quorate = Identity::quorate();
    let git = Git::from_folder(repository)
        .env("GIT_COMMITTER_NAME", &quorate.name)
        .env("GIT_COMMITTER_EMAIL", &quorate.email)
        .args(["update-ref", "--no-deref", "-m", "quorate: land", &reference, to.as_str(), old]);
    match git.run() {
        Ok(_) => Ok(()),
        Err(error) => {
            let found = branch_head(repository, branch)?;
            if found.as_ref() == from { Err(error.into()) } else { Err(LandError::Moved { found }) }
        }
    }
}

/// Copies what the commit needs and the user's repository lacks; writes no ref and no FETCH_HEAD.
fn fetch(repository: &Path, private: &PrivateRepository, commit: &GitOid) -> Result<(), Error> {
    // A fetch asks for refs; this one is the private repository's own.
    let name = private.keep(commit)?;
    Git::from_folder(repository)
        .args([
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--no-auto-maintenance",
        ])
        .arg("--end-of-options")
        .arg(private.path())
        .arg(&name)
        .run()?;
    Ok(())
}

/// A worktree of the user's in which the branch is checked out.
fn checked_out(repository: &Path, branch: &str) -> Result<Option<PathBuf>, Error> {
    let listing = Git::from_folder(repository).args(["worktree", "list", "--porcelain", "-z"]).run()?;
    let wanted = format!("branch refs/heads/{branch}");
    let mut worktree = None;
    for line in split_nul(&listing) {
        if let Some(path) = line.strip_prefix(b"worktree ") {
            worktree = Some(to_path(path));
        } else if line == wanted.as_bytes() {
            return Ok(worktree);
        }
    }
    Ok(None)
}
