use std::sync::Arc;

use super::rig::{Rig, space, value};
use crate::{Batch, Class, Error};

#[test]
fn stores_on_one_place_see_each_other_at_once() {
    let rig = Rig::new(1);
    let (one, two) = (rig.open().unwrap(), rig.open().unwrap());
    let (here, there) = (space(&one, "notes"), space(&two, "notes"));
    for number in 0..50 {
        let (writer, reader) = if number % 2 == 0 { (&here, &there) } else { (&there, &here) };
        let text = number.to_string();
        writer.put("k", text.as_str()).unwrap();
        assert_eq!(value(reader, "k"), Some(text.into_bytes()));
    }
    let version = here.get(b"k").unwrap().unwrap().version();
    there.compare_and_set("k", version, "x").unwrap();
    assert!(here.compare_and_set("k", version, "y").unwrap_err().is_conflict());
    assert_eq!(one.version().unwrap(), two.version().unwrap());
}

#[test]
fn relaxed_writes_reach_other_stores_when_flushed() {
    let rig = Rig::new(2);
    let (one, two) = (rig.open().unwrap(), rig.open().unwrap());
    let (here, there) = (space(&one, "notes").with_class(Class::Relaxed), space(&two, "notes"));
    here.put("k", "v").unwrap();
    assert_eq!(value(&there, "k"), None);
    one.flush().unwrap();
    assert_eq!(value(&there, "k"), Some(b"v".to_vec()));
    there.put("k", "w").unwrap();
    assert_eq!(value(&here, "k"), Some(b"w".to_vec()));
}

#[test]
fn a_store_follows_past_segments_and_snapshots_of_others() {
    let rig = Rig::new(3);
    let (one, two) = (rig.open().unwrap(), rig.open().unwrap());
    let (here, there) = (space(&one, "notes"), space(&two, "notes"));
    for round in 0..20 {
        for number in 0..20 {
            here.put(format!("k{number}").as_str(), vec![round; 100]).unwrap();
        }
        assert_eq!(value(&there, "k19"), Some(vec![round; 100]));
        if round % 5 == 4 {
            two.snapshot().unwrap();
        }
    }
}

#[test]
fn a_store_that_was_away_while_the_log_was_given_back_finds_everything() {
    let rig = Rig::new(6);
    let (one, two) = (rig.open().unwrap(), rig.open().unwrap());
    let history = crate::History { versions_max: 2, age_max: Some(quorate_base::Millis(1)) };
    let policy = crate::Policy { history, ..crate::Policy::new(crate::Kind::Project) };
    let here = one.create(&crate::Actor::operator(), "notes", policy).unwrap();
    let there = space(&two, "notes");
    for number in 0..40 {
        let put = crate::Put::new("old").tag("t").tag(if number % 2 == 0 { "even" } else { "odd" });
        here.put(format!("k{number:02}").as_str(), put).unwrap();
    }
    let view = two.view().unwrap();
    let mut watch = there.watch(b"", two.version().unwrap()).unwrap();
    assert_eq!(view.scan(&there, "", 100).unwrap().len(), 40);
    for round in 0..5 {
        for number in 0..40 {
            rig.clock.advance(quorate_base::Millis(1));
            let key = format!("k{number:02}");
            if number % 4 == 0 {
                here.delete(key.as_str()).unwrap();
            } else {
                here.put(key.as_str(), crate::Put::new(vec![round; 50]).tag("t").tag("new")).unwrap();
            }
        }
        space(&one, "more").put(format!("m{round}").as_str(), "v").unwrap();
        one.snapshot().unwrap();
    }
    let tagged = |space: &crate::Space, tag| space.tagged(tag, None, 100).unwrap().len();
    assert_eq!(value(&there, "k01"), Some(vec![4; 50]));
    assert_eq!(value(&there, "k00"), None);
    assert_eq!(there.scan("", 100).unwrap().len(), 30);
    assert_eq!((tagged(&there, "t"), tagged(&there, "new"), tagged(&there, "even")), (30, 30, 0));
    assert_eq!(space(&two, "more").scan("", 100).unwrap().len(), 5);
    let numbers = |store: &crate::Store| {
        let stats = store.stats().unwrap();
        (stats.version, stats.namespaces.iter().map(|space| (space.entries, space.bytes)).collect::<Vec<_>>())
    };
    assert_eq!(numbers(&one), numbers(&two));
    // What was missed is said to be, and never passed over.
    assert!(matches!(view.scan(&there, "", 100), Err(Error::Forgotten { .. })));
    assert!(matches!(watch.try_next(), Err(Error::Forgotten { .. })));
    there.put("k00", "new").unwrap();
    assert_eq!(value(&here, "k00"), Some(b"new".to_vec()));
    assert_eq!(numbers(&one), numbers(&two));
}

#[test]
fn many_threads_of_several_stores_lose_no_update() {
    const THREADS: u64 = 16;
    const EACH: u64 = 60;
    let rig = Rig::new(4);
    let stores: Vec<_> = (0..4).map(|_| rig.open().unwrap()).collect();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = stores[thread as usize % 4].clone();
            scope.spawn(move || {
                let notes = space(&store, "notes");
                for number in 0..EACH {
                    let class = if number % 3 == 0 { Class::Relaxed } else { Class::Durable };
                    let add = |key: &str| {
                        store.transact::<_, Error>(class, |tx| {
                            let old = tx.get(&notes, key.as_bytes())?;
                            let old: u64 = old.map_or(0, |entry| {
                                std::str::from_utf8(entry.value()).unwrap().parse().unwrap()
                            });
                            tx.put(&notes, key, (old + 1).to_string().as_str())
                        })
                    };
                    add("all").unwrap();
                    add(&format!("of-{}", thread % 3)).unwrap();
                    if class == Class::Relaxed {
                        store.flush().unwrap();
                    }
                }
            });
        }
    });
    let notes = space(&stores[0], "notes");
    assert_eq!(value(&notes, "all"), Some((THREADS * EACH).to_string().into_bytes()));
}

#[test]
fn batches_of_others_are_seen_whole_by_views() {
    let rig = Rig::new(5);
    let (one, two) = (rig.open().unwrap(), rig.open().unwrap());
    let notes = space(&one, "notes");
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        let done = Arc::clone(&stop);
        scope.spawn(move || {
            for number in 0..300_u32 {
                let mut batch = Batch::new();
                for key in ["a", "b", "c"] {
                    batch.put(&notes, key, number.to_string().as_str()).unwrap();
                }
                one.commit(batch, Class::Durable).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        let notes = space(&two, "notes");
        while !stop.load(std::sync::atomic::Ordering::SeqCst) {
            let items = notes.scan("", 10).unwrap();
            let mut values: Vec<_> = items.iter().map(|item| item.entry.value()).collect();
            values.dedup();
            assert!(items.is_empty() || (items.len() == 3 && values.len() == 1), "{items:?}");
        }
    });
}
