//! The graph of who waits for whom.

use std::collections::{BTreeMap, BTreeSet};

use quorate_base::TaskId;

use super::leases::Leases;

/// Whether `from` waits for `to`, through however many others, those that stand before it in line included.
pub(super) fn leads(leases: &Leases, from: &TaskId, to: &TaskId) -> bool {
    let mut seen = BTreeSet::from([from]);
    let mut next = vec![from];
    while let Some(holder) = next.pop() {
        let Some(at) = leases.line.iter().position(|request| request.holder == *holder) else { continue };
        let held = leases.held_by_others(&leases.line[at]).map(|(other, _)| other);
        for other in held.chain(leases.before(at).map(|(other, _)| other)) {
            if other == to {
                return true;
            }
            if seen.insert(other) {
                next.push(other);
            }
        }
    }
    false
}

/// Holders each of which waits for something the next one holds, and the last for the first, if there are such.
pub(super) fn circle(leases: &Leases) -> Option<Vec<TaskId>> {
    let edges: BTreeMap<&TaskId, BTreeSet<&TaskId>> = leases
        .line
        .iter()
        .map(|request| (&request.holder, leases.held_by_others(request).map(|(other, _)| other).collect()))
        .collect();
    let mut done: BTreeSet<&TaskId> = BTreeSet::new();
    for start in edges.keys() {
        // Depth first, with the way that led here.
        let mut way: Vec<(&TaskId, Vec<&TaskId>)> = Vec::new();
        let mut step = Some(*start);
        loop {
            if let Some(holder) = step.take() {
                if let Some(at) = way.iter().position(|(on_way, _)| *on_way == holder) {
                    return Some(way[at..].iter().map(|(holder, _)| (*holder).clone()).collect());
                }
                if done.insert(holder) {
                    let others = edges.get(holder).into_iter().flatten().copied().collect();
                    way.push((holder, others));
                }
            }
            match way.last_mut() {
                None => break,
                Some((_, others)) => match others.pop() {
                    Some(other) => step = Some(other),
                    None => drop(way.pop()),
                },
            }
        }
    }
    None
}
