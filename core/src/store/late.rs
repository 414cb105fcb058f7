//! What comes late: samples for a row that is committed already, and timelines whose columns come in parts.
//!
//! A row that still lies raw takes further samples. Each is published by itself: its cell first, then by one write its
//! presence, so that a process killed between any two writes leaves every sample whole or absent. A sample that was
//! absent says nothing false, and whoever was not told that it is stored sends it again.
//!
//! In a *sparse* timeline a request carries some of the columns, and some come more seldom than others: a column that is
//! absent over one chunk is not dead. Those that were absent for [`CHUNKS_PER_SWEEP`] chunks are.

use super::{Counter, PutOutcome, Refused, SeriesId, Store, TimelineId, layouts::Column, slab::NONE};
use crate::{labels::LabelsRef, limits::CHUNK_ROWS_MAX};

/// Chunks of a sparse timeline after which columns without a sample in any of them leave its layout.
pub(super) const CHUNKS_PER_SWEEP: u32 = 64;

impl Store<'_> {
    /// Columns of this timeline may be absent from many rows in a row. As long as it is open.
    pub fn timeline_set_sparse(&mut self, timeline: TimelineId) {
        if self.timeline_used(timeline.0) && !self.timeline_is_sparse(timeline) {
            self.set_chunks_to_sweep(timeline.0, CHUNKS_PER_SWEEP);
        }
    }

    pub fn timeline_is_sparse(&self, timeline: TimelineId) -> bool {
        self.timeline_used(timeline.0) && self.chunks_to_sweep(timeline.0) > 0
    }

    /// Whether rows may come: it was opened and not released since.
    pub fn timeline_is_open(&self, timeline: TimelineId) -> bool {
        self.timeline_used(timeline.0) && !self.timeline_released(timeline.0)
    }

    /// Columns of a timeline's current layout.
    pub fn timeline_columns(&self, timeline: TimelineId) -> u32 {
        match self.timeline_layout(timeline.0) {
            NONE => 0,
            layout => self.layout_columns(layout),
        }
    }

    /// The newest row of this instant that lies raw, among those from `row_from` on.
    pub fn raw_row_at(&self, timeline: TimelineId, instant_ms: i64, row_from: u64) -> Option<u64> {
        let TimelineId(timeline) = timeline;
        if !self.timeline_used(timeline) {
            return None;
        }
        let first = self.row_first(timeline);
        let rows = first.max(row_from)..self.row_next(timeline);
        rows.rev().find(|row| self.raw_instant(timeline, (row - first) as usize) == instant_ms)
    }

    /// The largest instant of the rows in RAM.
    pub fn timeline_newest_ms(&self, timeline: TimelineId) -> Option<i64> {
        let TimelineId(timeline) = timeline;
        if !self.timeline_used(timeline) {
            return None;
        }
        let raw = (0..self.rows_open(timeline)).map(|row| self.raw_instant(timeline, row));
        raw.chain(self.chunks(timeline).map(|chunk| chunk.t_max_ms)).max()
    }

    /// Puts one sample into a committed row that lies raw and that nobody has read off yet: not the spill, not a forwarder.
    ///
    /// # Errors
    ///
    /// The row does not lie raw; else as [`Store::row_put`].
    pub fn row_fill(
        &mut self,
        timeline: TimelineId,
        row: u64,
        labels: LabelsRef<'_>,
        bits: u64,
    ) -> Result<PutOutcome, Refused> {
        let is_raw =
            self.timeline_is_open(timeline) && (self.row_first(timeline.0)..self.row_next(timeline.0)).contains(&row);
        if !is_raw {
            return Err(Refused::NoRowOpen);
        }
        let index = (row - self.row_first(timeline.0)) as usize;
        assert!(index < CHUNK_ROWS_MAX, "row {row} lies raw as number {index}");
        let put = self.row_put_in(timeline.0, index, labels, bits, 0).map(|(put, _)| put);
        if matches!(put, Ok(PutOutcome::Known | PutOutcome::New)) {
            self.count(Counter::CommittedSamples, 1);
        }
        put
    }

    /// The value of a series in RAM at an instant.
    pub fn series_value_at(&self, series: SeriesId, t_ms: i64) -> Option<u64> {
        let mut found = None;
        self.series_read(series, t_ms, t_ms, &mut |_, bits| found = Some(bits));
        found
    }

    /// Another chunk of a sparse timeline is closed. Whether columns not seen since the last sweep are to go.
    pub(super) fn sweep_is_due(&mut self, timeline: u32) -> bool {
        match self.chunks_to_sweep(timeline) {
            0 => false,
            1 => {
                self.set_chunks_to_sweep(timeline, CHUNKS_PER_SWEEP);
                true
            }
            chunks => {
                self.set_chunks_to_sweep(timeline, chunks - 1);
                false
            }
        }
    }

    /// Remembers which columns the chunk of the raw rows has something of.
    pub(super) fn columns_see(&mut self, layout: u32, rows_mask: u32) {
        self.layout_each(layout, |store, column| {
            if store.column_raw(column).is_some_and(|raw| store.raw_presence(raw) & rows_mask != 0) {
                store.column_set_seen(column, true);
            }
        });
    }

    pub(super) fn columns_forget_seen(&mut self, layout: u32) {
        self.layout_each(layout, |store, column: Column| store.column_set_seen(column, false));
    }

    pub(super) fn is_absent(&self, column: Column, rows_mask: u32) -> bool {
        self.column_raw(column).is_none_or(|raw| self.raw_presence(raw) & rows_mask == 0)
    }
}
