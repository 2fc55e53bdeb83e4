//! What the failure of an agent means for it and for others, in the terms of OTP's supervisors.

use quorate_base::Millis;
use serde::{Deserialize, Serialize};

/// How the agents of one declaration are supervised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    pub strategy: Strategy,
    /// An agent that fails more often than this…
    pub max: u32,
    /// …within this time is quarantined.
    pub within: Millis,
}

impl Default for Restart {
    fn default() -> Self {
        Self { strategy: Strategy::OneForOne, max: 5, within: Millis::from_secs(10) }
    }
}

/// Who is launched again when an agent fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The agent alone.
    #[default]
    OneForOne,
    /// With it, those of its declaration that were launched after it.
    RestForOne,
    /// With it, all of its declaration that are at work.
    OneForAll,
}
