//! What streams promise.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use quorate_base::{Millis, Timestamp};
use quorate_wal::sim::{Fault, Random, SimDisk};

use super::delivery::{Delivery, Look, Next, Policy, Reason, Saved};
use super::{Consumer, Error, Options, Retention, Start, Stream, record};
use crate::Filter;
use crate::message::{Message, MessageId};

const SECOND: Duration = Duration::from_secs(1);

fn policy() -> Policy {
    Policy { ack_timeout: Millis(100), backoff: Millis(10), backoff_max: Millis(40), ..Policy::default() }
}

fn wanted(producer: u64) -> Look {
    Look::Wanted { producer, deadline: None }
}

/// Polls at `now` in a stream of `end` messages, all of producer 1.
fn poll(delivery: &mut Delivery, now: u64, end: u64) -> Next {
    delivery.poll(Timestamp(now), end, 7, &mut |_| wanted(1))
}

#[test]
fn each_message_is_delivered_once_while_it_is_answered() {
    let mut delivery = Delivery::new(policy(), 0);
    for offset in 0..3 {
        assert_eq!(poll(&mut delivery, 0, 3), Next::Deliver { offset, attempt: 1 });
    }
    assert_eq!(poll(&mut delivery, 0, 3), Next::Wait(Some(Timestamp(100))));
    for offset in [1, 0, 2] {
        delivery.ack(offset, 1).unwrap();
    }
    assert_eq!((delivery.floor(), delivery.out()), (3, 0));
    assert_eq!(poll(&mut delivery, 500, 3), Next::Wait(None));
}

#[test]
fn a_silent_message_comes_again_after_a_growing_pause_and_is_buried_at_last() {
    let mut delivery = Delivery::new(Policy { attempts_max: 3, ..policy() }, 0);
    assert_eq!(poll(&mut delivery, 0, 1), Next::Deliver { offset: 0, attempt: 1 });
    assert_eq!(poll(&mut delivery, 100, 1), Next::Wait(Some(Timestamp(110))));
    assert_eq!(poll(&mut delivery, 110, 1), Next::Deliver { offset: 0, attempt: 2 });
    // An answer to the first delivery comes too late.
    assert!(delivery.ack(0, 1).is_err());
    assert_eq!(poll(&mut delivery, 210, 1), Next::Wait(Some(Timestamp(230))));
    assert_eq!(poll(&mut delivery, 230, 1), Next::Deliver { offset: 0, attempt: 3 });
    assert_eq!(poll(&mut delivery, 330, 1), Next::Wait(None));
    assert_eq!(delivery.dead()[&0].reason, Reason::Attempts);
    assert_eq!((delivery.floor(), delivery.needed()), (1, 0));
}

#[test]
fn a_message_that_kills_its_holders_is_buried_as_poison() {
    let mut delivery = Delivery::new(Policy { deaths_max: 2, attempts_max: 10, ..policy() }, 0);
    assert_eq!(poll(&mut delivery, 0, 2), Next::Deliver { offset: 0, attempt: 1 });
    delivery.holder_died(Timestamp(1), 7);
    assert_eq!(poll(&mut delivery, 11, 1), Next::Deliver { offset: 0, attempt: 2 });
    delivery.holder_died(Timestamp(12), 7);
    assert_eq!(delivery.dead()[&0].reason, Reason::Poison);
    assert_eq!(poll(&mut delivery, 12, 2), Next::Deliver { offset: 1, attempt: 1 });
}

#[test]
fn a_holder_that_leaves_in_order_counts_against_nothing() {
    let mut delivery = Delivery::new(policy(), 0);
    assert_eq!(poll(&mut delivery, 0, 1), Next::Deliver { offset: 0, attempt: 1 });
    delivery.holder_left(Timestamp(1), 7);
    assert_eq!(poll(&mut delivery, 1, 1), Next::Deliver { offset: 0, attempt: 1 });
}

#[test]
fn an_ordered_consumer_holds_back_what_follows_a_message_of_the_same_producer() {
    let mut delivery = Delivery::new(Policy { ordered: true, ..policy() }, 0);
    let producers = [1, 1, 2, 1];
    let poll = |delivery: &mut Delivery, now| {
        delivery.poll(Timestamp(now), 4, 7, &mut |at| wanted(producers[at as usize]))
    };
    assert_eq!(poll(&mut delivery, 0), Next::Deliver { offset: 0, attempt: 1 });
    assert_eq!(poll(&mut delivery, 0), Next::Deliver { offset: 2, attempt: 1 });
    delivery.nack(Timestamp(0), 0, 1, None).unwrap();
    assert_eq!(poll(&mut delivery, 5), Next::Wait(Some(Timestamp(10))));
    assert_eq!(poll(&mut delivery, 10), Next::Deliver { offset: 0, attempt: 2 });
    delivery.ack(0, 2).unwrap();
    assert_eq!(poll(&mut delivery, 10), Next::Deliver { offset: 1, attempt: 1 });
    delivery.ack(1, 1).unwrap();
    assert_eq!(poll(&mut delivery, 10), Next::Deliver { offset: 3, attempt: 1 });
}

#[test]
fn a_dead_letter_that_is_replayed_is_dead_again_after_a_restart() {
    let mut delivery = Delivery::new(policy(), 0);
    poll(&mut delivery, 0, 2);
    delivery.reject(Timestamp(0), 0, 1).unwrap();
    assert!(delivery.replay(Timestamp(1), 0, 1));
    assert!(!delivery.replay(Timestamp(1), 0, 1));
    let again = Delivery::restore(policy(), delivery.save());
    assert_eq!(again.dead().len(), 1);
    assert_eq!(poll(&mut delivery, 2, 2), Next::Deliver { offset: 0, attempt: 1 });
    delivery.ack(0, 1).unwrap();
    assert!(delivery.save().dead.is_empty());
}

proptest! {
    /// Whatever is answered or not, every message is in the end acknowledged or dead, and none is delivered after it was.
    #[test]
    fn every_message_is_done_or_dead_in_the_end(
        seed in any::<u64>(), ordered in any::<bool>(), count in 1_u64..60, out_max in 1_usize..8,
    ) {
        let policy = Policy { ordered, out_max, attempts_max: 3, ..policy() };
        let mut random = Random(seed);
        let mut delivery = Delivery::new(policy, 0);
        let mut out: BTreeMap<u64, u32> = BTreeMap::new();
        let mut done = BTreeSet::new();
        let mut last_of = BTreeMap::new();
        let mut now = 0;
        for step in 0..20_000 {
            prop_assert!(step < 19_999, "it never ends; seed {seed}");
            match random.below(8) {
                0 => now += random.below(80),
                1 => {
                    delivery = Delivery::restore(policy, delivery.save());
                    out.clear();
                    last_of.clear();
                }
                2 if !out.is_empty() => {
                    delivery.holder_died(Timestamp(now), 7);
                    out.clear();
                }
                3..=5 if !out.is_empty() => {
                    let nth = random.below(out.len() as u64) as usize;
                    let (&offset, &attempt) = out.iter().nth(nth).unwrap();
                    out.remove(&offset);
                    let acked = if random.chance(3) {
                        delivery.nack(Timestamp(now), offset, attempt, None).map(|()| false)
                    } else {
                        delivery.ack(offset, attempt).map(|()| true)
                    };
                    if acked == Ok(true) {
                        prop_assert!(done.insert(offset));
                    }
                }
                _ => match delivery.poll(Timestamp(now), count, 7, &mut |at| wanted(at % 3)) {
                    Next::Deliver { offset, attempt } => {
                        prop_assert!(!done.contains(&offset), "{offset} was done; seed {seed}");
                        out.insert(offset, attempt);
                        if ordered {
                            let last = last_of.insert(offset % 3, offset);
                            prop_assert!(last.is_none_or(|last| last <= offset), "order; seed {seed}");
                        }
                        prop_assert!(delivery.out() <= out_max);
                    }
                    Next::Wait(Some(time)) => now = now.max(time.0),
                    Next::Wait(None) if delivery.floor() == count => break,
                    Next::Wait(None) => prop_assert!(delivery.out() > 0, "it waits for nothing; seed {seed}"),
                },
            }
        }
        prop_assert_eq!(done.len() + delivery.dead().len(), count as usize);
        prop_assert!(delivery.dead().keys().all(|offset| !done.contains(offset)));
    }

    #[test]
    fn any_bytes_are_a_record_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = record::read(&bytes);
        let _ = crate::codec::decode(&bytes);
    }

    #[test]
    fn a_saved_consumer_is_read_back(
        floor in any::<u64>(), done in proptest::collection::vec(any::<(u64, u64)>(), 0..5),
        tried in proptest::collection::vec(any::<(u64, u32, u32)>(), 0..5),
    ) {
        let saved = Saved { floor, done, dead: Vec::new(), tried };
        let mut bytes = Vec::new();
        record::consumer(&mut bytes, "c", &saved);
        prop_assert_eq!(record::read(&bytes), Ok(record::Record::Consumer { name: "c", saved: saved.clone() }));
        for cut in 0..bytes.len() {
            prop_assert!(record::read(&bytes[..cut]).is_err());
        }
    }
}

/// A clock that tests move: it is the same for all streams of a thread.
fn clock() -> Timestamp {
    NOW.with(|now| Timestamp(now.load(Ordering::Relaxed)))
}

thread_local! {
    static NOW: AtomicU64 = const { AtomicU64::new(1_000_000) };
}

fn pass(ms: u64) {
    NOW.with(|now| now.fetch_add(ms, Ordering::Relaxed));
}

fn options(disk: &SimDisk) -> Options {
    Options {
        disk: Arc::new(disk.clone()),
        clock,
        log: quorate_wal::Options { segment_bytes: 4096, ahead_bytes: 1024, ..Default::default() },
        cache_bytes: 1000,
        ..Options::new("work", &["work.>"], Some(PathBuf::from("/work")))
    }
}

fn open(disk: &SimDisk) -> Arc<Stream> {
    Stream::open(options(disk)).unwrap()
}

fn message(number: u64) -> Message {
    Message::new(format!("message {number}").as_bytes()).with_id(MessageId { producer: 5, seq: number + 1 })
}

fn publish(stream: &Stream, count: u64) {
    for _ in 0..count {
        let number = stream.info().end;
        assert_eq!(stream.publish("work.a", &message(number)).unwrap().offset, number);
    }
}

fn next(consumer: &Consumer) -> Option<super::Received> {
    consumer.try_next().unwrap()
}

#[test]
fn what_is_published_is_there_after_a_restart_and_goes_on_where_the_consumer_was() {
    let disk = SimDisk::new(1);
    let stream = open(&disk);
    publish(&stream, 50);
    let consumer = stream.consumer("c", policy(), Start::First).unwrap();
    for number in 0..20 {
        let received = next(&consumer).unwrap();
        assert_eq!((received.offset, received.message.payload()), (number, message(number).payload()));
        assert_eq!(&*received.topic, "work.a");
        consumer.ack(&received).unwrap();
    }
    drop(consumer);
    drop(stream);
    let stream = open(&disk.after_kill());
    let consumer = stream.consumer("c", policy(), Start::First).unwrap();
    assert_eq!(next(&consumer).unwrap().offset, 20);
    assert_eq!(stream.info().messages, 50);
}

#[test]
fn a_repetition_is_stored_once_also_after_a_restart() {
    let disk = SimDisk::new(2);
    let stream = open(&disk);
    publish(&stream, 3);
    let again = stream.publish("work.a", &message(2)).unwrap();
    assert_eq!((again.offset, again.duplicate), (2, true));
    drop(stream);
    let stream = open(&disk.after_kill());
    assert!(stream.publish("work.a", &message(1)).unwrap().duplicate);
    assert_eq!(stream.info().end, 3);
    publish(&stream, 1);
    // Who does not count is never a repetition.
    let anonymous = Message::new(b"x");
    assert!(!stream.publish("work.a", &anonymous).unwrap().duplicate);
    assert!(!stream.publish("work.a", &anonymous).unwrap().duplicate);
}

#[test]
fn consumers_begin_where_they_ask() {
    let disk = SimDisk::new(3);
    let stream = open(&disk);
    publish(&stream, 3);
    pass(100);
    let time = clock();
    publish(&stream, 3);
    for (name, start, first) in
        [("a", Start::First, 0), ("b", Start::At(4), 4), ("c", Start::Time(time), 3), ("d", Start::At(99), 6)]
    {
        let consumer = stream.consumer(name, policy(), start).unwrap();
        assert_eq!(next(&consumer).map_or(6, |received| received.offset), first, "{name}");
    }
    let consumer = stream.consumer("e", policy(), Start::Next).unwrap();
    assert!(next(&consumer).is_none());
    publish(&stream, 1);
    assert_eq!(next(&consumer).unwrap().offset, 6);
}

#[test]
fn handles_of_one_consumer_share_its_messages_and_a_dead_ones_come_again() {
    let stream = open(&SimDisk::new(4));
    publish(&stream, 4);
    let one = stream.consumer("c", policy(), Start::First).unwrap();
    let other = stream.consumer("c", policy(), Start::First).unwrap();
    let first = next(&one).unwrap();
    assert_eq!(next(&other).unwrap().offset, 1);
    assert_eq!(next(&one).unwrap().offset, 2);
    one.died();
    pass(10);
    let mut seen: Vec<_> = (0..2).map(|_| next(&other).unwrap()).map(|r| (r.offset, r.attempt)).collect();
    seen.sort_unstable();
    assert_eq!(seen, [(0, 2), (2, 2)]);
    assert_eq!(next(&other).unwrap().offset, 3);
    assert!(other.ack(&first).is_err(), "the delivery to the dead holder can no longer be answered");
}

#[test]
fn a_filter_leaves_out_what_is_not_wanted_also_what_is_read_from_the_disk() {
    let disk = SimDisk::new(5);
    let stream = open(&disk);
    for number in 0..40_u64 {
        let role = if number % 10 == 3 { "tester" } else { "coder" };
        stream.publish("work.a", &message(number).with_header("role", role)).unwrap();
    }
    let filter = Filter::new("role = tester").unwrap();
    let consumer = stream.filtered_consumer("c", policy(), Start::First, Some(filter)).unwrap();
    for number in [3, 13, 23, 33] {
        let received = next(&consumer).unwrap();
        assert_eq!(received.offset, number);
        consumer.ack(&received).unwrap();
    }
    assert!(next(&consumer).is_none());
    assert_eq!(stream.info().consumers[0].lag, 0);
}

#[test]
fn dead_letters_are_listed_kept_replayed_and_purged() {
    let disk = SimDisk::new(6);
    let stream = Stream::open(Options {
        retention: Retention { messages: Some(2), ..Retention::default() },
        ..options(&disk)
    })
    .unwrap();
    publish(&stream, 2);
    let consumer = stream.consumer("c", policy(), Start::First).unwrap();
    let received = next(&consumer).unwrap();
    consumer.reject(&received).unwrap();
    // Retention would take it, were it not dead.
    publish(&stream, 5);
    let dead = stream.dead_letters("c").unwrap();
    assert_eq!((dead[0].0, dead[0].1.reason), (0, Reason::Rejected));
    assert_eq!(stream.message(0).unwrap().2.payload(), b"message 0");
    assert!(stream.replay("c", 0).unwrap());
    let again = next(&consumer).unwrap();
    assert_eq!((again.offset, again.attempt), (0, 1));
    consumer.reject(&again).unwrap();
    assert!(stream.purge("c", 0).unwrap());
    assert!(!stream.purge("c", 0).unwrap());
    assert!(matches!(stream.dead_letters("nobody"), Err(Error::NoSuchConsumer { .. })));
}

#[test]
fn retention_by_number_bytes_and_age_forgets_the_oldest_and_says_what_was_missed() {
    let keep = |retention| {
        let disk = SimDisk::new(7);
        let stream = Stream::open(Options { retention, ..options(&disk) }).unwrap();
        let consumer = stream.consumer("c", policy(), Start::First).unwrap();
        publish(&stream, 20);
        pass(1000);
        publish(&stream, 10);
        let info = stream.info();
        assert_eq!(info.consumers[0].missed, info.first);
        let received = next(&consumer).unwrap();
        assert_eq!(received.offset, info.first);
        drop((consumer, stream));
        let stream = Stream::open(Options { retention, ..options(&disk.after_kill()) }).unwrap();
        assert_eq!(stream.info().first, info.first);
        info.first
    };
    assert_eq!(keep(Retention { messages: Some(12), ..Retention::default() }), 18);
    assert_eq!(keep(Retention { age: Some(Millis(500)), ..Retention::default() }), 20);
    assert!(keep(Retention { bytes: Some(500), ..Retention::default() }) > 20);
}

#[test]
fn of_each_key_the_last_message_is_kept_and_the_disk_is_given_back() {
    let disk = SimDisk::new(8);
    let retention = Retention { latest_by_key: true, ..Retention::default() };
    let stream = Stream::open(Options { retention, ..options(&disk) }).unwrap();
    for number in 0..1000_u64 {
        stream.publish("work.a", &message(number).with_key(&format!("key {}", number % 7))).unwrap();
    }
    assert!(stream.publish("work.a", &message(3)).unwrap().duplicate);
    let size: usize = disk.paths().iter().map(|path| disk.bytes(path).unwrap().len()).sum();
    assert!(size < 20_000, "{size} bytes for seven messages");
    drop(stream);
    let stream = Stream::open(Options { retention, ..options(&disk.after_kill()) }).unwrap();
    let consumer = stream.consumer("c", policy(), Start::First).unwrap();
    for number in 993..1000 {
        assert_eq!(next(&consumer).unwrap().message.payload(), message(number).payload());
    }
    assert!(next(&consumer).is_none());
    assert!(stream.publish("work.a", &message(3)).unwrap().duplicate, "producers outlive what they sent");
}

#[test]
fn work_that_is_done_once_is_not_done_again() {
    let disk = SimDisk::new(9);
    let out = open(&disk);
    let output = |text: &str| vec![(Arc::from("work.out"), Message::new(text.as_bytes()))];
    assert_eq!(out.once("in/sum", 4, output("four")).unwrap().unwrap()[0].offset, 0);
    assert!(out.once("in/sum", 4, output("four")).unwrap().is_none());
    assert!(out.once("in/sum", 3, output("three")).unwrap().is_none());
    assert!(out.once("in/sum", 5, Vec::new()).unwrap().is_some());
    drop(out);
    let out = open(&disk.after_crash(1));
    assert_eq!((out.done("in/sum"), out.info().end), (Some(5), 1));
    assert!(out.once("in/sum", 5, output("five")).unwrap().is_none());
}

#[test]
fn a_waiting_consumer_is_told_and_one_that_waits_in_vain_comes_back() {
    let stream = Stream::open(Options::new("m", &["m.>"], None)).unwrap();
    let consumer = stream.consumer("c", Policy::default(), Start::First).unwrap();
    assert!(consumer.next(Duration::from_millis(1)).unwrap().is_none());
    let publisher = Arc::clone(&stream);
    let thread = std::thread::spawn(move || publisher.publish("m.a", &Message::new(b"hello")).unwrap());
    let received = consumer.next(SECOND * 30).unwrap().unwrap();
    assert_eq!(received.message.payload(), b"hello");
    thread.join().unwrap();
    // What is refused comes again without anybody publishing.
    consumer.nack(&received, Some(Duration::from_millis(2))).unwrap();
    let again = consumer.next(SECOND * 30).unwrap().unwrap();
    assert_eq!(again.attempt, 2);
}

#[test]
fn a_failed_disk_is_told_to_the_publisher_and_nothing_is_acknowledged_after_it() {
    let disk = SimDisk::new(10);
    let stream = open(&disk);
    publish(&stream, 2);
    disk.fault(disk.operations() + 1, Fault::SyncFails);
    assert!(matches!(stream.publish("work.a", &message(2)), Err(Error::Log { .. })));
    assert!(matches!(stream.publish("work.a", &message(2)), Err(Error::Log { .. })));
    assert_eq!(stream.info().end, 2);
    let stream = open(&disk.after_crash(3));
    let stored = stream.publish("work.a", &message(2)).unwrap();
    assert_eq!(stored.offset, 2);
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_done_twice_wherever_the_machine_stops() {
    // In: messages. Out: what a consumer made of each, once.
    let run = |disk: &SimDisk| -> (u64, Option<u64>) {
        let (mut acknowledged, mut made) = (0, None);
        let mut go = || -> Result<(), Box<dyn std::error::Error>> {
            let retention = Retention { messages: Some(30), ..Retention::default() };
            let input = Stream::open(Options { retention, ..options(disk) })?;
            let output = Stream::open(Options {
                folder: Some(PathBuf::from("/out")),
                name: "out".into(),
                ..options(disk)
            })?;
            let consumer = input.consumer("c", policy(), Start::First)?;
            for _ in 0..12 {
                let number = input.last_of(5).map_or(0, |id| id.seq);
                let sent = (number..number + 3).map(|number| (Arc::from("work.a"), message(number)));
                input.publish_all(sent.collect())?;
                acknowledged = number + 3;
                while let Some(received) = consumer.try_next()? {
                    let made_of = Message::new(received.message.payload());
                    output.once("work/c", received.offset, vec![(Arc::from("out"), made_of)])?;
                    made = Some(received.offset);
                    consumer.ack(&received)?;
                }
            }
            Ok(())
        };
        let _ = go();
        (acknowledged, made)
    };
    let whole = SimDisk::new(77);
    assert_eq!(run(&whole), (36, Some(35)));
    for at in 0..whole.operations() {
        let disk = SimDisk::new(at);
        disk.fault(at, Fault::Crash);
        let (acknowledged, made) = run(&disk);
        for after in [disk.after_crash(at), disk.after_kill()] {
            let (more, _) = run(&after);
            assert!(more >= acknowledged, "crash at {at}: {acknowledged} acknowledged, then {more}");
            let Ok(output) = Stream::open(Options {
                folder: Some(PathBuf::from("/out")),
                name: "out".into(),
                ..options(&after.after_kill())
            }) else {
                panic!("crash at {at}: the output does not open");
            };
            let info = output.info();
            assert!(made.is_none_or(|made| info.end > made), "crash at {at}: what was done is gone");
            for number in 0..info.end {
                let text = output.message(number).unwrap().2;
                assert_eq!(text.payload(), message(number).payload(), "crash at {at}: once each, in order");
            }
        }
    }
}

#[test]
fn a_real_folder_holds_a_stream_too() {
    let folder = tempfile::tempdir().unwrap();
    let at = |folder: &Path| Options::new("real", &["a"], Some(folder.join("real")));
    let stream = Stream::open(at(folder.path())).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let stream = &stream;
            scope.spawn(move || {
                for seq in 1..=25 {
                    let message = Message::new(b"x").with_id(MessageId { producer: thread + 1, seq });
                    assert!(!stream.publish("a", &message).unwrap().duplicate);
                }
            });
        }
    });
    drop(stream);
    assert_eq!(Stream::open(at(folder.path())).unwrap().info().messages, 200);
}

#[test]
fn a_dead_letter_holds_back_neither_retention_nor_what_is_new() {
    let disk = SimDisk::new(11);
    let retention = Retention { messages: Some(3), ..Retention::default() };
    let stream = Stream::open(Options { retention, ..options(&disk) }).unwrap();
    let consumer = stream.consumer("c", policy(), Start::First).unwrap();
    for number in 0..5 {
        stream.publish("work.a", &message(number)).unwrap();
        let received = next(&consumer).unwrap();
        consumer.reject(&received).unwrap();
    }
    for number in 5..100 {
        stream.publish("work.a", &message(number)).unwrap();
    }
    // Five that are dead, and the last three.
    assert_eq!(stream.info().messages, 8);
    for number in [0, 4, 97, 99] {
        assert_eq!(stream.message(number).unwrap().2.payload(), message(number).payload());
    }
    assert!(stream.message(50).is_err());
    let size: usize = disk.paths().iter().map(|path| disk.bytes(path).unwrap().len()).sum();
    assert!(size < 20_000, "{size} bytes for eight messages");
}

#[test]
fn of_more_dead_letters_than_the_bound_the_oldest_go() {
    let mut delivery = Delivery::new(policy(), 0);
    let end = super::delivery::DEAD_MAX as u64 + 3;
    for offset in 0..end {
        assert_eq!(poll(&mut delivery, 0, end), Next::Deliver { offset, attempt: 1 });
        delivery.reject(Timestamp(0), offset, 1).unwrap();
    }
    assert_eq!(delivery.dead().len(), super::delivery::DEAD_MAX);
    assert_eq!(delivery.dead().keys().next(), Some(&3));
    assert!(delivery.save().done.is_empty());
}

#[test]
fn what_was_tried_before_a_restart_is_saved_again_also_where_it_was_not_looked_at_since() {
    let tried = vec![(3, 2, 1), (9, 4, 0)];
    let saved = Saved { floor: 3, tried: tried.clone(), ..Saved::default() };
    let mut delivery = Delivery::restore(policy(), saved);
    assert_eq!(delivery.save().tried, tried);
    assert_eq!(poll(&mut delivery, 0, 20), Next::Deliver { offset: 3, attempt: 3 });
    assert_eq!(delivery.save().tried, [(3, 3, 1), (9, 4, 0)]);
}

#[test]
fn what_is_known_of_forgotten_messages_does_not_grow() {
    let disk = SimDisk::new(12);
    let retention = Retention { messages: Some(5), latest_by_key: true, ..Retention::default() };
    let stream = Stream::open(Options { retention, cache_bytes: 1 << 20, ..options(&disk) }).unwrap();
    for number in 0..2000_u64 {
        stream.publish("work.a", &message(number).with_key(&format!("key {number}"))).unwrap();
    }
    let (keys, cached) = stream.state().remembered();
    assert!(keys <= 5 && cached <= 100, "{keys} keys and {cached} places of five messages");
}

#[test]
fn answers_without_end_do_not_fill_the_disk() {
    let disk = SimDisk::new(13);
    let stream = open(&disk);
    publish(&stream, 20);
    let consumer = stream.consumer("c", Policy { attempts_max: u32::MAX, ..policy() }, Start::First).unwrap();
    let mut most = 0;
    for _ in 0..100_000 {
        let received = next(&consumer).unwrap();
        consumer.nack(&received, Some(Duration::ZERO)).unwrap();
        most = most.max(disk.paths().len());
    }
    assert!(most < 12, "{most} segments for twenty messages");
    for number in 0..20 {
        assert_eq!(stream.message(number).unwrap().2.payload(), message(number).payload());
    }
    drop((consumer, stream));
    let stream = open(&disk.after_kill());
    assert_eq!((stream.info().messages, stream.info().first, stream.info().end), (20, 0, 20));
}

#[test]
fn what_cannot_be_stored_is_refused_alone_and_what_is_stored_can_be_read() {
    let disk = SimDisk::new(14);
    let stream = open(&disk);
    let long = "é".repeat(40_000);
    for bad in [
        stream.publish("work.a", &message(0).with_key(&long)),
        stream.publish("work.a", &message(0).with_reply(&long)),
        stream.publish("work.a", &message(0).with_header("h", &long)),
        stream.publish(&long, &message(0)),
    ] {
        assert!(matches!(bad, Err(Error::Headers | Error::Pattern(_))), "{bad:?}");
    }
    assert!(matches!(stream.once(&long, 0, Vec::new()), Err(Error::Key(_))));
    let large = Message::shared(vec![0; 1 << 20].into());
    let too_much = (0..80).map(|_| (Arc::from("work.a"), large.clone())).collect();
    assert!(matches!(stream.publish_all(too_much), Err(Error::TooLarge { .. })));
    publish(&stream, 2);
    drop(stream);
    assert_eq!(open(&disk.after_kill()).info().messages, 2);
}

#[test]
fn those_who_publish_at_once_more_than_one_append_holds_are_all_served() {
    let folder = tempfile::tempdir().unwrap();
    let at = || Options::new("real", &["a"], Some(folder.path().join("real")));
    let stream = Stream::open(at()).unwrap();
    let offsets = std::thread::scope(|scope| {
        let publisher = |thread: u64| {
            let stream = &stream;
            scope.spawn(move || {
                let one = |seq| {
                    let text = format!("{thread} {seq} {}", "x".repeat(1500));
                    Message::new(text.as_bytes()).with_id(MessageId { producer: thread + 1, seq })
                };
                (1..=20).map(|seq| stream.publish("a", &one(seq)).unwrap().offset).collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = (0..16).map(publisher).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<BTreeSet<_>>()
    });
    assert_eq!(offsets, (0..320).collect());
    let texts = |stream: &Stream| {
        let text = |offset| stream.message(offset).unwrap().2.payload()[..8].to_vec();
        (0..320).map(text).collect::<Vec<_>>()
    };
    let before = texts(&stream);
    drop(stream);
    // What is read back, from the places it was written to.
    let again = Stream::open(Options { cache_bytes: 0, ..at() }).unwrap();
    assert_eq!(texts(&again), before);
}

#[test]
fn a_folder_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = || Options::new("real", &["a"], Some(folder.path().join("real")));
    let stream = Stream::open(at()).unwrap();
    assert!(matches!(Stream::open(at()), Err(Error::Busy { .. })));
    drop(stream);
    assert!(Stream::open(at()).is_ok());
}

#[test]
fn a_message_that_compaction_moves_while_it_is_read_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let stream = Stream::open(Options {
        retention: Retention { latest_by_key: true, ..Retention::default() },
        log: quorate_wal::Options { segment_bytes: 4096, ahead_bytes: 0, ..Default::default() },
        cache_bytes: 0,
        ..Options::new("real", &["a"], Some(folder.path().join("real")))
    })
    .unwrap();
    for number in 0..20 {
        stream.publish("a", &message(number).with_key(&format!("key {number}"))).unwrap();
    }
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    for number in 0..20 {
                        let found = stream.message(number).unwrap().2;
                        assert_eq!(found.payload(), message(number).payload());
                    }
                }
            });
        }
        for number in 20..400 {
            stream.publish("a", &message(number).with_key("the same")).unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn compaction_loses_and_repeats_nothing_wherever_the_machine_stops() {
    const KEYS: u64 = 5;
    const ALL: u64 = 400;
    #[derive(Default)]
    struct Seen {
        stored: u64,
        durably: BTreeSet<u64>,
        dead: BTreeSet<u64>,
        done: Option<u64>,
    }
    let retention = Retention { latest_by_key: true, ..Retention::default() };
    let at = |disk: &SimDisk| Options {
        retention,
        log: quorate_wal::Options { segment_bytes: 1000, ahead_bytes: 200, ..Default::default() },
        ..options(disk)
    };
    let run = |disk: &SimDisk| {
        let mut seen = Seen::default();
        let mut go = || -> Result<(), Box<dyn std::error::Error>> {
            let stream = Stream::open(at(disk))?;
            let consumer = stream.consumer("c", policy(), Start::First)?;
            for number in 0..ALL {
                let keyed = message(number).with_key(&format!("key {}", number % KEYS));
                stream.publish("work.a", &keyed)?;
                seen.stored = number + 1;
                if number % 20 == 7 {
                    stream.once("elsewhere", number, Vec::new())?;
                    seen.done = Some(number);
                }
                if number % 3 == 0
                    && let Some(received) = consumer.try_next()?
                {
                    if received.offset % 30 == 0 {
                        consumer.reject(&received)?;
                        seen.dead.insert(received.offset);
                    } else {
                        consumer.ack_durably(&received)?;
                        seen.durably.insert(received.offset);
                    }
                }
            }
            Ok(())
        };
        let _ = go();
        seen
    };
    let whole = SimDisk::new(78);
    let seen = run(&whole);
    assert!(seen.stored == ALL && !seen.dead.is_empty() && seen.durably.len() > 50);
    let size: usize = whole.paths().iter().map(|path| whole.bytes(path).unwrap().len()).sum();
    assert!(size < 12_000, "{size} bytes");
    for crash in (0..whole.operations()).step_by(3) {
        let disk = SimDisk::new(crash);
        disk.fault(crash, Fault::Crash);
        let seen = run(&disk);
        for after in [disk.after_crash(crash), disk.after_kill()] {
            let stream = Stream::open(at(&after)).unwrap();
            assert!(stream.info().end >= seen.stored, "crash at {crash}");
            assert!(stream.done("elsewhere") >= seen.done, "crash at {crash}");
            for number in seen.stored.saturating_sub(KEYS)..seen.stored {
                let newer = (number + KEYS..stream.info().end).any(|other| other % KEYS == number % KEYS);
                match stream.message(number) {
                    Ok((_, _, found)) => assert_eq!(found.payload(), message(number).payload()),
                    Err(error) => assert!(newer, "crash at {crash}: message {number}: {error}"),
                }
            }
            for number in 0..seen.stored {
                assert!(stream.publish("work.a", &message(number)).unwrap().duplicate, "crash at {crash}");
            }
            let consumer = stream.consumer("c", policy(), Start::First).unwrap();
            let mut last = None;
            while let Some(received) = next(&consumer) {
                assert!(last < Some(received.offset), "crash at {crash}: in order");
                assert!(!seen.durably.contains(&received.offset), "crash at {crash}: {}", received.offset);
                assert_eq!(received.message.payload(), message(received.offset).payload());
                last = Some(received.offset);
                consumer.ack(&received).unwrap();
            }
            for (offset, _) in stream.dead_letters("c").unwrap() {
                assert!(stream.message(offset).is_ok(), "crash at {crash}: dead letters stay");
            }
        }
    }
}
