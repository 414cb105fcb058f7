//! The answer to `/federate`: of each series the newest sample within the look-back, in the text format.

use super::{Bite, PIECE_BYTES};
use crate::{
    api::{ApiError, ErrorType},
    daemon::exposition::Escaped,
    labels::{LabelSet, LabelsBuf, LabelsRef, Matcher, NAME},
    number::GoFloat,
    promql::source::{LabelSort, Selection, SourceError},
    store::{STALE_NAN_BITS, Sample},
};
use alloc::{format, rc::Rc, string::String, vec::Vec};
use core::{cmp::Ordering, fmt::Write};

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
    selection: Selection,
    sort: Option<LabelSort>,
    is_selected: bool,
    next: usize,
    /// The name whose TYPE line was written last.
    last_name: String,
    labels: LabelsBuf,
    samples: Vec<Sample>,
}

impl FederateWork {
    pub fn new(federate: Federate) -> Self {
        let mut federate = federate;
        let start_ms = federate.now_ms - federate.lookback_ms + 1;
        let matcher_lists = core::mem::take(&mut federate.matcher_lists);
        Self {
            // Without a list nothing is asked for.
            is_selected: matcher_lists.is_empty(),
            selection: Selection::new(matcher_lists, start_ms, federate.now_ms),
            sort: Some(LabelSort::new(by_name)),
            federate,
            next: 0,
            last_name: String::new(),
            labels: LabelsBuf::default(),
            samples: Vec::new(),
        }
    }

    pub fn bytes(&self) -> usize {
        self.selection.bytes()
            + self.sort.as_ref().map_or(0, LabelSort::bytes)
            + self.samples.capacity() * size_of::<Sample>()
            + self.selection.snapshot.as_ref().map_or(0, |snapshot| snapshot.bytes())
    }

    /// Selects, then writes some series per bite (web/federate.go).
    pub fn bite(&mut self, bite: &mut Bite<'_>) -> Result<bool, ApiError> {
        if !self.is_selected {
            self.selection.snapshot.get_or_insert_with(|| Rc::new(bite.source.snapshot()));
            self.is_selected = bite.select(&mut self.selection, &mut self.sort, 0)?;
            return Ok(false);
        }
        let failed = |error: SourceError| ApiError::new(ErrorType::Execution, format!("{error}"));
        for _ in 0..BITE_SERIES {
            if self.next == self.selection.series.len() {
                return Ok(true);
            }
            let (index, Selection { start_ms, end_ms, .. }) = (self.next, &self.selection);
            self.next += 1;
            self.samples.clear();
            bite.source.read_all(&self.selection, index, *start_ms, *end_ms, &mut self.samples).map_err(failed)?;
            let newest = self.samples.last().filter(|sample| sample.value.to_bits() != STALE_NAN_BITS);
            let Some(sample) = newest else { continue };
            bite.source.labels(&self.selection, index, &mut self.labels).map_err(failed)?;
            let labels = self.labels.as_ref();
            let name = labels.metric_name();
            let mut line = String::new();
            if self.last_name != name {
                self.last_name = name.into();
                put(&mut line, format_args!("# TYPE {name} untyped\n"));
            }
            write_line(&mut line, labels, &self.federate.external_labels, *sample);
            bite.body.extend_from_slice(line.as_bytes());
            if bite.body.len() >= PIECE_BYTES {
                break;
            }
        }
        Ok(false)
    }
}

fn by_name(a: LabelsRef<'_>, b: LabelsRef<'_>) -> Ordering {
    a.metric_name().cmp(b.metric_name()).then_with(|| a.cmp(&b))
}

/// The series' labels, then the external ones it has not, among them `instance=""` where there is no instance at all.
fn write_line(line: &mut String, labels: LabelsRef<'_>, external_labels: &LabelSet, sample: Sample) {
    put(line, format_args!("{}{{", labels.metric_name()));
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
