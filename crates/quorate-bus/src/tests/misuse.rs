//! What those who use the bus wrongly, or all at once, cannot do to it.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::{LONG, all, full, send, text};
use crate::stream::{self, Stream};
use crate::{
    Balance, Bus, Bytes, Error, Full, Limits, Message, MessageId, Options, Priority, Subscribe, Wait,
};

#[test]
fn publishers_that_use_one_id_at_once_lose_and_repeat_nothing() {
    const EACH: u64 = 30_000;
    for producer in [7, u64::MAX] {
        let bus = Bus::default();
        let limits = Limits { messages: 64, full: Full::Block(LONG), ..Limits::default() };
        let mut subscription = bus.subscribe("a", Subscribe::new().limits(limits)).unwrap();
        // Two others first, where the ring knows nobody as the only one any more.
        for _ in 0..if producer == 7 { 0 } else { 2 } {
            let _ = send(&bus, "a", "other");
            let _ = subscription.receive().unwrap();
        }
        let publisher = |thread: u64| {
            let bus = bus.clone();
            std::thread::spawn(move || {
                for number in 0..EACH {
                    let id = MessageId { producer, seq: number + 1 };
                    let payload = format!("{thread} {number}");
                    assert_eq!(
                        bus.publish_as("a", id, Message::new(payload.as_bytes())).unwrap().delivered,
                        1
                    );
                }
            })
        };
        let threads: Vec<_> = (0..3).map(publisher).collect();
        let mut next = [0; 3];
        for _ in 0..3 * EACH {
            let text = text(&subscription.receive_for(LONG).unwrap().expect("what was delivered is there"));
            let (thread, number) = text.split_once(' ').unwrap();
            let next = &mut next[thread.parse::<usize>().unwrap()];
            assert_eq!(number.parse::<u64>().unwrap(), *next, "in order, each once");
            *next += 1;
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(subscription.try_receive().unwrap().is_none());
    }
}

#[test]
fn a_handler_that_publishes_into_its_own_full_shard_goes_on() {
    for policy in [Full::ShedOldest, Full::ShedLowest, Full::Refuse, Full::Block(Duration::MAX)] {
        let bus = Bus::default();
        let limits = Limits { messages: 4, bytes: 1000, full: policy };
        let mut shard = bus.shard("s", limits, Wait::Park).unwrap();
        let mut sender = bus.sender("a").unwrap();
        let handled = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&handled);
        shard
            .subscribe("a", None, move |_| {
                counter.fetch_add(1, Ordering::Relaxed);
                for _ in 0..6 {
                    let _ = sender.send(Message::new(b"more")).unwrap();
                }
            })
            .unwrap();
        let _ = send(&bus, "a", "first");
        assert_eq!(shard.poll(1), 1);
        assert_eq!(handled.load(Ordering::Relaxed), 1);
        assert!(shard.depth() >= 3, "{policy:?}");
        assert_eq!(shard.poll(2), 2, "{policy:?}");
    }
}

#[test]
fn a_subscriber_that_publishes_to_itself_while_it_drains_goes_on() {
    for policy in [Full::ShedOldest, Full::Block(Duration::MAX)] {
        let bus = Bus::default();
        let mut subscription = bus.subscribe("a", full(policy)).unwrap();
        for _ in 0..4 {
            let _ = send(&bus, "a", "x");
        }
        let sent = Cell::new(0);
        subscription
            .try_drain(2, |_| {
                let one = send(&bus, "a", "y");
                sent.set(sent.get() + one.delivered + one.refused);
            })
            .unwrap();
        assert_eq!(sent.get(), 2, "{policy:?}");
    }
}

#[test]
fn requests_leave_no_topics_behind() {
    let bus = Bus::new(Options { topics_max: 8, ..Options::default() });
    let mut service = bus.subscribe("ask", Subscribe::new()).unwrap();
    let mut watching = bus
        .subscribe(">", Subscribe::new().limits(Limits { full: Full::ShedOldest, ..Limits::default() }))
        .unwrap();
    let mut shard = bus.shard("s", Limits::default(), Wait::Park).unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    shard.subscribe("_reply.*", None, move |_| _ = counter.fetch_add(1, Ordering::Relaxed)).unwrap();
    let (server, over) = (bus.clone(), Arc::new(AtomicBool::new(false)));
    let done = Arc::clone(&over);
    let thread = std::thread::spawn(move || {
        let mut last = None;
        while !done.load(Ordering::Relaxed) {
            let Some(request) = service.receive_for(Duration::from_millis(1)).unwrap() else {
                continue;
            };
            let _ = server.reply(&request, Message::new(b"!")).unwrap();
            last = Some(request);
        }
        last.unwrap()
    });
    for _ in 0..200 {
        assert_eq!(text(&bus.request("ask", Message::new(b"?"), LONG).unwrap()), "!");
        shard.poll(100);
    }
    over.store(true, Ordering::Relaxed);
    let request = thread.join().unwrap();
    shard.poll(100);
    assert_eq!(seen.load(Ordering::Relaxed), 200);
    // An answer for which nobody waits any more makes no topic either, however often it comes.
    for _ in 0..20 {
        assert_eq!(bus.reply(&request, Message::new(b"late")).unwrap().refused, 0);
    }
    assert!(bus.sender("one more").is_err() && bus.sender("one.more").is_ok());
    let names: Vec<_> = std::iter::from_fn(|| watching.try_receive().unwrap())
        .map(|message| bus.topic_name(&message))
        .collect();
    assert!(names.iter().filter(|name| *name == "ask").count() == 200, "{names:?}");
}

#[test]
fn those_who_come_go_and_publish_at_once_lock_nobody_out() {
    const ROUNDS: u32 = 2000;
    let bus = Bus::default();
    let topics: Vec<String> = (0..500).map(|number| format!("x.{number}")).collect();
    for topic in &topics {
        let _ = send(&bus, topic, "first");
    }
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let (bus, topics) = (bus.clone(), topics.clone());
            std::thread::spawn(move || {
                for round in 0..ROUNDS {
                    let topic = &topics[(round * 7) as usize % topics.len()];
                    match thread % 4 {
                        0 => drop(bus.subscribe("x.*", Subscribe::new()).unwrap()),
                        1 => drop(bus.subscribe(topic, Subscribe::new()).unwrap()),
                        2 => _ = send(&bus, topic, "hello"),
                        _ => _ = send(&bus, &format!("x.{thread}-{round}"), "hello"),
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn what_a_member_of_a_group_does_not_take_because_it_ends_goes_to_another() {
    let bus = Bus::default();
    let member = |policy| bus.subscribe("a", full(policy).group("g", Balance::RoundRobin)).unwrap();
    let mut slow = member(Full::Disconnect);
    let mut well = member(Full::Refuse);
    let mut got = Vec::new();
    for number in 0..12 {
        assert_eq!(send(&bus, "a", &number.to_string()).delivered, 1, "message {number}");
        got.extend(all(&mut well));
    }
    while let Ok(message) = slow.receive() {
        got.push(text(&message));
    }
    assert_eq!(got.len(), 12);
}

#[test]
fn groups_that_have_no_members_are_forgotten() {
    let bus = Bus::default();
    for number in 0..100 {
        let name = format!("group {number}");
        let _member = bus.subscribe("a", Subscribe::new().group(&name, Balance::RoundRobin)).unwrap();
        assert_eq!(send(&bus, "a", "x").delivered, 1);
        assert_eq!(bus.core.router.groups(), 1);
    }
    assert_eq!(bus.core.router.groups(), 0);
}

#[test]
fn a_stream_with_two_patterns_for_a_topic_stores_a_message_once() {
    let bus = Bus::default();
    let stream = Stream::open(stream::Options::new("work", &["work.>", "work.a"], None)).unwrap();
    bus.attach(&stream).unwrap();
    assert_eq!(send(&bus, "work.a", "x").stored, 1);
    // One who does not count cannot be told from one who repeats.
    let sent = bus.sender("work.a").unwrap().send_together(vec![Message::new(b"y"), Message::new(b"z")]);
    assert!(sent.unwrap().iter().all(|sent| sent.stored == 1));
    assert_eq!((stream.info().messages, stream.info().duplicates), (3, 0));
}

#[test]
fn a_stream_that_cannot_be_attached_whole_is_not_attached() {
    let bus = Bus::new(Options { topics_max: 1, ..Options::default() });
    let stream = Stream::open(stream::Options::new("work", &["a", "b"], None)).unwrap();
    assert!(matches!(bus.attach(&stream), Err(Error::TooManyTopics(_))));
    assert_eq!((send(&bus, "a", "x").stored, stream.info().messages), (0, 0));
}

#[test]
fn a_producer_may_count_from_nought() {
    let bus = Bus::default();
    let stream = Stream::open(stream::Options::new("work", &["a"], None)).unwrap();
    bus.attach(&stream).unwrap();
    for seq in [0, 0, 1, u64::MAX] {
        let _ = bus.publish_as("a", MessageId { producer: 3, seq }, Message::new(b"x")).unwrap();
    }
    assert_eq!((stream.info().messages, stream.info().duplicates), (3, 1));
}

#[test]
fn a_message_that_can_never_fit_sheds_nobody_elses() {
    let bus = Bus::default();
    for policy in [Full::ShedOldest, Full::ShedLowest, Full::Disconnect, Full::Block(Duration::MAX)] {
        let mut subscription = bus.subscribe("a", full(policy)).unwrap();
        let _ = send(&bus, "a", "x");
        assert_eq!(send(&bus, "a", &"long".repeat(300)).refused, 1, "{policy:?}");
        assert_eq!((all(&mut subscription).len(), subscription.losses().shed), (1, 0), "{policy:?}");
    }
}

#[test]
fn headers_keys_and_replies_count_against_the_bounds() {
    let bus = Bus::default();
    let how = Subscribe::new().limits(Limits { messages: 16, bytes: 1000, full: Full::Refuse });
    let mut subscription = bus.subscribe("a", how).unwrap();
    let long = "h".repeat(400);
    let messages = [
        Message::new(b"x").with_header("name", &long),
        Message::new(b"x").with_key(&long),
        Message::new(b"x").with_reply(&long),
    ];
    let sent = messages.map(|message| bus.publish("a", message).unwrap().delivered);
    assert_eq!(sent, [1, 1, 0], "400 bytes each, of 1000");
    assert_eq!(all(&mut subscription).len(), 2);
    assert_eq!(bus.report().subscriptions[0].bytes, 0);
    for message in [
        Message::new(b"x").with_key(&"k".repeat(5000)),
        Message::new(b"x").with_reply(&"r".repeat(70_000)),
        Message::new(b"x").with_header("h", &"é".repeat(40_000)),
    ] {
        assert!(matches!(bus.publish("a", message), Err(Error::Headers)));
    }
}

/// Shorter when it is first asked than when it is asked again.
struct Growing(Cell<u32>);

impl AsRef<[u8]> for Growing {
    fn as_ref(&self) -> &[u8] {
        self.0.set(self.0.get() + 1);
        if self.0.get() == 1 { b"short" } else { &[7; 500] }
    }
}

#[test]
fn payloads_that_grow_while_they_are_sent_are_accounted_for() {
    let bus = Bus::default();
    let mut subscription = bus.subscribe("a", Subscribe::new()).unwrap();
    let mut sender = bus.sender("a").unwrap();
    let sent = sender.send_each(Priority::Normal, &[Growing(Cell::new(0)), Growing(Cell::new(0))]).unwrap();
    assert_eq!((sent.delivered, all(&mut subscription).len()), (2, 2));
    drop((subscription, sender));
    assert_eq!(bus.report().memory_bytes, 0);
}

#[test]
fn subscriptions_that_go_while_others_publish_give_back_all_they_held() {
    let bus = Bus::default();
    let over = Arc::new(AtomicBool::new(false));
    let (told, publishing) = mpsc::channel();
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (bus, over, told) = (bus.clone(), Arc::clone(&over), told.clone());
            std::thread::spawn(move || {
                let mut sender = bus.sender("a").unwrap();
                let long = Bytes::from(vec![1; 200]);
                told.send(()).unwrap();
                while !over.load(Ordering::Relaxed) {
                    let _ = sender.send(Message::shared(long.clone())).unwrap();
                }
            })
        })
        .collect();
    for _ in 0..3 {
        publishing.recv().unwrap();
    }
    for round in 0..400 {
        let policy = [Full::Refuse, Full::ShedOldest, Full::Disconnect, Full::Block(LONG)][round % 4];
        let mut subscription = bus.subscribe("a", full(policy)).unwrap();
        let _ = subscription.receive_for(LONG);
    }
    over.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(bus.report().memory_bytes, 0);
}
