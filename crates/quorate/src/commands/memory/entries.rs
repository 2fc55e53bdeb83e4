//! Keys and values.

use std::io::Read as _;
use std::sync::Arc;

use anyhow::Context as _;
use quorate_base::{ExitStatus, Millis};
use quorate_memory::{Entry, Put, Range, Space};
use serde::Serialize;

use crate::printer::{DIM, Printer};

/// An entry as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    key: String,
    version: u64,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    owner: &'a str,
    content_type: &'a str,
    tags: Vec<&'a str>,
    size: usize,
    /// The value where it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    /// The value in hexadecimal where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
}

impl<'a> Line<'a> {
    pub(super) fn new(key: &[u8], entry: &'a Entry) -> Self {
        let value = std::str::from_utf8(entry.value()).ok();
        let hex = || entry.value().iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            key: String::from_utf8_lossy(key).into_owned(),
            version: entry.version(),
            time: entry.time().to_string(),
            expires: entry.expires().map(|time| time.to_string()),
            owner: &entry.meta().owner,
            content_type: &entry.meta().content_type,
            tags: entry.meta().tags.iter().map(|tag| &**tag).collect(),
            size: entry.value().len(),
            value,
            value_hex: if value.is_none() { Some(hex()) } else { None },
        }
    }
}

/// What `set` was given.
pub(super) struct Given {
    pub(super) value: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) content_type: Option<String>,
    pub(super) ttl: Option<u64>,
    pub(super) expect: Option<u64>,
    pub(super) vector: Vec<f32>,
}

pub(super) fn set(space: &Space, key: &str, given: Given, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let value = match given.value {
        Some(value) => value.into_bytes(),
        None => {
            let mut value = Vec::new();
            std::io::stdin().read_to_end(&mut value).context("cannot read the value from standard input")?;
            value
        }
    };
    let text = std::str::from_utf8(&value).is_ok();
    let default = if text { "text/plain; charset=utf-8" } else { "application/octet-stream" };
    let mut put = Put::new(value).content_type(given.content_type.as_deref().unwrap_or(default));
    for tag in given.tags {
        put = put.tag(tag);
    }
    if !given.vector.is_empty() {
        put = put.vector(given.vector);
    }
    if let Some(seconds) = given.ttl {
        put = put.ttl(Millis(seconds.saturating_mul(1000)));
    }
    if let Some(version) = given.expect {
        put = put.expect(version);
    }
    let commit = space.put(key.as_bytes(), put)?;
    if printer.json {
        printer.document(&serde_json::json!({ "key": key, "version": commit.version }));
    } else {
        printer.say(&format!("{key} has version {}", commit.version));
    }
    Ok(ExitStatus::Done)
}

pub(super) fn get(
    space: &Space,
    key: &str,
    at: Option<u64>,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let found = match at {
        None => space.get(key.as_bytes())?,
        Some(version) => space.get_at(key.as_bytes(), version)?,
    };
    match found {
        Some(entry) => {
            show(key, &entry, printer);
            Ok(ExitStatus::Done)
        }
        None => {
            if printer.json {
                printer.document(&serde_json::Value::Null);
            }
            printer.say(&format!("there is no {key} in {}", space.name()));
            Ok(ExitStatus::Refused)
        }
    }
}

fn show(key: &str, entry: &Arc<Entry>, printer: &Printer) {
    if printer.json {
        printer.document(&Line::new(key.as_bytes(), entry));
        return;
    }
    printer.bytes(entry.value());
    if entry.value().last() != Some(&b'\n') {
        printer.bytes(b"\n");
    }
}

pub(super) fn delete(
    space: &Space,
    key: &str,
    expect: Option<u64>,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let commit = match expect {
        None => space.delete(key.as_bytes())?,
        Some(version) => space.delete_at(key.as_bytes(), version)?,
    };
    if printer.json {
        let document =
            serde_json::json!({ "key": key, "deleted": commit.changed > 0, "version": commit.version });
        printer.document(&document);
    }
    if commit.changed == 0 {
        printer.say(&format!("there is no {key} in {}", space.name()));
        return Ok(ExitStatus::Refused);
    }
    Ok(ExitStatus::Done)
}

pub(super) fn list(
    space: &Space,
    prefix: &str,
    tag: Option<&str>,
    limit: usize,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let items = match tag {
        None => space.scan(Range::prefix(prefix.as_bytes()), limit)?,
        Some(tag) => space.tagged(tag, None, limit)?,
    };
    if printer.json {
        let lines: Vec<_> = items.iter().map(|item| Line::new(item.key.as_bytes(), &item.entry)).collect();
        printer.document(&lines);
        return Ok(ExitStatus::Done);
    }
    for item in &items {
        let tags: Vec<_> = item.entry.meta().tags.iter().map(|tag| format!("#{tag}")).collect();
        printer.data(&format!(
            "{:<40} {:>8} bytes  {DIM}version {} by {} {}{DIM:#}",
            item.key.to_string(),
            item.entry.value().len(),
            item.entry.version(),
            item.entry.meta().owner,
            tags.join(" ")
        ));
    }
    if items.len() == limit {
        printer.say(&format!("the first {limit}; there may be more, see --limit"));
    }
    Ok(ExitStatus::Done)
}

pub(super) fn history(space: &Space, key: &str, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let found = space.history(key.as_bytes())?;
    if printer.json {
        let versions: Vec<_> = found
            .versions
            .iter()
            .map(|past| match &past.entry {
                Some(entry) => serde_json::to_value(Line::new(key.as_bytes(), entry)),
                None => Ok(serde_json::json!({ "version": past.version, "time": past.time.to_string(), "deleted": true })),
            })
            .collect::<Result<_, _>>()?;
        printer.document(&serde_json::json!({ "versions": versions, "forgotten": found.forgotten }));
        return Ok(ExitStatus::Done);
    }
    for past in &found.versions {
        let what = past.entry.as_ref().map_or_else(
            || "deleted".to_owned(),
            |entry| format!("{} bytes by {}", entry.value().len(), entry.meta().owner),
        );
        printer.data(&format!("{:>10}  {}  {what}", past.version, past.time));
    }
    if found.forgotten {
        printer.say("what was before is no longer kept");
    }
    Ok(if found.versions.is_empty() { ExitStatus::Refused } else { ExitStatus::Done })
}
