//! What a swarm file says under `[worktree]`.

use std::fmt;
use std::ops::Range;

use quorate_base::ByteCount;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::caches::Cache;

/// The most patterns in `include`.
const PATTERNS_MAX: usize = 1_000;
/// The most ports one agent gets.
const PORTS_EACH_MAX: u16 = 1_000;

/// What each agent's worktree comes with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorktreeSpec {
    /// Where agents' ports are taken from.
    pub ports: PortRange,
    /// Ports of one agent; none where 0.
    pub ports_each: u16,
    /// Patterns of ignored files to copy in, after those of `.worktreeinclude`; the last that matches counts.
    pub include: Vec<String>,
    /// What the copied files of one worktree may hold together.
    pub include_max: ByteCount,
    /// Tools whose downloads agents share.
    pub caches: Vec<Cache>,
}

impl Default for WorktreeSpec {
    fn default() -> Self {
        Self {
            // Below the range that systems give to outgoing connections, above what services are known by.
            ports: PortRange { first: 20_000, last: 29_999 },
            ports_each: 10,
            include: Vec::new(),
            include_max: ByteCount::mib(256),
            caches: Vec::new(),
        }
    }
}

/// Ports from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

/// A text that names no range of ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no range of ports")]
pub struct InvalidRange(String);

impl TryFrom<String> for PortRange {
    type Error = InvalidRange;

    fn try_from(text: String) -> Result<Self, InvalidRange> {
        let parsed = text.split_once('-').and_then(|(first, last)| {
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (first > 0 && first <= last).then_some(Self { first, last })
        });
        parsed.ok_or(InvalidRange(text))
    }
}

/// The section as a person writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RawWorktree {
    ports: Option<Spanned<String>>,
    ports_each: Option<Spanned<u16>>,
    include: Option<Spanned<Vec<Spanned<String>>>>,
    include_max: Option<ByteCount>,
    caches: Option<Vec<Spanned<String>>>,
}

/// A mistake: where it stands, what it is, what would be right.
pub(crate) type Mistake = (Range<usize>, String, String);

/// Checks the section and fills in what it leaves out.
pub(crate) fn check(raw: &RawWorktree) -> Result<WorktreeSpec, Mistake> {
    let mut spec = WorktreeSpec::default();
    let mut span = 0..0;
    if let Some(ports) = &raw.ports {
        span = ports.span();
        spec.ports = ports.get_ref().clone().try_into().map_err(|error: InvalidRange| {
            (ports.span(), error.to_string(), "write the first and the last: \"20000-29999\"".to_owned())
        })?;
    }
    if let Some(each) = &raw.ports_each {
        span = each.span();
        spec.ports_each = *each.get_ref();
    }
    let room = u32::from(spec.ports.last - spec.ports.first) + 1;
    if spec.ports_each > PORTS_EACH_MAX || u32::from(spec.ports_each) > room {
        let message = format!("{} ports an agent do not fit into {}", spec.ports_each, spec.ports);
        let hint = format!("allowed is 0 (none) to {}", room.min(u32::from(PORTS_EACH_MAX)));
        return Err((span, message, hint));
    }
    if let Some(include) = &raw.include {
        if include.get_ref().len() > PATTERNS_MAX {
            let message = format!("there are {} patterns", include.get_ref().len());
            return Err((include.span(), message, format!("allowed are {PATTERNS_MAX}")));
        }
        for pattern in include.get_ref() {
            let text = pattern.get_ref();
            if text.trim().is_empty() || text.contains(['\n', '\r', '\0']) {
                let hint = "write one pattern as in a .gitignore file: \".env\" or \"config/*.local\"";
                return Err((pattern.span(), "this is no pattern".into(), hint.into()));
            }
            spec.include.push(text.clone());
        }
    }
    spec.include_max = raw.include_max.unwrap_or(spec.include_max);
    for name in raw.caches.iter().flatten() {
        let Some(cache) = Cache::named(name.get_ref()) else {
            let message = format!("there is no cache `{}`", name.get_ref());
            let known: Vec<_> = Cache::ALL.iter().map(|(name, _)| *name).collect();
            return Err((name.span(), message, format!("known are {}", known.join(", "))));
        };
        if !spec.caches.contains(&cache) {
            spec.caches.push(cache);
        }
    }
    Ok(spec)
}
