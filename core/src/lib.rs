//! What Holdfast decides: scraping, storing, querying, alerting and forwarding for one edge node.
//!
//! No clock, no sockets, no files, and outside the feature `alloc` no allocator. Time and bytes come in as
//! [`daemon::Input`], requests for effects go out as [`daemon::Output`]. The folders stand in the order of one sample's
//! way: scrape -> parse -> labels -> store -> spill -> promql / rules / forward -> notify.
//!
//! Stages see `labels`, `store` and the single files at the top, not each other; `rules` may use `promql`; only
//! `daemon` sees all.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

// What everything uses.

pub mod limits;
pub mod memory;
pub mod prng;
pub mod time;

#[cfg(feature = "alloc")]
pub mod ledger;
#[cfg(feature = "alloc")]
pub mod math;
#[cfg(feature = "alloc")]
pub mod number;
#[cfg(feature = "alloc")]
pub mod percent;
#[cfg(feature = "alloc")]
pub mod retry;

// The stages, in the order of one sample's way.

#[cfg(feature = "alloc")]
pub mod scrape;

#[cfg(feature = "alloc")]
pub mod parse;

#[cfg(feature = "alloc")]
pub mod receive;

pub mod labels;

pub mod store;

#[cfg(feature = "alloc")]
pub mod spill;

#[cfg(feature = "alloc")]
pub mod promql;

#[cfg(feature = "alloc")]
pub mod rules;

#[cfg(feature = "alloc")]
pub mod forward;

#[cfg(feature = "alloc")]
pub mod notify;

// A leaf's way to its node, without an allocator.

pub mod link;

// What joins the stages, and what clients see of them.

#[cfg(feature = "alloc")]
pub mod api;

#[cfg(feature = "alloc")]
pub mod daemon;
