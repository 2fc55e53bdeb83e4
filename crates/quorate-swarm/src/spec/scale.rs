//! How many agents of a declaration take part.

use quorate_base::Millis;
use serde::{Deserialize, Serialize};

/// More agents where tasks wait, fewer where agents do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// So many take part from the start, and always.
    pub min: u32,
    /// One more takes part when more than this many tasks wait for each that does.
    pub up_at: u32,
    /// One that has had nothing to do for so long takes part no more.
    pub idle: Millis,
    /// Between one change and the next.
    pub cool_down: Millis,
}

impl Default for Scale {
    fn default() -> Self {
        Self { min: 1, up_at: 1, idle: Millis::from_secs(30), cool_down: Millis::from_secs(2) }
    }
}
