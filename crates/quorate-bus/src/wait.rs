//! How a receiver waits, and how it is told.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::barrier;
use crate::sync::{AtomicBool, Mutex, Ordering};

/// What a receiving thread does while there is nothing to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wait {
    /// Never gives up the core: the lowest latency, for a core of its own.
    Spin,
    /// Looks a few times, then lets others run between looks: low latency without a core of its own, but never idle.
    Yield,
    /// Looks a few times, then sleeps until it is told. Idle costs nothing; the first message after it costs a wake-up.
    #[default]
    Park,
}

/// Looks before anything slower is done: about as long as a line takes to come from another core, a few times over.
const LOOKS: u32 = 64;

/// Told that there is something, at most once a nap.
#[derive(Debug)]
pub(crate) struct Bell {
    napping: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self { napping: AtomicBool::new(false), waker: Mutex::new(None) }
    }

    /// After something was put where the sleeper looks: wakes it if it naps.
    #[inline]
    pub(crate) fn ring(&self) {
        // Orders what was put before the look at the flag; `nap` orders the other way round. One of the two sees the other.
        barrier::light();
        if self.napping.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    #[cold]
    pub(crate) fn wake(&self) {
        if self.napping.swap(false, Ordering::AcqRel) {
            let waker = lock(&self.waker).take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Announces a nap, and then looks once more.
    pub(crate) fn nap<T>(&self, waker: &Waker, mut look: impl FnMut() -> Option<T>) -> Poll<T> {
        {
            let mut place = lock(&self.waker);
            match &mut *place {
                Some(known) if known.will_wake(waker) => {}
                other => *other = Some(waker.clone()),
            }
        }
        self.napping.store(true, Ordering::Relaxed);
        if !barrier::heavy() {
            waker.wake_by_ref();
        }
        match look() {
            Some(found) => {
                self.napping.store(false, Ordering::Relaxed);
                Poll::Ready(found)
            }
            None => Poll::Pending,
        }
    }
}

#[cfg(not(loom))]
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(loom)]
fn lock<T>(mutex: &Mutex<T>) -> loom::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static THREAD: Waker = Waker::from(Arc::new(Unpark(std::thread::current())));
}

/// Waits on this thread until `look` finds something, or until `end`. `None` when the time is over.
pub(crate) fn until<T>(
    wait: Wait,
    bell: &Bell,
    end: Option<Instant>,
    mut look: impl FnMut() -> Option<T>,
) -> Option<T> {
    let mut looks = 0_u32;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        looks = looks.wrapping_add(1);
        // A clock costs more than a look: it is read now and then only.
        if looks.is_multiple_of(256) && end.is_some_and(|end| Instant::now() >= end) {
            return None;
        }
        match wait {
            _ if looks < LOOKS => relax(),
            Wait::Spin => relax(),
            Wait::Yield => {
                if looks.is_multiple_of(8) && end.is_some_and(|end| Instant::now() >= end) {
                    return None;
                }
                std::thread::yield_now();
            }
            Wait::Park => return park(bell, end, look),
        }
    }
}

fn park<T>(bell: &Bell, end: Option<Instant>, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        if let Poll::Ready(found) = THREAD.with(|waker| bell.nap(waker, &mut look)) {
            return Some(found);
        }
        match end.map(|end| end.saturating_duration_since(Instant::now())) {
            None => std::thread::park(),
            Some(Duration::ZERO) => return look(),
            Some(left) => std::thread::park_timeout(left),
        }
        if let Some(found) = look() {
            return Some(found);
        }
    }
}

/// The same for a task of any runtime.
pub(crate) fn poll<T>(bell: &Bell, cx: &Context<'_>, mut look: impl FnMut() -> Option<T>) -> Poll<T> {
    match look() {
        Some(found) => Poll::Ready(found),
        None => bell.nap(cx.waker(), look),
    }
}

#[inline]
pub(crate) fn relax() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// Lets another thread have the core.
pub(crate) fn yield_now() {
    #[cfg(not(loom))]
    std::thread::yield_now();
    #[cfg(loom)]
    loom::thread::yield_now();
}

#[cfg(all(test, loom))]
mod interleavings {
    use std::sync::atomic::AtomicUsize as Count;
    use std::sync::atomic::Ordering as Plain;
    use std::task::{Poll, Wake, Waker};

    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};

    use super::Bell;

    struct Woken(Count);

    impl Wake for Woken {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, Plain::SeqCst);
        }
    }

    #[test]
    fn no_wake_is_lost_between_the_look_and_the_nap() {
        loom::model(|| {
            let shared = Arc::new((Bell::new(), AtomicUsize::new(0)));
            let producer = {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || {
                    shared.1.store(1, Ordering::Relaxed);
                    shared.0.ring();
                })
            };
            let woken = std::sync::Arc::new(Woken(Count::new(0)));
            let waker = Waker::from(std::sync::Arc::clone(&woken));
            let look = || (shared.1.load(Ordering::Relaxed) == 1).then_some(());
            let slept = shared.0.nap(&waker, look) == Poll::Pending;
            producer.join().unwrap();
            assert!(!slept || woken.0.load(Plain::SeqCst) == 1, "it sleeps and nobody wakes it");
        });
    }
}
