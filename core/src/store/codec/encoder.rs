//! Writes the columns of a stripe, one after the other.

use super::{
    CodecError, ColumnKind, Presence, ROWS_MAX,
    bits::{self, Writer},
    decimal, drift, exceptions,
    head::{Form, Head, Reference},
    history::{History, Kept},
    integers::{self, Plan, VALUES},
    presence::Coding,
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
        // What differs from the integers: rests of decimals with a drift, or the integers as differences.
        let (mut seconds, mut tried) = ([0; ROWS], [0; ROWS]);
        let mut best = match kind {
            ColumnKind::Float => Body::of_floats(own, values, &mut seconds, &mut tried),
            ColumnKind::Age => Body::of_ages(own, values),
        };
        let mut coding = Coding::choose(presence);
        let mut best_bytes = best.bytes + coding.bytes(presence);
        let mut reference = Reference::Nothing;
        for candidate in [Reference::Before, Reference::BeforeThat] {
            let (own, Some(other)) = self.history.pair(kind, candidate) else { continue };
            let may_differ = own.transform == other.transform && !best.is_odd();
            if best_bytes == 0 || !may_differ || other.presence[..rows] != *presence {
                continue;
            }
            for ((difference, integer), other) in tried.iter_mut().zip(own.integers()).zip(other.integers()) {
                *difference = integer.wrapping_sub(other);
            }
            let body = Body::of_differences(&tried[..count]);
            if body.bytes < best_bytes {
                (best, best_bytes, reference, seconds) = (body, body.bytes, candidate, tried);
            }
        }
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
        let integers = if reference.is_difference() { &seconds[..count] } else { &own.integers[..count] };
        match best.form {
            Form::Nothing | Form::Zero | Form::One => {}
            Form::ConstantInteger => writer.signed(integers[0])?,
            Form::ConstantDecimal => {
                writer.byte(own.transform)?;
                writer.signed(integers[0])?;
            }
            Form::ConstantRaw => writer.bytes(&values[0].to_le_bytes())?,
            Form::Packed => {
                if best.exceptions > 0 {
                    writer.byte(integers::EXCEPTIONS | best.exceptions)?;
                    exceptions::write(values, &mut writer)?;
                }
                if best.rests.is_some() {
                    writer.byte(integers::DRIFT)?;
                }
                let tag = if reference.is_difference() { 0 } else { own.transform };
                if let Some(plan) = best.plan {
                    plan.write(tag, integers, &mut writer)?;
                }
                if let Some(plan) = best.rests {
                    plan.write(0, &seconds[..count], &mut writer)?;
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
    plan: Option<Plan>,
    /// Runs of values that are no decimals.
    exceptions: u8,
    /// Of decimals with a drift.
    rests: Option<Plan>,
    bytes: usize,
}

impl Body {
    fn new(form: Form, bytes: usize) -> Self {
        Self { form, plan: None, exceptions: 0, rests: None, bytes }
    }

    fn packed(plan: Plan) -> Self {
        Self { plan: Some(plan), ..Self::new(Form::Packed, plan.bytes) }
    }

    /// Whether integers alone do not tell the values.
    fn is_odd(&self) -> bool {
        self.exceptions > 0 || self.rests.is_some()
    }

    /// Leaves in `own` what the decoder will know, and in `rests` what belongs to it. `scratch` is as long.
    fn of_floats<const ROWS: usize>(
        own: &mut Kept<ROWS>,
        values: &[u64],
        rests: &mut [i64; ROWS],
        scratch: &mut [i64; ROWS],
    ) -> Self {
        let count = values.len();
        let Some(first) = values.first() else { return Self::new(Form::Nothing, 0) };
        own.is_constant = values.iter().all(|value| value == first);
        if own.is_constant {
            own.transform = decimal::exact(&values[..1], &mut own.integers[..1]).unwrap_or(decimal::ORDERED);
            let body = Self::of_constant(own.transform, own.integers[0]);
            if body.form == Form::ConstantRaw {
                own.set_constant(decimal::ORDERED, decimal::ordered(*first));
            }
            return body;
        }
        let (runs, exception_bytes) = exceptions::measure(values);
        let exceptions = u8::try_from(runs).ok().filter(|runs| usize::from(*runs) <= exceptions::RUNS_MAX);
        let mut best = Self::new(Form::Raw, 8 * count);
        if let Some(exceptions) = exceptions {
            let exception_bytes = if exceptions > 0 { 1 + exception_bytes } else { 0 };
            let mut take = |mut body: Self| {
                body.exceptions = exceptions;
                body.bytes += exception_bytes;
                if body.bytes < best.bytes {
                    best = body;
                }
            };
            let integers = &mut own.integers[..count];
            if let Some(exponent) = decimal::exact(values, integers) {
                own.transform = exponent;
                Plan::of(integers, VALUES).map(Self::packed).into_iter().for_each(take);
                if best.form == Form::Packed && exceptions == 0 {
                    return best;
                }
            } else if let Some(exponent) = drift::exponent(values) {
                own.transform = exponent;
                drift::split(exponent, values, integers, &mut rests[..count]);
                if let (Some(plan), Some(rests)) = (Plan::of(integers, VALUES), Plan::of(&rests[..count], VALUES)) {
                    take(Self { rests: Some(rests), bytes: 1 + plan.bytes + rests.bytes, ..Self::packed(plan) });
                }
            }
        }
        let ordered = &mut scratch[..count];
        ordered.iter_mut().zip(values).for_each(|(integer, value)| *integer = decimal::ordered(*value));
        if let Some(plan) = Plan::of(ordered, VALUES)
            && plan.bytes < best.bytes
        {
            best = Self::packed(plan);
        }
        if !best.is_odd() {
            own.transform = decimal::ORDERED;
            own.integers[..count].copy_from_slice(ordered);
        }
        best
    }

    /// Ages are integers already.
    fn of_ages<const ROWS: usize>(own: &mut Kept<ROWS>, values: &[u64]) -> Self {
        own.transform = 0;
        own.integers.iter_mut().zip(values).for_each(|(integer, value)| *integer = *value as i64);
        let integers = &own.integers[..values.len()];
        let Some(first) = integers.first() else { return Self::new(Form::Nothing, 0) };
        own.is_constant = integers.iter().all(|integer| integer == first);
        if own.is_constant {
            return Self::of_constant(0, *first);
        }
        let packed = Plan::of(integers, VALUES).map(Self::packed).filter(|packed| packed.bytes < 8 * values.len());
        packed.unwrap_or(Self::new(Form::Raw, 8 * values.len()))
    }

    fn of_constant(transform: u8, integer: i64) -> Self {
        let bytes = bits::signed_bytes(integer);
        match (transform, integer) {
            (0, 0) => Self::new(Form::Zero, 0),
            (0, 1) => Self::new(Form::One, 0),
            (0, _) if bytes < 8 => Self::new(Form::ConstantInteger, bytes),
            (0..decimal::ORDERED, _) if bytes < 7 => Self::new(Form::ConstantDecimal, 1 + bytes),
            _ => Self::new(Form::ConstantRaw, 8),
        }
    }

    /// Of differences to another column, of which there is at least one.
    fn of_differences(integers: &[i64]) -> Self {
        let first = integers[0];
        if integers.iter().all(|integer| *integer == first) {
            return match first {
                0 => Self::new(Form::Zero, 0),
                1 => Self::new(Form::One, 0),
                _ => Self::new(Form::ConstantInteger, bits::signed_bytes(first)),
            };
        }
        Plan::of(integers, VALUES).map_or(Self::new(Form::Zero, 0), Self::packed)
    }
}
