//! What a lease is on, and how it is written.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name or path.
const LEN_MAX: usize = 1_000;

/// Something a lease can be on. Paths are relative to the repository's top, with `/` between parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// One file, whether it is there or not.
    File(String),
    /// A folder and everything below it; the empty path is the whole repository.
    Folder(String),
    /// Anything else that tasks share: a database, a device, a service.
    Name(String),
}

/// Whether others may have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    Shared,
    Exclusive,
}

/// A lease as it is asked for: `file:PATH`, `folder:PATH` or `name:NAME`, with `read:` before it where it is shared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Wanted {
    pub resource: Resource,
    pub mode: Mode,
}

/// A text that names no lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names no lease: {reason}")]
pub struct InvalidLease {
    pub text: String,
    pub reason: &'static str,
}

impl Resource {
    /// Whether a lease on one says something about the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) => a == b,
            (Self::Name(_), _) | (_, Self::Name(_)) => false,
            _ => self.covers(other) || other.covers(self),
        }
    }

    /// Whether what a token for this allows includes the other.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) => a == b,
            (Self::File(a), Self::File(b)) => a == b,
            (Self::Folder(a), Self::File(b) | Self::Folder(b)) => {
                a.is_empty()
                    || b.strip_prefix(a.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            // A folder may stand where a file was meant to be.
            (Self::File(a), Self::Folder(b)) => a == b,
            _ => false,
        }
    }
}

impl Wanted {
    /// Whether two holders cannot have both.
    pub fn conflicts(&self, other: &Self) -> bool {
        (self.mode == Mode::Exclusive || other.mode == Mode::Exclusive)
            && self.resource.overlaps(&other.resource)
    }

    /// What is asked for in the order in which it is taken; of the same thing twice, the stronger.
    pub fn in_order(wanted: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut ordered: Vec<Self> = wanted.into_iter().collect();
        ordered.sort_by(|a, b| a.resource.cmp(&b.resource).then(b.mode.cmp(&a.mode)));
        ordered.dedup_by(|later, earlier| later.resource == earlier.resource);
        ordered
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{path}"),
            Self::Folder(path) if path.is_empty() => f.write_str("folder:."),
            Self::Folder(path) => write!(f, "folder:{path}"),
            Self::Name(name) => write!(f, "name:{name}"),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.mode == Mode::Shared { "read:" } else { "" };
        write!(f, "{prefix}{}", self.resource)
    }
}

impl FromStr for Wanted {
    type Err = InvalidLease;

    fn from_str(text: &str) -> Result<Self, InvalidLease> {
        let wrong = |reason| InvalidLease { text: text.chars().take(200).collect(), reason };
        let (mode, rest) = match text.strip_prefix("read:") {
            Some(rest) => (Mode::Shared, rest),
            None => (Mode::Exclusive, text),
        };
        if rest.len() > LEN_MAX {
            return Err(wrong("it is too long"));
        }
        if rest.chars().any(char::is_control) {
            return Err(wrong("it holds a control character"));
        }
        let resource = match rest.split_once(':') {
            Some(("file", path)) => match relative(path) {
                Some(path) if !path.is_empty() => Resource::File(path),
                _ => {
                    return Err(wrong(
                        "a file's path is relative to the repository's top and stays below it",
                    ));
                }
            },
            Some(("folder", path)) => match relative(path) {
                Some(inside) if !path.is_empty() => Resource::Folder(inside),
                _ => {
                    return Err(wrong(
                        "a folder's path is relative to the repository's top and stays below it",
                    ));
                }
            },
            Some(("name", "")) => return Err(wrong("the name is empty")),
            Some(("name", name)) => Resource::Name(name.to_owned()),
            _ => return Err(wrong("it begins with none of `file:`, `folder:` and `name:`")),
        };
        Ok(Self { resource, mode })
    }
}

impl TryFrom<String> for Wanted {
    type Error = InvalidLease;

    fn try_from(text: String) -> Result<Self, InvalidLease> {
        text.parse()
    }
}

impl From<Wanted> for String {
    fn from(wanted: Wanted) -> Self {
        wanted.to_string()
    }
}

/// The path with nothing in it that means nothing; none where it leads out.
fn relative(path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    (!parts.contains(&"..")).then(|| parts.join("/"))
}
