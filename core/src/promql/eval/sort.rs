//! `sort` and `sort_desc` of an instant query: all series are read, then yielded by value. NaN comes last.

use super::{Context, Next, Opened, Operator, Values};
use crate::{labels::LabelsBuf, math::compare_nan_first, promql::query::QueryError};
use alloc::{boxed::Box, vec::Vec};

pub struct SortOperator {
    child: Box<dyn Operator>,
    descending: bool,
    /// Value and series; after sorting, the next one last.
    found: Vec<(f64, usize)>,
    is_read: bool,
    buffer: Values,
}

impl SortOperator {
    pub fn new(child: Box<dyn Operator>, descending: bool) -> Self {
        Self { child, descending, found: Vec::new(), is_read: false, buffer: Values::new() }
    }
}

impl Operator for SortOperator {
    fn open(&mut self, context: &mut Context<'_>) -> Result<Opened, QueryError> {
        self.child.open(context)
    }

    fn labels(&mut self, context: &mut Context<'_>, series: usize, labels: &mut LabelsBuf) -> Result<(), QueryError> {
        self.child.labels(context, series, labels)
    }

    fn next(&mut self, context: &mut Context<'_>, values: &mut Values) -> Result<Next, QueryError> {
        while !self.is_read {
            match self.child.next(context, &mut self.buffer)? {
                Next::More => return Ok(Next::More),
                Next::Series(series) => {
                    context.meter.reserve_samples(&mut self.found, 1)?;
                    self.found.push((self.buffer[0], series));
                }
                Next::Done => {
                    let descending = self.descending;
                    self.found.sort_by(|(a, _), (b, _)| match (a.is_nan(), b.is_nan()) {
                        (false, false) if descending => compare_nan_first(*b, *a),
                        (false, false) => compare_nan_first(*a, *b),
                        (a, b) => a.cmp(&b),
                    });
                    self.found.reverse();
                    self.is_read = true;
                }
            }
        }
        let Some((value, series)) = self.found.pop() else { return Ok(Next::Done) };
        context.meter.reset(values, 1)?;
        values[0] = value;
        context.spend(1);
        Ok(Next::Series(series))
    }
}
