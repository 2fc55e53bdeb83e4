//! `quorate swarm`: the agents of a run as a whole.

use std::path::Path;

use quorate_base::ExitStatus;
use quorate_swarm::control::Command;
use quorate_swarm::topology::Topology;

use super::control;
use crate::cli::Swarm;
use crate::failure::Usage;
use crate::printer::Printer;

pub(crate) fn swarm(here: &Path, command: Swarm, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Swarm::Topology { topology: name, reason, run } = command;
    let known = Topology::ALL.iter().find(|(known, _)| *known == name);
    let Some((_, topology)) = known else {
        let names = Topology::ALL.map(|(name, _)| name).join(", ");
        return Err(Usage(format!("there is no topology `{name}`; there are {names}")).into());
    };
    let commands = vec![(name, Command::Topology { topology: *topology, reason })];
    control::tell(here, run.as_deref(), commands, "is how the swarm is put together now", printer)
}
