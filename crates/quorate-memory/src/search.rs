//! Search over what is in the store: an index that each query first brings up to date.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use quorate_search::{Document, Index, Namespaces, Options, Query, Ranked, TEXT_BYTES_MAX};

use crate::actor::{Access, Actor};
use crate::change::Event;
use crate::entry::{Entry, NEVER};
use crate::error::Error;
use crate::inner::Inner;
use crate::key::Key;
use crate::store::Store;
use crate::tail::locked;
use crate::view::{Range, View};

/// Changes taken in at once.
const AT_ONCE: usize = 1024;

/// An entry that a search found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Name of the namespace.
    pub namespace: Arc<str>,
    /// Where it is.
    pub key: Key,
    /// What is there.
    pub entry: Arc<Entry>,
    /// Highest first; comparable within one answer.
    pub score: f32,
    /// Its place among those found by words.
    pub text: Option<Ranked>,
    /// Its place among those found by vector.
    pub vector: Option<Ranked>,
}

/// The index, and what of the store is in it.
#[derive(Debug)]
pub(crate) struct Search {
    index: Index,
    /// All transactions up to this one are in it.
    seen: u64,
    ids: HashMap<(u32, Key), (u64, u64)>,
    places: HashMap<u64, (u32, Key)>,
    expiring: BTreeSet<(u64, u64)>,
    next: u64,
}

impl Store {
    /// What `actor` may read and `query` finds, best first: of everything acknowledged before, nothing removed or expired. The
    /// first search of a process reads the whole store. Looks into 1,024 namespaces at most.
    pub fn search(&self, actor: &Actor, query: &Query) -> Result<Vec<Found>, Error> {
        let readable = self.namespaces(actor)?;
        let readable = readable.iter().map(|name| name.to_string());
        let namespaces = match &query.namespaces {
            Namespaces::All => readable.collect(),
            Namespaces::Only(names) => readable.filter(|name| names.contains(name)).collect(),
        };
        let query = Query { namespaces: Namespaces::Only(namespaces), ..query.clone() };
        let inner = &self.inner;
        let mut slot = locked(&inner.search);
        let mut search = match slot.take() {
            Some(search) => search,
            None => {
                let search = Search::build(inner)?;
                inner.feed.enter();
                search
            }
        };
        let found = search.find(inner, &query);
        match found {
            // The index may be in any state: the next search makes another.
            Err(error) if !blames_query(&error) => {
                inner.feed.leave();
                Err(error)
            }
            found => {
                *slot = Some(search);
                let hits = found?;
                let spaces = hits.into_iter().filter_map(|found| {
                    let space = inner.index.space(&found.namespace)?;
                    space.admit(actor, Access::Read).ok().map(|()| found)
                });
                Ok(spaces.collect())
            }
        }
    }
}

fn blames_query(error: &Error) -> bool {
    use quorate_search::Error as Cause;
    matches!(error, Error::Search(cause) if !matches!(**cause, Cause::Engine(_) | Cause::Broken))
}

impl Search {
    fn build(inner: &Arc<Inner>) -> Result<Self, Error> {
        let index = Index::new(Options::default())?;
        let view = View::open(inner)?;
        let mut search = Self {
            index,
            seen: view.version(),
            ids: HashMap::new(),
            places: HashMap::new(),
            expiring: BTreeSet::new(),
            next: 0,
        };
        for space in inner.index.spaces() {
            let mut range = Range::all();
            loop {
                let items = view.scan_where(&space, &range, AT_ONCE, |_| true)?;
                for item in &items {
                    search.put(space.id, &space.name, &item.key, &item.entry)?;
                }
                match items.last() {
                    Some(last) => range = Range::all().after(last.key.as_bytes()),
                    None => break,
                }
            }
        }
        Ok(search)
    }

    fn find(&mut self, inner: &Arc<Inner>, query: &Query) -> Result<Vec<Found>, Error> {
        inner.catch_up()?;
        let newest = inner.index.visible();
        while self.seen < newest {
            let (changes, until) = match inner.changes_after(self.seen, AT_ONCE, |_| true) {
                // Nobody searched for so long that the log has moved on: what is there now is read anew.
                Err(Error::Forgotten { .. }) => {
                    *self = Self::build(inner)?;
                    break;
                }
                changes => changes?,
            };
            for change in &changes {
                match &change.event {
                    Event::Put(entry) => self.put(change.space, &change.namespace, &change.key, entry)?,
                    Event::Removed(_) => self.remove(&(change.space, change.key.clone()))?,
                }
            }
            self.seen = until;
        }
        let now = inner.options.clock.now();
        while let Some(&(at, id)) = self.expiring.first() {
            if at > now.0 {
                break;
            }
            self.expiring.pop_first();
            if let Some(place) = self.places.get(&id).cloned() {
                self.remove(&place)?;
            }
        }
        let mut found = Vec::new();
        for hit in self.index.search(query)? {
            let place = self.places.get(&hit.id);
            let Some((space, key)) = place.and_then(|(id, key)| Some((inner.index.space_by_id(*id)?, key)))
            else {
                continue;
            };
            // Removed or expired since the index was brought up to date: not there.
            if let Some(entry) = space.head(key.as_bytes()).filter(|entry| entry.is_live(|| now)) {
                let (namespace, key) = (Arc::clone(&space.name), key.clone());
                found.push(Found {
                    namespace,
                    key,
                    entry,
                    score: hit.score,
                    text: hit.text,
                    vector: hit.vector,
                });
            }
        }
        Ok(found)
    }

    fn put(&mut self, space: u32, namespace: &str, key: &Key, entry: &Entry) -> Result<(), Error> {
        let place = (space, key.clone());
        let expires = entry.expires_at();
        let id = match self.ids.get_mut(&place) {
            Some((id, old)) => {
                self.expiring.remove(&(*old, *id));
                *old = expires;
                *id
            }
            None => {
                let id = self.next;
                self.next += 1;
                self.ids.insert(place.clone(), (id, expires));
                self.places.insert(id, place);
                id
            }
        };
        if expires != NEVER {
            self.expiring.insert((expires, id));
        }
        let meta = entry.meta();
        let text = std::str::from_utf8(entry.value()).unwrap_or_default();
        let text = if text.len() <= TEXT_BYTES_MAX { text } else { "" };
        let mut document = Document {
            id,
            namespace: namespace.to_owned(),
            key: String::from_utf8_lossy(key.as_bytes()).into_owned(),
            text: text.to_owned(),
            tags: meta.tags.iter().map(ToString::to_string).collect(),
            vector: meta.vector(),
        };
        if self.index.upsert(document.clone()).is_ok() {
            return Ok(());
        }
        // A vector that does not fit the others, or too many tags: found by what does fit.
        document.vector = None;
        document.tags.truncate(quorate_search::TAGS_MAX);
        document.tags.retain(|tag| tag.len() <= quorate_search::NAME_BYTES_MAX);
        Ok(self.index.upsert(document)?)
    }

    fn remove(&mut self, place: &(u32, Key)) -> Result<(), Error> {
        if let Some((id, expires)) = self.ids.remove(place) {
            self.places.remove(&id);
            self.expiring.remove(&(expires, id));
            self.index.remove(id)?;
        }
        Ok(())
    }
}
