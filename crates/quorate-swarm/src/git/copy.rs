//! A fresh repository made of a folder, for runs that must not touch the folder itself.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use quorate_base::Timestamp;

use super::private::{Identity, identify};
use super::program::{Error, Git, io_at, split_nul, to_path};
use super::source::{Source, discover};

/// The file by which tools mark a folder as a cache, which `target` of cargo is.
const CACHE_TAG: &str = "CACHEDIR.TAG";

/// Makes a new repository in `dir` of everything in `folder` that its ignore files do not exclude and no tool marked as
/// its cache, with one commit on `main`. The same files and time give the same commit.
pub fn init_from_copy(dir: &Path, folder: &Path, now: Timestamp) -> Result<Source, Error> {
    let folder = folder.canonicalize().map_err(io_at(folder))?;
    if fs::symlink_metadata(folder.join(".git")).is_ok() {
        return Err(Error::EmbeddedRepository { path: folder });
    }
    fs::create_dir_all(dir).map_err(io_at(dir))?;
    let dir = dir.canonicalize().map_err(io_at(dir))?;
    Git::from_folder(&dir).args(["init", "--quiet", "--initial-branch=main", "--template=", "."]).run()?;
    let git_dir = dir.join(".git");
    let info = git_dir.join("info");
    let mut exclude = Vec::new();
    excludes(&folder, &mut Vec::new(), &mut exclude)?;
    fs::create_dir_all(&info)
        .and_then(|()| fs::write(info.join("exclude"), exclude))
        .map_err(io_at(&info))?;
    // Straight from the folder: what is ignored is never copied at all.
    let from = || Git::in_dir(&git_dir).env("GIT_WORK_TREE", &folder).in_folder(&folder);
    let others = from().args(["ls-files", "-z", "--others", "--exclude-standard"]).run()?;
    if let Some(nested) = split_nul(&others).find(|path| path.ends_with(b"/")) {
        return Err(Error::EmbeddedRepository { path: folder.join(to_path(nested)) });
    }
    from().args(["add", "--all", "--", "."]).run()?;
    let tree = from().arg("write-tree").oid()?;
    let commit = Git::in_dir(&git_dir).args(["commit-tree", "--no-gpg-sign", tree.as_str()]);
    let commit = identify(commit, &Identity::quorate(), now).input(b"Copy\n".to_vec()).oid()?;
    Git::in_dir(&git_dir).args(["update-ref", "refs/heads/main", commit.as_str()]).run()?;
    Git::in_dir(&git_dir)
        .env("GIT_WORK_TREE", &dir)
        .in_folder(&dir)
        .args(["reset", "--quiet", "--hard"])
        .run()?;
    discover(&dir)
}

/// Lists the caches below a folder as ignore patterns.
fn excludes(folder: &Path, below: &mut Vec<u8>, patterns: &mut Vec<u8>) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(io_at(folder))? {
        let entry = entry.map_err(io_at(folder))?;
        let path = entry.path();
        if !entry.file_type().map_err(io_at(&path))?.is_dir() {
            continue;
        }
        let length = below.len();
        below.push(b'/');
        for byte in entry.file_name().as_bytes() {
            if !byte.is_ascii_alphanumeric() {
                below.push(b'\\');
            }
            below.push(*byte);
        }
        if path.join(CACHE_TAG).is_file() {
            // No pattern can hold a line break; such a cache is copied.
            if !below.contains(&b'\n') {
                patterns.extend_from_slice(below);
                patterns.extend(b"/\n");
            }
        } else if entry.file_name() != crate::workspace::FOLDER {
            excludes(&path, below, patterns)?;
        }
        below.truncate(length);
    }
    Ok(())
}
