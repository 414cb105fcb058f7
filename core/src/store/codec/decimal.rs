//! Floats as integers: exact decimals where every value of the column is one, else the bits in numeric order.

use super::CodecError;

/// Largest decimal exponent tried. 10^22 is the last power of ten a double holds exactly; beyond 18 no real exporter
/// writes digits.
pub const EXPONENT_MAX: u8 = 18;

/// The transform that keeps a double's bits, folded so that numeric order is integer order.
pub const ORDERED: u8 = 31;

/// From here on doubles are all even; a decimal's digits stay below so that they are exact.
const DIGITS_MAX: f64 = 9_007_199_254_740_992.0;

pub const POWERS: [f64; EXPONENT_MAX as usize + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18];

/// Fills `values` with one integer per cell and returns the transform that [`cells`] needs to get the cells back.
pub fn integers(cells: &[u64], values: &mut [i64]) -> u8 {
    let mut exponent = 0;
    'exponents: while exponent <= EXPONENT_MAX {
        for (value, cell) in values.iter_mut().zip(cells) {
            match digits(f64::from_bits(*cell), exponent) {
                Digits::Exact(found) => *value = found,
                Digits::MoreNeeded => {
                    exponent += 1;
                    continue 'exponents;
                }
                Digits::Never => break 'exponents,
            }
        }
        return exponent;
    }
    for (value, cell) in values.iter_mut().zip(cells) {
        *value = fold(*cell);
    }
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

/// The cell that an integer stands for.
fn bits(transform: u8, value: i64) -> Result<u64, CodecError> {
    match transform {
        0 => Ok((value as f64).to_bits()),
        1..=EXPONENT_MAX => Ok((value as f64 / POWERS[usize::from(transform)]).to_bits()),
        ORDERED => Ok(unfold(value)),
        _ => Err(CodecError::FromNewerVersion),
    }
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
    /// No exponent makes this an exact decimal: not finite, minus zero, or too many digits.
    Never,
}

fn digits(value: f64, exponent: u8) -> Digits {
    let scaled = value * POWERS[usize::from(exponent)];
    let limit = if exponent == 0 { -(i64::MIN as f64) } else { DIGITS_MAX };
    if scaled.is_nan() || libm::fabs(scaled) >= limit || value.to_bits() == (-0.0_f64).to_bits() {
        return Digits::Never;
    }
    let found = libm::rint(scaled) as i64;
    if bits(exponent, found) == Ok(value.to_bits()) { Digits::Exact(found) } else { Digits::MoreNeeded }
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

    fn check(cells: &[f64], transform: u8) {
        let cells: alloc::vec::Vec<u64> = cells.iter().map(|value| value.to_bits()).collect();
        let mut values = alloc::vec![0; cells.len()];
        assert_eq!(integers(&cells, &mut values), transform, "{cells:x?}");
        for (cell, value) in cells.iter().zip(&values) {
            assert_eq!(bits(transform, *value), Ok(*cell));
        }
    }

    #[test]
    fn a_column_takes_the_smallest_exponent_that_holds_all_of_it() {
        check(&[1.0, 2.0], 0);
        check(&[1.0, 2.5], 1);
        check(&[123.45, 0.001, 7.0], 3);
        check(&[1e-18], 18);
    }

    #[test]
    fn what_is_no_decimal_keeps_its_bits() {
        for odd in [-0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-19, f64::MIN_POSITIVE, 5e-324, 1.0 / 3.0] {
            check(&[1.0, odd], ORDERED);
        }
        check(&[f64::from_bits(super::super::super::STALE_NAN_BITS)], ORDERED);
    }

    #[test]
    fn integers_are_exact_up_to_the_largest_i64() {
        check(&[9_007_199_254_740_993.0, 1e18, -(i64::MIN as f64) - 1024.0], 0);
        check(&[-(i64::MIN as f64)], ORDERED);
        check(&[1e300], ORDERED);
    }

    #[test]
    fn folding_keeps_numeric_order_and_loses_nothing() {
        let ordered = [f64::NEG_INFINITY, -1.5, -5e-324, -0.0, 0.0, 5e-324, 1.5, f64::INFINITY];
        assert!(ordered.windows(2).all(|pair| fold(pair[0].to_bits()) < fold(pair[1].to_bits())));
        assert!(ordered.iter().all(|value| unfold(fold(value.to_bits())) == value.to_bits()));
    }

    #[test]
    fn an_unknown_transform_is_refused() {
        assert_eq!(bits(EXPONENT_MAX + 1, 1), Err(CodecError::FromNewerVersion));
        assert_eq!(bits(32, 1), Err(CodecError::FromNewerVersion));
    }
}
