//! A process that publishes to a durable stream, and does each message once into another, is killed again and again.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use quorate_base::Millis;
use quorate_bus::stream::delivery::Policy;
use quorate_bus::stream::{Consumer, Options, Start, Stream};
use quorate_bus::{Message, MessageId};

const DIR: &str = "QUORATE_BUS_DIR";
const PRODUCERS: u64 = 3;
const WORKER: &str = "worker in";

/// Small segments, so that kills come while one is begun and while one is given back.
fn open(dir: &Path, name: &str) -> Arc<Stream> {
    let log = quorate_wal::Options {
        segment_bytes: 16 << 10,
        ahead_bytes: 4 << 10,
        ..quorate_wal::Options::default()
    };
    Stream::open(Options { log, ..Options::new(name, &[name], Some(dir.join(name))) }).unwrap()
}

/// One message at a time, and nobody is poison: whoever holds a message here is killed for nothing it did.
fn consumer(stream: &Arc<Stream>) -> Consumer {
    let policy = Policy {
        backoff: Millis(1),
        attempts_max: u32::MAX,
        deaths_max: u32::MAX,
        out_max: 1,
        ..Policy::default()
    };
    stream.consumer("worker", policy, Start::First).unwrap()
}

fn text(message: &Message) -> &str {
    std::str::from_utf8(message.payload()).unwrap()
}

fn say(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
}

/// Does what comes, once, until nothing has come for so long.
fn work(from: &Arc<Stream>, to: &Stream, patience: Duration, mut done: impl FnMut(&str)) {
    let consumer = consumer(from);
    while let Some(received) = consumer.next(patience).unwrap() {
        let output = Message::new(received.message.payload());
        let stored = to.once(WORKER, received.offset, vec![("done".into(), output)]).unwrap();
        // One that was done by the one before, which was killed before it could say so, is not done again.
        if stored.is_some() {
            done(text(&received.message));
        }
        consumer.ack(&received).unwrap();
    }
}

/// This test binary again, as a process of its own.
fn spawn(dir: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["killed::a_role_is_played_where_one_is_given", "--exact", "--nocapture"]);
    command.env(DIR, dir).stdout(Stdio::piped()).spawn().unwrap()
}

/// Each producer goes on from the last number that is stored, and sends that one again.
#[test]
fn a_role_is_played_where_one_is_given() {
    let Ok(dir) = std::env::var(DIR) else {
        return;
    };
    let (from, to) = (open(Path::new(&dir), "in"), open(Path::new(&dir), "done"));
    std::thread::scope(|scope| {
        for producer in 1..=PRODUCERS {
            let from = &from;
            scope.spawn(move || {
                for seq in from.last_of(producer).map_or(1, |id| id.seq).. {
                    let payload = format!("{producer} {seq}");
                    let message = Message::new(payload.as_bytes()).with_id(MessageId { producer, seq });
                    let _ = from.publish("in", &message).unwrap();
                    say(format_args!("stored {payload}"));
                }
            });
        }
        scope.spawn(|| {
            work(&from, &to, Duration::from_secs(60), |payload| say(format_args!("finished {payload}")))
        });
    });
}

/// What a stream holds, in order.
fn held(stream: &Stream) -> Vec<String> {
    let info = stream.info();
    (info.first..info.end).map(|offset| text(&stream.message(offset).unwrap().2).to_owned()).collect()
}

/// Each producer's numbers from 1 without a gap or a repetition, and as far as was acknowledged.
fn check(when: &str, payloads: &[String], acknowledged: &BTreeMap<String, u64>, exactly: bool) {
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    for payload in payloads {
        let (producer, seq) = payload.split_once(' ').unwrap();
        let next = next.entry(producer.to_owned()).or_insert(1);
        assert_eq!(seq.parse::<u64>().unwrap(), *next, "{when}: producer {producer}");
        *next += 1;
    }
    for (producer, last) in acknowledged {
        let stored = next.get(producer).map_or(0, |next| next - 1);
        assert!(
            stored >= *last,
            "{when}: {last} of producer {producer} was acknowledged, the last is {stored}"
        );
    }
    assert!(!exactly || next.len() as u64 == PRODUCERS, "{when}: {next:?}");
}

#[test]
fn a_process_that_is_killed_loses_no_message_and_does_none_twice() {
    let kills: u64 = std::env::var("QUORATE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let dir = tempfile::tempdir().unwrap();
    let (mut stored, mut finished): (BTreeMap<String, u64>, BTreeMap<String, u64>) = Default::default();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for kill in 0..kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut child = spawn(dir.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut take = |line: &str| {
            let mut words = line.split(' ').rev();
            let (Some(seq), Some(producer), Some(what)) = (words.next(), words.next(), words.next()) else {
                return;
            };
            let (last, seq) = match what {
                // The runner of the tests begins a line before them.
                what if what.ends_with("stored") => (&mut stored, seq),
                what if what.ends_with("finished") => (&mut finished, seq),
                _ => return,
            };
            let last = last.entry(producer.to_owned()).or_default();
            *last = seq.parse::<u64>().unwrap().max(*last);
        };
        for _ in 0..random % 40 {
            take(&lines.next().unwrap().unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said before it died; of a line it did not end, a number may be cut short, which asks for less.
        lines.map_while(Result::ok).for_each(|line| {
            if line.split(' ').filter(|word| !word.is_empty()).count() >= 3 {
                take(&line);
            }
        });
        // A look at everything now and then, as it grows.
        if kill % 10 == 0 {
            let when = format!("kill {kill}");
            check(&when, &held(&open(dir.path(), "in")), &stored, false);
            check(&when, &held(&open(dir.path(), "done")), &finished, false);
        }
    }
    let (from, to) = (open(dir.path(), "in"), open(dir.path(), "done"));
    work(&from, &to, Duration::from_millis(200), |_| {});
    let all = held(&from);
    check("at the end", &all, &stored, true);
    assert_eq!(held(&to), all, "each message is done once, in order");
    check("at the end", &all, &finished, true);
    assert!(from.dead_letters("worker").unwrap().is_empty());
}
