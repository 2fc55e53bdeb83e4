//! The bytes of a log's segment, cut and overwritten anywhere: it opens with a prefix of what was written, or says why not.

#![no_main]

use std::path::Path;
use std::sync::Arc;

use quorate_base::Timestamp;
use quorate_wal::sim::SimDisk;
use quorate_wal::{Batch, Log, Options};

libfuzzer_sys::fuzz_target!(|input: (u16, u16, &[u8])| {
    let (at, keep, bytes) = input;
    let disk = SimDisk::new(1);
    let options = Options { ahead_bytes: 64, ..Options::default() };
    let dir = Path::new("/l");
    let mut log = Log::create(Arc::new(disk.clone()), dir, [1; 16], 0, options.clone()).expect("an empty disk");
    let record = |seq: u64| vec![seq as u8; (seq * 13 % 90) as usize];
    for seq in 0..12 {
        let mut batch = Batch::new();
        batch.push(&record(seq));
        log.append(Timestamp(seq), &mut batch).expect("a whole disk");
        log.sync().expect("a whole disk");
    }
    drop(log);
    let path = disk.paths().pop().expect("a segment");
    let mut file = disk.bytes(&path).expect("a segment");
    file.truncate(usize::from(keep).max(1));
    let at = usize::from(at) % file.len();
    let end = (at + bytes.len()).min(file.len());
    file[at..end].copy_from_slice(&bytes[..end - at]);
    disk.set_bytes(&path, &file);
    let mut next = 0;
    let _ = Log::open(Arc::new(disk), dir, options, 0, 0, &mut |found| {
        assert_eq!((found.seq, found.bytes), (next, record(next).as_slice()));
        next += 1;
    });
});
