//! Sockets: what happens on them comes to the one loop as [`Event`]s, through one bounded queue.
//!
//! Everything here runs as local tasks of the one thread. Nothing blocks: names are resolved by our own queries
//! ([`dns`]), because getaddrinfo needs a thread to wait in.

pub mod connect;
pub mod dns;
pub mod fetch;
pub mod push;
pub mod serve;
pub mod url;

mod events;
mod io;
#[cfg(test)]
mod scripted;

pub use events::{Event, Events, FETCHED_BYTES_MAX};

/// How we name ourselves to those we ask.
pub const USER_AGENT: &str = concat!("Holdfast/", env!("CARGO_PKG_VERSION"));
