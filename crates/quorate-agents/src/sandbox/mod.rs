//! What a process may reach: nothing that is not said.
//!
//! Three layers of the kernel hold it, each for what the others cannot see. *Landlock* knows files, TCP, signals and
//! abstract sockets. *Seccomp* knows system calls: those that look into other processes, load code into the kernel or
//! make sockets. *Namespaces* take the network away and make everything read-only that may not be written, modes and
//! owners of files included, which Landlock does not look at. What a machine offers is found out by trying it
//! (`offer`); what a process needs is prepared before the fork (`enclosure`); after it, only system calls are made
//! (`raw`).
//!
//! A connection to a socket in the file system cannot be told from any other by a filter, and Landlock has a rule for
//! it only from ABI 9 on: below that, a process in a sandbox makes no Unix sockets but pairs.
//!
//! Read [`Sandbox`] first.

mod calls;
mod enclosure;
mod files;
mod namespaces;
mod offer;
pub mod places;
mod raw;

pub(crate) use enclosure::{Enclosure, Entrant};
pub(crate) use offer::Offer;
pub(crate) use raw::keep_no_descriptors;

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::egress::Egress;

/// What a process may reach. The program itself and the files that receive its output need not be named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// Read and executed, with everything below.
    pub read: Vec<PathBuf>,
    /// Read, executed and changed, with everything below.
    pub write: Vec<PathBuf>,
    /// Not read although below a path of `read`; nothing below a path of `write` can be hidden.
    pub hidden: Vec<PathBuf>,
    /// One of `write` that takes the place of `/tmp`, where mounts can be made and nothing that is granted lies below it.
    pub temporary: Option<PathBuf>,
    pub network: Network,
    /// Where the network is [listed](Network::Listed): the list, and where refusals are told. Nothing can be connected to while it is
    /// empty.
    pub egress: Egress,
    /// Without these the process is not started.
    pub require: Vec<SandboxLayer>,
}

/// What a process may connect to. It is held, or the process is not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Nothing.
    #[default]
    Off,
    /// What it has started itself, on a loopback device of its own.
    Loopback,
    /// What it has started itself, and the hosts on its list, through a proxy of its own.
    Listed,
    /// What this process may connect to.
    Open,
}

impl Network {
    pub const ALL: [(&'static str, Self); 4] =
        [("off", Self::Off), ("loopback", Self::Loopback), ("listed", Self::Listed), ("open", Self::Open)];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, network)| *network == self).map_or("off", |(name, _)| name)
    }
}

/// One of the mechanisms of the kernel that hold a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SandboxLayer {
    /// Files, signals and abstract sockets; TCP where the network is off.
    Landlock,
    /// System calls.
    Seccomp,
    /// Mounts that are read-only, and a network without a way out.
    Namespaces,
}

impl SandboxLayer {
    pub const ALL: [(&'static str, Self); 3] =
        [("landlock", Self::Landlock), ("seccomp", Self::Seccomp), ("namespaces", Self::Namespaces)];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, layer)| *layer == self).map_or("landlock", |(name, _)| name)
    }

    /// How to get it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Landlock => {
                "use Linux 6.2 or newer with `landlock` in the kernel's list of security modules (boot option `lsm=`)"
            }
            Self::Seccomp => "use a kernel with CONFIG_SECCOMP_FILTER, on x86_64, aarch64 or riscv64",
            Self::Namespaces => {
                "allow user namespaces: sysctl kernel.unprivileged_userns_clone=1 (Debian), \
                 kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu); inside another sandbox they stay closed"
            }
        }
    }
}

impl fmt::Display for SandboxLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A sandbox cannot be had as it was asked for; the process was not started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the sandbox requires `{layer}`, which does not work here ({reason}); {}, or take it out of `require` and rely on the other layers",
        layer.hint()
    )]
    LayerMissing { layer: SandboxLayer, reason: String },
    #[error(
        "the sandbox keeps the network `{network}`, and nothing here can hold that; {}, or ask for `network = \"{instead}\"`",
        layer.hint()
    )]
    Network { network: Network, layer: SandboxLayer, instead: Network },
    #[error("the sandbox names {}: {source}; create it, or take it out of `read` and `write`", path.display())]
    Path { path: PathBuf, source: io::Error },
    #[error("the sandbox names {}, in which {} lies, which stays hidden; name the folders beside it instead", path.display(), hidden.display())]
    Exposed { path: PathBuf, hidden: PathBuf },
    #[error(
        "what is hidden in {} splits it into more than {max} parts; name fewer folders to read", path.display()
    )]
    TooManyParts { path: PathBuf, max: usize },
    #[error("the sandbox could not be prepared: {what}: {reason}")]
    Prepare { what: &'static str, reason: String },
    #[error(
        "the process could not enter its sandbox: {step}: {source}; `quorate doctor` shows which layers work here"
    )]
    Enter { step: &'static str, source: io::Error },
}
