//! Arithmetic that several parts must do in exactly one way: compensated sums, running means, quantiles.
//!
//! All of it follows Prometheus' engine (promql/functions.go, promql/quantile.go), so that answers agree to the last bit
//! where the C library's functions do.

use core::cmp::Ordering;

/// A sum with Neumaier's compensation: the error of each addition is kept and added at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KahanSum {
    pub sum: f64,
    pub compensation: f64,
}

impl KahanSum {
    pub fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.compensation = 0.0;
        } else if libm::fabs(self.sum) >= libm::fabs(value) {
            self.compensation += (self.sum - total) + value;
        } else {
            self.compensation += (value - total) + self.sum;
        }
        self.sum = total;
    }

    pub fn total(self) -> f64 {
        self.sum + self.compensation
    }
}

/// A mean that sums until the sum would overflow, and is then carried on value by value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunningMean {
    /// The sum, or in incremental mode the mean.
    state: KahanSum,
    count: f64,
    incremental: bool,
}

impl RunningMean {
    pub fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let mut next = self.state;
            next.add(value);
            if self.count == 1.0 || !next.sum.is_infinite() {
                self.state = next;
                return;
            }
            self.incremental = true;
            self.state.sum /= self.count - 1.0;
            self.state.compensation /= self.count - 1.0;
        }
        let mean = self.state.sum;
        // An infinite mean stays unless something of the other sign, or no number, comes along.
        if mean.is_infinite() && ((value.is_infinite() && (mean > 0.0) == (value > 0.0)) || value.is_finite()) {
            return;
        }
        let keep = (self.count - 1.0) / self.count;
        self.state = KahanSum { sum: keep * mean, compensation: keep * self.state.compensation };
        self.state.add(value / self.count);
    }

    pub fn count(self) -> f64 {
        self.count
    }

    /// NaN when nothing was added.
    pub fn mean(self) -> f64 {
        if self.incremental {
            self.state.total()
        } else {
            self.state.sum / self.count + self.state.compensation / self.count
        }
    }
}

/// Ascending, with NaN below everything.
pub fn compare_nan_first(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// The φ-quantile of `values`, which get sorted, with linear interpolation between neighbours. NaN for no values or a
/// NaN φ, -Inf below 0, +Inf above 1.
pub fn quantile(phi: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || phi.is_nan() {
        return f64::NAN;
    }
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(|a, b| compare_nan_first(*a, *b));
    let rank = phi * (values.len() as f64 - 1.0);
    let lower = libm::floor(rank);
    let upper = (lower as usize + 1).min(values.len() - 1);
    let weight = rank - lower;
    values[lower as usize] * (1.0 - weight) + values[upper] * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_survive_beside_large_ones() {
        let mut sum = KahanSum::default();
        for value in [1.0, 1e100, 1.0, -1e100] {
            sum.add(value);
        }
        assert_eq!(sum.total(), 2.0);
    }

    #[test]
    fn a_mean_of_numbers_whose_sum_overflows_is_still_their_mean() {
        let mut mean = RunningMean::default();
        for _ in 0..3 {
            mean.add(f64::MAX / 1.5);
        }
        assert!(libm::fabs(mean.mean() / (f64::MAX / 1.5) - 1.0) < 1e-12);
        mean.add(f64::INFINITY);
        assert_eq!(mean.mean(), f64::INFINITY);
        mean.add(1.0);
        assert_eq!(mean.mean(), f64::INFINITY);
        mean.add(f64::NEG_INFINITY);
        assert!(mean.mean().is_nan());
        assert!(RunningMean::default().mean().is_nan());
    }

    #[test]
    fn quantiles_interpolate_and_have_edges() {
        let check = |phi: f64, values: &[f64], expected: f64| {
            let found = quantile(phi, &mut values.to_vec());
            assert!(found == expected || (found.is_nan() && expected.is_nan()), "{phi} of {values:?}: {found}");
        };
        check(0.5, &[], f64::NAN);
        check(f64::NAN, &[1.0], f64::NAN);
        check(-0.1, &[1.0], f64::NEG_INFINITY);
        check(1.1, &[1.0], f64::INFINITY);
        check(0.0, &[3.0, 1.0, 2.0], 1.0);
        check(1.0, &[3.0, 1.0, 2.0], 3.0);
        check(0.75, &[0.0, 2.0, 1.0], 1.5);
        check(0.0, &[1.0, f64::NAN], f64::NAN);
    }
}
