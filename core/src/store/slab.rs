//! The slab's bytes, and where its regions and their records lie.
//!
//! Every change goes through [`Slab`]. A successor may find the slab as it was between any two of its writes, so the
//! order of writes is the store's journal: what is not yet named by a published number or link does not exist.

use crate::memory::{Plan, Widths};
use core::{
    ops::Range,
    sync::atomic::{Ordering, compiler_fence},
};

/// "Nothing" among record numbers.
pub(super) const NONE: u32 = u32::MAX;
/// "Nothing" among ring positions.
pub(super) const NOWHERE: u64 = u64::MAX;

#[cfg(test)]
pub(super) type AfterWrite<'m> = &'m mut dyn FnMut(&Written<'_>);

/// One write, as tests see it.
#[cfg(test)]
pub(super) struct Written<'a> {
    /// The slab with it.
    pub bytes: &'a [u8],
    pub at: usize,
    /// What was there before.
    pub before: Vec<u8>,
    /// No earlier write can come after it, and no later one before.
    pub is_published: bool,
}

pub(super) struct Slab<'m> {
    bytes: &'m mut [u8],
    /// Tests look at the slab after every write.
    #[cfg(test)]
    pub(super) after_write: Option<AfterWrite<'m>>,
}

impl<'m> Slab<'m> {
    pub(super) fn new(bytes: &'m mut [u8]) -> Self {
        Self {
            bytes,
            #[cfg(test)]
            after_write: None,
        }
    }

    pub(super) fn into_bytes(self) -> &'m mut [u8] {
        self.bytes
    }

    pub(super) fn bytes(&self, at: usize, length: usize) -> &[u8] {
        &self.bytes[at..at + length]
    }

    pub(super) fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    pub(super) fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    pub(super) fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    pub(super) fn i64(&self, at: usize) -> i64 {
        self.u64(at) as i64
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[at..at + N]);
        array
    }

    /// A number of 2 or 3 bytes; all ones is [`NONE`].
    pub(super) fn id(&self, at: usize, id_bytes: usize) -> u32 {
        let (low, none) = match id_bytes {
            2 => (u32::from(self.u16(at)), 0xffff),
            _ => (u32::from(self.u16(at)) | u32::from(self.bytes[at + 2]) << 16, 0x00ff_ffff),
        };
        if low == none { NONE } else { low }
    }

    pub(super) fn put_id(&mut self, at: usize, id_bytes: usize, id: u32) {
        self.put_bytes(at, &id.to_le_bytes()[..id_bytes]);
    }

    pub(super) fn put_u32(&mut self, at: usize, value: u32) {
        self.put_bytes(at, &value.to_le_bytes());
    }

    pub(super) fn put_u64(&mut self, at: usize, value: u64) {
        self.put_bytes(at, &value.to_le_bytes());
    }

    pub(super) fn put_bytes(&mut self, at: usize, bytes: &[u8]) {
        self.write(at..at + bytes.len(), false, |target| target.copy_from_slice(bytes));
    }

    pub(super) fn fill(&mut self, range: Range<usize>, byte: u8) {
        self.write(range, false, |target| target.fill(byte));
    }

    /// A write that makes earlier ones count: the compiler may move neither those behind it nor later ones before it.
    /// A process that is killed leaves its memory as its instructions did, so that is enough.
    pub(super) fn publish_u32(&mut self, at: usize, value: u32) {
        compiler_fence(Ordering::SeqCst);
        self.write(at..at + 4, true, |target| target.copy_from_slice(&value.to_le_bytes()));
        compiler_fence(Ordering::SeqCst);
    }

    /// As [`Self::publish_u32`]. On a 32-bit host this is two writes; the numbers so published count rows and bytes, and
    /// their upper halves change once in 2³².
    pub(super) fn publish_u64(&mut self, at: usize, value: u64) {
        compiler_fence(Ordering::SeqCst);
        self.write(at..at + 8, true, |target| target.copy_from_slice(&value.to_le_bytes()));
        compiler_fence(Ordering::SeqCst);
    }

    #[cfg(not(test))]
    fn write(&mut self, range: Range<usize>, _is_published: bool, write: impl FnOnce(&mut [u8])) {
        write(&mut self.bytes[range]);
    }

    #[cfg(test)]
    fn write(&mut self, range: Range<usize>, is_published: bool, write: impl FnOnce(&mut [u8])) {
        let Some(after_write) = &mut self.after_write else { return write(&mut self.bytes[range]) };
        let before = self.bytes[range.clone()].to_vec();
        write(&mut self.bytes[range.clone()]);
        after_write(&Written { bytes: self.bytes, at: range.start, before, is_published });
    }
}

/// Sizes of the records, in bytes; the budget multiplies them.
pub(crate) mod sizes {
    use crate::limits::{CHUNK_ROWS_MAX, STATE_KEY_BYTES_MAX};

    pub const HEADER_BYTES: usize = 256;
    /// Numbers in a series' record.
    pub const SERIES_NUMBERS: usize = 6;
    pub const TIMELINE_BYTES: usize = 128 + 8 * CHUNK_ROWS_MAX;
    pub const LAYOUT_BYTES: usize = 32;
    /// Columns in one node of a layout: one bit each in a word.
    pub const NODE_COLUMNS: usize = 32;
    pub const NODE_HEAD_BYTES: usize = 48;
    /// Numbers of one column in a node.
    pub const COLUMN_NUMBERS: usize = 2;
    /// Columns in one page of raw rows, and in one stripe of a chunk.
    pub const PAGE_COLUMNS: usize = 8;
    pub const PAGE_BYTES: usize = 8 + 4 * PAGE_COLUMNS + 8 * PAGE_COLUMNS * CHUNK_ROWS_MAX;
    pub const STATE_HEAD_BYTES: usize = 24 + STATE_KEY_BYTES_MAX;
}

/// Where each region begins.
#[derive(Clone, Copy)]
pub(super) struct Map {
    pub(super) plan: Plan,
    timelines: usize,
    layouts: usize,
    nodes: usize,
    pages: usize,
    series: usize,
    index_slots: usize,
    pub(super) index_slots_count: u32,
    heap: usize,
    heap_bits: usize,
    pub(super) granules_count: u32,
    pub(super) granule_bytes: usize,
    record_buckets: usize,
    /// Bytes of a series', column's or record's number.
    pub(super) id_bytes: usize,
    state: [usize; 3],
    pub(super) ring: usize,
    pub(super) bytes: usize,
}

impl Map {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut end = sizes::HEADER_BYTES;
        let mut take = |bytes: usize| {
            let start = end;
            end += bytes.next_multiple_of(8);
            start
        };
        let Widths { id_bytes, granule_bytes } = plan.widths();
        let granules_count = plan.label_bytes / granule_bytes as u32;
        let map = Self {
            plan: *plan,
            timelines: take(plan.timelines_count as usize * sizes::TIMELINE_BYTES),
            layouts: take(plan.layouts_count as usize * sizes::LAYOUT_BYTES),
            nodes: take(plan.layout_nodes_count as usize * plan.node_bytes()),
            pages: take(plan.raw_pages_count as usize * sizes::PAGE_BYTES),
            series: take(plan.series_count as usize * plan.series_bytes()),
            index_slots: take(plan.index_slots_count() as usize * id_bytes),
            index_slots_count: plan.index_slots_count(),
            heap: take(plan.label_bytes as usize),
            heap_bits: take(plan.heap_bits_bytes()),
            granules_count,
            granule_bytes,
            record_buckets: take(plan.record_buckets_count() as usize * id_bytes),
            id_bytes,
            state: plan.state.map(|class| take(class.bytes())),
            ring: take(plan.ring_bytes as usize),
            bytes: 0,
        };
        Self { bytes: end, ..map }
    }

    pub(super) fn timeline(&self, id: u32) -> usize {
        record(self.timelines, id, self.plan.timelines_count, sizes::TIMELINE_BYTES)
    }

    pub(super) fn layout(&self, id: u32) -> usize {
        record(self.layouts, id, self.plan.layouts_count, sizes::LAYOUT_BYTES)
    }

    pub(super) fn node(&self, id: u32) -> usize {
        record(self.nodes, id, self.plan.layout_nodes_count, self.plan.node_bytes())
    }

    pub(super) fn page(&self, id: u32) -> usize {
        record(self.pages, id, self.plan.raw_pages_count, sizes::PAGE_BYTES)
    }

    pub(super) fn series(&self, id: u32) -> usize {
        record(self.series, id, self.plan.series_count, sizes::SERIES_NUMBERS * self.id_bytes)
    }

    pub(super) fn index_slot(&self, slot: u32) -> usize {
        record(self.index_slots, slot, self.index_slots_count, self.id_bytes)
    }

    /// A record of the heap, by the number of its first granule.
    pub(super) fn record(&self, granule: u32) -> usize {
        record(self.heap, granule, self.granules_count, self.granule_bytes)
    }

    pub(super) fn granules(&self, bytes: usize) -> u32 {
        bytes.div_ceil(self.granule_bytes) as u32
    }

    pub(super) fn heap_holds(&self, granule: u32, bytes: usize) -> bool {
        granule.checked_add(self.granules(bytes)).is_some_and(|end| end <= self.granules_count)
    }

    /// The word of the bitmap in which a granule has its bit.
    pub(super) fn heap_word(&self, granule: u32) -> usize {
        self.heap_bits + (granule / u64::BITS) as usize * 8
    }

    pub(super) fn heap_bits(&self) -> Range<usize> {
        self.heap_bits..self.heap_bits + self.plan.heap_bits_bytes()
    }

    pub(super) fn record_bucket(&self, hash: u64) -> usize {
        let count = self.plan.record_buckets_count();
        self.record_buckets + (((hash >> 32) * u64::from(count)) >> 32) as usize * self.id_bytes
    }

    #[cfg(feature = "alloc")]
    pub(super) fn record_buckets_each(&self) -> impl Iterator<Item = usize> + use<> {
        let (start, id_bytes) = (self.record_buckets, self.id_bytes);
        (0..self.plan.record_buckets_count() as usize).map(move |bucket| start + bucket * id_bytes)
    }

    /// What is filled with [`NONE`] before attach fills it anew.
    pub(super) fn tables(&self) -> [Range<usize>; 2] {
        let range = |start, count: u32| start..start + count as usize * self.id_bytes;
        [range(self.index_slots, self.index_slots_count), range(self.record_buckets, self.plan.record_buckets_count())]
    }

    /// One of the two copies of a state slot.
    pub(super) fn state(&self, class: usize, slot: u32, copy: usize) -> usize {
        let bytes_each = sizes::STATE_HEAD_BYTES + self.plan.state[class].bytes_each as usize;
        self.state[class] + (slot as usize * 2 + copy) * bytes_each
    }

    /// Where a ring position lies.
    pub(super) fn ring_at(&self, position: u64) -> usize {
        self.ring + (position % u64::from(self.plan.ring_bytes)) as usize
    }
}

fn record(start: usize, id: u32, count: u32, bytes: usize) -> usize {
    assert!(id < count, "record {id} of {count}");
    start + id as usize * bytes
}

/// A check against torn and foreign bytes, eight at a time; not against forgery.
#[derive(Clone, Copy)]
pub(super) struct Checksum(u64);

impl Checksum {
    pub(super) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub(super) fn add(mut self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self = self.add_word(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self = self.add_word(u64::from_le_bytes(last));
        }
        self.add_word(bytes.len() as u64)
    }

    fn add_word(self, word: u64) -> Self {
        Self((self.0 ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29))
    }

    pub(super) fn finish(self) -> u32 {
        (crate::prng::mix(self.0) >> 32) as u32
    }
}
