//! The unsafe parts of the bus under Miri, which sees undefined behaviour that a processor hides.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// Runs the tests of the rings.
pub fn run(root: &Path) -> Result<bool> {
    let status = Command::new("cargo")
        .args([
            "+nightly",
            "miri",
            "test",
            "-p",
            "quorate-bus",
            "--lib",
            "--target-dir",
            "target/miri",
            "ring::",
        ])
        // The test runner asks for the time.
        .env("MIRIFLAGS", "-Zmiri-disable-isolation")
        .current_dir(root)
        .status()
        .context("cannot run cargo miri: `rustup toolchain install nightly --component miri`")?;
    Ok(status.success())
}
