//! Samples in one slab of plain bytes.
//!
//! A series is its label set. Its samples lie in parts (timeline, column), merged by time on reading. A timeline is a
//! sequence of rows: one instant shared by many columns. A layout names the columns; rows are numbered per timeline
//! for ever.

mod attach;
pub mod codec;
mod heap;
mod late;
mod layouts;
mod pools;
mod read;
mod records;
mod ring;
#[cfg(feature = "alloc")]
mod select;
mod series;
mod slab;
mod state;
pub mod stored;
mod timelines;

#[cfg(all(test, feature = "alloc"))]
mod crash_tests;
#[cfg(all(test, feature = "alloc"))]
mod select_tests;
#[cfg(all(test, feature = "alloc"))]
mod series_tests;
#[cfg(all(test, feature = "alloc"))]
mod store_tests;

pub use crate::memory::Plan;
pub use attach::{STRIKES_AT, SlabHead};
pub use codec::{ColumnKind, Presence};
pub(crate) use slab::sizes;

use crate::labels::LabelsRef;
use core::ops::Range;

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

/// A column of a timeline's layout. Means something only under the layout under which it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnId(pub u32);

/// One sample: milliseconds since 1970 UTC, and the value's bits (a stale marker is [`STALE_NAN_BITS`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub t_ms: i64,
    pub value: f64,
}

/// The NaN by which Prometheus marks the end of a series (model/value/value.go).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// What a slab belongs to. A slab of another store, another boot or another generation is not gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Made when the data directory was made.
    pub store_uuid: [u8; 16],
    /// The kernel's: a slab never outlives a reboot.
    pub boot_id: [u8; 16],
    /// The tail log's generation as the database names it. A slab of this or of the next generation is accepted: the
    /// slab is told first ([`Store::set_log_generation`]), then the database.
    pub log_generation: u64,
}

/// A region of the slab, as the budget lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionName {
    Series,
    LabelText,
    Timelines,
    Layouts,
    LayoutColumns,
    RawRows,
    Ring,
    State,
}

/// Why one thing was not taken. Everything else goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the region '{}' ({total} in all) is full; {}", region.name(), region.advice())]
    Full { region: RegionName, total: u64 },
    #[error("a row of this timeline is open already; commit or abort it first")]
    RowOpen,
    #[error("no row of this timeline is open; begin one first")]
    NoRowOpen,
    #[error("this timeline was released or never opened; open it first")]
    NoTimeline,
    #[error("a series needs at least one label; name it")]
    NoLabels,
    #[error("the label set is longer than {} bytes; shorten or drop labels", crate::labels::LABELS_BYTES_MAX)]
    LabelsTooLong,
    #[error("the state's name has {bytes} bytes; give it 1 to {bytes_max}")]
    StateKeyTooLong { bytes: usize, bytes_max: usize },
    #[error(
        "the state has {bytes} bytes; the largest slot holds {bytes_max}; keep less, or give the store more memory"
    )]
    StateTooLong { bytes: usize, bytes_max: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("the slab has {bytes} bytes and the plan needs {needed_bytes}; make both from one budget")]
    SlabTooSmall { bytes: usize, needed_bytes: usize },
}

/// Why a slab is not gone on with. Recovery then starts from flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    #[error("the slab has {bytes} bytes and the plan needs {needed_bytes}")]
    SlabTooSmall { bytes: usize, needed_bytes: usize },
    #[error("the slab holds no store")]
    NoStore,
    #[error("the slab has layout version {found}, this program writes {expected}")]
    OtherVersion { found: u32, expected: u32 },
    #[error("the slab was made with other region sizes")]
    OtherPlan,
    #[error("the slab belongs to another data directory")]
    OtherStore,
    #[error("the slab is from before the last reboot")]
    OtherBoot,
    #[error("the slab has log generation {found}, the database {expected}")]
    OtherGeneration { found: u64, expected: u64 },
    #[error("every process that went on with the slab has ended before it had read all of it ({strikes} strikes)")]
    NeverHealthy { strikes: u32 },
    #[error("the slab is damaged: {what} {index}")]
    Damaged { what: &'static str, index: u64 },
}

/// What a successor found in its predecessor's slab.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachReport {
    pub timelines: u32,
    pub series: u32,
    pub rows: u64,
    pub samples: u64,
    /// Rows that were being staged when the predecessor ended; they were never committed.
    pub rows_unfinished: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The timeline's layout had this series already.
    Known,
    /// The series got a column in this timeline's layout with this sample.
    New,
    /// This row has this series already; the first value stays.
    Duplicate { same_value: bool },
}

/// What becomes of columns that had a value in the row before and have none in this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// They end: a stale marker.
    Stale,
    /// They are just not there.
    Absent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowCommitted {
    /// The row's number.
    pub row: u64,
    /// Values in the row, without stale markers.
    pub samples: u32,
    /// Stale markers in the row.
    pub stale: u32,
    /// Series that got a column while this row was staged.
    pub new_series: u32,
}

/// One series over a run of rows: slices of one length, one entry per sample or stale marker, ascending by row.
#[derive(Clone, Copy, Debug)]
pub struct ColumnRows<'a> {
    pub series: SeriesId,
    pub labels: LabelsRef<'a>,
    /// Layout and column of this part, as [`LayoutRun::layout`] names it.
    pub layout: u64,
    pub column: u32,
    /// [`ColumnKind::Age`] when the timestamps differ from the rows' instants.
    pub kind: ColumnKind,
    pub rows: &'a [u64],
    pub t_ms: &'a [i64],
    /// The values' bits; a stale marker is [`STALE_NAN_BITS`].
    pub bits: &'a [u64],
}

/// One column as it is stored, over every row of a run.
#[derive(Clone, Copy, Debug)]
pub struct ColumnCells<'a> {
    pub column: u32,
    pub kind: ColumnKind,
    pub series: SeriesId,
    pub cells: &'a [u64],
    pub presence: &'a [Presence],
}

/// A run of rows of one timeline that share a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutRun {
    /// The layout's number; never reused within a data directory (see [`Store::layout_next_at_least`]).
    pub layout: u64,
    /// Columns in use by the last row of the run. A layout only grows; the columns before stay what they are.
    pub columns: u32,
    /// The rows, as far as they are in RAM and without a gap.
    pub rows: Range<u64>,
}

/// How full one region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionUsage {
    pub region: RegionName,
    /// In the region's own units: entries, or bytes for label text, ring and state.
    pub used: u64,
    pub total: u64,
    pub bytes: u64,
}

impl RegionUsage {
    /// The used part of the region's bytes, its indexes included.
    pub fn bytes_used(&self) -> u64 {
        (self.bytes * self.used).div_ceil(self.total.max(1))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Rows and samples that left the ring.
    pub evicted_rows: u64,
    pub evicted_samples: u64,
    /// Those of them that no stored segment held: lost from RAM (the tail log may still have them).
    pub evicted_unspilled_rows: u64,
    pub evicted_unspilled_samples: u64,
    /// Puts of a new series that a full region refused.
    pub refused_series: u64,
    pub duplicates: u64,
    /// Committed since the slab was made, stale markers included.
    pub committed_rows: u64,
    pub committed_samples: u64,
    pub released_series: u64,
}

/// What of a timeline left RAM before it was spilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowsLost {
    /// Hull of the rows.
    pub rows: Range<u64>,
    pub samples: u64,
    /// Hull of their times; of a chunk that was spilled in part, the whole chunk's.
    pub span_ms: (i64, i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub regions: [RegionUsage; 8],
    pub counters: Counters,
}

/// The hot store: everything in one slab, nothing allocated.
pub struct Store<'m> {
    slab: slab::Slab<'m>,
    map: slab::Map,
    pools: pools::Pools,
    heap: heap::Heap,
    /// A region has refused something: dead columns are dropped at the first chance.
    pressure: bool,
    /// There was nothing to reclaim, and nothing has been spilled or packed since.
    reclaimed_all: bool,
    /// The highest sequence number of a state slot.
    state_sequence: u64,
    /// Strangers name series; so that they cannot aim at one bucket.
    hash_seed: u64,
}

/// What [`Counters`] are counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counter {
    EvictedRows,
    EvictedSamples,
    EvictedUnspilledRows,
    EvictedUnspilledSamples,
    RefusedSeries,
    Duplicates,
    CommittedRows,
    CommittedSamples,
    ReleasedSeries,
}

impl Counter {
    const COUNT: usize = Self::ReleasedSeries as usize + 1;
}

/// How near the ring is to evicting rows that are not spilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingPressure {
    /// Bytes not in use.
    pub bytes_free: u64,
    /// Bytes in use from the oldest unspilled chunk to the newest one.
    pub bytes_unspilled: u64,
    pub bytes: u64,
}

impl RegionName {
    /// In the order of the budget.
    pub const ALL: [Self; 8] = [
        Self::Series,
        Self::LabelText,
        Self::Timelines,
        Self::Layouts,
        Self::LayoutColumns,
        Self::RawRows,
        Self::Ring,
        Self::State,
    ];

    /// The name by which the budget and the page list it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Series => "series",
            Self::LabelText => "label text",
            Self::Timelines => "timelines",
            Self::Layouts => "layouts",
            Self::LayoutColumns => "layout columns",
            Self::RawRows => "newest rows",
            Self::Ring => "ring",
            Self::State => "small state",
        }
    }

    /// What to do when it is full.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Series | Self::LabelText | Self::LayoutColumns | Self::RawRows => {
                "raise --memory.limit, or drop series with metric_relabel_configs"
            }
            Self::Timelines | Self::Layouts => "raise --memory.limit, or scrape fewer targets and evaluate fewer rules",
            Self::Ring => "raise --memory.limit, or scrape less often",
            Self::State => "raise --memory.limit, or use fewer upstreams and Alertmanagers",
        }
    }
}
