//! The bus with real files and real processes.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod killed;
