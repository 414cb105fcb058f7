//! `label_replace` and `label_join`: the same values under other labels.

use super::{Context, Grid, Next, Opened, Operator, Values, merge::Merge};
use crate::{
    labels::{LabelSet, LabelsBuilder, Pattern},
    promql::query::QueryError,
};
use alloc::{boxed::Box, string::String, vec::Vec};

pub enum Relabel {
    Replace { target: Box<str>, template: Box<str>, source: Box<str>, pattern: Pattern },
    Join { target: Box<str>, separator: Box<str>, sources: Vec<Box<str>> },
}

impl Relabel {
    fn apply(&self, labels: &LabelSet) -> Option<LabelSet> {
        let (target, value) = match self {
            Self::Replace { target, template, source, pattern } => {
                (target, pattern.expand(labels.get(source).unwrap_or(""), template)?)
            }
            Self::Join { target, separator, sources } => {
                let values: Vec<&str> = sources.iter().map(|source| labels.get(source).unwrap_or("")).collect();
                (target, values.join(separator))
            }
        };
        let value: String = value;
        let mut builder = LabelsBuilder::from_labels(labels.as_ref());
        builder.set(target, &value);
        Some(builder.build())
    }
}

pub struct RelabelOperator {
    child: Box<dyn Operator>,
    relabel: Relabel,
    grid: Grid,
    merge: Merge,
}

impl RelabelOperator {
    pub fn new(child: Box<dyn Operator>, relabel: Relabel, grid: Grid) -> Self {
        Self { child, relabel, grid, merge: Merge::default() }
    }
}

impl Operator for RelabelOperator {
    fn open(&mut self, context: &mut Context<'_>) -> Result<Opened, QueryError> {
        let Opened::Ready(mut labels) = self.child.open(context)? else { return Ok(Opened::More) };
        for set in &mut labels {
            if let Some(changed) = self.relabel.apply(set) {
                context.meter.charge(changed.heap_bytes().saturating_sub(set.heap_bytes()))?;
                *set = changed;
            }
        }
        context.spend(labels.len());
        self.merge.open(context, labels).map(Opened::Ready)
    }

    fn next(&mut self, context: &mut Context<'_>, values: &mut Values) -> Result<Next, QueryError> {
        loop {
            let series = match self.child.next(context, values)? {
                Next::Series(series) => series,
                Next::Done => return Ok(self.merge.drain(values)),
                Next::More => return Ok(Next::More),
            };
            if let Some(slot) = self.merge.offer(context, series, values)? {
                return Ok(Next::Series(slot));
            }
            if !context.spend(self.grid.count) {
                return Ok(Next::More);
            }
        }
    }
}
