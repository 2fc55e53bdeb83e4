//! Whether a tree still does anything: progress is output, CPU time and changed files, not a sign of life.

use std::time::{Duration, Instant};

/// What has come of a tree so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Traces {
    pub(crate) output_bytes: u64,
    pub(crate) cpu_ms: u64,
    /// Changes seen below its folder.
    pub(crate) changes: u64,
}

/// Watches traces for progress. Time is an argument.
#[derive(Debug)]
pub(crate) struct Progress {
    idle: Duration,
    at: Instant,
    then: Traces,
}

impl Progress {
    pub(crate) fn new(idle: Duration, now: Instant) -> Self {
        Self { idle, at: now, then: Traces::default() }
    }

    /// Takes what has come of the tree by now; how long nothing has, once that is too long.
    ///
    /// A process that waits wakes up now and then. So CPU time counts once it has come to a hundredth of the time that
    /// may pass without progress.
    pub(crate) fn look(&mut self, now: Instant, traces: Traces) -> Option<Duration> {
        let worked = Duration::from_millis(traces.cpu_ms.saturating_sub(self.then.cpu_ms));
        let moved = traces.output_bytes != self.then.output_bytes
            || traces.changes != self.then.changes
            || worked >= (self.idle / 100).max(Duration::from_millis(1));
        if moved {
            (self.at, self.then) = (now, traces);
        }
        let silent = now.saturating_duration_since(self.at);
        (silent >= self.idle).then_some(silent)
    }

    /// Time that does not count: the tree was paused.
    pub(crate) fn shift(&mut self, paused: Duration) {
        self.at += paused;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(600);

    #[track_caller]
    fn check(last: Traces, told: bool) {
        let began = Instant::now();
        let mut progress = Progress::new(IDLE, began);
        assert_eq!(progress.look(began + IDLE / 2, Traces::default()), None);
        assert_eq!(progress.look(began + IDLE - Duration::from_millis(1), last), None);
        assert_eq!(progress.look(began + IDLE, last).is_some(), told, "{last:?}");
    }

    #[test]
    fn output_files_and_work_are_progress_and_waking_up_is_not() {
        check(Traces::default(), true);
        check(Traces { output_bytes: 1, ..Traces::default() }, false);
        check(Traces { changes: 1, ..Traces::default() }, false);
        check(Traces { cpu_ms: 6000, ..Traces::default() }, false);
        check(Traces { cpu_ms: 5999, ..Traces::default() }, true);
    }

    #[test]
    fn work_adds_up_over_looks() {
        let began = Instant::now();
        let mut progress = Progress::new(IDLE, began);
        for second in 0..3000 {
            let traces = Traces { cpu_ms: second * 20, ..Traces::default() };
            assert_eq!(progress.look(began + Duration::from_secs(second), traces), None, "{second}");
        }
    }

    #[test]
    fn a_pause_does_not_count() {
        let began = Instant::now();
        let mut progress = Progress::new(IDLE, began);
        progress.shift(IDLE);
        assert_eq!(progress.look(began + IDLE * 2 - Duration::from_secs(1), Traces::default()), None);
        assert!(progress.look(began + IDLE * 2, Traces::default()).is_some());
    }
}
