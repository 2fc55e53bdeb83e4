//! The content store: evidence, output and certificates, each under the digest of its bytes.
//!
//! An object is written aside, synced, and moved into place, so that what is there is whole; a reader checks the digest
//! all the same.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_base::digest::Hasher;
use quorate_base::{ByteCount, Digest};

/// The largest object read into memory.
pub const READ_MAX: ByteCount = ByteCount::mib(64);

/// The content store of a workspace.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// An object could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot write an object to {}: {source}", root.display())]
    Write { root: PathBuf, source: io::Error },
    #[error("object {digest} is not in the store")]
    Missing { digest: Digest },
    #[error("cannot read object {digest}: {source}")]
    Read { digest: Digest, source: io::Error },
    #[error("object {digest} is damaged: its bytes have digest {found}")]
    Damaged { digest: Digest, found: Digest },
    #[error("object {digest} holds {bytes} bytes; at most {READ_MAX} are read at once")]
    TooLarge { digest: Digest, bytes: u64 },
    #[error("cannot copy object {digest}: {source}")]
    Copy { digest: Digest, source: io::Error },
}

static TEMPORARY: AtomicU64 = AtomicU64::new(0);

impl Store {
    /// The store in that folder, which is made on the first write.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where an object is or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        self.root.join(&hex[..2]).join(&hex[2..])
    }

    /// Keeps bytes; durable when this returns.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        if self.path(&digest).exists() && self.get(&digest).is_ok() {
            return Ok(digest);
        }
        let mut writer = self.writer()?;
        writer.write_all(bytes).map_err(|source| self.write_error(source))?;
        writer.keep()
    }

    /// Starts an object whose bytes come piece by piece.
    pub fn writer(&self) -> Result<Writer<'_>, Error> {
        let aside = self.root.join("aside");
        fs::create_dir_all(&aside).map_err(|source| self.write_error(source))?;
        let name = format!("{}-{}", std::process::id(), TEMPORARY.fetch_add(1, Ordering::Relaxed));
        let path = aside.join(name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = file.map_err(|source| self.write_error(source))?;
        Ok(Writer { store: self, file, path, hasher: Hasher::default(), bytes: 0, kept: false })
    }

    /// Reads an object and checks its digest.
    pub fn get(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let read = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing { digest: *digest },
            _ => Error::Read { digest: *digest, source },
        };
        let file = File::open(self.path(digest)).map_err(read)?;
        let bytes = file.metadata().map_err(read)?.len();
        if bytes > READ_MAX.0 {
            return Err(Error::TooLarge { digest: *digest, bytes });
        }
        let mut content = Vec::new();
        file.take(READ_MAX.0 + 1).read_to_end(&mut content).map_err(read)?;
        let found = Digest::of(&content);
        if found == *digest { Ok(content) } else { Err(Error::Damaged { digest: *digest, found }) }
    }

    /// Copies an object of any size, and checks its digest: an error means that what was written is not it, or not all of it.
    pub fn copy(&self, digest: &Digest, to: &mut impl Write) -> Result<u64, Error> {
        let mut file = File::open(self.path(digest)).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing { digest: *digest },
            _ => Error::Read { digest: *digest, source },
        })?;
        let (mut hasher, mut bytes) = (Hasher::default(), 0);
        let mut piece = vec![0; 64 << 10];
        loop {
            let count = match file.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(Error::Read { digest: *digest, source }),
            };
            hasher.update(&piece[..count]);
            bytes += count as u64;
            to.write_all(&piece[..count]).map_err(|source| Error::Copy { digest: *digest, source })?;
        }
        let found = hasher.finish();
        if found == *digest { Ok(bytes) } else { Err(Error::Damaged { digest: *digest, found }) }
    }

    /// Removes what writers left aside when they died; call it only where no writer is at work.
    pub fn sweep(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.root.join("aside")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn write_error(&self, source: io::Error) -> Error {
        Error::Write { root: self.root.clone(), source }
    }
}

/// An object being written; dropped without [`Writer::keep`], it was never there.
#[derive(Debug)]
pub struct Writer<'a> {
    store: &'a Store,
    file: File,
    path: PathBuf,
    hasher: Hasher,
    bytes: u64,
    kept: bool,
}

impl Writer<'_> {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The digest of what has been written so far.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Syncs the object and moves it to its digest's place.
    pub fn keep(mut self) -> Result<Digest, Error> {
        let digest = std::mem::take(&mut self.hasher).finish();
        self.settle(&digest).map_err(|source| self.store.write_error(source))?;
        self.kept = true;
        Ok(digest)
    }

    fn settle(&self, digest: &Digest) -> io::Result<()> {
        self.file.sync_all()?;
        let place = self.store.path(digest);
        let folder = place.parent().unwrap_or(&self.store.root);
        let fresh = !folder.exists();
        fs::create_dir_all(folder)?;
        fs::rename(&self.path, &place)?;
        File::open(folder)?.sync_all()?;
        if fresh {
            File::open(&self.store.root)?.sync_all()?;
        }
        Ok(())
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing refers to it; what cannot be removed now is swept later.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_found_under_its_digest_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().join("objects"));
        let digest = store.put(b"evidence").unwrap();
        assert_eq!(store.put(b"evidence").unwrap(), digest);
        assert_eq!(store.get(&digest).unwrap(), b"evidence");
        fs::write(store.path(&digest), b"evidencE").unwrap();
        assert!(matches!(store.get(&digest), Err(Error::Damaged { .. })));
        assert_eq!(store.put(b"evidence").unwrap(), digest);
        assert_eq!(
            store.get(&digest).unwrap(),
            b"evidence",
            "a damaged object is mended by writing it again"
        );
    }

    #[test]
    fn an_object_that_was_not_kept_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let mut writer = store.writer().unwrap();
        writer.write_all(b"half").unwrap();
        drop(writer);
        assert_eq!(fs::read_dir(folder.path().join("aside")).unwrap().count(), 0);
        assert!(matches!(store.get(&Digest::of(b"half")), Err(Error::Missing { .. })));
    }
}
