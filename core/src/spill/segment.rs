//! A segment: some rows and columns of one timeline under one layout, with a directory so that one series is one read.
//!
//! Header (96 bytes), instants, directory (16 bytes a stripe), stripes. A stripe is some neighbouring columns, each
//! behind its length. Ages are written right behind the values whose timestamps they correct, whatever column of the
//! layout they are; that column's own place stays empty. So a series is one piece of bytes.

use super::{
    crc::crc32,
    format::{
        ClockEpoch, FormatError, SEGMENT_BYTES_MAX, SEGMENT_MAGIC, TIER_RAW, VERSION, i64_at, put, put_length,
        take_length, u16_at, u32_at, u64_at,
    },
};
use crate::store::{
    ColumnKind, Presence, STALE_NAN_BITS, TimelineKey,
    codec::{self, CodecError, ROWS_MAX, StripeDecoder, StripeEncoder, StripeWalk, aged},
    stored::{SegmentBytes, StoredError},
};
use alloc::{boxed::Box, vec::Vec};
use core::ops::Range;

pub const HEADER_BYTES: usize = 96;
const ENTRY_BYTES: usize = 16;
/// Columns per stripe of a stored segment: what reading one series has to fetch and step over.
pub const STRIPE_COLUMNS: u32 = 32;
const WHAT: &str = "segment";

/// How a segment's columns are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SegmentForm {
    /// By the bit, each column by itself or as a difference to one before: what is queried now and then is read fast.
    Packed = 0,
    /// Behind a range coder, a stripe at a time: what has aged is small.
    Aged = 1,
}

/// Bits 1 to 3 of the flags; bit 0 is the clock's trust.
const FORM_SHIFT: u8 = 1;

impl SegmentForm {
    fn from_flags(flags: u8) -> Option<Self> {
        match flags >> FORM_SHIFT & 7 {
            0 => Some(Self::Packed),
            1 => Some(Self::Aged),
            _ => None,
        }
    }
}

/// What a segment is made of; its cells come from [`Columns`].
#[derive(Clone, Debug)]
pub struct SegmentSpec<'a> {
    pub timeline: TimelineKey,
    pub layout: u64,
    pub row_from: u64,
    /// One per row, at least 1 and at most [`ROWS_MAX`].
    pub instants_ms: &'a [i64],
    /// Columns wanted; a segment ends earlier when its bytes do not suffice.
    pub columns: Range<u32>,
    pub epoch: ClockEpoch,
    /// Columns per stripe.
    pub stripe_columns: u32,
}

/// Given kind, cells and presence of one column; returns `false` to stop.
pub type ColumnVisit<'v> = dyn FnMut(ColumnKind, &[u64], &[Presence]) -> bool + 'v;

/// Where a segment's cells come from.
pub trait Columns {
    /// The column of the ages that belong to this column's values.
    fn age(&self, column: u32) -> Option<u32>;
    /// Gives each column's cells and presence over all rows of the segment, in order. `false` from the visitor stops.
    fn read(&self, columns: Range<u32>, visit: &mut ColumnVisit<'_>);
}

/// A segment that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub bytes: usize,
    /// The column behind the last one that fitted.
    pub column_end: u32,
    pub t_min_ms: i64,
    pub t_max_ms: i64,
}

/// Writes a segment at the start of `out`, with as many of the wanted columns as fit. `None`: not even the first stripe
/// does.
///
/// # Panics
///
/// Without rows or columns, or with more than [`ROWS_MAX`] rows: the caller lost track.
pub fn encode_segment(spec: &SegmentSpec<'_>, source: &dyn Columns, out: &mut [u8]) -> Option<Encoded> {
    let rows = spec.instants_ms.len();
    assert!((1..=ROWS_MAX).contains(&rows), "a segment of {rows} rows");
    assert!(!spec.columns.is_empty(), "a segment without columns");
    let wanted = (spec.columns.end - spec.columns.start) as usize;
    let mut assembly = Assembly::new(spec.instants_ms, wanted.div_ceil(spec.stripe_columns as usize), out)?;
    let mut t_min_ms = spec.instants_ms.iter().copied().min().unwrap_or(0);
    let mut t_max_ms = spec.instants_ms.iter().copied().max().unwrap_or(0);
    let mut column = spec.columns.start;
    let mut encoder = StripeEncoder::new();
    while column < spec.columns.end {
        let end = spec.columns.end.min(column.saturating_add(spec.stripe_columns));
        let (mut used, mut fits, mut here) = (0, true, column);
        encoder.begin();
        source.read(column..end, &mut |kind, cells, presence| {
            let ages = source.age(here).filter(|_| kind == ColumnKind::Float);
            let room = &mut assembly.room()[used..];
            match put_column(&mut encoder, room, kind, cells, presence, ages.map(|ages| (source, ages))) {
                Some(bytes) => used += bytes,
                None => fits = false,
            }
            if let Some(ages) = ages {
                source.read(ages..ages + 1, &mut |_, cells, presence| {
                    for ((instant, age), state) in spec.instants_ms.iter().zip(cells).zip(presence) {
                        if *state == Presence::Value {
                            let t_ms = instant.wrapping_sub(*age as i64);
                            t_min_ms = t_min_ms.min(t_ms);
                            t_max_ms = t_max_ms.max(t_ms);
                        }
                    }
                    true
                });
            }
            here += 1;
            fits
        });
        if !fits {
            break;
        }
        assembly.stripe(column, used);
        column = end;
    }
    if column == spec.columns.start {
        return None;
    }
    let bytes = assembly.finish(SegmentHead {
        timeline: spec.timeline,
        layout: spec.layout,
        row_from: spec.row_from,
        row_count: rows as u32,
        column_from: spec.columns.start,
        column_count: column - spec.columns.start,
        epoch: spec.epoch,
        form: SegmentForm::Packed,
        t_min_ms,
        t_max_ms,
        bytes: 0,
        instants_bytes: 0,
        stripe_count: 0,
        index_crc: 0,
    });
    Some(Encoded { bytes, column_end: column, t_min_ms, t_max_ms })
}

/// A segment that is being put together: instants, then stripes as they come, then directory and header.
pub(super) struct Assembly<'b> {
    out: &'b mut [u8],
    instants_bytes: usize,
    /// Where the stripes begin, and where the next one does.
    stripes_at: usize,
    at: usize,
    stripe_count: usize,
}

impl<'b> Assembly<'b> {
    /// `None`: not even what comes before the stripes fits.
    pub(super) fn new(instants_ms: &[i64], stripes_max: usize, out: &'b mut [u8]) -> Option<Self> {
        let capacity = out.len().min(SEGMENT_BYTES_MAX);
        let out = &mut out[..capacity];
        let instants_bytes = codec::encode_instants(instants_ms, out.get_mut(HEADER_BYTES..)?).ok()?;
        let stripes_at = HEADER_BYTES + instants_bytes + ENTRY_BYTES * stripes_max;
        (stripes_at <= capacity).then_some(Self { out, instants_bytes, stripes_at, at: stripes_at, stripe_count: 0 })
    }

    /// Where the next stripe's bytes go.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.out[self.at..]
    }

    /// The next stripe is there, from this column on.
    pub(super) fn stripe(&mut self, column: u32, bytes: usize) {
        let entry = HEADER_BYTES + self.instants_bytes + ENTRY_BYTES * self.stripe_count;
        let crc = crc32(&self.out[self.at..self.at + bytes]);
        for (field, value) in [column, self.at as u32, bytes as u32, crc].into_iter().enumerate() {
            put(self.out, entry + 4 * field, &value.to_le_bytes());
        }
        self.at += bytes;
        self.stripe_count += 1;
    }

    /// Completes the segment and the fields of `head` that tell how long its parts are. Returns the length.
    pub(super) fn finish(self, head: SegmentHead) -> usize {
        let Self { out, instants_bytes, stripes_at, at, stripe_count } = self;
        let directory_at = HEADER_BYTES + instants_bytes;
        let directory_end = directory_at + ENTRY_BYTES * stripe_count;
        // Fewer stripes than room was left for: they move down to the directory's end.
        let moved = stripes_at - directory_end;
        out.copy_within(stripes_at..at, directory_end);
        for stripe in 0..stripe_count {
            let offset_at = directory_at + ENTRY_BYTES * stripe + 4;
            let offset = u32_at(out, offset_at) - moved as u32;
            put(out, offset_at, &offset.to_le_bytes());
        }
        let bytes = at - moved;
        let index_crc = crc32(&out[HEADER_BYTES..directory_end]);
        let head = SegmentHead {
            bytes: bytes as u32,
            instants_bytes: instants_bytes as u32,
            stripe_count: stripe_count as u32,
            index_crc,
            ..head
        };
        head.put(out);
        bytes
    }
}

/// Length, then the column, then its ages; `None` when that does not fit.
fn put_column(
    encoder: &mut StripeEncoder<ROWS_MAX>,
    room: &mut [u8],
    kind: ColumnKind,
    cells: &[u64],
    presence: &[Presence],
    ages: Option<(&dyn Columns, u32)>,
) -> Option<usize> {
    let body = room.get_mut(1..)?;
    let mut used = match kind {
        ColumnKind::Float => encoder.column(kind, cells, presence, body).ok()?,
        ColumnKind::Age => 0,
    };
    if let Some((source, ages)) = ages {
        let mut age_bytes = None;
        source.read(ages..ages + 1, &mut |kind, cells, presence| {
            age_bytes = encoder.column(kind, cells, presence, &mut body[used..]).ok();
            true
        });
        used += age_bytes?;
    }
    if used < 0x80 {
        room[0] = used as u8;
        return Some(1 + used);
    }
    // A length of two bytes: no column reaches the 16 KiB that would need three.
    if room.len() < used + 2 {
        return None;
    }
    room.copy_within(1..=used, 2);
    put_length(room, used).map(|length_bytes| length_bytes + used)
}

/// A segment's fixed fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    pub timeline: TimelineKey,
    pub layout: u64,
    pub row_from: u64,
    pub row_count: u32,
    pub column_from: u32,
    pub column_count: u32,
    pub epoch: ClockEpoch,
    pub form: SegmentForm,
    /// Hull of the instants and of the samples' own timestamps.
    pub t_min_ms: i64,
    pub t_max_ms: i64,
    /// Of the whole segment.
    pub bytes: u32,
    instants_bytes: u32,
    stripe_count: u32,
    index_crc: u32,
}

impl SegmentHead {
    fn put(&self, out: &mut [u8]) {
        put(out, 0, &SEGMENT_MAGIC.to_le_bytes());
        put(out, 4, &VERSION.to_le_bytes());
        out[6] = TIER_RAW;
        out[7] = u8::from(self.epoch.trusted) | (self.form as u8) << FORM_SHIFT;
        put(out, 8, &self.timeline.0.to_le_bytes());
        put(out, 16, &self.layout.to_le_bytes());
        put(out, 24, &self.row_from.to_le_bytes());
        put(out, 32, &self.row_count.to_le_bytes());
        put(out, 36, &self.column_from.to_le_bytes());
        put(out, 40, &self.column_count.to_le_bytes());
        put(out, 44, &self.bytes.to_le_bytes());
        put(out, 48, &self.epoch.boot_hash.to_le_bytes());
        put(out, 56, &self.epoch.wall_offset_ms.to_le_bytes());
        put(out, 64, &self.t_min_ms.to_le_bytes());
        put(out, 72, &self.t_max_ms.to_le_bytes());
        put(out, 80, &self.instants_bytes.to_le_bytes());
        put(out, 84, &self.stripe_count.to_le_bytes());
        put(out, 88, &self.index_crc.to_le_bytes());
        let crc = crc32(&out[..92]);
        put(out, 92, &crc.to_le_bytes());
    }

    /// Reads and checks the header; `length` is what the whole segment has.
    fn read(header: &[u8; HEADER_BYTES], length: usize) -> Result<Self, FormatError> {
        if u32_at(header, 0) != SEGMENT_MAGIC {
            return Err(FormatError::NotThis { what: WHAT });
        }
        if u32_at(header, 92) != crc32(&header[..92]) {
            return Err(FormatError::Checksum { what: "segment header" });
        }
        let version = u16_at(header, 4);
        if version > VERSION {
            return Err(FormatError::FromNewerVersion { what: WHAT, version });
        }
        let damaged = |field| Err(FormatError::Damaged { what: WHAT, field });
        if header[6] != TIER_RAW {
            return damaged("tier");
        }
        let Some(form) = SegmentForm::from_flags(header[7]) else { return damaged("form") };
        let head = Self {
            timeline: TimelineKey(u64_at(header, 8)),
            layout: u64_at(header, 16),
            row_from: u64_at(header, 24),
            row_count: u32_at(header, 32),
            column_from: u32_at(header, 36),
            column_count: u32_at(header, 40),
            bytes: u32_at(header, 44),
            epoch: ClockEpoch {
                boot_hash: u64_at(header, 48),
                wall_offset_ms: i64_at(header, 56),
                trusted: header[7] & 1 == 1,
            },
            form,
            t_min_ms: i64_at(header, 64),
            t_max_ms: i64_at(header, 72),
            instants_bytes: u32_at(header, 80),
            stripe_count: u32_at(header, 84),
            index_crc: u32_at(header, 88),
        };
        if head.bytes as usize != length {
            return Err(FormatError::Truncated { what: WHAT });
        }
        if head.row_count == 0 || head.row_count as usize > ROWS_MAX || head.row_end().is_none() {
            return damaged("row count");
        }
        if head.column_count == 0 || head.column_from.checked_add(head.column_count).is_none() {
            return damaged("column count");
        }
        if head.index_bytes() > (length - HEADER_BYTES) as u64 || length > SEGMENT_BYTES_MAX {
            return damaged("length");
        }
        Ok(head)
    }

    fn row_end(&self) -> Option<u64> {
        self.row_from.checked_add(u64::from(self.row_count))
    }

    pub fn rows(&self) -> Range<u64> {
        self.row_from..self.row_from + u64::from(self.row_count)
    }

    pub fn columns(&self) -> Range<u32> {
        self.column_from..self.column_from + self.column_count
    }

    fn index_bytes(&self) -> u64 {
        u64::from(self.instants_bytes) + ENTRY_BYTES as u64 * u64::from(self.stripe_count)
    }
}

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
    directory: Vec<u8>,
    stripe: Vec<u8>,
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
        let head = Self::head(bytes)?;
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
        Ok(head)
    }

    /// Of the segment opened last, one per row.
    pub fn instants_ms(&self) -> &[i64] {
        &self.instants_ms
    }

    /// Gives one column's samples and stale markers, by row. Opens the segment and reads one stripe.
    ///
    /// # Errors
    ///
    /// A segment that cannot be read. Nothing was given then.
    pub fn series(
        &mut self,
        bytes: &mut dyn SegmentBytes,
        column: u32,
        visit: &mut dyn FnMut(i64, u64),
    ) -> Result<(), FormatError> {
        let head = self.open(bytes)?;
        if !head.columns().contains(&column) {
            return Ok(());
        }
        let stripe = (0..head.stripe_count as usize).rev().find(|stripe| self.entry(*stripe).0 <= column);
        let stripe = stripe.ok_or(FormatError::Damaged { what: WHAT, field: "directory" })?;
        let columns = self.stripe_read(bytes, &head, stripe)?;
        let (instants_ms, rows) = (&self.instants_ms, head.row_count as usize);
        let mut give = |unit: &ColumnUnit| {
            for (row, instant_ms) in instants_ms.iter().enumerate() {
                if let Some((t_ms, bits)) = unit.sample(row, *instant_ms) {
                    visit(t_ms, bits);
                }
            }
        };
        match head.form {
            SegmentForm::Packed => give(self.decoding.packed_column(&self.stripe, rows, columns, column)?),
            SegmentForm::Aged => {
                self.decoding.columns(
                    head.form,
                    &self.stripe,
                    rows,
                    columns.start..column + 1,
                    &mut |here, unit, _| {
                        if here == column {
                            give(unit);
                        }
                        true
                    },
                )?;
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
    pub(super) fn packed_columns<'r>(&'r mut self, head: &'r SegmentHead) -> PackedColumns<'r> {
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
pub(super) struct PackedColumns<'r> {
    reader: &'r mut SegmentReader,
    head: &'r SegmentHead,
    /// The stripe to be read next; what is left of the one that was read, from this offset on.
    stripe: usize,
    left: Range<u32>,
    at: usize,
}

impl PackedColumns<'_> {
    /// The next of the segment's columns, of which one must be left.
    pub(super) fn next(&mut self, bytes: &mut dyn SegmentBytes) -> Result<&ColumnUnit, FormatError> {
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

fn take_column<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], FormatError> {
    let damaged = FormatError::Damaged { what: WHAT, field: "column length" };
    let length = take_length(rest).ok_or(damaged)?;
    let (column, tail) = rest.split_at_checked(length).ok_or(damaged)?;
    *rest = tail;
    Ok(column)
}

/// What columns are decoded with, and into.
#[derive(Default)]
struct Decoding {
    packed: StripeDecoder<ROWS_MAX>,
    /// Made when the first aged segment is read.
    aged: Option<Box<aged::Workspace>>,
    unit: ColumnUnit,
}

/// Given a column, what it holds, and its bytes; returns `false` to stop.
type UnitVisit<'v> = dyn FnMut(u32, &ColumnUnit, usize) -> bool + 'v;

impl Decoding {
    /// Gives a stripe's columns, from its first one on.
    fn columns(
        &mut self,
        form: SegmentForm,
        stripe: &[u8],
        rows: usize,
        columns: Range<u32>,
        visit: &mut UnitVisit<'_>,
    ) -> Result<(), FormatError> {
        let unit = &mut self.unit;
        match form {
            SegmentForm::Packed => {
                let mut rest = stripe;
                self.packed.begin();
                for column in columns {
                    let before = rest.len();
                    unit.decode(&mut self.packed, take_column(&mut rest)?, rows)?;
                    if !visit(column, unit, before - rest.len()) {
                        break;
                    }
                }
            }
            SegmentForm::Aged => {
                let workspace = self.aged.get_or_insert_default();
                let mut decoder = aged::StripeDecoder::new(workspace, rows, stripe)?;
                for column in columns {
                    let before = decoder.used();
                    unit.decode_aged(&mut decoder, rows)?;
                    if !visit(column, unit, decoder.used() - before) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// One column of a packed stripe: those before it are stepped over, but for the ones that it refers to.
    fn packed_column(
        &mut self,
        stripe: &[u8],
        rows: usize,
        columns: Range<u32>,
        column: u32,
    ) -> Result<&ColumnUnit, FormatError> {
        let mut rest = stripe;
        let mut walk = StripeWalk::new(rows)?;
        let (mut begin, mut end) = (0, 0);
        for _ in columns.start..=column {
            let offset = stripe.len() - rest.len();
            begin = offset;
            let mut encoded = take_column(&mut rest)?;
            while !encoded.is_empty() {
                let stepped = walk.column(encoded, offset)?;
                begin = begin.min(stepped.begin);
                encoded = &encoded[stepped.bytes..];
            }
            end = stripe.len() - rest.len();
        }
        let mut wanted = &stripe[begin..end];
        self.packed.begin();
        while !wanted.is_empty() {
            self.unit.decode(&mut self.packed, take_column(&mut wanted)?, rows)?;
        }
        Ok(&self.unit)
    }
}

/// One column of a segment, decoded: its values, and their ages where it has some.
#[derive(Default)]
pub struct ColumnUnit {
    pub cells: Vec<u64>,
    pub presence: Vec<Presence>,
    ages: Vec<u64>,
    /// Empty without ages.
    ages_presence: Vec<Presence>,
}

impl ColumnUnit {
    /// Of a stripe's columns each is to be decoded, in order.
    fn decode(
        &mut self,
        decoder: &mut StripeDecoder<ROWS_MAX>,
        encoded: &[u8],
        rows: usize,
    ) -> Result<(), FormatError> {
        self.cells.resize(rows, 0);
        self.presence.resize(rows, Presence::Absent);
        self.ages_presence.clear();
        if encoded.is_empty() {
            // The place of an age column.
            self.presence.fill(Presence::Absent);
            return Ok(());
        }
        let used = decoder.column(encoded, rows, &mut self.cells, &mut self.presence)?;
        let rest = &encoded[used..];
        if codec::column_kind(encoded) != Some(ColumnKind::Float) {
            return Err(FormatError::Damaged { what: WHAT, field: "column kind" });
        }
        if rest.is_empty() {
            return Ok(());
        }
        if codec::column_kind(rest) != Some(ColumnKind::Age) {
            return Err(FormatError::Damaged { what: WHAT, field: "age kind" });
        }
        self.ages.resize(rows, 0);
        self.ages_presence.resize(rows, Presence::Absent);
        let used = decoder.column(rest, rows, &mut self.ages, &mut self.ages_presence)?;
        if used == rest.len() { Ok(()) } else { Err(FormatError::Codec(CodecError::Damaged)) }
    }

    fn decode_aged(&mut self, decoder: &mut aged::StripeDecoder<'_>, rows: usize) -> Result<(), FormatError> {
        self.cells.resize(rows, 0);
        self.presence.resize(rows, Presence::Absent);
        self.ages_presence.clear();
        decoder.column(ColumnKind::Float, &mut self.cells, &mut self.presence)?;
        if decoder.flag() {
            self.ages.resize(rows, 0);
            self.ages_presence.resize(rows, Presence::Absent);
            decoder.column(ColumnKind::Age, &mut self.ages, &mut self.ages_presence)?;
        }
        Ok(())
    }

    /// Ages and where there are some; `None` when no value has one.
    pub(super) fn ages(&self) -> Option<(&[u64], &[Presence])> {
        (!self.ages_presence.is_empty()).then_some((&self.ages[..], &self.ages_presence[..]))
    }

    pub(super) fn has_ages(&self) -> bool {
        self.ages_presence.contains(&Presence::Value)
    }

    /// Milliseconds by which the row's sample is older than its instant.
    pub fn age_ms(&self, row: usize) -> Option<i64> {
        (self.ages_presence.get(row) == Some(&Presence::Value)).then(|| self.ages[row] as i64)
    }

    /// Time and bits of the row's sample; a stale marker is [`STALE_NAN_BITS`].
    fn sample(&self, row: usize, instant_ms: i64) -> Option<(i64, u64)> {
        let bits = match self.presence[row] {
            Presence::Absent => return None,
            Presence::Value => self.cells[row],
            Presence::Stale => STALE_NAN_BITS,
        };
        Some((instant_ms.wrapping_sub(self.age_ms(row).unwrap_or(0)), bits))
    }
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
