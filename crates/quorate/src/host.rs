//! What the program takes from the machine around it: the time, randomness, its own path, signals.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use quorate_base::{Millis, RunId, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The time as it was when this was called, and as it has passed since: somebody who sets the wall clock moves no deadline of a run at work.
pub(crate) fn steady() -> impl Fn() -> Timestamp + Send + Sync {
    // Time in which the machine sleeps counts.
    let running = || {
        let at = clock_gettime(ClockId::Boottime);
        u64::try_from(at.tv_sec).unwrap_or(0) * 1000 + u64::try_from(at.tv_nsec).unwrap_or(0) / 1_000_000
    };
    let (from, since) = (now(), running());
    move || from.plus(Millis(running().saturating_sub(since)))
}

/// Bytes from the operating system's generator.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

/// A name for a new run that sorts by time: date, time of day (UTC, to the millisecond), and a random ending.
pub(crate) fn new_run_id(prefix: &str) -> anyhow::Result<RunId> {
    let at = now().to_string();
    let digits: String = at.chars().take(23).filter(|c| c.is_ascii_digit() || *c == 'T').collect();
    let [a, b, c] = random::<3>().context("no randomness from the operating system")?;
    Ok(RunId::new(format!("{}-{prefix}{a:02x}{b:02x}{c:02x}", digits.to_lowercase()))?)
}

/// The command that starts a validator: this program again.
pub(crate) fn validator_command() -> anyhow::Result<Vec<OsString>> {
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    Ok(vec![program.into_os_string(), "validator".into()])
}

/// The first argument with which this program is the stage of an agent's process that was started ahead. No command of a
/// person's.
pub(crate) const HOLD: &str = "hold-for-a-node";

/// The command that starts that stage: the small program beside this one, or this one where that is missing.
pub(crate) fn stage_command() -> anyhow::Result<Vec<OsString>> {
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let small = program.with_file_name("quorate-hold");
    Ok(if small.is_file() { vec![small.into()] } else { vec![program.into(), HOLD.into()] })
}

/// A flag that the first interrupt or termination signal sets; the second one ends the process at once.
pub(crate) fn stop_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let code = i32::from(quorate_base::ExitStatus::Interrupted.code());
        signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}
