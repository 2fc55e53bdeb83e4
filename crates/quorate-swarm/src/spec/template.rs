//! The commented swarm file that `quorate init` writes for the repository at hand.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quorate_pipeline::spec::CheckSpec;

use super::{CheckEntry, GateSpec};

const HEAD: &str = r#"# What the swarm is for, in a sentence or two. Every agent is told, unless its task says something else.
objective = "Describe here what should be better afterwards."

[repository]
# base = "HEAD"              # revision the run starts from
# branch = "quorate/result"  # branch that receives what lands; it must not exist (default: quorate/RUN)

[swarm]
agents-at-once = 2           # agents that work at the same time
wall = "2h"                  # wall time of the whole run

[node]
# memory-warn = "15%"        # less available: no agent is started beside one that works (a share, or a size: "4GiB")
# memory-critical = "10%"    # less available: agents are paused, and stopped where that does not help

# An agent is a program with arguments, never a shell line. Placeholders, filled in as arguments:
#   {objective} {task} {agent} {role} {attempt} {worktree} {swarm-dir}
# Presets for installed agent CLIs: claude, codex, gemini, opencode, aider.
[agents.coder]
preset = "claude"
# program = "my-agent"       # instead of a preset: a program in PATH, or a path relative to this file
# args = ["--task", "{objective}"]
role = "coder"               # coordinator researcher coder analyst architect tester reviewer optimizer documenter monitor specialist
count = 1                    # instances that may work at the same time
attempts = 2                 # launches before its task is given up
# env = ["PATH", "HOME"]     # names of variables that are passed on; nothing else is
# secrets = ["MY_API_KEY"]   # from `quorate secret set MY_API_KEY` or the environment; blotted out of everything that is kept
limits = { wall = "30m", memory = "4GiB", cpu = "1h", output = "256MiB" }
# more limits, with their defaults: processes = 2048 (threads count), open-files = 4096, disk = "16GiB" (growth of the
# worktree), idle = "10m" (without output, work or changed files; or "off"); and cpus = 1.5 (processors at a time)

# What the agent reaches beside its worktree, a temporary folder of its own, and installed tools (read only).
# [agents.coder.sandbox]
# read = ["fixtures", "~/models"] # relative to this file, below the home, or absolute
# write = ["~/.cache/my-agent"]
# network = "off"            # off, loopback (what it starts itself), listed (that, and hosts), open; presets list the hosts of their model
# hosts = ["api.example.com", "*.example.org", "localhost:8080"]
# require = ["landlock", "seccomp"] # without these the agent is not started; `namespaces` is the third
# enabled = true             # false: it may do what you may

# Units of work; without any, each agent instance gets the objective.
# [[tasks]]
# id = "first"
# agent = "coder"
# objective = "…"
# [[tasks]]
# id = "second"
# agent = "coder"
# after = ["first"]          # starts from the branch once `first` has landed

"#;

/// The file's text.
pub fn render(gate: &GateSpec, checks: &BTreeMap<String, CheckEntry>) -> String {
    let mut text = HEAD.to_owned();
    let names: Vec<String> = gate.validators.iter().map(|validator| format!("\"{validator}\"")).collect();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "# The panel every change must convince before it lands. Each check is run by faults + 1 validators.\n\
         [gate]\n\
         validators = [{}]\n\
         faults = {}                   # validators that may be absent or lie\n\
         agree = {}                    # votes that decide: at least (n + faults + 1) / 2, at most n - faults\n\
         at-once = {}                  # panels that sit at the same time\n\
         timeout = \"30m\"              # for one step of one validator\n\
         \n\
         # Checks run what agents have written, with your rights: in a sandbox they reach the files they judge, installed\n\
         # tools and what is named here, in the words of an agent's sandbox.\n\
         # [gate.sandbox]\n\
         # network = \"loopback\"\n",
        names.join(", "),
        gate.faults,
        gate.agree,
        gate.at_once,
    );
    if checks.is_empty() {
        text.push_str(
            "\n# No build or test command was recognised here: name them, nothing passes without a check.\n",
        );
        text.push_str("# [checks.tests]\n# validator = \"tests\"\n# command = [\"make\", \"test\"]\n# timeout = \"10m\"\n");
    }
    for (name, check) in checks {
        let _ = write!(text, "\n[checks.{name}]\nvalidator = \"{}\"\n", check.validator);
        match &check.spec {
            CheckSpec::Command { argv, timeout } => {
                let argv: Vec<String> = argv.iter().map(|arg| format!("{arg:?}")).collect();
                let _ = write!(text, "command = [{}]\ntimeout = \"{timeout}\"\n", argv.join(", "));
            }
            CheckSpec::Builtin { name } => {
                let _ = writeln!(text, "builtin = \"{name}\"");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::file;

    #[test]
    fn the_file_that_is_written_can_be_read() {
        let gate = file::gate_default();
        let spec = CheckSpec::Command {
            argv: vec!["cargo".into(), "test".into(), "--features=\"a b\"".into()],
            timeout: quorate_base::Millis::from_secs(600),
        };
        let checks = BTreeMap::from([(
            "tests".to_owned(),
            CheckEntry { validator: gate.validators[0].clone(), spec },
        )]);
        let read = file::parse("quorate.toml", &render(&gate, &checks), &BTreeMap::new()).unwrap();
        assert_eq!(read.spec.checks, checks);
        assert_eq!(read.spec.gate, gate);
    }
}
