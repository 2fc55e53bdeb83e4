//! What an agent sends: files in `<recipient>/<any name>`, taken out one by one.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use quorate_base::ByteCount;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fchmod, open, openat, statat, unlinkat};

use super::artifacts::open_regular;
use super::message::TEXT_BYTES_MAX;

/// The most messages of one launch, those refused included.
pub const MESSAGES_MAX: u32 = 500;
/// The most entries looked at each time.
const ENTRIES_MAX: usize = 4_096;

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The outbox of one launch.
#[derive(Debug)]
pub(crate) struct Outbox {
    folder: PathBuf,
    taken: u32,
    /// Nothing more is taken.
    closed: bool,
}

/// What was found in an outbox: for whom, as bytes of an agent's choice, and the text or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) to: Vec<u8>,
    pub(crate) text: Result<Vec<u8>, String>,
}

/// A file, by its date and its name.
type Entry = ((i64, u64), Vec<u8>, Vec<u8>);

impl Outbox {
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self { folder, taken: 0, closed: false }
    }

    /// Takes out at most `most` messages, oldest first. What starts with a dot is left, for it is being written; so are folders in
    /// a recipient's folder. After [`MESSAGES_MAX`], one refusal says that no more are taken.
    pub(crate) fn take(&mut self, most: usize) -> Vec<Found> {
        let mut found = Vec::new();
        // An agent that removes its outbox sends nothing.
        let Ok(root) = open(&self.folder, FOLDER, Mode::empty()) else { return found };
        if self.closed {
            return found;
        }
        let mut entries = BTreeSet::new();
        let mut left = ENTRIES_MAX;
        list(&root, &mut left, |kind, name, date| match kind {
            FileType::Directory => {
                let Ok(folder) = openat(&root, std::ffi::OsStr::from_bytes(name), FOLDER, Mode::empty())
                else {
                    return 0;
                };
                let mut inner = ENTRIES_MAX / 4;
                let before = inner;
                list(&folder, &mut inner, |kind, file, date| {
                    if kind != FileType::Directory {
                        entries.insert((date, name.to_vec(), file.to_vec()));
                    }
                    0
                });
                before - inner
            }
            _ => {
                entries.insert((date, Vec::new(), name.to_vec()));
                0
            }
        });
        for entry in entries.into_iter().take(most) {
            if self.taken == MESSAGES_MAX {
                self.closed = true;
                let text = Err(format!("more than {MESSAGES_MAX} messages in one launch; no more are taken"));
                found.push(Found { to: entry.1, text });
                break;
            }
            if let Some(one) = self.take_one(&root, entry) {
                self.taken += 1;
                found.push(one);
            }
            if self.closed {
                break;
            }
        }
        found
    }

    /// Reads a file and removes it; none where it has gone meanwhile.
    fn take_one(&mut self, root: &OwnedFd, (_, to, name): Entry) -> Option<Found> {
        let path = match to.is_empty() {
            true => name,
            false => [to.as_slice(), b"/", name.as_slice()].concat(),
        };
        let path = PathBuf::from(std::ffi::OsString::from_vec(path));
        let text = match open_regular(root, &path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => Err(format!("it cannot be read: {error}")),
            Ok(None) => Err("it is no regular file".to_owned()),
            Ok(Some(file)) => read(file),
        };
        let text = match text {
            Ok(_) if to.is_empty() => {
                Err("it lies beside the folders of recipients, and not in one".to_owned())
            }
            text => text,
        };
        if let Err(error) = remove(root, &path) {
            // It would be found again at every look.
            self.closed = true;
            return Some(Found {
                to,
                text: Err(format!("it cannot be taken out ({error}); no more are taken")),
            });
        }
        Some(Found { to, text })
    }
}

fn read(file: std::fs::File) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    match file.take(TEXT_BYTES_MAX + 1).read_to_end(&mut text) {
        Err(error) => Err(format!("it cannot be read: {error}")),
        Ok(_) if text.len() as u64 > TEXT_BYTES_MAX => {
            Err(format!("it is longer than {}", ByteCount(TEXT_BYTES_MAX)))
        }
        Ok(_) => Ok(text),
    }
}

fn remove(root: &OwnedFd, path: &Path) -> rustix::io::Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return unlinkat(root, path, AtFlags::empty());
    };
    let folder = openat(root, folder, FOLDER, Mode::empty())?;
    let name = path.file_name().unwrap_or_default();
    unlinkat(&folder, name, AtFlags::empty()).or_else(|_| {
        // An agent may have taken away its own right to write there.
        fchmod(&folder, Mode::from_raw_mode(0o700))?;
        unlinkat(&folder, name, AtFlags::empty())
    })
}

/// Shows each entry that does not start with a dot, while there are some `left`; the answer is how many more were looked at.
fn list(folder: &OwnedFd, left: &mut usize, mut each: impl FnMut(FileType, &[u8], (i64, u64)) -> usize) {
    let Ok(entries) = Dir::read_from(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_bytes();
        if name.starts_with(b".") {
            continue;
        }
        if *left == 0 {
            return;
        }
        *left -= 1;
        let Ok(about) = statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let date = (about.st_mtime, about.st_mtime_nsec);
        let more = each(FileType::from_raw_mode(about.st_mode), name, date);
        *left = left.saturating_sub(more);
    }
}
