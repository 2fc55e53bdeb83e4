//! `quorate ballot`: who was asked, and what everybody answered.

use std::path::Path;

use quorate_base::{BallotId, Digest, ExitStatus, GitOid};
use quorate_consensus::ballot::Verdict;
use quorate_evidence::vote::Vote;
use quorate_swarm::panel;
use quorate_swarm::state::{BallotState, State};
use serde::Serialize;

use super::store;
use crate::failure::Usage;
use crate::printer::Printer;
use crate::progress::word;

#[derive(Debug, Serialize)]
struct Document {
    ballot: String,
    change: String,
    commit: GitOid,
    tree: GitOid,
    onto: GitOid,
    opened: String,
    electorate: Vec<String>,
    threshold: u32,
    faults: u32,
    verdict: Option<Verdict>,
    certificate: Option<Digest>,
    votes: Vec<Vote>,
    absent: Vec<Absent>,
}

#[derive(Debug, Serialize)]
struct Absent {
    validator: String,
    step: String,
    reason: String,
}

pub(crate) fn list(here: &Path, run: Option<&str>, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let view = store::view(here, run)?;
    let mut documents: Vec<Document> =
        view.state.ballots.iter().map(|(id, ballot)| document(&view.state, id, ballot)).collect();
    documents.sort_by(|a, b| a.opened.cmp(&b.opened));
    if printer.json {
        printer.document(&documents);
        return Ok(ExitStatus::Done);
    }
    for ballot in &documents {
        let verdict = ballot.verdict.map_or_else(|| "open".to_owned(), |verdict| word(&verdict));
        let votes = ballot.votes.len();
        printer.data(&format!(
            "{:<24} {:<13} {votes}/{} votes  on {}",
            ballot.ballot,
            verdict,
            ballot.electorate.len(),
            ballot.onto.short()
        ));
    }
    Ok(ExitStatus::Done)
}

pub(crate) fn show(
    here: &Path,
    wanted: &str,
    run: Option<&str>,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let view = store::view(here, run)?;
    let of_change = view
        .state
        .changes
        .values()
        .find(|change| change.proposed.change.as_str() == wanted)
        .and_then(|c| c.ballots.last());
    let id = of_change.or_else(|| view.state.ballots.keys().find(|id| id.as_str() == wanted));
    let Some((id, ballot)) = id.and_then(|id| Some((id, view.state.ballots.get(id)?))) else {
        return Err(Usage(format!(
            "run {} has no ballot `{wanted}`; `quorate ballot list` shows them",
            view.run
        ))
        .into());
    };
    let document = document(&view.state, id, ballot);
    if printer.json {
        printer.document(&document);
        return Ok(ExitStatus::Done);
    }
    let verdict = document.verdict.map_or_else(|| "open".to_owned(), |verdict| word(&verdict));
    printer.data(&format!(
        "{} · {verdict} · change {} on {}",
        document.ballot,
        document.change,
        document.onto.short()
    ));
    printer.data(&format!(
        "  tree {}\n  {} of {} must agree, {} may be faulty · opened {}",
        document.tree,
        document.threshold,
        document.electorate.len(),
        document.faults,
        document.opened
    ));
    for vote in &document.votes {
        printer.data(&format!(
            "  {:<14} {:<8} {:.2}  {}",
            vote.validator,
            word(&vote.choice),
            vote.confidence,
            vote.reason
        ));
        for digest in &vote.evidence {
            printer.data(&format!("  {:<14}   evidence {}", "", digest.short()));
        }
    }
    for absent in &document.absent {
        printer.data(&format!("  {:<14} absent ({}): {}", absent.validator, absent.step, absent.reason));
    }
    if let Some(certificate) = &document.certificate {
        printer.data(&format!("  certificate {}", view.workspace.store().path(certificate).display()));
    }
    Ok(ExitStatus::Done)
}

fn document(state: &State, id: &BallotId, ballot: &BallotState) -> Document {
    let gate = &state.started.spec.gate;
    Document {
        ballot: id.to_string(),
        change: ballot.change.to_string(),
        commit: ballot.commit.clone(),
        tree: ballot.tree.clone(),
        onto: ballot.onto.clone(),
        opened: ballot.opened.to_string(),
        electorate: gate.validators.iter().map(ToString::to_string).collect(),
        threshold: gate.agree,
        faults: gate.faults,
        verdict: ballot.certificate.map(|(verdict, _)| verdict),
        certificate: ballot.certificate.map(|(_, digest)| digest),
        votes: panel::votes(ballot).into_iter().map(|(_, vote)| vote).collect(),
        absent: ballot
            .absent
            .iter()
            .map(|(validator, (step, reason))| Absent {
                validator: validator.to_string(),
                step: word(step),
                reason: reason.clone(),
            })
            .collect(),
    }
}
