//! The system calls by which a process encloses itself, made between fork and exec.
//!
//! Each function makes plain system calls with memory its caller owns: none allocates, takes a lock or keeps anything,
//! so all of them are async-signal-safe. What one changes is changed for the calling process for good.

#![expect(unsafe_code, reason = "these system calls have no safe form; each use says why it is sound")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use seccompiler::sock_filter;

fn done(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The Landlock ABI of the kernel; 0 where there is none.
pub(super) fn landlock_abi() -> u32 {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the kernel takes no attributes and answers a number.
    let abi =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION) };
    u32::try_from(abi).unwrap_or(0)
}

/// Takes a Landlock ruleset upon this thread.
pub(super) fn restrict_self(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes a live descriptor and no pointers.
    done(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) }).map(drop)
}

/// Neither set-user-ID programs nor file capabilities give anything any more.
pub(super) fn no_new_privileges() -> io::Result<()> {
    // SAFETY: takes numbers only.
    done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1_u64, 0_u64, 0_u64, 0_u64) }.into()).map(drop)
}

/// Puts a filter before every further system call.
pub(super) fn filter_calls(program: &[sock_filter]) -> io::Result<()> {
    #[repr(C)]
    struct Program {
        length: libc::c_ushort,
        first: *const sock_filter,
    }
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = Program { length, first: program.as_ptr() };
    // SAFETY: the structure has the layout of the kernel's sock_fprog, and its pointer and length are those of a live
    // slice of instructions with the kernel's layout; the kernel copies them before it returns.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0_u32, &raw const program) };
    done(result).map(drop)
}

pub(super) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: takes a number. The callers are processes of one thread, just forked, that hold no descriptors table or
    // memory in common with another by anything that the flags of namespaces undo.
    done(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// Writes a file of the kernel's in one call.
pub(super) fn write_file(path: &CStr, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the path ends in NUL; the descriptor is closed below and known to nobody else.
    let file = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    done(file.into())?;
    // SAFETY: the descriptor is open, the buffer is a live slice.
    let written = done(unsafe { libc::write(file, bytes.as_ptr().cast(), bytes.len()) } as libc::c_long);
    // SAFETY: closes what was opened above.
    unsafe { libc::close(file) };
    written.map(drop)
}

/// Mounts made from now on are seen by nobody else, and nobody else's here.
pub(super) fn part_mounts() -> io::Result<()> {
    let (none, flags) = (std::ptr::null::<libc::c_char>(), libc::MS_REC | libc::MS_PRIVATE);
    // SAFETY: all strings are null or end in NUL.
    done(unsafe { libc::mount(none, c"/".as_ptr(), none, flags, std::ptr::null()) }.into()).map(drop)
}

/// Mounts a path upon itself, so that it can be treated apart.
pub(super) fn bind(path: &CStr) -> io::Result<()> {
    let (none, flags) = (std::ptr::null::<libc::c_char>(), libc::MS_BIND | libc::MS_REC);
    // SAFETY: all strings are null or end in NUL.
    done(unsafe { libc::mount(path.as_ptr(), path.as_ptr(), none, flags, std::ptr::null()) }.into()).map(drop)
}

/// Mounts one folder over another.
pub(super) fn cover(place: &CStr, with: &CStr) -> io::Result<()> {
    let (none, flags) = (std::ptr::null::<libc::c_char>(), libc::MS_BIND);
    // SAFETY: all strings are null or end in NUL.
    done(unsafe { libc::mount(with.as_ptr(), place.as_ptr(), none, flags, std::ptr::null()) }.into())
        .map(drop)
}

/// Mounts an empty folder in memory over another.
pub(super) fn mount_memory(place: &CStr, options: &CStr) -> io::Result<()> {
    let (kind, flags) = (c"tmpfs", libc::MS_NOSUID | libc::MS_NODEV);
    // SAFETY: all strings end in NUL.
    let result =
        unsafe { libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) };
    done(result.into()).map(drop)
}

/// Adds a folder to a Landlock ruleset.
pub(super) fn grant_folder(ruleset: BorrowedFd<'_>, folder: &CStr, rights: u64) -> io::Result<()> {
    const PATH_BENEATH: libc::c_int = 1;
    #[repr(C, packed)]
    struct Rule {
        rights: u64,
        folder: libc::c_int,
    }
    // SAFETY: the path ends in NUL; the descriptor is closed below.
    let descriptor =
        unsafe { libc::open(folder.as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) };
    done(descriptor.into())?;
    let rule = Rule { rights, folder: descriptor };
    // SAFETY: the structure has the layout of the kernel's landlock_path_beneath_attr and outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), PATH_BENEATH, &raw const rule, 0_u32)
    };
    let result = done(result);
    // SAFETY: closes what was opened above.
    unsafe { libc::close(descriptor) };
    result.map(drop)
}

/// Whether a mount may be written, and how far down.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mounts {
    /// The mount of this path and all below it can only be read.
    AllReadOnly,
    /// The mount of this path alone can be written.
    OneWritable,
}

pub(super) fn set_mounts(path: &CStr, mounts: Mounts) -> io::Result<()> {
    const READ_ONLY: u64 = 1;
    const RECURSIVE: libc::c_uint = 0x8000;
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let (flags, attributes) = match mounts {
        Mounts::AllReadOnly => (RECURSIVE, Attributes { set: READ_ONLY, ..Attributes::default() }),
        Mounts::OneWritable => (0, Attributes { clear: READ_ONLY, ..Attributes::default() }),
    };
    // SAFETY: the path ends in NUL; the structure has the layout and the size of the kernel's mount_attr.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    done(result).map(drop)
}

pub(super) fn enter_folder(path: &CStr) -> io::Result<()> {
    // SAFETY: the path ends in NUL.
    done(unsafe { libc::chdir(path.as_ptr()) }.into()).map(drop)
}

/// Whether nothing on the mount of a path can be written.
pub(super) fn is_read_only(path: &CStr) -> bool {
    // SAFETY: statvfs is a structure of numbers, for which all zeroes is a value.
    let mut about: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends in NUL, the structure is live and writable.
    let result = unsafe { libc::statvfs(path.as_ptr(), &raw mut about) };
    result == 0 && about.f_flag & libc::ST_RDONLY != 0
}

/// Takes the loopback device of this network namespace up.
pub(super) fn raise_loopback() -> io::Result<()> {
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: libc::c_short,
        /// The kernel's structure is a union as large as this.
        rest: [u8; 22],
    }
    let mut name = [0; 16];
    name[..2].copy_from_slice(b"lo");
    let up = libc::c_short::try_from(libc::IFF_UP).map_err(|_| io::ErrorKind::InvalidInput)?;
    let request = Request { name, flags: up, rest: [0; 22] };
    // SAFETY: takes numbers only; the descriptor is closed below.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    done(socket.into())?;
    // SAFETY: the request is as large as the kernel's ifreq (40 bytes) and outlives the call, which only reads it.
    let result = done(unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw const request) }.into());
    // SAFETY: closes what was opened above.
    unsafe { libc::close(socket) };
    result.map(drop)
}

/// Gives up every capability, and the way to any: what is executed afterwards has none, whoever runs it.
pub(super) fn drop_capabilities() -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    const VERSION_3: u32 = 0x2008_0522;
    for capability in 0_u64..64 {
        // SAFETY: takes numbers only. Fails where the number is none, or where there is no privilege to lose.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0_u64, 0_u64, 0_u64) };
    }
    // SAFETY: takes numbers only. Where the kernel knows no ambient set, there is nothing to clear.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0_u64, 0_u64, 0_u64) };
    let (header, none) = (Header { version: VERSION_3, pid: 0 }, [0_u32; 6]);
    // SAFETY: header and data have the layout of version 3: two triples of 32 bits.
    done(unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) }).map(drop)
}

/// Whether no capability can come back with a program that is executed.
pub(super) fn capabilities_are_gone() -> bool {
    // SAFETY: takes numbers only; answers 1 for a capability that is in the bounding set.
    (0_u64..64).all(|number| unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0_u64, 0_u64, 0_u64) } != 1)
}

/// Nothing but standard input, output and error passes to the program that is executed next.
pub(crate) fn keep_no_descriptors() -> io::Result<()> {
    const FIRST: RawFd = 3;
    /// Looked through where the kernel cannot do it in one call.
    const LAST: RawFd = 1 << 16;
    // SAFETY: takes numbers only; descriptors are marked, none is closed under its owner.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST as libc::c_uint,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == 0 {
        return Ok(());
    }
    for descriptor in FIRST..LAST {
        // SAFETY: takes numbers only; fails on what is not open.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// What an attempt that a layer should refuse came to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attempt {
    OpenRootFolder,
    UdpSocket,
    UserNamespace,
}

/// Whether an attempt is refused.
pub(super) fn is_refused(attempt: Attempt) -> bool {
    // SAFETY: take numbers and a path that ends in NUL. What they open ends with the process that probes.
    let result = unsafe {
        match attempt {
            Attempt::OpenRootFolder => libc::open(c"/".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY),
            Attempt::UdpSocket => libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0),
            Attempt::UserNamespace => libc::unshare(libc::CLONE_NEWUSER),
        }
    };
    let refused = |errno: Option<i32>| matches!(errno, Some(libc::EPERM | libc::EACCES));
    result < 0 && refused(io::Error::last_os_error().raw_os_error())
}

/// Runs work in a forked process; answers the number it came to, or nothing where the process ended otherwise.
///
/// # Safety
///
/// The work runs after a fork in a process that may have had other threads: it must make system calls only, and neither
/// allocate nor wait for a lock.
pub(super) unsafe fn in_child(work: impl FnOnce() -> u8) -> io::Result<Option<u8>> {
    // SAFETY: the child only does what the caller vouches for, and ends without running anything else.
    let pid = unsafe { libc::fork() };
    done(pid.into())?;
    if pid == 0 {
        let answer = work();
        // SAFETY: ends the process at once; no destructor or exit handler of the parent's runs.
        unsafe { libc::_exit(answer.into()) };
    }
    let mut status: libc::c_int = 0;
    loop {
        // SAFETY: waits for the child made above; the pointer is to a live local.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if waited == pid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(libc::WIFEXITED(status).then(|| u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX)))
}
