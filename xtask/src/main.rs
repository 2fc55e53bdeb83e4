//! `cargo xtask …`: see [`USAGE`].
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for the terminal of whoever works on the project"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use xtask::{fuzz, layers, loom, miri, test, tidy};

const USAGE: &str = "\
cargo xtask test [STEP…]   everything a change must pass, or only the steps named
cargo xtask tidy           the rules of the repository that no compiler checks
cargo xtask layers         the crates of the workspace and the layers they may use
cargo xtask fuzz [SECONDS [TARGET…]]   every parser of outside bytes, fuzzed for so long each (60 s); needs nightly
cargo xtask loom           the lock-free parts of the bus, in every interleaving of their threads
cargo xtask miri           the rings of the bus under Miri; needs nightly with miri";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["test", steps @ ..] => root().and_then(|root| test::run(&root, steps)),
        ["tidy"] => root().and_then(|root| tidied(&root)),
        ["fuzz"] => root().and_then(|root| fuzz::run(&root, 60, "")),
        ["fuzz", seconds, only @ ..] => root().and_then(|root| {
            let seconds = seconds.parse().with_context(|| format!("{seconds} is no number of seconds"))?;
            match only {
                [] => fuzz::run(&root, seconds, ""),
                names => {
                    names.iter().try_fold(true, |good, name| Ok(fuzz::run(&root, seconds, name)? && good))
                }
            }
        }),
        ["loom"] => root().and_then(|root| loom::run(&root)),
        ["miri"] => root().and_then(|root| miri::run(&root)),
        ["layers"] => root().and_then(|root| layered(&root)),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}\n\nsteps: {}", test::STEPS.map(|step| step.name).join(", "));
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the repository: cargo tells where this crate lies.
fn root() -> Result<PathBuf> {
    let own = std::env::var_os("CARGO_MANIFEST_DIR")
        .context("run this as `cargo xtask`: CARGO_MANIFEST_DIR is not set")?;
    let root = PathBuf::from(own).parent().map(PathBuf::from);
    root.context("xtask lies in no repository")
}

fn tidied(root: &std::path::Path) -> Result<bool> {
    let files = tidy::files(root)?;
    let faults = tidy::check(root, &files)?;
    for fault in &faults {
        println!("{fault}");
    }
    println!("tidy: {} files, {} faults", files.len(), faults.len());
    Ok(faults.is_empty())
}

fn layered(root: &std::path::Path) -> Result<bool> {
    let metadata = layers::metadata(root)?;
    let faults = layers::check(&metadata)?;
    for (name, layer) in layers::LAYERS {
        println!("{name:<20} {layer}");
    }
    for fault in &faults {
        println!("{fault}");
    }
    Ok(faults.is_empty())
}
