//! What queries and forwarding read from: RAM and stored segments as one.
//!
//! Between being spilled and leaving RAM a row is in both, so samples are merged by time and of two at one instant one
//! stays. A stored unit that cannot be read is left out and counted; the answer is made of the rest.

use crate::{
    forward::Run,
    labels::{LabelSet, LabelsRef, Matcher},
    promql::source::{Part, Selected, Source, SourceError},
    spill::{FormatError, SegmentReader, layout_part_read},
    store::{
        ColumnKind, STALE_NAN_BITS, Sample, SeriesId, Store, TimelineKey,
        stored::{SegmentMeta, Stored, StoredError},
    },
};
use alloc::{format, vec, vec::Vec};
use core::ops::Range;
use hashbrown::{HashTable, hash_table::Entry};

/// Stored units that were left out since the reader was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// The first of them; the others are met again when these are known.
    pub units: heapless::Vec<DamagedUnit, DAMAGED_UNITS_MAX>,
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
    fn segment(&mut self, meta: &SegmentMeta, error: FormatError) {
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

    fn layout(&mut self, layout: u64, timeline: TimelineKey, error: FormatError) {
        self.unit(DamagedUnit { sequence: None, layout, timeline, rows: None, span_ms: None, samples: 0, error });
    }

    fn unit(&mut self, unit: DamagedUnit) {
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

impl Source for Reader<'_, '_> {
    fn select(
        &mut self,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
        bytes_max: usize,
        selection: &mut Vec<Selected>,
    ) -> Result<(), SourceError> {
        let mut select = Select { found: Vec::new(), by_labels: HashTable::new(), bytes: 0, bytes_max };
        let matches = |labels: LabelsRef<'_>| matchers.iter().all(|matcher| matcher.matches_labels(labels));
        let mut fits = true;
        self.store.series_visit(&mut |series, labels| {
            let in_range =
                self.store.series_time_range(series).is_some_and(|(t_min, t_max)| t_min <= end_ms && t_max >= start_ms);
            if in_range && matches(labels) {
                let labels_hash = labels.stable_hash();
                fits = select.add(labels, labels_hash, Part::Hot { series: series.0, labels_hash });
            }
            fits
        });
        let damage = &mut self.damage;
        self.stored
            .layouts(start_ms, end_ms, &mut |part| {
                let read = layout_part_read(part.bytes, &mut |column, kind, labels| {
                    if kind == ColumnKind::Float && matches(labels) {
                        fits = select.add(labels, labels.stable_hash(), Part::Stored { layout: part.layout, column });
                    }
                    fits
                });
                if let Err(error) = read {
                    damage.layout(part.layout, part.timeline, error);
                }
                fits
            })
            .map_err(stored_error)?;
        if !fits {
            return Err(SourceError(
                format!(
                    "the series selected need more than {bytes_max} bytes of query memory; narrow the selector or the \
                     time range, or raise --memory.limit"
                )
                .into(),
            ));
        }
        selection
            .extend(select.found.into_iter().map(|found| Selected { labels: found.labels, parts: found.parts.into() }));
        Ok(())
    }

    fn read(
        &mut self,
        selected: &Selected,
        start_ms: i64,
        end_ms: i64,
        samples: &mut Vec<Sample>,
    ) -> Result<(), SourceError> {
        let mut merge = Merge::new(samples);
        for part in &selected.parts {
            match *part {
                Part::Stored { layout, column } => {
                    let (segments, damage) = (&mut self.segments, &mut self.damage);
                    self.stored
                        .column(layout, column, start_ms, end_ms, &mut |meta, bytes| {
                            let read = segments.series(bytes, column, &mut |t_ms, bits| {
                                if start_ms <= t_ms && t_ms <= end_ms {
                                    merge.push(t_ms, bits);
                                }
                            });
                            if let Err(error) = read {
                                damage.segment(meta, error);
                            }
                            true
                        })
                        .map_err(stored_error)?;
                }
                Part::Hot { .. } => {}
                Part::Index(_) => return Err(SourceError("a part of a test's source was read from the store".into())),
            }
        }
        for part in &selected.parts {
            // The series may have left RAM, and another taken its place, since it was selected.
            if let Part::Hot { series, labels_hash } = *part
                && self.store.series_labels_hash(SeriesId(series)) == Some(labels_hash)
            {
                self.store.series_read(SeriesId(series), start_ms, end_ms, &mut |t_ms, bits| merge.push(t_ms, bits));
            }
        }
        merge.finish();
        Ok(())
    }
}

/// Samples of one series that come part by part, older places first: of two at one instant the one that comes later
/// stays (after the clock went back that is the newer row), but a stale marker never takes a value's place, so that two
/// timelines of one series do not end each other.
struct Merge<'s> {
    samples: &'s mut Vec<Sample>,
    from: usize,
    is_sorted: bool,
}

impl<'s> Merge<'s> {
    fn new(samples: &'s mut Vec<Sample>) -> Self {
        let from = samples.len();
        Self { samples, from, is_sorted: true }
    }

    fn push(&mut self, t_ms: i64, bits: u64) {
        let sample = Sample { t_ms, value: f64::from_bits(bits) };
        let added = &mut self.samples[self.from..];
        if self.is_sorted && added.last().is_some_and(|last| last.t_ms >= t_ms) {
            // What is stored and still in RAM comes twice: no need to sort for that.
            match added.binary_search_by_key(&t_ms, |known| known.t_ms) {
                Ok(at) => return added[at] = later(added[at], sample),
                Err(_) => self.is_sorted = false,
            }
        }
        self.samples.push(sample);
    }

    fn finish(self) {
        if self.is_sorted {
            return;
        }
        self.samples[self.from..].sort_by_key(|sample| sample.t_ms);
        let mut kept = self.from;
        for index in self.from..self.samples.len() {
            let sample = self.samples[index];
            if kept > self.from && self.samples[kept - 1].t_ms == sample.t_ms {
                self.samples[kept - 1] = later(self.samples[kept - 1], sample);
            } else {
                self.samples[kept] = sample;
                kept += 1;
            }
        }
        self.samples.truncate(kept);
    }
}

fn later(known: Sample, sample: Sample) -> Sample {
    if sample.value.to_bits() == STALE_NAN_BITS { known } else { sample }
}

fn stored_error(error: StoredError) -> SourceError {
    SourceError(format!("reading stored segments: {error}").into())
}

/// A selection that grows under a bound.
struct Select {
    found: Vec<Found>,
    by_labels: HashTable<u32>,
    bytes: usize,
    bytes_max: usize,
}

struct Found {
    labels: LabelSet,
    hash: u64,
    parts: Vec<Part>,
}

impl Select {
    /// `false`: that would take more heap than allowed.
    fn add(&mut self, labels: LabelsRef<'_>, hash: u64, part: Part) -> bool {
        // Growing vectors hold up to twice what is in them, and while they grow three times.
        const SERIES_BYTES: usize = 3 * core::mem::size_of::<Found>() + 3 * core::mem::size_of::<u64>() + 16;
        const PART_BYTES: usize = 3 * core::mem::size_of::<Part>();
        let found = &self.found;
        let known = self.by_labels.find(hash, |index| found[*index as usize].labels.as_ref() == labels).copied();
        let cost = PART_BYTES + if known.is_none() { SERIES_BYTES + labels.as_bytes().len() } else { 0 };
        if self.bytes + cost > self.bytes_max {
            return false;
        }
        if let Some(index) = known {
            let parts = &mut self.found[index as usize].parts;
            if !parts.contains(&part) {
                parts.push(part);
                self.bytes += PART_BYTES;
            }
            return true;
        }
        self.bytes += cost;
        let index = self.found.len() as u32;
        let found = &self.found;
        let same = |other: &u32| found[*other as usize].labels.as_ref() == labels;
        if let Entry::Vacant(vacant) = self.by_labels.entry(hash, same, |other| found[*other as usize].hash) {
            vacant.insert(index);
        }
        self.found.push(Found { labels: LabelSet::from(labels), hash, parts: vec![part] });
        true
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
