//! Floats as Go writes them, because that is how Prometheus' texts, JSON and templates look.
//!
//! The digits come from `core::fmt`; only the layout is ours (Go's strconv, `FormatFloat`).

use alloc::{format, string::String};
use core::fmt;

/// A float in one of Go's layouts with the fewest digits that read back as the same float (precision -1).
///
/// `NaN`, `+Inf` and `-Inf` are spelled alike in all of them.
#[derive(Clone, Copy, Debug)]
pub enum GoFloat {
    /// `FormatFloat(v, 'f', -1, 64)`: never an exponent.
    F(f64),
    /// `FormatFloat(v, 'g', -1, 64)`: with an exponent below 1e-4 and from 1e6 on. The text exposition format, and
    /// `{{ $value }}` in templates.
    G(f64),
    /// `FormatFloat(v, 'e', -1, 64)`: always an exponent, of at least two digits.
    E(f64),
    /// A sample in Prometheus' JSON answers: as `F`, but with an exponent below 1e-6 and from 1e21 on.
    Json(f64),
}

impl fmt::Display for GoFloat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::F(value) | Self::G(value) | Self::E(value) | Self::Json(value)) = *self;
        if let Some(text) = special(value) {
            return f.write_str(text);
        }
        let size = libm::fabs(value);
        let exponent = match self {
            Self::F(_) => false,
            Self::E(_) => true,
            Self::G(_) => size != 0.0 && !(1e-4..1e6).contains(&size),
            Self::Json(_) => size != 0.0 && !(1e-6..1e21).contains(&size),
        };
        if exponent { f.write_str(&go_exponent(&format!("{value:e}"))) } else { write!(f, "{value}") }
    }
}

/// How Go spells what is not a number with digits.
pub(crate) fn special(value: f64) -> Option<&'static str> {
    match value {
        _ if value.is_nan() => Some("NaN"),
        f64::INFINITY => Some("+Inf"),
        f64::NEG_INFINITY => Some("-Inf"),
        _ => None,
    }
}

/// Rust's `1e-7` as Go's `1e-07`.
pub(crate) fn go_exponent(text: &str) -> String {
    let Some((digits, exponent)) = text.split_once('e') else { return text.into() };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_layouts_switch_to_an_exponent_where_go_does() {
        for (value, f, g, e, json) in [
            (0.0, "0", "0", "0e+00", "0"),
            (-0.0, "-0", "-0", "-0e+00", "-0"),
            (1.5, "1.5", "1.5", "1.5e+00", "1.5"),
            (999_999.0, "999999", "999999", "9.99999e+05", "999999"),
            (1e6, "1000000", "1e+06", "1e+06", "1000000"),
            (123_456_789.0, "123456789", "1.23456789e+08", "1.23456789e+08", "123456789"),
            (1e-4, "0.0001", "0.0001", "1e-04", "0.0001"),
            (9.9e-5, "0.000099", "9.9e-05", "9.9e-05", "0.000099"),
            (1e-6, "0.000001", "1e-06", "1e-06", "0.000001"),
            (-9e-7, "-0.0000009", "-9e-07", "-9e-07", "-9e-07"),
            (1e20, "100000000000000000000", "1e+20", "1e+20", "100000000000000000000"),
            (1e21, "1000000000000000000000", "1e+21", "1e+21", "1e+21"),
            (5e-324, &format!("{}", 5e-324), "5e-324", "5e-324", "5e-324"),
            (f64::NAN, "NaN", "NaN", "NaN", "NaN"),
            (f64::INFINITY, "+Inf", "+Inf", "+Inf", "+Inf"),
            (f64::NEG_INFINITY, "-Inf", "-Inf", "-Inf", "-Inf"),
        ] {
            let texts = [GoFloat::F(value), GoFloat::G(value), GoFloat::E(value), GoFloat::Json(value)];
            assert_eq!(texts.map(|text| format!("{text}")), [f, g, e, json], "{value}");
        }
    }
}
