//! Where a node is asked: its socket, and who is let in.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{REQUEST_LEN_MAX, Refusal, Reply, Request};

/// Those who are heard at once; one more is told so.
const GUESTS_MAX: usize = 16;
/// How long somebody may take to say what they want, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a failure to let somebody in, for want of descriptors most likely.
const RECOVERY: Duration = Duration::from_millis(10);

/// A request on its way to the node. Dropped without an answer, it is refused because the node ends.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    answer: SyncSender<Reply>,
}

impl Asked {
    pub(crate) fn answer(&self, reply: Reply) {
        // Whoever asked may have gone.
        let _ = self.answer.try_send(reply);
    }
}

/// A socket at which requests are heard until this is dropped, which removes it.
#[derive(Debug)]
pub(crate) struct Door {
    path: PathBuf,
    closing: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Door {
    /// Opens the door of a run that belongs to this process; what a dead node left at the path is replaced.
    pub(crate) fn open(path: &Path, hear: impl Fn(Asked) + Clone + Send + 'static) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = short_path(path, |short| UnixListener::bind(short))?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        let closing = Arc::new(AtomicBool::new(false));
        let acceptor = thread::Builder::new().name("control".into()).spawn({
            let closing = Arc::clone(&closing);
            move || accept(&listener, &closing, &hear)
        })?;
        Ok(Self { path: path.to_owned(), closing, acceptor: Some(acceptor) })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // A guest wakes the acceptor, which sees that it is to stop.
        let woken = connect(&self.path).is_ok();
        let _ = fs::remove_file(&self.path);
        if woken && let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Goes to the door of a node.
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

fn accept(listener: &UnixListener, closing: &AtomicBool, hear: &(impl Fn(Asked) + Clone + Send + 'static)) {
    let guests = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        if closing.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else {
            thread::sleep(RECOVERY);
            continue;
        };
        let own = rustix::net::sockopt::socket_peercred(&stream)
            .is_ok_and(|peer| peer.uid == rustix::process::geteuid());
        if !own {
            say(&stream, &Reply::Refused(Refusal::Stranger));
            continue;
        }
        let guest = Guest::enter(&guests);
        if guests.load(Ordering::SeqCst) > GUESTS_MAX {
            say(&stream, &Reply::Refused(Refusal::Busy));
            continue;
        }
        let hear = hear.clone();
        // Where there is no thread, the connection is closed.
        let _ = thread::Builder::new().name("control-guest".into()).spawn(move || {
            let _guest = guest;
            say(&stream, &serve(&stream, &hear));
        });
    }
}

/// Counts those who are heard now.
struct Guest(Arc<AtomicUsize>);

impl Guest {
    fn enter(guests: &Arc<AtomicUsize>) -> Self {
        guests.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(guests))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Hears one request and waits for what the node says to it.
fn serve(stream: &UnixStream, hear: &impl Fn(Asked)) -> Reply {
    let malformed = |reason: String| Reply::Refused(Refusal::Malformed { reason });
    let line = match line(stream, REQUEST_LEN_MAX, PATIENCE) {
        Ok(line) => line,
        Err(error) => return malformed(error.to_string()),
    };
    let request = match serde_json::from_slice::<Request>(&line) {
        Ok(request) => request,
        Err(error) => return malformed(error.to_string()),
    };
    let (answer, answered): (_, Receiver<Reply>) = mpsc::sync_channel(1);
    hear(Asked { request, answer });
    answered.recv().unwrap_or(Reply::Refused(Refusal::Ending))
}

/// One line, without its end; refused where it is longer or takes longer.
pub(super) fn line(mut stream: &UnixStream, length_max: usize, patience: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + patience;
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no whole line came within {patience:?}"));
    let (mut line, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        stream.set_read_timeout(Some(left))?;
        let read = match stream.read(&mut piece) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends within a line")),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = piece[..read].iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&piece[..end.unwrap_or(read)]);
        if line.len() > length_max {
            return Err(io::Error::other(format!("it is longer than {length_max} bytes")));
        }
        if end.is_some() {
            return Ok(line);
        }
    }
}

/// Sends one line. Whoever does not take it has gone, and misses it.
fn say(mut stream: &UnixStream, reply: &Reply) {
    let Ok(mut line) = serde_json::to_vec(reply) else { return };
    line.push(b'\n');
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let _ = stream.write_all(&line);
}
