//! Git, through its own program.
//!
//! [`Source`] is the user's repository, which is only read, but for [`land`]. [`PrivateRepository`] is a run's own, where all
//! work happens; it borrows the user's objects. Every call has a fixed environment: no hooks, no filters, no helpers, no
//! configuration of the user's, no prompts.

mod landing;
mod private;
mod program;
mod source;

pub use landing::{LandError, branch_head, is_branch_name, land};
pub use private::{Identity, Merge, PathChange, PathStatus, PrivateRepository, init_from_copy};
pub use program::Error;
pub use source::{Source, discover};
