//! The plainest log on this disk: records of 256 B appended, written over nought, and grouped; each durable before it counts.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::harness::latency::{Latencies, Percentiles};
use crate::harness::rounds::{Candidate, Claimed, interleave};
use crate::harness::scratch;
use crate::harness::writers::{Acked, writers};
use crate::limits::log::grouped::Grouped;
use crate::measure::{Claim, Context};

pub(crate) mod grouped;

const ROUNDS: usize = 7;
/// How long each run of each log lasts.
const TIME: Duration = Duration::from_millis(250);
pub(crate) const RECORD: usize = 256;
/// Zeroes that are written in advance.
const PREALLOCATED: u64 = 256 << 20;

pub(crate) fn claims(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let folder = scratch::folder()?;
    let rounds = interleave(ROUNDS, candidates(folder.path())?)?;
    let mut claims = Vec::new();
    for (name, what) in KINDS {
        let id = format!("limit.log.{name}");
        let claimed = Claimed { id: &id, what, name, unit: "records/s" };
        claims.push(rounds.claim(context, &claimed, |acked| acked.per_second)?);
        for (figure, of) in Percentiles::NAMES {
            let (id, what) = (format!("{id}.{figure}"), format!("{what}: until acknowledged, {figure}"));
            let claimed = Claimed { id: &id, what: &what, name, unit: "µs" };
            claims.push(rounds.claim(context, &claimed, |acked| of(&acked.latency) / 1e3)?);
        }
    }
    Ok(claims)
}

/// Name and meaning of each of the [`candidates`].
pub(crate) const KINDS: [(&str, &str); 6] = [
    ("one", "append a record of 256 B and fdatasync"),
    ("prealloc", "write a record of 256 B over zeroes and fdatasync"),
    ("group100", "write 100 records of 256 B over zeroes and fdatasync"),
    ("group1000", "write 1000 records of 256 B over zeroes and fdatasync"),
    ("concurrent10", "10 threads that each wait for a record of 256 B, written together and fdatasync"),
    ("concurrent100", "100 threads that each wait for a record of 256 B, written together and fdatasync"),
];

/// Every kind of log, to be run in turn with what is compared with it. Figures count records, not groups.
pub(crate) fn candidates(folder: &Path) -> anyhow::Result<Vec<Candidate<'static, Acked>>> {
    let mut appended = File::create(folder.join("appended"))?;
    let append = Candidate::new("one", move || {
        alone(1, |bytes, _| {
            appended.write_all(bytes)?;
            Ok(appended.sync_data()?)
        })
    });
    let over = |name: &'static str, count: usize| -> anyhow::Result<_> {
        let file = preallocated(&folder.join(name), PREALLOCATED)?;
        Ok(Candidate::new(name, move || {
            alone(count, |bytes, group| {
                // Begins again where it is full, and writes other bytes than those that lie there.
                let at = group * bytes.len() as u64 % (PREALLOCATED - bytes.len() as u64);
                file.write_all_at(bytes, at)?;
                Ok(file.sync_data()?)
            })
        }))
    };
    let concurrent = |name: &'static str, count: usize| {
        let path = folder.join(name);
        Candidate::new(name, move || {
            let log = Grouped::create(&path, PREALLOCATED)?;
            let acked =
                writers(count, TIME, |writer, sequence| log.append(&record(writer as u64, sequence)))?;
            let found = log.records()?;
            let lost =
                acked.counts.iter().enumerate().any(|(writer, count)| found.get(writer) != Some(count));
            ensure!(!lost, "acknowledged were {:?} records, in the file are {found:?}", acked.counts);
            Ok(acked)
        })
    };
    Ok(vec![
        append,
        over("prealloc", 1)?,
        over("group100", 100)?,
        over("group1000", 1000)?,
        concurrent("concurrent10", 10),
        concurrent("concurrent100", 100),
    ])
}

/// A record that says whose it is, one of a kind from end to end.
fn record(writer: u64, sequence: u64) -> [u8; RECORD] {
    let mut record = [b'x'; RECORD];
    record[..8].copy_from_slice(&(writer + 1).to_le_bytes());
    record[8..16].copy_from_slice(&sequence.to_le_bytes());
    record[RECORD - 8..].copy_from_slice(&sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    record
}

/// A file of zeroes that lie on the disk.
fn preallocated(path: &Path, bytes: u64) -> anyhow::Result<File> {
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    let zeroes = vec![0; 1 << 20];
    for _ in 0..bytes.div_ceil(zeroes.len() as u64) {
        file.write_all(&zeroes)?;
    }
    file.sync_all()?;
    Ok(file)
}

/// Writes groups of `count` records, each durable before the next, until the time is over.
fn alone(count: usize, mut write: impl FnMut(&[u8], u64) -> anyhow::Result<()>) -> anyhow::Result<Acked> {
    let mut latencies = Latencies::new();
    let mut bytes = record(0, 0).repeat(count);
    let start = Instant::now();
    let (mut groups, mut now) = (0, start);
    while now.duration_since(start) < TIME {
        for (index, slot) in bytes.chunks_exact_mut(RECORD).enumerate() {
            slot[8..16].copy_from_slice(&(groups * count as u64 + index as u64).to_le_bytes());
        }
        write(&bytes, groups)?;
        groups += 1;
        let after = Instant::now();
        latencies.record_time(after - now);
        now = after;
    }
    let written = groups * count as u64;
    let per_second = written as f64 / start.elapsed().as_secs_f64();
    Ok(Acked { per_second, latency: latencies.percentiles(), counts: vec![written] })
}
