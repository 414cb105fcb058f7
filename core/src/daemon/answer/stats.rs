//! The answer to `status/tsdb`: which names, labels and values have the most series.
//!
//! Counted over what one selection of every series in memory gives, charged like a query's; where that does not fit, the
//! lists are empty and a warning says so.

use super::Bite;
use crate::{
    api::{ApiError, Json},
    labels::{LabelSet, LabelsBuf, NAME},
    promql::source::Selection,
};
use alloc::{string::String, vec::Vec};

const NOT_COUNTED: &str =
    "the lists are empty: to count all series would take more memory than is free for queries; raise --memory.limit";

/// What the store knows without counting, and what is asked for.
pub struct Stats {
    pub series_count: u64,
    pub sample_count: u64,
    /// Of the rows in memory, wall milliseconds.
    pub oldest_ms: i64,
    pub newest_ms: i64,
    /// Series with samples from here on are counted.
    pub start_ms: i64,
    /// Rows per list.
    pub limit: usize,
}

#[derive(Default)]
struct Lists {
    by_metric: Vec<(String, u64)>,
    values_by_label: Vec<(String, u64)>,
    bytes_by_label: Vec<(String, u64)>,
    by_pair: Vec<(String, u64)>,
    pair_count: u64,
}

pub struct StatsWork {
    stats: Stats,
    selection: Selection,
}

impl StatsWork {
    pub fn new(stats: Stats) -> Self {
        Self { selection: Selection::new(Vec::new(), stats.start_ms, i64::MAX), stats }
    }

    pub fn bytes(&self) -> usize {
        self.selection.bytes()
    }

    /// Selects in bites; what is selected is counted in one, since no more than fits is.
    pub fn bite(&mut self, bite: &mut Bite<'_>) -> Result<bool, ApiError> {
        let lists = match bite.select(&mut self.selection, &mut None, 0) {
            Ok(false) => return Ok(false),
            Ok(true) => self.count(bite),
            Err(_) => None,
        };
        let mut json = Json::default();
        json.object(|json| {
            json.key("status").text("success");
            json.key("data").object(|json| self.write(json, lists.as_ref().unwrap_or(&Lists::default())));
            if lists.is_none() {
                json.key("warnings").array(|json| {
                    json.text(NOT_COUNTED);
                });
            }
        });
        bite.give(&mut json);
        Ok(true)
    }

    fn count(&self, bite: &mut Bite<'_>) -> Option<Lists> {
        let (sets, count) = self.labels(bite)?;
        let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(count);
        pairs.extend(sets.iter().flat_map(|labels| labels.iter()));
        pairs.sort_unstable();
        let mut lists = Lists::default();
        for label in pairs.chunk_by(|a, b| a.0 == b.0) {
            let (name, mut value_count) = (label[0].0, 0);
            for pair in label.chunk_by(|a, b| a.1 == b.1) {
                let (value, series_count) = (pair[0].1, pair.len() as u64);
                value_count += 1;
                if name == NAME {
                    top(&mut lists.by_metric, self.stats.limit, series_count, &[value]);
                }
                top(&mut lists.by_pair, self.stats.limit, series_count, &[name, "=", value]);
            }
            lists.pair_count += value_count;
            // Name, value and two bytes of each series that has the label, as Prometheus 3.5 counts them.
            let value_bytes = label.iter().map(|(name, value)| (name.len() + value.len() + 2) as u64).sum();
            top(&mut lists.values_by_label, self.stats.limit, value_count, &[name]);
            top(&mut lists.bytes_by_label, self.stats.limit, value_bytes, &[name]);
        }
        Some(lists)
    }

    /// The labels of all series, and how many pairs they have; `None` when that does not fit.
    fn labels(&self, bite: &mut Bite<'_>) -> Option<(Vec<LabelSet>, usize)> {
        let selection = &self.selection;
        let (mut sets, mut buf, mut pair_count) = (Vec::new(), LabelsBuf::default(), 0);
        let mut bytes = selection.bytes() + selection.series.len() * size_of::<LabelSet>();
        if bytes > bite.bytes_max {
            return None;
        }
        sets.reserve_exact(selection.series.len());
        for index in 0..selection.series.len() {
            bite.source.labels(selection, index, &mut buf).ok()?;
            let labels = buf.as_ref();
            pair_count += labels.len();
            bytes += labels.as_bytes().len() + labels.len() * size_of::<(&str, &str)>();
            if bytes > bite.bytes_max {
                return None;
            }
            sets.push(LabelSet::from(labels));
        }
        Some((sets, pair_count))
    }

    fn write(&self, json: &mut Json, lists: &Lists) {
        let stats = &self.stats;
        json.key("headStats").object(|json| {
            json.key("numSeries").plain(stats.series_count);
            json.key("numLabelPairs").plain(lists.pair_count);
            json.key("numSamples").plain(stats.sample_count);
            json.key("minTime").plain(stats.oldest_ms);
            json.key("maxTime").plain(stats.newest_ms);
        });
        for (key, list) in [
            ("seriesCountByMetricName", &lists.by_metric),
            ("labelValueCountByLabelName", &lists.values_by_label),
            ("memoryInBytesByLabelName", &lists.bytes_by_label),
            ("seriesCountByLabelValuePair", &lists.by_pair),
        ] {
            json.key(key).array(|json| {
                for (name, value) in list {
                    json.object(|json| {
                        json.key("name").text(name);
                        json.key("value").plain(value);
                    });
                }
            });
        }
    }
}

/// Keeps the largest, largest first; of equals the first come.
fn top(list: &mut Vec<(String, u64)>, count_max: usize, value: u64, name: &[&str]) {
    let at = list.partition_point(|(_, known)| *known >= value);
    if at < count_max {
        list.truncate(count_max - 1);
        list.insert(at, (name.concat(), value));
    }
}
