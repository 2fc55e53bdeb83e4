//! `quorate-bench soak [--minutes N] [--load F]`: the bus and the memory at a steady load, and whether anything grows.

mod load;
mod sample;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use crate::harness::scratch;
use load::Load;
use sample::Sample;

/// Samples in the whole time, where none would be shorter than a second or longer than half a minute.
const SAMPLES: u32 = 120;
/// Growth between the parts of a run that is taken for noise.
const NOISE: f64 = 0.05;

const USAGE: &str =
    "usage: quorate-bench soak [--minutes N] [--load F]; F is 1 for half of what two cores can do";

/// Runs until the time is over; an error where something failed or grew.
pub(crate) fn run(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let (mut minutes, mut load) = (60.0, 1.0);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse::<f64>().ok()).filter(|value| *value > 0.0);
        match (argument.as_str(), value) {
            ("--minutes", Some(value)) => minutes = value,
            ("--load", Some(value)) => load = value,
            _ => bail!(USAGE),
        }
    }
    let folder = scratch::folder()?;
    let total = Duration::from_secs_f64(minutes * 60.0);
    let step = (total / SAMPLES).clamp(Duration::from_secs(1), Duration::from_secs(30));
    let load = Load::start(folder.path(), load)?;
    let (start, mut samples) = (Instant::now(), Vec::new());
    while start.elapsed() < total && load.is_well() {
        std::thread::sleep(step);
        let sample = Sample::take(start.elapsed(), folder.path())?;
        println!("{sample}  {}", load.done());
        samples.push(sample);
    }
    let done = Arc::clone(load.done());
    load.finish()?;
    ensure!(!done.is_idle(), "one of the workers did nothing: {done}");
    let grown = sample::growth(&samples);
    for (what, growth) in &grown {
        println!("growth of {what} from the second to the last third: {:+.2} %", growth * 100.0);
    }
    let over: Vec<_> = grown.iter().filter(|(_, growth)| *growth > NOISE).map(|(what, _)| *what).collect();
    ensure!(over.is_empty(), "it grew: {}", over.join(", "));
    Ok(())
}
