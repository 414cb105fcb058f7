//! `absent` and `absent_over_time`: a series where there is none.

use super::{ABSENT, Context, Grid, Next, Opened, Operator, Series, Values, is_absent, selector::Windows};
use crate::{
    labels::{LabelSet, LabelsBuf},
    promql::query::QueryError,
};
use alloc::boxed::Box;

pub struct AbsentOperator {
    child: Child,
    labels: LabelSet,
    grid: Grid,
    /// 1 until something is seen at the step.
    result: Values,
    buffer: Values,
    done: bool,
}

enum Child {
    Vector(Box<dyn Operator>),
    Range { windows: Box<dyn Windows>, in_series: bool, step: usize },
}

impl AbsentOperator {
    /// `labels`: of the result.
    pub fn of_vector(child: Box<dyn Operator>, labels: LabelSet, grid: Grid) -> Self {
        Self::new(Child::Vector(child), labels, grid)
    }

    pub fn of_range(windows: Box<dyn Windows>, labels: LabelSet, grid: Grid) -> Self {
        Self::new(Child::Range { windows, in_series: false, step: 0 }, labels, grid)
    }

    fn new(child: Child, labels: LabelSet, grid: Grid) -> Self {
        Self { child, labels, grid, result: Values::new(), buffer: Values::new(), done: false }
    }
}

impl Operator for AbsentOperator {
    fn open(&mut self, context: &mut Context<'_>) -> Result<Opened, QueryError> {
        let opened = match &mut self.child {
            Child::Vector(child) => child.open(context)?,
            Child::Range { windows, .. } => windows.open(context)?,
        };
        let Opened::Ready(_) = opened else { return Ok(Opened::More) };
        self.result = context.meter.filled(1.0, self.grid.count)?;
        Ok(Opened::Ready(Series::ONE))
    }

    fn labels(&mut self, _: &mut Context<'_>, _: usize, labels: &mut LabelsBuf) -> Result<(), QueryError> {
        labels.set(self.labels.as_ref());
        Ok(())
    }

    fn next(&mut self, context: &mut Context<'_>, values: &mut Values) -> Result<Next, QueryError> {
        while !self.done {
            match &mut self.child {
                Child::Vector(child) => match child.next(context, &mut self.buffer)? {
                    Next::More => return Ok(Next::More),
                    Next::Done => self.done = true,
                    Next::Series(_) => {
                        for (result, value) in self.result.iter_mut().zip(&self.buffer) {
                            if !is_absent(*value) {
                                *result = ABSENT;
                            }
                        }
                        context.spend(self.grid.count);
                    }
                },
                Child::Range { windows, in_series: in_series @ false, step } => match windows.next_series(context)? {
                    Next::More => return Ok(Next::More),
                    Next::Done => self.done = true,
                    Next::Series(_) => (*in_series, *step) = (true, 0),
                },
                Child::Range { windows, in_series, step } => {
                    if *step >= self.grid.count {
                        *in_series = false;
                        continue;
                    }
                    if !windows.fetch(context, *step)? {
                        return Ok(Next::More);
                    }
                    if !windows.samples().is_empty() {
                        self.result[*step] = ABSENT;
                    }
                    *step += 1;
                    context.spend(1);
                }
            }
            if !self.done && context.bite_left <= 0 {
                return Ok(Next::More);
            }
        }
        if self.result.iter().all(|value| is_absent(*value)) {
            return Ok(Next::Done);
        }
        *values = core::mem::take(&mut self.result);
        Ok(Next::Series(0))
    }
}
