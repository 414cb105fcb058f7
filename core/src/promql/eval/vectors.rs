//! Arithmetic and comparison of two vectors: series find each other by their matching labels.
//!
//! The side with one series per match group is read first and kept, groups x steps; the other side streams past it.
//! Which side that is follows from `group_left` and `group_right`; one-to-one keeps the right.

use super::{
    ABSENT, Context, Grid, Next, Opened, Operator, Values, arithmetic, execution, is_absent, labels_text,
    merge::{LabelMap, Merge},
};
use crate::{
    labels::{LabelSet, LabelsBuilder, NAME},
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
    many_labels: Option<Vec<LabelSet>>,
    one_labels: Vec<LabelSet>,
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
struct Output {
    /// Only where the value is of this series of the one side, whose labels are included.
    owner: Option<u32>,
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
            many_labels: None,
            one_labels: Vec::new(),
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

    fn match_sides(&mut self, context: &mut Context<'_>, many: &[LabelSet]) -> Result<(), QueryError> {
        let mut groups = LabelMap::default();
        context.meter.reserve(&mut self.one_groups, self.one_labels.len())?;
        for set in &self.one_labels {
            let group = group_of(context, &mut groups, set, &self.matching)?;
            if group == self.groups.len() {
                context.meter.reserve(&mut self.groups, 1)?;
                self.groups.push(Group::default());
            }
            self.groups[group].one_count += 1;
            self.one_groups.push(group as u32);
        }
        context.meter.reserve(&mut self.many_groups, many.len())?;
        for set in many {
            let group = groups.get(&match_key(set, &self.matching)).map(|group| *group as u32);
            if let Some(group) = group {
                self.groups[group as usize].many_count += 1;
            }
            self.many_groups.push(group);
        }
        context.spend(self.one_labels.len() + many.len());
        Ok(())
    }

    /// The labels of all outputs, in the order of the many side.
    fn result_labels(&mut self, context: &mut Context<'_>, many: &[LabelSet]) -> Result<Vec<LabelSet>, QueryError> {
        let mut members: Vec<Vec<u32>> = context.meter.filled(Vec::new(), self.groups.len())?;
        let includes = !self.matching.include.is_empty();
        if includes {
            context.meter.charge(self.one_groups.len() * size_of::<u32>())?;
            for (series, group) in self.one_groups.iter().enumerate() {
                members[*group as usize].push(series as u32);
            }
        }
        let mut labels = Vec::new();
        context.meter.reserve(&mut self.output_from, many.len() + 1)?;
        for (set, group) in many.iter().zip(&self.many_groups) {
            self.output_from.push(self.outputs.len() as u32);
            let Some(group) = group else { continue };
            let several = &members[*group as usize];
            let owners = if includes { &several[..] } else { &[u32::MAX][..] };
            for owner in owners {
                let one = self.one_labels.get(*owner as usize);
                let result = self.result_set(set, one);
                context.meter.charge_labels(&result)?;
                context.meter.reserve(&mut self.outputs, 1)?;
                self.outputs.push(Output { owner: (owners.len() > 1).then_some(*owner) });
                labels.push(result);
            }
        }
        self.output_from.push(self.outputs.len() as u32);
        Ok(labels)
    }

    fn result_set(&self, many: &LabelSet, one: Option<&LabelSet>) -> LabelSet {
        let mut builder = LabelsBuilder::from_labels(many.as_ref());
        if self.return_bool || !self.op.is_comparison() {
            builder.remove(NAME);
        }
        if self.matching.cardinality == Cardinality::OneToOne {
            let listed = |name: &str| self.matching.labels.iter().any(|label| **label == *name);
            builder.retain(|name, _| listed(name) == self.matching.on);
        }
        for label in &self.matching.include {
            builder.set(label, one.and_then(|one| one.get(label)).unwrap_or(""));
        }
        builder.build()
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
    fn many_to_many(&self, first: u32, second: u32) -> QueryError {
        let (first, second) = (&self.one_labels[first as usize], &self.one_labels[second as usize]);
        let side = if self.matching.cardinality == Cardinality::OneToMany { "left" } else { "right" };
        execution(format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
            labels_text(&match_key(first, &self.matching)),
            labels_text(first),
            labels_text(second),
        ))
    }

    /// A new series of the many side: looks for what must not be.
    fn check_many(&mut self, context: &mut Context<'_>, series: usize) -> Result<(), QueryError> {
        for (step, (first, second)) in &self.duplicates {
            if !is_absent(self.many_values[*step]) {
                return Err(self.many_to_many(*first, *second));
            }
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
        let owner = self.outputs[output].owner;
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
        if self.many_labels.is_none() {
            let Opened::Ready(labels) = self.many.open(context)? else { return Ok(Opened::More) };
            self.many_labels = Some(labels);
        }
        let Opened::Ready(labels) = self.one.open(context)? else { return Ok(Opened::More) };
        self.one_labels = labels;
        let many = self.many_labels.take().unwrap_or_default();
        self.match_sides(context, &many)?;
        let labels = self.result_labels(context, &many)?;
        self.merge.open(context, labels).map(Opened::Ready)
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

/// The labels by which two series find each other.
pub fn match_key(labels: &LabelSet, matching: &Matching) -> LabelSet {
    let listed = |name: &str| matching.labels.iter().any(|label| **label == *name);
    LabelSet::from_pairs(labels.iter().filter(
        |(name, _)| {
            if matching.on { listed(name) } else { *name != NAME && !listed(name) }
        },
    ))
}

/// The number of a series' match group, a new one if need be.
pub fn group_of(
    context: &mut Context<'_>,
    groups: &mut LabelMap,
    labels: &LabelSet,
    matching: &Matching,
) -> Result<usize, QueryError> {
    let key = match_key(labels, matching);
    if let Some(group) = groups.get(&key) {
        return Ok(*group);
    }
    context.meter.charge_labels(&key)?;
    let group = groups.len();
    groups.insert(key, group);
    Ok(group)
}
