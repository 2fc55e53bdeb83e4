//! `quorate validator`: one validator answering one request, as a process of its own.

use std::io::{Read, Write};

use anyhow::Context as _;
use quorate_base::ExitStatus;
use quorate_swarm::validator::{Places, Request, answer};

use crate::{cli, host};

/// The longest request read.
const REQUEST_MAX: u64 = 64 << 20;

pub(crate) fn validator(args: cli::Validator) -> anyhow::Result<ExitStatus> {
    let mut request = Vec::new();
    std::io::stdin().take(REQUEST_MAX).read_to_end(&mut request).context("cannot read the request")?;
    let request: Request = serde_json::from_slice(&request).context("the request cannot be read")?;
    let places =
        Places { key: args.key, objects: args.objects, repository: args.repository, scratch: args.scratch };
    let answer = answer(&request, &places, &host::now)?;
    let mut out = std::io::stdout();
    serde_json::to_writer(&mut out, &answer)?;
    out.flush()?;
    Ok(ExitStatus::Done)
}
