//! `quorate change`: what agents proposed, and what became of it.

use std::path::Path;

use quorate_base::{Digest, ExitStatus, GitOid};
use quorate_evidence::record::Record as Evidence;
use quorate_swarm::panel;
use quorate_swarm::state::{ChangeState, Settled, State};
use serde::Serialize;

use super::store;
use crate::failure::Usage;
use crate::printer::Printer;
use crate::progress::{cut, word};

#[derive(Debug, Serialize)]
struct Row {
    change: String,
    state: &'static str,
    agent: Option<String>,
    base: GitOid,
    commit: GitOid,
    tree: GitOid,
    paths: u32,
    subject: String,
    ballots: Vec<String>,
    landed_as: Option<GitOid>,
    certificate: Option<Digest>,
    refused_by: Option<String>,
    reason: Option<String>,
    evidence: Vec<Digest>,
}

#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    row: Row,
    records: Vec<Evidence>,
}

pub(crate) fn list(here: &Path, run: Option<&str>, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let view = store::view(here, run)?;
    let rows: Vec<Row> = view
        .state
        .queue
        .iter()
        .filter_map(|id| view.state.changes.get(id))
        .map(|change| row(&view.state, change))
        .collect();
    if printer.json {
        printer.document(&rows);
        return Ok(ExitStatus::Done);
    }
    for row in &rows {
        let reason =
            row.reason.as_deref().map(|reason| format!("  {}", cut(reason, 100))).unwrap_or_default();
        printer.data(&format!(
            "{:<20} {:<9} {:<12} {} paths  {}{reason}",
            row.change,
            row.state,
            row.agent.as_deref().unwrap_or("-"),
            row.paths,
            cut(&row.subject, 50)
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
    let Some(change) = view.state.changes.values().find(|change| change.proposed.change.as_str() == wanted)
    else {
        let known: Vec<_> = view.state.queue.iter().map(ToString::to_string).collect();
        return Err(
            Usage(format!("run {} has no change `{wanted}`; it has {}", view.run, known.join(", "))).into()
        );
    };
    let row = row(&view.state, change);
    let mut digests = row.evidence.clone();
    if let Some((_, ballot)) = view.state.current_ballot(change) {
        let results = panel::reports(ballot).into_iter().flat_map(|(_, report)| report.results);
        digests.extend(results.map(|result| result.evidence));
    }
    digests.sort();
    digests.dedup();
    let objects = view.workspace.store();
    let records =
        digests.iter().map(|digest| store::evidence(&objects, digest)).collect::<Result<Vec<_>, _>>()?;
    if printer.json {
        printer.document(&Document { row, records });
        return Ok(ExitStatus::Done);
    }
    printer.data(&format!("{} · {} · {}", row.change, row.state, row.subject));
    printer.data(&format!("  commit {}\n  tree   {}\n  base   {}", row.commit, row.tree, row.base));
    if let Some(commit) = &row.landed_as {
        printer.data(&format!("  landed as {commit}"));
    }
    if let Some(certificate) = &row.certificate {
        printer.data(&format!("  certificate {certificate}\n    {}", objects.path(certificate).display()));
    }
    if let (Some(check), Some(reason)) = (&row.refused_by, &row.reason) {
        printer.data(&format!("  refused by {check}: {reason}"));
    }
    for (digest, record) in digests.iter().zip(&records) {
        printer.data(&format!(
            "\n  {} · {} · {} · evidence {}\n    {}\n    $ {}",
            record.check,
            word(&record.status),
            record.validator.as_ref().map_or("node", |validator| validator.as_str()),
            digest.short(),
            record.reason,
            record.command.join(" ")
        ));
        for finding in record.findings.iter().take(20) {
            let file = finding.file.as_deref().unwrap_or("-");
            let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
            printer.data(&format!(
                "    {} {file}{line} {}: {}",
                word(&finding.severity),
                finding.rule,
                finding.message
            ));
        }
    }
    printer.data(&format!(
        "\n  git -C {} show {}",
        view.workspace.run_dir(&view.run).repository().display(),
        row.commit
    ));
    Ok(ExitStatus::Done)
}

fn row(state: &State, change: &ChangeState) -> Row {
    let mut row = Row {
        change: change.proposed.change.to_string(),
        state: if change.ballots.is_empty() { "queued" } else { "judged" },
        agent: change.proposed.agent.as_ref().map(ToString::to_string),
        base: change.proposed.base.clone(),
        commit: change.proposed.commit.clone(),
        tree: change.proposed.tree.clone(),
        paths: change.proposed.paths,
        subject: change.proposed.subject.clone(),
        ballots: change.ballots.iter().map(ToString::to_string).collect(),
        landed_as: None,
        certificate: state
            .current_ballot(change)
            .and_then(|(_, ballot)| ballot.certificate)
            .map(|(_, digest)| digest),
        refused_by: None,
        reason: None,
        evidence: Vec::new(),
    };
    match &change.settled {
        Some(Settled::Landed { commit, certificate, .. }) => {
            row.state = "landed";
            row.landed_as = Some(commit.clone());
            row.certificate = Some(*certificate);
        }
        Some(Settled::Refused { check, reason, evidence }) => {
            row.state = "refused";
            row.refused_by = Some(check.clone());
            row.reason = Some(reason.clone());
            row.evidence.clone_from(evidence);
        }
        None => {}
    }
    row
}
