//! `quorate-bench claims [--json] [--only PREFIX]`: measures every figure the documents may quote, beside a peer or a
//! physical limit, interleaved in one run.
//!
//! `quorate-bench gate [--update]` holds instruction counts of the short paths against those that are written down.
//!
//! `quorate-bench soak [--minutes N] [--load F]` runs the bus and the memory at a steady load, and fails where anything grows.
//!
//! Build it with `--release`; the whole-run measures start the release build of `quorate` that lies beside it.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

mod agents;
mod brokers;
mod bus;
mod certificates;
mod channels;
mod child;
mod dispatch;
mod gate;
mod harness;
mod journal;
mod limits;
mod measure;
mod memory;
mod runs;
mod schedule;
mod soak;
mod stores;

use anyhow::bail;

use crate::harness::cores;
use crate::harness::priority::Precedence;
use crate::measure::{Claim, Context};

/// A measure: of one figure, or of several that belong together because they are taken in turn.
#[derive(Clone, Copy)]
enum Bench {
    One(fn(&Context) -> anyhow::Result<Claim>),
    Several(fn(&Context) -> anyhow::Result<Vec<Claim>>),
}

use Bench::{One, Several};

/// Every measure, by the claim's id or by the beginning of the ids of its claims.
const BENCHES: &[(&str, Bench)] = &[
    ("journal.append.one", One(journal::one)),
    ("journal.append.batch", One(journal::batch)),
    ("evidence.hash", One(certificates::hash)),
    ("evidence.sign", One(certificates::sign)),
    ("certificate.verify.5", One(certificates::verify_5)),
    ("certificate.verify.150", One(certificates::verify_150)),
    ("worktree.create", One(runs::worktree)),
    ("worktree.create.large", One(runs::large_worktree)),
    ("run.overhead", One(runs::overhead)),
    ("run.idle", One(runs::idle)),
    ("run.memory", One(runs::memory)),
    ("run.example", One(runs::example_run)),
    ("agents.spawn", Several(agents::spawn)),
    ("agents.up100", Several(agents::up100)),
    ("agents.memory", Several(agents::memory)),
    ("agents.stop150", One(agents::stop150)),
    ("agents.recover", Several(agents::recover)),
    ("swarm.schedule", Several(schedule::claims)),
    ("swarm.dispatch", Several(dispatch::claims)),
    ("limit.thread", Several(limits::threads::claims)),
    ("limit.copy", Several(limits::copy::claims)),
    ("limit.log.", Several(limits::log::claims)),
    ("limit.map", Several(stores::map::claims)),
    ("peer.channel.spsc", Several(channels::spsc)),
    ("peer.channel.mpsc", Several(channels::mpsc)),
    ("peer.channel.latency", Several(channels::latency)),
    ("peer.nats.core", Several(brokers::nats_core)),
    ("peer.nats.latency", Several(brokers::nats_latency)),
    ("peer.nats.memory", One(brokers::nats_memory)),
    ("peer.stream", Several(brokers::streams)),
    #[cfg(feature = "peer-zenoh")]
    ("peer.zenoh", Several(brokers::zenoh_claims)),
    ("peer.store.write", Several(stores::writes)),
    ("peer.store.read", Several(stores::reads)),
    ("bus.channel.spsc", Several(bus::spsc)),
    ("bus.channel.mpsc8", Several(bus::mpsc)),
    ("bus.latency", Several(bus::latency)),
    ("bus.routed.fan4", Several(bus::fan4)),
    ("bus.routed.scaling", Several(bus::scaling)),
    ("bus.floor.messages", One(bus::floor)),
    ("bus.match", Several(bus::matching)),
    ("bus.intern", Several(bus::intern)),
    ("bus.codec", Several(bus::coding)),
    ("bus.ring", Several(bus::ring)),
    ("bus.socket.throughput", Several(bus::socket_throughput)),
    ("bus.socket.latency", Several(bus::socket_latency)),
    ("bus.durable", Several(bus::durable)),
    ("bus.actors", Several(bus::actors)),
    ("bus.idle", One(bus::idle)),
    ("memory.read", Several(memory::reads)),
    ("memory.write.relaxed", Several(memory::relaxed)),
    ("memory.write.durable", Several(memory::durable)),
    ("memory.recover", Several(memory::recover)),
    ("memory.watch", Several(memory::watch)),
    ("search", Several(memory::search)),
];

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (mut json, mut only) = (false, String::new());
    match args.next().as_deref() {
        Some("claims") => {}
        Some(child::ARGUMENT) => return child::run(args),
        Some("gate") => {
            return match args.next().as_deref() {
                None => gate::run(false),
                Some("--update") => gate::run(true),
                Some(other) => bail!("there is no option {other}; allowed is --update"),
            };
        }
        Some("soak") => return soak::run(args),
        _ => bail!(
            "usage: quorate-bench claims [--json] [--only PREFIX], quorate-bench gate [--update], or quorate-bench soak [--minutes N] [--load F]"
        ),
    }
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => json = true,
            "--only" => only = args.next().unwrap_or_default(),
            other => bail!("there is no option {other}; allowed are --json and --only PREFIX"),
        }
    }
    let context = Context::gather()?;
    let mut claims = Vec::new();
    for (id, bench) in BENCHES.iter().filter(|(id, _)| id.starts_with(&only) || only.starts_with(id)) {
        let measured = match bench {
            One(_) if !id.starts_with(&only) => continue,
            One(bench) => vec![bench(&context)?],
            Several(bench) => {
                let first = Precedence::take();
                let mut measured = bench(&context)?;
                let how = format!("{}{}", first.granted(), cores::chosen());
                measured.iter_mut().for_each(|claim| claim.machine.push_str(&how));
                measured
            }
        };
        for claim in measured {
            assert!(claim.id.starts_with(id), "a bench answers for its own id, not for {}", claim.id);
            if claim.id.starts_with(&only) {
                if !json {
                    println!("{claim}");
                }
                claims.push(claim);
            }
        }
    }
    if claims.is_empty() {
        let known: Vec<_> = BENCHES.iter().map(|(id, _)| *id).collect();
        bail!("no measure begins with `{only}`; there are {}", known.join(", "));
    }
    if json {
        println!("{}", serde_json::to_string(&claims)?);
    }
    Ok(())
}
