//! What an agent is sent: a file for each message, named by its number.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;

use super::book::Letter;
use crate::store::Store;

/// Digits of a name, so that names sort as numbers do.
const DIGITS: usize = 10;

#[derive(Debug, Serialize)]
struct Content<'a> {
    seq: u64,
    from: String,
    at: String,
    text: &'a str,
    /// Why the text is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<String>,
}

/// Puts a message into an inbox, whole or not at all; one that is there already is put there again.
pub(crate) fn deliver(inbox: &Path, store: &Store, seq: u64, letter: &Letter) -> io::Result<()> {
    let (text, lost) = match store.get(&letter.digest) {
        Ok(text) => (String::from_utf8_lossy(&text).into_owned(), None),
        // Better a letter that says so than a run that cannot go on.
        Err(error) => (String::new(), Some(error.to_string())),
    };
    let content =
        Content { seq, from: letter.from.to_string(), at: letter.at.to_string(), text: &text, lost };
    let mut bytes = serde_json::to_vec(&content)?;
    bytes.push(b'\n');
    let aside = inbox.join(format!(".{seq}"));
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o444).open(&aside)?;
        file.write_all(&bytes)?;
        fs::rename(&aside, inbox.join(format!("{seq:0DIGITS$}.json")))
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written
}

/// The highest number in an inbox.
pub(crate) fn newest(inbox: &Path) -> Option<u64> {
    let entries = fs::read_dir(inbox).ok()?;
    let number = |name: &str| name.strip_suffix(".json")?.parse::<u64>().ok();
    entries.flatten().filter_map(|entry| number(entry.file_name().to_str()?)).max()
}
