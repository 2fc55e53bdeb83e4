//! Output kept in files: its ends for people, and copies without secrets.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use memchr::memmem;

/// What stands where a secret stood.
const BLOT: &[u8] = b"[redacted]";
const CHUNK: usize = 64 << 10;

/// The first and the last `max` bytes of a file; both are all of it where it is no longer than that.
pub fn ends(path: &Path, max: usize) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(max as u64).read_to_end(&mut head)?;
    let mut tail = Vec::new();
    if length > max as u64 {
        file.seek(SeekFrom::Start((length - max as u64).max(max as u64)))?;
        file.take(max as u64).read_to_end(&mut tail)?;
    } else {
        tail.clone_from(&head);
    }
    Ok((head, tail))
}

/// Copies everything, with each secret replaced wherever it stands, also across the borders of what is read at once.
/// Uses memory for a chunk and the longest secret, however long the input is.
pub fn redact_copy(from: &mut impl Read, to: &mut impl Write, secrets: &[Vec<u8>]) -> io::Result<()> {
    // Longest first, so that a secret that is part of another leaves nothing of it behind.
    let mut secrets: Vec<&[u8]> =
        secrets.iter().map(Vec::as_slice).filter(|secret| !secret.is_empty()).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let overlap = secrets.first().map_or(0, |secret| secret.len() - 1);
    let mut window: Vec<u8> = Vec::with_capacity(CHUNK + overlap);
    loop {
        let before = window.len();
        let read = from.take(CHUNK as u64).read_to_end(&mut window)?;
        let last = read == 0;
        // A secret that starts in the last `overlap` bytes may end in the next chunk.
        let safe = if last { window.len() } else { window.len().saturating_sub(overlap) };
        debug_assert!(window.len() >= before);
        let taken = write_redacted(&window, safe, to, &secrets)?;
        window.drain(..taken);
        if last {
            return Ok(());
        }
    }
}

/// Writes what starts before `safe`; answers how many bytes of the window are dealt with.
fn write_redacted(window: &[u8], safe: usize, to: &mut impl Write, secrets: &[&[u8]]) -> io::Result<usize> {
    let mut at = 0;
    while at < safe {
        let next = secrets
            .iter()
            .filter_map(|secret| {
                memmem::find(&window[at..], secret).map(|offset| (at + offset, secret.len()))
            })
            .filter(|(start, _)| *start < safe)
            .min_by_key(|(start, length)| (*start, std::cmp::Reverse(*length)));
        let Some((start, length)) = next else { break };
        to.write_all(&window[at..start])?;
        to.write_all(BLOT)?;
        at = start + length;
    }
    if at < safe {
        to.write_all(&window[at..safe])?;
        at = safe;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes in pieces of a chosen size.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(buffer.len()).min(self.0.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn secrets_are_blotted_out_wherever_chunks_end() {
        let secrets = vec![b"hunter2".to_vec(), b"hunter2-long".to_vec()];
        for padding in (CHUNK - 20)..(CHUNK + 4) {
            let text = [vec![b'x'; padding], b"hunter2-long, hunter2! hunter".to_vec()].concat();
            let mut out = Vec::new();
            redact_copy(&mut Trickle(&text, 4096), &mut out, &secrets).unwrap();
            assert_eq!(&out[padding..], b"[redacted], [redacted]! hunter", "padding {padding}");
        }
    }

    #[test]
    fn without_secrets_a_copy_is_the_same() {
        let text: Vec<u8> = (0..200_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        let mut out = Vec::new();
        redact_copy(&mut Trickle(&text, 1000), &mut out, &[]).unwrap();
        assert_eq!(out, text);
    }
}
