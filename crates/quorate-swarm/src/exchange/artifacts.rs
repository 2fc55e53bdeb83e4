//! Files that one task leaves and others are given: taken into the content store, and laid out from it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use quorate_base::digest::Hasher;
use quorate_base::{ByteCount, TaskId};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, open, openat, statat};

use super::blotted;
use super::book::Artifact;
use super::name::{clean, shown};
use crate::kit::nofollow::{self, Missing};
use crate::record::RefusedFile;
use crate::store::{self, Store};

/// The most files taken from one launch.
pub const FILES_MAX: usize = 1_000;
/// The most entries looked at, folders included.
const ENTRIES_MAX: usize = 4 * FILES_MAX;
/// The most refusals named; the rest is counted.
const NAMED_MAX: usize = 20;

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Artifacts cannot be kept or handed over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What an agent left, and what of it was not taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    pub(crate) kept: BTreeMap<String, Artifact>,
    pub(crate) refused: Vec<RefusedFile>,
    /// Refusals that are not named.
    pub(crate) more: u32,
}

/// Takes what lies below `out` into the store. Refused alone: whatever is no regular file, has a name that is not [`clean`], or holds
/// a secret (a file with something blotted out would be another file). Refused whole: more than [`FILES_MAX`] files or
/// `bytes_max` bytes. Errors are the store's.
pub(crate) fn collect(
    out: &Path,
    store: &Store,
    bytes_max: ByteCount,
    secrets: &[Vec<u8>],
) -> Result<Collected, Error> {
    let mut walk = Walk { secrets, ..Walk::default() };
    let root = match open(out, FOLDER, Mode::empty()) {
        Ok(root) => root,
        Err(errno) => {
            walk.refuse(b".", &format!("its folder cannot be opened: {errno}"));
            return Ok(walk.collected);
        }
    };
    walk.folder(&root, &[]);
    let total: u64 = walk.found.values().fold(0, |sum, bytes| sum.saturating_add(*bytes));
    let whole = if walk.entries > ENTRIES_MAX || walk.found.len() > FILES_MAX {
        Some(format!("there are more than {FILES_MAX} files, so none is kept"))
    } else if total > bytes_max.0 {
        Some(format!(
            "the files hold {} together, and {bytes_max} may be kept (`artifacts-max` under [swarm]), so none is",
            ByteCount(total)
        ))
    } else {
        None
    };
    if let Some(reason) = whole {
        walk.collected = Collected::default();
        walk.refuse(b".", &reason);
        return Ok(walk.collected);
    }
    let mut left = bytes_max.0;
    for (name, _) in std::mem::take(&mut walk.found) {
        match keep_one(&root, &name, store, secrets, &mut left)? {
            Ok(artifact) => drop(walk.collected.kept.insert(name, artifact)),
            Err(reason) => walk.refuse(name.as_bytes(), &reason),
        }
    }
    Ok(walk.collected)
}

#[derive(Default)]
struct Walk<'a> {
    secrets: &'a [Vec<u8>],
    /// Regular files with their sizes.
    found: BTreeMap<String, u64>,
    entries: usize,
    collected: Collected,
}

impl Walk<'_> {
    fn refuse(&mut self, name: &[u8], reason: &str) {
        if self.collected.refused.len() == NAMED_MAX {
            self.collected.more = self.collected.more.saturating_add(1);
            return;
        }
        let name = shown(&blotted(name, self.secrets));
        self.collected.refused.push(RefusedFile { name, reason: reason.to_owned() });
    }

    fn folder(&mut self, folder: &OwnedFd, prefix: &[u8]) {
        let entries = match Dir::read_from(folder) {
            Ok(entries) => entries,
            Err(errno) => return self.refuse(prefix, &format!("it cannot be read: {errno}")),
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => return self.refuse(prefix, &format!("it cannot be read: {errno}")),
            };
            let own = entry.file_name().to_bytes();
            if matches!(own, b"." | b"..") {
                continue;
            }
            self.entries += 1;
            if self.entries > ENTRIES_MAX || self.found.len() > FILES_MAX {
                return;
            }
            let slash: &[u8] = if prefix.is_empty() { b"" } else { b"/" };
            let name = [prefix, slash, own].concat();
            self.entry(folder, own, &name);
        }
    }

    fn entry(&mut self, folder: &OwnedFd, own: &[u8], name: &[u8]) {
        let own = std::ffi::OsStr::from_bytes(own);
        let text = match clean(name) {
            Ok(text) => text.to_owned(),
            Err(unclean) => return self.refuse(name, &unclean.to_string()),
        };
        if blotted(name, self.secrets) != name {
            return self.refuse(name, "its name holds a secret");
        }
        let about = match statat(folder, own, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(about) => about,
            Err(errno) => return self.refuse(name, &format!("it cannot be looked at: {errno}")),
        };
        match FileType::from_raw_mode(about.st_mode) {
            FileType::RegularFile => {
                self.found.insert(text, u64::try_from(about.st_size).unwrap_or(u64::MAX));
            }
            FileType::Directory => match openat(folder, own, FOLDER, Mode::empty()) {
                Ok(below) => self.folder(&below, name),
                Err(errno) => self.refuse(name, &format!("it cannot be opened: {errno}")),
            },
            FileType::Symlink => self.refuse(name, "it is a symbolic link, and none is followed"),
            _ => self.refuse(name, "it is neither a file nor a folder"),
        }
    }
}

/// Keeps one file; the inner error says why it is not taken.
fn keep_one(
    root: &OwnedFd,
    name: &str,
    store: &Store,
    secrets: &[Vec<u8>],
    left: &mut u64,
) -> Result<Result<Artifact, String>, Error> {
    let unreadable = |error: io::Error| format!("it cannot be read: {error}");
    let file = match open_regular(root, Path::new(name)) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(Err("it is no regular file any more".into())),
        Err(error) => return Ok(Err(unreadable(error))),
    };
    // One more than allowed tells that there is more, also of a file that grows meanwhile.
    let mut tee = Tee { from: file.take(left.saturating_add(1)), hasher: Hasher::default(), failed: None };
    let mut writer = store.writer()?;
    if let Err(source) = quorate_agents::redact_copy(&mut tee, &mut writer, secrets) {
        return match tee.failed {
            Some(reason) => Ok(Err(format!("it cannot be read: {reason}"))),
            None => Err(Error::Io { path: store.root().to_owned(), source }),
        };
    }
    let found = tee.hasher.finish();
    if tee.from.limit() == 0 {
        return Ok(Err("it has grown beyond what may be kept".into()));
    }
    let bytes = left.saturating_add(1) - tee.from.limit();
    if writer.digest() != found {
        return Ok(Err("it holds the value of a secret".into()));
    }
    *left -= bytes;
    let digest = writer.keep()?;
    Ok(Ok(Artifact { digest, bytes: ByteCount(bytes) }))
}

/// A file below `root` that is reached without a link; none where it is no regular file.
pub(super) fn open_regular(root: &OwnedFd, path: &Path) -> io::Result<Option<File>> {
    let (folder, name) = nofollow::parent(root, path, Missing::Refuse)?;
    // What is not a regular file is not opened: opening a device may do something.
    let about = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&folder, name, flags, Mode::empty())?;
    let same = FileType::from_raw_mode(fstat(file.as_fd())?.st_mode) == FileType::RegularFile;
    Ok(same.then(|| File::from(file)))
}

/// Passes bytes on, and knows their digest.
struct Tee<R> {
    from: R,
    hasher: Hasher,
    failed: Option<String>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer);
        match &read {
            Ok(count) => self.hasher.update(&buffer[..*count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => self.failed = Some(error.to_string()),
        }
        read
    }
}

/// Lays artifacts out below `folder` as `<task>/<name>`: copies that nobody may write, each checked against its digest. Copies and no
/// links, because who owns a link may change what it leads to.
pub(crate) fn lay_out<'a>(
    store: &Store,
    folder: &Path,
    artifacts: impl Iterator<Item = (&'a TaskId, &'a str, &'a Artifact)>,
) -> Result<(), Error> {
    for (task, name, artifact) in artifacts {
        let path = folder.join(task.as_str()).join(name);
        let io_at = |source| Error::Io { path: path.clone(), source };
        let above = path.parent().unwrap_or(folder);
        fs::DirBuilder::new().recursive(true).mode(0o755).create(above).map_err(io_at)?;
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path).map_err(io_at)?;
        store.copy(&artifact.digest, &mut file)?;
    }
    Ok(())
}

impl Error {
    /// The disk is full or cannot be written: with room again, the run goes on.
    pub fn is_disk(&self) -> bool {
        let (Self::Io { source, .. }
        | Self::Store(store::Error::Write { source, .. } | store::Error::Copy { source, .. })) = self
        else {
            return false;
        };
        is_disk(source)
    }
}

pub(crate) fn is_disk(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}
