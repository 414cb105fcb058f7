//! A column's parts, each coded by itself: what it is told by, lengths, magnitudes.

use super::{
    super::{
        bits::{unzigzag, zigzag},
        decimal,
    },
    model::{self, Model},
    plan::Plan,
    predict::Predictor,
    range::Coder,
};

/// Added to the decimal exponent of a drifting decimal: the transform of a column that has rests.
pub const DRIFT: u8 = 32;
/// Longest residual that counts as short: all its bits are modelled.
const SHORT_MAX: u32 = 4;
/// The length expected before the first residual, and its context.
const LENGTH_FIRST: u32 = 4;
const LENGTH_CONTEXT_MAX: u32 = 25;

pub fn code_transform(model: &mut Model, coder: &mut impl Coder, before: u8, transform: u8) -> u8 {
    if model.bit(coder, model::TRANSFORM_KNOWN, transform == before) {
        before
    } else if model.bit(coder, model::TRANSFORM_KNOWN + 1, transform >= DRIFT) {
        DRIFT + model.tree(coder, model::TRANSFORM_DRIFT, 5, u32::from(transform & 31)) as u8
    } else {
        model.tree(coder, model::TRANSFORM, 5, u32::from(transform & 31)) as u8
    }
}

pub fn code_plan(model: &mut Model, coder: &mut impl Coder, before: Plan, mut plan: Plan) -> Plan {
    plan.reference = if model.bit(coder, model::REFERENCE + usize::from(before.reference > 0), plan.reference > 0) {
        1 + model.tree(coder, model::REFERENCE_WHICH, 3, plan.reference.saturating_sub(1) as u32) as usize
    } else {
        0
    };
    let code = |plan: Plan| (plan.predictor as usize) << 1 | usize::from(plan.repeats);
    let found = model.tree(coder, model::PREDICTOR + 8 * code(before), 3, code(plan) as u32);
    plan.predictor = Predictor::ALL[found as usize >> 1 & 3];
    plan.repeats = found & 1 == 1;
    if !model.bit(coder, model::DIVISOR + usize::from(before.divisor > 1), plan.divisor > 1) {
        plan.divisor = 1;
    } else if model.bit(coder, model::DIVISOR_KNOWN, plan.divisor == before.divisor) {
        plan.divisor = before.divisor;
    } else {
        plan.divisor = model.number(coder, model::DIVISOR_LENGTH, plan.divisor);
    }
    plan
}

/// A first value, against what another column has there. `group` is one of three.
pub fn code_first(
    model: &mut Model,
    coder: &mut impl Coder,
    transform: u8,
    group: usize,
    value: i64,
    other: i64,
) -> i64 {
    if transform == decimal::ORDERED {
        return coder.raw(value as u64, 64) as i64;
    }
    let number = model.number(coder, model::FIRST_LENGTH + 128 * group, zigzag(value.wrapping_sub(other)));
    other.wrapping_add(unzigzag(number))
}

/// A residual's length, up or down from the expected one, in 1/16.
#[inline(always)]
pub fn code_length(
    model: &mut Model,
    coder: &mut impl Coder,
    expected: Option<i32>,
    can_be_zero: bool,
    length: u32,
) -> u32 {
    let (expected, context) = match expected {
        Some(expected) => {
            let expected = ((expected + 8) >> 4).clamp(0, 63) as u32;
            (expected, expected.min(LENGTH_CONTEXT_MAX))
        }
        None => (LENGTH_FIRST, LENGTH_CONTEXT_MAX),
    };
    let least = u32::from(!can_be_zero);
    let base = model::LENGTH + 32 * context as usize + if can_be_zero { 0 } else { 16 };
    let (mut found, mut asked) = (expected, 1);
    if model.bit(coder, base, length > found) {
        found += 1;
        while found < 64 && model.bit(coder, base + asked.min(7), length > found) {
            found += 1;
            asked += 1;
        }
    } else {
        asked = 0;
        while found > least && model.bit(coder, base + 8 + asked.min(7), length < found) {
            found -= 1;
            asked += 1;
        }
    }
    found
}

/// A number of this length, which is at least 1: what is behind its first bit.
#[inline(always)]
pub fn code_magnitude(model: &mut Model, coder: &mut impl Coder, length: u32, magnitude: u64) -> u64 {
    let low_bits = length - 1;
    if low_bits == 0 {
        return 1;
    }
    if length <= SHORT_MAX {
        // Trees of 2, 4 and 8 contexts, one behind the other.
        let base = model::SHORT + (1 << low_bits) - 2;
        let low = (magnitude & ((1 << low_bits) - 1)) as u32;
        return 1 << low_bits | u64::from(model.tree(coder, base, low_bits, low));
    }
    let raw_bits = low_bits - 2;
    let next = model.tree(coder, model::LONG + 4 * length.min(32) as usize, 2, (magnitude >> raw_bits & 3) as u32);
    1 << low_bits | u64::from(next) << raw_bits | coder.raw(magnitude & ((1 << raw_bits) - 1), raw_bits)
}

/// A number of this length with all behind its first bit raw.
pub fn behind_first(coder: &mut impl Coder, length: u32, number: u64) -> u64 {
    if length <= 1 {
        return u64::from(length);
    }
    1 << (length - 1) | coder.raw(number & ((1 << (length - 1)) - 1), length - 1)
}
