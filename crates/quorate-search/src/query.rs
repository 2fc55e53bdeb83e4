use crate::Error;

/// Longest text of a query, in bytes.
pub const QUERY_BYTES_MAX: usize = 8192;
/// Most words of a query's text, those in phrases included.
pub const QUERY_WORDS_MAX: usize = 128;
/// Most hits of one answer.
pub const LIMIT_MAX: usize = 1000;
/// Most hits that can be skipped.
pub const OFFSET_MAX: usize = 10_000;
/// Most namespaces, and most tags, that a query can name.
pub const FILTERS_MAX: usize = 1024;

/// What is looked for: by text, by vector, or by both.
///
/// The text is made of
/// - words: `deploy staging`. A word that punctuation divides, such as `retry_limit`, is the phrase of its parts;
/// - the beginning of a word: `deplo*`;
/// - phrases: `"connection reset by peer"`, and with an open end `"connection res"*`;
/// - `+` before any of these: it must be there; `-`: it must not. Both hold for what the vector finds, too.
///
/// Letters are compared without case and without accents. Each Chinese character and Japanese syllable is a word. Other
/// characters separate words. A word counts up to its first 128 bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The text to look for; blank for none. At most [`QUERY_BYTES_MAX`] and [`QUERY_WORDS_MAX`] words.
    pub text: String,
    /// Whether words and phrases without a sign are each enough.
    pub words: Words,
    /// The embedding to look for. Namespaces that hold vectors of another dimension are passed over, unless none is
    /// left or [`Namespaces::Only`] names one: that is [`Error::Dimension`].
    pub vector: Option<Vec<f32>>,
    /// Where to look.
    pub namespaces: Namespaces,
    /// Tags that every hit must bear, byte for byte. At most [`FILTERS_MAX`].
    pub tags: Vec<String>,
    /// How much each list counts when both are asked for.
    pub weights: Weights,
    /// Most hits to answer with. At most [`LIMIT_MAX`].
    pub limit: usize,
    /// How many of the best hits to skip. At most [`OFFSET_MAX`].
    pub offset: usize,
}

impl Default for Query {
    /// Looks for nothing, everywhere, ten hits.
    fn default() -> Self {
        Self {
            text: String::new(),
            words: Words::Any,
            vector: None,
            namespaces: Namespaces::All,
            tags: Vec::new(),
            weights: Weights::default(),
            limit: 10,
            offset: 0,
        }
    }
}

impl Query {
    /// A query for text alone.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A query for a vector alone.
    #[must_use]
    pub fn vector(vector: Vec<f32>) -> Self {
        Self { vector: Some(vector), ..Self::default() }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let namespaces = match &self.namespaces {
            Namespaces::All => 0,
            Namespaces::Only(names) => names.len(),
        };
        for (what, value, max) in [
            ("limit", self.limit, LIMIT_MAX),
            ("offset", self.offset, OFFSET_MAX),
            ("namespaces", namespaces, FILTERS_MAX),
            ("tags", self.tags.len(), FILTERS_MAX),
        ] {
            if value > max {
                return Err(Error::AboveBound { what, value, max });
            }
        }
        for weight in [self.weights.text, self.weights.vector] {
            if !(weight.is_finite() && weight >= 0.0) {
                return Err(Error::Weight(weight));
            }
        }
        Ok(())
    }
}

/// What words without a sign mean together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Words {
    /// One is enough (where nothing is required by `+`); more rank higher.
    #[default]
    Any,
    /// Each must be there, as if all bore a `+`.
    All,
}

/// Which namespaces a query looks into.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Namespaces {
    /// Every one.
    #[default]
    All,
    /// These. An empty list finds nothing. At most [`FILTERS_MAX`].
    Only(Vec<String>),
}

impl Namespaces {
    pub(crate) fn admit(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.iter().any(|name| name == namespace),
        }
    }
}

/// How much each list counts: see [`crate::RANK_CONSTANT`]. Finite and at least 0; a list of weight 0 finds nothing,
/// though the `+` and `-` of the text still hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// Of the ranking by text. Default 1.
    pub text: f32,
    /// Of the ranking by vector. Default 1.
    pub vector: f32,
}

impl Default for Weights {
    fn default() -> Self {
        Self { text: 1.0, vector: 1.0 }
    }
}

/// An entry that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The caller's id.
    pub id: u64,
    /// What hits are ordered by, highest first: the sum over the lists of weight / ([`crate::RANK_CONSTANT`] + rank).
    /// Only comparable within one answer. Equal scores are ordered by id.
    pub score: f32,
    /// Its place in the list by text, with the BM25 score. `None` where the text did not find it.
    pub text: Option<Ranked>,
    /// Its place in the list by vector, with the cosine, −1 to 1. `None` where it is not among the nearest.
    pub vector: Option<Ranked>,
}

/// A place in one list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// 1 for the best.
    pub rank: usize,
    /// The list's own score, higher is better. Not comparable between lists.
    pub score: f32,
}
