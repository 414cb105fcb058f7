//! `sum by (job) (...)` and its kin: many series into one per group. Keeps groups x steps.

use super::{
    ABSENT, Context, Grid, Next, Opened, Operator, Series, Values,
    groups::{Assignment, Grouping},
    is_absent,
    scalar::Scalars,
};
use crate::{
    labels::{LabelSet, LabelsBuf},
    math::{KahanSum, RunningMean, quantile},
    promql::{
        ast::{AggregateOp, Span},
        query::QueryError,
    },
};
use alloc::{boxed::Box, vec::Vec};

pub struct AggregateOperator {
    op: AggregateOp,
    child: Box<dyn Operator>,
    grouping: Grouping,
    /// The φ of `quantile`.
    scalars: Scalars,
    scalar_span: Span,
    grid: Grid,
    opened: Option<Series>,
    assignment: Assignment,
    groups: Vec<u32>,
    keys: Vec<LabelSet>,
    states: Vec<State>,
    is_read: bool,
    emitted: usize,
    buffer: Values,
    column: Vec<f64>,
}

/// What a group has gathered, per step.
enum State {
    Empty,
    /// Sum; absent where the sum is.
    Sums(Vec<KahanSum>),
    Means(Vec<RunningMean>),
    /// Min, max, count, group.
    Values(Values),
    Spreads(Vec<Spread>),
    /// Every series, for quantiles.
    Series(Vec<Values>),
}

/// Welford's running variance.
#[derive(Clone, Copy, Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.mean = value;
            self.squares = if value.is_finite() { 0.0 } else { f64::NAN };
            return;
        }
        let difference = value - self.mean;
        self.mean += difference / self.count;
        self.squares += difference * (value - self.mean);
    }
}

impl AggregateOperator {
    pub fn new(
        op: AggregateOp,
        child: Box<dyn Operator>,
        grouping: Grouping,
        scalars: Scalars,
        scalar_span: Span,
        grid: Grid,
    ) -> Self {
        Self {
            op,
            child,
            grouping,
            scalars,
            scalar_span,
            grid,
            opened: None,
            assignment: Assignment::default(),
            groups: Vec::new(),
            keys: Vec::new(),
            states: Vec::new(),
            is_read: false,
            emitted: 0,
            buffer: Values::new(),
            column: Vec::new(),
        }
    }

    fn gather(&mut self, context: &mut Context<'_>, series: usize) -> Result<(), QueryError> {
        let (meter, count) = (&mut *context.meter, self.grid.count);
        let state = &mut self.states[self.groups[series] as usize];
        if let State::Empty = state {
            *state = match self.op {
                AggregateOp::Sum => State::Sums(meter.filled(KahanSum { sum: ABSENT, compensation: 0.0 }, count)?),
                AggregateOp::Avg => State::Means(meter.filled(RunningMean::default(), count)?),
                AggregateOp::Stddev | AggregateOp::Stdvar => State::Spreads(meter.filled(Spread::default(), count)?),
                AggregateOp::Quantile => State::Series(Vec::new()),
                _ => State::Values(meter.filled(ABSENT, count)?),
            };
        }
        if let State::Series(list) = state {
            let mut copy = Values::new();
            meter.reserve_samples(&mut copy, count)?;
            copy.extend_from_slice(&self.buffer);
            meter.reserve(list, 1)?;
            list.push(copy);
            return Ok(());
        }
        for (step, value) in self.buffer.iter().copied().enumerate().filter(|(_, value)| !is_absent(*value)) {
            match state {
                State::Sums(sums) if is_absent(sums[step].sum) => sums[step].sum = value,
                State::Sums(sums) => sums[step].add(value),
                State::Means(means) => means[step].add(value),
                State::Spreads(spreads) => spreads[step].add(value),
                State::Values(values) => values[step] = combine(self.op, values[step], value),
                State::Empty | State::Series(_) => {}
            }
        }
        Ok(())
    }

    fn result(&mut self, context: &mut Context<'_>, group: usize, step: usize) -> Result<f64, QueryError> {
        Ok(match &self.states[group] {
            State::Empty => ABSENT,
            State::Sums(sums) if is_absent(sums[step].sum) => ABSENT,
            State::Sums(sums) => sums[step].total(),
            State::Means(means) if means[step].count() == 0.0 => ABSENT,
            State::Means(means) => means[step].mean(),
            State::Values(values) => values[step],
            State::Spreads(spreads) if spreads[step].count == 0.0 => ABSENT,
            State::Spreads(spreads) => {
                let variance = spreads[step].squares / spreads[step].count;
                if self.op == AggregateOp::Stddev { libm::sqrt(variance) } else { variance }
            }
            State::Series(list) => {
                self.column.clear();
                context.meter.reserve_samples(&mut self.column, list.len())?;
                self.column.extend(list.iter().map(|values| values[step]).filter(|value| !is_absent(*value)));
                if self.column.is_empty() {
                    return Ok(ABSENT);
                }
                quantile(self.scalars.at(step)[0], &mut self.column)
            }
        })
    }
}

/// Groups in the order of their labels, so that a range query's result needs no sorting afterwards.
fn sort_groups(context: &mut Context<'_>, groups: &mut [u32], keys: &mut [LabelSet]) -> Result<(), QueryError> {
    if keys.is_sorted() {
        return Ok(());
    }
    let (mut order, mut places) = (Vec::new(), Vec::new());
    context.meter.reserve(&mut order, keys.len())?;
    context.meter.reserve(&mut places, keys.len())?;
    order.extend(0..keys.len() as u32);
    order.sort_unstable_by(|a, b| keys[*a as usize].cmp(&keys[*b as usize]));
    places.resize(keys.len(), 0_u32);
    for (place, group) in order.iter().enumerate() {
        places[*group as usize] = place as u32;
    }
    groups.iter_mut().for_each(|group| *group = places[*group as usize]);
    keys.sort_unstable();
    Ok(())
}

fn combine(op: AggregateOp, state: f64, value: f64) -> f64 {
    let first = is_absent(state);
    match op {
        AggregateOp::Min if first || value < state || state.is_nan() => value,
        AggregateOp::Max if first || value > state || state.is_nan() => value,
        AggregateOp::Count => {
            if first {
                1.0
            } else {
                state + 1.0
            }
        }
        AggregateOp::Group => 1.0,
        _ => state,
    }
}

impl Operator for AggregateOperator {
    fn open(&mut self, context: &mut Context<'_>) -> Result<Opened, QueryError> {
        if !self.scalars.open(context)? {
            return Ok(Opened::More);
        }
        let series = match self.opened {
            Some(series) => series,
            None => {
                let Opened::Ready(series) = self.child.open(context)? else { return Ok(Opened::More) };
                if self.op == AggregateOp::Quantile {
                    for step in 0..self.grid.count {
                        super::scalar::warn_quantile(context, self.scalar_span, self.scalars.at(step)[0]);
                    }
                }
                *self.opened.insert(series)
            }
        };
        if !self.assignment.step(context, &mut *self.child, series.count, &self.grouping)? {
            return Ok(Opened::More);
        }
        (self.groups, self.keys) = core::mem::take(&mut self.assignment).finish();
        sort_groups(context, &mut self.groups, &mut self.keys)?;
        context.meter.reserve(&mut self.states, self.keys.len())?;
        self.states.extend(self.keys.iter().map(|_| State::Empty));
        Ok(Opened::Ready(Series { count: self.keys.len(), is_sorted: true }))
    }

    fn labels(&mut self, _: &mut Context<'_>, series: usize, labels: &mut LabelsBuf) -> Result<(), QueryError> {
        labels.set(self.keys[series].as_ref());
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
        while self.emitted < self.states.len() {
            let group = self.emitted;
            self.emitted += 1;
            if let State::Empty = self.states[group] {
                continue;
            }
            context.meter.reset(values, self.grid.count)?;
            for (step, value) in values.iter_mut().enumerate() {
                *value = self.result(context, group, step)?;
            }
            let worked = if let State::Series(list) = &self.states[group] { list.len() } else { 1 };
            context.spend(worked.saturating_mul(self.grid.count));
            self.states[group] = State::Empty;
            return Ok(Next::Series(group));
        }
        Ok(Next::Done)
    }
}
