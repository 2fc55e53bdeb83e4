//! What git ignores in a person's folder, and what must stay out of a change although git would take it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::private::PrivateRepository;
use super::program::{Error, Git, io_at, split_nul, to_path};
use super::worktree::Scrap;

/// Name of the file beside git's own that says which files of a worktree are not its agent's.
const SET_APART: &str = "quorate-set-apart";

/// The paths in `folder` that match one of these patterns and that git ignores there, under the person's own settings
/// where the folder is the repository's own worktree. A repository among them ends in a slash.
pub(crate) fn ignored_matching(
    private: &PrivateRepository,
    repository: &Path,
    folder: &Path,
    patterns: &[u8],
) -> Result<Vec<PathBuf>, Error> {
    let list = private.scrap();
    fs::write(&list.0, patterns).map_err(io_at(&list.0))?;
    let git = || {
        if repository == folder {
            Git::from_folder(folder).under_user_settings()
        } else {
            Git::in_dir(&repository.join(".git")).env("GIT_WORK_TREE", folder).in_folder(folder)
        }
    };
    let others =
        git().args(["ls-files", "-z", "--others", "--ignored", "--exclude-from"]).arg(&list.0).run()?;
    if others.is_empty() {
        return Ok(Vec::new());
    }
    // Behind a dot and a slash no name is taken for one with a meaning of its own.
    let input = split_nul(&others).flat_map(|path| [b"./", path, b"\0"].concat()).collect();
    let args = ["check-ignore", "-z", "--stdin"];
    match git().args(args).input(input).outcome()? {
        (0, ignored, _) => {
            Ok(split_nul(&ignored).map(|path| to_path(path.strip_prefix(b"./").unwrap_or(path))).collect())
        }
        (1, _, _) => Ok(Vec::new()),
        (code, _, stderr) => Err(Error::Failed { args: args.join(" "), code, stderr }),
    }
}

impl PrivateRepository {
    /// Says that these files of a worktree are no part of a change, whatever its ignore files say. Durable when it returns.
    pub fn set_apart(&self, worktree: &Path, paths: &[PathBuf]) -> Result<(), Error> {
        let admin =
            self.admin_of(worktree)?.ok_or_else(|| Error::NotARepository { path: worktree.to_owned() })?;
        let path = admin.join(SET_APART);
        let list: Vec<u8> =
            paths.iter().flat_map(|path| [path.as_os_str().as_bytes(), b"\0"].concat()).collect();
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(&list)?;
            file.sync_all()
        };
        write().map_err(io_at(&path))
    }

    /// What [`Self::set_apart`] was told of a worktree, each path ended by a NUL.
    pub(super) fn apart(&self, worktree: &Path) -> Result<Vec<u8>, Error> {
        let Some(admin) = self.admin_of(worktree)? else { return Ok(Vec::new()) };
        let path = admin.join(SET_APART);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.map_err(io_at(&path)),
        }
    }

    /// Those paths as a file of ignore patterns, so that git does not even read them; none where there are none.
    pub(super) fn apart_patterns(&self, apart: &[u8]) -> Result<Option<Scrap>, Error> {
        if apart.is_empty() {
            return Ok(None);
        }
        let mut patterns = Vec::new();
        for path in split_nul(apart).filter(|path| !path.contains(&b'\n')) {
            patterns.push(b'/');
            for byte in path {
                if !byte.is_ascii_alphanumeric() && *byte != b'/' {
                    patterns.push(b'\\');
                }
                patterns.push(*byte);
            }
            patterns.push(b'\n');
        }
        let scrap = self.scrap();
        fs::write(&scrap.0, patterns).map_err(io_at(&scrap.0))?;
        Ok(Some(scrap))
    }
}

/// Takes paths out of the index of a call.
pub(super) fn forget(git: Git, apart: Vec<u8>) -> Result<(), Error> {
    if apart.is_empty() {
        return Ok(());
    }
    git.args(["update-index", "-z", "--force-remove", "--stdin"]).input(apart).run().map(drop)
}
