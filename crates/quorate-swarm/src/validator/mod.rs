//! One validator, as its own process sees it: examine a change, vote on it, countersign the outcome.
//!
//! A validator trusts nobody but itself: it makes its own checkout of the exact tree, believes another's failing check
//! only after it has run that check itself, and signs a statement only if its own vote stands in it unaltered.
//! It is started anew for each step and holds nothing between them but its key.

mod examine;
mod runner;
mod vote;

pub use examine::Examiner;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use quorate_base::{BallotId, ByteCount, GitOid, RunId, Timestamp, ValidatorId};
use quorate_evidence::check::CheckResult;
use quorate_evidence::dsse::{Envelope, Signature};
use quorate_evidence::key::SigningKey;
use quorate_evidence::record::Record;
use quorate_evidence::vote::Report;
use quorate_pipeline::spec::CheckSpec;
use serde::{Deserialize, Serialize};

use crate::enclose;
use crate::git;
use crate::record::{Elector, Step};
use crate::spec::SandboxSpec;
use crate::store::{self, Store};

/// What a validator is asked, on its standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    pub step: Step,
    pub run: RunId,
    pub ballot: BallotId,
    pub validator: ValidatorId,
    pub subject: Subject,
    pub electorate: Vec<Elector>,
    /// Every check of the gate.
    pub checks: BTreeMap<String, CheckSpec>,
    /// Those this validator runs unasked.
    pub assigned: Vec<String>,
    /// Memory its checks may use together.
    pub memory: ByteCount,
    /// What their commands may reach, with paths that are whole.
    #[serde(default)]
    pub sandbox: Option<SandboxSpec>,
    /// For the vote: every report that came in.
    pub reports: Vec<Envelope>,
    /// For the countersignature: the exact bytes to sign, and the vote it cast before.
    pub statement: Option<String>,
    pub vote: Option<Envelope>,
}

/// The change in question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    pub commit: GitOid,
    pub tree: GitOid,
    pub base: GitOid,
    pub base_tree: GitOid,
}

/// Where the validator finds and leaves things; given as arguments, since paths need not be text.
#[derive(Debug, Clone)]
pub struct Places {
    pub key: PathBuf,
    pub objects: PathBuf,
    /// The run's private repository.
    pub repository: PathBuf,
    /// A folder of its own, removed by the node afterwards.
    pub scratch: PathBuf,
}

/// What a validator answers, on its standard output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "content", rename_all = "kebab-case")]
pub enum Answer {
    Report(Envelope),
    Vote(Envelope),
    Signature(Signature),
}

/// A validator cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Key(#[from] crate::workspace::Error),
    #[error(transparent)]
    Git(#[from] git::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Enclose(#[from] enclose::Error),
    #[error("scratch folder: {0}")]
    Scratch(#[from] io::Error),
    #[error("the request is not of the electorate: {0}")]
    Electorate(String),
    #[error("{0}")]
    Signature(String),
    #[error("the request lacks what step {0:?} needs")]
    Incomplete(Step),
}

/// Answers one request. `clock` reads the time for evidence records.
pub fn answer(
    request: &Request,
    places: &Places,
    clock: &(dyn Fn() -> Timestamp + Sync),
) -> Result<Answer, Error> {
    let key = crate::workspace::read_key(&places.key)?;
    let seat = Seat { request, places, key, store: Store::at(&places.objects), clock };
    match request.step {
        Step::Examine => seat.examine().map(Answer::Report),
        Step::Vote => seat.vote().map(Answer::Vote),
        Step::Countersign => seat.countersign().map(Answer::Signature),
    }
}

/// A validator at work on one request.
struct Seat<'a> {
    request: &'a Request,
    places: &'a Places,
    key: SigningKey,
    store: Store,
    clock: &'a (dyn Fn() -> Timestamp + Sync),
}

impl Seat<'_> {
    fn examine(&self) -> Result<Envelope, Error> {
        let results = self.run_checks(&self.request.assigned)?;
        let report = Report {
            ballot: self.request.ballot.clone(),
            tree: self.request.subject.tree.clone(),
            validator: self.request.validator.clone(),
            results,
        };
        Ok(report.sign(&self.key))
    }

    /// Runs checks in its own name and keeps their evidence.
    fn run_checks(&self, names: &[String]) -> Result<Vec<CheckResult>, Error> {
        let examiner = Examiner {
            run: &self.request.run,
            subject: &self.request.subject,
            checks: &self.request.checks,
            memory: self.request.memory,
            sandbox: self.request.sandbox.as_ref(),
            validator: Some(&self.request.validator),
            repository: &self.places.repository,
            scratch: &self.places.scratch,
            store: &self.store,
            clock: self.clock,
        };
        let records = examiner.run_checks(names)?;
        let keep = |record: Record| {
            let evidence = self.store.put(&record.to_bytes())?;
            Ok(CheckResult { check: record.check, status: record.status, reason: record.reason, evidence })
        };
        records.into_iter().map(keep).collect()
    }

    fn countersign(&self) -> Result<Signature, Error> {
        let (Some(statement), Some(vote)) = (&self.request.statement, &self.request.vote) else {
            return Err(Error::Incomplete(Step::Countersign));
        };
        quorate_evidence::certificate::countersign(statement.as_bytes(), &self.key, vote)
            .map_err(|error| Error::Signature(error.to_string()))
    }
}
