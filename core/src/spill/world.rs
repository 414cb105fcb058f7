//! A small world for tests: a store, its spill, and a disk whose unsynced bytes a power cut takes.

use super::*;
use crate::{
    daemon::output::{OUTPUT_BYTES_MAX, Put},
    labels::LabelSet,
    store::{
        Identity, Missing, Plan, Store, TimelineKey,
        stored::{LayoutPart, PartPlace, PartVisit, SegmentBytes, SegmentMeta, SegmentVisit, Stored, StoredError},
    },
    time::Now,
};
use alloc::{boxed::Box, collections::BTreeMap, string::String, vec, vec::Vec};

pub const UUID: [u8; 16] = [7; 16];
pub const START_MS: i64 = 1_760_000_000_000;

/// What the database holds.
#[derive(Clone, Default)]
pub struct Database {
    /// By layout and first column.
    pub layouts: BTreeMap<(u64, u32), (TimelineKey, u32, Vec<u8>)>,
    pub segments: Vec<(SegmentMeta, Vec<u8>)>,
    pub states: BTreeMap<String, Vec<u8>>,
    pub fails: bool,
    /// Stripes and headers read from segments.
    pub bytes_read: usize,
    /// Parts of layouts that were read as a whole.
    pub parts_read: usize,
}

impl Database {
    pub fn put(&mut self, put: &Put<'_>) {
        match put {
            Put::Layout(part) => {
                let value = (part.timeline, part.column_count, part.bytes.to_vec());
                self.layouts.insert((part.layout, part.column_from), value);
            }
            Put::Segment { meta, bytes } => {
                assert!(self.segments.iter().all(|(other, _)| other.sequence < meta.sequence), "sequences ascend");
                self.segments.push((*meta, bytes.to_vec()));
            }
            Put::Replace { meta, bytes } => {
                if let Some((_, kept)) = self.segments.iter_mut().find(|(known, _)| known == meta) {
                    *kept = bytes.to_vec();
                }
            }
            Put::State { key, bytes: [] } => {
                self.states.remove(*key);
            }
            Put::State { key, bytes } => {
                self.states.insert((*key).into(), bytes.to_vec());
            }
            Put::DropBefore { t_ms } => self.segments.retain(|(meta, _)| meta.t_max_ms >= *t_ms),
        }
    }

    pub fn spill_state(&self) -> SpillState {
        self.states.get(SPILL_STATE_KEY).map_or(SpillState::default(), |bytes| SpillState::decode(bytes).unwrap())
    }

    pub fn rows_stored(&self, key: TimelineKey) -> u64 {
        let of_timeline = self.segments.iter().filter(|(meta, _)| meta.timeline == key);
        of_timeline.map(|(meta, _)| meta.row_from + u64::from(meta.row_count)).max().unwrap_or(0)
    }

    fn check(&self) -> Result<(), StoredError> {
        if self.fails { Err(StoredError { reason: "the disk does not answer" }) } else { Ok(()) }
    }

    fn visit(
        &mut self,
        mut found: Vec<usize>,
        by: impl Fn(&SegmentMeta) -> (u64, u32),
        visit: &mut SegmentVisit<'_>,
    ) -> Result<(), StoredError> {
        self.check()?;
        found.sort_by_key(|index| by(&self.segments[*index].0));
        for index in found {
            let (meta, bytes) = &self.segments[index];
            let mut counted = Counted { bytes, read: 0 };
            let go_on = visit(meta, &mut counted);
            self.bytes_read += counted.read;
            if !go_on {
                break;
            }
        }
        Ok(())
    }
}

struct Counted<'a> {
    bytes: &'a [u8],
    read: usize,
}

impl SegmentBytes for Counted<'_> {
    fn len(&self) -> usize {
        self.bytes.len()
    }
    fn read_at(&mut self, offset: usize, buf: &mut [u8]) -> Result<(), StoredError> {
        self.read += buf.len();
        SliceBytes(self.bytes).read_at(offset, buf)
    }
}

impl Stored for Database {
    fn layouts(
        &mut self,
        start_ms: i64,
        end_ms: i64,
        after: Option<PartPlace>,
        visit: &mut PartVisit<'_>,
    ) -> Result<(), StoredError> {
        self.check()?;
        let after = after.map(|place| (place.layout, place.column_from));
        let behind = self.layouts.iter().filter(|(key, _)| after.is_none_or(|after| **key > after));
        for (&(layout, column_from), (_, _, bytes)) in behind {
            let overlaps =
                |meta: &SegmentMeta| meta.layout == layout && meta.t_min_ms <= end_ms && meta.t_max_ms >= start_ms;
            let overlaps = self.segments.iter().any(|(meta, _)| overlaps(meta));
            let mut counted = Counted { bytes, read: 0 };
            let go_on = visit(PartPlace { layout, column_from }, overlaps, &mut counted);
            self.bytes_read += counted.read;
            if !go_on {
                break;
            }
        }
        Ok(())
    }

    fn layout(&mut self, layout: u64, visit: &mut dyn FnMut(LayoutPart<'_>) -> bool) -> Result<(), StoredError> {
        self.check()?;
        for ((layout, column_from), (timeline, column_count, bytes)) in
            self.layouts.range((layout, 0)..=(layout, u32::MAX))
        {
            self.parts_read += 1;
            let (timeline, layout, column_from, column_count) = (*timeline, *layout, *column_from, *column_count);
            if !visit(LayoutPart { timeline, layout, column_from, column_count, bytes }) {
                break;
            }
        }
        Ok(())
    }

    fn segments(
        &mut self,
        layout: u64,
        start_ms: i64,
        end_ms: i64,
        visit: &mut SegmentVisit<'_>,
    ) -> Result<(), StoredError> {
        let found = (0..self.segments.len()).filter(|index| {
            let meta = &self.segments[*index].0;
            meta.layout == layout && meta.t_min_ms <= end_ms && meta.t_max_ms >= start_ms
        });
        self.visit(found.collect(), |meta| (meta.row_from, 0), visit)
    }

    fn segment(&mut self, sequence: u64, visit: &mut SegmentVisit<'_>) -> Result<(), StoredError> {
        let found = (0..self.segments.len()).filter(|index| self.segments[*index].0.sequence == sequence);
        self.visit(found.collect(), |meta| (meta.sequence, 0), visit)
    }

    fn rows(&mut self, timeline: TimelineKey, row_from: u64, visit: &mut SegmentVisit<'_>) -> Result<(), StoredError> {
        let found = (0..self.segments.len()).filter(|index| {
            let meta = &self.segments[*index].0;
            meta.timeline == timeline && meta.row_from + u64::from(meta.row_count) > row_from
        });
        self.visit(found.collect(), |meta| (meta.row_from, meta.column_from), visit)
    }

    fn sealed_from(&mut self, sequence: u64, visit: &mut SegmentVisit<'_>) -> Result<(), StoredError> {
        let found = (0..self.segments.len()).filter(|index| self.segments[*index].0.sequence >= sequence);
        self.visit(found.collect(), |meta| (meta.sequence, 0), visit)
    }

    fn timelines(&mut self, visit: &mut dyn FnMut(TimelineKey, u64) -> bool) -> Result<(), StoredError> {
        self.check()?;
        let mut keys: Vec<TimelineKey> = self.segments.iter().map(|(meta, _)| meta.timeline).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().all(|key| visit(key, self.rows_stored(key)));
        Ok(())
    }

    fn oldest_ms(&mut self) -> Result<Option<i64>, StoredError> {
        self.check()?;
        Ok(self.segments.iter().map(|(meta, _)| meta.t_min_ms).min())
    }
}

/// One of the log's two files.
#[derive(Clone, Default)]
pub struct File {
    pub bytes: Vec<u8>,
    pub position: usize,
    pub generation: u64,
}

/// What survives a power cut.
#[derive(Clone, Default)]
pub struct Disk {
    pub database: Database,
    pub files: [File; 2],
    pub is_full: bool,
    transaction: Option<Box<Database>>,
}

impl Disk {
    pub fn append(&mut self, generation: u64, bytes: &[u8]) {
        let file = &mut self.files[generation as usize % 2];
        if file.generation != generation {
            (file.generation, file.position) = (generation, 0);
        }
        let end = file.position + bytes.len();
        if file.bytes.len() < end {
            file.bytes.resize(end, 0);
        }
        file.bytes[file.position..end].copy_from_slice(bytes);
        file.position = end;
    }

    /// The next frame begins on a page of its own. What the other file holds of a generation before is not needed any
    /// more: a disk may take it back, and this one does.
    pub fn sync(&mut self) {
        let newest = usize::from(self.files[1].generation > self.files[0].generation);
        if self.files[newest].position > 0 {
            self.files[1 - newest].bytes.clear();
        }
        for file in &mut self.files {
            file.position = file.position.next_multiple_of(LOG_PAGE_BYTES as usize);
        }
    }

    /// Recovers into a fresh store; returns the spill, and what was found in the log.
    pub fn recover(&mut self, store: &mut Store<'_>) -> (Spill, Vec<RecoveryReport>, ReplayReport) {
        let (spill, recovered) = self.recover_all(store).unwrap();
        (spill, recovered.logs, recovered.replay)
    }

    pub fn recover_all(&mut self, store: &mut Store<'_>) -> Result<(Spill, Recovered), RecoverError> {
        for (key, bytes) in self.database.states.iter().filter(|(key, _)| *key != SPILL_STATE_KEY) {
            store.state_put(key, bytes).unwrap();
        }
        let state = self.database.spill_state();
        let options = SpillOptions::new(UUID, &plan());
        recover(self, store, options, testing::EPOCH, state, at(START_MS), 1 << 20)
    }
}

impl Flash for Disk {
    /// In uneven pieces.
    fn log_read(&mut self, file: usize, offset: u64, buf: &mut [u8]) -> Result<usize, StoredError> {
        let rest = &self.files[file].bytes[offset as usize..];
        let length = rest.len().min(buf.len()).min(1 + offset as usize % 3_001);
        buf[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
    fn stored(&mut self) -> &mut dyn Stored {
        &mut self.database
    }
    fn put(&mut self, put: Put<'_>) -> Result<(), StoredError> {
        if self.is_full {
            return Err(StoredError { reason: "the disk is full" });
        }
        self.transaction.get_or_insert_with(|| Box::new(self.database.clone())).put(&put);
        Ok(())
    }
    fn commit(&mut self) -> Result<(), StoredError> {
        if let Some(transaction) = self.transaction.take() {
            self.database = *transaction;
        }
        Ok(())
    }
    fn roll_back(&mut self) {
        self.transaction = None;
    }
}

/// Feeds a file in uneven pieces.
pub fn read(bytes: &[u8], recovery: &mut Recovery<'_>, mut each: impl FnMut(Frame<'_>)) {
    for (index, mut piece) in bytes.chunks(4_099).enumerate() {
        while !piece.is_empty() {
            let taken = recovery.feed(&piece[..piece.len().min(1 + index * 977)]);
            piece = &piece[taken..];
            while let Some(frame) = recovery.next_frame().unwrap() {
                each(frame);
            }
        }
    }
}

pub fn plan() -> Plan {
    Plan::for_series(2 << 20, 2_000).unwrap()
}

pub fn create<'m>(slab: &'m mut Vec<u8>, plan: &Plan) -> Store<'m> {
    slab.clear();
    slab.resize(plan.slab_bytes(), 0);
    Store::create(slab, plan, Identity { store_uuid: UUID, boot_id: [1; 16], log_generation: 0 }).unwrap()
}

pub fn labels(name: &str, job: u64) -> LabelSet {
    let job = alloc::format!("{job}");
    LabelSet::from_pairs([("__name__", name), ("job", job.as_str())])
}

pub fn at(wall_ms: i64) -> Now {
    Now { mono_ms: 1, wall_ms }
}

/// One sample to be scraped.
pub type Put1<'a> = (&'a LabelSet, u64, Option<i64>);

/// Commits one row of a timeline that is opened already, or of which nothing is stored, and returns its number.
pub fn scrape(store: &mut Store<'_>, key: u64, instant_ms: i64, samples: &[Put1<'_>]) -> u64 {
    let timeline = store.timeline_open(TimelineKey(key)).unwrap();
    store.row_begin(timeline, instant_ms).unwrap();
    for (labels, bits, age_ms) in samples {
        store.row_put(timeline, labels.as_ref(), *bits, *age_ms).unwrap();
    }
    store.row_commit(timeline, Missing::Stale).row
}

/// All frames there are, appended and synced. Returns how many.
pub fn flush(spill: &mut Spill, store: &mut Store<'_>, disk: &mut Disk) -> u32 {
    let mut out = vec![0; OUTPUT_BYTES_MAX];
    let mut frames = 0;
    while let Some(bytes) = spill.frame_next(store, &mut out) {
        disk.append(spill.log_generation().unwrap(), &out[..bytes]);
        frames += 1;
    }
    spill.log_sync(1);
    disk.sync();
    spill.log_synced(store, 1, true);
    frames
}

/// A whole seal run, committed. Returns how many rows were put into the database.
pub fn seal(spill: &mut Spill, store: &mut Store<'_>, disk: &mut Disk, now: Now, reason: SealReason) -> u32 {
    let mut out = vec![0; OUTPUT_BYTES_MAX];
    let mut puts = 0;
    while let Some(put) = spill.seal_next(store, now, reason, &mut out) {
        disk.database.put(&put);
        puts += 1;
    }
    spill.commit(store, 1);
    spill.committed(store, 1, true);
    puts
}

/// Every sample of a store and its database, by labels and time.
pub fn all_samples(store: &Store<'_>, disk: &Disk) -> BTreeMap<(LabelSet, i64), u64> {
    let mut found = BTreeMap::new();
    let mut add = |labels: LabelSet, t_ms: i64, bits: u64| {
        let before = found.insert((labels.clone(), t_ms), bits);
        assert!(before.is_none_or(|before| before == bits), "{labels} at {t_ms}: {before:x?} and {bits:x}");
    };
    for timeline in store.timelines() {
        store.rows_read(timeline, store.rows(timeline), &mut |column| {
            for (t_ms, bits) in column.t_ms.iter().zip(column.bits) {
                add(LabelSet::from(column.labels), *t_ms, *bits);
            }
            true
        });
    }
    let mut reader = SegmentReader::default();
    for (meta, bytes) in &disk.database.segments {
        let mut names = BTreeMap::new();
        for (_, (_, _, part)) in disk.database.layouts.range((meta.layout, 0)..=(meta.layout, u32::MAX)) {
            layout_part_read(part, &mut |column, _, labels| names.insert(column, LabelSet::from(labels)).is_none())
                .unwrap();
        }
        reader
            .columns(&mut SliceBytes(bytes), 0..u64::MAX, &mut |samples| {
                for (t_ms, bits) in samples.t_ms.iter().zip(samples.bits) {
                    add(names[&samples.column].clone(), *t_ms, *bits);
                }
                true
            })
            .unwrap();
    }
    found
}
