//! Coverage-guided fuzzing: builds the targets in `fuzz/` and lets each run for a while.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What libFuzzer needs of the compiler, with the address sanitizer.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address";
/// The sanitizer is linked for a named target only.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The names of the targets.
fn targets(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root.join("fuzz/src/bin")).context("there is no fuzz/src/bin")? {
        let path = entry?.path();
        names.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Runs the targets whose names begin with `only`, each for so many seconds. What they found interesting is kept below `target/` and is where the next
/// run begins.
pub fn run(root: &Path, seconds: u32, only: &str) -> Result<bool> {
    let fuzz = root.join("fuzz");
    let built = Command::new("cargo")
        .args(["+nightly", "build", "--release", "--bins", "--target", TARGET, "--target-dir"])
        .arg(root.join("target/fuzz"))
        .env("RUSTFLAGS", FLAGS)
        .current_dir(&fuzz)
        .status()
        .context("cannot run cargo; fuzzing needs a nightly toolchain: `rustup toolchain install nightly`")?;
    if !built.success() {
        bail!("the targets do not build; they need a nightly toolchain and a C++ compiler");
    }
    let mut good = true;
    for name in targets(root)?.iter().filter(|name| name.starts_with(only)) {
        let corpus = root.join("target/fuzz/corpus").join(name);
        let found = root.join("target/fuzz/found").join(name);
        std::fs::create_dir_all(&corpus)?;
        std::fs::create_dir_all(&found)?;
        println!("fuzz {name}: {seconds} s");
        let status = Command::new(root.join("target/fuzz").join(TARGET).join("release").join(name))
            .arg(&corpus)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", found.display()))
            .args([
                "-timeout=10",
                "-rss_limit_mb=2048",
                "-print_final_stats=1",
                "-verbosity=0",
                "-print_funcs=0",
            ])
            .env("ASAN_OPTIONS", "detect_leaks=0")
            .status()
            .with_context(|| format!("cannot run the target {name}"))?;
        if !status.success() {
            println!("fuzz {name}: failed; the input is in {}", found.display());
            good = false;
        }
    }
    Ok(good)
}
