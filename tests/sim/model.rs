//! What must be true at the end, kept as plainly as possible: every row that was stored, and how sure that is.

use crate::network::{self, SOURCES};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::{Bound, RangeBounds, RangeInclusive},
};

/// How far back a query looks for a sample.
pub const LOOKBACK_MS: i64 = 300_000;

/// Samples by series (see [`network::key`]): instant and value, ascending by instant.
pub type Samples = BTreeMap<String, Vec<(i64, f64)>>;

/// What a row says of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The page of this number was scraped.
    Page(u64),
    /// The scrape failed: every series ends.
    Failed,
    /// The target went by a reload: every series ends, and those of `up` too.
    Gone,
}

/// One row: a scrape, or the end of a target.
#[derive(Clone, Debug)]
pub struct Row {
    pub source: usize,
    pub outcome: Outcome,
    /// When it was asked for: the wall clock's reading then is the timestamp of its samples.
    pub t_ms: i64,
    /// For how long processes had run by then, all together.
    pub up_ms: u64,
    /// Power cuts before it.
    pub cuts: u64,
    pub may_be_lost: bool,
}

#[derive(Default)]
pub struct Model {
    pub rows: Vec<Row>,
    /// The rows before this one are on the medium.
    durable_count: usize,
    cuts: u64,
    /// By source and instant. More than one only where the clock was set back.
    at: [BTreeMap<i64, Vec<usize>>; SOURCES],
    /// What the source's target has stored since the last power cut.
    since_cut: [Option<Newest>; SOURCES],
}

#[derive(Clone)]
struct Newest {
    outcome: Outcome,
    /// The series of all good scrapes.
    series: BTreeSet<&'static str>,
}

impl Model {
    pub fn stored(&mut self, source: usize, outcome: Outcome, t_ms: i64, up_ms: u64) {
        self.at[source].entry(t_ms).or_default().push(self.rows.len());
        self.rows.push(Row { source, outcome, t_ms, up_ms, cuts: self.cuts, may_be_lost: false });
        let newest = self.since_cut[source].get_or_insert(Newest { outcome, series: BTreeSet::new() });
        newest.outcome = outcome;
        match outcome {
            Outcome::Page(page) => newest.series.extend(network::series_of(source, page).map(|(_, series)| series)),
            Outcome::Failed => {}
            Outcome::Gone => self.since_cut[source] = None,
        }
    }

    /// The first `count` rows are on the medium.
    pub fn durable(&mut self, count: usize) {
        self.durable_count = self.durable_count.max(count);
    }

    /// What is not durable may be gone; where the disk has worked, none of it may be older than this.
    pub fn power_cut(&mut self, seed: u64, durable_up_ms: Option<u64>) {
        for row in self.rows[self.durable_count..].iter_mut().filter(|row| !row.may_be_lost) {
            let is_new = durable_up_ms.is_none_or(|durable_up_ms| row.up_ms >= durable_up_ms);
            assert!(is_new, "seed {seed}: {row:?} is not on the disk, and from before {durable_up_ms:?}");
            row.may_be_lost = true;
        }
        self.cuts += 1;
        self.since_cut = Default::default();
    }

    /// Whether the row of this index is on the medium.
    pub fn is_durable(&self, index: usize) -> bool {
        index < self.durable_count
    }

    pub fn scrapes(&self) -> usize {
        self.rows.iter().filter(|row| matches!(row.outcome, Outcome::Page(_))).count()
    }

    /// The series that end when this source's target goes now; empty where a power cut may have taken what they were.
    pub fn ending(&self, source: usize) -> Vec<&'static str> {
        match &self.since_cut[source] {
            Some(Newest { outcome: Outcome::Page(page), .. }) => {
                network::series_of(source, *page).map(|(_, series)| series).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether the store knows, from this source's rows since the last power cut, that this series was its.
    pub fn is_known(&self, series: &str) -> bool {
        let newest = network::place_of(series).and_then(|(source, _)| self.since_cut[source].as_ref());
        newest.is_some_and(|newest| newest.series.contains(series))
    }

    /// Holds what was read from the store between two instants, by name of series, to what was served.
    pub fn check(&self, seed: u64, found: &Samples, between_ms: RangeInclusive<i64>, clock_jumped: bool) {
        let mut by_place: BTreeMap<(usize, usize), &[(i64, f64)]> = BTreeMap::new();
        for (series, samples) in found {
            let place = network::place_of(series);
            let (source, index) = place.unwrap_or_else(|| panic!("seed {seed}: nobody serves {series}"));
            by_place.insert((source, index), samples);
            let mut pages = HashSet::new();
            for (t_ms, value) in samples {
                let page = network::page_of(series, *value).unwrap_or_else(|| {
                    panic!("seed {seed}: {series} has {value} at {t_ms}, which no exporter ever served")
                });
                assert!(!clock_jumped || pages.insert(page), "seed {seed}: {series} has page {page} twice");
                let served = network::is_on_page(index, page)
                    && self.rows_at(source, *t_ms).any(|row| row.outcome == Outcome::Page(page));
                assert!(served, "seed {seed}: {series} is {value} at {t_ms}, where no scrape was stored");
            }
            let ascending = samples.windows(2).all(|pair| pair[0].0 < pair[1].0);
            let rising = clock_jumped || samples.windows(2).all(|pair| pair[0].1 < pair[1].1);
            assert!(ascending && rising, "seed {seed}: {series} is out of order: {samples:?}");
        }
        for source in 0..SOURCES {
            for row in self.rows_between(source, between_ms.clone()) {
                let Outcome::Page(page) = row.outcome else { continue };
                // Scrapes keep their place in the interval, so a clock that was set back comes by the same instants
                // again. A series has one sample at each.
                if row.may_be_lost || clock_jumped && self.rows_at(source, row.t_ms).count() > 1 {
                    continue;
                }
                for (index, series) in network::series_of(source, page) {
                    let samples = by_place.get(&(source, index)).copied().unwrap_or_default();
                    // What is there at the instant was on the page: see above.
                    let is_there = samples.binary_search_by_key(&row.t_ms, |(t_ms, _)| *t_ms).is_ok();
                    assert!(is_there, "seed {seed}: {series} lacks page {page}: {row:?}");
                }
            }
        }
    }

    /// Holds the samples of `up`, by source, to what became of the scrapes. For clocks that never jumped.
    pub fn check_up(&self, seed: u64, found: &[Vec<(i64, f64)>; SOURCES], between_ms: RangeInclusive<i64>) {
        for (source, samples) in found.iter().enumerate() {
            let up_of = |row: &Row| match row.outcome {
                Outcome::Page(_) => Some(1.0),
                Outcome::Failed => Some(0.0),
                Outcome::Gone => None,
            };
            for (t_ms, value) in samples {
                let is_so = self.rows_at(source, *t_ms).any(|row| up_of(row) == Some(*value));
                assert!(is_so, "seed {seed}: up of {source} is {value} at {t_ms}, where no such scrape was stored");
            }
            for row in self.rows_between(source, between_ms.clone()).filter(|row| !row.may_be_lost) {
                let Some(up) = up_of(row) else { continue };
                let is_there = samples.contains(&(row.t_ms, up));
                assert!(is_there, "seed {seed}: up lacks {row:?}: {samples:?}");
            }
        }
    }

    /// Holds what a range query gave at each of `steps_ms` to the samples that the store has (already checked): the
    /// newest of the look-back, unless the series had ended by then. For clocks that never jumped.
    pub fn check_steps(&self, seed: u64, steps_ms: &[i64], given: &Samples, samples: &Samples) {
        let nothing = Vec::new();
        for series in given.keys().chain(samples.keys()).collect::<BTreeSet<_>>() {
            let place = network::place_of(series);
            let (source, index) = place.unwrap_or_else(|| panic!("seed {seed}: nobody serves {series}"));
            let (given, samples) = (given.get(series).unwrap_or(&nothing), samples.get(series).unwrap_or(&nothing));
            assert!(given.iter().all(|(t_ms, _)| steps_ms.contains(t_ms)), "seed {seed}: {series} beside the steps");
            for &step_ms in steps_ms {
                let value = given.iter().find(|(t_ms, _)| *t_ms == step_ms).map(|(_, value)| *value);
                let newest = samples.iter().rfind(|(t_ms, _)| *t_ms <= step_ms && *t_ms > step_ms - LOOKBACK_MS);
                let Some(&(t_ms, newest)) = newest else {
                    assert_eq!(value, None, "seed {seed}: {series} at {step_ms} without a sample");
                    continue;
                };
                let lacks = |row: &&Row| match row.outcome {
                    Outcome::Page(page) => !network::is_on_page(index, page),
                    Outcome::Failed | Outcome::Gone => true,
                };
                let mut ends = self
                    .rows_between(source, (Bound::Excluded(t_ms), Bound::Included(step_ms)))
                    .filter(lacks)
                    .peekable();
                match value {
                    None => {
                        assert!(ends.peek().is_some(), "seed {seed}: {series} at {step_ms} lacks {newest} of {t_ms}")
                    }
                    Some(value) => {
                        assert_eq!(value, newest, "seed {seed}: {series} at {step_ms}, newest of {t_ms}");
                        // After a power cut the store need not know what the row before had.
                        let cuts = self.rows_at(source, t_ms).map(|row| row.cuts).next();
                        let sure = ends.find(|row| !row.may_be_lost && Some(row.cuts) == cuts);
                        assert!(sure.is_none(), "seed {seed}: {series} at {step_ms} is of {t_ms}, and ended: {sure:?}");
                    }
                }
            }
        }
    }

    pub fn rows_at(&self, source: usize, t_ms: i64) -> impl Iterator<Item = &Row> {
        self.at[source].get(&t_ms).into_iter().flatten().map(|index| &self.rows[*index])
    }

    fn rows_between(&self, source: usize, between_ms: impl RangeBounds<i64>) -> impl Iterator<Item = &Row> {
        self.at[source].range(between_ms).flat_map(|(_, indices)| indices).map(|index| &self.rows[*index])
    }
}
