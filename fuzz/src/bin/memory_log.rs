//! The log of a memory, with records behind it that nobody wrote: it opens or says why not, and can be read and written.

#![no_main]

use std::path::Path;
use std::sync::Arc;

use quorate_base::Timestamp;
use quorate_memory::{Actor, Kind, MemoryLock, Options, Place, Policy, Range, Store};
use quorate_wal::sim::SimDisk;
use quorate_wal::{Batch, Control, Log};

fn open(disk: &SimDisk) -> Result<Store, quorate_memory::Error> {
    let lock = Arc::new(MemoryLock::default());
    let place = Place::on(Arc::new(disk.clone()), Path::new("/m"), lock, Arc::new(Control::memory()));
    let implicit = Some(Policy::new(Kind::Project));
    Store::open(place, Options { implicit, background: false, ahead_bytes: 0, ..Options::default() })
}

libfuzzer_sys::fuzz_target!(|records: Vec<Vec<u8>>| {
    let disk = SimDisk::new(1);
    let operator = Actor::operator();
    {
        let store = open(&disk).expect("an empty disk");
        let space = store.space(&operator, "default").expect("a namespace");
        space.put(b"key".as_slice(), b"value".as_slice()).expect("a whole disk");
        store.close().expect("a whole disk");
    }
    let options = quorate_wal::Options { ahead_bytes: 0, ..Default::default() };
    let opened = Log::open(Arc::new(disk.clone()), Path::new("/m/log"), options, 0, 0, &mut |_| {});
    let Ok((mut log, _)) = opened else {
        return;
    };
    let mut batch = Batch::new();
    for record in &records {
        batch.push(record);
    }
    if log.append(Timestamp(1), &mut batch).and_then(|_| log.sync()).is_err() {
        return;
    }
    drop(log);
    if let Ok(store) = open(&disk) {
        let _ = store.stats();
        if let Ok(space) = store.space(&operator, "default") {
            let _ = space.scan(Range::all(), 100);
            let _ = space.put(b"key".as_slice(), b"again".as_slice());
        }
    }
});
