//! Names of runs, tasks, agents, changes, ballots and validators.
//!
//! Every id is short, lowercase ASCII, and safe as a file name, a git ref component and an argument: it starts
//! with a letter or digit and holds letters, digits, `-`, `_` and `.` (never `..`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest id accepted.
pub const ID_LEN_MAX: usize = 64;

/// A text is not usable as an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a usable {kind} name: use 1 to {ID_LEN_MAX} of a-z, 0-9, `-`, `_`, `.`, starting with a letter or digit"
)]
pub struct InvalidId {
    pub kind: &'static str,
    pub text: String,
}

fn valid(text: &str) -> bool {
    let start = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let rest =
        text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'));
    start
        && rest
        && text.len() <= ID_LEN_MAX
        && !text.contains("..")
        && !text.ends_with('.')
        && !text.ends_with(".lock")
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                if valid(&text) {
                    Ok(Self(text))
                } else {
                    Err(InvalidId { kind: $kind, text: text.chars().take(80).collect() })
                }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

id!(
    /// One execution of a swarm, or of one certification.
    RunId, "run"
);
id!(
    /// One unit of work in a run's task graph.
    TaskId, "task"
);
id!(
    /// One supervised worker: an agent declaration and its instance number, as in `tester-2`.
    AgentId, "agent"
);
id!(
    /// One proposed change in a run. What a change *is* is its git tree; this is its handle for people.
    ChangeId, "change"
);
id!(
    /// One question put to the validators about one exact tree.
    BallotId, "ballot"
);
id!(
    /// One member of the validator panel.
    ValidatorId, "validator"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_safe_as_file_names_and_refs() {
        for text in ["a", "tester-2", "20261121t0210-1f", "v1.2_x"] {
            assert!(RunId::new(text).is_ok(), "{text}");
        }
        for text in ["", "-a", ".a", "a..b", "a/b", "A", "a b", "a\n", "x.lock", "a.", "é"] {
            assert!(RunId::new(text).is_err(), "{text}");
        }
        assert!(RunId::new("a".repeat(ID_LEN_MAX + 1)).is_err());
    }
}
