//! The log's bytes.
//!
//! A log is a row of segments. A segment is a header of [`HEADER_LEN`] bytes and frames behind it; what lies behind the last frame
//! is zeros, written ahead so that a sync need not allocate. A frame holds the records of one append:
//!
//! ```text
//! 0  u32 length of the body       8  u64 number of its first record   32 u32 records in it
//! 4  u32 CRC32C of the frame     16  u64 records below this one were  36 u32 CRC32C of the frame before
//!        and the log's id                durable when it was written  40 u32 flags: 1 the body is sealed
//!                                24  u64 time, ms since the epoch     44 u32 zero
//! 48 body: u32 length and bytes a record; zeros up to a multiple of 8
//! ```
//!
//! **A torn write or damage?** Behind a bad frame lies nothing that was acknowledged if no good frame of this log follows that was
//! written after the bad one had become durable (field 16 says so), and no note elsewhere says it had ([`crate::control`]). Then
//! the bad frame is the end of an interrupted append, in whatever order the disk wrote its parts. Otherwise it is damage,
//! and the log is not opened for writing. The log's id is part of each checksum, so that nothing inside a record can pass for a
//! frame.

use quorate_base::Timestamp;

/// Bytes a segment begins with.
pub const MAGIC: [u8; 8] = *b"QRTEWAL\0";
pub const VERSION: u16 = 1;
pub const HEADER_LEN: usize = 64;
pub const FRAME_HEAD: usize = 48;
/// Frames begin at multiples of this.
pub const ALIGN: usize = 8;
/// The longest body of a frame.
pub const BODY_MAX: usize = 256 << 20;
/// Bytes a record takes beside its own.
pub const RECORD_HEAD: usize = 4;
/// The body is sealed with the segment's key.
pub const SEALED: u32 = 1;
/// The most bytes checksummed in the search for a good frame behind a bad one.
const SEARCH_MAX: usize = 1 << 30;

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The log's identity, drawn when it was created.
    pub log: [u8; 16],
    /// Number of the segment's first record.
    pub first: u64,
    /// Checksum of the last frame of the segment before; 0 in the first.
    pub link: u32,
    /// Which key seals the bodies; 0 for none.
    pub key: u64,
}

/// A segment is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("it does not begin as a log segment does")]
    NotASegment,
    #[error("it has format version {0}, this Quorate knows {VERSION}")]
    Version(u16),
    #[error("the header's checksum does not fit")]
    Header,
    #[error("it belongs to another log or another place in this one")]
    Stranger,
    #[error("damaged at offset {offset}: {reason}")]
    Frame { offset: u64, reason: &'static str },
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.link.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.log);
        bytes[32..40].copy_from_slice(&self.first.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.key.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        if bytes.len() < HEADER_LEN || bytes[..8] != MAGIC {
            return Err(Damage::NotASegment);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if u32_at(bytes, 60) != crc32c::crc32c(&bytes[..60]) {
            return Err(Damage::Header);
        }
        if version != VERSION {
            return Err(Damage::Version(version));
        }
        let mut log = [0; 16];
        log.copy_from_slice(&bytes[16..32]);
        Ok(Self { log, first: u64_at(bytes, 32), link: u32_at(bytes, 12), key: u64_at(bytes, 40) })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|field| field.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|field| field.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Records put together for one append.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) count: u32,
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record.
    pub fn push(&mut self, record: &[u8]) {
        self.push_with(|bytes| bytes.extend_from_slice(record));
    }

    /// Adds the record that `write` appends to the buffer it is given. It must only append.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.bytes.is_empty() {
            self.bytes.resize(FRAME_HEAD, 0);
        }
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; RECORD_HEAD]);
        write(&mut self.bytes);
        let length = u32::try_from(self.bytes.len() - at - RECORD_HEAD).unwrap_or(u32::MAX);
        self.bytes[at..at + RECORD_HEAD].copy_from_slice(&length.to_le_bytes());
        self.count += 1;
    }

    /// Records in it.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the body so far.
    pub fn size(&self) -> usize {
        self.bytes.len().saturating_sub(FRAME_HEAD)
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }
}

/// Everything a frame says beside its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub length: u32,
    pub crc: u32,
    pub first: u64,
    pub synced: u64,
    pub time: Timestamp,
    pub count: u32,
    pub link: u32,
    pub flags: u32,
}

impl Head {
    fn read(bytes: &[u8]) -> Self {
        Self {
            length: u32_at(bytes, 0),
            crc: u32_at(bytes, 4),
            first: u64_at(bytes, 8),
            synced: u64_at(bytes, 16),
            time: Timestamp(u64_at(bytes, 24)),
            count: u32_at(bytes, 32),
            link: u32_at(bytes, 36),
            flags: u32_at(bytes, 40),
        }
    }

    /// Bytes of the whole frame.
    pub fn size(&self) -> usize {
        size(self.length as usize)
    }
}

/// Bytes of a frame whose body has this length.
pub const fn size(body: usize) -> usize {
    (FRAME_HEAD + body).next_multiple_of(ALIGN)
}

/// Fills in the head of a frame whose body stands behind [`FRAME_HEAD`] bytes, pads it, and answers its checksum.
pub fn finish(bytes: &mut Vec<u8>, log: &[u8; 16], head: Head) -> u32 {
    let length = u32::try_from(bytes.len() - FRAME_HEAD).unwrap_or(u32::MAX);
    bytes.resize(size(length as usize), 0);
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[8..48].copy_from_slice(&head_fields(&head));
    let crc = checksum(log, bytes);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// The head's fields behind the checksum; what a seal also binds.
pub fn head_fields(head: &Head) -> [u8; 40] {
    let mut fields = [0; 40];
    fields[..8].copy_from_slice(&head.first.to_le_bytes());
    fields[8..16].copy_from_slice(&head.synced.to_le_bytes());
    fields[16..24].copy_from_slice(&head.time.0.to_le_bytes());
    fields[24..28].copy_from_slice(&head.count.to_le_bytes());
    fields[28..32].copy_from_slice(&head.link.to_le_bytes());
    fields[32..36].copy_from_slice(&head.flags.to_le_bytes());
    fields
}

fn checksum(log: &[u8; 16], frame: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(log), &frame[..4]);
    crc32c::crc32c_append(crc, &frame[8..])
}

/// What stands at the start of `bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A whole frame whose checksum fits.
    Frame(Head),
    /// Zeros, or nothing: no append has begun here.
    End,
    /// A frame may begin here, of which there are only these bytes; with more it may be whole.
    Short,
    /// Something else.
    Bad,
}

/// Looks at what stands at the start of `bytes`.
pub fn next(log: &[u8; 16], bytes: &[u8]) -> Next {
    if bytes.iter().take(FRAME_HEAD).all(|&byte| byte == 0) {
        return Next::End;
    }
    if bytes.len() < FRAME_HEAD {
        return Next::Short;
    }
    let head = Head::read(bytes);
    if head.length as usize > BODY_MAX || head.count == 0 {
        return Next::Bad;
    }
    let Some(frame) = bytes.get(..head.size()) else {
        return Next::Short;
    };
    if checksum(log, frame) == head.crc { Next::Frame(head) } else { Next::Bad }
}

/// The records of a frame's body. `None` where the body does not hold exactly `count` of them.
pub fn records(body: &[u8], count: u32) -> Option<Vec<&[u8]>> {
    let mut records = Vec::with_capacity((count as usize).min(body.len() / RECORD_HEAD + 1));
    let mut rest = body;
    for _ in 0..count {
        let length = u32_at(rest.get(..RECORD_HEAD)?, 0) as usize;
        rest = &rest[RECORD_HEAD..];
        records.push(rest.get(..length)?);
        rest = &rest[length..];
    }
    rest.is_empty().then_some(records)
}

/// Why bytes that begin with a bad frame, whose first record would have had number `seq`, are not the end of an interrupted append:
/// a frame stands behind it that was written after it had become durable. `None` where there is no such thing.
pub fn doubt(log: &[u8; 16], bytes: &[u8], seq: u64) -> Option<&'static str> {
    let mut budget = SEARCH_MAX;
    let reach = seq..=seq.saturating_add((bytes.len() / RECORD_HEAD) as u64);
    let mut at = ALIGN;
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= FRAME_HEAD) {
        at += ALIGN;
        let head = Head::read(rest);
        let plausible = head.count > 0
            && head.size() <= rest.len()
            && reach.contains(&head.first)
            && head.synced > seq
            && head.synced <= head.first;
        if !plausible {
            continue;
        }
        let Some(left) = budget.checked_sub(head.size()) else {
            return Some(
                "the checksum does not fit, and what follows is not clearly the end of an interrupted write",
            );
        };
        budget = left;
        if checksum(log, &rest[..head.size()]) == head.crc {
            return Some("the checksum does not fit, and records written later are whole");
        }
    }
    None
}
