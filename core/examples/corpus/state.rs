//! What series cost in RAM beside their packed samples: labels with their index, and the state of columns.

use crate::{
    replay::{IDENTITY, in_order_of_time, plan, put_row},
    series::Target,
};
use holdfast_core::{
    labels::{LabelSet, LabelsBuilder},
    memory::Plan,
    store::{RegionName, Store, TimelineKey, Usage},
};
use std::collections::BTreeSet;

/// Bytes of labels in the slab, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelBytes {
    pub series: u64,
    /// The texts alone, each once: the least that symbols can take uncompressed.
    pub texts: u64,
    /// The texts in their cells.
    pub symbols: u64,
    /// Which texts a series has.
    pub pairs: u64,
    /// Series records and the two hash tables' buckets.
    pub index: u64,
}

impl LabelBytes {
    pub fn all(self) -> u64 {
        self.symbols + self.pairs + self.index
    }
}

/// Bytes of the regions that hold a number of series and their rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateBytes {
    pub series: u64,
    pub rows: u64,
    pub samples: u64,
    /// Timelines, layouts and their columns.
    pub layouts: u64,
    /// Pages of the newest rows.
    pub raw_rows: u64,
    /// Packed chunks.
    pub ring: u64,
    /// Labels with their index, as above.
    pub labels: u64,
}

impl StateBytes {
    /// Columns with their state, without labels.
    pub fn columns(self) -> u64 {
        self.layouts + self.raw_rows + self.ring
    }
}

/// Two pairs of symbol numbers lie in one cell (`store/symbols.rs`).
const PAIRS_PER_CELL: u64 = 2;
const CELL_BYTES: u64 = 16;
const BUCKETS_BYTES: u64 = 2 * 4;

/// The labels of every series of the targets, in one store.
pub fn label_bytes(targets: &[Target]) -> Result<LabelBytes, String> {
    let all: Vec<&LabelSet> = targets.iter().flat_map(|target| &target.series).map(|series| &series.labels).collect();
    let plan = plan(all.len(), 1 << 20)?;
    let mut slab = vec![0; plan.slab_bytes()];
    let mut store = Store::create(&mut slab, &plan, IDENTITY).map_err(|error| error.to_string())?;
    let refused = |refused: holdfast_core::store::Refused| refused.to_string();
    let timeline = store.timeline_open(TimelineKey(1)).map_err(refused)?;
    store.row_begin(timeline, 0).map_err(refused)?;
    for labels in &all {
        store.row_put(timeline, labels.as_ref(), 0, None).map_err(refused)?;
    }
    let usage = store.usage();
    let (series, cells) = (used(&usage, RegionName::Series), used(&usage, RegionName::LabelText));
    let pairs = all.iter().map(|labels| (labels.iter().count() as u64).div_ceil(PAIRS_PER_CELL) * CELL_BYTES).sum();
    let texts: BTreeSet<&str> =
        all.iter().flat_map(|labels| labels.iter()).flat_map(|(name, value)| [name, value]).collect();
    let texts = texts.iter().map(|text| text.len() as u64).sum();
    Ok(LabelBytes { series, texts, symbols: cells - pairs, pairs, index: index_bytes(&plan, series) })
}

/// The first `series_max` series of the targets under as many instances as that takes, over `rows` rows.
pub fn state_bytes(targets: &[Target], series_max: usize, rows: usize) -> Result<StateBytes, String> {
    let samples_max = series_max * rows;
    let plan = plan(series_max, samples_max * 2 + (4 << 20))?;
    let mut slab = vec![0; plan.slab_bytes()];
    let mut store = Store::create(&mut slab, &plan, IDENTITY).map_err(|error| error.to_string())?;
    let mut series_left = series_max;
    let mut samples = 0;
    for instance in 0_u64.. {
        if series_left == 0 {
            break;
        }
        let before = series_left;
        // Series that come later in the recording wait for the next instance when there is room for no more.
        let mut labels: Vec<Vec<Option<LabelSet>>> = targets.iter().map(|of| vec![None; of.series.len()]).collect();
        let mut rows_left = vec![rows; targets.len()];
        let mut timelines = Vec::new();
        for target in 0..targets.len() as u64 {
            let key = TimelineKey(1 + instance * targets.len() as u64 + target);
            timelines.push(store.timeline_open(key).map_err(|refused| refused.to_string())?);
        }
        for (target, row) in in_order_of_time(targets, 1) {
            if rows_left[target] == 0 {
                continue;
            }
            rows_left[target] -= 1;
            for sample in &row.samples {
                let labels = &mut labels[target][sample.series];
                if labels.is_none() && series_left > 0 {
                    series_left -= 1;
                    let mut builder = LabelsBuilder::from_labels(targets[target].series[sample.series].labels.as_ref());
                    *labels =
                        Some(builder.set("instance", &format!("{}-{instance}:9100", targets[target].name)).build());
                }
                samples += u64::from(labels.is_some());
            }
            put_row(&mut store, timelines[target], row, |index| labels[target][index].as_ref())?;
        }
        if series_left == before {
            return Err(String::from("the recordings hold no series; name a folder with others"));
        }
    }
    let usage = store.usage();
    if usage.counters.evicted_rows > 0 {
        return Err(format!("{} rows were evicted before they were measured", usage.counters.evicted_rows));
    }
    let share = |region: RegionName| {
        let usage = usage.regions.iter().find(|usage| usage.region == region);
        usage.map_or(0, |usage| (usage.bytes * usage.used).div_ceil(usage.total.max(1)))
    };
    let series = used(&usage, RegionName::Series);
    Ok(StateBytes {
        series,
        rows: rows as u64,
        samples,
        layouts: share(RegionName::Timelines) + share(RegionName::Layouts) + share(RegionName::LayoutColumns),
        raw_rows: share(RegionName::RawRows),
        ring: used(&usage, RegionName::Ring),
        labels: used(&usage, RegionName::LabelText) + index_bytes(&plan, series),
    })
}

/// In the region's own units.
fn used(usage: &Usage, region: RegionName) -> u64 {
    usage.regions.iter().find(|usage| usage.region == region).map_or(0, |usage| usage.used)
}

/// Of a plan for just these series: their records and one bucket each in both tables.
fn index_bytes(plan: &Plan, series: u64) -> u64 {
    let buckets_bytes = u64::from(plan.series_count) * (BUCKETS_BYTES / 2);
    let record_bytes = (plan.region_bytes(RegionName::Series) - buckets_bytes) / u64::from(plan.series_count);
    series * (record_bytes + BUCKETS_BYTES)
}
