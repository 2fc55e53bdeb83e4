//! From what a declaration asks for to a sandbox on this machine, in this workspace.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use quorate_agents::sandbox::places;
use quorate_agents::{Egress, Sandbox};

use crate::git::{self, PrivateRepository};
use crate::spec::{self, SandboxSpec};

/// A process cannot have the sandbox its declaration asks for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Git(#[from] git::Error),
    #[error(transparent)]
    Hosts(#[from] spec::HostsError),
    #[error("{}: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("the sandbox names {}, which lies in the store of this workspace; nobody has business there but Quorate", path.display())]
    InStore { path: PathBuf },
    #[error("the sandbox names `{path}`, and this environment has no HOME; write the whole path")]
    NoHome { path: String },
}

/// Where a process works, and what it must not reach from there.
#[derive(Debug)]
pub(crate) struct Enclosing<'a> {
    pub(crate) spec: &'a SandboxSpec,
    /// The workspace's store: hidden, but for what is granted here.
    pub(crate) store: &'a Path,
    /// What relative paths are relative to.
    pub(crate) folder: &'a Path,
    pub(crate) repository: &'a PrivateRepository,
    pub(crate) worktree: &'a Path,
    /// A folder of its own for temporary files.
    pub(crate) temporary: &'a Path,
    /// Further folders of its own.
    pub(crate) own: &'a [&'a Path],
    pub(crate) env: &'a BTreeMap<OsString, OsString>,
}

impl Enclosing<'_> {
    /// Its worktree and its own folders to write; tools, the history of its worktree and the settings above it to read;
    /// what is declared; nothing else.
    pub(crate) fn sandbox(&self) -> Result<Sandbox, Error> {
        let mut read = places::readable(self.env);
        read.extend(places::settings_above(self.worktree));
        read.extend(self.repository.visible_in(self.worktree)?);
        let mut write = places::devices();
        write.extend([self.worktree, self.temporary].iter().chain(self.own).map(|path| path.to_path_buf()));
        write.extend(self.spec.own.iter().filter_map(|path| self.of_a_cli(path)));
        for (declared, paths) in [(&self.spec.read, &mut read), (&self.spec.write, &mut write)] {
            for path in declared {
                let path = self.declared(path)?;
                let real = path.canonicalize().unwrap_or_else(|_| path.clone());
                if real.starts_with(self.store) {
                    return Err(Error::InStore { path });
                }
                paths.push(path);
            }
        }
        let mut hidden = places::hidden(self.env);
        hidden.push(self.store.to_owned());
        let SandboxSpec { network, require, .. } = self.spec;
        let temporary = Some(self.temporary.to_owned());
        let egress = Egress::to(spec::hosts::resolve(&self.spec.hosts, self.env)?);
        Ok(Sandbox { read, write, hidden, temporary, network: *network, egress, require: require.clone() })
    }

    fn declared(&self, path: &str) -> Result<PathBuf, Error> {
        match path.strip_prefix("~/") {
            None => Ok(self.folder.join(path)),
            Some(rest) => {
                let home = home(self.env).ok_or_else(|| Error::NoHome { path: path.to_owned() })?;
                Ok(home.join(rest))
            }
        }
    }

    /// A folder or file of an agent CLI; nothing where it is not there and not a folder that can be made.
    fn of_a_cli(&self, path: &str) -> Option<PathBuf> {
        let place = if let Some(rest) = path.strip_prefix("~/") {
            home(self.env)?.join(rest)
        } else if let Some((name, rest)) = path.strip_prefix('$').and_then(|path| path.split_once('/')) {
            let folder = PathBuf::from(self.env.get(OsStr::new(name)).filter(|value| !value.is_empty())?);
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
}

/// What a process in a sandbox is told: where its temporary files and its caches go, and that git has no settings of a
/// person's, which it could see but not read. `declared` are variables somebody has decided on.
pub(crate) fn tell(env: &mut BTreeMap<OsString, OsString>, declared: &[String], temporary: &Path) {
    env.insert("TMPDIR".into(), temporary.into());
    let caches = temporary.join("cache");
    let told = [
        ("GIT_CONFIG_GLOBAL", OsStr::new("/dev/null")),
        ("GIT_OPTIONAL_LOCKS", OsStr::new("0")),
        ("XDG_CACHE_HOME", caches.as_os_str()),
        ("npm_config_cache", caches.as_os_str()),
    ];
    for (name, value) in told {
        if !declared.iter().any(|own| own == name) {
            env.insert(name.into(), value.into());
        }
    }
}

/// An empty folder for temporary files that nobody else may read.
pub(crate) fn make_temporary(path: &Path) -> Result<(), Error> {
    git::remove_folder(path)?;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| Error::Folder { path: path.to_owned(), source })
}

fn home(env: &BTreeMap<OsString, OsString>) -> Option<PathBuf> {
    env.get(OsStr::new("HOME")).cloned().or_else(|| std::env::var_os("HOME")).map(PathBuf::from)
}
