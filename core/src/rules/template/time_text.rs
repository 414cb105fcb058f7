//! Times and durations as Go's `time` package writes them. All times are UTC.

use super::value::Value;
use crate::time::{DurationError, civil_from_days, parse_duration_ms};
use alloc::{format, string::String};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Milliseconds since 1970 from seconds, as far as nanoseconds in 64 bits reach.
pub fn time_from_seconds(seconds: f64) -> Result<i64, String> {
    nanoseconds(seconds).map(|ns| ns.div_euclid(1_000_000)).ok_or_else(|| {
        format!(
            "{} cannot be represented as a nanoseconds timestamp since it overflows int64",
            Value::Float(seconds).print()
        )
    })
}

pub fn duration_from_seconds(seconds: f64) -> Result<i64, String> {
    nanoseconds(seconds).ok_or_else(|| {
        format!(
            "{} cannot be represented as a nanoseconds duration since it overflows int64",
            Value::Float(seconds).print()
        )
    })
}

fn nanoseconds(seconds: f64) -> Option<i64> {
    let ns = seconds * 1e9;
    (ns > -9.223_372_036_854_775e18 && ns < 9.223_372_036_854_775e18).then_some(ns as i64)
}

/// `2015-07-20 12:30:45.5 +0000 UTC`
pub fn time_text(ms: i64) -> String {
    format_time(ms, "2006-01-02 15:04:05.999 -0700 MST")
}

/// `1h2m3.5s`, `1.5ms`, `0s`
pub fn duration_text(ns: i64) -> String {
    let (sign, size) = (if ns < 0 { "-" } else { "" }, ns.unsigned_abs());
    let decimal = |unit: u64| -> String {
        let text = format!("{}.{:0width$}", size / unit, size % unit, width = unit.ilog10() as usize);
        text.trim_end_matches('0').trim_end_matches('.').into()
    };
    match size {
        0 => "0s".into(),
        1..1_000 => format!("{sign}{size}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(1_000_000)),
        _ => {
            let minutes = size / 60_000_000_000;
            let rest = size % 60_000_000_000;
            let text = format!("{}.{:09}", rest / 1_000_000_000, rest % 1_000_000_000);
            let seconds = text.trim_end_matches('0').trim_end_matches('.');
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// Prometheus' durations (`1h30m`, units in descending order, each once), in seconds.
pub fn parse_duration(text: &str) -> Result<f64, String> {
    let total_ms = parse_duration_ms(text).map_err(|error| match error {
        DurationError::Empty => "empty duration string".into(),
        DurationError::UnknownUnit(unit) => format!("unknown unit {unit:?} in duration {text:?}"),
        DurationError::Syntax => format!("not a valid duration string: {text:?}"),
        DurationError::TooLong => String::from("duration out of range"),
    })?;
    Ok(total_ms as f64 / 1000.0)
}

/// The methods of Go's `time.Time` that make sense in a text; `None`: there is no such method.
pub fn time_method(ms: i64, name: &str, argument: Option<&str>) -> Option<Result<Value, String>> {
    let format = |layout: &str| Value::text(&format_time(ms, layout));
    let int = |number: i64| Value::Int(number);
    let civil = Civil::new(ms);
    Some(Ok(match (name, argument) {
        ("Format", Some(layout)) => format(layout),
        ("Format", None) => return Some(Err("wrong number of args for Format: want 1 got 0".into())),
        (_, Some(_)) => return None,
        ("String", _) => Value::text(&time_text(ms)),
        ("UTC" | "Local", _) => Value::Time(ms),
        ("Unix", _) => int(ms.div_euclid(1000)),
        ("UnixMilli", _) => int(ms),
        ("Year", _) => int(civil.year),
        ("Month", _) => Value::text(MONTHS[civil.month as usize - 1]),
        ("Day", _) => int(civil.day),
        ("Weekday", _) => Value::text(WEEKDAYS[civil.weekday]),
        ("Hour", _) => int(civil.hour),
        ("Minute", _) => int(civil.minute),
        ("Second", _) => int(civil.second),
        _ => return None,
    }))
}

/// The methods of Go's `time.Duration`.
pub fn duration_method(ns: i64, name: &str, argument: Option<&str>) -> Option<Result<Value, String>> {
    if argument.is_some() {
        return None;
    }
    Some(Ok(match name {
        "String" => Value::text(&duration_text(ns)),
        "Hours" => Value::Float(ns as f64 / 3.6e12),
        "Minutes" => Value::Float(ns as f64 / 6e10),
        "Seconds" => Value::Float(ns as f64 / 1e9),
        "Milliseconds" => Value::Int(ns / 1_000_000),
        "Microseconds" => Value::Int(ns / 1_000),
        "Nanoseconds" => Value::Int(ns),
        _ => return None,
    }))
}

struct Civil {
    year: i64,
    month: i64,
    day: i64,
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
    ms: i64,
}

impl Civil {
    fn new(ms: i64) -> Self {
        let (days, in_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
        let (year, month, day) = civil_from_days(days);
        Self {
            year,
            month,
            day,
            weekday: (days + 4).rem_euclid(7) as usize,
            hour: in_day / 3_600_000,
            minute: in_day / 60_000 % 60,
            second: in_day / 1_000 % 60,
            ms: in_day % 1_000,
        }
    }
}

/// Go's layouts: the pieces of `Mon Jan 2 15:04:05 MST 2006` stand for the time's own.
fn format_time(ms: i64, layout: &str) -> String {
    let civil = Civil::new(ms);
    let mut out = String::new();
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        let (piece, text) = layout_piece(rest, &civil).unwrap_or_else(|| (first.len_utf8(), first.into()));
        out.push_str(&text);
        rest = &rest[piece..];
    }
    out
}

/// The length of the layout's piece at the start of `rest`, and what it stands for.
fn layout_piece(rest: &str, civil: &Civil) -> Option<(usize, String)> {
    let month = MONTHS[civil.month as usize - 1];
    let weekday = WEEKDAYS[civil.weekday];
    let hour12 = (civil.hour + 11) % 12 + 1;
    let half = if civil.hour < 12 { ("AM", "am") } else { ("PM", "pm") };
    // Longer pieces before their own beginnings.
    let pieces: [(&str, &dyn Fn() -> String); 27] = [
        ("January", &|| month.into()),
        ("Jan", &|| month[..3].into()),
        ("Monday", &|| weekday.into()),
        ("Mon", &|| weekday[..3].into()),
        ("MST", &|| "UTC".into()),
        ("2006", &|| format!("{:04}", civil.year)),
        ("01", &|| format!("{:02}", civil.month)),
        ("02", &|| format!("{:02}", civil.day)),
        ("03", &|| format!("{hour12:02}")),
        ("04", &|| format!("{:02}", civil.minute)),
        ("05", &|| format!("{:02}", civil.second)),
        ("06", &|| format!("{:02}", civil.year.rem_euclid(100))),
        ("_2006", &|| format!("_{:04}", civil.year)),
        ("_2", &|| format!("{:2}", civil.day)),
        ("15", &|| format!("{:02}", civil.hour)),
        ("1", &|| format!("{}", civil.month)),
        ("2", &|| format!("{}", civil.day)),
        ("3", &|| format!("{hour12}")),
        ("4", &|| format!("{}", civil.minute)),
        ("5", &|| format!("{}", civil.second)),
        ("PM", &|| half.0.into()),
        ("pm", &|| half.1.into()),
        ("-07:00", &|| "+00:00".into()),
        ("-0700", &|| "+0000".into()),
        ("-07", &|| "+00".into()),
        ("Z07:00", &|| "Z".into()),
        ("Z0700", &|| "Z".into()),
    ];
    if let Some((piece, text)) = pieces.iter().find(|(piece, _)| rest.starts_with(piece)) {
        return Some((piece.len(), text()));
    }
    let mark = rest.chars().next().filter(|c| *c == '.' || *c == ',')?;
    let digit = rest[1..].chars().next().filter(|c| *c == '0' || *c == '9')?;
    let count = rest[1..].chars().take_while(|c| *c == digit).count();
    if rest[1 + count..].starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let fraction = format!("{:03}{:0<6}", civil.ms, "");
    let fraction = &fraction[..count.min(9)];
    let shown = if digit == '9' { fraction.trim_end_matches('0') } else { fraction };
    Some((1 + count, if shown.is_empty() { String::new() } else { format!("{mark}{shown}") }))
}
