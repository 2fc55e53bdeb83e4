//! Snapshots: everything that is in memory, in one file, so that a start reads little log.
//!
//! ```text
//! head   "QRTEMEM\0", u16 version, zeros, 16 bytes the log's id, u64 last transaction, u64 its time, u64 key id, u32 CRC32C
//! blocks u32 length, u32 CRC32C (of the id, the block's number, its length and body), body (sealed where a key is named)
//! end    u32 0xffff_ffff, u32 CRC32C over all blocks' checksums and the head's, u64 blocks, u64 keys
//! ```
//!
//! A body is a row of namespaces (kind 0: number, name, policy, floor) and keys (kind 1: namespace, key, count, versions newest first,
//! whether older ones are forgotten). Each byte is under a checksum, and the end tells that nothing is missing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_base::Timestamp;
use quorate_wal::disk::{Mode, folder};
use quorate_wal::seal::{OVERHEAD, Sealer};
use quorate_wal::{Disk, DiskFile, Keyring};

use crate::error::Error;
use crate::record::FORMAT;

const MAGIC: [u8; 8] = *b"QRTEMEM\0";
const HEAD: usize = 64;
const END: u32 = u32::MAX;
const END_LEN: usize = 24;
/// A block is closed when it has grown past this.
const BLOCK: usize = 256 << 10;
/// The longest block: one key with all its versions may be long.
const BLOCK_MAX: usize = 1 << 30;
/// Bytes written at once.
const WRITE: usize = 4 << 20;

/// What a snapshot says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) id: [u8; 16],
    pub(crate) version: u64,
    pub(crate) time: Timestamp,
    pub(crate) key: u64,
}

pub(crate) fn name(version: u64) -> String {
    format!("snapshot-{version:020}")
}

/// The versions of the snapshots in a folder, oldest first.
pub(crate) fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, Error> {
    match disk.list(dir) {
        Ok(names) => {
            let version = |name: &String| {
                let number = name.strip_prefix("snapshot-")?;
                (number.len() == 20).then(|| number.parse().ok()).flatten()
            };
            let mut versions: Vec<u64> = names.iter().filter_map(version).collect();
            versions.sort_unstable();
            Ok(versions)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io(dir)(error)),
    }
}

/// Removes what is left of snapshots older than `version` whose writing was interrupted.
pub(crate) fn clear(disk: &dyn Disk, dir: &Path, version: u64) -> Result<(), Error> {
    for file in disk.list(dir).map_err(Error::io(dir))? {
        let number = file.strip_prefix("snapshot-").filter(|rest| rest.ends_with(".new"));
        let number = number.and_then(|rest| rest.split('.').next()?.parse::<u64>().ok());
        if number.is_some_and(|number| number < version) {
            match disk.remove(&dir.join(&file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io(dir)(error)),
                _ => {}
            }
        }
    }
    Ok(())
}

impl Head {
    fn encode(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.id);
        bytes[32..40].copy_from_slice(&self.version.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.time.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.key.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(path: &Path, bytes: &[u8; HEAD]) -> Result<Self, Error> {
        let damaged = |reason| Error::Damaged { path: path.to_owned(), reason };
        if bytes[..8] != MAGIC {
            return Err(damaged("it does not begin as a snapshot does"));
        }
        if crc32c::crc32c(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(damaged("the head's checksum does not fit"));
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != FORMAT {
            return Err(Error::FormatUnknown { path: path.to_owned(), version, known: FORMAT });
        }
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[16..32]);
        let (version, time, key) = (u64_at(bytes, 32), Timestamp(u64_at(bytes, 40)), u64_at(bytes, 48));
        Ok(Self { id, version, time, key })
    }

    fn bound(&self, block: u64) -> [u8; 72] {
        let mut bound = [0; 72];
        bound[..HEAD].copy_from_slice(&self.encode());
        bound[HEAD..].copy_from_slice(&block.to_le_bytes());
        bound
    }

    /// Reads the head of a snapshot alone.
    pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Self, Error> {
        let file = disk.open(path, Mode::Read).map_err(Error::io(path))?;
        Self::read_from(&*file, path)
    }

    fn read_from(file: &dyn DiskFile, path: &Path) -> Result<Self, Error> {
        let mut head = [0; HEAD];
        if file.read_at(&mut head, 0).map_err(Error::io(path))? < HEAD {
            return Err(Error::Damaged { path: path.to_owned(), reason: "it ends within its head" });
        }
        Self::decode(path, &head)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|field| field.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|field| field.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn block_crc(head: &Head, number: u64, body: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head.id), &number.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &(body.len() as u64).to_le_bytes());
    crc32c::crc32c_append(crc, body)
}

/// Writes a snapshot aside; it has its name only when it was read back.
pub(crate) struct Writer<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    /// Where it is written before it has its name; of this writer alone, for two processes may write one snapshot.
    aside: PathBuf,
    file: Box<dyn DiskFile>,
    head: Head,
    sealer: Option<Sealer>,
    body: Vec<u8>,
    out: Vec<u8>,
    offset: u64,
    blocks: u64,
    keys: u64,
    all: u32,
}

impl<'a> Writer<'a> {
    pub(crate) fn begin(
        disk: &'a dyn Disk,
        path: PathBuf,
        keys: &Keyring,
        mut head: Head,
    ) -> Result<Self, Error> {
        head.key = keys.current();
        static WRITERS: AtomicU64 = AtomicU64::new(0);
        let mut aside = path.clone().into_os_string();
        aside.push(format!(".{}-{}.new", std::process::id(), WRITERS.fetch_add(1, Ordering::Relaxed)));
        let aside = PathBuf::from(aside);
        let file = disk.open(&aside, Mode::Create).map_err(Error::io(&path))?;
        let out = head.encode().to_vec();
        let all = crc32c::crc32c(&out);
        let sealer = keys.sealer(head.key);
        let body = Vec::with_capacity(BLOCK + BLOCK / 4);
        Ok(Self { disk, path, aside, file, head, sealer, body, out, offset: 0, blocks: 0, keys: 0, all })
    }

    /// Adds a namespace or key, as `write` says it; a key where `is_key`.
    pub(crate) fn add(&mut self, is_key: bool, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
        write(&mut self.body);
        self.keys += u64::from(is_key);
        if self.body.len() >= BLOCK { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<(), Error> {
        if self.body.is_empty() {
            return Ok(());
        }
        if let Some(sealer) = &mut self.sealer {
            sealer.seal(&mut self.body, 0, &self.head.bound(self.blocks)).ok_or(Error::NoRandomness)?;
        }
        let crc = block_crc(&self.head, self.blocks, &self.body);
        self.all = crc32c::crc32c_append(self.all, &crc.to_le_bytes());
        let length = u32::try_from(self.body.len()).unwrap_or(END);
        if self.body.len() > BLOCK_MAX {
            let max = BLOCK_MAX as u64;
            return Err(Error::TooLarge { what: "a key with its history", bytes: length.into(), max });
        }
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(&crc.to_le_bytes());
        self.out.extend_from_slice(&self.body);
        self.body.clear();
        self.blocks += 1;
        if self.out.len() >= WRITE { self.write_out() } else { Ok(()) }
    }

    fn write_out(&mut self) -> Result<(), Error> {
        self.file.write_at(&self.out, self.offset).map_err(Error::io(&self.path))?;
        self.offset += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }

    /// Ends it, makes it durable, reads it back and gives it its name.
    pub(crate) fn finish(mut self, keys: &Keyring) -> Result<(), Error> {
        self.end_block()?;
        self.out.extend_from_slice(&END.to_le_bytes());
        self.out.extend_from_slice(&self.all.to_le_bytes());
        self.out.extend_from_slice(&self.blocks.to_le_bytes());
        self.out.extend_from_slice(&self.keys.to_le_bytes());
        self.write_out()?;
        self.file.sync().map_err(Error::io(&self.path))?;
        read(self.disk, &self.aside, keys, &mut |_| Ok(()))?;
        self.disk.rename(&self.aside, &self.path).map_err(Error::io(&self.path))?;
        self.disk.sync_dir(folder(&self.path)).map_err(Error::io(&self.path))
    }
}

/// Reads a snapshot through and hands over the body of each block, opened. All of it was whole only when this returns.
pub(crate) fn read(
    disk: &dyn Disk,
    path: &Path,
    keys: &Keyring,
    visit: &mut dyn FnMut(Vec<u8>) -> Result<(), Error>,
) -> Result<Head, Error> {
    let damaged = |reason| Error::Damaged { path: path.to_owned(), reason };
    let file = disk.open(path, Mode::Read).map_err(Error::io(path))?;
    let head = Head::read_from(&*file, path)?;
    let sealer = keys.sealer(head.key);
    if head.key != 0 && sealer.is_none() {
        return Err(Error::KeyMissing { path: path.to_owned(), id: head.key });
    }
    let mut all = crc32c::crc32c(&head.encode());
    let (mut offset, mut blocks) = (HEAD as u64, 0);
    let size = file.size().map_err(Error::io(path))?;
    loop {
        let mut lead = [0; 8];
        if file.read_at(&mut lead, offset).map_err(Error::io(path))? < lead.len() {
            return Err(damaged("it ends too soon"));
        }
        let (length, crc) = (u32_at(&lead, 0), u32_at(&lead, 4));
        if length == END {
            let mut end = [0; END_LEN];
            let read = file.read_at(&mut end, offset).map_err(Error::io(path))?;
            let counted = u64_at(&end, 8) == blocks;
            if read < END_LEN || crc != all || !counted || size != offset + END_LEN as u64 {
                return Err(damaged("its end does not fit what is before"));
            }
            return Ok(head);
        }
        let length = length as usize;
        if length > BLOCK_MAX + OVERHEAD || length as u64 > size.saturating_sub(offset) {
            return Err(damaged("a block is longer than the file"));
        }
        let mut body = vec![0; length];
        let read = file.read_at(&mut body, offset + 8).map_err(Error::io(path))?;
        if read < length || block_crc(&head, blocks, &body) != crc {
            return Err(damaged("a block's checksum does not fit"));
        }
        if let Some(sealer) = &sealer {
            body = sealer
                .open(&body, &head.bound(blocks))
                .ok_or_else(|| damaged("a block's seal does not fit"))?;
        }
        all = crc32c::crc32c_append(all, &crc.to_le_bytes());
        visit(body)?;
        offset += 8 + length as u64;
        blocks += 1;
    }
}
