//! `quorate bus`: the workspace's bus from the command line.

mod publish;
mod stream;
mod subscribe;
mod top;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_base::ExitStatus;
use quorate_bus::wire::Client;
use quorate_swarm::workspace::Workspace;

use crate::cli::Bus;
use crate::events;
use crate::host;
use crate::printer::Printer;

pub(crate) fn bus(here: &Path, command: Bus, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let workspace = Workspace::find(here)?;
    let socket = events::socket(&workspace);
    match command {
        Bus::Serve => serve(&workspace, printer),
        Bus::Pub(args) => publish::publish(&mut Client::connect(&socket)?, &args, printer),
        Bus::Sub(args) => subscribe::subscribe(&mut Client::connect(&socket)?, &args, printer),
        Bus::Top { once, every } => {
            top::top(&mut Client::connect(&socket)?, once, Duration::from_secs(every), printer)
        }
        Bus::Stream(command) => stream::stream(&mut Client::connect(&socket)?, command, printer),
    }
}

fn serve(workspace: &Workspace, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let stop = host::stop_on_signals()?;
    let server = events::serve(workspace)?;
    printer.say(&format!("serving the bus at {}; end it with Ctrl-C", server.socket().display()));
    if printer.json {
        printer.document(&serde_json::json!({ "socket": server.socket() }));
    }
    // A signal only sets a flag.
    while !stop.load(Ordering::Relaxed) {
        std::thread::park_timeout(Duration::from_millis(200));
    }
    server.bus().shut_down();
    drop(server);
    Ok(ExitStatus::Done)
}
