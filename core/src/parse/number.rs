//! Sample values and float labels as Go reads and writes them.

use core::fmt::{self, Write};

/// The one NaN that is stored for every NaN read (Prometheus' `value.NormalNaN`).
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Bits of a value as the text format writes it: Go's decimal `ParseFloat` without hexadecimal and underscores, any
/// case of `Inf`, `Infinity` (with sign) and `NaN` (without). `None`: not a number, or out of range.
pub fn parse_value(text: &[u8]) -> Option<u64> {
    if let Some((bits, bytes)) = short_decimal(text)
        && bytes == text.len()
    {
        return Some(bits);
    }
    let text = core::str::from_utf8(text).ok()?;
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let value: f64 = text.parse().ok()?;
    if value.is_nan() {
        return (unsigned.len() == text.len()).then_some(NORMAL_NAN_BITS);
    }
    // Digits that overflow are an error to Go; only the word makes an infinity.
    if value.is_infinite() && !unsigned.starts_with(['i', 'I']) {
        return None;
    }
    Some(value.to_bits())
}

/// Bits of the value that `text` begins with, and its length: a value ends where the text format says a word does.
/// `None`: no value, or `text` may end within it.
pub(crate) fn leading_value(text: &[u8]) -> Option<(u64, usize)> {
    if let Some((bits, bytes)) = short_decimal(text) {
        return (bytes < text.len()).then_some((bits, bytes));
    }
    let bytes = text.iter().position(|byte| is_word_end(*byte))?;
    Some((parse_value(&text[..bytes])?, bytes))
}

pub(super) fn is_word_end(byte: u8) -> bool {
    matches!(byte, b'{' | b' ' | b'\t' | b'\n')
}

/// Most values: a word of digits that as a whole number is exact in a float, with a power of ten that is exact too. Then
/// one multiplication or division is the only rounding, so the result is the nearest float (Clinger, "How to read
/// floating point numbers accurately", 1990). `None`: other words, for the general reader.
fn short_decimal(text: &[u8]) -> Option<(u64, usize)> {
    let mut at = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let is_negative = text.first() == Some(&b'-');
    let digits = |at: &mut usize, number: &mut u64| {
        let from = *at;
        while let Some(digit) = text.get(*at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
            // More digits than fit are seen by their count.
            *number = number.wrapping_mul(10).wrapping_add(digit.into());
            *at += 1;
        }
        *at - from
    };
    let mut number = 0;
    let mut digits_count = digits(&mut at, &mut number);
    let mut exponent = 0;
    if text.get(at) == Some(&b'.') {
        at += 1;
        let places = digits(&mut at, &mut number);
        digits_count += places;
        exponent = -(places as i64);
    }
    if digits_count == 0 || digits_count > SHORT_DIGITS_MAX {
        return None;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        let is_small = text.get(at + 1) == Some(&b'-');
        at += 1 + usize::from(matches!(text.get(at + 1), Some(b'-' | b'+')));
        let mut power = 0;
        if !(1..=3).contains(&digits(&mut at, &mut power)) {
            return None;
        }
        exponent += if is_small { -(power as i64) } else { power as i64 };
    }
    if number > 1 << f64::MANTISSA_DIGITS || text.get(at).is_some_and(|byte| !is_word_end(*byte)) {
        return None;
    }
    let power = *TENS.get(usize::try_from(exponent.unsigned_abs()).ok()?)?;
    let size = if exponent < 0 { number as f64 / power } else { number as f64 * power };
    Some(((if is_negative { -size } else { size }).to_bits(), at))
}

/// So many digits fit 64 bits.
const SHORT_DIGITS_MAX: usize = 19;
/// The powers of ten that are exact in a float.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Writes a float as OpenMetrics wants it in `le` and `quantile`, and as Prometheus 3 rewrites it in every exposition:
/// Go's shortest `%g`, with `.0` where neither dot nor exponent shows.
pub fn write_float_label(value: f64, out: &mut dyn Write) -> fmt::Result {
    if value.is_nan() {
        return out.write_str("NaN");
    }
    if value.is_infinite() {
        return out.write_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
    let mut shortest = heapless::String::<32>::new();
    write!(shortest, "{value:e}")?;
    let (digits, exponent) = shortest.split_once('e').ok_or(fmt::Error)?;
    let exponent: i32 = exponent.parse().map_err(|_| fmt::Error)?;
    if (-4..6).contains(&exponent) || value == 0.0 {
        let mut plain = heapless::String::<32>::new();
        write!(plain, "{value}")?;
        out.write_str(&plain)?;
        return if plain.contains('.') { Ok(()) } else { out.write_str(".0") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{format, string::String};

    /// The general reader alone.
    fn by_the_library(text: &str) -> Option<u64> {
        let value: f64 = text.parse().ok()?;
        (value.is_finite()).then_some(value.to_bits())
    }

    #[test]
    fn the_edges_of_short_decimals_are_read_to_the_bit() {
        for text in [
            "0",
            "-0",
            "+0",
            "0.0",
            "-0.0",
            "5.",
            ".5",
            "-.5",
            "1e22",
            "1e23",
            "1e-22",
            "1e-23",
            "9007199254740992",
            "9007199254740993",
            "9007199254740993e1",
            "9999999999999999999",
            "99999999999999999999",
            "0.1",
            "0.3",
            "123456789.123456789",
            "1.7976931348623157e308",
            "5e-324",
            "2.2250738585072011e-308",
            "1E5",
            "1e+05",
            "0e999",
            "00000000000000000000001",
            "1e1",
            "0.000001",
            "1.5e-7",
        ] {
            assert_eq!(parse_value(text.as_bytes()), by_the_library(text), "{text}");
            let behind = format!("{text}\n");
            assert_eq!(leading_value(behind.as_bytes()), by_the_library(text).map(|bits| (bits, text.len())), "{text}");
        }
        for text in ["", ".", "-", "e5", "1e", "1e+", "1e9999", "1_0", "0x10", "1.2.3", "--1", "1e5.0", "1-"] {
            assert_eq!(parse_value(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_leading_value_ends_where_a_word_does() {
        for (text, expected) in [
            ("1 2\n", Some((1.0_f64, 1))),
            ("1.5\t", Some((1.5, 3))),
            ("1{", Some((1.0, 1))),
            ("1e400\n", None),
            ("+Inf\n", Some((f64::INFINITY, 4))),
            ("1x\n", None),
            ("12", None),
            ("12345678901234567890123", None),
            ("\n", None),
        ] {
            assert_eq!(
                leading_value(text.as_bytes()),
                expected.map(|(value, bytes)| (value.to_bits(), bytes)),
                "{text:?}"
            );
        }
        assert_eq!(leading_value(b"NaN\n"), Some((NORMAL_NAN_BITS, 3)));
    }

    proptest! {
        #[test]
        fn every_decimal_is_read_as_the_general_reader_reads_it(
            sign in "[+-]?", whole in "[0-9]{0,21}", point in "\\.?", places in "[0-9]{0,21}", power in "([eE][+-]?[0-9]{1,3})?",
        ) {
            let text: String = [sign, whole, point, places, power].concat();
            prop_assert_eq!(parse_value(text.as_bytes()), by_the_library(&text), "{}", text);
        }

        #[test]
        fn every_float_comes_back_from_how_it_is_written(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            for text in [format!("{value}"), format!("{value:e}")] {
                prop_assert_eq!(parse_value(text.as_bytes()), Some(bits), "{}", text);
            }
        }
    }
}
