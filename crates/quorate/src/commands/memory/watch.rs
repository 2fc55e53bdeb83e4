//! Changes as they come.

use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_base::ExitStatus;
use quorate_memory::{Event, Space};

use super::entries::Line;
use crate::host;
use crate::printer::{DIM, Printer};

pub(super) fn watch(
    space: &Space,
    prefix: &str,
    after: Option<u64>,
    count: Option<u64>,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let stop = host::stop_on_signals()?;
    let after = match after {
        Some(after) => after,
        None => space.store().version()?,
    };
    let mut watch = space.watch(prefix.as_bytes(), after)?;
    printer.say(&format!("watching {} from version {after} on", space.name()));
    let mut left = count;
    while left != Some(0) && !stop.load(Ordering::Relaxed) {
        let Some(change) = watch.next(Duration::from_millis(200))? else {
            continue;
        };
        match &change.event {
            Event::Put(entry) if printer.json => printer.document(&Line::new(change.key.as_bytes(), entry)),
            Event::Removed(gone) if printer.json => printer.document(&serde_json::json!({
                "key": change.key.to_string(), "version": change.version,
                "removed": format!("{gone:?}").to_lowercase(),
            })),
            Event::Put(entry) => {
                let text = String::from_utf8_lossy(entry.value());
                let value: String = text.chars().take(80).collect();
                printer.data(&format!("{DIM}{:>8}{DIM:#} {} = {value}", change.version, change.key));
            }
            Event::Removed(gone) => {
                let gone = format!("{gone:?}").to_lowercase();
                printer.data(&format!("{DIM}{:>8}{DIM:#} {} {gone}", change.version, change.key));
            }
        }
        left = left.map(|left| left - 1);
    }
    Ok(ExitStatus::Done)
}
