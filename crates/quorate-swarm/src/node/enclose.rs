//! What the agent of one launch may reach.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use quorate_agents::Sandbox;
use quorate_agents::sandbox::places;

use super::Job;
use crate::git;
use crate::spec::SandboxSpec;

/// A launch cannot have the sandbox its declaration asks for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Git(#[from] git::Error),
    #[error("{}: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("the sandbox names {}, which lies in the store of this workspace; agents have no business there", path.display())]
    InStore { path: PathBuf },
    #[error("the sandbox names `{path}`, and this environment has no HOME; write the whole path")]
    NoHome { path: String },
}

impl Job {
    /// The sandbox of a launch: its worktree and its temporary folder to write; tools, the history of its worktree and
    /// the settings above it to read; nothing else of the workspace.
    pub(super) fn sandbox(
        &self,
        spec: &SandboxSpec,
        worktree: &Path,
        temporary: &Path,
        env: &BTreeMap<OsString, OsString>,
    ) -> Result<Sandbox, Error> {
        let store = self.shared.workspace.store_dir();
        let mut read = places::readable(env);
        read.extend(places::settings_above(worktree));
        read.extend(self.shared.repository.visible_in(worktree)?);
        let mut write = places::devices();
        write.extend([worktree.to_owned(), temporary.to_owned()]);
        write.extend(spec.own.iter().filter_map(|path| own(path, env)));
        for (declared, paths) in [(&spec.read, &mut read), (&spec.write, &mut write)] {
            for path in declared {
                let path = self.declared(path, env)?;
                let real = path.canonicalize().unwrap_or_else(|_| path.clone());
                if real.starts_with(&store) {
                    return Err(Error::InStore { path });
                }
                paths.push(path);
            }
        }
        let mut hidden = places::hidden(env);
        hidden.push(store);
        Ok(Sandbox { read, write, hidden, network: spec.network, require: spec.require.clone() })
    }

    /// A folder for the launch's temporary files that nobody else may read.
    pub(super) fn temporary(&self, path: &Path) -> Result<(), Error> {
        let at = |source| Error::Folder { path: path.to_owned(), source };
        git::remove_folder(path)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at)
    }

    fn declared(&self, path: &str, env: &BTreeMap<OsString, OsString>) -> Result<PathBuf, Error> {
        match path.strip_prefix("~/") {
            None => Ok(self.shared.swarm_dir.join(path)),
            Some(rest) => {
                let home = home(env).ok_or_else(|| Error::NoHome { path: path.to_owned() })?;
                Ok(home.join(rest))
            }
        }
    }
}

/// A folder or file of an agent CLI; nothing where it is not there and not a folder that can be made.
fn own(path: &str, env: &BTreeMap<OsString, OsString>) -> Option<PathBuf> {
    let place = if let Some(rest) = path.strip_prefix("~/") {
        home(env)?.join(rest)
    } else if let Some((name, rest)) = path.strip_prefix('$').and_then(|path| path.split_once('/')) {
        let folder = PathBuf::from(env.get(OsStr::new(name)).filter(|value| !value.is_empty())?);
        if rest.is_empty() { folder } else { folder.join(rest) }
    } else {
        PathBuf::from(path)
    };
    if path.ends_with('/') {
        // A CLI that is used for the first time; where it cannot be made, the CLI says so itself.
        let _ = fs::DirBuilder::new().recursive(true).mode(0o700).create(&place);
    }
    place.exists().then_some(place)
}

fn home(env: &BTreeMap<OsString, OsString>) -> Option<PathBuf> {
    env.get(OsStr::new("HOME")).cloned().or_else(|| std::env::var_os("HOME")).map(PathBuf::from)
}
