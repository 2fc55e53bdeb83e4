//! `quorate stop`: ends nodes, and with them everything they started.

use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_base::ExitStatus;
use quorate_swarm::nodes::{self, Ended, Working};
use quorate_swarm::workspace::Workspace;
use serde::Serialize;

use crate::failure::Usage;
use crate::printer::Printer;

/// How long a node may take to end its agents politely.
const PATIENCE: Duration = Duration::from_millis(1500);

/// One line of `quorate stop --json`.
#[derive(Debug, Serialize)]
struct Row {
    run: String,
    pid: u32,
    workspace: PathBuf,
    ended: Ended,
    ms: u64,
}

pub(crate) fn stop(
    here: &Path,
    wanted: Option<&str>,
    all: bool,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let mut working = nodes::working()?;
    if let Some(run) = wanted {
        working.retain(|node| node.run.as_str() == run);
        if working.is_empty() {
            let message =
                format!("no node works on run {run}; `quorate status --all` lists the runs of a workspace");
            return Err(Usage(message).into());
        }
    } else if !all {
        let root = Workspace::find(here)?.root().to_owned();
        working.retain(|node| node.workspace == root);
    }
    if working.is_empty() && !printer.json {
        printer.data(if all {
            "no node of yours is at work"
        } else {
            "no node is at work here; --all looks everywhere"
        });
        return Ok(ExitStatus::Done);
    }
    let ended = nodes::stop(&working, PATIENCE);
    let row = |(node, (ended, time)): (&Working, (Ended, Duration))| Row {
        run: node.run.to_string(),
        pid: node.pid,
        workspace: node.workspace.clone(),
        ended,
        ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
    };
    let rows: Vec<Row> = working.iter().zip(ended).map(row).collect();
    if printer.json {
        printer.document(&rows);
        return Ok(ExitStatus::Done);
    }
    for Row { run, pid, workspace, ended, ms } in &rows {
        let how = match ended {
            Ended::Stopped => "stopped",
            Ended::Killed => "killed, because it did not end when it was asked",
            Ended::Gone => "had ended by itself",
        };
        printer.data(&format!(
            "{run} {how} after {ms} ms (process {pid}); quorate -C {} resume {run}",
            workspace.display()
        ));
    }
    Ok(ExitStatus::Done)
}
