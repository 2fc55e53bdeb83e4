//! What this machine offers for a sandbox, found out by trying it in a process of its own.

use std::path::Path;

use super::namespaces::{Maker, Namespaces};
use super::{Network, SandboxLayer, calls, files, raw};

/// The layers that work here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Offer {
    /// The ABI; 0 where it does not work.
    pub(super) landlock: u32,
    pub(super) seccomp: bool,
    pub(super) namespaces: Option<Maker>,
    /// Whether all capabilities can be given up for good.
    pub(super) capabilities: bool,
    /// The ABI the kernel claims.
    claimed: u32,
}

/// What a probing process answers.
const HOLDS: u8 = 1;
const DOES_NOT: u8 = 2;

impl Offer {
    pub(crate) fn probe() -> Self {
        let claimed = raw::landlock_abi();
        let landlock = if claimed >= files::ABI_MIN && landlock_holds() { claimed } else { 0 };
        let namespaces =
            [Maker::Privileged, Maker::AnyUser].into_iter().find(|maker| namespaces_hold(*maker));
        Self {
            landlock,
            seccomp: seccomp_holds(),
            namespaces,
            capabilities: capabilities_go(namespaces),
            claimed,
        }
    }

    pub(crate) fn has(&self, layer: SandboxLayer) -> bool {
        match layer {
            SandboxLayer::Landlock => self.landlock > 0,
            SandboxLayer::Seccomp => self.seccomp,
            SandboxLayer::Namespaces => self.namespaces.is_some(),
        }
    }

    /// What a layer does here, or why it does nothing.
    pub(crate) fn detail(&self, layer: SandboxLayer) -> String {
        match (layer, self.has(layer)) {
            (SandboxLayer::Landlock, true) => {
                let mut held = vec!["files"];
                let more = [
                    (files::ABI_TCP, "TCP"),
                    (files::ABI_SCOPE, "signals and abstract sockets"),
                    (files::ABI_UNIX, "sockets in the file system"),
                ];
                held.extend(more.iter().filter(|(abi, _)| self.landlock >= *abi).map(|(_, what)| *what));
                format!("ABI {}: {}", self.landlock, held.join(", "))
            }
            (SandboxLayer::Landlock, false) if self.claimed > 0 && self.claimed < files::ABI_MIN => {
                format!("ABI {} lets files be emptied; {} is needed", self.claimed, files::ABI_MIN)
            }
            (SandboxLayer::Seccomp, true) => "system calls are filtered".into(),
            (SandboxLayer::Namespaces, true) => match self.namespaces {
                Some(Maker::AnyUser) => "read-only mounts, no network; in a user namespace".into(),
                _ => "read-only mounts, no network".into(),
            },
            (_, false) => "tried, and nothing was refused".into(),
        }
    }
}

fn answers(work: impl FnOnce() -> bool) -> bool {
    // SAFETY of the callers' work: see each; all make system calls through `raw` with what was prepared before.
    let work = || if work() { HOLDS } else { DOES_NOT };
    #[expect(unsafe_code, reason = "forks; what runs in the child is below, and makes system calls only")]
    // SAFETY: the four closures given to this function call functions of `raw` and nothing else; those are
    // async-signal-safe, and what they need was allocated before the fork.
    let answer = unsafe { raw::in_child(work) };
    matches!(answer, Ok(Some(HOLDS)))
}

fn landlock_holds() -> bool {
    use std::os::fd::AsFd;
    let Ok(Some(ruleset)) = files::ruleset(Network::Off, &files::Grants::default()) else { return false };
    answers(|| {
        raw::no_new_privileges().is_ok()
            && raw::restrict_self(ruleset.as_fd()).is_ok()
            && raw::is_refused(raw::Attempt::OpenRootFolder)
    })
}

fn seccomp_holds() -> bool {
    let Ok(filter) = calls::filter(Network::Off, false) else { return false };
    answers(|| {
        raw::no_new_privileges().is_ok()
            && raw::filter_calls(&filter).is_ok()
            && raw::is_refused(raw::Attempt::UdpSocket)
            && raw::is_refused(raw::Attempt::UserNamespace)
    })
}

fn namespaces_hold(maker: Maker) -> bool {
    let Ok(namespaces) = Namespaces::prepare(maker, Network::Loopback, &[], Path::new("/"), None) else {
        return false;
    };
    answers(|| namespaces.enter().is_ok() && raw::is_read_only(c"/"))
}

fn capabilities_go(maker: Option<Maker>) -> bool {
    let namespaces =
        maker.and_then(|maker| Namespaces::prepare(maker, Network::Off, &[], Path::new("/"), None).ok());
    answers(|| {
        namespaces.as_ref().is_none_or(|namespaces| namespaces.enter().is_ok())
            && raw::drop_capabilities().is_ok()
            && raw::capabilities_are_gone()
    })
}
