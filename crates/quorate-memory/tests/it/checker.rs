//! Whether a history of one register is linearizable.
//!
//! The algorithm of Wing and Gong (Testing and Verifying Concurrent Objects, 1993) with the memory of configurations that Lowe added
//! (Testing for linearizability, 2017): operations are tried in every order that respects real time, and a set of operations done with
//! the state they lead to is tried once. Keys are independent, so each key's history is checked alone (Horn and Kroening,
//! Faster linearizability checking via P-compositionality, 2015).

use std::collections::HashSet;

/// An operation on a register that holds a version; 0 where nothing is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// Found this version.
    Read(u64),
    /// Made it this version.
    Write(u64),
    /// Found the first, and made it the second.
    Swap(u64, u64),
    /// Expected the first and was refused, because the second was there.
    Refused(u64, u64),
}

/// An operation, and when it began and ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) op: Op,
    pub(crate) began: u64,
    pub(crate) ended: u64,
}

fn step(state: u64, op: Op) -> Option<u64> {
    match op {
        Op::Read(found) => (found == state).then_some(state),
        Op::Write(new) => Some(new),
        Op::Swap(expected, new) => (expected == state).then_some(new),
        Op::Refused(expected, found) => (found == state && expected != found).then_some(state),
    }
}

/// Whether some order of the operations, in which none comes before one that had ended when it began, explains what each found.
pub(crate) fn is_linearizable(history: &[Event]) -> bool {
    let mut events = history.to_vec();
    events.sort_by_key(|event| event.began);
    let mut tried: HashSet<(Vec<u64>, u64)> = HashSet::new();
    // Done operations as bits, the state, and the next candidate to try from there.
    let mut done = vec![0_u64; events.len().div_ceil(64)];
    let mut path: Vec<(usize, u64)> = Vec::new();
    let (mut state, mut from, mut first) = (0, 0, 0);
    let is_done = |done: &[u64], at: usize| done[at / 64] >> (at % 64) & 1 == 1;
    loop {
        while first < events.len() && is_done(&done, first) {
            first += 1;
        }
        if first == events.len() {
            return true;
        }
        // Whatever comes next began before the first of those left has ended.
        let mut earliest_end = u64::MAX;
        let mut next = None;
        for (at, event) in events.iter().enumerate().skip(first) {
            if event.began > earliest_end {
                break;
            }
            if is_done(&done, at) {
                continue;
            }
            earliest_end = earliest_end.min(event.ended);
            if at < from {
                continue;
            }
            if let Some(new) = step(state, event.op) {
                done[at / 64] |= 1 << (at % 64);
                if tried.insert((done.clone(), new)) {
                    next = Some((at, new));
                    break;
                }
                done[at / 64] &= !(1 << (at % 64));
            }
        }
        if let Some((at, new)) = next {
            path.push((at, state));
            (state, from) = (new, 0);
            continue;
        }
        let Some((at, before)) = path.pop() else {
            return false;
        };
        done[at / 64] &= !(1 << (at % 64));
        (state, from, first) = (before, at + 1, 0);
    }
}

#[test]
fn histories_are_told_apart() {
    let event = |op, began, ended| Event { op, began, ended };
    let check = |events: &[Event]| is_linearizable(events);
    assert!(check(&[]));
    assert!(check(&[event(Op::Write(1), 0, 10), event(Op::Read(0), 1, 2), event(Op::Read(1), 3, 4)]));
    // A new value was seen, and then the old one.
    assert!(!check(&[event(Op::Write(1), 0, 10), event(Op::Read(1), 1, 2), event(Op::Read(0), 3, 4)]));
    // A write that had ended was not seen.
    assert!(!check(&[event(Op::Write(1), 0, 1), event(Op::Read(0), 2, 3)]));
    // Two swaps of the same version.
    assert!(!check(&[event(Op::Swap(0, 1), 0, 9), event(Op::Swap(0, 2), 0, 9)]));
    assert!(check(&[
        event(Op::Swap(0, 1), 0, 9),
        event(Op::Swap(1, 2), 0, 9),
        event(Op::Refused(0, 2), 5, 9)
    ]));
    assert!(!check(&[event(Op::Write(1), 0, 1), event(Op::Refused(0, 2), 2, 3)]));
}
