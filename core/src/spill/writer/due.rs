//! When rows are sealed, and which: what is worth a transaction, and when the log begins anew.

use super::{super::frame::LOG_PAGE_BYTES, SealReason, Spill};
use crate::{
    store::{Store, TimelineId, codec::ROWS_MAX},
    time::Now,
};

/// So many rows are worth a segment; it takes up to [`ROWS_MAX`].
pub(super) const SEAL_ROWS: u64 = 240;
const _: () = assert!(SEAL_ROWS as usize <= ROWS_MAX);
/// Rows of a timeline that are sealed however few cells they are.
const SEAL_ROWS_WAITING_MAX: u64 = 4 * SEAL_ROWS;
/// The first segments of a data directory come with so much fewer cells: else a young one is all log.
pub(super) const SEAL_CELLS_FIRST_PARTS: u64 = 4;
/// A row so much later or earlier than the one before begins a segment.
pub(super) const SEGMENT_STEP_MS_MAX: u64 = 3_600_000;
/// Below this a generation of the log is not worth another one: each begins with all small states.
const TURN_BYTES_MIN: u64 = 16 * LOG_PAGE_BYTES;

/// What a seal run for [`SealReason::Due`] would take.
pub(super) struct Due {
    pub is_worth_it: bool,
    cells: u64,
    rest_cells: u64,
}

impl Spill {
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

    /// Whether a seal run for [`SealReason::Due`] would have rows to take.
    pub fn seal_due(&mut self, store: &Store<'_>, now: Now) -> bool {
        self.look(store, now);
        self.due(store, now).is_worth_it
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
    pub(super) fn due(&self, store: &Store<'_>, now: Now) -> Due {
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

    /// Whether the rows from `from` on are to be sealed in the run under way.
    pub(super) fn is_due(&self, store: &Store<'_>, timeline: TimelineId, from: u64, now: Now, all: bool) -> bool {
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
}

/// How many of so many rows the next segment takes: they are parted evenly, because a short segment costs each column's head
/// as a long one does.
pub(super) fn segment_rows(rows: u64) -> u64 {
    rows.div_ceil(rows.div_ceil(ROWS_MAX as u64))
}

/// How many of these rows one segment takes, so that times far from each other, on both sides of a clock's jump, do not hold each
/// other beyond their retention. A row that is alone in its time, as late ones are between others, ends no segment.
pub(super) fn rows_together(store: &Store<'_>, timeline: TimelineId, from: u64, count: u64) -> u64 {
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

/// Samples or new series are about to find no room.
pub(super) fn room_is_short(store: &Store<'_>) -> bool {
    ring_is_short(store) || store.newcomers_wait_for_spill()
}

/// Less than a quarter of the ring is left for rows that are not spilled.
pub fn ring_is_short(store: &Store<'_>) -> bool {
    let pressure = store.ring_pressure();
    pressure.bytes > 0 && pressure.bytes_unspilled >= pressure.bytes / 4 * 3
}
