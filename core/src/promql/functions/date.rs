//! Parts of a date, UTC, out of seconds since 1970 (the Gregorian calendar, extended backwards).

use crate::time::{self, civil_from_days, days_from_civil};

pub fn minute(seconds: f64) -> f64 {
    at(seconds, |date| date.second_of_day / 60 % 60)
}

pub fn hour(seconds: f64) -> f64 {
    at(seconds, |date| date.second_of_day / 3600)
}

/// Sunday is 0.
pub fn day_of_week(seconds: f64) -> f64 {
    at(seconds, |date| (date.days + 4).rem_euclid(7))
}

pub fn day_of_month(seconds: f64) -> f64 {
    at(seconds, |date| date.day)
}

/// From 1.
pub fn day_of_year(seconds: f64) -> f64 {
    at(seconds, |date| date.days - days_from_civil(date.year, 1, 1) + 1)
}

pub fn days_in_month(seconds: f64) -> f64 {
    at(seconds, |date| time::days_in_month(date.year, date.month))
}

pub fn month(seconds: f64) -> f64 {
    at(seconds, |date| date.month)
}

pub fn year(seconds: f64) -> f64 {
    at(seconds, |date| date.year)
}

struct Date {
    /// Since 1970-01-01.
    days: i64,
    second_of_day: i64,
    year: i64,
    month: i64,
    day: i64,
}

/// What is not an instant (no number, or beyond 2^63 seconds) is taken as 2^63 seconds, as Prometheus does on amd64, so
/// that the two agree.
fn at(seconds: f64, part: fn(&Date) -> i64) -> f64 {
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    let seconds = if libm::fabs(seconds) < BOUND { seconds as i128 } else { BOUND as i128 };
    let (days, second_of_day) = (seconds.div_euclid(86_400) as i64, seconds.rem_euclid(86_400) as i64);
    let (year, month, day) = civil_from_days(days);
    part(&Date { days, second_of_day, year, month, day }) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_come_apart_on_both_sides_of_every_edge() {
        let check = |seconds: f64, expected: [f64; 8]| {
            let parts = [year, month, day_of_month, day_of_week, day_of_year, days_in_month, hour, minute];
            assert_eq!(parts.map(|part| part(seconds)), expected, "{seconds}");
        };
        check(0.0, [1970.0, 1.0, 1.0, 4.0, 1.0, 31.0, 0.0, 0.0]);
        check(-1.0, [1969.0, 12.0, 31.0, 3.0, 365.0, 31.0, 23.0, 59.0]);
        check(951_782_399.0, [2000.0, 2.0, 28.0, 1.0, 59.0, 29.0, 23.0, 59.0]);
        check(951_782_400.0, [2000.0, 2.0, 29.0, 2.0, 60.0, 29.0, 0.0, 0.0]);
        check(951_868_800.0, [2000.0, 3.0, 1.0, 3.0, 61.0, 31.0, 0.0, 0.0]);
        check(4_107_542_399.0, [2100.0, 2.0, 28.0, 0.0, 59.0, 28.0, 23.0, 59.0]);
        check(4_107_542_400.0, [2100.0, 3.0, 1.0, 1.0, 60.0, 31.0, 0.0, 0.0]);
        for seconds in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            check(seconds, [292_277_026_596.0, 12.0, 4.0, 0.0, 339.0, 31.0, 15.0, 30.0]);
        }
    }
}
