//! The slab's header; a new store; and how a successor goes on with its predecessor's.
//!
//! Authoritative are: the header's ring head and tail, chunks between them, timelines' numbers and layouts, layouts'
//! columns, the series and texts those name, raw cells of committed rows, and state slots. Everything else (indexes, free
//! lists, counts, links between chunks) is made anew here, so a predecessor may have ended between any two writes, in
//! attach too. Three steps may be half done and are finished: handing raw rows to the ring, releasing a timeline, and
//! moving its row number on.

use super::{
    AttachError, AttachReport, Counter, Counters, Identity, Refused, RegionName, RegionUsage, Store, StoreError,
    TimelineId, Usage,
    heap::Heap,
    pools::{Pool, Pools},
    sizes,
    slab::{Checksum, Map, NOWHERE, Slab},
};
use crate::{
    limits::STRIKES_COUNT_MAX,
    memory::{PLAN_NUMBERS_COUNT, Plan},
    prng::{mix, stable_hash},
};

const MAGIC: u64 = u64::from_le_bytes(*b"Holdfast");
/// Goes up with every change of what the slab's bytes mean. Another version is not read: it is spilled at stop.
const VERSION: u32 = 3;

const VERSION_AT: usize = 8;
const PLAN_CHECKSUM: usize = 12;
const STORE_UUID: usize = 16;
const BOOT_ID: usize = 32;
const LOG_GENERATION: usize = 48;
const LAYOUT_NEXT: usize = 56;
const RING_HEAD: usize = 64;
const RING_TAIL: usize = 72;
/// First never used record of each [`Pool`].
pub(super) const FRESH: usize = 80;
/// Where the slab's strikes are counted, 32 bits little-endian: what [`STRIKES_COUNT_MAX`] bounds. Zero after
/// [`Store::set_healthy`].
pub const STRIKES_AT: usize = 100;
const COUNTERS: usize = 104;
/// The plan's numbers, at the header's end.
const PLAN: usize = sizes::HEADER_BYTES - 4 * PLAN_NUMBERS_COUNT;
const _: () = assert!(FRESH + 4 * Pool::ALL.len() <= STRIKES_AT);
const _: () = assert!(COUNTERS + 8 * Counter::COUNT <= PLAN);

impl<'m> Store<'m> {
    pub fn plan(&self) -> &Plan {
        &self.map.plan
    }

    /// A key for hashes that last as long as the process: strangers do not know it.
    #[cfg(feature = "alloc")]
    pub(crate) fn seed_of_process(&self) -> u64 {
        mix(self.hash_seed)
    }

    /// Makes an empty store in the slab; what was in it is gone.
    ///
    /// # Errors
    ///
    /// A slab shorter than the plan.
    pub fn create(slab: &'m mut [u8], plan: &Plan, identity: Identity) -> Result<Self, StoreError> {
        let map = Map::new(plan);
        if slab.len() < map.bytes {
            return Err(StoreError::SlabTooSmall { bytes: slab.len(), needed_bytes: map.bytes });
        }
        let mut store = Self::over(slab, map, &identity);
        store.slab.fill(0..sizes::HEADER_BYTES, 0);
        store.slab.put_u32(VERSION_AT, VERSION);
        store.slab.put_u32(PLAN_CHECKSUM, plan_checksum(plan));
        for (index, number) in plan.numbers().into_iter().enumerate() {
            store.slab.put_u32(PLAN + 4 * index, number);
        }
        store.slab.put_bytes(STORE_UUID, &identity.store_uuid);
        store.slab.put_bytes(BOOT_ID, &identity.boot_id);
        store.slab.put_u64(LOG_GENERATION, identity.log_generation);
        store.slab.put_u64(LAYOUT_NEXT, 1);
        for pool in Pool::ALL {
            store.pool_set_fresh(pool, 0);
        }
        for table in map.tables() {
            store.slab.fill(table, 0xff);
        }
        store.heap_clear();
        for timeline in 0..plan.timelines_count {
            let at = map.timeline(timeline);
            store.slab.fill(at..at + sizes::TIMELINE_BYTES, 0);
        }
        store.state_clear();
        store.slab.publish_u64(0, MAGIC);
        Ok(store)
    }

    /// Goes on with a predecessor's slab, however it ended. On an error the slab comes back.
    ///
    /// # Errors
    ///
    /// A slab that is not this store's, or is damaged: start from flash then.
    pub fn attach(
        slab: &'m mut [u8],
        plan: &Plan,
        identity: &Identity,
    ) -> Result<(Self, AttachReport), (AttachError, &'m mut [u8])> {
        let map = Map::new(plan);
        if slab.len() < map.bytes {
            return Err((AttachError::SlabTooSmall { bytes: slab.len(), needed_bytes: map.bytes }, slab));
        }
        let mut store = Self::over(slab, map, identity);
        let found = store.check_header(plan, identity).and_then(|()| {
            // Counted before anything else is tried: this may be what ends the process each time.
            let strikes = store.slab.u32(STRIKES_AT);
            if strikes >= STRIKES_COUNT_MAX {
                return Err(AttachError::NeverHealthy { strikes });
            }
            store.slab.publish_u32(STRIKES_AT, strikes + 1);
            store.restore()
        });
        match found {
            Ok(report) => Ok((store, report)),
            Err(error) => Err((error, store.slab.into_bytes())),
        }
    }

    pub(super) fn over(slab: &'m mut [u8], map: Map, identity: &Identity) -> Self {
        Self {
            slab: Slab::new(slab),
            map,
            pools: Pools::EMPTY,
            heap: Heap::EMPTY,
            pressure: false,
            reclaimed_all: false,
            state_sequence: 0,
            hash_seed: mix(stable_hash(&identity.store_uuid) ^ stable_hash(&identity.boot_id)),
        }
    }

    fn check_header(&self, plan: &Plan, identity: &Identity) -> Result<(), AttachError> {
        if self.slab.u64(0) != MAGIC {
            return Err(AttachError::NoStore);
        }
        let found = self.slab.u32(VERSION_AT);
        if found != VERSION {
            return Err(AttachError::OtherVersion { found, expected: VERSION });
        }
        if self.slab.u32(PLAN_CHECKSUM) != plan_checksum(plan) {
            return Err(AttachError::OtherPlan);
        }
        if self.slab.bytes(STORE_UUID, 16) != identity.store_uuid {
            return Err(AttachError::OtherStore);
        }
        if self.slab.bytes(BOOT_ID, 16) != identity.boot_id {
            return Err(AttachError::OtherBoot);
        }
        let (found, expected) = (self.log_generation(), identity.log_generation);
        if found != expected && found.checked_sub(1) != Some(expected) {
            return Err(AttachError::OtherGeneration { found, expected });
        }
        Ok(())
    }

    pub(super) fn restore(&mut self) -> Result<AttachReport, AttachError> {
        let damaged = |what, index| AttachError::Damaged { what, index };
        for pool in Pool::ALL {
            if self.pool_fresh(pool) > pool.total(&self.map) {
                return Err(damaged("pool", pool as u64));
            }
        }
        let rows_unfinished = self.timelines_forget_chunks();
        self.layouts_forget_chunks();
        self.series_forget_columns();
        for table in self.map.tables() {
            self.slab.fill(table, 0xff);
        }
        for timeline in 0..self.map.plan.timelines_count {
            if self.timeline_used(timeline) {
                self.timeline_check(timeline).ok_or(damaged("timeline", timeline.into()))?;
            }
        }
        let ring = self.ring_restore().map_err(|position| damaged("chunk at", position))?;
        self.layouts_restore().map_err(|layout| damaged("layout", layout.into()))?;
        self.series_restore().map_err(|series| damaged("series", series.into()))?;
        self.state_restore().map_err(|slot| damaged("state slot", slot))?;

        let mut report = AttachReport { rows_unfinished, rows: ring.rows, samples: ring.samples, ..Default::default() };
        for timeline in 0..self.map.plan.timelines_count {
            if !self.timeline_used(timeline) {
                continue;
            }
            let newest = self.chunk_newest(timeline);
            if newest != NOWHERE && self.chunk(newest).row_range().end > self.row_first(timeline) {
                self.chunk_finish(timeline);
            }
            if self.timeline_released(timeline) {
                let rows = self.rows_open(timeline) as u64;
                self.timeline_release(TimelineId(timeline));
                report.rows += rows;
            } else {
                report.rows += self.rows_open(timeline) as u64;
                report.samples += self.raw_samples(timeline);
            }
            report.timelines += u32::from(self.timeline_used(timeline));
        }
        report.series = self.pool_used(Pool::Series);
        Ok(report)
    }

    fn raw_samples(&self, timeline: u32) -> u64 {
        let (layout, rows) = (self.timeline_layout(timeline), self.rows_open(timeline));
        let mut samples = 0;
        for index in 0..self.layout_columns(layout) {
            let column = self.layout_column_at(layout, index).expect("the index is below the layout's columns");
            if self.column_kind(column) == super::ColumnKind::Float {
                let cells = self.raw_cells(column, rows);
                samples += cells.presence[..rows].iter().filter(|state| **state != super::Presence::Absent).count();
            }
        }
        samples as u64
    }

    /// Gives the slab back as it is, for a successor to attach to.
    pub fn into_slab(self) -> &'m mut [u8] {
        self.slab.into_bytes()
    }

    /// All of the slab has been read: whatever ended the processes before, it is not in there. Without that, the slab is
    /// left alone after [`STRIKES_COUNT_MAX`] strikes.
    pub fn set_healthy(&mut self) {
        if self.slab.u32(STRIKES_AT) != 0 {
            self.slab.put_u32(STRIKES_AT, 0);
        }
    }

    /// Told before the database names a new generation, so that the slab is never behind it.
    pub fn set_log_generation(&mut self, generation: u64) {
        self.slab.publish_u64(LOG_GENERATION, generation);
    }

    pub fn log_generation(&self) -> u64 {
        self.slab.u64(LOG_GENERATION)
    }

    /// After recovery: layout numbers go on behind what is stored.
    pub fn layout_next_at_least(&mut self, layout: u64) {
        if layout > self.slab.u64(LAYOUT_NEXT) {
            self.slab.put_u64(LAYOUT_NEXT, layout);
        }
    }

    pub(super) fn layout_number_take(&mut self) -> u64 {
        let number = self.slab.u64(LAYOUT_NEXT);
        self.slab.publish_u64(LAYOUT_NEXT, number + 1);
        number
    }

    /// Ring position after the newest chunk.
    pub(super) fn ring_head(&self) -> u64 {
        self.slab.u64(RING_HEAD)
    }

    pub(super) fn set_ring_head(&mut self, position: u64) {
        self.slab.publish_u64(RING_HEAD, position);
    }

    /// Ring position of the oldest chunk.
    pub(super) fn ring_tail(&self) -> u64 {
        self.slab.u64(RING_TAIL)
    }

    pub(super) fn set_ring_tail(&mut self, position: u64) {
        self.slab.publish_u64(RING_TAIL, position);
    }

    pub(super) fn count(&mut self, counter: Counter, more: u64) {
        let at = COUNTERS + 8 * counter as usize;
        self.slab.put_u64(at, self.slab.u64(at) + more);
    }

    /// The refusal of a full region. From now on layouts are renewed at the first dead column.
    pub(super) fn full(&mut self, region: RegionName) -> Refused {
        self.pressure = true;
        let plan = &self.map.plan;
        let total = match region {
            RegionName::Series => plan.series_count,
            RegionName::LabelText => plan.label_bytes,
            RegionName::Timelines => plan.timelines_count,
            RegionName::Layouts => plan.layouts_count,
            RegionName::LayoutColumns => plan.layout_nodes_count * sizes::NODE_COLUMNS as u32,
            RegionName::RawRows => plan.raw_pages_count * sizes::PAGE_COLUMNS as u32,
            RegionName::Ring => plan.ring_bytes,
            RegionName::State => plan.state.iter().map(|class| class.count).sum(),
        };
        Refused::Full { region, total: total.into() }
    }

    /// How full each region is, and what was counted since the slab was made.
    pub fn usage(&self) -> Usage {
        let plan = &self.map.plan;
        let pool = |region, pool: Pool, unit: usize| RegionUsage {
            region,
            used: u64::from(self.pool_used(pool)) * unit as u64,
            total: u64::from(pool.total(&self.map)) * unit as u64,
            bytes: plan.region_bytes(region),
        };
        let region = |region, used, total| RegionUsage { region, used, total, bytes: plan.region_bytes(region) };
        let (state_used, state_total) = self.state_bytes();
        let counter = |counter: Counter| self.slab.u64(COUNTERS + 8 * counter as usize);
        Usage {
            regions: [
                pool(RegionName::Series, Pool::Series, 1),
                region(
                    RegionName::LabelText,
                    u64::from(self.heap_used_count()) * self.map.granule_bytes as u64,
                    u64::from(self.map.granules_count) * self.map.granule_bytes as u64,
                ),
                region(RegionName::Timelines, self.timelines().count() as u64, plan.timelines_count.into()),
                pool(RegionName::Layouts, Pool::Layouts, 1),
                pool(RegionName::LayoutColumns, Pool::Nodes, sizes::NODE_COLUMNS),
                pool(RegionName::RawRows, Pool::Pages, sizes::PAGE_COLUMNS),
                region(RegionName::Ring, self.ring_head() - self.ring_tail(), plan.ring_bytes.into()),
                region(RegionName::State, state_used, state_total),
            ],
            counters: Counters {
                evicted_rows: counter(Counter::EvictedRows),
                evicted_samples: counter(Counter::EvictedSamples),
                evicted_unspilled_rows: counter(Counter::EvictedUnspilledRows),
                evicted_unspilled_samples: counter(Counter::EvictedUnspilledSamples),
                refused_series: counter(Counter::RefusedSeries),
                duplicates: counter(Counter::Duplicates),
                committed_rows: counter(Counter::CommittedRows),
                committed_samples: counter(Counter::CommittedSamples),
                released_series: counter(Counter::ReleasedSeries),
            },
        }
    }
}

/// What a slab says of itself: enough to attach to one that was made with other region sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlabHead {
    pub plan: Plan,
    pub log_generation: u64,
}

impl SlabHead {
    /// # Errors
    ///
    /// Bytes that are no slab of this version, or that do not hold what their plan says.
    pub fn read(slab: &[u8]) -> Result<Self, AttachError> {
        let Some(head) = slab.first_chunk::<{ sizes::HEADER_BYTES }>() else { return Err(AttachError::NoStore) };
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let wide = |at: usize| u64::from(number(at)) | u64::from(number(at + 4)) << 32;
        if wide(0) != MAGIC {
            return Err(AttachError::NoStore);
        }
        if number(VERSION_AT) != VERSION {
            return Err(AttachError::OtherVersion { found: number(VERSION_AT), expected: VERSION });
        }
        let numbers = core::array::from_fn(|index| number(PLAN + 4 * index));
        let plan = Plan::from_numbers(numbers);
        // No record is shorter than a byte: only with that do the sums below stay small.
        let is_plan = numbers.iter().all(|number| *number as usize <= slab.len());
        if !is_plan || number(PLAN_CHECKSUM) != plan_checksum(&plan) {
            return Err(AttachError::Damaged { what: "plan", index: 0 });
        }
        let needed_bytes = plan.slab_bytes();
        if slab.len() < needed_bytes {
            return Err(AttachError::SlabTooSmall { bytes: slab.len(), needed_bytes });
        }
        Ok(Self { plan, log_generation: wide(LOG_GENERATION) })
    }
}

fn plan_checksum(plan: &Plan) -> u32 {
    plan.numbers().iter().fold(Checksum::new(), |sum, number| sum.add(&number.to_le_bytes())).finish()
}
