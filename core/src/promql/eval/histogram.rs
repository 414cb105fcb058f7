//! `histogram_quantile` and `histogram_fraction` of classic histograms: the buckets are series that differ in their `le` label.

use super::{
    ABSENT, Context, Grid, Next, Opened, Operator, Series, Values,
    groups::{Assignment, Grouping},
    is_absent,
    merge::Merge,
    scalar::Scalars,
};
use crate::{
    labels::{LabelSet, LabelsBuf, NAME},
    promql::{
        ast::{Quoted, Span},
        functions::histogram::Bucket,
        query::QueryError,
    },
};
use alloc::{boxed::Box, format, string::String, vec, vec::Vec};

/// See [`crate::promql::functions::Shape::Buckets`].
type Leaf = fn(&[f64], &mut Vec<Bucket>) -> (f64, bool);

pub struct BucketsOperator {
    child: Box<dyn Operator>,
    leaf: Leaf,
    scalars: Scalars,
    /// Of the φ, where there is one.
    quantile_span: Option<Span>,
    span: Span,
    grid: Grid,
    grouping: Grouping,
    opened: Option<Series>,
    assignment: Assignment,
    /// Per series its group.
    places: Vec<u32>,
    keys: Vec<LabelSet>,
    groups: Vec<Vec<(f64, Values)>>,
    merge: Merge,
    is_read: bool,
    emitted: usize,
    buffer: Values,
    labels: LabelsBuf,
}

impl BucketsOperator {
    pub fn new(
        child: Box<dyn Operator>,
        leaf: Leaf,
        scalars: Scalars,
        quantile_span: Option<Span>,
        span: Span,
        grid: Grid,
    ) -> Self {
        Self {
            child,
            scalars,
            leaf,
            quantile_span,
            span,
            grid,
            grouping: Grouping { labels: vec!["le".into()], without: true, keeps_name: true },
            opened: None,
            assignment: Assignment::default(),
            places: Vec::new(),
            keys: Vec::new(),
            groups: Vec::new(),
            merge: Merge::default(),
            is_read: false,
            emitted: 0,
            buffer: Values::new(),
            labels: LabelsBuf::default(),
        }
    }

    fn gather(&mut self, context: &mut Context<'_>, series: usize) -> Result<(), QueryError> {
        self.child.labels(context, series, &mut self.labels)?;
        let le = self.labels.as_ref().get("le").unwrap_or("");
        match parse_bound(le) {
            Some(bound) => {
                let mut copy = Values::new();
                context.meter.reserve_samples(&mut copy, self.buffer.len())?;
                copy.extend_from_slice(&self.buffer);
                let group = &mut self.groups[self.places[series] as usize];
                context.meter.reserve(group, 1)?;
                group.push((bound, copy));
            }
            None => {
                let name = self.labels.as_ref().metric_name();
                let text = format!(
                    "bucket label \"le\" is missing or has a malformed value of {}{}",
                    Quoted(le),
                    if name.is_empty() { String::new() } else { format!(" for metric name {}", Quoted(name)) }
                );
                context.annotations.warn(self.span, &text);
            }
        }
        Ok(())
    }

    fn compute(&self, context: &mut Context<'_>, group: usize, values: &mut [f64]) -> Result<bool, QueryError> {
        let (series, mut any, mut forced) = (&self.groups[group], false, false);
        let mut buckets: Vec<Bucket> = Vec::new();
        context.meter.reserve(&mut buckets, series.len())?;
        for (step, result) in values.iter_mut().enumerate() {
            buckets.clear();
            let present = series.iter().filter(|(_, counts)| !is_absent(counts[step]));
            buckets
                .extend(present.map(|(upper_bound, counts)| Bucket { upper_bound: *upper_bound, count: counts[step] }));
            if buckets.is_empty() {
                *result = ABSENT;
                continue;
            }
            let (value, was_forced) = (self.leaf)(self.scalars.at(step), &mut buckets);
            forced |= was_forced;
            (*result, any) = (value, true);
        }
        if forced {
            let name = self.keys[group].as_ref().metric_name();
            let about = if name.is_empty() { String::new() } else { format!(" for metric name {}", Quoted(name)) };
            let text = format!(
                "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){about}"
            );
            context.annotations.info(self.span, &text);
        }
        context.spend(series.len().saturating_mul(self.grid.count));
        Ok(any)
    }
}

impl Operator for BucketsOperator {
    fn open(&mut self, context: &mut Context<'_>) -> Result<Opened, QueryError> {
        if !self.scalars.open(context)? {
            return Ok(Opened::More);
        }
        let series = match self.opened {
            Some(series) => series,
            None => {
                let Opened::Ready(series) = self.child.open(context)? else { return Ok(Opened::More) };
                if let Some(span) = self.quantile_span {
                    for step in 0..self.grid.count {
                        super::scalar::warn_quantile(context, span, self.scalars.at(step)[0]);
                    }
                }
                *self.opened.insert(series)
            }
        };
        if self.groups.is_empty() {
            if !self.assignment.step(context, &mut *self.child, series.count, &self.grouping)? {
                return Ok(Opened::More);
            }
            (self.places, self.keys) = core::mem::take(&mut self.assignment).finish();
            context.meter.reserve(&mut self.groups, self.keys.len())?;
            self.groups.resize(self.keys.len(), Vec::new());
        }
        let keys = &self.keys;
        let merged = self.merge.open(context, keys.len(), &mut |_, group, labels| {
            labels.set(keys[group].as_ref());
            labels.remove(NAME);
            Ok(())
        })?;
        Ok(merged.map_or(Opened::More, Opened::Ready))
    }

    fn labels(&mut self, _: &mut Context<'_>, series: usize, labels: &mut LabelsBuf) -> Result<(), QueryError> {
        labels.set(self.keys[self.merge.input(series)].as_ref());
        labels.remove(NAME);
        Ok(())
    }

    fn next(&mut self, context: &mut Context<'_>, values: &mut Values) -> Result<Next, QueryError> {
        while !self.is_read {
            match self.child.next(context, &mut self.buffer)? {
                Next::More => return Ok(Next::More),
                Next::Done => self.is_read = true,
                Next::Series(series) => self.gather(context, series)?,
            }
            if !context.spend(self.grid.count) {
                return Ok(Next::More);
            }
        }
        while self.emitted < self.groups.len() {
            let group = self.emitted;
            self.emitted += 1;
            context.meter.reset(values, self.grid.count)?;
            let any = self.compute(context, group, values)?;
            self.groups[group] = Vec::new();
            if !any {
                continue;
            }
            if let Some(slot) = self.merge.offer(context, group, values)? {
                return Ok(Next::Series(slot));
            }
        }
        Ok(self.merge.drain(values))
    }
}

/// A bound as Go's ParseFloat reads it, as far as exporters write it.
fn parse_bound(text: &str) -> Option<f64> {
    let plain = text.strip_prefix(['+', '-']).unwrap_or(text);
    if plain.eq_ignore_ascii_case("inf") || plain.eq_ignore_ascii_case("infinity") {
        return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    text.parse().ok()
}
