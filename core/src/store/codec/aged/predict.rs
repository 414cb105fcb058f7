//! What the next step of a column is guessed to be.

/// How steps are guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predictor {
    /// No step: the value before.
    Last = 0,
    /// The mean of the last steps: counters at a steady rate.
    Rate = 1,
    /// Back to the mean of the last values: noise around a level.
    Level = 2,
    /// Back to the least value so far: durations, sizes.
    Floor = 3,
}

impl Predictor {
    pub const ALL: [Self; 4] = [Self::Last, Self::Rate, Self::Level, Self::Floor];
}

/// A mean goes so far back: each new one counts 1/8.
const SEEN_MAX: usize = 8;

/// 1/65536 divided by the index.
const PARTS: [i64; SEEN_MAX + 2] = [65_536, 65_536, 32_768, 21_845, 16_384, 13_107, 10_922, 9_362, 8_192, 7_281];

/// The guess for a step, and what it learns from. Means and levels are in 1/256; all arithmetic wraps.
pub struct Guess {
    predictor: Predictor,
    /// Or the least level.
    mean: i64,
    /// The sum of the steps.
    level: i64,
    seen: usize,
}

impl Guess {
    pub const fn new(predictor: Predictor) -> Self {
        Self { predictor, mean: 0, level: 0, seen: 0 }
    }

    #[inline(always)]
    pub fn step(&self) -> i64 {
        match self.predictor {
            Predictor::Last => 0,
            Predictor::Rate => self.mean.wrapping_add(128) >> 8,
            Predictor::Level | Predictor::Floor => self.mean.wrapping_sub(self.level).wrapping_add(128) >> 8,
        }
    }

    #[inline(always)]
    pub fn learn(&mut self, step: i64) {
        let step = step.wrapping_shl(8);
        self.seen = SEEN_MAX.min(self.seen + 1);
        match self.predictor {
            Predictor::Last => {}
            Predictor::Rate => {
                self.mean = self.mean.wrapping_add(part(step.wrapping_sub(self.mean), self.seen));
            }
            Predictor::Level => {
                self.level = self.level.wrapping_add(step);
                self.mean = self.mean.wrapping_add(part(self.level.wrapping_sub(self.mean), self.seen + 1));
            }
            Predictor::Floor => {
                self.level = self.level.wrapping_add(step);
                self.mean = self.mean.min(self.level);
            }
        }
    }
}

/// About `value` divided by `by`, which is at most one above [`SEEN_MAX`]; always the same on every machine.
#[inline(always)]
fn part(value: i64, by: usize) -> i64 {
    if value.unsigned_abs() < 1 << 46 { (value * PARTS[by]) >> 16 } else { (value >> 16).wrapping_mul(PARTS[by]) }
}
