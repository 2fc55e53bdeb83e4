//! `quorate task`: what is to be done, and interventions.

use std::path::Path;

use quorate_base::{ExitStatus, TaskId};
use quorate_swarm::control::Command;
use quorate_swarm::roster::{self, TaskStanding};
use quorate_swarm::spec::task::Priority;
use serde::Serialize;

use super::{control, store};
use crate::cli::Task;
use crate::failure::Usage;
use crate::printer::{DIM, Printer};
use crate::progress::word;

/// The document of `quorate task list --json`.
#[derive(Debug, Serialize)]
struct Document {
    run: String,
    tasks: Vec<TaskStanding>,
}

pub(crate) fn task(here: &Path, command: Task, printer: &Printer) -> anyhow::Result<ExitStatus> {
    match command {
        Task::List { run } => list(here, run.as_deref(), printer),
        Task::Cancel { tasks, reason, run } => {
            let command = |name: String| {
                Ok((name.clone(), Command::Cancel { task: TaskId::new(name)?, reason: reason.clone() }))
            };
            let commands = tasks.into_iter().map(command).collect::<anyhow::Result<Vec<_>>>()?;
            control::tell(here, run.as_deref(), commands, "is cancelled", printer)
        }
        Task::Prioritise { task: name, priority, run } => {
            let priority = parse(&priority)?;
            let task = TaskId::new(name.clone())?;
            let commands = vec![(name, Command::Prioritise { task, priority })];
            control::tell(here, run.as_deref(), commands, "has another priority now", printer)
        }
    }
}

fn parse(text: &str) -> Result<Priority, Usage> {
    let parsed = serde_json::from_value(serde_json::Value::from(text));
    parsed.map_err(|_| {
        Usage(format!("`{text}` is no priority; there are critical, high, normal, low and background"))
    })
}

fn list(here: &Path, run: Option<&str>, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let view = store::view(here, run)?;
    let document = Document { run: view.run.to_string(), tasks: roster::tasks(&view.state) };
    if printer.json {
        printer.document(&document);
        return Ok(ExitStatus::Done);
    }
    printer.data(&format!(
        "{:<16} {:<14} {:<11} {:>3} {:<11} {:<24} waits for",
        "task", "agent", "state", "try", "priority", "deadline"
    ));
    for task in &document.tasks {
        let waits: Vec<_> =
            task.waits_for.iter().map(|on| format!("{} {}", on.task, word(&on.when))).collect();
        let waits = match (&task.not_before, waits.is_empty()) {
            (Some(time), true) => format!("its time, {time}"),
            (_, true) => "–".to_owned(),
            (_, false) => waits.join(", "),
        };
        let reason =
            if task.reason.is_empty() { String::new() } else { format!("  {DIM}{}{DIM:#}", task.reason) };
        printer.data(&format!(
            "{:<16} {:<14} {:<11} {:>3} {:<11} {:<24} {waits}{reason}",
            task.id,
            doer(task),
            task.state,
            task.attempts,
            word(&task.priority),
            task.deadline.as_deref().unwrap_or("–"),
        ));
    }
    Ok(ExitStatus::Done)
}

/// Who does a task, or whoever could.
fn doer(task: &TaskStanding) -> String {
    let needs = || task.needs.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let declared = || if task.agent.is_empty() { needs() } else { task.agent.clone() };
    task.by.clone().unwrap_or_else(declared)
}
