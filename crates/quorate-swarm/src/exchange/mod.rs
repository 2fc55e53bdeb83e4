//! What agents of a run hand to each other, by folders of each launch: a sandbox has neither network nor sockets, and
//! every language can write a file.
//!
//! *Artifacts* are files an agent leaves; those of a task are given to the tasks that come after it, by digest. *Messages* are
//! files an agent puts into its outbox; each becomes a record, and a file in the inbox of whom it is for. *Checkpoints* are
//! the files of an attempt that failed, with which the next one carries on. [`Exchange`] is what the journal says of all
//! three; what lies in the folders is only ever a copy of that.
//!
//! What an agent leaves is read like anything it makes: without following a link, within bounds, and never opened where it is not
//! a regular file.

mod allowed;
mod artifacts;
mod book;
mod inbox;
mod message;
mod name;
mod outbox;
mod post;

#[cfg(test)]
mod tests;

pub use allowed::may_write;
pub(crate) use artifacts::{Collected, collect, is_disk, lay_out};
pub use artifacts::{Error, FILES_MAX};
pub use book::{Artifact, Carried, Exchange, Letter, Previous};
pub(crate) use inbox::{deliver, newest};
pub use message::{Message, Sender, TEXT_BYTES_MAX, Text, To, Unsendable};
pub use name::{DEPTH_MAX, NAME_BYTES_MAX, Unclean, clean, shown};
pub use outbox::MESSAGES_MAX;
pub(crate) use outbox::Outbox;
pub use post::{PENDING_MAX, Posted, judge};

/// Bytes as they may stand in a record: each secret blotted out.
pub(crate) fn blotted(bytes: &[u8], secrets: &[Vec<u8>]) -> Vec<u8> {
    let mut clean = Vec::new();
    let copied = quorate_agents::redact_copy(&mut &*bytes, &mut clean, secrets);
    // Memory is read and written without fail; were it not, nothing would be shown.
    if copied.is_ok() { clean } else { Vec::new() }
}
