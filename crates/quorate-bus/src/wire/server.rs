//! Lets other processes of the same user use a bus.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fd::AsRawFd;
use rustix::fs::{FlockOperation, flock};

use super::connection;
use crate::bus::Bus;
use crate::stream::{self, Stream};

/// Streams that can be made from outside.
const STREAMS_MAX: usize = 1000;
/// Patterns of a stream that is made from outside.
const PATTERNS_MAX: usize = 100;

/// How the bus is served.
#[derive(Debug, Clone)]
pub struct Options {
    pub socket: PathBuf,
    /// The folder of durable streams; without one, streams cannot be made from outside.
    pub streams: Option<PathBuf>,
    /// Connections at once; one more is told so and closed.
    pub connections_max: usize,
    /// A client that takes nothing for so long is let go.
    pub write_timeout: Duration,
}

impl Options {
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            streams: None,
            connections_max: 1024,
            write_timeout: Duration::from_secs(10),
        }
    }
}

/// The bus cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("socket {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the bus at {} is served by another process already", path.display())]
    Busy { path: PathBuf },
    #[error("the definition of stream {name} in {}: {reason}", path.display())]
    Definition { name: String, path: PathBuf, reason: String },
    #[error(transparent)]
    Bus(#[from] crate::bus::Error),
    #[error(transparent)]
    Stream(#[from] stream::Error),
}

/// What connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) bus: Bus,
    pub(super) options: Options,
    pub(super) stopping: AtomicBool,
    open: Arc<Open>,
    /// Held while a stream is made: of two who make the same one, the second finds it.
    making: Mutex<()>,
}

/// Connections that are open.
#[derive(Debug, Default)]
struct Open {
    streams: Mutex<Vec<UnixStream>>,
    left: Condvar,
}

impl Open {
    fn streams(&self) -> MutexGuard<'_, Vec<UnixStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a server that ends waits for its clients to take what is there for them.
const FAREWELL: Duration = Duration::from_secs(1);

/// A socket that is being served. Dropping it ends all connections, after what is there for them is sent or a second is over, and removes the socket.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    _lock: File,
}

/// How a durable stream is defined, as it is kept beside its log.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Definition {
    pub(super) patterns: Vec<String>,
    #[serde(default)]
    pub(super) retention: stream::Retention,
}

impl Server {
    /// Serves a bus at a socket, with the durable streams there are.
    pub fn start(bus: Bus, options: Options) -> Result<Self, Error> {
        let path = options.socket.clone();
        let at = |source| Error::Io { path: path.clone(), source };
        let lock_path = path.with_extension("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|source| Error::Io { path: lock_path.clone(), source })?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::Busy { path }),
            other => other.map_err(|errno| at(errno.into()))?,
        }
        if let Some(folder) = &options.streams {
            open_streams(&bus, folder)?;
        }
        // The lock is ours: a socket that is there is left over from a process that is gone.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
            _ => {}
        }
        let listener = short_path(&path, |short| UnixListener::bind(short)).map_err(at)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(at)?;
        let shared = Arc::new(Shared {
            bus,
            options,
            stopping: AtomicBool::new(false),
            open: Arc::default(),
            making: Mutex::default(),
        });
        let for_thread = Arc::clone(&shared);
        let acceptor = std::thread::Builder::new()
            .name("bus-accept".into())
            .spawn(move || accept(&for_thread, &listener))
            .map_err(at)?;
        Ok(Self { shared, acceptor: Some(acceptor), _lock: lock })
    }

    pub fn socket(&self) -> &Path {
        &self.shared.options.socket
    }

    pub fn bus(&self) -> &Bus {
        &self.shared.bus
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.shared.open.streams().len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        // A connection wakes the acceptor; it sees that it is to stop.
        let _ = connect(&self.shared.options.socket);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        // The second time nothing is sent any more; whoever serves the streams next must not find them open.
        for how in [Shutdown::Read, Shutdown::Both] {
            let mut streams = self.shared.open.streams();
            for stream in &*streams {
                let _ = stream.shutdown(how);
            }
            let end = Instant::now() + FAREWELL;
            while !streams.is_empty() {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let waited = self.shared.open.left.wait_timeout(streams, left);
                streams = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        let _ = std::fs::remove_file(&self.shared.options.socket);
    }
}

/// Connects to a bus' socket.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    short_path(path, |short| UnixStream::connect(short))
}

/// The address of a socket has room for some hundred bytes; a longer path is reached through its folder.
fn short_path<T>(path: &Path, f: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() < 100 {
        return f(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return f(path);
    };
    let folder = File::open(folder)?;
    f(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}

fn accept(shared: &Arc<Shared>, listener: &UnixListener) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else {
            // Out of descriptors, most likely: those who leave make room.
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        if let Err(reason) = admit(shared, &stream) {
            connection::refuse(stream, reason);
            continue;
        }
        let Ok(copy) = stream.try_clone() else {
            continue;
        };
        let number = copy.as_raw_fd();
        shared.open.streams().push(copy);
        let leave = Leave { open: Arc::clone(&shared.open), number };
        let shared = Arc::clone(shared);
        let serve = move || {
            // Dropped last: who has left holds nothing of the bus any more.
            let _leave = leave;
            let shared = shared;
            connection::serve(&shared, stream);
        };
        // Where there is no thread, the connection is closed.
        let _ = std::thread::Builder::new().name("bus-read".into()).spawn(serve);
    }
}

struct Leave {
    open: Arc<Open>,
    number: i32,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.open.streams().retain(|stream| stream.as_raw_fd() != self.number);
        self.open.left.notify_all();
    }
}

fn admit(shared: &Shared, stream: &UnixStream) -> Result<(), &'static str> {
    let peer = rustix::net::sockopt::socket_peercred(stream);
    let same = peer.is_ok_and(|peer| peer.uid == rustix::process::geteuid());
    if !same {
        return Err("only the user the bus runs as may use it");
    }
    if shared.open.streams().len() >= shared.options.connections_max {
        return Err("the bus has as many connections as it may have");
    }
    Ok(())
}

fn open_streams(bus: &Bus, folder: &Path) -> Result<(), Error> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|source| Error::Io { path: folder.to_owned(), source })?,
    };
    for entry in entries {
        let path = entry.map_err(|source| Error::Io { path: folder.to_owned(), source })?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let definition = path.join("stream.json");
        if !definition.exists() {
            continue;
        }
        let text =
            std::fs::read(&definition).map_err(|source| Error::Io { path: definition.clone(), source })?;
        let parsed: Definition = serde_json::from_slice(&text).map_err(|error| Error::Definition {
            name: name.clone(),
            path: definition.clone(),
            reason: error.to_string(),
        })?;
        open_stream(bus, &name, &path, parsed)?;
    }
    Ok(())
}

fn open_stream(bus: &Bus, name: &str, path: &Path, definition: Definition) -> Result<(), Error> {
    let options = stream::Options {
        patterns: definition.patterns,
        retention: definition.retention,
        clock: bus.options().clock,
        ..stream::Options::new(name, &[], Some(path.join("log")))
    };
    Ok(bus.attach(&Stream::open(options)?)?)
}

/// Makes a durable stream and remembers it.
pub(super) fn create_stream(shared: &Shared, name: &str, definition: Definition) -> Result<(), Error> {
    let Some(folder) = &shared.options.streams else {
        return Err(Error::Definition {
            name: name.to_owned(),
            path: shared.options.socket.clone(),
            reason: "this bus keeps no streams".into(),
        });
    };
    let path = folder.join(name);
    let bad = |reason: &str| Error::Definition {
        name: name.to_owned(),
        path: path.clone(),
        reason: reason.to_owned(),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || name.len() > 100 || !name.chars().all(plain) {
        return Err(bad("a stream's name has 1 to 100 letters, digits, `-` and `_`"));
    }
    if definition.patterns.is_empty() {
        return Err(bad("it has no topics: name at least one pattern"));
    }
    if definition.patterns.len() > PATTERNS_MAX {
        return Err(bad(&format!("it has more than {PATTERNS_MAX} patterns")));
    }
    let _making = shared.making.lock().unwrap_or_else(PoisonError::into_inner);
    if shared.bus.streams() >= STREAMS_MAX {
        return Err(bad(&format!("this bus has {STREAMS_MAX} streams, its bound")));
    }
    if shared.bus.stream(name).is_some() {
        return Err(Error::Bus(crate::bus::Error::StreamExists(name.to_owned())));
    }
    for pattern in &definition.patterns {
        crate::topic::Pattern::new(pattern).map_err(crate::bus::Error::from)?;
    }
    let io = |source| Error::Io { path: path.clone(), source };
    let disk = quorate_wal::OsDisk;
    quorate_wal::Disk::create_dir(&disk, &path).map_err(io)?;
    let text = serde_json::to_vec_pretty(&definition).map_err(|error| bad(&error.to_string()))?;
    quorate_wal::disk::write_whole(&disk, &path.join("stream.json"), &text).map_err(io)?;
    open_stream(&shared.bus, name, &path, definition)
}
