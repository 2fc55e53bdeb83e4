//! Candidates that take turns, so that all of them see the same machine.

use anyhow::Context as _;

use crate::measure::{Claim, Context};

/// Something to be measured: a name, and one short run that yields its figures.
pub(crate) struct Candidate<'a, T> {
    name: String,
    run: Box<dyn FnMut() -> anyhow::Result<T> + 'a>,
}

impl<'a, T> Candidate<'a, T> {
    pub(crate) fn new(name: impl Into<String>, run: impl FnMut() -> anyhow::Result<T> + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }

    /// The same under a name that says whose it is.
    pub(crate) fn of(self, whose: &str) -> Self {
        Self { name: format!("{whose} {}", self.name), ..self }
    }

    /// The same with other figures.
    pub(crate) fn map<U>(mut self, mut to: impl FnMut(T) -> U + 'a) -> Candidate<'a, U>
    where
        T: 'a,
    {
        Candidate { name: self.name, run: Box::new(move || (self.run)().map(&mut to)) }
    }
}

/// Of some candidates those that are wanted.
pub(crate) fn chosen<'a, T>(
    candidates: Vec<Candidate<'a, T>>,
    names: &[&str],
) -> impl Iterator<Item = Candidate<'a, T>> {
    candidates.into_iter().filter(|candidate| names.contains(&&*candidate.name))
}

/// What came of each candidate in each round.
#[derive(Debug)]
pub(crate) struct Rounds<T> {
    names: Vec<String>,
    /// By round, then in the order of the names.
    rounds: Vec<Vec<T>>,
}

/// The middle one of several figures, with the least and the most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// Runs every candidate once a round. Each round begins with another one, so that none always follows the same neighbour.
pub(crate) fn interleave<T>(
    rounds: usize,
    mut candidates: Vec<Candidate<'_, T>>,
) -> anyhow::Result<Rounds<T>> {
    let mut measured = Vec::with_capacity(rounds);
    let count = candidates.len();
    for round in 0..rounds {
        let mut figures: Vec<Option<T>> = (0..count).map(|_| None).collect();
        for index in (0..count).map(|step| (step + round) % count) {
            let candidate = &mut candidates[index];
            let figure = (candidate.run)().with_context(|| format!("measuring {} failed", candidate.name))?;
            figures[index] = Some(figure);
        }
        measured.push(figures.into_iter().flatten().collect());
    }
    Ok(Rounds { names: candidates.into_iter().map(|candidate| candidate.name).collect(), rounds: measured })
}

impl<T> Rounds<T> {
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// A figure of one candidate over all rounds.
    pub(crate) fn value(&self, name: &str, of: impl Fn(&T) -> f64) -> anyhow::Result<Spread> {
        let index = self.index(name)?;
        Spread::of(self.rounds.iter().map(|round| of(&round[index])).collect())
    }

    /// How many times the control's figure the candidate's is, round by round.
    pub(crate) fn ratio(&self, name: &str, control: &str, of: impl Fn(&T) -> f64) -> anyhow::Result<Spread> {
        let (index, control) = (self.index(name)?, self.index(control)?);
        Spread::of(self.rounds.iter().map(|round| of(&round[index]) / of(&round[control])).collect())
    }

    /// The candidate's figure as a claim without a peer.
    pub(crate) fn claim(
        &self,
        context: &Context,
        claimed: &Claimed<'_>,
        of: impl Fn(&T) -> f64,
    ) -> anyhow::Result<Claim> {
        let value = self.value(claimed.name, of)?;
        Ok(context.claim(claimed.id, claimed.what, value.median, claimed.unit).spread(value))
    }

    /// The candidate's figure as a claim beside the control's; its ratio is the median of the ratios of the rounds.
    pub(crate) fn claim_beside(
        &self,
        context: &Context,
        claimed: &Claimed<'_>,
        control: &str,
        of: impl Fn(&T) -> f64,
    ) -> anyhow::Result<Claim> {
        let beside = self.value(control, &of)?;
        let ratio = self.ratio(claimed.name, control, &of)?;
        let claim = self.claim(context, claimed, of)?.beside(control, beside.median).spread(ratio);
        Ok(Claim { ratio: Some(ratio.median), ..claim })
    }

    fn index(&self, name: &str) -> anyhow::Result<usize> {
        let found = self.names.iter().position(|known| known == name);
        found.with_context(|| format!("there is no candidate {name}, only {}", self.names.join(", ")))
    }
}

/// What a claim says about a candidate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claimed<'a> {
    pub(crate) id: &'a str,
    pub(crate) what: &'a str,
    /// The candidate's.
    pub(crate) name: &'a str,
    pub(crate) unit: &'static str,
}

impl Spread {
    fn of(mut figures: Vec<f64>) -> anyhow::Result<Self> {
        figures.sort_by(f64::total_cmp);
        let median = *figures.get(figures.len() / 2).context("nothing was measured")?;
        Ok(Self { median, min: figures[0], max: figures[figures.len() - 1] })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn every_round_runs_every_candidate_once_beginning_with_another() {
        let order = RefCell::new(String::new());
        let candidate = |name: &'static str| {
            let order = &order;
            Candidate::new(name, move || {
                order.borrow_mut().push_str(name);
                Ok(order.borrow().len() as f64)
            })
        };
        let rounds = interleave(3, vec![candidate("a"), candidate("b"), candidate("c")]).unwrap();
        assert_eq!(*order.borrow(), "abcbcacab");
        let value = rounds.value("a", |figure| *figure).unwrap();
        assert_eq!((value.median, value.min, value.max), (6.0, 1.0, 8.0));
    }

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        let mut fast = [2.0, 40.0, 6.0].into_iter();
        let mut slow = [1.0, 10.0, 2.0].into_iter();
        let fast = Candidate::new("fast", move || Ok(fast.next().unwrap()));
        let slow = Candidate::new("slow", move || Ok(slow.next().unwrap()));
        let rounds = interleave(3, vec![fast, slow]).unwrap();
        let ratio = rounds.ratio("fast", "slow", |figure| *figure).unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max), (3.0, 2.0, 4.0));
        assert!(rounds.ratio("fast", "absent", |figure| *figure).is_err());
    }
}
