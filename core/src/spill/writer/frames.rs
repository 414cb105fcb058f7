//! The run of frames: what is not yet in the log, as frames of its current generation.

use super::{
    super::{
        frame::{
            FRAME_BYTES_MAX, FRAME_HEAD_BYTES, FrameKind, GenerationStart, LOG_PAGE_BYTES, finish_frame, put_start,
            put_state,
        },
        rows::{BLOCK_CELLS_MAX, BLOCK_COLUMNS_MAX, BlockSpec, RowsWriter},
    },
    Chain, FrameRun, Phase, Spill, StoreColumns, Target, changed_state, layout_part,
};
use crate::store::{
    LayoutRun, Store, TimelineId, TimelineKey,
    codec::{
        ROWS_MAX,
        tail::{HISTORY_ROWS_MAX, NEW_ROWS_MAX},
    },
};

/// After so many runs rows are told without those before them once, so that what is damaged in the log takes no more
/// than these runs with it.
pub(super) const CHAIN_RUNS_MAX: u32 = 8;

/// What became of a block.
enum Block {
    Added,
    /// The frame has no room for it.
    FrameFull,
    /// Rows that cannot be written: they have left RAM.
    Gone,
}

impl Spill {
    /// Writes the next frame into `out` (of [`FRAME_BYTES_MAX`] bytes, for `Output::LogAppend`) and returns its length:
    /// the generation's start, changed states, then committed rows that are not in the log. `None`: nothing is left, no
    /// generation is open, or a run is waiting for its sync.
    pub fn frame_next(&mut self, store: &Store<'_>, out: &mut [u8]) -> Option<usize> {
        assert!(out.len() >= FRAME_BYTES_MAX, "a buffer of {} bytes", out.len());
        let log = self.log.as_mut()?;
        let (mut phase, frames) = match self.frames {
            FrameRun::Idle => {
                self.frame_cursor = 0;
                if self.chain_runs >= CHAIN_RUNS_MAX {
                    self.chain_runs = 0;
                    self.marks.iter_mut().for_each(|mark| mark.chain = None);
                }
                (Phase::States, 0)
            }
            FrameRun::Running { phase, frames } => (phase, frames),
            FrameRun::Awaiting { .. } => return None,
        };
        let mut made = None;
        if core::mem::take(&mut log.start_pending) {
            let start = GenerationStart { store_uuid: self.options.store_uuid, epoch: self.epoch };
            let payload = put_start(&start, &mut out[FRAME_HEAD_BYTES..]);
            made = Some(self.frame(FrameKind::GenerationStart, payload, out));
        } else if phase == Phase::States {
            made = self.state_frame_next(store, out);
        }
        if made.is_none() {
            phase = Phase::Rows;
            made = self.rows_frame_next(store, out);
        }
        self.frames = match frames + u32::from(made.is_some()) {
            0 => FrameRun::Idle,
            frames => FrameRun::Running { phase, frames },
        };
        made
    }

    /// Writes one small state as a frame at once, for records that must be on the medium before anything is done
    /// because of them. Empty bytes delete. `None`: no generation is open, or the state does not fit a frame.
    pub fn state_frame(&mut self, key: &str, bytes: &[u8], out: &mut [u8]) -> Option<usize> {
        self.log.as_ref()?;
        let payload = put_state(key, bytes, out.get_mut(FRAME_HEAD_BYTES..)?)?;
        (FRAME_HEAD_BYTES + payload <= FRAME_BYTES_MAX).then(|| self.frame(FrameKind::State, payload, out))
    }

    /// The frames given so far end with the `Output::LogSync` of this token; the next one begins on a new page.
    pub fn log_sync(&mut self, token: u64) {
        if let Some(log) = &mut self.log {
            log.bytes = log.bytes.next_multiple_of(LOG_PAGE_BYTES);
        }
        if matches!(self.frames, FrameRun::Running { .. }) {
            self.frames = FrameRun::Awaiting { token };
            self.chain_runs += 1;
        }
    }

    /// `Input::LogSynced`. A token other than that of the run is a state's; it changes nothing here.
    pub fn log_synced(&mut self, store: &mut Store<'_>, token: u64, ok: bool) {
        if !matches!(self.frames, FrameRun::Awaiting { token: awaited } if awaited == token) {
            return;
        }
        self.frames = FrameRun::Idle;
        if let Some(log) = &mut self.log {
            // What did not reach the medium is written over.
            match ok {
                true => {
                    log.run_bytes = log.bytes - log.synced.0;
                    log.synced = (log.bytes, log.sequence);
                    // A run ends when nothing is left to tell.
                    log.filled = true;
                }
                false => {
                    (log.bytes, log.sequence) = log.synced;
                    // The file has no room, or a bad place. The database may have taken everything by the next try, and
                    // the other file goes on.
                    self.checkpoint_wanted = true;
                }
            }
        }
        for mark in &mut self.marks {
            mark.chain = mark.chain.filter(|_| ok);
            let Some(timeline) = store.timeline_find(mark.key) else { continue };
            if ok && mark.logged > store.rows_logged(timeline) {
                store.set_rows_logged(timeline, mark.logged);
            }
            (mark.logged, mark.log_column) = (0, 0);
        }
        for layout in &mut self.layouts {
            layout.logged = if ok { layout.logging } else { layout.base };
            layout.logging = layout.logged;
        }
        for state in &mut self.states {
            state.logged = if ok { state.logging } else { None };
            state.logging = state.logged;
        }
        self.prune(store);
    }

    fn frame(&mut self, kind: FrameKind, payload: usize, out: &mut [u8]) -> usize {
        let Some(log) = self.log.as_mut() else { unreachable!("frames are made while a generation is open") };
        let bytes = finish_frame(kind, log.generation, log.sequence, payload, out);
        log.sequence = log.sequence.wrapping_add(1);
        log.bytes += bytes as u64;
        bytes
    }

    fn state_frame_next(&mut self, store: &Store<'_>, out: &mut [u8]) -> Option<usize> {
        let states = &mut self.states;
        let payload = changed_state(store, states, |mark| &mut mark.logging, &mut |key, bytes| {
            put_state(key, bytes, &mut out[FRAME_HEAD_BYTES..FRAME_BYTES_MAX])
        })??;
        Some(self.frame(FrameKind::State, payload, out))
    }

    fn rows_frame_next(&mut self, store: &Store<'_>, out: &mut [u8]) -> Option<usize> {
        let mut frame = RowsWriter::new(&mut out[FRAME_HEAD_BYTES..FRAME_BYTES_MAX]);
        let cursor = self.frame_cursor;
        'timelines: for timeline in store.timelines().skip_while(|timeline| timeline.0 < cursor) {
            self.frame_cursor = timeline.0;
            let key = store.timeline_key(timeline);
            let rows = store.rows(timeline);
            let index = self.mark_index(key);
            loop {
                let mark = &self.marks[index];
                let from =
                    mark.logged.max(store.rows_logged(timeline)).max(store.rows_spilled(timeline)).max(rows.start);
                let Some(run) = store.layout_of_rows(timeline, from).filter(|_| from < rows.end) else { break };
                if run.columns == 0 {
                    self.marks[index].logged = run.rows.end;
                    continue;
                }
                let layout = self.layout_of(store, timeline, key, &run);
                let logged = self.layouts[layout].logging;
                if logged < run.columns {
                    if !frame.is_empty() {
                        break 'timelines;
                    }
                    let room = &mut out[FRAME_HEAD_BYTES..FRAME_BYTES_MAX];
                    let (payload, end) = layout_part(store, timeline, key, &run, logged, room)?;
                    self.layouts[layout].logging = end;
                    return Some(self.frame(FrameKind::Layout, payload, out));
                }
                match self.block(store, timeline, key, index, &run, &mut frame) {
                    Block::Added => {}
                    Block::FrameFull => break 'timelines,
                    Block::Gone => break,
                }
            }
        }
        if frame.is_empty() {
            return None;
        }
        let payload = frame.finish();
        Some(self.frame(FrameKind::Rows, payload, out))
    }

    /// Adds rows of one run to a frame: fewer rows rather than fewer columns, and part of one row where even that is too
    /// wide.
    fn block(
        &mut self,
        store: &Store<'_>,
        timeline: TimelineId,
        key: TimelineKey,
        index: usize,
        run: &LayoutRun,
        frame: &mut RowsWriter<'_>,
    ) -> Block {
        let mark = &self.marks[index];
        // When the row left RAM between two blocks of it, the next one begins anew.
        let column_from = if mark.logged == run.rows.start { mark.log_column } else { 0 };
        let is_wide = column_from > 0 || run.columns > BLOCK_COLUMNS_MAX;
        let chain = mark.chain.filter(|chain| {
            let is_next = !is_wide && (chain.layout, chain.row_end) == (run.layout, run.rows.start);
            let before = run.rows.start.saturating_sub(chain.rows);
            is_next
                && store.layout_of_rows(timeline, before).is_some_and(|known| {
                    known.layout == run.layout && known.rows.start == before && known.rows.end > run.rows.start
                })
        });
        let mut history = chain.map_or(0, |chain| chain.rows);
        let columns_stored = self.layouts.iter().find(|mark| mark.layout == run.layout).map_or(0, |mark| mark.base);
        let column_end = run.columns.min(column_from.saturating_add(BLOCK_COLUMNS_MAX));
        let (mut columns, mut count) = (column_from..column_end, 1);
        if !is_wide {
            let rows_max = NEW_ROWS_MAX.min(BLOCK_CELLS_MAX / run.columns as usize) as u64;
            count = (run.rows.end - run.rows.start).min(rows_max);
        }
        if count as usize * columns.len() > frame.cells_left() && !frame.is_empty() {
            return Block::FrameFull;
        }
        loop {
            let rows = run.rows.start - history..run.rows.start + count;
            let mut instants = [0; ROWS_MAX];
            let instants_ms = &mut instants[..(rows.end - rows.start) as usize];
            if store.rows_instants(timeline, rows.clone(), instants_ms).is_none() {
                return Block::Gone;
            }
            let spec = BlockSpec {
                timeline: key,
                layout: run.layout,
                row_from: run.rows.start,
                column_count_total: run.columns,
                columns: columns.clone(),
                columns_stored,
                history_rows: history as usize,
                instants_ms,
            };
            let target = Target { timeline, key, layout: run.layout, column_count: run.columns };
            let source = StoreColumns { store, target: &target, rows: rows.clone(), ages: self.ages(run.layout) };
            if frame.block(&spec, &source) {
                let mark = &mut self.marks[index];
                if columns.end < run.columns {
                    (mark.logged, mark.log_column) = (run.rows.start, columns.end);
                    return Block::Added;
                }
                (mark.logged, mark.log_column) = (rows.end, 0);
                mark.chain = (!is_wide).then(|| Chain {
                    layout: run.layout,
                    row_end: rows.end,
                    rows: (count + history.min(1)).min(HISTORY_ROWS_MAX as u64),
                });
                return Block::Added;
            }
            if !frame.is_empty() {
                return Block::FrameFull;
            }
            if count > 1 {
                count /= 2;
            } else if history > 0 {
                // A row in pieces stands alone.
                history = 0;
            } else {
                assert!(columns.len() > 1, "a cell fits a frame");
                columns.end = columns.start + columns.len() as u32 / 2;
            }
        }
    }
}
