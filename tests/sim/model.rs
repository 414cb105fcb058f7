//! What must be true at the end, kept as plainly as possible: every scrape that was stored, and how sure that is.

use std::collections::{BTreeMap, BTreeSet};

/// One good scrape: exporter, its page's number, and whether a power cut may have taken it.
#[derive(Clone, Debug)]
pub struct Scrape {
    pub exporter: usize,
    pub page: u64,
    /// When it was asked for: the wall clock's reading then is the timestamp of its samples.
    pub t_ms: i64,
    /// For how long processes had run by then, all together.
    pub up_ms: u64,
    pub may_be_lost: bool,
    /// A sync that began after this scrape was stored has come through.
    pub durable: bool,
}

#[derive(Default)]
pub struct Model {
    pub scrapes: Vec<Scrape>,
}

impl Model {
    pub fn stored(&mut self, exporter: usize, page: u64, t_ms: i64, up_ms: u64) {
        self.scrapes.push(Scrape { exporter, page, t_ms, up_ms, may_be_lost: false, durable: false });
    }

    /// The first `count` scrapes are on the medium.
    pub fn durable(&mut self, count: usize) {
        for scrape in &mut self.scrapes[..count] {
            scrape.durable = true;
        }
    }

    /// What is not durable may be gone; where the disk has worked, none of it may be older than this.
    pub fn power_cut(&mut self, seed: u64, durable_up_ms: Option<u64>) {
        for scrape in self.scrapes.iter_mut().filter(|scrape| !scrape.durable && !scrape.may_be_lost) {
            let is_new = durable_up_ms.is_none_or(|durable_up_ms| scrape.up_ms >= durable_up_ms);
            assert!(is_new, "seed {seed}: {scrape:?} is not on the disk, and from before {durable_up_ms:?}");
            scrape.may_be_lost = true;
        }
    }

    /// Holds what was read from the store between two instants, by series, to what was served.
    pub fn check(
        &self,
        seed: u64,
        found: &BTreeMap<String, Vec<(i64, f64)>>,
        between_ms: std::ops::RangeInclusive<i64>,
        clock_jumped: bool,
    ) {
        let mut pages: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for (series, samples) in found {
            for (t_ms, value) in samples {
                let page = super::network::page_of(series, *value).unwrap_or_else(|| {
                    panic!("seed {seed}: {series} has {value} at {t_ms}, which no exporter ever served")
                });
                assert!(
                    pages.entry(series.clone()).or_default().insert(page),
                    "seed {seed}: {series} has page {page} twice"
                );
            }
            if !clock_jumped {
                let ascending = samples.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
                assert!(ascending, "seed {seed}: {series} is out of order: {samples:?}");
            }
        }
        for scrape in self.scrapes.iter().filter(|scrape| between_ms.contains(&scrape.t_ms)) {
            // Scrapes keep their place in the interval, so a clock that was set back comes by the same instants again. A
            // series has one sample at each.
            let is_doubled = clock_jumped
                && self.scrapes.iter().any(|other| {
                    other.page != scrape.page && (other.exporter, other.t_ms) == (scrape.exporter, scrape.t_ms)
                });
            for series in super::network::series_of(scrape.exporter, scrape.page) {
                let is_there = pages.get(&series).is_some_and(|pages| pages.contains(&scrape.page));
                let may_lack = scrape.may_be_lost || is_doubled;
                assert!(is_there || may_lack, "seed {seed}: {series} lacks page {}: {scrape:?}", scrape.page);
            }
        }
        for (series, samples) in found {
            for (t_ms, value) in samples {
                let served = self.scrapes.iter().any(|scrape| {
                    scrape.t_ms == *t_ms
                        && super::network::page_of(series, *value) == Some(scrape.page)
                        && super::network::series_of(scrape.exporter, scrape.page).contains(series)
                });
                assert!(served, "seed {seed}: {series} is {value} at {t_ms}, where no scrape was stored");
            }
        }
    }
}
