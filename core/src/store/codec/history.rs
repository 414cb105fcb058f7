//! What a stripe's encoder and decoder keep of the columns before the current one.
//!
//! Columns with values count, of their own kind only: two of floats, one of ages. So a histogram's `_count` can be told by
//! the `+Inf` bucket with `_sum` in between, whether or not the samples have ages.

use super::{ColumnKind, Presence, head::Reference};

/// One column as integers.
#[derive(Clone, Copy)]
pub struct Kept<const ROWS: usize> {
    pub presence: [Presence; ROWS],
    /// Of the rows with a value only, at the front. Where all are the same, only the first one is kept.
    pub integers: [i64; ROWS],
    /// Rows with a value; 0 before the stripe's first column.
    pub count: usize,
    pub is_constant: bool,
    pub transform: u8,
}

impl<const ROWS: usize> Kept<ROWS> {
    const EMPTY: Self =
        Self { presence: [Presence::Absent; ROWS], integers: [0; ROWS], count: 0, is_constant: true, transform: 0 };

    /// The integers, filled in where only the first one is kept.
    pub fn integers(&self) -> impl Iterator<Item = i64> {
        let mask = if self.is_constant { 0 } else { usize::MAX };
        (0..self.count).map(move |at| self.integers[at & mask])
    }

    pub fn set_constant(&mut self, transform: u8, integer: i64) {
        self.transform = transform;
        self.is_constant = true;
        self.integers[0] = integer;
    }
}

pub struct History<const ROWS: usize> {
    slots: [Kept<ROWS>; 4],
    /// The slot of the last column of floats, of the one before, of the last one of ages; and the one being filled.
    newest: usize,
    older: usize,
    age: usize,
    free: usize,
}

impl<const ROWS: usize> History<ROWS> {
    pub const fn new() -> Self {
        Self { slots: [Kept::EMPTY; 4], newest: 0, older: 1, age: 2, free: 3 }
    }

    /// Forgets every column: a stripe begins.
    pub fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.count = 0);
    }

    /// The column being worked on, and the one it refers to, if there is one.
    pub fn pair(&mut self, kind: ColumnKind, reference: Reference) -> (&mut Kept<ROWS>, Option<&Kept<ROWS>>) {
        let slot = match (reference, kind) {
            (Reference::Nothing, _) => None,
            (Reference::Before | Reference::Presence, ColumnKind::Float) => Some(self.newest),
            (Reference::BeforeThat, ColumnKind::Float) => Some(self.older),
            (Reference::Before | Reference::Presence, ColumnKind::Age) => Some(self.age),
            (Reference::BeforeThat, ColumnKind::Age) => None,
        };
        let Some(slot) = slot else { return (&mut self.slots[self.free], None) };
        let [current, other] =
            self.slots.get_disjoint_mut([self.free, slot]).expect("the free slot is none of the kept");
        (current, Some(&*other).filter(|other| other.count > 0))
    }

    pub fn current(&self) -> &Kept<ROWS> {
        &self.slots[self.free]
    }

    /// The current column is whole: later ones may refer to it, if it has values.
    pub fn keep(&mut self, kind: ColumnKind) {
        if self.current().count == 0 {
            return;
        }
        match kind {
            ColumnKind::Float => {
                (self.newest, self.older, self.free) = (self.free, self.newest, self.older);
            }
            ColumnKind::Age => (self.age, self.free) = (self.free, self.age),
        }
    }
}
