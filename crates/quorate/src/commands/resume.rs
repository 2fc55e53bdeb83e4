//! `quorate resume`: a run after any interruption.

use std::path::Path;
use std::rc::Rc;

use quorate_base::ExitStatus;
use quorate_swarm::journal::Journal;
use quorate_swarm::node::{Node, stamped};
use quorate_swarm::record::RunKind;
use quorate_swarm::state::State;
use quorate_swarm::workspace::Workspace;

use super::{run, store};
use crate::events::Teller;
use crate::failure::Usage;
use crate::host;
use crate::printer::Printer;
use crate::progress;

pub(crate) fn resume(here: &Path, wanted: Option<&str>, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let workspace = Workspace::find(here)?;
    let id = match wanted {
        Some(_) => workspace.run(wanted)?,
        None => newest_open(&workspace)?,
    };
    let stop = host::stop_on_signals()?;
    let printer = Rc::new(printer.clone());
    let teller = Rc::clone(&printer);
    let told = Teller::start(&workspace, &printer);
    let name = id.to_string();
    let observer = Box::new(move |stamped: &_, state: &_| {
        progress::tell(&teller, stamped, state);
        told.tell(&name, stamped, &teller);
    });
    let (mut node, _) = Node::resume(&workspace, &id, store::surroundings(observer, stop)?)?;
    let left = node.run()?;
    if node.state().started.kind == RunKind::Certify {
        return super::certify::conclude(&workspace, node.state(), left, None, &printer);
    }
    Ok(run::conclude(&node, left, false, &printer))
}

fn newest_open(workspace: &Workspace) -> anyhow::Result<quorate_base::RunId> {
    for run in workspace.runs()?.into_iter().rev() {
        let (entries, _) = Journal::read(&workspace.run_dir(&run).journal())?;
        if State::fold(stamped(&entries)?.iter())?.outcome.is_none() {
            return Ok(run);
        }
    }
    Err(Usage("every run of this workspace has finished; there is nothing to resume".into()).into())
}
