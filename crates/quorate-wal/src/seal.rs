//! Bodies sealed at rest with XChaCha20-Poly1305.
//!
//! A key lives outside the log. A segment's header names the key by an id that is derived from it, so that a missing or wrong key is
//! told before anything is decrypted. What a seal binds beside the body: the log, and the frame's number, count, time and link, so
//! that sealed frames cannot be swapped, repeated or moved to another log. Nonces are 24 bytes: 16 drawn afresh whenever a log is
//! opened, and a counter.

use std::collections::BTreeMap;
use std::fmt;

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};
use quorate_base::Digest;

/// Bytes a sealed body is longer than the plain one.
pub const OVERHEAD: usize = NONCE + TAG;
const NONCE: usize = 24;
const TAG: usize = 16;

/// A key of 32 bytes.
#[derive(Clone)]
pub struct Key {
    bytes: [u8; 32],
    id: u64,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:016x})", self.id)
    }
}

impl Key {
    pub fn new(bytes: [u8; 32]) -> Self {
        let mut text = b"quorate log key id v1".to_vec();
        text.extend(bytes);
        let digest = Digest::of(&text);
        let mut id = [0; 8];
        id.copy_from_slice(&digest.as_bytes()[..8]);
        // 0 says that nothing is sealed.
        Self { bytes, id: u64::from_le_bytes(id).max(1) }
    }

    /// Tells keys apart; says nothing about the key.
    pub fn id(&self) -> u64 {
        self.id
    }
}

/// The keys a log may meet: one that seals what is written, older ones that only open.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    current: Option<u64>,
    keys: BTreeMap<u64, Key>,
}

impl Keyring {
    /// Nothing is sealed.
    pub fn plain() -> Self {
        Self::default()
    }

    /// New segments are sealed with `current`; those sealed with one of `older` can still be read.
    pub fn new(current: Key, older: impl IntoIterator<Item = Key>) -> Self {
        let id = current.id;
        let keys = older.into_iter().chain([current]).map(|key| (key.id, key)).collect();
        Self { current: Some(id), keys }
    }

    /// The same keys, and a new one that seals from now on.
    pub fn rotated(&self, new: Key) -> Self {
        Self::new(new, self.keys.values().cloned())
    }

    /// The id under which new segments are sealed; 0 for none.
    pub fn current(&self) -> u64 {
        self.current.unwrap_or(0)
    }

    /// Whether what was sealed under `id` can be opened; plain text always can.
    pub fn has(&self, id: u64) -> bool {
        id == 0 || self.keys.contains_key(&id)
    }

    /// What seals and opens under `id`; `None` where that is plain text or the key is missing.
    pub fn sealer(&self, id: u64) -> Option<Sealer> {
        self.keys.get(&id).map(|key| Sealer {
            cipher: XChaCha20Poly1305::new(&key.bytes.into()),
            prefix: [0; 16],
            counter: 0,
        })
    }
}

/// Seals and opens under one key.
pub struct Sealer {
    cipher: XChaCha20Poly1305,
    prefix: [u8; 16],
    counter: u64,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    /// Seals `buffer[start..]` in place; it grows by [`OVERHEAD`] bytes. `None` where no randomness can be had.
    pub fn seal(&mut self, buffer: &mut Vec<u8>, start: usize, bound: &[u8]) -> Option<()> {
        if self.counter == 0 {
            getrandom::fill(&mut self.prefix).ok()?;
        }
        self.counter += 1;
        let mut nonce = [0; NONCE];
        nonce[..16].copy_from_slice(&self.prefix);
        nonce[16..].copy_from_slice(&self.counter.to_le_bytes());
        let tag = self
            .cipher
            .encrypt_inout_detached(&XNonce::from(nonce), bound, (&mut buffer[start..]).into())
            .ok()?;
        buffer.extend_from_slice(&nonce);
        buffer.extend_from_slice(&tag);
        Some(())
    }

    /// Opens a sealed body; `None` where it is not what was sealed.
    pub fn open(&self, sealed: &[u8], bound: &[u8]) -> Option<Vec<u8>> {
        let length = sealed.len().checked_sub(OVERHEAD)?;
        let (body, rest) = sealed.split_at(length);
        let nonce: [u8; NONCE] = rest[..NONCE].try_into().ok()?;
        let tag: [u8; TAG] = rest[NONCE..].try_into().ok()?;
        let mut body = body.to_vec();
        self.cipher
            .decrypt_inout_detached(&XNonce::from(nonce), bound, body.as_mut_slice().into(), &Tag::from(tag))
            .ok()?;
        Some(body)
    }
}
