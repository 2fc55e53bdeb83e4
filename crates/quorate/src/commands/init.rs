//! `quorate init`: the store, the keys, and a commented quorate.toml.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use quorate_base::ExitStatus;
use quorate_swarm::spec::{file, template};
use quorate_swarm::workspace::Workspace;
use serde::Serialize;

use super::store;
use crate::host;
use crate::printer::Printer;

#[derive(Debug, Serialize)]
struct Document {
    store: String,
    keys_created: usize,
    file: String,
    file_created: bool,
}

pub(crate) fn init(here: &Path, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let source = quorate_swarm::git::discover(here)?;
    let root = source.top().to_owned();
    let mut gate = file::gate_default();
    let checks = store::detected(&root, &gate.validators);
    if let Some((origin, text)) = store::project_file(&root)? {
        (gate, _) = file::parse_gate(&origin, &text, &checks)?;
    }
    let workspace = Workspace::create(&root)?;
    let keys_created = workspace.create_keys(&gate.validators, host::random)?;
    let path = root.join("quorate.toml");
    let file_created = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(mut file) => {
            file.write_all(template::render(&gate, &checks).as_bytes())?;
            true
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
        Err(error) => {
            return Err(anyhow::Error::from(error).context(format!("cannot write {}", path.display())));
        }
    };
    if printer.json {
        let store = workspace.store_dir().display().to_string();
        printer.document(&Document { store, keys_created, file: path.display().to_string(), file_created });
        return Ok(ExitStatus::Done);
    }
    printer.data(&format!(
        "{}  store, ignored by git; {keys_created} new validator keys",
        workspace.store_dir().display()
    ));
    let told = if file_created {
        "written: adapt it, then `quorate run quorate.toml`"
    } else {
        "was there already and is left as it is"
    };
    printer.data(&format!("{}  {told}", path.display()));
    Ok(ExitStatus::Done)
}
