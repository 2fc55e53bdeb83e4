//! `quorate worktree`: what runs have left behind, and removing what nobody would miss.

use std::path::Path;

use quorate_base::ExitStatus;
use quorate_swarm::kit::leftover::{self, Holds, Leftover};
use quorate_swarm::workspace::Workspace;
use serde::Serialize;

use crate::printer::{DIM, DOUBT, Printer};

#[derive(Debug, Serialize)]
struct Row {
    run: String,
    task: Option<String>,
    agent: Option<String>,
    attempt: Option<u32>,
    path: String,
    holds: &'static str,
    change: Option<String>,
    /// Paths that differ from the commit it began as; null where it could not be read.
    paths: Option<usize>,
    removable: bool,
    /// What to do about one that is not removed; null where nothing is to be done.
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct Document {
    removed: Vec<Row>,
    kept: Vec<Row>,
}

pub(crate) fn list(here: &Path, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let rows: Vec<Row> = leftover::list(&Workspace::find(here)?)?.iter().map(row).collect();
    if printer.json {
        printer.document(&rows);
        return Ok(ExitStatus::Done);
    }
    rows.iter().for_each(|row| tell("", row, printer));
    if rows.is_empty() {
        printer.say("no worktree is left");
    }
    Ok(ExitStatus::Done)
}

pub(crate) fn clean(here: &Path, force: bool, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let cleaned = leftover::clean(&Workspace::find(here)?, force)?;
    let rows = |leftovers: &[Leftover]| leftovers.iter().map(row).collect::<Vec<_>>();
    let document = Document { removed: rows(&cleaned.removed), kept: rows(&cleaned.kept) };
    let status = if document.kept.is_empty() { ExitStatus::Done } else { ExitStatus::Refused };
    if printer.json {
        printer.document(&document);
        return Ok(status);
    }
    document.removed.iter().for_each(|row| tell("removed ", row, printer));
    document.kept.iter().for_each(|row| tell("kept    ", row, printer));
    if !document.kept.is_empty() {
        printer.warn(&format!(
            "{} stay because something would be lost with them; do what is said beside them, or remove them all the same with `quorate worktree clean --force`",
            document.kept.len()
        ));
    } else if document.removed.is_empty() {
        printer.say("no worktree is left");
    }
    Ok(status)
}

fn row(leftover: &Leftover) -> Row {
    let launch = leftover.launch.as_ref();
    Row {
        run: leftover.run.to_string(),
        task: launch.map(|(task, _, _)| task.to_string()),
        agent: launch.map(|(_, agent, _)| agent.to_string()),
        attempt: launch.map(|(_, _, attempt)| *attempt),
        path: leftover.path.to_string_lossy().into_owned(),
        holds: word(&leftover.holds),
        change: leftover.change.as_ref().map(ToString::to_string),
        paths: leftover.contents.as_ref().map(|contents| contents.paths),
        removable: leftover.holds.removable(),
        next: next(leftover),
    }
}

fn word(holds: &Holds) -> &'static str {
    match holds {
        Holds::Nothing => "nothing",
        Holds::Landed => "landed",
        Holds::Refused => "refused",
        Holds::Checkout => "checkout",
        Holds::Proposed => "proposed",
        Holds::Unread => "unread",
        Holds::Uncommitted => "uncommitted",
        Holds::InUse => "in-use",
        Holds::Unknown { .. } => "unknown",
    }
}

fn next(leftover: &Leftover) -> Option<String> {
    let run = &leftover.run;
    match &leftover.holds {
        Holds::Nothing | Holds::Landed | Holds::Refused | Holds::Checkout => None,
        Holds::Proposed => Some(format!("`quorate resume {run}` has it judged")),
        Holds::Unread => Some(format!("`quorate resume {run}` takes it up as a change")),
        Holds::Uncommitted => leftover.contents.as_ref().map(|contents| {
            let name = leftover.launch.as_ref().map_or("worktree", |(task, _, _)| task.as_str());
            format!(
                "`git --git-dir={} diff --binary {} {} > {name}.patch` keeps it as a patch; `quorate resume {run}` starts over without it",
                quoted(&contents.repository.to_string_lossy()),
                contents.base.short(),
                contents.tree.short(),
            )
        }),
        Holds::InUse => Some("a node works on this run: wait for it, or stop it first".into()),
        Holds::Unknown { reason } => Some(format!("{reason}; look into it yourself")),
    }
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

fn tell(what: &str, row: &Row, printer: &Printer) {
    let (paths, change) = (row.paths.unwrap_or(0), row.change.as_deref());
    let detail = match (row.holds, change) {
        (_, Some(change)) => format!("{} change {change}", row.holds),
        ("uncommitted", _) => format!("uncommitted work in {paths} paths"),
        (holds, _) => holds.to_owned(),
    };
    printer.data(&format!(
        "{what}{DIM}{}{DIM:#} {:<16} {detail}",
        row.run,
        row.task.as_deref().unwrap_or("-")
    ));
    printer.data(&format!("    {}", row.path));
    if let Some(next) = &row.next {
        printer.data(&format!("    {DOUBT}{next}{DOUBT:#}"));
    }
}
