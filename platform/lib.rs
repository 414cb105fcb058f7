//! Everything that touches the outside: sockets, files, clocks, signals. No monitoring decisions; those are in
//! `holdfast-core`.

pub mod cli;
pub mod clock;
pub mod config;
pub mod disk;
pub mod host;
pub mod log;
pub mod memory;
pub mod net;
pub mod run;
pub mod start;

pub mod systemd;
pub mod ui;
