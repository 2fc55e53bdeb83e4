//! The log: a row of segments in a folder.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_base::Timestamp;

use crate::disk::{Disk, DiskFile, Mode, aside};
use crate::frame::{self, Batch, Damage, FRAME_HEAD, HEADER_LEN, Head, Header, Next};
use crate::seal::{Keyring, OVERHEAD, Sealer};

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// A segment that has grown past this is followed by another. Smaller ones are given back sooner, larger ones mean fewer files.
    pub segment_bytes: u64,
    /// Zeros written ahead of the records, so that a sync has no blocks to allocate; 0 for none. Costs as many bytes of disk.
    pub ahead_bytes: u64,
    /// Keys that seal what is written.
    pub keys: Keyring,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, ahead_bytes: 1 << 20, keys: Keyring::plain() }
    }
}

/// A log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("log {}: {source}{}", path.display(), hint(source))]
    Io { path: PathBuf, source: io::Error },
    #[error("log segment {}: {damage}; restore it from a backup", path.display())]
    Damaged { path: PathBuf, damage: Damage },
    #[error("log {}: records {from} to {to} are missing; restore them from a backup", path.display())]
    Gap { path: PathBuf, from: u64, to: u64 },
    #[error("log {}: records up to {durable} were acknowledged, but only those up to {found} are there; restore them from a backup", path.display())]
    Lost { path: PathBuf, durable: u64, found: u64 },
    #[error("log {} took nothing more since a write failed: nobody knows what of it is on the disk until it is opened again", path.display())]
    Poisoned { path: PathBuf },
    #[error("log segment {} is sealed with the key {id:016x}, which is not among the keys given", path.display())]
    KeyMissing { path: PathBuf, id: u64 },
    #[error("{bytes} bytes at once do not fit into the log ({} at most)", frame::BODY_MAX - OVERHEAD)]
    TooLarge { bytes: usize },
    #[error("log {}: there is no randomness to seal with", path.display())]
    NoRandomness { path: PathBuf },
    #[error("record {wanted} is no longer in the log, which begins with {first}")]
    Forgotten { wanted: u64, first: u64 },
}

impl Error {
    /// The disk failed, not the log: with room or a healthy disk again it can be opened and goes on.
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Poisoned { .. })
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space and open it again: what was acknowledged is safe"
        }
        _ => "",
    }
}

/// A record in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Counted from 0 over the life of the log.
    pub seq: u64,
    /// Of the append.
    pub time: Timestamp,
    pub bytes: &'a [u8],
    /// Whether it is the last record of its append. Records of one append are there together or not at all.
    pub last: bool,
}

/// What opening found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Opened {
    /// Bytes cut off behind the last whole frame: an append that was interrupted and never acknowledged.
    pub torn_bytes: u64,
}

#[derive(Debug, Clone)]
struct Segment {
    first: u64,
    path: PathBuf,
    /// Frames to begin reading at: record number, time and offset, in steps of [`MARK_STEP`] bytes.
    marks: Vec<Mark>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    first: u64,
    time: Timestamp,
    offset: u64,
    /// Checksum of the frame before.
    link: u32,
}

const MARK_STEP: u64 = 256 << 10;
/// Bytes read at once from a log that is opened or read through.
const READ_STEP: usize = 1 << 20;
/// Bytes read at once of what others have just appended.
const REFRESH_STEP: usize = 64 << 10;

/// A log open for reading and appending.
///
/// Whoever appends must be the only one: the user holds a lock across processes. Others may [`refresh`](Self::refresh).
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    id: [u8; 16],
    options: Options,
    segments: Vec<Segment>,
    tail: Arc<dyn DiskFile>,
    tail_key: u64,
    sealer: Option<Sealer>,
    /// Where the next frame goes.
    offset: u64,
    /// Up to where the tail holds zeros.
    ahead: u64,
    next: u64,
    synced: u64,
    link: u32,
    poisoned: bool,
}

fn segment_name(first: u64) -> String {
    format!("{first:020}.log")
}

impl Log {
    /// Creates a log that begins with record `first`. The folder must hold none.
    pub fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        id: [u8; 16],
        first: u64,
        options: Options,
    ) -> Result<Self, Error> {
        let at = |source| Error::Io { path: dir.to_owned(), source };
        disk.create_dir(dir).map_err(at)?;
        if disk.list(dir).map_err(at)?.iter().any(|name| segment_first(name).is_some()) {
            return Err(at(io::ErrorKind::AlreadyExists.into()));
        }
        let header = Header { log: id, first, link: 0, key: options.keys.current() };
        let (path, tail) = begin_segment(&*disk, dir, &header)?;
        let mut log = Self {
            disk,
            dir: dir.to_owned(),
            id,
            options,
            segments: vec![Segment { first, path, marks: Vec::new() }],
            tail,
            tail_key: header.key,
            sealer: None,
            offset: HEADER_LEN as u64,
            ahead: HEADER_LEN as u64,
            next: first,
            synced: first,
            link: 0,
            poisoned: false,
        };
        log.sealer = log.options.keys.sealer(header.key);
        Ok(log)
    }

    /// Whether a folder holds a log.
    pub fn exists(disk: &dyn Disk, dir: &Path) -> Result<bool, Error> {
        match disk.list(dir) {
            Ok(names) => Ok(names.iter().any(|name| segment_first(name).is_some())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::Io { path: dir.to_owned(), source }),
        }
    }

    /// Opens a log for appending and shows every record from number `from` on, in order. What an interrupted append left is cut off.
    ///
    /// `durable` is what is known from elsewhere to be durable ([`crate::Control::synced`]); 0 where nothing is.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
        from: u64,
        durable: u64,
        visit: &mut dyn FnMut(Record<'_>),
    ) -> Result<(Self, Opened), Error> {
        let mut log = Self::attach(disk, dir, options, from, visit)?;
        let torn_bytes = log.cut(durable)?;
        log.sync()?;
        // A process that was killed may have begun a segment and not made its name durable.
        log.disk.sync_dir(dir).map_err(log.io())?;
        Ok((log, Opened { torn_bytes }))
    }

    /// Opens a log that another process may be appending to, and shows every record from number `from` on. Changes nothing.
    pub fn attach(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
        from: u64,
        visit: &mut dyn FnMut(Record<'_>),
    ) -> Result<Self, Error> {
        let at = |source| Error::Io { path: dir.to_owned(), source };
        let names = disk.list(dir).map_err(at)?;
        let mut firsts: Vec<u64> = names.iter().filter_map(|name| segment_first(name)).collect();
        firsts.sort_unstable();
        // Segments that end before `from` need not be read: the one that holds it is the last that begins at or before it.
        let skip = firsts.partition_point(|&first| first <= from).saturating_sub(1);
        let (Some(&lowest), Some(&start)) = (firsts.first(), firsts.get(skip)) else {
            return Err(at(io::ErrorKind::NotFound.into()));
        };
        if lowest > from {
            return Err(Error::Gap { path: dir.to_owned(), from, to: lowest });
        }
        let path = dir.join(segment_name(start));
        let (tail, header) = open_segment(&*disk, &path)?;
        if header.first != start {
            return Err(Error::Damaged { path, damage: Damage::Stranger });
        }
        let mut segments: Vec<Segment> = firsts[..=skip]
            .iter()
            .map(|&first| Segment { first, path: dir.join(segment_name(first)), marks: Vec::new() })
            .collect();
        if let Some(last) = segments.last_mut() {
            last.path.clone_from(&path);
        }
        let mut log = Self {
            disk,
            dir: dir.to_owned(),
            id: header.log,
            options,
            segments,
            tail,
            tail_key: 0,
            sealer: None,
            offset: HEADER_LEN as u64,
            ahead: 0,
            next: start,
            synced: start,
            link: header.link,
            poisoned: false,
        };
        log.use_key(&path, header.key)?;
        log.refresh_from(from, READ_STEP, visit)?;
        Ok(log)
    }

    fn use_key(&mut self, path: &Path, id: u64) -> Result<(), Error> {
        self.sealer = self.options.keys.sealer(id);
        self.tail_key = id;
        if id != 0 && self.sealer.is_none() {
            return Err(Error::KeyMissing { path: path.to_owned(), id });
        }
        Ok(())
    }

    fn io(&self) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = self.segments.last().map_or_else(|| self.dir.clone(), |segment| segment.path.clone());
        move |source| Error::Io { path, source }
    }

    fn damaged(&self, offset: u64, reason: &'static str) -> Error {
        let path = self.segments.last().map_or_else(|| self.dir.clone(), |segment| segment.path.clone());
        Error::Damaged { path, damage: Damage::Frame { offset, reason } }
    }

    /// Number of the next record.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Number of the first record that is still there.
    pub fn first(&self) -> u64 {
        self.segments.first().map_or(self.next, |segment| segment.first)
    }

    /// Records below this number are durable.
    pub fn synced(&self) -> u64 {
        self.synced
    }

    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Bytes of all segments but the zeros ahead.
    pub fn bytes(&self) -> u64 {
        let full: u64 = self
            .segments
            .iter()
            .rev()
            .skip(1)
            .filter_map(|segment| self.disk.open(&segment.path, Mode::Read).and_then(|file| file.size()).ok())
            .sum();
        full + self.offset
    }

    /// Shows what others have appended since. A frame that is not whole yet is left for the next time.
    pub fn refresh(&mut self, visit: &mut dyn FnMut(Record<'_>)) -> Result<(), Error> {
        self.refresh_from(self.next, REFRESH_STEP, visit)
    }

    fn refresh_from(
        &mut self,
        from: u64,
        step: usize,
        visit: &mut dyn FnMut(Record<'_>),
    ) -> Result<(), Error> {
        let mut again = None;
        loop {
            self.read_tail(from, step, visit)?;
            // Nothing more here; a segment that begins with the next number follows where the writer has gone on to it.
            let path = self.dir.join(segment_name(self.next));
            if self.segments.last().is_some_and(|segment| segment.first == self.next) {
                return Ok(());
            }
            let (tail, header) = match open_segment(&*self.disk, &path) {
                Ok(found) => found,
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    let Some(to) = self.later()? else {
                        return Ok(());
                    };
                    // The writer may have gone on, and to another segment, after the end was looked at: it is looked at again.
                    if again == Some(self.next) {
                        return Err(Error::Gap { path: self.dir.clone(), from: self.next, to });
                    }
                    again = Some(self.next);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if header.first != self.next || header.log != self.id || header.link != self.link {
                return Err(Error::Damaged { path, damage: Damage::Stranger });
            }
            self.segments.push(Segment { first: header.first, path: path.clone(), marks: Vec::new() });
            self.tail = tail;
            self.offset = HEADER_LEN as u64;
            self.ahead = 0;
            self.synced = self.next;
            self.use_key(&path, header.key)?;
        }
    }

    /// A segment that begins after the next number. It is begun only when all before it is durable: where it is there and records
    /// before it are not, there is a gap.
    fn later(&self) -> Result<Option<u64>, Error> {
        let names = self.disk.list(&self.dir).map_err(self.io())?;
        Ok(names.iter().filter_map(|name| segment_first(name)).find(|&first| first > self.next))
    }

    /// Reads whole frames of the tail from where we are.
    fn read_tail(&mut self, from: u64, step: usize, visit: &mut dyn FnMut(Record<'_>)) -> Result<(), Error> {
        let size = self.tail.size().map_err(self.io())?.saturating_sub(self.offset);
        let step = step.min(usize::try_from(size).unwrap_or(step)).max(FRAME_HEAD * 2);
        let mut buffer = vec![0; step];
        let (mut filled, mut used) = (0, 0);
        let mut base = self.offset;
        loop {
            let looked = frame::next(&self.id, &buffer[used..filled]);
            match looked {
                Next::Frame(head) => {
                    let at = base + used as u64;
                    let bytes = &buffer[used..used + head.size()];
                    self.check_order(&head, at)?;
                    let opened;
                    let body = &bytes[FRAME_HEAD..FRAME_HEAD + head.length as usize];
                    let body = if head.flags & frame::SEALED == 0 {
                        if self.tail_key != 0 {
                            return Err(self.damaged(at, "a plain frame stands among sealed ones"));
                        }
                        body
                    } else {
                        let bound = bound(&self.id, &head);
                        let plain = self.sealer.as_ref().and_then(|sealer| sealer.open(body, &bound));
                        opened = plain.ok_or_else(|| {
                            self.damaged(at, "the seal does not fit: it was altered, or the key is another")
                        })?;
                        &opened
                    };
                    if head.first + u64::from(head.count) > from {
                        let records = frame::records(body, head.count)
                            .ok_or_else(|| self.damaged(at, "the records do not fill the frame"))?;
                        for (index, bytes) in (0..).zip(&records) {
                            let seq = head.first + index;
                            if seq >= from {
                                let last = index + 1 == u64::from(head.count);
                                visit(Record { seq, time: head.time, bytes, last });
                            }
                        }
                    }
                    self.mark(&head, at);
                    used += head.size();
                    self.offset = base + used as u64;
                    self.next = head.first + u64::from(head.count);
                    self.synced = self.synced.max(head.synced);
                    self.link = head.crc;
                }
                Next::End if filled - used >= FRAME_HEAD => return Ok(()),
                Next::Bad => return Ok(()),
                Next::End | Next::Short => {
                    buffer.copy_within(used..filled, 0);
                    filled -= used;
                    base += used as u64;
                    used = 0;
                    let wanted = match frame::next(&self.id, &buffer[..filled]) {
                        Next::Short if filled >= FRAME_HEAD => {
                            body_length(&buffer) + FRAME_HEAD + frame::ALIGN
                        }
                        _ => 0,
                    };
                    let room = wanted.max(filled + step / 2);
                    if buffer.len() < room {
                        buffer.resize(room, 0);
                    }
                    let read =
                        self.tail.read_at(&mut buffer[filled..], base + filled as u64).map_err(self.io())?;
                    if read == 0 {
                        return Ok(());
                    }
                    filled += read;
                }
            }
        }
    }

    fn check_order(&self, head: &Head, at: u64) -> Result<(), Error> {
        if head.first != self.next {
            return Err(self.damaged(at, "a record is missing or repeated before it"));
        }
        if head.link != self.link {
            return Err(self.damaged(at, "the frame before it is not the one it was written behind"));
        }
        Ok(())
    }

    fn mark(&mut self, head: &Head, offset: u64) {
        let link = self.link;
        if let Some(segment) = self.segments.last_mut()
            && segment.marks.last().is_none_or(|mark| offset - mark.offset >= MARK_STEP)
        {
            segment.marks.push(Mark { first: head.first, time: head.time, offset, link });
        }
    }

    /// Cuts off what an interrupted append left behind the last whole frame; answers how many bytes were not zero. Only for
    /// the one who may append, after [`refresh`](Self::refresh). `durable` as in [`open`](Self::open).
    pub fn cut(&mut self, durable: u64) -> Result<u64, Error> {
        if durable > self.next {
            return Err(Error::Lost { path: self.dir.clone(), durable, found: self.next });
        }
        let size = self.tail.size().map_err(self.io())?;
        if size <= self.offset {
            self.ahead = self.offset;
            return Ok(0);
        }
        let length = usize::try_from(size - self.offset).unwrap_or(usize::MAX);
        let mut rest = vec![0; length];
        let read = self.tail.read_at(&mut rest, self.offset).map_err(self.io())?;
        rest.truncate(read);
        let torn = rest.iter().rposition(|&byte| byte != 0).map_or(0, |at| at as u64 + 1);
        if torn > 0 {
            if let Some(reason) = frame::doubt(&self.id, &rest, self.next) {
                return Err(self.damaged(self.offset, reason));
            }
            // Durable before anything is written over it: what is cut must not come back behind it.
            self.tail.set_len(self.offset).and_then(|()| self.tail.sync()).map_err(self.io())?;
            self.ahead = self.offset;
        } else {
            self.ahead = size;
        }
        Ok(torn)
    }

    /// Writes a batch; its records are durable once [`sync`](Self::sync) has returned. Answers the number of the first.
    ///
    /// After a failed write nobody knows what is on the disk: the log takes nothing more until it is opened again.
    pub fn append(&mut self, time: Timestamp, batch: &mut Batch) -> Result<u64, Error> {
        if batch.is_empty() && !self.poisoned {
            return Ok(self.next);
        }
        let head = self.prepare(time, batch)?;
        let bytes = batch.bytes.len() as u64;
        let zeros = self.zeros(bytes);
        let written = zeros
            .map_or(Ok(()), |count| write_zeros(&*self.tail, self.offset + bytes, count))
            .and_then(|()| self.tail.write_at(&batch.bytes, self.offset));
        if let Err(source) = written {
            self.poisoned = true;
            return Err(self.io()(source));
        }
        if let Some(count) = zeros {
            self.ahead = self.offset + bytes + count as u64;
        }
        let first = self.next;
        self.advance(&head, bytes);
        batch.clear();
        Ok(first)
    }

    /// Makes a batch the frame that comes next.
    fn prepare(&mut self, time: Timestamp, batch: &mut Batch) -> Result<Head, Error> {
        if self.poisoned {
            return Err(Error::Poisoned { path: self.dir.clone() });
        }
        if batch.size() > frame::BODY_MAX - OVERHEAD {
            return Err(Error::TooLarge { bytes: batch.size() });
        }
        if self.offset >= self.options.segment_bytes.max(HEADER_LEN as u64 + 1) {
            self.roll()?;
        }
        let mut head = Head {
            length: 0,
            crc: 0,
            first: self.next,
            synced: self.synced,
            time,
            count: batch.count,
            link: self.link,
            flags: 0,
        };
        if let Some(sealer) = &mut self.sealer {
            head.flags = frame::SEALED;
            let bound = bound(&self.id, &head);
            sealer
                .seal(&mut batch.bytes, FRAME_HEAD, &bound)
                .ok_or_else(|| Error::NoRandomness { path: self.dir.clone() })?;
        }
        head.crc = frame::finish(&mut batch.bytes, &self.id, head);
        Ok(head)
    }

    /// Goes on behind a frame of so many bytes.
    fn advance(&mut self, head: &Head, bytes: u64) {
        self.mark(head, self.offset);
        self.offset += bytes;
        self.ahead = self.ahead.max(self.offset);
        self.next += u64::from(head.count);
        self.link = head.crc;
    }

    /// How many zeros are written behind the next frame of so many bytes, so that those after it have nothing to allocate.
    fn zeros(&self, bytes: u64) -> Option<usize> {
        // A large frame pays for what it allocates; zeros behind it would only double what is written.
        let large = bytes >= self.options.ahead_bytes / 8;
        if large || self.offset + bytes <= self.ahead {
            return None;
        }
        usize::try_from(self.options.ahead_bytes).ok()
    }

    /// Returns when everything appended will survive a power cut. A failure is final: a sync is never tried twice, because the
    /// operating system may have dropped what it could not write (fsyncgate).
    pub fn sync(&mut self) -> Result<(), Error> {
        if self.poisoned {
            return Err(Error::Poisoned { path: self.dir.clone() });
        }
        if let Err(source) = self.tail.sync() {
            self.poisoned = true;
            return Err(self.io()(source));
        }
        self.synced = self.next;
        Ok(())
    }

    /// Hands out what [`append`](Self::append) and [`sync`](Self::sync) would do, to be done without holding the log. Until it is done
    /// nothing else may be appended, synced or read of the log's end: of two syncs at once, the operating system tells only one
    /// that it failed. What came of it is told with [`finish`](Self::finish).
    pub fn begin(&mut self, time: Timestamp, batch: &mut Batch) -> Result<Pending, Error> {
        let head = self.prepare(time, batch)?;
        let bytes = batch.bytes.len() as u64;
        let zeros = self.zeros(bytes).map(|count| (self.offset + bytes, count));
        let pending = Pending {
            file: Arc::clone(&self.tail),
            offset: self.offset,
            bytes: std::mem::take(&mut batch.bytes),
            zeros,
            next: self.next + u64::from(batch.count),
        };
        if let Some((from, count)) = zeros {
            self.ahead = from + count as u64;
        }
        self.advance(&head, bytes);
        batch.clear();
        Ok(pending)
    }

    /// Takes note of what [`Pending::run`] answered. A failure is final, as in [`sync`](Self::sync).
    pub fn finish(&mut self, pending: &Pending, outcome: io::Result<()>) -> Result<(), Error> {
        if let Err(source) = outcome {
            self.poisoned = true;
            return Err(self.io()(source));
        }
        self.synced = self.synced.max(pending.next);
        Ok(())
    }

    /// Files of the log with the bytes of each that hold records, oldest first.
    pub fn files(&self) -> Result<Vec<(PathBuf, u64)>, Error> {
        let mut files = Vec::with_capacity(self.segments.len());
        for (index, segment) in self.segments.iter().enumerate() {
            let path = segment.path.clone();
            let bytes = if index + 1 == self.segments.len() {
                self.offset
            } else {
                let size = self.disk.open(&path, Mode::Read).and_then(|file| file.size());
                size.map_err(|source| Error::Io { path: path.clone(), source })?
            };
            files.push((path, bytes));
        }
        Ok(files)
    }

    /// Begins a new segment, under the current key. All before it is durable then.
    pub fn roll(&mut self) -> Result<(), Error> {
        if self.poisoned {
            return Err(Error::Poisoned { path: self.dir.clone() });
        }
        if self.segments.last().is_some_and(|segment| segment.first == self.next) {
            return Ok(());
        }
        self.sync()?;
        let header =
            Header { log: self.id, first: self.next, link: self.link, key: self.options.keys.current() };
        let begun = self
            .tail
            .set_len(self.offset)
            .and_then(|()| self.tail.sync())
            .map_err(self.io())
            .and_then(|()| begin_segment(&*self.disk, &self.dir, &header));
        let (path, tail) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                self.poisoned = true;
                return Err(error);
            }
        };
        self.segments.push(Segment { first: self.next, path: path.clone(), marks: Vec::new() });
        self.tail = tail;
        self.offset = HEADER_LEN as u64;
        self.ahead = self.offset;
        self.use_key(&path, header.key)
    }

    /// Seals new segments with other keys; takes effect with the next [`roll`](Self::roll).
    pub fn set_keys(&mut self, keys: Keyring) {
        self.options.keys = keys;
    }

    /// Gives back segments that hold only records below `seq`. The last one stays.
    pub fn forget(&mut self, seq: u64) -> Result<(), Error> {
        while self.segments.len() > 1 && self.segments[1].first <= seq {
            let path = self.segments[0].path.clone();
            match self.disk.remove(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::Io { path, source });
                }
                _ => {}
            }
            self.segments.remove(0);
        }
        Ok(())
    }

    /// Segments as their first record's number, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = u64> + '_ {
        self.segments.iter().map(|segment| segment.first)
    }

    /// Shows records from `from` on until `visit` answers that it has enough. Only what this log has appended or refreshed is shown.
    pub fn read(&self, from: u64, visit: &mut dyn FnMut(Record<'_>) -> Enough) -> Result<(), Error> {
        if from >= self.next {
            return Ok(());
        }
        if from < self.first() {
            return Err(Error::Forgotten { wanted: from, first: self.first() });
        }
        let index = self.segments.partition_point(|segment| segment.first <= from) - 1;
        for (index, segment) in self.segments.iter().enumerate().skip(index) {
            let end = self.segments.get(index + 1).map_or(self.next, |next| next.first);
            let (file, header) = open_segment(&*self.disk, &segment.path)?;
            let sealer = self.options.keys.sealer(header.key);
            let mark = segment.marks.partition_point(|mark| mark.first <= from).checked_sub(1);
            let (mut offset, mut seq, mut link) =
                mark.map_or((HEADER_LEN as u64, segment.first, header.link), |mark| {
                    let mark = segment.marks[mark];
                    (mark.offset, mark.first, mark.link)
                });
            let damaged = |offset, reason| Error::Damaged {
                path: segment.path.clone(),
                damage: Damage::Frame { offset, reason },
            };
            let io = |source| Error::Io { path: segment.path.clone(), source };
            let step = file.size().map_err(io)?.saturating_sub(offset);
            let step = READ_STEP.min(usize::try_from(step).unwrap_or(READ_STEP)).max(FRAME_HEAD);
            let mut buffer = vec![0; step];
            let (mut filled, mut used) = (file.read_at(&mut buffer, offset).map_err(io)?, 0);
            while seq < end {
                let Next::Frame(head) = frame::next(&self.id, &buffer[used..filled]) else {
                    if used == 0 && filled >= FRAME_HEAD {
                        let wanted = FRAME_HEAD + body_length(&buffer) + frame::ALIGN;
                        if wanted <= buffer.len() || wanted > frame::BODY_MAX + FRAME_HEAD + frame::ALIGN {
                            return Err(damaged(offset, "the checksum does not fit"));
                        }
                        buffer.resize(wanted, 0);
                    } else if used == 0 {
                        return Err(damaged(offset, "the segment is shorter than it was"));
                    }
                    filled = file.read_at(&mut buffer, offset).map_err(io)?;
                    used = 0;
                    continue;
                };
                if head.first != seq || head.link != link {
                    return Err(damaged(offset, "a record is missing or repeated before it"));
                }
                let body = &buffer[used + FRAME_HEAD..used + FRAME_HEAD + head.length as usize];
                let opened;
                let body = if head.flags & frame::SEALED == 0 {
                    body
                } else {
                    let plain = sealer.as_ref().and_then(|sealer| sealer.open(body, &bound(&self.id, &head)));
                    opened = plain.ok_or_else(|| damaged(offset, "the seal does not fit"))?;
                    &opened
                };
                let after = head.first + u64::from(head.count);
                if after > from {
                    let records = frame::records(body, head.count)
                        .ok_or_else(|| damaged(offset, "the records do not fill the frame"))?;
                    for (number, bytes) in (head.first..).zip(&records) {
                        let record =
                            Record { seq: number, time: head.time, bytes, last: number + 1 == after };
                        if number >= from && visit(record) == Enough::Yes {
                            return Ok(());
                        }
                    }
                }
                (seq, link) = (after, head.crc);
                used += head.size();
                offset += head.size() as u64;
            }
        }
        Ok(())
    }

    /// The first record that was appended at `time` or later; the next number where there is none.
    pub fn at_time(&self, time: Timestamp) -> Result<u64, Error> {
        // Marks are in order of their numbers, and clocks may go back: the last mark from which on all are late enough bounds the search.
        let early = self
            .segments
            .iter()
            .flat_map(|segment| segment.marks.iter())
            .take_while(|mark| mark.time < time)
            .last()
            .map_or_else(|| self.first(), |mark| mark.first);
        let mut found = self.next;
        self.read(early.max(self.first()), &mut |record| {
            if record.time >= time {
                found = record.seq;
                return Enough::Yes;
            }
            Enough::No
        })?;
        Ok(found)
    }
}

/// A write and a sync that are done without holding the log.
#[derive(Debug)]
pub struct Pending {
    file: Arc<dyn DiskFile>,
    offset: u64,
    bytes: Vec<u8>,
    zeros: Option<(u64, usize)>,
    next: u64,
}

impl Pending {
    /// Writes, and makes durable what was written and all before it.
    pub fn run(&self) -> io::Result<()> {
        if let Some((from, count)) = self.zeros {
            write_zeros(&*self.file, from, count)?;
        }
        self.file.write_at(&self.bytes, self.offset)?;
        self.file.sync()
    }
}

fn write_zeros(file: &dyn DiskFile, from: u64, count: usize) -> io::Result<()> {
    match file.write_at(&vec![0; count], from) {
        // Zeros are a convenience: a disk that has room for the record but not for them still takes it.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => file.set_len(from),
        done => done,
    }
}

/// What a visitor says after a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enough {
    Yes,
    No,
}

fn body_length(bytes: &[u8]) -> usize {
    bytes.first_chunk().map_or(0, |field| u32::from_le_bytes(*field) as usize)
}

fn bound(log: &[u8; 16], head: &Head) -> [u8; 56] {
    let mut bound = [0; 56];
    bound[..16].copy_from_slice(log);
    bound[16..].copy_from_slice(&frame::head_fields(head));
    bound
}

/// The number in a segment's file name.
fn segment_first(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".log")?;
    (number.len() == 20).then(|| number.parse().ok()).flatten()
}

fn open_segment(disk: &dyn Disk, path: &Path) -> Result<(Arc<dyn DiskFile>, Header), Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file: Arc<dyn DiskFile> = disk.open(path, Mode::Write).map_err(io)?.into();
    let mut bytes = [0; HEADER_LEN];
    let read = file.read_at(&mut bytes, 0).map_err(io)?;
    let header =
        Header::decode(&bytes[..read]).map_err(|damage| Error::Damaged { path: path.to_owned(), damage })?;
    Ok((file, header))
}

/// A new segment with its header: whole and durable, or not there at all.
fn begin_segment(
    disk: &dyn Disk,
    dir: &Path,
    header: &Header,
) -> Result<(PathBuf, Arc<dyn DiskFile>), Error> {
    let path = dir.join(segment_name(header.first));
    let new = aside(&path);
    let begin = || -> io::Result<Arc<dyn DiskFile>> {
        let file: Arc<dyn DiskFile> = disk.open(&new, Mode::Create)?.into();
        file.write_at(&header.encode(), 0)?;
        file.sync()?;
        disk.rename(&new, &path)?;
        disk.sync_dir(dir)?;
        Ok(file)
    };
    let file = begin().map_err(|source| Error::Io { path: path.clone(), source })?;
    Ok((path, file))
}
