//! A frame of rows: the newest rows of many timelines, each told against the rows of it that the log has already.
//!
//! The payload is the length of the coded stream (4 bytes), the stream, then a head for each block. Heads are plain, so
//! that what is lost with a frame, or cannot be told because an earlier frame is lost, is named to the row.

use super::format::{FormatError, put, put_length, put_unsigned, take_length, take_unsigned, u32_at, u64_at};
use crate::{
    prng::mix,
    spill::segment::Columns,
    store::{
        ColumnKind, Presence, STALE_NAN_BITS, TimelineKey,
        codec::{
            ROWS_MAX,
            tail::{Coder, HISTORY_ROWS_MAX, Model, NEW_ROWS_MAX, RangeReader, RangeWriter, Tail},
        },
    },
};
use alloc::vec::Vec;
use core::ops::Range;

/// Cells of one block: what a reader holds decoded at a time.
pub const BLOCK_CELLS_MAX: usize = 16 * 1024;
/// Cells of one frame: what is encoded in one bite.
pub const FRAME_CELLS_MAX: usize = 32 * 1024;
/// Columns of a block of one row, which then fits into a frame whatever it holds. A wider row comes in several blocks.
pub const BLOCK_COLUMNS_MAX: u32 = 8 * 1024;
/// All heads of a frame.
const HEADS_BYTES_MAX: usize = 2048;
const HEAD_BYTES_MAX: usize = 8 + 2 * 10 + 6 * 5 + 4;
const PREFIX_BYTES: usize = 4;
const WHAT: &str = "frame of rows";

/// Which rows a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHead {
    pub timeline: TimelineKey,
    pub layout: u64,
    pub row_from: u64,
    pub row_count: u32,
    /// Of the row; more than `column_count` when it comes in several blocks.
    pub column_count_total: u32,
    pub column_from: u32,
    pub column_count: u32,
    /// Rows right before these, against which they are told: those of the timeline's block before.
    pub history_rows: u32,
    /// Columns of the layout, from the first one on, that the database had when the generation began: their labels are there
    /// and not in the log.
    pub columns_stored: u32,
    /// Of those rows' cells, so that no others are taken for them.
    history_check: u32,
}

impl BlockHead {
    pub fn rows(&self) -> Range<u64> {
        self.row_from..self.row_from + u64::from(self.row_count)
    }

    pub fn columns(&self) -> Range<u32> {
        self.column_from..self.column_from + self.column_count
    }

    pub fn is_whole(&self) -> bool {
        self.column_count == self.column_count_total
    }

    fn put(&self, out: &mut [u8]) -> Option<usize> {
        out.get_mut(..8)?.copy_from_slice(&self.timeline.0.to_le_bytes());
        let mut at = 8;
        for value in [self.layout, self.row_from] {
            at += put_unsigned(out.get_mut(at..)?, value)?;
        }
        let fields = [
            self.row_count,
            self.column_count_total,
            self.column_from,
            self.column_count,
            self.columns_stored,
            self.history_rows,
        ];
        for value in fields {
            at += put_length(out.get_mut(at..)?, value as usize)?;
        }
        if self.history_rows > 0 {
            out.get_mut(at..at + 4)?.copy_from_slice(&self.history_check.to_le_bytes());
            at += 4;
        }
        Some(at)
    }

    fn take(rest: &mut &[u8]) -> Result<Self, FormatError> {
        let damaged = |field| FormatError::Damaged { what: WHAT, field };
        let (key, tail) = rest.split_at_checked(8).ok_or(damaged("timeline"))?;
        *rest = tail;
        let timeline = TimelineKey(u64_at(key, 0));
        let layout = take_unsigned(rest).ok_or(damaged("layout"))?;
        let row_from = take_unsigned(rest).ok_or(damaged("row number"))?;
        let mut fields = [0; 6];
        for field in &mut fields {
            let value = take_length(rest).and_then(|value| u32::try_from(value).ok());
            *field = value.ok_or(damaged("block's size"))?;
        }
        let [row_count, column_count_total, column_from, column_count, columns_stored, history_rows] = fields;
        let mut history_check = 0;
        if history_rows > 0 {
            let (check, tail) = rest.split_at_checked(4).ok_or(damaged("history"))?;
            *rest = tail;
            history_check = u32_at(check, 0);
        }
        let head = Self {
            timeline,
            layout,
            row_from,
            row_count,
            column_count_total,
            column_from,
            column_count,
            columns_stored,
            history_rows,
            history_check,
        };
        let cells = row_count as usize * column_count as usize;
        let is_sound = (1..=NEW_ROWS_MAX).contains(&(row_count as usize))
            && column_count > 0
            && cells <= BLOCK_CELLS_MAX
            && history_rows as usize <= HISTORY_ROWS_MAX
            && row_from >= u64::from(history_rows)
            && row_from.checked_add(u64::from(row_count)).is_some()
            && column_from.checked_add(column_count).is_some_and(|end| end <= column_count_total)
            // A row in pieces stands alone and is told without history.
            && (head.is_whole() || (row_count == 1 && history_rows == 0));
        if is_sound { Ok(head) } else { Err(damaged("block's size")) }
    }
}

/// What the writer wants in a block; its cells come from [`Columns`], over the rows before and the new ones.
pub struct BlockSpec<'a> {
    pub timeline: TimelineKey,
    pub layout: u64,
    pub row_from: u64,
    pub column_count_total: u32,
    pub columns: Range<u32>,
    pub columns_stored: u32,
    pub history_rows: usize,
    /// Of the rows before and of the new ones.
    pub instants_ms: &'a [i64],
}

/// Writes one frame's payload, block by block.
pub struct RowsWriter<'o> {
    coder: Coder<'o>,
    model: Model,
    capacity: usize,
    heads: [u8; HEADS_BYTES_MAX],
    heads_bytes: usize,
    cells: usize,
}

impl<'o> RowsWriter<'o> {
    /// # Panics
    ///
    /// With less room than the heads may need.
    pub fn new(payload: &'o mut [u8]) -> Self {
        let capacity = payload.len();
        assert!(capacity > PREFIX_BYTES + HEADS_BYTES_MAX, "room for {capacity} bytes");
        let coder = Coder::Write { range: RangeWriter::behind(PREFIX_BYTES), out: payload };
        Self { coder, model: Model::new(), capacity, heads: [0; HEADS_BYTES_MAX], heads_bytes: 0, cells: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.heads_bytes == 0
    }

    /// How many cells the next block may have; 0 when the frame is to be finished first.
    pub fn cells_left(&self) -> usize {
        if self.heads_bytes + HEAD_BYTES_MAX > HEADS_BYTES_MAX {
            return 0;
        }
        FRAME_CELLS_MAX.saturating_sub(self.cells).min(BLOCK_CELLS_MAX)
    }

    /// Adds a block; `false`: it does not fit, and the frame is as it was.
    pub fn block(&mut self, spec: &BlockSpec<'_>, source: &dyn Columns) -> bool {
        let history = spec.history_rows;
        let rows = spec.instants_ms.len();
        assert!(history < rows && rows <= ROWS_MAX, "{history} of {rows} rows are known");
        let (range_before, model_before) = (self.range(), self.model.clone());
        let mut instants = [0; ROWS_MAX];
        instants[..rows].copy_from_slice(spec.instants_ms);
        let mut sound = self.model.instants(&mut self.coder, history, &mut instants[..rows]).is_ok();
        let (mut column, mut check) = (spec.columns.start, 0);
        source.read(spec.columns.clone(), &mut |kind, cells, presence| {
            let coder = &mut self.coder;
            self.model.place(coder, kind);
            if kind == ColumnKind::Float {
                sound &= put_column(&mut self.model, coder, kind, history, cells, presence, &mut check);
                let ages = self.model.ages(coder, column, source.age(column));
                if let Some(ages) = ages {
                    source.read(ages..ages + 1, &mut |kind, cells, presence| {
                        sound &= put_column(&mut self.model, coder, kind, history, cells, presence, &mut check);
                        true
                    });
                }
            }
            column += 1;
            true
        });
        assert!(sound, "a writer makes nothing that cannot be read");
        let head = BlockHead {
            timeline: spec.timeline,
            layout: spec.layout,
            row_from: spec.row_from,
            row_count: (rows - history) as u32,
            column_count_total: spec.column_count_total,
            column_from: spec.columns.start,
            column_count: spec.columns.end - spec.columns.start,
            columns_stored: spec.columns_stored,
            history_rows: history as u32,
            history_check: check,
        };
        let head_bytes = head.put(&mut self.heads[self.heads_bytes..]);
        let fits =
            head_bytes.is_some_and(|head_bytes| self.range().end() + self.heads_bytes + head_bytes <= self.capacity);
        if fits {
            self.heads_bytes += head_bytes.unwrap_or(0);
            self.cells += (rows - history) * head.column_count as usize;
        } else {
            self.model = model_before;
            if let Coder::Write { range, .. } = &mut self.coder {
                *range = range_before;
            }
        }
        fits
    }

    /// Completes the payload and returns its length.
    pub fn finish(self) -> usize {
        let Coder::Write { range, out } = self.coder else { unreachable!("a writer writes") };
        let end = range.finish(out);
        assert!(end + self.heads_bytes <= self.capacity, "{end} bytes of {}", self.capacity);
        put(out, 0, &((end - PREFIX_BYTES) as u32).to_le_bytes());
        put(out, end, &self.heads[..self.heads_bytes]);
        end + self.heads_bytes
    }

    fn range(&self) -> RangeWriter {
        match &self.coder {
            Coder::Write { range, .. } => *range,
            Coder::Read(_) => unreachable!("a writer writes"),
        }
    }
}

fn put_column(
    model: &mut Model,
    coder: &mut Coder<'_>,
    kind: ColumnKind,
    history: usize,
    cells: &[u64],
    presence: &[Presence],
    check: &mut u32,
) -> bool {
    let rows = cells.len();
    let (mut cells_here, mut presence_here) = ([0; ROWS_MAX], [Presence::Absent; ROWS_MAX]);
    cells_here[..rows].copy_from_slice(cells);
    presence_here[..rows].copy_from_slice(presence);
    *check = check_column(*check, &cells[..history], &presence[..history]);
    let (cells, presence) = (&mut cells_here[..rows], &mut presence_here[..rows]);
    model.column(coder, &mut Tail { kind, history, cells, presence }).is_ok()
}

fn check_column(check: u32, cells: &[u64], presence: &[Presence]) -> u32 {
    let add = |check: u32, (cell, state): (&u64, &Presence)| {
        let cell = if *state == Presence::Value { *cell } else { 0 };
        (mix(cell ^ u64::from(check) ^ (*state as u64) << 40) >> 16) as u32
    };
    cells.iter().zip(presence).fold(check, add)
}

/// Reads one frame's payload, block by block.
pub struct RowsReader<'b> {
    coder: Coder<'b>,
    model: Model,
    heads: &'b [u8],
}

impl<'b> RowsReader<'b> {
    pub fn new(payload: &'b [u8]) -> Result<Self, FormatError> {
        let damaged = FormatError::Damaged { what: WHAT, field: "length" };
        let (length, rest) = payload.split_at_checked(PREFIX_BYTES).ok_or(damaged)?;
        let (stream, heads) = rest.split_at_checked(u32_at(length, 0) as usize).ok_or(damaged)?;
        Ok(Self { coder: Coder::Read(RangeReader::new(stream)), model: Model::new(), heads })
    }

    /// The next block's head; `None` behind the last one.
    pub fn head(&mut self) -> Result<Option<BlockHead>, FormatError> {
        if self.heads.is_empty() { Ok(None) } else { BlockHead::take(&mut self.heads).map(Some) }
    }

    /// Reads the block of the head that was given last. `history`: the rows before, as the timeline's block before left
    /// them. `told` hears of each column how many bytes it took; one that takes less than a byte has none or one.
    ///
    /// # Errors
    ///
    /// A block that cannot be told; no later block of the frame can then.
    pub fn read(
        &mut self,
        head: &BlockHead,
        history: Option<&History>,
        block: &mut Block,
        told: &mut dyn FnMut(u32, usize),
    ) -> Result<(), FormatError> {
        let damaged = |field| FormatError::Damaged { what: WHAT, field };
        let (known, width) = (head.history_rows as usize, head.column_count as usize);
        let new = head.row_count as usize;
        let rows = known + new;
        let history = match (known, history) {
            (0, _) => None,
            (_, Some(history)) if history.holds(head) => Some(history),
            _ => return Err(FormatError::Damaged { what: WHAT, field: "rows before, which are not there" }),
        };
        block.reset(width, new);
        let mut instants = [0; ROWS_MAX];
        if let Some(history) = history {
            instants[..known].copy_from_slice(&history.instants_ms[history.rows - known..history.rows]);
        }
        self.model.instants(&mut self.coder, known, &mut instants[..rows])?;
        block.instants_ms.extend_from_slice(&instants[known..rows]);
        let mut column_here = ColumnHere { cells: [0; ROWS_MAX], presence: [Presence::Absent; ROWS_MAX], check: 0 };
        let mut used = self.coder.used();
        for column in head.columns() {
            let before = core::mem::replace(&mut used, self.coder.used());
            if column > head.column_from {
                told(column - 1, used - before);
            }
            if self.model.place(&mut self.coder, ColumnKind::Float) == ColumnKind::Age {
                continue;
            }
            column_here.read(self, column, ColumnKind::Float, known..rows, history)?;
            let at = (column - head.column_from) as usize;
            for row in 0..new {
                block.cells[row * width + at] = column_here.cells[known + row];
                block.presence[row * width + at] = column_here.presence[known + row];
            }
            let Some(ages) = self.model.ages(&mut self.coder, column, None) else { continue };
            if ages >= head.column_count_total {
                return Err(damaged("ages"));
            }
            column_here.read(self, ages, ColumnKind::Age, known..rows, history)?;
            block.take_ages(at, ages, &column_here.cells[known..rows], &column_here.presence[known..rows]);
        }
        told(head.columns().end - 1, self.coder.used() - used);
        if column_here.check != head.history_check {
            return Err(damaged("rows before, which are others"));
        }
        match &self.coder {
            Coder::Read(range) if range.is_past_end() => Err(damaged("length")),
            _ => Ok(()),
        }
    }
}

/// The column that is being read, rows before and new ones.
struct ColumnHere {
    cells: [u64; ROWS_MAX],
    presence: [Presence; ROWS_MAX],
    check: u32,
}

impl ColumnHere {
    fn read(
        &mut self,
        reader: &mut RowsReader<'_>,
        column: u32,
        kind: ColumnKind,
        new: Range<usize>,
        history: Option<&History>,
    ) -> Result<(), FormatError> {
        for row in 0..new.start {
            let found = history.map(|history| history.cell(column, history.rows - new.start + row));
            (self.cells[row], self.presence[row]) = found.unwrap_or((0, Presence::Absent));
        }
        self.check = check_column(self.check, &self.cells[..new.start], &self.presence[..new.start]);
        let (cells, presence) = (&mut self.cells[..new.end], &mut self.presence[..new.end]);
        reader.model.column(&mut reader.coder, &mut Tail { kind, history: new.start, cells, presence })?;
        Ok(())
    }
}

/// Rows that were read, row by row.
#[derive(Default)]
pub struct Block {
    pub instants_ms: Vec<i64>,
    pub width: usize,
    pub cells: Vec<u64>,
    pub presence: Vec<Presence>,
    /// Ages of the cells; empty when no column has some.
    pub ages_ms: Vec<Option<i64>>,
    /// The ages of the last rows by their own column, for the history.
    ages_last: Vec<(u32, [(u64, Presence); HISTORY_ROWS_MAX])>,
}

impl Block {
    /// Room for so many columns and rows, without samples and without instants.
    pub(super) fn reset(&mut self, width: usize, rows: usize) {
        self.width = width;
        let cells = width * rows;
        self.instants_ms.clear();
        self.cells.clear();
        self.cells.resize(cells, 0);
        self.presence.clear();
        self.presence.resize(cells, Presence::Absent);
        self.ages_ms.clear();
        self.ages_last.clear();
    }

    /// Row, time and bits of one column's samples and stale markers, as the head's block has them.
    pub fn samples(&self, head: &BlockHead, column: u32) -> impl Iterator<Item = (u64, i64, u64)> {
        let at = (column - head.column_from) as usize;
        head.rows().zip(&self.instants_ms).enumerate().filter_map(move |(index, (row, instant_ms))| {
            let cell = index * self.width + at;
            let bits = match self.presence[cell] {
                Presence::Absent => return None,
                Presence::Value => self.cells[cell],
                Presence::Stale => STALE_NAN_BITS,
            };
            let age_ms = self.ages_ms.get(cell).copied().flatten().unwrap_or(0);
            Some((row, instant_ms.wrapping_sub(age_ms), bits))
        })
    }

    fn take_ages(&mut self, at: usize, ages: u32, cells: &[u64], presence: &[Presence]) {
        self.ages_ms.resize(self.cells.len(), None);
        let mut last = [(0, Presence::Absent); HISTORY_ROWS_MAX];
        for (row, (cell, state)) in cells.iter().zip(presence).enumerate() {
            if *state == Presence::Value {
                self.ages_ms[row * self.width + at] = Some(*cell as i64);
            }
            last.rotate_left(1);
            last[HISTORY_ROWS_MAX - 1] = (*cell, *state);
        }
        self.ages_last.push((ages, last));
    }
}

/// The last rows of a timeline's newest block, against which the next one is told.
pub struct History {
    timeline: TimelineKey,
    layout: u64,
    row_end: u64,
    rows: usize,
    instants_ms: [i64; HISTORY_ROWS_MAX],
    width: usize,
    /// Row by row.
    cells: Vec<(u64, Presence)>,
}

impl History {
    pub fn new(timeline: TimelineKey) -> Self {
        Self {
            timeline,
            layout: 0,
            row_end: 0,
            rows: 0,
            instants_ms: [0; HISTORY_ROWS_MAX],
            width: 0,
            cells: Vec::new(),
        }
    }

    pub fn timeline(&self) -> TimelineKey {
        self.timeline
    }

    fn holds(&self, head: &BlockHead) -> bool {
        (self.timeline, self.layout, self.row_end) == (head.timeline, head.layout, head.row_from)
            && self.rows >= head.history_rows as usize
            && self.width <= head.column_count_total as usize
    }

    /// A column that the layout did not have then had nothing.
    fn cell(&self, column: u32, row: usize) -> (u64, Presence) {
        let column = column as usize;
        if column < self.width { self.cells[row * self.width + column] } else { (0, Presence::Absent) }
    }

    /// Keeps the last rows of a whole block that was read.
    pub fn keep(&mut self, head: &BlockHead, block: &Block) {
        assert!(head.is_whole() && block.width == head.column_count as usize, "a whole block");
        let new = block.instants_ms.len();
        // A block of one row leaves the last one that was there before it.
        let goes_on = head.history_rows > 0 && self.holds(head) && new < HISTORY_ROWS_MAX;
        let mut cells = Vec::with_capacity(HISTORY_ROWS_MAX * block.width);
        let mut instants_ms = [0; HISTORY_ROWS_MAX];
        let mut rows = 0;
        if goes_on {
            instants_ms[0] = self.instants_ms[self.rows - 1];
            cells.extend((0..block.width as u32).map(|column| self.cell(column, self.rows - 1)));
            rows = 1;
        }
        for row in new.saturating_sub(HISTORY_ROWS_MAX)..new {
            let from = row * block.width;
            instants_ms[rows] = block.instants_ms[row];
            rows += 1;
            let here = block.cells[from..].iter().copied().zip(block.presence[from..].iter().copied());
            cells.extend(here.take(block.width));
        }
        let fresh = new.min(HISTORY_ROWS_MAX);
        for (column, last) in &block.ages_last {
            for (row, found) in last[HISTORY_ROWS_MAX - fresh..].iter().enumerate() {
                cells[(rows - fresh + row) * block.width + *column as usize] = *found;
            }
        }
        (self.layout, self.row_end, self.rows) = (head.layout, head.rows().end, rows);
        (self.instants_ms, self.width, self.cells) = (instants_ms, block.width, cells);
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
