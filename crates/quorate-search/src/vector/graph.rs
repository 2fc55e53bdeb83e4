//! A graph over vectors that finds most of the nearest without looking at all: Y. A. Malkov and D. A. Yashunin,
//! "Efficient and robust approximate nearest neighbor search using hierarchical navigable small world graphs",
//! 2018; by `hnsw_rs`.
//!
//! The graph never forgets a node. One whose entry has gone or has another vector by now is dead: still a step on the
//! way, but no result.

use std::collections::HashMap;
use std::fmt;

use anndists::dist::Distance;
use hnsw_rs::prelude::Hnsw;

use super::unit::cosine;

/// Links of a node in each layer. More cost memory and time to build, and find more.
const LINKS: usize = 16;
const LAYERS: usize = 16;
/// How many nodes are considered as neighbours of a new one.
const BREADTH_BUILD: usize = 120;
/// How many nodes a search keeps in view, at least.
const BREADTH_SEARCH: usize = 96;
/// A rough size of a node's links with their allocations, in bytes.
const NODE_BYTES: usize = 2500;

pub(super) struct Graph {
    links: Hnsw<'static, f32, Angle>,
    dimension: usize,
    /// The entry of each node, `None` for dead ones.
    entries: Vec<Option<u64>>,
    nodes: HashMap<u64, usize>,
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("nodes", &self.entries.len())
            .field("live", &self.nodes.len())
            .finish_non_exhaustive()
    }
}

impl Graph {
    pub(super) fn new(dimension: usize, expected: usize) -> Self {
        let links = Hnsw::new(LINKS, expected.max(1), LAYERS, BREADTH_BUILD, Angle);
        Self { links, dimension, entries: Vec::new(), nodes: HashMap::new() }
    }

    pub(super) fn insert(&mut self, vectors: &[(u64, &[f32])]) {
        let mut batch = Vec::with_capacity(vectors.len());
        for &(id, vector) in vectors {
            let node = self.entries.len();
            self.entries.push(Some(id));
            self.nodes.insert(id, node);
            batch.push((vector, node));
        }
        self.links.parallel_insert_slice(&batch);
    }

    /// Whether the entry was in the graph.
    pub(super) fn kill(&mut self, id: u64) -> bool {
        let Some(node) = self.nodes.remove(&id) else { return false };
        if let Some(entry) = self.entries.get_mut(node) {
            *entry = None;
        }
        true
    }

    pub(super) fn dead(&self) -> usize {
        self.entries.len() - self.nodes.len()
    }

    pub(super) fn live(&self) -> usize {
        self.nodes.len()
    }

    /// Live entries among about `count` nearest nodes.
    pub(super) fn search(&self, vector: &[f32], count: usize) -> Vec<u64> {
        let found = self.links.search(vector, count, BREADTH_SEARCH.max(count + count / 2));
        found.iter().filter_map(|neighbour| self.entries.get(neighbour.d_id).copied().flatten()).collect()
    }

    pub(super) fn memory(&self) -> usize {
        self.entries.len() * (NODE_BYTES + self.dimension * size_of::<f32>())
    }
}

/// One minus the cosine: at least 0, which the graph insists on, and never NaN for vectors of length one.
#[derive(Debug, Clone, Copy, Default)]
struct Angle;

impl Distance<f32> for Angle {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        1.0 - cosine(a, b)
    }
}
