//! The real programs beside the real binary: what no fake can promise.
//!
//! `tests/peers/fetch` brings the programs; `HOLDFAST_PEERS` names their folder (`target/peers/bin` if not set). Every test
//! has its own ports, folders and processes, polls with deadlines, and ends what it started also when it fails.

mod api;
mod programs;
mod sink;

mod alerts;
mod federation;
mod forwarding;
mod kills;
mod processes;
mod queries;
mod receiving;
mod starts;
mod tools;
