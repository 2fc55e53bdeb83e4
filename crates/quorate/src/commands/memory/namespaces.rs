//! Namespaces, and the memory in numbers.

use quorate_base::{ExitStatus, Millis};
use quorate_memory::{Eviction, Kind, Policy};

use super::place::Place;
use crate::cli::Namespace;
use crate::failure::Usage;
use crate::printer::{DIM, Printer};

pub(super) fn namespace(place: &Place, command: Namespace, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let store = place.open()?;
    match command {
        Namespace::List => {
            let mut all = Vec::new();
            for name in store.namespaces(&place.actor)? {
                let policy = store.space(&place.actor, &name)?.policy();
                all.push((name, policy));
            }
            if printer.json {
                let all: Vec<_> = all
                    .iter()
                    .map(|(name, policy)| serde_json::json!({ "name": &**name, "policy": &**policy }))
                    .collect();
                printer.document(&all);
            } else {
                for (name, policy) in &all {
                    printer.data(&format!("{name:<32} {DIM}{}{DIM:#}", kind_name(&policy.kind)));
                }
            }
        }
        Namespace::Create { name, kind, max_entries, max_bytes, versions, ttl, eviction } => {
            let mut policy = Policy::new(parse_kind(&kind)?);
            if let Some(entries) = max_entries {
                policy.quota.entries_max = entries;
            }
            if let Some(bytes) = max_bytes {
                policy.quota.bytes_max = bytes;
            }
            if let Some(versions) = versions {
                policy.history.versions_max = versions;
            }
            policy.ttl = ttl.map(|seconds| Millis(seconds.saturating_mul(1000)));
            policy.eviction = match eviction.as_str() {
                "none" => Eviction::None,
                "lru" => Eviction::Lru,
                "ttl-only" => Eviction::TtlOnly,
                other => {
                    return Err(Usage(format!("--eviction {other:?} is none of none, lru, ttl-only")).into());
                }
            };
            store.create(&place.actor, &name, policy)?;
            if printer.json {
                printer.document(&serde_json::json!({ "created": name }));
            } else {
                printer.say(&format!("created {name}"));
            }
        }
    }
    Ok(ExitStatus::Done)
}

fn kind_name(kind: &Kind) -> String {
    match kind {
        Kind::Private { owner } => format!("private:{owner}"),
        Kind::Swarm { swarm } => format!("swarm:{swarm}"),
        Kind::Project => "project".into(),
        Kind::System => "system".into(),
    }
}

fn parse_kind(text: &str) -> Result<Kind, Usage> {
    match text.split_once(':') {
        Some(("private", owner)) if !owner.is_empty() => Ok(Kind::Private { owner: owner.to_owned() }),
        Some(("swarm", swarm)) if !swarm.is_empty() => Ok(Kind::Swarm { swarm: swarm.to_owned() }),
        None if text == "project" => Ok(Kind::Project),
        None if text == "system" => Ok(Kind::System),
        _ => Err(Usage(format!("--kind {text:?} is none of project, system, private:AGENT, swarm:RUN"))),
    }
}

pub(super) fn stats(place: &Place, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let stats = place.open()?.stats()?;
    if printer.json {
        let spaces: Vec<_> = stats
            .namespaces
            .iter()
            .map(|space| serde_json::json!({ "name": &*space.name, "entries": space.entries, "bytes": space.bytes.0 }))
            .collect();
        printer.document(&serde_json::json!({
            "version": stats.version, "log_first": stats.log_first, "log_bytes": stats.log.0,
            "memory_bytes": stats.memory.0, "stopped": stats.stopped.as_deref(), "namespaces": spaces,
        }));
        return Ok(ExitStatus::Done);
    }
    printer.data(&format!("version {} · {} in memory · {} of log", stats.version, stats.memory, stats.log));
    for space in &stats.namespaces {
        printer.data(&format!("  {:<32} {:>10} entries {:>12}", &*space.name, space.entries, space.bytes));
    }
    Ok(ExitStatus::Done)
}
