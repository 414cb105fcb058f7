//! Samples in one slab of plain bytes.
//!
//! A series is its label set. Its samples lie in parts (timeline, column), merged by time on reading.

pub mod codec;
pub mod stored;

/// A series in RAM: an index into the slab's series table. Valid while the slab lives and the series is not released;
/// whoever keeps one across calls checks it with its labels' hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub u32);

/// A timeline in RAM: an index into the slab's timeline table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimelineId(pub u32);

/// A timeline's name for ever: the stable hash of what it belongs to (a target's job and labels, a rule, a pusher).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimelineKey(pub u64);

/// One sample: milliseconds since 1970 UTC, and the value's bits (a stale marker is [`STALE_NAN_BITS`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub t_ms: i64,
    pub value: f64,
}

/// The NaN by which Prometheus marks the end of a series (model/value/value.go).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;
