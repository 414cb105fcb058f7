//! One upstream: what goes next, and what its answers do to the cursors.
//!
//! One message is in flight at a time, so that order is kept; each holds many rows of one timeline, which is many samples
//! per series. Cursors move only on an answer, and a region that is in flight is still in the saved state: a crash
//! repeats at most what was sent since the last save.

use super::{
    answer::{AnswerClass, classify},
    cursor::{ALL_COLUMNS, Cursor, Region, SAVED_VERSION, Saved},
    encode::Writer,
    source::{RowSample, RowSource, RowsUnreadable, Run},
    status::{Batch, ForwardSettings, ForwardStatus, Lag, Lost, LostReason, RestoreError},
};
use crate::{prng::Prng, retry::Backoff, store::TimelineKey, time::Now};
use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
use core::ops::Range;

/// Most rows of one timeline in one message, so that one series always fits.
const ROWS_PER_MESSAGE_MAX: u64 = 256;
/// Regions looked at per call before the caller gets its turn again.
const STEPS_PER_CALL_MAX: usize = 64;
/// How often parked rows are tried again.
pub const PARKED_RETRY_MS: u64 = 10 * 60 * 1000;
/// What a Prometheus without an out-of-order window takes: half of its head's two hours.
pub const UPSTREAM_WINDOW_MS: i64 = 3_600_000;
/// Failed reads of one region before it is given up.
const UNREADABLE_COUNT_MAX: u32 = 8;
/// The wait after the first failed read; it doubles up to the second.
const UNREADABLE_WAIT_MS: u64 = 2_000;
const UNREADABLE_WAIT_MS_MAX: u64 = 60_000;
/// Regions of one message while the upstream looks as if it refused everything.
const SPLIT_COUNT_MAX: usize = 48;
/// Single samples refused in a row before we suspect the upstream and not the samples.
const REFUSED_ALONE_COUNT_MAX: u32 = 16;
/// Losses kept for the caller by name; of more only the newest. [`ForwardStatus::rows_lost`] has them all.
const LOST_COUNT_MAX: usize = 32;

/// Forwards to one upstream.
///
/// ```text
///  nothing to send --next_batch--> in flight --answered 2xx---> nothing to send
///        ^                            | 5xx, 429, no answer: wait, same rows again
///        |                            | 400 bad sample: halves, until it stands alone and is skipped
///        +----------------------------+ 400 out of bounds: the rows are parked, newer ones go on
/// ```
pub struct Forwarder {
    settings: ForwardSettings,
    timelines: BTreeMap<u64, Timeline>,
    /// The timeline served last; the next one gets the next turn.
    turn: u64,
    in_flight: Option<InFlight>,
    backoff: Backoff,
    prng: Prng,
    not_before_mono_ms: u64,
    /// Most samples in one message for now: less than configured after a 413.
    samples_max: u64,
    /// The upstream has accepted something since it last looked as if it refused everything.
    alive: bool,
    refused_alone_count: u32,
    /// Rows up to this wall time are parked without asking.
    refused_before_ms: i64,
    parked_retry_mono_ms: u64,
    looks: u64,
    status: ForwardStatus,
    lost: Vec<Lost>,
}

#[derive(Default)]
struct Timeline {
    cursor: Cursor,
    held: Range<u64>,
    /// When unsent rows from `ripe_before` on were first seen.
    waiting_since_mono_ms: Option<u64>,
    /// Rows before this have waited long enough.
    ripe_before: u64,
    not_before_mono_ms: u64,
    unreadable_count: u32,
    /// What is sent next may have been accepted before.
    uncertain: bool,
    /// The open regions are being asked about one by one.
    asking: bool,
    /// While the last column of a repeated row is asked alone: the columns before it, and their samples.
    probe: Option<(Region, u64)>,
    /// The open regions were parked and are being tried again.
    retrying: bool,
    out_of_bounds_count: u32,
    looked: u64,
}

impl Timeline {
    fn has_ripe(&self) -> bool {
        !self.cursor.open.is_empty() || self.cursor.row_next < self.ripe_before.min(self.held.end)
    }

    /// Nothing is given up here: the rows are asked for again.
    fn wait_for_rows<T>(&mut self, now: Now, unreadable: RowsUnreadable, status: &mut ForwardStatus) -> Option<T> {
        status.last_error = format!("rows could not be read: {}", unreadable.reason);
        let wait_ms = UNREADABLE_WAIT_MS << self.unreadable_count.min(5);
        self.not_before_mono_ms = now.mono_ms + wait_ms.min(UNREADABLE_WAIT_MS_MAX);
        None
    }

    /// The answer to a probe has come: takes the columns it speaks for off the stack, if they are still on top.
    fn take_probe(&mut self) -> Option<(Region, u64)> {
        let (before, samples) = self.probe.take()?;
        let on_top = self.cursor.open.pop_if(|top| *top == before)?;
        Some((on_top, samples))
    }
}

struct InFlight {
    key: u64,
    /// What is in the message.
    region: Region,
    /// What of the same rows did not fit.
    rest: Region,
    /// The last column that has a sample in the message.
    last_column: u32,
    samples: u64,
    bytes: u64,
    span_ms: (i64, i64),
}

impl Forwarder {
    /// Sends everything held, unless [`Forwarder::restore`] or [`Forwarder::skip_held`] says otherwise.
    pub fn new(settings: ForwardSettings, seed: u64) -> Self {
        Self {
            timelines: BTreeMap::new(),
            turn: 0,
            in_flight: None,
            backoff: Backoff::new(settings.backoff_ms_min, settings.backoff_ms_max),
            prng: Prng::new(seed),
            not_before_mono_ms: 0,
            samples_max: settings.samples_per_send_max,
            alive: false,
            refused_alone_count: 0,
            refused_before_ms: i64::MIN,
            parked_retry_mono_ms: 0,
            looks: 0,
            status: ForwardStatus::default(),
            lost: Vec::new(),
            settings,
        }
    }

    /// A changed configuration for the same upstream.
    pub fn set_settings(&mut self, settings: ForwardSettings) {
        self.samples_max = settings.samples_per_send_max;
        self.backoff = Backoff::new(settings.backoff_ms_min, settings.backoff_ms_max);
        self.settings = settings;
    }

    /// What to keep durably, under the upstream's name. What is in flight counts as not sent.
    pub fn save(&self) -> Result<Vec<u8>, postcard::Error> {
        let cursors = self.timelines.iter().map(|(key, timeline)| (*key, timeline.cursor.clone())).collect();
        postcard::to_allocvec(&Saved { version: SAVED_VERSION, samples_max: self.samples_max, cursors })
    }

    /// Goes on where [`Forwarder::save`] was. To be called once the store is recovered and before new rows are written
    /// to it: a cursor that is ahead of the store (rows were lost in a power cut after they were sent) is set back to
    /// the store's end.
    pub fn restore(&mut self, bytes: &[u8], rows: &mut dyn RowSource) -> Result<(), RestoreError> {
        match bytes.first() {
            Some(&SAVED_VERSION) => {}
            Some(&found) => return Err(RestoreError::OtherVersion { found }),
            None => return Err(RestoreError::Damaged),
        }
        let saved: Saved = postcard::from_bytes(bytes).map_err(|_| RestoreError::Damaged)?;
        let is_sound = |region: &Region| !region.is_empty();
        if !saved.cursors.iter().all(|(_, cursor)| cursor.open.iter().chain(&cursor.parked).all(is_sound)) {
            return Err(RestoreError::Damaged);
        }
        self.timelines = saved
            .cursors
            .into_iter()
            .map(|(key, mut cursor)| {
                // A store that was recovered has its rows' columns in another order.
                cursor.forget_columns();
                let held = cursor.row_next..cursor.row_next;
                (key, Timeline { cursor, held, uncertain: true, ..Timeline::default() })
            })
            .collect();
        // The same messages as before the restart, so that what is repeated was taken or left whole.
        self.samples_max = saved.samples_max.clamp(1, self.settings.samples_per_send_max);
        self.look(0, rows);
        Ok(())
    }

    /// A new upstream that wants only what comes from now on.
    pub fn skip_held(&mut self, rows: &mut dyn RowSource) {
        rows.timelines(&mut |key, held| {
            let cursor = Cursor { row_next: held.end, ..Cursor::default() };
            self.timelines.insert(key.0, Timeline { cursor, held, ..Timeline::default() });
        });
    }

    /// Writes the next message into `out`, if there is one to send now. Post it, then call [`Forwarder::answered`] or
    /// [`Forwarder::failed`]; until then there is no other.
    pub fn next_batch(&mut self, now: Now, rows: &mut dyn RowSource, out: &mut [u8]) -> Option<Batch> {
        if self.in_flight.is_some() || now.mono_ms < self.not_before_mono_ms {
            return None;
        }
        self.look(now.mono_ms, rows);
        for _ in 0..STEPS_PER_CALL_MAX {
            let key = self.choose(now, rows)?;
            let Some((region, run)) = self.next_region(now, key, rows) else { continue };
            if let Some(batch) = self.encode(now, key, region, &run, rows, out) {
                self.turn = key;
                return Some(batch);
            }
        }
        None
    }

    /// When [`Forwarder::next_batch`] may have something again, in monotonic milliseconds. `None`: when an answer or
    /// new rows have come.
    pub fn wake_mono_ms(&self, now: Now) -> Option<u64> {
        if self.in_flight.is_some() {
            return None;
        }
        let waits = self.timelines.values().filter_map(|timeline| {
            if timeline.has_ripe() {
                return Some(timeline.not_before_mono_ms);
            }
            let since = timeline.waiting_since_mono_ms?;
            Some(timeline.not_before_mono_ms.max(since + self.settings.batch_deadline_ms))
        });
        let is_parked = self.timelines.values().any(|timeline| timeline.cursor.may_retry_parked());
        let wake_ms = waits.chain(is_parked.then_some(self.parked_retry_mono_ms)).min()?;
        Some(wake_ms.max(self.not_before_mono_ms).max(now.mono_ms))
    }

    /// The upstream answered the message in flight. `body` is the answer's beginning.
    pub fn answered(&mut self, now: Now, status: u16, retry_after_ms: Option<u64>, body: &str) {
        let Some(flight) = self.in_flight.take() else { return };
        let class = classify(status, body);
        if class != AnswerClass::Accepted {
            let body: String = body.chars().take(256).collect();
            self.status.last_error = format!("the upstream answered HTTP status {status}: {}", body.trim());
        }
        match class {
            AnswerClass::Accepted => self.accepted(now, flight),
            AnswerClass::Again => self.again(now, flight.key, retry_after_ms),
            AnswerClass::TooLarge => self.too_large(flight),
            AnswerClass::OutOfBounds => self.out_of_bounds(now, flight),
            AnswerClass::OutOfOrder => self.out_of_order(now, flight, status),
            AnswerClass::Refused => self.refused(now, flight, status),
        }
    }

    /// No connection, or no answer in time: the rows may have arrived or not.
    pub fn failed(&mut self, now: Now, error: &str) {
        let Some(flight) = self.in_flight.take() else { return };
        self.status.last_error = error.into();
        self.again(now, flight.key, None);
    }

    /// Rows of a timeline before this one have been looked at: what is put into them now would not be sent.
    pub fn rows_taken(&self, key: TimelineKey) -> u64 {
        self.timelines.get(&key.0).map_or(0, |timeline| timeline.cursor.row_next)
    }

    pub fn status(&self) -> &ForwardStatus {
        &self.status
    }

    /// Losses since the last call, each to be logged and counted.
    pub fn take_lost(&mut self) -> Vec<Lost> {
        core::mem::take(&mut self.lost)
    }

    pub fn lag(&self, rows: &mut dyn RowSource) -> Lag {
        let mut held = Vec::new();
        rows.timelines(&mut |key, range| held.push((key, range)));
        let mut lag = Lag::default();
        for (key, range) in held {
            let fresh =
                Timeline { cursor: Cursor { row_next: range.start, ..Cursor::default() }, ..Timeline::default() };
            let cursor = &self.timelines.get(&key.0).unwrap_or(&fresh).cursor;
            lag.rows_parked += cursor.parked.iter().map(Region::row_count).sum::<u64>();
            let unsent_rows = cursor.unsent_rows(range.end);
            if unsent_rows == 0 {
                continue;
            }
            lag.rows += unsent_rows;
            let first = cursor.open.iter().map(|region| region.rows.start).chain([cursor.row_next]).min();
            let Ok(Some(run)) = rows.run(key, first.unwrap_or(cursor.row_next)) else { continue };
            lag.samples += unsent_rows * u64::from(run.column_count);
            lag.oldest_ms = Some(lag.oldest_ms.map_or(run.first_ms, |oldest_ms: i64| oldest_ms.min(run.first_ms)));
        }
        lag
    }

    /// Brings the timelines up to what the store holds.
    fn look(&mut self, mono_ms: u64, rows: &mut dyn RowSource) {
        let Self { timelines, lost, status, looks, .. } = self;
        *looks += 1;
        rows.timelines(&mut |key, held| {
            let timeline = timelines.entry(key.0).or_insert_with(|| {
                let cursor = Cursor { row_next: held.start, ..Cursor::default() };
                Timeline { cursor, ..Timeline::default() }
            });
            timeline.looked = *looks;
            timeline.cursor.set_back(held.end);
            timeline.cursor.clip_before(held.start, &mut |region| {
                note_lost(lost, status, key.0, region, Known::default(), LostReason::Retention);
            });
            timeline.held = held;
            let is_waiting = timeline.held.end > timeline.cursor.row_next.max(timeline.ripe_before);
            timeline.waiting_since_mono_ms =
                if is_waiting { timeline.waiting_since_mono_ms.or(Some(mono_ms)) } else { None };
        });
        timelines.retain(|key, timeline| {
            if timeline.looked != *looks {
                let end = timeline.held.end.max(timeline.cursor.row_next);
                timeline.cursor.clip_before(end, &mut |region| {
                    note_lost(lost, status, *key, region, Known::default(), LostReason::Retention);
                });
            }
            timeline.looked == *looks
        });
    }

    /// The next timeline in turn that has something to send now.
    fn choose(&mut self, now: Now, rows: &mut dyn RowSource) -> Option<u64> {
        let after = self.timelines.range(self.turn.saturating_add(1)..);
        let in_turn = after.chain(self.timelines.range(..=self.turn)).map(|(key, _)| *key);
        for key in in_turn.clone() {
            let timeline = &self.timelines[&key];
            if now.mono_ms < timeline.not_before_mono_ms {
                continue;
            }
            if timeline.has_ripe() {
                return Some(key);
            }
            let Some(since) = timeline.waiting_since_mono_ms else { continue };
            let unsent_rows = timeline.held.end.saturating_sub(timeline.cursor.row_next);
            let mut is_ripe = now.mono_ms.saturating_sub(since) >= self.settings.batch_deadline_ms;
            if !is_ripe {
                let run = rows.run(TimelineKey(key), timeline.cursor.row_next);
                let width = run.ok().flatten().map_or(1, |run| run.column_count);
                is_ripe = unsent_rows.saturating_mul(u64::from(width)) >= self.samples_max;
            }
            if is_ripe {
                let timeline = self.timelines.get_mut(&key)?;
                timeline.ripe_before = timeline.held.end;
                timeline.waiting_since_mono_ms = None;
                return Some(key);
            }
        }
        if now.mono_ms < self.parked_retry_mono_ms {
            return None;
        }
        let key = in_turn.clone().find(|key| self.timelines[key].cursor.may_retry_parked())?;
        let timeline = self.timelines.get_mut(&key)?;
        let region = timeline.cursor.parked.pop()?;
        // The newest first: an upstream with a window takes these if it takes any.
        let from = region.rows.end.saturating_sub(ROWS_PER_MESSAGE_MAX).max(region.rows.start);
        let (before, newest) = region.split_rows(from);
        timeline.cursor.park(before);
        timeline.cursor.open_push(newest);
        timeline.retrying = true;
        Some(key)
    }

    /// The region on top of the stack, cut to what lies in one run; `None` when that has gone or nothing is left.
    fn next_region(&mut self, now: Now, key: u64, rows: &mut dyn RowSource) -> Option<(Region, Run)> {
        let Self { timelines, lost, status, samples_max, refused_before_ms, .. } = self;
        let timeline = timelines.get_mut(&key)?;
        let cursor = &mut timeline.cursor;
        if cursor.open.is_empty() {
            let run = match rows.run(TimelineKey(key), cursor.row_next) {
                Ok(run) => run,
                Err(unreadable) => return timeline.wait_for_rows(now, unreadable, status),
            };
            let readable = run.as_ref().map_or(timeline.held.end, |run| run.rows.start);
            if readable > cursor.row_next {
                let gap = Region::whole(cursor.row_next..readable);
                note_lost(lost, status, key, gap, Known::default(), LostReason::Unreadable);
                cursor.row_next = readable;
            }
            let run = run?;
            let rows_max = (*samples_max / u64::from(run.column_count.max(1))).clamp(1, ROWS_PER_MESSAGE_MAX);
            let end = run.rows.end.min(cursor.row_next.saturating_add(rows_max));
            cursor.open_push(Region::whole(cursor.row_next..end));
            cursor.row_next = end;
            (timeline.retrying, timeline.asking) = (false, false);
        }
        let run = match rows.run(TimelineKey(key), cursor.open.last()?.rows.start) {
            Ok(run) => run,
            Err(unreadable) => return timeline.wait_for_rows(now, unreadable, status),
        };
        let mut region = cursor.open.pop()?;
        let Some(run) = run.filter(|run| run.rows.start < region.rows.end) else {
            note_lost(lost, status, key, region, Known::default(), LostReason::Unreadable);
            return None;
        };
        if run.rows.start > region.rows.start {
            let (gone, kept) = region.split_rows(run.rows.start);
            note_lost(lost, status, key, gone, Known::default(), LostReason::Unreadable);
            region = kept;
        }
        let end = run.rows.end.min(region.rows.start.saturating_add(ROWS_PER_MESSAGE_MAX));
        if end < region.rows.end {
            let (first, later) = region.split_rows(end);
            cursor.open_push(later);
            region = first;
        }
        if !timeline.retrying && run.first_ms <= *refused_before_ms {
            let row = row_after(*refused_before_ms, key, &region.rows, rows);
            let (old, newer) = region.split_rows(row);
            cursor.park(old);
            cursor.open_push(newer);
            return None;
        }
        if region.columns.start >= run.column_count {
            return None;
        }
        cursor.open.push(region.clone());
        region.columns.end = region.columns.end.min(run.column_count);
        Some((region, run))
    }

    /// Encodes as much of `region` as fits and puts it in flight.
    fn encode(
        &mut self,
        now: Now,
        key: u64,
        region: Region,
        run: &Run,
        rows: &mut dyn RowSource,
        out: &mut [u8],
    ) -> Option<Batch> {
        let (samples_max, external) = (self.samples_max, self.settings.external_labels.as_ref());
        let mut region = region;
        let mut distinct = Vec::new();
        let (mut writer, mut samples_count, mut series_count, mut span_ms, mut column_end, mut last_column);
        let read = loop {
            writer = Writer::new(&mut *out);
            (samples_count, series_count, span_ms) = (0_u64, 0_u64, (i64::MAX, i64::MIN));
            (column_end, last_column) = (region.columns.end, region.columns.start);
            let mut back_row = None;
            let read = rows.columns(
                TimelineKey(key),
                region.rows.clone(),
                region.columns.start,
                &mut |column, labels, samples| {
                    if column >= region.columns.end {
                        return false;
                    }
                    if samples.is_empty() {
                        return true;
                    }
                    let samples = once_per_timestamp(samples, &mut distinct);
                    back_row = samples.windows(2).find(|pair| pair[1].t_ms < pair[0].t_ms).map(|pair| pair[1].row);
                    if back_row.is_some() {
                        return false;
                    }
                    let is_enough = series_count > 0 && samples_count + samples.len() as u64 > samples_max;
                    if is_enough || !writer.series(labels, external, samples) {
                        column_end = column;
                        return false;
                    }
                    samples_count += samples.len() as u64;
                    series_count += 1;
                    last_column = column;
                    for sample in samples {
                        span_ms = (span_ms.0.min(sample.t_ms), span_ms.1.max(sample.t_ms));
                    }
                    true
                },
            );
            // The clock was set back between two rows. A message has every series' samples in order of time, so the
            // rows from there on go in the next one.
            let (Ok(()), Some(row)) = (&read, back_row.filter(|row| region.rows.contains(row))) else { break read };
            let cursor = &mut self.timelines.get_mut(&key)?.cursor;
            let (earlier, later) = cursor.open.pop()?.split_rows(row);
            cursor.open_push(later);
            cursor.open_push(earlier);
            region.rows.end = row;
        };
        let bytes = writer.used();
        let timeline = self.timelines.get_mut(&key)?;
        if let Err(unreadable) = read {
            timeline.wait_for_rows::<Batch>(now, unreadable, &mut self.status);
            timeline.unreadable_count += 1;
            if timeline.unreadable_count < UNREADABLE_COUNT_MAX {
                return None;
            }
            timeline.unreadable_count = 0;
            timeline.cursor.open.pop();
            note_lost(&mut self.lost, &mut self.status, key, region, Known::default(), LostReason::Unreadable);
            return None;
        }
        timeline.unreadable_count = 0;
        if series_count == 0 {
            timeline.cursor.open.pop();
            if column_end < region.columns.end {
                self.too_large_alone(key, region, column_end);
            }
            return None;
        }
        let columns_end = if region.columns.end == run.column_count { ALL_COLUMNS } else { region.columns.end };
        let rest_start = if column_end == region.columns.end { columns_end } else { column_end };
        let rest = Region { rows: region.rows.clone(), columns: rest_start..columns_end };
        let region = Region { rows: region.rows, columns: region.columns.start..column_end };
        let batch = Batch {
            bytes,
            samples: samples_count,
            series: series_count,
            timeline: TimelineKey(key),
            rows: region.rows.clone(),
        };
        let (samples, bytes) = (samples_count, bytes as u64);
        self.in_flight = Some(InFlight { key, region, rest, last_column, samples, bytes, span_ms });
        Some(batch)
    }

    /// `column` alone does not fit into a message over these rows.
    fn too_large_alone(&mut self, key: u64, region: Region, column: u32) {
        let Some(timeline) = self.timelines.get_mut(&key) else { return };
        let cursor = &mut timeline.cursor;
        let (_, region) = region.split_columns(column);
        let (alone, rest) = region.split_columns(column + 1);
        cursor.open_push(rest);
        if alone.row_count() > 1 {
            let middle = alone.rows.start + alone.row_count() / 2;
            let (earlier, later) = alone.split_rows(middle);
            cursor.open_push(later);
            cursor.open_push(earlier);
        } else {
            let known = Known { span_ms: None, samples: 1 };
            note_lost(&mut self.lost, &mut self.status, key, alone, known, LostReason::TooLarge);
        }
    }

    fn accepted(&mut self, now: Now, flight: InFlight) {
        self.status.samples_sent += flight.samples;
        self.status.messages_sent += 1;
        self.status.bytes_sent += flight.bytes;
        self.status.last_accepted_wall_ms = Some(now.wall_ms);
        self.status.last_error.clear();
        self.backoff.succeeded();
        self.not_before_mono_ms = now.mono_ms;
        (self.alive, self.refused_alone_count) = (true, 0);
        self.samples_max = (self.samples_max + self.samples_max.div_ceil(16)).min(self.settings.samples_per_send_max);
        let Some(timeline) = self.take_open(&flight) else { return };
        timeline.out_of_bounds_count = 0;
        if let Some((before, _)) = timeline.take_probe() {
            // Not all of the row was held: the halves are asked, the later columns first.
            let middle = before.columns.start + (before.columns.end - before.columns.start) / 2;
            let (left, right) = before.split_columns(middle);
            timeline.cursor.open_push(left);
            timeline.cursor.open_push(right);
        }
        timeline.cursor.open_push(flight.rest);
        // Columns go in order and so do rows: when the first columns of a row were not held, nothing behind them is. Parts
        // of a row that was asked about say nothing, as a sample that is the newest of its series may come twice.
        timeline.uncertain &= timeline.asking || flight.region.columns.start > 0;
        if timeline.retrying {
            // The window is open again: everything parked gets its chance, and nothing more is parked unasked.
            timeline.retrying = !timeline.cursor.open.is_empty();
            self.parked_retry_mono_ms = now.mono_ms;
            self.refused_before_ms = i64::MIN;
        }
    }

    /// The same rows again, later.
    fn again(&mut self, now: Now, key: u64, retry_after_ms: Option<u64>) {
        self.status.messages_retried += 1;
        self.not_before_mono_ms = now.mono_ms + self.backoff.failed(&mut self.prng, retry_after_ms);
        if let Some(timeline) = self.timelines.get_mut(&key) {
            timeline.uncertain = true;
        }
    }

    fn too_large(&mut self, flight: InFlight) {
        self.status.messages_refused += 1;
        self.samples_max = (flight.samples / 2).max(1);
        if flight.region.columns.end - flight.region.columns.start > 1 && flight.samples > flight.region.row_count() {
            // The next message of the same rows holds fewer columns.
            return;
        }
        let Some(timeline) = self.take_open(&flight) else { return };
        timeline.cursor.open_push(flight.rest);
        if flight.region.row_count() > 1 {
            let middle = flight.region.rows.start + flight.region.row_count() / 2;
            let (earlier, later) = flight.region.split_rows(middle);
            timeline.cursor.open_push(later);
            timeline.cursor.open_push(earlier);
            return;
        }
        let known = Known { span_ms: Some(flight.span_ms), samples: flight.samples };
        note_lost(&mut self.lost, &mut self.status, flight.key, flight.region, known, LostReason::TooLarge);
    }

    fn out_of_bounds(&mut self, now: Now, flight: InFlight) {
        self.status.messages_refused += 1;
        (self.alive, self.refused_alone_count) = (true, 0);
        let oldest_ms = flight.span_ms.0;
        let Some(timeline) = self.take_open(&flight) else { return };
        let whole = flight.region.clone().hull(if flight.rest.is_empty() { &flight.region } else { &flight.rest });
        if timeline.retrying {
            timeline.cursor.park(whole);
            let left = core::mem::take(&mut timeline.cursor.open);
            left.into_iter().for_each(|region| timeline.cursor.park(region));
            timeline.retrying = false;
            self.parked_retry_mono_ms = now.mono_ms + PARKED_RETRY_MS;
            return;
        }
        // The first row is known to be outside. How many more is asked in steps that grow slowly, because a row that is
        // passed over cannot be sent any more to an upstream that wants order.
        let step = 1 << (timeline.out_of_bounds_count / 4).min(8);
        timeline.out_of_bounds_count += 1;
        let row = (whole.rows.start + step).min(whole.rows.end);
        let (old, newer) = whole.split_rows(row);
        timeline.cursor.park(old);
        timeline.cursor.open_push(newer);
        self.parked_retry_mono_ms = now.mono_ms + PARKED_RETRY_MS;
        // Everything behind a Prometheus' usual window is parked at once, so that live data goes on.
        let usual_ms = now.wall_ms.saturating_sub(UPSTREAM_WINDOW_MS);
        if oldest_ms <= usual_ms {
            self.refused_before_ms = self.refused_before_ms.max(usual_ms);
        } else if oldest_ms < now.wall_ms {
            self.refused_before_ms = self.refused_before_ms.max(oldest_ms);
        }
    }

    fn out_of_order(&mut self, now: Now, flight: InFlight, status: u16) {
        // Whoever says this has looked at the samples.
        (self.alive, self.refused_alone_count) = (true, 0);
        let is_uncertain = self.timelines.get(&flight.key).is_some_and(|timeline| timeline.uncertain);
        if !is_uncertain {
            return self.refused(now, flight, status);
        }
        // A repeat of what was accepted before its answer was lost, at least in part. Rows were sent in order, and of
        // each row the columns in order: the rows are asked one by one, and of a row that is refused the last column; if
        // that is held upstream, so are all before it.
        self.status.messages_refused += 1;
        let Some(timeline) = self.take_open(&flight) else { return };
        timeline.asking = true;
        if let Some((_, samples)) = timeline.take_probe() {
            self.status.samples_held_upstream += flight.samples + samples;
            return;
        }
        timeline.cursor.open_push(flight.rest);
        if flight.region.row_count() > 1 {
            let second_row = flight.region.rows.start + 1;
            let (first, later) = flight.region.split_rows(second_row);
            timeline.cursor.open_push(later);
            timeline.cursor.open_push(first);
        } else if flight.samples > 1 {
            let (before, last) = flight.region.split_columns(flight.last_column);
            timeline.probe = Some((before.clone(), flight.samples - 1));
            timeline.cursor.open_push(before);
            timeline.cursor.open_push(last);
        } else {
            self.status.samples_held_upstream += 1;
        }
    }

    /// Something in the message is bad: its halves go alone.
    fn refused(&mut self, now: Now, flight: InFlight, status: u16) {
        self.status.messages_refused += 1;
        let is_alive = self.alive;
        let Some(timeline) = self.take_open(&flight) else { return };
        let cursor = &mut timeline.cursor;
        cursor.open_push(flight.rest);
        let region = flight.region;
        let column_count = region.columns.end - region.columns.start;
        // An upstream that refuses everything must not make us cut everything into single samples.
        let may_split = is_alive || cursor.open.len() < SPLIT_COUNT_MAX;
        if column_count > 1 && may_split {
            let middle = region.columns.start + column_count / 2;
            let (left, right) = region.split_columns(middle);
            cursor.open_push(right);
            cursor.open_push(left);
            return;
        }
        if region.row_count() > 1 && may_split {
            let middle = region.rows.start + region.row_count() / 2;
            let (earlier, later) = region.split_rows(middle);
            cursor.open_push(later);
            cursor.open_push(earlier);
            return;
        }
        if !is_alive {
            return self.suspect(now, flight.key, region);
        }
        self.refused_alone_count += 1;
        self.alive = self.refused_alone_count < REFUSED_ALONE_COUNT_MAX;
        self.status.samples_refused += flight.samples;
        let known = Known { span_ms: Some(flight.span_ms), samples: flight.samples };
        note_lost(&mut self.lost, &mut self.status, flight.key, region, known, LostReason::Refused { status });
    }

    /// Nothing was accepted for long: it may be the upstream (a wrong path, a proxy) and not `region`, which stays. Other
    /// columns of the same rows get the next turn, a little later; one good sample proves the upstream.
    fn suspect(&mut self, now: Now, key: u64, region: Region) {
        let wait_ms = self.backoff.failed(&mut self.prng, None);
        let Some(timeline) = self.timelines.get_mut(&key) else { return };
        timeline.not_before_mono_ms = now.mono_ms + wait_ms;
        let open = &mut timeline.cursor.open;
        // Only what has other columns may overtake: each series keeps its order.
        let is_apart = |other: &Region, one: &Region| {
            other.columns.start >= one.columns.end || other.columns.end <= one.columns.start
        };
        let may_overtake = |index: usize| {
            let candidate: &Region = &open[index];
            candidate.rows.start <= region.rows.start
                && is_apart(candidate, &region)
                && open[index + 1..].iter().all(|above| is_apart(candidate, above))
        };
        let candidates: Vec<usize> = (0..open.len()).filter(|index| may_overtake(*index)).collect();
        let chosen = candidates.get(self.prng.below(candidates.len() as u64) as usize).copied();
        let first = chosen.map(|index| open.remove(index));
        open.push(region);
        open.extend(first);
    }

    /// Takes the region that was in flight off its stack.
    fn take_open(&mut self, flight: &InFlight) -> Option<&mut Timeline> {
        let timeline = self.timelines.get_mut(&flight.key)?;
        let top = timeline.cursor.open.pop();
        assert!(top.is_some_and(|top| top.rows == flight.region.rows), "the region in flight is not on top");
        Some(timeline)
    }
}

/// A sample with its own timestamp comes again from scrape to scrape until there is a newer one; it is sent once.
fn once_per_timestamp<'s>(samples: &'s [RowSample], distinct: &'s mut Vec<RowSample>) -> &'s [RowSample] {
    if samples.windows(2).all(|pair| pair[0].t_ms != pair[1].t_ms) {
        return samples;
    }
    distinct.clear();
    distinct.extend_from_slice(samples);
    distinct.dedup_by_key(|sample| sample.t_ms);
    distinct
}

/// The first of `rows` whose instant lies after `t_ms`, or their end. They are looked at one by one: instants go back where
/// the clock did and where late samples were pushed.
fn row_after(t_ms: i64, key: u64, rows: &Range<u64>, source: &mut dyn RowSource) -> u64 {
    let mut is_old = |row: &u64| matches!(source.run(TimelineKey(key), *row), Ok(Some(run)) if run.first_ms <= t_ms);
    rows.start + rows.clone().take_while(|row| is_old(row)).count() as u64
}

/// What is known of samples that are given up.
#[derive(Default)]
struct Known {
    span_ms: Option<(i64, i64)>,
    samples: u64,
}

fn note_lost(
    lost: &mut Vec<Lost>,
    status: &mut ForwardStatus,
    key: u64,
    region: Region,
    known: Known,
    reason: LostReason,
) {
    status.rows_lost += region.row_count();
    let Known { span_ms, samples } = known;
    let entry =
        Lost { timeline: TimelineKey(key), rows: region.rows, columns: region.columns, span_ms, samples, reason };
    if lost.len() < LOST_COUNT_MAX {
        lost.push(entry);
    } else if let Some(last) = lost.last_mut() {
        *last = Lost { samples: last.samples + entry.samples, ..entry };
    }
}
