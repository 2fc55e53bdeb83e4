//! The in-toto statement a panel signs: which change, who could vote, what everybody answered, what follows.
//!
//! Source: in-toto attestation framework, Statement v1.

use std::collections::BTreeMap;

use quorate_base::{BallotId, GitOid, RunId, Timestamp, ValidatorId};
use quorate_consensus::ballot::Verdict;
use serde::{Deserialize, Serialize};

use crate::dsse::Envelope;
use crate::key::{self, PublicKey};

pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
pub const PREDICATE_TYPE: &str = "https://quorate.dev/certificate/v1";

/// A statement about one tree and commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    #[serde(rename = "_type")]
    pub statement_type: String,
    pub subject: Vec<Resource>,
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    pub predicate: Predicate,
}

/// One thing a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    pub name: String,
    pub digest: BTreeMap<String, String>,
}

/// The ballot, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predicate {
    pub ballot: BallotId,
    pub run: RunId,
    /// The commit the change was judged on top of.
    pub base: GitOid,
    pub question: String,
    /// Everybody who could vote, frozen before anybody did.
    pub electorate: Vec<Elector>,
    /// Voters that may be absent or lie.
    pub faults: u32,
    /// Equal votes that decide.
    pub threshold: u32,
    /// Checks that somebody voting PASS must have seen pass.
    pub required_checks: Vec<String>,
    pub verdict: Verdict,
    /// Signed votes, dissent included.
    pub votes: Vec<Envelope>,
    /// Signed reports of what was seen, with the digests of the evidence.
    pub reports: Vec<Envelope>,
    pub absent: Vec<Absent>,
    /// Those whose signatures the envelope carries: everybody whose vote is in it.
    pub countersigners: Vec<ValidatorId>,
    pub opened: Timestamp,
    pub decided: Timestamp,
    pub quorate_version: String,
}

/// Somebody who can vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elector {
    pub validator: ValidatorId,
    pub keyid: String,
    /// 32 bytes in hexadecimal.
    pub public_key: String,
}

/// Somebody who could vote and did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    pub validator: ValidatorId,
    pub reason: String,
}

/// The statement is not about one tree and one commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the statement's subject is not one git tree and one git commit")]
pub struct NoSubject;

impl Elector {
    pub fn from_hex(validator: &ValidatorId, public_key: &str) -> Result<Self, key::Error> {
        let key = PublicKey::from_hex(public_key)?;
        Ok(Self { validator: validator.clone(), keyid: key.key_id(), public_key: key.to_hex() })
    }
}

impl Statement {
    pub fn new(tree: GitOid, commit: GitOid, predicate: Predicate) -> Self {
        let resource = |name: &str, kind: &str, oid: GitOid| Resource {
            name: name.to_owned(),
            digest: BTreeMap::from([(kind.to_owned(), oid.into())]),
        };
        Self {
            statement_type: STATEMENT_TYPE.to_owned(),
            subject: vec![resource("tree", "gitTree", tree), resource("commit", "gitCommit", commit)],
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate,
        }
    }

    /// The bytes that are signed.
    #[expect(
        clippy::expect_used,
        reason = "a struct of strings, numbers and string-keyed maps always has a JSON form"
    )]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a statement has a JSON form")
    }

    pub fn tree(&self) -> Result<GitOid, NoSubject> {
        self.oid("tree", "gitTree")
    }

    pub fn commit(&self) -> Result<GitOid, NoSubject> {
        self.oid("commit", "gitCommit")
    }

    fn oid(&self, name: &str, kind: &str) -> Result<GitOid, NoSubject> {
        let mut named = self.subject.iter().filter(|resource| resource.name == name);
        match (named.next(), named.next(), self.subject.len()) {
            (Some(resource), None, 2) if resource.digest.len() == 1 => {
                resource.digest.get(kind).and_then(|oid| oid.parse().ok()).ok_or(NoSubject)
            }
            _ => Err(NoSubject),
        }
    }
}
