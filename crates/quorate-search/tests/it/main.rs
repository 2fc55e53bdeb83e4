//! What an index promises, seen from outside.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod hybrid;
mod model;
mod text;
mod vectors;

use quorate_search::{Document, Hit, Index, Options, Query};

fn document(id: u64, namespace: &str, key: &str, text: &str) -> Document {
    Document { id, namespace: namespace.into(), key: key.into(), text: text.into(), ..Document::default() }
}

fn index(documents: impl IntoIterator<Item = Document>) -> Index {
    index_with(Options::default(), documents)
}

fn index_with(options: Options, documents: impl IntoIterator<Item = Document>) -> Index {
    let mut index = Index::new(options).unwrap();
    for document in documents {
        index.upsert(document).unwrap();
    }
    index
}

fn ids(hits: &[Hit]) -> Vec<u64> {
    hits.iter().map(|hit| hit.id).collect()
}

fn sorted(index: &mut Index, query: &Query) -> Vec<u64> {
    let mut ids = ids(&index.search(query).unwrap());
    ids.sort_unstable();
    ids
}

/// SplitMix64: numbers that look random and are the same in every run.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From -1 to 1.
    fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    fn vector(&mut self, dimension: usize) -> Vec<f32> {
        (0..dimension).map(|_| self.signed()).collect()
    }
}
