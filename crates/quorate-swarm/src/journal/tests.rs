use std::io;
use std::path::PathBuf;

use proptest::prelude::*;
use quorate_base::{Digest, Timestamp};

use super::frame::{self, HEADER_LEN};
use super::*;

const PAYLOADS: [&[u8]; 3] = [b"{\"a\":1}", b"", b"three"];

fn file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    (folder, path)
}

fn written() -> Vec<u8> {
    let (_folder, path) = file();
    let mut journal = Journal::create(&path, [7; 16]).unwrap();
    journal.append(Timestamp(1000), &PAYLOADS[..2]).unwrap();
    journal.append(Timestamp(2000), &PAYLOADS[2..]).unwrap();
    drop(journal);
    std::fs::read(&path).unwrap()
}

fn read(bytes: &[u8]) -> Result<(Vec<Entry>, Tail), Damaged> {
    frame::check_header(bytes)?;
    frame::decode(bytes, HEADER_LEN, frame::genesis(&bytes[..HEADER_LEN]), 0)
}

#[test]
fn its_bytes_are_as_they_were() {
    let bytes = written();
    assert_eq!(bytes.len(), 32 + 3 * 56 + 12);
    let hex = |range: std::ops::Range<usize>| {
        bytes[range].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    assert_eq!(hex(0..32), "515254454a524e000100000007070707070707070707070707070707af314585");
    assert_eq!(
        hex(32..95),
        "370000005a341561f6aca710c0df9b1021d523a52973e6951689380549c29b829559cfb1ce1b62d10000000000000000e8030000000000007b2261223a317d"
    );
    assert_eq!(
        Digest::of(&bytes).to_string(),
        "49ca1f106116d0c582cbfb65541302ff44f4f37b48f1823279a572591431ef50"
    );
}

#[test]
fn what_was_appended_is_read_back_in_order() {
    let (entries, tail) = read(&written()).unwrap();
    assert_eq!(tail, Tail::Clean);
    let payloads: Vec<&[u8]> = entries.iter().map(|entry| entry.payload.as_slice()).collect();
    assert_eq!(payloads, PAYLOADS);
    assert_eq!(
        entries.iter().map(|entry| (entry.seq, entry.time.0)).collect::<Vec<_>>(),
        [(0, 1000), (1, 1000), (2, 2000)]
    );
}

#[test]
fn a_file_cut_anywhere_keeps_every_whole_record_and_goes_on() {
    let bytes = written();
    let ends: Vec<usize> = {
        let (entries, _) = read(&bytes).unwrap();
        entries
            .iter()
            .skip(1)
            .map(|entry| usize::try_from(entry.offset).unwrap())
            .chain([bytes.len()])
            .collect()
    };
    for length in HEADER_LEN..bytes.len() {
        let (_folder, path) = file();
        std::fs::write(&path, &bytes[..length]).unwrap();
        let whole = ends.iter().filter(|end| **end <= length).count();
        let (mut journal, entries, torn) = Journal::open(&path).unwrap();
        assert_eq!(entries.len(), whole, "cut at {length}");
        assert_eq!(torn.is_some(), length != HEADER_LEN && !ends.contains(&length), "cut at {length}");
        journal.append(Timestamp(3000), &[b"more"]).unwrap();
        drop(journal);
        let (entries, tail) = Journal::read(&path).unwrap();
        assert_eq!((entries.len(), tail), (whole + 1, Tail::Clean), "cut at {length}");
    }
    for length in 0..HEADER_LEN {
        assert_eq!(read(&bytes[..length]), Err(Damaged::NeverBegun));
    }
    assert_eq!(read(b"#!/bin/sh"), Err(Damaged::NotAJournal));
}

#[test]
fn a_flipped_bit_is_refused_or_in_the_last_record_cut() {
    let bytes = written();
    let (entries, _) = read(&bytes).unwrap();
    let last = usize::try_from(entries[2].offset).unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bent = bytes.clone();
            bent[at] ^= 1 << bit;
            match read(&bent) {
                Err(Damaged::Frame { offset, .. }) => {
                    assert!(usize::try_from(offset).unwrap() <= at && at < last)
                }
                Err(_) => assert!(at < HEADER_LEN),
                Ok((entries, tail)) => {
                    assert!(at >= last, "byte {at} bit {bit} passed unseen");
                    assert_eq!((entries.len(), tail != Tail::Clean), (2, true));
                }
            }
        }
    }
}

#[test]
fn a_record_taken_out_put_in_or_exchanged_is_refused() {
    let bytes = written();
    let (entries, _) = read(&bytes).unwrap();
    let cut = |i: usize| usize::try_from(entries[i].offset).unwrap();
    let without = [&bytes[..cut(1)], &bytes[cut(2)..]].concat();
    assert!(matches!(read(&without), Err(Damaged::Frame { reason, .. }) if reason.contains("missing")));
    let twice = [&bytes[..cut(1)], &bytes[cut(0)..]].concat();
    assert!(matches!(read(&twice), Err(Damaged::Frame { .. })));
    // Forged with fitting checksums, but without the chain.
    let mut forged = bytes[..cut(0)].to_vec();
    frame::encode(&mut forged, &Digest::of(b"other"), 0, Timestamp(1000), b"forged");
    assert!(matches!(read(&forged), Err(Damaged::Frame { reason, .. }) if reason.contains("chain")));
}

#[test]
fn another_version_is_told_apart_from_damage() {
    let mut bytes = written();
    bytes[8] = 2;
    assert_eq!(read(&bytes), Err(Damaged::Version(2)));
}

#[test]
fn one_process_writes_and_others_read() {
    let (_folder, path) = file();
    let mut journal = Journal::create(&path, [1; 16]).unwrap();
    assert!(matches!(Journal::open(&path), Err(Error::Locked { .. })));
    let mut follower = Follower::after(&path, 0).unwrap();
    journal.append(Timestamp(1), &[b"one"]).unwrap();
    assert_eq!(follower.poll().unwrap().len(), 1);
    journal.append(Timestamp(2), &[b"two", b"three"]).unwrap();
    let fresh = follower.poll().unwrap();
    assert_eq!(fresh.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2]);
    assert!(matches!(Journal::create(&path, [1; 16]), Err(Error::Io { .. })));
}

/// Storage whose n-th operation fails, after having written half.
#[derive(Debug)]
struct FailingStorage {
    operations_left: u32,
}

impl Storage for FailingStorage {
    fn append(&mut self, _: &[u8]) -> io::Result<()> {
        self.sync()
    }

    fn sync(&mut self) -> io::Result<()> {
        let Some(left) = self.operations_left.checked_sub(1) else {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        };
        self.operations_left = left;
        Ok(())
    }
}

#[test]
fn after_a_failed_write_or_sync_nothing_more_is_taken() {
    for operations_left in [2, 3] {
        let storage = Box::new(FailingStorage { operations_left });
        let mut journal = Journal::on("journal".as_ref(), storage, Digest::of(b""), 0);
        assert_eq!(journal.append(Timestamp(1), &[b"one"]).unwrap(), [0]);
        assert!(matches!(journal.append(Timestamp(2), &[b"two"]), Err(Error::Io { .. })));
        assert!(matches!(journal.append(Timestamp(3), &[b"three"]), Err(Error::Poisoned { .. })));
    }
}

#[test]
fn a_failed_write_leaves_on_disk_what_was_promised_before() {
    let (_folder, path) = file();
    std::fs::write(&path, written()).unwrap();
    // Half of a batch reached the file before the disk was full.
    let (entries, _) = Journal::read(&path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let whole = bytes.len();
    frame::encode(&mut bytes, &entries[2].chain, 3, Timestamp(9), b"first of the batch");
    frame::encode(&mut bytes, &Digest::of(b""), 4, Timestamp(9), b"second");
    bytes.truncate(whole + 60);
    std::fs::write(&path, &bytes).unwrap();
    let (_, kept, torn) = Journal::open(&path).unwrap();
    assert_eq!(kept, entries);
    assert_eq!(torn, Some(TornTail { offset: whole as u64, bytes: 60 }));
    assert_eq!(std::fs::read(&path).unwrap().len(), whole);
}

#[test]
fn zeros_at_the_end_as_a_power_cut_leaves_them_are_cut() {
    let (_folder, path) = file();
    let bytes = written();
    std::fs::write(&path, [bytes.as_slice(), &[0; 5000]].concat()).unwrap();
    let (_, entries, torn) = Journal::open(&path).unwrap();
    assert_eq!((entries.len(), torn.map(|torn| torn.bytes)), (3, Some(5000)));
}

#[test]
fn a_bad_end_that_looks_like_frames_over_and_over_is_refused_in_bounded_time() {
    let mut bytes = written();
    // Every eight bytes are a plausible length and a number in reach, with no fitting checksum.
    let piece = 0x0000_1000u64.to_le_bytes();
    bytes.extend(piece.iter().cycle().take(1 << 20));
    assert!(matches!(read(&bytes), Err(Damaged::Frame { reason, .. }) if reason.contains("not clearly")));
}

#[test]
fn a_journal_is_private_to_its_user_and_never_written_over() {
    use std::os::unix::fs::MetadataExt;
    let (folder, path) = file();
    drop(Journal::create(&path, [1; 16]).unwrap());
    assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
    assert!(matches!(Journal::create(&path, [2; 16]), Err(Error::Io { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), frame::header([1; 16]));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_record_too_long_is_refused_and_harms_nothing() {
    let (_folder, path) = file();
    let mut journal = Journal::create(&path, [1; 16]).unwrap();
    let long = vec![b' '; frame::PAYLOAD_MAX + 1];
    assert!(matches!(journal.append(Timestamp(1), &[b"short", &long]), Err(Error::TooLarge { .. })));
    assert_eq!(journal.append(Timestamp(1), &[&long[1..]]).unwrap(), [0]);
    drop(journal);
    assert_eq!(Journal::read(&path).unwrap().0[0].payload.len(), frame::PAYLOAD_MAX);
}

#[test]
fn a_reader_beside_the_writer_sees_a_growing_prefix_and_never_damage() {
    const BATCHES: u64 = 60;
    let (_folder, path) = file();
    let mut journal = Journal::create(&path, [1; 16]).unwrap();
    let mut follower = Follower::after(&path, 0).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for batch in 0..BATCHES {
                let payload = vec![b'x'; 1 + 700 * batch as usize];
                journal.append(Timestamp(batch), &[&payload, b"second"]).unwrap();
            }
        });
        let mut followed = Vec::new();
        while followed.len() < 2 * BATCHES as usize {
            followed.extend(follower.poll().unwrap());
            let (entries, _) = Journal::read(&path).unwrap();
            assert_eq!(entries[..followed.len()], followed);
        }
        assert!(follower.poll().unwrap().is_empty());
    });
}

#[test]
fn a_follower_begins_where_it_is_told_and_notices_records_that_vanish() {
    let (_folder, path) = file();
    std::fs::write(&path, written()).unwrap();
    let all = Journal::read(&path).unwrap().0;
    for seen in 0..5 {
        assert_eq!(Follower::after(&path, seen).unwrap().poll().unwrap(), all[seen.min(3)..]);
    }
    let mut follower = Follower::after(&path, 3).unwrap();
    std::fs::write(&path, &written()[..HEADER_LEN]).unwrap();
    assert!(matches!(follower.poll(), Err(Error::Damaged { .. })));
}

proptest! {
    #[test]
    fn batches_read_back_as_they_were_and_any_cut_keeps_a_prefix(
        batches in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4), 0..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let (_folder, path) = file();
        let mut journal = Journal::create(&path, [3; 16]).unwrap();
        for (time, batch) in batches.iter().enumerate() {
            let payloads: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
            journal.append(Timestamp(time as u64), &payloads).unwrap();
        }
        drop(journal);
        let written: Vec<&Vec<u8>> = batches.iter().flatten().collect();
        let (entries, tail) = Journal::read(&path).unwrap();
        prop_assert_eq!(tail, Tail::Clean);
        prop_assert!(entries.iter().map(|entry| &entry.payload).eq(written.iter().copied()));
        let bytes = std::fs::read(&path).unwrap();
        let kept = HEADER_LEN + cut.index(bytes.len() - HEADER_LEN + 1);
        let (prefix, _) = read(&bytes[..kept]).unwrap();
        prop_assert_eq!(&prefix[..], &entries[..prefix.len()]);
        let end = |entry: &Entry| entry.offset as usize + 56 + entry.payload.len();
        prop_assert!(entries.get(prefix.len()).is_none_or(|lost| end(lost) > kept));
    }

    #[test]
    fn arbitrary_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes);
        let after_header = [frame::header([0; 16]).as_slice(), &bytes].concat();
        let _ = read(&after_header);
    }
}
