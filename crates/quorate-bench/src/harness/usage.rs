//! What a process costs: processor time and resident memory, from `/proc`.

use std::time::Duration;

use anyhow::Context as _;

/// User and system time of a process and of its children that have ended, to a tick of the clock.
pub(crate) fn processor_time(process: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let ticks = ticks(&text).with_context(|| format!("cannot understand {path}"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Bytes of a process that are in memory.
pub(crate) fn resident(process: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{process}/statm");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let pages: u64 = text.split(' ').nth(1).unwrap_or_default().parse().context("no number of pages")?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// The four times of a `stat` line; the name before them may hold anything, even a closing parenthesis.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let times = fields.split(' ').skip(11).take(4);
    times.map(|time| time.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_behind_any_name() {
        let stat = "42 (a ) b) S 1 1 1 0 -1 0 0 0 0 0 5 6 7 8 20 0 1 0 0";
        assert_eq!(ticks(stat), Some(26));
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let own = std::process::id();
        assert!(processor_time(own).is_ok());
        assert!(resident(own).unwrap() > 0);
        assert!(processor_time(u32::MAX).is_err());
    }
}
