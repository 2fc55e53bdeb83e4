//! Bytes from a server, read many messages at once.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// How long a server may stay silent.
const SILENCE: Duration = Duration::from_secs(10);
/// Bytes that are read at once, at first; more where one message is larger.
const READ: usize = 1 << 18;

/// A connection with what was read from it and not yet understood.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        Ok(Self { stream, buffer: vec![0; READ], from: 0, to: 0 })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(bytes).context("cannot write to the server")
    }

    /// What was read and not yet taken.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer[self.from..self.to]
    }

    pub(crate) fn take(&mut self, count: usize) {
        self.from += count;
    }

    /// Waits for more.
    pub(crate) fn read(&mut self) -> anyhow::Result<()> {
        self.buffer.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        if self.to == self.buffer.len() {
            self.buffer.resize(2 * self.to, 0);
        }
        let count = self.stream.read(&mut self.buffer[self.to..]).context("the server is silent")?;
        ensure!(count > 0, "the server closed the connection");
        self.to += count;
        Ok(())
    }
}

/// The first line and what follows it; nothing while it is not complete.
pub(crate) fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((bytes[..end].trim_ascii_end(), &bytes[end + 1..]))
}

/// A decimal number.
pub(crate) fn number(bytes: &[u8]) -> anyhow::Result<usize> {
    let text = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    text.with_context(|| format!("not a number: {}", String::from_utf8_lossy(bytes)))
}
