//! Redis: its stream, synced to disk before it answers.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};

use crate::brokers::server::Server;
use crate::brokers::wire::{Wire, line, number};
use crate::harness::latency::Latencies;
use crate::harness::writers::{Acked, writers};

const RECORD: usize = 256;

/// Nothing where it is not installed.
pub(crate) fn start() -> anyhow::Result<Option<Server>> {
    Server::start("redis-server", |folder, port| {
        let (folder, port) = (folder.display().to_string(), port.to_string());
        let network = ["--bind", "127.0.0.1", "--port", &port, "--dir", &folder];
        let disk = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""];
        network.into_iter().chain(disk).map(str::to_owned).collect()
    })
}

/// One connection with `depth` messages that are not acknowledged yet.
pub(crate) fn stream_pipelined(server: &Server, depth: u64, time: Duration) -> anyhow::Result<Acked> {
    let mut wire = Wire::connect(server.address)?;
    let before = stored(&mut wire)?;
    let (mut sent, mut acknowledged) = (Vec::<Instant>::new(), 0_u64);
    let (start, mut latencies) = (Instant::now(), Latencies::new());
    let mut batch = Vec::new();
    loop {
        let open = start.elapsed() < time;
        if !open && acknowledged == sent.len() as u64 {
            break;
        }
        batch.clear();
        while open && (sent.len() as u64) < acknowledged + depth {
            record(&mut batch, sent.len() as u64);
            sent.push(Instant::now());
        }
        wire.send(&batch)?;
        for _ in 0..answers(&mut wire)? {
            latencies.record_time(sent[acknowledged as usize].elapsed());
            acknowledged += 1;
        }
    }
    let per_second = acknowledged as f64 / start.elapsed().as_secs_f64();
    complete(&mut wire, before, acknowledged)?;
    Ok(Acked { per_second, latency: latencies.percentiles(), counts: vec![acknowledged] })
}

/// As many connections as publishers, each with one message that is not acknowledged yet.
pub(crate) fn stream_concurrent(server: &Server, publishers: usize, time: Duration) -> anyhow::Result<Acked> {
    let mut wire = Wire::connect(server.address)?;
    let before = stored(&mut wire)?;
    let open = |_| Ok(Mutex::new(Wire::connect(server.address)?));
    let wires = (0..publishers).map(open).collect::<anyhow::Result<Vec<_>>>()?;
    let acked = writers(publishers, time, |publisher, sequence| {
        // Nobody else wants it: each publisher has its own.
        let mut wire = wires[publisher].lock().map_err(|_| anyhow!("a publisher panicked"))?;
        let mut message = Vec::with_capacity(512);
        record(&mut message, sequence);
        wire.send(&message)?;
        answers(&mut wire)?;
        Ok(())
    })?;
    complete(&mut wire, before, acked.counts.iter().sum())?;
    Ok(acked)
}

fn record(batch: &mut Vec<u8>, sequence: u64) {
    let head = "*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$1\r\nd";
    batch.extend_from_slice(format!("{head}\r\n${RECORD}\r\n{sequence:0RECORD$}\r\n").as_bytes());
}

/// Waits for at least one answer, then takes all that are there.
fn answers(wire: &mut Wire) -> anyhow::Result<u64> {
    let mut count = 0;
    while count == 0 {
        wire.read()?;
        let mut rest = wire.unread();
        let mut taken = 0;
        while let Some((head, after)) = line(rest) {
            let mut whole = rest.len() - after.len();
            ensure!(head.starts_with(b"$"), "the server says {}", String::from_utf8_lossy(head));
            whole += number(&head[1..])? + 2;
            let Some(next) = rest.get(whole..) else {
                break;
            };
            rest = next;
            taken += whole;
            count += 1;
        }
        wire.take(taken);
    }
    Ok(count)
}

/// How many messages the stream holds.
fn stored(wire: &mut Wire) -> anyhow::Result<u64> {
    wire.send(b"*2\r\n$4\r\nXLEN\r\n$1\r\ns\r\n")?;
    loop {
        wire.read()?;
        if let Some((head, after)) = line(wire.unread()) {
            ensure!(head.starts_with(b":"), "the server says {}", String::from_utf8_lossy(head));
            let (count, whole) = (number(&head[1..])?, wire.unread().len() - after.len());
            wire.take(whole);
            return Ok(count as u64);
        }
    }
}

fn complete(wire: &mut Wire, before: u64, acknowledged: u64) -> anyhow::Result<()> {
    let stored = stored(wire)? - before;
    ensure!(stored == acknowledged, "{acknowledged} messages were acknowledged, {stored} are stored");
    Ok(())
}
