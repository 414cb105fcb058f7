//! Sockets: what happens on them comes to the one loop as [`Event`]s, through one bounded queue.

mod events;

pub use events::{Event, Events};
