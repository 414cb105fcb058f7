//! `expr[1h:1m]`: an expression evaluated on a grid of its own, seen as windows of samples.

use super::{Context, Grid, Next, Opened, Operator, Values, is_absent, selector::Windows};
use crate::{labels::LabelsBuf, promql::query::QueryError, store::Sample};
use alloc::{boxed::Box, vec::Vec};

pub struct Subquery {
    child: Box<dyn Operator>,
    /// The child's.
    inner: Grid,
    outer: Grid,
    range_ms: i64,
    offset_ms: i64,
    at_ms: Option<i64>,
    samples: Vec<Sample>,
    from: usize,
    to: usize,
    buffer: Values,
}

impl Subquery {
    pub fn new(
        child: Box<dyn Operator>,
        inner: Grid,
        outer: Grid,
        range_ms: i64,
        offset_ms: i64,
        at_ms: Option<i64>,
    ) -> Self {
        Self {
            child,
            inner,
            outer,
            range_ms,
            offset_ms,
            at_ms,
            samples: Vec::new(),
            from: 0,
            to: 0,
            buffer: Values::new(),
        }
    }
}

impl Windows for Subquery {
    fn open(&mut self, context: &mut Context<'_>) -> Result<Opened, QueryError> {
        self.child.open(context)
    }

    fn labels(&mut self, context: &mut Context<'_>, series: usize, labels: &mut LabelsBuf) -> Result<(), QueryError> {
        self.child.labels(context, series, labels)
    }

    fn next_series(&mut self, context: &mut Context<'_>) -> Result<Next, QueryError> {
        let next = self.child.next(context, &mut self.buffer)?;
        if let Next::Series(_) = next {
            self.samples.clear();
            context.meter.reserve_samples(&mut self.samples, self.buffer.len())?;
            let inner = self.inner;
            let present = self.buffer.iter().enumerate().filter(|(_, value)| !is_absent(**value));
            self.samples.extend(present.map(|(step, value)| Sample { t_ms: inner.at_ms(step), value: *value }));
            (self.from, self.to) = (0, 0);
            context.spend(self.buffer.len());
        }
        Ok(next)
    }

    fn fetch(&mut self, _: &mut Context<'_>, step: usize) -> Result<bool, QueryError> {
        let (left_ms, right_ms) = self.bounds_ms(step);
        self.from += self.samples[self.from..].partition_point(|sample| sample.t_ms <= left_ms);
        self.to = self.from + self.samples[self.from..].partition_point(|sample| sample.t_ms <= right_ms);
        Ok(true)
    }

    fn samples(&self) -> &[Sample] {
        &self.samples[self.from..self.to]
    }

    fn bounds_ms(&self, step: usize) -> (i64, i64) {
        let end_ms = self.at_ms.unwrap_or_else(|| self.outer.at_ms(step)).saturating_sub(self.offset_ms);
        (end_ms.saturating_sub(self.range_ms), end_ms)
    }

    fn is_fixed(&self) -> bool {
        self.at_ms.is_some()
    }
}
