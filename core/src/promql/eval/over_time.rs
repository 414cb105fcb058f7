//! Functions over windows of samples: `rate(x[5m])` and all its kin.

use super::{
    ABSENT, Context, Grid, Next, Opened, Operator, Series, Values, merge::Merge, open_once, scalar::Scalars,
    selector::Windows,
};
use crate::{
    labels::{LabelsBuf, NAME},
    promql::{
        ast::Span,
        functions::{OverTime, Window},
        query::QueryError,
    },
};
use alloc::{boxed::Box, format};

pub struct OverTimeOperator {
    windows: Box<dyn Windows>,
    function: &'static OverTime,
    scalars: Scalars,
    grid: Grid,
    /// Of the windows' expression, for hints.
    span: Span,
    /// Of the scalar argument, for warnings.
    scalar_span: Span,
    merge: Merge,
    opened: Option<Series>,
    series: Option<usize>,
    step: usize,
    values: Values,
    copied_max: usize,
    labels: LabelsBuf,
}

impl OverTimeOperator {
    pub fn new(
        windows: Box<dyn Windows>,
        function: &'static OverTime,
        scalars: Scalars,
        grid: Grid,
        span: Span,
        scalar_span: Span,
    ) -> Self {
        Self {
            windows,
            function,
            scalars,
            grid,
            span,
            scalar_span,
            merge: Merge::default(),
            opened: None,
            series: None,
            step: 0,
            values: Values::new(),
            copied_max: 0,
            labels: LabelsBuf::default(),
        }
    }

    /// Computes steps until the series is whole; false when the bite is used up.
    fn compute(&mut self, context: &mut Context<'_>) -> Result<bool, QueryError> {
        while self.step < self.grid.count {
            if !self.windows.fetch(context, self.step)? {
                return Ok(false);
            }
            let (start_ms, end_ms) = self.windows.bounds_ms(self.step);
            let samples = self.windows.samples();
            if self.function.copies && samples.len() > self.copied_max {
                context.meter.charge((samples.len() - self.copied_max) * size_of::<f64>())?;
                self.copied_max = samples.len();
            }
            let at_ms = self.grid.at_ms(self.step);
            let scalars = self.scalars.at(self.step);
            let value = (self.function.leaf)(&Window { samples, start_ms, end_ms, at_ms, scalars });
            if self.function.has_quantile && !samples.is_empty() {
                super::scalar::warn_quantile(context, self.scalar_span, scalars[0]);
            }
            let value = value.unwrap_or(ABSENT);
            let worked = 1 + samples.len();
            if self.windows.is_fixed() && self.scalars.is_empty() {
                self.values.fill(value);
                self.step = self.grid.count;
            } else {
                self.values[self.step] = value;
                self.step += 1;
            }
            // A window's samples cost as much as reading them did, or more where windows overlap.
            if !context.spend(worked) && self.step < self.grid.count {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn hint(&mut self, context: &mut Context<'_>, series: usize) -> Result<(), QueryError> {
        self.windows.labels(context, series, &mut self.labels)?;
        let name = self.labels.as_ref().metric_name();
        let is_counter = ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix));
        if !name.is_empty() && !is_counter {
            let text = format!(
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
                crate::promql::ast::Quoted(name)
            );
            context.annotations.info(self.span, &text);
        }
        Ok(())
    }
}

impl Operator for OverTimeOperator {
    fn open(&mut self, context: &mut Context<'_>) -> Result<Opened, QueryError> {
        if !self.scalars.open(context)? {
            return Ok(Opened::More);
        }
        let Some(series) = open_once(&mut self.opened, || self.windows.open(context))? else { return Ok(Opened::More) };
        if self.function.keeps_name {
            return Ok(Opened::Ready(series));
        }
        let windows = &mut self.windows;
        let merged = self.merge.open(context, series.count, &mut |context, input, labels| {
            windows.labels(context, input, labels)?;
            labels.remove(NAME);
            Ok(())
        })?;
        Ok(merged.map_or(Opened::More, Opened::Ready))
    }

    fn labels(&mut self, context: &mut Context<'_>, series: usize, labels: &mut LabelsBuf) -> Result<(), QueryError> {
        self.windows.labels(context, self.merge.input(series), labels)?;
        if !self.function.keeps_name {
            labels.remove(NAME);
        }
        Ok(())
    }

    fn next(&mut self, context: &mut Context<'_>, values: &mut Values) -> Result<Next, QueryError> {
        loop {
            let Some(series) = self.series else {
                match self.windows.next_series(context)? {
                    Next::Series(index) => self.series = Some(index),
                    Next::Done => return Ok(self.merge.drain(values)),
                    Next::More => return Ok(Next::More),
                }
                context.meter.reset(&mut self.values, self.grid.count)?;
                self.step = 0;
                continue;
            };
            if !self.compute(context)? {
                return Ok(Next::More);
            }
            self.series = None;
            if self.values.iter().all(|value| super::is_absent(*value)) {
                continue;
            }
            if self.function.wants_counter {
                self.hint(context, series)?;
            }
            if let Some(slot) = self.merge.offer(context, series, &mut self.values)? {
                core::mem::swap(values, &mut self.values);
                return Ok(Next::Series(slot));
            }
        }
    }
}
