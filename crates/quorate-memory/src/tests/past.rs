use quorate_base::Millis;

use super::rig::{Rig, space, value};
use crate::{Error, History, Kind, Policy, Range};

#[test]
fn the_past_is_read_as_it_was_or_said_to_be_forgotten() {
    let rig = Rig::new(1);
    let store = rig.open().unwrap();
    let history = History { versions_max: 3, age_max: None };
    let policy = Policy { history, ..Policy::new(Kind::Project) };
    let notes = store.create(&crate::Actor::operator(), "notes", policy).unwrap();
    let mut versions = Vec::new();
    for number in 0..40_u32 {
        versions.push((notes.put("k", number.to_string().as_str()).unwrap().version, number));
        if number % 10 == 9 {
            versions.push((notes.delete("k").unwrap().version, u32::MAX));
        }
    }
    store.snapshot().unwrap();
    for store in [&store, &rig.open().unwrap()] {
        let notes = space(store, "notes");
        let kept = notes.history(b"k").unwrap();
        assert!(kept.forgotten);
        assert!((4..=7).contains(&kept.versions.len()), "{}", kept.versions.len());
        let mut known = 0;
        for &(version, number) in &versions {
            match notes.get_at(b"k", version) {
                Ok(Some(entry)) => {
                    assert_eq!(entry.value(), number.to_string().as_bytes());
                    known += 1;
                }
                Ok(None) => {
                    assert_eq!(number, u32::MAX);
                    known += 1;
                }
                Err(Error::Forgotten { wanted, oldest }) => assert!(wanted == version && oldest > version),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(known, kept.versions.len());
        let newest = store.version().unwrap();
        assert!(matches!(notes.get_at(b"k", newest + 1), Err(Error::NotYet { .. })));
    }
}

#[test]
fn old_versions_age() {
    let rig = Rig::new(2);
    let store = rig.open().unwrap();
    let history = History { versions_max: 100, age_max: Some(Millis(1000)) };
    let policy = Policy { history, ..Policy::new(Kind::Project) };
    let notes = store.create(&crate::Actor::operator(), "notes", policy).unwrap();
    for _ in 0..10 {
        notes.put("k", "v").unwrap();
        notes.put("gone", "v").unwrap();
    }
    let deleted = notes.delete("gone").unwrap();
    assert_eq!(notes.history(b"k").unwrap().versions.len(), 10);
    rig.clock.advance(Millis(2000));
    notes.put("k", "v").unwrap();
    assert_eq!(notes.history(b"k").unwrap().versions.len(), 2);
    // The deletion itself is forgotten too: what was before it cannot be told any more.
    assert!(notes.history(b"gone").unwrap().versions.is_empty());
    assert!(matches!(notes.get_at(b"gone", deleted.version - 1), Err(Error::Forgotten { .. })));
    assert!(notes.get_at(b"gone", deleted.version).unwrap().is_none());
}

#[test]
fn a_view_stays_as_it_was() {
    let rig = Rig::new(3);
    let store = rig.open().unwrap();
    let notes = space(&store, "notes");
    for number in 0..50 {
        notes.put(format!("k{number:02}").as_str(), "old").unwrap();
    }
    let view = store.view().unwrap();
    for round in 0..30 {
        for number in 0..50 {
            let key = format!("k{number:02}");
            if number % 3 == 0 {
                notes.delete(key.as_str()).unwrap();
            } else {
                notes.put(key.as_str(), format!("new {round}").as_str()).unwrap();
            }
        }
        notes.put(format!("other{round}").as_str(), "new").unwrap();
    }
    let seen = view.scan(&notes, Range::all(), 1000).unwrap();
    assert_eq!(seen.len(), 50);
    assert!(seen.iter().all(|item| item.entry.value() == b"old"));
    let before = store.stats().unwrap().memory;
    drop(view);
    for number in 0..50 {
        for _ in 0..20 {
            notes.put(format!("k{number:02}").as_str(), "x").unwrap();
        }
    }
    assert!(store.stats().unwrap().memory < before);
}

#[test]
fn versions_count_on_after_a_start_from_a_snapshot() {
    let rig = Rig::new(4);
    let mut store = rig.open().unwrap();
    let mut last = 0;
    for round in 0..5 {
        let notes = space(&store, "notes");
        for number in 0..30 {
            let version = notes.put(format!("k{number}").as_str(), "v").unwrap().version;
            assert!(version > last);
            last = version;
        }
        if round % 2 == 0 {
            store.snapshot().unwrap();
        }
        drop(notes);
        store.close().unwrap();
        store = rig.open().unwrap();
    }
    let notes = space(&store, "notes");
    assert_eq!(value(&notes, "k29"), Some(b"v".to_vec()));
    assert_eq!(notes.get(b"k29").unwrap().unwrap().version(), last);
    assert!(store.stats().unwrap().log_first > 0);
}
