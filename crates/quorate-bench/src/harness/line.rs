//! A cache line that goes there and back between two threads.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::anyhow;

use crate::harness::latency::{Latencies, Percentiles};

/// A counter with cache lines of its own: two, because they are fetched in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Line(pub(crate) AtomicU64);

/// Half the way there and back, without what asking the clock takes. Each thread is placed before it begins.
pub(crate) fn trips(
    count: u64,
    asker: impl FnOnce() + Send,
    echo: impl FnOnce() + Send,
) -> anyhow::Result<Percentiles> {
    let (there, back) = (&Line::default(), &Line::default());
    let clock = clock();
    thread::scope(|scope| {
        let echo = scope.spawn(move || {
            echo();
            for trip in 1..=count {
                await_value(&there.0, trip);
                back.0.store(trip, Ordering::Release);
            }
        });
        let ask = scope.spawn(move || {
            asker();
            let mut latencies = Latencies::new();
            let mut before = Instant::now();
            for trip in 1..=count {
                there.0.store(trip, Ordering::Release);
                await_value(&back.0, trip);
                let after = Instant::now();
                latencies.record(((after - before).as_nanos() as u64).saturating_sub(clock) / 2);
                before = after;
            }
            latencies.percentiles()
        });
        echo.join().map_err(|_| anyhow!("the echo panicked"))?;
        ask.join().map_err(|_| anyhow!("the asker panicked"))
    })
}

/// What asking for the time takes, in nanoseconds.
fn clock() -> u64 {
    const ASKED: u32 = 1_000;
    let start = Instant::now();
    for _ in 0..ASKED {
        std::hint::black_box(Instant::now());
    }
    (start.elapsed() / ASKED).as_nanos() as u64
}

fn await_value(line: &AtomicU64, value: u64) {
    let mut spins = 0_u32;
    while line.load(Ordering::Acquire) != value {
        spin_loop();
        spins = spins.wrapping_add(1);
        // Nobody answers because nobody else runs.
        if spins.is_multiple_of(1 << 16) {
            thread::yield_now();
        }
    }
}
