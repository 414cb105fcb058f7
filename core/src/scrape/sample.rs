//! From a line to a series: the target's labels are added, conflicts resolved, limits and timestamps checked.

use super::spec::TargetSpec;
use crate::{
    labels::{LABELS_BYTES_MAX, LabelsError, LabelsRef, LabelsWriter, NAME},
    parse::SampleLine,
};
use alloc::string::String;

/// A sample whose own timestamp is this much older than its scrape is dropped and counted, as by a Prometheus that has
/// been running for a while (half of its head's two hours).
pub const TIMESTAMP_AGE_MS_MAX: i64 = 3_600_000;

/// A sample whose own timestamp lies this much behind its scrape is dropped and counted (Prometheus'
/// `maxAheadTime`).
pub const TIMESTAMP_AHEAD_MS_MAX: i64 = 600_000;

/// Put before an exposed label that the target has too.
const EXPORTED_PREFIX: &str = "exported_";

/// What makes a whole scrape fail because of one sample.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    #[error("missing metric name (__name__ label)")]
    MetricNameMissing,
    #[error("invalid metric name or label names: metric {metric:?} has an empty label name")]
    LabelNameEmpty { metric: String },
    #[error("label name \"{label}\" is not unique: invalid sample of metric {metric:?}")]
    LabelNameTwice { metric: String, label: String },
    #[error("the labels of a series of {metric:?} take more than {LABELS_BYTES_MAX} bytes; drop or shorten labels")]
    LabelsTooLong { metric: String },
    #[error("label_limit exceeded (metric: {metric}, number of labels: {count}, limit: {count_max})")]
    LabelCount { metric: String, count: usize, count_max: u64 },
    #[error(
        "label_name_length_limit exceeded (metric: {metric}, label name: {label}, length: {bytes}, limit: {bytes_max})"
    )]
    LabelNameLong { metric: String, label: String, bytes: usize, bytes_max: u64 },
    #[error(
        "label_value_length_limit exceeded (metric: {metric}, label name: {label}, value: {value:?}, length: {bytes}, limit: {bytes_max})"
    )]
    LabelValueLong { metric: String, label: String, value: String, bytes: usize, bytes_max: u64 },
}

/// Unescaped text of one line.
#[derive(Default)]
pub(super) struct Scratch {
    name: String,
    value: String,
    renamed: String,
}

impl Scratch {
    pub(super) fn heap_bytes(&self) -> usize {
        self.name.capacity() + self.value.capacity() + self.renamed.capacity()
    }
}

/// The series of a line, written into `buf` of [`LABELS_BYTES_MAX`] bytes.
pub(super) fn series_labels<'b>(
    spec: &TargetSpec,
    line: SampleLine<'_>,
    scratch: &mut Scratch,
    buf: &'b mut [u8],
) -> Result<LabelsRef<'b>, SampleError> {
    let metric = line.name.read(&mut scratch.value);
    if metric.is_empty() {
        return Err(SampleError::MetricNameMissing);
    }
    let mut writer = LabelsWriter::new(buf);
    let mut result = writer.push(NAME, metric).map_err(|error| (error, String::new()));
    if result.is_ok() {
        let labels = spec.labels.as_ref();
        result = if spec.honor_labels {
            push_honoring(&mut writer, labels, line, scratch)
        } else {
            push_overriding(&mut writer, labels, line, scratch)
        };
    }
    if let Err((error, label)) = result {
        let metric = short(line.name.read(&mut scratch.value));
        return Err(match error {
            LabelsError::TooLong | LabelsError::Broken => SampleError::LabelsTooLong { metric },
            LabelsError::DuplicateName => SampleError::LabelNameTwice { metric, label },
            LabelsError::EmptyName => SampleError::LabelNameEmpty { metric },
        });
    }
    let labels = writer.finish();
    check_limits(spec, labels)?;
    Ok(labels)
}

/// Labels of a series the scrape itself writes, `up` for one.
pub(super) fn report_labels<'b>(
    labels: LabelsRef<'_>,
    metric: &str,
    buf: &'b mut [u8],
) -> Result<LabelsRef<'b>, LabelsError> {
    let mut writer = LabelsWriter::new(buf);
    writer.push(NAME, metric)?;
    labels.iter().try_for_each(|(name, value)| writer.push(name, value))?;
    Ok(writer.finish())
}

/// Milliseconds by which the sample is older than its scrape. `Err`: out of bounds.
pub(super) fn age_ms(instant_ms: i64, own_ms: i64) -> Result<i64, ()> {
    let age_ms = instant_ms.saturating_sub(own_ms);
    if (-TIMESTAMP_AHEAD_MS_MAX..=TIMESTAMP_AGE_MS_MAX).contains(&age_ms) { Ok(age_ms) } else { Err(()) }
}

type PushResult = Result<(), (LabelsError, String)>;

/// `honor_labels: true`: what is exposed wins, even an empty value, which takes the target's label away.
fn push_honoring(
    writer: &mut LabelsWriter<'_>,
    target: LabelsRef<'_>,
    line: SampleLine<'_>,
    scratch: &mut Scratch,
) -> PushResult {
    for pair in line.labels {
        let name = pair.name.read(&mut scratch.name);
        writer.push(name, pair.value(&mut scratch.value)).map_err(|error| (error, short(name)))?;
    }
    for (name, value) in target.iter() {
        if !{ line.labels }.any(|pair| pair.name.read(&mut scratch.name) == name) {
            writer.push(name, value).map_err(|error| (error, short(name)))?;
        }
    }
    Ok(())
}

/// `honor_labels: false`: the target's labels win, and the exposed ones of the same name are renamed.
fn push_overriding(
    writer: &mut LabelsWriter<'_>,
    target: LabelsRef<'_>,
    line: SampleLine<'_>,
    scratch: &mut Scratch,
) -> PushResult {
    for (name, value) in target.iter() {
        writer.push(name, value).map_err(|error| (error, short(name)))?;
    }
    let mut conflict_count = 0;
    for pair in line.labels {
        let name = pair.name.read(&mut scratch.name);
        let value = pair.value(&mut scratch.value);
        if !target.has(name) {
            writer.push(name, value).map_err(|error| (error, short(name)))?;
        } else if !value.is_empty() {
            conflict_count += 1;
        }
    }
    // Shorter names first, as in Prometheus, so that `job` gets `exported_job` before an exposed `exported_job` moves.
    let mut done = None;
    for _ in 0..conflict_count {
        let mut next: Option<(usize, usize)> = None;
        for (index, pair) in line.labels.enumerate() {
            let name = pair.name.read(&mut scratch.name);
            let rank = (name.len(), index);
            if target.has(name)
                && !pair.value(&mut scratch.value).is_empty()
                && done.is_none_or(|done| rank > done)
                && next.is_none_or(|next| rank < next)
            {
                next = Some(rank);
            }
        }
        let Some(pair) = next.and_then(|(_, index)| { line.labels }.nth(index)) else { break };
        done = next;
        scratch.renamed.clear();
        scratch.renamed.push_str(pair.name.read(&mut scratch.name));
        let value = pair.value(&mut scratch.value);
        loop {
            scratch.renamed.insert_str(0, EXPORTED_PREFIX);
            match writer.push(&scratch.renamed, value) {
                Err(LabelsError::DuplicateName) => {}
                result => break result.map_err(|error| (error, short(&scratch.renamed)))?,
            }
        }
    }
    Ok(())
}

fn check_limits(spec: &TargetSpec, labels: LabelsRef<'_>) -> Result<(), SampleError> {
    let limits = &spec.limits;
    let metric = || short(labels.metric_name());
    let (count, count_max) = (labels.len(), limits.label_count_max);
    if count_max > 0 && count as u64 > count_max {
        return Err(SampleError::LabelCount { metric: metric(), count, count_max });
    }
    if limits.label_name_bytes_max == 0 && limits.label_value_bytes_max == 0 {
        return Ok(());
    }
    for (name, value) in labels.iter() {
        let bytes_max = limits.label_name_bytes_max;
        if bytes_max > 0 && name.len() as u64 > bytes_max {
            let label = short(name);
            return Err(SampleError::LabelNameLong { metric: metric(), label, bytes: name.len(), bytes_max });
        }
        let bytes_max = limits.label_value_bytes_max;
        if bytes_max > 0 && value.len() as u64 > bytes_max {
            let (label, bytes, value) = (short(name), value.len(), short(value));
            return Err(SampleError::LabelValueLong { metric: metric(), label, value, bytes, bytes_max });
        }
    }
    Ok(())
}

/// The first 50 characters, as Prometheus quotes foreign text.
fn short(text: &str) -> String {
    text.chars().take(50).collect()
}
