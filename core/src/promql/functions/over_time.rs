//! One value out of a window of samples.

use super::Window;
use crate::math::{KahanSum, RunningMean, quantile};
use alloc::vec::Vec;

pub fn sum(window: &Window<'_>) -> Option<f64> {
    let mut sum = KahanSum::default();
    window.samples.first()?;
    window.samples.iter().for_each(|sample| sum.add(sample.value));
    Some(sum.total())
}

pub fn avg(window: &Window<'_>) -> Option<f64> {
    let mut mean = RunningMean::default();
    window.samples.first()?;
    window.samples.iter().for_each(|sample| mean.add(sample.value));
    Some(mean.mean())
}

/// NaN only where all are.
pub fn min(window: &Window<'_>) -> Option<f64> {
    let first = window.samples.first()?.value;
    Some(window.samples.iter().fold(first, |least, s| if s.value < least || least.is_nan() { s.value } else { least }))
}

/// NaN only where all are.
pub fn max(window: &Window<'_>) -> Option<f64> {
    let first = window.samples.first()?.value;
    Some(window.samples.iter().fold(first, |most, s| if s.value > most || most.is_nan() { s.value } else { most }))
}

pub fn count(window: &Window<'_>) -> Option<f64> {
    window.samples.first().map(|_| window.samples.len() as f64)
}

pub fn first(window: &Window<'_>) -> Option<f64> {
    window.samples.first().map(|sample| sample.value)
}

pub fn last(window: &Window<'_>) -> Option<f64> {
    window.samples.last().map(|sample| sample.value)
}

pub fn present(window: &Window<'_>) -> Option<f64> {
    window.samples.first().map(|_| 1.0)
}

pub fn stdvar(window: &Window<'_>) -> Option<f64> {
    let (mut count, mut mean, mut squares) = (0.0, KahanSum::default(), KahanSum::default());
    window.samples.first()?;
    for sample in window.samples {
        count += 1.0;
        let difference = sample.value - mean.total();
        mean.add(difference / count);
        squares.add(difference * (sample.value - mean.total()));
    }
    Some(squares.total() / count)
}

pub fn stddev(window: &Window<'_>) -> Option<f64> {
    stdvar(window).map(libm::sqrt)
}

pub fn quantile_over_time(window: &Window<'_>) -> Option<f64> {
    window.samples.first()?;
    Some(quantile(window.scalars[0], &mut values(window)))
}

/// The median distance from the median.
pub fn mad(window: &Window<'_>) -> Option<f64> {
    window.samples.first()?;
    let mut values = values(window);
    let median = quantile(0.5, &mut values);
    values.iter_mut().for_each(|value| *value = libm::fabs(*value - median));
    Some(quantile(0.5, &mut values))
}

/// A copy to sort: as large as the window, which the query's meter already holds twice over for these functions.
fn values(window: &Window<'_>) -> Vec<f64> {
    window.samples.iter().map(|sample| sample.value).collect()
}
