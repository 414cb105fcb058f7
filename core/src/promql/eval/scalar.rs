//! Scalars: one value at every step. Numbers, time(), and scalar(); and the scalar arguments of functions.

use super::{Context, Grid, Next, Opened, Operator, Series, Values, is_absent};
use crate::{
    labels::{LabelsBuf, LabelsRef},
    promql::{ast::Span, query::QueryError},
};
use alloc::{boxed::Box, format, string::String, vec::Vec};

/// A value per step that needs no series: a number, or a function of the step's time in seconds.
pub struct Computed {
    grid: Grid,
    value: fn(f64, f64) -> f64,
    number: f64,
    done: bool,
}

impl Computed {
    pub fn number(grid: Grid, number: f64) -> Self {
        Self { grid, value: |number, _| number, number, done: false }
    }

    pub fn time(grid: Grid) -> Self {
        Self { grid, value: |_, seconds| seconds, number: 0.0, done: false }
    }
}

impl Operator for Computed {
    fn open(&mut self, _: &mut Context<'_>) -> Result<Opened, QueryError> {
        Ok(Opened::Ready(Series::ONE))
    }

    fn labels(&mut self, _: &mut Context<'_>, _: usize, labels: &mut LabelsBuf) -> Result<(), QueryError> {
        labels.set(LabelsRef::EMPTY);
        Ok(())
    }

    fn next(&mut self, context: &mut Context<'_>, values: &mut Values) -> Result<Next, QueryError> {
        if core::mem::replace(&mut self.done, true) {
            return Ok(Next::Done);
        }
        context.meter.reset(values, self.grid.count)?;
        for (step, value) in values.iter_mut().enumerate() {
            *value = (self.value)(self.number, self.grid.at_ms(step) as f64 / 1000.0);
        }
        context.spend(self.grid.count);
        Ok(Next::Series(0))
    }
}

/// `scalar(v)`: the only element's value, or NaN.
pub struct ToScalar {
    child: Box<dyn Operator>,
    grid: Grid,
    result: Option<Values>,
    counts: Vec<u8>,
    buffer: Values,
    done: bool,
}

impl ToScalar {
    pub fn new(child: Box<dyn Operator>, grid: Grid) -> Self {
        Self { child, grid, result: None, counts: Vec::new(), buffer: Values::new(), done: false }
    }
}

impl Operator for ToScalar {
    fn open(&mut self, context: &mut Context<'_>) -> Result<Opened, QueryError> {
        Ok(match self.child.open(context)? {
            Opened::Ready(_) => Opened::Ready(Series::ONE),
            Opened::More => Opened::More,
        })
    }

    fn labels(&mut self, _: &mut Context<'_>, _: usize, labels: &mut LabelsBuf) -> Result<(), QueryError> {
        labels.set(LabelsRef::EMPTY);
        Ok(())
    }

    fn next(&mut self, context: &mut Context<'_>, values: &mut Values) -> Result<Next, QueryError> {
        if self.done {
            return Ok(Next::Done);
        }
        if self.result.is_none() {
            self.result = Some(context.meter.filled(f64::NAN, self.grid.count)?);
            self.counts = context.meter.filled(0, self.grid.count)?;
        }
        loop {
            match self.child.next(context, &mut self.buffer)? {
                Next::More => return Ok(Next::More),
                Next::Done => break,
                Next::Series(_) => {}
            }
            let Some(result) = &mut self.result else { continue };
            for ((result, count), value) in result.iter_mut().zip(&mut self.counts).zip(&self.buffer) {
                if !is_absent(*value) {
                    *result = if *count == 0 { *value } else { f64::NAN };
                    *count = count.saturating_add(1);
                }
            }
            if !context.spend(self.grid.count) {
                return Ok(Next::More);
            }
        }
        self.done = true;
        *values = self.result.take().unwrap_or_default();
        Ok(Next::Series(0))
    }
}

/// The scalar arguments of a function, evaluated for all steps before its series come.
pub struct Scalars {
    pending: Vec<Box<dyn Operator>>,
    opened: bool,
    /// Per step one value of each argument, together.
    values: Vec<f64>,
    count: usize,
    done_count: usize,
    steps: usize,
    buffer: Values,
}

impl Scalars {
    pub fn new(arguments: Vec<Box<dyn Operator>>, grid: Grid) -> Self {
        let count = arguments.len();
        Self {
            pending: arguments,
            opened: false,
            values: Vec::new(),
            count,
            done_count: 0,
            steps: grid.count,
            buffer: Values::new(),
        }
    }

    /// False when the bite is used up first; may be called again when it is done.
    pub fn open(&mut self, context: &mut Context<'_>) -> Result<bool, QueryError> {
        while self.done_count < self.count {
            if self.values.is_empty() {
                self.values = context.meter.filled(0.0, self.count * self.steps)?;
            }
            let argument = &mut self.pending[self.done_count];
            if !self.opened {
                match argument.open(context)? {
                    Opened::More => return Ok(false),
                    Opened::Ready(_) => self.opened = true,
                }
            }
            match argument.next(context, &mut self.buffer)? {
                Next::More => return Ok(false),
                Next::Done => return Err(super::execution("a scalar argument gave no value")),
                Next::Series(_) => {}
            }
            for (step, value) in self.buffer.iter().enumerate() {
                self.values[step * self.count + self.done_count] = *value;
            }
            self.opened = false;
            self.done_count += 1;
        }
        Ok(true)
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The arguments' values at one step, in order.
    pub fn at(&self, step: usize) -> &[f64] {
        &self.values[step * self.count..(step + 1) * self.count]
    }
}

/// Tells when a φ makes no sense.
pub fn warn_quantile(context: &mut Context<'_>, span: Span, phi: f64) {
    if !(0.0..=1.0).contains(&phi) {
        let phi = short_text(phi);
        context.annotations.warn(span, &format!("quantile value should be between 0 and 1, got {phi}"));
    }
}

/// A number as Go's `%g` writes it: with an exponent from a million on.
fn short_text(value: f64) -> String {
    let magnitude = libm::fabs(value);
    if !value.is_finite() || value == 0.0 || (1e-4..1e6).contains(&magnitude) {
        return format!("{}", crate::promql::ast::NumberText(value));
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}
