//! Export and import, as lines of JSON.
//!
//! The first line says what follows: `{"quorate-memory":1,"version":…,"time":…}`. A line with `policy` is a namespace, any other an entry.
//! Keys and values that are UTF-8 stand as texts, others as base64 under `key-base64` and `value-base64`.

use std::collections::HashMap;
use std::io::{BufRead, Read, Write};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quorate_base::Timestamp;
use serde::{Deserialize, Serialize};

use crate::actor::{Access, Actor};
use crate::error::Error;
use crate::key::Key;
use crate::policy::Policy;
use crate::put::{Batch, Class, Put};
use crate::space::Space;
use crate::store::Store;
use crate::view::{Item, Range};

/// Version of the lines.
const LINES: u16 = 1;
/// The longest line that is read.
const LINE_MAX: u64 = 128 << 20;
/// Entries written in one transaction.
const AT_ONCE: usize = 1000;
/// Bytes of values written in one transaction, about.
const BYTES_AT_ONCE: usize = 8 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadLine {
    #[serde(rename = "quorate-memory")]
    lines: u16,
    version: u64,
    time: Timestamp,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Line {
    namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<Policy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    vector: Vec<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
}

/// What an export wrote or an import read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transfer {
    /// Written, or created by an import.
    pub namespaces: u64,
    /// Written.
    pub entries: u64,
    /// Entries of an import that had expired and were left out.
    pub expired: u64,
    /// In how many transactions an import wrote.
    pub transactions: u64,
}

impl Store {
    /// Writes everything that `actor` may read, as it is at one moment.
    pub fn export(&self, actor: &Actor, out: &mut dyn Write) -> Result<Transfer, Error> {
        let view = self.view()?;
        let mut done = Transfer::default();
        let time = self.inner.options.clock.now();
        write_line(out, &HeadLine { lines: LINES, version: view.version(), time })?;
        for name in self.namespaces(actor)? {
            let space = self.space(actor, &name)?;
            let policy = (*space.policy()).clone();
            write_line(out, &Line { namespace: name.to_string(), policy: Some(policy), ..Line::default() })?;
            done.namespaces += 1;
            let mut range = Range::all();
            loop {
                let items = view.scan(&space, range.clone(), AT_ONCE)?;
                for item in &items {
                    write_line(out, &entry_line(&name, item))?;
                    done.entries += 1;
                }
                match items.last() {
                    Some(last) if items.len() == AT_ONCE => range = Range::all().after(last.key.as_bytes()),
                    _ => break,
                }
            }
        }
        Ok(done)
    }

    /// Writes what an export says, as `actor`: namespaces that are missing are created, entries take the place of those that are there, and
    /// get new versions. Each thousand entries is one transaction; where a line is not understood or a write refused, those before
    /// it stay. Owners are kept where the operator or Quorate imports; an agent owns what it imports.
    pub fn import(&self, actor: &Actor, input: &mut dyn BufRead) -> Result<Transfer, Error> {
        let mut import = Import {
            store: self,
            actor,
            spaces: HashMap::new(),
            batch: Batch::new(),
            bytes: 0,
            done: Transfer::default(),
        };
        let mut text = String::new();
        for number in 1.. {
            text.clear();
            let refused = |reason: String| Error::Import { line: number, reason };
            let read =
                input.take(LINE_MAX).read_line(&mut text).map_err(|error| refused(error.to_string()))?;
            if read == 0 && number == 1 {
                return Err(refused("it is empty".into()));
            }
            if read == 0 {
                break;
            }
            if read as u64 == LINE_MAX {
                return Err(refused(format!("it is longer than {LINE_MAX} bytes")));
            }
            let line = text.trim();
            if number == 1 {
                let head: HeadLine = serde_json::from_str(line)
                    .map_err(|error| refused(format!("it does not begin as an export does: {error}")))?;
                if head.lines != LINES {
                    return Err(refused(format!(
                        "the lines have version {}, this Quorate knows {LINES}",
                        head.lines
                    )));
                }
            } else if !line.is_empty() {
                let line = serde_json::from_str(line).map_err(|error| refused(error.to_string()))?;
                import.line(number, line)?;
            }
        }
        import.write()?;
        Ok(import.done)
    }
}

fn write_line(out: &mut dyn Write, line: &impl Serialize) -> Result<(), Error> {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    out.write_all(&text).map_err(Error::io("the export"))
}

fn entry_line(namespace: &str, item: &Item) -> Line {
    let split = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    };
    let (key, key_base64) = split(item.key.as_bytes());
    let (value, value_base64) = split(item.entry.value());
    let meta = item.entry.meta();
    Line {
        namespace: namespace.to_owned(),
        policy: None,
        key,
        key_base64,
        value,
        value_base64,
        content_type: Some(meta.content_type.to_string()),
        tags: meta.tags.iter().map(ToString::to_string).collect(),
        vector: meta.vector().unwrap_or_default(),
        owner: Some(meta.owner.to_string()),
        expires: item.entry.expires(),
        version: Some(item.entry.version()),
        time: Some(item.entry.time()),
    }
}

struct Import<'a> {
    store: &'a Store,
    actor: &'a Actor,
    spaces: HashMap<String, Space>,
    batch: Batch,
    bytes: usize,
    done: Transfer,
}

impl Import<'_> {
    fn line(&mut self, number: u64, line: Line) -> Result<(), Error> {
        let refused = |reason: &str| Error::Import { line: number, reason: reason.into() };
        if let Some(policy) = line.policy {
            self.write()?;
            match self.store.create(self.actor, &line.namespace, policy) {
                Ok(_) => self.done.namespaces += 1,
                Err(Error::NamespaceExists { .. }) => {}
                Err(error) => return Err(error),
            }
            return Ok(());
        }
        let bytes = |text: Option<String>, base64: Option<String>, what: &str| match (text, base64) {
            (Some(text), None) => Ok(text.into_bytes()),
            (None, Some(base64)) => {
                STANDARD.decode(base64).map_err(|error| refused(&format!("{what}-base64: {error}")))
            }
            _ => Err(refused(&format!("there must be one of {what} and {what}-base64"))),
        };
        let key = bytes(line.key, line.key_base64, "key")?;
        let value = bytes(line.value, line.value_base64, "value")?;
        if line.expires.is_some_and(|at| at <= self.store.inner.options.clock.now()) {
            self.done.expired += 1;
            return Ok(());
        }
        let space = match self.spaces.get(&line.namespace) {
            Some(space) => space.clone(),
            None => {
                let space = self.store.space(self.actor, &line.namespace)?;
                space.check(Access::Write)?;
                self.spaces.insert(line.namespace, space.clone());
                space
            }
        };
        self.bytes += key.len() + value.len();
        let put = Put {
            value,
            content_type: line.content_type.map(Into::into),
            tags: line.tags.into_iter().map(Into::into).collect(),
            expires: line.expires,
            vector: line.vector,
            owner: line.owner.filter(|_| !self.actor.is_agent()).map(Arc::from),
            ..Put::default()
        };
        self.batch.put(&space, Key::new(&key), put)?;
        if self.batch.len() >= AT_ONCE || self.bytes >= BYTES_AT_ONCE {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Error> {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        if batch.is_empty() {
            return Ok(());
        }
        let entries = batch.len() as u64;
        self.store.commit(batch, Class::Durable)?;
        self.done.entries += entries;
        self.done.transactions += 1;
        Ok(())
    }
}
