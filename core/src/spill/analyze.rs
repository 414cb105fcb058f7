//! What stored segments cost, timeline by timeline: for `holdfast tsdb analyze`.
//!
//! Reads a bounded number of segments at a time, so that a running daemon can answer page by page. Every figure of a page
//! is a sum, a hull, or the same on each, so whoever asks adds them up.

use super::{
    layout::layout_part_read,
    segment::{ColumnUnit, SegmentForm, SegmentReader},
};
use crate::{
    api::Json,
    store::{
        ColumnKind, Presence, TimelineKey,
        stored::{Stored, StoredError},
    },
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

/// Damaged units that a page names; the others are only counted.
const DAMAGE_NAMED_MAX: usize = 16;
/// Decimal places up to which a value counts as a decimal.
const DECIMAL_PLACES_MAX: i32 = 9;

/// What a column's values are, over the rows of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ColumnClass {
    /// The same bits in every row that has a value; stale markers do not count.
    Constant,
    Integer,
    /// At most nine decimal places.
    Decimal,
    Float,
    /// No row has anything.
    Absent,
}

impl ColumnClass {
    pub const ALL: [Self; 5] = [Self::Constant, Self::Integer, Self::Decimal, Self::Float, Self::Absent];

    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Integer => "integer",
            Self::Decimal => "decimal",
            Self::Float => "float",
            Self::Absent => "absent",
        }
    }

    fn of(unit: &ColumnUnit) -> Self {
        let with_value = unit.cells.iter().zip(&unit.presence).filter(|(_, presence)| **presence == Presence::Value);
        let mut values = with_value.map(|(bits, _)| *bits);
        let Some(first) = values.next() else { return Self::Absent };
        let (mut is_constant, mut class) = (true, Self::of_value(first));
        for bits in values {
            is_constant &= bits == first;
            class = class.max(Self::of_value(bits));
        }
        if is_constant { Self::Constant } else { class }
    }

    fn of_value(bits: u64) -> Self {
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        let value = f64::from_bits(bits);
        // Minus zero is no integer either.
        if value.is_nan() || libm::fabs(value) > EXACT_MAX || bits == (-0.0_f64).to_bits() {
            return Self::Float;
        }
        let mut power = 1.0;
        for places in 0..=DECIMAL_PLACES_MAX {
            let scaled = libm::round(value * power);
            if libm::fabs(scaled) <= EXACT_MAX && (scaled / power).to_bits() == bits {
                return if places == 0 { Self::Integer } else { Self::Decimal };
            }
            power *= 10.0;
        }
        Self::Float
    }
}

/// Of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassReport {
    /// Columns of segments.
    pub columns: u64,
    /// Values and stale markers.
    pub samples: u64,
    pub bytes: u64,
}

/// Some segments of one timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineReport {
    pub timeline: TimelineKey,
    pub segments: u64,
    pub segments_aged: u64,
    pub rows: u64,
    pub bytes: u64,
    pub classes: [ClassReport; ColumnClass::ALL.len()],
    pub span_ms: Option<(i64, i64)>,
    /// The newest layout met, and how many.
    pub layout: Option<u64>,
    pub layouts: u64,
    /// Stripes that only a newer version reads.
    pub newer: u64,
    pub damaged: u64,
    pub damage: Vec<String>,
    /// The row at which the next page begins.
    pub next: Option<u64>,
}

impl TimelineReport {
    fn new(timeline: TimelineKey) -> Self {
        Self {
            timeline,
            segments: 0,
            segments_aged: 0,
            rows: 0,
            bytes: 0,
            classes: [ClassReport::default(); ColumnClass::ALL.len()],
            span_ms: None,
            layout: None,
            layouts: 0,
            newer: 0,
            damaged: 0,
            damage: Vec::new(),
            next: None,
        }
    }

    fn damaged(&mut self, what: String) {
        self.damaged += 1;
        if self.damage.len() < DAMAGE_NAMED_MAX {
            self.damage.push(what);
        }
    }

    /// As JSON, with the labels and series of its newest layout.
    pub fn write(&self, json: &mut Json, labels: &LayoutLabels) {
        json.object(|json| {
            json.key("timeline").text(&format!("{:016x}", self.timeline.0));
            json.key("job").text(&labels.job);
            json.key("instance").text(&labels.instance);
            json.key("series").plain(labels.series);
            for (key, number) in [
                ("segments", self.segments),
                ("segments_aged", self.segments_aged),
                ("layouts", self.layouts),
                ("rows", self.rows),
                ("bytes", self.bytes),
                ("newer", self.newer),
                ("damaged", self.damaged + labels.damage.len() as u64),
            ] {
                json.key(key).plain(number);
            }
            json.key("classes").object(|json| {
                for (class, report) in ColumnClass::ALL.into_iter().zip(self.classes) {
                    json.key(class.name()).object(|json| {
                        json.key("columns").plain(report.columns);
                        json.key("samples").plain(report.samples);
                        json.key("bytes").plain(report.bytes);
                    });
                }
            });
            for (key, number) in
                [("from_ms", self.span_ms.map(|span| span.0)), ("to_ms", self.span_ms.map(|span| span.1))]
            {
                json.key(key);
                match number {
                    Some(number) => json.plain(number),
                    None => json.plain("null"),
                };
            }
            json.key("damage").array(|json| {
                for text in self.damage.iter().chain(&labels.damage) {
                    json.text(text);
                }
            });
            json.key("next");
            match self.next {
                Some(next) => json.plain(next),
                None => json.plain("null"),
            };
        });
    }
}

/// What a layout says of its timeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayoutLabels {
    /// Of its first series that has such labels.
    pub job: String,
    pub instance: String,
    pub series: u64,
    pub damage: Vec<String>,
}

/// Reads the rows from `row_from` on, as many as some `segments_max` segments have.
///
/// # Errors
///
/// The disk does not answer. A segment that cannot be read is named in the report.
pub fn analyze(
    stored: &mut dyn Stored,
    timeline: TimelineKey,
    row_from: u64,
    segments_max: u64,
) -> Result<TimelineReport, StoredError> {
    let mut report = TimelineReport::new(timeline);
    let (mut reader, mut row_last) = (SegmentReader::default(), None);
    stored.rows(timeline, row_from, &mut |meta, bytes| {
        if meta.row_from < row_from {
            return true;
        }
        if report.segments >= segments_max && row_last != Some(meta.row_from) {
            report.next = Some(meta.row_from);
            return false;
        }
        if row_last != Some(meta.row_from) {
            report.rows += u64::from(meta.row_count);
            row_last = Some(meta.row_from);
        }
        report.segments += 1;
        report.bytes += bytes.len() as u64;
        let (from_ms, to_ms) = report.span_ms.unwrap_or((meta.t_min_ms, meta.t_max_ms));
        report.span_ms = Some((from_ms.min(meta.t_min_ms), to_ms.max(meta.t_max_ms)));
        if report.layout != Some(meta.layout) {
            report.layout = report.layout.max(Some(meta.layout));
            report.layouts += 1;
        }
        let classes = &mut report.classes;
        let read = reader.measure(bytes, &mut |unit, column_bytes| {
            let class = &mut classes[ColumnClass::of(unit) as usize];
            class.columns += 1;
            class.samples += unit.presence.iter().filter(|presence| **presence != Presence::Absent).count() as u64;
            class.bytes += column_bytes as u64;
        });
        match read {
            Ok(head) => {
                report.segments_aged += u64::from(head.form == SegmentForm::Aged);
                report.newer += u64::from(head.extra_count);
            }
            Err(error) => report.damaged(format!("segment {}: {error}", meta.sequence)),
        }
        true
    })?;
    Ok(report)
}

/// Series and target of a layout.
pub fn layout_labels(stored: &mut dyn Stored, layout: u64) -> Result<LayoutLabels, StoredError> {
    let mut found = LayoutLabels::default();
    stored.layout(layout, &mut |part| {
        let read = layout_part_read(part.bytes, &mut |_, kind, labels| {
            found.series += u64::from(kind == ColumnKind::Float);
            for (name, text) in [("job", &mut found.job), ("instance", &mut found.instance)] {
                if text.is_empty()
                    && let Some(value) = labels.get(name)
                {
                    *text = value.to_string();
                }
            }
            true
        });
        if let Err(error) = read {
            found.damage.push(format!("layout {layout}, columns from {}: {error}", part.column_from));
        }
        true
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spill::{
        SealReason, Spill, SpillOptions, SpillState,
        testing::EPOCH,
        world::{Disk, START_MS, UUID, at, create, labels, plan, scrape, seal},
    };

    #[test]
    fn values_have_the_class_that_they_are_written_as() {
        let class = |values: &[f64]| {
            values.iter().map(|value| ColumnClass::of_value(value.to_bits())).max().unwrap_or(ColumnClass::Absent)
        };
        assert_eq!(class(&[1.0, -5.0, 9_007_199_254_740_992.0, 0.0]), ColumnClass::Integer);
        assert_eq!(class(&[1.0, 0.25, 1e-9]), ColumnClass::Decimal);
        for value in [f64::NAN, 1e-10, -0.0, 1e300, f64::INFINITY, 1.0 / 3.0] {
            assert_eq!(class(&[1.0, value]), ColumnClass::Float, "{value}");
        }
    }

    #[test]
    fn pages_add_up_to_the_whole_and_damage_is_named() {
        let (plan, mut slab, mut disk) = (plan(), Vec::new(), Disk::default());
        let mut store = create(&mut slab, &plan);
        let mut spill = Spill::new(SpillOptions::new(UUID, &plan), EPOCH, SpillState::default(), 0);
        let names: Vec<_> = ["constant", "integer", "decimal", "float"].map(|name| labels(name, 1)).into();
        for row in 0..500 {
            let value = row as f64;
            let values = [7.0, value, value / 4.0 + 0.25, (value + 0.5) / 3.0];
            let puts: Vec<_> = names.iter().zip(values).map(|(name, value)| (name, value.to_bits(), None)).collect();
            scrape(&mut store, 1, START_MS + row * 1_000, &puts);
        }
        seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Checkpoint);
        let whole = analyze(&mut disk.database, TimelineKey(1), 0, 100).unwrap();
        assert_eq!((whole.rows, whole.layouts, whole.damaged, whole.next), (500, 1, 0, None));
        assert!(whole.segments > 1);
        assert_eq!(whole.span_ms, Some((START_MS, START_MS + 499_000)));
        for class in [ColumnClass::Constant, ColumnClass::Integer, ColumnClass::Decimal, ColumnClass::Float] {
            let report = whole.classes[class as usize];
            assert_eq!((report.columns, report.samples), (whole.segments, 500), "{class:?}");
        }
        assert!(whole.classes[0].bytes < whole.classes[1].bytes && whole.classes[1].bytes < whole.classes[3].bytes);

        let (mut row, mut rows, mut bytes, mut pages) = (Some(0), 0, 0, 0);
        while let Some(from) = row {
            let page = analyze(&mut disk.database, TimelineKey(1), from, 1).unwrap();
            (row, rows, bytes, pages) = (page.next, rows + page.rows, bytes + page.bytes, pages + 1);
        }
        assert_eq!((rows, bytes, pages), (500, whole.bytes, whole.segments));

        let labels = layout_labels(&mut disk.database, whole.layout.unwrap()).unwrap();
        assert_eq!((labels.job.as_str(), labels.series), ("1", 4));
        let last = disk.database.segments[1].1.len() - 1;
        disk.database.segments[1].1[last] ^= 1;
        let found = analyze(&mut disk.database, TimelineKey(1), 0, 100).unwrap();
        assert_eq!(found.damaged, 1);
        assert!(found.damage[0].starts_with("segment ") && found.damage[0].contains("checksum"), "{:?}", found.damage);
    }
}
