//! Goes through the stored segments, oldest first, and writes those that have aged again in fewer bytes.
//!
//! A segment keeps its sequence, its rows and its times; only its bytes change, in the transaction of a seal run: so a power
//! cut finds the old bytes or the new ones. How far the pass has got is in the spill's own state.

use super::{
    ager::{Ager, Aging},
    writer::Spill,
};
use crate::store::stored::{SegmentMeta, Stored, StoredError};

/// Segments looked at in one call that need nothing done.
const PASSED_PER_CALL_MAX: u32 = 16;

pub(super) struct AgingPass {
    /// Made when there is something to age, and given back with the transaction: it holds a stripe and 24 KiB.
    ager: Option<Ager>,
    /// Every segment before this sequence has aged, so far as the run under way is committed.
    pub next: u64,
}

impl AgingPass {
    pub const fn new(next: u64) -> Self {
        Self { ager: None, next }
    }

    /// The transaction has ended; `next` is what the database has now.
    pub fn ended(&mut self, next: u64) {
        *self = Self::new(next);
    }
}

/// What became of the segment that was looked at.
enum Found {
    Nothing,
    /// It is too young, and so are those behind it.
    Young,
    Passed {
        sequence: u64,
    },
    Aged {
        meta: SegmentMeta,
        bytes: usize,
    },
}

impl Spill {
    /// Writes the next segment that ended before `before_ms` anew into `out` and returns its numbers and its new length, for
    /// [`Put::Replace`](crate::daemon::output::Put::Replace) in the transaction of the seal run under way; behind the last one
    /// [`Spill::state_put`] has to follow. `None`: there is none for now.
    ///
    /// A segment that cannot be read stays as it is: whoever reads it counts and names it.
    ///
    /// # Errors
    ///
    /// The disk does not answer.
    pub fn age_next(
        &mut self,
        stored: &mut dyn Stored,
        before_ms: i64,
        out: &mut [u8],
    ) -> Result<Option<(SegmentMeta, usize)>, StoredError> {
        for _ in 0..PASSED_PER_CALL_MAX {
            let ager = self.aging.ager.get_or_insert_default();
            let mut found = Found::Nothing;
            stored.sealed_from(self.aging.next, &mut |meta, bytes| {
                found = match meta.t_max_ms < before_ms {
                    false => Found::Young,
                    true => match ager.age(bytes, out) {
                        Ok(Aging::Aged { bytes }) => Found::Aged { meta: *meta, bytes },
                        Ok(Aging::AgedBefore | Aging::NotSmaller) | Err(_) => Found::Passed { sequence: meta.sequence },
                    },
                };
                false
            })?;
            match found {
                Found::Nothing | Found::Young => return Ok(None),
                Found::Passed { sequence } => self.aging.next = sequence + 1,
                Found::Aged { meta, bytes } => {
                    self.aging.next = meta.sequence + 1;
                    return Ok(Some((meta, bytes)));
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
#[path = "aging_tests.rs"]
mod tests;
