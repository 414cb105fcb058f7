//! A stripe's columns, whichever form they have.

use super::{
    super::format::{FormatError, take_length},
    WHAT,
    head::SegmentForm,
};
use crate::store::{
    ColumnKind, Presence, STALE_NAN_BITS,
    codec::{self, CodecError, ROWS_MAX, StripeDecoder, StripeWalk, aged},
};
use alloc::{boxed::Box, vec::Vec};
use core::ops::Range;

/// What columns are decoded with, and into.
#[derive(Default)]
pub struct Decoding {
    pub packed: StripeDecoder<ROWS_MAX>,
    /// Made when the first aged segment is read.
    aged: Option<Box<aged::Workspace>>,
    pub unit: ColumnUnit,
}

/// Given a column, what it holds, and its bytes; returns `false` to stop.
pub type UnitVisit<'v> = dyn FnMut(u32, &ColumnUnit, usize) -> bool + 'v;

impl Decoding {
    /// Gives a stripe's columns, from its first one on.
    pub fn columns(
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

    /// One column: the last of these, which begin with the stripe's first.
    pub fn column(
        &mut self,
        form: SegmentForm,
        stripe: &[u8],
        rows: usize,
        columns: Range<u32>,
    ) -> Result<&ColumnUnit, FormatError> {
        match form {
            SegmentForm::Packed => self.packed_column(stripe, rows, columns),
            SegmentForm::Aged => self.aged_column(stripe, rows, columns),
        }
    }

    fn aged_column(&mut self, stripe: &[u8], rows: usize, columns: Range<u32>) -> Result<&ColumnUnit, FormatError> {
        let workspace = self.aged.get_or_insert_default();
        let mut decoder = aged::StripeDecoder::new(workspace, rows, stripe)?;
        for _ in columns.skip(1) {
            decoder.skip(ColumnKind::Float)?;
            if decoder.flag() {
                decoder.skip(ColumnKind::Age)?;
            }
        }
        self.unit.decode_aged(&mut decoder, rows)?;
        Ok(&self.unit)
    }

    /// One column of a packed stripe: those before it are stepped over, but for the ones that it refers to.
    fn packed_column(&mut self, stripe: &[u8], rows: usize, columns: Range<u32>) -> Result<&ColumnUnit, FormatError> {
        let mut rest = stripe;
        let mut walk = StripeWalk::new(rows)?;
        let (mut begin, mut end) = (0, 0);
        for _ in columns {
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
    pub fn decode(
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
    pub fn ages(&self) -> Option<(&[u64], &[Presence])> {
        (!self.ages_presence.is_empty()).then_some((&self.ages[..], &self.ages_presence[..]))
    }

    pub fn has_ages(&self) -> bool {
        self.ages_presence.contains(&Presence::Value)
    }

    /// Milliseconds by which the row's sample is older than its instant.
    pub fn age_ms(&self, row: usize) -> Option<i64> {
        (self.ages_presence.get(row) == Some(&Presence::Value)).then(|| self.ages[row] as i64)
    }

    /// Time and bits of the row's sample; a stale marker is [`STALE_NAN_BITS`].
    pub fn sample(&self, row: usize, instant_ms: i64) -> Option<(i64, u64)> {
        let bits = match self.presence[row] {
            Presence::Absent => return None,
            Presence::Value => self.cells[row],
            Presence::Stale => STALE_NAN_BITS,
        };
        Some((instant_ms.wrapping_sub(self.age_ms(row).unwrap_or(0)), bits))
    }
}

pub fn take_column<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], FormatError> {
    let damaged = FormatError::Damaged { what: WHAT, field: "column length" };
    let length = take_length(rest).ok_or(damaged)?;
    let (column, tail) = rest.split_at_checked(length).ok_or(damaged)?;
    *rest = tail;
    Ok(column)
}
