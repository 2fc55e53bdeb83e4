//! Certificates: checked before they are signed, and checked offline by anybody afterwards.
//!
//! A certificate is valid when every statement in it follows from signatures by keys one trusts. Nothing in it is taken
//! at its word: the verdict is counted again from the signed votes, and coverage again from the signed reports.

use std::collections::{BTreeMap, BTreeSet};

use quorate_base::{GitOid, ValidatorId};
use quorate_consensus::ballot::{Ballot, Choice, Verdict};
use quorate_consensus::quorum::Quorum;

use crate::check::Status;
use crate::dsse::{Envelope, IN_TOTO, Signature};
use crate::key::{PublicKey, SigningKey};
use crate::statement::{PREDICATE_TYPE, STATEMENT_TYPE, Statement};
use crate::vote::{Report, Vote};

/// Keys somebody trusts, by the validator they belong to.
pub type TrustedKeys = BTreeMap<ValidatorId, PublicKey>;

/// What came of checking a certificate.
#[derive(Debug, Clone, PartialEq)]
pub struct Verification {
    pub valid: bool,
    /// Why it is not valid; nothing where it is.
    pub reasons: Vec<String>,
    /// What the certificate says was decided. Means nothing unless it is valid.
    pub verdict: Option<Verdict>,
    pub subject: Option<Subject>,
    /// Validators whose signatures on the envelope fit.
    pub signers: Vec<ValidatorId>,
    pub threshold: Option<u32>,
    pub statement: Option<Statement>,
}

/// What a certificate is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub tree: GitOid,
    pub commit: GitOid,
}

/// A validator will not countersign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the statement cannot be read: {0}")]
    Unreadable(String),
    #[error("this key is not in the electorate")]
    Stranger,
    #[error("the vote this validator cast does not stand in the statement")]
    VoteMissing,
    #[error("the statement does not hold: {}", .0.join("; "))]
    Unsound(Vec<String>),
}

/// Signs a statement, if it holds and the signer's own vote stands in it as it was cast.
pub fn countersign(statement: &[u8], key: &SigningKey, vote: &Envelope) -> Result<Signature, Refusal> {
    let read: Statement =
        serde_json::from_slice(statement).map_err(|error| Refusal::Unreadable(error.to_string()))?;
    let own = key.public().key_id();
    if !read.predicate.electorate.iter().any(|elector| elector.keyid == own) {
        return Err(Refusal::Stranger);
    }
    if !read.predicate.votes.contains(vote) || vote.verify_signature(&key.public()).is_err() {
        return Err(Refusal::VoteMissing);
    }
    let mut reasons = Vec::new();
    examine(&read, None, &mut reasons);
    if reasons.is_empty() {
        Ok(Signature::make(IN_TOTO, statement, key))
    } else {
        Err(Refusal::Unsound(reasons))
    }
}

/// Checks a certificate. Without `trusted`, the keys it names itself are taken: that shows that it is whole, not whose
/// it is.
pub fn verify(certificate: &[u8], trusted: Option<&TrustedKeys>) -> Verification {
    let mut verification = Verification {
        valid: false,
        reasons: Vec::new(),
        verdict: None,
        subject: None,
        signers: Vec::new(),
        threshold: None,
        statement: None,
    };
    let envelope = match Envelope::parse(certificate) {
        Ok(envelope) => envelope,
        Err(error) => {
            verification.reasons.push(error.to_string());
            return verification;
        }
    };
    if envelope.payload_type() != IN_TOTO {
        verification.reasons.push(format!("the payload type is not {IN_TOTO}"));
        return verification;
    }
    let read = envelope.payload().map_err(|error| error.to_string()).and_then(|payload| {
        let statement: Statement =
            serde_json::from_slice(&payload).map_err(|error| format!("this is no statement: {error}"))?;
        Ok((payload, statement))
    });
    let (payload, statement) = match read {
        Ok(read) => read,
        Err(reason) => {
            verification.reasons.push(reason);
            return verification;
        }
    };
    let keys = examine(&statement, trusted, &mut verification.reasons);
    verification.signers = signers(&envelope, &payload, &statement, &keys, &mut verification.reasons);
    verification.valid = verification.reasons.is_empty();
    verification.verdict = Some(statement.predicate.verdict);
    verification.threshold = Some(statement.predicate.threshold);
    verification.subject =
        statement.tree().ok().zip(statement.commit().ok()).map(|(tree, commit)| Subject { tree, commit });
    verification.statement = Some(statement);
    verification
}

/// Everything about a statement but the signatures around it. Answers the electorate's keys.
fn examine(
    statement: &Statement,
    trusted: Option<&TrustedKeys>,
    reasons: &mut Vec<String>,
) -> BTreeMap<ValidatorId, PublicKey> {
    if statement.statement_type != STATEMENT_TYPE {
        reasons.push(format!("the statement type is not {STATEMENT_TYPE}"));
    }
    if statement.predicate_type != PREDICATE_TYPE {
        reasons.push(format!("the predicate type is not {PREDICATE_TYPE}"));
    }
    let keys = electorate(statement, trusted, reasons);
    let predicate = &statement.predicate;
    let n = u32::try_from(predicate.electorate.len()).unwrap_or(u32::MAX);
    let quorum = match Quorum::new(n, predicate.faults, Some(predicate.threshold)) {
        Ok(quorum) => quorum,
        Err(error) => {
            reasons.push(format!("impossible quorum: {error}"));
            return keys;
        }
    };
    match (statement.tree(), statement.commit()) {
        (Ok(tree), Ok(commit)) => {
            let votes = votes(statement, &tree, &commit, &keys, reasons);
            let covered = covered(statement, &tree, &keys, &votes, reasons);
            // Counting presumes what has been found wanting.
            if reasons.is_empty() {
                count(statement, quorum, &votes, &covered, reasons);
            }
        }
        (Err(error), _) | (_, Err(error)) => reasons.push(error.to_string()),
    }
    keys
}

fn electorate(
    statement: &Statement,
    trusted: Option<&TrustedKeys>,
    reasons: &mut Vec<String>,
) -> BTreeMap<ValidatorId, PublicKey> {
    let mut keys = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for elector in &statement.predicate.electorate {
        let name = &elector.validator;
        let Ok(key) = PublicKey::from_hex(&elector.public_key) else {
            reasons.push(format!("the key of {name} is no key"));
            continue;
        };
        if elector.keyid != key.key_id() {
            reasons.push(format!("the key of {name} has another id than the statement says"));
        }
        if let Some(trusted) = trusted
            && trusted.get(name) != Some(&key)
        {
            reasons.push(format!("unknown key: {name} is not trusted with {}", &key.key_id()[..12]));
        }
        if !seen.insert(elector.keyid.clone()) || keys.insert(name.clone(), key).is_some() {
            reasons.push(format!("{name} or its key is in the electorate twice"));
        }
    }
    keys
}

fn votes(
    statement: &Statement,
    tree: &GitOid,
    commit: &GitOid,
    keys: &BTreeMap<ValidatorId, PublicKey>,
    reasons: &mut Vec<String>,
) -> BTreeMap<ValidatorId, Vote> {
    let owners = owners(keys);
    let mut votes = BTreeMap::new();
    for envelope in &statement.predicate.votes {
        let vote = signer(envelope, &owners).and_then(|(name, key)| {
            let vote = Vote::open(envelope, key).ok()?;
            (vote.validator == *name).then_some(vote)
        });
        let Some(vote) = vote else {
            reasons.push("a vote is not signed by the elector whose it is said to be".into());
            continue;
        };
        let name = vote.validator.clone();
        if vote.ballot != statement.predicate.ballot {
            reasons.push(format!("the vote of {name} is for ballot {}, not this one", vote.ballot));
        }
        if vote.tree != *tree || vote.commit != *commit {
            reasons.push(format!("the vote of {name} is for another tree ({})", vote.tree.short()));
        }
        if !(0.0..=1.0).contains(&vote.confidence) {
            reasons.push(format!("the confidence of {name} is not between 0 and 1"));
        }
        if votes.insert(name.clone(), vote).is_some() {
            reasons.push(format!("{name} votes twice"));
        }
    }
    let listed: BTreeSet<&ValidatorId> = statement.predicate.countersigners.iter().collect();
    if listed.len() != statement.predicate.countersigners.len() {
        reasons.push("a countersigner is named twice".into());
    }
    if !listed.iter().copied().eq(votes.keys()) {
        reasons.push("the countersigners are not those who voted".into());
    }
    votes
}

/// Validators and their keys, by the keys' ids.
type Owners<'a> = BTreeMap<String, (&'a ValidatorId, &'a PublicKey)>;

fn owners(keys: &BTreeMap<ValidatorId, PublicKey>) -> Owners<'_> {
    keys.iter().map(|(name, key)| (key.key_id(), (name, key))).collect()
}

/// Whose an envelope is by its own account; the signature says whether that is true.
fn signer<'a>(envelope: &Envelope, owners: &Owners<'a>) -> Option<(&'a ValidatorId, &'a PublicKey)> {
    owners.get(&envelope.signatures.first()?.keyid).copied()
}

/// Checks that somebody voting PASS has seen pass, or has seen not to apply.
fn covered(
    statement: &Statement,
    tree: &GitOid,
    keys: &BTreeMap<ValidatorId, PublicKey>,
    votes: &BTreeMap<ValidatorId, Vote>,
    reasons: &mut Vec<String>,
) -> BTreeSet<String> {
    let owners = owners(keys);
    let mut covered = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for envelope in &statement.predicate.reports {
        let report = signer(envelope, &owners).and_then(|(name, key)| {
            let report = Report::open(envelope, key).ok()?;
            (report.validator == *name).then_some(report)
        });
        let Some(report) = report else {
            reasons.push("a report is not signed by the elector whose it is said to be".into());
            continue;
        };
        if report.ballot != statement.predicate.ballot || report.tree != *tree {
            reasons.push(format!("the report of {} is about something else", report.validator));
        }
        if !seen.insert(report.validator.clone()) {
            reasons.push(format!("{} reports twice", report.validator));
        }
        if votes.get(&report.validator).is_some_and(|vote| vote.choice == Choice::Pass) {
            let passed =
                report.results.into_iter().filter(|r| matches!(r.status, Status::Pass | Status::Skipped));
            covered.extend(passed.map(|result| result.check));
        }
    }
    covered
}

fn count(
    statement: &Statement,
    quorum: Quorum,
    votes: &BTreeMap<ValidatorId, Vote>,
    covered: &BTreeSet<String>,
    reasons: &mut Vec<String>,
) {
    let predicate = &statement.predicate;
    let mut ballot = Ballot::new(predicate.electorate.iter().map(|e| e.validator.clone()).collect(), quorum);
    for (name, vote) in votes {
        if ballot.cast(name.clone(), vote.choice, vote.inconclusive).is_err() {
            reasons.push(format!("the vote of {name} cannot be counted"));
        }
    }
    let mut verdict = ballot.close();
    let uncovered: Vec<_> =
        predicate.required_checks.iter().filter(|check| !covered.contains(*check)).collect();
    if verdict == Verdict::Pass && !uncovered.is_empty() {
        verdict = Verdict::Inconclusive;
        if predicate.verdict == Verdict::Pass {
            reasons.push(format!("required checks that nobody voting PASS has seen pass: {uncovered:?}"));
        }
    }
    if verdict != predicate.verdict {
        let tally = ballot.tally();
        reasons.push(format!(
            "the verdict is said to be {:?}, but the votes ({} PASS, {} PARTIAL, {} FAIL; {} must agree) make it {verdict:?}",
            predicate.verdict,
            tally.pass,
            tally.partial,
            tally.fail,
            quorum.agree()
        ));
    }
}

/// The signatures around the statement: one by each who voted, and no other.
fn signers(
    envelope: &Envelope,
    payload: &[u8],
    statement: &Statement,
    keys: &BTreeMap<ValidatorId, PublicKey>,
    reasons: &mut Vec<String>,
) -> Vec<ValidatorId> {
    let owners = owners(keys);
    let mut signers = BTreeSet::new();
    for signature in &envelope.signatures {
        let Some((name, key)) = owners.get(&signature.keyid) else {
            let keyid: String = signature.keyid.chars().take(12).collect();
            reasons.push(format!("signed by an unknown key {keyid}"));
            continue;
        };
        if signature.verify(IN_TOTO, payload, key).is_err() {
            reasons.push(format!("the signature of {name} does not fit: something was altered"));
        } else if !signers.insert((*name).clone()) {
            reasons.push(format!("{name} signs twice"));
        }
    }
    for name in &statement.predicate.countersigners {
        if !signers.contains(name) {
            reasons.push(format!("the signature of {name} is missing"));
        }
    }
    for name in &signers {
        if !statement.predicate.countersigners.contains(name) {
            reasons.push(format!("{name} signs, but has not voted"));
        }
    }
    if signers.is_empty() {
        reasons.push("nobody has signed it".into());
    }
    signers.into_iter().collect()
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
