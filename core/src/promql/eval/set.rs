//! `and`, `or`, `unless`: which series of two vectors there are, step by step.

use super::{
    ABSENT, Context, Grid, Next, Opened, Operator, Values, is_absent,
    merge::{LabelMap, Merge},
    vectors,
};
use crate::{
    labels::LabelSet,
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
    left_labels: Option<Vec<LabelSet>>,
    left_groups: Vec<u32>,
    right_groups: Vec<u32>,
    /// Per group, a bit per step at which the side that decides has something.
    present: Vec<Vec<u64>>,
    merge: Merge,
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
            left_labels: None,
            left_groups: Vec::new(),
            right_groups: Vec::new(),
            present: Vec::new(),
            merge: Merge::default(),
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
        if self.left_labels.is_none() {
            let Opened::Ready(labels) = self.left.open(context)? else { return Ok(Opened::More) };
            self.left_labels = Some(labels);
        }
        let Opened::Ready(right_labels) = self.right.open(context)? else { return Ok(Opened::More) };
        let mut labels = self.left_labels.take().unwrap_or_default();
        let mut groups = LabelMap::default();
        for (side, indices) in [(&labels, &mut self.left_groups), (&right_labels, &mut self.right_groups)] {
            context.meter.reserve(indices, side.len())?;
            for set in side {
                indices.push(vectors::group_of(context, &mut groups, set, &self.matching)? as u32);
            }
            context.spend(side.len());
        }
        context.meter.reserve(&mut self.present, groups.len())?;
        self.present.resize(groups.len(), Vec::new());
        if self.op == BinaryOp::Or {
            context.meter.reserve(&mut labels, right_labels.len())?;
            labels.extend(right_labels);
        }
        self.merge.open(context, labels).map(Opened::Ready)
    }

    fn next(&mut self, context: &mut Context<'_>, values: &mut Values) -> Result<Next, QueryError> {
        if self.op == BinaryOp::Or { self.next_or(context, values) } else { self.next_and(context, values) }
    }
}

impl SetOperator {
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
                Next::Done => return Ok(self.merge.drain(values)),
                Next::More => return Ok(Next::More),
            };
            let in_time = context.spend(self.grid.count);
            if self.mask(self.left_groups[series], self.op == BinaryOp::And, values)
                && let Some(slot) = self.merge.offer(context, series, values)?
            {
                return Ok(Next::Series(slot));
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
