//! What series cost in RAM beside their packed samples: labels with their index, and the state of columns.

use crate::{
    replay::{IDENTITY, in_order_of_time, plan, put_row},
    series::Target,
    speed::thread_seconds,
};
use holdfast_core::{
    labels::{LabelSet, LabelsBuilder, MatchOp, Matcher},
    memory::{Load, Plan},
    store::{RegionName, RegionUsage, Store, TimelineKey, Usage},
};
use std::collections::BTreeSet;

/// Bytes of labels in the slab, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelBytes {
    pub series: u64,
    /// The texts alone, each once: the least that symbols can take uncompressed.
    pub texts: u64,
    /// Texts and the sets of them, each once, in their records.
    pub heap: u64,
    /// What series are and the chains of those that have something in common, and the index from labels to series.
    pub series_records: u64,
    /// The whole bitmap and the buckets of a heap planned for just these series.
    pub heap_index: u64,
}

impl LabelBytes {
    pub fn all(self) -> u64 {
        self.heap + self.series_records + self.heap_index
    }

    /// Of a plan for just these series.
    fn of(plan: &Plan, usage: &Usage, texts: u64) -> Self {
        let heap = usage.regions.iter().find(|usage| usage.region == RegionName::LabelText);
        Self {
            series: used(usage, RegionName::Series),
            texts,
            heap: used(usage, RegionName::LabelText),
            series_records: plan.region_bytes(RegionName::Series),
            heap_index: heap.map_or(0, |heap| heap.bytes - heap.total),
        }
    }
}

/// Bytes of the regions that hold a number of series and their rows.
#[derive(Clone, Copy, Debug)]
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
    /// What `holdfast budget` says of columns with their state and labels, and what of them is used.
    pub budget_says: u64,
    pub budget_measured: u64,
    /// A successor attaches.
    pub attach_ms: f64,
    /// One metric's series are selected, one label looked at.
    pub select_us: f64,
    pub selected: u64,
}

impl StateBytes {
    /// Columns with their state, without labels.
    pub fn columns(self) -> u64 {
        self.layouts + self.raw_rows + self.ring
    }

    pub fn budget_difference_percent(&self) -> f64 {
        100.0 * self.budget_says.abs_diff(self.budget_measured) as f64 / self.budget_measured as f64
    }
}

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
    let texts: BTreeSet<&str> =
        all.iter().flat_map(|labels| labels.iter()).flat_map(|(name, value)| [name, value]).collect();
    let texts = texts.iter().map(|text| text.len() as u64).sum();
    Ok(LabelBytes::of(&plan, &store.usage(), texts))
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
    let share = |region| bytes_used(&usage, region);
    let load = Load::usual(used(&usage, RegionName::Series));
    // No series adds to small state.
    let regions = RegionName::ALL.into_iter().filter(|region| *region != RegionName::State);
    let sum = |bytes: &dyn Fn(RegionName) -> u64| regions.clone().map(bytes).sum();
    let slab = store.into_slab();
    let start = thread_seconds();
    let (store, _) = Store::attach(slab, &plan, &IDENTITY).map_err(|(error, _)| error.to_string())?;
    let attach_ms = (thread_seconds() - start) * 1e3;
    let (select_us, selected) = select(&store)?;
    Ok(StateBytes {
        budget_says: sum(&|region| plan.needs(&load, rows as u64, region)),
        budget_measured: sum(&|region| bytes_used(&usage, region)),
        attach_ms,
        select_us,
        selected,
        series: used(&usage, RegionName::Series),
        rows: rows as u64,
        samples,
        layouts: share(RegionName::Timelines) + share(RegionName::Layouts) + share(RegionName::LayoutColumns),
        raw_rows: share(RegionName::RawRows),
        ring: used(&usage, RegionName::Ring),
        labels: LabelBytes::of(&plan, &usage, 0).all(),
    })
}

/// Microseconds that a selection takes, and how many series it finds.
fn select(store: &Store<'_>) -> Result<(f64, u64), String> {
    let matcher = |name, op, value| Matcher::new(name, op, value).map_err(|error| error.to_string());
    let matchers = [
        matcher("__name__", MatchOp::Equal, "node_cpu_seconds_total")?,
        matcher("mode", MatchOp::Regexp, "idle|user")?,
    ];
    let start = thread_seconds();
    let mut selected = 0;
    for _ in 0..SELECTIONS_COUNT {
        store.series_select(&matchers, &mut |_| {
            selected += 1;
            true
        });
    }
    Ok(((thread_seconds() - start) * 1e6 / SELECTIONS_COUNT as f64, selected / SELECTIONS_COUNT))
}

fn bytes_used(usage: &Usage, region: RegionName) -> u64 {
    usage.regions.iter().find(|usage| usage.region == region).map_or(0, RegionUsage::bytes_used)
}

const SELECTIONS_COUNT: u64 = 10_000;

/// In the region's own units.
fn used(usage: &Usage, region: RegionName) -> u64 {
    usage.regions.iter().find(|usage| usage.region == region).map_or(0, |usage| usage.used)
}
