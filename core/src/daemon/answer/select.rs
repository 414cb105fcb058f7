//! The answer to `series`, `labels`, label values and `status/tsdb`: what is selected is sorted, then written bite by bite.

use super::{Bite, PIECE_BYTES, TRUNCATED, write_labels};
use crate::{
    api::{ApiError, Json},
    labels::Matcher,
    promql::source::Selected,
};
use alloc::{boxed::Box, collections::BTreeSet, vec::Vec};

/// A request for series, label names or label values.
pub struct Select {
    pub kind: SelectKind,
    /// Each list is one `match[]`; none selects everything.
    pub matcher_lists: Vec<Vec<Matcher>>,
    pub start_ms: i64,
    pub end_ms: i64,
    /// 0: no limit.
    pub limit: usize,
}

pub enum SelectKind {
    Series,
    LabelNames,
    LabelValues(Box<str>),
}

/// Heap of one text in a set of them, beside its bytes: its place in a node that may be half empty.
const TEXT_BYTES: usize = 4 * size_of::<Box<str>>();

pub struct SelectWork {
    select: Select,
    /// The next list of matchers.
    next: usize,
    selection: Vec<Selected>,
    /// Heap of what is selected, and of the texts found in it.
    bytes: usize,
    texts: BTreeSet<Box<str>>,
    json: Json,
    written: usize,
    is_selected: bool,
}

impl SelectWork {
    pub fn new(select: Select) -> Self {
        Self {
            select,
            next: 0,
            selection: Vec::new(),
            bytes: 0,
            texts: BTreeSet::new(),
            json: Json::default(),
            written: 0,
            is_selected: false,
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// One list of matchers per bite, then a piece of the answer per bite.
    pub fn bite(&mut self, bite: &mut Bite<'_>) -> Result<bool, ApiError> {
        if !self.is_selected {
            let Select { matcher_lists, start_ms, end_ms, .. } = &self.select;
            let matchers = matcher_lists.get(self.next).map_or(&[][..], Vec::as_slice);
            if start_ms <= end_ms {
                bite.select(matchers, *start_ms, *end_ms, &mut self.selection, &mut self.bytes)?;
            }
            self.next += 1;
            self.is_selected = self.next >= matcher_lists.len();
            if self.is_selected {
                self.sort(bite)?;
                self.json.open("{").key("status").text("success").key("data").open("[");
            }
            return Ok(false);
        }
        let limit = if self.select.limit == 0 { usize::MAX } else { self.select.limit };
        let mut truncated = false;
        while self.json.len() < PIECE_BYTES {
            if self.is_written() {
                self.close(truncated);
                bite.give(&mut self.json);
                return Ok(true);
            }
            truncated = self.written == limit;
            if truncated {
                self.selection.clear();
                self.texts.clear();
            } else {
                self.write_one();
            }
        }
        bite.give(&mut self.json);
        Ok(false)
    }

    fn sort(&mut self, bite: &Bite<'_>) -> Result<(), ApiError> {
        let name = match &self.select.kind {
            SelectKind::Series => {
                // From the end on they are taken, so that each is freed when it is written.
                self.selection.sort_unstable_by(|a, b| b.labels.cmp(&a.labels));
                self.selection.dedup_by(|a, b| a.labels == b.labels);
                return Ok(());
            }
            SelectKind::LabelNames => None,
            SelectKind::LabelValues(name) => Some(&**name),
        };
        for selected in &self.selection {
            for (label, value) in selected.labels.iter() {
                let text = match name {
                    None => label,
                    Some(name) if name == label => value,
                    Some(_) => continue,
                };
                if self.texts.contains(text) {
                    continue;
                }
                self.bytes += TEXT_BYTES + text.len();
                if self.bytes > bite.bytes_max {
                    return Err(bite.out_of_memory("the list of labels"));
                }
                self.texts.insert(text.into());
            }
        }
        self.selection = Vec::new();
        Ok(())
    }

    fn is_written(&self) -> bool {
        self.selection.is_empty() && self.texts.is_empty()
    }

    fn write_one(&mut self) {
        self.written += 1;
        if let Some(selected) = self.selection.pop() {
            write_labels(&mut self.json, &selected.labels);
        } else if let Some(text) = self.texts.pop_first() {
            self.json.text(&text);
        }
    }

    fn close(&mut self, truncated: bool) {
        self.json.close("]");
        if truncated {
            self.json.key("warnings").array(|json| {
                json.text(TRUNCATED);
            });
        }
        self.json.close("}");
    }
}
