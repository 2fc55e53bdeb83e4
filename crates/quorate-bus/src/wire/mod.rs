//! The bus for other processes of the machine, over a Unix socket.
//!
//! A client that begins with [`frame::PREFACE`] speaks frames ([`frame`]; [`client`] is one); anybody else speaks lines ([`lines`]), which a shell script can.
//! [`server`] lets in the user it runs as, and nobody else.

pub mod client;
mod connection;
pub mod frame;
pub mod lines;
pub mod server;
#[cfg(test)]
mod tests;

pub use client::Client;
pub use server::Server;
