//! One series in, one series out, value by value: functions, unary minus, and operators with a scalar on one side.

use super::{
    ABSENT, Context, Grid, Next, Opened, Operator, Series, Values, arithmetic, is_absent, merge::Merge, open_once,
    scalar::Scalars,
};
use crate::{
    labels::{LabelsBuf, NAME},
    promql::{ast::BinaryOp, query::QueryError},
};
use alloc::boxed::Box;

/// What happens to a value.
#[derive(Clone, Copy)]
pub enum Leaf {
    Plain(fn(f64) -> f64),
    With(fn(f64, &[f64]) -> Option<f64>),
    /// The other side is the first scalar.
    Arithmetic {
        op: BinaryOp,
        scalar_is_left: bool,
        return_bool: bool,
    },
    /// The step's time in seconds.
    StepTime,
}

pub struct MapOperator {
    child: Box<dyn Operator>,
    leaf: Leaf,
    scalars: Scalars,
    drops_name: bool,
    grid: Grid,
    merge: Merge,
    opened: Option<Series>,
}

impl MapOperator {
    pub fn new(child: Box<dyn Operator>, leaf: Leaf, scalars: Scalars, drops_name: bool, grid: Grid) -> Self {
        Self { child, leaf, scalars, drops_name, grid, merge: Merge::default(), opened: None }
    }

    fn apply(&self, step: usize, value: f64) -> Option<f64> {
        match self.leaf {
            Leaf::Plain(leaf) => Some(leaf(value)),
            Leaf::With(leaf) => leaf(value, self.scalars.at(step)),
            Leaf::StepTime => Some(self.grid.at_ms(step) as f64 / 1000.0),
            Leaf::Arithmetic { op, scalar_is_left: true, return_bool } => {
                let scalar = self.scalars.at(step)[0];
                let result = arithmetic::apply(op, scalar, value, return_bool);
                // A filter passes the vector's value on, whichever side that is.
                if op.is_comparison() && !return_bool { result.map(|_| value) } else { result }
            }
            Leaf::Arithmetic { op, scalar_is_left: false, return_bool } => {
                arithmetic::apply(op, value, self.scalars.at(step)[0], return_bool)
            }
        }
    }
}

impl Operator for MapOperator {
    fn open(&mut self, context: &mut Context<'_>) -> Result<Opened, QueryError> {
        if !self.scalars.open(context)? {
            return Ok(Opened::More);
        }
        let Some(series) = open_once(&mut self.opened, || self.child.open(context))? else { return Ok(Opened::More) };
        if !self.drops_name {
            return Ok(Opened::Ready(series));
        }
        let child = &mut self.child;
        let merged = self.merge.open(context, series.count, &mut |context, input, labels| {
            child.labels(context, input, labels)?;
            labels.remove(NAME);
            Ok(())
        })?;
        Ok(merged.map_or(Opened::More, Opened::Ready))
    }

    fn labels(&mut self, context: &mut Context<'_>, series: usize, labels: &mut LabelsBuf) -> Result<(), QueryError> {
        self.child.labels(context, self.merge.input(series), labels)?;
        if self.drops_name {
            labels.remove(NAME);
        }
        Ok(())
    }

    fn next(&mut self, context: &mut Context<'_>, values: &mut Values) -> Result<Next, QueryError> {
        loop {
            let series = match self.child.next(context, values)? {
                Next::Series(series) => series,
                Next::Done => return Ok(self.merge.drain(values)),
                Next::More => return Ok(Next::More),
            };
            let mut any = false;
            for (step, value) in values.iter_mut().enumerate() {
                if !is_absent(*value) {
                    *value = self.apply(step, *value).unwrap_or(ABSENT);
                    any |= !is_absent(*value);
                }
            }
            let in_time = context.spend(self.grid.count);
            if any && let Some(slot) = self.merge.offer(context, series, values)? {
                return Ok(Next::Series(slot));
            }
            if !in_time {
                return Ok(Next::More);
            }
        }
    }
}
