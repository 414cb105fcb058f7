//! Rows through the real store and the real spill, and back: bytes by class, and every sample compared to the bit.

use crate::series::{Class, Row, Target};
use holdfast_core::{
    daemon::output::{OUTPUT_BYTES_MAX, Put},
    labels::LabelSet,
    memory::Plan,
    spill::{
        Ager, Aging, Block, ClockEpoch, FRAME_HEAD_BYTES, FrameKind, History, RowsReader, SealReason, SegmentReader,
        SliceBytes, Spill, SpillOptions, SpillState, layout_part_read,
    },
    store::{Identity, Missing, RegionName, STALE_NAN_BITS, Store, TimelineId, TimelineKey},
    time::Now,
};
use std::{collections::BTreeMap, ops::AddAssign};

/// As the daemon flushes.
pub const FLUSH_MS: i64 = 30_000;
pub const IDENTITY: Identity = Identity { store_uuid: [7; 16], boot_id: [1; 16], log_generation: 0 };

const HEAVY_BYTES: u64 = 4;

/// Samples, and the bytes that hold them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub samples: u64,
    pub bytes: u64,
    /// Of these bytes, those of columns that take [`HEAVY_BYTES`] a sample and more: what the transforms do not fit.
    pub heavy_bytes: u64,
}

impl Tally {
    pub fn bytes_per_sample(self) -> f64 {
        self.bytes as f64 / self.samples as f64
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.samples += other.samples;
        self.bytes += other.bytes;
        self.heavy_bytes += other.heavy_bytes;
    }
}

/// One way of keeping samples: what each class takes, and what all share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// In the order of [`Class::ALL`]; stale markers' bytes are counted, they themselves are not.
    pub classes: [Tally; Class::ALL.len()],
    /// Instants, headers, directories, checksums, padding.
    pub shared_bytes: u64,
}

impl Kept {
    pub fn all(&self) -> Tally {
        let mut all = Tally { bytes: self.shared_bytes, ..Tally::default() };
        self.classes.iter().for_each(|tally| all += *tally);
        all
    }

    fn class(&mut self, class: Class) -> &mut Tally {
        &mut self.classes[class as usize]
    }
}

impl AddAssign for Kept {
    fn add_assign(&mut self, other: Self) {
        self.shared_bytes += other.shared_bytes;
        self.classes.iter_mut().zip(other.classes).for_each(|(class, more)| *class += more);
    }
}

/// What one target took.
#[derive(Clone, Debug, Default)]
pub struct TargetFigures {
    pub name: String,
    pub series: u64,
    /// Chunks in RAM.
    pub packed: Kept,
    /// Segments, packed.
    pub sealed: Kept,
    /// The same segments, aged.
    pub aged: Kept,
    /// Frames of the tail log.
    pub log: Kept,
    /// Layout parts in the database: the labels.
    pub layout_bytes: u64,
}

/// `(row, t_ms, bits)` in order of rows.
type Samples = Vec<(u64, i64, u64)>;

/// Plays the targets, each `step`th scrape, in the order of time; flushes as the daemon does and seals each segment as soon as it is full. Then compares
/// every sample as it comes back from RAM, from the log and from segments with what was put in.
///
/// # Errors
///
/// What did not come back, or something that was refused.
pub fn replay(targets: &[Target], step: usize) -> Result<Vec<TargetFigures>, String> {
    let samples: usize = targets.iter().flat_map(|target| target.rows_stepped(step)).map(|row| row.samples.len()).sum();
    let series: usize = targets.iter().map(|target| target.series.len()).sum();
    // Room enough for whatever the values are, so that nothing is evicted before it is measured.
    let plan = plan(series, samples * 16 + (4 << 20))?;
    let mut slab = vec![0; plan.slab_bytes()];
    let mut world = World::new(&mut slab, &plan, targets)?;
    let mut flush_ms = i64::MIN;
    for (target, row) in in_order_of_time(targets, step) {
        if row.t_ms >= flush_ms {
            world.flush()?;
            flush_ms = row.t_ms.saturating_add(FLUSH_MS);
        }
        world.put(target, row)?;
        if world.spill.seal_due(&world.store, now(row.t_ms)) {
            // What a segment holds is not logged any more: so that the log's figures are of all rows, they go first.
            world.flush()?;
            world.seal(row.t_ms, SealReason::Due)?;
        }
    }
    world.flush()?;
    world.seal(0, SealReason::Stop)?;
    world.finish()
}

/// All rows, each with the number of its target. A target's rows stay in the order in which they were scraped, even where
/// its clock went back.
pub fn in_order_of_time(targets: &[Target], step: usize) -> Vec<(usize, &Row)> {
    let mut rows = Vec::new();
    for (target, of) in targets.iter().enumerate() {
        let mut reached_ms = i64::MIN;
        for row in of.rows_stepped(step) {
            reached_ms = reached_ms.max(row.t_ms);
            rows.push((reached_ms, target, row));
        }
    }
    rows.sort_by_key(|(reached_ms, _, _)| *reached_ms);
    rows.into_iter().map(|(_, target, row)| (target, row)).collect()
}

pub fn plan(series: usize, ring_bytes: usize) -> Result<Plan, String> {
    let series = series.max(1);
    Plan::for_series(ring_bytes + series * 512 + (1 << 20), series as u64).map_err(|error| error.to_string())
}

pub fn now(wall_ms: i64) -> Now {
    Now { mono_ms: 1, wall_ms }
}

pub fn new_spill(plan: &Plan) -> Spill {
    // A segment as soon as it is full, so that the figures do not hang on how many targets share a transaction.
    let options =
        SpillOptions { log_bytes_max: u64::MAX, seal_cells: 1, ..SpillOptions::new(IDENTITY.store_uuid, plan) };
    Spill::new(options, ClockEpoch { boot_hash: 1, wall_offset_ms: 0, trusted: true }, SpillState::default(), 0)
}

/// Commits one row; samples without labels are left out.
pub fn put_row<'l>(
    store: &mut Store<'_>,
    timeline: TimelineId,
    row: &Row,
    labels_of: impl Fn(usize) -> Option<&'l LabelSet>,
) -> Result<u64, String> {
    store.row_begin(timeline, row.t_ms).map_err(|refused| refused.to_string())?;
    for sample in &row.samples {
        if let Some(labels) = labels_of(sample.series) {
            let put = store.row_put(timeline, labels.as_ref(), sample.bits, sample.age_ms);
            put.map_err(|refused| format!("{labels}: {refused}"))?;
        }
    }
    Ok(store.row_commit(timeline, Missing::Stale).row)
}

/// One target under way.
struct Playing<'t> {
    target: &'t Target,
    timeline: TimelineId,
    index: BTreeMap<&'t LabelSet, usize>,
    /// By series: what must come back.
    expected: Vec<Samples>,
    /// By series: the last row with a value.
    last_row: Vec<Option<u64>>,
    found_in_log: Vec<Samples>,
    found_in_segments: Vec<Samples>,
    found_in_aged: Vec<Samples>,
    figures: TargetFigures,
}

struct World<'m, 't> {
    store: Store<'m>,
    spill: Spill,
    playing: Vec<Playing<'t>>,
    reader: SegmentReader,
    ager: Ager,
    aged: Vec<u8>,
    /// By layout and column: target and series, as the layout parts in the log and in the database have it.
    log_names: Names,
    stored_names: Names,
    histories: Vec<History>,
    out: Vec<u8>,
}

type Names = BTreeMap<(u64, u32), (usize, usize)>;

impl<'m, 't> World<'m, 't> {
    fn new(slab: &'m mut [u8], plan: &Plan, targets: &'t [Target]) -> Result<Self, String> {
        let mut store = Store::create(slab, plan, IDENTITY).map_err(|error| error.to_string())?;
        let mut playing = Vec::new();
        for (index, target) in targets.iter().enumerate() {
            let timeline = store.timeline_open(TimelineKey(index as u64 + 1)).map_err(|refused| refused.to_string())?;
            let nothing = || vec![Samples::new(); target.series.len()];
            playing.push(Playing {
                target,
                timeline,
                index: target.series.iter().enumerate().map(|(index, series)| (&series.labels, index)).collect(),
                expected: nothing(),
                last_row: vec![None; target.series.len()],
                found_in_log: nothing(),
                found_in_segments: nothing(),
                found_in_aged: nothing(),
                figures: TargetFigures {
                    name: target.name.clone(),
                    series: target.series.len() as u64,
                    ..TargetFigures::default()
                },
            });
        }
        let mut world = Self {
            store,
            spill: new_spill(plan),
            playing,
            reader: SegmentReader::default(),
            ager: Ager::default(),
            aged: vec![0; OUTPUT_BYTES_MAX],
            log_names: Names::new(),
            stored_names: Names::new(),
            histories: Vec::new(),
            out: vec![0; OUTPUT_BYTES_MAX],
        };
        world.seal(0, SealReason::Checkpoint)?;
        Ok(world)
    }

    fn put(&mut self, target: usize, row: &Row) -> Result<(), String> {
        let playing = &mut self.playing[target];
        let series = &playing.target.series;
        let number = put_row(&mut self.store, playing.timeline, row, |index| Some(&series[index].labels))?;
        for sample in &row.samples {
            let t_ms = row.t_ms.wrapping_sub(sample.age_ms.unwrap_or(0));
            playing.expected[sample.series].push((number, t_ms, sample.bits));
            let is_value = sample.bits != STALE_NAN_BITS;
            playing.last_row[sample.series] = is_value.then_some(number);
        }
        for (expected, last_row) in playing.expected.iter_mut().zip(&mut playing.last_row) {
            if last_row.is_some_and(|last_row| last_row < number) {
                expected.push((number, row.t_ms, STALE_NAN_BITS));
                *last_row = None;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        while let Some(bytes) = self.spill.frame_next(&self.store, &mut self.out) {
            let payload = &self.out[FRAME_HEAD_BYTES..bytes];
            const LAYOUT: u8 = FrameKind::Layout as u8;
            const ROWS: u8 = FrameKind::Rows as u8;
            match self.out[6] {
                LAYOUT => name_columns(payload, &self.playing, &mut self.log_names)?,
                ROWS => {
                    let columns = Columns { names: &self.log_names, playing: &mut self.playing };
                    columns.take_rows(&mut self.histories, payload, bytes as u64)?;
                }
                _ => {}
            }
        }
        self.spill.log_sync(1);
        self.spill.log_synced(&mut self.store, 1, true);
        Ok(())
    }

    fn seal(&mut self, wall_ms: i64, reason: SealReason) -> Result<(), String> {
        while let Some(put) = self.spill.seal_next(&self.store, now(wall_ms), reason, &mut self.out) {
            match put {
                Put::Layout(part) => {
                    name_columns(part.bytes, &self.playing, &mut self.stored_names)?;
                    let playing = self.playing.get_mut(part.timeline.0 as usize - 1);
                    let playing = playing.ok_or("a layout of a timeline that was never opened")?;
                    playing.figures.layout_bytes += part.bytes.len() as u64;
                }
                Put::Segment { bytes, .. } => {
                    let columns = Columns { names: &self.stored_names, playing: &mut self.playing };
                    columns.take(&mut self.reader, bytes, Where::Segments)?;
                    let aged = self.ager.age(&mut SliceBytes(bytes), &mut self.aged);
                    let aged = match aged.map_err(|error| error.to_string())? {
                        Aging::Aged { bytes } => &self.aged[..bytes],
                        Aging::AgedBefore | Aging::NotSmaller => bytes,
                    };
                    let columns = Columns { names: &self.stored_names, playing: &mut self.playing };
                    columns.take(&mut self.reader, aged, Where::Aged)?;
                }
                Put::State { .. } | Put::Replace { .. } | Put::DropBefore { .. } => {}
            }
        }
        self.spill.commit(&mut self.store, 1);
        self.spill.committed(&mut self.store, 1, true);
        Ok(())
    }

    /// Compares, packs what is still raw, compares again, and measures what is packed.
    fn finish(mut self) -> Result<Vec<TargetFigures>, String> {
        self.compare_ram("raw and packed rows")?;
        for playing in &self.playing {
            self.store.timeline_release(playing.timeline);
        }
        self.compare_ram("packed rows")?;
        let mut packed_bytes = 0;
        for playing in &mut self.playing {
            let (store, packed) = (&self.store, &mut playing.figures.packed);
            let mut unknown = None;
            store.packed_bytes(playing.timeline, &mut |series, bytes| match series {
                None => packed.shared_bytes += bytes,
                Some(series) => {
                    let mut buf = [0; holdfast_core::limits::LABELS_BYTES_MAX];
                    let labels = store.series_labels(series, &mut buf).map(LabelSet::from).unwrap_or_default();
                    match playing.index.get(&labels) {
                        Some(index) => packed.class(playing.target.series[*index].class).bytes += bytes,
                        None => unknown = Some(labels),
                    }
                }
            });
            if let Some(labels) = unknown {
                return Err(format!("{}: {labels} is packed and was never put", playing.target.name));
            }
            for (series, expected) in playing.target.series.iter().zip(&playing.expected) {
                packed.class(series.class).samples += values_count(expected);
            }
            packed_bytes += packed.all().bytes;
            compare(playing, &playing.found_in_log, "the log")?;
            compare(playing, &playing.found_in_segments, "segments")?;
            compare(playing, &playing.found_in_aged, "aged segments")?;
        }
        let usage = self.store.usage();
        let ring = usage.regions.iter().find(|usage| usage.region == RegionName::Ring).map_or(0, |ring| ring.used);
        let evicted = usage.counters.evicted_rows;
        if evicted > 0 || packed_bytes != ring {
            return Err(format!("{packed_bytes} bytes of chunks were counted, the ring has {ring}; {evicted} evicted"));
        }
        Ok(self.playing.into_iter().map(|playing| playing.figures).collect())
    }

    fn compare_ram(&self, place: &str) -> Result<(), String> {
        for playing in &self.playing {
            let mut found = vec![Samples::new(); playing.expected.len()];
            let mut unknown = None;
            self.store.rows_read(playing.timeline, self.store.rows(playing.timeline), &mut |column| {
                let labels = LabelSet::from(column.labels);
                match playing.index.get(&labels) {
                    Some(index) => extend(&mut found[*index], column.rows, column.t_ms, column.bits),
                    None => unknown = Some(labels),
                }
                unknown.is_none()
            });
            if let Some(labels) = unknown {
                return Err(format!("{}: {labels} came back and was never put", playing.target.name));
            }
            compare(playing, &found, place)?;
        }
        Ok(())
    }
}

fn values_count(samples: &[(u64, i64, u64)]) -> u64 {
    samples.iter().filter(|(_, _, bits)| *bits != STALE_NAN_BITS).count() as u64
}

fn extend(samples: &mut Samples, rows: &[u64], t_ms: &[i64], bits: &[u64]) {
    samples.extend(rows.iter().zip(t_ms).zip(bits).map(|((row, t_ms), bits)| (*row, *t_ms, *bits)));
}

fn compare(playing: &Playing<'_>, found: &[Samples], place: &str) -> Result<(), String> {
    for (index, series) in playing.target.series.iter().enumerate() {
        same_samples(&playing.expected[index], &found[index])
            .map_err(|what| format!("{} from {place}: {what}", series.labels))?;
    }
    Ok(())
}

/// Two runs of samples, to the bit.
pub fn same_samples(expected: &[(u64, i64, u64)], found: &[(u64, i64, u64)]) -> Result<(), String> {
    if let Some((expected, found)) = expected.iter().zip(found).find(|(expected, found)| expected != found) {
        return Err(format!("row, time and bits were {expected:x?} and are {found:x?}"));
    }
    let (expected, found) = (expected.len(), found.len());
    if expected == found { Ok(()) } else { Err(format!("{expected} samples went in and {found} came back")) }
}

/// Adds a layout part's columns.
fn name_columns(part: &[u8], playing: &[Playing<'_>], names: &mut Names) -> Result<(), String> {
    let mut columns = Vec::new();
    let head = layout_part_read(part, &mut |column, _, labels| {
        columns.push((column, LabelSet::from(labels)));
        true
    });
    let head = head.map_err(|error| error.to_string())?;
    let target = (head.timeline.0 as usize).wrapping_sub(1);
    let playing = playing.get(target).ok_or("a layout of a timeline that was never opened")?;
    for (column, labels) in columns {
        // Ages have no labels.
        if let Some(series) = playing.index.get(&labels) {
            names.insert((head.layout, column), (target, *series));
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Segments,
    Aged,
}

/// Where columns belong.
struct Columns<'w, 't> {
    names: &'w Names,
    playing: &'w mut [Playing<'t>],
}

impl Columns<'_, '_> {
    /// Counts a frame of rows of `bytes` in all, and keeps its samples for the comparison.
    fn take_rows(self, histories: &mut Vec<History>, payload: &[u8], bytes: u64) -> Result<(), String> {
        let Self { names, playing } = self;
        let mut reader = RowsReader::new(payload).map_err(|error| error.to_string())?;
        let mut block = Block::default();
        let mut columns_bytes_all = 0;
        let mut first = None;
        while let Some(head) = reader.head().map_err(|error| error.to_string())? {
            let index = histories.iter().position(|history| history.timeline() == head.timeline);
            let index = index.unwrap_or_else(|| {
                histories.push(History::new(head.timeline));
                histories.len() - 1
            });
            let mut columns_bytes = BTreeMap::new();
            let read = reader.read(&head, Some(&histories[index]), &mut block, &mut |column, bytes| {
                columns_bytes.insert(column, bytes as u64);
            });
            read.map_err(|error| error.to_string())?;
            histories[index].keep(&head, &block);
            let target = (head.timeline.0 as usize).wrapping_sub(1);
            first = first.or(Some(target));
            let playing = playing.get_mut(target).ok_or("rows of a timeline that was never opened")?;
            for column in head.columns() {
                let bytes = columns_bytes.remove(&column).unwrap_or(0);
                let Some((_, series)) = names.get(&(head.layout, column)) else { continue };
                let found = &mut playing.found_in_log[*series];
                let before = found.len();
                found.extend(block.samples(&head, column));
                let samples = values_count(&found[before..]);
                let heavy_bytes = if samples > 1 && bytes >= HEAVY_BYTES * samples { bytes } else { 0 };
                let class = playing.target.series[*series].class;
                *playing.figures.log.class(class) += Tally { samples, bytes, heavy_bytes };
                columns_bytes_all += bytes;
            }
        }
        let first = first.and_then(|target| playing.get_mut(target)).ok_or("a frame without rows")?;
        first.figures.log.shared_bytes += bytes - columns_bytes_all;
        Ok(())
    }

    /// Counts a segment, and keeps its samples for the comparison.
    fn take(self, reader: &mut SegmentReader, segment: &[u8], place: Where) -> Result<(), String> {
        let Self { names, playing } = self;
        let head = SegmentReader::head(&mut SliceBytes(segment)).map_err(|error| error.to_string())?;
        let target = (head.timeline.0 as usize).wrapping_sub(1);
        let playing = playing.get_mut(target).ok_or("a segment of a timeline that was never opened")?;
        let (kept, found) = match place {
            Where::Segments => (&mut playing.figures.sealed, &mut playing.found_in_segments),
            Where::Aged => (&mut playing.figures.aged, &mut playing.found_in_aged),
        };
        let classes = |series: usize| playing.target.series[series].class;
        let name = |column| names.get(&(head.layout, column)).map(|(_, series)| *series);
        let mut columns_bytes = BTreeMap::new();
        let mut nobodys = None;
        let counted = reader.column_bytes(&mut SliceBytes(segment), &mut |column, column_bytes| {
            // The place of an age column is a byte that belongs to nobody; in an aged stripe bytes begin in one column and
            // end in another.
            if let Some(series) = name(column) {
                columns_bytes.insert(series, column_bytes as u64);
            } else if column_bytes > 1 && place != Where::Aged {
                nobodys = Some(column);
            }
        });
        counted.map_err(|error| error.to_string())?;
        if let Some(column) = nobodys {
            return Err(format!("column {column} of layout {} has cells and no labels", head.layout));
        }
        kept.shared_bytes += segment.len() as u64 - columns_bytes.values().sum::<u64>();
        let read = reader.columns(&mut SliceBytes(segment), 0..u64::MAX, &mut |column| {
            if let Some(series) = name(column.column) {
                extend(&mut found[series], column.rows, column.t_ms, column.bits);
                let samples = column.bits.iter().filter(|bits| **bits != STALE_NAN_BITS).count() as u64;
                let bytes = columns_bytes.remove(&series).unwrap_or(0);
                let heavy_bytes = if samples > 1 && bytes >= HEAVY_BYTES * samples { bytes } else { 0 };
                *kept.class(classes(series)) += Tally { samples, bytes, heavy_bytes };
            }
            true
        });
        read.map_err(|error| error.to_string())?;
        // Columns without a sample in these rows.
        for (series, bytes) in columns_bytes {
            *kept.class(classes(series)) += Tally { bytes, ..Tally::default() };
        }
        Ok(())
    }
}
