//! Running the evidence of a certificate again, in clean checkouts, and comparing.

use std::collections::BTreeMap;
use std::io;

use quorate_base::{ByteCount, Digest, GitOid, Millis, RunId, Timestamp};
use quorate_evidence::check::Status;
use quorate_evidence::record::Record;
use quorate_evidence::statement::Statement;
use quorate_evidence::vote::Report;
use quorate_pipeline::spec::CheckSpec;
use serde::Serialize;

use crate::git::{PrivateRepository, Source};
use crate::validator::{self, Examiner, Subject};
use crate::workspace::Workspace;

/// Time one replayed command has.
const TIMEOUT: Millis = Millis::from_secs(30 * 60);
/// Memory one replayed command has.
const MEMORY: ByteCount = ByteCount::mib(4096);

/// What came of running one piece of evidence again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub check: String,
    pub evidence: Digest,
    /// The replay gave an answer; without a tool, for one, it does not.
    pub conclusive: bool,
    pub recorded: Status,
    pub replayed: Status,
    /// How the two differ; nothing where they say the same.
    pub differences: Vec<String>,
}

/// A replay cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Git(#[from] crate::git::Error),
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    #[error(transparent)]
    Validator(#[from] validator::Error),
    #[error("{0}")]
    Evidence(String),
    #[error("no repository here has the commit {0} that the certificate is about")]
    CommitGone(GitOid),
    #[error("scratch folder: {0}")]
    Scratch(#[from] io::Error),
}

/// Runs every distinct check of a verified statement again, once.
pub fn replay(
    workspace: &Workspace,
    source: &Source,
    statement: &Statement,
    name: &RunId,
    clock: &(dyn Fn() -> Timestamp + Sync),
) -> Result<Vec<Comparison>, Error> {
    let objects = workspace.store();
    let mut recorded: BTreeMap<String, (Digest, Record)> = BTreeMap::new();
    for envelope in &statement.predicate.reports {
        let payload = envelope.payload().map_err(|error| Error::Evidence(error.to_string()))?;
        let report: Report =
            serde_json::from_slice(&payload).map_err(|error| Error::Evidence(error.to_string()))?;
        for result in report.results {
            let bytes = objects.get(&result.evidence)?;
            let record =
                Record::parse(&bytes, result.evidence).map_err(|error| Error::Evidence(error.to_string()))?;
            recorded.entry(result.check).or_insert((result.evidence, record));
        }
    }
    let run = workspace.run_dir(name);
    std::fs::create_dir_all(&run.path)?;
    let compared = compare(workspace, source, statement, &run, name, &recorded, clock);
    quorate_agents::reap_orphans(name.as_str());
    std::fs::remove_dir_all(&run.path)?;
    compared
}

fn compare(
    workspace: &Workspace,
    source: &Source,
    statement: &Statement,
    run: &crate::workspace::RunDir,
    name: &RunId,
    recorded: &BTreeMap<String, (Digest, Record)>,
    clock: &(dyn Fn() -> Timestamp + Sync),
) -> Result<Vec<Comparison>, Error> {
    let commit = statement.commit().map_err(|error| Error::Evidence(error.to_string()))?;
    let repository = home_of(workspace, source, statement, run, &commit)?;
    let subject = Subject {
        tree: repository.tree_of(&commit)?,
        base_tree: repository.tree_of(&statement.predicate.base)?,
        base: statement.predicate.base.clone(),
        commit,
    };
    let checks = recorded.iter().map(|(check, (_, record))| (check.clone(), spec(record))).collect();
    let examiner = Examiner {
        run: name,
        subject: &subject,
        checks: &checks,
        memory: MEMORY,
        sandbox: None,
        validator: None,
        repository: repository.path(),
        scratch: &run.path.join("scratch"),
        store: &workspace.store(),
        clock,
    };
    let names: Vec<String> = checks.keys().cloned().collect();
    let again = examiner.run_checks(&names)?;
    let pairs = again.into_iter().filter_map(|record| Some((recorded.get(&record.check)?, record)));
    Ok(pairs
        .map(|((evidence, before), after)| Comparison {
            check: after.check.clone(),
            evidence: *evidence,
            conclusive: after.status != Status::Inconclusive,
            recorded: before.status,
            replayed: after.status,
            differences: before.same_result(&after).err().unwrap_or_default(),
        })
        .collect())
}

/// A repository that has the commit: a fresh one on top of the user's, or the one the run left.
fn home_of(
    workspace: &Workspace,
    source: &Source,
    statement: &Statement,
    run: &crate::workspace::RunDir,
    commit: &GitOid,
) -> Result<PrivateRepository, Error> {
    let fresh = PrivateRepository::create(&run.repository(), source)?;
    if fresh.tree_of(commit).is_ok() {
        return Ok(fresh);
    }
    let left = PrivateRepository::open(&workspace.run_dir(&statement.predicate.run).repository());
    match left {
        Ok(left) if left.tree_of(commit).is_ok() => Ok(left),
        _ => Err(Error::CommitGone(commit.clone())),
    }
}

fn spec(record: &Record) -> CheckSpec {
    match record.command.first().and_then(|program| program.strip_prefix("quorate:")) {
        Some(name) => CheckSpec::Builtin { name: name.to_owned() },
        None => CheckSpec::Command { argv: record.command.clone(), timeout: TIMEOUT },
    }
}
