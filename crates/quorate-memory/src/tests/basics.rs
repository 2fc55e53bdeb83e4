use quorate_base::Millis;

use super::rig::{Rig, space, value};
use crate::{Batch, Class, Error, Eviction, Kind, Limit, Policy, Put, Quota, Range};

#[test]
fn what_is_put_is_there_and_there_again_after_a_start() {
    let rig = Rig::new(1);
    let store = rig.open().unwrap();
    let notes = space(&store, "notes");
    let first = notes.put("one", "1").unwrap();
    let long = vec![7; 100];
    let second = notes.put(&*long, Put::new("x").tag("b").tag("a").tag("b").content_type("text/x")).unwrap();
    assert!(first.version < second.version);
    notes.put("gone", "soon").unwrap();
    assert_eq!(notes.delete("gone").unwrap().changed, 1);
    assert_eq!(notes.delete("gone").unwrap().changed, 0);
    for store in [&store, &rig.open().unwrap()] {
        let notes = space(store, "notes");
        assert_eq!(value(&notes, "one"), Some(b"1".to_vec()));
        assert_eq!(value(&notes, "gone"), None);
        let entry = notes.get(&long).unwrap().unwrap();
        assert_eq!(entry.version(), second.version);
        let meta = entry.meta();
        assert_eq!((&*meta.content_type, &*meta.owner), ("text/x", "a-1"));
        assert_eq!(meta.tags.iter().map(|tag| &**tag).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(store.stats().unwrap().namespaces[0].entries, 2);
    }
}

#[test]
fn compare_and_set_lets_one_win() {
    let store = Rig::new(2).open().unwrap();
    let notes = space(&store, "notes");
    let made = notes.compare_and_set("k", 0, "a").unwrap();
    let error = notes.compare_and_set("k", 0, "b").unwrap_err();
    assert!(matches!(error, Error::Conflict { expected: 0, found, .. } if found == made.version), "{error}");
    notes.compare_and_set("k", made.version, "c").unwrap();
    assert!(notes.delete_at("k", made.version).unwrap_err().is_conflict());
    assert_eq!(value(&notes, "k"), Some(b"c".to_vec()));
}

#[test]
fn a_batch_happens_whole_or_not_at_all() {
    let store = Rig::new(3).open().unwrap();
    let (notes, other) = (space(&store, "notes"), space(&store, "other"));
    notes.put("a", "0").unwrap();
    let mut batch = Batch::new();
    batch.put(&notes, "a", "1").unwrap();
    batch.put(&other, "b", "1").unwrap();
    batch.put(&other, "b", "2").unwrap();
    batch.delete(&notes, "absent").unwrap();
    assert_eq!(batch.len(), 3);
    let commit = store.commit(batch, Class::Durable).unwrap();
    assert_eq!(commit.changed, 2);
    assert_eq!(notes.get(b"a").unwrap().unwrap().version(), commit.version);
    assert_eq!(other.get(b"b").unwrap().unwrap().version(), commit.version);
    let mut batch = Batch::new();
    batch.put(&notes, "a", "9").unwrap();
    batch.expect(&other, "b", 1).unwrap();
    assert!(store.commit(batch, Class::Durable).unwrap_err().is_conflict());
    assert_eq!(value(&notes, "a"), Some(b"1".to_vec()));
    assert_eq!(value(&other, "b"), Some(b"2".to_vec()));
}

#[test]
fn transactions_see_their_own_writes_and_are_tried_again_when_they_lose() {
    let store = Rig::new(4).open().unwrap();
    let notes = space(&store, "notes");
    notes.put("n/1", "1").unwrap();
    let mut tries = 0;
    let (count, _) = store
        .transact::<_, Error>(Class::Durable, |tx| {
            tries += 1;
            let before = tx.scan(&notes, "n/", 10)?.len();
            if tries == 1 {
                notes.put("n/2", "phantom")?;
            }
            tx.put(&notes, "n/3", "own")?;
            assert_eq!(tx.get(&notes, b"n/3")?.unwrap().value(), b"own");
            assert_eq!(tx.scan(&notes, "n/", 10)?.len(), before + 1);
            tx.delete(&notes, "n/1")?;
            assert!(tx.get(&notes, b"n/1")?.is_none());
            Ok(before)
        })
        .unwrap();
    assert_eq!((tries, count), (2, 2));
    let keys: Vec<_> = notes.scan("n/", 10).unwrap().into_iter().map(|item| item.key.to_string()).collect();
    assert_eq!(keys, ["n/2", "n/3"]);
}

#[test]
fn scans_are_in_order_bounded_and_go_on_where_they_ended() {
    let store = Rig::new(5).open().unwrap();
    let notes = space(&store, "notes");
    for key in ["b", "a/2", "a/1", "a/\u{fffd}", "a0", "c"] {
        notes.put(key, "x").unwrap();
    }
    notes.put(&[b'a', b'/', 0xff, 0xff][..], "x").unwrap();
    let keys = |range: Range, limit| -> Vec<String> {
        notes.scan(range, limit).unwrap().into_iter().map(|item| item.key.to_string()).collect()
    };
    assert_eq!(keys("a/".into(), 10), ["a/1", "a/2", r"a/\xef\xbf\xbd", r"a/\xff\xff"]);
    assert_eq!(keys("a/".into(), 2), ["a/1", "a/2"]);
    assert_eq!(keys(Range::prefix(b"a/").after(b"a/2"), 1), [r"a/\xef\xbf\xbd"]);
    assert_eq!(keys(Range::between(b"a0", b"c"), 10), ["a0", "b"]);
    assert_eq!(keys(Range::all(), 100).len(), 7);
    assert_eq!(keys(Range::prefix(&[0xff]), 100).len(), 0);
}

#[test]
fn tags_find_what_is_tagged_now() {
    let rig = Rig::new(6);
    let store = rig.open().unwrap();
    let notes = space(&store, "notes");
    for key in ["a", "b", "c"] {
        notes.put(key, Put::new("x").tag("red").tag(key)).unwrap();
    }
    notes.put("b", Put::new("y").tag("blue")).unwrap();
    notes.delete("c").unwrap();
    for store in [&store, &rig.open().unwrap()] {
        let notes = space(store, "notes");
        let keys = |tag| -> Vec<String> {
            notes.tagged(tag, None, 10).unwrap().into_iter().map(|item| item.key.to_string()).collect()
        };
        assert_eq!((keys("red"), keys("blue"), keys("c")), (vec!["a".into()], vec!["b".into()], vec![]));
    }
    notes.put("aa", Put::new("z").tag("red")).unwrap();
    assert_eq!(notes.tagged("red", Some(b"a"), 10).unwrap()[0].key.as_bytes(), b"aa");
}

#[test]
fn what_has_expired_is_on_no_path() {
    let rig = Rig::new(7);
    let store = rig.open().unwrap();
    let notes = space(&store, "notes");
    let put = notes.put("k", Put::new("v").tag("t").ttl(Millis(100))).unwrap();
    notes.put("stays", "v").unwrap();
    rig.clock.advance(Millis(99));
    assert!(value(&notes, "k").is_some());
    rig.clock.advance(Millis(1));
    assert_eq!(value(&notes, "k"), None);
    assert!(notes.scan("k", 9).unwrap().is_empty());
    assert!(notes.tagged("t", None, 9).unwrap().is_empty());
    assert!(notes.get_at(b"k", put.version).unwrap().is_none());
    assert!(notes.history(b"k").unwrap().versions.is_empty());
    // For a writer too it is not there.
    assert!(notes.compare_and_set("k", put.version, "x").unwrap_err().is_conflict());
    assert_eq!(store.sweep().unwrap(), 1);
    assert_eq!(store.sweep().unwrap(), 0);
    assert_eq!(store.stats().unwrap().namespaces[0].entries, 1);
    notes.compare_and_set("k", 0, "again").unwrap();
    assert!(value(&rig.open().map(|store| space(&store, "notes")).unwrap(), "k").is_some());
}

#[test]
fn quotas_refuse_and_name_what_is_used() {
    let store = Rig::new(8).open().unwrap();
    let quota = Quota { entries_max: 2, bytes_max: 2000, value_bytes_max: 1500, key_bytes_max: 10 };
    let policy = Policy { quota, ..Policy::new(Kind::Project) };
    let notes = store.create(&crate::Actor::operator(), "small", policy).unwrap();
    let limit = |error| match error {
        Error::QuotaExceeded { limit, used, max, .. } => (limit, used, max),
        error => panic!("{error}"),
    };
    notes.put("a", vec![0; 900]).unwrap();
    assert_eq!(limit(notes.put("b", vec![0; 1200]).unwrap_err()), (Limit::Bytes, 925, 2000));
    notes.put("b", "x").unwrap();
    assert_eq!(limit(notes.put("c", "x").unwrap_err()), (Limit::Entries, 2, 2));
    assert_eq!(limit(notes.put("a", vec![0; 1501]).unwrap_err()).0, Limit::ValueBytes);
    assert_eq!(limit(notes.put("a-long-key-", "x").unwrap_err()).0, Limit::KeyBytes);
    assert!(matches!(notes.put("", "x").unwrap_err(), Error::EmptyKey));
    notes.delete("b").unwrap();
    notes.put("c", "x").unwrap();
}

#[test]
fn eviction_takes_what_its_rule_says() {
    let rig = Rig::new(9);
    let store = rig.open().unwrap();
    let quota = Quota { entries_max: 3, ..Quota::default() };
    let make = |name, eviction| {
        let policy = Policy { quota, eviction, ..Policy::new(Kind::Project) };
        store.create(&crate::Actor::operator(), name, policy).unwrap()
    };
    let lru = make("lru", Eviction::Lru);
    for key in ["a", "b", "c", "d"] {
        lru.put(key, "x").unwrap();
    }
    assert_eq!(store.stats().unwrap().namespaces[0].entries, 3);
    // What is read survives what is not.
    let kept: Vec<_> = lru.scan(Range::all(), 9).unwrap().into_iter().map(|item| item.key).collect();
    value(&lru, &kept[0].to_string());
    value(&lru, &kept[2].to_string());
    lru.put("e", "x").unwrap();
    assert_eq!(lru.get(kept[1].as_bytes()).unwrap().map(|_| ()), None);

    let ttl = make("ttl", Eviction::TtlOnly);
    ttl.put("stays", "x").unwrap();
    ttl.put("later", Put::new("x").ttl(Millis(900))).unwrap();
    ttl.put("sooner", Put::new("x").ttl(Millis(800))).unwrap();
    assert_eq!(ttl.put("new", "x").unwrap().changed, 2);
    assert_eq!(value(&ttl, "sooner"), None);
    ttl.put("new2", "x").unwrap();
    assert!(matches!(ttl.put("new3", "x").unwrap_err(), Error::QuotaExceeded { .. }));
}

#[test]
fn the_store_is_bounded_as_a_whole() {
    let mut rig = Rig::new(10);
    rig.options.memory_max = 10_000;
    let store = rig.open().unwrap();
    let notes = space(&store, "notes");
    notes.put("a", vec![0; 5000]).unwrap();
    let error = notes.put("b", vec![0; 5000]).unwrap_err();
    assert!(matches!(error, Error::StoreFull { max: 10_000, .. }), "{error}");
    notes.put("b", vec![0; 1000]).unwrap();
}

#[test]
fn relaxed_writes_are_seen_at_once_and_survive_when_flushed() {
    let rig = Rig::new(11);
    let store = rig.open().unwrap();
    let notes = space(&store, "notes").with_class(Class::Relaxed);
    for number in 0..100 {
        notes.put(format!("k{number}").as_str(), "v").unwrap();
    }
    assert_eq!(notes.scan("k", 1000).unwrap().len(), 100);
    let kill = |rig: &Rig| {
        let rig = rig.on_disk(rig.disk.after_crash(1));
        space(&rig.open().unwrap(), "notes").scan("k", 1000).unwrap().len()
    };
    assert_eq!(kill(&rig), 0);
    store.flush().unwrap();
    assert_eq!(kill(&rig), 100);
    notes.put("k-last", "v").unwrap();
    // A durable write makes durable what was written before it.
    space(&store, "notes").put("k-durable", "v").unwrap();
    assert_eq!(kill(&rig), 102);
}
