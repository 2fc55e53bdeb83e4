//! The store's thread: flushes relaxed writes, removes what has expired, writes snapshots. Asleep while there is nothing to do.

use std::io;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::inner::Inner;
use crate::tail::locked;

/// What the thread is asked for.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    wanted: Mutex<Wanted>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Wanted {
    flush: bool,
    snapshot: bool,
    /// When something expires, by the store's clock.
    expiry: Option<u64>,
    end: bool,
}

/// By the store's clock something has expired, but not by the machine's: looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The longest sleep while something is to expire.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

impl Signal {
    pub(crate) fn flush_soon(&self) {
        locked(&self.wanted).flush = true;
        self.more.notify_one();
    }

    pub(crate) fn written(&self, snapshot: bool, expiry: Option<u64>) {
        if !snapshot && expiry.is_none() {
            return;
        }
        let mut wanted = locked(&self.wanted);
        let sooner = match (expiry, wanted.expiry) {
            (Some(at), Some(known)) => at < known,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if sooner {
            wanted.expiry = expiry;
        }
        if sooner || (snapshot && !wanted.snapshot) {
            wanted.snapshot |= snapshot;
            self.more.notify_one();
        }
    }

    pub(crate) fn end(&self) {
        locked(&self.wanted).end = true;
        self.more.notify_one();
    }
}

pub(crate) fn start(inner: &Arc<Inner>) -> io::Result<JoinHandle<()>> {
    let (weak, signal) = (Arc::downgrade(inner), Arc::clone(&inner.signal));
    std::thread::Builder::new().name("memory".into()).spawn(move || run(&weak, &signal))
}

fn run(store: &Weak<Inner>, signal: &Signal) {
    let mut flush_at: Option<Instant> = None;
    let mut sweep_at: Option<Instant> = None;
    loop {
        let snapshot = {
            let mut wanted = locked(&signal.wanted);
            loop {
                if wanted.end {
                    drop(wanted);
                    if let Some(inner) = store.upgrade() {
                        let _ = inner.flush();
                    }
                    return;
                }
                let now = Instant::now();
                let Some(inner) = store.upgrade() else {
                    return;
                };
                if std::mem::take(&mut wanted.flush) {
                    let span = inner.options.flush_within.to_duration() / 2;
                    flush_at = Some(flush_at.map_or(now + span, |at| at.min(now + span)));
                }
                if let Some(at) = wanted.expiry.take() {
                    let span = Duration::from_millis(at.saturating_sub(inner.options.clock.now().0));
                    let at = now + span.min(SLEEP_MAX);
                    sweep_at = Some(sweep_at.map_or(at, |known| known.min(at)));
                }
                drop(inner);
                if wanted.snapshot
                    || flush_at.is_some_and(|at| at <= now)
                    || sweep_at.is_some_and(|at| at <= now)
                {
                    break;
                }
                let next = [flush_at, sweep_at].into_iter().flatten().min();
                wanted = match next {
                    Some(at) => {
                        let woken = signal.more.wait_timeout(wanted, at.saturating_duration_since(now));
                        woken.unwrap_or_else(std::sync::PoisonError::into_inner).0
                    }
                    None => signal.more.wait(wanted).unwrap_or_else(std::sync::PoisonError::into_inner),
                };
            }
            std::mem::take(&mut wanted.snapshot)
        };
        let Some(inner) = store.upgrade() else {
            return;
        };
        let now = Instant::now();
        // What fails here stops the store, or is tried again with the next write: both are seen by who writes.
        if flush_at.is_some_and(|at| at <= now) {
            flush_at = None;
            let _ = inner.flush();
        }
        if sweep_at.is_some_and(|at| at <= now) {
            sweep_at = None;
            if inner.sweep().is_ok() {
                let next = inner.tail().ledger.next_expiry();
                sweep_at = next.map(|at| {
                    let span = Duration::from_millis(at.saturating_sub(inner.options.clock.now().0));
                    now + span.clamp(LOOK_AGAIN, SLEEP_MAX)
                });
            }
        }
        if snapshot {
            let _ = inner.snapshot();
        }
    }
}
