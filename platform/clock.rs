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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_at_the_end_of_time_is_far_away_and_no_panic() {
        let clock = Clock::start();
        assert!(clock.instant(u64::MAX) > Instant::now() + Duration::from_secs(3600));
        assert!(clock.instant(0) <= Instant::now());
    }
}
