//! Which series belong together, by all or some of their labels.

use super::{Context, Operator, execution};
use crate::{
    labels::{LabelSet, LabelsBuf, LabelsRef, NAME},
    promql::{ast::Matching, query::QueryError},
};
use alloc::{boxed::Box, vec::Vec};
use core::hash::{BuildHasher, Hasher};
use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Hash-table bytes of one entry, and of the room that a table keeps.
const ENTRY_BYTES: usize = 16;

/// Which labels make a group.
pub struct Grouping {
    pub labels: Vec<Box<str>>,
    pub without: bool,
    /// `without` leaves the metric's name alone.
    pub keeps_name: bool,
}

impl Grouping {
    fn pick<'l>(&self, labels: LabelsRef<'l>) -> impl Iterator<Item = (&'l str, &'l str)> + Clone {
        let listed = |name: &str| self.labels.iter().any(|label| **label == *name);
        labels.iter().filter(move |(name, _)| {
            if self.without { (*name != NAME || self.keeps_name) && !listed(name) } else { listed(name) }
        })
    }
}

/// Distinct label sets, numbered in the order in which they first came.
#[derive(Default)]
pub struct LabelNumbers {
    hasher: RandomState,
    table: HashTable<u32>,
    labels: Vec<LabelSet>,
}

impl LabelNumbers {
    pub fn number<'l>(
        &mut self,
        context: &mut Context<'_>,
        pairs: impl Iterator<Item = (&'l str, &'l str)> + Clone,
    ) -> Result<u32, QueryError> {
        let hash = hash_of(&self.hasher, pairs.clone());
        let labels = &self.labels;
        if let Some(number) = self.table.find(hash, |number| same(labels[*number as usize].iter(), pairs.clone())) {
            return Ok(*number);
        }
        let added = LabelSet::from_pairs(pairs);
        context.meter.charge(ENTRY_BYTES + added.heap_bytes())?;
        context.meter.reserve(&mut self.labels, 1)?;
        let number = self.labels.len() as u32;
        self.labels.push(added);
        let (labels, hasher) = (&self.labels, &self.hasher);
        self.table.insert_unique(hash, number, |number| hash_of(hasher, labels[*number as usize].iter()));
        Ok(number)
    }

    pub fn labels(&self) -> &[LabelSet] {
        &self.labels
    }

    pub fn into_labels(self) -> Vec<LabelSet> {
        self.labels
    }
}

/// Gives each series of a child its group, in bites.
#[derive(Default)]
pub struct Assignment {
    numbers: LabelNumbers,
    /// Per series its group.
    pub groups: Vec<u32>,
    buf: LabelsBuf,
}

impl Assignment {
    /// Goes on until all `count` series have a group; false when the bite is used up.
    pub fn step(
        &mut self,
        context: &mut Context<'_>,
        child: &mut dyn Operator,
        count: usize,
        grouping: &Grouping,
    ) -> Result<bool, QueryError> {
        if self.groups.is_empty() {
            context.meter.reserve(&mut self.groups, count)?;
        }
        while self.groups.len() < count {
            if context.bite_left <= 0 {
                return Ok(false);
            }
            child.labels(context, self.groups.len(), &mut self.buf)?;
            context.spend_labels();
            let group = self.numbers.number(context, grouping.pick(self.buf.as_ref()))?;
            self.groups.push(group);
        }
        Ok(true)
    }

    /// The labels of the groups so far.
    pub fn keys(&self) -> &[LabelSet] {
        self.numbers.labels()
    }

    /// Each series' group, and the groups' labels.
    pub fn finish(self) -> (Vec<u32>, Vec<LabelSet>) {
        (self.groups, self.numbers.into_labels())
    }
}

/// Series that find each other by some of their labels. Of a group only a hash is kept and one of its series, whose labels
/// are fetched to be compared.
#[derive(Default)]
pub struct MatchGroups {
    hasher: RandomState,
    table: HashTable<u32>,
    /// Per group its hash and its first series.
    groups: Vec<(u64, u32)>,
    first: LabelsBuf,
}

impl MatchGroups {
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// The group of a series by its matching labels. `fetch` gives the labels of a group's first series.
    pub fn find<F>(
        &mut self,
        context: &mut Context<'_>,
        labels: LabelsRef<'_>,
        matching: &Matching,
        fetch: F,
    ) -> Result<Option<u32>, QueryError>
    where
        F: FnOnce(&mut Context<'_>, usize, &mut LabelsBuf) -> Result<(), QueryError>,
    {
        let picked = match_key(labels, matching);
        let hash = hash_of(&self.hasher, picked.clone());
        let groups = &self.groups;
        let Some(group) = self.table.find(hash, |group| groups[*group as usize].0 == hash).copied() else {
            return Ok(None);
        };
        fetch(context, groups[group as usize].1 as usize, &mut self.first)?;
        if !same(match_key(self.first.as_ref(), matching), picked) {
            return Err(same_hash());
        }
        Ok(Some(group))
    }

    /// Makes a group of a series for which [`Self::find`] found none.
    pub fn add(
        &mut self,
        context: &mut Context<'_>,
        labels: LabelsRef<'_>,
        matching: &Matching,
        series: usize,
    ) -> Result<u32, QueryError> {
        let hash = hash_of(&self.hasher, match_key(labels, matching));
        context.meter.charge(ENTRY_BYTES)?;
        context.meter.reserve(&mut self.groups, 1)?;
        let group = self.groups.len() as u32;
        self.groups.push((hash, series as u32));
        let groups = &self.groups;
        self.table.insert_unique(hash, group, |group| groups[*group as usize].0);
        Ok(group)
    }
}

/// The labels by which two series find each other.
pub fn match_key<'l>(labels: LabelsRef<'l>, matching: &Matching) -> impl Iterator<Item = (&'l str, &'l str)> + Clone {
    let listed = |name: &str| matching.labels.iter().any(|label| **label == *name);
    labels.iter().filter(move |(name, _)| if matching.on { listed(name) } else { *name != NAME && !listed(name) })
}

fn same<'a, 'b>(
    mut a: impl Iterator<Item = (&'a str, &'a str)>,
    mut b: impl Iterator<Item = (&'b str, &'b str)>,
) -> bool {
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(left), Some(right)) if left == right => {}
            _ => return false,
        }
    }
}

/// Two label sets with one hash of 64 bits, under a key that is new for each query.
pub fn same_hash() -> QueryError {
    execution("two different label sets have the same hash; asking again uses another one")
}

pub fn hash_of<'l>(hasher: &RandomState, pairs: impl Iterator<Item = (&'l str, &'l str)>) -> u64 {
    let mut hash = hasher.build_hasher();
    for (name, value) in pairs {
        for text in [name, value] {
            hash.write(text.as_bytes());
            // No byte of UTF-8: keeps ("a", "bc") and ("ab", "c") apart.
            hash.write_u8(0xff);
        }
    }
    hash.finish()
}
