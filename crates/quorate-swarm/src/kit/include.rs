//! Files that git does not track and an agent needs all the same, such as `.env`: copied into its worktree.
//!
//! A file is copied where a pattern of `.worktreeinclude`, or of `include` under `[worktree]`, matches it and git ignores
//! it. Both questions are put to git itself, so the patterns mean what they mean in `.gitignore`. Copies are real ones:
//! an agent that writes to its `.env` writes to nobody else's. What was copied is written down beside the worktree, and
//! [`crate::git::PrivateRepository::snapshot`] leaves it out of the change, whatever the agent does to ignore files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use quorate_base::ByteCount;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fchmod, openat, readlinkat, statat, symlinkat, unlinkat};
use rustix::io::Errno;

use super::nofollow::{self, Missing};
use super::{Error, io_at};
use crate::git::{self, PrivateRepository};
use crate::workspace;

/// The file of patterns in a repository.
pub const FILE: &str = ".worktreeinclude";
/// The longest file of patterns read.
const PATTERNS_BYTES_MAX: u64 = 1 << 20;
/// The most files copied into one worktree.
pub const FILES_MAX: usize = 10_000;

/// Where copies come from.
#[derive(Debug, Clone, Copy)]
pub struct From<'a> {
    /// The folder with the files.
    pub folder: &'a Path,
    /// The worktree that says what is tracked: the folder itself, but for runs on a copy of it.
    pub repository: &'a Path,
}

/// Copies what is asked for into a worktree; answers what it copied, in order.
pub fn copy(
    from: From<'_>,
    patterns: &[String],
    bytes_max: ByteCount,
    private: &PrivateRepository,
    worktree: &Path,
) -> Result<Vec<PathBuf>, Error> {
    let Some(patterns) = all_patterns(from.folder, patterns)? else { return Ok(Vec::new()) };
    let matched = git::ignored_matching(private, from.repository, from.folder, &patterns)?;
    let mut wanted = Vec::new();
    for path in matched {
        // The store holds keys, and no pattern may reach them.
        let part = |part: Component<'_>| part.as_os_str() == workspace::FOLDER || part.as_os_str() == ".git";
        if path.components().any(part) {
            continue;
        }
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(Error::Nested { path });
        }
        wanted.push(path);
    }
    if wanted.len() > FILES_MAX {
        return Err(Error::TooManyFiles { found: wanted.len(), max: FILES_MAX });
    }
    wanted.sort();
    let source = nofollow::root(from.folder).map_err(io_at(from.folder))?;
    let target = nofollow::root(worktree).map_err(io_at(worktree))?;
    let mut left = bytes_max.0;
    let mut copied = Vec::new();
    for path in wanted {
        if copy_one(&source, &target, &path, &mut left, bytes_max)? {
            copied.push(path);
        }
    }
    private.set_apart(worktree, &copied)?;
    Ok(copied)
}

/// The patterns of the file and of the settings as one list; none where there are none.
fn all_patterns(folder: &Path, more: &[String]) -> Result<Option<Vec<u8>>, Error> {
    let path = folder.join(FILE);
    let mut text = Vec::new();
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_at(&path)(error)),
        Ok(metadata) if metadata.is_symlink() => return Err(Error::ThroughLink { path }),
        Ok(metadata) if !metadata.is_file() => return Err(Error::Special { path }),
        Ok(metadata) if metadata.size() > PATTERNS_BYTES_MAX => {
            let (bytes, max) = (metadata.size(), PATTERNS_BYTES_MAX);
            return Err(Error::PatternsTooLarge { path, bytes, max });
        }
        Ok(_) => {
            let file = File::open(&path).map_err(io_at(&path))?;
            file.take(PATTERNS_BYTES_MAX).read_to_end(&mut text).map_err(io_at(&path))?;
        }
    }
    for pattern in more {
        text.push(b'\n');
        text.extend_from_slice(pattern.as_bytes());
    }
    Ok((!text.trim_ascii().is_empty()).then_some(text))
}

/// Copies one file or link; says whether it did, which it does not where the commit has something there.
fn copy_one(
    source: &OwnedFd,
    target: &OwnedFd,
    path: &Path,
    left: &mut u64,
    max: ByteCount,
) -> Result<bool, Error> {
    let parent = |root, missing| match nofollow::parent(root, path, missing) {
        Err(error) if is_link(&error) => Err(Error::ThroughLink { path: path.to_owned() }),
        other => other.map_err(io_at(path)),
    };
    let (from, name) = match parent(source, Missing::Refuse) {
        // Gone since git listed it.
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    let metadata = match statat(&from, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(false),
        other => other.map_err(|errno| io_at(path)(errno.into()))?,
    };
    let kind = FileType::from_raw_mode(metadata.st_mode);
    if kind != FileType::RegularFile && kind != FileType::Symlink {
        return Err(Error::Special { path: path.to_owned() });
    }
    let (to, _) = parent(target, Missing::Make)?;
    if statat(&to, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(false);
    }
    if kind == FileType::Symlink {
        let link = readlinkat(&from, name, Vec::new()).map_err(|errno| io_at(path)(errno.into()))?;
        let link = PathBuf::from(std::ffi::OsString::from_vec(link.into_bytes()));
        if !stays_below(path, &link) {
            return Err(Error::LinkLeaves { path: path.to_owned(), target: link });
        }
        symlinkat(&link, &to, name).map_err(|errno| io_at(path)(errno.into()))?;
        return Ok(true);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let from = openat(&from, name, flags, Mode::empty()).map_err(|errno| io_at(path)(errno.into()))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&to, name, flags, Mode::from_raw_mode(0o600));
    let file = file.map_err(|errno| io_at(path)(errno.into()))?;
    let filled = fill(from, file, metadata.st_mode, left);
    if !matches!(filled, Ok(true)) {
        let _ = unlinkat(&to, name, AtFlags::empty());
    }
    match filled.map_err(io_at(path))? {
        true => Ok(true),
        false => Err(Error::TooManyBytes { path: path.to_owned(), max }),
    }
}

/// Copies contents and mode; false where there are more bytes than may still be copied.
fn fill(from: OwnedFd, to: OwnedFd, mode: u32, left: &mut u64) -> io::Result<bool> {
    let mut to = File::from(to);
    // One more than allowed tells that there is more, also of a file that grows meanwhile.
    let bytes = io::copy(&mut File::from(from).take(left.saturating_add(1)), &mut to)?;
    if bytes > *left {
        return Ok(false);
    }
    *left -= bytes;
    // Never setuid, and always its owner's to read.
    fchmod(to.as_fd(), Mode::from_raw_mode(mode & 0o777 | 0o400))?;
    Ok(true)
}

fn is_link(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno == Some(Errno::LOOP) || errno == Some(Errno::NOTDIR) || errno == Some(Errno::MLINK)
}

/// Whether a link at this place means something below the repository, read as text.
fn stays_below(path: &Path, link: &Path) -> bool {
    let mut depth = path.components().count() - 1;
    for part in link.components() {
        match part {
            Component::Normal(name) if name == ".git" || name == workspace::FOLDER => return false,
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return false,
        }
    }
    true
}
