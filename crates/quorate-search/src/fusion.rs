//! Reciprocal rank fusion: G. V. Cormack, C. L. A. Clarke and S. Büttcher, "Reciprocal rank fusion outperforms
//! Condorcet and individual rank learning methods", SIGIR 2009. Scores of the lists are not comparable, so only ranks
//! count.

use std::collections::BTreeMap;

use crate::query::{Hit, Ranked, Weights};

/// The constant of reciprocal rank fusion: how little the first ranks tower above the next. The value is the paper's.
pub const RANK_CONSTANT: f32 = 60.0;

/// Merges two lists, each best first; `first_rank` is the rank of their first elements.
pub(crate) fn merge(
    text: &[(u64, f32)],
    vector: &[(u64, f32)],
    weights: Weights,
    first_rank: usize,
) -> Vec<Hit> {
    let mut hits = BTreeMap::new();
    for (rank, &(id, score)) in (first_rank..).zip(text) {
        let hit = hits.entry(id).or_insert_with(|| blank(id));
        hit.text = Some(Ranked { rank, score });
        hit.score += share(weights.text, rank);
    }
    for (rank, &(id, score)) in (first_rank..).zip(vector) {
        let hit = hits.entry(id).or_insert_with(|| blank(id));
        hit.vector = Some(Ranked { rank, score });
        hit.score += share(weights.vector, rank);
    }
    let mut hits: Vec<Hit> = hits.into_values().collect();
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
    hits
}

fn blank(id: u64) -> Hit {
    Hit { id, score: 0.0, text: None, vector: None }
}

fn share(weight: f32, rank: usize) -> f32 {
    weight / (RANK_CONSTANT + rank as f32)
}

#[cfg(test)]
mod tests;
