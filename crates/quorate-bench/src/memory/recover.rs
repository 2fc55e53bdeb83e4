//! Opening a store of a gigabyte that another process has left.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use quorate_memory::{Actor, Class, Options, Place, Store};

use super::quorate::{SPACE, open};
use crate::child::{Process, until_told};
use crate::harness::goal::Bound;
use crate::harness::rounds::{Candidate, Claimed, interleave};
use crate::harness::scratch;
use crate::measure::{Claim, Context};
use crate::stores::store::{key, value};

const ROUNDS: usize = 3;
const ENTRIES: u64 = 1_000_000;
const VALUE: usize = 1_000;

/// Each start in a process of its own; the files are in the system's cache.
pub(crate) fn claims(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let folder = scratch::folder()?;
    let path = folder.path().join("store").display().to_string();
    let entries = ENTRIES.to_string();
    Process::start(&["fill", &path, &entries])?.0.finish()?;
    let run = || -> anyhow::Result<f64> {
        let (process, line) = Process::start(&["recover", &path])?;
        process.finish()?;
        let (count, seconds) = line.split_once(' ').context("a line of another kind")?;
        ensure!(count == entries, "of {entries} entries {count} were found");
        Ok(seconds.parse()?)
    };
    let rounds = interleave(ROUNDS, vec![Candidate::new("quorate", run)])?;
    let what = "open a store of 1 GB that was left by another process: 1000000 values of 1000 B, files in the system's cache";
    let claimed = Claimed { id: "memory.recover", what, name: "quorate", unit: "s" };
    Ok(vec![rounds.claim(context, &claimed, |seconds| *seconds)?.value_goal(Bound::AtMost(5.0))])
}

/// The process that writes it.
pub(crate) fn fill(folder: &Path, entries: u64) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let space = open(folder)?.with_class(Class::Relaxed);
    for number in 0..entries {
        let value = value(number).repeat(VALUE.div_ceil(256));
        space.put(key(number).as_slice(), &value[..VALUE])?;
    }
    space.store().flush()?;
    println!("filled");
    until_told()
}

/// The process that opens it.
pub(crate) fn recover_once(folder: &Path) -> anyhow::Result<()> {
    let start = Instant::now();
    let store = Store::open(Place::folder(folder)?, Options::default())?;
    let seconds = start.elapsed().as_secs_f64();
    let space = store.space(&Actor::operator(), SPACE)?;
    let mut count = 0_u64;
    while let Some(entry) = space.get(&key(count))? {
        ensure!(
            entry.value().len() == VALUE && entry.value()[..256] == value(count),
            "entry {count} is another"
        );
        count += 1;
    }
    println!("{count} {seconds}");
    until_told()
}
