//! `label_replace` and `label_join`: the same values under other labels.

use super::{Context, Grid, Next, Opened, Operator, Series, Values, merge::Merge, open_once};
use crate::{
    labels::{LabelSet, LabelsBuf, LabelsBuilder, LabelsRef, Pattern},
    promql::query::QueryError,
};
use alloc::{boxed::Box, string::String, vec::Vec};

pub enum Relabel {
    Replace { target: Box<str>, template: Box<str>, source: Box<str>, pattern: Pattern },
    Join { target: Box<str>, separator: Box<str>, sources: Vec<Box<str>> },
}

impl Relabel {
    fn apply(&self, labels: LabelsRef<'_>) -> Option<LabelSet> {
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
        let mut builder = LabelsBuilder::from_labels(labels);
        builder.set(target, &value);
        Some(builder.build())
    }

    fn change(&self, labels: &mut LabelsBuf) {
        if let Some(changed) = self.apply(labels.as_ref()) {
            labels.set(changed.as_ref());
        }
    }
}

pub struct RelabelOperator {
    child: Box<dyn Operator>,
    relabel: Relabel,
    grid: Grid,
    merge: Merge,
    opened: Option<Series>,
}

impl RelabelOperator {
    pub fn new(child: Box<dyn Operator>, relabel: Relabel, grid: Grid) -> Self {
        Self { child, relabel, grid, merge: Merge::default(), opened: None }
    }
}

impl Operator for RelabelOperator {
    fn open(&mut self, context: &mut Context<'_>) -> Result<Opened, QueryError> {
        let Some(series) = open_once(&mut self.opened, || self.child.open(context))? else { return Ok(Opened::More) };
        let (child, relabel) = (&mut self.child, &self.relabel);
        let merged = self.merge.open(context, series.count, &mut |context, input, labels| {
            child.labels(context, input, labels)?;
            relabel.change(labels);
            Ok(())
        })?;
        Ok(merged.map_or(Opened::More, Opened::Ready))
    }

    fn labels(&mut self, context: &mut Context<'_>, series: usize, labels: &mut LabelsBuf) -> Result<(), QueryError> {
        self.child.labels(context, self.merge.input(series), labels)?;
        self.relabel.change(labels);
        Ok(())
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
