//! Arithmetic and comparison of two vectors: series find each other by their matching labels.
//!
//! The side with one series per match group is read first and kept, groups x steps; the other side streams past it.
//! Which side that is follows from `group_left` and `group_right`; one-to-one keeps the right.

use super::{
    ABSENT, Context, Grid, Next, Opened, Operator, Series, Values, arithmetic, execution,
    groups::{MatchGroups, match_key},
    is_absent, labels_text,
    merge::Merge,
    open_once,
};
use crate::{
    labels::{LabelSet, LabelsBuf, LabelsBuilder, NAME},
    promql::{
        ast::{BinaryOp, Cardinality, Matching},
        query::QueryError,
    },
};
use alloc::{boxed::Box, collections::BTreeMap, format, vec::Vec};

pub struct VectorOperator {
    op: BinaryOp,
    return_bool: bool,
    matching: Matching,
    many: Box<dyn Operator>,
    one: Box<dyn Operator>,
    grid: Grid,
    many_series: Option<Series>,
    one_series: Option<Series>,
    matches: MatchGroups,
    labels: LabelsBuf,
    /// Per series of the many side its group, if the one side has that group.
    many_groups: Vec<Option<u32>>,
    one_groups: Vec<u32>,
    groups: Vec<Group>,
    /// Per series of the many side, its outputs: from here to where the next series' begin.
    output_from: Vec<u32>,
    outputs: Vec<Output>,
    /// The first two series of the one side that have a value at the step in one group.
    duplicates: BTreeMap<usize, (u32, u32)>,
    one_is_read: bool,
    /// The series of the many side that is being worked on, and its next output.
    current: Option<(usize, usize)>,
    many_values: Values,
    merge: Merge,
}

#[derive(Clone, Default)]
struct Group {
    many_count: u32,
    one_count: u32,
    values: Values,
    /// Per step whose value it is, where the group has several series over time.
    owners: Vec<u32>,
    /// One-to-one: a bit per step that has its match.
    taken: Vec<u64>,
}

/// One result series as seen from one series of the many side.
#[derive(Clone, Copy)]
struct Output {
    many: u32,
    /// The series of the one side whose labels are included; `u32::MAX`: none are.
    one: u32,
    /// Only where the value is of that series.
    is_owned: bool,
}

impl VectorOperator {
    pub fn new(
        op: BinaryOp,
        return_bool: bool,
        matching: Matching,
        left: Box<dyn Operator>,
        right: Box<dyn Operator>,
        grid: Grid,
    ) -> Self {
        let (many, one) = if matching.cardinality == Cardinality::OneToMany { (right, left) } else { (left, right) };
        let merge = match matching.cardinality {
            Cardinality::OneToOne => Merge::default(),
            _ => Merge::with_conflict("multiple matches for labels: grouping labels must ensure unique matches"),
        };
        Self {
            op,
            return_bool,
            matching,
            many,
            one,
            grid,
            many_series: None,
            one_series: None,
            matches: MatchGroups::default(),
            labels: LabelsBuf::default(),
            many_groups: Vec::new(),
            one_groups: Vec::new(),
            groups: Vec::new(),
            output_from: Vec::new(),
            outputs: Vec::new(),
            duplicates: BTreeMap::new(),
            one_is_read: false,
            current: None,
            many_values: Values::new(),
            merge,
        }
    }

    /// Gives every series its group, the one side first; false when the bite is used up.
    fn match_sides(&mut self, context: &mut Context<'_>, many: usize, one: usize) -> Result<bool, QueryError> {
        while self.one_groups.len() + self.many_groups.len() < many + one {
            if context.bite_left <= 0 {
                return Ok(false);
            }
            let Self { many: many_side, one: one_side, labels, matches, matching, groups, .. } = self;
            let is_one = self.one_groups.len() < one;
            let series = if is_one { self.one_groups.len() } else { self.many_groups.len() };
            let side = if is_one { &mut *one_side } else { many_side };
            side.labels(context, series, labels)?;
            context.spend_labels();
            let labels = labels.as_ref();
            let found = matches.find(context, labels, matching, |context, first, labels| {
                context.spend_labels();
                one_side.labels(context, first, labels)
            })?;
            if !is_one {
                if let Some(group) = found {
                    groups[group as usize].many_count += 1;
                }
                self.many_groups.push(found);
                continue;
            }
            let group = match found {
                Some(group) => group,
                None => {
                    context.meter.reserve(groups, 1)?;
                    groups.push(Group::default());
                    matches.add(context, labels, matching, series)?
                }
            };
            groups[group as usize].one_count += 1;
            self.one_groups.push(group);
        }
        Ok(true)
    }

    /// Lists the outputs, in the order of the many side.
    fn list_outputs(&mut self, context: &mut Context<'_>) -> Result<(), QueryError> {
        let mut members: Vec<Vec<u32>> = context.meter.filled(Vec::new(), self.groups.len())?;
        let includes = !self.matching.include.is_empty();
        if includes {
            context.meter.charge(self.one_groups.len() * size_of::<u32>())?;
            for (series, group) in self.one_groups.iter().enumerate() {
                members[*group as usize].push(series as u32);
            }
        }
        context.meter.reserve(&mut self.output_from, self.many_groups.len() + 1)?;
        for (many, group) in self.many_groups.iter().enumerate() {
            self.output_from.push(self.outputs.len() as u32);
            let Some(group) = group else { continue };
            let several = &members[*group as usize];
            let owners = if includes { &several[..] } else { &[u32::MAX][..] };
            context.meter.reserve(&mut self.outputs, owners.len())?;
            let output = |one: &u32| Output { many: many as u32, one: *one, is_owned: owners.len() > 1 };
            self.outputs.extend(owners.iter().map(output));
        }
        self.output_from.push(self.outputs.len() as u32);
        Ok(())
    }

    /// Adds a series of the one side to its group.
    fn keep(&mut self, context: &mut Context<'_>, series: usize, values: &[f64]) -> Result<(), QueryError> {
        let group = &mut self.groups[self.one_groups[series] as usize];
        if group.many_count == 0 && group.one_count == 1 {
            return Ok(());
        }
        if group.values.is_empty() {
            context.meter.reset(&mut group.values, self.grid.count)?;
            if group.one_count > 1 {
                group.owners = context.meter.filled(u32::MAX, self.grid.count)?;
            }
        }
        for (step, value) in values.iter().enumerate() {
            if is_absent(*value) {
                continue;
            }
            if !is_absent(group.values[step]) && !self.duplicates.contains_key(&step) {
                context.meter.charge(4 * size_of::<usize>())?;
                self.duplicates.insert(step, (group.owners[step], series as u32));
            }
            group.values[step] = *value;
            if let Some(owner) = group.owners.get_mut(step) {
                *owner = series as u32;
            }
        }
        Ok(())
    }

    /// The error for a step at which the one side has two series of one group.
    fn many_to_many(&mut self, context: &mut Context<'_>, first: u32, second: u32) -> QueryError {
        let (mut labels, mut others) = (LabelsBuf::default(), LabelsBuf::default());
        let fetched = self.one.labels(context, first as usize, &mut labels);
        if let Err(error) = fetched.and_then(|()| self.one.labels(context, second as usize, &mut others)) {
            return error;
        }
        let (first, second) = (labels.as_ref(), others.as_ref());
        let side = if self.matching.cardinality == Cardinality::OneToMany { "left" } else { "right" };
        execution(format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
            labels_text(LabelSet::from_pairs(match_key(first, &self.matching)).as_ref()),
            labels_text(first),
            labels_text(second),
        ))
    }

    /// A new series of the many side: looks for what must not be.
    fn check_many(&mut self, context: &mut Context<'_>, series: usize) -> Result<(), QueryError> {
        let duplicate = self.duplicates.iter().find(|(step, _)| !is_absent(self.many_values[**step]));
        if let Some((_, (first, second))) = duplicate {
            return Err(self.many_to_many(context, *first, *second));
        }
        let Some(group) = self.many_groups[series] else { return Ok(()) };
        let group = &mut self.groups[group as usize];
        if self.matching.cardinality != Cardinality::OneToOne || group.many_count < 2 || group.values.is_empty() {
            return Ok(());
        }
        if group.taken.is_empty() {
            group.taken = context.meter.filled(0, self.grid.count.div_ceil(64))?;
        }
        for (step, (many, one)) in self.many_values.iter().zip(&group.values).enumerate() {
            if is_absent(*many) || is_absent(*one) {
                continue;
            }
            let (word, bit) = (&mut group.taken[step / 64], 1 << (step % 64));
            if *word & bit != 0 {
                return Err(execution(
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                ));
            }
            *word |= bit;
        }
        Ok(())
    }

    /// One output of the current series; whether it has any value.
    fn compute(&self, series: usize, output: usize, values: &mut [f64]) -> bool {
        let Some(group) = self.many_groups[series].map(|group| &self.groups[group as usize]) else { return false };
        if group.values.is_empty() {
            return false;
        }
        let many_is_left = self.matching.cardinality != Cardinality::OneToMany;
        let Output { one, is_owned, .. } = self.outputs[output];
        let owner = is_owned.then_some(one);
        let mut any = false;
        for (step, (many, one)) in self.many_values.iter().zip(&group.values).enumerate() {
            if is_absent(*many) || is_absent(*one) || owner.is_some_and(|owner| group.owners[step] != owner) {
                continue;
            }
            let (left, right) = if many_is_left { (*many, *one) } else { (*one, *many) };
            if let Some(value) = arithmetic::apply(self.op, left, right, self.return_bool) {
                values[step] = value;
                any = true;
            }
        }
        any
    }
}

impl Operator for VectorOperator {
    fn open(&mut self, context: &mut Context<'_>) -> Result<Opened, QueryError> {
        let Some(many) = open_once(&mut self.many_series, || self.many.open(context))? else { return Ok(Opened::More) };
        let one = match self.one_series {
            Some(series) => series,
            None => {
                let Opened::Ready(series) = self.one.open(context)? else { return Ok(Opened::More) };
                context.meter.reserve(&mut self.many_groups, many.count)?;
                context.meter.reserve(&mut self.one_groups, series.count)?;
                *self.one_series.insert(series)
            }
        };
        if self.output_from.is_empty() {
            if !self.match_sides(context, many.count, one.count)? {
                return Ok(Opened::More);
            }
            self.list_outputs(context)?;
        }
        let Self { outputs, many, one, matching, .. } = self;
        let drops_name = self.return_bool || !self.op.is_comparison();
        let merged = self.merge.open(context, outputs.len(), &mut |context, output, labels| {
            result_labels(context, outputs[output], (many, one), matching, drops_name, labels)
        })?;
        Ok(merged.map_or(Opened::More, Opened::Ready))
    }

    fn labels(&mut self, context: &mut Context<'_>, series: usize, labels: &mut LabelsBuf) -> Result<(), QueryError> {
        let output = self.outputs[self.merge.input(series)];
        let drops_name = self.return_bool || !self.op.is_comparison();
        result_labels(context, output, (&mut self.many, &mut self.one), &self.matching, drops_name, labels)
    }

    fn next(&mut self, context: &mut Context<'_>, values: &mut Values) -> Result<Next, QueryError> {
        while !self.one_is_read {
            match self.one.next(context, values)? {
                Next::More => return Ok(Next::More),
                Next::Done => self.one_is_read = true,
                Next::Series(series) => self.keep(context, series, values)?,
            }
            if !context.spend(self.grid.count) {
                return Ok(Next::More);
            }
        }
        loop {
            let Some((series, output)) = self.current else {
                match self.many.next(context, &mut self.many_values)? {
                    Next::More => return Ok(Next::More),
                    Next::Done => return Ok(self.merge.drain(values)),
                    Next::Series(series) => {
                        self.check_many(context, series)?;
                        self.current = Some((series, self.output_from[series] as usize));
                    }
                }
                continue;
            };
            if output >= self.output_from[series + 1] as usize {
                self.current = None;
                if !context.spend(1) {
                    return Ok(Next::More);
                }
                continue;
            }
            self.current = Some((series, output + 1));
            context.spend(self.grid.count);
            context.meter.reset(values, self.grid.count)?;
            debug_assert!(values.iter().all(|value| value.to_bits() == ABSENT.to_bits()));
            if self.compute(series, output, values)
                && let Some(slot) = self.merge.offer(context, output, values)?
            {
                return Ok(Next::Series(slot));
            }
        }
    }
}

/// The labels of an output.
fn result_labels(
    context: &mut Context<'_>,
    output: Output,
    (many, one): (&mut Box<dyn Operator>, &mut Box<dyn Operator>),
    matching: &Matching,
    drops_name: bool,
    labels: &mut LabelsBuf,
) -> Result<(), QueryError> {
    many.labels(context, output.many as usize, labels)?;
    let mut builder = LabelsBuilder::from_labels(labels.as_ref());
    if drops_name {
        builder.remove(NAME);
    }
    if matching.cardinality == Cardinality::OneToOne {
        let listed = |name: &str| matching.labels.iter().any(|label| **label == *name);
        builder.retain(|name, _| listed(name) == matching.on);
    }
    if !matching.include.is_empty() {
        context.spend_labels();
        one.labels(context, output.one as usize, labels)?;
        for label in &matching.include {
            builder.set(label, labels.as_ref().get(label).unwrap_or(""));
        }
    }
    labels.set(builder.build().as_ref());
    Ok(())
}
