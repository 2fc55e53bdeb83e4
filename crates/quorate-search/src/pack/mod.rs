//! Choosing what of many entries goes into a bounded number of tokens.
//!
//! [`pack`] takes entries greedily by what each adds per token. What an entry adds is its relevance, raised by recency,
//! and lowered by the share of its text that entries taken before it already say; that share is measured over runs of
//! three words, against all taken entries together. So it is maximal marginal relevance (J. Carbonell, J. Goldstein,
//! SIGIR 1998) with coverage in place of pairwise similarity: an entry that repeats half of one and half of another
//! adds nothing either. Long entries are cut where a line or a sentence ends, with a mark that says so.
//!
//! The answer counts its tokens and those of everything it was offered, so that the saving is measured.

mod cut;
mod shingles;
mod tokens;

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashSet};

use self::cut::cut;
use self::shingles::Shingles;
pub use self::tokens::{ApproximateTokens, CountTokens};
use crate::Error;

/// Most candidates of one selection.
pub const CANDIDATES_MAX: usize = 100_000;

/// An entry that may be packed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate<'a> {
    /// The caller's id; no two candidates have the same.
    pub id: u64,
    /// What would be included.
    pub text: &'a str,
    /// How relevant the entry is: finite and at least 0, such as [`crate::Hit::score`]. Only ratios count. At 0, the
    /// entry is left out.
    pub relevance: f32,
    /// How recent it is, from 0 (old) to 1 (new); `None` counts as 0.
    pub recency: Option<f32>,
}

/// How entries are chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Most tokens that all included entries have together, with their overhead.
    pub budget: usize,
    /// Tokens that the caller's framing adds to each included entry, such as a heading and a line's end. Default 0.
    pub overhead: usize,
    /// How much of an entry's worth is lost where it repeats what is included: from 0 (none) to 1 (all). Default 1.
    pub repetition_penalty: f32,
    /// The share of an entry that may be repetition, from 0 to 1, before the entry is left out as a near-duplicate.
    /// Default 0.8.
    pub duplicate_share: f32,
    /// How much the newest entry's relevance is raised over that of the oldest: 0.5 makes it half as much again.
    /// Finite and at least 0. Default 0.25.
    pub recency_weight: f32,
    /// Whether entries may be cut. Default: yes, see [`Cut`].
    pub cut: Option<Cut>,
}

impl Options {
    /// The defaults, for a budget of tokens.
    #[must_use]
    pub fn with_budget(budget: usize) -> Self {
        Self {
            budget,
            overhead: 0,
            repetition_penalty: 1.0,
            duplicate_share: 0.8,
            recency_weight: 0.25,
            cut: Some(Cut::default()),
        }
    }

    fn check(&self) -> Result<(), Error> {
        let share = |value: f32| (0.0..=1.0).contains(&value);
        let weight = |value: f32| value.is_finite() && value >= 0.0;
        let entry_share = self.cut.as_ref().map_or(1.0, |cut| cut.entry_share);
        for (what, value, good) in [
            ("repetition_penalty", self.repetition_penalty, share(self.repetition_penalty)),
            ("duplicate_share", self.duplicate_share, share(self.duplicate_share)),
            ("recency_weight", self.recency_weight, weight(self.recency_weight)),
            ("entry_share", entry_share, share(entry_share)),
        ] {
            if !good {
                return Err(Error::PackOption { what, value });
            }
        }
        Ok(())
    }
}

/// How long entries are cut.
#[derive(Debug, Clone, PartialEq)]
pub struct Cut {
    /// The largest share of the budget, from 0 to 1, that one entry may take; a longer one is cut to it. Default 0.5:
    /// one long entry leaves room for others.
    pub entry_share: f32,
    /// The fewest tokens, mark included, worth cutting an entry to. Default 32.
    pub tokens_min: usize,
    /// What stands where the rest was. Default `\n[… cut]`.
    pub mark: String,
}

impl Default for Cut {
    fn default() -> Self {
        Self { entry_share: 0.5, tokens_min: 32, mark: "\n[… cut]".into() }
    }
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    /// What is included, most relevant first.
    pub included: Vec<Included>,
    /// What is not, in the order it was offered.
    pub left_out: Vec<LeftOut>,
    /// The tokens of what is included, with overhead. Never more than the budget.
    pub tokens: usize,
    /// The tokens that all candidates have, uncut, with overhead: what including everything would have used.
    pub tokens_of_all: usize,
}

/// An entry that goes in.
#[derive(Debug, Clone, PartialEq)]
pub struct Included {
    /// The candidate's id.
    pub id: u64,
    /// Its text, or the beginning of that with the mark behind it.
    pub text: String,
    /// The tokens of this text, without overhead.
    pub tokens: usize,
    /// Whether the text was cut.
    pub cut: bool,
}

/// An entry that stays out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut {
    /// The candidate's id.
    pub id: u64,
    /// The tokens of its text, without overhead.
    pub tokens: usize,
    /// Why.
    pub reason: Reason,
}

/// Why an entry stays out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Not enough tokens were left when its turn came.
    NoRoom,
    /// Nearly all of it is said by what is included.
    Repeats,
    /// Its relevance is 0 or its text blank.
    NothingToAdd,
}

/// Chooses entries. The same candidates and options give the same answer, and their order does not matter.
pub fn pack(
    candidates: &[Candidate<'_>],
    options: &Options,
    count: &impl CountTokens,
) -> Result<Packed, Error> {
    check(candidates, options)?;
    let mut tokens_of_all = 0_usize;
    let mut reasons = vec![Reason::NothingToAdd; candidates.len()];
    let mut sizes = Vec::with_capacity(candidates.len());
    let mut queue = BinaryHeap::new();
    for (at, candidate) in candidates.iter().enumerate() {
        let whole = count.tokens(candidate.text);
        sizes.push(whole);
        tokens_of_all = tokens_of_all.saturating_add(whole).saturating_add(options.overhead);
        let worth = worth(candidate, options);
        if worth > 0.0 && !candidate.text.trim().is_empty() {
            queue.push(Turn::new(at, candidate, whole, worth, options, count));
        }
    }
    let mut chosen = Chosen { included: Vec::new(), said: HashSet::new(), room: options.budget };
    let mut too_large = Vec::new();
    while let Some(mut turn) = queue.pop() {
        let repeated = turn.shingles.share_in(&chosen.said);
        let density = turn.density_without(repeated, options);
        // What is included only grows, so what an entry adds only shrinks: no entry below can have overtaken this one.
        if density < turn.density {
            turn.density = density;
            if queue.peek().is_some_and(|next| *next > turn) {
                queue.push(turn);
                continue;
            }
        }
        if density <= 0.0 || repeated > options.duplicate_share {
            reasons[turn.at] = Reason::Repeats;
        } else if turn.tokens.saturating_add(options.overhead) <= chosen.room {
            chosen.take(turn, options);
        } else {
            reasons[turn.at] = Reason::NoRoom;
            too_large.push(turn);
        }
    }
    if let Some(rule) = &options.cut {
        fill(&mut chosen, too_large, candidates, rule, options, count);
    }
    Ok(chosen.finish(candidates, &sizes, &reasons, options, tokens_of_all))
}

/// Cuts entries for which there was no room to what is left, best first.
fn fill(
    chosen: &mut Chosen,
    too_large: Vec<Turn>,
    candidates: &[Candidate<'_>],
    rule: &Cut,
    options: &Options,
    count: &impl CountTokens,
) {
    for mut turn in too_large {
        let room = chosen.room.saturating_sub(options.overhead);
        if room < rule.tokens_min {
            return;
        }
        if turn.shingles.share_in(&chosen.said) > options.duplicate_share {
            continue;
        }
        if let Some((text, tokens)) = cut(candidates[turn.at].text, room, &rule.mark, count)
            && tokens >= rule.tokens_min
        {
            (turn.text, turn.tokens, turn.cut) = (text, tokens, true);
            chosen.take(turn, options);
        }
    }
}

/// A candidate that waits for its turn.
#[derive(Debug)]
struct Turn {
    at: usize,
    id: u64,
    text: String,
    tokens: usize,
    cut: bool,
    worth: f64,
    density: f64,
    shingles: Shingles,
}

impl Turn {
    fn new(
        at: usize,
        candidate: &Candidate<'_>,
        whole: usize,
        worth: f64,
        options: &Options,
        count: &impl CountTokens,
    ) -> Self {
        let shortened = options.cut.as_ref().and_then(|rule| {
            let most = (options.budget as f64 * f64::from(rule.entry_share)) as usize;
            let most = most.max(rule.tokens_min);
            (whole > most).then(|| cut(candidate.text, most, &rule.mark, count)).flatten()
        });
        let (text, tokens, cut) = match shortened {
            Some((text, tokens)) => (text, tokens, true),
            None => (candidate.text.to_owned(), whole, false),
        };
        let shingles = Shingles::of(&text);
        let mut turn = Self { at, id: candidate.id, text, tokens, cut, worth, density: 0.0, shingles };
        turn.density = turn.density_without(0.0, options);
        turn
    }

    /// What the entry adds for a token, when a share of it is repetition.
    fn density_without(&self, repeated: f32, options: &Options) -> f64 {
        let cost = self.tokens.saturating_add(options.overhead).max(1);
        self.worth * f64::from(1.0 - options.repetition_penalty * repeated) / cost as f64
    }
}

impl Ord for Turn {
    /// The greatest has its turn first; equal ones by id, the lower before.
    fn cmp(&self, other: &Self) -> Ordering {
        self.density.total_cmp(&other.density).then(other.id.cmp(&self.id))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Turn {}

struct Chosen {
    included: Vec<(f64, usize, Included)>,
    said: HashSet<u64>,
    room: usize,
}

impl Chosen {
    fn take(&mut self, turn: Turn, options: &Options) {
        self.room = self.room.saturating_sub(turn.tokens.saturating_add(options.overhead));
        turn.shingles.add_to(&mut self.said);
        let entry = Included { id: turn.id, text: turn.text, tokens: turn.tokens, cut: turn.cut };
        self.included.push((turn.worth, turn.at, entry));
    }

    fn finish(
        mut self,
        candidates: &[Candidate<'_>],
        sizes: &[usize],
        reasons: &[Reason],
        options: &Options,
        tokens_of_all: usize,
    ) -> Packed {
        self.included.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.2.id.cmp(&b.2.id)));
        let taken: HashSet<usize> = self.included.iter().map(|&(_, at, _)| at).collect();
        let left_out = (0..candidates.len())
            .filter(|at| !taken.contains(at))
            .map(|at| LeftOut { id: candidates[at].id, tokens: sizes[at], reason: reasons[at] })
            .collect();
        let included = self.included.into_iter().map(|(_, _, entry)| entry).collect();
        Packed { included, left_out, tokens: options.budget - self.room, tokens_of_all }
    }
}

fn worth(candidate: &Candidate<'_>, options: &Options) -> f64 {
    let recency = f64::from(candidate.recency.unwrap_or(0.0));
    f64::from(candidate.relevance) * (1.0 + f64::from(options.recency_weight) * recency)
}

fn check(candidates: &[Candidate<'_>], options: &Options) -> Result<(), Error> {
    options.check()?;
    if candidates.len() > CANDIDATES_MAX {
        let (what, value, max) = ("candidates", candidates.len(), CANDIDATES_MAX);
        return Err(Error::AboveBound { what, value, max });
    }
    let mut ids = HashSet::with_capacity(candidates.len());
    for &Candidate { id, relevance, recency, .. } in candidates {
        if !ids.insert(id) {
            return Err(Error::CandidateTwice(id));
        }
        if !(relevance.is_finite() && relevance >= 0.0) {
            return Err(Error::Candidate { id, what: "relevance", value: relevance });
        }
        if let Some(recency) = recency
            && !(0.0..=1.0).contains(&recency)
        {
            return Err(Error::Candidate { id, what: "recency", value: recency });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
