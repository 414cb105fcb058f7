//! Everything that touches the outside: sockets, files, clocks, signals. No monitoring decisions; those are in
//! `holdfast-core`.

// From a command line to a running daemon.

pub mod cli;

pub mod config;

pub mod start;

pub mod run;

// What the loop performs effects with.

pub mod net;

pub mod disk;

pub mod memory;

pub mod host;

pub mod ui;

// Small things about this process.

pub mod clock;
pub mod log;
pub mod systemd;
