//! Series whose labels became the same by what was done to them.
//!
//! They are one series as long as no step has a value of both; otherwise the query fails. Where labels stay distinct,
//! which is nearly always, series pass through untouched and nothing is held.

use super::{Context, Next, Values, execution, is_absent};
use crate::{labels::LabelSet, promql::query::QueryError};
use alloc::{collections::BTreeMap, vec::Vec};
use hashbrown::HashMap;

pub type LabelMap = HashMap<LabelSet, usize, foldhash::fast::RandomState>;

pub struct Merge {
    /// Per input its output; empty when they are the same.
    slots: Vec<u32>,
    /// Per output how many inputs it has.
    inputs: Vec<u32>,
    held: BTreeMap<usize, Values>,
    /// The error text when two inputs of an output have a value at one step.
    conflict: &'static str,
}

impl Default for Merge {
    fn default() -> Self {
        Self::with_conflict("vector cannot contain metrics with the same labelset")
    }
}

impl Merge {
    pub fn with_conflict(conflict: &'static str) -> Self {
        Self { slots: Vec::new(), inputs: Vec::new(), held: BTreeMap::new(), conflict }
    }

    /// Takes the labels of all inputs; returns those of the outputs, each once, in order of first occurrence.
    pub fn open(&mut self, context: &mut Context<'_>, labels: Vec<LabelSet>) -> Result<Vec<LabelSet>, QueryError> {
        context.spend(labels.len());
        if labels.is_sorted_by(|a, b| a < b) {
            return Ok(labels);
        }
        let mut seen = LabelMap::default();
        let mut slots = Vec::new();
        context.meter.reserve(&mut slots, labels.len())?;
        for set in &labels {
            if !seen.contains_key(set) {
                context.meter.charge_labels(set)?;
                seen.insert(set.clone(), seen.len());
            }
            slots.push(seen[set] as u32);
        }
        if seen.len() == labels.len() {
            return Ok(labels);
        }
        self.inputs = context.meter.filled(0, seen.len())?;
        let mut unique = Vec::new();
        for (set, slot) in labels.into_iter().zip(&slots) {
            if self.inputs[*slot as usize] == 0 {
                unique.push(set);
            }
            self.inputs[*slot as usize] += 1;
        }
        self.slots = slots;
        Ok(unique)
    }

    /// Gives one input's values; its output's index when it may go on at once.
    pub fn offer(
        &mut self,
        context: &mut Context<'_>,
        input: usize,
        values: &mut Values,
    ) -> Result<Option<usize>, QueryError> {
        let Some(slot) = self.slots.get(input).map(|slot| *slot as usize) else { return Ok(Some(input)) };
        if self.inputs[slot] == 1 {
            return Ok(Some(slot));
        }
        let Some(held) = self.held.get_mut(&slot) else {
            let mut copy = Values::new();
            context.meter.reserve_samples(&mut copy, values.len())?;
            copy.extend_from_slice(values);
            self.held.insert(slot, copy);
            return Ok(None);
        };
        for (held, value) in held.iter_mut().zip(&*values) {
            if is_absent(*value) {
                continue;
            }
            if !is_absent(*held) {
                return Err(execution(self.conflict));
            }
            *held = *value;
        }
        Ok(None)
    }

    /// After the last input: what was held, one output a call.
    pub fn drain(&mut self, values: &mut Values) -> Next {
        match self.held.pop_first() {
            Some((slot, held)) => {
                *values = held;
                Next::Series(slot)
            }
            None => Next::Done,
        }
    }
}
