//! Reads segments: header, instants and directory, then the stripes that are wanted.

use super::{
    super::{
        crc::crc32,
        format::{EXTRA_STRIPE, FormatError, u32_at},
    },
    ENTRY_BYTES, HEADER_BYTES, WHAT,
    decoding::{ColumnUnit, Decoding, take_column},
    head::{SegmentForm, SegmentHead},
};
use crate::store::{
    codec::{self, aged},
    stored::{SegmentBytes, StoredError},
};
use alloc::vec::Vec;
use core::ops::Range;

/// A segment that lies in memory.
pub struct SliceBytes<'a>(pub &'a [u8]);

impl SegmentBytes for SliceBytes<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn read_at(&mut self, offset: usize, buf: &mut [u8]) -> Result<(), StoredError> {
        let past = StoredError { reason: "a read reaches past the segment's end" };
        let end = offset.checked_add(buf.len()).ok_or(past)?;
        buf.copy_from_slice(self.0.get(offset..end).ok_or(past)?);
        Ok(())
    }
}

/// Reads segments one after the other, with scratch that is kept: at most one segment's bytes and 256 rows.
#[derive(Default)]
pub struct SegmentReader {
    instants_ms: Vec<i64>,
    /// `(column_from, offset, length, crc)` as the directory has it.
    pub(super) directory: Vec<u8>,
    pub(super) stripe: Vec<u8>,
    decoding: Decoding,
}

/// One column's samples: slices of one length, without the rows that have nothing.
pub struct ColumnSamples<'a> {
    pub column: u32,
    pub rows: &'a [u64],
    pub t_ms: &'a [i64],
    /// A stale marker is [`STALE_NAN_BITS`].
    pub bits: &'a [u64],
}

impl SegmentReader {
    /// Reads the header alone.
    pub fn head(bytes: &mut dyn SegmentBytes) -> Result<SegmentHead, FormatError> {
        let length = bytes.len();
        if length < HEADER_BYTES {
            return Err(FormatError::Truncated { what: WHAT });
        }
        let mut header = [0; HEADER_BYTES];
        bytes.read_at(0, &mut header)?;
        SegmentHead::read(&header, length)
    }

    /// Reads header, instants and directory.
    pub fn open(&mut self, bytes: &mut dyn SegmentBytes) -> Result<SegmentHead, FormatError> {
        let mut head = Self::head(bytes)?;
        self.directory.resize(head.index_bytes() as usize, 0);
        bytes.read_at(HEADER_BYTES, &mut self.directory)?;
        if crc32(&self.directory) != head.index_crc {
            return Err(FormatError::Checksum { what: "segment index" });
        }
        let rows = head.row_count as usize;
        self.instants_ms.resize(rows, 0);
        let used = codec::decode_instants(&self.directory, rows, &mut self.instants_ms)?;
        if used != head.instants_bytes as usize {
            return Err(FormatError::Damaged { what: WHAT, field: "instants" });
        }
        self.directory.drain(..used);
        // Extra stripes come behind the others. None of their kinds is known here.
        let is_extra = |stripe: &usize| self.entry(*stripe).0 & EXTRA_STRIPE != 0;
        let all = head.stripe_count as usize;
        let plain = (0..all).find(is_extra).unwrap_or(all);
        if !(plain..all).all(|stripe| is_extra(&stripe)) {
            return Err(FormatError::Damaged { what: WHAT, field: "directory" });
        }
        (head.stripe_count, head.extra_count) = (plain as u32, (all - plain) as u32);
        Ok(head)
    }

    /// Of the segment opened last, one per row.
    pub fn instants_ms(&self) -> &[i64] {
        &self.instants_ms
    }

    /// Gives one column's samples and stale markers, by row, of at most so many rows. Opens the segment and reads one stripe.
    ///
    /// # Errors
    ///
    /// A segment that cannot be read. Nothing was given then.
    pub fn series(
        &mut self,
        bytes: &mut dyn SegmentBytes,
        column: u32,
        rows_max: usize,
        visit: &mut dyn FnMut(i64, u64),
    ) -> Result<(), FormatError> {
        let head = self.open(bytes)?;
        if !head.columns().contains(&column) {
            return Ok(());
        }
        let stripe = (0..head.stripe_count as usize).rev().find(|stripe| self.entry(*stripe).0 <= column);
        let stripe = stripe.ok_or(FormatError::Damaged { what: WHAT, field: "directory" })?;
        let columns = self.stripe_read(bytes, &head, stripe)?;
        let wanted = columns.start..column + 1;
        let unit = self.decoding.column(head.form, &self.stripe, head.row_count as usize, wanted)?;
        for (row, instant_ms) in self.instants_ms.iter().enumerate().take(rows_max) {
            if let Some((t_ms, bits)) = unit.sample(row, *instant_ms) {
                visit(t_ms, bits);
            }
        }
        Ok(())
    }

    /// Gives all columns of the stripe that holds `column`, in order, over all rows.
    ///
    /// # Errors
    ///
    /// A segment that cannot be read, or that does not hold the column; columns before the damage were given.
    pub fn stripe(
        &mut self,
        bytes: &mut dyn SegmentBytes,
        column: u32,
        visit: &mut dyn FnMut(u32, &ColumnUnit),
    ) -> Result<SegmentHead, FormatError> {
        let head = self.open(bytes)?;
        let stripe = (0..head.stripe_count as usize).rev().find(|stripe| self.entry(*stripe).0 <= column);
        let stripe = stripe.ok_or(FormatError::Damaged { what: WHAT, field: "directory" })?;
        let columns = self.stripe_read(bytes, &head, stripe)?;
        if !columns.contains(&column) {
            return Err(FormatError::Damaged { what: WHAT, field: "columns" });
        }
        let rows = head.row_count as usize;
        self.decoding.columns(head.form, &self.stripe, rows, columns, &mut |column, unit, _| {
            visit(column, unit);
            true
        })?;
        Ok(head)
    }

    /// Gives every column that has samples in `rows`, in order. `false` from the visitor stops.
    ///
    /// # Errors
    ///
    /// A segment that cannot be read; columns before the damaged stripe were given.
    pub fn columns(
        &mut self,
        bytes: &mut dyn SegmentBytes,
        rows: Range<u64>,
        visit: &mut dyn FnMut(ColumnSamples<'_>) -> bool,
    ) -> Result<(), FormatError> {
        let head = self.open(bytes)?;
        let wanted = row_indices(&head, &rows);
        let (mut row_numbers, mut t_ms, mut bits) = (Vec::new(), Vec::new(), Vec::new());
        for stripe in 0..head.stripe_count as usize {
            let columns = self.stripe_read(bytes, &head, stripe)?;
            let (instants_ms, mut go_on) = (&self.instants_ms, true);
            self.decoding.columns(head.form, &self.stripe, instants_ms.len(), columns, &mut |column, unit, _| {
                row_numbers.clear();
                t_ms.clear();
                bits.clear();
                for row in wanted.clone() {
                    if let Some((found_ms, found)) = unit.sample(row, instants_ms[row]) {
                        row_numbers.push(head.row_from + row as u64);
                        t_ms.push(found_ms);
                        bits.push(found);
                    }
                }
                let samples = ColumnSamples { column, rows: &row_numbers, t_ms: &t_ms, bits: &bits };
                go_on = bits.is_empty() || visit(samples);
                go_on
            })?;
            if !go_on {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Gives every column over all rows, in order.
    pub fn cells(
        &mut self,
        bytes: &mut dyn SegmentBytes,
        visit: &mut dyn FnMut(u32, &ColumnUnit),
    ) -> Result<(), FormatError> {
        let head = self.open(bytes)?;
        for stripe in 0..head.stripe_count as usize {
            let columns = self.stripe_read(bytes, &head, stripe)?;
            self.decoding.columns(
                head.form,
                &self.stripe,
                head.row_count as usize,
                columns,
                &mut |column, unit, _| {
                    visit(column, unit);
                    true
                },
            )?;
        }
        Ok(())
    }

    /// Gives every column, decoded, with its bytes as [`Self::column_bytes`] has them; returns the header.
    pub fn measure(
        &mut self,
        bytes: &mut dyn SegmentBytes,
        visit: &mut dyn FnMut(&ColumnUnit, usize),
    ) -> Result<SegmentHead, FormatError> {
        let head = self.open(bytes)?;
        for stripe in 0..head.stripe_count as usize {
            let columns = self.stripe_read(bytes, &head, stripe)?;
            let rows = head.row_count as usize;
            self.decoding.columns(head.form, &self.stripe, rows, columns, &mut |_, unit, column_bytes| {
                visit(unit, column_bytes);
                true
            })?;
        }
        Ok(head)
    }

    /// Gives each column and its bytes: its length, its values and their ages. What is left of the segment's bytes is
    /// header, instants and directory. An aged stripe's bytes belong to the column at which they are first looked at.
    pub fn column_bytes(
        &mut self,
        bytes: &mut dyn SegmentBytes,
        visit: &mut dyn FnMut(u32, usize),
    ) -> Result<(), FormatError> {
        let head = self.open(bytes)?;
        for stripe in 0..head.stripe_count as usize {
            let columns = self.stripe_read(bytes, &head, stripe)?;
            let rows = head.row_count as usize;
            self.decoding.columns(head.form, &self.stripe, rows, columns, &mut |column, _, column_bytes| {
                visit(column, column_bytes);
                true
            })?;
        }
        Ok(())
    }

    /// The columns of the packed segment that was opened last, one after the other.
    pub fn packed_columns<'r>(&'r mut self, head: &'r SegmentHead) -> PackedColumns<'r> {
        PackedColumns { reader: self, head, stripe: 0, left: 0..0, at: 0 }
    }

    /// `(column_from, offset, length, crc)`.
    fn entry(&self, stripe: usize) -> (u32, u32, u32, u32) {
        let at = ENTRY_BYTES * stripe;
        let field = |index: usize| u32_at(&self.directory, at + 4 * index);
        (field(0), field(1), field(2), field(3))
    }

    /// Fetches and checks one stripe; returns its columns.
    fn stripe_read(
        &mut self,
        bytes: &mut dyn SegmentBytes,
        head: &SegmentHead,
        stripe: usize,
    ) -> Result<Range<u32>, FormatError> {
        let damaged = FormatError::Damaged { what: WHAT, field: "directory" };
        let (from, offset, length, crc) = self.entry(stripe);
        let next = stripe + 1;
        let end = if next < head.stripe_count as usize { self.entry(next).0 } else { head.columns().end };
        let first = head.column_from;
        if (stripe == 0 && from != first) || from >= end || from < first || end > head.columns().end {
            return Err(damaged);
        }
        // A packed column takes a byte at least, so that a damaged count cannot send us far.
        let columns_max = match head.form {
            SegmentForm::Packed => length,
            SegmentForm::Aged => aged::STRIPE_COLUMNS_MAX,
        };
        if u64::from(offset) + u64::from(length) > u64::from(head.bytes) || (end - from) > columns_max {
            return Err(damaged);
        }
        self.stripe.resize(length as usize, 0);
        bytes.read_at(offset as usize, &mut self.stripe)?;
        if crc32(&self.stripe) != crc { Err(FormatError::Checksum { what: "stripe" }) } else { Ok(from..end) }
    }
}

/// Goes through a packed segment column by column.
pub struct PackedColumns<'r> {
    reader: &'r mut SegmentReader,
    head: &'r SegmentHead,
    /// The stripe to be read next; what is left of the one that was read, from this offset on.
    stripe: usize,
    left: Range<u32>,
    at: usize,
}

impl PackedColumns<'_> {
    /// The next of the segment's columns, of which one must be left.
    pub fn next(&mut self, bytes: &mut dyn SegmentBytes) -> Result<&ColumnUnit, FormatError> {
        if self.left.is_empty() {
            self.left = self.reader.stripe_read(bytes, self.head, self.stripe)?;
            self.reader.decoding.packed.begin();
            self.stripe += 1;
            self.at = 0;
        }
        self.left.start += 1;
        let SegmentReader { stripe, decoding: Decoding { packed, unit, .. }, .. } = &mut *self.reader;
        let mut rest = &stripe[self.at..];
        unit.decode(packed, take_column(&mut rest)?, self.head.row_count as usize)?;
        self.at = stripe.len() - rest.len();
        Ok(unit)
    }
}

fn row_indices(head: &SegmentHead, rows: &Range<u64>) -> Range<usize> {
    let index = |row: u64| row.saturating_sub(head.row_from).min(u64::from(head.row_count)) as usize;
    index(rows.start)..index(rows.end)
}
