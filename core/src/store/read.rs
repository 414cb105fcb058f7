//! Reading: a series by time, and a timeline's rows by number.

use super::{
    ColumnCells, ColumnKind, ColumnRows, LayoutRun, Presence, STALE_NAN_BITS, SeriesId, Store, TimelineId,
    ring::{Cells, Chunk},
    sizes::PAGE_COLUMNS,
    slab::NONE,
};
use crate::{
    labels::LABELS_BYTES_MAX,
    limits::{CHUNK_ROWS_MAX, RUN_ROWS_MAX},
};
use core::ops::Range;

/// Rows of a timeline that lie together: a chunk, or the raw ones.
#[derive(Clone, Debug)]
struct Piece {
    layout: u32,
    columns: u32,
    rows: Range<u64>,
    /// `None`: the raw rows.
    chunk: Option<Chunk>,
}

/// Store, timeline, piece, index of the column of values, index of the column of ages.
type PieceVisit<'v, S> = dyn FnMut(&S, u32, &Piece, u32, Option<u32>) + 'v;

impl Store<'_> {
    /// Hull of the timestamps of the rows in RAM that have a column for this series.
    pub fn series_time_range(&self, series: SeriesId) -> Option<(i64, i64)> {
        let mut found: Option<(i64, i64)> = None;
        self.series_pieces(series, &mut |store, timeline, piece, _, age| {
            let (min_ms, max_ms) = store.piece_range(timeline, piece, age);
            let (least, most) = found.unwrap_or((min_ms, max_ms));
            found = Some((least.min(min_ms), most.max(max_ms)));
        });
        found
    }

    /// Where the values of a series are or will be stored, newest first: the layout's number and the column's index.
    pub fn series_places(&self, series: SeriesId, visit: &mut dyn FnMut(u64, u32)) {
        let mut column = self.series_column(series);
        while let Some(here) = column {
            if self.column_kind(here) == ColumnKind::Float {
                visit(self.layout_number(self.column_layout(here)), self.column_index(here));
            }
            column = self.column_next(here);
        }
    }

    /// Samples and stale markers with `start_ms <= t_ms <= end_ms`, timeline by timeline; ascending within a timeline
    /// unless the clock went back or samples have their own timestamps.
    pub fn series_read(&self, series: SeriesId, start_ms: i64, end_ms: i64, visit: &mut dyn FnMut(i64, u64)) {
        self.series_read_before(series, start_ms, end_ms, &|_| u64::MAX, visit);
    }

    /// As [`Self::series_read`], of each timeline only the rows before one.
    pub fn series_read_before(
        &self,
        series: SeriesId,
        start_ms: i64,
        end_ms: i64,
        row_end: &dyn Fn(TimelineId) -> u64,
        visit: &mut dyn FnMut(i64, u64),
    ) {
        self.series_pieces(series, &mut |store, timeline, piece, value, age| {
            let rows_max = row_end(TimelineId(timeline)).saturating_sub(piece.rows.start);
            if rows_max == 0 {
                return;
            }
            let (min_ms, max_ms) = store.piece_range(timeline, piece, age);
            if max_ms < start_ms || min_ms > end_ms {
                return;
            }
            let (instants, rows) = store.piece_instants(timeline, piece);
            let values = store.piece_column(piece, value);
            let ages = age.map(|age| store.piece_column(piece, age));
            let rows = rows.min(usize::try_from(rows_max).unwrap_or(usize::MAX));
            for (row, instant) in instants[..rows].iter().enumerate() {
                let t_ms = sample_ms(*instant, row, ages.as_ref());
                let bits = match values.presence[row] {
                    Presence::Absent => continue,
                    Presence::Value => values.cells[row],
                    Presence::Stale => STALE_NAN_BITS,
                };
                if (start_ms..=end_ms).contains(&t_ms) {
                    visit(t_ms, bits);
                }
            }
        });
    }

    /// Every piece that has a column for the series: its timeline, and the indexes of the columns of values and ages.
    fn series_pieces(&self, series: SeriesId, visit: &mut PieceVisit<'_, Self>) {
        let mut column = self.series_column(series);
        while let Some(here) = column {
            let timeline = self.layout_timeline(self.column_layout(here));
            // Each timeline once, at the first of its columns.
            let mut earlier = self.series_column(series);
            while let Some(before) = earlier.filter(|before| *before != here) {
                if self.layout_timeline(self.column_layout(before)) == timeline {
                    break;
                }
                earlier = self.column_next(before);
            }
            if earlier == Some(here) {
                for piece in self.pieces(timeline) {
                    let (value, age) = self.series_columns_in(series, piece.layout);
                    let index = value.map(|value| self.column_index(value)).filter(|index| *index < piece.columns);
                    let age = age.map(|age| self.column_index(age)).filter(|index| *index < piece.columns);
                    if let Some(index) = index {
                        visit(self, timeline, &piece, index, age);
                    }
                }
            }
            column = self.column_next(here);
        }
    }

    /// Committed rows in RAM. After recovery from a damaged log there may be gaps inside.
    pub fn rows(&self, timeline: TimelineId) -> Range<u64> {
        let TimelineId(timeline) = timeline;
        if !self.timeline_used(timeline) {
            return 0..0;
        }
        let first = self.chunks(timeline).next().map_or(self.row_first(timeline), |chunk| chunk.first_row);
        first..self.row_next(timeline)
    }

    /// A row's instant; `None` when it is not in RAM.
    pub fn row_instant(&self, timeline: TimelineId, row: u64) -> Option<i64> {
        let piece = self.pieces(timeline.0).find(|piece| piece.rows.contains(&row))?;
        let (instants, _) = self.piece_instants(timeline.0, &piece);
        Some(instants[(row - piece.rows.start) as usize])
    }

    /// The instant of each timeline's last row, of those that have one in RAM.
    pub fn newest_rows_ms(&self) -> impl Iterator<Item = i64> {
        self.timelines().filter_map(|timeline| self.row_instant(timeline, self.rows(timeline).end.checked_sub(1)?))
    }

    /// The instants of `rows` (at most 256, all in RAM), written into the start of `instants_ms`; `None` when one is
    /// missing or `instants_ms` is too short.
    pub fn rows_instants(&self, timeline: TimelineId, rows: Range<u64>, instants_ms: &mut [i64]) -> Option<()> {
        let mut next = rows.start;
        for piece in self.pieces(timeline.0) {
            if !piece.rows.contains(&next) || next >= rows.end {
                continue;
            }
            let (instants, _) = self.piece_instants(timeline.0, &piece);
            while next < piece.rows.end.min(rows.end) {
                *instants_ms.get_mut((next - rows.start) as usize)? = instants[(next - piece.rows.start) as usize];
                next += 1;
            }
        }
        (next >= rows.end).then_some(())
    }

    /// Visits every series that has samples in `rows`, column by column; a long run comes in several visits of at
    /// most 256 rows, earlier rows first. Return `false` to stop. Takes 40 KiB of stack.
    pub fn rows_read(&self, timeline: TimelineId, rows: Range<u64>, visit: &mut dyn FnMut(ColumnRows<'_>) -> bool) {
        let mut next = rows.start;
        while let Some(run) = self.layout_of_rows(timeline, next) {
            let to = run.rows.end.min(rows.end).min(run.rows.start + RUN_ROWS_MAX as u64);
            if run.rows.start >= to || !self.run_read(timeline, &run, run.rows.start..to, visit) {
                return;
            }
            next = to;
        }
    }

    fn run_read(
        &self,
        timeline: TimelineId,
        run: &LayoutRun,
        rows: Range<u64>,
        visit: &mut dyn FnMut(ColumnRows<'_>) -> bool,
    ) -> bool {
        let mut labels_buf = [0; LABELS_BYTES_MAX];
        let mut instants = [0; RUN_ROWS_MAX];
        let (mut numbers, mut t_ms, mut bits) = ([0; RUN_ROWS_MAX], [0; RUN_ROWS_MAX], [0; RUN_ROWS_MAX]);
        let got = self.rows_instants(timeline, rows.clone(), &mut instants);
        got.expect("the rows of a run are in RAM");
        let layout = self.layout_slot(timeline, run.layout).expect("a run's layout is in RAM");
        let mut going = true;
        let read = self.columns_read(timeline, rows.clone(), 0..run.columns, &mut |column| {
            if column.kind == ColumnKind::Age {
                return true;
            }
            let (_, age) = self.series_columns_in(column.series, layout);
            let mut count = 0;
            for (row, state) in column.presence.iter().enumerate() {
                bits[count] = match state {
                    Presence::Absent => continue,
                    Presence::Value => column.cells[row],
                    Presence::Stale => STALE_NAN_BITS,
                };
                numbers[count] = rows.start + row as u64;
                t_ms[count] = instants[row];
                count += 1;
            }
            if count == 0 {
                return true;
            }
            let age = age.map(|age| self.column_index(age));
            if let Some(age) = age {
                self.ages_subtract(timeline.0, age, &numbers[..count], &mut t_ms[..count]);
            }
            let labels = self.series_labels(column.series, &mut labels_buf);
            going = visit(ColumnRows {
                series: column.series,
                labels: labels.expect("labels are checked when made and at attach"),
                layout: run.layout,
                column: column.column,
                kind: if age.is_some() { ColumnKind::Age } else { ColumnKind::Float },
                rows: &numbers[..count],
                t_ms: &t_ms[..count],
                bits: &bits[..count],
            });
            going
        });
        read.expect("a run has one layout and its rows are in RAM");
        going
    }

    /// Moves rows' instants to the timestamps that their samples came with.
    fn ages_subtract(&self, timeline: u32, age: u32, numbers: &[u64], t_ms: &mut [i64]) {
        let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else { return };
        for piece in self.pieces(timeline) {
            if piece.rows.end <= *first || piece.rows.start > *last || age >= piece.columns {
                continue;
            }
            let ages = self.piece_column(&piece, age);
            for (number, t_ms) in numbers.iter().zip(&mut *t_ms) {
                if piece.rows.contains(number) {
                    *t_ms = sample_ms(*t_ms, (number - piece.rows.start) as usize, Some(&ages));
                }
            }
        }
    }

    /// The longest run of rows that begins with the first row in RAM at or after `row` and has one layout.
    pub fn layout_of_rows(&self, timeline: TimelineId, row: u64) -> Option<LayoutRun> {
        let mut run: Option<(u32, LayoutRun)> = None;
        for piece in self.pieces(timeline.0).filter(|piece| piece.rows.end > row) {
            match &mut run {
                None => {
                    let layout = self.layout_number(piece.layout);
                    let rows = piece.rows.start.max(row)..piece.rows.end;
                    run = Some((piece.layout, LayoutRun { layout, columns: piece.columns, rows }));
                }
                Some((layout, run)) if *layout == piece.layout && run.rows.end == piece.rows.start => {
                    run.rows.end = piece.rows.end;
                    run.columns = piece.columns;
                }
                Some(_) => break,
            }
        }
        run.map(|(_, run)| run)
    }

    /// What a column of a layout in RAM is.
    pub fn layout_column(&self, timeline: TimelineId, layout: u64, column: u32) -> Option<(ColumnKind, SeriesId)> {
        let column = self.layout_column_at(self.layout_slot(timeline, layout)?, column)?;
        Some((self.column_kind(column), self.column_series(column)))
    }

    /// Visits the cells of `columns` over `rows`: at most 256 rows of one [`LayoutRun`], all in RAM. Every column is
    /// visited, also one without a value. `false` from the visitor stops. Returns `None` when the rows are not that, or
    /// the run has fewer columns. Takes 20 KiB of stack.
    pub fn columns_read(
        &self,
        timeline: TimelineId,
        rows: Range<u64>,
        columns: Range<u32>,
        visit: &mut dyn FnMut(ColumnCells<'_>) -> bool,
    ) -> Option<()> {
        let run = self.layout_of_rows(timeline, rows.start)?;
        let count = rows.end.checked_sub(rows.start)? as usize;
        if run.rows.start != rows.start || run.rows.end < rows.end || count > RUN_ROWS_MAX || columns.end > run.columns
        {
            return None;
        }
        let layout = self.layout_slot(timeline, run.layout)?;
        let mut cells = [[0; RUN_ROWS_MAX]; PAGE_COLUMNS];
        let mut presence = [[Presence::Absent; RUN_ROWS_MAX]; PAGE_COLUMNS];
        let mut index = columns.start;
        while index < columns.end {
            let stripe = index as usize / PAGE_COLUMNS;
            let stripe_start = (stripe * PAGE_COLUMNS) as u32;
            let to = (stripe_start + PAGE_COLUMNS as u32).min(columns.end);
            presence.iter_mut().for_each(|column| column[..count].fill(Presence::Absent));
            for piece in self.pieces(timeline.0) {
                let (from_row, to_row) = (piece.rows.start.max(rows.start), piece.rows.end.min(rows.end));
                if from_row >= to_row {
                    continue;
                }
                let source = (from_row - piece.rows.start) as usize..(to_row - piece.rows.start) as usize;
                let target = (from_row - rows.start) as usize..(to_row - rows.start) as usize;
                self.piece_stripe(&piece, stripe, (to - 1 - stripe_start) as usize, &mut |place, found| {
                    cells[place][target.clone()].copy_from_slice(&found.cells[source.clone()]);
                    presence[place][target.clone()].copy_from_slice(&found.presence[source.clone()]);
                });
            }
            let mut column = self.layout_column_at(layout, index)?;
            while index < to {
                let place = index as usize % PAGE_COLUMNS;
                let going = visit(ColumnCells {
                    column: index,
                    kind: self.column_kind(column),
                    series: self.column_series(column),
                    cells: &cells[place][..count],
                    presence: &presence[place][..count],
                });
                if !going {
                    return Some(());
                }
                index += 1;
                if index < to {
                    column = self.column_after(column);
                }
            }
        }
        Some(())
    }

    /// The pieces of a timeline, oldest first.
    fn pieces(&self, timeline: u32) -> impl Iterator<Item = Piece> {
        let used = self.timeline_used(timeline);
        let chunks = used.then(|| self.chunks(timeline)).into_iter().flatten();
        let raw = (used && self.rows_open(timeline) > 0).then(|| {
            let layout = self.timeline_layout(timeline);
            let rows = self.row_first(timeline)..self.row_next(timeline);
            Piece { layout, columns: self.layout_columns(layout), rows, chunk: None }
        });
        let packed = |chunk: Chunk| Piece {
            layout: chunk.layout,
            columns: chunk.columns,
            rows: chunk.row_range(),
            chunk: Some(chunk),
        };
        chunks.map(packed).chain(raw)
    }

    fn piece_instants(&self, timeline: u32, piece: &Piece) -> ([i64; CHUNK_ROWS_MAX], usize) {
        let rows = (piece.rows.end - piece.rows.start) as usize;
        let instants = match &piece.chunk {
            Some(chunk) => self.chunk_instants(chunk),
            None => core::array::from_fn(|row| if row < rows { self.raw_instant(timeline, row) } else { 0 }),
        };
        (instants, rows)
    }

    /// Hull of the timestamps of a chunk, or of raw rows with these ages.
    fn piece_range(&self, timeline: u32, piece: &Piece, age: Option<u32>) -> (i64, i64) {
        if let Some(chunk) = &piece.chunk {
            return (chunk.t_min_ms, chunk.t_max_ms);
        }
        let (instants, rows) = self.piece_instants(timeline, piece);
        let (mut min_ms, mut max_ms) = (i64::MAX, i64::MIN);
        let ages = age.map(|age| self.piece_column(piece, age));
        for (row, instant) in instants[..rows].iter().enumerate() {
            let t_ms = sample_ms(*instant, row, ages.as_ref());
            (min_ms, max_ms) = (min_ms.min(t_ms), max_ms.max(t_ms));
        }
        (min_ms, max_ms)
    }

    fn piece_column(&self, piece: &Piece, index: u32) -> Cells {
        match &piece.chunk {
            Some(chunk) => self.chunk_column(chunk, index),
            None => {
                let rows = (piece.rows.end - piece.rows.start) as usize;
                let column = self.layout_column_at(piece.layout, index);
                column.map_or(Cells::ABSENT, |column| self.raw_cells(column, rows))
            }
        }
    }

    fn piece_stripe(&self, piece: &Piece, stripe: usize, last: usize, visit: &mut dyn FnMut(usize, &Cells)) {
        if let Some(chunk) = &piece.chunk {
            return self.chunk_stripe(chunk, stripe, last, visit);
        }
        let rows = (piece.rows.end - piece.rows.start) as usize;
        let mut column = self.layout_column_at(piece.layout, (stripe * PAGE_COLUMNS) as u32);
        for place in 0..=last {
            let Some(here) = column else { return };
            visit(place, &self.raw_cells(here, rows));
            column = (place < last).then(|| self.column_after(here));
        }
    }

    /// The layout of this number, as long as rows of the timeline in RAM use it.
    fn layout_slot(&self, timeline: TimelineId, number: u64) -> Option<u32> {
        let current = Some(self.timeline_layout(timeline.0)).filter(|layout| *layout != NONE);
        let mut layouts = current.into_iter().chain(self.pieces(timeline.0).map(|piece| piece.layout));
        layouts.find(|layout| self.layout_number(*layout) == number)
    }
}

/// A sample's own timestamp: the row's instant, less its age if it has one.
fn sample_ms(instant_ms: i64, row: usize, ages: Option<&Cells>) -> i64 {
    match ages {
        Some(ages) if ages.presence[row] == Presence::Value => instant_ms.saturating_sub(ages.cells[row] as i64),
        _ => instant_ms,
    }
}
