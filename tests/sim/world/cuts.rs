//! A power cut at every write and every sync of ten minutes: whatever the medium has by then, the next process starts,
//! has every scrape that is older than a flush interval, each whole or not at all, and nothing that was never served.
//!
//! The disk is copied after each thing the daemon asks of it, and the copies are cut: with nothing that was not synced,
//! with all of it, and with some of its sectors whole, torn or missing. From each the store is recovered and read.

use super::{
    Scale, World,
    configured::{self, FLUSH_INTERVAL_MS},
    faults::SYNC_MS_MAX,
};
use crate::{
    fake_stored::FakeDisk,
    model::{Outcome, Row},
    network::{self, ExporterMode, SOURCES},
};
use holdfast::disk::{Disk, for_start::ForStart};
use holdfast_core::{
    daemon::{Settings, start},
    labels::LabelsRef,
    prng::{self, Prng},
    spill::{SegmentReader, SliceBytes, layout_part_read},
    store::{
        Plan, STALE_NAN_BITS, Store,
        stored::{SegmentMeta, Stored},
    },
};
use std::collections::{BTreeMap, HashMap};

/// Samples of scrapes and of `up`, by a hash of the series and the instant: the source, and the value's bits.
type Found = HashMap<(u64, i64), (usize, u64)>;

pub struct Cuts {
    settings: Settings,
    plan: Plan,
    slab: Vec<u8>,
    prng: Prng,
    /// How often unsynced sectors are drawn, at each write.
    tears: u64,
    /// What is in each segment, by a hash of its bytes: they are read once.
    segments: HashMap<u64, Found>,
    /// By what was asked of the disk.
    pub places: BTreeMap<&'static str, u64>,
    pub recoveries: u64,
    /// The age of the oldest scrape that was lost, by the time that processes had run.
    pub lost_ms_max: u64,
}

impl World {
    /// Ten minutes, with a kill, a power cut, an orderly stop and an exporter that fails.
    pub fn ten_minutes_with_cuts(seed: u64, tears: u64) -> Cuts {
        // A ring so small that segments are sealed every minute and not only when a process starts.
        let scale = Scale { interval_ms: 4_000, ring_bytes: Some(2_560), ..Self::short(seed) };
        let mut world = Self::new(seed, scale);
        let plan = configured::plan(&scale);
        world.cuts = Some(Cuts {
            settings: configured::settings(&scale, &[true; SOURCES]),
            plan,
            slab: vec![0; plan.slab_bytes()],
            prng: Prng::new(seed),
            tears,
            segments: HashMap::new(),
            places: BTreeMap::new(),
            recoveries: 0,
            lost_ms_max: 0,
        });
        world.start();
        let minutes = |world: &mut Self, count: u64| world.run_until(world.now.mono_ms + count * 60_000);
        minutes(&mut world, 2);
        world.kill();
        minutes(&mut world, 1);
        world.exporters[1].0 = ExporterMode::CutOff;
        minutes(&mut world, 1);
        world.exporters[1].0 = ExporterMode::Fine;
        minutes(&mut world, 2);
        world.cut_power();
        minutes(&mut world, 2);
        world.stop();
        minutes(&mut world, 2);
        let _ = world.daemon.take().map(holdfast_core::daemon::Daemon::into_slab);
        world.cuts.take().unwrap_or_else(|| unreachable!("set above"))
    }

    /// The power could go now.
    pub(super) fn cut_here(&mut self, what: &'static str) {
        let Some(mut cuts) = self.cuts.take() else { return };
        *cuts.places.entry(what).or_default() += 1;
        let variants = if self.disk.has_unsynced() { 2 + cuts.tears } else { 1 };
        for variant in 0..variants {
            let mut disk = self.disk.clone();
            match variant {
                0 => disk.cut_power(0),
                1 => disk.kill(),
                _ => disk.tear(&mut cuts.prng),
            }
            let found = cuts.recover(self, &mut disk, what);
            self.check_cut(&mut cuts, &found, what);
        }
        self.cuts = Some(cuts);
    }

    fn check_cut(&self, cuts: &mut Cuts, found: &Found, what: &str) {
        let seed = self.seed;
        let mut rows: BTreeMap<(usize, i64), (usize, u64)> = BTreeMap::new();
        for ((series, t_ms), (source, bits)) in found {
            let row = rows.entry((*source, *t_ms)).or_default();
            row.0 += 1;
            row.1 = row.1.wrapping_add(digest(*series, *bits));
        }
        for ((source, t_ms), row) in &rows {
            let scraped = self.model.rows_at(*source, *t_ms).any(|served| expected(served) == *row);
            assert!(
                scraped,
                "seed {seed}, cut after {what}: {row:?} of {source} at {t_ms} is no scrape that was stored"
            );
        }
        let durable_up_ms = self.up_ms.saturating_sub(FLUSH_INTERVAL_MS + SYNC_MS_MAX);
        for (index, row) in self.model.rows.iter().enumerate() {
            if row.outcome == Outcome::Gone || row.may_be_lost || rows.contains_key(&(row.source, row.t_ms)) {
                continue;
            }
            let is_new = !self.model.is_durable(index) && row.up_ms >= durable_up_ms;
            assert!(is_new, "seed {seed}, cut after {what} at {}: {row:?} is lost", self.up_ms);
            cuts.lost_ms_max = cuts.lost_ms_max.max(self.up_ms - row.up_ms);
        }
    }
}

/// How many samples a stored row has, and their digest.
fn expected(row: &Row) -> (usize, u64) {
    let up = |up: f64| digest(up_hash(row.source), up.to_bits());
    match row.outcome {
        Outcome::Page(page) => {
            let series = network::series_of(row.source, page)
                .map(|(_, series)| digest(series_hash(series), network::value_of(series, page).to_bits()));
            series.fold((1, up(1.0)), |(count, sum), digest| (count + 1, sum.wrapping_add(digest)))
        }
        Outcome::Failed => (1, up(0.0)),
        Outcome::Gone => (0, 0),
    }
}

fn digest(series: u64, bits: u64) -> u64 {
    prng::mix(series ^ prng::mix(bits))
}

fn series_hash(name: &str) -> u64 {
    prng::stable_hash(name.as_bytes())
}

fn up_hash(source: usize) -> u64 {
    prng::mix(source as u64)
}

/// Which of the series looked at this is, and whose.
fn series_of(labels: LabelsRef<'_>) -> Option<(u64, usize)> {
    let name = labels.get("__name__")?;
    if name == "up" {
        let source = (0..SOURCES).find(|source| labels.get("instance") == Some(&network::instance_of(*source)))?;
        return Some((up_hash(source), source));
    }
    network::place_of(name).map(|(source, _)| (series_hash(name), source))
}

fn add(found: &mut Found, series: (u64, usize), t_ms: i64, bits: u64) {
    if bits == STALE_NAN_BITS {
        return;
    }
    let before = found.insert((series.0, t_ms), (series.1, bits));
    assert!(before.is_none_or(|before| before.1 == bits), "two values of one series at {t_ms}");
}

impl Cuts {
    /// Starts as the daemon does, and gives all there is.
    fn recover(&mut self, world: &World, disk: &mut FakeDisk, what: &str) -> Found {
        self.recoveries += 1;
        let uuid = disk.store_uuid();
        let slab = start::SlabGiven { bytes: &mut self.slab, is_predecessors: false, retired: None };
        let boot_id = [self.recoveries as u8; 16];
        let opened = start::open_store(slab, &self.plan, uuid, boot_id, &mut ForStart(disk), &self.settings, world.now);
        let start::Opened { store, start: how, .. } =
            opened.unwrap_or_else(|error| panic!("seed {}, cut after {what}: {error}", world.seed));
        let start::Start::Recovered { recovered, .. } = &how else { panic!("there was no slab: {how:?}") };
        let replay = &recovered.replay;
        // Rows of which some frames were not synced are lost, and looked for by who calls this.
        let refused = (replay.rows_refused, replay.samples_refused, replay.frames_foreign, replay.frames_unreadable);
        assert_eq!(refused, (0, 0, 0, 0), "seed {}, cut after {what}: {how:?}", world.seed);
        let mut found = Found::new();
        rows_of(&store, &mut found);
        self.segments_of(disk.stored(), &mut found);
        found
    }

    fn segments_of(&mut self, stored: &mut dyn Stored, found: &mut Found) {
        let mut keys = Vec::new();
        let told = stored.timelines(&mut |key, _| {
            keys.push(key);
            true
        });
        told.expect("the fake disk answers");
        let mut segments: Vec<(SegmentMeta, Vec<u8>)> = Vec::new();
        for key in keys {
            let visited = stored.rows(key, 0, &mut |meta, bytes| {
                let mut copy = vec![0; bytes.len()];
                bytes.read_at(0, &mut copy).expect("the fake disk answers");
                segments.push((*meta, copy));
                true
            });
            visited.expect("the fake disk answers");
        }
        for (meta, bytes) in segments {
            let hash = prng::stable_hash(&bytes);
            let samples = self.segments.entry(hash).or_insert_with(|| segment_of(stored, &meta, &bytes));
            for ((series, t_ms), (source, bits)) in samples {
                add(found, (*series, *source), *t_ms, *bits);
            }
        }
    }
}

fn rows_of(store: &Store<'_>, found: &mut Found) {
    for timeline in store.timelines() {
        store.rows_read(timeline, store.rows(timeline), &mut |column| {
            if let Some(series) = series_of(column.labels) {
                for (t_ms, bits) in column.t_ms.iter().zip(column.bits) {
                    add(found, series, *t_ms, *bits);
                }
            }
            true
        });
    }
}

fn segment_of(stored: &mut dyn Stored, meta: &SegmentMeta, bytes: &[u8]) -> Found {
    let mut names = HashMap::new();
    let read = stored.layout(meta.layout, &mut |part| {
        let read = layout_part_read(part.bytes, &mut |column, _, labels| {
            names.insert(column, series_of(labels));
            true
        });
        read.expect("a layout part that was committed");
        true
    });
    read.expect("the fake disk answers");
    let mut found = Found::new();
    let read = SegmentReader::default().columns(&mut SliceBytes(bytes), 0..u64::MAX, &mut |samples| {
        if let Some(series) = names[&samples.column] {
            for (t_ms, bits) in samples.t_ms.iter().zip(samples.bits) {
                add(&mut found, series, *t_ms, *bits);
            }
        }
        true
    });
    read.expect("a segment that was committed");
    found
}
