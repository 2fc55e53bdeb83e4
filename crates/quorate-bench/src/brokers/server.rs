//! A server that lives as long as a measure.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use crate::harness::scratch;

/// How long a server may take until it answers.
const STARTING: Duration = Duration::from_secs(10);
/// Ports that are tried: another program may take one between its choice and its use.
const TRIES: usize = 3;

/// A running server; it is killed, and what it wrote is removed, with the value.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    _folder: TempDir,
}

impl Server {
    /// Nothing where the program is not installed. The arguments are asked for with the folder and the port.
    pub(crate) fn start(
        program: &str,
        arguments: impl Fn(&Path, u16) -> Vec<String>,
    ) -> anyhow::Result<Option<Self>> {
        for _ in 0..TRIES {
            let folder = scratch::folder()?;
            let path = folder.path().canonicalize()?;
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            let mut command = Command::new(program);
            command.args(arguments(&path, port)).current_dir(&path);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let child = match command.spawn() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                started => started.with_context(|| format!("cannot start {program}"))?,
            };
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let mut server = Self { child, address, _folder: folder };
            if server.answers()? {
                return Ok(Some(server));
            }
        }
        bail!("{program} ended or did not answer, {TRIES} times")
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    fn answers(&mut self) -> anyhow::Result<bool> {
        let start = Instant::now();
        while start.elapsed() < STARTING {
            if self.child.try_wait()?.is_some() {
                return Ok(false);
            }
            if TcpStream::connect(self.address).is_ok() {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(false)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_not_installed_is_none() {
        assert!(Server::start("quorate-no-such-server", |_, _| Vec::new()).unwrap().is_none());
    }
}
