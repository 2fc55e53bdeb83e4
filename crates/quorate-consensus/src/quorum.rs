//! How many of a group must agree for the answer to be the group's.

/// A group of `n` of which `f` may be faulty in any way, and the number of equal votes that decides.
///
/// Two quorums share more than `f` members, so two opposite decisions would need an honest member to vote twice; and
/// the honest members alone are a quorum, so `f` silent ones stop nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quorum {
    n: u32,
    f: u32,
    agree: u32,
}

/// The numbers do not make a quorum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImpossibleQuorum {
    #[error("a panel of nobody cannot decide")]
    Nobody,
    #[error("{agree} must agree, but there are only {n} validators")]
    MoreThanAll { n: u32, agree: u32 },
    #[error(
        "with {agree} of {n} and {f} faulty, two opposite decisions could both be reached: at least {least} must agree"
    )]
    Unsafe { n: u32, f: u32, agree: u32, least: u32 },
    #[error("{agree} of {n} must agree, but {f} may be silent and then only {honest} are left to agree")]
    Stuck { n: u32, f: u32, agree: u32, honest: u32 },
}

impl Quorum {
    /// Checks the numbers; where `agree` is left out it is ⌈(n+f+1)/2⌉, the least that is safe.
    pub fn new(n: u32, f: u32, agree: Option<u32>) -> Result<Self, ImpossibleQuorum> {
        if n == 0 {
            return Err(ImpossibleQuorum::Nobody);
        }
        let least = u32::try_from((u64::from(n) + u64::from(f) + 2) / 2).unwrap_or(u32::MAX);
        let agree = agree.unwrap_or(least);
        let honest = n.saturating_sub(f);
        if agree > n {
            return Err(ImpossibleQuorum::MoreThanAll { n, agree });
        }
        if agree < least {
            return Err(ImpossibleQuorum::Unsafe { n, f, agree, least });
        }
        if agree > honest {
            return Err(ImpossibleQuorum::Stuck { n, f, agree, honest });
        }
        Ok(Self { n, f, agree })
    }

    pub fn n(&self) -> u32 {
        self.n
    }

    pub fn f(&self) -> u32 {
        self.f
    }

    pub fn agree(&self) -> u32 {
        self.agree
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_with_one_faulty_need_four() {
        assert_eq!(Quorum::new(5, 1, None).map(|q| q.agree()), Ok(4));
        assert_eq!(Quorum::new(4, 1, None).map(|q| q.agree()), Ok(3));
        assert_eq!(Quorum::new(7, 2, None).map(|q| q.agree()), Ok(5));
        assert_eq!(Quorum::new(1, 0, None).map(|q| q.agree()), Ok(1));
    }

    #[test]
    fn impossible_combinations_are_refused_with_the_reason() {
        assert_eq!(Quorum::new(0, 0, None), Err(ImpossibleQuorum::Nobody));
        assert!(matches!(Quorum::new(5, 1, Some(6)), Err(ImpossibleQuorum::MoreThanAll { .. })));
        assert!(matches!(Quorum::new(5, 1, Some(3)), Err(ImpossibleQuorum::Unsafe { least: 4, .. })));
        assert!(matches!(Quorum::new(5, 1, Some(5)), Err(ImpossibleQuorum::Stuck { honest: 4, .. })));
        assert!(matches!(Quorum::new(3, 1, None), Err(ImpossibleQuorum::Stuck { .. })));
        assert!(Quorum::new(u32::MAX, u32::MAX, None).is_err());
    }

    #[test]
    fn two_quorums_always_share_an_honest_member_and_f_silent_ones_stop_nothing() {
        for n in 1..=40 {
            for f in 0..=n {
                for agree in 0..=n + 1 {
                    let accepted = Quorum::new(n, f, Some(agree)).is_ok();
                    let safe = 2 * i64::from(agree) - i64::from(n) > i64::from(f);
                    let live = agree + f <= n;
                    assert_eq!(accepted, agree <= n && safe && live, "n {n} f {f} agree {agree}");
                }
            }
        }
    }
}
