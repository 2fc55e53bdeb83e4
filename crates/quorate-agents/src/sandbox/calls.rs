//! Seccomp: the system calls a process in a sandbox does without.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use super::{Error, Network};

/// Refused whatever their arguments. Most need privileges anyway; a hole in the kernel does not ask for any.
const REFUSED: [libc::c_long; 49] = [
    // Looking into other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_process_madvise,
    // Code for the kernel.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_bpf,
    // What files are where, and namespaces: the way out of this one, and into others.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    // Keys, which all processes of a user share.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // Much code in the kernel, and ways around filters of system calls.
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // The machine as a whole.
    libc::SYS_reboot,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_vhangup,
];

/// Flags of `clone` that make namespaces.
const NAMESPACES: [libc::c_int; 8] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
    0x80, // time
];

/// Controls of a terminal that type in the name of whoever sits before it.
const TYPING: [u64; 2] = [libc::TIOCSTI, libc::TIOCLINUX];

/// Numbers from here on are those of another calling convention of the same processor, which no list above names.
const OTHER_CONVENTION: u32 = 0x4000_0000;

/// The filter. `unix` says whether something else holds which sockets in the file system can be connected to.
pub(super) fn filter(network: Network, unix: bool) -> Result<BpfProgram, Error> {
    let prepare = |reason: String| Error::Prepare { what: "the filter of system calls", reason };
    compile(network, unix).map_err(|error| prepare(error.to_string()))
}

fn compile(network: Network, unix: bool) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let flag = |flag: libc::c_int| {
        let flag = u64::from(flag.unsigned_abs());
        let op = SeccompCmpOp::MaskedEq(flag);
        SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Dword, op, flag)?])
    };
    rules.insert(libc::SYS_clone, NAMESPACES.into_iter().map(flag).collect::<Result<_, _>>()?);
    let typing = |control: u64| {
        let op = SeccompCmpOp::Eq;
        SeccompRule::new(vec![SeccompCondition::new(1, SeccompCmpArgLen::Dword, op, control)?])
    };
    rules.insert(libc::SYS_ioctl, TYPING.into_iter().map(typing).collect::<Result<_, _>>()?);
    let mut families = match network {
        Network::Off => Vec::new(),
        // Netlink tells a program which addresses it has.
        Network::Loopback | Network::Listed | Network::Open => {
            vec![libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK]
        }
    };
    if unix {
        families.push(libc::AF_UNIX);
    }
    let other_than = |family: &libc::c_int| {
        let family = u64::from(family.unsigned_abs());
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)
    };
    let other = families.iter().map(other_than).collect::<Result<Vec<_>, _>>()?;
    let sockets = if other.is_empty() { Vec::new() } else { vec![SeccompRule::new(other)?] };
    rules.insert(libc::SYS_socket, sockets);
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()?;
    Ok(prelude().into_iter().chain(filter).collect())
}

/// What the compiler of filters has no words for: numbers of another convention are refused, and `clone3`, whose flags
/// lie in memory, is answered as by a kernel that does not have it; libraries then take `clone`.
fn prelude() -> [sock_filter; 5] {
    const LOAD: u16 = 0x20;
    const IF_EQUAL: u16 = 0x15;
    const IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let answer = |errno: libc::c_int| step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs());
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(u32::MAX);
    [
        step(LOAD, 0, 0, 0),
        step(IF_AT_LEAST, 1, 0, OTHER_CONVENTION),
        // To the answer after the next, or past both.
        step(IF_EQUAL, 1, 2, clone3),
        answer(libc::EPERM),
        answer(libc::ENOSYS),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_is_short_enough_for_the_kernel() {
        for network in Network::ALL {
            for unix in [false, true] {
                let length = filter(network.1, unix).unwrap().len();
                assert!((50..4096).contains(&length), "{network:?}: {length} instructions");
            }
        }
    }
}
