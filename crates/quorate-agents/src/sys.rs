//! The two system calls that safe crates do not offer: running code between fork and exec, and waiting with usage.

#![expect(unsafe_code, reason = "pre_exec and wait4 have no safe form; each use says why it is sound")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::ExitStatus;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Resource, Rlimit, Signal};

use crate::sandbox::{Entrant, keep_no_descriptors};

/// What a child does to itself before it becomes the program.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The `cgroup.procs` of its control groups.
    pub(crate) groups: Vec<std::fs::File>,
    /// Keeps what its descendants leave behind below itself, for as long as it lives.
    pub(crate) subreaper: bool,
    /// Tasks its user may have, which the kernel does not hold root to.
    pub(crate) user_tasks: Option<u64>,
    /// Largest file it may write.
    pub(crate) file_bytes: u64,
    pub(crate) data_bytes: u64,
    pub(crate) cpu_seconds: u64,
    pub(crate) open_files: u64,
    pub(crate) sandbox: Option<Entrant>,
    /// A descriptor that the program gets beside standard input, output and error.
    pub(crate) passed: Option<RawFd>,
}

/// Arranges for a child to start in a session of its own, die with this thread, and be limited.
pub(crate) fn prepare(command: &mut std::process::Command, setup: Setup) {
    let before_exec = move || {
        for group in &setup.groups {
            rustix::io::write(group, b"0")?;
        }
        if setup.subreaper {
            rustix::process::set_child_subreaper(Some(Pid::INIT))?;
        }
        first_to_go();
        rustix::process::setsid()?;
        let die_with_parent = || rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        die_with_parent()?;
        keep_no_descriptors()?;
        if let Some(passed) = setup.passed {
            pass(passed)?;
        }
        limit(Resource::Data, setup.data_bytes)?;
        limit(Resource::Cpu, setup.cpu_seconds)?;
        limit(Resource::Fsize, setup.file_bytes)?;
        if let Some(tasks) = setup.user_tasks {
            limit(Resource::Nproc, tasks)?;
        }
        limit(Resource::Core, 0)?;
        if let Some(sandbox) = &setup.sandbox {
            sandbox.enter()?;
            // The kernel forgets it where credentials change.
            die_with_parent()?;
        }
        // Last: until it executes, this process has the descriptors of its parent, which may be more.
        limit(Resource::Nofile, setup.open_files)?;
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe functions may run. The closure makes plain system calls
    // (open, write, setsid, prctl, getrlimit, setrlimit) through rustix and fcntl, and those of `sandbox::raw`, allocates nothing, takes no lock and touches no memory
    // but what it owns; an `Errno` becomes an `io::Error` without allocation.
    unsafe {
        command.pre_exec(before_exec);
    }
}

/// Where the machine runs out of memory, the kernel takes this process and its children before anything else.
fn first_to_go() {
    // Without `/proc` there is nothing to say it with, and the limits hold all the same.
    if let Ok(file) =
        rustix::fs::open(c"/proc/self/oom_score_adj", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
    {
        let _ = rustix::io::write(&file, b"1000");
    }
}

/// Lets a descriptor go through the next exec.
fn pass(descriptor: RawFd) -> io::Result<()> {
    // SAFETY: takes numbers only; the descriptor's owner lives in the parent until the child has executed.
    let done = unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes a descriptor that this process was started with, and keeps it from going any further.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only; fails where nothing is open by this number.
    let open = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if open < 0 || number <= libc::STDERR_FILENO {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: it is open, and nothing in this process owns it: the caller asks before it opens anything, for a number
    // that whoever started the process has put into its environment.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Lowers a limit; never raises it beyond what this process has itself.
fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let hard = rustix::process::getrlimit(resource).maximum;
    let value = hard.map_or(value, |hard| hard.min(value));
    rustix::process::setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })?;
    Ok(())
}

/// What a process and the children it waited for used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_ms: u64,
    pub(crate) peak_bytes: u64,
}

/// Takes the exit status of a child that has ended, with what it used; blocks until it has.
pub(crate) fn wait(pid: u32) -> io::Result<(ExitStatus, Usage)> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut status: libc::c_int = 0;
    // SAFETY: `rusage` is a plain structure of integers, for which all zeroes is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live, writable locals of the types wait4 fills in.
        let done = unsafe { libc::wait4(pid, &mut status, 0, &mut usage) };
        if done == pid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    let ms = |time: libc::timeval| {
        u64::try_from(time.tv_sec).unwrap_or(0) * 1000 + u64::try_from(time.tv_usec).unwrap_or(0) / 1000
    };
    let peak_bytes = u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024;
    Ok((ExitStatus::from_raw(status), Usage { cpu_ms: ms(usage.ru_utime) + ms(usage.ru_stime), peak_bytes }))
}

/// Ends this process the hard way, for tests of survival: no destructor, no flush.
pub fn kill_self() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
}

/// Lets the calling thread go before all others when it has something to do, if the kernel lets it.
///
/// Niceness would not do: between sessions it says nothing where the kernel groups processes by session.
pub(crate) fn urgent() {
    // SAFETY: `sched_param` is a plain structure of integers, for which all zeroes is a value.
    let mut parameter: libc::sched_param = unsafe { std::mem::zeroed() };
    parameter.sched_priority = 1;
    // SAFETY: the pointer is to a live local of the type the call reads; 0 names the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &parameter) };
}
