//! The store: one folder, one memory, many processes.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::actor::{Access, Actor};
use crate::background::{self, Signal};
use crate::change::Change;
use crate::error::Error;
use crate::inner::Inner;
use crate::namespace::valid_name;
use crate::options::Options;
use crate::place::Place;
use crate::policy::Policy;
use crate::put::{Action, Batch, Class, Commit, Govern, Job, JobOp, Mode};
use crate::space::Space;
use crate::stats::Stats;
use crate::tail::locked;
use crate::transaction::Transaction;
use crate::view::View;
use crate::watch::Watch;

/// A shared durable memory. Clones are the same store; the last one dropped flushes what is relaxed.
#[derive(Debug, Clone)]
pub struct Store {
    // Ended before what it works on is dropped.
    _thread: Option<Arc<Thread>>,
    pub(crate) inner: Arc<Inner>,
}

/// The store's thread, ended with the last handle.
#[derive(Debug)]
struct Thread {
    signal: Arc<Signal>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.signal.end();
        let handle = locked(&self.handle).take();
        if let Some(handle) = handle
            && handle.thread().id() != std::thread::current().id()
        {
            let _ = handle.join();
        }
    }
}

/// The most that one sweep removes in one transaction.
const SWEEP_MAX: usize = 1024;

impl Store {
    /// Opens the store at a place, or creates it where nothing is there. Reads everything into memory; what an interrupted write
    /// left, and nobody was told of, is cut off.
    pub fn open(place: Place, options: Options) -> Result<Self, Error> {
        let background = options.background;
        let inner = Arc::new(Inner::open(place, options)?);
        let thread = if background {
            let handle = background::start(&inner).map_err(Error::io(&inner.place.dir))?;
            inner.signal.written(false, inner.tail().ledger.next_expiry());
            let handle = Mutex::new(Some(handle));
            Some(Arc::new(Thread { signal: Arc::clone(&inner.signal), handle }))
        } else {
            None
        };
        Ok(Self { inner, _thread: thread })
    }

    /// Flushes, and says whether that succeeded. Other handles go on.
    pub fn close(self) -> Result<(), Error> {
        self.flush()
    }

    /// A namespace, as `actor` may use it. Created where it is missing and [`Options::implicit`] says how.
    pub fn space(&self, actor: &Actor, name: &str) -> Result<Space, Error> {
        if let Some(namespace) = self.inner.index.space(name) {
            return Ok(Space::new(self.clone(), namespace, actor.clone()));
        }
        self.inner.catch_up()?;
        if self.inner.index.space(name).is_none() {
            let Some(policy) = self.inner.options.implicit.clone() else {
                return Err(Error::NamespaceMissing { name: name.into() });
            };
            self.govern(actor, name, policy, Mode::Ensure)?;
        }
        match self.inner.index.space(name) {
            Some(namespace) => Ok(Space::new(self.clone(), namespace, actor.clone())),
            None => Err(Error::NamespaceMissing { name: name.into() }),
        }
    }

    /// Creates a namespace. An agent may create one of the project, one of its own, or one of its swarm.
    pub fn create(&self, actor: &Actor, name: &str, policy: Policy) -> Result<Space, Error> {
        self.govern(actor, name, policy, Mode::Create)?;
        self.space(actor, name)
    }

    /// Changes a namespace's rules. What is there stays, also where a quota is now below it.
    pub fn set_policy(&self, actor: &Actor, name: &str, policy: Policy) -> Result<Commit, Error> {
        self.space(actor, name)?.check(Access::Govern)?;
        self.govern(actor, name, policy, Mode::Change)
    }

    fn govern(&self, actor: &Actor, name: &str, policy: Policy, mode: Mode) -> Result<Commit, Error> {
        if !valid_name(name) {
            return Err(Error::NamespaceInvalid { name: name.chars().take(80).collect() });
        }
        if !policy.kind.admits(actor, Access::Write) {
            let kind = policy.kind.name();
            let (actor, namespace) = (Arc::clone(actor.name()), name.into());
            return Err(Error::Denied { actor, namespace, access: Access::Govern, kind });
        }
        let govern = Some(Govern { name: name.into(), policy, mode });
        self.inner.commit(Job { govern, ..Job::default() }, Class::Durable)
    }

    /// Names of the namespaces that `actor` may read.
    pub fn namespaces(&self, actor: &Actor) -> Result<Vec<Arc<str>>, Error> {
        self.inner.catch_up()?;
        let spaces = self.inner.index.spaces();
        let readable = spaces.iter().filter(|space| space.admit(actor, Access::Read).is_ok());
        Ok(readable.map(|space| Arc::clone(&space.name)).collect())
    }

    /// Writes a batch: all of it, or nothing.
    pub fn commit(&self, batch: Batch, class: Class) -> Result<Commit, Error> {
        self.inner.commit(batch.into(), class)
    }

    /// Everything as it is now, to be read at leisure.
    pub fn view(&self) -> Result<View, Error> {
        View::open(&self.inner)
    }

    /// Runs `body`, which reads and writes through the transaction, and writes it all at once if nothing that it read has
    /// changed; runs it anew, up to 1,000 times, where something has. `body` has no effects of its own until this returns.
    pub fn transact<T, E: From<Error>>(
        &self,
        class: Class,
        body: impl FnMut(&mut Transaction) -> Result<T, E>,
    ) -> Result<(T, Commit), E> {
        self.inner.transact(class, body)
    }

    /// Number of the newest transaction.
    pub fn version(&self) -> Result<u64, Error> {
        self.inner.catch_up()?;
        Ok(self.inner.index.visible())
    }

    /// Changes of all namespaces after version `after`, whole transactions in order, about `limit`; and the version to go on
    /// after. For what is derived from the store, such as a search: it sees everything, whoever asks.
    pub fn changes_since(&self, after: u64, limit: usize) -> Result<(Vec<Change>, u64), Error> {
        self.inner.catch_up()?;
        if self.inner.index.visible() <= after {
            return Ok((Vec::new(), after));
        }
        self.inner.changes_in_log(after, limit.max(1), |_| true)
    }

    /// Every change of all namespaces after version `after`. For Quorate itself: nobody's access is asked.
    pub fn watch_all(&self, after: u64) -> Watch {
        Watch::new(Arc::clone(&self.inner), None, after)
    }

    /// Returns when everything acknowledged, relaxed too, survives a power cut.
    pub fn flush(&self) -> Result<(), Error> {
        self.inner.running()?;
        self.inner.flush()
    }

    /// Removes what has expired, so that watchers see it go; answers how many keys. Readers never see what has expired,
    /// swept or not.
    pub fn sweep(&self) -> Result<usize, Error> {
        self.inner.sweep()
    }

    /// What is there, in numbers.
    pub fn stats(&self) -> Result<Stats, Error> {
        self.inner.catch_up()?;
        Ok(self.inner.stats())
    }
}

impl Inner {
    pub(crate) fn sweep(&self) -> Result<usize, Error> {
        let mut removed = 0;
        loop {
            self.catch_up()?;
            let ops: Vec<JobOp> = {
                let tail = self.tail();
                let now = self.options.clock.now().max(tail.ledger.time).0;
                let due = tail.ledger.expiring.iter().flat_map(|(id, set)| {
                    set.iter().take_while(move |(at, _)| *at <= now).map(move |(_, key)| (*id, key.clone()))
                });
                let due = due.take(SWEEP_MAX).filter_map(|(id, key)| {
                    Some(JobOp { space: self.index.space_by_id(id)?, key, action: Action::Expire })
                });
                due.collect()
            };
            let found = ops.len();
            if found == 0 {
                return Ok(removed);
            }
            let commit = self.commit(Job { ops, ..Job::default() }, Class::Durable)?;
            removed += commit.changed;
            if found < SWEEP_MAX || commit.changed == 0 {
                return Ok(removed);
            }
        }
    }
}
