//! The columns of a stripe, one after the other, written and read.

use super::{
    CodecError, ColumnKind, Presence, ROWS_MAX,
    bits::{self, Reader, Writer},
    decimal,
    head::{Form, Head, Reference},
    history::{History, Kept},
    integers, integers_v1,
    presence::{self, Coding},
};

/// Writes a stripe's columns in order. `ROWS` is the most rows a column may have, at most [`ROWS_MAX`].
pub struct StripeEncoder<const ROWS: usize> {
    history: History<ROWS>,
}

impl<const ROWS: usize> StripeEncoder<ROWS> {
    /// Ready for a stripe's first column.
    pub const fn new() -> Self {
        const { assert!(ROWS <= ROWS_MAX) };
        Self { history: History::new() }
    }

    /// Begins another stripe.
    pub fn begin(&mut self) {
        self.history.clear();
    }

    /// Writes one column at the start of `out` and returns its length in bytes. All columns of a stripe have the same rows.
    ///
    /// `cells[i]` counts only where `presence[i]` is [`Presence::Value`].
    ///
    /// # Errors
    ///
    /// Slices of different lengths, more than `ROWS` rows, or an `out` that is too short; never because of the values.
    /// The stripe is to be begun again then.
    pub fn column(
        &mut self,
        kind: ColumnKind,
        cells: &[u64],
        presence: &[Presence],
        out: &mut [u8],
    ) -> Result<usize, CodecError> {
        let rows = cells.len();
        if rows > ROWS {
            return Err(CodecError::TooManyRows { rows, rows_max: ROWS });
        }
        if presence.len() != rows {
            return Err(CodecError::LengthsDiffer { rows, cells: rows, presence: presence.len() });
        }
        let mut values = [0; ROWS];
        let mut count = 0;
        for (cell, state) in cells.iter().zip(presence) {
            values[count] = *cell;
            count += usize::from(*state == Presence::Value);
        }
        let values = &values[..count];
        let (own, _) = self.history.pair(kind, Reference::Nothing);
        own.presence[..rows].copy_from_slice(presence);
        own.count = count;
        let integers = &mut own.integers[..count];
        own.transform = match kind {
            ColumnKind::Float => decimal::integers(values, integers),
            ColumnKind::Age => {
                integers.iter_mut().zip(values).for_each(|(integer, value)| *integer = *value as i64);
                0
            }
        };
        own.is_constant = integers.iter().all(|integer| *integer == integers[0]);

        let coding = Coding::choose(presence);
        let mut best = Body::of(&*own);
        if matches!(best.form, Form::ConstantRaw | Form::Raw) && kind == ColumnKind::Float {
            // As the decoder will know it.
            own.transform = decimal::ORDERED;
            own.integers.iter_mut().zip(values).for_each(|(integer, value)| *integer = decimal::ordered(*value));
        }
        let mut best_bytes = best.bytes + coding.bytes(presence);
        let (mut reference, mut differences) = (Reference::Nothing, [0; ROWS]);
        for candidate in [Reference::Before, Reference::BeforeThat] {
            let (own, Some(other)) = self.history.pair(kind, candidate) else { continue };
            if best_bytes == 0 || own.transform != other.transform || other.presence[..rows] != *presence {
                continue;
            }
            let mut tried = [0; ROWS];
            for ((difference, integer), other) in tried.iter_mut().zip(own.integers()).zip(other.integers()) {
                *difference = integer.wrapping_sub(other);
            }
            let body = Body::of_differences(&tried[..count]);
            if body.bytes < best_bytes {
                (best, best_bytes, reference, differences) = (body, body.bytes, candidate, tried);
            }
        }
        let mut coding = coding;
        if reference.is_difference() {
            coding = Coding::AllValue;
        } else if count > 0
            && coding != Coding::AllValue
            && let (_, Some(other)) = self.history.pair(kind, Reference::Before)
            && other.presence[..rows] == *presence
        {
            (reference, coding) = (Reference::Presence, Coding::AllValue);
        }

        let mut writer = Writer::new(out);
        writer.byte(Head { form: best.form, coding, kind, reference }.byte())?;
        coding.write(presence, &mut writer)?;
        let own = self.history.current();
        let integers = if reference.is_difference() { &differences[..count] } else { &own.integers[..count] };
        match best.form {
            Form::Nothing | Form::Zero | Form::One => {}
            Form::ConstantInteger => writer.signed(integers[0])?,
            Form::ConstantDecimal => {
                writer.byte(own.transform)?;
                writer.signed(integers[0])?;
            }
            Form::ConstantRaw => writer.bytes(&values[0].to_le_bytes())?,
            Form::Packed => {
                let tag = if reference.is_difference() { 0 } else { own.transform };
                if let Some(plan) = best.plan {
                    plan.write(tag, integers, &mut writer)?;
                }
            }
            Form::Raw => {
                for value in values {
                    writer.bytes(&value.to_le_bytes())?;
                }
            }
        }
        self.history.keep(kind);
        Ok(writer.used())
    }
}

impl<const ROWS: usize> Default for StripeEncoder<ROWS> {
    fn default() -> Self {
        Self::new()
    }
}

/// How values are best written, once presence is told.
#[derive(Clone, Copy)]
struct Body {
    form: Form,
    plan: Option<integers::Plan>,
    bytes: usize,
}

impl Body {
    fn of<const ROWS: usize>(own: &Kept<ROWS>) -> Self {
        let integers = &own.integers[..own.count];
        let Some(first) = integers.first() else { return Self { form: Form::Nothing, plan: None, bytes: 0 } };
        if own.is_constant {
            let (form, bytes) = match (own.transform, *first) {
                (0, 0) => (Form::Zero, 0),
                (0, 1) => (Form::One, 0),
                (0, value) if bits::signed_bytes(value) < 8 => (Form::ConstantInteger, bits::signed_bytes(value)),
                (decimal::ORDERED, _) => (Form::ConstantRaw, 8),
                (_, value) if bits::signed_bytes(value) < 7 => (Form::ConstantDecimal, 1 + bits::signed_bytes(value)),
                _ => (Form::ConstantRaw, 8),
            };
            return Self { form, plan: None, bytes };
        }
        let plan = integers::Plan::of(integers, integers::VALUES);
        match plan {
            Some(plan) if plan.bytes < 8 * own.count => {
                Self { form: Form::Packed, plan: Some(plan), bytes: plan.bytes }
            }
            _ => Self { form: Form::Raw, plan: None, bytes: 8 * own.count },
        }
    }

    /// Of differences to another column, of which there is at least one.
    fn of_differences(integers: &[i64]) -> Self {
        let first = integers[0];
        if integers.iter().all(|integer| *integer == first) {
            let (form, bytes) = match first {
                0 => (Form::Zero, 0),
                1 => (Form::One, 0),
                _ => (Form::ConstantInteger, bits::signed_bytes(first)),
            };
            return Self { form, plan: None, bytes };
        }
        let plan = integers::Plan::of(integers, integers::VALUES);
        Self { form: Form::Packed, plan, bytes: plan.map_or(0, |plan| plan.bytes) }
    }
}

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
        if rows > ROWS {
            return Err(CodecError::TooManyRows { rows, rows_max: ROWS });
        }
        if cells.len() < rows || presence.len() < rows {
            return Err(CodecError::LengthsDiffer { rows, cells: cells.len(), presence: presence.len() });
        }
        let (cells, presence) = (&mut cells[..rows], &mut presence[..rows]);
        let mut reader = Reader::new(bytes);
        let head = Head::of(reader.byte()?)?;
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
                let run_head = reader.byte()?;
                own.transform = run_head & integers::TAG_MASK;
                if run_head == own.transform {
                    // Version 1: a byte for the transform, and no references.
                    integers_v1::read(reader.byte()?, integers, &mut reader)?;
                } else {
                    integers::read(run_head, integers, &mut reader)?;
                }
                let must_be_0 = head.kind == ColumnKind::Age || difference_to.is_some();
                if must_be_0 && own.transform != 0 {
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
        } else if own.is_constant {
            let mut cell = [0];
            decimal::cells(own.transform, &own.integers[..own.count.min(1)], &mut cell)?;
            cells[..own.count].fill(cell[0]);
        } else {
            decimal::cells(own.transform, &own.integers[..own.count], cells)?;
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
