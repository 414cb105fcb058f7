//! The answer to `series`, `labels` and label values: what is selected is sorted, then written, bite by bite.

use super::{Bite, PIECE_BYTES, TRUNCATED, write_labels};
use crate::{
    api::{ApiError, Json},
    labels::{LabelsBuf, LabelsRef, Matcher},
    promql::source::{LabelSort, Selection},
};
use alloc::{boxed::Box, collections::BTreeSet, vec::Vec};

/// Series whose labels one bite looks at, at most.
const BITE_SERIES: usize = 1_000;

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
    kind: SelectKind,
    limit: usize,
    selection: Selection,
    /// Series are given in the order of their labels.
    sort: Option<LabelSort>,
    stage: Stage,
    /// The next series to look at.
    next: usize,
    /// Heap of the texts found.
    bytes: usize,
    texts: BTreeSet<Box<str>>,
    labels: LabelsBuf,
    json: Json,
    written: usize,
}

enum Stage {
    Selecting,
    /// The texts are taken from the labels of all series.
    Gathering,
    Writing,
}

impl SelectWork {
    pub fn new(select: Select) -> Self {
        let is_series = matches!(select.kind, SelectKind::Series);
        Self {
            kind: select.kind,
            limit: if select.limit == 0 { usize::MAX } else { select.limit },
            selection: Selection::new(select.matcher_lists, select.start_ms, select.end_ms),
            sort: is_series.then(|| LabelSort::new(|a: LabelsRef<'_>, b| a.cmp(&b))),
            stage: if select.start_ms <= select.end_ms { Stage::Selecting } else { Stage::Gathering },
            next: 0,
            bytes: 0,
            texts: BTreeSet::new(),
            labels: LabelsBuf::default(),
            json: Json::default(),
            written: 0,
        }
    }

    pub fn bytes(&self) -> usize {
        self.selection.bytes() + self.sort.as_ref().map_or(0, LabelSort::bytes) + self.bytes
    }

    pub fn bite(&mut self, bite: &mut Bite<'_>) -> Result<bool, ApiError> {
        match self.stage {
            Stage::Selecting => {
                if bite.select(&mut self.selection, &mut self.sort, self.bytes)? {
                    self.stage = Stage::Gathering;
                }
                return Ok(false);
            }
            Stage::Gathering => {
                if self.gather(bite)? {
                    self.json.open("{").key("status").text("success").key("data").open("[");
                    self.stage = Stage::Writing;
                }
                return Ok(false);
            }
            Stage::Writing => {}
        }
        while self.json.len() < PIECE_BYTES {
            let is_cut = self.written == self.limit;
            if is_cut || !self.write_one(bite)? {
                self.close(is_cut && !self.is_written());
                bite.give(&mut self.json);
                return Ok(true);
            }
        }
        bite.give(&mut self.json);
        Ok(false)
    }

    /// Takes names or values from the labels of some series; true when all are looked at.
    fn gather(&mut self, bite: &mut Bite<'_>) -> Result<bool, ApiError> {
        let name = match &self.kind {
            SelectKind::Series => return Ok(true),
            SelectKind::LabelNames => None,
            SelectKind::LabelValues(name) => Some(&**name),
        };
        for _ in 0..BITE_SERIES {
            if self.next == self.selection.series.len() {
                self.selection = Selection::new(Vec::new(), 0, 0);
                self.next = 0;
                return Ok(true);
            }
            let fetched = bite.source.labels(&self.selection, self.next, &mut self.labels);
            fetched.map_err(|error| bite.failed(&error))?;
            self.next += 1;
            for (label, value) in self.labels.as_ref().iter() {
                let text = match name {
                    None => label,
                    Some(name) if name == label => value,
                    Some(_) => continue,
                };
                if self.texts.contains(text) {
                    continue;
                }
                self.bytes += TEXT_BYTES + text.len();
                if self.selection.bytes() + self.bytes > bite.bytes_max {
                    return Err(bite.out_of_memory("the list of labels"));
                }
                self.texts.insert(text.into());
            }
        }
        Ok(false)
    }

    fn is_written(&self) -> bool {
        self.next == self.selection.series.len() && self.texts.is_empty()
    }

    /// Writes the next series or text; false when there is none.
    fn write_one(&mut self, bite: &mut Bite<'_>) -> Result<bool, ApiError> {
        if self.next < self.selection.series.len() {
            let fetched = bite.source.labels(&self.selection, self.next, &mut self.labels);
            fetched.map_err(|error| bite.failed(&error))?;
            self.next += 1;
            write_labels(&mut self.json, self.labels.as_ref());
        } else {
            let Some(text) = self.texts.pop_first() else { return Ok(false) };
            self.json.text(&text);
        }
        self.written += 1;
        Ok(true)
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
