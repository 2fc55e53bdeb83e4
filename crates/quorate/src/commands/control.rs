//! Telling the node of a run what to do, for the commands that intervene.

use std::path::Path;

use quorate_base::{ExitStatus, RunId};
use quorate_swarm::control::{self, Ask, Command, Launch, Refusal, Reply, Request};
use quorate_swarm::journal::Journal;
use quorate_swarm::node::stamped;
use quorate_swarm::record::RunKind;
use quorate_swarm::state::State;
use quorate_swarm::workspace::Workspace;
use serde::Serialize;

use crate::failure::of_refusal;
use crate::printer::Printer;

/// One line of what `--json` prints: what came of one command.
#[derive(Debug, Serialize)]
struct Row {
    run: String,
    /// The agent or the task.
    of: String,
    done: bool,
    /// Where it is written in the journal.
    records: Vec<u64>,
    refused: Option<Refusal>,
    message: String,
}

/// Gives commands to the node of a run, one after the other, and prints what came of each. `said` is what to say where it is done.
pub(super) fn tell(
    here: &Path,
    run: Option<&str>,
    commands: Vec<(String, Command)>,
    said: &str,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let workspace = Workspace::find(here)?;
    let run = match run {
        Some(_) => workspace.run(run)?,
        None => at_work(&workspace)?,
    };
    let mut rows: Vec<Row> = Vec::new();
    let mut status = ExitStatus::Done;
    for (of, command) in commands {
        let request = Request { run: run.clone(), ask: Ask::Do(command) };
        let reply = match control::ask(&workspace, &request) {
            Ok(reply) => reply,
            Err(control::Error::NoNode { .. }) if is_over(&workspace, &run)? => {
                Reply::Refused(Refusal::Finished { run: run.clone() })
            }
            // Of what was done before it is told all the same.
            Err(error) if rows.is_empty() => return Err(error.into()),
            Err(error) => {
                status = ExitStatus::Refused;
                rows.push(row(&run, &of, Err(None), error.to_string()));
                break;
            }
        };
        match reply {
            Reply::Refused(refusal) => {
                let refused = of_refusal(&refusal);
                status = if status == ExitStatus::Done { refused } else { status };
                let message = refusal.to_string();
                rows.push(row(&run, &of, Err(Some(refusal)), message));
            }
            Reply::Done { records } => rows.push(row(&run, &of, Ok(records), format!("{of} {said}"))),
            Reply::Usage { .. } => {
                rows.push(row(&run, &of, Err(None), "the node answers something else".into()))
            }
        }
    }
    if printer.json {
        printer.document(&rows);
        return Ok(status);
    }
    for row in &rows {
        if row.done { printer.data(&row.message) } else { printer.warn(&row.message) }
    }
    Ok(status)
}

fn row(run: &RunId, of: &str, came: Result<Vec<u64>, Option<Refusal>>, message: String) -> Row {
    let done = came.is_ok();
    let (records, refused) = match came {
        Ok(records) => (records, None),
        Err(refused) => (Vec::new(), refused),
    };
    Row { run: run.to_string(), of: of.to_owned(), done, records, refused, message }
}

/// Whether a node works on a run, and what launches use now, if it says so.
pub(super) fn usage(workspace: &Workspace, run: &RunId) -> (bool, Option<Vec<Launch>>) {
    let request = Request { run: run.clone(), ask: Ask::Usage };
    match control::ask(workspace, &request) {
        Ok(Reply::Usage { launches }) => (true, Some(launches)),
        Err(control::Error::NoNode { .. } | control::Error::Unreachable { .. }) => (false, None),
        // The journal tells the rest.
        _ => (true, None),
    }
}

/// The newest run of agents that somebody listens for, or did until it died; the newest of all where there is none.
fn at_work(workspace: &Workspace) -> anyhow::Result<RunId> {
    for run in workspace.runs()?.into_iter().rev() {
        if workspace.run_dir(&run).control().exists()
            && state(workspace, &run)?.started.kind == RunKind::Swarm
        {
            return Ok(run);
        }
    }
    Ok(workspace.run(None)?)
}

fn is_over(workspace: &Workspace, run: &RunId) -> anyhow::Result<bool> {
    Ok(state(workspace, run)?.outcome.is_some())
}

fn state(workspace: &Workspace, run: &RunId) -> anyhow::Result<State> {
    let (entries, _) = Journal::read(&workspace.run_dir(run).journal())?;
    Ok(State::fold(stamped(&entries)?.iter())?)
}
