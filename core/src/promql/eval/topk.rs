//! `topk`, `bottomk`: at each step the k largest or smallest of each group; and `count_values`.

use super::{
    ABSENT, Context, Grid, Next, Opened, Operator, Series, Values, execution,
    groups::{Assignment, Grouping, LabelNumbers},
    is_absent, open_once,
    scalar::Scalars,
};
use crate::{
    labels::{LabelsBuf, LabelsBuilder},
    promql::{ast::NumberText, query::QueryError},
};
use alloc::{boxed::Box, format, string::String, vec::Vec};

pub struct TopkOperator {
    child: Box<dyn Operator>,
    grouping: Grouping,
    /// The k.
    scalars: Scalars,
    smallest: bool,
    grid: Grid,
    opened: Option<Series>,
    assignment: Assignment,
    groups: Vec<u32>,
    /// Per group and step a heap of at most k entries, the first the next to go.
    heaps: Vec<Vec<Entry>>,
    /// What is to be yielded: series in order, each once. By value in an instant query.
    order: Vec<u32>,
    is_read: bool,
    emitted: usize,
    buffer: Values,
}

#[derive(Clone, Copy)]
struct Entry {
    value: f64,
    series: u32,
}

impl TopkOperator {
    pub fn new(child: Box<dyn Operator>, grouping: Grouping, scalars: Scalars, smallest: bool, grid: Grid) -> Self {
        Self {
            child,
            grouping,
            scalars,
            smallest,
            grid,
            opened: None,
            assignment: Assignment::default(),
            groups: Vec::new(),
            heaps: Vec::new(),
            order: Vec::new(),
            is_read: false,
            emitted: 0,
            buffer: Values::new(),
        }
    }

    fn gather(&mut self, context: &mut Context<'_>, series: usize) -> Result<(), QueryError> {
        let group = self.groups[series] as usize;
        for step in 0..self.grid.count {
            let (value, k) = (self.buffer[step], self.scalars.at(step)[0]);
            if is_absent(value) || k < 1.0 {
                continue;
            }
            let heap = &mut self.heaps[group * self.grid.count + step];
            let entry = Entry { value, series: series as u32 };
            if (heap.len() as f64) < libm::trunc(k) {
                context.meter.reserve_samples(heap, 1)?;
                heap.push(entry);
                sift_up(heap, self.smallest);
            } else if goes_before(heap[0].value, value, self.smallest) && !value.is_nan() {
                heap[0] = entry;
                sift_down(heap, self.smallest);
            }
        }
        Ok(())
    }

    fn settle(&mut self, context: &mut Context<'_>) -> Result<(), QueryError> {
        let smallest = self.smallest;
        if self.grid.count == 1 {
            for heap in &mut self.heaps {
                heap.sort_by(|a, b| {
                    let (a_goes, b_goes) =
                        (goes_before(a.value, b.value, smallest), goes_before(b.value, a.value, smallest));
                    // Those that would go first come last.
                    a_goes.cmp(&b_goes)
                });
                context.meter.reserve(&mut self.order, heap.len())?;
                self.order.extend(heap.iter().map(|entry| entry.series));
            }
            return Ok(());
        }
        let mut chosen: Vec<bool> = context.meter.filled(false, self.groups.len())?;
        self.heaps.iter().flatten().for_each(|entry| chosen[entry.series as usize] = true);
        context.meter.reserve(&mut self.order, chosen.len())?;
        self.order.extend((0..chosen.len() as u32).filter(|series| chosen[*series as usize]));
        Ok(())
    }
}

/// Whether `a` leaves the heap before `b`: it is smaller (or larger, for `bottomk`), or no number.
fn goes_before(a: f64, b: f64, smallest: bool) -> bool {
    if a.is_nan() {
        !b.is_nan()
    } else if smallest {
        a > b
    } else {
        a < b
    }
}

fn sift_up(heap: &mut [Entry], smallest: bool) {
    let mut child = heap.len() - 1;
    while child > 0 {
        let parent = (child - 1) / 2;
        if !goes_before(heap[child].value, heap[parent].value, smallest) {
            return;
        }
        heap.swap(parent, child);
        child = parent;
    }
}

fn sift_down(heap: &mut [Entry], smallest: bool) {
    let mut parent = 0;
    loop {
        let mut child = 2 * parent + 1;
        if child >= heap.len() {
            return;
        }
        if child + 1 < heap.len() && goes_before(heap[child + 1].value, heap[child].value, smallest) {
            child += 1;
        }
        if !goes_before(heap[child].value, heap[parent].value, smallest) {
            return;
        }
        heap.swap(parent, child);
        parent = child;
    }
}

impl Operator for TopkOperator {
    fn open(&mut self, context: &mut Context<'_>) -> Result<Opened, QueryError> {
        if !self.scalars.open(context)? {
            return Ok(Opened::More);
        }
        for step in 0..self.grid.count {
            let k = self.scalars.at(step)[0];
            if k.is_nan() {
                return Err(execution("Parameter value is NaN"));
            }
            if !(-9.223_372_036_854_776e18..9.223_372_036_854_776e18).contains(&k) {
                return Err(execution(format!("Scalar value {} overflows int64", NumberText(k))));
            }
        }
        let Some(series) = open_once(&mut self.opened, || self.child.open(context))? else { return Ok(Opened::More) };
        if !self.assignment.step(context, &mut *self.child, series.count, &self.grouping)? {
            return Ok(Opened::More);
        }
        let (groups, keys) = core::mem::take(&mut self.assignment).finish();
        self.groups = groups;
        let heap_count = keys.len().saturating_mul(self.grid.count);
        context.meter.reserve(&mut self.heaps, heap_count)?;
        self.heaps.resize(heap_count, Vec::new());
        Ok(Opened::Ready(series))
    }

    fn labels(&mut self, context: &mut Context<'_>, series: usize, labels: &mut LabelsBuf) -> Result<(), QueryError> {
        self.child.labels(context, series, labels)
    }

    fn next(&mut self, context: &mut Context<'_>, values: &mut Values) -> Result<Next, QueryError> {
        while !self.is_read {
            match self.child.next(context, &mut self.buffer)? {
                Next::More => return Ok(Next::More),
                Next::Series(series) => self.gather(context, series)?,
                Next::Done => {
                    self.settle(context)?;
                    self.is_read = true;
                }
            }
            if !context.spend(self.grid.count) {
                return Ok(Next::More);
            }
        }
        let Some(series) = self.order.get(self.emitted).copied() else { return Ok(Next::Done) };
        self.emitted += 1;
        context.meter.reset(values, self.grid.count)?;
        let first = self.groups[series as usize] as usize * self.grid.count;
        let mut worked = 0;
        for (value, heap) in values.iter_mut().zip(&self.heaps[first..first + self.grid.count]) {
            worked += 1 + heap.len();
            *value = heap.iter().find(|entry| entry.series == series).map_or(ABSENT, |entry| entry.value);
        }
        context.spend(worked);
        Ok(Next::Series(series as usize))
    }
}

/// How many series of a group have each value, which becomes a label. The labels are only known when all is read.
pub struct CountValuesOperator {
    child: Box<dyn Operator>,
    grouping: Grouping,
    label: Box<str>,
    grid: Grid,
    opened: Option<Series>,
    assignment: Assignment,
    counts: Vec<Values>,
    numbers: LabelNumbers,
    emitted: usize,
    buffer: Values,
}

impl CountValuesOperator {
    pub fn new(child: Box<dyn Operator>, grouping: Grouping, label: &str, grid: Grid) -> Self {
        Self {
            child,
            grouping,
            label: label.into(),
            grid,
            opened: None,
            assignment: Assignment::default(),
            counts: Vec::new(),
            numbers: LabelNumbers::default(),
            emitted: 0,
            buffer: Values::new(),
        }
    }

    fn gather(&mut self, context: &mut Context<'_>, series: usize) -> Result<(), QueryError> {
        let key = &self.assignment.keys()[self.assignment.groups[series] as usize];
        let mut text = String::new();
        let mut last: Option<(u64, usize)> = None;
        for (step, value) in self.buffer.iter().copied().enumerate().filter(|(_, value)| !is_absent(*value)) {
            let index = match last {
                Some((bits, index)) if bits == value.to_bits() => index,
                _ => {
                    text.clear();
                    text.push_str(&format!("{}", NumberText(value)));
                    let mut builder = LabelsBuilder::from_labels(key.as_ref());
                    builder.set(&self.label, &text);
                    let index = self.numbers.number(context, builder.build().iter())? as usize;
                    if index == self.counts.len() {
                        context.meter.reserve(&mut self.counts, 1)?;
                        self.counts.push(context.meter.filled(ABSENT, self.grid.count)?);
                    }
                    index
                }
            };
            last = Some((value.to_bits(), index));
            let count = &mut self.counts[index][step];
            *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
        }
        Ok(())
    }
}

impl Operator for CountValuesOperator {
    fn open(&mut self, context: &mut Context<'_>) -> Result<Opened, QueryError> {
        let Some(series) = open_once(&mut self.opened, || self.child.open(context))? else { return Ok(Opened::More) };
        if !self.assignment.step(context, &mut *self.child, series.count, &self.grouping)? {
            return Ok(Opened::More);
        }
        loop {
            match self.child.next(context, &mut self.buffer)? {
                Next::More => return Ok(Opened::More),
                Next::Done => {
                    let labels = self.numbers.labels();
                    return Ok(Opened::Ready(Series { count: labels.len(), is_sorted: labels.is_sorted() }));
                }
                Next::Series(series) => self.gather(context, series)?,
            }
            if !context.spend(self.grid.count) {
                return Ok(Opened::More);
            }
        }
    }

    fn labels(&mut self, _: &mut Context<'_>, series: usize, labels: &mut LabelsBuf) -> Result<(), QueryError> {
        labels.set(self.numbers.labels()[series].as_ref());
        Ok(())
    }

    fn next(&mut self, context: &mut Context<'_>, values: &mut Values) -> Result<Next, QueryError> {
        let Some(counts) = self.counts.get_mut(self.emitted) else { return Ok(Next::Done) };
        core::mem::swap(values, counts);
        self.emitted += 1;
        context.spend(1);
        Ok(Next::Series(self.emitted - 1))
    }
}
