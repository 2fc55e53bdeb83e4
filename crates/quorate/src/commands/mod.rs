//! One file a command; this one finds the right one.

mod agent;
mod ballot;
mod bus;
mod certify;
mod change;
mod control;
mod doctor;
mod init;
mod logs;
mod memory;
mod resume;
mod run;
mod secret;
mod status;
mod stop;
mod store;
mod swarm;
mod task;
mod validator;
mod verify;
mod worktree;

use std::path::PathBuf;

use quorate_base::ExitStatus;

use crate::cli::{Ballot, Change, Cli, Command, Worktree};
use crate::failure::Usage;
use crate::printer::Printer;

pub(crate) fn dispatch(cli: Cli, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let here = match cli.global.directory {
        Some(directory) => {
            // Paths in arguments mean what they would mean there.
            std::env::set_current_dir(&directory)
                .map_err(|error| Usage(format!("cannot work in {}: {error}", directory.display())))?;
            PathBuf::from(".")
        }
        None => PathBuf::from("."),
    };
    match cli.command {
        Command::Init => init::init(&here, printer),
        Command::Run(args) => run::run(&here, &args, printer),
        Command::Resume { run } => resume::resume(&here, run.as_deref(), printer),
        Command::Certify(args) => certify::certify(&here, &args, printer),
        Command::Verify(args) => verify::verify(&here, &args, printer),
        Command::Stop { run, all } => stop::stop(&here, run.as_deref(), all, printer),
        Command::Status { run, all } => status::status(&here, run.as_deref(), all, printer),
        Command::Logs { run, follow, output } => {
            logs::logs(&here, run.as_deref(), follow, output.as_deref(), printer)
        }
        Command::Agent(command) => agent::agent(&here, command, printer),
        Command::Task(command) => task::task(&here, command, printer),
        Command::Swarm(command) => swarm::swarm(&here, command, printer),
        Command::Change(Change::List { run }) => change::list(&here, run.as_deref(), printer),
        Command::Change(Change::Show { change, run }) => {
            change::show(&here, &change, run.as_deref(), printer)
        }
        Command::Ballot(Ballot::List { run }) => ballot::list(&here, run.as_deref(), printer),
        Command::Ballot(Ballot::Show { ballot, run }) => {
            ballot::show(&here, &ballot, run.as_deref(), printer)
        }
        Command::Worktree(Worktree::List) => worktree::list(&here, printer),
        Command::Worktree(Worktree::Clean { force }) => worktree::clean(&here, force, printer),
        Command::Secret(command) => secret::secret(&here, &command, printer),
        Command::Memory(args) => memory::memory(&here, args, printer),
        Command::Bus(command) => bus::bus(&here, command, printer),
        Command::Doctor => doctor::doctor(printer),
        Command::Validator(args) => validator::validator(args),
    }
}
