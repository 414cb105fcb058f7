//! Quantiles and fractions of classic histograms, whose buckets are cumulative counts.

use crate::math::compare_nan_first;
use alloc::vec::Vec;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub upper_bound: f64,
    /// Observations at or below the bound.
    pub count: f64,
}

/// Counts closer than this, relative to their sum, differ by arithmetic only.
const TOLERANCE: f64 = 1e-12;

/// The φ-quantile, interpolated within its bucket; whether counts had to be raised because they fell from one bucket to
/// the next (torn scrapes). Buckets are sorted and changed. NaN without a `+Inf` bucket, with only one, or empty.
pub fn bucket_quantile(scalars: &[f64], buckets: &mut Vec<Bucket>) -> (f64, bool) {
    let phi = scalars[0];
    if phi.is_nan() {
        return (f64::NAN, false);
    }
    if phi < 0.0 {
        return (f64::NEG_INFINITY, false);
    }
    if phi > 1.0 {
        return (f64::INFINITY, false);
    }
    if !sort_buckets(buckets) {
        return (f64::NAN, false);
    }
    let forced = make_monotonic(buckets);
    if buckets.len() < 2 {
        return (f64::NAN, forced);
    }
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if observations == 0.0 {
        return (f64::NAN, forced);
    }
    let mut rank = phi * observations;
    let index = buckets[..last].partition_point(|bucket| bucket.count < rank || (bucket.count - rank).is_nan());
    if index == last {
        return (buckets[last - 1].upper_bound, forced);
    }
    let (end, mut count) = (buckets[index].upper_bound, buckets[index].count);
    if index == 0 && end <= 0.0 {
        return (end, forced);
    }
    let mut start = 0.0;
    if index > 0 {
        let below = buckets[index - 1];
        start = below.upper_bound;
        count -= below.count;
        rank -= below.count;
    }
    (start + (end - start) * (rank / count), forced)
}

/// The share of observations between the first and the second scalar, interpolated within their buckets. NaN without a
/// `+Inf` bucket or observations, 0 where the bounds cross.
pub fn bucket_fraction(scalars: &[f64], buckets: &mut Vec<Bucket>) -> (f64, bool) {
    let (lower, upper) = (scalars[0], scalars[1]);
    let count = if sort_buckets(buckets) { buckets.last().map_or(0.0, |last| last.count) } else { 0.0 };
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, false);
    }
    if lower >= upper {
        return (0.0, false);
    }
    ((rank_of(upper, buckets, count) - rank_of(lower, buckets, count)) / count, false)
}

/// How many observations lie below `value`.
fn rank_of(value: f64, buckets: &[Bucket], count: f64) -> f64 {
    // The first bucket begins at zero, unless it ends there or before.
    let starts_at_zero = buckets.first().is_some_and(|first| first.upper_bound > 0.0);
    let (mut rank, mut start) = (0.0, if starts_at_zero { 0.0 } else { f64::NEG_INFINITY });
    for bucket in buckets {
        if start >= value {
            return f64::min(rank, count);
        }
        if bucket.upper_bound > value {
            let rank = if start == f64::NEG_INFINITY {
                bucket.count
            } else if bucket.upper_bound == f64::INFINITY {
                rank
            } else {
                rank + (bucket.count - rank) * (value - start) / (bucket.upper_bound - start)
            };
            return f64::min(rank, count);
        }
        (rank, start) = (bucket.count, bucket.upper_bound);
    }
    count
}

/// Sorts, and makes one bucket of those whose same bound is written in two ways (`1` and `1.0`). False when the last is
/// not `+Inf`.
fn sort_buckets(buckets: &mut Vec<Bucket>) -> bool {
    buckets.sort_by(|a, b| compare_nan_first(a.upper_bound, b.upper_bound));
    if buckets.last().is_none_or(|last| last.upper_bound != f64::INFINITY) {
        return false;
    }
    buckets.dedup_by(|next, kept| {
        let same = next.upper_bound == kept.upper_bound;
        if same {
            kept.count += next.count;
        }
        same
    });
    true
}

fn make_monotonic(buckets: &mut [Bucket]) -> bool {
    let mut forced = false;
    let Some(mut before) = buckets.first().map(|bucket| bucket.count) else { return false };
    for bucket in &mut buckets[1..] {
        if bucket.count == before {
        } else if almost_equal(before, bucket.count) {
            bucket.count = before;
        } else if bucket.count < before {
            bucket.count = before;
            forced = true;
        } else {
            before = bucket.count;
        }
    }
    forced
}

fn almost_equal(a: f64, b: f64) -> bool {
    let (sum, difference) = (libm::fabs(a) + libm::fabs(b), libm::fabs(a - b));
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        difference < TOLERANCE * f64::MIN_POSITIVE
    } else {
        difference / sum.min(f64::MAX) < TOLERANCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(phi: f64, buckets: &[(f64, f64)], expected: f64, forced: bool) {
        let mut buckets = buckets.iter().map(|&(upper_bound, count)| Bucket { upper_bound, count }).collect();
        let (found, was_forced) = bucket_quantile(&[phi], &mut buckets);
        assert!(found == expected || (found.is_nan() && expected.is_nan()), "{phi}: {found}, not {expected}");
        assert_eq!(was_forced, forced);
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let buckets = [(f64::INFINITY, 10.0), (1.0, 4.0), (2.0, 8.0)];
        check(0.0, &buckets, 0.0, false);
        check(0.2, &buckets, 0.5, false);
        check(0.4, &buckets, 1.0, false);
        check(0.6, &buckets, 1.5, false);
        check(0.9, &buckets, 2.0, false);
        check(-0.1, &buckets, f64::NEG_INFINITY, false);
        check(1.1, &buckets, f64::INFINITY, false);
        check(f64::NAN, &buckets, f64::NAN, false);
    }

    #[test]
    fn fractions_take_the_part_of_each_bucket_between_the_bounds() {
        let check = |lower: f64, upper: f64, expected: f64| {
            let bounds = [(1.0, 4.0), (2.0, 8.0), (f64::INFINITY, 10.0)];
            let mut buckets = bounds.iter().map(|&(upper_bound, count)| Bucket { upper_bound, count }).collect();
            let found = bucket_fraction(&[lower, upper], &mut buckets).0;
            assert!(found == expected || (found.is_nan() && expected.is_nan()), "{lower}..{upper}: {found}");
        };
        check(0.0, 1.0, 0.4);
        check(0.5, 1.5, 0.4);
        check(f64::NEG_INFINITY, f64::INFINITY, 1.0);
        check(2.0, 100.0, 0.0);
        check(1.0, 1.0, 0.0);
        check(f64::NAN, 1.0, f64::NAN);
        assert!(bucket_fraction(&[0.0, 1.0], &mut Vec::new()).0.is_nan());
    }

    #[test]
    fn torn_and_incomplete_histograms_are_told() {
        check(0.5, &[], f64::NAN, false);
        check(0.5, &[(1.0, 1.0), (2.0, 2.0)], f64::NAN, false);
        check(0.5, &[(f64::INFINITY, 2.0)], f64::NAN, false);
        check(0.5, &[(1.0, 0.0), (f64::INFINITY, 0.0)], f64::NAN, false);
        check(0.5, &[(1.0, 4.0), (2.0, 3.0), (f64::INFINITY, 8.0)], 1.0, true);
        check(0.5, &[(1.0, 4.0), (2.0, 4.0 - 1e-13), (f64::INFINITY, 8.0)], 1.0, false);
        check(0.5, &[(-1.0, 4.0), (2.0, 5.0), (f64::INFINITY, 6.0)], -1.0, false);
    }
}
