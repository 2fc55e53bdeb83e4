//! What can go wrong, and what to do then.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::actor::Access;
use crate::key::Key;

/// An operation on the memory was refused or failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "a variant's message says what it means, and names its fields")]
pub enum Error {
    /// Somebody else was first. Read again and decide anew.
    #[error(
        "{key} in {namespace} has version {found}, not {expected} as expected: read it again and try anew"
    )]
    Conflict { namespace: Arc<str>, key: Key, expected: u64, found: u64 },
    /// A range that a transaction had read was changed by somebody else.
    #[error("{key} in {namespace} changed after this transaction had read its range: try anew")]
    RangeConflict { namespace: Arc<str>, key: Key },
    /// A transaction lost against others each time it was tried.
    #[error("the transaction lost against others {tries} times: make it smaller or write less at once")]
    Contended { tries: u32 },
    #[error("there is no namespace {name}: create it first")]
    NamespaceMissing { name: Arc<str> },
    #[error("namespace {name} is there already")]
    NamespaceExists { name: Arc<str> },
    #[error(
        "`{name}` is not a namespace's name: use 1 to 128 of a-z, 0-9, `-`, `_`, `.`, `/`, `:`, beginning with a letter or digit"
    )]
    NamespaceInvalid { name: String },
    #[error("there are {max} namespaces already, which is the most")]
    NamespacesFull { max: u32 },
    /// The namespace does not admit this actor.
    #[error("{actor} may not {access} {namespace}, which is {kind}")]
    Denied { actor: Arc<str>, namespace: Arc<str>, access: Access, kind: &'static str },
    /// A limit of the namespace stands in the way.
    #[error(
        "namespace {namespace} allows {max} {limit}; {used} are used and {wanted} more were wanted: delete something or raise the quota"
    )]
    QuotaExceeded { namespace: Arc<str>, limit: Limit, max: u64, used: u64, wanted: u64 },
    /// The store as a whole would no longer fit into the memory given to it.
    #[error(
        "the memory may take {max} bytes; {used} are used and {wanted} more were wanted: delete something or raise the limit"
    )]
    StoreFull { max: u64, used: u64, wanted: u64 },
    /// One thing alone is larger than allowed.
    #[error("{what} of {bytes} bytes is larger than the {max} allowed")]
    TooLarge { what: &'static str, bytes: u64, max: u64 },
    #[error("an empty key names nothing")]
    EmptyKey,
    /// What was asked for is older than what is kept. Never said of what is merely absent and known to be.
    #[error("version {wanted} is forgotten: what is kept begins with {oldest}")]
    Forgotten { wanted: u64, oldest: u64 },
    /// A version that nobody has written yet.
    #[error("version {wanted} is not there yet: the newest is {newest}")]
    NotYet { wanted: u64, newest: u64 },
    /// A write or sync failed before: nothing more is written. Reads go on.
    #[error(
        "the memory takes no more writes: {reason}; open it again when that is mended (what was acknowledged is safe)"
    )]
    Stopped { reason: Arc<str> },
    /// This process was away for so long that what it has not seen is no longer in the log.
    #[error("others have written and compacted the memory past what this process knows: open it again")]
    Behind,
    #[error(transparent)]
    Log(Arc<quorate_wal::Error>),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: Arc<io::Error> },
    #[error("{} is damaged: {reason}; restore it from a backup", path.display())]
    Damaged { path: PathBuf, reason: &'static str },
    #[error("record {seq} of the log says what this Quorate does not understand: {reason}")]
    RecordUnknown { seq: u64, reason: &'static str },
    #[error("{} has format version {version}, this Quorate knows {known}", path.display())]
    FormatUnknown { path: PathBuf, version: u16, known: u16 },
    #[error("{} is sealed with the key {id:016x}, which is not among the keys given", path.display())]
    KeyMissing { path: PathBuf, id: u64 },
    #[error("there is no randomness to seal with")]
    NoRandomness,
    #[error("{} holds parts of a memory but no log: a restore was interrupted; empty it and restore again", path.display())]
    Incomplete { path: PathBuf },
    #[error("{} is not empty", path.display())]
    NotEmpty { path: PathBuf },
    #[error("{} holds no memory and no backup of one", path.display())]
    NothingThere { path: PathBuf },
    #[error("the backup in {} does not say what the memory says: it was removed, try again", path.display())]
    BackupDiffers { path: PathBuf },
    #[error(transparent)]
    Search(Arc<quorate_search::Error>),
    /// A line of an import is not what an export writes.
    #[error("line {line}: {reason}")]
    Import { line: u64, reason: String },
}

/// What a quota limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Live entries.
    Entries,
    /// Bytes of keys, values, tags and content types of live entries.
    Bytes,
    /// Bytes of one value.
    ValueBytes,
    /// Bytes of one key.
    KeyBytes,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entries => "entries",
            Self::Bytes => "bytes",
            Self::ValueBytes => "bytes a value",
            Self::KeyBytes => "bytes a key",
        })
    }
}

impl From<quorate_wal::Error> for Error {
    fn from(error: quorate_wal::Error) -> Self {
        Self::Log(Arc::new(error))
    }
}

impl From<quorate_search::Error> for Error {
    fn from(error: quorate_search::Error) -> Self {
        Self::Search(Arc::new(error))
    }
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source: Arc::new(source) }
    }

    /// Whether the same operation, decided anew on what is there now, can succeed.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::RangeConflict { .. })
    }
}
