//! Foreseeing that a process will pass its limit: the slope of its memory over a window.

use std::collections::VecDeque;

use quorate_base::{ByteCount, Millis};

/// Samples are this far apart at least, and as many are kept.
const APART: Millis = Millis::from_secs(1);
const SAMPLES_MAX: usize = 60;
/// No slope before this: a program that starts grows.
const SPAN_MIN: Millis = Millis::from_secs(40);
/// Share of pairs of samples, in percent, of which the later must be larger.
const RISING_MIN: usize = 80;

/// The memory of one process over the last while.
#[derive(Debug, Clone, Default)]
pub struct Growth {
    samples: VecDeque<(Millis, ByteCount)>,
}

/// A steady growth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trend {
    /// Where it stands now.
    pub at: ByteCount,
    pub per_minute: ByteCount,
}

impl Growth {
    /// Takes a sample; those that come too early are left out.
    pub fn take(&mut self, now: Millis, resident: ByteCount) {
        if self.samples.back().is_some_and(|(last, _)| now.0 < last.0 + APART.0) {
            return;
        }
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((now, resident));
    }

    /// The median of the slopes between all pairs of samples (Theil and Sen), if nearly all pairs rise: up to a fifth of
    /// the samples may lie anywhere without moving it much, and a single jump is no growth.
    pub fn trend(&self) -> Option<Trend> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        if last.0.0 - first.0.0 < SPAN_MIN.0 {
            return None;
        }
        let mut slopes = Vec::with_capacity(self.samples.len() * self.samples.len() / 2);
        for (i, (then, before)) in self.samples.iter().enumerate() {
            for (now, after) in self.samples.iter().skip(i + 1) {
                slopes.push((after.0 as f64 - before.0 as f64) / (now.0 - then.0) as f64);
            }
        }
        let rising = slopes.iter().filter(|slope| **slope > 0.0).count();
        if rising * 100 < slopes.len() * RISING_MIN {
            return None;
        }
        let middle = slopes.len() / 2;
        let (_, median, _) = slopes.select_nth_unstable_by(middle, f64::total_cmp);
        let per_minute = (*median * 60_000.0).round();
        (per_minute >= 1.0).then_some(Trend { at: last.1, per_minute: ByteCount(per_minute as u64) })
    }
}

impl Trend {
    /// When the limit will be passed if it goes on like this.
    pub fn passes_in(&self, limit: ByteCount) -> Millis {
        let left = limit.0.saturating_sub(self.at.0);
        Millis((left as f64 / self.per_minute.0 as f64 * 60_000.0) as u64)
    }
}
