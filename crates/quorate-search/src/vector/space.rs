use std::collections::{BTreeSet, HashMap};

use super::graph::Graph;
use super::unit::{Unit, cosine};
use crate::Options;

/// The vectors of one namespace.
#[derive(Debug)]
pub(crate) struct Space {
    dimension: usize,
    /// All vectors, one after another, without gaps.
    elements: Vec<f32>,
    ids: Vec<u64>,
    rows: HashMap<u64, usize>,
    graph: Option<Graph>,
    /// What is not in the graph, while there is one.
    waiting: BTreeSet<u64>,
}

impl Space {
    pub(crate) fn new(dimension: usize) -> Self {
        Self {
            dimension,
            elements: Vec::new(),
            ids: Vec::new(),
            rows: HashMap::new(),
            graph: None,
            waiting: BTreeSet::new(),
        }
    }

    pub(crate) fn dimension(&self) -> usize {
        self.dimension
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn upsert(&mut self, id: u64, unit: &Unit) {
        debug_assert_eq!(unit.dimension(), self.dimension);
        self.remove(id);
        self.rows.insert(id, self.ids.len());
        self.ids.push(id);
        self.elements.extend_from_slice(unit.as_slice());
        if self.graph.is_some() {
            self.waiting.insert(id);
        }
    }

    pub(crate) fn remove(&mut self, id: u64) {
        let Some(row) = self.rows.remove(&id) else { return };
        let last = self.ids.len() - 1;
        self.ids.swap_remove(row);
        if row < last {
            self.elements.copy_within(last * self.dimension.., row * self.dimension);
            self.rows.insert(self.ids[row], row);
        }
        self.elements.truncate(last * self.dimension);
        if let Some(graph) = &mut self.graph
            && !graph.kill(id)
        {
            self.waiting.remove(&id);
        }
    }

    /// The `count` nearest of those accepted, nearest first, with their cosines.
    pub(crate) fn search(
        &mut self,
        unit: &Unit,
        count: usize,
        options: &Options,
        accept: &dyn Fn(u64) -> bool,
    ) -> Vec<(u64, f32)> {
        self.fold(options.exact_max, options.fold_per_search);
        let Some(graph) = &self.graph else { return self.scan(unit, count, accept) };
        // Some more than wanted: dead ones and those not accepted fall out.
        let nearest = graph.search(unit.as_slice(), count + count / 2 + 16);
        let mut found: Vec<_> = nearest
            .into_iter()
            .filter(|&id| accept(id))
            .filter_map(|id| Some((id, cosine(self.row(id)?, unit.as_slice()))))
            .collect();
        if found.len() < count.min(graph.live()) {
            return self.scan(unit, count, accept);
        }
        found.extend(
            self.waiting
                .iter()
                .filter(|&&id| accept(id))
                .filter_map(|&id| Some((id, cosine(self.row(id)?, unit.as_slice())))),
        );
        best(found, count)
    }

    /// Does all that searches would do piecemeal.
    pub(crate) fn settle(&mut self, exact_max: usize) {
        if self.graph.as_ref().is_some_and(|graph| graph.dead() > graph.live() / 4) {
            self.graph = None;
        }
        self.fold(exact_max, usize::MAX);
    }

    pub(crate) fn memory(&self) -> usize {
        const ROW: usize = 40;
        self.elements.capacity() * size_of::<f32>()
            + self.ids.len() * ROW
            + self.graph.as_ref().map_or(0, Graph::memory)
    }

    /// Moves up to `count` waiting vectors into the graph; begins one or drops it, as size and dead nodes demand.
    fn fold(&mut self, exact_max: usize, count: usize) {
        // Half, so that a namespace at the border does not begin and drop a graph in turn. More dead than living: the
        // graph leads mostly to what has gone, and a scan is better until it is built anew.
        let drop = |graph: &Graph| {
            self.ids.len() <= exact_max / 2 || graph.dead() > graph.live().saturating_add(count)
        };
        if self.graph.as_ref().is_some_and(drop) {
            self.graph = None;
            self.waiting.clear();
        }
        if self.graph.is_none() {
            if self.ids.len() <= exact_max || count == 0 {
                return;
            }
            self.graph = Some(Graph::new(self.dimension, self.ids.len()));
            self.waiting = self.ids.iter().copied().collect();
        }
        let ids: Vec<u64> = self.waiting.iter().copied().take(count).collect();
        if ids.is_empty() {
            return;
        }
        let batch: Vec<(u64, &[f32])> = ids
            .iter()
            .filter_map(|&id| Some((id, row(&self.rows, &self.elements, self.dimension, id)?)))
            .collect();
        if let Some(graph) = &mut self.graph {
            graph.insert(&batch);
        }
        for id in ids {
            self.waiting.remove(&id);
        }
    }

    /// Asks who is accepted only of those that are near enough: that takes longer than a cosine.
    fn scan(&self, unit: &Unit, count: usize, accept: &dyn Fn(u64) -> bool) -> Vec<(u64, f32)> {
        let mut found: Vec<(u64, f32)> = Vec::new();
        let mut least = f32::NEG_INFINITY;
        for (&id, row) in self.ids.iter().zip(self.elements.chunks_exact(self.dimension)) {
            let near = cosine(row, unit.as_slice());
            if near < least || !accept(id) {
                continue;
            }
            found.push((id, near));
            // Thinned out now and then, and not with each: twice as many are held as are wanted.
            if found.len() >= 2 * count.max(16) {
                found = best(found, count);
                least = found.last().map_or(least, |(_, near)| *near);
            }
        }
        best(found, count)
    }

    fn row(&self, id: u64) -> Option<&[f32]> {
        row(&self.rows, &self.elements, self.dimension, id)
    }
}

fn row<'a>(rows: &HashMap<u64, usize>, elements: &'a [f32], dimension: usize, id: u64) -> Option<&'a [f32]> {
    let row = *rows.get(&id)?;
    elements.get(row * dimension..(row + 1) * dimension)
}

fn best(mut found: Vec<(u64, f32)>, count: usize) -> Vec<(u64, f32)> {
    let order = |a: &(u64, f32), b: &(u64, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if count < found.len() {
        found.select_nth_unstable_by(count, order);
        found.truncate(count);
    }
    found.sort_unstable_by(order);
    found
}
