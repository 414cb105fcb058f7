//! What scraping needs of the store: one row at a time.

use crate::{
    labels::LabelsRef,
    store::{ColumnId, Missing, PutOutcome, Refused, RowCommitted, Store, TimelineId, TimelineKey},
};

/// See the methods of the same names of [`Store`]; `row_put` is [`Store::row_put_told`]. Tests put a plain model in its place.
pub trait Rows {
    fn timeline_open(&mut self, key: TimelineKey) -> Result<TimelineId, Refused>;
    fn timeline_release(&mut self, timeline: TimelineId);
    fn row_begin(&mut self, timeline: TimelineId, instant_ms: i64) -> Result<(), Refused>;
    fn row_put(
        &mut self,
        timeline: TimelineId,
        labels: LabelsRef<'_>,
        bits: u64,
        age_ms: Option<i64>,
    ) -> Result<(PutOutcome, ColumnId), Refused>;
    fn row_layout(&self, timeline: TimelineId) -> Option<u64>;
    fn row_put_at(&mut self, timeline: TimelineId, column: ColumnId, bits: u64) -> Option<PutOutcome>;
    fn row_commit(&mut self, timeline: TimelineId, missing: Missing) -> RowCommitted;
    fn row_abort(&mut self, timeline: TimelineId);
}

impl Rows for Store<'_> {
    fn timeline_open(&mut self, key: TimelineKey) -> Result<TimelineId, Refused> {
        self.timeline_open(key)
    }
    fn timeline_release(&mut self, timeline: TimelineId) {
        self.timeline_release(timeline);
    }
    fn row_begin(&mut self, timeline: TimelineId, instant_ms: i64) -> Result<(), Refused> {
        self.row_begin(timeline, instant_ms)
    }
    fn row_put(
        &mut self,
        timeline: TimelineId,
        labels: LabelsRef<'_>,
        bits: u64,
        age_ms: Option<i64>,
    ) -> Result<(PutOutcome, ColumnId), Refused> {
        self.row_put_told(timeline, labels, bits, age_ms)
    }
    fn row_layout(&self, timeline: TimelineId) -> Option<u64> {
        self.row_layout(timeline)
    }
    fn row_put_at(&mut self, timeline: TimelineId, column: ColumnId, bits: u64) -> Option<PutOutcome> {
        self.row_put_at(timeline, column, bits)
    }
    fn row_commit(&mut self, timeline: TimelineId, missing: Missing) -> RowCommitted {
        self.row_commit(timeline, missing)
    }
    fn row_abort(&mut self, timeline: TimelineId) {
        self.row_abort(timeline);
    }
}
