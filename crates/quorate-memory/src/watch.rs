//! Watching: every change, in order, from a past version on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_wal::Enough;

use crate::actor::Access;
use crate::change::{Change, Event};
use crate::entry::{Body, Entry, Older};
use crate::error::Error;
use crate::feed::Next;
use crate::inner::Inner;
use crate::key::Key;
use crate::record::{self, Metas, Op, Record};
use crate::space::Space;
use crate::tail::locked;

/// Changes taken from the feed or the log at once.
const AT_ONCE: usize = 256;
/// Bytes read from the log at once, about.
const BYTES_AT_ONCE: usize = 1 << 20;
/// How often a waiting watcher looks for what other processes have written. Changes of its own process wake it at once.
const FOREIGN_LATENCY: Duration = Duration::from_millis(10);

/// Yields changes. It buffers a bounded number: one that is slow reads on in the log, and is told [`Error::Forgotten`] where the log no
/// longer has what follows.
#[derive(Debug)]
pub struct Watch {
    inner: Arc<Inner>,
    filter: Option<(Space, Key)>,
    /// All transactions up to this one are seen, or in `buffer`.
    seen: u64,
    buffer: VecDeque<Change>,
}

impl Watch {
    pub(crate) fn new(inner: Arc<Inner>, filter: Option<(Space, Key)>, after: u64) -> Self {
        inner.feed.enter();
        Self { inner, filter, seen: after, buffer: VecDeque::new() }
    }

    /// The next change, where there is one now.
    pub fn try_next(&mut self) -> Result<Option<Change>, Error> {
        if let Some((space, _)) = &self.filter {
            space.check(Access::Read)?;
        }
        if self.buffer.is_empty() {
            self.inner.catch_up()?;
            self.fill()?;
        }
        Ok(self.buffer.pop_front())
    }

    /// The next change; waits for it as long as `span`, and answers `None` then. A change of this process wakes it at once, one of
    /// another is seen within about 10 ms.
    pub fn next(&mut self, span: Duration) -> Result<Option<Change>, Error> {
        let end = Instant::now() + span;
        loop {
            if let Some(change) = self.try_next()? {
                return Ok(Some(change));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let seen = self.seen;
            self.inner.feed.wait(left.min(FOREIGN_LATENCY), || self.inner.index.visible() > seen);
        }
    }

    /// All transactions up to this one were seen, but for what is still to be taken with [`try_next`](Self::try_next).
    pub fn seen(&self) -> u64 {
        self.seen
    }

    fn fill(&mut self) -> Result<(), Error> {
        while self.buffer.is_empty() && self.inner.index.visible() > self.seen {
            let filter = self.filter.as_ref().map(|(space, prefix)| (space.namespace.id, prefix.clone()));
            let wanted = |change: &Change| match &filter {
                Some((space, prefix)) => {
                    change.space == *space && change.key.as_bytes().starts_with(prefix.as_bytes())
                }
                None => true,
            };
            let (changes, until) = self.inner.changes_after(self.seen, AT_ONCE, wanted)?;
            self.seen = until;
            self.buffer.extend(changes);
        }
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.inner.feed.leave();
    }
}

impl Inner {
    /// Changes of the transactions after version `after` from the feed, or from the log where the feed does not reach back.
    pub(crate) fn changes_after(
        &self,
        after: u64,
        most: usize,
        wanted: impl Fn(&Change) -> bool,
    ) -> Result<(Vec<Change>, u64), Error> {
        match self.feed.next(after, most, &wanted) {
            Next::Changes(changes, until) => Ok((changes, until)),
            Next::Nothing => Ok((Vec::new(), after)),
            Next::Behind => self.changes_in_log(after, most, wanted),
        }
    }

    /// Changes of the transactions after version `after` as the log tells them, whole transactions, about `most` of those that are
    /// wanted; and the version up to which they were gathered.
    pub(crate) fn changes_in_log(
        &self,
        after: u64,
        most: usize,
        wanted: impl Fn(&Change) -> bool,
    ) -> Result<(Vec<Change>, u64), Error> {
        // Held while the log is read only where its end may be in flight.
        let mut turn = None;
        let mut tail = self.tail();
        let visible = self.index.visible();
        if tail.in_flight || tail.log.next() <= visible {
            // Relaxed changes that are not written yet.
            drop(tail);
            self.flush()?;
            turn = Some(locked(&self.turn));
            tail = self.tail();
        }
        let (mut changes, mut until, mut bytes) = (Vec::new(), after, 0);
        let mut metas = Metas::default();
        let mut unknown = None;
        let read = tail.log.read(after + 1, &mut |found| {
            if found.seq > visible || changes.len() >= most || bytes >= BYTES_AT_ONCE {
                return Enough::Yes;
            }
            bytes += found.bytes.len();
            until = found.seq;
            match record::decode(found.bytes, &mut metas) {
                Ok(Record::Genesis { .. }) => Enough::No,
                Ok(Record::Transaction { time, ops }) => {
                    let told = changes.len();
                    let all = ops.into_iter().filter_map(|op| self.change(found.seq, time, op));
                    changes.extend(all.filter(|change| wanted(change)));
                    if changes.len() > told
                        && let Some(last) = changes.last_mut()
                    {
                        last.last = true;
                    }
                    Enough::No
                }
                Err(reason) => {
                    unknown = Some(Error::RecordUnknown { seq: found.seq, reason });
                    Enough::Yes
                }
            }
        });
        drop(tail);
        drop(turn);
        match (read, unknown) {
            (_, Some(error)) => Err(error),
            (Ok(()), None) => Ok((changes, until)),
            (Err(quorate_wal::Error::Forgotten { wanted, first }), None) => {
                Err(Error::Forgotten { wanted, oldest: first })
            }
            // Another process gave the segment back.
            (Err(quorate_wal::Error::Io { source, .. }), None)
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Err(Error::Forgotten { wanted: after + 1, oldest: visible })
            }
            (Err(error), None) => Err(error.into()),
        }
    }

    fn change(&self, version: u64, time: quorate_base::Timestamp, op: Op) -> Option<Change> {
        let (space, key, event) = match op {
            Op::Space { .. } => return None,
            Op::Put { space, key, value, meta, expires } => {
                let body = Body::Live { value, meta };
                let entry = Entry::new(version, time, expires, body, Older::Forgotten, 0);
                (space, key, Event::Put(Arc::new(entry)))
            }
            Op::Delete { space, key, gone } => (space, key, Event::Removed(gone)),
        };
        let namespace = Arc::clone(&self.index.space_by_id(space)?.name);
        Some(Change { version, time, namespace, space, key, event, last: false })
    }
}
