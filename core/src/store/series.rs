//! The series in RAM: label pairs, the index from labels to series, and where a series' columns lie.
//!
//! A series lives as long as a layout in RAM names it. Authoritative are hash and pairs of a series that a layout names;
//! the index, the list of columns and the free list are made anew at attach.

use super::{Refused, RegionName, SeriesId, Store, layouts::Column, pools::Pool, slab::NONE, symbols::Pairs};
use crate::{
    labels::{LABELS_BYTES_MAX, LabelsRef},
    prng::mix,
};

const HASH: usize = 0;
const PAIRS: usize = 8;
/// The next series of the same bucket, or the next free one.
pub(super) const NEXT: usize = 12;
/// The first of its columns, as [`Column`] numbers them.
const COLUMNS: usize = 16;
const FLAGS: usize = 20;
const USED: u32 = 1;

impl Store<'_> {
    pub fn series_count(&self) -> usize {
        self.pool_used(Pool::Series) as usize
    }

    /// The labels, written into `buf` (of [`LABELS_BYTES_MAX`] bytes); `None` when the series is gone or `buf` too
    /// short.
    pub fn series_labels<'b>(&self, series: SeriesId, buf: &'b mut [u8]) -> Option<LabelsRef<'b>> {
        let at = self.series_used(series)?;
        let mut pairs = Pairs::new(self.slab.u32(at + PAIRS), self.map.plan.label_cells_count);
        let mut used = 0;
        while let Some((name, value)) = self.pairs_next(&mut pairs) {
            for symbol in [name, value] {
                used += put_length(buf.get_mut(used..)?, self.symbol_length(symbol))?;
                used += self.symbol_text(symbol, buf.get_mut(used..)?)?;
            }
        }
        LabelsRef::decode(&buf[..used]).ok()
    }

    /// [`LabelsRef::stable_hash`] of the series' labels, without reading them; `None` when the series is gone.
    pub fn series_labels_hash(&self, series: SeriesId) -> Option<u64> {
        self.series_used(series).map(|at| self.slab.u64(at + HASH))
    }

    pub fn series_find(&self, labels: LabelsRef<'_>) -> Option<SeriesId> {
        self.series_find_hashed(labels, labels.stable_hash())
    }

    /// All series in RAM; return `false` to stop. Takes 4 KiB of stack for the labels.
    pub fn series_visit(&self, visit: &mut dyn FnMut(SeriesId, LabelsRef<'_>) -> bool) {
        let mut buf = [0; LABELS_BYTES_MAX];
        for series in (0..self.pool_fresh(Pool::Series)).map(SeriesId) {
            if self.series_used(series).is_none() {
                continue;
            }
            let labels = self.series_labels(series, &mut buf).expect("labels are checked when made and at attach");
            if !visit(series, labels) {
                return;
            }
        }
    }

    pub(super) fn series_find_hashed(&self, labels: LabelsRef<'_>, hash: u64) -> Option<SeriesId> {
        let mut series = self.slab.u32(self.series_bucket(hash));
        while series != NONE {
            let at = self.map.series(series);
            if self.slab.u64(at + HASH) == hash && self.series_is(at, labels) {
                return Some(SeriesId(series));
            }
            series = self.slab.u32(at + NEXT);
        }
        None
    }

    fn series_is(&self, at: usize, labels: LabelsRef<'_>) -> bool {
        let mut pairs = Pairs::new(self.slab.u32(at + PAIRS), self.map.plan.label_cells_count);
        for (name, value) in labels.iter() {
            match self.pairs_next(&mut pairs) {
                Some((n, v)) if self.symbol_is(n, name.as_bytes()) && self.symbol_is(v, value.as_bytes()) => {}
                _ => return false,
            }
        }
        self.pairs_next(&mut pairs).is_none()
    }

    /// A new series without columns; whoever makes it gives it one or calls [`Self::series_drop`].
    pub(super) fn series_make(&mut self, labels: LabelsRef<'_>, hash: u64) -> Result<SeriesId, Refused> {
        let Some(series) = self.pool_take(Pool::Series) else { return Err(self.full(RegionName::Series)) };
        let Some(pairs) = self.pairs_make(labels) else {
            self.slab.put_u32(self.map.series(series) + FLAGS, 0);
            self.pool_free(Pool::Series, series);
            return Err(self.full(RegionName::LabelText));
        };
        let at = self.map.series(series);
        self.slab.put_u64(at + HASH, hash);
        self.slab.put_u32(at + PAIRS, pairs);
        self.slab.put_u32(at + COLUMNS, NONE);
        self.slab.put_u32(at + FLAGS, USED);
        self.series_index(series, hash);
        Ok(SeriesId(series))
    }

    /// Takes a series without columns out of RAM.
    pub(super) fn series_drop(&mut self, series: SeriesId) {
        let at = self.map.series(series.0);
        assert!(self.slab.u32(at + COLUMNS) == NONE, "series {} still has columns", series.0);
        let mut link = self.series_bucket(self.slab.u64(at + HASH));
        while self.slab.u32(link) != series.0 {
            let next = self.slab.u32(link);
            assert!(next != NONE, "series {} is not in its bucket", series.0);
            link = self.map.series(next) + NEXT;
        }
        self.slab.put_u32(link, self.slab.u32(at + NEXT));
        self.slab.put_u32(at + FLAGS, 0);
        self.pairs_free(self.slab.u32(at + PAIRS));
        self.pool_free(Pool::Series, series.0);
    }

    /// The first of the columns of a series, newest layout first.
    pub(super) fn series_column(&self, series: SeriesId) -> Option<Column> {
        let at = self.series_used(series)?;
        Column::from_number(self.slab.u32(at + COLUMNS))
    }

    /// Puts a column in front of the series' columns.
    pub(super) fn series_column_add(&mut self, series: SeriesId, column: Column) {
        let at = self.map.series(series.0) + COLUMNS;
        self.column_set_next(column, self.slab.u32(at));
        self.slab.put_u32(at, column.number());
    }

    pub(super) fn series_column_remove(&mut self, series: SeriesId, column: Column) {
        let mut link = self.map.series(series.0) + COLUMNS;
        while self.slab.u32(link) != column.number() {
            let next = Column::from_number(self.slab.u32(link)).expect("a column is in its series' list");
            link = self.column_next_at(next);
        }
        self.slab.put_u32(link, self.slab.u32(self.column_next_at(column)));
    }

    pub(super) fn series_used(&self, series: SeriesId) -> Option<usize> {
        if series.0 >= self.pool_fresh(Pool::Series) {
            return None;
        }
        let at = self.map.series(series.0);
        (self.slab.u32(at + FLAGS) == USED).then_some(at)
    }

    fn series_index(&mut self, series: u32, hash: u64) {
        let bucket = self.series_bucket(hash);
        self.slab.put_u32(self.map.series(series) + NEXT, self.slab.u32(bucket));
        self.slab.put_u32(bucket, series);
    }

    fn series_bucket(&self, hash: u64) -> usize {
        self.map.series_bucket(mix(hash ^ self.hash_seed))
    }

    // Attach.

    pub(super) fn series_forget_columns(&mut self) {
        for series in 0..self.pool_fresh(Pool::Series) {
            self.slab.put_u32(self.map.series(series) + COLUMNS, NONE);
        }
    }

    /// Checks and indexes every series that has columns; all others become free. `Err` names the damaged one.
    pub(super) fn series_restore(&mut self) -> Result<(), u32> {
        self.cells_unmark();
        let mut buf = [0; LABELS_BYTES_MAX];
        for series in (0..self.pool_fresh(Pool::Series)).rev() {
            let at = self.map.series(series);
            if self.slab.u32(at + COLUMNS) == NONE {
                self.slab.put_u32(at + FLAGS, 0);
                self.pool_sweep(Pool::Series, series);
                continue;
            }
            self.slab.put_u32(at + FLAGS, USED);
            self.pairs_mark(self.slab.u32(at + PAIRS)).ok_or(series)?;
            let labels = self.series_labels(SeriesId(series), &mut buf).ok_or(series)?;
            let hash = self.slab.u64(at + HASH);
            if labels.stable_hash() != hash {
                return Err(series);
            }
            if self.series_find_hashed(labels, hash).is_some() {
                return Err(series);
            }
            self.pool_found(Pool::Series);
            self.series_index(series, hash);
        }
        self.cells_sweep();
        Ok(())
    }
}

/// LEB128, as label sets have it.
fn put_length(buf: &mut [u8], length: usize) -> Option<usize> {
    let (mut rest, mut at) = (length, 0);
    while rest >= 0x80 {
        *buf.get_mut(at)? = rest as u8 | 0x80;
        rest >>= 7;
        at += 1;
    }
    *buf.get_mut(at)? = rest as u8;
    Some(at + 1)
}
