//! One column of a stripe: its parts in the order in which they are coded, and the context of each decision.
//!
//! [`Stripe::code`] goes both ways. For an encoder everything it asks for has been laid out before; for a decoder it lays
//! out what it finds, in the same places.

use super::{
    super::{
        CodecError, ColumnKind, Presence, ROWS_MAX,
        bits::{unzigzag, zigzag},
        decimal, drift,
        exceptions::is_exception,
    },
    model::{self, Model, length},
    parts::{DRIFT, behind_first, code_first, code_length, code_magnitude, code_plan, code_transform},
    plan::{self, Plan, REFERENCES},
    predict::{Guess, Predictor},
    range::Coder,
    training::Start,
};

/// The transform of ages, which is never told.
const AGE: u8 = 64;
/// A stripe under way: what was learned, what is known of the columns before, and the current column.
pub struct Stripe {
    model: Model,
    /// Of the column before.
    presence: [Presence; ROWS_MAX],
    /// The last columns that moved, in turn.
    kept: [Kept; REFERENCES],
    kept_count: usize,
    /// For each row: whether it moved, in the columns that move, the last one lowest.
    moved: [u8; ROWS_MAX],
    /// For each row: the sign of the last moving column's residual.
    signs: [Sign; ROWS_MAX],
    before: Before,
    current: Current,
}

/// A column that moved: one value for each row, the one before where a row has none.
struct Kept {
    transform: u8,
    values: [i64; ROWS_MAX],
}

/// What headers of columns before were.
#[derive(Clone, Copy)]
struct Before {
    /// Whether columns were constant, the last one lowest.
    constants: usize,
    constant: (u8, i64),
    transform: u8,
    plan: Plan,
}

const BEFORE_ALL: Before = Before { constants: 0, constant: (0, 0), transform: 0, plan: Plan::SIMPLE };

#[derive(Clone, Copy)]
#[repr(u8)]
enum Sign {
    None = 0,
    Positive = 1,
    Negative = 2,
}

/// The column being coded. All but `presence` and `is_exception` is of the values that are no exceptions, at the front.
struct Current {
    presence: [Presence; ROWS_MAX],
    is_exception: [bool; ROWS_MAX],
    rows: [u8; ROWS_MAX],
    cells: [u64; ROWS_MAX],
    integers: [i64; ROWS_MAX],
    rests: [i64; ROWS_MAX],
    steps: [i64; ROWS_MAX],
    tried: [i64; ROWS_MAX],
    other: [i64; ROWS_MAX],
}

/// What is told of a column before its rows.
#[derive(Clone, Copy)]
struct Header {
    /// The one value that does not fit with the others, if there is one.
    exception: Option<u64>,
    is_constant: bool,
    transform: u8,
    plan: Plan,
}

const HEADER_UNKNOWN: Header = Header { exception: None, is_constant: false, transform: 0, plan: Plan::SIMPLE };

/// NaN as programs write it that print `NaN`.
const NAN_USUAL: u64 = 0x7ff8_0000_0000_0001;

impl Stripe {
    pub const fn new() -> Self {
        const KEPT: Kept = Kept { transform: 0, values: [0; ROWS_MAX] };
        Self {
            model: Model::new(),
            presence: [Presence::Value; ROWS_MAX],
            kept: [KEPT; REFERENCES],
            kept_count: 0,
            moved: [0; ROWS_MAX],
            signs: [Sign::None; ROWS_MAX],
            before: BEFORE_ALL,
            current: Current {
                presence: [Presence::Value; ROWS_MAX],
                is_exception: [false; ROWS_MAX],
                rows: [0; ROWS_MAX],
                cells: [0; ROWS_MAX],
                integers: [0; ROWS_MAX],
                rests: [0; ROWS_MAX],
                steps: [0; ROWS_MAX],
                tried: [0; ROWS_MAX],
                other: [0; ROWS_MAX],
            },
        }
    }

    /// Forgets everything: a stripe begins.
    pub fn begin(&mut self, start: &Start) {
        self.model.begin(start);
        self.presence.fill(Presence::Value);
        self.kept_count = 0;
        self.moved.fill(0);
        self.signs.fill(Sign::None);
        self.before = BEFORE_ALL;
    }

    /// A decision that stands between columns.
    pub fn flag(&mut self, coder: &mut impl Coder, flag: bool) -> bool {
        self.model.bit(coder, model::FLAG, flag)
    }

    pub fn encode(&mut self, coder: &mut impl Coder, kind: ColumnKind, cells: &[u64], presence: &[Presence]) {
        self.current.presence[..presence.len()].copy_from_slice(presence);
        let header = self.lay_out(kind, cells, presence);
        let coded = self.code(coder, kind, cells.len(), header);
        debug_assert!(coded.is_ok());
    }

    pub fn decode(
        &mut self,
        coder: &mut impl Coder,
        kind: ColumnKind,
        cells: &mut [u64],
        presence: &mut [Presence],
    ) -> Result<(), CodecError> {
        let header = self.code(coder, kind, cells.len(), HEADER_UNKNOWN)?;
        let Current { presence: found, is_exception, integers, rests, cells: values, .. } = &mut self.current;
        presence.copy_from_slice(&found[..presence.len()]);
        let all = presence.iter().zip(&*is_exception);
        let count = all.filter(|(state, odd)| **state == Presence::Value && !**odd).count();
        let given = if header.is_constant { count.min(1) } else { count };
        if header.transform == AGE {
            values.iter_mut().zip(&integers[..given]).for_each(|(cell, integer)| *cell = *integer as u64);
        } else if header.transform >= DRIFT {
            drift::cells(header.transform - DRIFT, &integers[..given], &rests[..given], values);
        } else {
            decimal::cells(header.transform, &integers[..given], values)?;
        }
        if header.is_constant && count > 0 {
            let value = values[0];
            values[..count].fill(value);
        }
        if count == cells.len() {
            cells.copy_from_slice(&values[..count]);
            return Ok(());
        }
        let mut values = values.iter();
        for ((cell, state), odd) in cells.iter_mut().zip(&*presence).zip(&*is_exception) {
            *cell = match (state, header.exception) {
                (Presence::Absent | Presence::Stale, _) => 0,
                (Presence::Value, Some(exception)) if *odd => exception,
                (Presence::Value, _) => values.next().copied().unwrap_or(0),
            };
        }
        Ok(())
    }

    /// As [`decode`](Self::decode), for a column whose cells nobody wants.
    pub fn skip(&mut self, coder: &mut impl Coder, kind: ColumnKind, rows: usize) -> Result<(), CodecError> {
        self.code(coder, kind, rows, HEADER_UNKNOWN).map(|_| ())
    }

    /// Lays a column out for [`code`](Self::code) and decides how it is told.
    fn lay_out(&mut self, kind: ColumnKind, cells: &[u64], presence: &[Presence]) -> Header {
        let current = &mut self.current;
        let is_float = kind == ColumnKind::Float;
        let values =
            || cells.iter().zip(presence).filter(|(_, state)| **state == Presence::Value).map(|(cell, _)| *cell);
        let first = values().next();
        let is_constant = first.is_some_and(|first| values().all(|cell| cell == first));
        let exception = if is_float && !is_constant { values().find(|cell| is_exception(*cell)) } else { None };
        let mut count = 0;
        for (row, (cell, state)) in cells.iter().zip(presence).enumerate() {
            let odd = exception == Some(*cell) && *state == Presence::Value;
            current.is_exception[row] = odd;
            current.cells[count] = *cell;
            current.rows[count] = row as u8;
            count += usize::from(*state == Presence::Value && !odd);
        }
        let is_constant =
            count > 0 && (is_constant || current.cells[..count].iter().all(|cell| *cell == current.cells[0]));
        let given = if is_constant { 1 } else { count };
        let (cells, integers) = (&current.cells[..given], &mut current.integers[..given]);
        let transform = if is_float {
            match decimal::integers(cells, integers) {
                decimal::ORDERED if !is_constant => match drift::integers(cells, integers, &mut current.rests) {
                    Some(exponent) => DRIFT + exponent,
                    None => {
                        integers.iter_mut().zip(cells).for_each(|(integer, cell)| *integer = decimal::ordered(*cell));
                        decimal::ORDERED
                    }
                },
                transform => transform,
            }
        } else {
            integers.iter_mut().zip(cells).for_each(|(integer, cell)| *integer = *cell as i64);
            AGE
        };
        let plan = if given > 1 { self.plan(count, transform) } else { Plan::SIMPLE };
        Header { exception, is_constant, transform, plan }
    }

    fn plan(&mut self, count: usize, transform: u8) -> Plan {
        let Current { rows, integers, steps, tried, other, .. } = &mut self.current;
        let (kept, kept_count) = (&self.kept, self.kept_count);
        let refer = |reference: usize, other: &mut [i64]| {
            let kept = &kept[kept_count.wrapping_sub(reference) % REFERENCES];
            let can_be = reference <= kept_count && kept.transform == transform;
            if can_be {
                kept.gather(&rows[..count], other);
            }
            can_be
        };
        plan::choose(&integers[..count], refer, &mut steps[..count], &mut tried[..count], &mut other[..count])
    }

    /// Codes the column that is laid out, or lays out the one that is found.
    fn code<C: Coder>(
        &mut self,
        coder: &mut C,
        kind: ColumnKind,
        rows: usize,
        mut header: Header,
    ) -> Result<Header, CodecError> {
        self.code_presence(coder, rows);
        let value_count = self.current.presence[..rows].iter().filter(|state| **state == Presence::Value).count();
        if value_count == 0 {
            return Ok(header);
        }
        header.exception = match kind {
            ColumnKind::Float => self.code_exceptions(coder, rows, header.exception),
            ColumnKind::Age => {
                self.current.is_exception[..rows].fill(false);
                None
            }
        };
        let count = self.list_rows(rows);
        if count == 0 {
            return Err(CodecError::Damaged);
        }
        let Self { model, before, current, .. } = self;
        header.is_constant = model.bit(coder, model::CONSTANT + (before.constants & 7), header.is_constant);
        before.constants = before.constants << 1 | usize::from(header.is_constant);
        let is_age = kind == ColumnKind::Age;
        if header.is_constant {
            let value = &mut current.integers[0];
            let is_plain = |value: i64, small| value == small && (is_age || header.transform == 0);
            if model.bit(coder, model::CONSTANT_KNOWN, before.constant == (header.transform, *value)) {
                (header.transform, *value) = before.constant;
            } else if model.bit(coder, model::CONSTANT_KNOWN + 1, is_plain(*value, 0)) {
                (header.transform, *value) = (0, 0);
            } else if model.bit(coder, model::CONSTANT_KNOWN + 2, is_plain(*value, 1)) {
                (header.transform, *value) = (0, 1);
            } else {
                if !is_age {
                    header.transform =
                        model.tree(coder, model::CONSTANT_TRANSFORM, 5, u32::from(header.transform)) as u8;
                }
                *value = code_first(model, coder, header.transform, 0, *value, 0);
            }
            // Ages are not told by their transform.
            if is_age {
                header.transform = AGE;
            } else if header.transform == AGE {
                return Err(CodecError::Damaged);
            }
            before.constant = (header.transform, *value);
            return if is_age { Ok(header) } else { known_transform(header) };
        }
        if !is_age {
            header.transform = code_transform(model, coder, before.transform, header.transform);
            known_transform(header)?;
            before.transform = header.transform;
        } else {
            header.transform = AGE;
        }
        if count > 1 {
            header.plan = code_plan(model, coder, before.plan, header.plan);
            if header.plan.reference > self.kept_count {
                return Err(CodecError::Damaged);
            }
            before.plan = Plan {
                divisor: if header.plan.divisor > 1 { header.plan.divisor } else { before.plan.divisor },
                ..header.plan
            };
        } else {
            header.plan = Plan::SIMPLE;
        }
        self.code_values(coder, count, header);
        if header.transform >= DRIFT && !is_age {
            self.code_rests(coder, count);
        }
        self.keep(rows, header.transform);
        Ok(header)
    }

    fn code_presence(&mut self, coder: &mut impl Coder, rows: usize) {
        let Self { model, current, .. } = self;
        let (above, presence) = (&mut self.presence[..rows], &mut current.presence[..rows]);
        if model.bit(coder, model::PRESENCE_SAME, above == presence) {
            presence.copy_from_slice(above);
            return;
        }
        let is_all = |presence: &[Presence], state| presence.iter().all(|found| *found == state);
        let kind = match () {
            () if is_all(presence, Presence::Value) => 0,
            () if is_all(presence, Presence::Absent) => 1,
            () => 2,
        };
        match model.tree(coder, model::PRESENCE_KIND, 2, kind) {
            0 => presence.fill(Presence::Value),
            1 => presence.fill(Presence::Absent),
            _ => {
                let (mut before, mut above_before) = (Presence::Absent, Presence::Absent);
                for (state, above) in presence.iter_mut().zip(&*above) {
                    let kept = model::PRESENCE_KEPT + 2 * before as usize + usize::from(*above != above_before);
                    if model.bit(coder, kept, *state == before) {
                        *state = before;
                    } else {
                        let others = match before {
                            Presence::Absent => [Presence::Value, Presence::Stale],
                            Presence::Value => [Presence::Absent, Presence::Stale],
                            Presence::Stale => [Presence::Absent, Presence::Value],
                        };
                        let other = model.bit(coder, model::PRESENCE_OTHER + before as usize, *state == others[1]);
                        *state = others[usize::from(other)];
                    }
                    (before, above_before) = (*state, *above);
                }
            }
        }
        above.copy_from_slice(presence);
    }

    /// Whether some values are one and the same that does not fit with the others; which, and where.
    fn code_exceptions(&mut self, coder: &mut impl Coder, rows: usize, exception: Option<u64>) -> Option<u64> {
        let Self { model, current, .. } = self;
        if !model.bit(coder, model::EXCEPTIONS, exception.is_some()) {
            current.is_exception[..rows].fill(false);
            return None;
        }
        let bits = exception.unwrap_or(0);
        let is_usual = model.bit(coder, model::EXCEPTIONS + 1, bits == NAN_USUAL);
        let bits = if is_usual { NAN_USUAL } else { coder.raw(bits, 64) };
        let mut before = true;
        for (odd, state) in current.is_exception[..rows].iter_mut().zip(&current.presence) {
            if *state == Presence::Value {
                *odd = model.bit(coder, model::EXCEPTION + usize::from(before), *odd);
                before = *odd;
            }
        }
        Some(bits)
    }

    /// Lists the rows whose values are no exceptions.
    fn list_rows(&mut self, rows: usize) -> usize {
        let Current { rows: listed, presence, is_exception, .. } = &mut self.current;
        let mut count = 0;
        for row in 0..rows {
            listed[count] = row as u8;
            count += usize::from(presence[row] == Presence::Value && !is_exception[row]);
        }
        count
    }

    /// The first value, then the steps to the next ones.
    fn code_values<C: Coder>(&mut self, coder: &mut C, count: usize, header: Header) {
        let Header { plan, transform, .. } = header;
        let Current { rows, integers, other, .. } = &mut self.current;
        let other = &mut other[..count];
        let kept = &self.kept[self.kept_count.wrapping_sub(plan.reference) % REFERENCES];
        if plan.reference > 0 {
            kept.gather(&rows[..count], other);
        } else {
            other.fill(0);
        }
        let group = usize::from(plan.reference > 0);
        integers[0] = code_first(&mut self.model, coder, transform, 1 + group, integers[0], other[0]);
        self.code_steps(coder, count, plan);
        if C::DECODES {
            let Current { integers, steps, other, .. } = &mut self.current;
            let mut value = integers[0];
            for at in 1..count {
                let step = steps[at].wrapping_mul(plan.divisor as i64);
                value = value.wrapping_add(step).wrapping_add(other[at].wrapping_sub(other[at - 1]));
                integers[at] = value;
            }
        }
    }

    fn code_steps<C: Coder>(&mut self, coder: &mut C, count: usize, plan: Plan) {
        let Self { model, current: Current { rows, steps, .. }, moved: marks, signs: all_signs, .. } = self;
        let mut guess = Guess::new(plan.predictor);
        // How often values moved lately, in 1/256; whether the last two did; the signs of the last four residuals.
        let (mut density, mut lately, mut signs) = (128_u32, 0_usize, 0_usize);
        // Mean length of residuals, in 1/16.
        let mut expected = None;
        let can_be_zero = plan.predictor != Predictor::Last;
        for (step, row) in steps[1..count].iter_mut().zip(&rows[1..count]) {
            let row = usize::from(*row);
            let near = marks[row];
            let mut moved = true;
            if plan.repeats {
                let further = ((near >> 2 & 7).count_ones() as usize).div_ceil(2);
                let situation = (density as usize >> 5) * 4 + (lately & 3);
                let context = model::MOVED + (situation * 4 + usize::from(near & 3)) * 3 + further;
                moved = model.bit(coder, context, *step != 0);
                density = if moved { density + ((255 - density) >> 3) } else { density - density.div_ceil(8) };
                lately = lately << 1 | usize::from(moved);
            }
            let mut sign = Sign::None;
            if moved {
                let guessed = guess.step();
                let mut residual = step.wrapping_sub(guessed);
                let length = code_length(model, coder, expected, can_be_zero, length(residual.unsigned_abs()));
                if length > 0 {
                    let near_sign = all_signs[row] as usize;
                    let context = (plan.predictor as usize * 16 + (signs & 15)) * 3 + near_sign;
                    let is_negative = model.bit(coder, model::SIGN + context, residual < 0);
                    signs = signs << 1 | usize::from(is_negative);
                    let magnitude = code_magnitude(model, coder, length, residual.unsigned_abs()) as i64;
                    sign = if is_negative { Sign::Negative } else { Sign::Positive };
                    residual = if is_negative { magnitude.wrapping_neg() } else { magnitude };
                } else {
                    residual = 0;
                }
                let length = length as i32 * 16;
                expected = Some(expected.map_or(length, |expected: i32| expected + ((length - expected) >> 2)));
                *step = guessed.wrapping_add(residual);
                guess.learn(*step);
            } else {
                *step = 0;
            }
            marks[row] = near << 1 | u8::from(*step != 0);
            all_signs[row] = sign;
        }
    }

    /// What the digits of a drifting decimal leave, each against the one before.
    fn code_rests(&mut self, coder: &mut impl Coder, count: usize) {
        let Self { model, current: Current { integers, rests, .. }, .. } = self;
        let (mut expected, mut before) = (32, 0_i64);
        for at in 0..count {
            let is_repeated = at > 0 && integers[at] == integers[at - 1];
            if is_repeated && model.bit(coder, model::REST_KEPT, rests[at] == before) {
                rests[at] = before;
                continue;
            }
            let difference = zigzag(rests[at].wrapping_sub(before));
            let base = model::REST_LENGTH + 16 * ((expected + 8) >> 4).min(15) as usize;
            let (goal, mut found) = (length(difference), 0);
            while found < 64 && model.bit(coder, base + found.min(15) as usize, goal > found) {
                found += 1;
            }
            let difference = behind_first(coder, found, difference);
            expected += (found as i32 * 16 - expected) >> 2;
            before = before.wrapping_add(unzigzag(difference));
            rests[at] = before;
        }
    }

    fn keep(&mut self, rows: usize, transform: u8) {
        let Current { presence, is_exception, integers, .. } = &self.current;
        let kept = &mut self.kept[self.kept_count % REFERENCES];
        kept.transform = transform;
        let mut next = 0;
        let mut value = integers[0];
        for row in 0..rows {
            if presence[row] == Presence::Value && !is_exception[row] {
                value = integers[next];
                next += 1;
            }
            kept.values[row] = value;
        }
        self.kept_count += 1;
    }
}

impl Kept {
    fn gather(&self, rows: &[u8], into: &mut [i64]) {
        for (value, row) in into.iter_mut().zip(rows) {
            *value = self.values[usize::from(*row)];
        }
    }
}

fn known_transform(header: Header) -> Result<Header, CodecError> {
    let is_known = match header.transform {
        0..=decimal::EXPONENT_MAX | decimal::ORDERED => true,
        drifting => (DRIFT..=DRIFT + decimal::EXPONENT_MAX).contains(&drifting) && !header.is_constant,
    };
    if is_known { Ok(header) } else { Err(CodecError::Damaged) }
}
