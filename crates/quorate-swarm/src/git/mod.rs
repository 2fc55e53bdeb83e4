//! Git, through its own program.
//!
//! [`Source`] is the user's repository, which is only read, but for [`land`]. [`PrivateRepository`] is a run's own, where all
//! work happens; it borrows the user's objects. Every call has a fixed environment: no hooks, no monitors, no prompts. The
//! user's own settings count where the user's own files are read, and nowhere else.

mod ahead;
mod copy;
mod folder;
mod ignored;
mod landing;
mod private;
mod program;
mod source;
mod worktree;

pub(crate) use folder::remove_folder;

pub use copy::init_from_copy;
pub(crate) use ignored::ignored_matching;
pub use landing::{LandError, branch_head, is_branch_name, land};
pub use private::{Identity, Merge, PathChange, PathStatus, PrivateRepository};
pub use program::Error;
pub use source::{Source, discover};

#[cfg(test)]
pub(crate) mod tests;
