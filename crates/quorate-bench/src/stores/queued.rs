//! Writes of many threads gathered by one thread of the application, which commits all that wait at once.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, anyhow};

use super::store::{Key, Store, Value};

/// Values committed at once, at most.
const GROUP: usize = 1_000;

/// A store behind a thread that writes for all.
#[derive(Debug)]
pub(super) struct Queued<S> {
    store: Arc<S>,
    /// Nothing once it is closed.
    queue: Option<Sender<Waiting>>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Waiting {
    pair: (Key, Value),
    done: Sender<bool>,
}

impl<S: Store + Send + 'static> Queued<S> {
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let store = Arc::new(S::open(folder)?);
        let (queue, waiting) = channel();
        let writer = thread::spawn({
            let store = Arc::clone(&store);
            move || write(&*store, &waiting)
        });
        Ok(Self { store, queue: Some(queue), writer: Some(writer) })
    }

    pub(super) fn store(&self) -> &S {
        &self.store
    }

    /// Returns when the value is on the disk.
    pub(super) fn put(&self, key: &Key, value: &Value) -> anyhow::Result<()> {
        let (done, acknowledged) = channel();
        let queue = self.queue.as_ref().context("the queue is closed")?;
        let waiting = Waiting { pair: (*key, *value), done };
        queue.send(waiting).map_err(|_| anyhow!("the thread that writes ended"))?;
        anyhow::ensure!(acknowledged.recv()?, "a group could not be written");
        Ok(())
    }
}

impl<S> Drop for Queued<S> {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // What it panicked with was printed.
            let _ = writer.join();
        }
    }
}

fn write(store: &impl Store, waiting: &Receiver<Waiting>) {
    while let Ok(first) = waiting.recv() {
        let group: Vec<_> = [first].into_iter().chain(waiting.try_iter().take(GROUP - 1)).collect();
        let pairs: Vec<_> = group.iter().map(|waiting| waiting.pair).collect();
        let written = store.put_all(&pairs).is_ok();
        for waiting in group {
            // Who gave up waiting does not want to know.
            let _ = waiting.done.send(written);
        }
    }
}
