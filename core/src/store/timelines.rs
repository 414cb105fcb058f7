//! Timelines, and the one row that each may be staging.
//!
//! ```text
//!            row_begin                row_commit: row_next + 1
//!   at rest ──────────► row is staged ──────────────────────► at rest
//!      ▲                    │ row_abort
//!      └────────────────────┘
//! ```
//!
//! Rows `row_first .. row_next` are committed and lie raw in the current layout's pages; the staged row lies behind them
//! and counts for nothing. One write of `row_next` commits it, one write of `row_first` hands the rows to the ring.

use super::{
    ColumnId, ColumnKind, Counter, Missing, Presence, PutOutcome, Refused, RegionName, RowCommitted, RowsLost,
    STALE_NAN_BITS, SeriesId, Store, TimelineId, TimelineKey,
    layouts::{Column, RawColumn},
    sizes,
    slab::{NONE, NOWHERE},
};
use crate::{
    labels::{LABELS_BYTES_MAX, LabelsRef},
    limits::CHUNK_ROWS_MAX,
};

const KEY: usize = 0;
const FLAGS: usize = 8;
const USED: u32 = 1;
const RELEASED: u32 = 2;
/// The current layout, or none once released.
const LAYOUT: usize = 12;
const ROW_NEXT: usize = 16;
const ROW_FIRST: usize = 24;
const SPILLED: usize = 32;
const LOGGED: usize = 40;
const LOST_FROM: usize = 48;
const LOST_TO: usize = 56;
// Made anew at attach: the chunks in the ring, and whether a row is staged.
const CHUNK_OLDEST: usize = 64;
const CHUNK_NEWEST: usize = 72;
const STAGED: usize = 80;
const STAGED_NEW: usize = 84;
const CHUNKS: usize = 88;
/// Of a sparse timeline: chunks until columns that were absent from all of them go. 0: the timeline is not sparse.
const TO_SWEEP: usize = 92;
// With `LOST_FROM`.
const LOST_SAMPLES: usize = 96;
const LOST_T_MIN: usize = 104;
const LOST_T_MAX: usize = 112;
/// The column of values that the last known sample of the staged row went to: the next sample is likely to belong to the
/// one after it.
const LAST: usize = 120;
const INSTANTS: usize = 128;
const _: () = assert!(INSTANTS + 8 * CHUNK_ROWS_MAX == sizes::TIMELINE_BYTES);

impl Store<'_> {
    /// Finds or makes the timeline. A released one is taken back.
    ///
    /// # Errors
    ///
    /// No room for one more, and no rows of an ended one that are spilled and could make room.
    pub fn timeline_open(&mut self, key: TimelineKey) -> Result<TimelineId, Refused> {
        let mut opened = self.timeline_try_open(key);
        while opened.is_err() && self.reclaim() {
            opened = self.timeline_try_open(key);
        }
        opened
    }

    fn timeline_try_open(&mut self, key: TimelineKey) -> Result<TimelineId, Refused> {
        let timeline = match self.timeline_find(key) {
            Some(TimelineId(timeline)) => timeline,
            None => self.timeline_make(key)?,
        };
        let at = self.map.timeline(timeline);
        if self.timeline_layout(timeline) == NONE {
            match self.layout_make(timeline) {
                Ok(layout) => self.slab.publish_u32(at + LAYOUT, layout),
                Err(refused) => {
                    self.timeline_drop_unused(timeline);
                    return Err(refused);
                }
            }
        }
        self.slab.publish_u32(at + FLAGS, USED);
        Ok(TimelineId(timeline))
    }

    pub fn timeline_find(&self, key: TimelineKey) -> Option<TimelineId> {
        self.timelines().find(|timeline| self.timeline_key(*timeline) == key)
    }

    pub fn timeline_key(&self, timeline: TimelineId) -> TimelineKey {
        TimelineKey(self.slab.u64(self.map.timeline(timeline.0) + KEY))
    }

    /// All timelines, released ones with rows in RAM included.
    pub fn timelines(&self) -> impl Iterator<Item = TimelineId> {
        (0..self.map.plan.timelines_count).filter(|timeline| self.timeline_used(*timeline)).map(TimelineId)
    }

    /// No more rows will come. The timeline goes when its rows are gone; an open row is aborted.
    pub fn timeline_release(&mut self, timeline: TimelineId) {
        let TimelineId(timeline) = timeline;
        if !self.timeline_used(timeline) {
            return;
        }
        let at = self.map.timeline(timeline);
        self.slab.put_u32(at + STAGED, 0);
        self.slab.publish_u32(at + FLAGS, USED | RELEASED);
        self.chunk_close(timeline);
        let layout = self.timeline_layout(timeline);
        if layout != NONE {
            self.slab.publish_u32(at + LAYOUT, NONE);
            self.reclaimed_all = false;
            self.layout_free_pages(layout, None);
            self.layout_drop_unused(layout);
        }
        self.timeline_drop_unused(timeline);
    }

    /// After recovery: row numbers go on behind what is stored. A number below the next one changes nothing. An open row
    /// is aborted.
    pub fn row_next_at_least(&mut self, timeline: TimelineId, row: u64) {
        let TimelineId(timeline) = timeline;
        if !self.timeline_used(timeline) || row <= self.row_next(timeline) {
            return;
        }
        let at = self.map.timeline(timeline);
        self.slab.put_u32(at + STAGED, 0);
        self.chunk_close(timeline);
        // First before next: a first row behind the next one is put right at attach.
        self.slab.publish_u64(at + ROW_FIRST, row);
        self.slab.publish_u64(at + ROW_NEXT, row);
    }

    /// Begins a row; it is staged until it is committed. Several timelines may be staging at once.
    pub fn row_begin(&mut self, timeline: TimelineId, instant_ms: i64) -> Result<(), Refused> {
        let TimelineId(timeline) = timeline;
        if !self.timeline_used(timeline) || self.timeline_released(timeline) {
            return Err(Refused::NoTimeline);
        }
        if self.row_is_staged(timeline) {
            return Err(Refused::RowOpen);
        }
        if self.rows_open(timeline) == CHUNK_ROWS_MAX {
            self.chunk_close(timeline);
        }
        let (at, row) = (self.map.timeline(timeline), self.rows_open(timeline));
        self.layout_clear_row(self.timeline_layout(timeline), row);
        self.slab.put_u64(at + INSTANTS + 8 * row, instant_ms as u64);
        self.slab.put_u32(at + STAGED_NEW, 0);
        self.slab.put_u32(at + LAST, NONE);
        self.slab.put_u32(at + STAGED, 1);
        Ok(())
    }

    /// Puts one sample into the open row. `age_ms`: the row's instant minus the sample's own timestamp, if it has one.
    ///
    /// # Errors
    ///
    /// A full region refuses a new series, and only that. Before it does, rows of ended series that are spilled make
    /// room.
    pub fn row_put(
        &mut self,
        timeline: TimelineId,
        labels: LabelsRef<'_>,
        bits: u64,
        age_ms: Option<i64>,
    ) -> Result<PutOutcome, Refused> {
        self.row_put_told(timeline, labels, bits, age_ms).map(|(put, _)| put)
    }

    /// As [`Self::row_put`], and tells the column that the row has for the sample's series.
    pub fn row_put_told(
        &mut self,
        timeline: TimelineId,
        labels: LabelsRef<'_>,
        bits: u64,
        age_ms: Option<i64>,
    ) -> Result<(PutOutcome, ColumnId), Refused> {
        let TimelineId(timeline) = timeline;
        if !self.timeline_used(timeline) || !self.row_is_staged(timeline) {
            return Err(Refused::NoRowOpen);
        }
        let row = self.rows_open(timeline);
        let (put, column) = self.row_put_in(timeline, row, labels, bits, age_ms.unwrap_or(0))?;
        if put == PutOutcome::New {
            let at = self.map.timeline(timeline) + STAGED_NEW;
            self.slab.put_u32(at, self.slab.u32(at) + 1);
        }
        Ok((put, ColumnId(column.number())))
    }

    /// The layout that the timeline's rows have now: a [`ColumnId`] is good for as long as it stays the same.
    pub fn row_layout(&self, timeline: TimelineId) -> Option<u64> {
        let layout = self.timeline_layout(timeline.0);
        (layout != NONE).then(|| self.layout_number(layout))
    }

    /// Puts one sample into a column of the open row that is known to be that of its series, without its labels. `None`
    /// when there is no such column in the row's layout, or no page of it yet: then put it by its labels.
    pub fn row_put_at(&mut self, timeline: TimelineId, column: ColumnId, bits: u64) -> Option<PutOutcome> {
        let TimelineId(timeline) = timeline;
        let column = Column::from_number(column.0)?;
        if !self.timeline_used(timeline)
            || !self.row_is_staged(timeline)
            || column.node() >= self.map.plan.layout_nodes_count
        {
            return None;
        }
        let layout = self.timeline_layout(timeline);
        if self.column_layout(column) != layout
            || self.column_index(column) >= self.layout_columns(layout)
            || self.column_kind(column) != ColumnKind::Float
        {
            return None;
        }
        let (raw, row) = (self.column_raw(column)?, self.rows_open(timeline));
        self.expect_after(timeline, column);
        if let Some(duplicate) = self.raw_duplicate(raw, row, bits) {
            self.count(Counter::Duplicates, 1);
            return Some(duplicate);
        }
        self.raw_put_value(raw, row, bits);
        Some(PutOutcome::Known)
    }

    /// Puts a sample into a raw row, the staged or an earlier one.
    pub(super) fn row_put_in(
        &mut self,
        timeline: u32,
        row: usize,
        labels: LabelsRef<'_>,
        bits: u64,
        age_ms: i64,
    ) -> Result<(PutOutcome, Column), Refused> {
        if labels.is_empty() {
            return Err(Refused::NoLabels);
        }
        if labels.as_bytes().len() > LABELS_BYTES_MAX {
            return Err(Refused::LabelsTooLong);
        }
        let mut put = self.row_put_checked(timeline, row, labels, bits, age_ms);
        while matches!(put, Err(Refused::Full { .. })) && self.reclaim() {
            put = self.row_put_checked(timeline, row, labels, bits, age_ms);
        }
        match put {
            Err(Refused::Full { .. }) => self.count(Counter::RefusedSeries, 1),
            Ok((PutOutcome::Duplicate { .. }, _)) => self.count(Counter::Duplicates, 1),
            _ => {}
        }
        put
    }

    fn row_put_checked(
        &mut self,
        timeline: u32,
        row: usize,
        labels: LabelsRef<'_>,
        bits: u64,
        age_ms: i64,
    ) -> Result<(PutOutcome, Column), Refused> {
        let layout = self.timeline_layout(timeline);
        // Late samples come into earlier rows, also while no row is staged.
        let in_order = self.row_is_staged(timeline) && row == self.rows_open(timeline);
        let expected = if in_order { self.expected_column(timeline, labels) } else { None };
        let (series, value, age) = match expected {
            Some(column) if age_ms == 0 => (self.column_series(column), Some(column), None),
            Some(column) => {
                let series = self.column_series(column);
                (series, Some(column), self.series_columns_in(series, layout).1)
            }
            None => {
                let series = match self.series_find(labels) {
                    Some(series) => series,
                    None => self.series_make(labels)?,
                };
                let (value, age) = self.series_columns_in(series, layout);
                (series, value, age)
            }
        };
        let known = value.is_some();
        if let Some(column) = value {
            if in_order {
                self.expect_after(timeline, column);
            }
            if let Some(duplicate) = self.column_raw(column).and_then(|raw| self.raw_duplicate(raw, row, bits)) {
                return Ok((duplicate, column));
            }
        }
        let columns = self.columns_for(layout, series, value, age, age_ms);
        let (column, value, age) = match columns {
            Ok(columns) => columns,
            Err(refused) => {
                if self.series_column(series).is_none() {
                    self.series_drop(series);
                }
                return Err(refused);
            }
        };
        if let Some(age) = age {
            self.raw_put(age, row, age_ms as u64);
            self.raw_set_presence(age, row, Presence::Value);
        }
        self.raw_put_value(value, row, bits);
        Ok((if known { PutOutcome::Known } else { PutOutcome::New }, column))
    }

    /// What a put comes to where the row has something already.
    fn raw_duplicate(&self, raw: RawColumn, row: usize, bits: u64) -> Option<PutOutcome> {
        // The cell of a stale marker that a commit has put means nothing.
        match self.raw_state(raw, row) {
            Presence::Absent => None,
            Presence::Value => Some(PutOutcome::Duplicate { same_value: self.raw_cell(raw, row) == bits }),
            Presence::Stale => Some(PutOutcome::Duplicate { same_value: bits == STALE_NAN_BITS }),
        }
    }

    fn raw_put_value(&mut self, raw: RawColumn, row: usize, bits: u64) {
        let state = if bits == STALE_NAN_BITS { Presence::Stale } else { Presence::Value };
        // The cell first: of a committed row, the presence makes it count.
        self.raw_put(raw, row, bits);
        self.raw_set_presence(raw, row, state);
    }

    /// The column that comes next in the order of the layout, if the labels are those of its series: a target tells its
    /// series in the same order each time.
    fn expected_column(&self, timeline: u32, labels: LabelsRef<'_>) -> Option<Column> {
        let layout = self.timeline_layout(timeline);
        let column = match Column::from_number(self.slab.u32(self.map.timeline(timeline) + LAST)) {
            None => self.layout_column_at(layout, 0),
            Some(last) => self.column_of_values_after(layout, last),
        };
        column.filter(|column| self.series_is(self.column_series(*column), labels))
    }

    fn expect_after(&mut self, timeline: u32, column: Column) {
        self.slab.put_u32(self.map.timeline(timeline) + LAST, column.number());
    }

    fn column_of_values_after(&self, layout: u32, column: Column) -> Option<Column> {
        let columns = self.layout_columns(layout);
        let mut column = column;
        for _ in self.column_index(column) + 1..columns {
            column = self.column_after(column);
            if self.column_kind(column) == ColumnKind::Float {
                return Some(column);
            }
        }
        None
    }

    /// The raw columns that a sample goes to, made where they are missing; the age's only when there is an age.
    fn columns_for(
        &mut self,
        layout: u32,
        series: SeriesId,
        value: Option<Column>,
        age: Option<Column>,
        age_ms: i64,
    ) -> Result<(Column, RawColumn, Option<RawColumn>), Refused> {
        let column = match value {
            Some(column) => column,
            None => self.layout_append(layout, series, ColumnKind::Float, true)?,
        };
        let value = self.column_raw_make(column)?;
        if age_ms == 0 {
            return Ok((column, value, None));
        }
        let age = match age {
            Some(column) => column,
            None => self.layout_append(layout, series, ColumnKind::Age, true)?,
        };
        Ok((column, value, Some(self.column_raw_make(age)?)))
    }

    /// Publishes the open row by one write of its number.
    ///
    /// # Panics
    ///
    /// When no row is open: the caller lost track.
    pub fn row_commit(&mut self, timeline: TimelineId, missing: Missing) -> RowCommitted {
        let TimelineId(timeline) = timeline;
        assert!(self.row_is_staged(timeline), "timeline {timeline} has no open row to commit");
        let (at, row) = (self.map.timeline(timeline), self.rows_open(timeline));
        let (mut samples, mut stale) = (0, 0);
        self.layout_each(self.timeline_layout(timeline), |store, column| {
            let (ColumnKind::Float, Some(raw)) = (store.column_kind(column), store.column_raw(column)) else { return };
            match store.raw_state(raw, row) {
                Presence::Value => samples += 1,
                Presence::Stale => stale += 1,
                Presence::Absent if missing == Missing::Stale => {
                    let before = match row.checked_sub(1) {
                        Some(before) => store.raw_state(raw, before) == Presence::Value,
                        None => store.column_previous(column),
                    };
                    if before {
                        store.raw_set_presence(raw, row, Presence::Stale);
                        stale += 1;
                    }
                }
                Presence::Absent => {}
            }
        });
        let number = self.row_next(timeline);
        let new_series = self.slab.u32(at + STAGED_NEW);
        self.count(Counter::CommittedRows, 1);
        self.count(Counter::CommittedSamples, u64::from(samples + stale));
        self.slab.put_u32(at + STAGED, 0);
        self.slab.publish_u64(at + ROW_NEXT, number + 1);
        RowCommitted { row: number, samples, stale, new_series }
    }

    /// Forgets the open row, if there is one.
    pub fn row_abort(&mut self, timeline: TimelineId) {
        if self.timeline_used(timeline.0) {
            self.slab.put_u32(self.map.timeline(timeline.0) + STAGED, 0);
        }
    }

    // Marks of the spill.

    /// Before this row everything is in stored segments.
    pub fn rows_spilled(&self, timeline: TimelineId) -> u64 {
        self.slab.u64(self.map.timeline(timeline.0) + SPILLED)
    }

    pub fn set_rows_spilled(&mut self, timeline: TimelineId, row: u64) {
        self.slab.put_u64(self.map.timeline(timeline.0) + SPILLED, row);
        self.reclaimed_all = false;
    }

    /// Before this row everything is in the tail log.
    pub fn rows_logged(&self, timeline: TimelineId) -> u64 {
        self.slab.u64(self.map.timeline(timeline.0) + LOGGED)
    }

    pub fn set_rows_logged(&mut self, timeline: TimelineId, row: u64) {
        self.slab.put_u64(self.map.timeline(timeline.0) + LOGGED, row);
    }

    /// What left RAM before it was spilled, since [`Store::rows_lost_clear`].
    pub fn rows_lost(&self, timeline: TimelineId) -> Option<RowsLost> {
        let at = self.map.timeline(timeline.0);
        let from = self.slab.u64(at + LOST_FROM);
        (from != NOWHERE).then(|| RowsLost {
            rows: from..self.slab.u64(at + LOST_TO),
            samples: self.slab.u64(at + LOST_SAMPLES),
            span_ms: (self.slab.i64(at + LOST_T_MIN), self.slab.i64(at + LOST_T_MAX)),
        })
    }

    /// They have been told of. A released timeline that waited for that goes.
    pub fn rows_lost_clear(&mut self, timeline: TimelineId) {
        self.slab.put_u64(self.map.timeline(timeline.0) + LOST_FROM, NOWHERE);
        self.timeline_drop_unused(timeline.0);
    }

    pub(super) fn rows_lose(&mut self, timeline: u32, more: RowsLost) {
        let at = self.map.timeline(timeline);
        let all = match self.rows_lost(TimelineId(timeline)) {
            None => more,
            Some(before) => RowsLost {
                rows: before.rows.start.min(more.rows.start)..before.rows.end.max(more.rows.end),
                samples: before.samples + more.samples,
                span_ms: (before.span_ms.0.min(more.span_ms.0), before.span_ms.1.max(more.span_ms.1)),
            },
        };
        self.slab.put_u64(at + LOST_SAMPLES, all.samples);
        self.slab.put_u64(at + LOST_T_MIN, all.span_ms.0 as u64);
        self.slab.put_u64(at + LOST_T_MAX, all.span_ms.1 as u64);
        self.slab.put_u64(at + LOST_TO, all.rows.end);
        self.slab.put_u64(at + LOST_FROM, all.rows.start);
    }

    // What the other parts of the store ask.

    pub(super) fn timeline_used(&self, timeline: u32) -> bool {
        timeline < self.map.plan.timelines_count && self.slab.u32(self.map.timeline(timeline) + FLAGS) & USED != 0
    }

    pub(super) fn timeline_released(&self, timeline: u32) -> bool {
        self.slab.u32(self.map.timeline(timeline) + FLAGS) & RELEASED != 0
    }

    /// The current layout, or [`NONE`].
    pub(super) fn timeline_layout(&self, timeline: u32) -> u32 {
        match self.timeline_used(timeline) {
            true => self.slab.u32(self.map.timeline(timeline) + LAYOUT),
            false => NONE,
        }
    }

    pub(super) fn timeline_set_layout(&mut self, timeline: u32, layout: u32) {
        self.slab.publish_u32(self.map.timeline(timeline) + LAYOUT, layout);
    }

    /// Position of the oldest chunk in the ring, or [`NOWHERE`].
    pub(super) fn chunk_oldest(&self, timeline: u32) -> u64 {
        self.slab.u64(self.map.timeline(timeline) + CHUNK_OLDEST)
    }

    pub(super) fn chunk_newest(&self, timeline: u32) -> u64 {
        self.slab.u64(self.map.timeline(timeline) + CHUNK_NEWEST)
    }

    /// The timeline got a chunk in the ring.
    pub(super) fn timeline_add_chunk(&mut self, timeline: u32, position: u64) {
        let at = self.map.timeline(timeline);
        if self.chunk_oldest(timeline) == NOWHERE {
            self.slab.put_u64(at + CHUNK_OLDEST, position);
        }
        self.slab.put_u64(at + CHUNK_NEWEST, position);
        self.slab.put_u32(at + CHUNKS, self.slab.u32(at + CHUNKS) + 1);
    }

    /// The timeline lost its oldest chunk; `next` is the one after it.
    pub(super) fn timeline_remove_chunk(&mut self, timeline: u32, next: u64) {
        let at = self.map.timeline(timeline);
        self.slab.put_u64(at + CHUNK_OLDEST, next);
        if next == NOWHERE {
            self.slab.put_u64(at + CHUNK_NEWEST, NOWHERE);
        }
        self.slab.put_u32(at + CHUNKS, self.slab.u32(at + CHUNKS) - 1);
    }

    /// Row after the last committed one.
    pub(super) fn row_next(&self, timeline: u32) -> u64 {
        self.slab.u64(self.map.timeline(timeline) + ROW_NEXT)
    }

    /// First of the rows that lie raw.
    pub(super) fn row_first(&self, timeline: u32) -> u64 {
        self.slab.u64(self.map.timeline(timeline) + ROW_FIRST)
    }

    pub(super) fn set_row_first(&mut self, timeline: u32, row: u64) {
        self.slab.publish_u64(self.map.timeline(timeline) + ROW_FIRST, row);
    }

    /// Rows that lie raw, at most 16.
    pub(super) fn rows_open(&self, timeline: u32) -> usize {
        (self.row_next(timeline) - self.row_first(timeline)) as usize
    }

    /// Instant of a raw row, counted from the first one.
    pub(super) fn raw_instant(&self, timeline: u32, row: usize) -> i64 {
        self.slab.i64(self.map.timeline(timeline) + INSTANTS + 8 * row)
    }

    /// Chunks until the next sweep of a sparse timeline; 0 when it is not sparse.
    pub(super) fn chunks_to_sweep(&self, timeline: u32) -> u32 {
        self.slab.u32(self.map.timeline(timeline) + TO_SWEEP)
    }

    pub(super) fn set_chunks_to_sweep(&mut self, timeline: u32, chunks: u32) {
        self.slab.put_u32(self.map.timeline(timeline) + TO_SWEEP, chunks);
    }

    fn row_is_staged(&self, timeline: u32) -> bool {
        self.slab.u32(self.map.timeline(timeline) + STAGED) != 0
    }

    fn timeline_make(&mut self, key: TimelineKey) -> Result<u32, Refused> {
        let free = (0..self.map.plan.timelines_count).find(|timeline| !self.timeline_used(*timeline));
        let Some(timeline) = free else { return Err(self.full(RegionName::Timelines)) };
        let at = self.map.timeline(timeline);
        self.slab.fill(at..at + sizes::TIMELINE_BYTES, 0);
        self.slab.put_u64(at + KEY, key.0);
        self.slab.put_u32(at + LAYOUT, NONE);
        self.slab.put_u64(at + LOST_FROM, NOWHERE);
        self.slab.put_u64(at + CHUNK_OLDEST, NOWHERE);
        self.slab.put_u64(at + CHUNK_NEWEST, NOWHERE);
        self.slab.publish_u32(at + FLAGS, USED | RELEASED);
        Ok(timeline)
    }

    /// Frees a released timeline without rows.
    pub(super) fn timeline_drop_unused(&mut self, timeline: u32) {
        let at = self.map.timeline(timeline);
        let is_told = self.slab.u64(at + LOST_FROM) == NOWHERE;
        let empty = self.slab.u32(at + CHUNKS) == 0 && self.rows_open(timeline) == 0;
        if is_told && empty && self.timeline_released(timeline) && self.timeline_layout(timeline) == NONE {
            self.slab.publish_u32(at + FLAGS, 0);
        }
    }

    // Attach.

    /// Forgets what is made anew, and counts the rows that were staged.
    pub(super) fn timelines_forget_chunks(&mut self) -> u32 {
        let mut staged = 0;
        for timeline in 0..self.map.plan.timelines_count {
            let at = self.map.timeline(timeline);
            staged += u32::from(self.timeline_used(timeline) && self.row_is_staged(timeline));
            self.slab.put_u32(at + STAGED, 0);
            self.slab.put_u32(at + CHUNKS, 0);
            self.slab.put_u64(at + CHUNK_OLDEST, NOWHERE);
            self.slab.put_u64(at + CHUNK_NEWEST, NOWHERE);
        }
        staged
    }

    /// Checks a timeline's numbers, and finishes [`Store::row_next_at_least`].
    pub(super) fn timeline_check(&mut self, timeline: u32) -> Option<()> {
        let at = self.map.timeline(timeline);
        if self.row_first(timeline) > self.row_next(timeline) {
            let row = self.row_first(timeline);
            self.slab.publish_u64(at + ROW_NEXT, row);
        }
        let layout = self.slab.u32(at + LAYOUT);
        let layout_fits = layout == NONE || self.layout_fits(layout, timeline, 0);
        let rows = self.row_next(timeline) - self.row_first(timeline);
        let open = layout != NONE || self.timeline_released(timeline);
        (rows <= CHUNK_ROWS_MAX as u64 && layout_fits && open && (rows == 0 || layout != NONE)).then_some(())
    }
}
