//! The workspace's bus, and what a run tells on it.
//!
//! A run publishes each record of its journal as JSON to `run.<run>.<event>`. It serves the bus itself, unless another process does.

use std::cell::RefCell;
use std::path::PathBuf;

use quorate_bus::wire::server::{self, Options};
use quorate_bus::wire::{Client, Server};
use quorate_bus::{Bus, Message, Priority};
use quorate_swarm::record::{Record, Stamped};
use quorate_swarm::workspace::Workspace;

use crate::printer::Printer;
use crate::progress;

/// Where the bus of a workspace is.
pub(crate) fn socket(workspace: &Workspace) -> PathBuf {
    workspace.store_dir().join("bus").join("socket")
}

/// Serves the bus of a workspace.
pub(crate) fn serve(workspace: &Workspace) -> Result<Server, server::Error> {
    let folder = workspace.store_dir().join("bus");
    std::fs::create_dir_all(&folder).map_err(|source| server::Error::Io { path: folder.clone(), source })?;
    let options = Options { streams: Some(folder.join("streams")), ..Options::new(&socket(workspace)) };
    Server::start(Bus::default(), options)
}

/// Publishes what happens in a run. That nobody can be told never stops the run.
pub(crate) struct Teller {
    way: RefCell<Way>,
}

enum Way {
    Own(Server),
    Other(Box<Client>),
    Silent,
}

impl Teller {
    pub(crate) fn start(workspace: &Workspace, printer: &Printer) -> Self {
        let warn = |error: &dyn std::fmt::Display| {
            printer.warn(&format!("nobody can follow this run on the bus: {error}"));
            Way::Silent
        };
        let way = match serve(workspace) {
            Ok(server) => Way::Own(server),
            Err(server::Error::Busy { path }) => match Client::connect(&path) {
                Ok(client) => Way::Other(Box::new(client)),
                Err(error) => warn(&error),
            },
            Err(error) => warn(&error),
        };
        Self { way: RefCell::new(way) }
    }

    /// Tells one record.
    pub(crate) fn tell(&self, run: &str, stamped: &Stamped, printer: &Printer) {
        let event = progress::event(stamped);
        let topic = format!("run.{run}.{}", event.event);
        let Ok(json) = serde_json::to_vec(&event) else {
            return;
        };
        let priority = match &stamped.record {
            Record::Finished { .. } => Priority::High,
            _ => Priority::Normal,
        };
        let message = Message::new(&json).with_priority(priority);
        let mut way = self.way.borrow_mut();
        let told = match &mut *way {
            Way::Own(server) => {
                server.bus().publish(&topic, message).map(|_| ()).map_err(|error| error.to_string())
            }
            Way::Other(client) => {
                let sent = client.publish_later(&topic, &message).and_then(|()| client.flush());
                sent.map_err(|error| error.to_string())
            }
            Way::Silent => Ok(()),
        };
        if let Err(error) = told {
            printer.warn(&format!("the run goes on, but is no longer told on the bus: {error}"));
            *way = Way::Silent;
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if let Way::Own(server) = self.way.get_mut() {
            server.bus().shut_down();
        }
    }
}
