//! The journal beside the disk it writes to.

use std::fs::File;
use std::io::Write;

use quorate_base::Timestamp;
use quorate_swarm::journal::Journal;

use crate::measure::{Claim, Context, in_turn, micros};

const PAYLOAD: [u8; 256] = [b'x'; 256];
/// What a frame adds to its payload.
const FRAME: usize = 56;

/// One record, durable, beside the same bytes appended and synced by hand.
pub(crate) fn one(context: &Context) -> anyhow::Result<Claim> {
    append(context, "journal.append.one", 1, 300)
}

/// A hundred records made durable together.
pub(crate) fn batch(context: &Context) -> anyhow::Result<Claim> {
    append(context, "journal.append.batch", 100, 100)
}

fn append(context: &Context, id: &'static str, count: usize, rounds: usize) -> anyhow::Result<Claim> {
    let folder = tempfile::tempdir_in(".")?;
    let mut journal = Journal::create(&folder.path().join("journal"), [1; 16])?;
    let mut raw = File::create(folder.path().join("raw"))?;
    let payloads = vec![PAYLOAD.as_slice(); count];
    let bytes = vec![b'x'; count * (PAYLOAD.len() + FRAME)];
    let [ours, theirs] = in_turn(
        rounds,
        || {
            journal.append(Timestamp(1), &payloads)?;
            Ok(())
        },
        || {
            raw.write_all(&bytes)?;
            Ok(raw.sync_data()?)
        },
    )?;
    let what = format!("append {count} records of 256 B to the journal, durable");
    let claim = context
        .claim(id, &what, micros(ours), "µs")
        .beside("write + fdatasync of as many bytes", micros(theirs));
    Ok(claim)
}
