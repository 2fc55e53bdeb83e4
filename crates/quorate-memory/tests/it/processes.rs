//! Processes that write at once, and processes that are killed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use quorate_memory::{Class, Error, Space, Store};

use crate::place::{notes, open};

const ROLE: &str = "QUORATE_MEMORY_ROLE";
const DIR: &str = "QUORATE_MEMORY_DIR";
const THREADS: u64 = 3;
const EACH: u64 = 12;

fn number(space: &Space, key: &str) -> u64 {
    let entry = space.get(key.as_bytes()).unwrap();
    entry.map_or(0, |entry| std::str::from_utf8(entry.value()).unwrap().parse().unwrap())
}

/// This test binary again, as a process of its own that plays a role.
fn spawn(role: &str, dir: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["processes::a_role_is_played_where_one_is_given", "--exact", "--nocapture"]);
    command.env(ROLE, role).env(DIR, dir).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_role_is_played_where_one_is_given() {
    let (Ok(role), Ok(dir)) = (std::env::var(ROLE), std::env::var(DIR)) else {
        return;
    };
    let store = open(Path::new(&dir), true);
    match role.as_str() {
        "count" => count(&store),
        _ => write_until_killed(&store),
    }
}

/// Each thread counts its own key up, and says each number once it is acknowledged.
fn write_until_killed(store: &Store) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let space = notes(store);
                let key = format!("w{thread}");
                let mut next = number(&space, &key) + 1;
                loop {
                    space.put(key.as_str(), next.to_string().as_str()).unwrap();
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "ack {thread} {next}").unwrap();
                    drop(out);
                    if next.is_multiple_of(97) {
                        store.snapshot().unwrap();
                    }
                    next += 1;
                }
            });
        }
    });
}

#[test]
fn a_process_that_is_killed_loses_nothing_that_was_acknowledged() {
    let kills: u64 = std::env::var("QUORATE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let dir = tempfile::tempdir().unwrap();
    // One that lives through it all, and sees what the others do.
    let survivor = open(dir.path(), false);
    let space = notes(&survivor);
    let mut acknowledged: BTreeMap<u64, u64> = BTreeMap::new();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for kill in 0..kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut child = spawn("write", dir.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut take = |line: &str| {
            if let Some((thread, value)) = line.split_once("ack ").and_then(|(_, rest)| rest.split_once(' '))
            {
                let (thread, value) = (thread.parse().unwrap(), value.parse().unwrap());
                let last = acknowledged.entry(thread).or_default();
                assert!(value > *last, "kill {kill}: {thread} wrote {value} after {last}");
                *last = value;
            }
        };
        for _ in 0..random % 40 {
            take(&lines.next().unwrap().unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said before it died, but for a line it did not end.
        for line in lines.map_while(Result::ok) {
            if line.split(' ').count() == 3 {
                take(&line);
            }
        }
        if kill % 3 == 0 {
            space.put("survivor", kill.to_string().as_str()).unwrap();
        }
        let fresh = (kill % 5 == 0).then(|| open(dir.path(), false));
        for (thread, value) in &acknowledged {
            let key = format!("w{thread}");
            for space in [Some(space.clone()), fresh.as_ref().map(notes)].into_iter().flatten() {
                let found = number(&space, &key);
                assert!(found >= *value, "kill {kill}: {key} is {found}, {value} was acknowledged");
            }
        }
    }
    assert!(acknowledged.len() as u64 == THREADS);
}

fn count(store: &Store) {
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                let space = notes(store);
                for _ in 0..EACH {
                    store
                        .transact::<_, Error>(Class::Durable, |tx| {
                            let old = tx.get(&space, b"all")?;
                            let old: u64 = old.map_or(0, |entry| {
                                std::str::from_utf8(entry.value()).unwrap().parse().unwrap()
                            });
                            tx.put(&space, "all", (old + 1).to_string().as_str())
                        })
                        .unwrap();
                    // The same by hand.
                    let key = format!("of-{}", thread % 4);
                    loop {
                        let entry = space.get(key.as_bytes()).unwrap();
                        let version = entry.map_or(0, |entry| entry.version());
                        let next = number(&space, &key) + 1;
                        match space.compare_and_set(key.as_str(), version, next.to_string().as_str()) {
                            Ok(_) => break,
                            Err(error) => assert!(error.is_conflict(), "{error}"),
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn sixty_four_writers_in_eight_processes_lose_no_update() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), false);
    let mut watch = notes(&store).watch(b"all", 0).unwrap();
    let children: Vec<_> = (0..8).map(|_| spawn("count", dir.path())).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let space = notes(&store);
    assert_eq!(number(&space, "all"), 64 * EACH);
    assert_eq!((0..4).map(|of| number(&space, &format!("of-{of}"))).sum::<u64>(), 64 * EACH);
    let seen = std::iter::from_fn(|| watch.try_next().unwrap()).count() as u64;
    assert_eq!(seen, 64 * EACH);
}
