//! What a worktree needs beside its files: ports nobody else has, the files git does not track, and caches to share.
//!
//! [`spec::WorktreeSpec`] is what a swarm file says under `[worktree]`. The node asks for each thing when it launches an
//! agent; [`ports::Block`] is given back when it is dropped, or by the system when the process that holds it is killed.
//! Validators get none of this: what they judge is the tree and nothing beside it.

pub mod caches;
pub mod include;
pub mod leftover;
pub(crate) mod nofollow;
pub mod ports;
pub mod spec;

use std::io;
use std::path::{Path, PathBuf};

use quorate_base::ByteCount;

use crate::git;

#[cfg(test)]
mod tests;

/// An agent cannot be given what its worktree needs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Git(#[from] git::Error),
    #[error(
        "the folder {} in which port blocks are kept {reason}; mend that, name another with XDG_STATE_HOME, or write `ports-each = 0` under [worktree]",
        path.display()
    )]
    PortsFolder { path: PathBuf, reason: String },
    #[error(
        "no port can be tried on this machine: {0}; where agents need none, write `ports-each = 0` under [worktree]"
    )]
    NoNetwork(io::Error),
    #[error("{} holds {bytes} bytes; a list of patterns may hold {max}", path.display())]
    PatternsTooLarge { path: PathBuf, bytes: u64, max: u64 },
    #[error(
        "the patterns of `.worktreeinclude` and `include` match {found} files; at most {max} are copied: name fewer"
    )]
    TooManyFiles { found: usize, max: usize },
    #[error(
        "the files that `.worktreeinclude` and `include` match hold more than {max}, counted up to {}; name fewer, or raise `include-max` under [worktree]",
        path.display()
    )]
    TooManyBytes { path: PathBuf, max: ByteCount },
    #[error(
        "{} is a link to {}, which is not below the repository, so it is not copied; take it out of `.worktreeinclude` with `!{}`, or put a file in its place",
        path.display(), target.display(), path.display()
    )]
    LinkLeaves { path: PathBuf, target: PathBuf },
    #[error(
        "{} is reached through a symbolic link, and none is followed; take it out of `.worktreeinclude`, or put a folder in the link's place",
        path.display()
    )]
    ThroughLink { path: PathBuf },
    #[error(
        "{} is a git repository of its own, which is not copied; take it out of `.worktreeinclude` with `!{}`",
        path.display(), path.display()
    )]
    Nested { path: PathBuf },
    #[error("{} is neither a file, a link nor a folder; take it out of `.worktreeinclude`", path.display())]
    Special { path: PathBuf },
}

impl Error {
    /// The disk is full or cannot be written: with room again, the run goes on.
    pub fn is_disk(&self) -> bool {
        match self {
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
            ),
            Self::Git(error) => error.is_disk(),
            _ => false,
        }
    }
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.to_owned(), source }
}
