//! Exponential back-off with jitter, for everything that is sent until it is acknowledged.

use crate::prng::Prng;

#[derive(Clone, Debug)]
pub struct Backoff {
    min_ms: u64,
    max_ms: u64,
    next_ms: u64,
}

impl Backoff {
    pub const fn new(min_ms: u64, max_ms: u64) -> Self {
        Self { min_ms, max_ms, next_ms: min_ms }
    }

    /// What to wait after one more failure: between half of and the whole step, the step doubling up to `max_ms`.
    /// A peer's `Retry-After` wins when it is longer.
    pub fn failed(&mut self, prng: &mut Prng, retry_after_ms: Option<u64>) -> u64 {
        let step = self.next_ms.max(1);
        self.next_ms = step.saturating_mul(2).min(self.max_ms);
        let jittered = step / 2 + prng.below(step / 2 + 1);
        jittered.max(retry_after_ms.unwrap_or(0))
    }

    pub fn succeeded(&mut self) {
        self.next_ms = self.min_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_maximum_and_start_over_after_success() {
        let (mut backoff, mut prng) = (Backoff::new(30, 5_000), Prng::new(1));
        let waits: alloc::vec::Vec<u64> = (0..12).map(|_| backoff.failed(&mut prng, None)).collect();
        assert!((15..=30).contains(&waits[0]) && (2_500..=5_000).contains(&waits[11]));
        backoff.succeeded();
        assert!(backoff.failed(&mut prng, None) <= 30);
        assert_eq!(backoff.failed(&mut prng, Some(9_000)), 9_000);
    }
}
