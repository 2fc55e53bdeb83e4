//! What the bus promises in memory.

mod misuse;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use quorate_base::Timestamp;

use crate::stream::{self, Start, Stream};
use crate::{
    Balance, Bus, Bytes, Ended, Error, Filter, Full, Limits, Message, Options, Pattern, Priority,
    RequestError, Subscribe, Subscription, Wait,
};

const LONG: Duration = Duration::from_secs(30);

fn text(message: &Message) -> String {
    String::from_utf8_lossy(message.payload()).into_owned()
}

fn all(subscription: &mut Subscription) -> Vec<String> {
    let mut found = Vec::new();
    while let Ok(Some(message)) = subscription.try_receive() {
        found.push(text(&message));
    }
    found
}

fn send(bus: &Bus, topic: &str, payload: &str) -> crate::Sent {
    bus.publish(topic, Message::new(payload.as_bytes())).expect("a test publishes to good topics")
}

#[test]
fn a_message_reaches_those_whose_pattern_matches() {
    let bus = Bus::default();
    let subscribe = |pattern| bus.subscribe(pattern, Subscribe::new()).unwrap();
    let mut exact = subscribe("run.7.done");
    let mut one = subscribe("run.*.done");
    let mut rest = subscribe("run.>");
    let mut other = subscribe("run.7");
    assert_eq!(send(&bus, "run.7.done", "a").delivered, 3);
    assert_eq!(send(&bus, "run.8.done", "b").delivered, 2);
    assert_eq!(send(&bus, "run.8.task.done", "c").delivered, 1);
    assert_eq!(send(&bus, "nobody", "d").delivered, 0);
    assert_eq!(all(&mut exact), ["a"]);
    assert_eq!(all(&mut one), ["a", "b"]);
    assert_eq!(all(&mut rest), ["a", "b", "c"]);
    assert!(all(&mut other).is_empty());
}

#[test]
fn what_is_no_topic_is_refused_with_the_reason() {
    for (text, reason) in [
        ("", "1 to 512 bytes"),
        ("a..b", "segment 2 is empty"),
        (".", "segment 1 is empty"),
        ("a.*", "no topic can"),
        ("a b", "' '"),
        ("a.\u{7}", "segment 2"),
    ] {
        let error = crate::topic::check(text).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    assert!(Pattern::new(">.a").unwrap_err().to_string().contains("last segment"));
    assert!(crate::topic::check(&"a.".repeat(40)).is_err());
    assert!(Pattern::new("a.*.>").is_ok());
}

proptest! {
    /// The routes agree with the definition of a match, whatever comes and goes in between.
    #[test]
    fn routes_are_what_the_patterns_say(
        steps in proptest::collection::vec((0_usize..4, "[ab](\\.[abc]){0,3}", "[ab*](\\.[abc*]){0,2}(\\.>)?", any::<prop::sample::Index>()), 1..60),
    ) {
        let bus = Bus::default();
        let mut live: Vec<(Pattern, Subscription)> = Vec::new();
        let mut sender = bus.sender("a.b").unwrap();
        for (step, topic, pattern, index) in steps {
            match step {
                0 => {
                    let subscription = bus.subscribe(&pattern, Subscribe::new()).unwrap();
                    live.push((Pattern::new(&pattern).unwrap(), subscription));
                }
                1 if !live.is_empty() => drop(live.swap_remove(index.index(live.len()))),
                _ => {
                    let expected = live.iter().filter(|(pattern, _)| pattern.matches(&topic)).count();
                    prop_assert_eq!(send(&bus, &topic, "x").delivered as usize, expected);
                    let expected = live.iter().filter(|(pattern, _)| pattern.matches("a.b")).count();
                    prop_assert_eq!(sender.send(Message::new(b"x")).unwrap().delivered as usize, expected);
                    for (_, subscription) in &mut live {
                        all(subscription);
                    }
                }
            }
        }
    }

    #[test]
    fn a_message_is_the_same_after_its_bytes(
        payload in proptest::collection::vec(any::<u8>(), 0..300), priority in 0_u8..5,
        headers in proptest::collection::vec(("[a-z]{1,8}", ".{0,20}"), 0..5),
        key in proptest::option::of("[a-z]{1,5}"), deadline in proptest::option::of(any::<u64>()),
    ) {
        let mut message = Message::new(&payload).with_priority(Priority::from_lane(priority).unwrap());
        for (name, value) in &headers {
            message = message.with_header(name, value);
        }
        if let Some(key) = &key {
            message = message.with_key(key);
        }
        if let Some(deadline) = deadline {
            message = message.with_deadline(Timestamp(deadline));
        }
        let mut bytes = Vec::new();
        crate::codec::encode(&mut bytes, "a.b", &message);
        let (topic, found) = crate::codec::decode(&bytes).unwrap();
        prop_assert_eq!(topic, "a.b");
        prop_assert_eq!(found.payload(), message.payload());
        prop_assert_eq!(found.priority(), message.priority());
        prop_assert_eq!(found.extra().cloned().unwrap_or_default(), message.extra().cloned().unwrap_or_default());
        for cut in 0..bytes.len() {
            prop_assert!(crate::codec::decode(&bytes[..cut]).is_err());
        }
    }
}

#[test]
fn the_bytes_of_a_message_are_these() {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let message = Message::new(b"hi")
        .with_priority(Priority::High)
        .with_header("role", "tester")
        .with_key("k")
        .with_reply("_reply.1")
        .with_deadline(Timestamp(0x1122))
        .with_trace(trace.parse().unwrap())
        .with_causation(crate::MessageId { producer: 3, seq: 4 })
        .with_correlation(crate::MessageId { producer: 1, seq: 2 });
    let mut bytes = Vec::new();
    crate::codec::encode(&mut bytes, "a.b", &message);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // A change of these bytes is a new version of the log and of the wire.
    assert_eq!(
        hex,
        concat!(
            "017f00",
            "0000000000000000",
            "0000000000000000",
            "0300612e62",
            "01000000000000000200000000000000",
            "03000000000000000400000000000000",
            "9c31801c21eb4884dd43cd161965f70a",
            "31332069716badb7",
            "01",
            "2211000000000000",
            "08005f7265706c792e31",
            "01006b",
            "010400726f6c650600746573746572",
            "020000006869"
        )
    );
    assert_eq!(message.extra().unwrap().trace.unwrap().to_string(), trace);
}

#[test]
fn urgent_messages_go_first_and_nothing_starves() {
    let bus = Bus::default();
    let mut subscription = bus.subscribe("a", Subscribe::new()).unwrap();
    let mut sender = bus.sender("a").unwrap();
    for (priority, count) in [(Priority::Background, 2), (Priority::Normal, 3), (Priority::Critical, 200)] {
        for number in 0..count {
            let payload = format!("{priority} {number}");
            let _ = sender.send(Message::new(payload.as_bytes()).with_priority(priority)).unwrap();
        }
    }
    let seen = all(&mut subscription);
    assert_eq!(seen.len(), 205);
    assert_eq!(seen[0], "critical 0");
    let place = |text: &str| seen.iter().position(|found| found == text).unwrap();
    for (text, latest) in [("normal 0", 34), ("background 0", 68), ("normal 2", 140), ("background 1", 140)] {
        assert!(place(text) <= latest, "{text} came at {}", place(text));
    }
    for priority in ["critical", "normal", "background"] {
        let own: Vec<_> = seen.iter().filter(|text| text.starts_with(priority)).collect();
        assert!(own.iter().zip(own.iter().skip(1)).all(|(a, b)| {
            let number = |text: &str| text.split(' ').nth(1).and_then(|n| n.parse::<u32>().ok());
            number(a) < number(b)
        }));
    }
}

fn full(policy: Full) -> Subscribe {
    Subscribe::new().limits(Limits { messages: 4, bytes: 1000, full: policy })
}

#[test]
fn a_full_subscriber_refuses_sheds_or_is_disconnected_and_everybody_is_told() {
    let bus = Bus::default();
    let mut refusing = bus.subscribe("r", full(Full::Refuse)).unwrap();
    let mut shedding = bus.subscribe("s", full(Full::ShedOldest)).unwrap();
    let mut cut = bus.subscribe("d", full(Full::Disconnect)).unwrap();
    for number in 0..6 {
        let text = number.to_string();
        let sent = send(&bus, "r", &text);
        assert_eq!((sent.delivered, sent.refused), if number < 4 { (1, 0) } else { (0, 1) });
        let sent = send(&bus, "s", &text);
        assert_eq!((sent.delivered, sent.shed), (1, u64::from(number >= 4)));
        let _ = send(&bus, "d", &text);
    }
    assert_eq!(all(&mut refusing), ["0", "1", "2", "3"]);
    assert_eq!(all(&mut shedding), ["2", "3", "4", "5"]);
    assert_eq!((refusing.losses().refused, shedding.losses().shed), (2, 2));
    // What it had is still received; then it learns why there is no more.
    for number in 0..4 {
        assert_eq!(text(&cut.receive().unwrap()), number.to_string());
    }
    assert_eq!(cut.receive().unwrap_err(), Ended::TooSlow);
}

#[test]
fn less_urgent_messages_make_room_and_more_urgent_ones_never_do() {
    let bus = Bus::default();
    let long = "x".repeat(300);
    let mut subscription = bus.subscribe("a", full(Full::ShedLowest)).unwrap();
    let publish = |priority, name: &str| {
        let message = Message::new(format!("{name} {long}").as_bytes()).with_priority(priority);
        bus.publish("a", message).unwrap()
    };
    assert_eq!(publish(Priority::Low, "low").delivered, 1);
    assert_eq!(publish(Priority::High, "high 1").delivered, 1);
    assert_eq!(publish(Priority::High, "high 2").delivered, 1);
    // 1000 bytes hold three of them.
    assert_eq!((publish(Priority::Critical, "critical")).shed, 1);
    assert_eq!(publish(Priority::Background, "background").refused, 1);
    let seen: Vec<_> = all(&mut subscription).iter().map(|text| text.replace(&long, "")).collect();
    assert_eq!(seen, ["critical ", "high 1 ", "high 2 "]);
}

#[test]
fn a_publisher_waits_for_room_and_is_refused_when_its_patience_ends() {
    let bus = Bus::default();
    let patient = full(Full::Block(LONG));
    let mut slow = bus.subscribe("a", patient).unwrap();
    let (bus_of_thread, total) = (bus.clone(), 200);
    let publisher = std::thread::spawn(move || {
        let mut sender = bus_of_thread.sender("a").unwrap();
        for number in 0..total {
            let sent = sender.send(Message::new(number.to_string().as_bytes())).unwrap();
            assert_eq!((sent.delivered, sent.refused), (1, 0));
        }
    });
    for number in 0..total {
        assert_eq!(text(&slow.receive().unwrap()), number.to_string());
    }
    publisher.join().unwrap();
    let _stuck = bus.subscribe("b", full(Full::Block(Duration::from_millis(1)))).unwrap();
    for _ in 0..4 {
        let _ = send(&bus, "b", "x");
    }
    assert_eq!(send(&bus, "b", "x").refused, 1);
}

#[test]
fn a_slow_subscriber_takes_nothing_from_the_others() {
    let bus = Bus::default();
    let _stuck = bus.subscribe("a", full(Full::ShedOldest)).unwrap();
    let mut well = bus.subscribe("a", Subscribe::new()).unwrap();
    for number in 0..1000 {
        let _ = send(&bus, "a", &number.to_string());
        assert_eq!(text(&well.try_receive().unwrap().unwrap()), number.to_string());
    }
}

#[test]
fn the_memory_of_all_subscribers_together_is_bounded() {
    let bus = Bus::new(Options { memory_max: 300_000, ..Options::default() });
    let how = || Subscribe::new().limits(Limits { messages: 16, bytes: u64::MAX, full: Full::Refuse });
    let mut subscriptions: Vec<_> = (0..10).map(|_| bus.subscribe("a", how()).unwrap()).collect();
    let message = Message::shared(Bytes::from(vec![0; 50_000]));
    let sent = bus.publish("a", message).unwrap();
    assert!(sent.delivered >= 4 && sent.refused >= 4, "{sent:?}");
    assert!(bus.report().memory_bytes <= 300_000);
    for subscription in &mut subscriptions {
        all(subscription);
    }
    drop(subscriptions);
    assert_eq!(bus.report().memory_bytes, 0);
    let bytes = vec![0; 2 << 20];
    let error = bus.publish("a", Message::shared(bytes.into())).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[test]
fn one_member_of_a_group_gets_each_message() {
    let bus = Bus::default();
    let member = |balance| bus.subscribe("a", Subscribe::new().group("g", balance)).unwrap();
    let mut robin: Vec<_> = (0..3).map(|_| member(Balance::RoundRobin)).collect();
    for number in 0..9 {
        assert_eq!(send(&bus, "a", &number.to_string()).delivered, 1);
    }
    assert!(robin.iter_mut().all(|member| all(member).len() == 3));
    drop(robin);

    let mut busy: Vec<_> = (0..2).map(|_| member(Balance::LeastBusy)).collect();
    for _ in 0..4 {
        let _ = send(&bus, "a", "x");
    }
    all(&mut busy[0]);
    for _ in 0..2 {
        let _ = send(&bus, "a", "y");
    }
    assert_eq!(all(&mut busy[0]), ["y", "y"]);
    drop(busy);

    let mut sticky: Vec<_> = (0..4).map(|_| member(Balance::Sticky)).collect();
    for number in 0..40 {
        let message =
            Message::new(format!("{}", number % 8).as_bytes()).with_key(&format!("key {}", number % 8));
        let _ = bus.publish("a", message).unwrap();
    }
    let seen: Vec<Vec<String>> = sticky.iter_mut().map(all).collect();
    for key in 0..8 {
        let holders = seen.iter().filter(|texts| texts.contains(&key.to_string())).count();
        assert_eq!(holders, 1, "key {key}");
    }
    // A member that goes takes its keys only.
    let gone = sticky.pop().unwrap();
    drop(gone);
    for number in 0..8 {
        let message = Message::new(number.to_string().as_bytes()).with_key(&format!("key {number}"));
        assert_eq!(bus.publish("a", message).unwrap().delivered, 1);
    }
    for (member, before) in sticky.iter_mut().zip(&seen) {
        let now = all(member);
        assert!(before.iter().all(|key| now.contains(key)));
    }
}

#[test]
fn a_filter_takes_what_it_accepts() {
    let bus = Bus::default();
    let filter = |text| Subscribe::new().filter(Filter::new(text).unwrap());
    let mut good = bus.subscribe("score", filter("data.score >= 0.5")).unwrap();
    assert_eq!(send(&bus, "score", r#"{"score": 0.7}"#).delivered, 1);
    assert_eq!(send(&bus, "score", r#"{"score": 0.3}"#).delivered, 0);
    assert_eq!(all(&mut good).len(), 1);
    assert_eq!(good.losses(), crate::Losses::default());
}

#[test]
fn a_request_gets_its_answer_or_learns_why_not() {
    let bus = Bus::default();
    let error = bus.request("ask", Message::new(b"?"), LONG).unwrap_err();
    assert!(matches!(error, RequestError::NoResponders(_)));
    let mut service = bus.subscribe("ask", Subscribe::new()).unwrap();
    let server = bus.clone();
    let thread = std::thread::spawn(move || {
        let request = service.receive().unwrap();
        let answer = format!("{}!", text(&request));
        let _ = server.reply(&request, Message::new(answer.as_bytes())).unwrap();
        service
    });
    let answer = bus.request("ask", Message::new(b"hello"), LONG).unwrap();
    assert_eq!(text(&answer), "hello!");
    assert!(answer.extra().unwrap().correlation.is_some());
    let _service = thread.join().unwrap();
    let error = bus.request("ask", Message::new(b"?"), Duration::from_millis(1)).unwrap_err();
    assert!(matches!(error, RequestError::TimedOut(_)));
}

static NOW: AtomicU64 = AtomicU64::new(1000);

#[test]
fn a_message_whose_deadline_has_passed_is_not_delivered() {
    let bus = Bus::new(Options { clock: || Timestamp(NOW.load(Ordering::Relaxed)), ..Options::default() });
    let mut subscription = bus.subscribe("a", Subscribe::new()).unwrap();
    let _ = bus.publish("a", Message::new(b"late").with_deadline(Timestamp(1500))).unwrap();
    let _ = bus.publish("a", Message::new(b"in time").with_deadline(Timestamp(3000))).unwrap();
    NOW.store(2000, Ordering::Relaxed);
    assert_eq!(all(&mut subscription), ["in time"]);
    assert_eq!(subscription.losses().expired, 1);
}

#[test]
fn delayed_messages_come_in_the_order_of_their_times() {
    let bus = Bus::new(Options { delayed_max: 3, ..Options::default() });
    let mut subscription = bus.subscribe("a", Subscribe::new()).unwrap();
    let now = bus.now().0;
    for (delay, name) in [(30, "third"), (10, "first"), (20, "second")] {
        bus.publish_at(Timestamp(now + delay), "a", Message::new(name.as_bytes())).unwrap();
    }
    let error = bus.publish_at(Timestamp(now + 1), "a", Message::new(b"x")).unwrap_err();
    assert!(matches!(error, Error::TooManyDelayed(3)));
    for name in ["first", "second", "third"] {
        assert_eq!(text(&subscription.receive_for(LONG).unwrap().unwrap()), name);
    }
}

#[test]
fn a_shard_hands_each_message_to_all_its_subscribers_that_want_it() {
    let bus = Bus::default();
    let mut shard = bus.shard("s", Limits::default(), Wait::Park).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = |name: &'static str| {
        let seen = Arc::clone(&seen);
        move |message: &Message| seen.lock().unwrap().push(format!("{name} {}", text(message)))
    };
    shard.subscribe("a.b", None, log("exact")).unwrap();
    let star = shard.subscribe("a.*", None, log("star")).unwrap();
    shard.subscribe("a.b", Some(Filter::new("priority = high").unwrap()), log("high")).unwrap();
    assert_eq!(send(&bus, "a.b", "1").delivered, 1, "it crosses to the shard once");
    assert_eq!(send(&bus, "a.c", "2").delivered, 1);
    assert_eq!(send(&bus, "b", "3").delivered, 0);
    assert_eq!(shard.poll(10), 2);
    let mut found = std::mem::take(&mut *seen.lock().unwrap());
    found.sort();
    assert_eq!(found, ["exact 1", "star 1", "star 2"]);
    shard.unsubscribe(star);
    shard.unsubscribe(star);
    let _ = bus.publish("a.b", Message::new(b"4").with_priority(Priority::High)).unwrap();
    assert_eq!(send(&bus, "a.c", "5").delivered, 0);
    shard.poll(10);
    assert_eq!(*seen.lock().unwrap(), ["exact 4", "high 4"]);
    assert_eq!(shard.len(), 2);
}

#[test]
fn a_shard_runs_until_it_is_told_to_stop() {
    let bus = Bus::default();
    let mut shard = bus.shard("s", Limits::default(), Wait::Park).unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&count);
    shard
        .subscribe("a", None, move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
    let stop = shard.stop();
    let thread = std::thread::spawn(move || shard.run());
    for _ in 0..5000 {
        assert_eq!(send(&bus, "a", "x").delivered, 1);
    }
    stop.stop();
    thread.join().unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 5000, "what waits is still handled");
}

#[test]
fn a_task_of_any_runtime_receives() {
    let bus = Bus::default();
    let mut subscription = bus.subscribe("a", Subscribe::new()).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(subscription.poll_receive(&cx).is_pending());
    let _ = send(&bus, "a", "x");
    let mut future = std::pin::pin!(subscription.next());
    match future.as_mut().poll(&mut cx) {
        Poll::Ready(Ok(message)) => assert_eq!(text(&message), "x"),
        other => panic!("{other:?}"),
    }
}

use std::future::Future;

#[test]
fn receivers_of_every_kind_of_waiting_get_everything_from_many_senders() {
    for wait in [Wait::Park, Wait::Yield, Wait::Spin] {
        let bus = Bus::default();
        let mut subscription = bus.subscribe("a.*", Subscribe::new().wait(wait)).unwrap();
        let senders: Vec<_> = (0..4_u64)
            .map(|number| {
                let bus = bus.clone();
                std::thread::spawn(move || {
                    let mut sender = bus.sender(&format!("a.{number}")).unwrap();
                    for count in 0..2000_u64 {
                        let sent = if count % 3 == 0 {
                            sender.send_each(Priority::Normal, &[count.to_le_bytes()])
                        } else {
                            sender.send(Message::new(&count.to_le_bytes()))
                        };
                        assert_eq!(sent.unwrap().delivered, 1);
                    }
                })
            })
            .collect();
        let mut next = std::collections::HashMap::<u64, u64>::new();
        let mut left = 8000;
        while left > 0 {
            left -= subscription
                .drain(64, |message| {
                    let expected = next.entry(message.producer()).or_default();
                    assert_eq!(message.payload(), expected.to_le_bytes(), "each sender's order holds");
                    *expected += 1;
                })
                .unwrap();
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    }
}

#[test]
fn a_bus_that_is_shut_down_tells_everybody() {
    let bus = Bus::default();
    let mut subscription = bus.subscribe("a", Subscribe::new()).unwrap();
    let _ = send(&bus, "a", "last");
    bus.shut_down();
    assert_eq!(text(&subscription.receive().unwrap()), "last");
    assert_eq!(subscription.receive().unwrap_err(), Ended::BusDown);
    assert!(matches!(bus.publish("a", Message::new(b"x")), Err(Error::Down)));
    assert!(matches!(bus.subscribe("a", Subscribe::new()), Err(Error::Down)));
}

#[test]
fn a_topic_with_a_durable_stream_is_stored_before_the_publisher_goes_on() {
    let bus = Bus::default();
    let stream = Stream::open(stream::Options::new("work", &["work.>"], None)).unwrap();
    bus.attach(&stream).unwrap();
    let sent = send(&bus, "work.a", "x");
    assert_eq!((sent.stored, sent.delivered), (1, 0));
    let consumer = stream.consumer("c", stream::delivery::Policy::default(), Start::First).unwrap();
    let received = consumer.try_next().unwrap().unwrap();
    assert_eq!((&*received.topic, received.message.payload()), ("work.a", &b"x"[..]));
    let error = bus.publish_at(bus.now(), "work.a", Message::new(b"x")).unwrap_err();
    assert!(matches!(error, Error::DelayedDurable));
}

#[test]
fn a_report_says_what_is_published_and_who_lags() {
    let bus = Bus::default();
    let mut subscription =
        bus.subscribe("a.>", Subscribe::new().named("mine").group("g", Balance::RoundRobin)).unwrap();
    let mut sender = bus.sender("a.b").unwrap();
    for _ in 0..5 {
        let _ = sender.send(Message::new(b"x")).unwrap();
    }
    let _ = subscription.receive().unwrap();
    drop(sender);
    let report = bus.report();
    assert_eq!((report.topics[0].topic.as_str(), report.topics[0].published), ("a.b", 5));
    let found = &report.subscriptions[0];
    assert_eq!(
        (found.name.as_str(), found.pattern.as_str(), found.received, found.depth),
        ("mine", "a.>", 1, 4)
    );
    drop(subscription);
    assert!(bus.report().subscriptions.is_empty());
}

#[test]
fn a_thousand_subscribers_that_misbehave_hurt_nobody() {
    let bus = Bus::new(Options { memory_max: 64 << 20, ..Options::default() });
    let mut well = bus
        .subscribe("load.>", Subscribe::new().limits(Limits { messages: 8192, ..Limits::default() }))
        .unwrap();
    let policies = [Full::Refuse, Full::ShedOldest, Full::ShedLowest, Full::Disconnect];
    let mut bad = Vec::new();
    for number in 0..1000_usize {
        let limits = Limits { messages: 2, bytes: 100, full: policies[number % 4] };
        let pattern = ["load.*", "load.>", "load.x", ">"][number / 4 % 4];
        let how = Subscribe::new().limits(limits);
        bad.push(Some(bus.subscribe(pattern, how).unwrap()));
    }
    let mut sender = bus.sender("load.x").unwrap();
    let payload = "y".repeat(90);
    for number in 0..4000_usize {
        let sent = sender.send(Message::new(payload.as_bytes())).unwrap();
        assert!(sent.delivered >= 1);
        // Some leave in the middle, some read one and stop, some only look.
        match number % 3 {
            0 => bad[number % 1000] = None,
            1 => {
                if let Some(subscription) = &mut bad[number % 1000] {
                    let _ = subscription.try_receive();
                }
            }
            _ => {}
        }
    }
    assert_eq!(all(&mut well).len(), 4000);
    assert!(bus.report().memory_bytes <= 64 << 20);
}
