//! From a ballot's answers to its verdict, its statement, and the reason a refused change is told.

use quorate_base::{BallotId, Digest, ValidatorId};
use quorate_consensus::ballot::{Ballot, Choice, Verdict};
use quorate_evidence::check::{CheckResult, Status};
use quorate_evidence::dsse::Envelope;
use quorate_evidence::statement::{Absent, Elector, Predicate, Statement};
use quorate_evidence::vote::{Report, Vote};
use serde::de::DeserializeOwned;

use crate::state::{BallotState, State};

/// What stopped a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub check: String,
    pub reason: String,
    pub evidence: Vec<Digest>,
}

/// The votes that count: of validators that stayed to the end, as far as the state knows it.
pub fn votes(ballot: &BallotState) -> Vec<(ValidatorId, Vote)> {
    let counted = ballot.votes.iter().filter(|(validator, _)| !ballot.absent.contains_key(*validator));
    counted.filter_map(|(validator, envelope)| Some((validator.clone(), payload(envelope)?))).collect()
}

/// Every report, whoever signed it.
pub fn reports(ballot: &BallotState) -> Vec<(ValidatorId, Report)> {
    ballot
        .reports
        .iter()
        .filter_map(|(validator, envelope)| Some((validator.clone(), payload(envelope)?)))
        .collect()
}

/// The payload of an envelope whose signature was checked when it was taken into the journal.
fn payload<T: DeserializeOwned>(envelope: &Envelope) -> Option<T> {
    serde_json::from_slice(&envelope.payload().ok()?).ok()
}

/// What the panel has decided, once everybody has answered.
pub fn verdict(state: &State, ballot: &BallotState) -> Verdict {
    let gate = &state.started.spec.gate;
    let Ok(quorum) = gate.quorum() else { return Verdict::Inconclusive };
    let mut counted = Ballot::new(gate.validators.iter().cloned().collect(), quorum);
    let votes = votes(ballot);
    for (validator, vote) in &votes {
        // One vote each, of members of the panel: the state holds no other.
        let _ = counted.cast(validator.clone(), vote.choice, vote.inconclusive);
    }
    let verdict = counted.close();
    if verdict == Verdict::Pass && !uncovered(state, ballot, &votes).is_empty() {
        Verdict::Inconclusive
    } else {
        verdict
    }
}

/// Required checks that no validator voting PASS has seen pass.
fn uncovered(state: &State, ballot: &BallotState, votes: &[(ValidatorId, Vote)]) -> Vec<String> {
    let results: Vec<CheckResult> = reports(ballot)
        .into_iter()
        .filter(|(validator, _)| votes.iter().any(|(v, vote)| v == validator && vote.choice == Choice::Pass))
        .flat_map(|(_, report)| report.results)
        .collect();
    let covered = |check: &str| {
        results
            .iter()
            .any(|result| result.check == check && matches!(result.status, Status::Pass | Status::Skipped))
    };
    state.started.spec.checks.keys().filter(|check| !covered(check)).cloned().collect()
}

/// The statement the panel signs.
pub fn statement(state: &State, id: &BallotId, ballot: &BallotState) -> Statement {
    let started = &state.started;
    let gate = &started.spec.gate;
    let (verdict, decided) = ballot.decided.unwrap_or((Verdict::Inconclusive, state.last_at));
    let countersigners = ballot.countersigners();
    let elector =
        |elector: &crate::record::Elector| Elector::from_hex(&elector.validator, &elector.public_key).ok();
    let absent = ballot.absent.iter().map(|(validator, (step, reason))| Absent {
        validator: validator.clone(),
        reason: format!("{}: {reason}", format!("{step:?}").to_lowercase()),
    });
    let task =
        state.changes.get(&ballot.change).map(|change| change.proposed.subject.as_str()).unwrap_or_default();
    let of_present = |(validator, envelope): (&ValidatorId, &Envelope)| {
        (!ballot.absent.contains_key(validator)).then(|| envelope.clone())
    };
    Statement::new(
        ballot.tree.clone(),
        ballot.commit.clone(),
        Predicate {
            ballot: id.clone(),
            run: started.run.clone(),
            base: ballot.onto.clone(),
            question: format!("may this change land on {}: {task}", ballot.onto.short()),
            electorate: started.electorate.iter().filter_map(elector).collect(),
            faults: gate.faults,
            threshold: gate.agree,
            required_checks: started.spec.checks.keys().cloned().collect(),
            verdict,
            votes: ballot.votes.iter().filter_map(of_present).collect(),
            reports: ballot.reports.iter().filter_map(of_present).collect(),
            absent: absent.collect(),
            countersigners,
            opened: ballot.opened,
            decided,
            quorate_version: started.quorate_version.clone(),
        },
    )
}

/// Why the panel turned a change down: the failing check most validators saw, with all evidence for it; where none
/// failed, what was inconclusive; where nothing was, who did not answer.
pub fn refusal(state: &State, ballot: &BallotState) -> Refusal {
    let votes = votes(ballot);
    let results: Vec<CheckResult> =
        reports(ballot).into_iter().flat_map(|(_, report)| report.results).collect();
    for status in [Status::Fail, Status::Inconclusive, Status::Partial] {
        let Some(worst) = results.iter().find(|result| result.status == status) else { continue };
        let mut evidence: Vec<Digest> = results
            .iter()
            .filter(|r| r.check == worst.check && r.status == status)
            .map(|r| r.evidence)
            .collect();
        evidence.sort();
        evidence.dedup();
        return Refusal { check: worst.check.clone(), reason: worst.reason.clone(), evidence };
    }
    let missing: Vec<_> =
        ballot.absent.iter().map(|(v, (_, reason))| format!("{v} did not answer ({reason})")).collect();
    let passes = votes.iter().filter(|(_, vote)| vote.choice == Choice::Pass).count();
    let agree = state.started.spec.gate.agree;
    let reason = format!("{passes} of {agree} needed votes; {}", missing.join("; "));
    Refusal { check: "quorum".into(), reason, evidence: Vec::new() }
}
