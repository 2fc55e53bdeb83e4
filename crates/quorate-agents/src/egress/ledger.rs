//! What a process was refused, counted so that no flood of attempts fills anything.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::target::Target;

/// Different refusals that are told apart; all others are counted together.
const KINDS_MAX: usize = 64;
/// Stands for the hosts of those others.
const OTHERS: &str = "(others)";

/// Refusals of one process, shared by its proxy and whoever tells of them.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Mutex<BTreeMap<Key, Count>>>);

/// Two are the same where they are shared.
impl PartialEq for Refusals {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Refusals {}

type Key = (String, u16, Reason);

#[derive(Debug, Default)]
struct Count {
    all: u64,
    told: u64,
}

/// Attempts at one host that were refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Empty where no host was named.
    pub host: String,
    /// 0 where no host was named.
    pub port: u16,
    pub reason: Reason,
    /// Since this was last told.
    pub count: u64,
}

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The host is not on the list, or not with this port.
    NotListed,
    /// The name leads to addresses that are not public, and is not listed as local.
    NotPublic,
    /// What was said is no request for a connection.
    Malformed,
    /// The process had as many connections as it may.
    Connections,
    /// The process had sent and received as much as it may.
    Bytes,
}

impl Reason {
    fn words(self) -> &'static str {
        match self {
            Self::NotListed => "not on the list of hosts",
            Self::NotPublic => "its name leads to no public address, and it is not listed as `local:`",
            Self::Malformed => "no request that the proxy understands",
            Self::Connections => "too many connections at a time",
            Self::Bytes => "too many bytes sent and received",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl Refusals {
    pub(crate) fn note(&self, target: Option<&Target>, reason: Reason) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = match target {
            Some(target) => (target.host.to_string(), target.port, reason),
            None => (String::new(), 0, reason),
        };
        let full = counts.len() >= KINDS_MAX && !counts.contains_key(&key);
        let key = if full { (OTHERS.to_owned(), 0, reason) } else { key };
        counts.entry(key).or_default().all += 1;
    }

    /// Those of a kind that was not told yet.
    pub fn take_new(&self) -> Vec<Refused> {
        self.take(|count| count.told == 0)
    }

    /// Everything that was not told yet.
    pub fn take_all(&self) -> Vec<Refused> {
        self.take(|count| count.told < count.all)
    }

    fn take(&self, wanted: impl Fn(&Count) -> bool) -> Vec<Refused> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = counts.iter_mut().filter(|(_, count)| wanted(count));
        let tell = |((host, port, reason), count): (&Key, &mut Count)| {
            let since = count.all - count.told;
            count.told = count.all;
            Refused { host: host.clone(), port: *port, reason: *reason, count: since }
        };
        wanted.map(tell).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str) -> Target {
        Target::parse(name, Some(443)).unwrap()
    }

    #[test]
    fn each_kind_is_told_at_once_and_its_repetitions_together() {
        let refusals = Refusals::default();
        let told =
            |refused: Vec<Refused>| refused.iter().map(|r| (r.host.clone(), r.count)).collect::<Vec<_>>();
        refusals.note(Some(&target("a.b")), Reason::NotListed);
        assert_eq!(told(refusals.take_new()), [("a.b".to_owned(), 1)]);
        for _ in 0..9 {
            refusals.note(Some(&target("a.b")), Reason::NotListed);
        }
        refusals.note(None, Reason::Malformed);
        assert_eq!(told(refusals.take_new()), [(String::new(), 1)]);
        assert_eq!(told(refusals.take_all()), [("a.b".to_owned(), 9)]);
        assert_eq!(refusals.take_all(), []);
    }

    #[test]
    fn a_flood_of_different_hosts_is_bounded_and_counted() {
        let refusals = Refusals::default();
        for number in 0..10_000 {
            refusals.note(Some(&target(&format!("h{number}.example.com"))), Reason::NotListed);
        }
        let told = refusals.take_all();
        // One for each reason may come on top of the bound.
        assert_eq!(told.len(), KINDS_MAX + 1);
        assert_eq!(told.iter().map(|refused| refused.count).sum::<u64>(), 10_000);
        assert!(told.iter().any(|refused| refused.host == OTHERS));
    }
}
