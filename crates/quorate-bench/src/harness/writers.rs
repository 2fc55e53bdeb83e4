//! Several threads that each wait for the acknowledgement of one write before the next.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::harness::latency::{Latencies, Percentiles};

/// What came of a run of writers.
#[derive(Debug, Clone)]
pub(crate) struct Acked {
    pub(crate) per_second: f64,
    /// From the call to its return.
    pub(crate) latency: Percentiles,
    /// How many writes of each writer were acknowledged: all with a smaller number.
    pub(crate) counts: Vec<u64>,
}

/// Runs the writers until the time is over. Each calls `write` with its own number and the number of its write, both from nought;
/// a call returns when the write is acknowledged.
pub(crate) fn writers(
    count: usize,
    time: Duration,
    write: impl Fn(usize, u64) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<Acked> {
    let (write, barrier) = (&write, Barrier::new(count + 1));
    let one = |writer: usize| -> anyhow::Result<(u64, Latencies)> {
        let mut latencies = Latencies::new();
        barrier.wait();
        let start = Instant::now();
        let (mut sequence, mut now) = (0, start);
        while now.duration_since(start) < time {
            write(writer, sequence)?;
            sequence += 1;
            let after = Instant::now();
            latencies.record_time(after - now);
            now = after;
        }
        Ok((sequence, latencies))
    };
    thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = (0..count).map(|writer| scope.spawn(move || one(writer))).collect();
        barrier.wait();
        let start = Instant::now();
        let (mut counts, mut latencies) = (Vec::new(), Latencies::new());
        for thread in threads {
            let (acknowledged, times) = thread.join().map_err(|_| anyhow!("a writer panicked"))??;
            counts.push(acknowledged);
            latencies.add(&times);
        }
        let seconds = start.elapsed().as_secs_f64();
        let total: u64 = counts.iter().sum();
        Ok(Acked { per_second: total as f64 / seconds, latency: latencies.percentiles(), counts })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn every_acknowledged_write_was_made_once() {
        let made = Mutex::new(Vec::new());
        let write = |writer, sequence| {
            made.lock().unwrap().push((writer, sequence));
            Ok(())
        };
        let acked = writers(3, Duration::from_millis(5), write).unwrap();
        let mut made = made.into_inner().unwrap();
        made.sort_unstable();
        let expected =
            acked.counts.iter().enumerate().flat_map(|(writer, count)| (0..*count).map(move |n| (writer, n)));
        assert_eq!(made, expected.collect::<Vec<_>>());
        assert_eq!(acked.counts.iter().sum::<u64>(), made.len() as u64);
    }

    #[test]
    fn a_write_that_fails_fails_the_run() {
        assert!(writers(2, Duration::from_millis(5), |writer, _| Err(anyhow!("{writer}"))).is_err());
    }
}
