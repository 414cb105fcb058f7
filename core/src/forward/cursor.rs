//! How far one timeline has been handed on: exact to the column, and small enough to save often.

use alloc::vec::Vec;
use core::ops::Range;
use serde::{Deserialize, Serialize};

/// Stands for "up to the last column", however many there are.
pub(super) const ALL_COLUMNS: u32 = u32::MAX;

/// Most separate parked regions of one timeline; more are joined, which may repeat samples when they are retried.
const PARKED_COUNT_MAX: usize = 8;

/// A rectangle of cells: all `columns` of all `rows`. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Region {
    pub rows: Range<u64>,
    pub columns: Range<u32>,
}

impl Region {
    pub fn whole(rows: Range<u64>) -> Self {
        Self { rows, columns: 0..ALL_COLUMNS }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() || self.columns.is_empty()
    }

    pub fn row_count(&self) -> u64 {
        self.rows.end - self.rows.start
    }

    /// Parts before and from `row` on.
    pub fn split_rows(self, row: u64) -> (Self, Self) {
        let before = Self { rows: self.rows.start..row, columns: self.columns.clone() };
        (before, Self { rows: row..self.rows.end, columns: self.columns })
    }

    /// Parts before and from `column` on.
    pub fn split_columns(self, column: u32) -> (Self, Self) {
        let before = Self { rows: self.rows.clone(), columns: self.columns.start..column };
        (before, Self { rows: self.rows, columns: column..self.columns.end })
    }

    /// The smallest region that holds both.
    pub fn hull(self, other: &Self) -> Self {
        Self {
            rows: self.rows.start.min(other.rows.start)..self.rows.end.max(other.rows.end),
            columns: self.columns.start.min(other.columns.start)..self.columns.end.max(other.columns.end),
        }
    }
}

/// The durable part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// No row from here on was sent; of those before, only what `open` and `parked` name is still to send.
    pub row_next: u64,
    /// A stack: the last region goes next.
    pub open: Vec<Region>,
    /// Refused as out of bounds, ascending by row.
    pub parked: Vec<Region>,
}

impl Cursor {
    pub fn open_push(&mut self, region: Region) {
        if !region.is_empty() {
            self.open.push(region);
        }
    }

    pub fn park(&mut self, region: Region) {
        if region.is_empty() {
            return;
        }
        let joins = |parked: &Region| parked.columns == region.columns && parked.rows.end == region.rows.start;
        if let Some(parked) = self.parked.iter_mut().find(|parked| joins(parked)) {
            parked.rows.end = region.rows.end;
            return;
        }
        let at = self.parked.partition_point(|parked| parked.rows.start <= region.rows.start);
        self.parked.insert(at, region);
        while self.parked.len() > PARKED_COUNT_MAX {
            let last = self.parked.pop();
            if let (Some(last), Some(before)) = (last, self.parked.pop()) {
                self.parked.push(before.hull(&last));
            }
        }
    }

    /// Takes out every region, or part of one, that lies before `row`; calls `gone` with each.
    pub fn clip_before(&mut self, row: u64, gone: &mut dyn FnMut(Region)) {
        for list in [&mut self.open, &mut self.parked] {
            list.retain_mut(|region| {
                if region.rows.start >= row {
                    return true;
                }
                let end = region.rows.end.min(row);
                gone(Region { rows: region.rows.start..end, columns: region.columns.clone() });
                region.rows.start = end;
                !region.is_empty()
            });
        }
        if self.row_next < row {
            gone(Region::whole(self.row_next..row));
            self.row_next = row;
        }
    }

    /// The store ends at `row`: it lost rows in a power cut, and will give their numbers to new ones.
    pub fn set_back(&mut self, row: u64) {
        self.row_next = self.row_next.min(row);
        for list in [&mut self.open, &mut self.parked] {
            list.iter_mut().for_each(|region| region.rows.end = region.rows.end.min(row));
            list.retain(|region| !region.is_empty());
        }
    }

    /// Parked rows are tried again only when nothing else of the timeline is under way.
    pub fn may_retry_parked(&self) -> bool {
        self.open.is_empty() && !self.parked.is_empty()
    }

    /// The cursor for a store that may have laid out its rows anew: which column is which is no longer known, so rows that
    /// were handed on in part go again as a whole.
    pub fn forget_columns(&mut self) {
        for list in [&mut self.open, &mut self.parked] {
            list.sort_unstable_by_key(|region| region.rows.start);
            list.dedup_by(|later, kept| {
                let overlaps = later.rows.start < kept.rows.end;
                if overlaps {
                    kept.rows.end = kept.rows.end.max(later.rows.end);
                }
                overlaps
            });
            list.iter_mut().for_each(|region| region.columns = 0..ALL_COLUMNS);
        }
        // The earliest rows go next.
        self.open.reverse();
    }

    /// Rows that are not all handed on, parked ones left out.
    pub fn unsent_rows(&self, held_end: u64) -> u64 {
        let open: u64 = self.open.iter().map(Region::row_count).sum();
        open + held_end.saturating_sub(self.row_next)
    }
}

/// What is saved: every timeline's cursor by its key.
#[derive(Serialize, Deserialize)]
pub(super) struct Saved {
    /// [`SAVED_VERSION`].
    pub version: u8,
    pub samples_max: u64,
    pub cursors: Vec<(u64, Cursor)>,
}

pub(super) const SAVED_VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parked_rows_that_touch_become_one_region() {
        let mut cursor = Cursor::default();
        for row in 0..100 {
            cursor.park(Region::whole(row..row + 1));
        }
        assert_eq!(cursor.parked, [Region::whole(0..100)]);
        for row in (200..400).step_by(10) {
            cursor.park(Region { rows: row..row + 1, columns: 3..5 });
        }
        assert_eq!(cursor.parked.len(), PARKED_COUNT_MAX);
        assert_eq!(cursor.parked.last().map(|region| region.rows.end), Some(391));
    }

    #[test]
    fn a_store_that_is_laid_out_anew_gets_rows_again_that_were_handed_on_in_part() {
        let mut cursor = Cursor { row_next: 20, ..Cursor::default() };
        cursor.open_push(Region::whole(18..20));
        cursor.open_push(Region { rows: 15..18, columns: 4..9 });
        cursor.open_push(Region { rows: 15..17, columns: 2..3 });
        cursor.park(Region { rows: 3..5, columns: 1..2 });
        cursor.forget_columns();
        assert_eq!(cursor.open, [Region::whole(18..20), Region::whole(15..18)]);
        assert_eq!((cursor.parked.as_slice(), cursor.row_next), (&[Region::whole(3..5)][..], 20));
    }

    #[test]
    fn what_retention_overtook_is_taken_out_exactly() {
        let mut cursor = Cursor { row_next: 20, ..Cursor::default() };
        cursor.park(Region::whole(2..6));
        cursor.open_push(Region { rows: 15..20, columns: 4..9 });
        let mut gone = Vec::new();
        cursor.clip_before(4, &mut |region| gone.push(region));
        assert_eq!(
            (gone.as_slice(), cursor.parked.as_slice()),
            (&[Region::whole(2..4)][..], &[Region::whole(4..6)][..])
        );
        gone.clear();
        cursor.clip_before(25, &mut |region| gone.push(region));
        let expected = [Region { rows: 15..20, columns: 4..9 }, Region::whole(4..6), Region::whole(20..25)];
        assert_eq!(gone, expected);
        assert_eq!(cursor, Cursor { row_next: 25, ..Cursor::default() });
    }
}
