//! The two clocks, and the only place that compares them.
//!
//! Deadlines, intervals and `for` use monotonic time; samples use wall time.

/// One reading of both clocks, taken by the platform before each call into the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since an arbitrary start; never goes back while the process lives.
    pub mono_ms: u64,
    /// Milliseconds since 1970-01-01 UTC, as the host's clock has it; may jump.
    pub wall_ms: i64,
}

/// Seconds with a millisecond fraction, as Prometheus writes instants in its JSON answers.
pub fn seconds(wall_ms: i64) -> f64 {
    wall_ms as f64 / 1000.0
}

/// Tells when the wall clock has moved against the monotonic one.
#[derive(Clone, Copy, Debug)]
pub struct JumpWatch {
    last: Now,
}

impl JumpWatch {
    /// A disagreement of the clocks below this is drift or scheduling, not a jump.
    pub const JUMP_MS_MIN: i64 = 1_000;

    pub fn new(now: Now) -> Self {
        Self { last: now }
    }

    /// Milliseconds the wall clock jumped since the last call (positive: forward), or `None`.
    pub fn observe(&mut self, now: Now) -> Option<i64> {
        let mono_step = now.mono_ms.saturating_sub(self.last.mono_ms) as i64;
        let jump = now.wall_ms.saturating_sub(self.last.wall_ms).saturating_sub(mono_step);
        self.last = now;
        (jump.saturating_abs() >= Self::JUMP_MS_MIN).then_some(jump)
    }
}

/// An instant as RFC 3339 in UTC, with milliseconds where there are any.
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339(pub i64);

impl core::fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write_second(f, self.0)?;
        match self.0.rem_euclid(1000) {
            0 => f.write_str("Z"),
            ms => write!(f, ".{ms:03}Z"),
        }
    }
}

/// The same, always with milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339Ms(pub i64);

impl core::fmt::Display for Rfc3339Ms {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write_second(f, self.0)?;
        write!(f, ".{:03}Z", self.0.rem_euclid(1000))
    }
}

fn write_second(f: &mut core::fmt::Formatter<'_>, wall_ms: i64) -> core::fmt::Result {
    let (days, in_day_ms) = (wall_ms.div_euclid(DAY_MS), wall_ms.rem_euclid(DAY_MS));
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (in_day_ms / 3_600_000, in_day_ms / 60_000 % 60, in_day_ms / 1000 % 60);
    write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

pub const DAY_MS: i64 = 86_400_000;

/// Reads RFC 3339 with any number of fraction digits; below a millisecond is cut off.
pub fn parse_rfc3339_ms(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !separators.iter().all(|(at, byte)| text.as_bytes().get(*at).is_some_and(|b| b.eq_ignore_ascii_case(byte))) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month)
        || day < 1
        || day > days_in_month(year, month)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut ms = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        for index in 0..3 {
            ms = ms * 10
                + fraction.as_bytes().get(index).filter(|_| index < digits).map_or(0, |byte| i64::from(byte - b'0'));
        }
        rest = &fraction[digits..];
    }
    let zone_ms = match rest.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] if [h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit()) => {
            let two = |tens: &u8, ones: &u8| i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
            let offset = two(h1, h2) * 3_600_000 + two(m1, m2) * 60_000;
            if *sign == b'+' { offset } else { -offset }
        }
        _ => return None,
    };
    let seconds = hour * 3600 + minute * 60 + second;
    Some(days_from_civil(year, month, day) * DAY_MS + seconds * 1000 + ms - zone_ms)
}

/// Units of Prometheus' durations, from large to small, and whether one is written only when nothing is left over. A year
/// has 365 days, a day 24 hours.
const DURATION_UNITS: [(&str, u64, bool); 7] = [
    ("y", 365 * DAY_MS as u64, true),
    ("w", 7 * DAY_MS as u64, true),
    ("d", DAY_MS as u64, false),
    ("h", 3_600_000, false),
    ("m", 60_000, false),
    ("s", 1_000, false),
    ("ms", 1, false),
];

/// Prometheus keeps durations as signed 64-bit nanoseconds; longer ones are refused there, too.
pub const DURATION_MS_MAX: u64 = i64::MAX as u64 / 1_000_000;

/// What is wrong with a duration. Whoever shows it says it in the words of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationError<'t> {
    Empty,
    UnknownUnit(&'t str),
    /// Not whole numbers with units from large to small, each once.
    Syntax,
    /// More than 292 years.
    TooLong,
}

/// `1h30m` in milliseconds: whole numbers, each unit once, from large to small; or `0` (Prometheus' documentation,
/// configuration, `<duration>`).
pub fn parse_duration_ms(text: &str) -> Result<u64, DurationError<'_>> {
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(0),
        _ => {}
    }
    let (mut rest, mut units, mut total_ms) = (text, DURATION_UNITS.iter(), 0_u64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
        if digits == 0 || letters == 0 {
            return Err(DurationError::Syntax);
        }
        if !DURATION_UNITS.iter().any(|(name, ..)| *name == unit) {
            return Err(DurationError::UnknownUnit(unit));
        }
        let (_, unit_ms, _) = units.find(|(name, ..)| *name == unit).ok_or(DurationError::Syntax)?;
        let part_ms = number.parse::<u64>().ok().and_then(|count| count.checked_mul(*unit_ms));
        total_ms = part_ms
            .and_then(|part_ms| total_ms.checked_add(part_ms))
            .filter(|total_ms| *total_ms <= DURATION_MS_MAX)
            .ok_or(DurationError::TooLong)?;
        rest = &rest[digits + letters..];
    }
    Ok(total_ms)
}

/// Milliseconds as Prometheus prints a duration: `1h30m`, `400d` (not `1y5w`), `0s`.
#[derive(Clone, Copy, Debug)]
pub struct DurationText(pub u64);

impl core::fmt::Display for DurationText {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest_ms = self.0;
        for (name, unit_ms, only_whole) in DURATION_UNITS {
            if rest_ms >= unit_ms && (!only_whole || rest_ms.is_multiple_of(unit_ms)) {
                write!(f, "{}{name}", rest_ms / unit_ms)?;
                rest_ms %= unit_ms;
            }
        }
        Ok(())
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, counted in years that begin in March.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let shifted = year - i64::from(month <= 2);
    let (era, year_of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month 1..=12 and day 1..=31 of a count of days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level
/// Date Algorithms").
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day_of_year - (153 * month_from_march + 2) / 5 + 1)
}

pub fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_wall_clock_alone_is_a_jump_and_drift_is_not() {
        let mut watch = JumpWatch::new(Now { mono_ms: 0, wall_ms: 1_000_000 });
        assert_eq!(watch.observe(Now { mono_ms: 5_000, wall_ms: 1_005_999 }), None);
        assert_eq!(watch.observe(Now { mono_ms: 6_000, wall_ms: 1_007_999 }), Some(1_000));
        assert_eq!(watch.observe(Now { mono_ms: 7_000, wall_ms: 0 }), Some(-1_008_999));
        assert_eq!(watch.observe(Now { mono_ms: 8_000, wall_ms: 1_000 }), None);
    }

    #[test]
    fn dates_survive_there_and_back_over_four_centuries() {
        for days in -150_000..150_000 {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
            assert!((1..=days_in_month(year, month)).contains(&day));
        }
    }

    #[test]
    fn rfc_3339_is_read_and_written() {
        let mut text = heapless::String::<64>::new();
        core::fmt::Write::write_fmt(&mut text, format_args!("{} {}", Rfc3339(1_435_781_451_781), Rfc3339(0))).unwrap();
        assert_eq!(text, "2015-07-01T20:10:51.781Z 1970-01-01T00:00:00Z");
        assert_eq!(parse_rfc3339_ms("2015-07-01T20:10:51.7819Z"), Some(1_435_781_451_781));
        assert_eq!(parse_rfc3339_ms("1969-12-31T23:59:59Z"), Some(-1_000));
        for broken in [
            "",
            "2015-07-01",
            "2015-13-01T00:00:00Z",
            "2015-02-29T00:00:00Z",
            "2015-07-01T24:00:00Z",
            "2015-07-01T20:10:51",
            "2015-07-01T20:10:51.Z",
            "2015-07-01T20:10:51+0200",
            "2015-07-01 20:10:51Z",
        ] {
            assert_eq!(parse_rfc3339_ms(broken), None, "{broken}");
        }
    }

    #[test]
    fn instants_with_milliseconds_are_right_on_both_sides_of_every_edge() {
        for (ms, wanted) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(format!("{}", Rfc3339Ms(ms)), wanted);
        }
    }

    #[test]
    fn durations_are_read_with_units_from_large_to_small() {
        use DurationError::{Empty, Syntax, TooLong, UnknownUnit};
        for (text, wanted) in [
            ("0", Ok(0)),
            ("0s", Ok(0)),
            ("1y2w3d4h5m6s7ms", Ok(31_536_000_000 + 17 * 86_400_000 + 14_706_007)),
            ("9223372036854ms", Ok(9_223_372_036_854)),
            ("9223372036855ms", Err(TooLong)),
            ("99999999999999999999d", Err(TooLong)),
            ("", Err(Empty)),
            ("5", Err(Syntax)),
            ("s", Err(Syntax)),
            ("1m1h", Err(Syntax)),
            ("1h1h", Err(Syntax)),
            ("-1s", Err(Syntax)),
            ("1.5h", Err(Syntax)),
            ("1x", Err(UnknownUnit("x"))),
        ] {
            assert_eq!(parse_duration_ms(text), wanted, "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        for (ms, text) in [(0, "0s"), (1, "1ms"), (90_000, "1m30s"), (400 * 86_400_000, "400d"), (1_209_600_000, "2w")]
        {
            assert_eq!(format!("{}", DurationText(ms)), text);
            assert_eq!(parse_duration_ms(text), Ok(ms));
        }
    }
}
