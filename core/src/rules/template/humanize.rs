//! Numbers for people (Prometheus' util/common_templates and template package).

use super::{printf::general, time_text};
use alloc::{format, string::String};

const LARGE: [&str; 8] = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];
const BINARY: [&str; 8] = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];

/// `1.234k`, `56.78m`: four digits and a metric prefix.
pub fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return general(value, 4);
    }
    let (value, prefix) = if libm::fabs(value) >= 1.0 { divided(value, 1000.0, &LARGE) } else { multiplied(value) };
    format!("{}{prefix}", general(value, 4))
}

/// `1.5Mi`: four digits and a binary prefix.
pub fn humanize1024(value: f64) -> String {
    if libm::fabs(value) <= 1.0 || !value.is_finite() {
        return general(value, 4);
    }
    let (value, prefix) = divided(value, 1024.0, &BINARY);
    format!("{}{prefix}", general(value, 4))
}

/// `1d 2h 3m 4s`, `12.34s`, `5.6ms`, from seconds.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return general(seconds, 4);
    }
    if seconds == 0.0 {
        return format!("{}s", general(seconds, 4));
    }
    if libm::fabs(seconds) < 1.0 {
        let (value, prefix) = multiplied(seconds);
        return format!("{}{prefix}s", general(value, 4));
    }
    let (sign, size) = if seconds < 0.0 { ("-", -seconds) } else { ("", seconds) };
    // Beyond 63 bits Go's conversion gives the smallest integer, and the texts follow.
    let whole = if size < 9_223_372_036_854_775_808.0 { size as i64 } else { i64::MIN };
    let (days, hours, minutes, rest) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", general(size, 4)),
        (0, 0, _) => format!("{sign}{minutes}m {rest}s"),
        (0, ..) => format!("{sign}{hours}h {minutes}m {rest}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {rest}s"),
    }
}

/// `12.34%`, from a ratio.
pub fn percentage(ratio: f64) -> String {
    format!("{}%", general(ratio * 100.0, 4))
}

/// `2015-07-20 12:30:45 +0000 UTC`, from seconds since 1970.
pub fn timestamp(seconds: f64) -> Result<String, String> {
    if !seconds.is_finite() {
        return Ok(general(seconds, 4));
    }
    time_text::time_from_seconds(seconds).map(time_text::time_text)
}

fn divided(mut value: f64, step: f64, prefixes: &[&'static str]) -> (f64, &'static str) {
    let mut reached = "";
    for prefix in prefixes {
        if libm::fabs(value) < step {
            break;
        }
        reached = prefix;
        value /= step;
    }
    (value, reached)
}

fn multiplied(mut value: f64) -> (f64, &'static str) {
    let mut reached = "";
    for prefix in SMALL {
        if libm::fabs(value) >= 1.0 {
            break;
        }
        reached = prefix;
        value *= 1000.0;
    }
    (value, reached)
}
