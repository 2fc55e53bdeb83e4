use std::collections::HashSet;

/// How many words in a row are compared. Shorter runs are alike by accident, longer ones differ by one changed word.
const RUN: usize = 3;
/// How many runs of an entry are compared.
const RUNS_MAX: usize = 8192;

/// The runs of words of a text, hashed.
#[derive(Debug)]
pub(super) struct Shingles(Vec<u64>);

impl Shingles {
    pub(super) fn of(text: &str) -> Self {
        let words: Vec<u64> = text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .take(RUNS_MAX + RUN - 1)
            .map(|word| hash(word.chars().flat_map(char::to_lowercase).map(u64::from)))
            .collect();
        let mut runs: Vec<u64> = if words.len() < RUN {
            // Too short to have a run: compared as a whole, punctuation included where there is nothing else.
            let whole =
                if words.is_empty() { hash(text.chars().map(u64::from)) } else { hash(words.into_iter()) };
            vec![whole]
        } else {
            words.windows(RUN).map(|run| hash(run.iter().copied())).collect()
        };
        runs.sort_unstable();
        runs.dedup();
        Self(runs)
    }

    /// The share, from 0 to 1, of runs that are among those said.
    pub(super) fn share_in(&self, said: &HashSet<u64>) -> f32 {
        let repeated = self.0.iter().filter(|run| said.contains(run)).count();
        repeated as f32 / self.0.len().max(1) as f32
    }

    pub(super) fn add_to(&self, said: &mut HashSet<u64>) {
        said.extend(&self.0);
    }
}

/// FNV-1a over 64-bit words: the same on every machine and in every run.
fn hash(values: impl Iterator<Item = u64>) -> u64 {
    values.fold(0xcbf2_9ce4_8422_2325, |hash, value| {
        let hash = (hash ^ value).wrapping_mul(0x0000_0100_0000_01b3);
        hash ^ (hash >> 32)
    })
}
