//! The models of the lock-free parts: every interleaving of their threads, up to a bound on preemptions.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// Runs the models of the bus.
pub fn run(root: &Path) -> Result<bool> {
    let status = Command::new(crate::tools::cargo())
        .args([
            "test",
            "--release",
            "-p",
            "quorate-bus",
            "--lib",
            "--target-dir",
            "target/loom",
            "interleavings",
        ])
        .env("RUSTFLAGS", "--cfg loom")
        .current_dir(root)
        .status()
        .context("cannot run cargo test")?;
    Ok(status.success())
}
