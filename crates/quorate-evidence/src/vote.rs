//! What a validator signs by itself: the report of what it saw, and its vote.

use quorate_base::{BallotId, Digest, GitOid, ValidatorId};
use quorate_consensus::ballot::Choice;
use serde::{Deserialize, Serialize};

use crate::check::CheckResult;
use crate::dsse::{Envelope, Error};
use crate::key::{PublicKey, SigningKey};

/// Payload type of a report: a signature on one is a signature on nothing else.
pub const REPORT: &str = "application/vnd.quorate.report+json";
/// Payload type of a vote.
pub const VOTE: &str = "application/vnd.quorate.vote+json";

/// What a validator saw when it ran its checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    pub ballot: BallotId,
    pub tree: GitOid,
    pub validator: ValidatorId,
    pub results: Vec<CheckResult>,
}

/// A validator's answer to a ballot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    pub ballot: BallotId,
    pub tree: GitOid,
    pub commit: GitOid,
    pub validator: ValidatorId,
    pub choice: Choice,
    /// From 0 to 1: how much of what it was to look at gave an answer.
    pub confidence: f64,
    pub reason: String,
    /// Of the evidence records the vote rests on.
    pub evidence: Vec<Digest>,
    /// Something it needed could not be established.
    pub inconclusive: bool,
}

#[expect(clippy::expect_used, reason = "structs of strings and finite numbers always have a JSON form")]
fn sign(payload_type: &str, value: &impl Serialize, key: &SigningKey) -> Envelope {
    Envelope::sign(payload_type, &serde_json::to_vec(value).expect("reports and votes have a JSON form"), key)
}

impl Report {
    pub fn sign(&self, key: &SigningKey) -> Envelope {
        sign(REPORT, self, key)
    }

    /// The report in an envelope signed by this key.
    pub fn open(envelope: &Envelope, key: &PublicKey) -> Result<Self, Error> {
        serde_json::from_slice(&envelope.open(REPORT, key)?).map_err(Error::Content)
    }
}

impl Vote {
    pub fn sign(&self, key: &SigningKey) -> Envelope {
        sign(VOTE, self, key)
    }

    /// The vote in an envelope signed by this key.
    pub fn open(envelope: &Envelope, key: &PublicKey) -> Result<Self, Error> {
        serde_json::from_slice(&envelope.open(VOTE, key)?).map_err(Error::Content)
    }
}
