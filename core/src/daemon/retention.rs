//! What `--storage.tsdb.retention.time` is counted from: the newest stored sample, not the clock.
//!
//! A clock that jumps ahead takes the newest sample with it, so a step that is too long is not believed at once. Time in
//! which nothing was stored for more than [`STEP_MS_MAX`] is a *gap*, and a gap counts as no time until samples of a whole
//! retention have come after it:
//!
//! ```text
//!                  step <= STEP_MS_MAX: the newest sample moves on
//!                  +------------------------------------------------+
//!                  v            a longer one                        |
//!               believed -------------------------> gap, not believed
//!                  ^  samples of a whole retention have come        |
//!                  +------------------------------------------------+
//!                     or samples come at the time before the gap
//! ```
//!
//! So whatever the clock does, samples of one retention are there; a wrong one costs at most [`STEP_MS_MAX`] of them. A host
//! that was off for a month keeps what it had for a retention more. A clock behind the newest sample drops nothing.

use super::{Daemon, output::Level};
use crate::{
    ledger::{Loss, Reason},
    time::{DAY_MS, DurationText, Now, Rfc3339},
};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Nights pass as time, also of hosts that are off then.
const STEP_MS_MAX: i64 = DAY_MS;
/// Gaps that are not believed yet. One more becomes one with the newest, as though nothing had been stored in between.
const GAPS_COUNT_MAX: usize = 8;
/// Without a retention, gaps are kept as though there were this one: it may be given at the next start.
const GAPS_KEPT_MS: u64 = 365 * DAY_MS as u64;
/// How often the newest sample is looked for, and what is too old is dropped.
const CHECK_MS: u64 = 60_000;
/// The newest sample is saved when it has moved by this, far less than a step.
const SAVED_EVERY_MS: i64 = 3_600_000;
/// Name of small state.
pub(super) const STORED_TIME_STATE: &str = "stored-time";
const SAVED_VERSION: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Gap {
    from_ms: i64,
    until_ms: i64,
}

impl Gap {
    fn length_ms(&self) -> i64 {
        self.until_ms.saturating_sub(self.from_ms)
    }
}

/// The time for which samples were stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StoredTime {
    newest_ms: i64,
    /// Oldest first, at most [`GAPS_COUNT_MAX`].
    gaps: Vec<Gap>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum StoredTimeError {
    #[error("it is damaged")]
    Damaged,
    #[error("it has version {found}, this program knows {SAVED_VERSION}")]
    OtherVersion { found: u8 },
}

impl StoredTime {
    fn new(newest_ms: i64) -> Self {
        Self { newest_ms, gaps: Vec::new() }
    }

    /// The newest sample, without the gaps that are not believed.
    fn reference_ms(&self) -> i64 {
        self.newest_ms.saturating_sub(self.gaps.iter().map(Gap::length_ms).fold(0, i64::saturating_add))
    }

    /// A sample is stored there. Gives the gap that this makes.
    fn observe(&mut self, t_ms: i64, retention_ms: u64) -> Option<Gap> {
        // A clock that comes back from where it jumped to.
        let is_inside = |gap: &Gap| (gap.from_ms.saturating_sub(STEP_MS_MAX)..gap.until_ms).contains(&t_ms);
        if let Some(index) = self.gaps.iter().rposition(is_inside) {
            self.newest_ms = self.gaps[index].from_ms;
            self.gaps.truncate(index);
        }
        let step_ms = t_ms.saturating_sub(self.newest_ms);
        if step_ms < -STEP_MS_MAX {
            return None;
        }
        let mut made = None;
        if step_ms > STEP_MS_MAX {
            let gap = Gap { from_ms: self.newest_ms, until_ms: t_ms };
            match self.gaps.get_mut(GAPS_COUNT_MAX - 1) {
                Some(newest) => newest.until_ms = t_ms,
                None => self.gaps.push(gap),
            }
            made = Some(gap);
        }
        self.newest_ms = t_ms;
        while let Some((oldest, later)) = self.gaps.split_first() {
            let later_ms = later.iter().map(Gap::length_ms).fold(0, i64::saturating_add);
            let stored_ms = self.newest_ms.saturating_sub(oldest.until_ms).saturating_sub(later_ms);
            if stored_ms < i64::try_from(retention_ms).unwrap_or(i64::MAX) {
                break;
            }
            self.gaps.remove(0);
        }
        made
    }

    fn save(&self) -> Vec<u8> {
        match postcard::to_extend(self, alloc::vec![SAVED_VERSION]) {
            Ok(bytes) => bytes,
            Err(error) => unreachable!("a vector takes everything: {error}"),
        }
    }

    fn restore(bytes: &[u8]) -> Result<Self, StoredTimeError> {
        let (&version, rest) = bytes.split_first().ok_or(StoredTimeError::Damaged)?;
        if version != SAVED_VERSION {
            return Err(StoredTimeError::OtherVersion { found: version });
        }
        let time: Self = postcard::from_bytes(rest).map_err(|_| StoredTimeError::Damaged)?;
        let is_sound = time.gaps.len() <= GAPS_COUNT_MAX && time.gaps.iter().all(|gap| gap.from_ms < gap.until_ms);
        is_sound.then_some(time).ok_or(StoredTimeError::Damaged)
    }
}

/// When to look again, and what was found so far.
pub(super) struct Retention {
    due_mono_ms: u64,
    time: Option<StoredTime>,
    saved_newest_ms: Option<i64>,
}

impl Retention {
    pub fn new(now: Now) -> Self {
        Self { due_mono_ms: now.mono_ms + CHECK_MS, time: None, saved_newest_ms: None }
    }
}

impl Daemon<'_> {
    /// Goes on with what the process before knew.
    pub(super) fn retention_restore(&mut self) {
        match self.store.state_get(STORED_TIME_STATE).map(StoredTime::restore) {
            None => {}
            Some(Ok(time)) => {
                self.retention.saved_newest_ms = Some(time.newest_ms);
                self.retention.time = Some(time);
            }
            Some(Err(error)) => {
                self.lose(&Loss::new(Reason::StateSetAside, STORED_TIME_STATE, 0));
                self.log(
                    Level::Error,
                    "stored-time-restore",
                    format_args!(
                        "the saved state {STORED_TIME_STATE:?} is not used: {error}; nothing is too old until samples \
                         of a whole retention have come"
                    ),
                );
            }
        }
    }

    /// What ended before this instant is too old, once a minute. A failed commit asks for it again a minute later.
    pub(super) fn retention_due(&mut self, now: Now) -> Option<i64> {
        if self.retention.due_mono_ms > now.mono_ms {
            return None;
        }
        self.retention.due_mono_ms = now.mono_ms + CHECK_MS;
        self.observe_newest(now);
        let reference_ms = self.retention.time.as_ref()?.reference_ms().min(now.wall_ms);
        Some(reference_ms.saturating_sub_unsigned(self.options.retention_ms?))
    }

    fn observe_newest(&mut self, now: Now) {
        // A clock that was ahead leaves rows of a time that is still to come.
        let newest_ms = self.store.newest_rows_ms().filter(|t_ms| *t_ms <= now.wall_ms).max();
        let Some(newest_ms) = newest_ms else { return };
        // With history and without a saved state, all since its beginning may be a gap.
        let time = self.retention.time.get_or_insert_with(|| {
            StoredTime::new(self.oldest_ms.map_or(newest_ms, |oldest_ms| oldest_ms.min(newest_ms)))
        });
        let made = time.observe(newest_ms, self.options.retention_ms.unwrap_or(GAPS_KEPT_MS));
        let moved_ms = self.retention.saved_newest_ms.map(|saved_ms| time.newest_ms.saturating_sub(saved_ms));
        if made.is_some() || moved_ms.is_none_or(|moved_ms| !(0..SAVED_EVERY_MS).contains(&moved_ms)) {
            self.retention.saved_newest_ms = Some(time.newest_ms);
            let bytes = time.save();
            self.keep_state(STORED_TIME_STATE, &bytes);
        }
        if let (Some(gap), Some(retention_ms)) = (made, self.options.retention_ms) {
            self.log(
                Level::Warn,
                "retention-gap",
                format_args!(
                    "nothing was stored from {} to {}, or the clock jumped: --storage.tsdb.retention.time does not count \
                     this time until samples of {} have come after it",
                    Rfc3339(gap.from_ms),
                    Rfc3339(gap.until_ms),
                    DurationText(retention_ms)
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::test_world::{START_WALL_MS, World, job, options, settings};

    const HOUR_MS: i64 = DAY_MS / 24;
    const YEAR_MS: i64 = 365 * DAY_MS;
    const RETENTION_DAYS: i64 = 15;
    const RETENTION_MS: u64 = (RETENTION_DAYS * DAY_MS) as u64;

    /// Samples every hour, of `first_ms ..= last_ms`.
    fn observe_hours(time: &mut StoredTime, first_ms: i64, last_ms: i64) {
        for t_ms in (first_ms..=last_ms).step_by(HOUR_MS as usize) {
            time.observe(t_ms, RETENTION_MS);
        }
    }

    #[test]
    fn the_newest_sample_moves_on_by_a_day_at_a_time_and_no_more() {
        let mut time = StoredTime::new(0);
        assert_eq!(time.observe(DAY_MS, RETENTION_MS), None);
        assert_eq!(time.reference_ms(), DAY_MS);
        let gap = Gap { from_ms: DAY_MS, until_ms: 2 * DAY_MS + 1 };
        assert_eq!(time.observe(2 * DAY_MS + 1, RETENTION_MS), Some(gap));
        assert_eq!(time.reference_ms(), DAY_MS);
        time.observe(2 * DAY_MS + 1 + HOUR_MS, RETENTION_MS);
        assert_eq!(time.reference_ms(), DAY_MS + HOUR_MS, "time passes again");
    }

    #[test]
    fn a_gap_is_believed_exactly_when_samples_of_a_whole_retention_have_come_after_it() {
        let mut time = StoredTime::new(0);
        time.observe(YEAR_MS, RETENTION_MS);
        let end_ms = YEAR_MS + RETENTION_DAYS * DAY_MS;
        observe_hours(&mut time, YEAR_MS, end_ms - HOUR_MS);
        time.observe(end_ms - 1, RETENTION_MS);
        assert_eq!(
            time.reference_ms(),
            RETENTION_DAYS * DAY_MS - 1,
            "what is before the gap goes as though it was none"
        );
        time.observe(end_ms, RETENTION_MS);
        assert_eq!(time.reference_ms(), end_ms);
    }

    #[test]
    fn a_clock_that_comes_back_leaves_no_trace() {
        let mut time = StoredTime::new(0);
        observe_hours(&mut time, 0, 3 * DAY_MS);
        let before = time.clone();
        observe_hours(&mut time, YEAR_MS, YEAR_MS + 10 * DAY_MS);
        assert_eq!(time.reference_ms(), 13 * DAY_MS);
        assert_eq!(time.observe(3 * DAY_MS, RETENTION_MS), None);
        assert_eq!(time, before);
        // Ten days later by the right clock, as it is.
        observe_hours(&mut time, YEAR_MS, YEAR_MS + 10 * DAY_MS);
        let gap = Gap { from_ms: 3 * DAY_MS, until_ms: 13 * DAY_MS };
        assert_eq!(time.observe(13 * DAY_MS, RETENTION_MS), Some(gap));
        assert_eq!(time.reference_ms(), 3 * DAY_MS);
    }

    #[test]
    fn a_clock_far_in_the_past_is_passed_over() {
        let mut time = StoredTime::new(50 * YEAR_MS);
        let before = time.clone();
        observe_hours(&mut time, 0, DAY_MS);
        time.observe(50 * YEAR_MS - DAY_MS - 1, RETENTION_MS);
        assert_eq!(time, before);
        time.observe(50 * YEAR_MS - DAY_MS, RETENTION_MS);
        assert_eq!(time.newest_ms, 50 * YEAR_MS - DAY_MS, "a step back that is as short as one ahead");
    }

    #[test]
    fn a_first_start_in_1970_is_a_gap_like_any() {
        let mut time = StoredTime::new(0);
        observe_hours(&mut time, 0, HOUR_MS);
        observe_hours(&mut time, 50 * YEAR_MS, 50 * YEAR_MS + RETENTION_DAYS * DAY_MS);
        assert_eq!(time.reference_ms(), 50 * YEAR_MS + RETENTION_DAYS * DAY_MS);
    }

    #[test]
    fn gaps_end_one_by_one_and_more_than_are_kept_become_one() {
        let mut time = StoredTime::new(0);
        let mut t_ms = 0;
        for count in 1..=3 * GAPS_COUNT_MAX {
            // Off for a weekend, on for five days.
            t_ms += 2 * DAY_MS + 1;
            observe_hours(&mut time, t_ms, t_ms + 5 * DAY_MS);
            t_ms += 5 * DAY_MS;
            let off_ms = 2 * DAY_MS + 1;
            assert_eq!(t_ms - time.reference_ms(), off_ms * (count.min(3) as i64 - i64::from(count >= 3)), "{count}");
        }
        let mut time = StoredTime::new(0);
        for day in 1..=3 * GAPS_COUNT_MAX as i64 {
            time.observe(day * 2 * DAY_MS, RETENTION_MS);
            time.observe(day * 2 * DAY_MS + HOUR_MS, RETENTION_MS);
        }
        assert_eq!(time.gaps.len(), GAPS_COUNT_MAX);
        assert_eq!(time.reference_ms(), GAPS_COUNT_MAX as i64 * HOUR_MS, "never more than was stored");
    }

    #[test]
    fn the_ends_of_time_are_instants_like_any() {
        for first_ms in [i64::MIN, 0, i64::MAX] {
            let mut time = StoredTime::new(first_ms);
            for t_ms in [i64::MAX, i64::MIN, 0, i64::MAX, -1, i64::MIN] {
                time.observe(t_ms, RETENTION_MS);
                assert!(time.reference_ms() <= time.newest_ms, "{time:?}");
            }
        }
    }

    #[test]
    fn what_is_saved_is_restored_and_anything_else_is_said_to_be_wrong() {
        let mut time = StoredTime::new(START_WALL_MS);
        for day in 1..20 {
            time.observe(START_WALL_MS + 2 * day * DAY_MS, RETENTION_MS);
        }
        let bytes = time.save();
        assert_eq!(StoredTime::restore(&bytes), Ok(time));
        for length in 1..bytes.len() {
            assert_eq!(StoredTime::restore(&bytes[..length]), Err(StoredTimeError::Damaged), "{length}");
        }
        assert_eq!(StoredTime::restore(&[]), Err(StoredTimeError::Damaged));
        assert_eq!(StoredTime::restore(&[2, 0]), Err(StoredTimeError::OtherVersion { found: 2 }));
    }

    #[test]
    fn a_clock_without_samples_makes_nothing_too_old() {
        let mut world = World::new(options(), settings(vec![job("node", &["h:1"])]));
        world.serve("http://h:1/metrics", "m 1\n");
        world.pass(2 * CHECK_MS);
        let due_ms = |world: &mut World| {
            world.daemon.retention.due_mono_ms = world.now.mono_ms;
            world.daemon.retention_due(world.now).map(|t_ms| t_ms + RETENTION_MS as i64 - START_WALL_MS)
        };
        let before_ms = due_ms(&mut world);
        assert!(before_ms.is_some_and(|ms| (2 * CHECK_MS as i64 - 2_000..=2 * CHECK_MS as i64).contains(&ms)));
        world.now.wall_ms += YEAR_MS;
        assert_eq!(due_ms(&mut world), before_ms, "nothing has come");
        world.pass(2 * CHECK_MS);
        let ahead_ms = due_ms(&mut world);
        assert!(
            ahead_ms.is_some_and(|ms| ms < before_ms.unwrap() + 2 * CHECK_MS as i64),
            "{before_ms:?}, {ahead_ms:?}"
        );
        world.now.wall_ms -= 2 * YEAR_MS;
        assert!(due_ms(&mut world).is_some_and(|ms| ms < -YEAR_MS / 2), "a clock of the past drops nothing");
    }
}
