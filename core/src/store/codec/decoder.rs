//! Reads the columns of a stripe, one after the other.

use super::{
    CodecError, ColumnKind, Presence, ROWS_MAX,
    bits::Reader,
    decimal, drift, exceptions,
    head::{Form, Head, Reference},
    history::History,
    integers, integers_v1, presence,
};

/// Reads a stripe's columns in order. `ROWS` is the most rows a column may have, at most [`ROWS_MAX`].
pub struct StripeDecoder<const ROWS: usize> {
    history: History<ROWS>,
}

impl<const ROWS: usize> StripeDecoder<ROWS> {
    /// Ready for a stripe's first column, or for any other that [`StripeWalk`](super::StripeWalk) names as a beginning.
    pub const fn new() -> Self {
        const { assert!(ROWS <= ROWS_MAX) };
        Self { history: History::new() }
    }

    /// Begins another stripe.
    pub fn begin(&mut self) {
        self.history.clear();
    }

    /// Reads one column of `rows` rows from the start of `bytes` into the first `rows` cells and presence states, and
    /// returns how many bytes it took. A cell whose row has no value is set to 0.
    ///
    /// # Errors
    ///
    /// Slices shorter than `rows`, more than `ROWS` rows, or bytes that are no column behind those read before: then what
    /// the slices hold means nothing, and the stripe is to be begun again.
    pub fn column(
        &mut self,
        bytes: &[u8],
        rows: usize,
        cells: &mut [u64],
        presence: &mut [Presence],
    ) -> Result<usize, CodecError> {
        let (head, rest) = bytes.split_first().ok_or(CodecError::Truncated)?;
        Ok(1 + self.column_behind(*head, rest, rows, cells, presence)?)
    }

    /// As [`Self::column`], of a column whose first byte lies elsewhere; returns how many of the others it took.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn column_behind(
        &mut self,
        head: u8,
        bytes: &[u8],
        rows: usize,
        cells: &mut [u64],
        presence: &mut [Presence],
    ) -> Result<usize, CodecError> {
        if rows > ROWS {
            return Err(CodecError::TooManyRows { rows, rows_max: ROWS });
        }
        if cells.len() < rows || presence.len() < rows {
            return Err(CodecError::LengthsDiffer { rows, cells: cells.len(), presence: presence.len() });
        }
        let (cells, presence) = (&mut cells[..rows], &mut presence[..rows]);
        let mut reader = Reader::new(bytes);
        let head = Head::of(head)?;
        let (own, other) = self.history.pair(head.kind, head.reference);
        let own_presence = &mut own.presence[..rows];
        match (head.reference, other) {
            (Reference::Nothing, _) => presence::read(head.coding, own_presence, &mut reader)?,
            (_, Some(other)) => own_presence.copy_from_slice(&other.presence[..rows]),
            // A difference to nothing.
            (_, None) => return Err(CodecError::Damaged),
        }
        own.count = own_presence.iter().filter(|state| **state == Presence::Value).count();
        if (head.form == Form::Nothing) != (own.count == 0) {
            return Err(CodecError::Damaged);
        }
        presence.copy_from_slice(own_presence);
        let difference_to = other.filter(|_| head.reference.is_difference());
        let is_age = head.kind == ColumnKind::Age;
        let raw_integer = |cell| if is_age { cell as i64 } else { decimal::ordered(cell) };
        let raw_transform = if is_age { 0 } else { decimal::ORDERED };
        // Where the list of exceptions begins, and whether decimals have a drift.
        let (mut odd, mut has_rests, mut rests) = (None, false, [0; ROWS]);
        match head.form {
            Form::Nothing => {}
            Form::Zero => own.set_constant(0, 0),
            Form::One => own.set_constant(0, 1),
            Form::ConstantInteger => own.set_constant(0, reader.signed()?),
            Form::ConstantDecimal => {
                let transform = transform(head.kind, &mut reader)?;
                own.set_constant(transform, reader.signed()?);
            }
            Form::ConstantRaw => own.set_constant(raw_transform, raw_integer(reader.u64()?)),
            Form::Packed => {
                own.is_constant = false;
                let integers = &mut own.integers[..own.count];
                let mut run_head = reader.byte()?;
                if run_head & !integers::TAG_MASK == integers::EXCEPTIONS && run_head != integers::DRIFT {
                    let runs = run_head & integers::TAG_MASK;
                    odd = Some((runs, reader.clone()));
                    exceptions::skip(runs, &mut reader)?;
                    run_head = reader.byte()?;
                }
                has_rests = run_head == integers::DRIFT;
                if has_rests {
                    run_head = reader.byte()?;
                }
                own.transform = run_head & integers::TAG_MASK;
                if run_head == own.transform {
                    // Version 1: a byte for the transform, and no references.
                    integers_v1::read(reader.byte()?, integers, &mut reader)?;
                } else {
                    integers::read(run_head, integers, &mut reader)?;
                }
                if has_rests {
                    integers::read(reader.byte()?, &mut rests[..own.count], &mut reader)?;
                }
                if has_rests && own.transform > decimal::EXPONENT_MAX {
                    return Err(CodecError::FromNewerVersion);
                }
                let is_plain = is_age || difference_to.is_some();
                if is_plain && (own.transform != 0 || has_rests || odd.is_some()) {
                    return Err(CodecError::Damaged);
                }
            }
            Form::Raw => {
                own.transform = raw_transform;
                own.is_constant = false;
                for integer in &mut own.integers[..own.count] {
                    *integer = raw_integer(reader.u64()?);
                }
            }
        }
        if let Some(other) = difference_to {
            own.transform = other.transform;
            if own.is_constant && other.is_constant {
                own.integers[0] = own.integers[0].wrapping_add(other.integers[0]);
            } else {
                let count = own.count;
                if own.is_constant {
                    let difference = own.integers[0];
                    own.integers[..count].fill(difference);
                    own.is_constant = false;
                }
                for (integer, other) in own.integers[..count].iter_mut().zip(other.integers()) {
                    *integer = integer.wrapping_add(other);
                }
            }
        }
        if is_age {
            cells.iter_mut().zip(own.integers()).for_each(|(cell, integer)| *cell = integer as u64);
        } else if has_rests {
            drift::cells(own.transform, &own.integers[..own.count], &rests[..own.count], cells);
        } else if own.is_constant {
            let mut cell = [0];
            decimal::cells(own.transform, &own.integers[..own.count.min(1)], &mut cell)?;
            cells[..own.count].fill(cell[0]);
        } else {
            decimal::cells(own.transform, &own.integers[..own.count], cells)?;
        }
        if let Some((runs, mut list)) = odd {
            exceptions::read(runs, &mut cells[..own.count], &mut list)?;
        }
        spread(cells, presence, own.count);
        self.history.keep(head.kind);
        Ok(reader.used())
    }
}

impl<const ROWS: usize> Default for StripeDecoder<ROWS> {
    fn default() -> Self {
        Self::new()
    }
}

/// Ages are integers already; their transform is always 0.
fn transform(kind: ColumnKind, reader: &mut Reader<'_>) -> Result<u8, CodecError> {
    let transform = reader.byte()?;
    if kind == ColumnKind::Age && transform != 0 { Err(CodecError::FromNewerVersion) } else { Ok(transform) }
}

/// Moves the values, packed at the front, to their rows.
fn spread(cells: &mut [u64], presence: &[Presence], count: usize) {
    if count == cells.len() {
        return;
    }
    let mut next = count;
    for row in (0..cells.len()).rev() {
        cells[row] = if presence[row] == Presence::Value {
            next -= 1;
            cells[next]
        } else {
            0
        };
    }
}
