//! `quorate-bench gate [--update]`: instructions of the short paths, counted by valgrind and held against those of the last change.
//!
//! A count does not depend on what else the machine does, so a hundredth more is a change of the code, of the compiler or of the C library.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use quorate_bus::{Bus, Message, Subscribe, codec};
use quorate_memory::{Actor, Class, Kind, Options, Place, Policy, Space, Store};

use crate::bus::message;
use crate::child;
use crate::harness::scratch;

/// More than before by this is refused.
const TOLERANCE: f64 = 0.01;
/// Calls of the two runs of a path: what both have in common is not the path's.
const CALLS: [u64; 2] = [2_000, 12_000];

type Counts = BTreeMap<String, f64>;
type Run = fn(u64) -> anyhow::Result<()>;

const PATHS: [(&str, Run); 6] = [
    ("bus.publish-receive", publish_receive),
    ("bus.publish-to-nobody", publish_to_nobody),
    ("bus.encode", encode),
    ("bus.decode", decode),
    ("memory.read", read),
    ("memory.put-relaxed", put_relaxed),
];

/// Counts, and compares or writes down.
pub(crate) fn run(update: bool) -> anyhow::Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("gate.json");
    let counted: Counts = PATHS
        .iter()
        .map(|(name, _)| Ok(((*name).to_owned(), instructions(name)?)))
        .collect::<anyhow::Result<_>>()?;
    if update {
        std::fs::write(&file, serde_json::to_string_pretty(&counted)? + "\n")?;
        println!("{} has {} paths", file.display(), counted.len());
        return Ok(());
    }
    let text = std::fs::read_to_string(&file).with_context(|| {
        format!("cannot read {}: make it with `quorate-bench gate --update`", file.display())
    })?;
    let known: Counts = serde_json::from_str(&text)?;
    let mut over = Vec::new();
    for (name, count) in &counted {
        let before = known.get(name).with_context(|| format!("{} has no path {name}", file.display()))?;
        println!("{name:<24} {count:>10.1} instructions a call, {before:.1} before");
        if exceeds(*count, *before) {
            over.push(name.as_str());
        }
    }
    ensure!(
        over.is_empty(),
        "more than {}% above what was: {}; where that is meant, `quorate-bench gate --update`",
        TOLERANCE * 100.0,
        over.join(", ")
    );
    Ok(())
}

fn exceeds(count: f64, before: f64) -> bool {
    count > before * (1.0 + TOLERANCE)
}

/// Of one call.
fn instructions(name: &str) -> anyhow::Result<f64> {
    let [few, many] = [collected(name, CALLS[0])?, collected(name, CALLS[1])?];
    let count = many.saturating_sub(few) as f64 / (CALLS[1] - CALLS[0]) as f64;
    Ok((count * 10.0).round() / 10.0)
}

/// Of a whole run.
fn collected(name: &str, calls: u64) -> anyhow::Result<u64> {
    let folder = scratch::folder()?;
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind");
    command.arg(format!("--callgrind-out-file={}", folder.path().join("out").display()));
    command.arg(std::env::current_exe()?).args([child::ARGUMENT, "gate", name, &calls.to_string()]);
    let output = command.stdin(Stdio::null()).output().context("cannot start valgrind; is it installed?")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} under valgrind: {said}");
    let count = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    count.with_context(|| format!("valgrind counted nothing: {said}"))
}

/// The process that is counted.
pub(crate) fn path(name: &str, calls: u64) -> anyhow::Result<()> {
    match PATHS.iter().find(|(known, _)| *known == name) {
        Some((_, run)) => run(calls),
        None => bail!("there is no path {name}"),
    }
}

fn publish_receive(calls: u64) -> anyhow::Result<()> {
    let bus = Bus::default();
    let mut subscription = bus.subscribe("one", Subscribe::new())?;
    let mut sender = bus.sender("one")?;
    for _ in 0..calls {
        let sent = sender.send(Message::new(black_box(&[7; 64])))?;
        ensure!(sent.delivered == 1 && subscription.try_receive()?.is_some(), "a message did not come");
    }
    Ok(())
}

fn publish_to_nobody(calls: u64) -> anyhow::Result<()> {
    let bus = Bus::default();
    let _subscription = bus.subscribe("one", Subscribe::new())?;
    let mut sender = bus.sender("two")?;
    for _ in 0..calls {
        ensure!(sender.send(Message::new(black_box(&[7; 64])))?.delivered == 0, "somebody subscribes");
    }
    Ok(())
}

fn encode(calls: u64) -> anyhow::Result<()> {
    let (message, mut out) = (message(1024), Vec::new());
    for _ in 0..calls {
        out.clear();
        codec::encode(&mut out, "run.42.task.done", black_box(&message));
    }
    ensure!(!out.is_empty(), "nothing was encoded");
    Ok(())
}

fn decode(calls: u64) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    codec::encode(&mut bytes, "run.42.task.done", &message(1024));
    for _ in 0..calls {
        black_box(codec::decode(black_box(&bytes))?);
    }
    Ok(())
}

fn read(calls: u64) -> anyhow::Result<()> {
    with_space(|space| {
        space.put("key", vec![7; 250])?;
        for _ in 0..calls {
            let found = space.read(black_box(b"key"), |entry| entry.value()[0])?;
            ensure!(found == Some(7), "the value is not there");
        }
        Ok(())
    })
}

fn put_relaxed(calls: u64) -> anyhow::Result<()> {
    with_space(|space| {
        for _ in 0..calls {
            space.put(black_box("key"), vec![7; 250])?;
        }
        Ok(())
    })
}

/// Without a thread beside it, which would be counted too.
fn with_space(f: impl FnOnce(&Space) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let folder = scratch::folder()?;
    let options = Options { background: false, ..Options::default() };
    let store = Store::open(Place::folder(folder.path())?, options)?;
    let space = store.create(&Actor::operator(), "gate", Policy::new(Kind::Project))?;
    f(&space.with_class(Class::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundredth_more_is_too_much_and_less_is_not() {
        assert!(!exceeds(100.9, 100.0));
        assert!(exceeds(101.1, 100.0));
        assert!(!exceeds(50.0, 100.0));
    }

    #[test]
    fn every_path_runs() {
        for (name, _) in PATHS {
            path(name, 3).unwrap();
        }
        assert!(path("else", 1).is_err());
    }
}
