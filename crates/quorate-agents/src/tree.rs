//! The processes below a process, read from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

/// One process, as `/proc/PID/stat` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) parent: u32,
    pub(crate) session: u32,
    /// A zombie: it has ended and waits to be noticed.
    pub(crate) ended: bool,
    pub(crate) cpu_ticks: u64,
    pub(crate) threads: u64,
    pub(crate) resident_pages: u64,
    /// Start time, which tells it from a later process with the same number.
    pub(crate) started: u64,
}

/// Reads one process; nothing where it is gone.
pub(crate) fn process(pid: u32) -> Option<Process> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The fields after the command's name, which may itself hold anything, a closing parenthesis too.
fn parse(stat: &[u8]) -> Option<Process> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(stat.get(end + 2..)?).ok()?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let number = |i: usize| fields.get(i).and_then(|field| field.parse::<u64>().ok());
    Some(Process {
        ended: matches!(fields.first(), Some(&("Z" | "X"))),
        parent: u32::try_from(number(1)?).ok()?,
        session: u32::try_from(number(3)?).ok()?,
        // Own and waited-for children's, user and system.
        cpu_ticks: number(11)? + number(12)? + number(13)? + number(14)?,
        threads: number(17).unwrap_or(1).max(1),
        started: number(19)?,
        resident_pages: number(21).unwrap_or(0),
    })
}

/// How many processes and threads the machine has, at the price of reading one line.
pub(crate) fn tasks() -> u64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let total = load.split(' ').nth(3).and_then(|tasks| tasks.split_once('/')?.1.parse().ok());
    total.unwrap_or(0)
}

/// Every process there is, the lowest number first, as they are while this goes on: a process that is started
/// meanwhile comes later, unless numbers have begun again.
pub(crate) fn each(mut visit: impl FnMut(u32, &Process)) {
    let Ok(entries) = fs::read_dir("/proc") else { return };
    for pid in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        if let Some(process) = process(pid) {
            visit(pid, &process);
        }
    }
}

/// Every process there is.
pub(crate) fn all() -> BTreeMap<u32, Process> {
    let mut all = BTreeMap::new();
    each(|pid, process| {
        all.insert(pid, *process);
    });
    all
}

/// The processes there are, read no earlier than `since`. Those who ask at the same time share one reading.
pub(crate) fn all_since(since: Instant) -> Arc<BTreeMap<u32, Process>> {
    /// The last reading and when it began, and whether another goes on.
    type Reading = (Option<(Instant, Arc<BTreeMap<u32, Process>>)>, bool);
    static READING: Mutex<Reading> = Mutex::new((None, false));
    static DONE: Condvar = Condvar::new();
    let mut reading = READING.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        match &*reading {
            (Some((began, all)), _) if *began >= since => return Arc::clone(all),
            (_, true) => reading = DONE.wait(reading).unwrap_or_else(PoisonError::into_inner),
            (_, false) => {
                reading.1 = true;
                drop(reading);
                let began = Instant::now();
                let all = Arc::new(all());
                reading = READING.lock().unwrap_or_else(PoisonError::into_inner);
                *reading = (Some((began, all)), false);
                DONE.notify_all();
            }
        }
    }
}

/// The processes that belong to the tree of `leader`: below it, in its session, or known to have been before.
///
/// `known` grows with what is found, so that a process that leaves session and parent behind stays a member.
pub(crate) fn members(leader: u32, known: &mut BTreeMap<u32, u64>) -> BTreeMap<u32, Process> {
    let all = all();
    let still =
        |(pid, started): &(&u32, &u64)| all.get(pid).is_some_and(|process| process.started == **started);
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut sessions: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (pid, process) in &all {
        children.entry(process.parent).or_default().push(*pid);
        sessions.entry(process.session).or_default().push(*pid);
    }
    let mut next: Vec<u32> = known.iter().filter(still).map(|(pid, _)| *pid).chain([leader]).collect();
    let mut members = BTreeSet::new();
    while let Some(pid) = next.pop() {
        if pid == std::process::id() || !members.insert(pid) {
            continue;
        }
        // What it has started, and the session it leads.
        next.extend(children.get(&pid).into_iter().chain(sessions.get(&pid)).flatten());
    }
    let found: BTreeMap<u32, Process> =
        members.iter().filter_map(|pid| Some((*pid, *all.get(pid)?))).collect();
    known.clear();
    known.extend(found.iter().map(|(pid, process)| (*pid, process.started)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_may_hold_anything() {
        let stat = b"7 (a) S 9 (x) R 3 4 5 0 -1 0 0 0 0 0 10 20 30 40 0 0 0 0 555 1000 77 0";
        let process = parse(stat).unwrap();
        assert_eq!((process.parent, process.session, process.cpu_ticks), (3, 5, 100));
        assert_eq!((process.started, process.resident_pages, process.ended), (555, 77, false));
        assert_eq!(process.threads, 1);
        for broken in [&b""[..], b"1 (x", b"1 (x)", b"1 (x) S", b"1 (x) S a b c"] {
            assert_eq!(parse(broken), None);
        }
    }

    #[test]
    fn this_process_is_found() {
        let own = process(std::process::id()).unwrap();
        assert!(own.resident_pages > 0 && !own.ended);
    }
}
