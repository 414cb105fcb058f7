//! Scraping: when a target is due, what becomes of its answer, and what is told about it.

mod content;
mod meta;
mod rows;
mod sample;
mod schedule;
mod seen;
mod shared;
mod sink;
mod spec;
mod target;

pub use content::ContentError;
pub use meta::{METADATA_BYTES_MAX, MetaEntry, MetaList, Metadata};
pub use rows::Rows;
pub use sample::{SampleError, TIMESTAMP_AGE_MS_MAX, TIMESTAMP_AHEAD_MS_MAX};
pub use schedule::{Due, Schedule};
pub use seen::SeenRoom;
pub use shared::Shared;
pub use spec::{SampleLimits, TargetSpec};
pub use target::{Health, Progress, ScrapeError, Target, TargetCounters, TargetStatus, end_timeline};

#[cfg(test)]
mod seen_tests;
#[cfg(test)]
mod target_tests;
