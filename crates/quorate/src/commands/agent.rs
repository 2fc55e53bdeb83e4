//! `quorate agent`: who is there, and interventions.

use std::path::Path;

use quorate_base::{AgentId, ByteCount, ExitStatus};
use quorate_swarm::control::Command;
use quorate_swarm::exchange::{Text, Unsendable};
use quorate_swarm::roster::{self, AgentStanding};
use quorate_swarm::workspace::Workspace;
use serde::Serialize;

use super::{control, store};
use crate::cli::{Agent, Agents};
use crate::failure::Usage;
use crate::printer::{DIM, Printer};

/// The document of `quorate agent list --json`.
#[derive(Debug, Serialize)]
struct Document {
    run: String,
    /// Whether a node works on the run; without one, agents are where the journal has left them.
    node: bool,
    agents: Vec<AgentStanding>,
}

pub(crate) fn agent(here: &Path, command: Agent, printer: &Printer) -> anyhow::Result<ExitStatus> {
    type Make = fn(AgentId, String) -> Command;
    let (args, make, said): (Agents, Make, &str) = match command {
        Agent::List { run } => return list(here, run.as_deref(), printer),
        Agent::Pause(args) => (args, |agent, reason| Command::Pause { agent, reason }, "is halted"),
        Agent::Continue(args) => (args, |agent, reason| Command::Continue { agent, reason }, "goes on"),
        Agent::Relaunch(args) => (
            args,
            |agent, reason| Command::Relaunch { agent, reason },
            "is told to end; its task waits for another launch",
        ),
        Agent::Stop(args) => (
            args,
            |agent, reason| Command::Stop { agent, reason },
            "ends now and takes no more tasks, until it is released",
        ),
        Agent::Drain(args) => (
            args,
            |agent, reason| Command::Drain { agent, reason },
            "takes no more tasks, until it is released",
        ),
        Agent::Tell { to, text, run } => {
            let store = Workspace::find(here)?.store();
            let kept = Text::keep(&store, text.as_bytes(), &[]).map_err(|error| match error {
                Unsendable::Store(error) => anyhow::Error::from(error),
                other => Usage(format!("the message cannot be sent: {other}")).into(),
            })?;
            let command = Command::Tell { to: to.clone(), digest: kept.digest, bytes: kept.bytes };
            return control::tell(here, run.as_deref(), vec![(to, command)], "is told", printer);
        }
        Agent::Release(args) => {
            (args, |agent, reason| Command::Release { agent, reason }, "takes tasks again")
        }
    };
    let command = |name: String| Ok((name.clone(), make(AgentId::new(name)?, args.reason.clone())));
    let commands = args.agents.into_iter().map(command).collect::<anyhow::Result<Vec<_>>>()?;
    control::tell(here, args.run.as_deref(), commands, said, printer)
}

fn list(here: &Path, run: Option<&str>, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let view = store::view(here, run)?;
    // Asked after the journal was read: a launch that is not there any more is left out.
    let (node, usage) = control::usage(&view.workspace, &view.run);
    let document =
        Document { run: view.run.to_string(), node, agents: roster::agents(&view.state, usage.as_deref()) };
    if printer.json {
        printer.document(&document);
        return Ok(ExitStatus::Done);
    }
    printer.data(&format!(
        "{:<16} {:<12} {:<12} {:<24} {:<16} {:>3} {:>8} {:>3} {:>8} {:>10}",
        "agent", "role", "phase", "since", "task", "try", "process", "×", "CPU s", "memory"
    ));
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".into());
    for agent in &document.agents {
        let reason =
            if agent.reason.is_empty() { String::new() } else { format!("  {DIM}{}{DIM:#}", agent.reason) };
        printer.data(&format!(
            "{:<16} {:<12} {:<12} {:<24} {:<16} {:>3} {:>8} {:>3} {:>8.1} {:>10}{reason}",
            agent.id,
            agent.role,
            agent.phase.name(),
            agent.since,
            or_dash(agent.task.clone()),
            or_dash(agent.attempt.map(|attempt| attempt.to_string())),
            or_dash(agent.pid.map(|pid| pid.to_string())),
            agent.launches,
            agent.cpu_s,
            or_dash(agent.memory_bytes.map(|bytes| ByteCount(bytes).to_string())),
        ));
    }
    if !document.node && view.state.outcome.is_none() {
        printer.warn(&format!(
            "no node works on it, so this is where they were; `quorate resume {}` goes on with it",
            view.run
        ));
    }
    Ok(ExitStatus::Done)
}
