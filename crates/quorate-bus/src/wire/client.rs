//! A client of a bus that another process serves.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_base::Timestamp;

use super::frame::{self, OVERHEAD_MAX, PREFACE, SubscribeBody, ToClient, ToServer, Verdict};
use super::server;
use crate::bus::Sent;
use crate::codec::Malformed;
use crate::message::Message;

/// Bytes of a frame that a client takes.
const FRAME_MAX: usize = (64 << 20) + OVERHEAD_MAX;

/// How long a client waits to be greeted.
const GREETING: Duration = Duration::from_secs(10);
/// By how much longer than asked a read may wait.
const LATE: Duration = Duration::from_millis(1);

/// Messages published before their answers are read.
const TOGETHER_MAX: usize = 4096;

/// The bus did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no bus is served at {}: {source}; start one with `quorate bus serve`", path.display())]
    NotServed { path: PathBuf, source: io::Error },
    #[error("the connection to the bus broke: {0}")]
    Io(#[from] io::Error),
    #[error("the bus closed the connection")]
    Closed,
    #[error("the bus at {} speaks another version, or is no bus", path.display())]
    Version { path: PathBuf },
    #[error("the bus sent something that is no frame: {0}")]
    Malformed(#[from] Malformed),
    #[error("{text}")]
    Refused { code: String, text: String },
    #[error("no answer came within {0:?}")]
    TimedOut(Duration),
}

/// What comes for a subscriber.
#[derive(Debug)]
pub enum Event {
    Message {
        subscription: u32,
        topic: Arc<str>,
        message: Message,
    },
    /// To be answered with [`Client::answer`].
    Delivery {
        subscription: u32,
        offset: u64,
        attempt: u32,
        time: Timestamp,
        topic: Arc<str>,
        message: Message,
    },
    /// The subscription is over.
    Ended {
        subscription: u32,
        reason: String,
    },
}

#[derive(Debug)]
enum Answer {
    Done(Sent),
    Failed { code: String, text: String },
    Reply(Message),
    Result(Vec<u8>),
}

/// A connection, for one thread.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    numbers: u32,
    out: Vec<u8>,
    buffer: Vec<u8>,
    filled: usize,
    used: usize,
    events: VecDeque<Event>,
    answers: HashMap<u32, Answer>,
    /// That of the last message, which is often that of the next.
    topic: Arc<str>,
    /// How long a read waits.
    patience: Option<Duration>,
}

impl Client {
    /// Connects to the bus at a socket.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        let mut stream =
            server::connect(path).map_err(|source| Error::NotServed { path: path.to_owned(), source })?;
        stream.set_read_timeout(Some(GREETING))?;
        // Whoever is not let in may be told so, and let go, before having said anything.
        let _ = stream.write_all(&PREFACE);
        let mut answer = [0; 8];
        if stream.read_exact(&mut answer).is_err() {
            return Err(Error::Version { path: path.to_owned() });
        }
        if answer != PREFACE {
            // Whoever is not let in is told so in a line.
            let mut rest = String::from_utf8_lossy(&answer).into_owned();
            let mut more = [0; 300];
            if let Ok(read) = stream.read(&mut more) {
                rest.push_str(&String::from_utf8_lossy(&more[..read]));
            }
            return match rest.strip_prefix("ERR refused ") {
                Some(text) => Err(Error::Refused { code: "refused".into(), text: text.trim().to_owned() }),
                None => Err(Error::Version { path: path.to_owned() }),
            };
        }
        Ok(Self {
            stream,
            numbers: 0,
            out: Vec::new(),
            buffer: vec![0; 64 << 10],
            filled: 0,
            used: 0,
            events: VecDeque::new(),
            answers: HashMap::new(),
            topic: Arc::default(),
            patience: Some(GREETING),
        })
    }

    const fn number(&mut self) -> u32 {
        self.numbers = if self.numbers == u32::MAX { 1 } else { self.numbers + 1 };
        self.numbers
    }

    /// Publishes a message and waits for what became of it.
    pub fn publish(&mut self, topic: &str, message: &Message) -> Result<Sent, Error> {
        let number = self.number();
        frame::put_publish(&mut self.out, number, topic, message);
        self.flush()?;
        self.done(number)
    }

    /// Puts a message into the buffer, to be sent with the next [`flush`](Self::flush); nobody answers.
    pub fn publish_later(&mut self, topic: &str, message: &Message) -> Result<(), Error> {
        frame::put_publish(&mut self.out, 0, topic, message);
        if self.out.len() >= 64 << 10 { self.flush() } else { Ok(()) }
    }

    /// As [`publish_later`](Self::publish_later), of a message of the usual priority that has nothing but a payload.
    pub fn publish_payload_later(&mut self, topic: &str, payload: &[u8]) -> Result<(), Error> {
        frame::put_payload(&mut self.out, topic, payload);
        if self.out.len() >= 64 << 10 { self.flush() } else { Ok(()) }
    }

    /// Publishes messages together and waits until all are answered.
    pub fn publish_all(&mut self, topic: &str, messages: &[Message]) -> Result<Vec<Sent>, Error> {
        let mut sent = Vec::with_capacity(messages.len());
        // A server that cannot get rid of its answers stops reading: not all are sent before the first is taken.
        for messages in messages.chunks(TOGETHER_MAX) {
            let mut numbers = Vec::with_capacity(messages.len());
            for message in messages {
                let number = self.number();
                frame::put_publish(&mut self.out, number, topic, message);
                numbers.push(number);
            }
            self.flush()?;
            for number in numbers {
                sent.push(self.done(number)?);
            }
        }
        Ok(sent)
    }

    /// Sends what is in the buffer.
    pub fn flush(&mut self) -> Result<(), Error> {
        if self.out.is_empty() {
            return Ok(());
        }
        let sent = self.stream.write_all(&self.out);
        self.out.clear();
        Ok(sent?)
    }

    fn done(&mut self, number: u32) -> Result<Sent, Error> {
        match self.answer_to(number, None)? {
            Answer::Done(sent) => Ok(sent),
            Answer::Failed { code, text } => Err(Error::Refused { code, text }),
            Answer::Reply(..) | Answer::Result(_) => Err(Malformed("an answer of another kind").into()),
        }
    }

    /// Subscribes; its messages come from [`next`](Self::next) under the number this answers.
    pub fn subscribe(&mut self, body: SubscribeBody) -> Result<u32, Error> {
        let number = self.number();
        ToServer::Subscribe { number, subscription: number, body }.encode(&mut self.out);
        self.flush()?;
        let _ = self.done(number)?;
        Ok(number)
    }

    pub fn unsubscribe(&mut self, subscription: u32) -> Result<(), Error> {
        let number = self.number();
        ToServer::Unsubscribe { number, subscription }.encode(&mut self.out);
        self.flush()?;
        self.done(number).map(|_| ())
    }

    /// Asks and waits for the first answer.
    pub fn request(&mut self, topic: &str, message: &Message, timeout: Duration) -> Result<Message, Error> {
        let number = self.number();
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        ToServer::Request { number, timeout_ms, topic, message: message.clone() }.encode(&mut self.out);
        self.flush()?;
        match self.answer_to(number, Some(timeout.saturating_add(Duration::from_secs(5))))? {
            Answer::Reply(message) => Ok(message),
            Answer::Failed { code, text } => Err(Error::Refused { code, text }),
            Answer::Done(_) | Answer::Result(_) => Err(Malformed("an answer of another kind").into()),
        }
    }

    /// Answers a delivery. Sent with the next [`flush`](Self::flush) or [`next`](Self::next).
    pub fn answer(&mut self, subscription: u32, offset: u64, attempt: u32, verdict: Verdict) {
        ToServer::Answer { subscription, offset, attempt, verdict, pause_ms: None }.encode(&mut self.out);
    }

    /// Has a command done; its result is JSON.
    pub fn command(&mut self, command: &serde_json::Value) -> Result<serde_json::Value, Error> {
        let number = self.number();
        ToServer::Command { number, json: command.to_string().as_bytes() }.encode(&mut self.out);
        self.flush()?;
        match self.answer_to(number, None)? {
            Answer::Result(json) => {
                serde_json::from_slice(&json).map_err(|_| Error::Malformed(Malformed("a result is no JSON")))
            }
            Answer::Failed { code, text } => Err(Error::Refused { code, text }),
            Answer::Done(_) | Answer::Reply(..) => Err(Malformed("an answer of another kind").into()),
        }
    }

    /// How the bus stands.
    pub fn report(&mut self) -> Result<crate::Report, Error> {
        let json = self.command(&serde_json::json!({ "op": "report" }))?;
        serde_json::from_value(json).map_err(|_| Malformed("a report is not as it should be").into())
    }

    /// The next event, waiting so long at most.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Event>, Error> {
        self.flush()?;
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if !self.read(end)? {
                return Ok(None);
            }
        }
    }

    fn answer_to(&mut self, number: u32, timeout: Option<Duration>) -> Result<Answer, Error> {
        let timeout = timeout.unwrap_or(Duration::from_secs(60));
        let end = Instant::now().checked_add(timeout);
        loop {
            if let Some(answer) = self.answers.remove(&number) {
                return Ok(answer);
            }
            if !self.read(end)? {
                return Err(Error::TimedOut(timeout));
            }
        }
    }

    /// Sets how long a read waits, where that is not about what it was. Shorter waits are repeated, which costs less than telling the system each
    /// time.
    fn wait_for(&mut self, left: Option<Duration>) -> Result<(), Error> {
        let well = match (self.patience, left) {
            (None, None) => true,
            (Some(patience), Some(left)) => patience <= left + LATE && patience >= left / 2,
            _ => false,
        };
        if !well {
            self.stream.set_read_timeout(left)?;
            self.patience = left;
        }
        Ok(())
    }

    /// Reads what is there; `false` when the time is over.
    fn read(&mut self, end: Option<Instant>) -> Result<bool, Error> {
        self.buffer.copy_within(self.used..self.filled, 0);
        self.filled -= self.used;
        self.used = 0;
        if let Some(length) = frame::length(&self.buffer[..self.filled], FRAME_MAX)?
            && self.buffer.len() < length
        {
            self.buffer.resize(length, 0);
        }
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(false);
        }
        self.wait_for(left)?;
        match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => return Err(Error::Closed),
            Ok(read) => self.filled += read,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    return Ok(end.is_none_or(|end| Instant::now() < end));
                }
                io::ErrorKind::Interrupted => return Ok(true),
                _ => return Err(error.into()),
            },
        }
        while let Some(length) = frame::length(&self.buffer[self.used..self.filled], FRAME_MAX)? {
            if self.used + length > self.filled {
                break;
            }
            let parsed = ToClient::decode(&self.buffer[self.used + 4..self.used + length])?;
            self.used += length;
            match parsed {
                ToClient::Done { number, sent } => {
                    self.answers.insert(number, Answer::Done(sent));
                }
                // The server could not read what we sent, and will say no more.
                ToClient::Failed { number: 0, code, text } => {
                    return Err(Error::Refused { code: code.to_owned(), text: text.to_owned() });
                }
                ToClient::Failed { number, code, text } => {
                    let failed = Answer::Failed { code: code.to_owned(), text: text.to_owned() };
                    self.answers.insert(number, failed);
                }
                ToClient::Message { subscription, topic, message } => {
                    let topic = shared(&mut self.topic, topic);
                    self.events.push_back(Event::Message { subscription, topic, message });
                }
                ToClient::Delivery { subscription, offset, attempt, time_ms, topic, message } => {
                    self.events.push_back(Event::Delivery {
                        subscription,
                        offset,
                        attempt,
                        time: Timestamp(time_ms),
                        topic: shared(&mut self.topic, topic),
                        message,
                    });
                }
                ToClient::Reply { number, topic: _, message } => {
                    self.answers.insert(number, Answer::Reply(message));
                }
                ToClient::Ended { subscription, reason } => {
                    self.events.push_back(Event::Ended { subscription, reason: reason.to_owned() });
                }
                ToClient::Result { number, json } => {
                    self.answers.insert(number, Answer::Result(json.to_vec()));
                }
            }
        }
        Ok(true)
    }
}

/// A topic that may be the same as the last.
fn shared(last: &mut Arc<str>, topic: &str) -> Arc<str> {
    if **last != *topic {
        *last = topic.into();
    }
    Arc::clone(last)
}
