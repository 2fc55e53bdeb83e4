//! The rule of the house: dependencies between crates point one way, by layer.
//!
//! A crate may depend on crates of lower layers, never on one of its own layer or above. A crate that is not in the table is a
//! fault: putting it there is a decision.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The layer of each crate.
pub const LAYERS: [(&str, Layer); 13] = [
    ("quorate-base", Layer::Level(0)),
    ("quorate-consensus", Layer::Level(1)),
    ("quorate-evidence", Layer::Level(2)),
    ("quorate-search", Layer::Level(1)),
    ("quorate-wal", Layer::Level(1)),
    ("quorate-bus", Layer::Level(2)),
    ("quorate-memory", Layer::Level(2)),
    ("quorate-agents", Layer::Level(3)),
    ("quorate-pipeline", Layer::Level(3)),
    ("quorate-swarm", Layer::Level(4)),
    ("quorate", Layer::Level(6)),
    ("quorate-bench", Layer::Side),
    ("xtask", Layer::Alone),
];

/// Crates that are handed time, randomness and files, and so must not be able to get them.
const PURE: [&str; 3] = ["quorate-base", "quorate-consensus", "quorate-evidence"];
/// What would bring them in.
const IMPURE: [&str; 6] = ["getrandom", "libc", "rand", "rustix", "signal-hook", "tempfile"];
/// Runtimes that nothing in the house uses, directly or through another crate. What stands beside it may: peers are measured there.
const RUNTIMES: [&str; 3] = ["tokio", "async-std", "smol"];

/// Where a crate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// May use what has a smaller number.
    Level(u8),
    /// Beside the house: may use everything, and nothing uses it, except in tests.
    Side,
    /// Uses no crate of the house, and none uses it.
    Alone,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Level(number) => write!(f, "layer {number}"),
            Self::Side => f.write_str("beside the house"),
            Self::Alone => f.write_str("on its own"),
        }
    }
}

/// What cargo says about the members of the workspace at `root`.
pub fn metadata(root: &Path) -> Result<Value> {
    let args = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = Command::new(crate::tools::cargo())
        .args(args)
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    serde_json::from_slice(&output.stdout).context("cargo metadata printed something else than JSON")
}

/// Every dependency of a member of the workspace that breaks the rule, in words.
pub fn check(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let mut faults = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package has no name")?;
        let Some(layer) = layer(name) else {
            faults.push(format!(
                "{name} is in no layer: decide which, and add it to the table in xtask/src/layers.rs"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().context("a dependency has no name")?;
            let in_tests = dependency["kind"].as_str() == Some("dev");
            faults.extend(edge(name, layer, used, in_tests));
        }
    }
    Ok(faults)
}

/// Every way, in the text of a `Cargo.lock`, from a crate of the house to a runtime: it must not come in through another crate
/// either. A crate beside the house may have one, and stays beside: a way that leads through it is a fault too.
pub fn runtimes(lock: &str) -> Vec<String> {
    let packages = locked(lock);
    let members = LAYERS.iter().filter(|(_, layer)| *layer != Layer::Side);
    members.flat_map(|(member, _)| reached(member, &packages)).collect()
}

/// The names that each package of a `Cargo.lock` depends on. Versions of one package count as one: what any of them uses, all use.
fn locked(lock: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut packages = BTreeMap::<&str, Vec<&str>>::new();
    let mut current = "";
    for line in lock.lines() {
        if let Some(name) = line.strip_prefix("name = \"") {
            current = name.trim_end_matches('"');
            packages.entry(current).or_default();
        } else if let Some(used) = line.strip_prefix(" \"") {
            // `name`, `name version` or `name version (source)`.
            let used = used.trim_end_matches(['"', ',']).split(' ').next().unwrap_or_default();
            packages.entry(current).or_default().push(used);
        }
    }
    packages
}

/// The shortest way from a member to each runtime, in words.
fn reached(member: &str, packages: &BTreeMap<&str, Vec<&str>>) -> Vec<String> {
    let mut from = BTreeMap::<&str, Option<&str>>::from([(member, None)]);
    let mut next = VecDeque::from([member]);
    let mut faults = Vec::new();
    while let Some(user) = next.pop_front() {
        if RUNTIMES.contains(&user) {
            let mut way = vec![user];
            while let Some(Some(before)) = way.last().and_then(|name| from.get(name)) {
                way.push(before);
            }
            way.reverse();
            faults.push(format!("{}: threads and processes are enough here", way.join(" uses ")));
            continue;
        }
        for &used in packages.get(user).into_iter().flatten() {
            if !from.contains_key(used) {
                from.insert(used, Some(user));
                next.push_back(used);
            }
        }
    }
    faults
}

fn edge(user: &str, layer: Layer, used: &str, in_tests: bool) -> Option<String> {
    if PURE.contains(&user) && IMPURE.contains(&used) && !in_tests {
        return Some(format!(
            "{user} uses {used}: it is handed time, randomness and files, and must not get them itself"
        ));
    }
    if RUNTIMES.contains(&used) && layer != Layer::Side {
        return Some(format!("{user} uses {used}: threads and processes are enough here"));
    }
    let Some(below) = self::layer(used) else {
        return used.starts_with("quorate").then(|| format!("{user} uses {used}, which is in no layer"));
    };
    let allowed = match (layer, below) {
        (Layer::Level(user), Layer::Level(used)) => used < user,
        (Layer::Side, Layer::Level(_) | Layer::Side) => true,
        (Layer::Level(_), Layer::Side) => in_tests,
        (Layer::Alone, _) | (_, Layer::Alone) => false,
    };
    (!allowed).then(|| format!("{user} ({layer}) must not use {used} ({below})"))
}

fn layer(name: &str) -> Option<Layer> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The faults of one package with one dependency.
    fn faults(user: &str, used: &str, kind: Option<&str>) -> Vec<String> {
        let dependency = json!({ "name": used, "kind": kind });
        check(&json!({ "packages": [{ "name": user, "dependencies": [dependency] }] })).unwrap()
    }

    #[test]
    fn a_lower_layer_may_be_used() {
        assert!(faults("quorate-swarm", "quorate-base", None).is_empty());
        assert!(faults("quorate-evidence", "quorate-consensus", None).is_empty());
        assert!(faults("quorate-bench", "quorate-swarm", None).is_empty());
        assert!(faults("quorate-base", "serde", None).is_empty());
    }

    #[test]
    fn an_edge_upward_or_sideways_is_a_fault() {
        let upward = faults("quorate-consensus", "quorate-evidence", None);
        assert_eq!(upward, ["quorate-consensus (layer 1) must not use quorate-evidence (layer 2)"]);
        assert_eq!(faults("quorate-pipeline", "quorate-agents", None).len(), 1);
        assert_eq!(faults("quorate-agents", "quorate-pipeline", Some("dev")).len(), 1);
        assert_eq!(faults("quorate-swarm", "quorate", Some("build")).len(), 1);
    }

    #[test]
    fn what_stands_beside_the_house_is_used_in_tests_only() {
        assert_eq!(faults("quorate", "quorate-bench", None).len(), 1);
        assert!(faults("quorate", "quorate-bench", Some("dev")).is_empty());
    }

    #[test]
    fn xtask_stands_alone() {
        assert_eq!(faults("xtask", "quorate-base", None).len(), 1);
        assert_eq!(faults("quorate", "xtask", Some("dev")).len(), 1);
    }

    #[test]
    fn a_crate_without_a_layer_is_a_fault() {
        assert_eq!(
            check(&json!({ "packages": [{ "name": "quorate-new", "dependencies": [] }] })).unwrap().len(),
            1
        );
        assert_eq!(faults("quorate", "quorate-new", None).len(), 1);
    }

    #[test]
    fn a_pure_crate_cannot_get_randomness_or_files() {
        assert_eq!(faults("quorate-evidence", "getrandom", None).len(), 1);
        assert!(faults("quorate-evidence", "tempfile", Some("dev")).is_empty());
        assert!(faults("quorate", "getrandom", None).is_empty());
    }

    /// A `Cargo.lock` of packages with what they use.
    fn lock(packages: &[(&str, &[&str])]) -> String {
        let package = |(name, used): &(&str, &[&str])| {
            let used: String = used.iter().map(|used| format!(" \"{used}\",\n")).collect();
            format!("[[package]]\nname = \"{name}\"\nversion = \"1.0.0\"\ndependencies = [\n{used}]\n")
        };
        packages.iter().map(package).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_runtime_that_the_house_reaches_is_a_fault_with_the_way_to_it() {
        let direct = lock(&[("quorate", &["tokio"]), ("tokio", &[])]);
        assert_eq!(runtimes(&direct), ["quorate uses tokio: threads and processes are enough here"]);
        let far = lock(&[
            ("quorate-swarm", &["client 1.0.0", "client 2.0.0"]),
            ("client", &["wire"]),
            ("wire", &["smol 2.0.0 (registry+https://example.org)", "client"]),
            ("smol", &[]),
        ]);
        let way = "quorate-swarm uses client uses wire uses smol: threads and processes are enough here";
        assert_eq!(runtimes(&far), [way]);
        assert_eq!(faults("quorate", "tokio", Some("dev")).len(), 1);
        assert_eq!(faults("xtask", "tokio", None).len(), 1);
    }

    #[test]
    fn a_runtime_beside_the_house_is_none_of_its_own() {
        let beside =
            lock(&[("quorate", &["serde"]), ("quorate-bench", &["quorate", "tokio"]), ("tokio", &[])]);
        assert!(runtimes(&beside).is_empty());
        assert!(faults("quorate-bench", "tokio", None).is_empty());
        let through = lock(&[("quorate", &["quorate-bench"]), ("quorate-bench", &["tokio"]), ("tokio", &[])]);
        assert_eq!(runtimes(&through).len(), 1);
        assert!(runtimes(&lock(&[("quorate", &["tokio-like"]), ("tokio-like", &[])])).is_empty());
    }
}
