//! One write, seen by a thousand who watch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use quorate_memory::{Class, Watch};

use super::quorate::open;
use crate::harness::rounds::{Candidate, Claimed, interleave};
use crate::harness::scratch;
use crate::measure::{Claim, Context};

const ROUNDS: usize = 5;
const WATCHERS: usize = 1_000;
const WRITES: u64 = 20;
const SILENCE: Duration = Duration::from_secs(10);

/// Microseconds from the write until the last of them has it.
pub(crate) fn claims(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let candidates = vec![Candidate::new("threads", threads), Candidate::new("polled", polled)];
    let rounds = interleave(ROUNDS, candidates)?;
    let claim =
        |(id, what, name)| rounds.claim(context, &Claimed { id, what, name, unit: "µs" }, |micros| *micros);
    [
        ("memory.watch.threads", "one write until 1000 threads that slept have it", "threads"),
        (
            "memory.watch.polled",
            "one write until 1000 watchers that one thread asks in turn have it",
            "polled",
        ),
    ]
    .into_iter()
    .map(claim)
    .collect()
}

fn threads() -> anyhow::Result<f64> {
    let folder = scratch::folder()?;
    let space = &open(folder.path())?.with_class(Class::Relaxed);
    let after = space.store().version()?;
    let seen = &AtomicU64::new(0);
    thread::scope(|scope| {
        let mut watchers = Vec::new();
        for _ in 0..WATCHERS {
            let mut watch = space.watch(b"", after)?;
            watchers.push(scope.spawn(move || -> anyhow::Result<()> {
                for _ in 0..WRITES {
                    ensure!(watch.next(SILENCE)?.is_some(), "a watcher was told nothing");
                    seen.fetch_add(1, Ordering::Release);
                }
                Ok(())
            }));
        }
        let mut micros = 0.0;
        for write in 1..=WRITES {
            // All of them sleep again.
            thread::sleep(Duration::from_millis(5));
            let start = Instant::now();
            space.put("key", write.to_string().as_str())?;
            while seen.load(Ordering::Acquire) < write * WATCHERS as u64 {
                ensure!(start.elapsed() < SILENCE, "not all watchers were told");
                thread::yield_now();
            }
            micros += start.elapsed().as_secs_f64() * 1e6;
        }
        for watcher in watchers {
            watcher.join().map_err(|_| anyhow!("a watcher panicked"))??;
        }
        Ok(micros / WRITES as f64)
    })
}

fn polled() -> anyhow::Result<f64> {
    let folder = scratch::folder()?;
    let space = open(folder.path())?.with_class(Class::Relaxed);
    let after = space.store().version()?;
    let mut watchers: Vec<Watch> =
        (0..WATCHERS).map(|_| space.watch(b"", after)).collect::<Result<_, _>>()?;
    let start = Instant::now();
    for write in 1..=WRITES {
        space.put("key", write.to_string().as_str())?;
        for watch in &mut watchers {
            ensure!(watch.try_next()?.is_some(), "a watcher was told nothing");
        }
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / WRITES as f64)
}
