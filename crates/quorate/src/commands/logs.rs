//! `quorate logs`: the journal in words, and what agents wrote.

use std::path::Path;
use std::time::Duration;

use quorate_base::ExitStatus;
use quorate_swarm::journal::Follower;
use quorate_swarm::node::stamped;
use quorate_swarm::record::Stamped;
use quorate_swarm::state::State;

use super::store;
use crate::failure::Usage;
use crate::printer::Printer;
use crate::progress;

pub(crate) fn logs(
    here: &Path,
    wanted: Option<&str>,
    follow: bool,
    output: Option<&str>,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let view = store::view(here, wanted)?;
    if let Some(task) = output {
        return agent_output(&view, task, printer);
    }
    let mut state: Option<State> = None;
    for record in &view.records {
        show(record, &mut state, printer)?;
    }
    if !follow {
        return Ok(ExitStatus::Done);
    }
    let mut follower = Follower::after(&view.workspace.run_dir(&view.run).journal(), view.records.len())?;
    while state.as_ref().is_some_and(|state| state.outcome.is_none()) {
        for record in stamped(&follower.poll()?)? {
            show(&record, &mut state, printer)?;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(ExitStatus::Done)
}

fn show(record: &Stamped, state: &mut Option<State>, printer: &Printer) -> anyhow::Result<()> {
    let state = match state {
        Some(state) => {
            state.apply(record)?;
            state
        }
        None => state.insert(State::begin(record)?),
    };
    if printer.json {
        printer.document(&progress::event(record));
    } else if let Some((style, text)) = progress::line(&record.record, state) {
        printer.data(&format!("{:>5}  {}  {style}{text}{style:#}", record.seq, record.time));
    }
    Ok(())
}

fn agent_output(view: &store::View, task: &str, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let launches: Vec<_> = view.state.launches.iter().filter(|launch| launch.task.as_str() == task).collect();
    if launches.is_empty() {
        let known: Vec<_> = view.state.tasks.keys().map(ToString::to_string).collect();
        return Err(
            Usage(format!("no agent has ended on a task `{task}`; tasks are {}", known.join(", "))).into()
        );
    }
    for launch in launches {
        for (name, digest) in [("output", launch.stdout), ("errors", launch.stderr)] {
            let Some(digest) = digest else { continue };
            printer.say(&format!("── {} attempt {} {name} ──", launch.agent, launch.attempt));
            printer.bytes(&view.workspace.store().get(&digest)?);
        }
    }
    Ok(ExitStatus::Done)
}
