//! The proxy of one process: accepts in its network, connects in this one.
//!
//! A thread accepts; each connection has a thread of its own, as many as [`Bounds`] says. Everything a thread waits for
//! it waits for together with the stop, but names and connects, which take as long as they take: threads at those hold
//! nothing, are not waited for, and look whether they are still wanted when they come back.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFlags, eventfd};

use super::Egress;
use super::address::{Reach, is_allowed};
use super::ledger::Reason;
use super::relay::{End, Limits, Waited, relay, wait};
use super::request::{self, Body, Malformed, Request};
use super::target::{Host, Target};

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// How long a server may take to answer the call for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a client that was refused is listened to, so that it can read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// For a thread of a connection: names are looked up on it.
const STACK: usize = 256 << 10;

/// What one process may use of its proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// At a time.
    pub(crate) connections: usize,
    /// From the first byte of a head to its last.
    pub(crate) head: Duration,
    /// Without a byte in either direction. Models think for minutes before they answer.
    pub(crate) idle: Duration,
    /// In both directions, of all connections together.
    pub(crate) bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 128,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(15 * 60),
            bytes: 16 << 30,
        }
    }
}

/// From a name to addresses.
type Resolver = Arc<dyn Fn(&str, u16) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// A proxy at work. Dropping it cuts every connection; when that returns, no byte passes any more.
#[derive(Debug)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    accepting: Option<thread::JoinHandle<()>>,
}

struct Shared {
    egress: Egress,
    bounds: Bounds,
    resolve: Resolver,
    /// Readable from the stop on.
    stop: OwnedFd,
    left: AtomicU64,
    open: Mutex<Open>,
    quiet: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("egress", &self.egress)
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Open {
    connections: usize,
    /// Those that wait for a name or a server.
    away: usize,
    stopped: bool,
}

impl Proxy {
    pub(crate) fn start(listener: TcpListener, egress: Egress, bounds: Bounds) -> io::Result<Self> {
        let resolve = |name: &str, port: u16| {
            let addresses = (name, port).to_socket_addrs()?;
            Ok(addresses.map(|address| address.ip()).collect())
        };
        Self::with_resolver(listener, egress, bounds, Arc::new(resolve))
    }

    fn with_resolver(
        listener: TcpListener,
        egress: Egress,
        bounds: Bounds,
        resolve: Resolver,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared {
            egress,
            bounds,
            resolve,
            stop,
            left: AtomicU64::new(bounds.bytes),
            open: Mutex::default(),
            quiet: Condvar::new(),
        });
        let own = Arc::clone(&shared);
        let accept = move || accept(&listener, &own);
        let accepting = thread::Builder::new().name("egress".into()).stack_size(STACK).spawn(accept)?;
        Ok(Self { shared, accepting: Some(accepting) })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.open().stopped = true;
        let _ = rustix::io::write(&self.shared.stop, &1_u64.to_ne_bytes());
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        let mut open = self.shared.open();
        while open.connections > open.away {
            open = self.shared.quiet.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        match wait(shared.stop.as_fd(), &[(listener.as_fd(), PollFlags::IN)], Duration::from_secs(3600)) {
            Waited::Stopped => return,
            Waited::Nothing => continue,
            Waited::Ready => {}
        }
        let Ok((client, _)) = listener.accept() else { continue };
        if client.set_nonblocking(true).is_err() {
            continue;
        }
        let place = match Place::take(shared) {
            Taken::Place(place) => place,
            Taken::Stopped => return,
            Taken::Full => {
                shared.egress.refusals.note(None, Reason::Connections);
                let _ = answer(&client, "503 Service Unavailable", "too many connections at a time");
                continue;
            }
        };
        // Where there is no thread, the connection ends with the closure.
        let serve = move || place.0.serve(&client);
        let _ = thread::Builder::new().name("egress".into()).stack_size(STACK).spawn(serve);
    }
}

/// One of the connections there may be.
struct Place(Arc<Shared>);

enum Taken {
    Place(Place),
    Full,
    Stopped,
}

impl Place {
    fn take(shared: &Arc<Shared>) -> Taken {
        let mut open = shared.open();
        if open.stopped {
            return Taken::Stopped;
        }
        if open.connections >= shared.bounds.connections {
            return Taken::Full;
        }
        open.connections += 1;
        Taken::Place(Self(Arc::clone(shared)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open().connections -= 1;
        self.0.quiet.notify_all();
    }
}

/// Why a client gets no connection.
enum Refusal {
    /// Told to whoever watches.
    Told(Option<Target>, Reason, String),
    /// The other side's fault, or the network's.
    Failed(String),
    /// Nobody is there to be told.
    Gone,
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::Told(None, Reason::Malformed, malformed.to_string())
    }
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, client: &TcpStream) {
        match self.connect(client) {
            Ok((server, first, upward)) => {
                let limits = Limits { stop: self.stop.as_fd(), idle: self.bounds.idle, left: &self.left };
                if relay(client, &server, first, upward, &limits) == End::Bytes {
                    self.egress.refusals.note(None, Reason::Bytes);
                }
            }
            Err(Refusal::Told(target, reason, why)) => {
                self.egress.refusals.note(target.as_ref(), reason);
                let status = match reason {
                    Reason::Malformed => "400 Bad Request",
                    Reason::Connections | Reason::Bytes => "503 Service Unavailable",
                    Reason::NotListed | Reason::NotPublic => "403 Forbidden",
                };
                self.refuse(client, status, &why);
            }
            Err(Refusal::Failed(why)) => self.refuse(client, "502 Bad Gateway", &why),
            Err(Refusal::Gone) => {}
        }
    }

    /// Reads a request and connects to where it leads: the server, what it is sent first, and how much may follow.
    fn connect(&self, client: &TcpStream) -> Result<(TcpStream, Vec<u8>, Option<u64>), Refusal> {
        let (head, rest) = self.head(client)?;
        let request = request::parse(&head)?;
        let target = match &request {
            Request::Connect(target) => target,
            Request::Plain(plain) => &plain.target,
        };
        let server = self.reach(target)?;
        match request {
            Request::Connect(_) => {
                let established = b"HTTP/1.1 200 Connection established\r\n\r\n";
                Write::write_all(&mut &*client, established).map_err(|_| Refusal::Gone)?;
                Ok((server, rest, None))
            }
            Request::Plain(plain) => {
                let (rest, upward) = match plain.body {
                    Body::Chunks => (rest, None),
                    // What follows the body would be a second request.
                    Body::Length(length) => {
                        let here = rest.len().min(usize::try_from(length).unwrap_or(usize::MAX));
                        (rest[..here].to_vec(), Some(length - here as u64))
                    }
                };
                Ok((server, [plain.head, rest].concat(), upward))
            }
        }
    }

    /// Reads a head, and what came with it.
    fn head(&self, client: &TcpStream) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
        let until = Instant::now() + self.bounds.head;
        let (mut bytes, mut piece) = (Vec::new(), [0; 4 << 10]);
        loop {
            if let Some(end) = request::head_end(&bytes)?.filter(|end| *end <= request::HEAD_MAX) {
                let rest = bytes.split_off(end);
                return Ok((bytes, rest));
            }
            if bytes.len() >= request::HEAD_MAX {
                let why = format!("the head is longer than {} bytes", request::HEAD_MAX);
                return Err(Refusal::Told(None, Reason::Malformed, why));
            }
            let patience = until.saturating_duration_since(Instant::now());
            match wait(self.stop.as_fd(), &[(client.as_fd(), PollFlags::IN)], patience) {
                Waited::Stopped => return Err(Refusal::Gone),
                Waited::Nothing if bytes.is_empty() => return Err(Refusal::Gone),
                Waited::Nothing => {
                    let why = "the head did not come in time".to_owned();
                    return Err(Refusal::Told(None, Reason::Malformed, why));
                }
                Waited::Ready => {}
            }
            match Read::read(&mut &*client, &mut piece) {
                Ok(0) => return Err(Refusal::Gone),
                Ok(count) => bytes.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(Refusal::Gone),
            }
        }
    }

    /// Connects to a target that is on the list, at an address that it may lead to.
    fn reach(&self, target: &Target) -> Result<TcpStream, Refusal> {
        let refuse = |reason: Reason| {
            let hosts = &self.egress.hosts;
            let why = match reason {
                Reason::NotListed => format!("{target} is not on this agent's list of hosts ({hosts})"),
                _ => format!("{target}: {reason}"),
            };
            Refusal::Told(Some(target.clone()), reason, why)
        };
        let reach = self.egress.hosts.reach(target).ok_or_else(|| refuse(Reason::NotListed))?;
        if self.left.load(Ordering::Relaxed) == 0 {
            return Err(refuse(Reason::Bytes));
        }
        self.away(|| {
            let addresses = match &target.host {
                Host::Address(address) => vec![*address],
                // Never asked of anybody: what it is, is known.
                Host::Name(name) if name == "localhost" => {
                    vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
                }
                Host::Name(name) => (self.resolve)(name, target.port)
                    .map_err(|error| Refusal::Failed(format!("{target} has no address: {error}")))?,
            };
            self.dial(target, reach, &addresses).map_err(|error| match error {
                Some(error) => Refusal::Failed(format!("{target} cannot be connected to: {error}")),
                None => refuse(Reason::NotPublic),
            })
        })
    }

    /// Connects to the first of the addresses that may be and that answers; no error where none may be.
    fn dial(
        &self,
        target: &Target,
        reach: Reach,
        addresses: &[IpAddr],
    ) -> Result<TcpStream, Option<io::Error>> {
        let mut failure = None;
        let allowed = addresses.iter().filter(|address| is_allowed(**address, reach));
        for address in allowed.take(ADDRESSES_MAX) {
            let connected = TcpStream::connect_timeout(&SocketAddr::new(*address, target.port), CONNECT);
            match connected.and_then(|server| server.set_nonblocking(true).map(|()| server)) {
                Ok(server) => {
                    let _ = server.set_nodelay(true);
                    return Ok(server);
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure)
    }

    /// Does what cannot be interrupted and holds nothing.
    fn away<T>(&self, work: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
        {
            let mut open = self.open();
            if open.stopped {
                return Err(Refusal::Gone);
            }
            open.away += 1;
        }
        self.quiet.notify_all();
        let result = work();
        let mut open = self.open();
        open.away -= 1;
        if open.stopped { Err(Refusal::Gone) } else { result }
    }

    /// Tells a client why, and waits a moment for it to read that.
    fn refuse(&self, client: &TcpStream, status: &str, why: &str) {
        if answer(client, status, why).is_err() || client.shutdown(Shutdown::Write).is_err() {
            return;
        }
        // Closing with something unread would take the answer back. What still comes is bounded like a head.
        let (until, mut unread, mut piece) = (Instant::now() + FAREWELL, request::HEAD_MAX, [0; 4 << 10]);
        while unread > 0 {
            let patience = until.saturating_duration_since(Instant::now());
            if wait(self.stop.as_fd(), &[(client.as_fd(), PollFlags::IN)], patience) != Waited::Ready {
                return;
            }
            match Read::read(&mut &*client, &mut piece) {
                Ok(0) => return,
                Ok(count) => unread = unread.saturating_sub(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

/// One small answer, which a connection that nothing was sent on always takes.
fn answer(client: &TcpStream, status: &str, why: &str) -> io::Result<()> {
    let body = format!("quorate: {why}\n");
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    Write::write_all(&mut &*client, text.as_bytes())
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
