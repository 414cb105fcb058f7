//! Decides which rows go to flash next, and in which bytes.
//!
//! Two runs, independent of each other. *Frames*: `frame_next` until it has none, then `Output::LogSync` and `log_sync`,
//! in the end `log_synced`. *Seal*: `seal_next` until it has none, then `Output::Commit` and `commit`, in the end
//! `committed`. A run that has gone out moves the store's marks only when its completion says that it worked;
//! otherwise the next run gives the same rows again, which recovery and database take as one.
//!
//! The log's generations, and why a cut at any write loses nothing that was synced: docs/SPILL_FORMAT.md, "Generations".

mod frames;

use super::{
    aging::AgingPass,
    format::{ClockEpoch, SEGMENT_BYTES_MAX},
    frame::LOG_PAGE_BYTES,
    layout::LayoutWriter,
    segment::{ColumnVisit, Columns, Encoded, STRIPE_COLUMNS, SegmentSpec, encode_segment},
    state::{SPILL_STATE_KEY, SpillOptions, SpillState},
};
use crate::{
    daemon::output::Put,
    labels::LABELS_BYTES_MAX,
    prng::stable_hash,
    store::{
        ColumnKind, LayoutRun, Store, TimelineId, TimelineKey,
        codec::ROWS_MAX,
        stored::{LayoutPart, SegmentMeta},
    },
    time::Now,
};
use alloc::{boxed::Box, vec::Vec};
use core::ops::Range;

/// So many rows are worth a segment; it takes up to [`ROWS_MAX`].
const SEAL_ROWS: u64 = 240;
const _: () = assert!(SEAL_ROWS as usize <= ROWS_MAX);
/// Rows of a timeline that are sealed however few cells they are.
const SEAL_ROWS_WAITING_MAX: u64 = 4 * SEAL_ROWS;
/// The first segments of a data directory come with so much fewer cells: else a young one is all log.
const SEAL_CELLS_FIRST_PARTS: u64 = 4;
/// A row so much later or earlier than the one before begins a segment.
const SEGMENT_STEP_MS_MAX: u64 = 3_600_000;
/// Below this a generation of the log is not worth another one: each begins with all small states.
const TURN_BYTES_MIN: u64 = 16 * LOG_PAGE_BYTES;

/// Which rows a seal run takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealReason {
    /// Timelines with a full segment's rows, once they are worth a transaction, or with old ones, or all when RAM runs out, of
    /// samples or for new series.
    Due,
    /// The same; then a new generation of the log begins, in which the little that is left is told again.
    Turn,
    /// Everything; then a new generation of the log begins. At start, and whenever `checkpoint_due`.
    Checkpoint,
    /// Everything: the process is about to end.
    Stop,
}

impl SealReason {
    fn takes_all(self) -> bool {
        matches!(self, Self::Checkpoint | Self::Stop)
    }

    fn turns_log(self) -> bool {
        matches!(self, Self::Turn | Self::Checkpoint)
    }
}

/// How far one timeline has got in the runs under way.
struct Mark {
    key: TimelineKey,
    /// Rows before this one are in frames of the run.
    logged: u64,
    /// Columns of row `logged` that are in frames: a row too wide for one block.
    log_column: u32,
    /// The rows against which the next block may be told.
    chain: Option<Chain>,
    /// Rows before this one are in segments of the run.
    sealed: u64,
    /// Columns of the rows from `sealed` on that are in segments.
    seal_column: u32,
    /// How many rows those are.
    seal_rows: u64,
    /// Since when there have been rows that are not in segments, as far as was looked. Not by their instants: rows may come
    /// hours late.
    waiting_since_mono_ms: Option<u64>,
}

/// What a reader of the log has of a timeline.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Chain {
    layout: u64,
    row_end: u64,
    rows: u64,
}

/// How much of one layout is where.
struct LayoutMark {
    key: TimelineKey,
    layout: u64,
    /// Columns in the current generation of the log, and in the database; what a run under way adds is kept apart.
    logged: u32,
    logging: u32,
    /// Columns that the database had when the generation began: the log need not tell them.
    base: u32,
    stored: u32,
    storing: u32,
    /// Newest sample in a segment of this layout.
    t_max_ms: i64,
    /// Which columns' ages are in which column, ascending by the former, as far as `ages_until`.
    ages: Vec<(u32, u32)>,
    ages_until: u32,
}

/// Which version of a small state is where, by hash of its bytes.
struct StateMark {
    key: Box<str>,
    logged: Option<u64>,
    logging: Option<u64>,
    stored: Option<u64>,
    storing: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    States,
    Rows,
}

enum FrameRun {
    Idle,
    Running {
        phase: Phase,
        frames: u32,
    },
    /// Given out, and this sync decides.
    Awaiting {
        token: u64,
    },
}

enum SealRun {
    Idle,
    Running { reason: SealReason, all: bool, put_count: u64, done: SealPhase },
    Awaiting { token: u64, reason: SealReason },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SealPhase {
    Segments,
    States,
    Finished,
}

struct Log {
    generation: u64,
    sequence: u32,
    bytes: u64,
    /// The two as they were at the last sync.
    synced: (u64, u32),
    /// What the last sync brought.
    run_bytes: u64,
    start_pending: bool,
    /// Whatever was not in segments when the generation began is in it and safe: the one before is not needed any more.
    filled: bool,
}

pub struct Spill {
    options: SpillOptions,
    epoch: ClockEpoch,
    /// As the database has it, and as the seal run under way will have it.
    state: SpillState,
    state_next: SpillState,
    generation_seen: u64,
    /// `None` until the first checkpoint: nothing is logged before recovery's rows are safe.
    log: Option<Log>,
    marks: Vec<Mark>,
    layouts: Vec<LayoutMark>,
    states: Vec<StateMark>,
    frames: FrameRun,
    /// Runs since rows were told without those before them.
    chain_runs: u32,
    seal: SealRun,
    pub(super) aging: AgingPass,
    /// What was stored is gone, and has to be stored again once no run is under way.
    replaced: bool,
    /// The next seal run has to be a checkpoint, however short the log is.
    checkpoint_wanted: bool,
    /// Timelines below these have nothing more for the run under way: so a run looks at each of them once.
    frame_cursor: u32,
    seal_cursor: u32,
}

impl Spill {
    /// `state` as the database has it (default for a new one). `generation_seen` is the newest generation that recovery
    /// found in the log's files; 0 after attaching to a slab: no frame is ever written before the database names its
    /// generation, and the slab may be ahead of the database by one generation only. The first thing to do then is a seal
    /// run for [`SealReason::Checkpoint`].
    pub fn new(options: SpillOptions, epoch: ClockEpoch, state: SpillState, generation_seen: u64) -> Self {
        Self {
            options,
            epoch,
            state,
            state_next: state,
            generation_seen: generation_seen.max(state.log_generation),
            log: None,
            marks: Vec::new(),
            layouts: Vec::new(),
            states: Vec::new(),
            frames: FrameRun::Idle,
            chain_runs: 0,
            seal: SealRun::Idle,
            aging: AgingPass::new(state.aged_next),
            replaced: false,
            checkpoint_wanted: false,
            frame_cursor: 0,
            seal_cursor: 0,
        }
    }

    /// The clock as it is known now; written into every segment from here on, and once into the log.
    pub fn set_epoch(&mut self, epoch: ClockEpoch) {
        if let Some(log) = &mut self.log {
            log.start_pending |= epoch != self.epoch;
        }
        self.epoch = epoch;
    }

    /// What the database names.
    pub fn state(&self) -> SpillState {
        self.state
    }

    /// The generation that frames belong to; `None` before the first checkpoint.
    pub fn log_generation(&self) -> Option<u64> {
        self.log.as_ref().map(|log| log.generation)
    }

    /// Segments sealed from now on have this sequence or a later one.
    pub fn segment_sequence_next(&self) -> u64 {
        self.state_next.segment_sequence_next
    }

    /// Bytes given out for the current generation.
    pub fn log_bytes(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.bytes)
    }

    /// Whether everything has to be sealed before the log goes on: its file might not hold one more flush like the last
    /// one, or did not take it.
    pub fn checkpoint_due(&self) -> bool {
        self.checkpoint_wanted
            || self.log.as_ref().is_none_or(|log| log.bytes + log.run_bytes > self.options.log_bytes_max)
    }

    /// What the next seal run is to be for. A checkpoint cuts segments short, so it is for when there is no other way. Where
    /// a run seals most of what the log is kept for, the log begins anew without one, so that its files stay short.
    pub fn seal_reason(&mut self, store: &Store<'_>, now: Now) -> SealReason {
        self.look(store, now);
        let log = self.log.as_ref().filter(|log| !self.checkpoint_wanted && log.filled);
        if log.is_some_and(|log| log.bytes >= TURN_BYTES_MIN) && self.leaves_little(store, now) {
            SealReason::Turn
        } else if self.checkpoint_due() {
            SealReason::Checkpoint
        } else {
            SealReason::Due
        }
    }

    /// Takes down which timelines have rows to be sealed.
    fn look(&mut self, store: &Store<'_>, now: Now) {
        for timeline in store.timelines() {
            let rows = store.rows(timeline);
            if store.rows_spilled(timeline).max(rows.start) < rows.end {
                let index = self.mark_index(store.timeline_key(timeline));
                self.marks[index].waiting_since_mono_ms.get_or_insert(now.mono_ms);
            }
        }
    }

    /// Whether a run for what is due would leave at most a fifth of the cells that are not spilled.
    fn leaves_little(&self, store: &Store<'_>, now: Now) -> bool {
        let due = self.due(store, now);
        due.is_worth_it && due.rest_cells <= due.cells / 4
    }

    /// What a run for [`SealReason::Due`] would take.
    fn due(&self, store: &Store<'_>, now: Now) -> Due {
        let all = room_is_short(store);
        let mut due = Due { is_worth_it: false, cells: 0, rest_cells: 0 };
        for timeline in store.timelines() {
            let from = store.rows_spilled(timeline).max(store.rows(timeline).start);
            let rows = store.rows(timeline).end - from;
            let Some(run) = store.layout_of_rows(timeline, from).filter(|_| rows > 0) else { continue };
            let cells = rows * u64::from(run.columns);
            let is_urgent = all || rows >= SEAL_ROWS_WAITING_MAX || self.is_old(store, timeline, now);
            due.is_worth_it |= is_urgent;
            match is_urgent || rows >= SEAL_ROWS {
                true => due.cells += cells,
                false => due.rest_cells += cells,
            }
        }
        let parts = if self.state.segment_sequence_next == 0 { SEAL_CELLS_FIRST_PARTS } else { 1 };
        due.is_worth_it |= due.cells >= (self.options.seal_cells / parts).max(1);
        due
    }

    /// Rows of a timeline before this one may have been read off, by what is done or under way: what is put into them now
    /// would not reach the medium.
    pub fn rows_taken(&self, store: &Store<'_>, timeline: TimelineId) -> u64 {
        let key = store.timeline_key(timeline);
        let under_way = self.marks.iter().find(|mark| mark.key == key).map_or(0, |mark| {
            let logged = mark.logged + u64::from(mark.log_column > 0);
            let sealed = if mark.seal_column > 0 { mark.sealed + mark.seal_rows } else { mark.sealed };
            logged.max(sealed)
        });
        under_way.max(store.rows_logged(timeline)).max(store.rows_spilled(timeline))
    }

    /// Whether a seal run for [`SealReason::Due`] would have rows to take.
    pub fn seal_due(&mut self, store: &Store<'_>, now: Now) -> bool {
        self.look(store, now);
        self.due(store, now).is_worth_it
    }

    /// Writes the next row for the database into `out` (of [`SEGMENT_BYTES_MAX`] bytes, for `Output::Put`): layout
    /// parts before the segments that need them, small states that have changed, at last the spill's own state. All of a
    /// run goes into one transaction. `None`: nothing is left, or a run is waiting for its commit.
    pub fn seal_next<'o>(
        &mut self,
        store: &Store<'_>,
        now: Now,
        reason: SealReason,
        out: &'o mut [u8],
    ) -> Option<Put<'o>> {
        assert!(out.len() >= SEGMENT_BYTES_MAX, "a buffer of {} bytes", out.len());
        if matches!(self.seal, SealRun::Idle) {
            let all = reason.takes_all() || room_is_short(store);
            if !all && !self.due(store, now).is_worth_it {
                return None;
            }
            self.state_next = self.state;
            self.seal_cursor = 0;
            self.seal = SealRun::Running { reason, all, put_count: 0, done: SealPhase::Segments };
        }
        let SealRun::Running { reason, all, put_count, done } = self.seal else { return None };
        if done == SealPhase::Segments {
            match self.segment_next(store, now, all, out) {
                Some(made) => {
                    self.seal = SealRun::Running { reason, all, put_count: put_count + 1, done };
                    return Some(made.put(out));
                }
                None if put_count == 0 && !reason.takes_all() => {
                    self.seal = SealRun::Idle;
                    return None;
                }
                None => {}
            }
        }
        if done != SealPhase::Finished {
            self.seal = SealRun::Running { reason, all, put_count: put_count + 1, done: SealPhase::States };
            let states = &mut self.states;
            let found = changed_state(store, states, |mark| &mut mark.storing, &mut |key, bytes| {
                let used = key.len() + bytes.len();
                let room = out.get_mut(..used)?;
                room[..key.len()].copy_from_slice(key.as_bytes());
                room[key.len()..].copy_from_slice(bytes);
                Some((key.len(), used))
            });
            if let Some(Some((key_bytes, used))) = found {
                let (key, bytes) = out[..used].split_at(key_bytes);
                // The store's keys are texts; what came out of one is one.
                return core::str::from_utf8(key).ok().map(|key| Put::State { key, bytes });
            }
            self.seal = SealRun::Running { reason, all, put_count: put_count + 1, done: SealPhase::Finished };
            if reason.turns_log() {
                self.state_next.log_generation = self.generation_seen + 1;
            }
            return Some(self.state_put(out));
        }
        None
    }

    /// Whether the transaction under way has to hear how far aging has got.
    pub fn aging_moved(&self) -> bool {
        self.state_next.aged_next != self.aging.next
    }

    /// The spill's own state as the transaction under way has it; once more behind what was aged in it.
    pub fn state_put<'o>(&mut self, out: &'o mut [u8]) -> Put<'o> {
        self.state_next.aged_next = self.aging.next;
        let bytes = &mut out[..SpillState::BYTES];
        bytes.copy_from_slice(&self.state_next.encode());
        Put::State { key: SPILL_STATE_KEY, bytes }
    }

    /// What `seal_next` gave ends with the `Output::Commit` of this token. The slab hears of a new generation first.
    pub fn commit(&mut self, store: &mut Store<'_>, token: u64) {
        if let SealRun::Running { reason, .. } = self.seal {
            if reason.turns_log() {
                store.set_log_generation(self.state_next.log_generation);
            }
            self.seal = SealRun::Awaiting { token, reason };
        }
    }

    /// `Input::Committed`; another token changes nothing here.
    pub fn committed(&mut self, store: &mut Store<'_>, token: u64, ok: bool) {
        let SealRun::Awaiting { token: awaited, reason } = self.seal else { return };
        if awaited != token {
            return;
        }
        self.seal = SealRun::Idle;
        for mark in &mut self.marks {
            let Some(timeline) = store.timeline_find(mark.key) else { continue };
            if ok && mark.sealed > store.rows_spilled(timeline) {
                store.set_rows_spilled(timeline, mark.sealed);
            }
            if ok && mark.sealed > 0 {
                mark.waiting_since_mono_ms = None;
            }
            (mark.sealed, mark.seal_column, mark.seal_rows) = (0, 0, 0);
        }
        for layout in &mut self.layouts {
            layout.stored = if ok { layout.storing } else { 0 };
            layout.storing = layout.stored;
        }
        for state in &mut self.states {
            state.stored = if ok { state.storing } else { None };
            state.storing = state.stored;
        }
        if ok {
            self.state = self.state_next;
            if reason.turns_log() {
                self.checkpoint_wanted = false;
                self.generation_begin(store);
            }
        }
        self.aging.ended(self.state.aged_next);
        if self.replaced {
            self.store_again(store);
        }
        self.prune(store);
    }

    /// The database is a new and empty one: the next run is a checkpoint of all that RAM has.
    pub fn database_replaced(&mut self, store: &mut Store<'_>) {
        self.replaced = true;
        if matches!(self.seal, SealRun::Idle) {
            self.store_again(store);
        }
    }

    fn store_again(&mut self, store: &mut Store<'_>) {
        (self.replaced, self.checkpoint_wanted) = (false, true);
        let timelines: Vec<TimelineId> = store.timelines().collect();
        for timeline in timelines {
            let first = store.rows(timeline).start;
            store.set_rows_spilled(timeline, first);
        }
        for layout in &mut self.layouts {
            (layout.stored, layout.storing, layout.t_max_ms) = (0, 0, i64::MIN);
            (layout.base, layout.logged, layout.logging) = (0, 0, 0);
        }
        for state in &mut self.states {
            (state.stored, state.storing) = (None, None);
        }
    }

    /// Segments that end before this instant have been dropped, and with them the layouts that no segment names: those
    /// are put again with the next segment that needs them.
    pub fn dropped_before(&mut self, t_ms: i64) {
        for layout in self.layouts.iter_mut().filter(|layout| layout.t_max_ms < t_ms) {
            (layout.stored, layout.storing) = (0, 0);
            (layout.base, layout.logged, layout.logging) = (0, 0, 0);
        }
    }

    /// The database names the new generation: what is not in segments goes into it once more.
    fn generation_begin(&mut self, store: &mut Store<'_>) {
        self.generation_seen = self.state.log_generation;
        self.log = Some(Log {
            generation: self.state.log_generation,
            sequence: 0,
            bytes: 0,
            synced: (0, 0),
            run_bytes: 0,
            start_pending: true,
            filled: false,
        });
        self.frames = FrameRun::Idle;
        for mark in &mut self.marks {
            (mark.logged, mark.log_column, mark.chain) = (0, 0, None);
        }
        let timelines: Vec<TimelineId> = store.timelines().collect();
        for timeline in timelines {
            let spilled = store.rows_spilled(timeline);
            store.set_rows_logged(timeline, spilled);
        }
        for layout in &mut self.layouts {
            layout.base = layout.stored;
            (layout.logged, layout.logging) = (layout.base, layout.base);
        }
        for state in &mut self.states {
            (state.logged, state.logging) = (None, None);
        }
    }

    fn segment_next(&mut self, store: &Store<'_>, now: Now, all: bool, out: &mut [u8]) -> Option<Made> {
        let cursor = self.seal_cursor;
        for timeline in store.timelines().skip_while(|timeline| timeline.0 < cursor) {
            self.seal_cursor = timeline.0;
            let key = store.timeline_key(timeline);
            let index = self.mark_index(key);
            loop {
                let mark = &self.marks[index];
                let from = mark.sealed.max(store.rows_spilled(timeline)).max(store.rows(timeline).start);
                if mark.seal_column == 0 && !self.is_due(store, timeline, from, now, all) {
                    break;
                }
                let Some(run) = store.layout_of_rows(timeline, from) else { break };
                if run.columns == 0 {
                    self.marks[index].sealed = run.rows.end;
                    continue;
                }
                let layout = self.layout_of(store, timeline, key, &run);
                let stored = self.layouts[layout].storing;
                if stored < run.columns {
                    let Some((bytes, end)) = layout_part(store, timeline, key, &run, stored, out) else { break };
                    self.layouts[layout].storing = end;
                    let (column_from, column_count) = (stored, end - stored);
                    return Some(Made::Layout { key, layout: run.layout, column_from, column_count, bytes });
                }
                let mark = &mut self.marks[index];
                if mark.seal_column > 0
                    && (run.rows.start != mark.sealed || run.rows.end < mark.sealed + mark.seal_rows)
                {
                    // The rows left RAM between two segments of them: what is left begins anew.
                    mark.seal_column = 0;
                }
                let count = match mark.seal_column {
                    0 => rows_together(store, timeline, run.rows.start, segment_rows(run.rows.end - run.rows.start)),
                    _ => mark.seal_rows,
                };
                let rows = run.rows.start..run.rows.start + count;
                let column_from = mark.seal_column;
                let target = Target { timeline, key, layout: run.layout, column_count: run.columns };
                let Some(encoded) = self.encode(store, &target, rows.clone(), column_from..run.columns, out) else {
                    break;
                };
                let mark = &mut self.marks[index];
                if encoded.column_end == run.columns {
                    (mark.sealed, mark.seal_column, mark.seal_rows) = (rows.end, 0, 0);
                } else {
                    (mark.sealed, mark.seal_column, mark.seal_rows) = (rows.start, encoded.column_end, count);
                }
                let layout = &mut self.layouts[layout];
                layout.t_max_ms = layout.t_max_ms.max(encoded.t_max_ms);
                let sequence = self.state_next.segment_sequence_next;
                self.state_next.segment_sequence_next += 1;
                self.state_next.layout_next = self.state_next.layout_next.max(run.layout.saturating_add(1));
                let meta = SegmentMeta {
                    sequence,
                    timeline: key,
                    layout: run.layout,
                    row_from: rows.start,
                    row_count: count as u32,
                    column_from,
                    column_count: encoded.column_end - column_from,
                    t_min_ms: encoded.t_min_ms,
                    t_max_ms: encoded.t_max_ms,
                };
                return Some(Made::Segment { meta, bytes: encoded.bytes });
            }
        }
        None
    }

    /// Whether the rows from `from` on are to be sealed in the run under way.
    fn is_due(&self, store: &Store<'_>, timeline: TimelineId, from: u64, now: Now, all: bool) -> bool {
        let rows = store.rows(timeline);
        let waiting = rows.end.saturating_sub(store.rows_spilled(timeline).max(rows.start));
        let left = rows.end.saturating_sub(from.max(rows.start));
        // Rows in two segments have at least half as many in each. Fewer have come since the run began.
        let is_full = waiting >= SEAL_ROWS && left >= SEAL_ROWS / 2;
        left > 0 && (all || is_full || self.is_old(store, timeline, now))
    }

    /// Whether a timeline has rows that have waited long to be sealed.
    fn is_old(&self, store: &Store<'_>, timeline: TimelineId, now: Now) -> bool {
        let key = store.timeline_key(timeline);
        let since = self.marks.iter().find(|mark| mark.key == key).and_then(|mark| mark.waiting_since_mono_ms);
        since.is_some_and(|since| now.mono_ms.saturating_sub(since) >= self.options.seal_age_ms)
    }

    fn encode(
        &self,
        store: &Store<'_>,
        target: &Target,
        rows: Range<u64>,
        columns: Range<u32>,
        out: &mut [u8],
    ) -> Option<Encoded> {
        let mut instants = [0; ROWS_MAX];
        let instants_ms = &mut instants[..(rows.end - rows.start) as usize];
        store.rows_instants(target.timeline, rows.clone(), instants_ms)?;
        let spec = SegmentSpec {
            timeline: target.key,
            layout: target.layout,
            row_from: rows.start,
            instants_ms,
            columns,
            epoch: self.epoch,
            stripe_columns: STRIPE_COLUMNS,
        };
        encode_segment(&spec, &StoreColumns { store, target, rows, ages: self.ages(target.layout) }, out)
    }

    fn ages(&self, layout: u64) -> &[(u32, u32)] {
        self.layouts.iter().find(|mark| mark.layout == layout).map_or(&[][..], |mark| &mark.ages)
    }

    fn mark_index(&mut self, key: TimelineKey) -> usize {
        self.marks.iter().position(|mark| mark.key == key).unwrap_or_else(|| {
            self.marks.push(Mark {
                key,
                logged: 0,
                log_column: 0,
                chain: None,
                sealed: 0,
                seal_column: 0,
                seal_rows: 0,
                waiting_since_mono_ms: None,
            });
            self.marks.len() - 1
        })
    }

    /// The mark of a run's layout, which knows the ages of all the run's columns.
    fn layout_of(&mut self, store: &Store<'_>, timeline: TimelineId, key: TimelineKey, run: &LayoutRun) -> usize {
        let index = self.layout_index(key, run.layout);
        let mark = &mut self.layouts[index];
        for age in mark.ages_until..run.columns {
            let Some((ColumnKind::Age, series)) = store.layout_column(timeline, run.layout, age) else { continue };
            // Nearly always the column before.
            let values = (0..age)
                .rev()
                .find(|column| store.layout_column(timeline, run.layout, *column) == Some((ColumnKind::Float, series)));
            if let Some(values) = values {
                let at = mark.ages.partition_point(|(column, _)| *column < values);
                mark.ages.insert(at, (values, age));
            }
        }
        mark.ages_until = mark.ages_until.max(run.columns);
        index
    }

    fn layout_index(&mut self, key: TimelineKey, layout: u64) -> usize {
        self.layouts.iter().position(|mark| mark.layout == layout).unwrap_or_else(|| {
            let t_max_ms = i64::MIN;
            let (ages, ages_until) = (Vec::new(), 0);
            let (logged, logging, base, stored, storing) = (0, 0, 0, 0, 0);
            self.layouts.push(LayoutMark {
                key,
                layout,
                logged,
                logging,
                base,
                stored,
                storing,
                t_max_ms,
                ages,
                ages_until,
            });
            self.layouts.len() - 1
        })
    }

    /// Forgets what the store has forgotten, between runs, so that the marks never outgrow the store's tables.
    fn prune(&mut self, store: &Store<'_>) {
        if matches!(self.frames, FrameRun::Idle) && matches!(self.seal, SealRun::Idle) {
            self.marks.retain(|mark| store.timeline_find(mark.key).is_some());
            self.layouts.retain(|mark| {
                let timeline = store.timeline_find(mark.key);
                timeline.is_some_and(|timeline| store.layout_column(timeline, mark.layout, 0).is_some())
            });
        }
    }
}

/// See [`Spill::due`].
struct Due {
    is_worth_it: bool,
    cells: u64,
    rest_cells: u64,
}

/// A row for the database that lies in the output buffer.
enum Made {
    Layout { key: TimelineKey, layout: u64, column_from: u32, column_count: u32, bytes: usize },
    Segment { meta: SegmentMeta, bytes: usize },
}

impl Made {
    fn put(self, out: &[u8]) -> Put<'_> {
        match self {
            Self::Layout { key, layout, column_from, column_count, bytes } => {
                Put::Layout(LayoutPart { timeline: key, layout, column_from, column_count, bytes: &out[..bytes] })
            }
            Self::Segment { meta, bytes } => Put::Segment { meta, bytes: &out[..bytes] },
        }
    }
}

/// Whose rows are encoded, and how.
struct Target {
    timeline: TimelineId,
    key: TimelineKey,
    layout: u64,
    /// Of the whole run.
    column_count: u32,
}

/// The cells of some rows in the store.
struct StoreColumns<'s, 'm> {
    store: &'s Store<'m>,
    target: &'s Target,
    rows: Range<u64>,
    /// Which columns' ages are in which column, ascending by the former.
    ages: &'s [(u32, u32)],
}

impl Columns for StoreColumns<'_, '_> {
    fn age(&self, column: u32) -> Option<u32> {
        let found = self.ages.binary_search_by_key(&column, |(values, _)| *values).ok()?;
        // A layout that has grown since names ages that these rows do not have.
        Some(self.ages[found].1).filter(|ages| *ages < self.target.column_count)
    }

    fn read(&self, columns: Range<u32>, visit: &mut ColumnVisit<'_>) {
        let read = self.store.columns_read(self.target.timeline, self.rows.clone(), columns, &mut |cells| {
            visit(cells.kind, cells.cells, cells.presence)
        });
        assert!(read.is_some(), "rows {:?} were in RAM a moment ago", self.rows);
    }
}

/// How many of so many rows the next segment takes: they are parted evenly, because a short segment costs each column's head
/// as a long one does.
fn segment_rows(rows: u64) -> u64 {
    rows.div_ceil(rows.div_ceil(ROWS_MAX as u64))
}

/// How many of these rows one segment takes, so that times far from each other, on both sides of a clock's jump, do not hold each
/// other beyond their retention. A row that is alone in its time, as late ones are between others, ends no segment.
fn rows_together(store: &Store<'_>, timeline: TimelineId, from: u64, count: u64) -> u64 {
    let mut instants = [0; ROWS_MAX];
    let instants_ms = &mut instants[..count as usize];
    if store.rows_instants(timeline, from..from + count, instants_ms).is_none() {
        return count;
    }
    let is_far = |a: i64, b: i64| a.abs_diff(b) > SEGMENT_STEP_MS_MAX;
    let is_alone = |at: usize| instants_ms.get(at + 1).is_some_and(|next| is_far(instants_ms[at], *next));
    let mut before_ms = instants_ms[0];
    for (at, instant_ms) in instants_ms.iter().enumerate() {
        match is_far(before_ms, *instant_ms) {
            false => before_ms = *instant_ms,
            true if is_alone(at) => {}
            true => return at as u64,
        }
    }
    count
}

/// Writes the layout's columns from `column_from` on, as many as fit; returns the length and the column behind.
fn layout_part(
    store: &Store<'_>,
    timeline: TimelineId,
    key: TimelineKey,
    run: &LayoutRun,
    column_from: u32,
    out: &mut [u8],
) -> Option<(usize, u32)> {
    let mut writer = LayoutWriter::new(key, run.layout, column_from, out).ok()?;
    let mut labels = [0; LABELS_BYTES_MAX];
    for column in column_from..run.columns {
        let (kind, series) = store.layout_column(timeline, run.layout, column)?;
        if !writer.push(kind, store.series_labels(series, &mut labels)?) {
            break;
        }
    }
    let end = column_from + writer.column_count();
    Some((writer.finish(), end))
}

/// Samples or new series are about to find no room.
fn room_is_short(store: &Store<'_>) -> bool {
    ring_is_short(store) || store.newcomers_wait_for_spill()
}

/// Less than a quarter of the ring is left for rows that are not spilled.
pub fn ring_is_short(store: &Store<'_>) -> bool {
    let pressure = store.ring_pressure();
    pressure.bytes > 0 && pressure.bytes_unspilled >= pressure.bytes / 4 * 3
}

/// Gives the first small state whose bytes are not what `which` remembers, and remembers them; one that is gone is given
/// with empty bytes.
fn changed_state<R>(
    store: &Store<'_>,
    marks: &mut Vec<StateMark>,
    which: fn(&mut StateMark) -> &mut Option<u64>,
    give: &mut dyn FnMut(&str, &[u8]) -> R,
) -> Option<R> {
    let mut given = None;
    store.state_visit(&mut |key, bytes| {
        if given.is_some() {
            return;
        }
        let hash = stable_hash(bytes);
        let index = marks.iter().position(|mark| *mark.key == *key).unwrap_or_else(|| {
            let key = key.into();
            marks.push(StateMark { key, logged: None, logging: None, stored: None, storing: None });
            marks.len() - 1
        });
        let known = which(&mut marks[index]);
        if *known != Some(hash) {
            *known = Some(hash);
            given = Some(give(key, bytes));
        }
    });
    if given.is_some() {
        return given;
    }
    let gone = stable_hash(&[]);
    for mark in marks.iter_mut().filter(|mark| store.state_get(&mark.key).is_none()) {
        let known = which(mark);
        if known.is_some_and(|known| known != gone) {
            *known = Some(gone);
            return Some(give(&mark.key, &[]));
        }
    }
    None
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
