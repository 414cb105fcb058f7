//! Float sums as decimals and what the sum's rounding added: digits, and rests of some units in the last place.
//!
//! A sum of nanoseconds that a program kept as a double of seconds is no exact decimal, but it lies within some units
//! of one. What is no number of that kind at all, [`is_exception`] tells, stands aside.

use super::{
    bits::zigzag,
    decimal::{self, DIGITS_MAX, EXPONENT_MAX, POWERS},
    exceptions::is_exception,
};

/// Mean length of a rest, in bits, up to which a column counts as one that drifts: with longer ones digits say little.
const REST_BITS_MAX: u64 = 5;

/// Fills digits and rests, one for each cell, and returns the decimal exponent; `None`: these are no drifting sums, and
/// what was filled in means nothing.
pub fn integers(cells: &[u64], digits: &mut [i64], rests: &mut [i64]) -> Option<u8> {
    let exponent = exponent(cells).filter(|_| !cells.iter().any(|cell| is_exception(*cell)))?;
    split(exponent, cells, digits, rests);
    let rest_bits = |rest: &i64| u64::from(u64::BITS - rest.unsigned_abs().leading_zeros());
    let is_drift = rests.iter().take(cells.len()).map(rest_bits).sum::<u64>() <= REST_BITS_MAX * cells.len() as u64;
    is_drift.then_some(exponent)
}

/// The exponent by which [`split`] leaves the least to be told from row to row, as far as some of the rows tell.
pub fn exponent(cells: &[u64]) -> Option<u8> {
    const PAIRS: usize = 24;
    let magnitudes = cells.iter().filter(|cell| !is_exception(**cell)).map(|cell| libm::fabs(f64::from_bits(*cell)));
    let largest = magnitudes.fold(0.0, f64::max);
    let exponents = (1..=EXPONENT_MAX).take_while(|exponent| largest * POWERS[usize::from(*exponent)] < DIGITS_MAX);
    let cost = |exponent: u8| {
        let power = POWERS[usize::from(exponent)];
        let pairs = cells.windows(2).step_by((cells.len() / PAIRS).max(1));
        let bits = pairs.filter(|pair| !pair.iter().any(|cell| is_exception(*cell))).map(|pair| {
            let [(before, rest_before), (after, rest_after)] = [parts(pair[0], power), parts(pair[1], power)];
            let width = |difference: i64| u64::BITS - zigzag(difference).leading_zeros();
            width(after.wrapping_sub(before)) + width(rest_after.wrapping_sub(rest_before))
        });
        bits.sum::<u32>()
    };
    exponents.min_by_key(|exponent| cost(*exponent))
}

/// Fills digits and rests, one for each cell. In the place of an exception stands what comes before it.
pub fn split(exponent: u8, cells: &[u64], digits: &mut [i64], rests: &mut [i64]) {
    let power = POWERS[usize::from(exponent)];
    let first = cells.iter().find(|cell| !is_exception(**cell));
    let mut last = first.map_or((0, 0), |cell| parts(*cell, power));
    for ((digits, rest), cell) in digits.iter_mut().zip(rests).zip(cells) {
        if !is_exception(*cell) {
            last = parts(*cell, power);
        }
        (*digits, *rest) = last;
    }
}

/// The reverse of [`split`]; the exponent is a decimal's.
pub fn cells(exponent: u8, digits: &[i64], rests: &[i64], cells: &mut [u64]) {
    let power = POWERS[usize::from(exponent)];
    for ((cell, digits), rest) in cells.iter_mut().zip(digits).zip(rests) {
        *cell = cell_of(*digits, power).wrapping_add(*rest as u64);
    }
}

/// The nearest decimal, and how far behind its bits the cell's lie.
fn parts(cell: u64, power: f64) -> (i64, i64) {
    let digits = decimal::nearest(f64::from_bits(cell) * power);
    (digits, cell.wrapping_sub(cell_of(digits, power)) as i64)
}

fn cell_of(digits: i64, power: f64) -> u64 {
    (digits as f64 / power).to_bits()
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;

    #[test]
    fn a_sum_of_decimals_drifts_by_a_few_doubles_and_comes_back() {
        let mut sum = 0.0;
        let cells: alloc::vec::Vec<u64> = (0..240_u64)
            .map(|row| {
                sum += (crate::prng::mix(row) % 1_000_000_000) as f64 / 1e9;
                f64::to_bits(sum)
            })
            .collect();
        let (mut integers, mut rests) = ([0; 240], [0; 240]);
        assert_eq!(decimal::exact(&cells, &mut integers), None);
        assert_eq!(exponent(&cells), Some(9));
        split(9, &cells, &mut integers, &mut rests);
        assert!(rests.iter().all(|rest| rest.abs() < 64), "{rests:?}");
        let mut found = [0; 240];
        super::cells(9, &integers, &rests, &mut found);
        assert_eq!(found[..], cells);
    }

    #[test]
    fn any_number_may_be_split_by_any_exponent() {
        for value in [0.0, 1e-300, 5e-324, 1.0 / 3.0, -1e18, 9e15, i64::MIN as f64 + 1024.0] {
            for exponent in 1..=EXPONENT_MAX {
                let (mut integers, mut rests, mut found) = ([0], [0], [0]);
                split(exponent, &[f64::to_bits(value)], &mut integers, &mut rests);
                super::cells(exponent, &integers, &rests, &mut found);
                assert_eq!(found, [f64::to_bits(value)], "{value} by {exponent}");
            }
        }
    }
}
