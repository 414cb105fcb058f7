//! A stored directory with its slab, and what is left of it after a bit was flipped.

use crate::pages;
use holdfast::disk::{Disk, DiskSettings, flash::Flash, for_start::ForStart};
use holdfast_core::{
    daemon::{Settings, output::OUTPUT_BYTES_MAX, start},
    labels::{LabelSet, LabelsRef},
    ledger::{LEDGER_KEYS, Ledger, Reason},
    prng::Prng,
    spill::{SealReason, SegmentReader, Spill, layout_part_read},
    store::{Missing, Plan, Store, TimelineKey},
    time::Now,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::Path,
};

const BOOT: [u8; 16] = [3; 16];
const START_MS: i64 = 1_790_000_000_000;
const TIMELINES: u64 = 3;
const ROWS: u64 = 170;
/// Newest rows of a timeline that lie raw in the slab.
const RAW_ROWS_MAX: u64 = 16;
const FILES: [&str; 3] = ["holdfast.db", "tail-0.log", "tail-1.log"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlipFile {
    Database,
    Log(usize),
    Slab,
}

#[derive(Clone, Copy, Debug)]
pub struct Flip {
    pub file: FlipFile,
    pub at: usize,
    pub bit: u8,
}

/// What a flip came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Everything is there, and nothing was said.
    Nothing,
    /// Everything is there, and something was set aside.
    ToldOnly,
    /// Samples of one segment, or of one layout, or of the log's rows of one timeline.
    Unit,
    /// The database was set aside.
    Database,
}

/// Timeline, hash of the series' labels, and time.
type Key = (u64, u64, i64);
type Samples = BTreeMap<Key, u64>;

pub struct Stored {
    files: [Vec<u8>; 3],
    slab: Vec<u8>,
    plan: Plan,
    model: Samples,
    /// Samples that are in the database.
    sealed: BTreeSet<Key>,
}

fn settings(path: &Path) -> DiskSettings {
    DiskSettings { path: path.to_path_buf(), quota_bytes: 16 << 20, log_bytes: 64 * 1024, heap_bytes_max: 4 << 20 }
}

fn now(row: u64) -> Now {
    Now { mono_ms: 1_000 + row * 1_000, wall_ms: START_MS + row as i64 * 1_000 }
}

fn labels(timeline: u64, series: u64) -> LabelSet {
    let (name, job) = (format!("metric_{series}"), format!("job{timeline}"));
    LabelSet::from_pairs([("__name__", name.as_str()), ("job", job.as_str())])
}

/// What a start gives, with its reading.
struct Left {
    samples: Samples,
    /// What was told: by the ledger, by the disk, or when it was read.
    told: Vec<String>,
    database_aside: bool,
}

impl Stored {
    /// Rows of several timelines, a layout that grows, a database with segments, both logs in use, and a slab.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let plan = Plan::for_series(256 << 10, 200).expect("a plan");
        let mut slab = vec![0; plan.slab_bytes()];
        let mut model = Samples::new();
        let mut disk = Flash::open(&settings(directory.path())).expect("opened");
        let uuid = disk.store_uuid();
        let given = start::SlabGiven { bytes: &mut slab, is_predecessors: false, retired: None };
        let opened =
            start::open_store(given, &plan, uuid, BOOT, &mut ForStart(&mut disk), &Settings::default(), now(0));
        let start::Opened { mut store, mut spill, .. } = opened.expect("a fresh store");
        let mut prng = Prng::new(5);
        let mut out = vec![0; OUTPUT_BYTES_MAX];
        for row in 0..ROWS {
            for timeline in 0..TIMELINES {
                let id = store.timeline_open(TimelineKey(timeline + 1)).expect("room");
                store.row_begin(id, now(row).wall_ms).expect("at rest");
                for series in 0..6 + row / 60 {
                    let value = (row * (series + 1)) as f64 + prng.below(5) as f64 * 0.25;
                    let labels = labels(timeline, series);
                    store.row_put(id, labels.as_ref(), value.to_bits(), None).expect("room");
                    model.insert((timeline + 1, labels.as_ref().stable_hash(), now(row).wall_ms), value.to_bits());
                }
                store.row_commit(id, Missing::Stale);
            }
            if row % 10 == 9 {
                store.state_put("rules", format!("row {row}").as_bytes()).expect("room");
                flush(&mut disk, &mut spill, &mut store, &mut out);
            }
            if row % 55 == 0 {
                seal(&mut disk, &mut spill, &mut store, now(row), SealReason::Checkpoint, &mut out).expect("stored");
            }
        }
        flush(&mut disk, &mut spill, &mut store, &mut out);
        let mut sealed = Samples::new();
        stored_samples(&mut disk, &mut sealed, &mut Vec::new());
        drop(disk);
        let files = FILES.map(|name| fs::read(directory.path().join(name)).expect("readable"));
        let sealed = sealed.into_keys().collect();
        let stored = Self { files, slab, plan, model, sealed };
        let whole = stored.left(&stored.files.clone(), None, false).expect("starts");
        assert!(whole.samples == stored.model && whole.told.is_empty(), "from the disk: {:?}", whole.told);
        let whole = stored.left(&stored.files.clone(), Some(stored.slab.clone()), false).expect("starts");
        assert!(whole.samples == stored.model && whole.told.is_empty(), "from the slab: {:?}", whole.told);
        stored
    }

    fn file(&self, file: FlipFile) -> &[u8] {
        match file {
            FlipFile::Database => &self.files[0],
            FlipFile::Log(index) => &self.files[1 + index],
            FlipFile::Slab => &self.slab,
        }
    }

    /// Each file as often as another, so that small ones are not passed over; in logs only where something is written. The
    /// log that is not in use is empty.
    pub fn random_flip(&self, prng: &mut Prng) -> Flip {
        let mut files =
            vec![FlipFile::Database, FlipFile::Database, FlipFile::Log(0), FlipFile::Log(1), FlipFile::Slab];
        files.retain(|file| !self.file(*file).is_empty());
        let file = files[prng.below(files.len() as u64) as usize];
        let bytes = self.file(file);
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        Flip { file, at: prng.below(end as u64) as usize, bit: prng.below(8) as u8 }
    }

    /// Every bit of what has no checksum of ours in the database, and of what is written in the logs.
    pub fn unchecked_bits(&self) -> Vec<Flip> {
        let mut bytes: Vec<(FlipFile, usize)> =
            pages::unchecked_bytes(&self.files[0]).into_iter().map(|at| (FlipFile::Database, at)).collect();
        for file in [FlipFile::Log(0), FlipFile::Log(1)] {
            let end = self.file(file).iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes.extend((0..end).map(|at| (file, at)));
        }
        bytes.into_iter().flat_map(|(file, at)| (0..8).map(move |bit| Flip { file, at, bit })).collect()
    }

    /// The lowest bit of each number in an entry from the middle of a b-tree: of the number's own bytes, or, where it has
    /// none, of its type.
    pub fn number_flips(&self, name: &str) -> Vec<Flip> {
        let trees = pages::trees(&self.files[0]);
        let tree = trees.iter().find(|tree| tree.name == name).expect("in the schema");
        let records: Vec<&pages::Record> =
            tree.pages.iter().flat_map(|page| &page.cells).filter_map(|cell| cell.record.as_ref()).collect();
        let values = &records[records.len() / 2].values;
        let place = |(kind, value): &(Range<usize>, Range<usize>)| value.clone().next_back().unwrap_or(kind.start);
        // The row's own number is in its record as nothing.
        let is_number =
            |(kind, value): &&(Range<usize>, Range<usize>)| value.len() <= 8 && self.files[0][kind.start] != 0;
        let numbers = values.iter().filter(is_number);
        numbers.map(|value| Flip { file: FlipFile::Database, at: place(value), bit: 0 }).collect()
    }

    /// The lowest bit of each field in the header of the log's last frame: docs/SPILL_FORMAT.md, "The tail log".
    pub fn last_frame_flips(&self) -> Vec<Flip> {
        let heads = |file: FlipFile| {
            let bytes = self.file(file);
            let at = bytes.windows(4).enumerate().filter(|(_, magic)| *magic == b"HFLG").map(|(at, _)| at);
            // Magics in payloads are none: the generation is the newest log's.
            at.filter_map(|at| {
                let generation = bytes.get(at + 8..at + 16)?.try_into().map(u64::from_le_bytes).ok()?;
                Some((generation, at, file))
            })
            .collect::<Vec<_>>()
        };
        let found = [FlipFile::Log(0), FlipFile::Log(1)].into_iter().flat_map(heads);
        let (_, at, file) = found.max_by_key(|(generation, at, _)| (*generation, *at)).expect("a log");
        [0, 4, 6, 7, 8, 16, 20, 24, 28].map(|field| Flip { file, at: at + field, bit: 0 }).to_vec()
    }

    /// Starts with the flipped bit, with the slab and after a power cut, and holds what is left to the promise.
    pub fn try_flip(&self, flip: Flip) -> Result<Outcome, String> {
        let (mut files, mut slab) = (self.files.clone(), self.slab.clone());
        match flip.file {
            FlipFile::Database => files[0][flip.at] ^= 1 << flip.bit,
            FlipFile::Log(index) => files[1 + index][flip.at] ^= 1 << flip.bit,
            FlipFile::Slab => slab[flip.at] ^= 1 << flip.bit,
        }
        let with_slab = self.judge(flip, &self.left(&files, Some(slab), true)?, true)?;
        if flip.file == FlipFile::Slab {
            return Ok(with_slab);
        }
        let without = self.judge(flip, &self.left(&files, None, true)?, false)?;
        Ok(with_slab.max(without))
    }

    fn judge(&self, flip: Flip, left: &Left, has_slab: bool) -> Result<Outcome, String> {
        if flip.file == FlipFile::Slab {
            return self.judge_slab(left);
        }
        let wrong = left.samples.iter().find(|(key, bits)| self.model.get(*key) != Some(*bits));
        if let Some((key, bits)) = wrong {
            return Err(format!("{key:?} is {bits:x} and was never so (slab: {has_slab})"));
        }
        let missing: Vec<&Key> = self.model.keys().filter(|key| !left.samples.contains_key(*key)).collect();
        if missing.is_empty() {
            return Ok(if left.told.is_empty() { Outcome::Nothing } else { Outcome::ToldOnly });
        }
        if left.told.is_empty() {
            let timelines: BTreeSet<u64> = missing.iter().map(|key| key.0).collect();
            return Err(format!(
                "{} samples of timelines {timelines:?} are missing, and nobody was told (slab: {has_slab}); the first is {:?}",
                missing.len(),
                missing[0]
            ));
        }
        if left.database_aside {
            // What memory or the logs have came back.
            // The log's rows need the layouts that were in it: without a slab they go too.
            let stored_only = !has_slab || missing.iter().all(|key| self.sealed.contains(*key));
            return if stored_only {
                Ok(Outcome::Database)
            } else {
                Err(format!("more than the database: {:?}", left.told))
            };
        }
        let timelines: BTreeSet<u64> = missing.iter().map(|key| key.0).collect();
        let is_sealed: BTreeSet<bool> = missing.iter().map(|key| self.sealed.contains(*key)).collect();
        let confined = match flip.file {
            // A layout has the names of the log's rows as well.
            FlipFile::Database => timelines.len() == 1,
            // A frame has rows of several timelines.
            FlipFile::Log(_) => is_sealed == BTreeSet::from([false]),
            FlipFile::Slab => unreachable!("judged above"),
        };
        if confined {
            return Ok(Outcome::Unit);
        }
        Err(format!("{} samples of {timelines:?} are missing (sealed {is_sealed:?}): {:?}", missing.len(), left.told))
    }

    /// The slab is memory, not a medium: packed rows, states and the plan have checksums, the newest rows and the labels have
    /// none. It must start, and a packed sample must be one of its timeline's at its time.
    fn judge_slab(&self, left: &Left) -> Result<Outcome, String> {
        let packed_until_ms = now(ROWS - RAW_ROWS_MAX).wall_ms;
        let is_anothers = |(timeline, _, t_ms): Key, bits: u64| {
            let others = self.model.iter().filter(|((of, _, at), _)| (*of, *at) == (timeline, t_ms));
            others.into_iter().any(|(_, found)| *found == bits)
        };
        let wrong = left.samples.iter().find(|(key, bits)| {
            key.2 < packed_until_ms
                && self.model.get(*key).is_some_and(|expected| expected != *bits)
                && !is_anothers(**key, **bits)
        });
        match wrong {
            Some((key, bits)) => Err(format!("{key:?} is {bits:x} in a packed row and was never so")),
            None if left.told.is_empty() => Ok(Outcome::Nothing),
            None => Ok(Outcome::ToldOnly),
        }
    }

    /// Starts on a copy and reads all there is. An error: it does not start.
    fn left(&self, files: &[Vec<u8>; 3], slab: Option<Vec<u8>>, writes: bool) -> Result<Left, String> {
        let directory = tempfile::tempdir_in("/dev/shm").map_err(|error| error.to_string())?;
        for (name, bytes) in FILES.into_iter().zip(files) {
            fs::write(directory.path().join(name), bytes).map_err(|error| error.to_string())?;
        }
        let mut disk = Flash::open(&settings(directory.path())).map_err(|error| format!("does not start: {error}"))?;
        let is_predecessors = slab.is_some();
        let mut bytes = slab.unwrap_or_else(|| vec![0; self.plan.slab_bytes()]);
        let uuid = disk.store_uuid();
        let given = start::SlabGiven { bytes: &mut bytes, is_predecessors, retired: None };
        let at = now(ROWS);
        let opened =
            start::open_store(given, &self.plan, uuid, BOOT, &mut ForStart(&mut disk), &Settings::default(), at);
        let start::Opened { mut store, mut spill, notices, .. } =
            opened.map_err(|error| format!("does not start: {error}"))?;
        let mut told = notices;
        let mut database_aside = false;
        let mut take_losses = |disk: &mut Flash, told: &mut Vec<String>, spill: &mut Spill, store: &mut Store<'_>| {
            while let Some(loss) = disk.take_loss() {
                if loss.reason == Reason::DatabaseSetAside {
                    database_aside = true;
                    spill.database_replaced(store);
                }
                told.push(format!("{loss:?}"));
            }
        };
        take_losses(&mut disk, &mut told, &mut spill, &mut store);
        if writes {
            // The first flush: a checkpoint. One that meets damage fails, and the next one works.
            let mut out = vec![0; OUTPUT_BYTES_MAX];
            let mut stored = Err(String::new());
            for _ in 0..3 {
                stored = seal(&mut disk, &mut spill, &mut store, at, SealReason::Checkpoint, &mut out);
                disk.usage();
                take_losses(&mut disk, &mut told, &mut spill, &mut store);
                if stored.is_ok() {
                    break;
                }
            }
            stored.map_err(|error| format!("the first checkpoint fails for ever: {error}"))?;
        }
        let mut samples = Samples::new();
        let before = told.len();
        stored_samples(&mut disk, &mut samples, &mut told);
        if told.len() > before {
            // Damage that SQLite meets at a read: the next call sets the database aside.
            disk.usage();
            take_losses(&mut disk, &mut told, &mut spill, &mut store);
        }
        for timeline in store.timelines() {
            let key = store.timeline_key(timeline).0;
            store.rows_read(timeline, store.rows(timeline), &mut |column| {
                for (t_ms, bits) in column.t_ms.iter().zip(column.bits) {
                    samples.insert((key, column.labels.stable_hash(), *t_ms), *bits);
                }
                true
            });
        }
        let mut ledger = Ledger::default();
        for (page, key) in LEDGER_KEYS.into_iter().enumerate() {
            if let Some(bytes) = store.state_get(key) {
                ledger.restore(page, bytes).map_err(|error| error.to_string())?;
            }
        }
        let in_ledger: u64 = Reason::all().map(|reason| ledger.events(reason)).sum();
        told.extend((in_ledger > 0).then(|| format!("{in_ledger} losses in the ledger")));
        Ok(Left { samples, told, database_aside })
    }
}

fn flush(disk: &mut Flash, spill: &mut Spill, store: &mut Store<'_>, out: &mut [u8]) {
    let Some(generation) = spill.log_generation() else { return };
    while let Some(length) = spill.frame_next(store, out) {
        disk.log_append(generation, &out[..length]);
    }
    spill.log_sync(1);
    let is_synced = disk.log_sync().is_ok();
    spill.log_synced(store, 1, is_synced);
}

fn seal(
    disk: &mut Flash,
    spill: &mut Spill,
    store: &mut Store<'_>,
    now: Now,
    reason: SealReason,
    out: &mut [u8],
) -> Result<(), String> {
    while let Some(put) = spill.seal_next(store, now, reason, out) {
        disk.put(put);
    }
    spill.commit(store, 1);
    let stored = disk.commit();
    spill.committed(store, 1, stored.is_ok());
    stored
}

/// Every sample of the database; what cannot be read is told.
fn stored_samples(disk: &mut Flash, samples: &mut Samples, told: &mut Vec<String>) {
    let mut timelines = Vec::new();
    let visited = disk.stored().timelines(&mut |key, _| {
        timelines.push(key);
        true
    });
    told.extend(visited.err().map(|error| error.to_string()));
    let mut reader = SegmentReader::default();
    for key in timelines {
        let mut found = Vec::new();
        let visited = disk.stored().rows(key, 0, &mut |meta, bytes| {
            let mut columns = Vec::new();
            let read = reader.columns(bytes, 0..u64::MAX, &mut |column| {
                let samples: Vec<(i64, u64)> = column.t_ms.iter().copied().zip(column.bits.iter().copied()).collect();
                columns.push((column.column, samples));
                true
            });
            told.extend(read.err().map(|error| format!("segment {}: {error}", meta.sequence)));
            found.push((meta.layout, columns));
            true
        });
        told.extend(visited.err().map(|error| error.to_string()));
        for (layout, columns) in found {
            let mut names: BTreeMap<u32, u64> = BTreeMap::new();
            let visited = disk.stored().layout(layout, &mut |part| {
                let read = layout_part_read(part.bytes, &mut |column, _, labels: LabelsRef<'_>| {
                    names.insert(column, labels.stable_hash());
                    true
                });
                told.extend(read.err().map(|error| format!("layout {layout}: {error}")));
                true
            });
            told.extend(visited.err().map(|error| error.to_string()));
            for (column, cells) in columns {
                match names.get(&column) {
                    Some(labels) => {
                        samples.extend(cells.into_iter().map(|(t_ms, bits)| ((key.0, *labels, t_ms), bits)))
                    }
                    None => told.push(format!("layout {layout} has no column {column}")),
                }
            }
        }
    }
}
