//! `quorate memory`: the workspace's memory from the command line.

mod copies;
mod entries;
mod namespaces;
mod place;
mod search;
mod watch;

use std::path::Path;

use quorate_base::ExitStatus;
use quorate_swarm::workspace::Workspace;

use crate::cli::{Memory, Remember};
use crate::printer::Printer;

pub(crate) fn memory(here: &Path, args: Memory, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let workspace = Workspace::find(here)?;
    let place = place::Place::of(&workspace, args.key_file.as_deref())?;
    match args.command {
        Remember::Set { key, value, place: within, tags, content_type, ttl, expect, vector } => {
            let given = entries::Given { value, tags, content_type, ttl, expect, vector };
            entries::set(&place.space(&within.namespace)?, &key, given, printer)
        }
        Remember::Get { key, place: within, at } => {
            entries::get(&place.space(&within.namespace)?, &key, at, printer)
        }
        Remember::Delete { key, place: within, expect } => {
            entries::delete(&place.space(&within.namespace)?, &key, expect, printer)
        }
        Remember::List { prefix, place: within, tag, limit } => {
            entries::list(&place.space(&within.namespace)?, &prefix, tag.as_deref(), limit, printer)
        }
        Remember::Search { query, namespaces, tags, vector, limit } => {
            search::search(&place, query, namespaces, tags, vector, limit, printer)
        }
        Remember::Context { query, tokens, namespaces } => {
            search::context(&place, query, namespaces, tokens, printer)
        }
        Remember::History { key, place: within } => {
            entries::history(&place.space(&within.namespace)?, &key, printer)
        }
        Remember::Watch { prefix, place: within, after, count } => {
            watch::watch(&place.space(&within.namespace)?, &prefix, after, count, printer)
        }
        Remember::Namespace(command) => namespaces::namespace(&place, command, printer),
        Remember::Stats => namespaces::stats(&place, printer),
        Remember::Export => copies::export(&place),
        Remember::Import { file } => copies::import(&place, file.as_deref(), printer),
        Remember::Backup { to } => copies::backup(&place, &to, printer),
        Remember::Restore { from, version, time } => copies::restore(&place, &from, version, time, printer),
        Remember::Rotate { new_key_file } => copies::rotate(&place, &new_key_file, printer),
    }
}
