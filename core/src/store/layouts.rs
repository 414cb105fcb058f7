//! Layouts: the ordered columns of a timeline, and the pages of raw cells of the current one.
//!
//! A layout only grows; a row uses a prefix of it. When columns have died, the timeline gets a new layout at a chunk's
//! boundary. A layout lives while its timeline uses it or a chunk in the ring names it; authoritative are a layout's
//! column count, nodes and entries, and the pages of a current layout.

use super::{
    ColumnKind, Presence, Refused, RegionName, SeriesId, Store,
    pools::Pool,
    sizes::{COLUMN_NUMBERS, NODE_COLUMNS, NODE_HEAD_BYTES, PAGE_COLUMNS},
    slab::NONE,
};

// A layout.
const ID: usize = 0;
const TIMELINE: usize = 8;
/// The next free layout when it is free.
pub(super) const NODE_FIRST: usize = 12;
const NODE_LAST: usize = 16;
const COLUMNS: usize = 20;
/// Chunks in the ring that name it.
const CHUNKS: usize = 24;
const FLAGS: usize = 28;
const USED: u32 = 1;

// A node: 32 columns of a layout.
const NODE_LAYOUT: usize = 0;
/// Its first column divided by 32.
const NODE_INDEX: usize = 4;
pub(super) const NODE_NEXT: usize = 8;
/// Columns that had a value in the last row of the chunk before, one bit each.
const NODE_PREVIOUS: usize = 12;
const NODE_PAGES: usize = 16;
/// Attach's mark.
const NODE_MARK: usize = 32;
/// Columns of a sparse timeline that had something since its last sweep, one bit each.
const NODE_SEEN: usize = 36;
/// Columns of ages, one bit each.
const NODE_AGES: usize = 40;
/// Of each column its series and the next column of the same series.
const NODE_ENTRIES: usize = NODE_HEAD_BYTES;

// A page: 8 columns by 16 rows.
/// The next free page when it is free.
pub(super) const PAGE_NEXT: usize = 0;
/// Attach's mark.
const PAGE_MARK: usize = 4;
const PAGE_PRESENCE: usize = 8;
const PAGE_CELLS: usize = PAGE_PRESENCE + 4 * PAGE_COLUMNS;

/// One column of one layout: the number of its node and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column(u32);

impl Column {
    pub(super) fn new(node: u32, offset: usize) -> Self {
        Self(node * NODE_COLUMNS as u32 + offset as u32)
    }

    pub(super) fn from_number(number: u32) -> Option<Self> {
        (number != NONE).then_some(Self(number))
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }

    pub(super) fn node(self) -> u32 {
        self.0 / NODE_COLUMNS as u32
    }

    pub(super) fn offset(self) -> usize {
        self.0 as usize % NODE_COLUMNS
    }
}

/// A column of raw cells: its page and its place there.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawColumn {
    page: u32,
    offset: usize,
}

impl Store<'_> {
    /// A layout without columns.
    pub(super) fn layout_make(&mut self, timeline: u32) -> Result<u32, Refused> {
        let Some(layout) = self.pool_take(Pool::Layouts) else { return Err(self.full(RegionName::Layouts)) };
        let at = self.map.layout(layout);
        let id = self.layout_number_take();
        self.slab.put_u64(at + ID, id);
        self.slab.put_u32(at + TIMELINE, timeline);
        self.slab.put_u32(at + NODE_FIRST, NONE);
        self.slab.put_u32(at + NODE_LAST, NONE);
        self.slab.put_u32(at + COLUMNS, 0);
        self.slab.put_u32(at + CHUNKS, 0);
        self.slab.put_u32(at + FLAGS, USED);
        Ok(layout)
    }

    /// Appends a column, with a page when rows of this layout are to be staged.
    pub(super) fn layout_append(
        &mut self,
        layout: u32,
        series: SeriesId,
        kind: ColumnKind,
        with_page: bool,
    ) -> Result<Column, Refused> {
        let at = self.map.layout(layout);
        let index = self.slab.u32(at + COLUMNS);
        let (node_index, offset) = (index / NODE_COLUMNS as u32, index as usize % NODE_COLUMNS);
        let mut node = self.slab.u32(at + NODE_LAST);
        // A node may be there already without columns, when the page was refused the last time.
        if node == NONE || self.slab.u32(self.map.node(node) + NODE_INDEX) != node_index {
            let before = node;
            node = self.node_take(layout, node_index)?;
            match before {
                NONE => self.slab.put_u32(at + NODE_FIRST, node),
                before => self.slab.put_u32(self.map.node(before) + NODE_NEXT, node),
            }
            self.slab.put_u32(at + NODE_LAST, node);
        }
        let page_at = self.map.node(node) + NODE_PAGES + 4 * (offset / PAGE_COLUMNS);
        if with_page && self.slab.u32(page_at) == NONE {
            let page = self.page_take()?;
            self.slab.put_u32(page_at, page);
        }
        let column = Column::new(node, offset);
        let ages_at = self.map.node(node) + NODE_AGES;
        let others = self.slab.u32(ages_at) & !(1 << offset);
        self.slab.put_u32(ages_at, others | u32::from(kind == ColumnKind::Age) << offset);
        self.slab.put_id(self.entry_at(column), self.map.id_bytes, series.0);
        self.series_column_add(series, column);
        self.slab.publish_u32(at + COLUMNS, index + 1);
        Ok(column)
    }

    /// Drops the layout unless a timeline or a chunk still uses it; series without any column go with it.
    pub(super) fn layout_drop_unused(&mut self, layout: u32) {
        let at = self.map.layout(layout);
        if self.slab.u32(at + CHUNKS) > 0 || self.timeline_layout(self.slab.u32(at + TIMELINE)) == layout {
            return;
        }
        self.layout_each(layout, |store, column| store.series_column_remove(store.column_series(column), column));
        let columns = self.layout_columns(layout);
        let mut node = self.slab.u32(at + NODE_FIRST);
        while node != NONE {
            let next = self.node_next(node);
            let index = self.slab.u32(self.map.node(node) + NODE_INDEX) * NODE_COLUMNS as u32;
            for offset in 0..columns.saturating_sub(index).min(NODE_COLUMNS as u32) as usize {
                let column = Column::new(node, offset);
                let series = self.column_series(column);
                // Values and ages are two columns of one series.
                if self.series_parts(series).is_some() && self.series_column(series).is_none() {
                    self.series_drop(series);
                    self.count(super::Counter::ReleasedSeries, 1);
                }
            }
            self.pool_free(Pool::Nodes, node);
            node = next;
        }
        self.slab.put_u32(at + FLAGS, 0);
        self.pool_free(Pool::Layouts, layout);
    }

    /// A layout with the columns of `layout` that `keep` says, in their order, with the pages of the old one. `None` when
    /// there is no room for it: the old one then stays in use.
    pub(super) fn layout_copy(&mut self, layout: u32, mut keep: impl FnMut(&Self, Column) -> bool) -> Option<u32> {
        let timeline = self.slab.u32(self.map.layout(layout) + TIMELINE);
        let copy = self.layout_make(timeline).ok()?;
        let columns = self.layout_columns(layout);
        let mut from = self.layout_first_node(layout);
        while from != NONE {
            let index = self.slab.u32(self.map.node(from) + NODE_INDEX) * NODE_COLUMNS as u32;
            for offset in 0..columns.saturating_sub(index).min(NODE_COLUMNS as u32) as usize {
                let column = Column::new(from, offset);
                if !keep(self, column) {
                    continue;
                }
                let (series, kind) = (self.column_series(column), self.column_kind(column));
                let Ok(to) = self.layout_append(copy, series, kind, false) else {
                    self.layout_drop_unused(copy);
                    return None;
                };
                if self.column_previous(column) {
                    let at = self.map.node(to.node()) + NODE_PREVIOUS;
                    self.slab.put_u32(at, self.slab.u32(at) | 1 << to.offset());
                }
            }
            from = self.node_next(from);
        }
        // The pages go along in order; those that are left over become free once the copy is published.
        let (mut from, mut to) = (self.layout_first_node(layout), self.layout_first_node(copy));
        while to != NONE {
            assert!(from != NONE, "a copy has no more nodes than its layout");
            let index = self.slab.u32(self.map.node(to) + NODE_INDEX) * NODE_COLUMNS as u32;
            let columns = (self.layout_columns(copy) - index).min(NODE_COLUMNS as u32) as usize;
            for page in 0..columns.div_ceil(PAGE_COLUMNS) {
                let at = NODE_PAGES + 4 * page;
                let moved = self.slab.u32(self.map.node(from) + at);
                self.slab.put_u32(self.map.node(to) + at, moved);
            }
            (from, to) = (self.node_next(from), self.node_next(to));
        }
        Some(copy)
    }

    /// Frees the pages of `layout` that `kept`, a copy of it, did not take.
    pub(super) fn layout_free_pages(&mut self, layout: u32, kept: Option<u32>) {
        let mut kept_node = kept.map_or(NONE, |kept| self.layout_first_node(kept));
        let mut node = self.layout_first_node(layout);
        while node != NONE {
            for page in 0..NODE_COLUMNS / PAGE_COLUMNS {
                let at = self.map.node(node) + NODE_PAGES + 4 * page;
                let number = self.slab.u32(at);
                if number == NONE {
                    continue;
                }
                self.slab.put_u32(at, NONE);
                if kept_node == NONE || self.node_page(kept_node, page) == NONE {
                    self.pool_free(Pool::Pages, number);
                }
            }
            node = self.node_next(node);
            if kept_node != NONE {
                kept_node = self.node_next(kept_node);
            }
        }
    }

    /// Whether RAM has the layout of this number, with all its columns.
    pub fn layout_is_here(&self, number: u64) -> bool {
        let used = |layout: &u32| self.slab.u32(self.map.layout(*layout) + FLAGS) == USED;
        (0..self.pool_fresh(Pool::Layouts)).filter(used).any(|layout| self.layout_number(layout) == number)
    }

    pub(super) fn layout_number(&self, layout: u32) -> u64 {
        self.slab.u64(self.map.layout(layout) + ID)
    }

    pub(super) fn layout_timeline(&self, layout: u32) -> u32 {
        self.slab.u32(self.map.layout(layout) + TIMELINE)
    }

    pub(super) fn layout_columns(&self, layout: u32) -> u32 {
        self.slab.u32(self.map.layout(layout) + COLUMNS)
    }

    pub(super) fn layout_count_chunk(&mut self, layout: u32, difference: i32) {
        let at = self.map.layout(layout) + CHUNKS;
        let chunks =
            self.slab.u32(at).checked_add_signed(difference).expect("a layout's chunks are counted in and out");
        self.slab.put_u32(at, chunks);
    }

    pub(super) fn layout_first_node(&self, layout: u32) -> u32 {
        self.slab.u32(self.map.layout(layout) + NODE_FIRST)
    }

    pub(super) fn node_next(&self, node: u32) -> u32 {
        self.slab.u32(self.map.node(node) + NODE_NEXT)
    }

    /// The column at an index of the layout.
    pub(super) fn layout_column_at(&self, layout: u32, index: u32) -> Option<Column> {
        if index >= self.layout_columns(layout) {
            return None;
        }
        let mut node = self.layout_first_node(layout);
        for _ in 0..index / NODE_COLUMNS as u32 {
            node = self.node_next(node);
        }
        Some(Column::new(node, index as usize % NODE_COLUMNS))
    }

    /// The column after this one in its layout. Only for an index below the layout's column count.
    pub(super) fn column_after(&self, column: Column) -> Column {
        match column.offset() + 1 {
            NODE_COLUMNS => Column::new(self.node_next(column.node()), 0),
            offset => Column::new(column.node(), offset),
        }
    }

    pub(super) fn column_layout(&self, column: Column) -> u32 {
        self.slab.u32(self.map.node(column.node()) + NODE_LAYOUT)
    }

    /// The column's place in its layout.
    pub(super) fn column_index(&self, column: Column) -> u32 {
        self.slab.u32(self.map.node(column.node()) + NODE_INDEX) * NODE_COLUMNS as u32 + column.offset() as u32
    }

    pub(super) fn column_series(&self, column: Column) -> SeriesId {
        SeriesId(self.slab.id(self.entry_at(column), self.map.id_bytes))
    }

    pub(super) fn column_kind(&self, column: Column) -> ColumnKind {
        match self.slab.u32(self.map.node(column.node()) + NODE_AGES) & 1 << column.offset() {
            0 => ColumnKind::Float,
            _ => ColumnKind::Age,
        }
    }

    /// Whether the column had a value in the last row of the chunk before.
    pub(super) fn column_previous(&self, column: Column) -> bool {
        self.slab.u32(self.map.node(column.node()) + NODE_PREVIOUS) & 1 << column.offset() != 0
    }

    /// Whether the column of a sparse timeline had something since the last sweep.
    pub(super) fn column_seen(&self, column: Column) -> bool {
        self.slab.u32(self.map.node(column.node()) + NODE_SEEN) & 1 << column.offset() != 0
    }

    pub(super) fn column_set_seen(&mut self, column: Column, seen: bool) {
        let at = self.map.node(column.node()) + NODE_SEEN;
        let others = self.slab.u32(at) & !(1 << column.offset());
        let word = others | u32::from(seen) << column.offset();
        if word != self.slab.u32(at) {
            self.slab.put_u32(at, word);
        }
    }

    pub(super) fn node_set_previous(&mut self, node: u32, mask: u32) {
        self.slab.put_u32(self.map.node(node) + NODE_PREVIOUS, mask);
    }

    /// The next column of the same series.
    pub(super) fn column_next(&self, column: Column) -> Option<Column> {
        Column::from_number(self.slab.id(self.column_next_at(column), self.map.id_bytes))
    }

    pub(super) fn column_next_at(&self, column: Column) -> usize {
        self.entry_at(column) + self.map.id_bytes
    }

    pub(super) fn column_set_next(&mut self, column: Column, next: u32) {
        self.slab.put_id(self.column_next_at(column), self.map.id_bytes, next);
    }

    fn entry_at(&self, column: Column) -> usize {
        self.map.node(column.node()) + NODE_ENTRIES + COLUMN_NUMBERS * self.map.id_bytes * column.offset()
    }

    /// The columns of a series in one layout: its values, and its ages if it has some.
    pub(super) fn series_columns_in(&self, series: SeriesId, layout: u32) -> (Option<Column>, Option<Column>) {
        let (mut value, mut age) = (None, None);
        let mut column = self.series_column(series);
        while let Some(here) = column {
            if self.column_layout(here) == layout {
                match self.column_kind(here) {
                    ColumnKind::Float => value = Some(here),
                    ColumnKind::Age => age = Some(here),
                }
            }
            column = self.column_next(here);
        }
        (value, age)
    }

    /// Every column of a layout, in order.
    pub(super) fn layout_each(&mut self, layout: u32, mut each: impl FnMut(&mut Self, Column)) {
        let columns = self.layout_columns(layout);
        let mut column = self.layout_column_at(layout, 0);
        for index in 0..columns {
            let here = column.expect("a layout has as many columns as it says");
            each(self, here);
            column = (index + 1 < columns).then(|| self.column_after(here));
        }
    }

    // Raw cells.

    /// The column's raw cells, as far as it has a page.
    pub(super) fn column_raw(&self, column: Column) -> Option<RawColumn> {
        let page = self.node_page(column.node(), column.offset() / PAGE_COLUMNS);
        (page != NONE).then_some(RawColumn { page, offset: column.offset() % PAGE_COLUMNS })
    }

    /// The column's raw cells, with a page made if it has none.
    pub(super) fn column_raw_make(&mut self, column: Column) -> Result<RawColumn, Refused> {
        if let Some(raw) = self.column_raw(column) {
            return Ok(raw);
        }
        let page = self.page_take()?;
        let at = self.map.node(column.node()) + NODE_PAGES + 4 * (column.offset() / PAGE_COLUMNS);
        self.slab.put_u32(at, page);
        Ok(RawColumn { page, offset: column.offset() % PAGE_COLUMNS })
    }

    pub(super) fn raw_cell(&self, raw: RawColumn, row: usize) -> u64 {
        self.slab.u64(self.raw_cell_at(raw, row))
    }

    /// Two bits per row, row 0 lowest, as [`Presence`] numbers them.
    pub(super) fn raw_presence(&self, raw: RawColumn) -> u32 {
        self.slab.u32(self.raw_presence_at(raw))
    }

    pub(super) fn raw_state(&self, raw: RawColumn, row: usize) -> Presence {
        let bits = self.raw_presence(raw) >> (2 * row) & 3;
        Presence::from_bits(bits as u8).expect("only presence states are put")
    }

    pub(super) fn raw_put(&mut self, raw: RawColumn, row: usize, cell: u64) {
        self.slab.put_u64(self.raw_cell_at(raw, row), cell);
    }

    pub(super) fn raw_set_presence(&mut self, raw: RawColumn, row: usize, presence: Presence) {
        let at = self.raw_presence_at(raw);
        let others = self.slab.u32(at) & !(3 << (2 * row));
        self.slab.publish_u32(at, others | (presence as u32) << (2 * row));
    }

    /// Makes a row absent in every column of the layout, whatever an earlier chunk or an aborted row left there.
    pub(super) fn layout_clear_row(&mut self, layout: u32, row: usize) {
        let mut node = self.layout_first_node(layout);
        while node != NONE {
            for page in 0..NODE_COLUMNS / PAGE_COLUMNS {
                let number = self.node_page(node, page);
                if number == NONE {
                    continue;
                }
                for offset in 0..PAGE_COLUMNS {
                    let at = self.raw_presence_at(RawColumn { page: number, offset });
                    let presence = self.slab.u32(at);
                    if presence & 3 << (2 * row) != 0 {
                        self.slab.put_u32(at, presence & !(3 << (2 * row)));
                    }
                }
            }
            node = self.node_next(node);
        }
    }

    fn raw_presence_at(&self, raw: RawColumn) -> usize {
        self.map.page(raw.page) + PAGE_PRESENCE + 4 * raw.offset
    }

    fn raw_cell_at(&self, raw: RawColumn, row: usize) -> usize {
        self.map.page(raw.page) + PAGE_CELLS + 8 * (raw.offset * crate::limits::CHUNK_ROWS_MAX + row)
    }

    fn node_page(&self, node: u32, page: usize) -> u32 {
        self.slab.u32(self.map.node(node) + NODE_PAGES + 4 * page)
    }

    fn page_take(&mut self) -> Result<u32, Refused> {
        let Some(page) = self.pool_take(Pool::Pages) else { return Err(self.full(RegionName::RawRows)) };
        let at = self.map.page(page);
        self.slab.fill(at + PAGE_PRESENCE..at + PAGE_CELLS, 0);
        Ok(page)
    }

    fn node_take(&mut self, layout: u32, index: u32) -> Result<u32, Refused> {
        let Some(node) = self.pool_take(Pool::Nodes) else { return Err(self.full(RegionName::LayoutColumns)) };
        let at = self.map.node(node);
        self.slab.put_u32(at + NODE_LAYOUT, layout);
        self.slab.put_u32(at + NODE_INDEX, index);
        self.slab.put_u32(at + NODE_PREVIOUS, 0);
        self.slab.put_u32(at + NODE_SEEN, 0);
        self.slab.put_u32(at + NODE_AGES, 0);
        self.slab.fill(at + NODE_PAGES..at + NODE_MARK, 0xff);
        self.slab.put_u32(at + NODE_NEXT, NONE);
        Ok(node)
    }

    // Attach.

    pub(super) fn layouts_forget_chunks(&mut self) {
        for layout in 0..self.pool_fresh(Pool::Layouts) {
            self.slab.put_u32(self.map.layout(layout) + CHUNKS, 0);
        }
    }

    /// Whether the number is of a layout that a chunk of this timeline may name.
    pub(super) fn layout_fits(&self, layout: u32, timeline: u32, columns: u32) -> bool {
        layout < self.pool_fresh(Pool::Layouts)
            && self.slab.u32(self.map.layout(layout) + FLAGS) == USED
            && self.layout_timeline(layout) == timeline
            && self.layout_columns(layout) >= columns
    }

    /// Checks and links every layout that a chunk or a timeline names; the others, their nodes and pages become free.
    /// `Err` names the damaged layout.
    pub(super) fn layouts_restore(&mut self) -> Result<(), u32> {
        for node in 0..self.pool_fresh(Pool::Nodes) {
            self.slab.put_u32(self.map.node(node) + NODE_MARK, 0);
        }
        for page in 0..self.pool_fresh(Pool::Pages) {
            self.slab.put_u32(self.map.page(page) + PAGE_MARK, 0);
        }
        // Current layouts last: their columns then stand first in their series' lists.
        for current_ones in [false, true] {
            for layout in (0..self.pool_fresh(Pool::Layouts)).rev() {
                let at = self.map.layout(layout);
                let timeline = self.slab.u32(at + TIMELINE);
                let used = self.slab.u32(at + FLAGS) == USED && timeline < self.map.plan.timelines_count;
                let current = used && self.timeline_layout(timeline) == layout;
                if current != current_ones {
                    continue;
                }
                if current || used && self.slab.u32(at + CHUNKS) > 0 {
                    self.layout_restore(layout, current).ok_or(layout)?;
                    self.pool_found(Pool::Layouts);
                } else {
                    self.slab.put_u32(at + FLAGS, 0);
                    self.pool_sweep(Pool::Layouts, layout);
                }
            }
        }
        for node in (0..self.pool_fresh(Pool::Nodes)).rev() {
            if self.slab.u32(self.map.node(node) + NODE_MARK) == 0 {
                self.pool_sweep(Pool::Nodes, node);
            }
        }
        for page in (0..self.pool_fresh(Pool::Pages)).rev() {
            if self.slab.u32(self.map.page(page) + PAGE_MARK) == 0 {
                self.pool_sweep(Pool::Pages, page);
            }
        }
        Ok(())
    }

    fn layout_restore(&mut self, layout: u32, current: bool) -> Option<()> {
        let at = self.map.layout(layout);
        let number = self.layout_number(layout);
        let twice = (0..self.pool_fresh(Pool::Layouts))
            .filter(|other| *other != layout && self.slab.u32(self.map.layout(*other) + FLAGS) == USED)
            .any(|other| self.layout_number(other) == number && self.slab.u32(self.map.layout(other) + CHUNKS) > 0);
        if twice {
            return None;
        }
        let columns = self.slab.u32(at + COLUMNS);
        let (mut last, mut node) = (NONE, self.slab.u32(at + NODE_FIRST));
        for index in 0..columns.div_ceil(NODE_COLUMNS as u32) {
            if node >= self.pool_fresh(Pool::Nodes) {
                return None;
            }
            let node_at = self.map.node(node);
            let ours = self.slab.u32(node_at + NODE_LAYOUT) == layout && self.slab.u32(node_at + NODE_INDEX) == index;
            if !ours || self.slab.u32(node_at + NODE_MARK) != 0 {
                return None;
            }
            self.slab.put_u32(node_at + NODE_MARK, 1);
            self.pool_found(Pool::Nodes);
            for offset in 0..(columns - index * NODE_COLUMNS as u32).min(NODE_COLUMNS as u32) as usize {
                let column = Column::new(node, offset);
                let series = self.column_series(column);
                if series.0 >= self.pool_fresh(Pool::Series) {
                    return None;
                }
                self.series_column_add(series, column);
            }
            for page in 0..NODE_COLUMNS / PAGE_COLUMNS {
                self.page_restore(node, page, current)?;
            }
            (last, node) = (node, self.node_next(node));
        }
        // A node that was linked before its first column was published is not there.
        match last {
            NONE => self.slab.put_u32(at + NODE_FIRST, NONE),
            last => self.slab.put_u32(self.map.node(last) + NODE_NEXT, NONE),
        }
        self.slab.put_u32(at + NODE_LAST, last);
        Some(())
    }

    fn page_restore(&mut self, node: u32, page: usize, current: bool) -> Option<()> {
        let at = self.map.node(node) + NODE_PAGES + 4 * page;
        let number = self.slab.u32(at);
        if number == NONE {
            return Some(());
        }
        if !current {
            // The pages went on to the layout's successor.
            self.slab.put_u32(at, NONE);
            return Some(());
        }
        if number >= self.pool_fresh(Pool::Pages) {
            return None;
        }
        let mark_at = self.map.page(number) + PAGE_MARK;
        if self.slab.u32(mark_at) != 0 {
            return None;
        }
        for offset in 0..PAGE_COLUMNS {
            let presence = self.raw_presence(RawColumn { page: number, offset });
            // Of two bits, both set is no state.
            if presence & (presence >> 1) & 0x5555_5555 != 0 {
                return None;
            }
        }
        self.slab.put_u32(mark_at, 1);
        self.pool_found(Pool::Pages);
        Some(())
    }
}
