//! Bytes both ways between two connections, within bounds.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::BorrowedFd;

/// Bytes on their way in one direction.
const BUFFER: usize = 16 << 10;
/// How long a process may go on talking to a server that has said its last.
const LINGER: Duration = Duration::from_secs(30);

/// Why a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides have ended, or one is gone.
    Over,
    /// Nothing came for too long.
    Idle,
    /// As many bytes as may be have passed.
    Bytes,
    Stopped,
}

/// What bounds a relay.
#[derive(Debug)]
pub(super) struct Limits<'a> {
    /// Readable when everything is to end; nobody reads it.
    pub(super) stop: BorrowedFd<'a>,
    pub(super) idle: Duration,
    /// Bytes that may still pass, of all connections together.
    pub(super) left: &'a AtomicU64,
}

/// One direction.
struct Way {
    buffer: Vec<u8>,
    /// What of the buffer was not sent yet.
    from: usize,
    /// Bytes that may still come; any number where nothing is said.
    left: Option<u64>,
    /// Nothing more comes.
    ended: bool,
    /// And everything was sent.
    closed: bool,
}

impl Way {
    fn new(first: Vec<u8>, left: Option<u64>) -> Self {
        Self { buffer: first, from: 0, left, ended: left == Some(0), closed: false }
    }

    fn is_empty(&self) -> bool {
        self.from == self.buffer.len()
    }

    fn wants_to_read(&self) -> bool {
        self.is_empty() && !self.ended
    }

    /// Moves what can be moved now; whether anything was.
    fn pump(&mut self, source: &TcpStream, sink: &TcpStream, all: &AtomicU64) -> io::Result<bool> {
        let mut moved = false;
        if self.wants_to_read() {
            let most = self.left.map_or(BUFFER, |left| usize::try_from(left).unwrap_or(BUFFER).min(BUFFER));
            self.buffer.resize(most, 0);
            self.from = most;
            if let Some(read) = now(Read::read(&mut &*source, &mut self.buffer))? {
                self.buffer.truncate(read);
                self.from = 0;
                let read = read as u64;
                self.left = self.left.map(|left| left - read);
                self.ended = read == 0 || self.left == Some(0);
                let _ = all
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |all| Some(all.saturating_sub(read)));
                moved = true;
            }
        }
        while !self.is_empty() {
            let Some(written) = now(Write::write(&mut &*sink, &self.buffer[self.from..]))? else { break };
            self.from += written;
            moved = true;
        }
        if self.ended && self.is_empty() && !self.closed {
            self.closed = true;
            // A server may take the end of a request for the end of the client, where its length was said before.
            if self.left.is_none() {
                let _ = sink.shutdown(Shutdown::Write);
            }
        }
        Ok(moved)
    }
}

/// What was done now; nothing where it would have to be waited for.
fn now(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Relays until both sides have ended. `first` goes to the server before anything else, and `upward` more bytes after it
/// at most. Both streams do not block.
pub(super) fn relay(
    client: &TcpStream,
    server: &TcpStream,
    first: Vec<u8>,
    upward: Option<u64>,
    limits: &Limits<'_>,
) -> End {
    let (mut up, mut down) = (Way::new(first, upward), Way::new(Vec::new(), None));
    loop {
        if limits.left.load(Ordering::Relaxed) == 0 {
            return End::Bytes;
        }
        let moved = up
            .pump(client, server, limits.left)
            .and_then(|up| Ok(up | down.pump(server, client, limits.left)?));
        let Ok(moved) = moved else { return End::Over };
        if up.closed && down.closed {
            return End::Over;
        }
        let patience = if down.closed { limits.idle.min(LINGER) } else { limits.idle };
        let patience = if moved { Duration::ZERO } else { patience };
        let wanted = |reads: bool, writes: bool| {
            let read = if reads { PollFlags::IN } else { PollFlags::empty() };
            read | if writes { PollFlags::OUT } else { PollFlags::empty() }
        };
        let of_client = wanted(up.wants_to_read(), !down.is_empty());
        let of_server = wanted(down.wants_to_read(), !up.is_empty());
        // One that is waited for by nobody is left out: its end would be told again and again.
        let streams = [(client.as_fd(), of_client), (server.as_fd(), of_server)];
        match wait(limits.stop, &streams, patience) {
            Waited::Stopped => return End::Stopped,
            Waited::Ready => {}
            Waited::Nothing if moved => {}
            Waited::Nothing => return End::Idle,
        }
    }
}

/// What waiting came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    Stopped,
    Ready,
    /// The time has passed.
    Nothing,
}

/// Waits for one of the streams, or for the stop.
pub(super) fn wait(
    stop: BorrowedFd<'_>,
    streams: &[(BorrowedFd<'_>, PollFlags)],
    patience: Duration,
) -> Waited {
    let mut fds = vec![PollFd::from_borrowed_fd(stop, PollFlags::IN)];
    let wanted = streams.iter().filter(|(_, flags)| !flags.is_empty());
    fds.extend(wanted.map(|(stream, flags)| PollFd::from_borrowed_fd(*stream, *flags)));
    let timeout = rustix::event::Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    match poll(&mut fds, Some(&timeout)) {
        _ if !fds[0].revents().is_empty() => Waited::Stopped,
        Ok(0) => Waited::Nothing,
        // Whatever is wrong with one of the streams is told when it is used.
        Ok(_) | Err(_) => Waited::Ready,
    }
}
