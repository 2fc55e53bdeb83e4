//! What a check says about a change.

use quorate_base::Digest;
use serde::{Deserialize, Serialize};

/// The outcome of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Pass,
    Fail,
    /// It ran and has reservations.
    Partial,
    /// It did not come to an answer: a tool is missing, time ran out, or the files changed under it. Never a pass.
    Inconclusive,
    /// It does not apply to this change.
    Skipped,
}

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Note,
    Warning,
    Error,
}

/// One thing a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub check: String,
    pub status: Status,
    /// Path in the tree; bytes that are not text are escaped.
    pub file: Option<String>,
    /// Counted from 1.
    pub line: Option<u64>,
    pub rule: String,
    pub cwe: Option<String>,
    pub severity: Severity,
    pub message: String,
    /// The change brought it in; it was not there before.
    pub new: bool,
}

/// What a validator says of one check it ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckResult {
    pub check: String,
    pub status: Status,
    /// One line for people.
    pub reason: String,
    /// Of the evidence record.
    pub evidence: Digest,
}
