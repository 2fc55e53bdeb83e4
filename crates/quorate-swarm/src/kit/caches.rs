//! Folders in which agents share what their tools download.
//!
//! They lie in the workspace's store and belong to its agents alone: a person's own caches are not written by agents,
//! and validators, who are told nothing of these, never read what an agent may have put there.
//!
//! | cache | shared | how the tool keeps processes apart |
//! |---|---|---|
//! | cargo | `CARGO_HOME`: index and sources | file locks around downloading, unpacking and clearing; builds go on beside each other |
//! | npm | `npm_config_cache` | no lock: contents are named by their digest, written aside and moved, and checked when read |
//! | pip | `PIP_CACHE_DIR` | no lock: files are written aside and moved, so none is half there; of two that store the same at once the last wins |
//!
//! An agent could put wrong sources into cargo's folder, which cargo does not check again after unpacking; other agents'
//! builds would use them. No verdict would.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Error, io_at};

/// A tool with a cache that can be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cache {
    Cargo,
    Npm,
    Pip,
}

impl Cache {
    pub const ALL: [(&'static str, Self); 3] =
        [("cargo", Self::Cargo), ("npm", Self::Npm), ("pip", Self::Pip)];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, cache)| *cache)
    }

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, cache)| *cache == self).map_or("", |(name, _)| name)
    }
}

/// Makes the folders below `root` and answers what tells an agent's tools of them. `cargo_home` is the person's own.
pub fn environment(
    caches: &[Cache],
    root: &Path,
    worktree: &Path,
    cargo_home: Option<&Path>,
) -> Result<Vec<(OsString, OsString)>, Error> {
    let mut told = Vec::new();
    for cache in caches {
        let folder = root.join(cache.name());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(io_at(&folder))?;
        match cache {
            Cache::Cargo => {
                copy_settings(cargo_home, &folder)?;
                told.push(("CARGO_HOME".into(), folder.into_os_string()));
                // A folder of build results that agents share would make each wait for the other's whole build.
                told.push(("CARGO_TARGET_DIR".into(), worktree.join("target").into_os_string()));
            }
            Cache::Npm => told.push(("npm_config_cache".into(), folder.into_os_string())),
            Cache::Pip => told.push(("PIP_CACHE_DIR".into(), folder.into_os_string())),
        }
    }
    Ok(told)
}

/// Cargo's settings say where its downloads come from, so they are the person's own, whatever an agent has left there.
/// Credentials stay where they are.
fn copy_settings(home: Option<&Path>, folder: &Path) -> Result<(), Error> {
    let mut settings = None;
    // Cargo prefers the older name where it finds both.
    for from in home.iter().flat_map(|home| [home.join("config.toml"), home.join("config")]) {
        match fs::read(&from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => settings = Some(other.map_err(io_at(&from))?),
        }
    }
    let (to, older) = (folder.join("config.toml"), folder.join("config"));
    remove(&older)?;
    let Some(settings) = settings else { return remove(&to) };
    if fs::symlink_metadata(&to).is_ok_and(|metadata| metadata.is_file())
        && fs::read(&to).is_ok_and(|there| there == settings)
    {
        return Ok(());
    }
    let aside = folder.join(format!("config.toml.{}.{:?}", std::process::id(), std::thread::current().id()));
    fs::write(&aside, settings).and_then(|()| fs::rename(&aside, &to)).map_err(io_at(&to))
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at(path)(error)),
        _ => Ok(()),
    }
}
