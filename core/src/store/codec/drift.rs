//! Float sums as decimals and what the sum's rounding added: digits, and rests of some units in the last place.
//!
//! A sum of nanoseconds that a program kept as a double of seconds is no exact decimal, but it lies within some units
//! of one.

use super::decimal::POWERS;

/// Exponents that are tried, most digits first: nanoseconds, microseconds, milliseconds.
const EXPONENTS: [u8; 3] = [9, 6, 3];
/// Mean length of a rest, in bits, up to which a column counts as one that drifts.
const REST_BITS_MAX: u64 = 12;
/// From here on a unit in the last place is too large for the digits to be digits.
const DIGITS_MAX: f64 = 4e15;

/// Fills digits and rests, one for each cell, and returns the decimal exponent; `None`: these are no drifting sums, and
/// what was filled in means nothing.
pub fn integers(cells: &[u64], digits: &mut [i64], rests: &mut [i64]) -> Option<u8> {
    EXPONENTS.into_iter().find(|exponent| {
        let power = POWERS[usize::from(*exponent)];
        let mut rest_bits = 0;
        for ((cell, digits), rest) in cells.iter().zip(&mut *digits).zip(&mut *rests) {
            let scaled = f64::from_bits(*cell) * power;
            if scaled.is_nan() || libm::fabs(scaled) >= DIGITS_MAX {
                return false;
            }
            *digits = libm::rint(scaled) as i64;
            *rest = cell.wrapping_sub(cell_of(*digits, power)) as i64;
            rest_bits += u64::from(64 - rest.unsigned_abs().leading_zeros());
        }
        rest_bits <= REST_BITS_MAX * cells.len() as u64
    })
}

/// The reverse of [`integers`]; the exponent is a decimal's.
pub fn cells(exponent: u8, digits: &[i64], rests: &[i64], cells: &mut [u64]) {
    let power = POWERS[usize::from(exponent)];
    for ((cell, digits), rest) in cells.iter_mut().zip(digits).zip(rests) {
        *cell = cell_of(*digits, power).wrapping_add(*rest as u64);
    }
}

fn cell_of(digits: i64, power: f64) -> u64 {
    (digits as f64 / power).to_bits()
}
