//! Latency at a fixed rate: every message says when it was to be sent, so that waiting in a queue counts.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::harness::message::Message;

/// Messages at a fixed rate: each is yielded when it is due, at once where that has passed already. The due time does not move
/// when the sender is held up, which is what a closed loop would hide.
#[derive(Debug)]
pub(crate) struct Paced {
    start: Instant,
    interval: f64,
    count: u64,
    next: u64,
}

impl Paced {
    /// The start is shared with the receiver, which subtracts what the messages say from its own time since.
    pub(crate) fn new(start: Instant, per_second: u64, count: u64) -> Self {
        Self { start, interval: 1e9 / per_second as f64, count, next: 0 }
    }
}

impl Iterator for Paced {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        if self.next == self.count {
            return None;
        }
        let due = (self.next as f64 * self.interval) as u64;
        while nanos_since(self.start) < due {
            std::hint::spin_loop();
        }
        let message = Message::new(0, self.next, due);
        self.next += 1;
        Some(message)
    }
}

/// Saturates at nought, so that a start in the future is waited for.
pub(crate) fn nanos_since(start: Instant) -> u64 {
    Instant::now().saturating_duration_since(start).as_nanos() as u64
}

/// Times gathered, in nanoseconds, to three digits.
#[derive(Debug)]
pub(crate) struct Latencies(Histogram<u64>);

/// Of nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order"))
    }

    /// What is longer than a minute counts as a minute.
    pub(crate) fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos.max(1));
    }

    pub(crate) fn record_time(&mut self, time: Duration) {
        self.record(time.as_nanos() as u64);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64;
        Percentiles { p50: at(0.5), p95: at(0.95), p99: at(0.99), p999: at(0.999), max: self.0.max() as f64 }
    }
}

/// A figure of a run, by its name in a claim's id.
pub(crate) type Named<T> = (&'static str, fn(&T) -> f64);

impl Percentiles {
    pub(crate) const NAMES: [Named<Self>; 5] = [
        ("p50", |p| p.p50),
        ("p95", |p| p.p95),
        ("p99", |p| p.p99),
        ("p999", |p| p.p999),
        ("max", |p| p.max),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_that_was_held_up_does_not_move_the_schedule() {
        let start = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let due: Vec<_> = Paced::new(start, 1_000, 4).map(|message| message.due).collect();
        assert_eq!(due, [0, 1_000_000, 2_000_000, 3_000_000]);
    }

    #[test]
    fn no_message_is_early() {
        let start = Instant::now() + Duration::from_millis(2);
        for message in Paced::new(start, 100_000, 50) {
            assert!(nanos_since(start) >= message.due);
        }
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::new();
        (1..=1_000).for_each(|nanos| latencies.record(nanos));
        let percentiles = latencies.percentiles();
        assert_eq!((percentiles.p50, percentiles.p95, percentiles.max), (500.0, 950.0, 1_000.0));
    }
}
