//! The `quorate` program: arguments, wiring, output and exit codes. What it does is in the crates below it.

mod cli;
mod commands;
mod events;
mod failure;
mod host;
mod printer;
mod progress;

use clap::Parser;
use quorate_base::ExitStatus;

use crate::failure::Failure;
use crate::printer::Printer;

fn main() -> std::process::ExitCode {
    // Before anything else: what waits here is one of many, and is to stay small.
    if std::env::args_os().nth(1).is_some_and(|arg| arg == host::HOLD) {
        return quorate_agents::hold()
            .map_or(std::process::ExitCode::FAILURE, |()| std::process::ExitCode::SUCCESS);
    }
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are data that was asked for; everything else is a mistake in the arguments.
            let status = if error.use_stderr() { ExitStatus::Usage } else { ExitStatus::Done };
            let _ = error.print();
            return status.code().into();
        }
    };
    let printer = Printer::new(cli.global.json, cli.global.quiet);
    let status = match commands::dispatch(cli, &printer) {
        Ok(status) => status,
        Err(error) => {
            let failure = Failure::classify(&error);
            printer.failure(&failure);
            failure.status
        }
    };
    status.code().into()
}
