//! Namespaces: mounts that cannot be written, and a network that leads nowhere.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::raw::{self, Mounts};
use super::{Error, Network};

/// Who may make namespaces here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    /// This process has the privilege.
    Privileged,
    /// Anybody, within a user namespace in which the user is who they were.
    AnyUser,
}

/// Where programs share memory by name: a folder of their own, small, for it does not count as the memory of any process.
pub(super) const SHARED_MEMORY: &std::ffi::CStr = c"/dev/shm";
const SHARED_MEMORY_OPTIONS: &std::ffi::CStr = c"mode=1777,size=64m,nr_inodes=4096";
const TEMPORARY: &std::ffi::CStr = c"/tmp";

/// Everything a process needs to enter namespaces of its own.
#[derive(Debug)]
pub(super) struct Namespaces {
    flags: libc::c_int,
    /// For a user namespace: files of the kernel's, and what is written to them.
    maps: Vec<(CString, Vec<u8>)>,
    writable: Vec<CString>,
    cwd: CString,
    /// Takes the place of `/tmp`.
    temporary: Option<CString>,
    /// Whether there is a folder for shared memory to take the place of.
    shared_memory: bool,
    loopback: bool,
}

impl Namespaces {
    /// `writable` and `cwd` are resolved paths.
    pub(super) fn prepare(
        maker: Maker,
        network: Network,
        writable: &[&Path],
        cwd: &Path,
        temporary: Option<&Path>,
    ) -> Result<Self, Error> {
        let own = libc::CLONE_NEWNS | libc::CLONE_NEWIPC;
        let net = if network == Network::Open { 0 } else { libc::CLONE_NEWNET };
        let user = if maker == Maker::AnyUser { libc::CLONE_NEWUSER } else { 0 };
        let mut writable = writable.iter().map(|path| c_path(path)).collect::<Result<Vec<_>, _>>()?;
        // A folder before what is in it: mounting over it would cover that.
        writable.sort();
        writable.dedup();
        let maps = if maker == Maker::AnyUser { identity() } else { Vec::new() };
        Ok(Self {
            flags: own | net | user,
            maps,
            writable,
            cwd: c_path(cwd)?,
            temporary: temporary.map(c_path).transpose()?,
            shared_memory: Path::new("/dev/shm").is_dir(),
            loopback: matches!(network, Network::Loopback | Network::Listed),
        })
    }

    /// Whether what is mounted over the folder for shared memory is its own.
    pub(super) fn has_shared_memory(&self) -> bool {
        self.shared_memory
    }

    /// Enters them; async-signal-safe.
    pub(super) fn enter(&self) -> io::Result<()> {
        raw::unshare(self.flags)?;
        for (file, text) in &self.maps {
            raw::write_file(file, text)?;
        }
        raw::part_mounts()?;
        for path in &self.writable {
            raw::bind(path)?;
        }
        if let Some(temporary) = &self.temporary {
            raw::cover(TEMPORARY, temporary)?;
        }
        raw::set_mounts(c"/", Mounts::AllReadOnly)?;
        if self.temporary.is_some() {
            raw::set_mounts(TEMPORARY, Mounts::OneWritable)?;
        }
        if self.shared_memory {
            raw::mount_memory(SHARED_MEMORY, SHARED_MEMORY_OPTIONS)?;
        }
        for path in &self.writable {
            raw::set_mounts(path, Mounts::OneWritable)?;
        }
        // The folder held so far is the one below the new mount.
        raw::enter_folder(&self.cwd)?;
        if self.loopback {
            raw::raise_loopback()?;
        }
        Ok(())
    }
}

/// The user and the group as they are, and nobody else: files keep their owner.
fn identity() -> Vec<(CString, Vec<u8>)> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let file = |path: &std::ffi::CStr, text: String| (path.to_owned(), text.into_bytes());
    vec![
        file(c"/proc/self/setgroups", "deny".into()),
        file(c"/proc/self/uid_map", format!("{user} {user} 1")),
        file(c"/proc/self/gid_map", format!("{group} {group} 1")),
    ]
}

fn c_path(path: &Path) -> Result<CString, Error> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|error| Error::Path { path: path.to_owned(), source: error.into() })
}
