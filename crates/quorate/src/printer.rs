//! Where output goes: data to standard output, talk to standard error, colour only on a terminal.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::failure::Failure;

/// Prints for one command.
#[derive(Debug, Clone)]
pub(crate) struct Printer {
    pub(crate) json: bool,
    quiet: bool,
    terminal: bool,
    /// The status line now at the bottom of the terminal, if any.
    sticky: Arc<Mutex<bool>>,
}

pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
pub(crate) const DOUBT: Style = AnsiColor::Yellow.on_default();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const PLAIN: Style = Style::new();

impl Printer {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, terminal: std::io::stderr().is_terminal(), sticky: Arc::new(Mutex::new(false)) }
    }

    /// A line of talk.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// A line that must be seen even where talk is off.
    pub(crate) fn warn(&self, text: &str) {
        self.line(&format!("{DOUBT}warning:{DOUBT:#} {text}"));
    }

    pub(crate) fn failure(&self, failure: &Failure) {
        if self.json {
            self.document(failure);
        }
        self.line(&format!("{BAD}error:{BAD:#} {}", failure.error));
    }

    /// A line of data.
    pub(crate) fn data(&self, text: &str) {
        // A reader that has gone away is not a failure of the command.
        let _ = writeln!(anstream::stdout(), "{text}");
    }

    /// Bytes of data, as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        let _ = std::io::stdout().write_all(bytes);
    }

    /// One JSON document on one line of standard output.
    pub(crate) fn document(&self, document: &impl Serialize) {
        if let Ok(text) = serde_json::to_string(document) {
            let _ = writeln!(std::io::stdout(), "{text}");
        }
    }

    /// Replaces the line at the bottom of the terminal; nothing where there is none.
    pub(crate) fn sticky(&self, text: &str) {
        if self.quiet || !self.terminal || self.json {
            return;
        }
        let Ok(mut sticky) = self.sticky.lock() else { return };
        let text: String = text.chars().take(110).collect();
        let _ = write!(anstream::stderr(), "\r\x1b[2K{DIM}{text}{DIM:#}");
        let _ = std::io::stderr().flush();
        *sticky = true;
    }

    fn line(&self, text: &str) {
        let Ok(mut sticky) = self.sticky.lock() else { return };
        let clear = if std::mem::take(&mut *sticky) { "\r\x1b[2K" } else { "" };
        let _ = writeln!(anstream::stderr(), "{clear}{text}");
    }
}
