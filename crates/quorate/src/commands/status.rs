//! `quorate status`: where a run stands, read from its journal.

use std::path::Path;

use quorate_base::ExitStatus;
use quorate_swarm::journal::Journal;
use quorate_swarm::node::stamped;
use quorate_swarm::record::RunKind;
use quorate_swarm::state::State;
use quorate_swarm::summary::{RunSummary, summarise};
use quorate_swarm::workspace::Workspace;
use serde::Serialize;

use super::{run, store};
use crate::printer::Printer;

/// The document of `quorate status --json`.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    summary: RunSummary,
    /// A node holds the workspace now; an open run without one waits for `quorate resume`.
    node: bool,
    resumptions: u32,
    last: String,
}

#[derive(Debug, Serialize)]
struct Row {
    run: String,
    kind: RunKind,
    state: String,
    started: String,
    landed: usize,
    refused: usize,
    error: Option<String>,
}

pub(crate) fn status(
    here: &Path,
    wanted: Option<&str>,
    all: bool,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    if all {
        return list(here, printer);
    }
    let view = store::view(here, wanted)?;
    let mut summary = summarise(&view.state);
    let node = view.workspace.is_locked();
    if summary.state == "open" {
        summary.state = if node { "running" } else { "interrupted" };
    }
    if printer.json {
        let resumptions = view.state.resumptions;
        printer.document(&Document { summary, node, resumptions, last: view.state.last_at.to_string() });
        return Ok(ExitStatus::Done);
    }
    run::table(&summary, printer);
    if summary.state == "interrupted" {
        printer.data(&format!("\n  no node works on it: quorate resume {}", summary.run));
    }
    Ok(ExitStatus::Done)
}

fn list(here: &Path, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let workspace = Workspace::find(here)?;
    let mut rows = Vec::new();
    for run in workspace.runs()? {
        let state = Journal::read(&workspace.run_dir(&run).journal())
            .map_err(anyhow::Error::from)
            .and_then(|(entries, _)| Ok(State::fold(stamped(&entries)?.iter())?));
        rows.push(match state {
            Ok(state) => {
                let summary = summarise(&state);
                Row {
                    run: summary.run,
                    kind: state.started.kind,
                    state: summary.state.to_owned(),
                    started: state.started_at.to_string(),
                    landed: summary.landed.len(),
                    refused: summary.refused.len(),
                    error: None,
                }
            }
            // One damaged run must not hide the others.
            Err(error) => Row {
                run: run.to_string(),
                kind: RunKind::Swarm,
                state: "unreadable".into(),
                started: String::new(),
                landed: 0,
                refused: 0,
                error: Some(format!("{error:#}")),
            },
        });
    }
    if printer.json {
        printer.document(&rows);
        return Ok(ExitStatus::Done);
    }
    for row in &rows {
        let error = row.error.as_deref().map(|error| format!("  {error}")).unwrap_or_default();
        printer.data(&format!(
            "{:<36} {:<10} {}  landed {} refused {}{error}",
            row.run, row.state, row.started, row.landed, row.refused
        ));
    }
    Ok(ExitStatus::Done)
}
