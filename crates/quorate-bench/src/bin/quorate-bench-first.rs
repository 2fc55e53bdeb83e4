//! What is started where starting is measured: says when its first instruction ran, by the clock that all processes of a
//! machine share, in nanoseconds. With an argument it stays until it is ended.

use std::io::Write as _;

use rustix::time::{ClockId, clock_gettime};

fn main() -> std::io::Result<()> {
    let now = clock_gettime(ClockId::Monotonic);
    writeln!(std::io::stdout(), "{}", i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec))?;
    if std::env::args_os().len() > 1 {
        loop {
            std::thread::park();
        }
    }
    Ok(())
}
