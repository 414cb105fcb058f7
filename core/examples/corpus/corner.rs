//! The hand-made corner series of `corner.jsonl`: values and times that break codecs, each a target of one series.

use crate::series::{Class, Row, RowSample, Series, Target};
use holdfast_core::labels::LabelSet;

/// Reads the file: one object a line, of which the case and the samples count, as `[ms, "16 hex digits"]`.
pub fn read(text: &str) -> Result<Vec<Target>, String> {
    let mut targets = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let target = one(line).ok_or_else(|| {
            format!("corner.jsonl, line {}: no labels with a case, or no samples; copy the corpus again", index + 1)
        })?;
        targets.push(target);
    }
    Ok(targets)
}

fn one(line: &str) -> Option<Target> {
    let (_, rest) = line.split_once("\"case\": \"")?;
    let (case, rest) = rest.split_once('"')?;
    let (_, samples) = rest.rsplit_once("\"samples\": [[")?;
    let mut rows = Vec::new();
    for sample in samples.split_once("]]")?.0.split("], [") {
        let (t_ms, bits) = sample.split_once(", ")?;
        let bits = u64::from_str_radix(bits.trim_matches('"'), 16).ok()?;
        let samples = vec![RowSample { series: 0, bits, age_ms: None }];
        rows.push(Row { t_ms: t_ms.parse().ok()?, samples });
    }
    let labels = LabelSet::from_pairs([("__name__", "corner"), ("case", case)]);
    Some(Target { name: case.to_owned(), series: vec![Series { labels, class: Class::FloatGauge }], rows })
}
