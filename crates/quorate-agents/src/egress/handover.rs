//! The listener's way from the network of the process, where it is made, to the node, which accepts on it.
//!
//! A descriptor stays in the network it was made in, whoever holds it. The process makes it, since making it anywhere
//! else would need a thread that enters the process's namespaces, which an ordinary user's threads cannot.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, bind, listen, recvmsg, sendmsg, socket_with,
    socketpair,
};

use super::PORT;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// The node's end.
#[derive(Debug)]
pub(crate) struct Handover(OwnedFd);

/// The process's end.
#[derive(Debug)]
pub(crate) struct Giver(OwnedFd);

impl Handover {
    pub(crate) fn new() -> io::Result<(Self, Giver)> {
        let (here, there) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(here), Giver(there)))
    }

    /// Takes the listener of a process that has entered its sandbox; does not wait.
    pub(crate) fn take(&self) -> io::Result<TcpListener> {
        let mut byte = [0; 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        recvmsg(&self.0, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
        let mut descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let listener = descriptors.next().and_then(|mut descriptors| descriptors.next());
        listener.map(TcpListener::from).ok_or_else(|| io::Error::other("the process handed no listener over"))
    }
}

impl Giver {
    /// Makes the listener in the network of this process and hands it over. Async-signal-safe: plain system calls by
    /// `rustix`, with memory of this function's own.
    pub(crate) fn give(&self) -> io::Result<()> {
        let listener = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        bind(&listener, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT))?;
        listen(&listener, BACKLOG)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [listener.as_fd()];
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(&self.0, &[IoSlice::new(b"l")], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}
