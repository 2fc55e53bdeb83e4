//! The bus over its socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::client::{Client, Error, Event};
use super::frame::{PREFACE, SubscribeBody, ToClient, ToServer, Verdict};
use super::server::{self, Options, Server};
use crate::bus::{Bus, Sent};
use crate::message::{Message, MessageId, Priority};

const LONG: Duration = Duration::from_secs(30);

fn serve(folder: &Path) -> Server {
    let options = Options { streams: Some(folder.join("streams")), ..Options::new(&folder.join("bus.sock")) };
    Server::start(Bus::default(), options).unwrap()
}

fn bus() -> (TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path());
    (folder, server)
}

fn client(server: &Server) -> Client {
    Client::connect(server.socket()).unwrap()
}

fn body(pattern: &str) -> SubscribeBody {
    SubscribeBody { pattern: pattern.to_owned(), ..SubscribeBody::default() }
}

fn from_stream(consumer: &str) -> SubscribeBody {
    SubscribeBody { stream: Some("work".into()), consumer: Some(consumer.into()), ..SubscribeBody::default() }
}

fn next(client: &mut Client) -> (String, String) {
    match client.next(Some(LONG)).unwrap().unwrap() {
        Event::Message { topic, message, .. } => {
            (topic.to_string(), String::from_utf8_lossy(message.payload()).into_owned())
        }
        other => panic!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_of_the_frames_are_these() {
    let message = Message::new(b"hi").with_id(MessageId { producer: 1, seq: 2 });
    let encode = |frame: ToServer<'_>| {
        let mut out = Vec::new();
        frame.encode(&mut out);
        hex(&out)
    };
    let text = "020000010000000000000002000000000000000300612e62020000006869";
    // A change of these bytes is a new version of the protocol.
    assert_eq!(hex(&PREFACE), "0051525442555301");
    let publish = ToServer::Publish { number: 7, topic: "a.b", message: message.clone() };
    assert_eq!(encode(publish), format!("230000000107000000{text}"));
    let subscribe =
        encode(ToServer::Subscribe { number: 1, subscription: 2, body: SubscribeBody::default() });
    assert!(subscribe[8..].starts_with("0201000000020000007b227061747465726e22"), "{subscribe}");
    assert_eq!(encode(ToServer::Unsubscribe { number: 1, subscription: 2 }), "09000000030100000002000000");
    let request = ToServer::Request { number: 1, timeout_ms: 1000, topic: "a.b", message: message.clone() };
    assert_eq!(encode(request), format!("270000000401000000e8030000{text}"));
    let answer =
        ToServer::Answer { subscription: 1, offset: 2, attempt: 3, verdict: Verdict::Nack, pause_ms: None };
    assert_eq!(encode(answer), "16000000050100000002000000000000000300000001ffffffff");
    assert_eq!(encode(ToServer::Command { number: 1, json: b"{}" }), "0700000006010000007b7d");
    let encode = |frame: ToClient<'_>| {
        let mut out = Vec::new();
        frame.encode(&mut out);
        hex(&out)
    };
    let sent = Sent { delivered: 1, shed: 2, refused: 3, stored: 4 };
    assert_eq!(
        encode(ToClient::Done { number: 9, sent }),
        "19000000010900000001000000020000000000000003000000".to_owned() + "04000000"
    );
    assert_eq!(
        encode(ToClient::Failed { number: 1, code: "x", text: "y" }),
        "0b0000000201000000010078010079"
    );
    let found = ToClient::Message { subscription: 5, topic: "a.b", message: message.clone() };
    assert_eq!(encode(found), format!("230000000305000000{text}"));
    let delivery = ToClient::Delivery {
        subscription: 5,
        offset: 6,
        attempt: 1,
        time_ms: 8,
        topic: "a.b",
        message: message.clone(),
    };
    assert_eq!(
        encode(delivery),
        format!("37000000040500000006000000000000000100000008000000000000{}{text}", "00")
    );
    assert_eq!(
        encode(ToClient::Reply { number: 1, topic: "a.b", message }),
        format!("230000000501000000{text}")
    );
    assert_eq!(encode(ToClient::Ended { subscription: 1, reason: "z" }), "08000000060100000001007a");
    assert_eq!(encode(ToClient::Result { number: 1, json: b"[]" }), "0700000007010000005b5d");
}

#[test]
fn what_one_process_publishes_another_receives() {
    let (_folder, server) = bus();
    let (mut one, mut other) = (client(&server), client(&server));
    let subscription = other.subscribe(body("a.>")).unwrap();
    let message = Message::new(b"hello").with_priority(Priority::High).with_header("role", "tester");
    assert_eq!(one.publish("a.b", &message).unwrap().delivered, 1);
    match other.next(Some(LONG)).unwrap().unwrap() {
        Event::Message { subscription: found, topic, message } => {
            assert_eq!((found, &*topic, message.payload()), (subscription, "a.b", &b"hello"[..]));
            assert_eq!((message.priority(), message.header("role")), (Priority::High, Some("tester")));
        }
        other => panic!("{other:?}"),
    }
    other.unsubscribe(subscription).unwrap();
    assert_eq!(one.publish("a.b", &message).unwrap().delivered, 0);
    // Long payloads, and many, in order.
    other.subscribe(body("big")).unwrap();
    for number in 0..200_u32 {
        let text = format!("{number} {}", "x".repeat(number as usize * 100));
        one.publish_later("big", &Message::new(text.as_bytes())).unwrap();
    }
    one.flush().unwrap();
    for number in 0..200_u32 {
        assert!(next(&mut other).1.starts_with(&format!("{number} ")));
    }
}

#[test]
fn a_request_over_the_socket_is_answered() {
    let (_folder, server) = bus();
    let mut asking = client(&server);
    let error = asking.request("ask", &Message::new(b"?"), LONG).unwrap_err();
    assert!(matches!(error, Error::Refused { ref code, .. } if code == "no-responders"), "{error}");
    let mut service = client(&server);
    service.subscribe(body("ask")).unwrap();
    let thread = std::thread::spawn(move || {
        let Some(Event::Message { message, .. }) = service.next(Some(LONG)).unwrap() else {
            panic!("a request");
        };
        let reply = message.reply().unwrap().to_owned();
        service.publish(&reply, &Message::new(b"answer")).unwrap().delivered
    });
    assert_eq!(asking.request("ask", &Message::new(b"?"), LONG).unwrap().payload(), b"answer");
    assert_eq!(thread.join().unwrap(), 1);
}

#[test]
fn a_durable_stream_is_made_filled_consumed_and_outlives_the_server() {
    let (folder, server) = bus();
    let mut publisher = client(&server);
    let create = serde_json::json!({ "op": "create-stream", "name": "work", "patterns": ["work.>"] });
    publisher.command(&create).unwrap();
    let error = publisher.command(&create).unwrap_err();
    assert!(matches!(error, Error::Refused { ref code, .. } if code == "exists"), "{error}");
    let messages: Vec<_> = (1..=20_u64)
        .map(|seq| Message::new(seq.to_string().as_bytes()).with_id(MessageId { producer: 9, seq }))
        .collect();
    assert!(publisher.publish_all("work.a", &messages).unwrap().iter().all(|sent| sent.stored == 1));
    // A repetition is stored once.
    assert_eq!(publisher.publish("work.a", &messages[3]).unwrap().stored, 1);
    drop((publisher, server));
    let server = serve(folder.path());
    let mut consumer = client(&server);
    let subscription = consumer.subscribe(from_stream("c")).unwrap();
    for expected in 1..=20_u64 {
        let Some(Event::Delivery { offset, attempt, message, .. }) = consumer.next(Some(LONG)).unwrap()
        else {
            panic!("a delivery");
        };
        assert_eq!(message.payload(), expected.to_string().as_bytes());
        let verdict = if expected == 7 { Verdict::Reject } else { Verdict::Ack };
        consumer.answer(subscription, offset, attempt, verdict);
    }
    let report = consumer.report().unwrap();
    assert_eq!((report.streams[0].messages, report.streams[0].consumers[0].dead), (20, 1));
    let command = |op: &str| serde_json::json!({ "op": op, "stream": "work", "consumer": "c", "message": 6 });
    let dead = serde_json::json!({ "op": "dead-letters", "stream": "work", "consumer": "c" });
    assert_eq!(consumer.command(&dead).unwrap()[0]["reason"], "rejected");
    assert_eq!(consumer.command(&command("replay")).unwrap()["replayed"], true);
    let Some(Event::Delivery { offset: 6, .. }) = consumer.next(Some(LONG)).unwrap() else {
        panic!("the replayed one");
    };
}

#[test]
fn a_consumer_whose_connection_breaks_gives_back_what_it_had() {
    let (_folder, server) = bus();
    let mut publisher = client(&server);
    let create = serde_json::json!({ "op": "create-stream", "name": "work", "patterns": ["work"] });
    publisher.command(&create).unwrap();
    let _ = publisher.publish("work", &Message::new(b"deadly")).unwrap();
    for attempt in 1..=3 {
        let mut consumer = client(&server);
        consumer.subscribe(from_stream("c")).unwrap();
        let Some(Event::Delivery { attempt: found, .. }) = consumer.next(Some(LONG)).unwrap() else {
            panic!("a delivery");
        };
        assert_eq!(found, attempt);
    }
    // Three holders died with it: it is poison now. The third death is noticed when its connection is.
    let dead = serde_json::json!({ "op": "dead-letters", "stream": "work", "consumer": "c" });
    let end = std::time::Instant::now() + LONG;
    loop {
        let found = publisher.command(&dead).unwrap();
        if found[0]["reason"] == "poison" {
            break;
        }
        assert!(std::time::Instant::now() < end, "{found}");
        std::thread::yield_now();
    }
}

#[test]
fn a_shell_script_speaks_lines() {
    let (_folder, server) = bus();
    let mut script = server::connect(server.socket()).unwrap();
    let mut answers = BufReader::new(script.try_clone().unwrap());
    let mut line = || {
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    script.write_all(b"PING\n").unwrap();
    assert_eq!(line(), "PONG");
    script.write_all(b"SUB a.* size > 2\n").unwrap();
    assert_eq!(line(), "OK");
    script.write_all(b"PUB a.b x\nPUB a.b hello world\n").unwrap();
    let mut lines: Vec<_> = (0..4).map(|_| line()).collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "MSG a.b 11",
            "OK delivered=0 refused=0 stored=0",
            "OK delivered=1 refused=0 stored=0",
            "hello world"
        ]
    );
    for (said, expected) in [
        ("PUB a..b x\n", "ERR publish segment 2 is empty"),
        ("SUB a.b ((\n", "ERR filter at position 2"),
        ("NONSENSE\n", "ERR usage"),
        ("REQ nobody x\n", "ERR request nobody subscribes to nobody"),
    ] {
        script.write_all(said.as_bytes()).unwrap();
        let found = line();
        assert!(found.starts_with(expected), "{said}: {found}");
    }
    script.write_all(b"PUBL a.c 3\n\n\n\n\n").unwrap();
    let (message, answer) = ("MSG a.c 3\n\n\n\n\n", "OK delivered=1 refused=0 stored=0\n");
    let mut both = vec![0; message.len() + answer.len()];
    answers.read_exact(&mut both).unwrap();
    let both = String::from_utf8(both).unwrap();
    assert!([format!("{message}{answer}"), format!("{answer}{message}")].contains(&both), "{both:?}");
    script.write_all(b"QUIT\n").unwrap();
    assert_eq!(answers.read(&mut [0]).unwrap(), 0);
}

#[test]
fn one_process_serves_a_socket_and_a_dead_ones_is_taken_over() {
    let (folder, server) = bus();
    let again = Server::start(Bus::default(), Options::new(server.socket())).unwrap_err();
    assert!(matches!(again, server::Error::Busy { .. }));
    let socket = server.socket().to_owned();
    drop(server);
    assert!(!socket.exists());
    // A process that was killed leaves its socket.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let server = serve(folder.path());
    assert!(client(&server).report().is_ok());
    drop(server);
    let error = Client::connect(&socket).unwrap_err().to_string();
    assert!(error.contains("quorate bus serve"), "{error}");
}

#[test]
fn a_socket_lies_at_any_depth() {
    let folder = tempfile::tempdir().unwrap();
    let deep: PathBuf = folder.path().join("a very deep folder/".repeat(12));
    std::fs::create_dir_all(&deep).unwrap();
    let server = serve(&deep);
    assert!(client(&server).report().is_ok());
}

#[test]
fn hostile_clients_are_let_go_and_nobody_else_notices() {
    let (_folder, server) = bus();
    let mut well = client(&server);
    well.subscribe(body("a")).unwrap();
    let mut publish = Vec::new();
    ToServer::Publish { number: 1, topic: "a", message: Message::new(b"x") }.encode(&mut publish);
    let mut wrong_topic = Vec::new();
    ToServer::Publish { number: 1, topic: "a..b", message: Message::new(b"x") }.encode(&mut wrong_topic);
    let hostile: [&[u8]; 8] = [
        b"",
        b"\0",
        b"\0QRTBUS\x02aaaa",
        b"\0QRTBUS\x01\xff\xff\xff\xff",
        b"\0QRTBUS\x01\0\0\0\0",
        b"\0QRTBUS\x01\x01\0\0\0\x63",
        &[&PREFACE[..], &publish[..publish.len() - 1]].concat(),
        &[&PREFACE[..], &wrong_topic, &publish[..9]].concat(),
    ];
    for bytes in hostile {
        let mut stream = server::connect(server.socket()).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    assert_eq!(client(&server).publish("a", &Message::new(b"still here")).unwrap().delivered, 1);
    assert_eq!(next(&mut well).1, "still here");
    let error = well.subscribe(SubscribeBody { filter: Some("((".into()), ..body("a") }).unwrap_err();
    assert!(matches!(error, Error::Refused { ref code, .. } if code == "filter"));
    let error = well.subscribe(SubscribeBody { full: Some("block".into()), ..body("a") }).unwrap_err();
    assert!(error.to_string().contains("shed-oldest"), "{error}");
}

#[test]
fn a_client_that_does_not_read_hurts_nobody() {
    let (_folder, server) = bus();
    let mut stuck = client(&server);
    stuck.subscribe(SubscribeBody { messages: Some(16), ..body("load") }).unwrap();
    let mut well = client(&server);
    well.subscribe(body("load")).unwrap();
    let mut publisher = client(&server);
    let payload = vec![b'x'; 60_000];
    for number in 0..300_u32 {
        let sent = publisher.publish("load", &Message::new(&payload)).unwrap();
        assert!(sent.delivered >= 1, "message {number}");
        assert_eq!(next(&mut well).1.len(), payload.len());
    }
    let report = publisher.report().unwrap();
    assert!(report.subscriptions.iter().any(|found| found.shed > 0), "what the stuck one lost is counted");
}

#[test]
fn too_many_connections_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { connections_max: 2, ..Options::new(&folder.path().join("bus.sock")) };
    let server = Server::start(Bus::default(), options).unwrap();
    let _open: Vec<UnixStream> = (0..2)
        .map(|_| {
            let mut stream = server::connect(server.socket()).unwrap();
            // Answered, and so admitted.
            stream.write_all(b"PING\n").unwrap();
            stream.read_exact(&mut [0; 5]).unwrap();
            stream
        })
        .collect();
    let error = Client::connect(server.socket()).unwrap_err().to_string();
    assert!(error.contains("as many connections as it may have"), "{error}");
}

#[test]
fn a_client_that_asks_and_does_not_read_is_not_heard_any_more() {
    let (_folder, server) = bus();
    let mut deaf = server::connect(server.socket()).unwrap();
    deaf.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    deaf.write_all(&PREFACE).unwrap();
    let mut report = Vec::new();
    ToServer::Command { number: 1, json: br#"{"op":"report"}"# }.encode(&mut report);
    let many = report.repeat(1000);
    let mut heard = 0;
    while deaf.write_all(&many).is_ok() {
        heard += 1000;
        assert!(heard < 300_000, "{heard} questions, and no answer taken");
    }
    assert_eq!(client(&server).publish("a", &Message::new(b"others are heard")).unwrap().delivered, 0);
}

#[test]
fn requests_end_with_the_connection_that_asked() {
    let (_folder, server) = bus();
    let _silent = server.bus().subscribe("ask", crate::Subscribe::new()).unwrap();
    let mut asking = server::connect(server.socket()).unwrap();
    let mut bytes = PREFACE.to_vec();
    for number in 1..=20 {
        let message = Message::new(b"?");
        ToServer::Request { number, timeout_ms: u32::MAX - 1, topic: "ask", message }.encode(&mut bytes);
    }
    asking.write_all(&bytes).unwrap();
    let waiting = || {
        let report = server.bus().report();
        report.subscriptions.iter().filter(|found| found.name == "request").count()
    };
    let until = |count: usize| {
        let end = std::time::Instant::now() + LONG;
        while waiting() != count {
            assert!(std::time::Instant::now() < end, "{} requests wait, not {count}", waiting());
            std::thread::yield_now();
        }
    };
    until(20);
    drop(asking);
    until(0);
}

#[test]
fn a_subscription_that_always_has_something_leaves_the_others_their_turn() {
    let (_folder, server) = bus();
    let mut slow = client(&server);
    let busy = slow.subscribe(SubscribeBody { messages: Some(1 << 14), ..body("busy") }).unwrap();
    let others: Vec<u32> =
        (0..8).map(|number| slow.subscribe(body(&format!("other.{number}"))).unwrap()).collect();
    let mut sender = server.bus().sender("busy").unwrap();
    // Far more than the socket holds.
    for _ in 0..1 << 14 {
        assert_eq!(sender.send(Message::new(&[b'x'; 1024])).unwrap().delivered, 1);
    }
    for number in 0..8 {
        let sent = server.bus().publish(&format!("other.{number}"), Message::new(b"mine")).unwrap();
        assert_eq!(sent.delivered, 1);
    }
    let (mut before, mut missing) = (0, others);
    while !missing.is_empty() {
        match slow.next(Some(LONG)).unwrap().unwrap() {
            Event::Message { subscription, .. } if subscription == busy => before += 1,
            Event::Message { subscription, .. } => missing.retain(|other| *other != subscription),
            other => panic!("{other:?}"),
        }
    }
    assert!(before < 1 << 13, "{before} of the busy one came before the last of the others");
}

#[test]
fn of_those_who_make_one_stream_at_once_one_does_and_nothing_of_it_is_lost() {
    let (folder, server) = bus();
    for round in 0..10 {
        let create = serde_json::json!({
            "op": "create-stream", "name": format!("s{round}"), "patterns": [format!("s{round}")],
        });
        let gate = std::sync::Barrier::new(4);
        let made: usize = std::thread::scope(|scope| {
            let maker = |number: u64| {
                let (server, create, gate) = (&server, &create, &gate);
                scope.spawn(move || {
                    let mut client = client(server);
                    gate.wait();
                    let made = client.command(create).is_ok();
                    let id = MessageId { producer: number + 1, seq: 1 };
                    let message = Message::new(b"x").with_id(id);
                    assert_eq!(client.publish(&format!("s{round}"), &message).unwrap().stored, 1);
                    usize::from(made)
                })
            };
            let makers: Vec<_> = (0..4).map(maker).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).sum()
        });
        assert_eq!(made, 1);
    }
    drop(server);
    let server = serve(folder.path());
    let report = client(&server).report().unwrap();
    assert!(report.streams.len() == 10 && report.streams.iter().all(|stream| stream.messages == 4));
}

#[test]
fn names_that_are_too_long_are_refused() {
    let (_folder, server) = bus();
    let mut hostile = client(&server);
    let long = "n".repeat(100_000);
    for bad in [
        SubscribeBody { name: long.clone(), ..body("a") },
        SubscribeBody { group: Some(long.clone()), ..body("a") },
    ] {
        let error = hostile.subscribe(bad).unwrap_err().to_string();
        assert!(error.contains("200 bytes"), "{error}");
    }
    let create = serde_json::json!({ "op": "create-stream", "name": "work", "patterns": ["work"] });
    hostile.command(&create).unwrap();
    let error = hostile.subscribe(from_stream(&long)).unwrap_err().to_string();
    assert!(error.contains("200 bytes"), "{error}");
    let many: Vec<_> = (0..1000).map(|number| format!("a.{number}")).collect();
    let create = serde_json::json!({ "op": "create-stream", "name": "many", "patterns": many });
    assert!(hostile.command(&create).is_err());
}

#[test]
fn a_delivery_is_answered_by_the_connection_that_has_it() {
    let (_folder, server) = bus();
    let (mut one, mut other) = (client(&server), client(&server));
    let create = serde_json::json!({ "op": "create-stream", "name": "work", "patterns": ["work"] });
    one.command(&create).unwrap();
    let holds = one.subscribe(from_stream("c")).unwrap();
    let _ = one.publish("work", &Message::new(b"x")).unwrap();
    let Some(Event::Delivery { offset, attempt, .. }) = one.next(Some(LONG)).unwrap() else {
        panic!("a delivery");
    };
    let stranger = other.subscribe(from_stream("c")).unwrap();
    other.answer(stranger, offset, attempt, Verdict::Ack);
    assert_eq!(other.report().unwrap().streams[0].consumers[0].out, 1);
    one.answer(holds, offset, attempt, Verdict::Ack);
    assert_eq!(one.report().unwrap().streams[0].consumers[0].lag, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_bytes_are_a_frame_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..120), kind in 0_u8..9) {
        let mut bytes = bytes;
        let _ = ToServer::decode(&bytes);
        let _ = ToClient::decode(&bytes);
        bytes.insert(0, kind);
        let _ = ToServer::decode(&bytes);
        let _ = ToClient::decode(&bytes);
    }
}
