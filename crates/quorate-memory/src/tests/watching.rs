use std::time::Duration;

use super::rig::{Rig, space};
use crate::{Change, Class, Error, Event, Gone, Watch};

fn drain(watch: &mut Watch) -> Vec<Change> {
    std::iter::from_fn(|| watch.try_next().unwrap()).collect()
}

#[test]
fn a_watcher_sees_every_change_in_order_from_a_past_version_on() {
    let rig = Rig::new(1);
    let (one, two) = (rig.open().unwrap(), rig.open().unwrap());
    let (here, there) = (space(&one, "notes"), space(&two, "notes"));
    let mut versions = vec![here.put("a/1", "v").unwrap().version];
    here.put("b/1", "v").unwrap();
    versions.push(here.put("a/2", "v").unwrap().version);
    for after in [0, versions[0]] {
        for space in [&here, &there] {
            let mut watch = space.watch(b"a/", after).unwrap();
            let seen: Vec<_> = drain(&mut watch).iter().map(|change| change.version).collect();
            assert_eq!(seen, versions.iter().copied().filter(|&version| version > after).collect::<Vec<_>>());
        }
    }
    let mut watches = [here.watch(b"a/", versions[1]).unwrap(), there.watch(b"a/", versions[1]).unwrap()];
    let relaxed = here.clone().with_class(Class::Relaxed);
    for number in 0..1000 {
        let key = format!("a/{number}");
        match number % 5 {
            0 => there.put(key.as_str(), "v").unwrap(),
            1 => relaxed.put(key.as_str(), "v").unwrap(),
            _ => here.put(key.as_str(), "v").unwrap(),
        };
        if number % 5 == 1 {
            one.flush().unwrap();
        }
    }
    here.delete("a/0").unwrap();
    for watch in &mut watches {
        let seen = drain(watch);
        assert_eq!(seen.len(), 1001);
        assert!(seen.windows(2).all(|pair| pair[0].version < pair[1].version));
        assert!(matches!(seen[1000].event, Event::Removed(Gone::Deleted)));
        assert!(seen.iter().all(|change| change.last));
    }
}

#[test]
fn a_slow_watcher_loses_nothing() {
    let rig = Rig::new(2);
    let store = rig.open().unwrap();
    let notes = space(&store, "notes").with_class(Class::Relaxed);
    let mut watch = notes.watch(b"", 0).unwrap();
    for number in 0..40_000_u32 {
        notes.put(format!("k{}", number % 100).as_str(), &number.to_le_bytes()[..]).unwrap();
    }
    let seen = drain(&mut watch);
    assert_eq!(seen.len(), 40_000);
    for (number, change) in (0_u32..).zip(&seen) {
        assert!(matches!(&change.event, Event::Put(entry) if entry.value() == number.to_le_bytes()));
    }
}

#[test]
fn a_watcher_is_told_when_the_past_is_gone() {
    let rig = Rig::new(3);
    let store = rig.open().unwrap();
    let notes = space(&store, "notes");
    for number in 0..200 {
        notes.put(format!("k{number}").as_str(), vec![0; 100]).unwrap();
    }
    store.snapshot().unwrap();
    let error = notes.watch(b"", 0).unwrap().try_next().unwrap_err();
    assert!(matches!(error, Error::Forgotten { wanted: 1, .. }), "{error}");
    let mut watch = notes.watch(b"", store.version().unwrap()).unwrap();
    notes.put("new", "v").unwrap();
    assert_eq!(drain(&mut watch).len(), 1);
}

#[test]
fn a_waiting_watcher_is_woken() {
    let rig = Rig::new(4);
    let store = rig.open().unwrap();
    let notes = space(&store, "notes");
    std::thread::scope(|scope| {
        let watchers: Vec<_> = (0..50)
            .map(|_| {
                let mut watch = notes.watch(b"k", 0).unwrap();
                scope.spawn(move || {
                    (0..20).map(|_| watch.next(Duration::from_secs(20)).unwrap().unwrap().version).collect()
                })
            })
            .collect();
        let wrote: Vec<u64> = (0..20).map(|_| notes.put("k", "v").unwrap().version).collect();
        for watcher in watchers {
            let seen: Vec<u64> = watcher.join().unwrap();
            assert_eq!(seen, wrote);
        }
    });
    let mut watch = notes.watch(b"k", store.version().unwrap()).unwrap();
    assert!(watch.next(Duration::from_millis(1)).unwrap().is_none());
}

#[test]
fn sweeps_are_seen_by_watchers_and_the_feed() {
    let rig = Rig::new(5);
    let store = rig.open().unwrap();
    let notes = space(&store, "notes");
    notes.put("k", crate::Put::new("v").ttl(quorate_base::Millis(10))).unwrap();
    rig.clock.advance(quorate_base::Millis(10));
    store.sweep().unwrap();
    let seen = drain(&mut notes.watch(b"", 0).unwrap());
    assert!(matches!(seen[1].event, Event::Removed(Gone::Expired)));
    let (changes, until) = store.changes_since(0, 1).unwrap();
    assert_eq!(changes.len(), 1);
    let (changes, until) = store.changes_since(until, 100).unwrap();
    assert_eq!((changes.len(), until), (1, store.version().unwrap()));
    assert!(store.changes_since(until, 100).unwrap().0.is_empty());
}
