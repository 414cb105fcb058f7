//! Series whose labels became the same by what was done to them.
//!
//! They are one series as long as no step has a value of both; otherwise the query fails. Where labels stay distinct,
//! which is nearly always, series pass through untouched and nothing is held.

use super::{
    Context, Next, Series, Values, execution,
    groups::{hash_of, same_hash},
    is_absent,
};
use crate::{labels::LabelsBuf, promql::query::QueryError};
use alloc::{collections::BTreeMap, vec::Vec};
use foldhash::fast::RandomState;

pub struct Merge {
    state: State,
    hasher: RandomState,
    /// Hash of each input's labels, and the input; sorted once all are known.
    hashes: Vec<(u64, u32)>,
    is_sorted: bool,
    previous: LabelsBuf,
    current: LabelsBuf,
    /// Per input its output; empty when they are the same.
    slots: Vec<u32>,
    /// Per output its first input, and how many it has.
    outputs: Vec<(u32, u32)>,
    held: BTreeMap<usize, Values>,
    /// The error text when two inputs of an output have a value at one step.
    conflict: &'static str,
}

enum State {
    /// Labels are fetched, hashed, and compared with those before.
    Hashing,
    /// Inputs of one hash are compared: the next place in the sorted hashes.
    Comparing { at: usize },
}

impl Default for Merge {
    fn default() -> Self {
        Self::with_conflict("vector cannot contain metrics with the same labelset")
    }
}

impl Merge {
    pub fn with_conflict(conflict: &'static str) -> Self {
        Self {
            state: State::Hashing,
            hasher: RandomState::default(),
            hashes: Vec::new(),
            is_sorted: true,
            previous: LabelsBuf::default(),
            current: LabelsBuf::default(),
            slots: Vec::new(),
            outputs: Vec::new(),
            held: BTreeMap::new(),
            conflict,
        }
    }

    /// Looks at the labels of all `count` inputs, which `fetch` gives; the outputs, each label set once, in order of first
    /// occurrence. `None`: the bite is used up.
    pub fn open(
        &mut self,
        context: &mut Context<'_>,
        count: usize,
        fetch: &mut dyn FnMut(&mut Context<'_>, usize, &mut LabelsBuf) -> Result<(), QueryError>,
    ) -> Result<Option<Series>, QueryError> {
        if let State::Hashing = self.state {
            if self.hashes.is_empty() {
                context.meter.reserve(&mut self.hashes, count)?;
            }
            while self.hashes.len() < count {
                if context.bite_left <= 0 {
                    return Ok(None);
                }
                let input = self.hashes.len();
                fetch(context, input, &mut self.current)?;
                context.spend_labels();
                let labels = self.current.as_ref();
                self.is_sorted &= input == 0 || self.previous.as_ref() < labels;
                self.hashes.push((hash_of(&self.hasher, labels.iter()), input as u32));
                core::mem::swap(&mut self.previous, &mut self.current);
            }
            if !self.is_sorted {
                self.hashes.sort_unstable();
            }
            if self.is_sorted || self.hashes.is_sorted_by(|a, b| a.0 < b.0) {
                context.meter.free(&mut self.hashes);
                return Ok(Some(Series { count, is_sorted: self.is_sorted }));
            }
            context.meter.reserve(&mut self.slots, count)?;
            self.slots.extend(0..count as u32);
            self.state = State::Comparing { at: 1 };
        }
        let State::Comparing { at } = &mut self.state else { return Ok(None) };
        while *at < count {
            if context.bite_left <= 0 {
                return Ok(None);
            }
            let ((hash_before, before), (hash, input)) = (self.hashes[*at - 1], self.hashes[*at]);
            if hash == hash_before {
                fetch(context, before as usize, &mut self.previous)?;
                fetch(context, input as usize, &mut self.current)?;
                context.spend_labels();
                context.spend_labels();
                if self.previous.as_ref() != self.current.as_ref() {
                    return Err(same_hash());
                }
                // Of one hash the first comes first.
                self.slots[input as usize] = self.slots[before as usize];
            }
            *at += 1;
        }
        context.meter.free(&mut self.hashes);
        // So far a slot is the first input with the same labels; from here on its output.
        for input in 0..count {
            let first = self.slots[input] as usize;
            if first == input {
                context.meter.reserve(&mut self.outputs, 1)?;
                self.slots[input] = self.outputs.len() as u32;
                self.outputs.push((input as u32, 1));
            } else {
                let output = self.slots[first];
                self.slots[input] = output;
                self.outputs[output as usize].1 += 1;
            }
        }
        Ok(Some(Series { count: self.outputs.len(), is_sorted: false }))
    }

    /// The first input of an output: its labels are the output's.
    pub fn input(&self, output: usize) -> usize {
        self.outputs.get(output).map_or(output, |(input, _)| *input as usize)
    }

    /// Gives one input's values; its output's index when it may go on at once.
    pub fn offer(
        &mut self,
        context: &mut Context<'_>,
        input: usize,
        values: &mut Values,
    ) -> Result<Option<usize>, QueryError> {
        let Some(slot) = self.slots.get(input).map(|slot| *slot as usize) else { return Ok(Some(input)) };
        if self.outputs[slot].1 == 1 {
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
