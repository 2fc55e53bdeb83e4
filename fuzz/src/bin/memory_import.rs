//! Lines that are imported: taken or refused, and what was taken can be exported.

#![no_main]

use std::path::Path;
use std::sync::Arc;

use quorate_memory::{Actor, MemoryLock, Options, Place, Store};
use quorate_wal::Control;
use quorate_wal::sim::SimDisk;

libfuzzer_sys::fuzz_target!(|lines: &[u8]| {
    let lock = Arc::new(MemoryLock::default());
    let disk = Arc::new(SimDisk::new(1));
    let place = Place::on(disk, Path::new("/m"), lock, Arc::new(Control::memory()));
    let options = Options { background: false, ahead_bytes: 0, memory_max: 64 << 20, ..Options::default() };
    let store = Store::open(place, options).expect("an empty disk");
    let mut input = b"{\"quorate-memory\":1,\"version\":1,\"time\":1}\n".to_vec();
    input.extend(lines);
    let _ = store.import(&Actor::operator(), &mut input.as_slice());
    let mut out = Vec::new();
    store.export(&Actor::operator(), &mut out).expect("what is there can be written");
});
