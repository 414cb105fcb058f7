//! What the core may ask of stored segments: bounded, synchronous reads, lent to it for one call.
//!
//! The platform keeps segments as opaque blobs with the few numbers by which they are found; only the core knows what
//! is in them (docs/SPILL_FORMAT.md).

use super::TimelineKey;
use core::fmt;

/// The numbers by which one segment is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentMeta {
    /// Ascending in the order of sealing, over all timelines; never reused.
    pub sequence: u64,
    pub timeline: TimelineKey,
    /// The layout whose columns these are.
    pub layout: u64,
    /// Row sequence, within the timeline, of the first row.
    pub row_from: u64,
    pub row_count: u32,
    pub column_from: u32,
    pub column_count: u32,
    /// Smallest and largest sample timestamp inside, wall milliseconds.
    pub t_min_ms: i64,
    pub t_max_ms: i64,
}

/// A run of a layout's columns, as stored once.
#[derive(Clone, Copy, Debug)]
pub struct LayoutPart<'a> {
    pub timeline: TimelineKey,
    pub layout: u64,
    pub column_from: u32,
    pub column_count: u32,
    /// The columns' kinds and label sets, encoded by `spill`.
    pub bytes: &'a [u8],
}

/// By what the parts of layouts are told apart. They are in order of this, the layouts' numbers as signed ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartPlace {
    pub layout: u64,
    pub column_from: u32,
}

/// The disk would not answer, or what it holds is damaged. The reader leaves the unit out, counts it and names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredError {
    pub reason: &'static str,
}

impl StoredError {
    /// What is stored is damaged there: asking again does not help.
    pub const DAMAGED: Self = Self { reason: "the database is damaged" };
}

impl fmt::Display for StoredError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)
    }
}

/// One segment's or layout part's bytes, read piece by piece.
pub trait SegmentBytes {
    /// Length of the whole in bytes.
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Fills `buf` from `offset`; an error when that reaches past the end.
    fn read_at(&mut self, offset: usize, buf: &mut [u8]) -> Result<(), StoredError>;
}

/// Return `false` from a visitor to stop.
pub type SegmentVisit<'v> = dyn FnMut(&SegmentMeta, &mut dyn SegmentBytes) -> bool + 'v;

/// A part's place, whether a segment may overlap, and its bytes. `false` stops.
pub type PartVisit<'v> = dyn FnMut(PartPlace, bool, &mut dyn SegmentBytes) -> bool + 'v;

/// Stored segments and layouts. Implemented by the platform over SQLite, by the simulator over vectors, and by
/// [`NothingStored`] on hosts without a disk.
pub trait Stored {
    /// Every stored layout part in order, from behind `after` on, and whether a segment of its columns, or of ones behind them,
    /// overlaps `start_ms ..= end_ms`. (Where a part ends only its header tells for certain.) Of its bytes only what is
    /// asked for is read.
    fn layouts(
        &mut self,
        start_ms: i64,
        end_ms: i64,
        after: Option<PartPlace>,
        visit: &mut PartVisit<'_>,
    ) -> Result<(), StoredError>;

    /// The parts of one layout, by column.
    fn layout(&mut self, layout: u64, visit: &mut dyn FnMut(LayoutPart<'_>) -> bool) -> Result<(), StoredError>;

    /// The segments of `layout` that overlap `start_ms ..= end_ms`, oldest first.
    fn segments(
        &mut self,
        layout: u64,
        start_ms: i64,
        end_ms: i64,
        visit: &mut SegmentVisit<'_>,
    ) -> Result<(), StoredError>;

    /// The segment of this sequence, if there is one.
    fn segment(&mut self, sequence: u64, visit: &mut SegmentVisit<'_>) -> Result<(), StoredError>;

    /// The segments of `timeline` that hold rows at or after `row_from`, by row and then by column.
    fn rows(&mut self, timeline: TimelineKey, row_from: u64, visit: &mut SegmentVisit<'_>) -> Result<(), StoredError>;

    /// The segments from this sequence on, in the order of sealing.
    fn sealed_from(&mut self, sequence: u64, visit: &mut SegmentVisit<'_>) -> Result<(), StoredError>;

    /// Timelines that have segments, each with the row after its last stored one.
    fn timelines(&mut self, visit: &mut dyn FnMut(TimelineKey, u64) -> bool) -> Result<(), StoredError>;

    /// Smallest sample timestamp stored, if anything is.
    fn oldest_ms(&mut self) -> Result<Option<i64>, StoredError>;
}

/// A host without a disk.
pub struct NothingStored;

impl Stored for NothingStored {
    fn layouts(&mut self, _: i64, _: i64, _: Option<PartPlace>, _: &mut PartVisit<'_>) -> Result<(), StoredError> {
        Ok(())
    }
    fn layout(&mut self, _: u64, _: &mut dyn FnMut(LayoutPart<'_>) -> bool) -> Result<(), StoredError> {
        Ok(())
    }
    fn segments(&mut self, _: u64, _: i64, _: i64, _: &mut SegmentVisit<'_>) -> Result<(), StoredError> {
        Ok(())
    }
    fn segment(&mut self, _: u64, _: &mut SegmentVisit<'_>) -> Result<(), StoredError> {
        Ok(())
    }
    fn rows(&mut self, _: TimelineKey, _: u64, _: &mut SegmentVisit<'_>) -> Result<(), StoredError> {
        Ok(())
    }
    fn sealed_from(&mut self, _: u64, _: &mut SegmentVisit<'_>) -> Result<(), StoredError> {
        Ok(())
    }
    fn timelines(&mut self, _: &mut dyn FnMut(TimelineKey, u64) -> bool) -> Result<(), StoredError> {
        Ok(())
    }
    fn oldest_ms(&mut self) -> Result<Option<i64>, StoredError> {
        Ok(None)
    }
}
