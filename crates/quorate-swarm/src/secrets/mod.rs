//! Secrets by name: what agents are given of them, and the workspace's own store of them.
//!
//! The store is one file that only its owner may read. It is not sealed: whatever could unseal it without a person would
//! have to lie beside it. What keeps agents from it is their sandbox, which hides all of the workspace's store.

mod forms;

pub(crate) use forms::forms;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use quorate_base::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::spec::{RunSpec, SECRET_LEN_MIN};
use crate::workspace::Workspace;

/// The longest name, in bytes.
pub const NAME_MAX: usize = 128;
/// The longest value, in bytes: a variable of the environment can hold it on every Linux.
pub const VALUE_MAX: usize = 64 << 10;
/// The most secrets of a workspace.
pub const SECRETS_MAX: usize = 1_000;
/// The largest file read.
const FILE_MAX: u64 = 128 << 20;
/// Of the file.
const FORMAT: u32 = 1;

/// A secret cannot be kept, found or given.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is not a store of secrets of this Quorate ({reason}); it was left as it is", path.display())]
    Unusable { path: PathBuf, reason: String },
    #[error(
        "{} can be read by others (mode {mode:o}); take what is in it for known, replace those secrets where they come from, and `chmod 600` it",
        path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error(
        "`{name}` is no name for a secret: use letters, digits and `_`, not beginning with a digit, at most {NAME_MAX}; names that begin with QUORATE_ are Quorate's"
    )]
    Name { name: String },
    #[error("the value is empty")]
    Empty,
    #[error(
        "the value is shorter than {SECRET_LEN_MIN} bytes: it could not be blotted out without taking much else with it"
    )]
    Short,
    #[error("the value is longer than {VALUE_MAX} bytes")]
    Long,
    #[error("the value is not text without NUL, which a variable of the environment can hold")]
    NotText,
    #[error("there are {SECRETS_MAX} secrets already; remove one first")]
    Full,
    #[error("there is no secret `{name}`; `quorate secret list` shows which there are")]
    Unknown { name: String },
    #[error(
        "agent `{agent}` declares the secret `{name}`, which is neither in the workspace's store nor in this environment; \
         set it with `quorate secret set {name}`, or take it out of `secrets`"
    )]
    Missing { agent: String, name: String },
}

/// A value nobody sees by accident.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Value(String);

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value")
    }
}

impl Value {
    /// What somebody typed or piped in. One line end behind it is not part of it.
    pub fn new(bytes: Vec<u8>) -> Result<Self, Error> {
        let mut text = String::from_utf8(bytes).map_err(|_| Error::NotText)?;
        let end = text.strip_suffix('\n').map(|rest| rest.strip_suffix('\r').unwrap_or(rest).len());
        text.truncate(end.unwrap_or(text.len()));
        match text.len() {
            0 => Err(Error::Empty),
            length if length < SECRET_LEN_MIN => Err(Error::Short),
            length if length > VALUE_MAX => Err(Error::Long),
            _ if text.contains('\0') => Err(Error::NotText),
            _ => Ok(Self(text)),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    secrets: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    value: Value,
    set: Timestamp,
}

/// The secrets of a workspace, as they were when they were read.
#[derive(Debug, Clone, Default)]
pub struct Secrets(BTreeMap<String, Entry>);

impl Secrets {
    /// Reads the store; one that is not there is empty.
    pub fn read(workspace: &Workspace) -> Result<Self, Error> {
        let path = file(workspace);
        let unusable = |reason: String| Error::Unusable { path: path.clone(), reason };
        let metadata = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(at(&path))?,
        };
        if !metadata.is_file() {
            return Err(unusable("it is not a plain file".into()));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(Error::Exposed { path, mode: metadata.mode() & 0o777 });
        }
        let mut bytes = Vec::new();
        let mut file = File::open(&path).map_err(at(&path))?.take(FILE_MAX);
        file.read_to_end(&mut bytes).map_err(at(&path))?;
        // What is wrong is told by its place only: the text around it is secret.
        let wrong =
            |error: serde_json::Error| unusable(format!("line {}, column {}", error.line(), error.column()));
        let stored: Stored = serde_json::from_slice(&bytes).map_err(wrong)?;
        if stored.format != FORMAT {
            return Err(unusable(format!("its format is {}, this Quorate knows {FORMAT}", stored.format)));
        }
        Ok(Self(stored.secrets))
    }

    /// Names, and when each was set, in order.
    pub fn names(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        self.0.iter().map(|(name, entry)| (name.as_str(), entry.set))
    }

    /// The value an agent that declares this name is given: the store's, or that of this process's environment. The
    /// store comes first, so that what `quorate secret list` shows is what agents get, in whichever shell a run starts.
    pub(crate) fn value(&self, name: &str) -> Option<OsString> {
        let stored = self.0.get(name).map(|entry| OsString::from(&entry.value.0));
        stored.or_else(|| std::env::var_os(name))
    }

    /// Refuses a run that declares a secret which is nowhere. Those of presets are alternatives, and may be missing.
    pub fn require(&self, spec: &RunSpec) -> Result<(), Error> {
        for (agent, declared) in &spec.agents {
            let missing = declared.secrets_required.iter().find(|name| self.value(name).is_none());
            if let Some(name) = missing {
                return Err(Error::Missing { agent: agent.clone(), name: name.clone() });
            }
        }
        Ok(())
    }
}

/// Keeps a secret under a name, in place of what was kept under it; answers whether something was.
pub fn set(workspace: &Workspace, name: &str, value: Value, now: Timestamp) -> Result<bool, Error> {
    check_name(name)?;
    change(workspace, |secrets| {
        if secrets.len() >= SECRETS_MAX && !secrets.contains_key(name) {
            return Err(Error::Full);
        }
        Ok(secrets.insert(name.to_owned(), Entry { value, set: now }).is_some())
    })
}

/// Forgets a secret.
pub fn remove(workspace: &Workspace, name: &str) -> Result<(), Error> {
    let unknown = || Error::Unknown { name: name.chars().take(NAME_MAX).collect() };
    change(workspace, |secrets| secrets.remove(name).map(drop).ok_or_else(unknown))
}

fn check_name(name: &str) -> Result<(), Error> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let usable = (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(word)
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.starts_with("QUORATE_");
    if usable { Ok(()) } else { Err(Error::Name { name: name.chars().take(NAME_MAX).collect() }) }
}

/// Changes the store while nobody else does; what is on disk is the old one or the new one.
fn change<T>(
    workspace: &Workspace,
    work: impl FnOnce(&mut BTreeMap<String, Entry>) -> Result<T, Error>,
) -> Result<T, Error> {
    let lock = workspace.store_dir().join("secrets.lock");
    let held = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock);
    let held = held.map_err(at(&lock))?;
    flock(&held, FlockOperation::LockExclusive).map_err(|errno| at(&lock)(errno.into()))?;
    let mut secrets = Secrets::read(workspace)?.0;
    let answer = work(&mut secrets)?;
    let path = file(workspace);
    let aside = path.with_extension("new");
    let stored = Stored { format: FORMAT, secrets };
    let write = || -> io::Result<()> {
        // One that a killed process left may have any mode.
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        file.write_all(&serde_json::to_vec_pretty(&stored)?)?;
        file.sync_all()?;
        fs::rename(&aside, &path)?;
        File::open(workspace.store_dir())?.sync_all()
    };
    write().map_err(at(&path))?;
    Ok(answer)
}

fn file(workspace: &Workspace) -> PathBuf {
    workspace.store_dir().join("secrets.json")
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn workspace() -> (tempfile::TempDir, Workspace) {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::create(folder.path()).unwrap();
        (folder, workspace)
    }

    fn value(text: &str) -> Value {
        Value::new(text.as_bytes().to_vec()).unwrap()
    }

    fn names(workspace: &Workspace) -> Vec<String> {
        Secrets::read(workspace).unwrap().names().map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn a_secret_is_kept_replaced_and_removed_and_its_file_is_its_owner_s_alone() {
        let (_folder, workspace) = workspace();
        assert_eq!(names(&workspace), [""; 0]);
        assert!(!set(&workspace, "B_KEY", value("first-value"), Timestamp(1)).unwrap());
        assert!(set(&workspace, "B_KEY", value("second-value\n"), Timestamp(2)).unwrap());
        assert!(!set(&workspace, "A_KEY", value("other-value"), Timestamp(3)).unwrap());
        assert_eq!(names(&workspace), ["A_KEY", "B_KEY"]);
        let secrets = Secrets::read(&workspace).unwrap();
        assert_eq!(secrets.value("B_KEY").unwrap(), "second-value");
        assert!(!format!("{secrets:?}").contains("second-value"));
        let mode = fs::metadata(file(&workspace)).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
        remove(&workspace, "B_KEY").unwrap();
        assert!(matches!(remove(&workspace, "B_KEY"), Err(Error::Unknown { .. })));
        assert_eq!(names(&workspace), ["A_KEY"]);
        assert!(!fs::read_to_string(file(&workspace)).unwrap().contains("second-value"));
    }

    #[test]
    fn what_cannot_be_a_variable_or_be_blotted_out_is_refused() {
        let (_folder, workspace) = workspace();
        for name in ["", "1A", "A-B", "A B", "A=B", "\u{e4}", "QUORATE_RUN", &"A".repeat(NAME_MAX + 1)] {
            let refused = set(&workspace, name, value("long enough"), Timestamp(0));
            assert!(matches!(refused, Err(Error::Name { .. })), "{name}");
        }
        let value = |bytes: &[u8]| Value::new(bytes.to_vec());
        assert!(matches!(value(b""), Err(Error::Empty)));
        assert!(matches!(value(b"\r\n"), Err(Error::Empty)));
        assert!(matches!(value(b"short"), Err(Error::Short)));
        assert!(matches!(value(b"nul\0inside"), Err(Error::NotText)));
        assert!(matches!(value(b"\xff\xff\xff\xff\xff\xff"), Err(Error::NotText)));
        assert!(matches!(value(&vec![b'x'; VALUE_MAX + 1]), Err(Error::Long)));
    }

    #[test]
    fn a_store_others_can_read_or_that_is_damaged_is_refused_without_saying_what_is_in_it() {
        let (_folder, workspace) = workspace();
        set(&workspace, "KEY", value("hush-hush"), Timestamp(0)).unwrap();
        let path = file(&workspace);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Secrets::read(&workspace), Err(Error::Exposed { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        for damaged in [
            text.replace("\"set\"", "hush-hush"),
            text.replace("\"format\": 1", "\"format\": 2"),
            "[]".into(),
        ] {
            fs::write(&path, damaged).unwrap();
            let error = Secrets::read(&workspace).unwrap_err();
            assert!(matches!(error, Error::Unusable { .. }), "{error}");
            assert!(!error.to_string().contains("hush"), "{error}");
        }
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(matches!(Secrets::read(&workspace), Err(Error::Unusable { .. })));
    }

    #[test]
    fn of_writers_at_the_same_time_none_loses_what_it_set() {
        let (_folder, workspace) = workspace();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let workspace = &workspace;
                scope.spawn(move || {
                    set(workspace, &format!("KEY_{number}"), value("long enough"), Timestamp(0)).unwrap();
                });
            }
        });
        assert_eq!(names(&workspace).len(), 8);
    }
}
