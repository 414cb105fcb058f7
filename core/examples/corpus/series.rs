//! From recorded bodies to rows: the product's own parser, and which class a series belongs to.

use crate::recording::Recording;
use holdfast_core::{
    labels::{LABELS_BYTES_MAX, LabelSet, LabelsError, LabelsWriter, NAME},
    parse::{ExpositionSink, MetricKind, SampleLine, TextParser},
};
use std::{collections::BTreeMap, ops::ControlFlow};

/// What the figures are told by: the `TYPE` line, and what the values are over the whole recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// One value, to the bit, whatever the type.
    Constant,
    IntegerCounter,
    FloatCounter,
    IntegerGauge,
    FloatGauge,
    /// Buckets and counts.
    Histogram,
    HistogramSum,
    /// Quantiles, counts and sums.
    Summary,
}

impl Class {
    pub const ALL: [Self; 8] = [
        Self::Constant,
        Self::IntegerCounter,
        Self::FloatCounter,
        Self::IntegerGauge,
        Self::FloatGauge,
        Self::Histogram,
        Self::HistogramSum,
        Self::Summary,
    ];

    pub fn text(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::IntegerCounter => "integer counter",
            Self::FloatCounter => "float counter",
            Self::IntegerGauge => "integer gauge",
            Self::FloatGauge => "float gauge",
            Self::Histogram => "histogram",
            Self::HistogramSum => "histogram sum",
            Self::Summary => "summary",
        }
    }

    /// `untyped` counts as a gauge.
    pub fn of(metric: &str, kind: MetricKind, values: impl Iterator<Item = u64> + Clone) -> Self {
        let mut others = values.clone().skip(1);
        if values.clone().next().is_none_or(|first| others.all(|bits| bits == first)) {
            return Self::Constant;
        }
        let is_integer = { values }
            .map(f64::from_bits)
            .all(|value| !value.is_finite() || (value.trunc() == value && value.abs() < 9_007_199_254_740_992.0));
        match (kind, is_integer) {
            (MetricKind::Counter, true) => Self::IntegerCounter,
            (MetricKind::Counter, false) => Self::FloatCounter,
            (MetricKind::Histogram, _) if metric.ends_with("_sum") => Self::HistogramSum,
            (MetricKind::Histogram, _) => Self::Histogram,
            (MetricKind::Summary, _) => Self::Summary,
            (MetricKind::Gauge | MetricKind::Unknown, true) => Self::IntegerGauge,
            (MetricKind::Gauge | MetricKind::Unknown, false) => Self::FloatGauge,
        }
    }
}

/// A recording, parsed.
pub struct Target {
    pub name: String,
    pub series: Vec<Series>,
    pub rows: Vec<Row>,
}

pub struct Series {
    /// With `job` and `instance`, as a scrape would give them.
    pub labels: LabelSet,
    pub class: Class,
}

pub struct Row {
    pub t_ms: i64,
    pub samples: Vec<RowSample>,
}

#[derive(Clone, Copy)]
pub struct RowSample {
    pub series: usize,
    pub bits: u64,
    /// The row's instant minus the sample's own timestamp.
    pub age_ms: Option<i64>,
}

impl Target {
    pub fn parse(recording: &Recording) -> Result<Self, String> {
        let mut sink = Sink { name: &recording.name, ..Sink::default() };
        for scrape in &recording.scrapes {
            sink.rows.push(Row { t_ms: scrape.t_ms, samples: Vec::new() });
            sink.seen.iter_mut().for_each(|seen| *seen = false);
            sink.family = (String::new(), MetricKind::Unknown);
            let Some(body) = &scrape.body else { continue };
            let mut parser = TextParser::new();
            let parsed = parser.feed(body, &mut sink).and_then(|()| parser.finish(&mut sink));
            if let Err(error) = parsed {
                let why = sink.refused.map_or_else(|| error.to_string(), |refused| format!("{error}: {refused}"));
                return Err(format!("{}, scrape {}: {why}", recording.name, sink.rows.len()));
            }
        }
        let mut values: Vec<Vec<u64>> = vec![Vec::new(); sink.kinds.len()];
        for sample in sink.rows.iter().flat_map(|row| &row.samples) {
            values[sample.series].push(sample.bits);
        }
        let mut series: Vec<Option<Series>> = (0..values.len()).map(|_| None).collect();
        for (labels, index) in sink.index {
            let class = Class::of(labels.as_ref().metric_name(), sink.kinds[index], values[index].iter().copied());
            series[index] = Some(Series { labels, class });
        }
        Ok(Self { name: recording.name.clone(), series: series.into_iter().flatten().collect(), rows: sink.rows })
    }

    /// Each `step`th row, as if it had been scraped that much less often.
    pub fn rows_stepped(&self, step: usize) -> impl Iterator<Item = &Row> {
        self.rows.iter().step_by(step)
    }
}

struct Sink<'n> {
    name: &'n str,
    rows: Vec<Row>,
    index: BTreeMap<LabelSet, usize>,
    kinds: Vec<MetricKind>,
    /// Whether the row under way has the series: of two lines the first counts, as in the store.
    seen: Vec<bool>,
    /// Of the last `TYPE` line.
    family: (String, MetricKind),
    refused: Option<LabelsError>,
    name_scratch: String,
    value_scratch: String,
}

impl Default for Sink<'_> {
    fn default() -> Self {
        Self {
            name: "",
            rows: Vec::new(),
            index: BTreeMap::new(),
            kinds: Vec::new(),
            seen: Vec::new(),
            family: (String::new(), MetricKind::Unknown),
            refused: None,
            name_scratch: String::new(),
            value_scratch: String::new(),
        }
    }
}

impl Sink<'_> {
    fn labels(&mut self, line: SampleLine<'_>) -> Result<LabelSet, LabelsError> {
        let mut buf = [0; LABELS_BYTES_MAX];
        let mut writer = LabelsWriter::new(&mut buf);
        writer.push(NAME, line.name.read(&mut self.value_scratch))?;
        writer.push("job", self.name)?;
        writer.push("instance", &format!("{}:9100", self.name))?;
        for pair in line.labels {
            let name = pair.name.read(&mut self.name_scratch);
            let value = pair.value(&mut self.value_scratch);
            match writer.push(name, value) {
                Err(LabelsError::DuplicateName) => writer.push(&format!("exported_{name}"), value)?,
                pushed => pushed?,
            }
        }
        Ok(LabelSet::from(writer.finish()))
    }
}

impl ExpositionSink for Sink<'_> {
    fn sample(&mut self, line: SampleLine<'_>) -> ControlFlow<()> {
        let labels = match self.labels(line) {
            Ok(labels) => labels,
            Err(refused) => {
                self.refused = Some(refused);
                return ControlFlow::Break(());
            }
        };
        let metric = labels.as_ref().metric_name();
        let (family, kind) = &self.family;
        let suffix = metric.strip_prefix(family.as_str());
        let is_of_family = suffix.is_some_and(|suffix| matches!(suffix, "" | "_bucket" | "_count" | "_sum"));
        let kind = if is_of_family { *kind } else { MetricKind::Unknown };
        let index = *self.index.entry(labels).or_insert_with(|| {
            self.kinds.push(kind);
            self.seen.push(false);
            self.kinds.len() - 1
        });
        if let Some(row) = self.rows.last_mut()
            && !core::mem::replace(&mut self.seen[index], true)
        {
            let age_ms = line.timestamp_ms.map(|own_ms| row.t_ms.saturating_sub(own_ms));
            row.samples.push(RowSample { series: index, bits: line.value_bits, age_ms });
        }
        ControlFlow::Continue(())
    }

    fn help(&mut self, _: &str, _: &str) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn kind(&mut self, metric: &str, kind: MetricKind) -> ControlFlow<()> {
        self.family = (metric.to_owned(), kind);
        ControlFlow::Continue(())
    }
}
