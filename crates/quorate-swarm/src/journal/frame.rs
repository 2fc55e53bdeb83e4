//! The journal's bytes.

use quorate_base::{Digest, Timestamp};

/// Bytes a journal begins with.
pub const MAGIC: [u8; 8] = *b"QRTEJRN\0";
pub const VERSION: u16 = 1;
pub const HEADER_LEN: usize = 32;
/// The longest body of a frame.
pub const BODY_MAX: usize = 16 << 20;

const FRAME_HEAD: usize = 8;
const BODY_HEAD: usize = 48;
/// The longest payload of a record.
pub const PAYLOAD_MAX: usize = BODY_MAX - BODY_HEAD;
/// The shortest frame, one without payload.
const FRAME_MIN: usize = FRAME_HEAD + BODY_HEAD;
/// The most bytes checksummed in the search for a good frame after a bad one. Searching costs more only where bytes are
/// made to look like frames over and over.
const SEARCH_MAX: usize = 256 << 20;

/// A record in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Counted from 0.
    pub seq: u64,
    pub time: Timestamp,
    pub payload: Vec<u8>,
    /// Of the frame, in the file.
    pub offset: u64,
    pub chain: Digest,
}

/// What stands behind the last good frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    Clean,
    /// An append was cut short.
    Torn {
        offset: u64,
        bytes: u64,
    },
}

/// The journal is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    #[error("it does not begin as a journal does")]
    NotAJournal,
    /// Its creation was cut short; no record was ever in it.
    #[error(
        "it ends within its header, so no record was ever in it: the run did not begin, and its folder can be removed"
    )]
    NeverBegun,
    #[error("it has format version {0}, this Quorate knows {VERSION}")]
    Version(u16),
    #[error("the header's checksum does not fit")]
    Header,
    #[error("damaged at offset {offset}: {reason}")]
    Frame { offset: u64, reason: &'static str },
}

/// A header for a new journal.
pub fn header(id: [u8; 16]) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[12..28].copy_from_slice(&id);
    let crc = crc32c::crc32c(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The chain value before the first frame.
pub fn genesis(header: &[u8]) -> Digest {
    Digest::of(header)
}

/// The chain value of a frame.
pub fn link(before: &Digest, seq: u64, time: Timestamp, payload: &[u8]) -> Digest {
    let mut hasher = quorate_base::digest::Hasher::default();
    hasher.update(before.as_bytes());
    hasher.update(&seq.to_le_bytes());
    hasher.update(&time.0.to_le_bytes());
    hasher.update(payload);
    hasher.finish()
}

/// Appends a frame to `out`; answers its chain value. The payload is at most [`PAYLOAD_MAX`].
pub fn encode(out: &mut Vec<u8>, before: &Digest, seq: u64, time: Timestamp, payload: &[u8]) -> Digest {
    let chain = link(before, seq, time, payload);
    let length = u32::try_from(BODY_HEAD + payload.len()).unwrap_or(u32::MAX);
    let start = out.len();
    out.extend(length.to_le_bytes());
    out.extend([0; 4]);
    out.extend(chain.as_bytes());
    out.extend(seq.to_le_bytes());
    out.extend(time.0.to_le_bytes());
    out.extend(payload);
    let crc = checksum(&out[start..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    chain
}

/// The checksum of a whole frame, whatever its own checksum field holds.
fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..4]), &frame[FRAME_HEAD..])
}

/// Checks a header.
pub fn check_header(bytes: &[u8]) -> Result<(), Damaged> {
    if bytes.len() < HEADER_LEN {
        let begun = MAGIC.iter().zip(bytes).all(|(expected, found)| expected == found);
        return Err(if begun { Damaged::NeverBegun } else { Damaged::NotAJournal });
    }
    if bytes[..8] != MAGIC {
        return Err(Damaged::NotAJournal);
    }
    let version = u16::from_le_bytes([bytes[8], bytes[9]]);
    if version != VERSION {
        return Err(Damaged::Version(version));
    }
    let crc = u32::from_le_bytes([bytes[28], bytes[29], bytes[30], bytes[31]]);
    if crc == crc32c::crc32c(&bytes[..28]) { Ok(()) } else { Err(Damaged::Header) }
}

/// The frame at the start of `bytes`: its length in all, if it is whole and its checksum fits.
fn whole(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let crc = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
    if !(BODY_HEAD..=BODY_MAX).contains(&length) {
        return None;
    }
    let frame = bytes.get(..FRAME_HEAD + length)?;
    (checksum(frame) == crc).then_some(frame.len())
}

/// Reads the frames of a journal from `offset` on, the chain value before them being `chain` and their first number
/// `seq`. Header and frames before must have been checked.
pub fn decode(
    bytes: &[u8],
    mut offset: usize,
    mut chain: Digest,
    mut seq: u64,
) -> Result<(Vec<Entry>, Tail), Damaged> {
    let mut entries = Vec::new();
    while offset < bytes.len() {
        let at = offset as u64;
        let rest = &bytes[offset..];
        let Some(length) = whole(rest) else {
            if let Some(reason) = doubt_after(rest, seq) {
                return Err(Damaged::Frame { offset: at, reason });
            }
            return Ok((entries, Tail::Torn { offset: at, bytes: rest.len() as u64 }));
        };
        let body = &rest[FRAME_HEAD..length];
        let number = |range: std::ops::Range<usize>| {
            body[range].try_into().map(u64::from_le_bytes).unwrap_or_default()
        };
        let (found_seq, time) = (number(32..40), Timestamp(number(40..48)));
        let payload = body[BODY_HEAD..].to_vec();
        if found_seq != seq {
            return Err(Damaged::Frame { offset: at, reason: "a record is missing or repeated before it" });
        }
        let expected = link(&chain, seq, time, &payload);
        if body[..32] != *expected.as_bytes() {
            return Err(Damaged::Frame {
                offset: at,
                reason: "the hash chain is broken: a record was altered",
            });
        }
        chain = expected;
        entries.push(Entry { seq, time, payload, offset: at, chain });
        seq += 1;
        offset += length;
    }
    Ok((entries, Tail::Clean))
}

/// Why bytes that begin with a bad frame are not the torn end of an append: a good frame stands behind the first byte,
/// or there was too much that looks like one to be sure. `seq` is the number the bad frame would have had.
fn doubt_after(bytes: &[u8], seq: u64) -> Option<&'static str> {
    let mut budget = SEARCH_MAX;
    for start in 1..bytes.len().saturating_sub(FRAME_MIN - 1) {
        let rest = &bytes[start..];
        let Some(length) = rest.get(..4).and_then(|field| field.try_into().ok()).map(u32::from_le_bytes)
        else {
            break;
        };
        let length = length as usize;
        if !(BODY_HEAD..=BODY_MAX).contains(&length) || length > rest.len() - FRAME_HEAD {
            continue;
        }
        // A frame of this journal that follows has a number in reach; chance bytes almost never have.
        let at = FRAME_HEAD + 32;
        let number = rest.get(at..at + 8).and_then(|field| field.try_into().ok()).map(u64::from_le_bytes);
        let in_reach = seq..=seq.saturating_add((bytes.len() / FRAME_MIN) as u64);
        if !number.is_some_and(|number| in_reach.contains(&number)) {
            continue;
        }
        let Some(left) = budget.checked_sub(length) else {
            return Some(
                "the checksum does not fit, and what follows is not clearly the end of an interrupted write",
            );
        };
        budget = left;
        if whole(rest).is_some() {
            return Some("the checksum does not fit, and good records follow");
        }
    }
    None
}
