//! The log of a durable stream, filled with records that nobody wrote: it opens or says why not, and can be consumed.

#![no_main]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_base::Timestamp;
use quorate_bus::stream::delivery::Policy;
use quorate_bus::stream::{Options, Start, Stream};
use quorate_wal::sim::SimDisk;
use quorate_wal::{Batch, Log};

libfuzzer_sys::fuzz_target!(|records: Vec<Vec<u8>>| {
    let disk = SimDisk::new(1);
    let options = quorate_wal::Options { ahead_bytes: 0, ..Default::default() };
    let Ok(mut log) = Log::create(Arc::new(disk.clone()), Path::new("/s"), [1; 16], 0, options.clone()) else {
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
    let options = Options {
        disk: Arc::new(disk),
        log: options,
        ..Options::new("s", &["s"], Some(PathBuf::from("/s")))
    };
    if let Ok(stream) = Stream::open(options) {
        let _ = stream.info();
        if let Ok(consumer) = stream.consumer("c", Policy::default(), Start::First) {
            for _ in 0..8 {
                let Ok(Some(received)) = consumer.try_next() else {
                    break;
                };
                let _ = consumer.ack(&received);
            }
        }
    }
});
