//! The two clocks of this host, read together.

use holdfast_core::time::Now;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Reads the clocks. Monotonic time counts from the making of this value.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    pub fn now(&self) -> Now {
        Now { mono_ms: self.started.elapsed().as_millis() as u64, wall_ms: wall_ms() }
    }

    /// The instant of a monotonic time; one beyond what can be expressed is a year from the start.
    pub fn instant(&self, mono_ms: u64) -> Instant {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        let since_start = Duration::from_millis(mono_ms).min(YEAR);
        self.started + since_start
    }
}

/// Milliseconds since 1970 UTC; before it, negative.
pub fn wall_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

/// `2026-11-24T12:00:00.250Z`: RFC 3339 in UTC, with milliseconds.
pub fn rfc3339(wall_ms: i64) -> String {
    let (days, ms_of_day) = (wall_ms.div_euclid(86_400_000), wall_ms.rem_euclid(86_400_000));
    let (year, month, day) = civil_from_days(days);
    let (second_of_day, ms) = (ms_of_day / 1000, ms_of_day % 1000);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day of the proleptic Gregorian calendar, from days since 1970-01-01. The year is counted from March,
/// so that the leap day is its last (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted.div_euclid(DAYS_PER_ERA), shifted.rem_euclid(DAYS_PER_ERA));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_as_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(rfc3339(951_782_400_000 - 1), "2000-02-28T23:59:59.999Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(4_107_542_400_000 - 1), "2100-02-28T23:59:59.999Z");
        assert_eq!(rfc3339(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn each_day_of_eight_centuries_follows_the_one_before() {
        let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let month_days = |year, month| match month {
            2 => 28 + i64::from(is_leap(year)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let (mut year, mut month, mut day) = civil_from_days(-200_000);
        for days in -199_999..100_000 {
            day += 1;
            if day > month_days(year, month) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
            assert_eq!(civil_from_days(days), (year, month, day));
        }
    }

    #[test]
    fn a_deadline_at_the_end_of_time_is_far_away_and_no_panic() {
        let clock = Clock::start();
        assert!(clock.instant(u64::MAX) > Instant::now() + Duration::from_secs(3600));
        assert!(clock.instant(0) <= Instant::now());
    }
}
