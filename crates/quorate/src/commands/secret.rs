//! `quorate secret`: the workspace's secrets, by name.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use quorate_base::ExitStatus;
use quorate_swarm::secrets::{self, Secrets, VALUE_MAX, Value};
use quorate_swarm::workspace::Workspace;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use serde::Serialize;

use crate::cli::Secret;
use crate::failure::Usage;
use crate::host;
use crate::printer::Printer;

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    set: String,
}

#[derive(Debug, Serialize)]
struct Changed<'a> {
    name: &'a str,
    change: &'static str,
}

pub(crate) fn secret(here: &Path, command: &Secret, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let workspace = Workspace::find(here)?;
    let (name, change) = match command {
        Secret::List => return list(&workspace, printer),
        Secret::Set { name } => {
            let value = Value::new(read_value(name)?)?;
            let replaced = secrets::set(&workspace, name, value, host::now())?;
            (name, if replaced { "replaced" } else { "set" })
        }
        Secret::Remove { name } => {
            secrets::remove(&workspace, name)?;
            (name, "removed")
        }
    };
    if printer.json {
        printer.document(&Changed { name, change });
    } else {
        printer.say(&format!("{change} {name}"));
    }
    Ok(ExitStatus::Done)
}

fn list(workspace: &Workspace, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let secrets = Secrets::read(workspace)?;
    let rows: Vec<Row> =
        secrets.names().map(|(name, set)| Row { name: name.to_owned(), set: set.to_string() }).collect();
    if printer.json {
        printer.document(&rows);
        return Ok(ExitStatus::Done);
    }
    for row in &rows {
        printer.data(&format!("{:<32} set {}", row.name, row.set));
    }
    if rows.is_empty() {
        printer.say("no secret is set; set one with `quorate secret set NAME`");
    }
    Ok(ExitStatus::Done)
}

/// The value, from a person or from standard input.
fn read_value(name: &str) -> anyhow::Result<Vec<u8>> {
    if io::stdin().is_terminal() {
        return ask(name);
    }
    let mut bytes = Vec::new();
    // A line end of two characters, and one byte more to see that there is too much.
    io::stdin().take(VALUE_MAX as u64 + 3).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Asks on the terminal, key by key, so that giving up leaves the terminal as it was.
fn ask(name: &str) -> anyhow::Result<Vec<u8>> {
    let _hidden = Hidden::new()?;
    write!(io::stderr(), "value of {name} (it is not shown): ")?;
    let mut value = Vec::new();
    let mut key = [0];
    loop {
        if io::stdin().read(&mut key)? == 0 {
            break;
        }
        match key[0] {
            b'\r' | b'\n' | 0x04 => break,
            0x03 => {
                writeln!(io::stderr())?;
                return Err(Usage("nothing was set".into()).into());
            }
            // The last character, which may have more bytes than one.
            0x08 | 0x7f => while value.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            byte if value.len() <= VALUE_MAX => value.push(byte),
            _ => {}
        }
    }
    writeln!(io::stderr())?;
    Ok(value)
}

/// The terminal while nothing that is typed is shown, and each key comes as it is.
struct Hidden(Termios);

impl Hidden {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes -= LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG;
        hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
        hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
