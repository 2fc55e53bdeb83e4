//! Restoring: a new store from a backup or another store, as it was at some point.

use std::path::Path;
use std::sync::Arc;

use quorate_base::Timestamp;
use quorate_wal::{Disk, Log};

use crate::backup::{contents_digest, empty, verify};
use crate::contents;
use crate::error::Error;
use crate::options::Options;
use crate::place::log_dir;
use crate::recover::Loaded;
use crate::snapshot::{self, Head, Writer};

/// What a restore goes back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Point {
    /// All there is.
    #[default]
    Newest,
    /// After this transaction.
    Version(u64),
    /// After the last transaction that was not later than this.
    Time(Timestamp),
}

/// Makes a store in `to`, which must be empty or missing, from the backup or the store in `from`; answers its newest version. What is
/// restored from is verified first. Versions keep their numbers; the new store has an identity of its own and is sealed
/// with the current key of `options`.
pub fn restore(
    disk: &Arc<dyn Disk>,
    from: &Path,
    to: &Path,
    options: &Options,
    point: Point,
) -> Result<u64, Error> {
    empty(&**disk, to)?;
    let backup = verify(&**disk, from)?;
    if !Log::exists(&**disk, &log_dir(from))? {
        return Err(Error::NothingThere { path: from.to_owned() });
    }
    let base = match point {
        Point::Newest => u64::MAX,
        Point::Version(version) => version,
        Point::Time(time) => newest_before(&**disk, from, time)?,
    };
    let mut loaded = Loaded::newest(disk, from, &options.keys, base)?;
    loaded.replay(disk, from, options, &|version, time| match point {
        Point::Newest => true,
        Point::Version(wanted) => version <= wanted,
        Point::Time(wanted) => time <= wanted,
    })?;
    let version = loaded.version;
    if let Point::Version(wanted) = point
        && version < wanted
    {
        return Err(Error::NotYet { wanted, newest: version });
    }
    if let (Point::Newest, Some(backup)) = (point, backup)
        && (backup.version != version || backup.contents != contents_digest(&loaded.index, version))
    {
        return Err(Error::BackupDiffers { path: from.to_owned() });
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| Error::NoRandomness)?;
    disk.create_dir(&log_dir(to)).map_err(Error::io(to))?;
    let head = Head { id, version, time: loaded.ledger.time, key: 0 };
    let mut writer = Writer::begin(&**disk, to.join(snapshot::name(version)), &options.keys, head)?;
    contents::write(&loaded.index, version, &mut writer)?;
    writer.finish(&options.keys)?;
    // Last: a folder without a log is not opened.
    drop(Log::create(Arc::clone(disk), &log_dir(to), id, version + 1, options.log())?);
    disk.sync_dir(to).map_err(Error::io(to))?;
    Ok(version)
}

/// The newest snapshot that is not later than `time`; 0 where only the log goes back that far.
fn newest_before(disk: &dyn Disk, dir: &Path, time: Timestamp) -> Result<u64, Error> {
    for version in snapshot::list(disk, dir)?.into_iter().rev() {
        if Head::read(disk, &dir.join(snapshot::name(version)))?.time <= time {
            return Ok(version);
        }
    }
    Ok(0)
}
