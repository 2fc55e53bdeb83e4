//! Who asks.

use std::fmt;
use std::sync::Arc;

/// Who reads or writes. What it may do is decided by the namespace's [`Kind`](crate::Kind).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    name: Arc<str>,
    role: Role,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Role {
    Agent { swarm: Option<Arc<str>> },
    Operator,
    Quorate,
}

impl Actor {
    /// An agent, and the swarm it is a member of.
    pub fn agent(name: impl Into<Arc<str>>, swarm: Option<&str>) -> Self {
        Self { name: name.into(), role: Role::Agent { swarm: swarm.map(Into::into) } }
    }

    /// The person whose workspace it is: may do all but write what is Quorate's own.
    pub fn operator() -> Self {
        Self { name: "operator".into(), role: Role::Operator }
    }

    /// Quorate itself.
    pub fn quorate() -> Self {
        Self { name: "quorate".into(), role: Role::Quorate }
    }

    /// The name that stands as owner on what it writes.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn swarm(&self) -> Option<&str> {
        match &self.role {
            Role::Agent { swarm } => swarm.as_deref(),
            _ => None,
        }
    }

    pub(crate) fn is_quorate(&self) -> bool {
        self.role == Role::Quorate
    }

    pub(crate) fn is_agent(&self) -> bool {
        matches!(self.role, Role::Agent { .. })
    }
}

/// What somebody wants to do with a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// See what is there.
    Read,
    /// Put and remove.
    Write,
    /// Change its policy.
    Govern,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Govern => "change the policy of",
        })
    }
}
