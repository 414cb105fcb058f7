//! `and`, `or`, `unless`: which series of two vectors there are, step by step.

use super::{
    ABSENT, Context, Grid, Next, Opened, Operator, Series, Values, groups::MatchGroups, is_absent, merge::Merge,
    open_once,
};
use crate::{
    labels::LabelsBuf,
    promql::{
        ast::{BinaryOp, Matching},
        query::QueryError,
    },
};
use alloc::{boxed::Box, vec::Vec};

pub struct SetOperator {
    op: BinaryOp,
    matching: Matching,
    left: Box<dyn Operator>,
    right: Box<dyn Operator>,
    grid: Grid,
    left_series: Option<Series>,
    right_series: Option<Series>,
    matches: MatchGroups,
    left_groups: Vec<u32>,
    right_groups: Vec<u32>,
    /// Per group, a bit per step at which the side that decides has something.
    present: Vec<Vec<u64>>,
    merge: Merge,
    labels: LabelsBuf,
    /// Whether the side that decides is read.
    decided: bool,
}

impl SetOperator {
    pub fn new(
        op: BinaryOp,
        matching: Matching,
        left: Box<dyn Operator>,
        right: Box<dyn Operator>,
        grid: Grid,
    ) -> Self {
        Self {
            op,
            matching,
            left,
            right,
            grid,
            left_series: None,
            right_series: None,
            matches: MatchGroups::default(),
            left_groups: Vec::new(),
            right_groups: Vec::new(),
            present: Vec::new(),
            merge: Merge::default(),
            labels: LabelsBuf::default(),
            decided: false,
        }
    }

    fn mark(&mut self, context: &mut Context<'_>, group: u32, values: &[f64]) -> Result<(), QueryError> {
        let present = &mut self.present[group as usize];
        if present.is_empty() {
            *present = context.meter.filled(0, self.grid.count.div_ceil(64))?;
        }
        for (step, value) in values.iter().enumerate() {
            present[step / 64] |= u64::from(!is_absent(*value)) << (step % 64);
        }
        Ok(())
    }

    /// Removes the steps at which the group's presence is not `wanted`; whether anything is left.
    fn mask(&self, group: u32, wanted: bool, values: &mut [f64]) -> bool {
        let present = &self.present[group as usize];
        let mut any = false;
        for (step, value) in values.iter_mut().enumerate() {
            let is_present = present.get(step / 64).is_some_and(|bits| bits >> (step % 64) & 1 == 1);
            if is_present != wanted {
                *value = ABSENT;
            }
            any |= !is_absent(*value);
        }
        any
    }
}

impl Operator for SetOperator {
    fn open(&mut self, context: &mut Context<'_>) -> Result<Opened, QueryError> {
        let Some(left) = open_once(&mut self.left_series, || self.left.open(context))? else { return Ok(Opened::More) };
        let right = match self.right_series {
            Some(series) => series,
            None => {
                let Opened::Ready(series) = self.right.open(context)? else { return Ok(Opened::More) };
                context.meter.reserve(&mut self.left_groups, left.count)?;
                context.meter.reserve(&mut self.right_groups, series.count)?;
                *self.right_series.insert(series)
            }
        };
        let all = left.count + right.count;
        while self.left_groups.len() + self.right_groups.len() < all {
            if context.bite_left <= 0 {
                return Ok(Opened::More);
            }
            self.match_next(context, left.count)?;
        }
        if self.present.is_empty() {
            context.meter.reserve(&mut self.present, self.matches.len())?;
            self.present.resize(self.matches.len(), Vec::new());
        }
        if self.op != BinaryOp::Or {
            return Ok(Opened::Ready(left));
        }
        let (left_side, right_side) = (&mut self.left, &mut self.right);
        let merged =
            self.merge.open(context, all, &mut |context, input, labels| match input.checked_sub(left.count) {
                None => left_side.labels(context, input, labels),
                Some(input) => right_side.labels(context, input, labels),
            })?;
        Ok(merged.map_or(Opened::More, Opened::Ready))
    }

    fn labels(&mut self, context: &mut Context<'_>, series: usize, labels: &mut LabelsBuf) -> Result<(), QueryError> {
        let input = self.merge.input(series);
        match input.checked_sub(self.left_groups.len()) {
            None => self.left.labels(context, input, labels),
            Some(input) => self.right.labels(context, input, labels),
        }
    }

    fn next(&mut self, context: &mut Context<'_>, values: &mut Values) -> Result<Next, QueryError> {
        if self.op == BinaryOp::Or { self.next_or(context, values) } else { self.next_and(context, values) }
    }
}

impl SetOperator {
    /// Gives the next series its group: those of the left side come first, then those of the right.
    fn match_next(&mut self, context: &mut Context<'_>, left_count: usize) -> Result<(), QueryError> {
        let (left, right) = (&mut self.left, &mut self.right);
        let mut fetch = |context: &mut Context<'_>, series: usize, labels: &mut LabelsBuf| {
            context.spend_labels();
            match series.checked_sub(left_count) {
                None => left.labels(context, series, labels),
                Some(series) => right.labels(context, series, labels),
            }
        };
        let series = self.left_groups.len() + self.right_groups.len();
        fetch(context, series, &mut self.labels)?;
        let labels = self.labels.as_ref();
        let group = match self.matches.find(context, labels, &self.matching, fetch)? {
            Some(group) => group,
            None => self.matches.add(context, labels, &self.matching, series)?,
        };
        if series < left_count {
            self.left_groups.push(group)
        } else {
            self.right_groups.push(group)
        }
        Ok(())
    }

    /// `and`, `unless`: the right side decides, and is read first.
    fn next_and(&mut self, context: &mut Context<'_>, values: &mut Values) -> Result<Next, QueryError> {
        while !self.decided {
            match self.right.next(context, values)? {
                Next::More => return Ok(Next::More),
                Next::Done => self.decided = true,
                Next::Series(series) => self.mark(context, self.right_groups[series], values)?,
            }
            if !context.spend(self.grid.count) {
                return Ok(Next::More);
            }
        }
        loop {
            let series = match self.left.next(context, values)? {
                Next::Series(series) => series,
                other => return Ok(other),
            };
            let in_time = context.spend(self.grid.count);
            if self.mask(self.left_groups[series], self.op == BinaryOp::And, values) {
                return Ok(Next::Series(series));
            }
            if !in_time {
                return Ok(Next::More);
            }
        }
    }

    /// `or`: the left side decides, and is passed on as it is read.
    fn next_or(&mut self, context: &mut Context<'_>, values: &mut Values) -> Result<Next, QueryError> {
        loop {
            let side = if self.decided { &mut self.right } else { &mut self.left };
            let input = match side.next(context, values)? {
                Next::More => return Ok(Next::More),
                Next::Done if self.decided => return Ok(self.merge.drain(values)),
                Next::Done => {
                    self.decided = true;
                    continue;
                }
                Next::Series(series) if self.decided => {
                    if !self.mask(self.right_groups[series], false, values) {
                        if context.spend(self.grid.count) {
                            continue;
                        }
                        return Ok(Next::More);
                    }
                    self.left_groups.len() + series
                }
                Next::Series(series) => {
                    self.mark(context, self.left_groups[series], values)?;
                    series
                }
            };
            let in_time = context.spend(self.grid.count);
            if let Some(slot) = self.merge.offer(context, input, values)? {
                return Ok(Next::Series(slot));
            }
            if !in_time {
                return Ok(Next::More);
            }
        }
    }
}
