//! What forwarding reads from: the rows of a timeline, in RAM and in stored segments as one.
//!
//! Between being spilled and leaving RAM a row is in both, and is given once. A stored unit that cannot be read is left out
//! and counted.

use crate::{
    forward::Run,
    labels::{LabelSet, LabelsRef},
    spill::{FormatError, SegmentReader, layout_part_read},
    store::{
        ColumnKind, Store, TimelineKey,
        stored::{SegmentMeta, Stored, StoredError},
    },
};
use alloc::vec::Vec;
use core::ops::Range;

/// Stored units that were left out since the reader was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// The first of them; the others are met again when these are known.
    pub units: heapless::Vec<DamagedUnit, DAMAGED_UNITS_MAX>,
    /// Units that are whole, but only a newer version reads them.
    pub newer: u64,
}

const DAMAGED_UNITS_MAX: usize = 8;

/// A segment or a layout part that could not be read, in whole or in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedUnit {
    /// `None`: it is the layout.
    pub sequence: Option<u64>,
    pub layout: u64,
    pub timeline: TimelineKey,
    pub rows: Option<Range<u64>>,
    pub span_ms: Option<(i64, i64)>,
    /// At most so many, absent ones counted; 0: nobody knows.
    pub samples: u64,
    pub error: FormatError,
}

impl Damage {
    pub(super) fn segment(&mut self, meta: &SegmentMeta, error: FormatError) {
        self.unit(DamagedUnit {
            sequence: Some(meta.sequence),
            layout: meta.layout,
            timeline: meta.timeline,
            rows: Some(meta.row_from..meta.row_from + u64::from(meta.row_count)),
            span_ms: Some((meta.t_min_ms, meta.t_max_ms)),
            samples: u64::from(meta.row_count) * u64::from(meta.column_count),
            error,
        });
    }

    pub(super) fn layout(&mut self, layout: u64, timeline: TimelineKey, error: FormatError) {
        self.unit(DamagedUnit { sequence: None, layout, timeline, rows: None, span_ms: None, samples: 0, error });
    }

    fn unit(&mut self, unit: DamagedUnit) {
        if matches!(unit.error, FormatError::Newer { .. } | FormatError::FromNewerVersion { .. }) {
            self.newer += 1;
            return;
        }
        let is_known = self.units.iter().any(|known| (known.sequence, known.layout) == (unit.sequence, unit.layout));
        if !is_known {
            // A full list is no loss: see above.
            let _ = self.units.push(unit);
        }
    }
}

/// One series over a run of rows, for forwarding: slices of one length, ascending by row.
#[derive(Clone, Copy, Debug)]
pub struct SeriesRows<'a> {
    /// The column in the layout of these rows.
    pub column: u32,
    pub labels: LabelsRef<'a>,
    pub rows: &'a [u64],
    pub t_ms: &'a [i64],
    /// A stale marker is `STALE_NAN_BITS`.
    pub bits: &'a [u64],
}

/// Heap for the labels of one stored layout while its rows are read; a larger layout is read in several passes.
const LABELS_PASS_BYTES: usize = 64 * 1024;

pub struct Reader<'a, 'm> {
    store: &'a Store<'m>,
    stored: &'a mut dyn Stored,
    segments: SegmentReader,
    damage: Damage,
}

impl<'a, 'm> Reader<'a, 'm> {
    pub fn new(store: &'a Store<'m>, stored: &'a mut dyn Stored) -> Self {
        Self { store, stored, segments: SegmentReader::default(), damage: Damage::default() }
    }

    /// What had to be left out.
    pub fn into_damage(self) -> Damage {
        self.damage
    }

    /// Visits every series that has samples in `rows`, in runs of at most 256 rows, earlier runs first, column by column
    /// within one. `false` from the visitor stops. A row that is stored and in RAM is given once.
    ///
    /// # Errors
    ///
    /// The disk does not answer. A damaged segment is left out and counted.
    pub fn rows_read(
        &mut self,
        key: TimelineKey,
        rows: Range<u64>,
        visit: &mut dyn FnMut(SeriesRows<'_>) -> bool,
    ) -> Result<(), StoredError> {
        let timeline = self.store.timeline_find(key);
        let hot = timeline.map_or(0..0, |timeline| self.store.rows(timeline));
        let mut from = rows.start;
        // What RAM has need not be fetched; but only from its first row on, and as far as it has no gap.
        while from < rows.end {
            let run = timeline
                .filter(|_| hot.contains(&from))
                .and_then(|id| Some((id, self.store.layout_of_rows(id, from)?)));
            if let Some((timeline, run)) = run.filter(|(_, run)| run.rows.start == from) {
                let end = rows.end.min(run.rows.end);
                let mut go_on = true;
                self.store.rows_read(timeline, from..end, &mut |column| {
                    let given = SeriesRows {
                        column: column.column,
                        labels: column.labels,
                        rows: column.rows,
                        t_ms: column.t_ms,
                        bits: column.bits,
                    };
                    go_on = visit(given);
                    go_on
                });
                if !go_on {
                    return Ok(());
                }
                from = end;
                continue;
            }
            let end = if hot.start > from { rows.end.min(hot.start) } else { rows.end };
            match self.stored_run(key, from..end, visit)? {
                Some(next) => from = next,
                None => {
                    // Nothing stored: on to the next row in RAM, if there is one.
                    let next = timeline.and_then(|timeline| self.store.layout_of_rows(timeline, from));
                    match next.filter(|run| run.rows.start > from) {
                        Some(run) => from = run.rows.start,
                        None => return Ok(()),
                    }
                }
            }
        }
        Ok(())
    }

    /// The first stored rows at or after `row`, as far as the segments that begin with them reach: one run for the
    /// forwarders.
    pub fn stored_rows(&mut self, key: TimelineKey, row: u64) -> Result<Option<Run>, StoredError> {
        let mut run: Option<(u64, Run)> = None;
        self.stored.rows(key, row, &mut |meta, _| {
            let columns = meta.column_from + meta.column_count;
            match &mut run {
                None => {
                    let rows = row.max(meta.row_from)..meta.row_from + u64::from(meta.row_count);
                    let (first_ms, last_ms) = (meta.t_min_ms, meta.t_max_ms);
                    run = Some((meta.row_from, Run { rows, column_count: columns, first_ms, last_ms }));
                }
                Some((row_from, run)) if *row_from == meta.row_from => {
                    run.column_count = run.column_count.max(columns);
                    run.first_ms = run.first_ms.min(meta.t_min_ms);
                    run.last_ms = run.last_ms.max(meta.t_max_ms);
                }
                Some(_) => return false,
            }
            true
        })?;
        Ok(run.map(|(_, run)| run))
    }

    /// Gives the first stored rows in `rows`, as far as the segments that begin with them reach; returns the row behind, or
    /// `None` when nothing is stored or the visitor stopped.
    fn stored_run(
        &mut self,
        key: TimelineKey,
        rows: Range<u64>,
        visit: &mut dyn FnMut(SeriesRows<'_>) -> bool,
    ) -> Result<Option<u64>, StoredError> {
        let mut first: Option<SegmentMeta> = None;
        self.stored.rows(key, rows.start, &mut |meta, _| {
            first = Some(*meta);
            false
        })?;
        let Some(first) = first.filter(|meta| meta.row_from < rows.end) else { return Ok(None) };
        let end = rows.end.min(first.row_from + u64::from(first.row_count));
        let taken = rows.start.max(first.row_from)..end;
        let mut column_next = 0;
        loop {
            let labels = self.labels_pass(first.layout, column_next)?;
            let Some(last) = labels.last().map(|(column, _)| *column) else {
                if column_next == 0 {
                    self.damage.segment(&first, FormatError::Truncated { what: "layout" });
                }
                break;
            };
            let mut go_on = true;
            let (segments, damage) = (&mut self.segments, &mut self.damage);
            self.stored.rows(key, rows.start, &mut |meta, bytes| {
                if meta.row_from != first.row_from {
                    return meta.row_from < end;
                }
                if meta.layout != first.layout
                    || meta.column_from > last
                    || meta.column_from + meta.column_count <= column_next
                {
                    return true;
                }
                let read = segments.columns(bytes, taken.clone(), &mut |samples| {
                    if let Ok(at) = labels.binary_search_by_key(&samples.column, |(column, _)| *column) {
                        let (column, rows, t_ms, bits) = (samples.column, samples.rows, samples.t_ms, samples.bits);
                        go_on = visit(SeriesRows { column, labels: labels[at].1.as_ref(), rows, t_ms, bits });
                    }
                    go_on
                });
                if let Err(error) = read {
                    damage.segment(meta, error);
                }
                go_on
            })?;
            if !go_on {
                return Ok(None);
            }
            column_next = last + 1;
        }
        Ok(Some(end))
    }

    /// Labels of a stored layout's value columns from `column_from` on, as many as one pass holds.
    fn labels_pass(&mut self, layout: u64, column_from: u32) -> Result<Vec<(u32, LabelSet)>, StoredError> {
        let (mut labels, mut bytes) = (Vec::new(), 0);
        let damage = &mut self.damage;
        self.stored.layout(layout, &mut |part| {
            let read = layout_part_read(part.bytes, &mut |column, kind, set| {
                let next = labels.last().map_or(column_from, |(last, _): &(u32, LabelSet)| last + 1);
                if kind == ColumnKind::Float && column >= next && bytes < LABELS_PASS_BYTES {
                    bytes += set.as_bytes().len() + core::mem::size_of::<(u32, LabelSet)>();
                    labels.push((column, LabelSet::from(set)));
                }
                bytes < LABELS_PASS_BYTES
            });
            // A damaged part would be met again in every later pass.
            if let Err(error) = read
                && part.column_from >= column_from
            {
                damage.layout(layout, part.timeline, error);
            }
            bytes < LABELS_PASS_BYTES
        })?;
        Ok(labels)
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
pub(super) mod tests;
