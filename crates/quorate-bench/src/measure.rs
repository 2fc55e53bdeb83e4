//! A measured figure, and measuring two things in turn.

use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::harness::rounds::Spread;

/// One figure with what it stands beside.
#[derive(Debug, Serialize)]
pub(crate) struct Claim {
    pub(crate) id: String,
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) peer: String,
    pub(crate) peer_value: Option<f64>,
    /// Value by peer value.
    pub(crate) ratio: Option<f64>,
    /// Least and most of the rounds: of the ratio where there is one, else of the value.
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) goal: String,
    /// Nothing where there is no goal to meet.
    pub(crate) met: Option<bool>,
    pub(crate) command: String,
    pub(crate) commit: String,
    pub(crate) machine: String,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<36} {:>14.3} {:<8}", self.id, self.value, self.unit)?;
        if let (Some(value), Some(ratio)) = (self.peer_value, self.ratio) {
            write!(f, "  {:.2} × {value:.3} ({})", ratio, self.peer)?;
        } else if !self.peer.is_empty() {
            write!(f, "  ({})", self.peer)?;
        }
        if let (Some(min), Some(max)) = (self.min, self.max) {
            write!(f, "  [{min:.2} to {max:.2}]")?;
        }
        match self.met {
            Some(true) => write!(f, "  goal {}: met", self.goal),
            Some(false) => write!(f, "  goal {}: NOT met", self.goal),
            None => Ok(()),
        }
    }
}

/// Where and of what the figures are.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) commit: String,
    pub(crate) machine: String,
}

impl Context {
    pub(crate) fn gather() -> anyhow::Result<Self> {
        let commit = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or("?");
        Ok(Self {
            commit: String::from_utf8_lossy(&commit.stdout).trim().to_owned(),
            machine: format!(
                "{cores} cores, {}, load {load} at start",
                model.trim_start_matches([':', '\t', ' '])
            ),
        })
    }

    pub(crate) fn claim(&self, id: &str, what: &str, value: f64, unit: &'static str) -> Claim {
        Claim {
            id: id.to_owned(),
            what: what.to_owned(),
            value,
            unit,
            peer: String::new(),
            peer_value: None,
            ratio: None,
            min: None,
            max: None,
            goal: String::new(),
            met: None,
            command: format!("cargo run --release -p quorate-bench{} -- claims --only {id}", features()),
            commit: self.commit.clone(),
            machine: self.machine.clone(),
        }
    }
}

impl Claim {
    pub(crate) fn beside(self, peer: &str, value: f64) -> Self {
        let ratio = Some(self.value / value);
        Self { peer: peer.to_owned(), peer_value: Some(value), ratio, ..self }
    }

    pub(crate) fn spread(self, spread: Spread) -> Self {
        Self { min: Some(spread.min), max: Some(spread.max), ..self }
    }

    pub(crate) fn goal(self, goal: &str, met: bool) -> Self {
        Self { goal: goal.to_owned(), met: Some(met), ..self }
    }
}

/// What the build needs to measure this again.
fn features() -> &'static str {
    match (cfg!(feature = "peers"), cfg!(feature = "peer-zenoh")) {
        (true, true) => " --features peers,peer-zenoh",
        (true, false) => " --features peers",
        (false, true) => " --features peer-zenoh",
        (false, false) => "",
    }
}

/// The median of what each of two things takes, done in turn so that both see the same machine.
pub(crate) fn in_turn(
    rounds: usize,
    mut one: impl FnMut() -> anyhow::Result<()>,
    mut other: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<[Duration; 2]> {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        times[0].push(timed(&mut one)?);
        times[1].push(timed(&mut other)?);
    }
    Ok(times.map(median))
}

/// The median time of one thing.
pub(crate) fn alone(rounds: usize, mut one: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let times = (0..rounds).map(|_| timed(&mut one)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(median(times))
}

fn timed(one: &mut impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let start = Instant::now();
    one()?;
    Ok(start.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
