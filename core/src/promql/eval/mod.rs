//! Evaluation: a tree of operators, pulled from the top, each resumable between any two samples.
//!
//! An operator first tells how many series it may yield ([`Operator::open`]), then yields them one at a time, each with
//! all its steps ([`Operator::next`]). Their labels are fetched when they are needed, one series at a time
//! ([`Operator::labels`]): only what an aggregation keeps is held. Between calls an operator keeps everything in its own
//! fields: nothing refers to the source, which may change underneath. `More` means that the bite is used up; the caller
//! returns it upwards and calls again later. Every call makes some progress, however small the bite.
//!
//! Values of a series are a dense run, one per step, with [`ABSENT`] where there is none.

pub mod absent;
pub mod aggregate;
pub mod arithmetic;
pub mod groups;
pub mod histogram;
pub mod labels;
pub mod map;
pub mod merge;
pub mod over_time;
pub mod scalar;
pub mod selector;
pub mod set;
pub mod sort;
pub mod subquery;
pub mod topk;
pub mod vectors;

use super::{
    ast::Span,
    query::{Annotation, AnnotationLevel, QueryError},
    source::{LABELS_COST, Snapshot, Source},
};
use crate::{
    labels::{LabelsBuf, LabelsRef},
    store::STALE_NAN_BITS,
};
use alloc::{format, rc::Rc, string::String, vec::Vec};

/// No value at this step. The bits of a stale marker, which no computed value has: arithmetic makes quiet NaNs.
pub const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);

pub fn is_absent(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// One value per step.
pub type Values = Vec<f64>;

/// The series that an operator may yield, numbered from 0. No two have the same labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    pub count: usize,
    /// Their labels are known to ascend.
    pub is_sorted: bool,
}

impl Series {
    /// One series, or none.
    pub const ONE: Self = Self { count: 1, is_sorted: true };
}

pub enum Opened {
    More,
    Ready(Series),
}

/// What an operator's child has given when it was opened; it is opened until it gives something, and never again. `None`:
/// not yet.
fn open_once(
    opened: &mut Option<Series>,
    open: impl FnOnce() -> Result<Opened, QueryError>,
) -> Result<Option<Series>, QueryError> {
    if opened.is_none()
        && let Opened::Ready(series) = open()?
    {
        *opened = Some(series);
    }
    Ok(*opened)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    More,
    /// The series of this index, at most once each and in any order; the values are in the caller's buffer.
    Series(usize),
    Done,
}

pub trait Operator {
    /// Called until it is ready, and not again after that.
    fn open(&mut self, context: &mut Context<'_>) -> Result<Opened, QueryError>;

    /// The labels of one of its series.
    fn labels(&mut self, context: &mut Context<'_>, series: usize, labels: &mut LabelsBuf) -> Result<(), QueryError>;

    /// `values` is the caller's buffer, exchanged for a filled one when a series is returned, and left alone else.
    fn next(&mut self, context: &mut Context<'_>, values: &mut Values) -> Result<Next, QueryError>;
}

/// The instants an expression is evaluated at. Subqueries have their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    pub start_ms: i64,
    pub step_ms: i64,
    pub count: usize,
}

impl Grid {
    pub fn at_ms(&self, step: usize) -> i64 {
        self.start_ms.saturating_add(self.step_ms.saturating_mul(step as i64))
    }

    pub fn end_ms(&self) -> i64 {
        self.at_ms(self.count.saturating_sub(1))
    }
}

/// What one bite works with.
pub struct Context<'a> {
    pub source: &'a mut dyn Source,
    /// What the query reads of it.
    pub snapshot: &'a Rc<Snapshot>,
    /// Samples and steps that may still be worked on in this bite; may go below zero by what one call takes.
    pub bite_left: i64,
    pub meter: &'a mut Meter,
    pub annotations: &'a mut Annotations,
}

impl Context<'_> {
    /// Takes `count` samples or steps off the bite; false when it is used up.
    pub fn spend(&mut self, count: usize) -> bool {
        self.bite_left = self.bite_left.saturating_sub(count as i64);
        self.bite_left > 0
    }

    /// As [`Self::spend`], for one series whose labels were looked at.
    pub fn spend_labels(&mut self) -> bool {
        self.spend(LABELS_COST)
    }
}

/// What a query holds. Structures live as long as the query and buffers are reused, so only results are given back.
pub struct Meter {
    bytes: usize,
    bytes_max: usize,
    samples: u64,
    samples_max: u64,
}

impl Meter {
    pub fn new(bytes_max: usize, samples_max: u64) -> Self {
        Self { bytes: 0, bytes_max, samples: 0, samples_max }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn bytes_left(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes)
    }

    pub fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    pub fn samples(&self) -> u64 {
        self.samples
    }

    pub fn charge(&mut self, bytes: usize) -> Result<(), QueryError> {
        let total = self.bytes.saturating_add(bytes);
        if total > self.bytes_max {
            return Err(QueryError::Memory { bytes_max: self.bytes_max });
        }
        self.bytes = total;
        Ok(())
    }

    pub fn release(&mut self, bytes: usize) {
        assert!(bytes <= self.bytes, "{bytes} bytes are released and {} were charged", self.bytes);
        self.bytes -= bytes;
    }

    /// Charges what something grew by, or gives back what it shrank by, that was bounded by what was left.
    pub fn charge_change(&mut self, before: usize, after: usize) -> Result<(), QueryError> {
        self.release(before.saturating_sub(after));
        self.charge(after.saturating_sub(before))
    }

    fn charge_samples(&mut self, count: usize) -> Result<(), QueryError> {
        let total = self.samples.saturating_add(count as u64);
        if total > self.samples_max {
            return Err(QueryError::TooManySamples);
        }
        self.samples = total;
        Ok(())
    }

    /// Frees `list` and gives back what [`Self::reserve`] charged for it.
    pub fn free<T>(&mut self, list: &mut Vec<T>) {
        self.release(list.capacity() * size_of::<T>());
        *list = Vec::new();
    }

    /// Makes room for `more` elements behind those in `list`.
    pub fn reserve<T>(&mut self, list: &mut Vec<T>, more: usize) -> Result<(), QueryError> {
        let wanted = list.len().saturating_add(more);
        if wanted <= list.capacity() {
            return Ok(());
        }
        let capacity = wanted.max(list.capacity().saturating_mul(2));
        let capacity = if self.fits::<T>(capacity - list.capacity()) { capacity } else { wanted };
        let added = capacity - list.capacity();
        self.charge(added.saturating_mul(size_of::<T>()))?;
        list.reserve_exact(capacity - list.len());
        Ok(())
    }

    fn fits<T>(&self, count: usize) -> bool {
        count.saturating_mul(size_of::<T>()) <= self.bytes_left()
    }

    /// As [`Meter::reserve`], for samples.
    pub fn reserve_samples<T>(&mut self, list: &mut Vec<T>, more: usize) -> Result<(), QueryError> {
        let before = list.capacity();
        self.reserve(list, more)?;
        self.charge_samples(list.capacity() - before)
    }

    /// Charges what `list` grew by when someone else filled it.
    pub fn charge_growth<T>(&mut self, list: &Vec<T>, capacity_before: usize) -> Result<(), QueryError> {
        let added = list.capacity().saturating_sub(capacity_before);
        self.charge(added.saturating_mul(size_of::<T>()))?;
        self.charge_samples(added)
    }

    /// A run of `count` equal elements.
    pub fn filled<T: Clone>(&mut self, value: T, count: usize) -> Result<Vec<T>, QueryError> {
        let mut list = Vec::new();
        self.reserve_samples(&mut list, count)?;
        list.resize(count, value);
        Ok(list)
    }

    /// Makes `values` `count` absent steps.
    pub fn reset(&mut self, values: &mut Values, count: usize) -> Result<(), QueryError> {
        values.clear();
        self.reserve_samples(values, count)?;
        values.resize(count, ABSENT);
        Ok(())
    }
}

/// Most warnings, and most infos, that a query keeps; Prometheus' API shows ten of each.
const ANNOTATIONS_MAX: usize = 10;

#[derive(Default)]
pub struct Annotations {
    list: Vec<Annotation>,
    text: Vec<usize>,
}

impl Annotations {
    /// `lines`: byte offsets at which the query's lines begin, for positions.
    pub fn new(lines: Vec<usize>) -> Self {
        Self { list: Vec::new(), text: lines }
    }

    pub fn list(&self) -> &[Annotation] {
        &self.list
    }

    pub fn warn(&mut self, span: Span, text: &str) {
        self.add(AnnotationLevel::Warning, "warning", span, text);
    }

    pub fn info(&mut self, span: Span, text: &str) {
        self.add(AnnotationLevel::Info, "info", span, text);
    }

    fn add(&mut self, level: AnnotationLevel, word: &str, span: Span, text: &str) {
        if self.list.iter().filter(|annotation| annotation.level == level).count() >= ANNOTATIONS_MAX {
            return;
        }
        let line = self.text.partition_point(|begin| *begin <= span.start).max(1);
        let column = span.start - self.text.get(line - 1).copied().unwrap_or(0) + 1;
        let text = format!("PromQL {word}: {text} ({line}:{column})");
        if !self.list.iter().any(|annotation| annotation.text == text) {
            self.list.push(Annotation { level, text });
        }
    }
}

/// Labels as Prometheus writes them in error texts, the name among them.
pub fn labels_text(labels: LabelsRef<'_>) -> String {
    let mut text = String::from("{");
    for (index, (name, value)) in labels.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        text.push_str(&format!("{comma}{}={}", super::ast::NameText(name), super::ast::Quoted(value)));
    }
    text.push('}');
    text
}

pub fn execution(text: impl AsRef<str>) -> QueryError {
    QueryError::Execution(text.as_ref().into())
}
