//! The tools that the steps need: found, brought, or named exactly.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The version installed where there is no cargo-nextest.
const NEXTEST_VERSION: &str = "0.9.143";

/// The cargo that runs this program, else the one in PATH.
pub fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Makes sure that git and the parts of the Rust toolchain are there; installs cargo-nextest where it is missing and the
/// `tests` are to run. The error names everything that is missing, with what brings it.
pub fn ensure_all(root: &Path, tests: bool) -> Result<()> {
    let mut missing = Vec::new();
    if !answers(Command::new("git").arg("--version")) {
        missing.push("git: install it with the package manager of this machine".to_owned());
    }
    for (tool, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if !answers(Command::new(cargo()).args([tool, "--version"]).current_dir(root)) {
            missing.push(format!("cargo {tool}: run `rustup component add {component}`"));
        }
    }
    if tests && !answers(Command::new(cargo()).args(["nextest", "--version"]).current_dir(root)) {
        missing.extend(install_nextest(root).err().map(|error| format!("cargo nextest: {error:#}")));
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!("missing:\n  {}", missing.join("\n  "))
}

fn install_nextest(root: &Path) -> Result<()> {
    let args = ["install", "--locked", "cargo-nextest", "--version", NEXTEST_VERSION];
    eprintln!("cargo-nextest is missing: cargo {}", args.join(" "));
    let status =
        Command::new(cargo()).args(args).current_dir(root).status().context("cannot run cargo install")?;
    if !status.success() {
        bail!(
            "`cargo {}` failed; run it by hand, or get a prebuilt one from https://nexte.st",
            args.join(" ")
        );
    }
    if !answers(Command::new(cargo()).args(["nextest", "--version"]).current_dir(root)) {
        bail!("installed, and still not found: put cargo's `bin` folder into PATH");
    }
    Ok(())
}

/// Whether a command can be started and succeeds.
pub(crate) fn answers(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
