//! What may be spent, what has been, and what is set aside for work under way.
//!
//! Before an agent is launched, what it may use at most is set aside in every account it spends from, in all of them or in none ([`Ledger`]).
//! What it used is read from its output ([`usage`]) and booked when it ends; what was set aside and not used is free again. All of this is
//! derived from the journal, so that a node that died has lost no cent.

mod amount;
mod ledger;
mod spec;
pub mod usage;

#[cfg(test)]
mod tests;

pub use amount::{Amount, Budget, Unit};
pub use ledger::{Account, Extra, Ledger, Refusal};
pub use spec::RunBudget;
pub use usage::Source;
