//! `quorate-bench claims [--json] [--only PREFIX]`: measures every figure the documents may quote, beside a peer or a
//! physical limit, interleaved in one run.
//!
//! Build it with `--release`; the whole-run measures start the release build of `quorate` that lies beside it.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

mod certificates;
mod journal;
mod measure;
mod runs;

use anyhow::bail;

use crate::measure::{Claim, Context};

type Bench = fn(&Context) -> anyhow::Result<Claim>;

/// Every measure, by the beginning of the claim's id.
const BENCHES: [(&str, Bench); 11] = [
    ("journal.append.one", journal::one),
    ("journal.append.batch", journal::batch),
    ("evidence.hash", certificates::hash),
    ("evidence.sign", certificates::sign),
    ("certificate.verify.5", certificates::verify_5),
    ("certificate.verify.150", certificates::verify_150),
    ("worktree.create", runs::worktree),
    ("run.overhead", runs::overhead),
    ("run.idle", runs::idle),
    ("run.memory", runs::memory),
    ("run.example", runs::example_run),
];

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (mut json, mut only) = (false, String::new());
    match args.next().as_deref() {
        Some("claims") => {}
        _ => bail!("usage: quorate-bench claims [--json] [--only PREFIX]"),
    }
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => json = true,
            "--only" => only = args.next().unwrap_or_default(),
            other => bail!("there is no option {other}; allowed are --json and --only PREFIX"),
        }
    }
    let context = Context::gather()?;
    let mut claims = Vec::new();
    for (id, bench) in BENCHES.iter().filter(|(id, _)| id.starts_with(&only)) {
        let claim = bench(&context)?;
        assert_eq!(claim.id, *id, "a bench answers for its own id");
        if !json {
            println!("{claim}");
        }
        claims.push(claim);
    }
    if claims.is_empty() {
        let known: Vec<_> = BENCHES.iter().map(|(id, _)| *id).collect();
        bail!("no measure begins with `{only}`; there are {}", known.join(", "));
    }
    if json {
        println!("{}", serde_json::to_string(&claims)?);
    }
    Ok(())
}
