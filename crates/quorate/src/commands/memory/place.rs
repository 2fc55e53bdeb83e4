//! Where the memory of a workspace is, who asks, and what opens it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use quorate_memory::{Actor, Keyring, Kind, Options, Policy, SealKey, Space, Store};
use quorate_swarm::workspace::Workspace;

use crate::failure::Usage;
use crate::host;

/// A workspace's memory, not opened yet.
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) actor: Actor,
    key: Option<SealKey>,
}

impl Place {
    pub(super) fn of(workspace: &Workspace, key_file: Option<&Path>) -> anyhow::Result<Self> {
        let store = workspace.store_dir();
        let key = key_file.map(|path| read_key(path, &store)).transpose()?;
        Ok(Self { folder: store.join("memory"), actor: actor(), key })
    }

    pub(super) fn options(&self) -> Options {
        let keys = self.key.clone().map_or_else(Keyring::plain, |key| Keyring::new(key, []));
        Options { keys, implicit: Some(Policy::new(Kind::Project)), ..Options::default() }
    }

    pub(super) fn open(&self) -> anyhow::Result<Store> {
        let place = quorate_memory::Place::folder(&self.folder)?;
        Ok(Store::open(place, Options { background: false, ..self.options() })?)
    }

    pub(super) fn space(&self, namespace: &str) -> anyhow::Result<Space> {
        Ok(self.open()?.space(&self.actor, namespace)?)
    }
}

/// An agent of a run is itself; everybody else is the operator.
fn actor() -> Actor {
    let agent = std::env::var("QUORATE_AGENT").ok().filter(|name| !name.is_empty());
    let run = std::env::var("QUORATE_RUN").ok().filter(|name| !name.is_empty());
    match agent {
        Some(agent) => Actor::agent(agent, run.as_deref()),
        None => Actor::operator(),
    }
}

/// Reads a key, which must lie outside the store and be its owner's alone.
fn read_key(path: &Path, store: &Path) -> anyhow::Result<SealKey> {
    let metadata = std::fs::metadata(path)
        .map_err(|error| Usage(format!("cannot read the key file {}: {error}", path.display())))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(Usage(format!(
            "the key file {} can be read by others; make it yours alone with `chmod 600`, and trust nothing it sealed to be secret",
            path.display()
        ))
        .into());
    }
    let inside =
        path.canonicalize().is_ok_and(|path| store.canonicalize().is_ok_and(|store| path.starts_with(store)));
    if inside {
        return Err(Usage(format!(
            "the key file {} lies inside the store it is to seal; keep it elsewhere",
            path.display()
        ))
        .into());
    }
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let text = text.trim();
    let digits = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        match text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| digits) {
            Some(value) => *byte = value,
            None => {
                return Err(Usage(format!(
                    "the key file {} does not hold 64 hexadecimal digits",
                    path.display()
                ))
                .into());
            }
        }
    }
    Ok(SealKey::new(bytes))
}

/// Reads a key, or makes one where the file is missing.
pub(super) fn key_or_new(path: &Path, memory: &Path) -> anyhow::Result<SealKey> {
    let store = memory.parent().unwrap_or(memory);
    if !path.exists() {
        let bytes: [u8; 32] = host::random().context("no randomness from the operating system")?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| Usage(format!("cannot make the key file {}: {error}", path.display())))?;
        // On the disk before anything is sealed with it.
        writeln!(file, "{text}")
            .and_then(|()| file.sync_all())
            .with_context(|| path.display().to_string())?;
    }
    read_key(path, store)
}
