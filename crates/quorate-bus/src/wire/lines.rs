//! The bus for a shell script: lines in, lines out.
//!
//! | the client says | the server answers |
//! |---|---|
//! | `PUB topic payload to the end of the line` | `OK delivered=N refused=N stored=N` |
//! | `PUBL topic length`, then so many bytes and a line feed | the same |
//! | `SUB pattern [filter to the end of the line]` | `OK`, then for each message `MSG topic length`, so many bytes, a line feed |
//! | `REQ topic payload to the end of the line` | `MSG topic length` and the answer, or `ERR` |
//! | `PING` | `PONG` |
//! | `QUIT` | the end |
//!
//! What goes wrong is `ERR code text`. A subscriber that does not keep up loses the oldest messages first.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::connection::subscribe_options;
use super::frame::SubscribeBody;
use super::server::Shared;
use crate::bus::Sent;
use crate::message::Message;
use crate::wait::{self, Bell, Wait};

/// Bytes of a line without a payload of its own.
const LINE_MAX: usize = 64 << 10;
/// Subscriptions of a connection.
const SUBSCRIPTIONS_MAX: usize = 64;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

struct Out {
    stream: Mutex<UnixStream>,
}

impl Out {
    fn say(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        // A part of it may have been written: nothing that follows could be understood.
        stream.write_all(bytes).inspect_err(|_| drop(stream.shutdown(std::net::Shutdown::Both)))
    }

    fn message(&self, topic: &str, payload: &[u8]) -> std::io::Result<()> {
        let mut bytes = format!("MSG {topic} {}\n", payload.len()).into_bytes();
        bytes.extend(payload);
        bytes.push(b'\n');
        self.say(&bytes)
    }
}

/// Serves a client that speaks lines and has sent `first` already.
pub(super) fn speak(shared: &Arc<Shared>, stream: &UnixStream, first: u8) {
    let Ok(copy) = stream.try_clone() else {
        return;
    };
    let out = Arc::new(Out { stream: Mutex::new(copy) });
    let over = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    let first = [first];
    let mut reader = BufReader::new(first.as_slice().chain(stream));
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = (LINE_MAX + shared.bus.options().payload_max) as u64;
        match (&mut reader).take(limit).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(read) if read as u64 == limit && line.last() != Some(&b'\n') => {
                let _ = out.say(b"ERR too-large a line is too long\n");
                break;
            }
            Ok(_) => {}
        }
        while matches!(line.last(), Some(b'\n' | b'\r')) {
            line.pop();
        }
        let (word, rest) = split(&line);
        let answered = match word {
            b"" => Ok(()),
            b"PING" => out.say(b"PONG\n"),
            b"QUIT" => break,
            b"PUB" => {
                let (topic, payload) = split(rest);
                out.say(publish(shared, topic, payload).as_bytes())
            }
            b"PUBL" => {
                let (topic, length) = split(rest);
                let topic = topic.to_vec();
                let length =
                    std::str::from_utf8(length).ok().and_then(|text| text.trim().parse::<usize>().ok());
                match length.filter(|length| *length <= shared.bus.options().payload_max) {
                    None => {
                        let _ =
                            out.say(b"ERR usage PUBL topic length, and the length is in the bus' bound\n");
                        break;
                    }
                    Some(length) => {
                        let mut payload = vec![0; length + 1];
                        if reader.read_exact(&mut payload).is_err() {
                            break;
                        }
                        out.say(publish(shared, &topic, &payload[..length]).as_bytes())
                    }
                }
            }
            b"REQ" => {
                let (topic, payload) = split(rest);
                let topic = String::from_utf8_lossy(topic).into_owned();
                match shared.bus.request(&topic, Message::new(payload), REQUEST_TIMEOUT) {
                    Ok(answer) => out.message(&topic, answer.payload()),
                    Err(error) => out.say(format!("ERR request {error}\n").as_bytes()),
                }
            }
            b"SUB" if threads.len() < SUBSCRIPTIONS_MAX => match subscribe(shared, rest, &out, &over) {
                Ok(thread) => {
                    threads.push(thread);
                    Ok(())
                }
                Err(text) => out.say(format!("ERR {}\n", text.replace('\n', " ")).as_bytes()),
            },
            b"SUB" => out.say(b"ERR full this connection has as many subscriptions as it may have\n"),
            _ => out.say(b"ERR usage say PUB, PUBL, SUB, REQ, PING or QUIT\n"),
        };
        if answered.is_err() {
            break;
        }
    }
    over.store(true, Ordering::Release);
    let _ = stream.shutdown(std::net::Shutdown::Both);
    for thread in threads {
        thread.bell.ring();
        let _ = thread.handle.join();
    }
}

struct Receiving {
    handle: std::thread::JoinHandle<()>,
    bell: Arc<Bell>,
}

fn split(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|&byte| byte == b' ') {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &[]),
    }
}

fn publish(shared: &Shared, topic: &[u8], payload: &[u8]) -> String {
    let topic = String::from_utf8_lossy(topic);
    match shared.bus.publish(&topic, Message::new(payload)) {
        Ok(Sent { delivered, refused, stored, .. }) => {
            format!("OK delivered={delivered} refused={refused} stored={stored}\n")
        }
        Err(error) => format!("ERR publish {error}\n"),
    }
}

fn subscribe(
    shared: &Shared,
    rest: &[u8],
    out: &Arc<Out>,
    over: &Arc<AtomicBool>,
) -> Result<Receiving, String> {
    let (pattern, filter) = split(rest);
    let filter = String::from_utf8_lossy(filter).trim().to_owned();
    let body = SubscribeBody {
        name: "lines".into(),
        filter: (!filter.is_empty()).then_some(filter),
        ..SubscribeBody::default()
    };
    let how = subscribe_options(&body).map_err(|(code, text)| format!("{code} {text}"))?;
    let bell = Arc::new(Bell::new());
    let mut subscription = shared
        .bus
        .subscribe_with(&String::from_utf8_lossy(pattern), how, Arc::clone(&bell))
        .map_err(|error| format!("topic {error}"))?;
    out.say(b"OK\n").map_err(|error| format!("closed {error}"))?;
    let (out, over, for_thread) = (Arc::clone(out), Arc::clone(over), Arc::clone(&bell));
    let handle = std::thread::Builder::new()
        .name("bus-lines".into())
        .spawn(move || {
            loop {
                let found = wait::until(Wait::Park, &for_thread, None, || {
                    if over.load(Ordering::Acquire) {
                        return Some(None);
                    }
                    match subscription.try_receive() {
                        Ok(Some(message)) => Some(Some(message)),
                        Ok(None) => None,
                        Err(_) => Some(None),
                    }
                });
                let Some(Some(message)) = found else {
                    return;
                };
                let topic = subscription.topic_name(&message);
                if out.message(&topic, message.payload()).is_err() {
                    return;
                }
            }
        })
        .map_err(|error| format!("busy {error}"))?;
    Ok(Receiving { handle, bell })
}
