//! Floats as integers: exact decimals where every value of the column is one, else the bits in numeric order.

use super::{CodecError, exceptions::is_exception};

/// Largest decimal exponent tried. 10^22 is the last power of ten a double holds exactly; beyond 18 no real exporter
/// writes digits.
pub const EXPONENT_MAX: u8 = 18;

/// The transform that keeps a double's bits, folded so that numeric order is integer order.
pub const ORDERED: u8 = 31;

/// From here on doubles are all even; a decimal's digits stay below so that they are exact.
pub const DIGITS_MAX: f64 = 9_007_199_254_740_992.0;

pub const POWERS: [f64; EXPONENT_MAX as usize + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18];

/// Fills `integers` with one per cell, and returns the least decimal exponent that gives all cells back to the bit. In the
/// place of an exception stands the integer before it. `None` when there is no such exponent, or no other cell.
pub fn exact(cells: &[u64], integers: &mut [i64]) -> Option<u8> {
    let first = cells.iter().position(|cell| !is_exception(*cell))?;
    let mut exponent = 0;
    'exponents: loop {
        let mut last = 0;
        for (integer, cell) in integers.iter_mut().zip(cells).skip(first) {
            if !is_exception(*cell) {
                match digits(f64::from_bits(*cell), exponent) {
                    Digits::Exact(found) => last = found,
                    Digits::MoreNeeded if exponent < EXPONENT_MAX => {
                        exponent += 1;
                        continue 'exponents;
                    }
                    Digits::MoreNeeded | Digits::Never => return None,
                }
            }
            *integer = last;
        }
        let leading = integers[first];
        integers[..first].fill(leading);
        return Some(exponent);
    }
}

/// Fills `integers` with one per cell, and returns the transform that [`cells`] needs to get the cells back: an exponent that
/// suits all of them, or [`ORDERED`].
pub fn integers(cells: &[u64], integers: &mut [i64]) -> u8 {
    if !cells.iter().any(|cell| is_exception(*cell))
        && let Some(exponent) = exact(cells, integers)
    {
        return exponent;
    }
    integers.iter_mut().zip(cells).for_each(|(integer, cell)| *integer = fold(*cell));
    ORDERED
}

/// The cells that integers stand for, written into the start of `cells`.
pub fn cells(transform: u8, integers: &[i64], cells: &mut [u64]) -> Result<(), CodecError> {
    let pairs = cells.iter_mut().zip(integers);
    match transform {
        0 => pairs.for_each(|(cell, integer)| *cell = (*integer as f64).to_bits()),
        1..=EXPONENT_MAX => {
            let power = POWERS[usize::from(transform)];
            pairs.for_each(|(cell, integer)| *cell = (*integer as f64 / power).to_bits());
        }
        ORDERED => pairs.for_each(|(cell, integer)| *cell = unfold(*integer)),
        _ => return Err(CodecError::FromNewerVersion),
    }
    Ok(())
}

/// The integer of a cell under [`ORDERED`].
pub const fn ordered(cell: u64) -> i64 {
    fold(cell)
}

/// The cell that an integer stands for as a decimal.
fn bits(exponent: u8, integer: i64) -> u64 {
    let value = integer as f64;
    if exponent == 0 { value.to_bits() } else { (value / POWERS[usize::from(exponent)]).to_bits() }
}

/// Cells as integers under a transform that is given already.
///
/// # Errors
///
/// A cell that this transform does not hold: no writer chose it.
pub fn integers_as(transform: u8, cells: &[u64], values: &mut [i64]) -> Result<(), CodecError> {
    for (value, cell) in values.iter_mut().zip(cells) {
        *value = match transform {
            ORDERED => fold(*cell),
            0..=EXPONENT_MAX => match digits(f64::from_bits(*cell), transform) {
                Digits::Exact(found) => found,
                Digits::MoreNeeded | Digits::Never => return Err(CodecError::Damaged),
            },
            _ => return Err(CodecError::FromNewerVersion),
        };
    }
    Ok(())
}

enum Digits {
    Exact(i64),
    MoreNeeded,
    /// Too many digits for any exponent that is larger.
    Never,
}

fn digits(value: f64, exponent: u8) -> Digits {
    let scaled = value * POWERS[usize::from(exponent)];
    if exponent > 0 && libm::fabs(scaled) >= DIGITS_MAX {
        return Digits::Never;
    }
    let found = nearest(scaled);
    if bits(exponent, found) == value.to_bits() { Digits::Exact(found) } else { Digits::MoreNeeded }
}

/// The integer nearest to a number; a number out of range gives the end of the range.
pub fn nearest(number: f64) -> i64 {
    /// Added to a smaller number, it leaves no room behind the point.
    const ROUNDING: f64 = 6_755_399_441_055_744.0;
    if libm::fabs(number) < 2_251_799_813_685_248.0 {
        ((number + ROUNDING) - ROUNDING) as i64
    } else {
        libm::rint(number) as i64
    }
}

/// Turns sign and magnitude into two's complement, one to one: minus zero becomes -1, zero stays 0.
const fn fold(cell: u64) -> i64 {
    let value = cell as i64;
    if value < 0 { value ^ i64::MAX } else { value }
}

const fn unfold(value: i64) -> u64 {
    (if value < 0 { value ^ i64::MAX } else { value }) as u64
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;

    fn check(values: &[f64], exponent: Option<u8>) {
        let cells: alloc::vec::Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
        let mut integers = alloc::vec![0; cells.len()];
        assert_eq!(exact(&cells, &mut integers), exponent, "{values:?}");
        let mut found = alloc::vec![0; cells.len()];
        if let Some(exponent) = exponent {
            super::cells(exponent, &integers, &mut found).unwrap();
            for (found, cell) in found.iter().zip(&cells) {
                assert!(found == cell || is_exception(*cell), "{found:x} for {cell:x}");
            }
        }
    }

    #[test]
    fn a_column_takes_the_smallest_exponent_that_holds_all_of_it() {
        check(&[1.0, 2.0], Some(0));
        check(&[1.0, 2.5], Some(1));
        check(&[123.45, 0.001, 7.0], Some(3));
        check(&[1e-18], Some(18));
        check(&[f64::NAN, 2.5, -0.0, f64::INFINITY, 1e300, 7.25], Some(2));
    }

    #[test]
    fn what_is_no_decimal_has_no_exponent() {
        for odd in [1e-19, f64::MIN_POSITIVE, 5e-324, 1.0 / 3.0] {
            check(&[1.0, odd], None);
        }
        check(&[f64::NAN, -0.0, -(i64::MIN as f64)], None);
        check(&[], None);
    }

    #[test]
    fn integers_are_exact_up_to_the_largest_i64() {
        check(&[9_007_199_254_740_993.0, 1e18, -(i64::MIN as f64) - 1024.0, i64::MIN as f64 + 1024.0], Some(0));
    }

    #[test]
    fn the_nearest_integer_is_even_between_two_and_stays_in_range() {
        let pairs =
            [(0.5, 0), (1.5, 2), (-2.5, -2), (2_251_799_813_685_247.5, 2_251_799_813_685_248), (1e300, i64::MAX)];
        for (number, integer) in pairs {
            assert_eq!(nearest(number), integer, "{number}");
        }
        assert_eq!(nearest(2_251_799_813_685_249.0), 2_251_799_813_685_249);
        assert_eq!(nearest(9_007_199_254_740_991.0), 9_007_199_254_740_991);
    }

    #[test]
    fn folding_keeps_numeric_order_and_loses_nothing() {
        let ordered = [f64::NEG_INFINITY, -1.5, -5e-324, -0.0, 0.0, 5e-324, 1.5, f64::INFINITY];
        assert!(ordered.windows(2).all(|pair| fold(pair[0].to_bits()) < fold(pair[1].to_bits())));
        assert!(ordered.iter().all(|value| unfold(fold(value.to_bits())) == value.to_bits()));
    }

    #[test]
    fn an_unknown_transform_is_refused() {
        for unknown in [EXPONENT_MAX + 1, ORDERED - 1, ORDERED + 1] {
            assert_eq!(cells(unknown, &[1], &mut [0]), Err(CodecError::FromNewerVersion));
        }
    }
}
