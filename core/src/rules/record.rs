//! Evaluates a recording rule: the result under the rule's name and labels.

use super::group::Rule;
use crate::labels::{LabelSet, LabelsBuilder, NAME};
use alloc::{format, string::String, vec::Vec};

/// Appends the row, by labels. The rule's labels win over the result's; an empty one removes the label.
pub(super) fn evaluate(
    rule: &Rule,
    result: Vec<(LabelSet, f64)>,
    limit: u64,
    samples: &mut Vec<(LabelSet, u64)>,
) -> Result<(), String> {
    for (labels, value) in result {
        let mut builder = LabelsBuilder::from_labels(labels.as_ref());
        builder.set(NAME, rule.name());
        for (name, value) in rule.labels.iter() {
            builder.set(name, value);
        }
        samples.push((builder.build(), value.to_bits()));
    }
    samples.sort_by(|a, b| a.0.cmp(&b.0));
    let series_count = samples.len() as u64;
    let refused = if samples.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        "vector contains metrics with the same labelset after applying rule labels".into()
    } else if limit > 0 && series_count > limit {
        format!("exceeded limit of {limit} with {series_count} series")
    } else {
        return Ok(());
    };
    samples.clear();
    Err(refused)
}
