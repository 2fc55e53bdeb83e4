//! Backups: snapshots and log copied while writers go on, and read back before they count.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_base::digest::Hasher;
use quorate_base::{ByteCount, Digest, Timestamp};
use quorate_wal::disk::{Mode, read_whole, write_whole};
use quorate_wal::{Disk, DiskFile};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::index::Index;
use crate::inner::Inner;
use crate::place::log_dir;
use crate::record::FORMAT;
use crate::recover::Loaded;
use crate::snapshot;
use crate::store::Store;
use crate::tail::locked;
use crate::view::View;

/// The file that makes a folder a backup. Written last: where it is missing, the backup was interrupted.
const MANIFEST: &str = "backup.json";
/// Bytes copied at once.
const STEP: usize = 1 << 20;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Backup {
    /// Version of the store's format.
    pub format: u16,
    /// The newest transaction in it.
    pub version: u64,
    /// Of that transaction.
    pub time: Timestamp,
    /// Over every key and value as of that transaction.
    pub contents: Digest,
    /// Everything in the folder but this manifest.
    pub files: Vec<BackupFile>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BackupFile {
    /// Within the backup's folder.
    pub path: PathBuf,
    /// Its length.
    pub bytes: ByteCount,
    /// Of all its bytes.
    pub sha256: Digest,
}

impl Store {
    /// Copies the store into `to`, which must be empty or missing, while others read and write; reads the copy back, and
    /// compares it with what it is a copy of. It is sealed as the store is, and reaches as far back as the store's log does.
    pub fn backup(&self, to: &Path) -> Result<Backup, Error> {
        self.inner.backup(to)
    }
}

type Source = (PathBuf, Box<dyn DiskFile>, u64);

impl Inner {
    fn backup(self: &Arc<Self>, to: &Path) -> Result<Backup, Error> {
        let disk = &self.place.disk;
        empty(&**disk, to)?;
        let _one = locked(&self.snapshotting);
        let (sources, version, time) = self.sources()?;
        let view = View::entered(Arc::clone(self), version);
        disk.create_dir(&log_dir(to)).map_err(Error::io(to))?;
        let mut files = Vec::new();
        for (path, file, bytes) in sources {
            let sha256 = copy(&**disk, &*file, bytes, &to.join(&path))?;
            files.push(BackupFile { path, bytes: ByteCount(bytes), sha256 });
        }
        disk.sync_dir(&log_dir(to)).and_then(|()| disk.sync_dir(to)).map_err(Error::io(to))?;
        let contents = contents_digest(&self.index, version);
        drop(view);
        let mut options = self.options.clone();
        options.keys = locked(&self.keys).clone();
        let read = Loaded::newest(disk, to, &options.keys, u64::MAX).and_then(|mut loaded| {
            loaded.replay(disk, to, &options, &|_, _| true)?;
            Ok(loaded.version == version && contents_digest(&loaded.index, version) == contents)
        });
        if !matches!(read, Ok(true)) {
            for file in &files {
                let _ = disk.remove(&to.join(&file.path));
            }
            read?;
            return Err(Error::BackupDiffers { path: to.to_owned() });
        }
        let backup = Backup { format: FORMAT, version, time, contents, files };
        let manifest = serde_json::to_vec_pretty(&backup).unwrap_or_default();
        write_whole(&**disk, &to.join(MANIFEST), &manifest).map_err(Error::io(to.join(MANIFEST)))?;
        Ok(backup)
    }

    /// The files as they are at one moment, open, and what they show. A view of it is entered.
    fn sources(&self) -> Result<(Vec<Source>, u64, Timestamp), Error> {
        let (disk, dir) = (&*self.place.disk, &self.place.dir);
        let turn = locked(&self.turn);
        let mut tail = self.seize(&turn)?;
        let sources = self.flush_all(&mut tail).and_then(|()| {
            let mut sources = Vec::new();
            let mut add = |path: PathBuf, bytes: Option<u64>| -> Result<(), Error> {
                let file = disk.open(&path, Mode::Read).map_err(Error::io(&path))?;
                let bytes = match bytes {
                    Some(bytes) => bytes,
                    None => file.size().map_err(Error::io(&path))?,
                };
                let path = path.strip_prefix(dir).unwrap_or(&path).to_owned();
                sources.push((path, file, bytes));
                Ok(())
            };
            for version in snapshot::list(disk, dir)? {
                add(dir.join(snapshot::name(version)), None)?;
            }
            for (path, bytes) in tail.log.files()? {
                match add(path, Some(bytes)) {
                    // Given back by another process, and so not needed.
                    Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                    added => added?,
                }
            }
            Ok(sources)
        });
        let time = tail.ledger.time;
        let entered = sources.map(|sources| (sources, self.index.enter(), time));
        self.release(&mut tail);
        entered
    }
}

/// Refuses a folder that holds anything.
pub(crate) fn empty(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    match disk.list(dir) {
        Ok(names) if names.is_empty() => Ok(()),
        Ok(_) => Err(Error::NotEmpty { path: dir.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(dir)(error)),
    }
}

fn copy(disk: &dyn Disk, from: &dyn DiskFile, bytes: u64, to: &Path) -> Result<Digest, Error> {
    let out = disk.open(to, Mode::Create).map_err(Error::io(to))?;
    let sha256 = through(from, bytes, |offset, part| out.write_at(part, offset)).map_err(Error::io(to))?;
    out.sync().map_err(Error::io(to))?;
    Ok(sha256)
}

fn through(
    from: &dyn DiskFile,
    bytes: u64,
    mut visit: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; STEP];
    let mut offset = 0;
    while offset < bytes {
        let step = usize::try_from(bytes - offset).unwrap_or(STEP).min(STEP);
        let read = from.read_at(&mut buffer[..step], offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(&buffer[..read]);
        visit(offset, &buffer[..read])?;
        offset += read as u64;
    }
    Ok(hasher.finish())
}

/// Reads a backup through, where `dir` is one, and compares it with what its manifest says.
pub(crate) fn verify(disk: &dyn Disk, dir: &Path) -> Result<Option<Backup>, Error> {
    let path = dir.join(MANIFEST);
    let bytes = match read_whole(disk, &path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(path)(error)),
    };
    let damaged = |path: &Path, reason| Error::Damaged { path: path.to_owned(), reason };
    let backup: Backup =
        serde_json::from_slice(&bytes).map_err(|_| damaged(&path, "it is not a backup's manifest"))?;
    if backup.format != FORMAT {
        return Err(Error::FormatUnknown { path, version: backup.format, known: FORMAT });
    }
    for file in &backup.files {
        let path = dir.join(&file.path);
        let from = disk.open(&path, Mode::Read).map_err(Error::io(&path))?;
        if from.size().map_err(Error::io(&path))? != file.bytes.0 {
            return Err(damaged(&path, "it is not as long as the backup's manifest says"));
        }
        if through(&*from, file.bytes.0, |_, _| Ok(())).map_err(Error::io(&path))? != file.sha256 {
            return Err(damaged(&path, "it is not what was backed up"));
        }
    }
    Ok(Some(backup))
}

/// Over what stands at each key after transaction `version`, expired or not.
pub(crate) fn contents_digest(index: &Index, version: u64) -> Digest {
    let mut hasher = Hasher::default();
    let mut line = Vec::new();
    for space in index.spaces() {
        for key in space.keys_from(std::ops::Bound::Unbounded) {
            let Ok(Some(entry)) = space.at(key.as_bytes(), version) else {
                continue;
            };
            let Some(meta) = entry.shared_meta() else {
                continue;
            };
            line.clear();
            crate::record::number(&mut line, u64::from(space.id));
            crate::record::bytes(&mut line, key.as_bytes());
            crate::record::number(&mut line, entry.version());
            crate::record::encode_value(&mut line, entry.value(), meta, entry.expires_at());
            hasher.update(&line);
        }
    }
    hasher.finish()
}
