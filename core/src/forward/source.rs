//! What the forwarder reads from: every timeline's rows, wherever they lie.

use crate::{labels::LabelsRef, store::TimelineKey};
use core::ops::Range;

/// Consecutive rows of one timeline that share a layout and lie in one place (the slab, or one group of segments).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Begins at the first readable row at or after the one asked for; never empty.
    pub rows: Range<u64>,
    /// Columns of the layout these rows use. A column's index never changes while the rows exist, wherever they move.
    pub column_count: u32,
    /// Wall milliseconds of the first and the last row's instants.
    pub first_ms: i64,
    pub last_ms: i64,
}

/// One sample on its way: wall milliseconds and the value's bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowSample {
    pub row: u64,
    pub t_ms: i64,
    pub bits: u64,
}

/// The rows could not be read; they are asked for again, and reported as lost when that fails for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowsUnreadable {
    pub reason: &'static str,
}

/// Return `false` to stop. Called with the column, its labels, and its samples in the order of rows (absent cells left
/// out, stale markers as [`crate::store::STALE_NAN_BITS`]).
pub type ColumnVisit<'v> = dyn FnMut(u32, LabelsRef<'_>, &[RowSample]) -> bool + 'v;

/// The store as the queue: implemented by the daemon over the slab and the stored segments.
pub trait RowSource {
    /// Every timeline that holds rows, with the rows it holds from the oldest readable to the one after the newest.
    fn timelines(&mut self, visit: &mut dyn FnMut(TimelineKey, Range<u64>));

    /// The longest [`Run`] that begins with the first readable row at or after `row`; `None` when there is none. Rows
    /// passed over this way are given up, so that a source which cannot tell now must answer with an error.
    fn run(&mut self, timeline: TimelineKey, row: u64) -> Result<Option<Run>, RowsUnreadable>;

    /// Visits the columns of `rows` (inside one run) in ascending order from `column_from` on. A column without any
    /// sample in these rows may be left out.
    fn columns(
        &mut self,
        timeline: TimelineKey,
        rows: Range<u64>,
        column_from: u32,
        visit: &mut ColumnVisit<'_>,
    ) -> Result<(), RowsUnreadable>;
}
