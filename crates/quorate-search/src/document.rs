use crate::Error;

/// Longest namespace and longest tag, in bytes.
pub const NAME_BYTES_MAX: usize = 4096;
/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 64 * 1024;
/// Longest text, in bytes.
pub const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most tags of one document.
pub const TAGS_MAX: usize = 1024;
/// Most elements of one vector.
pub const DIMENSIONS_MAX: usize = 16_384;

/// What the index knows of one entry.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Document {
    /// The caller's name for the entry. An upsert with the same id replaces it, whatever else differs.
    pub id: u64,
    /// What a query can be confined to, compared byte for byte. At most [`NAME_BYTES_MAX`].
    pub namespace: String,
    /// Searched as words, with more weight than the text. At most [`KEY_BYTES_MAX`].
    pub key: String,
    /// Searched as words; empty for an entry without text. At most [`TEXT_BYTES_MAX`].
    pub text: String,
    /// Searched as words, and compared byte for byte by a query's tag filter. At most [`TAGS_MAX`] of
    /// [`NAME_BYTES_MAX`] each.
    pub tags: Vec<String>,
    /// The entry's embedding, of any length but zero; only its direction counts. All vectors of a namespace have one
    /// dimension, which the first of them sets and which is free again when the last has gone.
    pub vector: Option<Vec<f32>>,
}

impl Document {
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.bound("namespace", self.namespace.len(), NAME_BYTES_MAX)?;
        self.bound("key", self.key.len(), KEY_BYTES_MAX)?;
        self.bound("text", self.text.len(), TEXT_BYTES_MAX)?;
        self.bound("list of tags", self.tags.len(), TAGS_MAX)?;
        self.tags.iter().try_for_each(|tag| self.bound("tag", tag.len(), NAME_BYTES_MAX))
    }

    fn bound(&self, part: &'static str, size: usize, max: usize) -> Result<(), Error> {
        if size > max { Err(Error::DocumentTooLarge { id: self.id, part, size, max }) } else { Ok(()) }
    }
}
