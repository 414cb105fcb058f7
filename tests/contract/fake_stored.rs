//! A disk in memory, as slow and obvious as possible: the fake that the simulator runs on, and the oracle for SQLite.
//!
//! It keeps what is on the medium apart from what was only asked for, so a power cut is one call.

use holdfast::disk::{Disk, DiskError, DiskLoss, DiskUsage};
use holdfast_core::{
    daemon::output::Put,
    ledger::Reason,
    prng::Prng,
    spill::LOG_PAGE_BYTES,
    store::{
        TimelineKey,
        stored::{LayoutPart, PartPlace, PartVisit, SegmentBytes, SegmentMeta, SegmentVisit, Stored, StoredError},
    },
};
use std::{collections::BTreeMap, rc::Rc};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tables {
    segments: BTreeMap<u64, (SegmentMeta, Rc<[u8]>)>,
    /// By layout and first column; with the order of storing.
    layouts: BTreeMap<(u64, u32), Part>,
    part_next: u64,
    state: BTreeMap<String, Vec<u8>>,
    /// Samples dropped by retention that nobody was told of, with their range.
    expired: Option<(u64, (i64, i64))>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    part: u64,
    timeline: TimelineKey,
    column_count: u32,
    bytes: Rc<[u8]>,
}

#[derive(Clone, Default)]
struct Log {
    synced: Vec<u8>,
    written: Vec<u8>,
    /// Where the two may differ.
    unsynced: Option<(usize, usize)>,
}

#[derive(Clone, Default)]
pub struct FakeDisk {
    committed: Tables,
    open: Tables,
    logs: [Log; 2],
    /// Generation, and where its next byte goes; the second number is where it was at the last sync.
    position: Option<(u64, usize, usize)>,
    /// The next commits and syncs fail, and nothing of them is kept.
    pub failing: bool,
    /// The next commit finds the database damaged: it fails, and an empty one takes its place.
    #[allow(dead_code, reason = "only the simulator damages it")]
    pub is_damaged: bool,
    losses: Vec<DiskLoss>,
}

impl FakeDisk {
    /// What a power cut leaves: committed rows, synced log bytes, and of the unsynced ones as many as the medium had
    /// taken.
    pub fn cut_power(&mut self, unsynced_bytes_kept: usize) {
        self.open = self.committed.clone();
        self.losses.clear();
        for log in &mut self.logs {
            let mut kept = log.synced.clone();
            let differing: Vec<usize> =
                (0..log.written.len()).filter(|&at| log.synced.get(at) != Some(&log.written[at])).collect();
            for &at in differing.iter().take(unsynced_bytes_kept) {
                if kept.len() <= at {
                    kept.resize(at + 1, 0);
                }
                kept[at] = log.written[at];
            }
            *log = Log { synced: kept.clone(), written: kept, unsynced: None };
        }
        self.position = None;
    }

    /// What a power cut leaves where the medium took unsynced bytes in any order: each sector of them is there, is not, or
    /// is torn.
    #[allow(dead_code, reason = "only the simulator cuts so")]
    pub fn tear(&mut self, prng: &mut Prng) {
        const SECTOR_BYTES: usize = 512;
        self.open = self.committed.clone();
        for log in &mut self.logs {
            let mut kept = log.synced.clone();
            kept.resize(log.written.len(), 0);
            let (from, to) = log.unsynced.unwrap_or((0, 0));
            let mut at = from;
            while at < to {
                let end = (at / SECTOR_BYTES + 1).saturating_mul(SECTOR_BYTES).min(to);
                let taken = match prng.below(3) {
                    0 => at..at,
                    1 => at..end,
                    _ => at..at + prng.below((end - at) as u64) as usize,
                };
                kept[taken.clone()].copy_from_slice(&log.written[taken]);
                at = end;
            }
            *log = Log { synced: kept.clone(), written: kept, unsynced: None };
        }
        self.position = None;
    }

    /// Whether a power cut may leave one thing or another.
    #[allow(dead_code, reason = "only the simulator cuts so")]
    pub fn has_unsynced(&self) -> bool {
        self.logs.iter().any(|log| log.unsynced.is_some())
    }

    /// Segments, parts of layouts, and bytes of small state: what must not grow for ever.
    #[allow(dead_code, reason = "only the simulator lives that long")]
    pub fn counts(&self) -> [usize; 3] {
        let Tables { segments, layouts, state, .. } = &self.committed;
        [segments.len(), layouts.len(), state.values().map(Vec::len).sum()]
    }

    /// What the death of the process leaves: the kernel still writes what it was given.
    pub fn kill(&mut self) {
        self.cut_power(usize::MAX);
    }
}

impl Disk for FakeDisk {
    fn stored(&mut self) -> &mut dyn Stored {
        self
    }

    fn log_append(&mut self, generation: u64, bytes: &[u8]) {
        if self.position.is_none_or(|(current, ..)| current != generation) {
            self.position = Some((generation, 0, 0));
        }
        let Some((_, end, _)) = &mut self.position else { return };
        let log = &mut self.logs[(generation % 2) as usize];
        let (from, to) = (*end, *end + bytes.len());
        if log.written.len() < to {
            log.written.resize(to, 0);
        }
        log.written[from..to].copy_from_slice(bytes);
        let (first, last) = log.unsynced.unwrap_or((from, to));
        log.unsynced = Some((first.min(from), last.max(to)));
        *end = to;
    }

    fn log_sync(&mut self) -> Result<(), String> {
        let Some((generation, end, synced_end)) = &mut self.position else { return Ok(()) };
        if self.failing {
            *end = *synced_end;
            return Err("the fake disk fails".to_owned());
        }
        if *synced_end == 0 && *end > 0 {
            // Nobody needs the generation before any more.
            self.logs[((*generation + 1) % 2) as usize] = Log::default();
        }
        *end = end.next_multiple_of(LOG_PAGE_BYTES as usize);
        *synced_end = *end;
        let log = &mut self.logs[(*generation % 2) as usize];
        log.written.resize(log.written.len().max(*end), 0);
        log.synced.resize(log.written.len(), 0);
        if let Some((from, to)) = log.unsynced.take() {
            log.synced[from..to].copy_from_slice(&log.written[from..to]);
        }
        Ok(())
    }

    fn log_resume(&mut self, generation: u64, offset_bytes: u64) {
        self.position = Some((generation, offset_bytes as usize, offset_bytes as usize));
    }

    fn log_read(&mut self, generation: u64, offset_bytes: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        let log = &self.logs[(generation % 2) as usize].written;
        let from = (offset_bytes as usize).min(log.len());
        let length = buf.len().min(log.len() - from);
        buf[..length].copy_from_slice(&log[from..from + length]);
        Ok(length)
    }

    fn put(&mut self, put: Put<'_>) {
        match put {
            Put::Segment { meta, bytes } => {
                self.open.segments.insert(meta.sequence, (meta, bytes.into()));
            }
            Put::Replace { meta, bytes } => {
                if let Some((_, kept)) = self.open.segments.get_mut(&meta.sequence) {
                    *kept = bytes.into();
                }
            }
            Put::Layout(part) => {
                let known = self.open.layouts.get(&(part.layout, part.column_from)).map(|known| known.part);
                let number = known.unwrap_or(self.open.part_next);
                self.open.part_next = self.open.part_next.max(number + 1);
                let LayoutPart { timeline, layout, column_from, column_count, bytes } = part;
                let part = Part { part: number, timeline, column_count, bytes: bytes.into() };
                self.open.layouts.insert((layout, column_from), part);
            }
            Put::State { key, bytes: [] } => {
                self.open.state.remove(key);
            }
            Put::State { key, bytes } => {
                self.open.state.insert(key.to_owned(), bytes.to_vec());
            }
            Put::DropBefore { t_ms } => self.open.drop_before(t_ms),
        }
    }

    fn commit(&mut self) -> Result<(), String> {
        if self.failing {
            self.open = self.committed.clone();
            return Err("the fake disk fails".to_owned());
        }
        if std::mem::take(&mut self.is_damaged) {
            (self.open, self.committed) = (Tables::default(), Tables::default());
            let (subject, reason) = ("holdfast.db.damaged".to_owned(), Reason::DatabaseSetAside);
            self.losses.push(DiskLoss { reason, subject, span_ms: None, samples: 0 });
            return Err("the database is damaged".to_owned());
        }
        if let Some((samples, span_ms)) = self.open.expired.take() {
            let (subject, reason) = ("holdfast.db".to_owned(), Reason::Retention);
            self.losses.push(DiskLoss { reason, subject, span_ms: Some(span_ms), samples });
        }
        self.committed = self.open.clone();
        Ok(())
    }

    fn state(&mut self, key: &str) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.open.state.get(key).cloned())
    }

    fn store_uuid(&self) -> [u8; 16] {
        *b"the fake's store"
    }

    fn usage(&mut self) -> DiskUsage {
        let disk_bytes = self.committed.segments.values().map(|(_, bytes)| bytes.len() as u64).sum();
        DiskUsage { disk_bytes, ..DiskUsage::default() }
    }

    fn take_loss(&mut self) -> Option<DiskLoss> {
        (!self.losses.is_empty()).then(|| self.losses.remove(0))
    }
}

impl Tables {
    /// As many as the real one drops in one call, the ones that ended first.
    fn drop_before(&mut self, t_ms: i64) {
        for _ in 0..holdfast::disk::segments::EXPIRED_PER_CALL_MAX {
            let expired = self
                .segments
                .values()
                .filter(|(meta, _)| meta.t_max_ms < t_ms)
                .min_by_key(|(meta, _)| (meta.t_max_ms, meta.sequence))
                .map(|(meta, _)| *meta);
            let Some(meta) = expired else { return };
            self.segments.remove(&meta.sequence);
            let (samples, (t_min_ms, t_max_ms)) = self.expired.unwrap_or((0, (meta.t_min_ms, meta.t_max_ms)));
            let samples = samples + u64::from(meta.row_count) * u64::from(meta.column_count);
            self.expired = Some((samples, (t_min_ms.min(meta.t_min_ms), t_max_ms.max(meta.t_max_ms))));
            let newest = self.layouts.iter().filter(|(_, part)| part.timeline == meta.timeline);
            let newest = newest.max_by_key(|(_, part)| part.part).map(|((layout, _), _)| *layout);
            let is_used = self.segments.values().any(|(other, _)| other.layout == meta.layout);
            if !is_used && newest != Some(meta.layout) {
                self.layouts.retain(|(layout, _), _| *layout != meta.layout);
            }
        }
    }

    fn visit_parts<'t>(
        parts: impl Iterator<Item = (&'t (u64, u32), &'t Part)>,
        visit: &mut dyn FnMut(LayoutPart<'_>) -> bool,
    ) {
        for (&(layout, column_from), part) in parts {
            let Part { timeline, column_count, bytes, .. } = part;
            if !visit(LayoutPart { timeline: *timeline, layout, column_from, column_count: *column_count, bytes }) {
                return;
            }
        }
    }

    fn visit_segments(mut found: Vec<&(SegmentMeta, Rc<[u8]>)>, visit: &mut SegmentVisit<'_>, by_row: bool) {
        found.sort_by_key(|(meta, _)| {
            let (columns, sequence) = ((meta.column_from, meta.column_count), meta.sequence);
            if by_row {
                (meta.row_from as i64, i64::from(meta.column_from), (meta.row_count, 0), sequence)
            } else {
                (meta.t_max_ms, meta.t_min_ms, columns, sequence)
            }
        });
        for (meta, bytes) in found {
            if !visit(meta, &mut Slice(bytes)) {
                return;
            }
        }
    }
}

impl Stored for FakeDisk {
    fn layouts(
        &mut self,
        start_ms: i64,
        end_ms: i64,
        after: Option<PartPlace>,
        visit: &mut PartVisit<'_>,
    ) -> Result<(), StoredError> {
        let segments = self.open.segments.values();
        let segments = segments.filter(|(meta, _)| meta.t_max_ms >= start_ms && meta.t_min_ms <= end_ms);
        let segments: Vec<&SegmentMeta> = segments.map(|(meta, _)| meta).collect();
        // SQLite orders layouts as signed numbers.
        let order = |(layout, column_from): (u64, u32)| (layout as i64, column_from);
        let mut parts: Vec<_> = self.open.layouts.iter().collect();
        parts.sort_by_key(|(key, _)| order(**key));
        let after = after.map(|after| order((after.layout, after.column_from)));
        for (&(layout, column_from), part) in
            parts.into_iter().filter(|(key, _)| after.is_none_or(|a| order(**key) > a))
        {
            let reaches = |meta: &&SegmentMeta| meta.column_from + meta.column_count > column_from;
            let overlaps = segments.iter().any(|meta| meta.layout == layout && reaches(meta));
            if !visit(PartPlace { layout, column_from }, overlaps, &mut Slice(&part.bytes)) {
                break;
            }
        }
        Ok(())
    }

    fn layout(&mut self, layout: u64, visit: &mut dyn FnMut(LayoutPart<'_>) -> bool) -> Result<(), StoredError> {
        Tables::visit_parts(self.open.layouts.iter().filter(|((of, _), _)| *of == layout), visit);
        Ok(())
    }

    fn segments(
        &mut self,
        layout: u64,
        start_ms: i64,
        end_ms: i64,
        visit: &mut SegmentVisit<'_>,
    ) -> Result<(), StoredError> {
        let holds = |meta: &SegmentMeta| meta.layout == layout && meta.t_max_ms >= start_ms && meta.t_min_ms <= end_ms;
        Tables::visit_segments(self.open.segments.values().filter(|(meta, _)| holds(meta)).collect(), visit, false);
        Ok(())
    }

    fn segment(&mut self, sequence: u64, visit: &mut SegmentVisit<'_>) -> Result<(), StoredError> {
        Tables::visit_segments(self.open.segments.get(&sequence).into_iter().collect(), visit, false);
        Ok(())
    }

    fn rows(&mut self, timeline: TimelineKey, row_from: u64, visit: &mut SegmentVisit<'_>) -> Result<(), StoredError> {
        let holds =
            |meta: &SegmentMeta| meta.timeline == timeline && meta.row_from + u64::from(meta.row_count) > row_from;
        Tables::visit_segments(self.open.segments.values().filter(|(meta, _)| holds(meta)).collect(), visit, true);
        Ok(())
    }

    fn sealed_from(&mut self, sequence: u64, visit: &mut SegmentVisit<'_>) -> Result<(), StoredError> {
        for (meta, bytes) in self.open.segments.range(sequence..).map(|(_, segment)| segment) {
            if !visit(meta, &mut Slice(bytes)) {
                break;
            }
        }
        Ok(())
    }

    fn timelines(&mut self, visit: &mut dyn FnMut(TimelineKey, u64) -> bool) -> Result<(), StoredError> {
        let mut ends: BTreeMap<i64, u64> = BTreeMap::new();
        for (meta, _) in self.open.segments.values() {
            let end = ends.entry(meta.timeline.0 as i64).or_default();
            *end = (*end).max(meta.row_from + u64::from(meta.row_count));
        }
        for (timeline, row_end) in ends {
            if !visit(TimelineKey(timeline as u64), row_end) {
                break;
            }
        }
        Ok(())
    }

    fn oldest_ms(&mut self) -> Result<Option<i64>, StoredError> {
        Ok(self.open.segments.values().map(|(meta, _)| meta.t_min_ms).min())
    }
}

struct Slice<'a>(&'a [u8]);

impl SegmentBytes for Slice<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn read_at(&mut self, offset: usize, buf: &mut [u8]) -> Result<(), StoredError> {
        let end = offset.checked_add(buf.len());
        let Some(bytes) = end.and_then(|end| self.0.get(offset..end)) else {
            return Err(StoredError { reason: "a read past the end of the segment" });
        };
        buf.copy_from_slice(bytes);
        Ok(())
    }
}
