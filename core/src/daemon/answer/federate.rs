//! The answer to `/federate`: of each series the newest sample within the look-back, in the text format.

use super::{Bite, PIECE_BYTES};
use crate::{
    api::{ApiError, ErrorType},
    daemon::exposition::Escaped,
    labels::{LabelSet, Matcher, NAME},
    number::GoFloat,
    promql::source::Selected,
    store::{STALE_NAN_BITS, Sample},
};
use alloc::{format, string::String, vec::Vec};
use core::fmt::Write;

/// Series read in one bite at most.
const BITE_SERIES: usize = 64;

/// A request to `/federate`.
pub struct Federate {
    pub matcher_lists: Vec<Vec<Matcher>>,
    pub now_ms: i64,
    pub lookback_ms: i64,
    pub external_labels: LabelSet,
}

pub struct FederateWork {
    federate: Federate,
    next_matchers: usize,
    selection: Vec<Selected>,
    bytes: usize,
    next: usize,
    /// The name whose TYPE line was written last.
    last_name: String,
    samples: Vec<Sample>,
}

impl FederateWork {
    pub fn new(federate: Federate) -> Self {
        Self {
            federate,
            next_matchers: 0,
            selection: Vec::new(),
            bytes: 0,
            next: 0,
            last_name: String::new(),
            samples: Vec::new(),
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes + self.samples.capacity() * size_of::<Sample>()
    }

    /// Selects one list per bite, then writes some series per bite (web/federate.go).
    pub fn bite(&mut self, bite: &mut Bite<'_>) -> Result<bool, ApiError> {
        let Federate { matcher_lists, now_ms, lookback_ms, .. } = &self.federate;
        let (start_ms, end_ms) = (now_ms - lookback_ms + 1, *now_ms);
        if let Some(matchers) = matcher_lists.get(self.next_matchers) {
            bite.select(matchers, start_ms, end_ms, &mut self.selection, &mut self.bytes)?;
            self.next_matchers += 1;
            if self.next_matchers == matcher_lists.len() {
                self.selection.sort_unstable_by(|a, b| {
                    let by_name = a.labels.as_ref().metric_name().cmp(b.labels.as_ref().metric_name());
                    by_name.then_with(|| a.labels.cmp(&b.labels))
                });
                self.selection.dedup_by(|a, b| a.labels == b.labels);
            }
            return Ok(false);
        }
        for _ in 0..BITE_SERIES {
            let Some(selected) = self.selection.get(self.next) else { return Ok(true) };
            self.next += 1;
            self.samples.clear();
            bite.source
                .read(selected, start_ms, end_ms, &mut self.samples)
                .map_err(|error| ApiError::new(ErrorType::Execution, format!("{error}")))?;
            let newest = self.samples.last().filter(|sample| sample.value.to_bits() != STALE_NAN_BITS);
            let Some(sample) = newest else { continue };
            let name = selected.labels.as_ref().metric_name();
            let mut line = String::new();
            if self.last_name != name {
                self.last_name = name.into();
                put(&mut line, format_args!("# TYPE {name} untyped\n"));
            }
            write_line(&mut line, &selected.labels, &self.federate.external_labels, *sample);
            bite.body.extend_from_slice(line.as_bytes());
            if bite.body.len() >= PIECE_BYTES {
                break;
            }
        }
        Ok(false)
    }
}

/// The series' labels, then the external ones it has not, among them `instance=""` where there is no instance at all.
fn write_line(line: &mut String, labels: &LabelSet, external_labels: &LabelSet, sample: Sample) {
    put(line, format_args!("{}{{", labels.as_ref().metric_name()));
    let mut separator = "";
    let mut label = |name: &str, value: &str| {
        put(line, format_args!("{separator}{name}=\"{}\"", Escaped(value)));
        separator = ",";
    };
    for (name, value) in labels.iter().filter(|(name, _)| *name != NAME) {
        label(name, value);
    }
    let mut needs_instance = labels.get("instance").is_none() && external_labels.get("instance").is_none();
    for (name, value) in external_labels.iter().filter(|(name, _)| labels.get(name).is_none()) {
        if needs_instance && name > "instance" {
            needs_instance = false;
            label("instance", "");
        }
        label(name, value);
    }
    if needs_instance {
        label("instance", "");
    }
    put(line, format_args!("}} {} {}\n", GoFloat::G(sample.value), sample.t_ms));
}

fn put(line: &mut String, args: core::fmt::Arguments<'_>) {
    let written = line.write_fmt(args);
    assert!(written.is_ok(), "writing into a string does not fail");
}
