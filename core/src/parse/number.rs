//! Sample values and float labels as Go reads and writes them.

use core::fmt::{self, Write};

/// The one NaN that is stored for every NaN read (Prometheus' `value.NormalNaN`).
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Bits of a value as the text format writes it: Go's decimal `ParseFloat` without hexadecimal and underscores, any
/// case of `Inf`, `Infinity` (with sign) and `NaN` (without). `None`: not a number, or out of range.
pub fn parse_value(text: &[u8]) -> Option<u64> {
    if let Some(bits) = small_integer(text) {
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

/// Most values are short whole numbers; they need no general reader.
fn small_integer(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 15 {
        return None;
    }
    let mut value = 0_u64;
    for &byte in text {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(byte - b'0');
    }
    Some((value as f64).to_bits())
}

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
