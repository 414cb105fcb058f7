//! Decoded stripes, kept while a query reads their columns one after the other.
//!
//! A query reads series by series, each over all its segments, and neighbouring series lie in the same stripes. So a stripe
//! is decoded once and kept, each value in as few bytes as its column needs: most are small whole numbers, whose bits as a
//! float end in zeros, or the same all the time.
//!
//! When the stripes that hold the columns at hand do not all fit, those that do are kept and the others are read column by
//! column: to replace them in turn would find none of them.

use super::{
    format::FormatError,
    segment::{ColumnUnit, SegmentReader},
};
use crate::store::{Presence, STALE_NAN_BITS, stored::SegmentBytes};
use alloc::vec::Vec;
use core::ops::Range;

pub struct StripeCache {
    bytes_max: usize,
    stripes: Vec<Stripe>,
    /// Neighbouring columns of a layout whose stripes do not all fit.
    full: Option<(u64, Range<u32>)>,
    reader: SegmentReader,
}

/// The columns of one stripe of one segment.
#[derive(Default)]
struct Stripe {
    sequence: u64,
    layout: u64,
    columns: Range<u32>,
    instants_ms: Vec<i64>,
    /// Each instant is later than the one before.
    ascends: bool,
    places: Vec<Place>,
    bytes: Vec<u8>,
}

/// Where a column's bytes begin, and what they are: states if some row has no value, then ages if there are any, then
/// values.
#[derive(Clone, Copy)]
struct Place {
    at: u32,
    /// Bytes of a value, the upper ones of its bits; 0: all are the one value that is there.
    width: u8,
    has_states: bool,
    has_ages: bool,
}

/// So much may be read behind a column's last value.
const PADDING_BYTES: usize = 8;
/// No age at this row.
const NO_AGE: i64 = i64::MIN;

/// One column of a kept stripe.
pub struct KeptColumn<'c> {
    stripe: &'c Stripe,
    place: Place,
}

impl StripeCache {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, stripes: Vec::new(), full: None, reader: SegmentReader::default() }
    }

    /// Forgets all stripes: segments may have changed.
    pub fn clear(&mut self) {
        self.stripes = Vec::new();
        self.full = None;
    }

    /// The column, if its stripe is kept.
    pub fn column(&self, sequence: u64, column: u32) -> Option<KeptColumn<'_>> {
        let stripe =
            self.stripes.iter().find(|stripe| stripe.sequence == sequence && stripe.columns.contains(&column))?;
        let place = stripe.places[(column - stripe.columns.start) as usize];
        Some(KeptColumn { stripe, place })
    }

    /// Whether it makes sense to [`Self::keep`] this column's stripe.
    pub fn has_room(&self, layout: u64, column: u32) -> bool {
        !self.full.as_ref().is_some_and(|(full, columns)| *full == layout && columns.contains(&column))
    }

    /// Decodes and keeps the stripe that holds a column; false when it does not fit.
    ///
    /// # Errors
    ///
    /// A segment that cannot be read. Nothing of it is kept then.
    pub fn keep(&mut self, sequence: u64, column: u32, bytes: &mut dyn SegmentBytes) -> Result<bool, FormatError> {
        let mut stripe = Stripe { sequence, ..Stripe::default() };
        let head = self.reader.stripe(bytes, column, &mut |column, unit| {
            if stripe.places.is_empty() {
                stripe.columns.start = column;
            }
            stripe.columns.end = column + 1;
            stripe.add(unit);
        })?;
        stripe.layout = head.layout;
        stripe.instants_ms.extend_from_slice(self.reader.instants_ms());
        stripe.ascends = stripe.instants_ms.is_sorted_by(|a, b| a < b);
        stripe.bytes.extend_from_slice(&[0; PADDING_BYTES]);
        stripe.bytes.shrink_to_fit();
        let is_near = |other: &Stripe| other.layout == stripe.layout && other.columns.contains(&column);
        let (mut used, wanted) = (self.bytes(), stripe.heap_bytes());
        while used + wanted > self.bytes_max {
            let Some(index) = self.stripes.iter().position(|other| !is_near(other)) else {
                self.full = Some((stripe.layout, stripe.columns));
                return Ok(false);
            };
            used -= self.stripes.swap_remove(index).heap_bytes();
        }
        self.stripes.push(stripe);
        Ok(true)
    }

    /// Gives one column's samples and stale markers, of at most so many rows, without keeping anything.
    ///
    /// # Errors
    ///
    /// See [`SegmentReader::series`].
    pub fn series(
        &mut self,
        bytes: &mut dyn SegmentBytes,
        column: u32,
        rows_max: usize,
        visit: &mut dyn FnMut(i64, u64),
    ) -> Result<(), FormatError> {
        self.reader.series(bytes, column, rows_max, visit)
    }

    /// Heap of what is kept.
    pub fn bytes(&self) -> usize {
        self.stripes.iter().map(Stripe::heap_bytes).sum()
    }
}

impl Stripe {
    fn heap_bytes(&self) -> usize {
        size_of::<Self>()
            + self.instants_ms.capacity() * size_of::<i64>()
            + self.places.capacity() * size_of::<Place>()
            + self.bytes.capacity()
    }

    fn add(&mut self, unit: &ColumnUnit) {
        let (cells, presence) = (&unit.cells, &unit.presence);
        let has_states = presence.iter().any(|state| *state != Presence::Value);
        let has_ages = unit.has_ages();
        let (mut all, mut first, mut is_constant) = (0, None, true);
        for (cell, _) in cells.iter().zip(presence).filter(|(_, state)| **state == Presence::Value) {
            all |= cell;
            is_constant &= *first.get_or_insert(*cell) == *cell;
        }
        let width = if is_constant { 0 } else { 8 - (all.trailing_zeros() / 8) as u8 };
        self.places.push(Place { at: self.bytes.len() as u32, width, has_states, has_ages });
        if has_states {
            self.bytes.extend(presence.iter().map(|state| *state as u8));
        }
        if has_ages {
            let ages = (0..cells.len()).map(|row| unit.age_ms(row).unwrap_or(NO_AGE).to_le_bytes());
            ages.for_each(|age| self.bytes.extend_from_slice(&age));
        }
        if width == 0 {
            return self.bytes.extend_from_slice(&first.unwrap_or(0).to_le_bytes());
        }
        let shift = 64 - 8 * u32::from(width);
        for cell in cells {
            self.bytes.extend_from_slice(&(cell >> shift).to_le_bytes()[..usize::from(width)]);
        }
    }
}

impl KeptColumn<'_> {
    /// The rows' instants, if each row has a value at its instant and each instant is later than the one before.
    pub fn plain_instants_ms(&self) -> Option<&[i64]> {
        let is_plain = self.stripe.ascends && !self.place.has_states && !self.place.has_ages;
        is_plain.then_some(&self.stripe.instants_ms)
    }

    /// The bits of the values of these rows, one after the other.
    pub fn bits(&self, rows: Range<usize>) -> impl ExactSizeIterator<Item = u64> {
        let row_count = self.stripe.instants_ms.len();
        let before = row_count * (usize::from(self.place.has_states) + 8 * usize::from(self.place.has_ages));
        let bytes = &self.stripe.bytes[self.place.at as usize + before..];
        let width = usize::from(self.place.width);
        // The shift leaves nothing of the next value's bytes.
        let shift = if width == 0 { 0 } else { 64 - 8 * width as u32 };
        rows.map(move |row| {
            let at = row * width;
            let value = bytes[at..at + 8].try_into().expect("eight bytes, since there is padding");
            u64::from_le_bytes(value) << shift
        })
    }

    /// Gives the column's samples and stale markers, by row, of at most so many rows.
    pub fn samples(&self, rows_max: usize, visit: &mut dyn FnMut(i64, u64)) {
        let (row_count, at) = (self.stripe.instants_ms.len(), self.place.at as usize);
        let states = self.place.has_states.then(|| &self.stripe.bytes[at..at + row_count]);
        let ages_at = at + row_count * usize::from(self.place.has_states);
        let rows = self.stripe.instants_ms.iter().zip(self.bits(0..row_count));
        for (row, (instant_ms, bits)) in rows.enumerate().take(rows_max) {
            let bits = match states.map(|states| states[row]) {
                Some(state) if state == Presence::Absent as u8 => continue,
                Some(state) if state == Presence::Stale as u8 => STALE_NAN_BITS,
                _ => bits,
            };
            let age_ms = if self.place.has_ages {
                let age = &self.stripe.bytes[ages_at + 8 * row..ages_at + 8 * row + 8];
                Some(i64::from_le_bytes(age.try_into().expect("eight bytes"))).filter(|age| *age != NO_AGE)
            } else {
                None
            };
            visit(instant_ms.wrapping_sub(age_ms.unwrap_or(0)), bits);
        }
    }
}

#[cfg(test)]
#[path = "stripes_tests.rs"]
mod tests;
