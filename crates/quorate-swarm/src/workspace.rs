//! A workspace on disk: the `.quorate/` store, where everything in it lies, and its keys.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use quorate_base::{RunId, ValidatorId};
use quorate_evidence::key::{PublicKey, SigningKey};
use rustix::fs::{FlockOperation, flock};

use crate::store::Store;

/// Name of the store's folder.
pub const FOLDER: &str = ".quorate";
/// Times, 20 ms apart, that a held lock is tried again.
const LOCK_TRIES: u32 = 50;
/// Format of the folder; a newer one is refused.
pub const FORMAT: u32 = 1;

/// A workspace whose store exists.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
}

/// A workspace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no workspace here: neither {} nor a folder above it has a `{FOLDER}` store; create one with `quorate init`", from.display())]
    NotFound { from: PathBuf },
    #[error("{}: {source}{}", path.display(), hint(source))]
    Io { path: PathBuf, source: io::Error },
    #[error("{} has format {found}, this Quorate knows up to {FORMAT}; use the newer Quorate that wrote it", path.display())]
    Newer { path: PathBuf, found: String },
    #[error("the key {} can be read by others (mode {mode:o}); anyone who read it can vote: remove it, run `quorate init` for a new one, and trust no certificate it signed since", path.display())]
    KeyExposed { path: PathBuf, mode: u32 },
    #[error("the key {} is missing; `quorate init` creates it", path.display())]
    KeyMissing { path: PathBuf },
    #[error("the key {}: {reason}", path.display())]
    KeyUnusable { path: PathBuf, reason: String },
    #[error("the workspace {} is in use{}; wait for it, watch it with `quorate status`, or stop it first", root.display(), holder.as_deref().map(|h| format!(" by {h}")).unwrap_or_default())]
    Busy { root: PathBuf, holder: Option<String> },
    #[error("there is no run {run} in this workspace; `quorate status --all` lists them")]
    NoSuchRun { run: String },
    #[error("there is no run in this workspace yet; start one with `quorate run FILE.toml`")]
    NoRun,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "; free some space, then `quorate resume`",
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "; Quorate must be able to write its store: check the folder's owner and mode"
        }
        _ => "",
    }
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.to_owned(), source }
}

impl Workspace {
    /// The workspace of a folder: it or the nearest folder above it that has a store.
    pub fn find(from: &Path) -> Result<Self, Error> {
        let from = from.canonicalize().map_err(io_at(from))?;
        for folder in from.ancestors() {
            if folder.join(FOLDER).join("format").is_file() {
                return Self::open(folder);
            }
        }
        Err(Error::NotFound { from })
    }

    /// The workspace at exactly this folder.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let workspace = Self { root: root.to_owned() };
        let path = workspace.store_dir().join("format");
        let found = fs::read_to_string(&path).map_err(io_at(&path))?;
        match found.trim().parse::<u32>() {
            Ok(FORMAT) => Ok(workspace),
            _ => Err(Error::Newer { path, found: found.trim().chars().take(20).collect() }),
        }
    }

    /// Creates the store in `root` where it is not there yet; nothing that exists is changed.
    pub fn create(root: &Path) -> Result<Self, Error> {
        let root = root.canonicalize().map_err(io_at(root))?;
        let store = root.join(FOLDER);
        for folder in [&store, &store.join("keys"), &store.join("runs"), &store.join("objects")] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io_at(folder))?;
        }
        // The store keeps itself out of version control, whatever the project's own ignore file says.
        create_new(&store.join(".gitignore"), b"*\n")?;
        create_new(&store.join("format"), format!("{FORMAT}\n").as_bytes())?;
        Self::open(&root)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn store_dir(&self) -> PathBuf {
        self.root.join(FOLDER)
    }

    /// The content store.
    pub fn store(&self) -> Store {
        Store::at(self.store_dir().join("objects"))
    }

    pub fn run_dir(&self, run: &RunId) -> RunDir {
        RunDir { path: self.store_dir().join("runs").join(run.as_str()) }
    }

    /// All runs, oldest first.
    pub fn runs(&self) -> Result<Vec<RunId>, Error> {
        let path = self.store_dir().join("runs");
        let mut runs = Vec::new();
        for entry in fs::read_dir(&path).map_err(io_at(&path))? {
            let entry = entry.map_err(io_at(&path))?;
            let id = entry.file_name().to_str().and_then(|name| RunId::new(name).ok());
            if let Some(id) = id.filter(|_| entry.path().join("journal").exists()) {
                runs.push(id);
            }
        }
        runs.sort();
        Ok(runs)
    }

    /// The run of that name, or the newest where none is given.
    pub fn run(&self, name: Option<&str>) -> Result<RunId, Error> {
        let mut runs = self.runs()?;
        match name {
            None => runs.pop().ok_or(Error::NoRun),
            Some(name) => {
                let no_such = || Error::NoSuchRun { run: name.chars().take(80).collect() };
                runs.into_iter().find(|run| run.as_str() == name).ok_or_else(no_such)
            }
        }
    }

    /// Takes the workspace for one node; a second one is told who holds it.
    pub fn lock(&self, holder: &str) -> Result<Lock, Error> {
        let path = self.store_dir().join("lock");
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = file.map_err(io_at(&path))?;
        // A node that was just killed may leave a child between fork and exec, which holds the lock a moment longer.
        let mut locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
        for _ in 0..LOCK_TRIES {
            if locked != Err(rustix::io::Errno::WOULDBLOCK) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
        }
        match locked {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = fs::read_to_string(&path)
                    .ok()
                    .map(|text| text.trim().to_owned())
                    .filter(|t| !t.is_empty());
                return Err(Error::Busy { root: self.root.clone(), holder });
            }
            Err(errno) => return Err(Error::Io { path, source: errno.into() }),
        }
        file.set_len(0).and_then(|()| file.write_all(holder.as_bytes())).map_err(io_at(&path))?;
        Ok(Lock { _file: file })
    }

    /// Whether a node holds the workspace now.
    pub fn is_locked(&self) -> bool {
        let path = self.store_dir().join("lock");
        File::open(path).is_ok_and(|file| {
            flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
        })
    }

    pub fn key_path(&self, validator: &ValidatorId) -> PathBuf {
        self.store_dir().join("keys").join(format!("{validator}.key"))
    }

    fn public_key_path(&self, validator: &ValidatorId) -> PathBuf {
        self.store_dir().join("keys").join(format!("{validator}.pub"))
    }

    /// Creates the keys of a panel where they are missing, from fresh randomness; answers how many were made.
    pub fn create_keys(
        &self,
        panel: &[ValidatorId],
        mut seed: impl FnMut() -> io::Result<[u8; 32]>,
    ) -> Result<usize, Error> {
        let mut made = 0;
        for validator in panel {
            let path = self.key_path(validator);
            if !path.exists() {
                let key = SigningKey::from_seed(seed().map_err(io_at(&path))?);
                create_new(&path, key.to_secret_text().as_bytes())?;
                made += 1;
            }
            let key = read_key(&path)?;
            let public = self.public_key_path(validator);
            let pem = key.public().to_pem();
            if fs::read_to_string(&public).ok().as_deref() != Some(pem.as_str()) {
                fs::write(&public, pem).map_err(io_at(&public))?;
            }
        }
        Ok(made)
    }

    /// The public keys of a panel; every private one must be there and be private.
    pub fn public_keys(&self, panel: &[ValidatorId]) -> Result<BTreeMap<ValidatorId, PublicKey>, Error> {
        panel.iter().map(|v| Ok((v.clone(), read_key(&self.key_path(v))?.public()))).collect()
    }

    /// The public keys of every validator this workspace has, for verifying.
    pub fn trusted(&self) -> Result<BTreeMap<ValidatorId, PublicKey>, Error> {
        let folder = self.store_dir().join("keys");
        let mut keys = BTreeMap::new();
        for entry in fs::read_dir(&folder).map_err(io_at(&folder))? {
            let path = entry.map_err(io_at(&folder))?.path();
            let name =
                path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| ValidatorId::new(stem).ok());
            let Some(name) = name.filter(|_| path.extension().is_some_and(|ext| ext == "pub")) else {
                continue;
            };
            let pem = fs::read_to_string(&path).map_err(io_at(&path))?;
            let unusable = |reason: String| Error::KeyUnusable { path: path.clone(), reason };
            keys.insert(name, PublicKey::from_pem(&pem).map_err(|error| unusable(error.to_string()))?);
        }
        Ok(keys)
    }
}

/// Reads a private key; refused where anybody else could have read it too.
pub fn read_key(path: &Path) -> Result<SigningKey, Error> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::KeyMissing { path: path.to_owned() });
        }
        other => other.map_err(io_at(path))?,
    };
    let unusable = |reason: String| Error::KeyUnusable { path: path.to_owned(), reason };
    if !metadata.is_file() {
        return Err(unusable("it is not a plain file".into()));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(Error::KeyExposed { path: path.to_owned(), mode: metadata.mode() & 0o777 });
    }
    let text = fs::read_to_string(path).map_err(io_at(path))?;
    SigningKey::from_secret_text(&text).map_err(|error| unusable(error.to_string()))
}

/// Writes a file that must not exist yet, whole or not at all; one that exists is left alone.
fn create_new(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    if path.exists() {
        return Ok(());
    }
    let aside = path.with_extension(format!("new-{}", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // A hard link refuses to replace, where a rename would not.
        match fs::hard_link(&aside, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        fs::remove_file(&aside)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(io_at(path))
}

/// The workspace is held by this process while this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Where the parts of one run lie.
#[derive(Debug, Clone)]
pub struct RunDir {
    pub path: PathBuf,
}

impl RunDir {
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// The socket at which its node is asked while it works.
    pub fn control(&self) -> PathBuf {
        self.path.join("control")
    }

    /// The run's own repository, to which all worktrees belong.
    pub fn repository(&self) -> PathBuf {
        self.path.join("repository.git")
    }

    /// The fresh repository of a run that works on a copy.
    pub fn copy(&self) -> PathBuf {
        self.path.join("copy")
    }

    pub fn worktrees(&self) -> PathBuf {
        self.path.join("worktrees")
    }

    /// Where one launch of an agent has its worktree; a launch never reuses another's.
    pub fn worktree(
        &self,
        agent: &quorate_base::AgentId,
        task: &quorate_base::TaskId,
        attempt: u32,
    ) -> PathBuf {
        self.worktrees().join(format!("{task}.{agent}.{attempt}"))
    }

    /// Raw output of processes at work; what is kept goes to the content store.
    pub fn output(&self) -> PathBuf {
        self.path.join("output")
    }

    /// Temporary files of agents at work, a folder for each launch.
    pub fn temporary(&self) -> PathBuf {
        self.path.join("tmp")
    }

    /// The folders through which one launch of an agent is given things and hands things over.
    pub fn exchange(
        &self,
        agent: &quorate_base::AgentId,
        task: &quorate_base::TaskId,
        attempt: u32,
    ) -> PathBuf {
        self.exchanges().join(format!("{task}.{agent}.{attempt}"))
    }

    /// Those of all launches at work.
    pub fn exchanges(&self) -> PathBuf {
        self.path.join("exchange")
    }

    pub fn panels(&self) -> PathBuf {
        self.path.join("panels")
    }

    pub fn certificates(&self) -> PathBuf {
        self.path.join("certificates")
    }
}
