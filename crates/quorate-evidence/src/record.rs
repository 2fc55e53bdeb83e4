//! The evidence record: what was run on which tree, and what came of it. Its name is the digest of its bytes.

use std::collections::BTreeMap;

use quorate_base::{Digest, GitOid, Timestamp, ValidatorId};
use serde::{Deserialize, Serialize};

use crate::check::{Finding, Status};

/// The version of the record's form.
pub const VERSION: u32 = 1;

/// One check that was run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub version: u32,
    pub check: String,
    /// The tree it judged.
    pub tree: GitOid,
    pub base_tree: Option<GitOid>,
    /// Who ran it; none where the node did.
    pub validator: Option<ValidatorId>,
    /// Program and arguments; `quorate:NAME` for a built-in check.
    pub command: Vec<String>,
    /// Names of the environment variables it saw; never their values.
    pub environment: Vec<String>,
    pub tool: Option<Tool>,
    pub started: Timestamp,
    pub wall_ms: u64,
    pub cpu_ms: Option<u64>,
    pub memory_peak_bytes: Option<u64>,
    pub outcome: Outcome,
    pub stdout: Option<Output>,
    pub stderr: Option<Output>,
    pub status: Status,
    /// One line for people.
    pub reason: String,
    pub findings: Vec<Finding>,
    pub measures: BTreeMap<String, f64>,
    /// Which layer of the operating system bounded it.
    pub containment: Vec<String>,
}

/// A program and the version it gives itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    pub name: String,
    pub version: String,
}

/// An output kept in the content store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    pub digest: Digest,
    pub bytes: u64,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Outcome {
    Exit {
        code: i32,
    },
    Signal {
        signal: i32,
    },
    Timeout,
    OverMemory,
    OverCpu,
    ToolMissing {
        program: String,
        hint: String,
    },
    Failed {
        reason: String,
    },
    /// The check is part of Quorate; no command was run.
    Builtin,
}

/// A record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the bytes have digest {found}, not {expected}")]
    Digest { expected: Digest, found: Digest },
    #[error("this is no evidence record: {0}")]
    Json(#[from] serde_json::Error),
    #[error("evidence record of version {0}; this Quorate knows {VERSION}")]
    Version(u32),
}

impl Record {
    /// The bytes whose digest is the record's name.
    #[expect(
        clippy::expect_used,
        reason = "a struct of strings, numbers and string-keyed maps always has a JSON form"
    )]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an evidence record has a JSON form")
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Reads a record and checks that it is the one meant.
    pub fn parse(bytes: &[u8], expected: Digest) -> Result<Self, Error> {
        let found = Digest::of(bytes);
        if found != expected {
            return Err(Error::Digest { expected, found });
        }
        let record: Self = serde_json::from_slice(bytes)?;
        if record.version == VERSION { Ok(record) } else { Err(Error::Version(record.version)) }
    }

    /// Whether another run of the same check says the same; times and the bytes of outputs may differ.
    pub fn same_result(&self, other: &Self) -> Result<(), Vec<String>> {
        let mut differences = Vec::new();
        if self.tree != other.tree {
            differences.push(format!("tree {} instead of {}", other.tree, self.tree));
        }
        if self.command != other.command {
            differences.push(format!("command {:?} instead of {:?}", other.command, self.command));
        }
        if self.status != other.status {
            differences
                .push(format!("status {:?} instead of {:?}: {}", other.status, self.status, other.reason));
        }
        if self.outcome != other.outcome {
            differences.push(format!("ended with {:?} instead of {:?}", other.outcome, self.outcome));
        }
        if self.findings != other.findings {
            differences.push(format!(
                "{} findings instead of {}, or other ones",
                other.findings.len(),
                self.findings.len()
            ));
        }
        if differences.is_empty() { Ok(()) } else { Err(differences) }
    }
}
