//! The ring: packed chunks of up to 16 rows, oldest first, in one circular run of bytes.
//!
//! Positions count bytes since the slab was made and never go back; a chunk lies in one piece. A chunk is written behind
//! the head and exists from the one write that moves the head over it; the tail moves over the oldest one, spilled or
//! not, when room is needed. `evicted_unspilled` counts what was lost so.
//!
//! A chunk, little-endian: magic u32, length u32 (a multiple of 8), checksum u32, timeline u32, layout u32, columns u32,
//! rows u32, samples u32, first row u64, smallest and largest timestamp i64, position of the timeline's next chunk u64
//! (outside the checksum), length of the instants u32, 0 u32; then the instants, the directory, and the columns one after
//! the other. The directory has for every 16 stripes of 8 columns the first one's offset from the chunk's start u32, and
//! for each of them its length u16 and its columns' heads u16: two bits each, lowest first, that name one of the codec's
//! short heads, or 0 where the head stands before the column's other bytes. A stripe is decoded from its first column on.

use super::{
    ColumnKind, Counter, Presence, RingPressure, RowsLost, SeriesId, Store, TimelineId,
    codec::{self, SHORT_HEADS, StripeDecoder, StripeEncoder, StripeWalk, column_bytes_max, instants_bytes_max},
    layouts::Column,
    pools::Pool,
    sizes::{NODE_COLUMNS, PAGE_COLUMNS},
    slab::{Checksum, NONE, NOWHERE},
};
use crate::limits::CHUNK_ROWS_MAX;
use core::ops::Range;

const MAGIC_CHUNK: u32 = u32::from_le_bytes(*b"HFch");
/// Bytes up to the ring's end that no chunk fits in, or a chunk forgotten before its turn: magic and length count, the
/// rest is nothing.
const MAGIC_FILLER: u32 = u32::from_le_bytes(*b"HFfi");

const LENGTH: usize = 4;
const CHECKSUM: usize = 8;
const CHECKED_HEAD: Range<usize> = 12..56;
const NEXT: usize = 56;
const CHECKED_BODY: usize = 64;
const HEAD_BYTES: usize = 72;

/// A chunk's head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    /// Where it lies in the slab.
    at: usize,
    length: u64,
    pub(super) timeline: u32,
    pub(super) layout: u32,
    pub(super) columns: u32,
    pub(super) rows: usize,
    pub(super) samples: u32,
    pub(super) first_row: u64,
    pub(super) t_min_ms: i64,
    pub(super) t_max_ms: i64,
    pub(super) next: u64,
    instants_bytes: usize,
}

impl Chunk {
    pub(super) fn row_range(&self) -> Range<u64> {
        self.first_row..self.first_row + self.rows as u64
    }
}

/// One column's cells over the rows of a chunk.
#[derive(Clone, Copy)]
pub(super) struct Cells {
    pub(super) cells: [u64; CHUNK_ROWS_MAX],
    pub(super) presence: [Presence; CHUNK_ROWS_MAX],
}

impl Cells {
    pub(super) const ABSENT: Self = Self { cells: [0; CHUNK_ROWS_MAX], presence: [Presence::Absent; CHUNK_ROWS_MAX] };

    /// Reads a stripe's next column and returns how many bytes it took.
    fn decode(&mut self, decoder: &mut ChunkDecoder, head: Option<u8>, bytes: &[u8], rows: usize) -> usize {
        let (cells, presence) = (&mut self.cells, &mut self.presence);
        let decoded = match head {
            Some(head) => decoder.column_behind(head, bytes, rows, cells, presence),
            None => decoder.column(bytes, rows, cells, presence),
        };
        decoded.expect("a chunk's bytes are checked at attach")
    }
}

impl Store<'_> {
    /// Packs the raw rows of a timeline into the ring, if there are any, and drops dead columns from its layout.
    pub(super) fn chunk_close(&mut self, timeline: u32) {
        let rows = self.rows_open(timeline);
        if rows == 0 {
            return;
        }
        let layout = self.timeline_layout(timeline);
        let measured = self.chunk_measure(timeline, layout, rows);
        let length = measured.length() as u64;
        if length > u64::from(self.map.plan.ring_bytes) {
            let rows = self.row_first(timeline)..self.row_next(timeline);
            self.rows_evicted(timeline, rows, measured.samples, (measured.t_min_ms, measured.t_max_ms));
        } else {
            self.ring_make_piece(length);
            let position = self.ring_head();
            self.chunk_write(position, timeline, layout, rows, &measured);
            self.set_ring_head(position + length);
            self.chunk_link(position);
        }
        self.chunk_finish(timeline);
        self.reclaimed_all = false;
        self.layout_drop_dead(timeline, layout, rows);
        // A timeline without a chunk that fits the ring, released meanwhile, is not dropped here: its caller does that.
    }

    /// The rows are in the ring, or lost: the raw ones go. Done again at attach when the predecessor ended before it.
    pub(super) fn chunk_finish(&mut self, timeline: u32) {
        let rows = self.rows_open(timeline);
        let layout = self.timeline_layout(timeline);
        if rows > 0 && layout != NONE {
            let columns = self.layout_columns(layout);
            let mut node = self.layout_first_node(layout);
            let mut index = 0;
            while node != NONE && index < columns {
                let mut mask = 0;
                for offset in 0..(columns - index).min(NODE_COLUMNS as u32) as usize {
                    let raw = self.column_raw(Column::new(node, offset));
                    let value = raw.is_some_and(|raw| self.raw_state(raw, rows - 1) == Presence::Value);
                    mask |= u32::from(value) << offset;
                }
                self.node_set_previous(node, mask);
                index += NODE_COLUMNS as u32;
                node = self.node_next(node);
            }
        }
        let row = self.row_next(timeline);
        self.set_row_first(timeline, row);
    }

    /// Gives the timeline a layout without the columns that held nothing in the chunk just closed, once an eighth are
    /// dead, or any when room is short.
    fn layout_drop_dead(&mut self, timeline: u32, layout: u32, rows: usize) {
        let rows_mask = u32::MAX >> (32 - 2 * rows);
        // In a sparse timeline one chunk says little, unless there is no room.
        let is_sparse = self.timeline_is_sparse(TimelineId(timeline));
        if is_sparse {
            self.columns_see(layout, rows_mask);
        }
        let swept = self.sweep_is_due(timeline);
        let is_dead = |store: &Self, column| match is_sparse && !store.pressure {
            true => swept && !store.column_seen(column),
            false => store.is_absent(column, rows_mask),
        };
        let (mut dead, columns) = (0_u32, self.layout_columns(layout));
        self.layout_each(layout, |store, column| dead += u32::from(is_dead(store, column)));
        let enough = if self.pressure { dead > 0 } else { dead > 0 && dead >= columns / 8 };
        if enough
            && self.layout_may_be_renewed()
            && let Some(copy) = self.layout_copy(layout, |store, column| !is_dead(store, column))
        {
            self.timeline_set_layout(timeline, copy);
            self.layout_free_pages(layout, Some(copy));
            self.layout_drop_unused(layout);
        } else if swept {
            self.columns_forget_seen(layout);
        }
    }

    /// Leaves a layout to every timeline that may yet be opened.
    fn layout_may_be_renewed(&self) -> bool {
        let plan = &self.map.plan;
        let with_layout = (0..plan.timelines_count).filter(|timeline| self.timeline_layout(*timeline) != NONE).count();
        plan.layouts_count - self.pool_used(Pool::Layouts) > plan.timelines_count - with_layout as u32
    }

    fn chunk_measure(&self, timeline: u32, layout: u32, rows: usize) -> Measured {
        let mut instants = [0; CHUNK_ROWS_MAX];
        for (row, instant) in instants[..rows].iter_mut().enumerate() {
            *instant = self.raw_instant(timeline, row);
        }
        let mut scratch = [0; instants_bytes_max(CHUNK_ROWS_MAX)];
        let encoded = codec::encode_instants(&instants[..rows], &mut scratch);
        let instants_bytes = encoded.expect("the buffer holds any instants of a chunk");
        let columns = self.layout_columns(layout);
        let mut measured = Measured {
            columns,
            columns_bytes: 0,
            instants_bytes,
            samples: 0,
            t_min_ms: instants[..rows].iter().copied().min().unwrap_or(0),
            t_max_ms: instants[..rows].iter().copied().max().unwrap_or(0),
        };
        let mut scratch = [0; column_bytes_max(CHUNK_ROWS_MAX)];
        let mut encoder = ChunkEncoder::new();
        let mut column = self.layout_column_at(layout, 0);
        for index in 0..columns {
            let here = column.expect("a layout has as many columns as it says");
            if index.is_multiple_of(PAGE_COLUMNS as u32) {
                encoder.begin();
            }
            let (kind, cells) = (self.column_kind(here), self.raw_cells(here, rows));
            measured.columns_bytes += encode(&mut encoder, kind, &cells, rows, &mut scratch).1.len();
            let present = cells.presence[..rows].iter().filter(|state| **state != Presence::Absent).count();
            match kind {
                ColumnKind::Float => measured.samples += present as u32,
                ColumnKind::Age => {
                    for row in (0..rows).filter(|row| cells.presence[*row] == Presence::Value) {
                        let t_ms = instants[row].saturating_sub(cells.cells[row] as i64);
                        measured.t_min_ms = measured.t_min_ms.min(t_ms);
                        measured.t_max_ms = measured.t_max_ms.max(t_ms);
                    }
                }
            }
            column = (index + 1 < columns).then(|| self.column_after(here));
        }
        measured
    }

    fn chunk_write(&mut self, position: u64, timeline: u32, layout: u32, rows: usize, measured: &Measured) {
        let at = self.map.ring_at(position);
        let mut instants = [0; CHUNK_ROWS_MAX];
        for (row, instant) in instants[..rows].iter_mut().enumerate() {
            *instant = self.raw_instant(timeline, row);
        }
        let mut scratch = [0; instants_bytes_max(CHUNK_ROWS_MAX)];
        let encoded = codec::encode_instants(&instants[..rows], &mut scratch);
        let used = encoded.expect("the buffer holds any instants of a chunk");
        assert_eq!(used, measured.instants_bytes, "instants are encoded to the same bytes twice");
        self.slab.put_bytes(at + HEAD_BYTES, &scratch[..used]);

        let directory = at + HEAD_BYTES + used;
        let mut end = directory + directory_bytes(measured.columns as usize);
        let mut scratch = [0; column_bytes_max(CHUNK_ROWS_MAX)];
        let mut encoder = ChunkEncoder::new();
        let (mut stripe_start, mut short_heads) = (end, 0);
        let mut column = self.layout_column_at(layout, 0);
        for index in 0..measured.columns as usize {
            let here = column.expect("a layout has as many columns as it says");
            let (stripe, place) = (index / PAGE_COLUMNS, index % PAGE_COLUMNS);
            if place == 0 {
                encoder.begin();
                (stripe_start, short_heads) = (end, 0);
                if stripe.is_multiple_of(DIRECTORY_STRIPES) {
                    self.slab.put_u32(directory + group_at(stripe), (end - at) as u32);
                }
            }
            let cells = self.raw_cells(here, rows);
            let (short, bytes) = encode(&mut encoder, self.column_kind(here), &cells, rows, &mut scratch);
            self.slab.put_bytes(end, bytes);
            end += bytes.len();
            short_heads |= u32::from(short) << (2 * place);
            column = (index + 1 < measured.columns as usize).then(|| self.column_after(here));
            if place + 1 == PAGE_COLUMNS || column.is_none() {
                let length = (end - stripe_start) as u32;
                self.slab.put_u32(directory + entry_at(stripe), length | short_heads << 16);
            }
        }
        let length = measured.length();
        assert!(end <= at + length, "a chunk measured {length} bytes and took {}", end - at);
        self.slab.fill(end..at + length, 0);

        let mut head = [0; HEAD_BYTES];
        let words = [MAGIC_CHUNK, length as u32, 0, timeline, layout, measured.columns, rows as u32, measured.samples];
        for (bytes, word) in head.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        head[32..40].copy_from_slice(&self.row_first(timeline).to_le_bytes());
        head[40..48].copy_from_slice(&measured.t_min_ms.to_le_bytes());
        head[48..56].copy_from_slice(&measured.t_max_ms.to_le_bytes());
        head[NEXT..NEXT + 8].copy_from_slice(&NOWHERE.to_le_bytes());
        head[64..68].copy_from_slice(&(measured.instants_bytes as u32).to_le_bytes());
        self.slab.put_bytes(at, &head);
        let checksum = self.chunk_checksum(at, length);
        self.slab.put_u32(at + CHECKSUM, checksum);
    }

    /// Links a chunk that has come behind the head, and counts it.
    fn chunk_link(&mut self, position: u64) {
        let chunk = self.chunk(position);
        let newest = self.chunk_newest(chunk.timeline);
        if newest != NOWHERE {
            self.slab.put_u64(self.map.ring_at(newest) + NEXT, position);
        }
        self.timeline_add_chunk(chunk.timeline, position);
        self.layout_count_chunk(chunk.layout, 1);
    }

    fn chunk_checksum(&self, at: usize, length: usize) -> u32 {
        let head = self.slab.bytes(at + CHECKED_HEAD.start, CHECKED_HEAD.len());
        let body = self.slab.bytes(at + CHECKED_BODY, length - CHECKED_BODY);
        Checksum::new().add(head).add(body).finish()
    }

    /// Moves the head to where `length` bytes fit in one piece, evicting what is in the way.
    fn ring_make_piece(&mut self, length: u64) {
        let ring_bytes = u64::from(self.map.plan.ring_bytes);
        let to_end = ring_bytes - self.ring_head() % ring_bytes;
        if to_end < length {
            self.ring_make_room(to_end);
            let at = self.map.ring_at(self.ring_head());
            self.slab.put_u32(at, MAGIC_FILLER);
            self.slab.put_u32(at + LENGTH, to_end as u32);
            self.set_ring_head(self.ring_head() + to_end);
        }
        self.ring_make_room(length);
    }

    fn ring_make_room(&mut self, bytes: u64) {
        while self.ring_head() + bytes - self.ring_tail() > u64::from(self.map.plan.ring_bytes) {
            self.ring_evict();
        }
    }

    /// Takes the oldest chunk out of the ring.
    fn ring_evict(&mut self) {
        let tail = self.ring_tail();
        let at = self.map.ring_at(tail);
        let length = u64::from(self.slab.u32(at + LENGTH));
        if self.slab.u32(at) == MAGIC_FILLER {
            self.set_ring_tail(tail + length);
            return;
        }
        let chunk = self.chunk(tail);
        assert!(self.chunk_oldest(chunk.timeline) == tail, "the ring's oldest chunk is its timeline's oldest");
        self.chunk_forget(&chunk, |store| store.set_ring_tail(tail + chunk.length));
    }

    /// Takes a timeline's oldest chunk out of RAM by one write, and what only it kept there.
    fn chunk_forget(&mut self, chunk: &Chunk, publish: impl FnOnce(&mut Self)) {
        self.rows_evicted(chunk.timeline, chunk.row_range(), chunk.samples, (chunk.t_min_ms, chunk.t_max_ms));
        self.timeline_remove_chunk(chunk.timeline, chunk.next);
        publish(self);
        self.layout_count_chunk(chunk.layout, -1);
        self.layout_drop_unused(chunk.layout);
        self.timeline_drop_unused(chunk.timeline);
    }

    /// Makes room for newcomers: forgets the oldest rows of one timeline, up to the end of a layout that it no longer
    /// uses, if they are all spilled. False when there is nothing of that kind.
    pub(super) fn reclaim(&mut self) -> bool {
        if self.reclaimed_all {
            return false;
        }
        for timeline in 0..self.map.plan.timelines_count {
            let Some(oldest) = self.timeline_used(timeline).then(|| self.chunks(timeline).next()).flatten() else {
                continue;
            };
            let spilled = self.rows_spilled(TimelineId(timeline));
            let of_oldest = |chunk: &Chunk| chunk.layout == oldest.layout;
            let whole = self.chunks(timeline).take_while(of_oldest).all(|chunk| chunk.row_range().end <= spilled);
            if oldest.layout == self.timeline_layout(timeline) || !whole {
                continue;
            }
            // The timeline goes with its last chunk when it was released.
            while self.timeline_used(timeline) {
                let Some(chunk) = self.chunks(timeline).next().filter(of_oldest) else { break };
                let at = chunk.at;
                self.chunk_forget(&chunk, |store| store.slab.publish_u32(at, MAGIC_FILLER));
            }
            return true;
        }
        self.reclaimed_all = true;
        false
    }

    /// Whether newcomers would find room if everything were spilled: a table they need is nearly full, and rows that are
    /// not spilled lie under a layout that its timeline no longer uses, or the timeline was released.
    pub fn newcomers_wait_for_spill(&self) -> bool {
        let is_short = |used: u32, total: u32| used >= total / 4 * 3;
        let pool_is_short = |pool: Pool| is_short(self.pool_used(pool), pool.total(&self.map));
        let ended_unspilled = |timeline: u32| {
            let spilled = self.rows_spilled(TimelineId(timeline));
            let mut unspilled = self.chunks(timeline).filter(|chunk| chunk.row_range().end > spilled);
            unspilled.next().is_some_and(|chunk| chunk.layout != self.timeline_layout(timeline))
        };
        let heap_is_short = is_short(self.heap_used_count(), self.map.granules_count);
        (heap_is_short || [Pool::Series, Pool::Layouts, Pool::Nodes].into_iter().any(pool_is_short))
            && (0..self.map.plan.timelines_count)
                .any(|timeline| self.timeline_used(timeline) && ended_unspilled(timeline))
    }

    /// Counts rows that leave RAM. Of a chunk that is spilled in part, the samples are counted by the share of its rows.
    fn rows_evicted(&mut self, timeline: u32, rows: Range<u64>, samples: u32, span_ms: (i64, i64)) {
        let count = rows.end - rows.start;
        self.count(Counter::EvictedRows, count);
        self.count(Counter::EvictedSamples, u64::from(samples));
        let unspilled = self.rows_spilled(TimelineId(timeline)).clamp(rows.start, rows.end)..rows.end;
        let unspilled_count = unspilled.end - unspilled.start;
        if unspilled_count > 0 {
            self.count(Counter::EvictedUnspilledRows, unspilled_count);
            let share = (u64::from(samples) * unspilled_count).div_ceil(count);
            self.count(Counter::EvictedUnspilledSamples, share);
            self.rows_lose(timeline, RowsLost { rows: unspilled, samples: share, span_ms });
        }
    }

    /// How near the ring is to evicting rows that are not spilled.
    pub fn ring_pressure(&self) -> RingPressure {
        let bytes = u64::from(self.map.plan.ring_bytes);
        let bytes_free = bytes - (self.ring_head() - self.ring_tail());
        let mut position = self.ring_tail();
        while position < self.ring_head() {
            let at = self.map.ring_at(position);
            if self.slab.u32(at) == MAGIC_CHUNK {
                let chunk = self.chunk(position);
                if chunk.row_range().end > self.rows_spilled(TimelineId(chunk.timeline)) {
                    break;
                }
            }
            position += u64::from(self.slab.u32(at + LENGTH));
        }
        RingPressure { bytes_free, bytes_unspilled: self.ring_head() - position, bytes }
    }

    // Reading chunks.

    pub(super) fn chunk(&self, position: u64) -> Chunk {
        let at = self.map.ring_at(position);
        assert!(self.slab.u32(at) == MAGIC_CHUNK, "a chunk lies at ring position {position}");
        Chunk {
            at,
            length: u64::from(self.slab.u32(at + LENGTH)),
            timeline: self.slab.u32(at + 12),
            layout: self.slab.u32(at + 16),
            columns: self.slab.u32(at + 20),
            rows: self.slab.u32(at + 24) as usize,
            samples: self.slab.u32(at + 28),
            first_row: self.slab.u64(at + 32),
            t_min_ms: self.slab.i64(at + 40),
            t_max_ms: self.slab.i64(at + 48),
            next: self.slab.u64(at + NEXT),
            instants_bytes: self.slab.u32(at + 64) as usize,
        }
    }

    /// The chunks of a timeline, oldest first.
    pub(super) fn chunks(&self, timeline: u32) -> impl Iterator<Item = Chunk> {
        let mut position = self.chunk_oldest(timeline);
        core::iter::from_fn(move || {
            if position == NOWHERE {
                return None;
            }
            let chunk = self.chunk(position);
            position = chunk.next;
            Some(chunk)
        })
    }

    pub(super) fn chunk_instants(&self, chunk: &Chunk) -> [i64; CHUNK_ROWS_MAX] {
        let mut instants = [0; CHUNK_ROWS_MAX];
        let bytes = self.slab.bytes(chunk.at + HEAD_BYTES, chunk.instants_bytes);
        codec::decode_instants(bytes, chunk.rows, &mut instants).expect("a chunk's bytes are checked at attach");
        instants
    }

    /// Cells of the 8 columns of a stripe, up to and with the one at `last`, given to `visit` in order.
    pub(super) fn chunk_stripe(&self, chunk: &Chunk, stripe: usize, last: usize, mut visit: impl FnMut(usize, &Cells)) {
        let columns = (chunk.columns as usize).saturating_sub(stripe * PAGE_COLUMNS).min(last + 1);
        if columns == 0 {
            return;
        }
        let (mut bytes, heads) = self.stripe_bytes(chunk, stripe);
        let mut cells = Cells::ABSENT;
        let mut decoder = ChunkDecoder::new();
        for index in 0..columns {
            let used = cells.decode(&mut decoder, short_head(heads, index), bytes, chunk.rows);
            bytes = &bytes[used..];
            visit(index, &cells);
        }
    }

    /// A stripe's bytes, and the short heads of its columns.
    fn stripe_bytes(&self, chunk: &Chunk, stripe: usize) -> (&[u8], u32) {
        let directory = chunk.at + HEAD_BYTES + chunk.instants_bytes;
        let entry = |stripe| self.slab.u32(directory + entry_at(stripe));
        let first = stripe / DIRECTORY_STRIPES * DIRECTORY_STRIPES;
        let before: u32 = (first..stripe).map(|stripe| entry(stripe) & 0xffff).sum();
        let offset = self.slab.u32(directory + group_at(stripe)) + before;
        let here = entry(stripe);
        (self.slab.bytes(chunk.at + offset as usize, (here & 0xffff) as usize), here >> 16)
    }

    /// What the bytes of a timeline's packed rows are for, chunk by chunk: each column's series, and for head, instants,
    /// directory and padding no series.
    pub fn packed_bytes(&self, timeline: TimelineId, visit: &mut dyn FnMut(Option<SeriesId>, u64)) {
        if !self.timeline_used(timeline.0) {
            return;
        }
        for chunk in self.chunks(timeline.0) {
            let mut rest_bytes = chunk.length;
            let (mut bytes, mut heads): (&[u8], u32) = (&[], 0);
            let mut column = self.layout_column_at(chunk.layout, 0);
            let mut cells = Cells::ABSENT;
            let mut decoder = ChunkDecoder::new();
            for index in 0..chunk.columns as usize {
                let here = column.expect("a layout has the columns of its chunks");
                if index.is_multiple_of(PAGE_COLUMNS) {
                    decoder.begin();
                    (bytes, heads) = self.stripe_bytes(&chunk, index / PAGE_COLUMNS);
                }
                let head = short_head(heads, index % PAGE_COLUMNS);
                let used = cells.decode(&mut decoder, head, bytes, chunk.rows);
                bytes = &bytes[used..];
                rest_bytes -= used as u64;
                visit(Some(self.column_series(here)), used as u64);
                column = (index + 1 < chunk.columns as usize).then(|| self.column_after(here));
            }
            visit(None, rest_bytes);
        }
    }

    /// One column over the rows of a chunk; all absent when the chunk is older than the column. Of the stripe's columns
    /// before it only those are decoded that it refers to.
    pub(super) fn chunk_column(&self, chunk: &Chunk, index: u32) -> Cells {
        let (stripe, last) = (index as usize / PAGE_COLUMNS, index as usize % PAGE_COLUMNS);
        let mut found = Cells::ABSENT;
        if index >= chunk.columns {
            return found;
        }
        let (bytes, heads) = self.stripe_bytes(chunk, stripe);
        let mut walk = StripeWalk::new(chunk.rows).expect("a chunk has few rows");
        let (mut begin, mut at, mut places) = (0, 0, [0; PAGE_COLUMNS]);
        for (column, place) in places[..=last].iter_mut().enumerate() {
            *place = at;
            let stepped = match short_head(heads, column) {
                Some(head) => walk.column_behind(head, &bytes[at..], column),
                None => walk.column(&bytes[at..], column),
            };
            let stepped = stepped.expect("a chunk's bytes are checked at attach");
            (begin, at) = (stepped.begin, at + stepped.bytes);
        }
        let mut decoder = ChunkDecoder::new();
        for column in begin..=last {
            found.decode(&mut decoder, short_head(heads, column), &bytes[places[column]..], chunk.rows);
        }
        found
    }

    /// One column over the raw rows.
    pub(super) fn raw_cells(&self, column: Column, rows: usize) -> Cells {
        let mut found = Cells::ABSENT;
        if let Some(raw) = self.column_raw(column) {
            for row in 0..rows {
                found.presence[row] = self.raw_state(raw, row);
                found.cells[row] = self.raw_cell(raw, row);
            }
        }
        found
    }

    // Attach.

    /// Checks every chunk and links it. `Err` gives the position of the damaged one.
    pub(super) fn ring_restore(&mut self) -> Result<RingFound, u64> {
        let (mut position, head) = (self.ring_tail(), self.ring_head());
        let ring_bytes = u64::from(self.map.plan.ring_bytes);
        let mut found = RingFound::default();
        if head.checked_sub(position).is_none_or(|used| used > ring_bytes) {
            return Err(position);
        }
        while position < head {
            if !position.is_multiple_of(8) {
                return Err(position);
            }
            let at = self.map.ring_at(position);
            let length = u64::from(self.slab.u32(at + LENGTH));
            let to_end = ring_bytes - position % ring_bytes;
            if length < 8 || !length.is_multiple_of(8) || length > to_end || length > head - position {
                return Err(position);
            }
            match self.slab.u32(at) {
                MAGIC_FILLER => {}
                MAGIC_CHUNK if length >= HEAD_BYTES as u64 => {
                    let chunk = self.chunk_checked(position).ok_or(position)?;
                    self.slab.put_u64(at + NEXT, NOWHERE);
                    self.chunk_link(position);
                    found.rows += chunk.rows as u64;
                    found.samples += u64::from(chunk.samples);
                }
                _ => return Err(position),
            }
            position += length;
        }
        Ok(found)
    }

    fn chunk_checked(&self, position: u64) -> Option<Chunk> {
        let chunk = self.chunk(position);
        let length = chunk.length as usize;
        if self.chunk_checksum(chunk.at, length) != self.slab.u32(chunk.at + CHECKSUM) {
            return None;
        }
        let directory_end = HEAD_BYTES + chunk.instants_bytes + directory_bytes(chunk.columns as usize);
        let newest = self.timeline_used(chunk.timeline).then(|| self.chunk_newest(chunk.timeline))?;
        let in_order = newest == NOWHERE || self.chunk(newest).row_range().end <= chunk.first_row;
        let fits = (1..=CHUNK_ROWS_MAX).contains(&chunk.rows)
            && directory_end <= length
            && in_order
            && self.layout_fits(chunk.layout, chunk.timeline, chunk.columns)
            && chunk.row_range().end <= self.row_next(chunk.timeline);
        fits.then_some(chunk)
    }
}

/// What attach found in the ring.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RingFound {
    pub(super) rows: u64,
    pub(super) samples: u64,
}

/// What packing a chunk will give.
struct Measured {
    columns: u32,
    columns_bytes: usize,
    instants_bytes: usize,
    samples: u32,
    t_min_ms: i64,
    t_max_ms: i64,
}

impl Measured {
    fn length(&self) -> usize {
        let directory_bytes = directory_bytes(self.columns as usize);
        (HEAD_BYTES + self.instants_bytes + directory_bytes + self.columns_bytes).next_multiple_of(8)
    }
}

type ChunkDecoder = StripeDecoder<CHUNK_ROWS_MAX>;
type ChunkEncoder = StripeEncoder<CHUNK_ROWS_MAX>;

/// The number of the short head and the bytes behind it; or 0 and all bytes.
fn encode<'o>(
    encoder: &mut ChunkEncoder,
    kind: ColumnKind,
    cells: &Cells,
    rows: usize,
    out: &'o mut [u8],
) -> (u8, &'o [u8]) {
    let encoded = encoder.column(kind, &cells.cells[..rows], &cells.presence[..rows], out);
    let bytes = &out[..encoded.expect("the buffer holds any column of a chunk")];
    match SHORT_HEADS.iter().position(|head| *head == bytes[0]) {
        Some(short) => (short as u8 + 1, &bytes[1..]),
        None => (0, bytes),
    }
}

/// A column's head if it is short.
fn short_head(heads: u32, place: usize) -> Option<u8> {
    let number = (heads >> (2 * place) & 3) as usize;
    number.checked_sub(1).map(|at| SHORT_HEADS[at])
}

/// Stripes that share an offset in a chunk's directory.
const DIRECTORY_STRIPES: usize = 16;

fn directory_bytes(columns: usize) -> usize {
    let stripes = columns.div_ceil(PAGE_COLUMNS);
    4 * (stripes + stripes.div_ceil(DIRECTORY_STRIPES))
}

/// Where a directory has the offset by which this stripe is found.
fn group_at(stripe: usize) -> usize {
    4 * (DIRECTORY_STRIPES + 1) * (stripe / DIRECTORY_STRIPES)
}

/// Where a directory has this stripe's entry.
fn entry_at(stripe: usize) -> usize {
    group_at(stripe) + 4 + 4 * (stripe % DIRECTORY_STRIPES)
}
