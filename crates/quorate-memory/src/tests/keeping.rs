//! Backups, restores, keys, export and import.

use std::path::Path;
use std::sync::Arc;

use quorate_base::{Millis, Timestamp};
use quorate_wal::{Disk, Key};

use super::rig::{DIR, Rig, space, value};
use crate::{Actor, Error, Keyring, Place, Point, Put, Range, Store, restore};

fn fill(store: &Store, rig: &Rig, from: u32, to: u32) {
    let notes = space(store, "notes");
    for number in from..to {
        rig.clock.advance(Millis(10));
        notes.put(format!("k{}", number % 40).as_str(), Put::new(number.to_string()).tag("t")).unwrap();
        if number % 7 == 3 {
            notes.delete(format!("k{}", number % 11).as_str()).unwrap();
        }
    }
}

fn all(store: &Store) -> Vec<(String, Vec<u8>, u64)> {
    let items = space(store, "notes").scan(Range::all(), 1000).unwrap();
    items
        .into_iter()
        .map(|item| (item.key.to_string(), item.entry.value().to_vec(), item.entry.version()))
        .collect()
}

fn open_at(rig: &Rig, dir: &str) -> Result<Store, Error> {
    let control = Arc::new(quorate_wal::Control::memory());
    let place = Place::on(
        Arc::new(rig.disk.clone()),
        Path::new(dir),
        Arc::new(crate::MemoryLock::default()),
        control,
    );
    Store::open(place, rig.options.clone())
}

#[test]
fn a_backup_is_restored_as_it_was() {
    let rig = Rig::new(1);
    let store = rig.open().unwrap();
    fill(&store, &rig, 0, 200);
    store.snapshot().unwrap();
    fill(&store, &rig, 200, 300);
    let backup = store.backup(Path::new("/backup")).unwrap();
    let then = all(&store);
    fill(&store, &rig, 300, 350);
    assert!(matches!(store.backup(Path::new("/backup")), Err(Error::NotEmpty { .. })));
    let disk: Arc<dyn Disk> = Arc::new(rig.disk.clone());
    let version =
        restore(&disk, Path::new("/backup"), Path::new("/new"), &rig.options, Point::Newest).unwrap();
    assert_eq!(version, backup.version);
    let restored = open_at(&rig, "/new").unwrap();
    assert_eq!(all(&restored), then);
    assert!(space(&restored, "notes").put("k", "v").unwrap().version > version);
    let again = restore(&disk, Path::new("/backup"), Path::new("/new"), &rig.options, Point::Newest);
    assert!(matches!(again, Err(Error::NotEmpty { .. })));
    let nothing = restore(&disk, Path::new("/none"), Path::new("/new2"), &rig.options, Point::Newest);
    assert!(matches!(nothing, Err(Error::NothingThere { .. })));
}

#[test]
fn any_byte_of_a_backup_that_is_not_as_it_was_is_told() {
    let rig = Rig::new(2);
    let store = rig.open().unwrap();
    fill(&store, &rig, 0, 40);
    store.snapshot().unwrap();
    fill(&store, &rig, 40, 50);
    let backup = store.backup(Path::new("/backup")).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(rig.disk.clone());
    for file in &backup.files {
        let path = Path::new("/backup").join(&file.path);
        let good = rig.disk.bytes(&path).unwrap();
        for at in (0..good.len()).step_by(41) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            rig.disk.set_bytes(&path, &bad);
            let told = restore(&disk, Path::new("/backup"), Path::new("/new"), &rig.options, Point::Newest);
            assert!(matches!(told, Err(Error::Damaged { .. })), "{} byte {at}: {told:?}", path.display());
        }
        rig.disk.set_bytes(&path, &good);
    }
}

#[test]
fn a_restore_goes_back_to_any_point_that_is_kept() {
    let mut rig = Rig::new(3);
    rig.options.retain = Millis::from_secs(3600);
    let store = rig.open().unwrap();
    let mut points: Vec<(u64, Timestamp, Vec<_>)> = Vec::new();
    for round in 0..6 {
        fill(&store, &rig, round * 50, round * 50 + 50);
        points.push((store.version().unwrap(), crate::Clock::now(&*rig.clock), all(&store)));
        rig.clock.advance(Millis(5));
        if round % 2 == 1 {
            store.snapshot().unwrap();
        }
    }
    drop(store);
    let disk: Arc<dyn Disk> = Arc::new(rig.disk.clone());
    for (index, (version, time, then)) in points.iter().enumerate() {
        for (name, point) in [("v", Point::Version(*version)), ("t", Point::Time(*time))] {
            let to = format!("/new-{name}{index}");
            let found = restore(&disk, Path::new(DIR), Path::new(&to), &rig.options, point).unwrap();
            assert_eq!(found, *version);
            assert_eq!(all(&open_at(&rig, &to).unwrap()), *then, "{name}{index}");
        }
    }
    let late = Point::Version(points[5].0 + 1);
    let told = restore(&disk, Path::new(DIR), Path::new("/late"), &rig.options, late);
    assert!(matches!(told, Err(Error::NotYet { .. })), "{told:?}");
}

#[test]
fn an_interrupted_restore_is_not_opened_as_a_store() {
    let rig = Rig::new(4);
    let store = rig.open().unwrap();
    fill(&store, &rig, 0, 20);
    store.snapshot().unwrap();
    drop(store);
    for path in rig.disk.paths() {
        if path.starts_with(Path::new(DIR).join("log")) {
            rig.disk.remove(&path).unwrap();
        }
    }
    assert!(matches!(rig.open(), Err(Error::Incomplete { .. })));
}

#[test]
fn what_is_sealed_needs_its_key_and_another_key_can_take_its_place() {
    let mut rig = Rig::new(5);
    let key = |byte| Key::new([byte; 32]);
    rig.options.keys = Keyring::new(key(1), []);
    let store = rig.open().unwrap();
    fill(&store, &rig, 0, 60);
    space(&store, "notes").put("k", "a text that would be seen").unwrap();
    store.snapshot().unwrap();
    fill(&store, &rig, 60, 90);
    let then = all(&store);
    let seen = |rig: &Rig| {
        let all = rig.disk.paths();
        all.iter().any(|path| {
            let bytes = rig.disk.bytes(path).unwrap();
            bytes.windows(10).any(|window| window == b"text that ")
        })
    };
    assert!(!seen(&rig));
    drop(store);
    let with = |keys: Keyring| {
        let mut rig = rig.clone();
        rig.options.keys = keys;
        rig
    };
    assert!(matches!(with(Keyring::plain()).open(), Err(Error::KeyMissing { .. })));
    assert!(matches!(with(Keyring::new(key(2), [])).open(), Err(Error::KeyMissing { .. })));
    let store = rig.open().unwrap();
    assert_eq!(all(&store), then);
    store.rotate_key(key(2)).unwrap();
    store.rotate_key(key(3)).unwrap();
    fill(&store, &rig, 90, 95);
    let then = all(&store);
    assert!(!seen(&rig));
    drop(store);
    assert!(with(Keyring::new(key(1), [key(2)])).open().is_err());
    assert_eq!(all(&with(Keyring::new(key(3), [])).open().unwrap()), then);
}

#[test]
fn an_export_is_imported_as_it_was() {
    let rig = Rig::new(6);
    let store = rig.open().unwrap();
    fill(&store, &rig, 0, 3000);
    let notes = space(&store, "notes");
    notes.put(&[0xff, 0][..], Put::new(vec![0xfe]).content_type("x/y").tag("b").ttl(Millis(500))).unwrap();
    notes.put("soon", Put::new("x").ttl(Millis(5))).unwrap();
    space(&store, "other").put("k", "v").unwrap();
    let mut lines = Vec::new();
    let wrote = store.export(&Actor::operator(), &mut lines).unwrap();
    assert_eq!(wrote.namespaces, 2);
    rig.clock.advance(Millis(10));
    let other = Rig::new(7);
    other.clock.set(crate::Clock::now(&*rig.clock));
    let copy = other.open().unwrap();
    let read = copy.import(&Actor::operator(), &mut &*lines).unwrap();
    assert_eq!((read.entries + read.expired, read.expired), (wrote.entries, 1));
    let strip = |store: &Store| -> Vec<_> {
        let items = space(store, "notes").scan(Range::all(), 10_000).unwrap();
        items
            .into_iter()
            .map(|item| {
                (item.key, item.entry.value().to_vec(), item.entry.meta().clone(), item.entry.expires())
            })
            .collect()
    };
    assert_eq!(strip(&copy), strip(&store));
    assert_eq!(value(&space(&copy, "other"), "k"), Some(b"v".to_vec()));
}

#[test]
fn hostile_lines_are_refused_by_number() {
    let head = r#"{"quorate-memory":1,"version":1,"time":1}"#;
    let good = r#"{"namespace":"n","key":"k","value":"v"}"#;
    for (lines, number) in [
        ("", 1),
        ("{}", 1),
        ("[[[[", 1),
        (r#"{"quorate-memory":9,"version":1,"time":1}"#, 1),
        (&format!("{head}\n{good}\nnonsense"), 3),
        (&format!("{head}\n{{\"namespace\":\"n\"}}"), 2),
        (&format!("{head}\n{{\"namespace\":\"n\",\"key\":\"k\",\"value\":\"v\",\"x\":1}}"), 2),
        (&format!("{head}\n{{\"namespace\":\"n\",\"key\":\"k\",\"value-base64\":\"!\"}}"), 2),
        (&format!("{head}\n{}", "[".repeat(100_000)), 2),
    ] {
        let store = Rig::new(8).open().unwrap();
        match store.import(&Actor::operator(), &mut lines.as_bytes()) {
            Err(Error::Import { line, .. }) => assert_eq!(line, number, "{lines:.60}"),
            other => panic!("{other:?} for {lines:.60}"),
        }
    }
    let store = Rig::new(9).open().unwrap();
    let mut bytes = format!("{head}\n").into_bytes();
    bytes.extend([0xff, 0xfe, b'\n']);
    assert!(matches!(store.import(&Actor::operator(), &mut &*bytes), Err(Error::Import { line: 2, .. })));
}
