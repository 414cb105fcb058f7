//! What a load takes of a plan, and how much of it a plan holds: the answers of `holdfast budget`.
//!
//! It is the store's own arithmetic: tests/budget.rs fills stores and compares them with it.

use super::{Budget, Plan};
use crate::{
    limits::CHUNK_ROWS_MAX,
    store::{RegionName, sizes},
    time::DurationText,
};
use core::fmt::{self, Write};

/// A steady load: series spread evenly over targets and rules, each with a value in every row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub series_count: u64,
    /// Targets and rules.
    pub timelines_count: u64,
    /// Label texts and sets of all series together.
    pub label_bytes: u64,
    /// A packed sample with its share of heads and instants, in thousandths of a byte.
    pub sample_millibytes: u64,
}

impl Load {
    /// As the recorded exporters of docs/CODEC.md have it: the first instance of each brings the texts, the others share
    /// them.
    pub fn usual(series_count: u64) -> Self {
        let first_count = series_count.min(FIRST_INSTANCES_SERIES);
        Self {
            series_count,
            timelines_count: series_count.div_ceil(SERIES_OF_A_TARGET),
            label_bytes: (first_count * FIRST_LABEL_MILLIBYTES
                + (series_count - first_count) * FURTHER_LABEL_MILLIBYTES)
                .div_ceil(1000),
            sample_millibytes: SAMPLE_MILLIBYTES_USUAL,
        }
    }

    /// Groups of so many columns, when each timeline begins its own.
    fn groups_count(&self, columns: usize) -> u64 {
        let (timelines, columns) = (self.timelines_count.max(1), columns as u64);
        let (each, wider) = (self.series_count / timelines, self.series_count % timelines);
        wider * (each + 1).div_ceil(columns) + (timelines - wider) * each.div_ceil(columns)
    }
}

const SERIES_OF_A_TARGET: u64 = 400;
/// Series of one instance of each recorded exporter.
const FIRST_INSTANCES_SERIES: u64 = 2_445;
const FIRST_LABEL_MILLIBYTES: u64 = 21_800;
const FURTHER_LABEL_MILLIBYTES: u64 = 700;
const SAMPLE_MILLIBYTES_USUAL: u64 = 487;

impl Plan {
    /// Bytes of a region that a load takes with so many rows of each timeline in memory.
    pub fn needs(&self, load: &Load, rows_count: u64, region: RegionName) -> u64 {
        let share = |count: u64, total: u32| (self.region_bytes(region) * count).div_ceil(u64::from(total).max(1));
        match region {
            RegionName::Series => share(load.series_count, self.series_count),
            RegionName::LabelText => share(load.label_bytes, self.label_bytes),
            RegionName::Timelines => load.timelines_count * sizes::TIMELINE_BYTES as u64,
            RegionName::Layouts => load.timelines_count * sizes::LAYOUT_BYTES as u64,
            RegionName::LayoutColumns => load.groups_count(sizes::NODE_COLUMNS) * self.node_bytes() as u64,
            RegionName::RawRows => load.groups_count(sizes::PAGE_COLUMNS) * sizes::PAGE_BYTES as u64,
            // The newest rows are packed when the row after them begins.
            RegionName::Ring => {
                let chunk_rows = CHUNK_ROWS_MAX as u64;
                let packed_count = rows_count.saturating_sub(1) / chunk_rows * chunk_rows;
                (load.series_count * packed_count * load.sample_millibytes).div_ceil(1000)
            }
            RegionName::State => self.region_bytes(RegionName::State),
        }
    }

    /// The most series that fit when they are like those of the load, and the region that is full then.
    pub fn series_count_max(&self, load: &Load) -> (u64, RegionName) {
        let full = |series_count: u64| {
            let scaled = |count: u64| (count * series_count).div_ceil(load.series_count.max(1));
            let (timelines_count, label_bytes) = (scaled(load.timelines_count), scaled(load.label_bytes));
            let load = Load { series_count, timelines_count, label_bytes, ..*load };
            [
                RegionName::Series,
                RegionName::LabelText,
                RegionName::Timelines,
                RegionName::LayoutColumns,
                RegionName::RawRows,
            ]
            .into_iter()
            .find(|region| self.needs(&load, 0, *region) > self.region_bytes(*region))
        };
        let (mut least, mut most) = (0, u64::from(self.series_count) + 1);
        while least + 1 < most {
            let middle = u64::midpoint(least, most);
            match full(middle) {
                None => least = middle,
                Some(_) => most = middle,
            }
        }
        (least, full(most).unwrap_or(RegionName::Series))
    }

    /// Rows of each timeline that memory holds: those in the ring, and half of the newest ones, as it is on average.
    pub fn rows_count(&self, load: &Load) -> u64 {
        let row_millibytes = (load.series_count * load.sample_millibytes).max(1);
        u64::from(self.ring_bytes) * 1000 / row_millibytes + CHUNK_ROWS_MAX as u64 / 2
    }
}

/// What a budget holds of a load, in words.
pub struct Answer<'b> {
    pub budget: &'b Budget,
    pub load: Load,
    pub interval_ms: u64,
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (plan, load) = (self.budget.plan(), &self.load);
        let (series_count_max, full) = plan.series_count_max(load);
        let each = |bytes: u64| Thousandths((bytes * 1000).div_ceil(load.series_count.max(1)));
        writeln!(
            f,
            "{} series of {} targets and rules, {} bytes of label text each, {} bytes a packed sample:\n",
            load.series_count,
            load.timelines_count,
            each(load.label_bytes),
            Thousandths(load.sample_millibytes),
        )?;
        writeln!(f, "{:>11} {:>11}  what for", "bytes", "a series")?;
        let mut total_bytes = 0;
        for (region, what) in [
            (RegionName::Series, "records, postings and index"),
            (RegionName::LabelText, "label texts and sets, with their index"),
            (RegionName::LayoutColumns, "places in layouts"),
            (RegionName::RawRows, "newest rows as plain cells"),
            (RegionName::Timelines, "timelines"),
            (RegionName::Layouts, "layouts"),
        ] {
            let bytes = plan.needs(load, 0, region);
            total_bytes += bytes;
            writeln!(f, "{bytes:>11} {:>11}  {what}", each(bytes))?;
        }
        writeln!(f, "{total_bytes:>11} {:>11}  all but packed rows\n", each(total_bytes))?;
        if load.series_count > series_count_max {
            return writeln!(
                f,
                "Only {series_count_max} of these fit, then the region '{}' is full: {}.",
                full.name(),
                full.advice()
            );
        }
        let rows_count = plan.rows_count(load);
        writeln!(f, "{series_count_max} such series fit; then the region '{}' is full.", full.name())?;
        writeln!(
            f,
            "Memory holds {rows_count} rows of each: {} at a row every {}. Older ones are on disk.",
            DurationText(rows_count.saturating_mul(self.interval_ms) / 1000 * 1000),
            DurationText(self.interval_ms),
        )
    }
}

/// Two places, rounded up.
struct Thousandths(u64);

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = self.0.div_ceil(10);
        let mut text = heapless::String::<24>::new();
        write!(text, "{}.{:02}", hundredths / 100, hundredths % 100)?;
        f.pad(&text)
    }
}
