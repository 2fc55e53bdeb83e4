//! Everything that a change must pass, cheapest first. A step that fails does not keep the others from running.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::python::Venv;
use crate::{tidy, tools};

/// One step, as it is named on the command line and in the summary.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// What it is called.
    pub name: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Cargo {
        args: &'static [&'static str],
        rustdocflags: Option<&'static str>,
    },
    /// A program of the Python environment. Where it cannot be installed the step is not run, and the summary says so.
    Wheel {
        args: &'static [&'static str],
    },
    Nextest,
    Tidy,
}

/// All steps in their order.
pub const STEPS: [Step; 7] = [
    Step { name: "fmt", kind: Kind::Cargo { args: &["fmt", "--all", "--check"], rustdocflags: None } },
    Step { name: "typos", kind: Kind::Wheel { args: &["typos"] } },
    Step { name: "taplo", kind: Kind::Wheel { args: &["taplo", "fmt", "--check"] } },
    Step {
        name: "clippy",
        kind: Kind::Cargo {
            args: &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
            rustdocflags: None,
        },
    },
    Step { name: "tests", kind: Kind::Nextest },
    Step { name: "tidy", kind: Kind::Tidy },
    Step {
        name: "doc",
        kind: Kind::Cargo { args: &["doc", "--no-deps", "--workspace"], rustdocflags: Some("-Dwarnings") },
    },
];

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Passed,
    Failed(String),
    NotRun(String),
}

/// Runs the steps named, or all of them. Answers whether nothing failed.
///
/// # Errors
/// A step that does not exist, or something missing that the steps need.
pub fn run(root: &Path, wanted: &[&str]) -> Result<bool> {
    let steps = select(wanted)?;
    let tests = steps.iter().any(|step| matches!(step.kind, Kind::Nextest));
    tools::ensure_all(root, tests)?;
    let wheels = steps.iter().any(|step| matches!(step.kind, Kind::Wheel { .. }));
    let venv = if tests || wheels { Some(Venv::ensure(root)?) } else { None };
    let mut no_wheels = None;
    if let Some(venv) = &venv {
        if tests {
            venv.install_packages(root)?;
        }
        if wheels {
            no_wheels = venv.install_tools(root).err().map(|error| format!("{error:#}"));
        }
    }

    let mut ends = Vec::new();
    let mut last_line = None;
    for step in steps {
        eprintln!("\n── {} ──", step.name);
        let started = Instant::now();
        let end = match (step.kind, &venv) {
            (Kind::Cargo { args, rustdocflags }, _) => {
                let mut command = Command::new(tools::cargo());
                command.args(args);
                if let Some(flags) = rustdocflags {
                    command.env("RUSTDOCFLAGS", flags);
                }
                status(root, &mut command)
            }
            (Kind::Wheel { args }, Some(venv)) => match (&no_wheels, args) {
                (None, [program, rest @ ..]) => status(root, Command::new(venv.bin(program)).args(rest)),
                (why, _) => Ok(End::NotRun(why.clone().unwrap_or_default())),
            },
            (Kind::Nextest, Some(venv)) => nextest(root, venv, &mut last_line),
            (Kind::Wheel { .. } | Kind::Nextest, None) => {
                bail!("the step {} has no Python environment", step.name)
            }
            (Kind::Tidy, _) => tidied(root),
        };
        let end = end.unwrap_or_else(|error| End::Failed(format!("{error:#}")));
        let taken = started.elapsed();
        eprintln!("{}", line(step.name, &end, taken));
        ends.push((step.name, end, taken));
    }

    eprintln!("\n── summary ──");
    for (name, end, taken) in &ends {
        eprintln!("{}", line(name, end, *taken));
    }
    // The runner's own words, last: that is what machines look for.
    if let Some(last_line) = last_line {
        eprintln!("{last_line}");
    }
    Ok(!ends.iter().any(|(_, end, _)| matches!(end, End::Failed(_))))
}

fn select(wanted: &[&str]) -> Result<Vec<Step>> {
    if let Some(unknown) = wanted.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        bail!("there is no step `{unknown}`; steps are {}", STEPS.map(|step| step.name).join(", "));
    }
    Ok(STEPS.into_iter().filter(|step| wanted.is_empty() || wanted.contains(&step.name)).collect())
}

fn line(name: &str, end: &End, taken: Duration) -> String {
    let word = match end {
        End::Passed => "ok".to_owned(),
        End::Failed(why) => format!("FAILED: {why}"),
        End::NotRun(why) => format!("not run: {why}"),
    };
    format!("{name:<8} {:>7.1} s  {word}", taken.as_secs_f64())
}

fn status(root: &Path, command: &mut Command) -> Result<End> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.current_dir(root).status().with_context(|| format!("cannot run {program}"))?;
    Ok(if status.success() { End::Passed } else { End::Failed(status.to_string()) })
}

/// Runs the tests; what nextest says passes through, and its summary is kept for the end.
fn nextest(root: &Path, venv: &Venv, last_line: &mut Option<String>) -> Result<End> {
    let mut child = Command::new(tools::cargo())
        .args(["nextest", "run", "--workspace", "--profile", "ci"])
        .env("QUORATE_PYTHON", venv.python())
        .current_dir(root)
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run cargo nextest")?;
    let stderr = child.stderr.take().context("the runner's output was not handed over")?;
    let mut reader = BufReader::new(stderr);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes)? > 0 {
        std::io::stderr().write_all(&bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        if is_summary(&text) {
            *last_line = Some(text.trim_end().to_owned());
        }
        bytes.clear();
    }
    let status = child.wait()?;
    Ok(if status.success() { End::Passed } else { End::Failed(status.to_string()) })
}

/// Whether a line is the runner's own: `     Summary [   1.234s] 56 tests run: …`.
fn is_summary(line: &str) -> bool {
    line.trim_start().starts_with("Summary [")
}

fn tidied(root: &Path) -> Result<End> {
    let faults = tidy::check(root, &tidy::files(root)?)?;
    for fault in &faults {
        eprintln!("{fault}");
    }
    Ok(if faults.is_empty() { End::Passed } else { End::Failed(format!("{} faults", faults.len())) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_named_run_in_their_own_order() {
        let names: Vec<_> = select(&["tidy", "fmt"]).unwrap().iter().map(|step| step.name).collect();
        assert_eq!(names, ["fmt", "tidy"]);
        assert_eq!(select(&[]).unwrap().len(), STEPS.len());
    }

    #[test]
    fn an_unknown_step_is_refused_with_the_known_ones() {
        let error = select(&["fmt", "lint"]).unwrap_err().to_string();
        assert!(error.starts_with("there is no step `lint`; steps are fmt, "), "{error}");
    }

    #[test]
    fn only_the_runners_own_summary_is_kept() {
        assert!(is_summary("     Summary [   0.012s] 3 tests run: 3 passed, 0 skipped\n"));
        assert!(!is_summary("        PASS [   0.012s] xtask test::Summary\n"));
    }
}
