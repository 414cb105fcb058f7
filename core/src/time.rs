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
}
