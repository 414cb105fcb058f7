//! When a target is due: once per interval, at an offset that its name decides.
//!
//! The offset lies on wall time, as in Prometheus, so that it is the same after a restart; waiting is done on monotonic
//! time, so that a jumping clock neither delays a scrape nor bunches several.

use crate::{prng, store::TimelineKey, time::Now};

/// A scrape that starts at most this much behind its due time gets the due time as its timestamp, so that intervals
/// are exact. At most a hundredth of the interval (Prometheus' `ScrapeTimestampTolerance`).
const TOLERANCE_MS_MAX: i64 = 2;

#[derive(Clone, Debug)]
pub struct Schedule {
    interval_ms: u64,
    due_mono_ms: u64,
    /// The wall time that belongs to `due_mono_ms` as long as the clock does not jump.
    due_wall_ms: i64,
    /// The next scrape was taken forward: that it lies behind its place is no lateness.
    is_forward: bool,
}

/// One scrape to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Wall milliseconds: the timestamp of the scrape's samples.
    pub instant_ms: i64,
    /// How late the scrape starts.
    pub late_ms: u64,
    /// Intervals that passed without a scrape since the last one; they are not made up for.
    pub skipped_count: u64,
}

impl Schedule {
    /// `seed` must be the same after a restart, and should differ from node to node.
    pub fn new(interval_ms: u64, key: TimelineKey, seed: u64, now: Now) -> Self {
        let interval_ms = interval_ms.max(1);
        let offset_ms = prng::mix(key.0 ^ seed) % interval_ms;
        let into_ms = now.wall_ms.rem_euclid(interval_ms as i64) as u64;
        let wait_ms = (offset_ms + interval_ms - into_ms) % interval_ms;
        Self {
            interval_ms,
            due_mono_ms: now.mono_ms + wait_ms,
            due_wall_ms: now.wall_ms.saturating_add(wait_ms as i64),
            is_forward: false,
        }
    }

    /// Takes the first scrape forward to now; the ones behind it stay where they are.
    pub fn at_once(mut self, now: Now) -> Self {
        self.is_forward = true;
        while self.due_mono_ms > now.mono_ms {
            let Some(earlier) = self.due_mono_ms.checked_sub(self.interval_ms) else {
                // The process is younger than the interval: due at the start of its clock.
                self.due_wall_ms -= self.due_mono_ms as i64;
                self.due_mono_ms = 0;
                break;
            };
            self.due_mono_ms = earlier;
            self.due_wall_ms -= self.interval_ms as i64;
        }
        self
    }

    /// Monotonic milliseconds.
    pub fn due_mono_ms(&self) -> u64 {
        self.due_mono_ms
    }

    pub fn interval_ms(&self) -> u64 {
        self.interval_ms
    }

    /// The scrape to start now, if one is due; moves on to the next interval that has not begun.
    pub fn take(&mut self, now: Now) -> Option<Due> {
        let late_ms = now.mono_ms.checked_sub(self.due_mono_ms)?;
        let skipped_count = late_ms / self.interval_ms;
        let last_due_wall_ms = self.due_wall_ms.saturating_add((skipped_count * self.interval_ms) as i64);
        let late_ms = late_ms - skipped_count * self.interval_ms;
        let tolerance_ms = (self.interval_ms as i64 / 100).min(TOLERANCE_MS_MAX);
        let apart_ms = now.wall_ms.saturating_sub(last_due_wall_ms);
        let instant_ms = if apart_ms.saturating_abs() <= tolerance_ms { last_due_wall_ms } else { now.wall_ms };
        self.due_mono_ms = now.mono_ms - late_ms + self.interval_ms;
        let jumped_ms = apart_ms.saturating_sub(late_ms as i64);
        let jumped_ms = if jumped_ms.saturating_abs() > tolerance_ms { jumped_ms } else { 0 };
        self.due_wall_ms = last_due_wall_ms.saturating_add(jumped_ms).saturating_add(self.interval_ms as i64);
        let late_ms = if core::mem::take(&mut self.is_forward) { 0 } else { late_ms };
        Some(Due { instant_ms, late_ms, skipped_count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_ms: u64, wall_ms: i64) -> Now {
        Now { mono_ms, wall_ms }
    }

    #[test]
    fn a_target_keeps_its_offset_over_a_restart_and_targets_spread() {
        let mut offsets = alloc::collections::BTreeSet::new();
        for key in 0..100 {
            let first = Schedule::new(15_000, TimelineKey(key), 7, at(0, 1_000_000));
            let again = Schedule::new(15_000, TimelineKey(key), 7, at(99, 1_234_567));
            assert_eq!((first.due_wall_ms - again.due_wall_ms) % 15_000, 0);
            assert!(first.due_mono_ms() < 15_000 && (99..15_099).contains(&again.due_mono_ms()));
            offsets.insert(first.due_wall_ms % 15_000);
        }
        assert!(offsets.len() > 95, "{}", offsets.len());
        let other = Schedule::new(15_000, TimelineKey(1), 8, at(0, 1_000_000));
        assert_ne!(other.due_mono_ms(), Schedule::new(15_000, TimelineKey(1), 7, at(0, 1_000_000)).due_mono_ms());
    }

    #[test]
    fn nothing_is_due_one_millisecond_early_and_lateness_up_to_two_is_smoothed() {
        let mut schedule = Schedule::new(1_000, TimelineKey(1), 0, at(0, 10_000));
        let (due, wall_ms) = (schedule.due_mono_ms(), 10_000 + schedule.due_mono_ms() as i64);
        if due > 0 {
            assert_eq!(schedule.take(at(due - 1, wall_ms - 1)), None);
        }
        let taken = schedule.take(at(due + 2, wall_ms + 2)).unwrap();
        assert_eq!(taken, Due { instant_ms: wall_ms, late_ms: 2, skipped_count: 0 });
        let taken = schedule.take(at(due + 1_003, wall_ms + 1_003)).unwrap();
        assert_eq!(taken, Due { instant_ms: wall_ms + 1_003, late_ms: 3, skipped_count: 0 });
        let taken = schedule.take(at(due + 2_000, wall_ms + 2_000)).unwrap();
        assert_eq!(taken.instant_ms, wall_ms + 2_000);
    }

    #[test]
    fn missed_intervals_are_skipped_and_not_bunched() {
        let mut schedule = Schedule::new(1_000, TimelineKey(1), 0, at(0, 0));
        let due = schedule.due_mono_ms();
        let now = at(due + 5_400, due as i64 + 5_400);
        let taken = schedule.take(now).unwrap();
        assert_eq!(taken, Due { instant_ms: now.wall_ms, late_ms: 400, skipped_count: 5 });
        assert_eq!(schedule.take(now), None);
        assert_eq!(schedule.due_mono_ms(), due + 6_000);
    }

    #[test]
    fn a_jumping_wall_clock_moves_timestamps_and_not_the_pace() {
        let mut schedule = Schedule::new(1_000, TimelineKey(1), 0, at(0, 100_000));
        let due = schedule.due_mono_ms();
        schedule.take(at(due, 100_000 + due as i64)).unwrap();
        // An hour back, then two more scrapes at the same pace.
        let back = |mono_ms: u64| at(mono_ms, 100_000 + mono_ms as i64 - 3_600_000);
        assert_eq!(schedule.take(back(due + 1_000)).unwrap().instant_ms, back(due + 1_000).wall_ms);
        assert_eq!(schedule.take(back(due + 1_999)), None);
        assert_eq!(schedule.take(back(due + 2_001)).unwrap().instant_ms, back(due + 2_000).wall_ms);
    }

    #[test]
    fn the_first_scrape_can_be_had_at_once() {
        for (mono_ms, interval_ms) in [(5, 15_000), (100_000, 15_000), (0, 1)] {
            let now = at(mono_ms, 1_000_000);
            let plain = Schedule::new(interval_ms, TimelineKey(3), 0, now);
            let mut eager = plain.clone().at_once(now);
            let taken = eager.take(now).unwrap();
            assert_eq!(taken, Due { instant_ms: 1_000_000, late_ms: 0, skipped_count: 0 });
            assert!(eager.due_mono_ms() > now.mono_ms && eager.due_mono_ms() <= now.mono_ms + interval_ms);
        }
    }
}
