//! How a window of samples changed: rate and its relatives, and the regression line.

use super::Window;
use crate::{math::KahanSum, store::Sample};

pub fn rate(window: &Window<'_>) -> Option<f64> {
    extrapolated(window, true, true)
}

pub fn increase(window: &Window<'_>) -> Option<f64> {
    extrapolated(window, true, false)
}

pub fn delta(window: &Window<'_>) -> Option<f64> {
    extrapolated(window, false, false)
}

/// The change between the first and the last sample, extended towards the window's edges: to an edge that is nearer
/// than 1.1 average gaps, else by half a gap, and for a counter never beyond where it would have been zero.
fn extrapolated(window: &Window<'_>, is_counter: bool, per_second: bool) -> Option<f64> {
    let (first, last) = (window.samples.first()?, window.samples.last()?);
    if window.samples.len() < 2 {
        return None;
    }
    let mut change = last.value - first.value;
    if is_counter {
        // Where it fell it was reset: what it had before counts too.
        for pair in window.samples.windows(2) {
            if pair[1].value < pair[0].value {
                change += pair[0].value;
            }
        }
    }
    let mut to_start = first.t_ms.saturating_sub(window.start_ms) as f64 / 1000.0;
    let mut to_end = window.end_ms.saturating_sub(last.t_ms) as f64 / 1000.0;
    let sampled = last.t_ms.saturating_sub(first.t_ms) as f64 / 1000.0;
    let gap = sampled / (window.samples.len() - 1) as f64;
    let threshold = gap * 1.1;
    if to_start >= threshold {
        to_start = gap / 2.0;
    }
    if is_counter && change > 0.0 && first.value >= 0.0 {
        let to_zero = sampled * (first.value / change);
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    if to_end >= threshold {
        to_end = gap / 2.0;
    }
    let mut factor = (sampled + to_start + to_end) / sampled;
    if per_second {
        factor /= window.end_ms.saturating_sub(window.start_ms) as f64 / 1000.0;
    }
    Some(change * factor)
}

pub fn irate(window: &Window<'_>) -> Option<f64> {
    let [.., before, last] = window.samples else { return None };
    let change = if last.value < before.value { last.value } else { last.value - before.value };
    Some(change / (last.t_ms.saturating_sub(before.t_ms) as f64 / 1000.0))
}

pub fn idelta(window: &Window<'_>) -> Option<f64> {
    let [.., before, last] = window.samples else { return None };
    Some(last.value - before.value)
}

pub fn changes(window: &Window<'_>) -> Option<f64> {
    let differ =
        |pair: &&[Sample]| pair[0].value != pair[1].value && !(pair[0].value.is_nan() && pair[1].value.is_nan());
    window.samples.first()?;
    Some(window.samples.windows(2).filter(differ).count() as f64)
}

pub fn resets(window: &Window<'_>) -> Option<f64> {
    window.samples.first()?;
    Some(window.samples.windows(2).filter(|pair| pair[1].value < pair[0].value).count() as f64)
}

pub fn deriv(window: &Window<'_>) -> Option<f64> {
    Some(regression(window.samples, window.samples.first()?.t_ms)?.0)
}

pub fn predict_linear(window: &Window<'_>) -> Option<f64> {
    let (slope, intercept) = regression(window.samples, window.at_ms)?;
    Some(slope * window.scalars[0] + intercept)
}

/// Slope per second and value at `origin_ms` of the least-squares line through two or more samples.
fn regression(samples: &[Sample], origin_ms: i64) -> Option<(f64, f64)> {
    if samples.len() < 2 {
        return None;
    }
    let first = samples[0].value;
    if samples.iter().all(|sample| sample.value == first) {
        return Some(if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) });
    }
    let [mut x_sum, mut y_sum, mut xy_sum, mut xx_sum] = [KahanSum::default(); 4];
    for sample in samples {
        let x = sample.t_ms.saturating_sub(origin_ms) as f64 / 1000.0;
        x_sum.add(x);
        y_sum.add(sample.value);
        xy_sum.add(x * sample.value);
        xx_sum.add(x * x);
    }
    let (count, x, y) = (samples.len() as f64, x_sum.total(), y_sum.total());
    let covariance = xy_sum.total() - x * y / count;
    let variance = xx_sum.total() - x * x / count;
    let slope = covariance / variance;
    Some((slope, y / count - slope * x / count))
}
