//! Durations and sizes, as Prometheus writes them.

use holdfast_core::time::{self, DurationError};

/// Sizes above this make no sense here, and keep sums from overflowing.
const BYTES_MAX: u64 = i64::MAX as u64;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("a duration is missing; write one like 15s, 1h30m or 0s")]
    DurationEmpty,
    #[error("{0:?} is not a duration; write whole numbers with units from large to small, like 15s, 1h30m or 250ms")]
    DurationSyntax(String),
    #[error("the duration {0:?} is too long; the longest is 292y")]
    DurationTooLong(String),
    #[error("{0:?} is not a size; write a number with a unit, like 512MB or 16MiB (both are powers of 1024)")]
    BytesSyntax(String),
    #[error("the size {0:?} is too large; the largest is 7EB")]
    BytesTooLarge(String),
}

/// `1h30m`, or `0`: Prometheus' durations (docs: configuration, `<duration>`).
pub fn parse_duration_ms(text: &str) -> Result<u64, UnitError> {
    time::parse_duration_ms(text).map_err(|error| match error {
        DurationError::Empty => UnitError::DurationEmpty,
        DurationError::Syntax | DurationError::UnknownUnit(_) => UnitError::DurationSyntax(text.into()),
        DurationError::TooLong => UnitError::DurationTooLong(text.into()),
    })
}

/// Numbers with a unit: `B`, `KB`, `MB`, `GB`, `TB`, `PB`, `EB`, or with an `i` (`KiB`); all powers of 1024, as in Prometheus.
/// Like there, a number may have a fraction (`1.5GB`), and parts add up (`1GB512MB`). `0` needs no unit.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let syntax = || UnitError::BytesSyntax(text.into());
    let too_large = || UnitError::BytesTooLarge(text.into());
    if text == "0" {
        return Ok(0);
    }
    let (mut rest, mut total) = (text, 0_u64);
    loop {
        let whole_bytes = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, tail) = rest.split_at(whole_bytes);
        let (fraction, tail) = match tail.strip_prefix('.') {
            Some(tail) => tail.split_at(tail.bytes().take_while(u8::is_ascii_digit).count()),
            None => ("", tail),
        };
        let (unit, tail) = tail.split_at(tail.bytes().take_while(u8::is_ascii_alphabetic).count());
        let shift = match unit {
            "B" => 0,
            "KB" | "KiB" => 10,
            "MB" | "MiB" => 20,
            "GB" | "GiB" => 30,
            "TB" | "TiB" => 40,
            "PB" | "PiB" => 50,
            "EB" | "EiB" => 60,
            _ => return Err(syntax()),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(syntax());
        }
        let number = if whole.is_empty() { Ok(0) } else { whole.parse::<u64>() };
        let part = number.ok().and_then(|number| number.checked_mul(1 << shift)).ok_or_else(too_large)?;
        // More than 18 digits after the point make no difference of a byte that anyone could want.
        let (tenths, scale) = fraction
            .bytes()
            .take(18)
            .fold((0_u128, 1_u128), |(sum, scale), digit| (sum * 10 + u128::from(digit - b'0'), scale * 10));
        let fraction_bytes = ((tenths << shift) / scale) as u64;
        let sum = total.checked_add(part).and_then(|sum| sum.checked_add(fraction_bytes));
        total = sum.filter(|bytes| *bytes <= BYTES_MAX).ok_or_else(too_large)?;
        rest = tail;
        if rest.is_empty() {
            return Ok(total);
        }
    }
}

/// The duration as Prometheus prints it: `1h30m`, `15s`, `0s`.
pub(crate) fn format_duration(total_ms: u64) -> String {
    time::DurationText(total_ms).to_string()
}

/// The size in the largest unit that divides it: `16MiB`, `1023B`, and `0` for none.
pub(crate) fn format_bytes(bytes: u64) -> String {
    const UNITS: [(&str, u32); 6] = [("EiB", 60), ("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = UNITS.iter().find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    match (bytes, whole) {
        (0, _) => "0".into(),
        (_, Some((name, shift))) => format!("{}{name}", bytes >> shift),
        (_, None) => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_prometheus_writes_them() {
        for (text, ms) in [
            ("0", 0),
            ("0s", 0),
            ("15s", 15_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("1m250ms", 60_250),
            ("1y2w3d4h5m6s7ms", 365 * 86_400_000 + 17 * 86_400_000 + 4 * 3_600_000 + 306_007),
            ("292y", 292 * 365 * 86_400_000),
        ] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
        for text in ["1", "15", "s", "1.5s", "-1s", "30m1h", "1m1m", "1h 30m", " 1s", "1S", "1µs", "1us", "1sec", "ü"]
        {
            assert_eq!(parse_duration_ms(text), Err(UnitError::DurationSyntax(text.into())), "{text}");
        }
        assert_eq!(parse_duration_ms(""), Err(UnitError::DurationEmpty));
        for text in ["293y", "99999999999999999999s", "9223372036855s"] {
            assert_eq!(parse_duration_ms(text), Err(UnitError::DurationTooLong(text.into())), "{text}");
        }
        assert_eq!(parse_duration_ms("9223372036854ms"), Ok(9_223_372_036_854));
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("0B", 0),
            ("1023B", 1_023),
            ("512MB", 512 << 20),
            ("16MiB", 16 << 20),
            ("1KB", 1_024),
            ("1.5KB", 1_536),
            (".5KiB", 512),
            ("0.0001B", 0),
            ("1GB512MB", 1_536 << 20),
            ("7EB", 7 << 60),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "16", "MB", ".MB", "16 MiB", "-1B", "1M", "1mb", "1GB5", "ü"] {
            assert_eq!(parse_bytes(text), Err(UnitError::BytesSyntax(text.into())), "{text}");
        }
        for text in ["8EB", "99999999999999999999B", "7.999999999EB2GB"] {
            assert_eq!(parse_bytes(text), Err(UnitError::BytesTooLarge(text.into())), "{text}");
        }
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        for (ms, text) in [
            (0, "0s"),
            (15_000, "15s"),
            (5_400_000, "1h30m"),
            (86_400_000 * 400, "400d"),
            (60_250, "1m250ms"),
            (86_400_000 * 14, "2w"),
            (86_400_000 * 365, "1y"),
        ] {
            assert_eq!(format_duration(ms), text);
            assert_eq!(parse_duration_ms(text), Ok(ms));
        }
        for (bytes, text) in [(0, "0"), (1, "1B"), (1_025, "1025B"), (16 << 20, "16MiB"), (3 << 30, "3GiB")] {
            assert_eq!(format_bytes(bytes), text);
            assert_eq!(parse_bytes(text), Ok(bytes));
        }
    }

    proptest::proptest! {
        #[test]
        fn every_duration_and_size_survives_being_printed(ms in 0..=time::DURATION_MS_MAX, bytes in 0..=BYTES_MAX) {
            assert_eq!(parse_duration_ms(&format_duration(ms)), Ok(ms));
            assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_makes_the_readers_fail(text in "[0-9.yYwdhmsKMGTPEiB ]{0,40}") {
            _ = (parse_duration_ms(&text), parse_bytes(&text));
        }
    }
}
