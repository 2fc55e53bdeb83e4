//! Random operations against a simple model.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;
use quorate_base::Millis;

use super::rig::{Rig, space};
use crate::{Batch, Class, Error, Put, Range, Space, Store};

#[derive(Debug, Clone)]
enum Step {
    Put {
        store: usize,
        key: u8,
        value: u16,
        ttl: Option<u8>,
        relaxed: bool,
    },
    Delete {
        store: usize,
        key: u8,
    },
    /// With the version that is there, or another.
    Compare {
        store: usize,
        key: u8,
        value: u16,
        right: bool,
    },
    Batch {
        store: usize,
        keys: Vec<u8>,
        value: u16,
    },
    Advance(u8),
    Sweep(usize),
    Snapshot(usize),
    Restart(usize),
    Check {
        store: usize,
        start: u8,
        end: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (store, key) = (0..3_usize, 0..24_u8);
    prop_oneof![
        6 => (store.clone(), key.clone(), any::<u16>(), proptest::option::weighted(0.3, 0..60_u8), proptest::bool::weighted(0.3))
            .prop_map(|(store, key, value, ttl, relaxed)| Step::Put { store, key, value, ttl, relaxed }),
        3 => (store.clone(), key.clone()).prop_map(|(store, key)| Step::Delete { store, key }),
        3 => (store.clone(), key.clone(), any::<u16>(), any::<bool>())
            .prop_map(|(store, key, value, right)| Step::Compare { store, key, value, right }),
        2 => (store.clone(), proptest::collection::vec(key.clone(), 1..6), any::<u16>())
            .prop_map(|(store, keys, value)| Step::Batch { store, keys, value }),
        2 => (0..40_u8).prop_map(Step::Advance),
        1 => store.clone().prop_map(Step::Sweep),
        1 => store.clone().prop_map(Step::Snapshot),
        1 => store.clone().prop_map(Step::Restart),
        3 => (store, key.clone(), key).prop_map(|(store, start, end)| Step::Check { store, start, end }),
    ]
}

/// What a key holds: value, version, and when it expires.
type Model = BTreeMap<Vec<u8>, (Vec<u8>, u64, u64)>;

fn name(key: u8) -> Vec<u8> {
    // Some short enough to be held in place, some not.
    let mut name = format!("key/{key:02}").into_bytes();
    if key.is_multiple_of(3) {
        name.resize(40, b'+');
    }
    name
}

fn agree(notes: &Space, model: &Model, now: u64) -> Result<(), TestCaseError> {
    let found: Vec<_> = notes
        .scan(Range::all(), 1000)
        .unwrap()
        .into_iter()
        .map(|item| (item.key.as_bytes().to_vec(), item.entry.value().to_vec(), item.entry.version()))
        .collect();
    let expected: Vec<_> = model
        .iter()
        .filter(|(_, (_, _, expires))| *expires > now)
        .map(|(key, (value, version, _))| (key.clone(), value.clone(), *version))
        .collect();
    prop_assert_eq!(found, expected);
    Ok(())
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let rig = Rig::new(1);
    let mut stores: Vec<Store> = (0..3).map(|_| rig.open().unwrap()).collect();
    let mut model = Model::new();
    let mut past: Vec<(u64, Model)> = Vec::new();
    for step in steps {
        let now = crate::Clock::now(&*rig.clock).0;
        let live = |model: &Model, key: &[u8]| {
            model.get(key).filter(|(_, _, expires)| *expires > now).map_or(0, |(_, version, _)| *version)
        };
        match step {
            Step::Put { store, key, value, ttl, relaxed } => {
                let class = if relaxed { Class::Relaxed } else { Class::Durable };
                let notes = space(&stores[store], "notes").with_class(class);
                let mut put = Put::new(value.to_le_bytes()).tag("t");
                let mut expires = u64::MAX;
                if let Some(ttl) = ttl {
                    put = put.ttl(Millis(u64::from(ttl)));
                    expires = now + u64::from(ttl);
                }
                let version = notes.put(&*name(key), put).unwrap().version;
                model.insert(name(key), (value.to_le_bytes().to_vec(), version, expires));
                if relaxed {
                    stores[store].flush().unwrap();
                }
            }
            Step::Delete { store, key } => {
                let there = live(&model, &name(key)) > 0;
                let expired = model.contains_key(&name(key)) && !there;
                let commit = space(&stores[store], "notes").delete(&*name(key)).unwrap();
                prop_assert!(commit.changed == usize::from(there) || expired);
                model.remove(&name(key));
            }
            Step::Compare { store, key, value, right } => {
                let version = live(&model, &name(key));
                let expect = if right { version } else { version + 1 };
                let put = Put::new(value.to_le_bytes());
                match space(&stores[store], "notes").compare_and_set(&*name(key), expect, put) {
                    Ok(commit) => {
                        prop_assert!(right);
                        model.insert(name(key), (value.to_le_bytes().to_vec(), commit.version, u64::MAX));
                    }
                    Err(Error::Conflict { found, .. }) => prop_assert!(!right && found == version),
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Batch { store, keys, value } => {
                let notes = space(&stores[store], "notes");
                let mut batch = Batch::new();
                for &key in &keys {
                    batch.put(&notes, &*name(key), Put::new(value.to_le_bytes())).unwrap();
                }
                let version = notes.commit(batch).unwrap().version;
                for key in keys {
                    model.insert(name(key), (value.to_le_bytes().to_vec(), version, u64::MAX));
                }
            }
            Step::Advance(span) => rig.clock.advance(Millis(u64::from(span))),
            Step::Sweep(store) => {
                stores[store].sweep().unwrap();
                model.retain(|_, (_, _, expires)| *expires > now);
            }
            Step::Snapshot(store) => {
                stores[store].snapshot().unwrap();
            }
            Step::Restart(store) => stores[store] = rig.open().unwrap(),
            Step::Check { store, start, end } => {
                let notes = space(&stores[store], "notes");
                agree(&notes, &model, now)?;
                past.push((stores[store].version().unwrap(), model.clone()));
                let (start, end) = (name(start), name(end));
                if start <= end {
                    let found = notes.scan(Range::between(&start, &end), 1000).unwrap().len();
                    let bounds = (Bound::Included(start), Bound::Excluded(end));
                    let expected = model.range(bounds).filter(|(_, (_, _, expires))| *expires > now).count();
                    prop_assert_eq!(found, expected);
                }
                for (version, then) in &past {
                    for key in 0..24 {
                        match notes.get_at(&name(key), *version) {
                            Ok(found) => {
                                let found = found.map(|entry| (entry.value().to_vec(), entry.version()));
                                let then = then.get(&name(key)).filter(|(_, _, expires)| *expires > now);
                                let expected = then.map(|(value, version, _)| (value.clone(), *version));
                                prop_assert_eq!(found, expected, "key {} at {}", key, version);
                            }
                            Err(Error::Forgotten { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            }
        }
    }
    let now = crate::Clock::now(&*rig.clock).0;
    let restarted = rig.open().unwrap();
    for store in stores.iter().chain([&restarted]) {
        agree(&space(store, "notes"), &model, now)?;
        // The tag index and the counts agree with what is there.
        let notes = space(store, "notes");
        let tagged = notes.tagged("t", None, 1000).unwrap().len();
        let seen = notes.scan(Range::all(), 1000).unwrap();
        prop_assert_eq!(tagged, seen.iter().filter(|item| !item.entry.meta().tags.is_empty()).count());
        let stats = store.stats().unwrap();
        prop_assert_eq!(stats.namespaces[0].entries, model.len() as u64);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_store_does_what_the_model_does(steps in proptest::collection::vec(step(), 1..120)) {
        run(steps)?;
    }
}
