//! Samples in one slab of plain bytes.
//!
//! A series is its label set. Its samples lie in parts (timeline, column), merged by time on reading. A timeline is a
//! sequence of rows: one instant shared by many columns. A layout names the columns; rows are numbered per timeline
//! for ever.

pub mod codec;
pub mod stored;

pub use crate::memory::Plan;
pub use codec::{ColumnKind, Presence};

use crate::labels::LabelsRef;
use core::{marker::PhantomData, ops::Range};

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
    #[error("the state's name has {bytes} bytes; at most {bytes_max} are allowed")]
    StateKeyTooLong { bytes: usize, bytes_max: usize },
    #[error("the state has {bytes} bytes; the largest slot holds {bytes_max}; keep less, or give the store more memory")]
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub regions: [RegionUsage; 8],
    pub counters: Counters,
}

/// The hot store.
pub struct Store<'m> {
    slab: PhantomData<&'m mut [u8]>,
}

impl<'m> Store<'m> {
    /// Makes an empty store in the slab; what was in it is gone.
    pub fn create(slab: &'m mut [u8], plan: &Plan, identity: Identity) -> Result<Self, StoreError> {
        unimplemented!()
    }

    /// Goes on with a predecessor's slab, however it ended. Everything is validated before anything is changed that a
    /// later attempt would miss; on an error the slab comes back.
    pub fn attach(
        slab: &'m mut [u8],
        plan: &Plan,
        identity: &Identity,
    ) -> Result<(Self, AttachReport), (AttachError, &'m mut [u8])> {
        unimplemented!()
    }

    /// Told before the database names a new generation, so that the slab is never behind it.
    pub fn set_log_generation(&mut self, generation: u64) {}
    pub fn log_generation(&self) -> u64 {
        0
    }

    // Timelines.

    /// Finds or makes the timeline. A released one is taken back.
    pub fn timeline_open(&mut self, key: TimelineKey) -> Result<TimelineId, Refused> {
        unimplemented!()
    }
    pub fn timeline_find(&self, key: TimelineKey) -> Option<TimelineId> {
        unimplemented!()
    }
    pub fn timeline_key(&self, timeline: TimelineId) -> TimelineKey {
        unimplemented!()
    }
    /// All timelines, released ones with rows in RAM included.
    pub fn timelines(&self) -> impl Iterator<Item = TimelineId> {
        core::iter::empty()
    }
    /// No more rows will come. The timeline goes when its rows are gone; an open row is aborted.
    pub fn timeline_release(&mut self, timeline: TimelineId) {}
    /// After recovery: row numbers go on behind what is stored. A number below the next one changes nothing.
    pub fn row_next_at_least(&mut self, timeline: TimelineId, row: u64) {}
    /// After recovery: layout numbers go on behind what is stored.
    pub fn layout_next_at_least(&mut self, layout: u64) {}

    // One row.

    /// Begins a row; it is staged until it is committed. Several timelines may be staging at once.
    pub fn row_begin(&mut self, timeline: TimelineId, instant_ms: i64) -> Result<(), Refused> {
        unimplemented!()
    }
    /// Puts one sample into the open row. `age_ms`: the row's instant minus the sample's own timestamp, if it has one.
    pub fn row_put(
        &mut self,
        timeline: TimelineId,
        labels: LabelsRef<'_>,
        bits: u64,
        age_ms: Option<i64>,
    ) -> Result<PutOutcome, Refused> {
        unimplemented!()
    }
    /// Publishes the open row by one write of its number.
    ///
    /// # Panics
    ///
    /// When no row is open: the caller lost track.
    pub fn row_commit(&mut self, timeline: TimelineId, missing: Missing) -> RowCommitted {
        unimplemented!()
    }
    /// Forgets the open row, if there is one.
    pub fn row_abort(&mut self, timeline: TimelineId) {}

    // Series.

    pub fn series_count(&self) -> usize {
        0
    }
    /// The labels, written into `buf` (of [`LABELS_BYTES_MAX`](crate::labels::LABELS_BYTES_MAX) bytes); `None` when the
    /// series is gone or `buf` too short.
    pub fn series_labels<'b>(&self, series: SeriesId, buf: &'b mut [u8]) -> Option<LabelsRef<'b>> {
        None
    }
    /// [`LabelsRef::stable_hash`] of the series' labels, without reading them.
    pub fn series_labels_hash(&self, series: SeriesId) -> Option<u64> {
        None
    }
    pub fn series_find(&self, labels: LabelsRef<'_>) -> Option<SeriesId> {
        None
    }
    /// All series in RAM; return `false` to stop. Takes 4 KiB of stack for the labels.
    pub fn series_visit(&self, visit: &mut dyn FnMut(SeriesId, LabelsRef<'_>) -> bool) {}
    /// Hull of the timestamps of the rows in RAM that have a column for this series.
    pub fn series_time_range(&self, series: SeriesId) -> Option<(i64, i64)> {
        None
    }
    /// Samples and stale markers with `start_ms <= t_ms <= end_ms`, timeline by timeline; ascending within a timeline
    /// unless the clock went back or samples have their own timestamps.
    pub fn series_read(&self, series: SeriesId, start_ms: i64, end_ms: i64, visit: &mut dyn FnMut(i64, u64)) {}

    // Rows by number, for forwarding and for the spill.

    /// Committed rows in RAM. After recovery from a damaged log there may be gaps inside.
    pub fn rows(&self, timeline: TimelineId) -> Range<u64> {
        0..0
    }
    pub fn row_instant(&self, timeline: TimelineId, row: u64) -> Option<i64> {
        None
    }
    /// Visits every series that has samples in `rows`, column by column; a long run comes in several visits of at
    /// most 256 rows, earlier rows first. Return `false` to stop.
    pub fn rows_read(
        &self,
        timeline: TimelineId,
        rows: Range<u64>,
        visit: &mut dyn FnMut(ColumnRows<'_>) -> bool,
    ) {
    }
    /// The longest run of rows that begins with the first row in RAM at or after `row` and has one layout.
    pub fn layout_of_rows(&self, timeline: TimelineId, row: u64) -> Option<LayoutRun> {
        None
    }
    /// What a column of a layout in RAM is.
    pub fn layout_column(&self, timeline: TimelineId, layout: u64, column: u32) -> Option<(ColumnKind, SeriesId)> {
        None
    }
    /// The instants of `rows` (at most 256, all in RAM), written into `instants_ms`; `None` when one is missing.
    pub fn rows_instants(&self, timeline: TimelineId, rows: Range<u64>, instants_ms: &mut [i64]) -> Option<()> {
        None
    }
    /// Visits the cells of `columns` over `rows`: at most 256 rows of one [`LayoutRun`], all in RAM. Every column is
    /// visited, also one without a value. `false` from the visitor stops. Returns `None` when the rows are not that.
    pub fn columns_read(
        &self,
        timeline: TimelineId,
        rows: Range<u64>,
        columns: Range<u32>,
        visit: &mut dyn FnMut(ColumnCells<'_>) -> bool,
    ) -> Option<()> {
        None
    }

    // Marks of the spill.

    /// Before this row everything is in stored segments.
    pub fn rows_spilled(&self, timeline: TimelineId) -> u64 {
        0
    }
    pub fn set_rows_spilled(&mut self, timeline: TimelineId, row: u64) {}
    /// Before this row everything is in the tail log.
    pub fn rows_logged(&self, timeline: TimelineId) -> u64 {
        0
    }
    pub fn set_rows_logged(&mut self, timeline: TimelineId, row: u64) {}
    /// Hull of the rows that left RAM before they were spilled, since [`Store::rows_lost_clear`].
    pub fn rows_lost(&self, timeline: TimelineId) -> Range<u64> {
        0..0
    }
    pub fn rows_lost_clear(&mut self, timeline: TimelineId) {}
    /// Oldest row that leaves RAM when `bytes` more are written to the ring: what the spill should take first.
    pub fn ring_pressure(&self) -> RingPressure {
        RingPressure { bytes_free: 0, bytes_unspilled: 0, bytes: 0 }
    }

    // Small state.

    /// Keeps bytes by name, replacing what was there in one step; empty bytes delete.
    pub fn state_put(&mut self, key: &str, bytes: &[u8]) -> Result<(), Refused> {
        unimplemented!()
    }
    pub fn state_get(&self, key: &str) -> Option<&[u8]> {
        None
    }
    pub fn state_visit(&self, visit: &mut dyn FnMut(&str, &[u8])) {}

    pub fn usage(&self) -> Usage {
        unimplemented!()
    }
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
