//! The series in RAM: what each is, the index from labels to series, the chains of series that have something in common,
//! and where a series' columns lie.
//!
//! A series lives as long as a layout in RAM names it. Authoritative are the three numbers of what it is, for a series
//! that a layout names; the index, the chains, the list of columns and the free list are made anew at attach.
//!
//! A record is six numbers of `id_bytes`. The index is a table of series numbers, probed from a hash of the three numbers
//! on: a series is found without reading a text.

use super::{
    Refused, RegionName, SeriesId, Store,
    layouts::Column,
    pools::Pool,
    records::{Kind, Pairs, Parts},
    slab::NONE,
};
use crate::{
    labels::{LABELS_BYTES_MAX, LabelsRef},
    prng::mix,
};

/// [`NONE`] in a free record.
const METRIC: usize = 0;
const TARGET: usize = 1;
const OWN: usize = 2;
/// The first of its columns, as [`Column`] numbers them.
const COLUMNS: usize = 5;

/// The series that have one record in common, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chain {
    Metric = 3,
    Own = 4,
}

/// Where a free series links to the next one.
pub(super) const FREE_NEXT: usize = Chain::Metric as usize;

impl Store<'_> {
    pub fn series_count(&self) -> usize {
        self.pool_used(Pool::Series) as usize
    }

    /// The labels, written into `buf` (of [`LABELS_BYTES_MAX`] bytes); `None` when the series is gone or `buf` too
    /// short.
    pub fn series_labels<'b>(&self, series: SeriesId, buf: &'b mut [u8]) -> Option<LabelsRef<'b>> {
        let mut pairs = Pairs::new(self.series_parts(series)?);
        let mut used = 0;
        while let Some((name, value)) = self.pairs_next(&mut pairs) {
            for text in [name, value] {
                used += put_length(buf.get_mut(used..)?, text.len())?;
                buf.get_mut(used..used + text.len())?.copy_from_slice(text);
                used += text.len();
            }
        }
        // Checked when the series was made, and at attach.
        (used <= LABELS_BYTES_MAX).then(|| LabelsRef::of_bytes(&buf[..used]))
    }

    /// [`LabelsRef::stable_hash`] of the series' labels; `None` when the series is gone. Takes 4 KiB of stack.
    pub fn series_labels_hash(&self, series: SeriesId) -> Option<u64> {
        self.series_labels(series, &mut [0; LABELS_BYTES_MAX]).map(LabelsRef::stable_hash)
    }

    pub fn series_find(&self, labels: LabelsRef<'_>) -> Option<SeriesId> {
        let parts = self.parts_find(labels)?;
        let found = self
            .slab
            .id(self.index_slot_of(|series| self.series_parts(series) == Some(parts), parts), self.map.id_bytes);
        (found != NONE).then_some(SeriesId(found))
    }

    /// All series in RAM; return `false` to stop. Takes 4 KiB of stack for the labels.
    pub fn series_visit(&self, visit: &mut dyn FnMut(SeriesId, LabelsRef<'_>) -> bool) {
        let mut buf = [0; LABELS_BYTES_MAX];
        for series in self.series_each() {
            let labels = self.series_labels(series, &mut buf).expect("labels are checked when made and at attach");
            if !visit(series, labels) {
                return;
            }
        }
    }

    pub(super) fn series_each(&self) -> impl Iterator<Item = SeriesId> {
        (0..self.pool_fresh(Pool::Series)).map(SeriesId).filter(|series| self.series_parts(*series).is_some())
    }

    /// Whether the series has these labels and no others.
    pub(super) fn series_is(&self, series: SeriesId, labels: LabelsRef<'_>) -> bool {
        let Some(parts) = self.series_parts(series) else { return false };
        let mut pairs = Pairs::new(parts);
        for (name, value) in labels.byte_pairs() {
            match self.pairs_next(&mut pairs) {
                Some((n, v)) if v == value && n == name => {}
                _ => return false,
            }
        }
        self.pairs_next(&mut pairs).is_none()
    }

    /// What a series is; `None` when it is gone.
    pub(super) fn series_parts(&self, series: SeriesId) -> Option<Parts> {
        if series.0 >= self.pool_fresh(Pool::Series) {
            return None;
        }
        let metric = self.series_field(series, METRIC);
        (metric != NONE).then(|| Parts {
            metric,
            target: self.series_field(series, TARGET),
            own: self.series_field(series, OWN),
        })
    }

    /// A new series without columns; whoever makes it gives it one or calls [`Self::series_drop`].
    pub(super) fn series_make(&mut self, labels: LabelsRef<'_>) -> Result<SeriesId, Refused> {
        let Some(series) = self.pool_take(Pool::Series) else { return Err(self.full(RegionName::Series)) };
        let series = SeriesId(series);
        let Some(parts) = self.parts_make(labels) else {
            self.series_set_field(series, METRIC, NONE);
            self.pool_free(Pool::Series, series.0);
            return Err(self.full(RegionName::LabelText));
        };
        self.series_set_field(series, TARGET, parts.target);
        self.series_set_field(series, OWN, parts.own);
        self.series_set_field(series, COLUMNS, NONE);
        self.series_set_field(series, METRIC, parts.metric);
        self.series_link(series, parts);
        Ok(series)
    }

    /// Takes a series without columns out of RAM. Others of its chains may be without columns too: then they are dropped
    /// next, before anything is made.
    pub(super) fn series_drop(&mut self, series: SeriesId) {
        assert!(self.series_column(series).is_none(), "series {} still has columns", series.0);
        let parts = self.series_parts(series).expect("a series is dropped once");
        self.chain_leave(Chain::Metric, parts.metric, series);
        self.chain_leave(Chain::Own, parts.own, series);
        self.index_remove(series, parts);
        self.record_count_users(parts.target, -1);
        self.parts_drop_unused(parts);
        self.series_set_field(series, METRIC, NONE);
        self.pool_free(Pool::Series, series.0);
    }

    /// The first of the columns of a series, newest layout first.
    pub(super) fn series_column(&self, series: SeriesId) -> Option<Column> {
        self.series_parts(series)?;
        Column::from_number(self.series_field(series, COLUMNS))
    }

    /// Puts a column in front of the series' columns.
    pub(super) fn series_column_add(&mut self, series: SeriesId, column: Column) {
        self.column_set_next(column, self.series_field(series, COLUMNS));
        self.series_set_field(series, COLUMNS, column.number());
    }

    pub(super) fn series_column_remove(&mut self, series: SeriesId, column: Column) {
        let id_bytes = self.map.id_bytes;
        let mut link = self.series_field_at(series, COLUMNS);
        while self.slab.id(link, id_bytes) != column.number() {
            let next = Column::from_number(self.slab.id(link, id_bytes)).expect("a column is in its series' list");
            link = self.column_next_at(next);
        }
        let next = self.slab.id(self.column_next_at(column), id_bytes);
        self.slab.put_id(link, id_bytes, next);
    }

    fn series_link(&mut self, series: SeriesId, parts: Parts) {
        for (chain, record) in [(Chain::Metric, parts.metric), (Chain::Own, parts.own)] {
            self.series_set_field(series, chain as usize, self.record_head(record));
            self.record_set_head(record, series.0);
        }
        self.record_count_users(parts.target, 1);
        let slot = self.index_slot_of(|_| false, parts);
        self.slab.put_id(slot, self.map.id_bytes, series.0);
    }

    pub(super) fn series_field(&self, series: SeriesId, field: usize) -> u32 {
        self.slab.id(self.series_field_at(series, field), self.map.id_bytes)
    }

    fn series_set_field(&mut self, series: SeriesId, field: usize, number: u32) {
        self.slab.put_id(self.series_field_at(series, field), self.map.id_bytes, number);
    }

    pub(super) fn series_field_at(&self, series: SeriesId, field: usize) -> usize {
        self.map.series(series.0) + field * self.map.id_bytes
    }

    // Chains.

    /// The series of a metric's name, or of a set of own labels.
    #[cfg(feature = "alloc")]
    pub(super) fn chain_each(&self, chain: Chain, record: u32) -> impl Iterator<Item = SeriesId> {
        let mut series = self.record_head(record);
        core::iter::from_fn(move || {
            let here = (series != NONE).then_some(SeriesId(series))?;
            series = self.series_field(here, chain as usize);
            Some(here)
        })
    }

    /// Unlinks the series. When it is not the first, all that have no column are unlinked in the same walk, and link to
    /// themselves from then on: so that a thousand series that end at once are one walk and not a thousand.
    fn chain_leave(&mut self, chain: Chain, record: u32, series: SeriesId) {
        let field = chain as usize;
        if self.series_field(series, field) == series.0 {
            return;
        }
        if self.record_head(record) == series.0 {
            self.record_set_head(record, self.series_field(series, field));
            return;
        }
        let mut link = self.record_head_at(record);
        loop {
            let here = self.slab.id(link, self.map.id_bytes);
            if here == NONE {
                break;
            }
            let here = SeriesId(here);
            if self.series_field(here, COLUMNS) == NONE {
                let next = self.series_field(here, field);
                self.slab.put_id(link, self.map.id_bytes, next);
                self.series_set_field(here, field, here.0);
            } else {
                link = self.series_field_at(here, field);
            }
        }
    }

    // The index.

    /// The slot of the series that `is` says, or the first empty one behind where it would be.
    fn index_slot_of(&self, is: impl Fn(SeriesId) -> bool, parts: Parts) -> usize {
        let mut slot = self.index_home(parts);
        loop {
            let at = self.map.index_slot(slot);
            let found = self.slab.id(at, self.map.id_bytes);
            if found == NONE || is(SeriesId(found)) {
                return at;
            }
            slot = self.index_after(slot);
        }
    }

    /// Empties the slot of a series, and moves up those behind it that would not be found over the gap.
    fn index_remove(&mut self, series: SeriesId, parts: Parts) {
        let id_bytes = self.map.id_bytes;
        let mut gap = self.index_home(parts);
        while self.slab.id(self.map.index_slot(gap), id_bytes) != series.0 {
            assert!(self.slab.id(self.map.index_slot(gap), id_bytes) != NONE, "series {} is in the index", series.0);
            gap = self.index_after(gap);
        }
        let mut slot = gap;
        loop {
            slot = self.index_after(slot);
            let found = self.slab.id(self.map.index_slot(slot), id_bytes);
            if found == NONE {
                break;
            }
            let home = self.index_home(self.series_parts(SeriesId(found)).expect("the index names series in use"));
            // Circular: it may move when its home is not between the gap and where it lies.
            let slots = self.map.index_slots_count;
            if (slot + slots - home) % slots >= (slot + slots - gap) % slots {
                self.slab.put_id(self.map.index_slot(gap), id_bytes, found);
                gap = slot;
            }
        }
        self.slab.put_id(self.map.index_slot(gap), id_bytes, NONE);
    }

    fn index_home(&self, parts: Parts) -> u32 {
        let hash = mix(self.hash_seed ^ (u64::from(parts.metric) | u64::from(parts.target) << 32));
        let hash = mix(hash ^ u64::from(parts.own));
        (((hash >> 32) * u64::from(self.map.index_slots_count)) >> 32) as u32
    }

    fn index_after(&self, slot: u32) -> u32 {
        if slot + 1 == self.map.index_slots_count { 0 } else { slot + 1 }
    }

    // Attach.

    pub(super) fn series_forget_columns(&mut self) {
        for series in (0..self.pool_fresh(Pool::Series)).map(SeriesId) {
            self.series_set_field(series, COLUMNS, NONE);
        }
    }

    /// Checks and indexes every series that has columns, with what it names in the heap; all others become free. `Err`
    /// names the damaged one.
    pub(super) fn series_restore(&mut self) -> Result<(), u32> {
        self.heap_clear();
        let mut buf = [0; LABELS_BYTES_MAX];
        for series in (0..self.pool_fresh(Pool::Series)).rev().map(SeriesId) {
            if self.series_field(series, COLUMNS) == NONE {
                self.series_set_field(series, METRIC, NONE);
                self.pool_sweep(Pool::Series, series.0);
                continue;
            }
            let damaged = series.0;
            let parts = self.series_parts(series).ok_or(damaged)?;
            for (record, kind) in [(parts.metric, Kind::Metric), (parts.target, Kind::Target), (parts.own, Kind::Own)] {
                self.record_restore(record, kind).ok_or(damaged)?;
            }
            let labels = self.series_labels(series, &mut buf).ok_or(damaged)?;
            if labels.is_empty() || LabelsRef::decode(labels.as_bytes()).is_err() {
                return Err(damaged);
            }
            let slot = self.index_slot_of(|other| self.series_parts(other) == Some(parts), parts);
            if self.slab.id(slot, self.map.id_bytes) != NONE {
                return Err(damaged);
            }
            self.pool_found(Pool::Series);
            self.series_link(series, parts);
        }
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
