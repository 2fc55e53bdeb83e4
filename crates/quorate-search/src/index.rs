use std::collections::{BTreeMap, HashMap};

use crate::text::{Restriction, TextIndex};
use crate::vector::{Space, Unit};
use crate::{Document, Error, Hit, Namespaces, Options, Query, fusion};

/// Entries and the means to find them, in memory.
///
/// Threads: the text engine keeps one that takes documents in, and starts others for a short while to merge segments.
/// An index is moved between threads freely and used by one at a time.
#[derive(Debug)]
pub struct Index {
    options: Options,
    text: TextIndex,
    entries: HashMap<u64, Entry>,
    spaces: BTreeMap<String, Space>,
    broken: bool,
}

#[derive(Debug)]
struct Entry {
    namespace: String,
    tags: Vec<String>,
    has_vector: bool,
}

impl Index {
    /// An empty index. Fails only if the text engine cannot start its thread.
    pub fn new(options: Options) -> Result<Self, Error> {
        let text = TextIndex::new(options.text_buffer_bytes)?;
        Ok(Self { options, text, entries: HashMap::new(), spaces: BTreeMap::new(), broken: false })
    }

    /// Takes in a document, in place of any with the same id. The next search sees it. On an error that blames the
    /// document, the one it would replace stays.
    ///
    /// This is cheap: the work of indexing text is done by the engine's thread, and becomes visible in one step with
    /// the next search. So many upserts between two searches cost far less each than an upsert before every search.
    pub fn upsert(&mut self, document: Document) -> Result<(), Error> {
        self.whole()?;
        document.check()?;
        let unit = document.vector.as_deref().map(Unit::new).transpose()?;
        let before = self.entries.get(&document.id);
        if let (Some(unit), Some(space)) = (&unit, self.spaces.get(&document.namespace)) {
            let replaces_last = space.len() == 1
                && before.is_some_and(|entry| entry.has_vector && entry.namespace == document.namespace);
            if !replaces_last {
                unit.expect_dimension(space.dimension())?;
            }
        }
        let replaces = before.is_some();
        self.forget(document.id);
        self.guard(|index| index.text.upsert(&document, replaces))?;
        if let Some(unit) = &unit {
            self.spaces
                .entry(document.namespace.clone())
                .or_insert_with(|| Space::new(unit.dimension()))
                .upsert(document.id, unit);
        }
        let entry = Entry { namespace: document.namespace, tags: document.tags, has_vector: unit.is_some() };
        self.entries.insert(document.id, entry);
        Ok(())
    }

    /// Removes the document with this id; whether there was one.
    pub fn remove(&mut self, id: u64) -> Result<bool, Error> {
        self.whole()?;
        if !self.forget(id) {
            return Ok(false);
        }
        self.guard(|index| index.text.remove(id))?;
        Ok(true)
    }

    /// The best hits for a query, best first.
    ///
    /// Needs `&mut` because it makes earlier writes visible. Text: all that match are considered. Vectors: exact up to
    /// [`Options::exact_max`] vectors a namespace, above that nearly all of the nearest. Both: the merged ranks of
    /// the best [`Options::hybrid_pool`] of each list (or as many as the page reaches down, if that is more).
    pub fn search(&mut self, query: &Query) -> Result<Vec<Hit>, Error> {
        self.whole()?;
        query.check()?;
        let parsed = self.text.parse(&query.text, query.words)?;
        let unit = query.vector.as_deref().map(Unit::new).transpose()?;
        if parsed.is_none() && unit.is_none() {
            return Err(Error::EmptyQuery);
        }
        let text_counts = parsed.is_some() && query.weights.text > 0.0;
        let vector_counts = unit.is_some() && query.weights.vector > 0.0;
        if !text_counts && !vector_counts {
            return Err(Error::EmptyQuery);
        }
        if let Some(unit) = &unit {
            self.expect_dimension(unit, &query.namespaces)?;
        }
        self.guard(|index| index.text.refresh())?;
        if query.limit == 0 {
            return Ok(Vec::new());
        }
        let depth = query.offset + query.limit;
        match (parsed, unit.filter(|_| vector_counts)) {
            (Some(parsed), None) => {
                let found = self.text.search(&parsed, query, query.limit, query.offset)?;
                Ok(fusion::merge(&found, &[], query.weights, query.offset + 1))
            }
            (None, Some(unit)) => {
                let nearest = self.nearest(&unit, query, depth, &Restriction::default());
                let page = nearest.get(query.offset..).unwrap_or_default();
                Ok(fusion::merge(&[], page, query.weights, query.offset + 1))
            }
            (Some(parsed), Some(unit)) => {
                let pool = depth.max(self.options.hybrid_pool);
                let found = if text_counts { self.text.search(&parsed, query, pool, 0)? } else { Vec::new() };
                let restriction = self.text.restriction(&parsed)?;
                let nearest = self.nearest(&unit, query, pool, &restriction);
                let hits = fusion::merge(&found, &nearest, query.weights, 1);
                Ok(hits.into_iter().skip(query.offset).take(query.limit).collect())
            }
            (None, None) => Err(Error::EmptyQuery),
        }
    }

    /// Moves all vectors that wait for it into the graphs, and builds graphs anew in which many are dead. It uses every
    /// core, for about a millisecond or more a vector, so it is for a quiet moment; without it, searches do the same
    /// piecemeal.
    pub fn settle(&mut self) {
        for space in self.spaces.values_mut() {
            space.settle(self.options.exact_max);
        }
    }

    /// How many documents there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether there is a document with this id.
    #[must_use]
    pub fn contains(&self, id: u64) -> bool {
        self.entries.contains_key(&id)
    }

    /// About how many bytes the index holds: the text that searches have made visible, the vectors, an estimate for
    /// graphs and names. Not counted is text that waits for the next search, at most [`Options::text_buffer_bytes`].
    #[must_use]
    pub fn memory_estimate(&self) -> usize {
        const ENTRY: usize = 128;
        let names: usize = self
            .entries
            .values()
            .map(|entry| ENTRY + entry.namespace.len() + entry.tags.iter().map(String::len).sum::<usize>())
            .sum();
        names + self.text.memory() + self.spaces.values().map(Space::memory).sum::<usize>()
    }

    fn nearest(&mut self, unit: &Unit, query: &Query, count: usize, text: &Restriction) -> Vec<(u64, f32)> {
        let entries = &self.entries;
        let accept = |id: u64| {
            text.admits(id)
                && entries.get(&id).is_some_and(|entry| query.tags.iter().all(|tag| entry.tags.contains(tag)))
        };
        let mut found = Vec::new();
        for (_, space) in self
            .spaces
            .iter_mut()
            .filter(|(name, space)| query.namespaces.admit(name) && space.dimension() == unit.dimension())
        {
            found.extend(space.search(unit, count, &self.options, &accept));
        }
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(count);
        found
    }

    fn expect_dimension(&self, unit: &Unit, namespaces: &Namespaces) -> Result<(), Error> {
        let mut other = None;
        for (_, space) in self.spaces.iter().filter(|(name, _)| namespaces.admit(name)) {
            if space.dimension() != unit.dimension() {
                other = Some(space.dimension());
            } else if *namespaces == Namespaces::All {
                return Ok(());
            }
        }
        other.map_or(Ok(()), |expected| unit.expect_dimension(expected))
    }

    /// Forgets all but the text.
    fn forget(&mut self, id: u64) -> bool {
        let Some(entry) = self.entries.remove(&id) else { return false };
        if entry.has_vector
            && let Some(space) = self.spaces.get_mut(&entry.namespace)
        {
            space.remove(id);
            if space.len() == 0 {
                self.spaces.remove(&entry.namespace);
            }
        }
        true
    }

    fn whole(&self) -> Result<(), Error> {
        if self.broken { Err(Error::Broken) } else { Ok(()) }
    }

    /// After a failed write nobody knows what the engine holds, so nothing more is answered.
    fn guard(&mut self, write: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        let result = write(self);
        self.broken = result.is_err();
        result
    }
}
