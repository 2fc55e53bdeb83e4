//! Who of a swarm writes to whom, who takes work from whom, and whose word a change needs before it goes to the panel.
//!
//! | | writes to | takes over tasks of | a change needs the word of |
//! |---|---|---|---|
//! | mesh | everybody | everybody | nobody |
//! | star | the hub; the hub to everybody | everybody but the hub | the hub |
//! | ring | its two neighbours | its two neighbours | the next in the ring |
//! | hierarchical | its superior and those below it | those with the same superior | its superior |
//!
//! An agent that is out of service decides nothing: in a hierarchy the next one above it does, in a ring the next one after it.

use std::collections::{BTreeMap, BTreeSet};

use quorate_base::AgentId;
use serde::{Deserialize, Serialize};

use crate::spec::{Role, RunSpec};

/// The most that report to one agent of a hierarchy.
pub const REPORTS_MAX: usize = 10;
/// The most levels of a hierarchy, its head included.
pub const LEVELS_MAX: usize = 3;

/// How a swarm is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topology {
    #[default]
    Mesh,
    Star,
    Ring,
    Hierarchical,
}

impl Topology {
    pub const ALL: [(&'static str, Self); 4] = [
        ("mesh", Self::Mesh),
        ("star", Self::Star),
        ("ring", Self::Ring),
        ("hierarchical", Self::Hierarchical),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, topology)| *topology == self).map_or("mesh", |(name, _)| name)
    }
}

/// The agents of a run cannot be put together in this way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    #[error("a {0} needs one agent with `role = \"coordinator\"` and `count = 1`, and there are {1}")]
    Head(&'static str, usize),
    #[error("agent `{0}` reports to `{1}`, which is not declared")]
    UnknownSuperior(String, String),
    #[error("agent `{0}` reports to itself, by `reports-to` from one to the next")]
    Circle(String),
    #[error("{count} agents report to {superior}; {REPORTS_MAX} may")]
    TooMany { superior: AgentId, count: usize },
    #[error("agent {agent} is on level {level}; there may be {LEVELS_MAX}")]
    TooDeep { agent: AgentId, level: usize },
    #[error("a ring needs two agents or more")]
    TooFew,
}

/// A topology of certain agents.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shape {
    pub topology: Topology,
    /// All agents, in the order of the ring.
    order: Vec<AgentId>,
    places: BTreeMap<AgentId, usize>,
    /// The superior of each but the head.
    superior: BTreeMap<AgentId, AgentId>,
}

impl Shape {
    /// Puts the agents of a run together.
    pub fn new(topology: Topology, spec: &RunSpec) -> Result<Self, Impossible> {
        let order: Vec<AgentId> = spec.agents.keys().flat_map(|name| spec.instances(name)).collect();
        let places = order.iter().cloned().zip(0..).collect();
        let superior = match topology {
            Topology::Mesh => BTreeMap::new(),
            Topology::Ring if order.len() < 2 => return Err(Impossible::TooFew),
            Topology::Ring => BTreeMap::new(),
            Topology::Star => {
                let head = head("star", spec)?;
                order
                    .iter()
                    .filter(|agent| **agent != head)
                    .map(|agent| (agent.clone(), head.clone()))
                    .collect()
            }
            Topology::Hierarchical => superiors(spec)?,
        };
        let shape = Self { topology, order, places, superior };
        if topology == Topology::Hierarchical {
            shape.check()?;
        }
        Ok(shape)
    }

    fn check(&self) -> Result<(), Impossible> {
        let mut reports: BTreeMap<&AgentId, usize> = BTreeMap::new();
        for (agent, superior) in &self.superior {
            let count = reports.entry(superior).or_default();
            *count += 1;
            if *count > REPORTS_MAX {
                let count = self.superior.values().filter(|other| *other == superior).count();
                return Err(Impossible::TooMany { superior: superior.clone(), count });
            }
            let level = 1 + self.above(agent).count();
            if level > LEVELS_MAX {
                return Err(Impossible::TooDeep { agent: agent.clone(), level });
            }
        }
        Ok(())
    }

    /// The superiors of an agent, the nearest first.
    fn above<'a>(&'a self, agent: &'a AgentId) -> impl Iterator<Item = &'a AgentId> {
        std::iter::successors(self.superior.get(agent), |superior| self.superior.get(superior))
    }

    /// Whether an agent reports to another, or to one that does.
    pub fn is_below(&self, agent: &AgentId, superior: &AgentId) -> bool {
        self.above(agent).any(|other| other == superior)
    }

    /// All that are below an agent.
    pub fn below<'a>(&'a self, agent: &'a AgentId) -> impl Iterator<Item = &'a AgentId> {
        self.superior.keys().filter(move |other| self.is_below(other, agent))
    }

    /// The superior of an agent, where it has one.
    pub fn superior(&self, agent: &AgentId) -> Option<&AgentId> {
        self.superior.get(agent)
    }

    fn neighbours(&self, one: &AgentId, other: &AgentId) -> bool {
        let (Some(one), Some(other)) = (self.places.get(one), self.places.get(other)) else { return false };
        let n = self.order.len();
        (one + 1) % n == *other || (other + 1) % n == *one
    }

    /// Whether an agent may write to another; where not, who it may write to.
    pub fn may_write(&self, from: &AgentId, to: &AgentId) -> Result<(), String> {
        if !self.places.contains_key(to) {
            return Err(format!("there is no agent {to}"));
        }
        let direct = |a: &AgentId, b: &AgentId| self.superior.get(a) == Some(b);
        let (may, rule) = match self.topology {
            Topology::Mesh => (true, ""),
            Topology::Star | Topology::Hierarchical => (
                direct(from, to) || direct(to, from),
                "an agent writes to its superior and to those that report to it",
            ),
            Topology::Ring => (self.neighbours(from, to), "an agent writes to its neighbours"),
        };
        if may { Ok(()) } else { Err(format!("in this {} {rule}", self.topology.name())) }
    }

    /// Whether an agent takes over what waits for another.
    pub fn may_steal(&self, thief: &AgentId, owner: &AgentId) -> bool {
        match self.topology {
            Topology::Mesh => true,
            Topology::Ring => self.neighbours(thief, owner),
            Topology::Star | Topology::Hierarchical => self.superior.get(thief) == self.superior.get(owner),
        }
    }

    /// Whose word a change of this agent needs; `in_service` says who can give one.
    pub fn decider<'a>(
        &'a self,
        author: &'a AgentId,
        in_service: impl Fn(&AgentId) -> bool,
    ) -> Option<&'a AgentId> {
        match self.topology {
            Topology::Mesh => None,
            Topology::Star | Topology::Hierarchical => {
                self.above(author).find(|superior| in_service(superior))
            }
            Topology::Ring => {
                let place = *self.places.get(author)?;
                let (before, after) = (&self.order[..place], &self.order[place + 1..]);
                after.iter().chain(before).find(|other| in_service(other))
            }
        }
    }
}

/// The only instance of the only coordinator.
fn head(what: &'static str, spec: &RunSpec) -> Result<AgentId, Impossible> {
    let heads: Vec<AgentId> = coordinators(spec).flat_map(|(name, _)| spec.instances(name)).collect();
    match <[AgentId; 1]>::try_from(heads) {
        Ok([head]) => Ok(head),
        Err(heads) => Err(Impossible::Head(what, heads.len())),
    }
}

fn coordinators(spec: &RunSpec) -> impl Iterator<Item = (&String, &crate::spec::AgentSpec)> {
    spec.agents.iter().filter(|(_, agent)| agent.role == Role::Coordinator)
}

/// Who reports to whom: as declared; without a word, workers to the coordinators that report to somebody, and all others to the head. Where a
/// superior has several instances, they get those that report to it in turn.
fn superiors(spec: &RunSpec) -> Result<BTreeMap<AgentId, AgentId>, Impossible> {
    let tops: Vec<&String> =
        coordinators(spec).filter(|(_, agent)| agent.reports_to.is_none()).map(|(name, _)| name).collect();
    let [top] = tops.as_slice() else { return Err(Impossible::Head("hierarchy", tops.len())) };
    let heads = spec.instances(top);
    let [_] = heads.as_slice() else { return Err(Impossible::Head("hierarchy", heads.len())) };
    let middle: Vec<&String> = coordinators(spec).map(|(name, _)| name).filter(|name| name != top).collect();
    let mut superiors = BTreeMap::new();
    let mut turns: BTreeMap<Vec<AgentId>, usize> = BTreeMap::new();
    for (name, agent) in spec.agents.iter().filter(|(name, _)| name != top) {
        let over: Vec<AgentId> = match &agent.reports_to {
            Some(over) if spec.agents.contains_key(over) => spec.instances(over),
            Some(over) => return Err(Impossible::UnknownSuperior(name.clone(), over.clone())),
            None if agent.role == Role::Coordinator || middle.is_empty() => heads.clone(),
            None => middle.iter().flat_map(|name| spec.instances(name)).collect(),
        };
        let mut seen = BTreeSet::from([name]);
        let mut next = agent.reports_to.as_ref();
        while let Some(over) = next {
            if !seen.insert(over) {
                return Err(Impossible::Circle(name.clone()));
            }
            next = spec.agents.get(over).and_then(|agent| agent.reports_to.as_ref());
        }
        let turn = turns.entry(over.clone()).or_default();
        for instance in spec.instances(name) {
            superiors.insert(instance, over[*turn % over.len()].clone());
            *turn += 1;
        }
    }
    Ok(superiors)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::spec::file;

    fn shape(topology: &str, agents: &str) -> Result<Shape, String> {
        let mut text = format!("objective = \"x\"\n[swarm]\ntopology = \"{topology}\"\n");
        for line in agents.lines() {
            let (name, rest) = line.trim().split_once(' ').unwrap();
            text.push_str(&format!("[agents.{name}]\nprogram = \"a\"\n{}\n", rest.replace("; ", "\n")));
        }
        let file = file::parse("x", &text, &BTreeMap::new()).map_err(|error| error.to_string())?;
        Shape::new(file.spec.topology, &file.spec).map_err(|error| error.to_string())
    }

    fn id(name: &str) -> AgentId {
        AgentId::new(name).unwrap()
    }

    const TREE: &str = "head role = \"coordinator\"
        left role = \"coordinator\"; reports-to = \"head\"
        right role = \"coordinator\"; reports-to = \"head\"
        hand count = 4";

    fn writes(shape: &Shape, pairs: &[(&str, &str, bool)]) {
        for (from, to, may) in pairs {
            assert_eq!(shape.may_write(&id(from), &id(to)).is_ok(), *may, "{from} to {to}");
        }
    }

    #[test]
    fn in_a_hierarchy_words_go_up_and_down_and_the_next_above_decides() {
        let shape = shape("hierarchical", TREE).unwrap();
        writes(&shape, &[("left", "head", true), ("head", "left", true), ("hand-1", "left", true)]);
        writes(&shape, &[("hand-1", "head", false), ("hand-1", "hand-3", false), ("left", "right", false)]);
        assert!(shape.may_steal(&id("hand-1"), &id("hand-3")), "both report to left");
        assert!(!shape.may_steal(&id("hand-1"), &id("hand-2")), "not to the same");
        assert_eq!(shape.decider(&id("hand-1"), |_| true), Some(&id("left")));
        assert_eq!(shape.decider(&id("hand-1"), |agent| agent.as_str() != "left"), Some(&id("head")));
        assert_eq!(shape.decider(&id("head"), |_| true), None);
        let below: Vec<String> = shape.below(&id("left")).map(ToString::to_string).collect();
        assert_eq!(below, ["hand-1", "hand-3"]);
    }

    #[test]
    fn in_a_ring_and_a_star_and_a_mesh_each_has_its_own_partners() {
        let ring = shape("ring", "a count = 4").unwrap();
        writes(&ring, &[("a-1", "a-2", true), ("a-1", "a-4", true), ("a-1", "a-3", false)]);
        assert_eq!(ring.decider(&id("a-4"), |_| true), Some(&id("a-1")));
        assert_eq!(ring.decider(&id("a-4"), |agent| agent.as_str() == "a-3"), Some(&id("a-3")));
        assert_eq!(ring.decider(&id("a-4"), |agent| agent.as_str() == "a-4"), None, "nobody judges himself");
        assert!(ring.may_steal(&id("a-1"), &id("a-4")) && !ring.may_steal(&id("a-1"), &id("a-3")));
        let star = shape("star", "hub role = \"coordinator\"\na count = 3").unwrap();
        writes(&star, &[("a-1", "hub", true), ("hub", "a-3", true), ("a-1", "a-2", false)]);
        assert_eq!(star.decider(&id("a-2"), |_| true), Some(&id("hub")));
        assert!(star.may_steal(&id("a-1"), &id("a-2")) && !star.may_steal(&id("a-1"), &id("hub")));
        let mesh = shape("mesh", "a count = 3").unwrap();
        writes(&mesh, &[("a-1", "a-3", true), ("a-1", "b", false)]);
        assert_eq!(mesh.decider(&id("a-2"), |_| true), None);
    }

    #[test]
    fn what_cannot_be_put_together_is_refused_with_the_reason() {
        for (topology, agents, why) in [
            ("star", "a count = 2", "one agent with `role = \"coordinator\"`"),
            ("star", "a role = \"coordinator\"; count = 2", "there are 2"),
            ("ring", "a count = 1", "two agents or more"),
            ("hierarchical", "a count = 2", "there are 0"),
            ("hierarchical", "h role = \"coordinator\"\na count = 11", "11 agents report to h; 10 may"),
            ("hierarchical", "h role = \"coordinator\"\na reports-to = \"nobody\"", "not declared"),
            (
                "hierarchical",
                "h role = \"coordinator\"\na reports-to = \"b\"\nb reports-to = \"a\"",
                "itself",
            ),
            (
                "hierarchical",
                "h role = \"coordinator\"\na reports-to = \"h\"\nb reports-to = \"a\"\nc reports-to = \"b\"",
                "level 4",
            ),
        ] {
            let error = shape(topology, agents).unwrap_err();
            assert!(error.contains(why), "{agents}: {error}");
        }
    }

    #[test]
    fn the_largest_hierarchy_has_three_levels_of_ten() {
        let agents = "h role = \"coordinator\"\nm role = \"coordinator\"; reports-to = \"h\"; count = 10\nw count = 100";
        let shape = shape("hierarchical", agents).unwrap();
        assert_eq!(shape.below(&id("h")).count(), 110);
        assert_eq!(shape.below(&id("m-7")).count(), 10);
    }
}
