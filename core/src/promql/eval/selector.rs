//! Reading stored series: the instant selector, and windows of raw samples for functions over ranges.
//!
//! A series is read slice by slice in time, so that memory holds one window and one slice, however long the query's
//! range is. The slice's length adapts to the density of the samples.

use super::{ABSENT, Context, Grid, Next, Opened, Operator, Series, Values};
use crate::{
    labels::{LabelsBuf, LabelsRef, Matcher},
    promql::{
        query::QueryError,
        source::{self, LABELS_COST, LabelSort, READ_MS_MIN, SourceError},
    },
    store::{STALE_NAN_BITS, Sample},
};
use alloc::{rc::Rc, vec, vec::Vec};

/// Windows of samples, series by series and step by step.
pub trait Windows {
    fn open(&mut self, context: &mut Context<'_>) -> Result<Opened, QueryError>;

    /// The labels of one of its series.
    fn labels(&mut self, context: &mut Context<'_>, series: usize, labels: &mut LabelsBuf) -> Result<(), QueryError>;

    /// Moves to the next series.
    fn next_series(&mut self, context: &mut Context<'_>) -> Result<Next, QueryError>;

    /// Fetches what the window of `step` needs; false when the bite is used up. Steps must not go back.
    fn fetch(&mut self, context: &mut Context<'_>, step: usize) -> Result<bool, QueryError>;

    /// The samples of the fetched window, without stale markers.
    fn samples(&self) -> &[Sample];

    /// The window of `step`: after the first, up to and including the second.
    fn bounds_ms(&self, step: usize) -> (i64, i64);

    /// All steps have one window, because of `@`.
    fn is_fixed(&self) -> bool;
}

/// What to select and where in time.
pub struct Selection {
    pub matchers: Vec<Matcher>,
    pub grid: Grid,
    /// The range, or the look-back.
    pub range_ms: i64,
    pub offset_ms: i64,
    /// `@`, resolved.
    pub at_ms: Option<i64>,
    pub order: Order,
}

/// In which order the series of a selector come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By their labels, as Prometheus gives them.
    Labels,
    /// As they are stored, which is quicker. For what reads all of them before it gives anything.
    Any,
}

impl Selection {
    fn bounds_ms(&self, step: usize) -> (i64, i64) {
        let end_ms = self.at_ms.unwrap_or_else(|| self.grid.at_ms(step)).saturating_sub(self.offset_ms);
        (end_ms.saturating_sub(self.range_ms), end_ms)
    }

    /// Everything any window may need.
    fn span_ms(&self) -> (i64, i64) {
        (self.bounds_ms(0).0.saturating_add(1), self.bounds_ms(self.grid.count.saturating_sub(1)).1)
    }
}

/// The selected series, and the part of the current one that is being worked on.
pub struct SeriesReader {
    selection: Selection,
    keeps_stale: bool,
    selected: source::Selection,
    sort: Option<LabelSort>,
    /// The current series, after the first `next_series`.
    current: Option<usize>,
    buffer: Vec<Sample>,
    /// Samples before this are behind the current window.
    from: usize,
    /// Samples from here on are beyond the current window.
    to: usize,
    /// Everything up to here, inclusive, is in the buffer or behind it.
    read_until_ms: i64,
    slice_ms: i64,
}

/// How long a slice is at first.
const SLICE_MS_FIRST: i64 = 600_000;
/// A slice with fewer samples doubles the next one, with more halves it.
const SLICE_SAMPLES_LOW: usize = 128;
const SLICE_SAMPLES_HIGH: usize = 1024;

impl SeriesReader {
    pub fn new(selection: Selection, keeps_stale: bool) -> Self {
        let (start_ms, end_ms) = selection.span_ms();
        let sort = (selection.order == Order::Labels).then(|| LabelSort::new(|a: LabelsRef<'_>, b| a.cmp(&b)));
        Self {
            selected: source::Selection::new(vec![selection.matchers.clone()], start_ms, end_ms),
            selection,
            keeps_stale,
            sort,
            current: None,
            buffer: Vec::new(),
            from: 0,
            to: 0,
            read_until_ms: i64::MIN,
            slice_ms: SLICE_MS_FIRST,
        }
    }
}

impl Windows for SeriesReader {
    fn open(&mut self, context: &mut Context<'_>) -> Result<Opened, QueryError> {
        while self.selected.progress != source::Progress::Done {
            let bite = usize::try_from(context.bite_left).unwrap_or(0);
            if bite == 0 {
                return Ok(Opened::More);
            }
            self.selected.snapshot.get_or_insert_with(|| Rc::clone(context.snapshot));
            let before = self.selected.bytes();
            self.selected.bytes_max = before + context.meter.bytes_left();
            let count_max = bite.div_ceil(LABELS_COST);
            let selected = context.source.select(&mut self.selected, count_max);
            context.meter.charge_change(before, self.selected.bytes())?;
            if !selected.map_err(failed)? {
                context.spend(count_max * LABELS_COST);
            }
        }
        if let Some(sort) = &mut self.sort {
            let before = sort.bytes();
            let bytes_max = before + context.meter.bytes_left();
            let is_sorted = sort.step(context.source, &mut self.selected, bytes_max, &mut context.bite_left);
            context.meter.charge_change(before, sort.bytes())?;
            if !is_sorted.map_err(failed)? {
                return Ok(Opened::More);
            }
            self.sort = None;
        }
        let is_sorted = self.selection.order == Order::Labels;
        Ok(Opened::Ready(Series { count: self.selected.series.len(), is_sorted }))
    }

    fn labels(&mut self, context: &mut Context<'_>, series: usize, labels: &mut LabelsBuf) -> Result<(), QueryError> {
        let more = context.source.labels(&self.selected, series, labels).map_err(failed)?;
        context.spend(more);
        Ok(())
    }

    fn next_series(&mut self, context: &mut Context<'_>) -> Result<Next, QueryError> {
        let index = self.current.map_or(0, |current| current + 1);
        if index >= self.selected.series.len() {
            return Ok(Next::Done);
        }
        if !context.spend(1) && self.current.is_some() && context.bite_left < 0 {
            return Ok(Next::More);
        }
        self.current = Some(index);
        self.buffer.clear();
        (self.from, self.to) = (0, 0);
        self.read_until_ms = i64::MIN;
        Ok(Next::Series(index))
    }

    fn fetch(&mut self, context: &mut Context<'_>, step: usize) -> Result<bool, QueryError> {
        let (left_ms, right_ms) = self.selection.bounds_ms(step);
        // Gaps between windows are not read.
        if left_ms > self.read_until_ms {
            self.buffer.clear();
            (self.from, self.to) = (0, 0);
            self.read_until_ms = left_ms;
        }
        self.from += self.buffer[self.from..].partition_point(|sample| sample.t_ms <= left_ms);
        while self.read_until_ms < right_ms {
            if !self.read_slice(context, right_ms)? {
                return Ok(false);
            }
        }
        self.to = self.from + self.buffer[self.from..].partition_point(|sample| sample.t_ms <= right_ms);
        Ok(true)
    }

    fn samples(&self) -> &[Sample] {
        &self.buffer[self.from..self.to]
    }

    fn bounds_ms(&self, step: usize) -> (i64, i64) {
        self.selection.bounds_ms(step)
    }

    fn is_fixed(&self) -> bool {
        self.selection.at_ms.is_some()
    }
}

impl SeriesReader {
    /// Reads on, at least a bit; false when the bite is used up and `right_ms` is not reached.
    fn read_slice(&mut self, context: &mut Context<'_>, right_ms: i64) -> Result<bool, QueryError> {
        let selection = &self.selection;
        let windows_touch = !self.is_fixed() && selection.grid.step_ms <= selection.range_ms;
        let end_ms = if windows_touch { selection.span_ms().1 } else { right_ms };
        if self.from > self.buffer.len() / 2 {
            self.buffer.drain(..self.from);
            self.from = 0;
        }
        context.meter.reserve_samples(&mut self.buffer, SLICE_SAMPLES_LOW)?;
        let (before, capacity) = (self.buffer.len(), self.buffer.capacity());
        let Some(index) = self.current else { return Ok(true) };
        let from_ms = self.read_until_ms.saturating_add(1);
        let (to_ms, cost) = loop {
            let to_ms = self.read_until_ms.saturating_add(self.slice_ms).min(end_ms);
            match context.source.read(&self.selected, index, from_ms, to_ms, &mut self.buffer).map_err(failed)? {
                Some(cost) => break (to_ms, cost),
                None => self.slice_ms = (self.slice_ms / 2).max(READ_MS_MIN),
            }
        };
        context.meter.charge_growth(&self.buffer, capacity)?;
        let count = self.buffer.len() - before;
        if !self.keeps_stale {
            let mut index = 0;
            self.buffer.retain(|sample| {
                index += 1;
                index <= before || sample.value.to_bits() != STALE_NAN_BITS
            });
        }
        if count < SLICE_SAMPLES_LOW {
            self.slice_ms = self.slice_ms.saturating_mul(2);
        } else if count > SLICE_SAMPLES_HIGH {
            self.slice_ms = (self.slice_ms / 2).max(READ_MS_MIN);
        }
        self.read_until_ms = to_ms;
        Ok(context.spend(cost + count + 1) || self.read_until_ms >= right_ms)
    }
}

fn failed(error: SourceError) -> QueryError {
    QueryError::Execution(error.0)
}

/// The newest sample within the look-back, at each step.
pub struct InstantSelector {
    reader: SeriesReader,
    grid: Grid,
    /// Yield the samples' times in seconds instead of their values.
    timestamps: bool,
    series: Option<usize>,
    step: usize,
    values: Values,
}

impl InstantSelector {
    pub fn new(selection: Selection, timestamps: bool) -> Self {
        let grid = selection.grid;
        Self {
            reader: SeriesReader::new(selection, true),
            grid,
            timestamps,
            series: None,
            step: 0,
            values: Values::new(),
        }
    }

    fn value(&self) -> f64 {
        match self.reader.samples().last() {
            Some(sample) if sample.value.to_bits() != STALE_NAN_BITS => {
                if self.timestamps {
                    sample.t_ms as f64 / 1000.0
                } else {
                    sample.value
                }
            }
            _ => ABSENT,
        }
    }
}

impl Operator for InstantSelector {
    fn open(&mut self, context: &mut Context<'_>) -> Result<Opened, QueryError> {
        self.reader.open(context)
    }

    fn labels(&mut self, context: &mut Context<'_>, series: usize, labels: &mut LabelsBuf) -> Result<(), QueryError> {
        self.reader.labels(context, series, labels)
    }

    fn next(&mut self, context: &mut Context<'_>, values: &mut Values) -> Result<Next, QueryError> {
        loop {
            let Some(series) = self.series else {
                match self.reader.next_series(context)? {
                    Next::Series(index) => self.series = Some(index),
                    other => return Ok(other),
                }
                context.meter.reset(&mut self.values, self.grid.count)?;
                self.step = 0;
                continue;
            };
            while self.step < self.grid.count {
                if !self.reader.fetch(context, self.step)? {
                    return Ok(Next::More);
                }
                let value = self.value();
                if self.reader.is_fixed() {
                    self.values.fill(value);
                    self.step = self.grid.count;
                } else {
                    self.values[self.step] = value;
                    self.step += 1;
                }
                if !context.spend(1) && self.step < self.grid.count {
                    return Ok(Next::More);
                }
            }
            self.series = None;
            if !self.values.iter().all(|value| super::is_absent(*value)) {
                core::mem::swap(values, &mut self.values);
                return Ok(Next::Series(series));
            }
        }
    }
}
