//! What concurrent readers and writers see.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_memory::{Class, Error, Store};

use crate::checker::{Event, Op, is_linearizable};
use crate::place::{notes, open};

const KEYS: u64 = 5;

fn record(
    stores: &[Store],
    threads: usize,
    each: usize,
    seed: u64,
    class: Class,
) -> BTreeMap<u64, Vec<Event>> {
    let clock = AtomicU64::new(0);
    let mut histories: BTreeMap<u64, Vec<Event>> = BTreeMap::new();
    std::thread::scope(|scope| {
        let clock = &clock;
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let space = notes(&stores[thread % stores.len()]).with_class(class);
                scope.spawn(move || {
                    let mut random = seed ^ (thread as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let mut events = Vec::new();
                    let mut last = 0;
                    for _ in 0..each {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        let key = random % KEYS;
                        let name = format!("k{key}");
                        let began = clock.fetch_add(1, Ordering::SeqCst);
                        let op = match random >> 32 & 7 {
                            0 => Op::Write(space.put(name.as_str(), "v").unwrap().version),
                            1 => {
                                // Absent is version 0, however often it was removed.
                                space.delete(name.as_str()).unwrap();
                                Op::Write(0)
                            }
                            2 | 3 => match space.compare_and_set(name.as_str(), last, "w") {
                                Ok(commit) => Op::Swap(last, commit.version),
                                Err(Error::Conflict { expected, found, .. }) => Op::Refused(expected, found),
                                Err(error) => panic!("{error}"),
                            },
                            _ => {
                                let found = space.get(name.as_bytes()).unwrap();
                                last = found.map_or(0, |entry| entry.version());
                                Op::Read(last)
                            }
                        };
                        let ended = clock.fetch_add(1, Ordering::SeqCst);
                        events.push((key, Event { op, began, ended }));
                    }
                    events
                })
            })
            .collect();
        for worker in workers {
            for (key, event) in worker.join().unwrap() {
                histories.entry(key).or_default().push(event);
            }
        }
    });
    histories
}

fn check(stores: usize, class: Class, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let dir = tempfile::tempdir().unwrap();
        let stores: Vec<_> = (0..stores).map(|_| open(dir.path(), true)).collect();
        for (key, history) in record(&stores, 6, 150, seed + 1, class) {
            assert!(is_linearizable(&history), "seed {seed} key {key}: {history:?}");
        }
    }
}

#[test]
fn durable_operations_of_several_stores_are_linearizable() {
    check(3, Class::Durable, 0..6);
}

#[test]
fn relaxed_operations_of_one_store_are_linearizable() {
    check(1, Class::Relaxed, 0..10);
}
