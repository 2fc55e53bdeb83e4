//! The exit codes of the command line: a contract with scripts and CI.

/// How a command ended, as its exit code says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Done, or the verdict is PASS.
    Done = 0,
    /// Refused, the verdict is FAIL or PARTIAL, or work failed.
    Refused = 1,
    /// The command, a file or a setting is wrong; nothing was started.
    Usage = 2,
    /// A tool or a vote is missing, so there is no verdict.
    Inconclusive = 3,
    /// A budget or limit of the whole run was hit.
    Limit = 4,
    /// Interrupted; `quorate resume` continues.
    Interrupted = 5,
    /// A defect of Quorate itself, or a store that cannot be trusted.
    Internal = 70,
}

impl ExitStatus {
    pub const fn code(self) -> u8 {
        self as u8
    }
}
