//! What every store, and whatever stands beside them, is asked to do.

use std::path::Path;

/// A store in a folder of its own, used by many threads.
pub(crate) trait Store: Sync + Sized {
    const NAME: &'static str;

    fn open(folder: &Path) -> anyhow::Result<Self>;

    /// Returns when the value is on the disk.
    fn put(&self, key: &Key, value: &Value) -> anyhow::Result<()>;

    /// Returns when all values are on the disk; none before is seen without the others, where the store offers that.
    fn put_all(&self, pairs: &[(Key, Value)]) -> anyhow::Result<()>;

    /// Looks up each key, one after the other, in whatever way reads fastest, and calls `each` with what it finds.
    fn get_all(&self, keys: &[Key], each: impl FnMut(Option<&[u8]>)) -> anyhow::Result<()>;
}

pub(crate) const KEY: usize = 24;
pub(crate) const VALUE: usize = 256;
pub(crate) type Key = [u8; KEY];
pub(crate) type Value = [u8; VALUE];

/// The key of a number: spread over the whole range of keys, so that writes do not append.
pub(crate) fn key(number: u64) -> Key {
    let mut key = [0; KEY];
    let text = format!("{:016x}{number:08x}", mix(number));
    key.copy_from_slice(&text.as_bytes()[..KEY]);
    key
}

/// A value that no other number has, and that does not compress.
pub(crate) fn value(number: u64) -> Value {
    let mut value = [0; VALUE];
    for (index, word) in (1_u64..).zip(value.chunks_exact_mut(8)) {
        word.copy_from_slice(&mix(number.wrapping_mul(31) + index).to_le_bytes());
    }
    value[..8].copy_from_slice(&number.to_le_bytes());
    value
}

/// A number that looks drawn.
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
