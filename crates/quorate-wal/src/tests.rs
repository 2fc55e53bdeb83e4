//! What the log promises.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use quorate_base::Timestamp;

use crate::control::Control;
use crate::disk::{Disk, OsDisk};
use crate::frame::{Batch, HEADER_LEN};
use crate::log::{Enough, Error, Log, Options};
use crate::seal::{Key, Keyring};
use crate::sim::{Fault, Random, SimDisk};
use crate::{Group, frame};

const DIR: &str = "/log";

fn options() -> Options {
    Options { segment_bytes: 4096, ahead_bytes: 1024, keys: Keyring::plain() }
}

fn sealed(key: u8, older: &[u8]) -> Options {
    let older = older.iter().map(|byte| Key::new([*byte; 32]));
    Options { keys: Keyring::new(Key::new([key; 32]), older), ..options() }
}

fn create(disk: &SimDisk, options: Options) -> Result<Log, Error> {
    Log::create(Arc::new(disk.clone()), Path::new(DIR), [7; 16], 0, options)
}

type Found = Vec<(u64, Vec<u8>)>;

fn open_from(disk: &SimDisk, options: Options, from: u64, durable: u64) -> Result<(Log, Found, u64), Error> {
    let mut found = Vec::new();
    let (log, opened) =
        Log::open(Arc::new(disk.clone()), Path::new(DIR), options, from, durable, &mut |record| {
            found.push((record.seq, record.bytes.to_vec()));
        })?;
    Ok((log, found, opened.torn_bytes))
}

fn open(disk: &SimDisk, options: Options) -> Result<(Log, Found, u64), Error> {
    open_from(disk, options, 0, 0)
}

fn record(seq: u64) -> Vec<u8> {
    let length = (seq * 37 % 700) as usize;
    let mut bytes = format!("record {seq} ").into_bytes();
    bytes.resize(bytes.len() + length, b'a' + (seq % 26) as u8);
    bytes
}

fn append(log: &mut Log, count: u64) -> Result<(), Error> {
    let mut batch = Batch::new();
    for seq in log.next()..log.next() + count {
        batch.push(&record(seq));
    }
    log.append(Timestamp(log.next()), &mut batch).map(|_| ())
}

fn assert_prefix(found: &Found, context: &str) {
    for (index, (seq, bytes)) in found.iter().enumerate() {
        assert_eq!(*seq, index as u64, "{context}");
        assert_eq!(*bytes, record(*seq), "{context}: record {seq}");
    }
}

#[test]
fn the_bytes_of_a_log_are_these() {
    let disk = SimDisk::new(0);
    let mut log = create(&disk, Options { ahead_bytes: 0, ..options() }).unwrap();
    let mut batch = Batch::new();
    batch.push(b"one");
    batch.push(b"");
    log.append(Timestamp(0x0102), &mut batch).unwrap();
    let bytes = disk.bytes(&Path::new(DIR).join("00000000000000000000.log")).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // A change of these bytes is a new format version, which must read the old one.
    assert_eq!(
        hex,
        concat!(
            "5152544557414c0001000000000000000707070707070707070707070707070700000000000000000000000000000000",
            "000000000000000000000000b2f90e650b000000de3b6d7c000000000000000000000000000000000201000000000000",
            "02000000000000000000000000000000030000006f6e65000000000000000000"
        )
    );
}

#[test]
fn records_are_read_back_in_order_over_many_segments() {
    let disk = SimDisk::new(1);
    let mut log = create(&disk, options()).unwrap();
    for count in [1, 5, 40, 1, 20, 3, 100, 50, 30] {
        append(&mut log, count).unwrap();
        log.sync().unwrap();
    }
    drop(log);
    let (log, found, torn) = open(&disk, options()).unwrap();
    assert_eq!((found.len(), torn), (250, 0));
    assert_prefix(&found, "all");
    assert!(log.segments().count() > 3);
}

#[test]
fn an_open_from_a_number_shows_only_what_follows() {
    let disk = SimDisk::new(2);
    let mut log = create(&disk, options()).unwrap();
    for _ in 0..100 {
        append(&mut log, 2).unwrap();
    }
    log.sync().unwrap();
    let (_, found, _) = open_from(&disk, options(), 151, 0).unwrap();
    assert_eq!(found.first().map(|(seq, _)| *seq), Some(151));
    assert_eq!(found.len(), 49);
}

#[test]
fn reading_begins_anywhere_and_ends_when_told() {
    let disk = SimDisk::new(3);
    let mut log = create(&disk, options()).unwrap();
    for _ in 0..300 {
        append(&mut log, 3).unwrap();
    }
    for from in [0, 1, 2, 3, 450, 898, 899] {
        let mut found = Vec::new();
        log.read(from, &mut |record| {
            found.push((record.seq, record.bytes.to_vec()));
            if found.len() == 10 { Enough::Yes } else { Enough::No }
        })
        .unwrap();
        assert_eq!(found.len() as u64, 10.min(900 - from));
        for (index, (seq, bytes)) in found.iter().enumerate() {
            assert_eq!((*seq, bytes), (from + index as u64, &record(*seq)));
        }
    }
    assert_eq!(log.at_time(Timestamp(0)).unwrap(), 0);
    assert_eq!(log.at_time(Timestamp(301)).unwrap(), 303);
    assert_eq!(log.at_time(Timestamp(10_000)).unwrap(), 900);
}

#[test]
fn what_is_forgotten_is_said_to_be() {
    let disk = SimDisk::new(4);
    let mut log = create(&disk, options()).unwrap();
    for _ in 0..100 {
        append(&mut log, 1).unwrap();
    }
    log.sync().unwrap();
    log.forget(50).unwrap();
    assert!(log.first() > 0 && log.first() <= 50);
    let error = log.read(0, &mut |_| Enough::No).unwrap_err();
    assert!(matches!(error, Error::Forgotten { wanted: 0, .. }), "{error}");
    let first = log.first();
    drop(log);
    assert!(matches!(open(&disk, options()).unwrap_err(), Error::Gap { from: 0, to, .. } if to == first));
    assert_eq!(open_from(&disk, options(), first, 0).unwrap().1.len() as u64, 100 - first);
}

#[test]
fn another_reader_sees_what_is_appended() {
    let disk = SimDisk::new(5);
    let mut writer = create(&disk, options()).unwrap();
    let mut reader =
        Log::attach(Arc::new(disk), Path::new(DIR), options(), 0, &mut |_| panic!("nothing is there"))
            .unwrap();
    let mut seen = 0;
    for count in [1, 30, 2, 90] {
        append(&mut writer, count).unwrap();
        reader
            .refresh(&mut |found| {
                assert_eq!((found.seq, found.bytes), (seen, record(seen).as_slice()));
                seen += 1;
            })
            .unwrap();
        assert_eq!(reader.next(), writer.next());
    }
    // The reader can take over the writing where the writer is gone.
    drop(writer);
    reader.cut(0).unwrap();
    append(&mut reader, 3).unwrap();
    assert_eq!(seen + 3, reader.next());
}

/// Runs a workload until the disk stops it; answers how many records were acknowledged and how many were tried.
fn workload(disk: &SimDisk, options: &Options, seed: u64) -> (u64, u64) {
    let mut random = Random(seed);
    let mut acknowledged = 0;
    let opened = match Log::exists(disk, Path::new(DIR)) {
        Ok(true) => open(disk, options.clone()).map(|(log, ..)| log),
        Ok(false) => create(disk, options.clone()),
        Err(error) => Err(error),
    };
    let Ok(mut log) = opened else {
        return (0, 0);
    };
    for _ in 0..20 {
        for _ in 0..=random.below(3) {
            let count = 1 + random.below(6);
            if append(&mut log, count).is_err() {
                return (acknowledged, log.next() + count);
            }
        }
        if log.sync().is_err() {
            return (acknowledged, log.next());
        }
        acknowledged = log.synced();
    }
    (acknowledged, log.next())
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_machine_stops() {
    for options in [options(), sealed(1, &[])] {
        let whole = SimDisk::new(9);
        let (all, _) = workload(&whole, &options, 3);
        let operations = whole.operations();
        assert!(all > 60 && operations > 60);
        for at in 0..operations {
            for seed in 0..2 {
                let disk = SimDisk::new(at ^ seed);
                disk.fault(at, Fault::Crash);
                let (acknowledged, tried) = workload(&disk, &options, 3);
                let disk = disk.after_crash(seed * 7919 + at);
                let context = format!("crash at {at}, seed {seed}");
                // The machine may stop again while the log is opened.
                let again = disk.after_kill();
                again.fault(seed, Fault::Crash);
                let _ = open(&again, options.clone());
                for disk in [disk, again.after_crash(seed + at)] {
                    if !Log::exists(&disk, Path::new(DIR)).unwrap() {
                        assert_eq!(acknowledged, 0, "{context}");
                        continue;
                    }
                    let (mut log, found, _) =
                        open(&disk, options.clone()).unwrap_or_else(|error| panic!("{context}: {error}"));
                    assert_prefix(&found, &context);
                    let count = found.len() as u64;
                    assert!(
                        (acknowledged..=tried).contains(&count),
                        "{context}: {acknowledged} ≤ {count} ≤ {tried}"
                    );
                    // And it goes on.
                    append(&mut log, 2).unwrap();
                    log.sync().unwrap();
                    drop(log);
                    let (_, found, _) = open(&disk.after_crash(1), options.clone()).unwrap();
                    assert_eq!(found.len() as u64, count + 2, "{context}");
                    assert_prefix(&found, &context);
                }
            }
        }
    }
}

#[test]
fn after_a_failed_sync_or_write_nothing_is_acknowledged_until_it_is_opened_again() {
    let whole = SimDisk::new(9);
    workload(&whole, &options(), 3);
    for at in 0..whole.operations() {
        for fault in [Fault::SyncFails, Fault::WriteFails, Fault::Full] {
            let disk = SimDisk::new(at);
            disk.fault(at, fault);
            let (acknowledged, tried) = workload(&disk, &options(), 3);
            let syncs = disk.syncs();
            disk.make_room();
            let disk = disk.after_crash(at);
            assert!(syncs <= whole.syncs());
            if !Log::exists(&disk, Path::new(DIR)).unwrap() {
                assert_eq!(acknowledged, 0);
                continue;
            }
            let (_, found, _) =
                open(&disk, options()).unwrap_or_else(|error| panic!("{fault:?} at {at}: {error}"));
            assert_prefix(&found, "after a fault");
            let count = found.len() as u64;
            assert!(
                (acknowledged..=tried).contains(&count),
                "{fault:?} at {at}: {acknowledged} {count} {tried}"
            );
        }
    }
}

#[test]
fn a_log_whose_sync_failed_never_syncs_again() {
    let disk = SimDisk::new(1);
    let mut log = create(&disk, options()).unwrap();
    append(&mut log, 1).unwrap();
    disk.fault(disk.operations(), Fault::SyncFails);
    assert!(matches!(log.sync().unwrap_err(), Error::Io { .. }));
    let syncs = disk.syncs();
    assert!(matches!(log.sync().unwrap_err(), Error::Poisoned { .. }));
    assert!(matches!(append(&mut log, 1).unwrap_err(), Error::Poisoned { .. }));
    assert_eq!(disk.syncs(), syncs);
}

#[test]
fn a_flipped_bit_anywhere_is_told_or_harms_nothing() {
    for options in [options(), sealed(3, &[])] {
        let disk = SimDisk::new(11);
        let mut log = create(&disk, options.clone()).unwrap();
        for _ in 0..4 {
            append(&mut log, 2).unwrap();
            log.sync().unwrap();
        }
        let durable = log.synced();
        drop(log);
        for path in disk.paths() {
            let bytes = disk.bytes(&path).unwrap();
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << (at % 8);
                disk.set_bytes(&path, &flipped);
                let copy = disk.after_kill();
                match open_from(&copy, options.clone(), 0, durable) {
                    Err(
                        Error::Damaged { .. }
                        | Error::Gap { .. }
                        | Error::Lost { .. }
                        | Error::KeyMissing { .. },
                    ) => {}
                    Err(error) => panic!("byte {at} of {}: {error}", path.display()),
                    // Behind the last record there are only zeros: a flip there is cut off like a torn write, and nothing is lost.
                    Ok((_, found, torn)) => {
                        assert_eq!(found.len() as u64, durable, "byte {at} of {}", path.display());
                        assert!(torn > 0 || at < HEADER_LEN, "byte {at} of {} went unseen", path.display());
                        assert!(at >= HEADER_LEN, "byte {at} of the header went unseen");
                        assert_prefix(&found, "flip");
                    }
                }
            }
            disk.set_bytes(&path, &bytes);
        }
    }
}

#[test]
fn damage_before_what_was_durable_is_told_even_without_the_shared_page() {
    let disk = SimDisk::new(12);
    let mut log = create(&disk, Options { segment_bytes: 1 << 20, ..options() }).unwrap();
    for _ in 0..20 {
        append(&mut log, 2).unwrap();
        log.sync().unwrap();
    }
    drop(log);
    let path = disk.paths().pop().unwrap();
    let mut bytes = disk.bytes(&path).unwrap();
    bytes[HEADER_LEN + 60] ^= 1;
    disk.set_bytes(&path, &bytes);
    assert!(matches!(open(&disk, options()).unwrap_err(), Error::Damaged { .. }));
}

#[test]
fn a_frame_inside_a_record_does_not_pass_for_one() {
    let disk = SimDisk::new(13);
    let mut log = create(&disk, options()).unwrap();
    append(&mut log, 1).unwrap();
    // A whole frame of another log, with plausible numbers, stored as a record whose write is then torn.
    let mut forged = vec![0; frame::FRAME_HEAD];
    forged.extend([4, 0, 0, 0, 1, 2, 3, 4]);
    let head = frame::Head {
        length: 8,
        crc: 0,
        first: 2,
        synced: 2,
        time: Timestamp(1),
        count: 1,
        link: 0,
        flags: 0,
    };
    frame::finish(&mut forged, &[9; 16], head);
    log.sync().unwrap();
    let mut batch = Batch::new();
    batch.push(&[&[0; 4], forged.as_slice()].concat());
    log.append(Timestamp(2), &mut batch).unwrap();
    drop(log);
    let path: PathBuf = disk.paths().pop().unwrap();
    let mut bytes = disk.bytes(&path).unwrap();
    let at = bytes.windows(8).rposition(|window| window == [4, 0, 0, 0, 1, 2, 3, 4]).unwrap();
    // Torn: the beginning of its frame never reached the disk.
    bytes[at - 100..at - 52].fill(0xff);
    disk.set_bytes(&path, &bytes);
    let (_, found, torn) = open(&disk, options()).unwrap();
    assert_eq!(found.len(), 1);
    assert!(torn > 0);
}

#[test]
fn sealed_records_are_not_on_the_disk_and_need_their_key() {
    let disk = SimDisk::new(14);
    let mut log = create(&disk, sealed(1, &[])).unwrap();
    append(&mut log, 20).unwrap();
    log.sync().unwrap();
    // Another key from here on; the old one still opens what it sealed.
    log.set_keys(sealed(2, &[1]).keys);
    log.roll().unwrap();
    append(&mut log, 20).unwrap();
    log.sync().unwrap();
    drop(log);
    for path in disk.paths() {
        let bytes = disk.bytes(&path).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"record "), "{}", path.display());
    }
    assert!(matches!(open(&disk, sealed(2, &[])).unwrap_err(), Error::KeyMissing { .. }));
    assert!(matches!(open(&disk, options()).unwrap_err(), Error::KeyMissing { .. }));
    assert_eq!(open(&disk, sealed(2, &[1])).unwrap().1.len(), 40);
}

#[test]
fn a_batch_that_is_too_large_is_refused_and_nothing_is_written() {
    let disk = SimDisk::new(15);
    let mut log = create(&disk, options()).unwrap();
    let mut batch = Batch::new();
    batch.push(&vec![0; frame::BODY_MAX]);
    assert!(matches!(log.append(Timestamp(0), &mut batch).unwrap_err(), Error::TooLarge { .. }));
    append(&mut log, 1).unwrap();
    assert_eq!(log.next(), 1);
}

#[test]
fn a_group_answers_every_job_once_and_in_order() {
    let group = Group::new(8);
    let total = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (group, total) = (&group, &total);
            scope.spawn(move || {
                for turn in 0..200 {
                    let job = thread * 1000 + turn;
                    let answer = group.submit(job, |jobs| {
                        total.fetch_add(jobs.len() as u64, Ordering::Relaxed);
                        assert!(jobs.len() <= 8);
                        jobs.into_iter().map(|job| job * 2).collect()
                    });
                    assert_eq!(answer, job * 2);
                }
            });
        }
    });
    assert_eq!(total.load(Ordering::Relaxed), 1600);
}

#[test]
fn a_group_goes_on_after_a_panic() {
    let group: Group<u32, u32> = Group::new(8);
    let died =
        std::thread::scope(|scope| scope.spawn(|| group.submit(1, |_| panic!("the work died"))).join());
    assert!(died.is_err());
    assert_eq!(group.submit(2, |jobs| jobs), 2);
}

#[test]
fn the_shared_page_is_seen_by_all_who_map_it_and_not_believed_when_torn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let (one, other) = (Control::map(&path).unwrap(), Control::map(&path).unwrap());
    assert_eq!((one.committed(), one.synced()), (None, None));
    one.set_committed(12);
    one.set_synced(11);
    assert_eq!((other.committed(), other.synced()), (Some(12), Some(11)));
    assert!(other.is_past(11) && !other.is_past(12));
    drop((one, other));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[0] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    let again = Control::map(&path).unwrap();
    assert_eq!((again.committed(), again.synced()), (None, Some(11)));
}

#[test]
fn a_real_folder_holds_a_log_too() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let mut log = Log::create(Arc::clone(&disk), &dir, [1; 16], 0, options()).unwrap();
    append(&mut log, 100).unwrap();
    append(&mut log, 100).unwrap();
    log.sync().unwrap();
    drop(log);
    let mut count = 0;
    Log::open(disk, &dir, options(), 0, 200, &mut |found| {
        assert_eq!(found.bytes, record(found.seq));
        count += 1;
    })
    .unwrap();
    assert_eq!(count, 200);
}

proptest! {
    #[test]
    fn any_bytes_in_place_of_a_segment_are_refused_or_read_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..600), keep in 0_usize..600,
    ) {
        let disk = SimDisk::new(1);
        let mut log = create(&disk, options()).unwrap();
        append(&mut log, 1).unwrap();
        log.sync().unwrap();
        drop(log);
        let path = disk.paths().pop().unwrap();
        let mut whole = disk.bytes(&path).unwrap();
        whole.truncate(keep);
        whole.extend(bytes);
        disk.set_bytes(&path, &whole);
        if let Ok((_, found, _)) = open(&disk, options()) {
            assert_prefix(&found, "any bytes");
        }
    }
}
