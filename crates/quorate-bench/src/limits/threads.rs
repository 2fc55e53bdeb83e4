//! From one thread to another: a cache line that a spinning thread watches, and the waking of one that sleeps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Instant;

use anyhow::anyhow;

use crate::harness::cores;
use crate::harness::latency::{Latencies, Percentiles};
use crate::harness::line::{Line, trips};
use crate::harness::rounds::{Candidate, Claimed, interleave};
use crate::measure::{Claim, Context};

const ROUNDS: usize = 9;
const LINE_TRIPS: u64 = 50_000;
const WAKE_TRIPS: u64 = 3_000;

/// The names of [`candidates`], for whoever compares with them.
pub(crate) const LINE: &str = "cache line, one way";
pub(crate) const WAKE: &str = "waking a parked thread, one way";

pub(crate) fn claims(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let rounds = interleave(ROUNDS, candidates())?;
    let mut claims = Vec::new();
    for (name, word, what) in [
        (LINE, "line", "one way between two threads by a cache line that is watched"),
        (WAKE, "wake", "one way between two threads that sleep until woken"),
    ] {
        for (figure, of) in Percentiles::NAMES {
            let (id, what) = (format!("limit.thread.{word}.{figure}"), format!("{what}, {figure}"));
            claims.push(rounds.claim(context, &Claimed { id: &id, what: &what, name, unit: "ns" }, of)?);
        }
    }
    Ok(claims)
}

/// Both limits, in nanoseconds, to be run in turn with what is compared with them.
pub(crate) fn candidates() -> Vec<Candidate<'static, Percentiles>> {
    vec![Candidate::new(LINE, line), Candidate::new(WAKE, wake)]
}

fn line() -> anyhow::Result<Percentiles> {
    trips(LINE_TRIPS, || cores::pin(0), || cores::pin(1))
}

/// Half the way there and back of two threads that park.
fn wake() -> anyhow::Result<Percentiles> {
    let (there, back) = (Line::default(), Line::default());
    let ask = || {
        cores::pin(0);
        let asker = thread::current();
        thread::scope(|scope| {
            let echo = scope.spawn(|| {
                cores::pin(1);
                for trip in 1..=WAKE_TRIPS {
                    sleep_until(&there.0, trip);
                    wake_with(&back.0, trip, &asker);
                }
            });
            let mut latencies = Latencies::new();
            for trip in 1..=WAKE_TRIPS {
                let before = Instant::now();
                wake_with(&there.0, trip, echo.thread());
                sleep_until(&back.0, trip);
                latencies.record_time(before.elapsed() / 2);
            }
            latencies.percentiles()
        })
    };
    thread::scope(|scope| scope.spawn(ask).join()).map_err(|_| anyhow!("a thread panicked"))
}

fn wake_with(line: &AtomicU64, value: u64, sleeper: &Thread) {
    line.store(value, Ordering::Release);
    sleeper.unpark();
}

fn sleep_until(line: &AtomicU64, value: u64) {
    while line.load(Ordering::Acquire) != value {
        thread::park();
    }
}
