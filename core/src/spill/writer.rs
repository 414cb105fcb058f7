//! Decides which rows go to flash next, and in which bytes.
//!
//! Two runs, independent of each other. *Frames*: `frame_next` until it has none, then `Output::LogSync` and `log_sync`,
//! in the end `log_synced`. *Seal*: `seal_next` until it has none, then `Output::Commit` and `commit`, in the end
//! `committed`. A run that has gone out moves the store's marks only when its completion says that it worked;
//! otherwise the next run gives the same rows again, which recovery and database take as one.
//!
//! The log's generations, and why a cut at any write loses nothing that was synced: docs/SPILL_FORMAT.md, "Generations".

mod due;
mod frames;
mod seals;

pub use due::ring_is_short;

use super::{
    aging::AgingPass,
    format::ClockEpoch,
    layout::LayoutWriter,
    segment::{ColumnVisit, Columns},
    state::{SpillOptions, SpillState},
};
use crate::{
    labels::LABELS_BYTES_MAX,
    prng::stable_hash,
    store::{ColumnKind, LayoutRun, Store, TimelineId, TimelineKey},
};
use alloc::{boxed::Box, vec::Vec};
use core::ops::Range;

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
