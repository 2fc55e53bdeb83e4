//! Machines that stop, disks that fill up, fail or rot.

use std::collections::BTreeMap;

use quorate_wal::sim::{Fault, Random, SimDisk};

use super::rig::{Rig, space};
use crate::{Batch, Class, Error, Key, Range, Store};

/// What each key may hold: every value written to it since the last one that must have survived.
type May = BTreeMap<String, Vec<Option<String>>>;

/// Writes until the disk stops it. What is acknowledged as durable must be there; what is not may be.
fn workload(store: &Store, seed: u64, rounds: u32, may: &mut May, name: &mut u64) -> Result<(), Error> {
    let mut random = Random(seed);
    for _ in 0..rounds {
        let relaxed = random.chance(4);
        let class = if relaxed { Class::Relaxed } else { Class::Durable };
        let notes = store.space(&crate::Actor::agent("a", None), "notes")?.with_class(class);
        let mut batch = Batch::new();
        let mut wrote = BTreeMap::new();
        for _ in 0..=random.below(3) {
            let key = format!("k{}", random.below(12));
            *name += 1;
            if random.chance(4) {
                batch.delete(&notes, key.as_str())?;
                wrote.insert(key, None);
            } else {
                let value = format!("{name}-{}", "x".repeat(random.below(300) as usize));
                batch.put(&notes, key.as_str(), value.as_str())?;
                wrote.insert(key, Some(value));
            }
        }
        for (key, value) in &wrote {
            may.entry(key.clone()).or_insert_with(|| vec![None]).push(value.clone());
        }
        notes.commit(batch)?;
        if !relaxed {
            settle(may);
        }
        if random.chance(12) {
            store.flush()?;
            settle(may);
        }
        if random.chance(25) {
            store.snapshot()?;
            settle(may);
        }
        if random.chance(40) {
            let byte = 10 + random.below(200) as u8;
            store.rotate_key(quorate_wal::Key::new([byte; 32]))?;
            settle(may);
        }
    }
    Ok(())
}

/// All that was written is durable.
fn settle(may: &mut May) {
    for values in may.values_mut() {
        values.drain(..values.len() - 1);
    }
}

fn check(store: &Store, may: &mut May, told: &str) {
    let items = space(store, "notes").scan(Range::all(), 1000).unwrap();
    let found: BTreeMap<Key, String> = items
        .into_iter()
        .map(|item| (item.key, String::from_utf8(item.entry.value().to_vec()).unwrap()))
        .collect();
    for (key, values) in may.iter_mut() {
        let value = found.get(&Key::from(key.as_str())).cloned();
        assert!(values.contains(&value), "{told}: {key} is {value:.9?}, may be {values:.9?}");
        *values = vec![value];
    }
    assert!(found.keys().all(|key| may.contains_key(&key.to_string())), "{told}");
}

fn keys(rig: &mut Rig) {
    // Whatever key was in use when it stopped is among those given.
    let all = (10..210).map(|byte| quorate_wal::Key::new([byte; 32]));
    rig.options.keys = quorate_wal::Keyring::new(quorate_wal::Key::new([9; 32]), all);
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_machine_stops() {
    let from_env = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let runs = from_env("QUORATE_CRASHES").unwrap_or(60);
    let seeds = from_env("QUORATE_CRASH_SEED").map_or(0..runs, |seed| seed..seed + 1);
    for seed in seeds {
        let mut rig = Rig::new(seed);
        keys(&mut rig);
        let (mut may, mut name) = (May::new(), 0);
        let mut random = Random(seed ^ 0x5eed);
        for life in 0..4 {
            let at = random.below(160);
            rig.disk.fault(at, Fault::Crash);
            // Made here, so that a machine that stops at it is not taken for one that lost something.
            if let Ok(store) = rig.open()
                && store.space(&crate::Actor::operator(), "notes").is_ok()
            {
                check(&store, &mut may, &format!("seed {seed} life {life}"));
                let _ = workload(&store, random.draw(), 40, &mut may, &mut name);
            }
            let disk = if random.chance(4) {
                // A kill, not a power cut: what was written is there, and so is what the processes shared.
                let killed = rig.disk.after_kill();
                let control = std::sync::Arc::clone(&rig.control);
                rig = rig.on_disk(killed);
                rig.control = control;
                continue;
            } else {
                rig.disk.after_crash(random.draw())
            };
            rig = rig.on_disk(disk);
        }
        rig = rig.on_disk(rig.disk.after_kill());
        check(&rig.open().unwrap(), &mut may, &format!("seed {seed} end"));
    }
}

#[test]
fn a_full_disk_or_a_failed_write_stops_the_store_and_loses_nothing() {
    for seed in 0..60 {
        let fault = [Fault::Full, Fault::WriteFails, Fault::SyncFails][seed as usize % 3];
        let mut rig = Rig::new(seed);
        keys(&mut rig);
        let (mut may, mut name) = (May::new(), 0);
        let mut random = Random(seed);
        let store = rig.open().unwrap();
        rig.disk.fault(rig.disk.operations() + 5 + random.below(60), fault);
        let stopped = workload(&store, random.draw(), 100, &mut may, &mut name);
        if fault != Fault::Full || stopped.is_err() {
            // A snapshot that fails does not stop the store; a write does, for good.
            let notes = space(&store, "notes");
            if store.stats().unwrap().stopped.is_some() {
                assert!(matches!(notes.put("k", "v"), Err(Error::Stopped { .. })), "seed {seed}");
                assert!(notes.get(b"k1").is_ok() && notes.scan("", 9).is_ok());
            }
        }
        drop(store);
        rig.disk.make_room();
        // Another process goes on, and then the power is cut.
        let store = rig.open().unwrap_or_else(|error| panic!("seed {seed} {fault:?}: {error}"));
        check(&store, &mut may, &format!("seed {seed} {fault:?}"));
        workload(&store, random.draw(), 10, &mut may, &mut name).unwrap();
        store.flush().unwrap();
        settle(&mut may);
        rig = rig.on_disk(rig.disk.after_crash(random.draw()));
        check(&rig.open().unwrap(), &mut may, &format!("seed {seed} {fault:?} after a power cut"));
    }
}

#[test]
fn a_store_that_others_saw_fail_to_sync_takes_nothing_more() {
    let rig = Rig::new(7);
    let (one, two) = (rig.open().unwrap(), rig.open().unwrap());
    let (here, there) = (space(&one, "notes"), space(&two, "notes"));
    here.put("k", "v").unwrap();
    rig.disk.fault(rig.disk.operations() + 1, Fault::SyncFails);
    assert!(matches!(here.put("k", "w"), Err(Error::Stopped { .. })));
    assert!(matches!(there.put("k", "x"), Err(Error::Stopped { .. })));
    assert_eq!(super::rig::value(&there, "k"), Some(b"v".to_vec()));
    drop((one, two));
    let store = rig.open().unwrap();
    space(&store, "notes").put("k", "y").unwrap();
    let rig = rig.on_disk(rig.disk.after_crash(3));
    assert_eq!(super::rig::value(&space(&rig.open().unwrap(), "notes"), "k"), Some(b"y".to_vec()));
}

#[test]
fn a_flipped_bit_anywhere_is_told_or_harms_nothing() {
    for sealed in [false, true] {
        let mut rig = Rig::new(11);
        if sealed {
            keys(&mut rig);
        }
        let (mut may, mut name) = (May::new(), 0);
        let store = rig.open().unwrap();
        workload(&store, 5, 30, &mut may, &mut name).unwrap();
        store.snapshot().unwrap();
        workload(&store, 6, 12, &mut may, &mut name).unwrap();
        store.close().unwrap();
        settle(&mut may);
        let durable = rig.control.synced().unwrap();
        let mut told = 0;
        for path in rig.disk.paths() {
            let good = rig.disk.bytes(&path).unwrap();
            for at in (0..good.len()).step_by(17) {
                let mut bad = good.clone();
                bad[at] ^= 1 << (at % 8);
                let disk: SimDisk = rig.disk.after_kill();
                disk.set_bytes(&path, &bad);
                // With what the processes shared: without it, the last frame may be one whose writing was interrupted.
                let mut rig = rig.on_disk(disk);
                rig.control.set_synced(durable);
                rig.options = Rig::new(0).options;
                if sealed {
                    keys(&mut rig);
                }
                match rig.open() {
                    Err(_) => told += 1,
                    Ok(store) => check(&store, &mut may.clone(), &format!("{} byte {at}", path.display())),
                }
            }
        }
        assert!(told > 100, "{told}");
    }
}
