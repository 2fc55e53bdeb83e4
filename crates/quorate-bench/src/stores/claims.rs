//! The figures of the stores.

use std::cell::Cell;
use std::hint::black_box;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::map::{self, KEYS};
use super::queued::Queued;
use super::raw::Raw;
use super::store::{Key, Store, key, value};
use crate::harness::latency::Percentiles;
use crate::harness::rounds::{Candidate, Claimed, interleave};
use crate::harness::scratch;
use crate::harness::writers::{Acked, writers};
use crate::measure::{Claim, Context};

const ROUNDS: usize = 5;
/// How long each run of writers lasts.
const TIME: Duration = Duration::from_millis(250);
const WRITERS: usize = 100;
/// Values written at once while a store is filled.
const FILLING: u64 = 5_000;

/// Durable writes a second, alone and with a hundred writers, and how long each waits.
pub(crate) fn writes(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let folder = scratch::folder()?;
    let rounds = interleave(ROUNDS, write_candidates(folder.path())?)?;
    let mut claims = Vec::new();
    for name in rounds.names() {
        let id = format!("peer.store.write.{name}");
        let what = "values of 256 B written, acknowledged when they are on the disk, to a store of 100000";
        let claimed = Claimed { id: &id, what, name, unit: "/s" };
        claims.push(rounds.claim(context, &claimed, |acked| acked.per_second)?);
        for (figure, of) in Percentiles::NAMES {
            let (id, what) = (format!("{id}.{figure}"), format!("{what}: until acknowledged, {figure}"));
            let claimed = Claimed { id: &id, what: &what, name, unit: "µs" };
            claims.push(rounds.claim(context, &claimed, |acked| of(&acked.latency) / 1e3)?);
        }
    }
    Ok(claims)
}

/// Nanoseconds a read by key, by one thread.
pub(crate) fn reads(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let folder = scratch::folder()?;
    let rounds = interleave(ROUNDS, read_candidates(folder.path())?)?;
    let claim = |name: &str| {
        let id = format!("peer.store.read.{name}");
        let what = "read a value of 256 B by its key, of 100000";
        rounds.claim(context, &Claimed { id: &id, what, name, unit: "ns" }, |nanos| *nanos)
    };
    rounds.names().map(claim).collect()
}

/// Every store: alone, with many writers that each commit for themselves, and with a thread that commits for them.
pub(crate) fn write_candidates(folder: &Path) -> anyhow::Result<Vec<Candidate<'static, Acked>>> {
    let mut candidates = writing::<Raw>(folder)?;
    #[cfg(feature = "peers")]
    {
        candidates.extend(writing::<super::redb::Redb>(folder)?);
        candidates.extend(writing::<super::fjall::Fjall>(folder)?);
        candidates.extend(writing::<super::heed::Heed>(folder)?);
        candidates.extend(writing::<super::sqlite::Sqlite>(folder)?);
    }
    candidates.shrink_to_fit();
    Ok(candidates)
}

/// Every store, and the maps of memory.
pub(crate) fn read_candidates(folder: &Path) -> anyhow::Result<Vec<Candidate<'static, f64>>> {
    let mut candidates = vec![reading::<Raw>(folder)?];
    #[cfg(feature = "peers")]
    candidates.extend([
        reading::<super::redb::Redb>(folder)?,
        reading::<super::fjall::Fjall>(folder)?,
        reading::<super::heed::Heed>(folder)?,
        reading::<super::sqlite::Sqlite>(folder)?,
    ]);
    candidates.extend(map::candidates());
    Ok(candidates)
}

/// The three candidates of a store for writing; they share one store with 100,000 values.
pub(crate) fn writing<S: Store + Send + 'static>(
    folder: &Path,
) -> anyhow::Result<Vec<Candidate<'static, Acked>>> {
    let folder = folder.join(S::NAME);
    std::fs::create_dir(&folder)?;
    let store = Rc::new(Queued::<S>::open(&folder)?);
    fill(store.store())?;
    // Each run writes new keys.
    let free = Rc::new(Cell::new(KEYS));
    let candidate = |kind: &str, count: usize, queued: bool| {
        let (store, free) = (Rc::clone(&store), Rc::clone(&free));
        Candidate::new(format!("{}.{kind}", S::NAME), move || write(&*store, &free, count, queued))
    };
    Ok(vec![
        candidate("one", 1, false),
        candidate("concurrent100", WRITERS, false),
        candidate("queued100", WRITERS, true),
    ])
}

fn write<S: Store + Send + 'static>(
    store: &Queued<S>,
    free: &Cell<u64>,
    count: usize,
    queued: bool,
) -> anyhow::Result<Acked> {
    let first = free.get();
    let number = |writer: usize, sequence: u64| first + sequence * count as u64 + writer as u64;
    let acked = writers(count, TIME, |writer, sequence| {
        let number = number(writer, sequence);
        let (key, value) = (key(number), value(number));
        if queued { store.put(&key, &value) } else { store.store().put(&key, &value) }
    })?;
    let numbers = acked.counts.iter().enumerate();
    let numbers: Vec<_> =
        numbers.flat_map(|(writer, count)| (0..*count).map(move |n| number(writer, n))).collect();
    free.set(numbers.iter().max().map_or(first, |last| last + 1));
    present(store.store(), &numbers)?;
    Ok(acked)
}

/// Every acknowledged value must be there.
fn present(store: &impl Store, numbers: &[u64]) -> anyhow::Result<()> {
    let keys: Vec<Key> = numbers.iter().map(|number| key(*number)).collect();
    let (mut expected, mut lost) = (numbers.iter(), 0);
    store.get_all(&keys, |found| {
        let expected = expected.next().map(|number| value(*number));
        lost += usize::from(found != expected.as_ref().map(<[u8; _]>::as_slice));
    })?;
    ensure!(lost == 0, "of {} acknowledged values {lost} are not there", keys.len());
    Ok(())
}

fn reading<S: Store + 'static>(folder: &Path) -> anyhow::Result<Candidate<'static, f64>> {
    let folder = folder.join(S::NAME);
    std::fs::create_dir(&folder)?;
    let store = S::open(&folder)?;
    fill(&store)?;
    let keys = map::drawn(KEYS);
    Ok(Candidate::new(S::NAME, move || {
        let (mut found, start) = (0, Instant::now());
        store.get_all(&keys, |value| {
            if let Some(value) = value {
                black_box(value[0]);
                found += 1;
            }
        })?;
        let nanos = start.elapsed().as_nanos() as f64 / keys.len() as f64;
        ensure!(found == keys.len(), "of {} values {found} were found", keys.len());
        Ok(nanos)
    }))
}

fn fill(store: &impl Store) -> anyhow::Result<()> {
    for first in (0..KEYS).step_by(FILLING as usize) {
        let pairs: Vec<_> = (first..first + FILLING).map(|number| (key(number), value(number))).collect();
        store.put_all(&pairs)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_acknowledged_is_there_alone_and_queued() {
        let folder = tempfile::tempdir().unwrap();
        let store = Queued::<Raw>::open(folder.path()).unwrap();
        let free = Cell::new(0);
        let alone = write(&store, &free, 1, false).unwrap();
        assert_eq!(alone.counts.iter().sum::<u64>(), free.get());
        write(&store, &free, 5, true).unwrap();
        assert!(present(store.store(), &[free.get() + 100]).is_err());
    }
}
