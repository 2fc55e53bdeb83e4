//! The rules by which a group decides, free of clocks, sockets, files and threads.
//!
//! [`quorum`] says how many must agree; [`ballot`] counts signed answers of a frozen electorate. Neither checks a
//! signature: whoever casts a vote here has checked whose it is.

pub mod ballot;
pub mod quorum;
