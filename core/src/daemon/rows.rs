//! The store as the forwarders' queue: rows by number, in RAM or in stored segments.

use super::reader::{Damage, Reader};
use crate::{
    forward::{ColumnVisit, RowSample, RowSource, RowsUnreadable, Run},
    store::{Store, TimelineKey, stored::Stored},
};
use alloc::{collections::BTreeMap, vec::Vec};
use core::ops::Range;

/// Rows of each timeline in stored segments, by key. Each commit adds its own, so that neither it nor forwarding asks the
/// database, which would look at every segment; that is done at the start and when segments were dropped.
#[derive(Default)]
pub(super) struct StoredRows {
    rows: BTreeMap<u64, Range<u64>>,
}

impl StoredRows {
    /// Asks the database. What it does not answer stays as it was.
    pub fn refresh(&mut self, stored: &mut dyn Stored) {
        let mut ends = Vec::new();
        if stored
            .timelines(&mut |key, end| {
                ends.push((key, end));
                true
            })
            .is_err()
        {
            return;
        }
        let mut rows = BTreeMap::new();
        for (key, end) in ends {
            let mut start = end;
            let asked = stored.rows(key, 0, &mut |meta, _| {
                start = meta.row_from;
                false
            });
            match asked {
                Ok(()) => rows.insert(key.0, start..end),
                Err(_) => return,
            };
        }
        self.rows = rows;
    }

    /// These rows are in a segment now.
    pub fn add(&mut self, key: TimelineKey, rows: Range<u64>) {
        let known = self.rows.entry(key.0).or_insert_with(|| rows.clone());
        *known = known.start.min(rows.start)..known.end.max(rows.end);
    }

    /// Before a timeline's first row in this store: its numbers go on behind those of the stored rows. A store that
    /// has no room for the timeline says so when the row is begun.
    pub fn number_rows(&self, store: &mut Store<'_>, key: TimelineKey) {
        let is_new = store.timeline_find(key).is_none_or(|timeline| store.rows(timeline).is_empty());
        if is_new
            && let Some(rows) = self.rows.get(&key.0)
            && let Ok(timeline) = store.timeline_open(key)
        {
            store.row_next_at_least(timeline, rows.end);
        }
    }
}

pub(super) struct HeldRows<'a, 'm> {
    store: &'a Store<'m>,
    reader: Reader<'a, 'm>,
    stored: &'a StoredRows,
}

impl<'a, 'm> HeldRows<'a, 'm> {
    pub fn new(store: &'a Store<'m>, segments: &'a mut dyn Stored, stored: &'a StoredRows) -> Self {
        Self { store, reader: Reader::new(store, segments), stored }
    }

    /// Stored units that had to be left out.
    pub fn damage(self) -> Damage {
        self.reader.into_damage()
    }
}

impl RowSource for HeldRows<'_, '_> {
    fn timelines(&mut self, visit: &mut dyn FnMut(TimelineKey, Range<u64>)) {
        let mut held = self.stored.rows.clone();
        for timeline in self.store.timelines() {
            let rows = self.store.rows(timeline);
            if rows.is_empty() {
                continue;
            }
            held.entry(self.store.timeline_key(timeline).0)
                .and_modify(|stored| *stored = stored.start.min(rows.start)..stored.end.max(rows.end))
                .or_insert(rows);
        }
        for (key, rows) in held {
            visit(TimelineKey(key), rows);
        }
    }

    fn run(&mut self, timeline: TimelineKey, row: u64) -> Result<Option<Run>, RowsUnreadable> {
        let hot = self.store.timeline_find(timeline).and_then(|id| {
            let run = self.store.layout_of_rows(id, row)?;
            let first_ms = self.store.row_instant(id, run.rows.start)?;
            let last_ms = self.store.row_instant(id, run.rows.end - 1)?;
            Some(Run { rows: run.rows, column_count: run.columns, first_ms, last_ms })
        });
        if hot.as_ref().is_some_and(|run| run.rows.start <= row) {
            return Ok(hot);
        }
        // A database that does not answer now is asked again later: nothing is passed over for it.
        let stored = self.reader.stored_rows(timeline, row);
        let stored = stored.map_err(|error| RowsUnreadable { reason: error.reason })?;
        Ok(match (hot, stored) {
            (Some(hot), Some(mut stored)) if stored.rows.start < hot.rows.start => {
                stored.rows.end = stored.rows.end.min(hot.rows.start);
                Some(stored)
            }
            (Some(hot), _) => Some(hot),
            (None, stored) => stored,
        })
    }

    fn columns(
        &mut self,
        timeline: TimelineKey,
        rows: Range<u64>,
        column_from: u32,
        visit: &mut ColumnVisit<'_>,
    ) -> Result<(), RowsUnreadable> {
        let mut samples: Vec<RowSample> = Vec::new();
        self.reader
            .rows_read(timeline, rows, &mut |series| {
                if series.column < column_from {
                    return true;
                }
                samples.clear();
                let cells = series.rows.iter().zip(series.t_ms).zip(series.bits);
                samples.extend(cells.map(|((row, t_ms), bits)| RowSample { row: *row, t_ms: *t_ms, bits: *bits }));
                visit(series.column, series.labels, &samples)
            })
            .map_err(|error| RowsUnreadable { reason: error.reason })
    }
}
