//! What a figure is to be.

use crate::harness::rounds::{Claimed, Rounds};
use crate::measure::{Claim, Context};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn met(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(least) => figure >= least,
            Self::AtMost(most) => figure <= most,
        }
    }

    fn words(self, unit: &str) -> String {
        match self {
            Self::AtLeast(least) => format!("at least {least} {unit}"),
            Self::AtMost(most) => format!("at most {most} {unit}"),
        }
    }

    /// Which of two figures is the harder one to stand beside.
    fn harder(self, one: f64, other: f64) -> bool {
        match self {
            Self::AtLeast(_) => one > other,
            Self::AtMost(_) => one < other,
        }
    }
}

/// With whom something is compared, and what the ratio is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Against<'a> {
    /// Of these, the one with the best median.
    pub(crate) names: &'a [&'a str],
    /// What the claim says where none of them ran.
    pub(crate) absent: &'a str,
    pub(crate) bound: Bound,
}

impl Claim {
    /// A goal of the value.
    pub(crate) fn value_goal(self, bound: Bound) -> Self {
        let (goal, met) = (bound.words(self.unit), bound.met(self.value));
        self.goal(&goal, met)
    }

    /// A goal of the ratio, which nobody knows where the peer is not there.
    pub(crate) fn ratio_goal(self, bound: Bound) -> Self {
        let met = self.ratio.map(|ratio| bound.met(ratio));
        Self { goal: bound.words("times the peer's"), met, ..self }
    }
}

impl<T> Rounds<T> {
    /// A claim beside the best of several, or beside none where none of them ran.
    pub(crate) fn claim_against(
        &self,
        context: &Context,
        claimed: &Claimed<'_>,
        against: Against<'_>,
        of: impl Fn(&T) -> f64,
    ) -> anyhow::Result<Claim> {
        let mut best: Option<(&str, f64)> = None;
        for name in self.names().filter(|name| against.names.contains(name)) {
            let median = self.value(name, &of)?.median;
            if best.is_none_or(|(_, known)| against.bound.harder(median, known)) {
                best = Some((name, median));
            }
        }
        let claim = match best {
            Some((name, _)) => self.claim_beside(context, claimed, name, of)?,
            None => Claim { peer: against.absent.to_owned(), ..self.claim(context, claimed, of)? },
        };
        Ok(claim.ratio_goal(against.bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::rounds::{Candidate, interleave};

    #[test]
    fn the_best_of_those_that_ran_is_stood_beside_and_none_decides_nothing() {
        let context = Context { commit: String::new(), machine: String::new() };
        let candidates = [("ours", 6.0), ("slow", 2.0), ("fast", 4.0)]
            .map(|(name, rate)| Candidate::new(name, move || Ok(rate)));
        let rounds = interleave(3, candidates.into()).unwrap();
        let claimed = Claimed { id: "a", what: "b", name: "ours", unit: "/s" };
        let claim = |names, bound| {
            let against = Against { names, absent: "not built", bound };
            rounds.claim_against(&context, &claimed, against, |rate| *rate).unwrap()
        };
        let best = claim(&["slow", "fast"], Bound::AtLeast(1.5));
        assert_eq!((&*best.peer, best.ratio, best.met), ("fast", Some(1.5), Some(true)));
        assert_eq!(claim(&["slow", "fast"], Bound::AtMost(2.0)).met, Some(false));
        let none = claim(&["else"], Bound::AtLeast(1.0));
        assert_eq!((&*none.peer, none.peer_value, none.met), ("not built", None, None));
    }
}
