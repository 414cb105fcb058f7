//! Retention by time against clocks that are wrong by a year, over restarts and power cuts.

use super::{Scale, World, checks::by_name};
use holdfast_core::daemon::Daemon;

const HOUR_MS: u64 = 3_600_000;
const RETENTION_MS: u64 = 6 * HOUR_MS;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS as i64;
/// Rows of about so long lie in one segment, which goes as a whole.
const SEGMENT_MS_MAX: u64 = 2 * HOUR_MS;

impl World {
    /// The clock jumps a year ahead for two hours. The history stays, also where processes end meanwhile, and goes in its
    /// time once the clock is right again.
    pub fn clock_ahead_for_a_while(seed: u64) {
        let mut world = Self::with_retention(seed);
        let began_ms = world.now.wall_ms;
        world.run_until(world.now.mono_ms + 2 * HOUR_MS);
        let history_ms = began_ms..=world.now.wall_ms;
        world.jump(YEAR_MS);
        world.run_until(world.now.mono_ms + HOUR_MS);
        world.kill();
        world.run_until(world.now.mono_ms + HOUR_MS / 2);
        world.cut_power();
        world.run_until(world.now.mono_ms + HOUR_MS / 2);
        world.check_history(history_ms.clone());
        world.jump(-YEAR_MS);
        world.run_until(world.now.mono_ms + HOUR_MS);
        world.check_history(history_ms.clone());
        world.run_until(world.now.mono_ms + RETENTION_MS + SEGMENT_MS_MAX);
        world.check_gone(history_ms);
        let _ = world.daemon.take().map(Daemon::into_slab);
    }

    /// The clock was a year behind, and the jump is the truth: the history goes after a retention of samples.
    pub fn clock_ahead_for_good(seed: u64) {
        let mut world = Self::with_retention(seed);
        let began_ms = world.now.wall_ms;
        world.run_until(world.now.mono_ms + 2 * HOUR_MS);
        let history_ms = began_ms..=world.now.wall_ms;
        world.stop();
        world.jump(YEAR_MS);
        world.run_until(world.now.mono_ms + RETENTION_MS - 2 * HOUR_MS - HOUR_MS / 4);
        world.check_history(history_ms.clone());
        world.run_until(world.now.mono_ms + 2 * HOUR_MS + SEGMENT_MS_MAX);
        world.check_gone(history_ms);
        let _ = world.daemon.take().map(Daemon::into_slab);
    }

    fn with_retention(seed: u64) -> Self {
        let scale = Scale {
            interval_ms: 30_000,
            retention_ms: Some(RETENTION_MS),
            is_tight: true,
            is_host_there: false,
            ..Self::short(seed)
        };
        let mut world = Self::new(seed, scale);
        world.start();
        world
    }

    fn jump(&mut self, jump_ms: i64) {
        self.now.wall_ms += jump_ms;
        self.clock_jumped = true;
    }

    fn check_history(&mut self, history_ms: std::ops::RangeInclusive<i64>) {
        let found = self.history(&history_ms);
        self.model.check(self.seed, &found, history_ms, false);
    }

    fn check_gone(&mut self, history_ms: std::ops::RangeInclusive<i64>) {
        let found = self.history(&history_ms);
        assert!(found.is_empty(), "seed {}: older than the retention: {found:?}", self.seed);
    }

    fn history(&mut self, history_ms: &std::ops::RangeInclusive<i64>) -> crate::model::Samples {
        let range_s = (history_ms.end() - history_ms.start()) / 1000 + 1;
        let after_ms = history_ms.end() - self.now.wall_ms;
        by_name(&self.samples(&format!("{{__name__=~\"m.*\"}}[{range_s}s]"), after_ms))
    }
}
