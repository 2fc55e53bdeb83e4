//! Names of what messages are about, and patterns over them.
//!
//! A topic is segments with dots between them: `run.42.task.done`. In a pattern, `*` stands for exactly one segment and `>`, last,
//! for one or more. These are the terms and rules of NATS subjects.

use std::fmt;
use std::sync::Arc;

/// Bytes of a topic or pattern.
pub const LENGTH_MAX: usize = 512;
/// Segments of a topic or pattern.
pub const SEGMENTS_MAX: usize = 32;

/// A text is not a topic or not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("a topic is 1 to {LENGTH_MAX} bytes long, this one has {0}")]
    Length(usize),
    #[error("a topic has at most {SEGMENTS_MAX} segments, this one has {0}")]
    Segments(usize),
    #[error("segment {0} is empty: write segments with single dots between them, as in `run.7.done`")]
    Empty(usize),
    #[error(
        "segment {at} holds {found:?}, which no topic can: use letters, digits and signs other than `.`, `*` and `>`"
    )]
    Character { at: usize, found: char },
    #[error("`>` stands for the rest and can only be the last segment")]
    RestNotLast,
}

/// Whether a text is a topic.
pub fn check(text: &str) -> Result<(), Error> {
    check_text(text, Wildcards::No)
}

/// A checked pattern. Clones share their text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Arc<str>);

impl Pattern {
    pub fn new(text: &str) -> Result<Self, Error> {
        check_text(text, Wildcards::Yes)?;
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) const fn shared(&self) -> &Arc<str> {
        &self.0
    }

    /// Whether it can match one topic only.
    pub fn is_exact(&self) -> bool {
        !self.0.split('.').any(|segment| segment == "*" || segment == ">")
    }

    /// Whether a topic matches. Routing does not ask this for each message; it is the definition.
    pub fn matches(&self, topic: &str) -> bool {
        let mut topic = topic.split('.');
        for wanted in self.0.split('.') {
            let Some(segment) = topic.next() else {
                return false;
            };
            match wanted {
                ">" => return true,
                "*" => {}
                _ if wanted == segment => {}
                _ => return false,
            }
        }
        topic.next().is_none()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wildcards {
    Yes,
    No,
}

fn check_text(text: &str, wildcards: Wildcards) -> Result<(), Error> {
    if text.is_empty() || text.len() > LENGTH_MAX {
        return Err(Error::Length(text.len()));
    }
    let count = text.split('.').count();
    if count > SEGMENTS_MAX {
        return Err(Error::Segments(count));
    }
    for (at, segment) in (1..).zip(text.split('.')) {
        if segment.is_empty() {
            return Err(Error::Empty(at));
        }
        if wildcards == Wildcards::Yes && segment == "*" {
            continue;
        }
        if wildcards == Wildcards::Yes && segment == ">" {
            if at != count {
                return Err(Error::RestNotLast);
            }
            continue;
        }
        let bad = segment.chars().find(|&c| matches!(c, '*' | '>') || c.is_whitespace() || c.is_control());
        if let Some(found) = bad {
            return Err(Error::Character { at, found });
        }
    }
    Ok(())
}
