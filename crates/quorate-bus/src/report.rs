//! How the bus stands: what is published, who lags, what was lost and why.

use std::sync::atomic::Ordering;
use std::sync::{PoisonError, Weak};

use quorate_base::Timestamp;

use crate::bus::Bus;
use crate::stream;

/// Everything that can be seen of a bus at a moment. Counts only grow; rates are the difference between two reports.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    pub time: Timestamp,
    /// Bytes held by subscribers, of as many as may be.
    pub memory_bytes: u64,
    pub memory_max: u64,
    /// Messages that wait for their time.
    pub delayed: u64,
    /// By name.
    pub topics: Vec<TopicReport>,
    /// In the order in which they came.
    pub subscriptions: Vec<SubscriptionReport>,
    pub streams: Vec<stream::Info>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TopicReport {
    pub topic: String,
    pub published: u64,
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SubscriptionReport {
    pub name: String,
    pub pattern: String,
    pub group: Option<String>,
    pub received: u64,
    /// Messages that wait.
    pub depth: u64,
    /// Bytes of long payloads that wait.
    pub bytes: u64,
    pub shed: u64,
    pub refused: u64,
    pub expired: u64,
}

impl Bus {
    /// How the bus stands. Topics nobody has published to are left out, and so are answers to requests.
    pub fn report(&self) -> Report {
        let published = |entry: &std::sync::Arc<crate::router::Entry>| {
            let published = entry.published();
            let reply = entry.name.starts_with(crate::bus::REPLIES);
            (published > 0 && !reply).then(|| TopicReport { topic: entry.name.to_string(), published })
        };
        let mut topics: Vec<_> = self.core.router.entries().iter().filter_map(published).collect();
        topics.sort_by(|one, other| one.topic.cmp(&other.topic));
        let all = self.core.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        let subscriptions = all
            .iter()
            .filter_map(Weak::upgrade)
            .map(|found| {
                let counts = &found.inbox.counts;
                SubscriptionReport {
                    name: found.name.to_string(),
                    pattern: found.pattern.to_string(),
                    group: found.group.as_deref().map(str::to_owned),
                    received: counts.received.0.load(Ordering::Relaxed),
                    depth: found.inbox.depth() as u64,
                    bytes: found.inbox.bytes(),
                    shed: counts.shed.load(Ordering::Relaxed),
                    refused: counts.refused.load(Ordering::Relaxed),
                    expired: counts.expired.load(Ordering::Relaxed),
                }
            })
            .collect();
        drop(all);
        let streams = self.core.streams.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Report {
            time: self.now(),
            memory_bytes: self.core.budget.used(),
            memory_max: self.core.budget.max(),
            delayed: self.core.timer.len() as u64,
            topics,
            subscriptions,
            streams: streams.iter().map(|stream| stream.info()).collect(),
        }
    }
}
