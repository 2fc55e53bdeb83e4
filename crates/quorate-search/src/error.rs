/// Why an entry was not taken, a query not answered, or a selection not packed.
///
/// Except for [`Error::Engine`] and [`Error::Broken`], the fault is in what was passed in, and nothing has changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A quotation mark opens a phrase that nothing closes.
    #[error("the quotation mark at byte {at} is not closed")]
    UnclosedQuote {
        /// Byte offset in the query's text.
        at: usize,
    },
    /// A `*` stands without a word before it.
    #[error("the * at byte {at} has no word before it; write the beginning of a word, such as deploy*")]
    BarePrefix {
        /// Byte offset in the query's text.
        at: usize,
    },
    /// The text has no word to look for, or only words to exclude.
    #[error("the query has no word to look for")]
    NothingToFind,
    /// Neither text nor vector was given, or the weight of everything given is zero.
    #[error("the query has neither text nor vector")]
    EmptyQuery,
    /// The query's text is too long.
    #[error("the query has {bytes} bytes, of which at most {max} are allowed")]
    QueryTooLong {
        /// Bytes given.
        bytes: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The query's text has too many words.
    #[error("the query has more than {max} words")]
    TooManyWords {
        /// Words allowed.
        max: usize,
    },
    /// A number in the query is above its bound.
    #[error("{what} is {value}, which is more than {max}")]
    AboveBound {
        /// Which number: `limit`, `offset`, `namespaces`, `tags`, or `candidates`.
        what: &'static str,
        /// The value given.
        value: usize,
        /// The bound.
        max: usize,
    },
    /// A weight is negative, infinite, or not a number.
    #[error("the weight {0} is not a finite number of at least 0")]
    Weight(f32),
    /// A part of a document is longer than its bound.
    #[error("the {part} of document {id} has {size}, which is more than {max}")]
    DocumentTooLarge {
        /// The document.
        id: u64,
        /// Which part: `namespace`, `key`, `text`, `tag` (bytes), or `list of tags` (count).
        part: &'static str,
        /// Bytes or count given.
        size: usize,
        /// Bytes or count allowed.
        max: usize,
    },
    /// A vector has another dimension than the vectors it would stand beside.
    #[error("the vector has {found} dimensions where {expected} are expected")]
    Dimension {
        /// The dimension of the namespace's vectors.
        expected: usize,
        /// The dimension given.
        found: usize,
    },
    /// A vector has no element, or more than [`crate::DIMENSIONS_MAX`].
    #[error("a vector must have 1 to {max} dimensions, not {found}")]
    DimensionBounds {
        /// The dimension given.
        found: usize,
        /// The largest dimension.
        max: usize,
    },
    /// A vector holds an infinity or something that is not a number.
    #[error("element {at} of the vector is not finite")]
    NotFinite {
        /// Which element, from 0.
        at: usize,
    },
    /// A vector has length zero and so no direction to compare.
    #[error("the vector has length zero and so no direction")]
    ZeroVector,
    /// A candidate's relevance or recency, or an option of the packer, is out of its range.
    #[error("{what} of candidate {id} is {value}, which is out of its range")]
    Candidate {
        /// The candidate.
        id: u64,
        /// `relevance` or `recency`.
        what: &'static str,
        /// The value given.
        value: f32,
    },
    /// The same candidate was given twice.
    #[error("candidate {0} was given twice")]
    CandidateTwice(u64),
    /// An option of the packer is out of its range.
    #[error("the option {what} is {value}, which is out of its range")]
    PackOption {
        /// The option's name.
        what: &'static str,
        /// The value given.
        value: f32,
    },
    /// The text engine failed, for instance for want of memory. The index is broken from here on.
    #[error("the text engine failed: {0}; build the index anew from the entries")]
    Engine(String),
    /// An earlier failure left the index in an unknown state. It answers nothing any more.
    #[error("the index is broken by an earlier failure; build it anew from the entries")]
    Broken,
}

impl From<tantivy::TantivyError> for Error {
    fn from(error: tantivy::TantivyError) -> Self {
        Self::Engine(error.to_string())
    }
}
