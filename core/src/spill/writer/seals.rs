//! The run of a seal: layout parts, segments and states of one transaction.

use super::{
    super::{
        format::SEGMENT_BYTES_MAX,
        segment::{Encoded, STRIPE_COLUMNS, SegmentSpec, encode_segment},
        state::{SPILL_STATE_KEY, SpillState},
    },
    SealPhase, SealReason, SealRun, Spill, StoreColumns, Target, changed_state,
    due::{room_is_short, rows_together, segment_rows},
    layout_part,
};
use crate::{
    daemon::output::Put,
    store::{
        Store, TimelineKey,
        codec::ROWS_MAX,
        stored::{LayoutPart, SegmentMeta},
    },
    time::Now,
};
use core::ops::Range;

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

impl Spill {
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
}
