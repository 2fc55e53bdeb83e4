//! One question, a frozen electorate, one vote each.
//!
//! This is voting, not consensus: two ballots about two changes may both pass, and their order comes from a log.
//! Thresholds are absolute counts over the electorate, never over the votes that happened to come in.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::quorum::Quorum;

/// A voter's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Choice {
    Pass,
    /// With reservations, or with something that could not be established.
    Partial,
    Fail,
}

/// The electorate's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    Pass,
    Partial,
    Fail,
    /// A tool, or a vote, was missing, or too few agreed: nothing is decided either way.
    Inconclusive,
}

/// A vote that cannot be counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CastError<V> {
    #[error("the voter is not in the electorate")]
    Unknown(V),
    /// The first vote stays counted. Both, signed, prove the fault to anybody.
    #[error("the voter has voted {first:?} before and now votes {second:?}")]
    Equivocation { voter: V, first: Choice, second: Choice },
}

/// What casting a vote did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cast {
    Counted,
    /// The same vote again: a retransmission, not a fault.
    Duplicate,
}

/// How the votes stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub pass: u32,
    pub partial: u32,
    pub fail: u32,
    /// Of the partial votes, those that say that something could not be established.
    pub inconclusive: u32,
    pub missing: u32,
}

/// A ballot being counted.
#[derive(Debug, Clone)]
pub struct Ballot<V> {
    electorate: BTreeSet<V>,
    quorum: Quorum,
    votes: BTreeMap<V, (Choice, bool)>,
}

impl<V: Ord + Clone> Ballot<V> {
    /// A ballot over this electorate, which has as many members as the quorum counts on.
    pub fn new(electorate: BTreeSet<V>, quorum: Quorum) -> Self {
        debug_assert_eq!(electorate.len(), quorum.n() as usize);
        Self { electorate, quorum, votes: BTreeMap::new() }
    }

    /// Counts a vote; `inconclusive` says that the voter lacked something to make up its mind.
    pub fn cast(&mut self, voter: V, choice: Choice, inconclusive: bool) -> Result<Cast, CastError<V>> {
        if !self.electorate.contains(&voter) {
            return Err(CastError::Unknown(voter));
        }
        match self.votes.get(&voter) {
            Some((first, doubt)) if *first == choice && *doubt == inconclusive => Ok(Cast::Duplicate),
            Some((first, _)) => Err(CastError::Equivocation { voter, first: *first, second: choice }),
            None => {
                self.votes.insert(voter, (choice, inconclusive));
                Ok(Cast::Counted)
            }
        }
    }

    pub fn tally(&self) -> Tally {
        let mut tally = Tally { missing: self.quorum.n(), ..Tally::default() };
        for (choice, inconclusive) in self.votes.values() {
            tally.missing = tally.missing.saturating_sub(1);
            match choice {
                Choice::Pass => tally.pass += 1,
                Choice::Partial => tally.partial += 1,
                Choice::Fail => tally.fail += 1,
            }
            tally.inconclusive += u32::from(*inconclusive);
        }
        tally
    }

    /// PASS or FAIL as soon as no further vote can change it.
    pub fn decision(&self) -> Option<Verdict> {
        let tally = self.tally();
        if tally.pass >= self.quorum.agree() {
            Some(Verdict::Pass)
        } else if tally.fail >= self.quorum.agree() {
            Some(Verdict::Fail)
        } else {
            None
        }
    }

    /// The verdict when no more votes will come.
    pub fn close(&self) -> Verdict {
        let tally = self.tally();
        match self.decision() {
            Some(verdict) => verdict,
            None if tally.inconclusive > 0 || tally.missing > 0 => Verdict::Inconclusive,
            None if tally.pass + tally.partial >= self.quorum.agree() => Verdict::Partial,
            None => Verdict::Inconclusive,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ballot(n: u32, f: u32) -> Ballot<u32> {
        Ballot::new((0..n).collect(), Quorum::new(n, f, None).unwrap())
    }

    fn with(votes: &[(Choice, bool)]) -> Verdict {
        let mut ballot = ballot(5, 1);
        for (voter, (choice, inconclusive)) in (0..).zip(votes) {
            ballot.cast(voter, *choice, *inconclusive).unwrap();
        }
        ballot.close()
    }

    const PASS: (Choice, bool) = (Choice::Pass, false);
    const FAIL: (Choice, bool) = (Choice::Fail, false);
    const RESERVED: (Choice, bool) = (Choice::Partial, false);
    const UNKNOWN: (Choice, bool) = (Choice::Partial, true);

    #[test]
    fn votes_decide_by_absolute_counts() {
        assert_eq!(with(&[PASS; 5]), Verdict::Pass);
        assert_eq!(with(&[PASS, PASS, PASS, PASS, FAIL]), Verdict::Pass);
        assert_eq!(with(&[PASS, PASS, PASS]), Verdict::Inconclusive);
        assert_eq!(with(&[PASS, PASS, PASS, PASS]), Verdict::Pass);
        assert_eq!(with(&[FAIL, FAIL, FAIL, FAIL, PASS]), Verdict::Fail);
        assert_eq!(with(&[PASS, PASS, FAIL, FAIL, FAIL]), Verdict::Inconclusive);
        assert_eq!(with(&[PASS, PASS, PASS, RESERVED, RESERVED]), Verdict::Partial);
        assert_eq!(with(&[PASS, PASS, PASS, UNKNOWN, RESERVED]), Verdict::Inconclusive);
        assert_eq!(with(&[]), Verdict::Inconclusive);
    }

    #[test]
    fn a_second_different_vote_is_proof_and_a_repetition_is_not() {
        let mut ballot = ballot(4, 1);
        assert_eq!(ballot.cast(0, Choice::Pass, false), Ok(Cast::Counted));
        assert_eq!(ballot.cast(0, Choice::Pass, false), Ok(Cast::Duplicate));
        let equivocation = CastError::Equivocation { voter: 0, first: Choice::Pass, second: Choice::Fail };
        assert_eq!(ballot.cast(0, Choice::Fail, false), Err(equivocation));
        assert_eq!(ballot.cast(9, Choice::Pass, false), Err(CastError::Unknown(9)));
        assert_eq!(ballot.tally(), Tally { pass: 1, missing: 3, ..Tally::default() });
    }

    fn choice() -> impl Strategy<Value = Choice> {
        prop_oneof![Just(Choice::Pass), Just(Choice::Partial), Just(Choice::Fail)]
    }

    proptest! {
        #[test]
        fn the_order_of_votes_does_not_matter(votes in prop::collection::vec((choice(), any::<bool>()), 7), seed in any::<u64>()) {
            let mut forward = ballot(7, 2);
            let mut shuffled = ballot(7, 2);
            let mut order: Vec<usize> = (0..7).collect();
            order.sort_by_key(|i| (*i as u64 + 1).wrapping_mul(seed | 1));
            for (i, (choice, doubt)) in votes.iter().enumerate() {
                forward.cast(u32::try_from(i).unwrap(), *choice, *doubt).unwrap();
            }
            for i in order {
                shuffled.cast(u32::try_from(i).unwrap(), votes[i].0, votes[i].1).unwrap();
            }
            prop_assert_eq!(forward.close(), shuffled.close());
        }

        #[test]
        fn a_decision_once_reached_never_changes(n in 1_u32..12, votes in prop::collection::vec(choice(), 12)) {
            let mut ballot = ballot(n, (n - 1) / 3);
            let mut decided = None;
            for voter in 0..n {
                ballot.cast(voter, votes[voter as usize], false).unwrap();
                if decided.is_some() {
                    prop_assert_eq!(ballot.decision(), decided);
                }
                decided = ballot.decision();
            }
            if let Some(verdict) = decided {
                prop_assert_eq!(ballot.close(), verdict);
            }
        }
    }
}
