//! Landlock: which files, and which TCP connections, signals and abstract sockets.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope, make_bitflags,
};

use super::{Error, Network};

/// The newest ABI whose rights are asked for; an older kernel is asked for those it has.
const NEWEST: ABI = ABI::V9;
/// From here on it holds what has to be held about files: before it, what may not be written could be emptied.
pub(super) const ABI_MIN: u32 = 3;
pub(super) const ABI_TCP: u32 = 4;
pub(super) const ABI_SCOPE: u32 = 6;
pub(super) const ABI_UNIX: u32 = 9;
/// The most parts into which what is hidden may split what is read.
const PARTS_MAX: usize = 8192;

/// What may be done with a path and everything below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Read,
    Write,
    /// Read and written, not replaced: devices, and files that receive output.
    Stream,
}

/// Rights on resolved paths.
#[derive(Debug, Default)]
pub(super) struct Grants(pub(super) Vec<(PathBuf, Use)>);

impl Grants {
    /// A path to read, without what is hidden in it. Links below it are left out where it has to be split: what they
    /// lead to is granted by its own path, or not.
    pub(super) fn read(&mut self, path: &Path, hidden: &[PathBuf]) -> Result<(), Error> {
        let path = resolve(path)?;
        let mut left = vec![path.clone()];
        let before = self.0.len();
        while let Some(part) = left.pop() {
            if hidden.contains(&part) {
                continue;
            }
            let inside: Vec<&PathBuf> = hidden.iter().filter(|hidden| hidden.starts_with(&part)).collect();
            if inside.is_empty() {
                self.0.push((part, Use::Read));
            } else if let Ok(entries) = fs::read_dir(&part) {
                let plain =
                    entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()));
                left.extend(plain.map(|entry| entry.path()));
            } else if inside.iter().all(|hidden| fs::File::open(hidden).is_err()) {
                // In a sandbox, this process is kept from what is hidden itself, and cannot list what is beside it.
                self.0.push((part, Use::Read));
            }
            if left.len() + self.0.len() - before > PARTS_MAX {
                return Err(Error::TooManyParts { path, max: PARTS_MAX });
            }
        }
        Ok(())
    }

    pub(super) fn write(&mut self, path: &Path, hidden: &[PathBuf]) -> Result<(), Error> {
        let path = resolve(path)?;
        if let Some(hidden) = hidden.iter().find(|hidden| hidden.starts_with(&path)) {
            return Err(Error::Exposed { path, hidden: hidden.clone() });
        }
        let kind =
            fs::metadata(&path).map_err(|source| Error::Path { path: path.clone(), source })?.file_type();
        let stream = !kind.is_dir() && !kind.is_file();
        self.0.push((path, if stream { Use::Stream } else { Use::Write }));
        Ok(())
    }

    pub(super) fn stream(&mut self, path: &Path) -> Result<(), Error> {
        self.0.push((resolve(path)?, Use::Stream));
        Ok(())
    }
}

pub(super) fn resolve(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize().map_err(|source| Error::Path { path: path.to_owned(), source })
}

/// The ruleset, ready to be taken upon a process. Nothing where the kernel has no Landlock.
pub(super) fn ruleset(network: Network, grants: &Grants) -> Result<Option<OwnedFd>, Error> {
    let prepare = |reason: String| Error::Prepare { what: "the rules about files", reason };
    let failed = |error: landlock::RulesetError| prepare(error.to_string());
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    ruleset = ruleset.handle_access(AccessFs::from_all(NEWEST)).map_err(failed)?;
    if network == Network::Off {
        ruleset = ruleset.handle_access(AccessNet::from_all(NEWEST)).map_err(failed)?;
    }
    ruleset = ruleset.scope(make_bitflags!(Scope::{AbstractUnixSocket | Signal})).map_err(failed)?;
    let mut created = ruleset.create().map_err(failed)?;
    for (path, usage) in &grants.0 {
        // What has gone since it was listed needs no rule.
        let Ok(file) = PathFd::new(path) else { continue };
        let Ok(about) = fs::metadata(path) else { continue };
        let rule = PathBeneath::new(file, rights(*usage, about.is_dir()));
        created = created.add_rule(rule).map_err(|error| prepare(format!("{}: {error}", path.display())))?;
    }
    Ok(created.into())
}

/// The rights on a folder that is written, in the numbers of a kernel with this ABI.
pub(super) fn write_rights(abi: u32) -> u64 {
    let known = AccessFs::from_all(ABI::from(i32::try_from(abi).unwrap_or(i32::MAX)));
    (rights(Use::Write, true) & known).bits()
}

fn rights(usage: Use, folder: bool) -> BitFlags<AccessFs> {
    let read = AccessFs::from_read(NEWEST);
    let all = match usage {
        Use::Read => read,
        // Devices are made by nobody.
        Use::Write => AccessFs::from_all(NEWEST) & !make_bitflags!(AccessFs::{MakeChar | MakeBlock}),
        Use::Stream => make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate | IoctlDev}),
    };
    if folder { all } else { all & AccessFs::from_file(NEWEST) }
}
