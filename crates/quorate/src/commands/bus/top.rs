//! `quorate bus top`.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use quorate_base::{ByteCount, ExitStatus};
use quorate_bus::Report;
use quorate_bus::wire::Client;

use crate::host;
use crate::printer::{BAD, DIM, Printer};

pub(super) fn top(
    client: &mut Client,
    once: bool,
    every: Duration,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let stop = host::stop_on_signals()?;
    let mut before = client.report()?;
    if once {
        // A rate needs two looks.
        if printer.json {
            printer.document(&before);
        } else {
            show(&before, None, printer);
        }
        return Ok(ExitStatus::Done);
    }
    let terminal = std::io::stdout().is_terminal();
    while !stop.load(Ordering::Relaxed) {
        let end = Instant::now() + every;
        while Instant::now() < end && !stop.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_millis(100));
        }
        let now = client.report()?;
        if printer.json {
            printer.document(&now);
        } else {
            if terminal {
                printer.bytes(b"\x1b[H\x1b[2J");
            }
            show(&now, Some(&before), printer);
        }
        before = now;
    }
    Ok(ExitStatus::Done)
}

fn show(now: &Report, before: Option<&Report>, printer: &Printer) {
    let seconds = before.map(|before| (now.time.0.saturating_sub(before.time.0)) as f64 / 1000.0);
    let rate = |now: u64, then: u64| match seconds {
        Some(seconds) if seconds > 0.0 => format!("{:.0}/s", now.saturating_sub(then) as f64 / seconds),
        _ => "-".to_owned(),
    };
    printer.data(&format!(
        "{} of {} held · {} delayed · {}",
        ByteCount(now.memory_bytes),
        ByteCount(now.memory_max),
        now.delayed,
        now.time
    ));
    if !now.topics.is_empty() {
        printer.data(&format!("\n{DIM}{:<44} {:>12} {:>10}{DIM:#}", "topic", "published", "rate"));
    }
    let then: HashMap<&str, u64> = before
        .into_iter()
        .flat_map(|before| &before.topics)
        .map(|topic| (topic.topic.as_str(), topic.published))
        .collect();
    let mut topics: Vec<_> = now.topics.iter().collect();
    let grown = |topic: &&quorate_bus::report::TopicReport| {
        topic.published - then.get(topic.topic.as_str()).copied().unwrap_or(0).min(topic.published)
    };
    topics.sort_by_key(|topic| (std::cmp::Reverse(grown(topic)), std::cmp::Reverse(topic.published)));
    for topic in topics.iter().take(20) {
        let was = then.get(topic.topic.as_str()).copied().unwrap_or(0);
        printer.data(&format!(
            "{:<44} {:>12} {:>10}",
            cut(&topic.topic, 44),
            topic.published,
            rate(topic.published, was)
        ));
    }
    if topics.len() > 20 {
        printer.data(&format!("{DIM}… and {} topics more{DIM:#}", topics.len() - 20));
    }
    if !now.subscriptions.is_empty() {
        printer.data(&format!(
            "\n{DIM}{:<24} {:<20} {:>10} {:>8} {:>8} {:>8} {:>8}{DIM:#}",
            "subscription", "topics", "received", "waiting", "shed", "refused", "expired"
        ));
    }
    for found in &now.subscriptions {
        let name = if found.name.is_empty() { "-" } else { &found.name };
        let lost = found.shed + found.refused > 0;
        let style = if lost { BAD } else { crate::printer::PLAIN };
        printer.data(&format!(
            "{:<24} {:<20} {:>10} {:>8} {style}{:>8} {:>8}{style:#} {:>8}",
            cut(name, 24),
            cut(&found.pattern, 20),
            found.received,
            found.depth,
            found.shed,
            found.refused,
            found.expired
        ));
    }
    for stream in &now.streams {
        printer.data(&format!(
            "\n{DIM}stream{DIM:#} {} · {} messages, {}",
            stream.name,
            stream.messages,
            ByteCount(stream.bytes)
        ));
        for consumer in &stream.consumers {
            let oldest = consumer.oldest.map_or_else(
                || "-".to_owned(),
                |oldest| format!("{:.1} s", now.time.since(oldest).as_secs_f64()),
            );
            printer.data(&format!(
                "  {:<22} behind {:>8} · out {} · again {} · dead {} · oldest {oldest}",
                cut(&consumer.name, 22),
                consumer.lag,
                consumer.out,
                consumer.waiting,
                consumer.dead
            ));
        }
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}
