//! Pushed requests: from a body that waits its turn to rows in the store and an answer.
//!
//! ```text
//!            begin            batch full or end           written, more to read
//! Waiting ----------> Reading -------------------> Writing ---------------------> Reading
//!                        | cannot be read             | all written
//!                        +----------> answered <------+
//! ```
//!
//! One request is worked on at a time, in bites. Whatever a bite has written stays, and a request is answered well
//! only once all of it is written; one that ends otherwise is sent again, and what was stored of it is met again and
//! left as it is.

use super::{
    Daemon,
    answer::{Answer, Headers, TEXT},
    input::RequestId,
    output::Level,
    requests::Incoming,
};
use crate::{
    ledger::{Loss, Reason},
    limits::{RECEIVE_AHEAD_MS_MAX, RECEIVE_QUEUE_BYTES_MAX, RECEIVE_QUIET_MS, RECEIVE_WAIT_MS},
    receive::{Batch, BatchSample, Cause, InflateError, Inflater, Item, Pusher, Reader, Room, Tally, check_head},
    spill::ring_is_short,
    store::{Missing, PutOutcome, RegionName, TimelineId, TimelineKey},
    time::Now,
};
use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
    string::String,
    vec::Vec,
};

/// Work of one bite: about a microsecond each on the slowest thing we were measured on, a quarter of that here.
const BITE_UNITS: u64 = 2048;
/// Columns of a row that cost as much as one sample: each row is begun, committed and packed with all of them.
const COLUMNS_PER_UNIT: u32 = 16;
/// A sample that may be in the store already has to be looked for.
const LATE_UNITS: u64 = 16;
/// Before this instant a wall clock was never set: nothing is measured by it.
const CLOCK_SET_MS_MIN: i64 = 1_704_067_200_000;
/// The year 1: earlier instants have no text.
const EARLIEST_MS: i64 = -62_135_596_800_000;

const BUSY: Headers = &[("Content-Type", "text/plain; charset=utf-8"), ("Retry-After", "1")];

pub(super) struct Receiver {
    queue: VecDeque<Push>,
    inflater: Inflater,
    batch: Batch,
    pushers: BTreeMap<Pusher, PusherState>,
    strays: Vec<Stray>,
    strays_due_mono_ms: u64,
    /// Requests had the last bite: queries have the next one.
    pub rests: bool,
    /// All requests, and those answered 4xx and told to come back.
    pub tally: Tally,
    pub request_count: u64,
    pub refused_count: u64,
    pub busy_count: u64,
}

struct PusherState {
    timeline: TimelineId,
    pushed_mono_ms: u64,
    /// Nothing in RAM is newer: a sample behind it may be there already.
    newest_ms: i64,
}

/// A timeline that was open when this process began, and that may be nobody's any more.
struct Stray {
    timeline: TimelineId,
    key: TimelineKey,
    row_next: u64,
}

struct Push {
    request: RequestId,
    body: Vec<u8>,
    came_mono_ms: u64,
    stage: Stage,
    tally: Tally,
}

enum Stage {
    Waiting,
    Reading(Reading),
    /// Samples of the batch before `next` are written.
    Writing {
        reading: Reading,
        next: usize,
    },
}

#[derive(Clone, Copy)]
struct Reading {
    reader: Reader,
    /// A sample for which the batch had no room.
    pending: Option<(i64, u64)>,
    ended: bool,
}

/// How a request ends.
enum End {
    Done,
    Malformed(String),
    TooLarge(InflateError),
    Busy(&'static str),
}

impl Receiver {
    pub fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            inflater: Inflater::default(),
            batch: Batch::default(),
            pushers: BTreeMap::new(),
            strays: Vec::new(),
            strays_due_mono_ms: 0,
            rests: false,
            tally: Tally::default(),
            request_count: 0,
            refused_count: 0,
            busy_count: 0,
        }
    }

    pub fn pusher_count(&self) -> usize {
        self.pushers.len()
    }

    /// The client went away: what it sent need not be gone on with.
    pub fn gone(&mut self, request: RequestId) {
        if self.queue.front().is_some_and(|push| push.request == request) {
            self.batch.clear();
        }
        self.queue.retain(|push| push.request != request);
    }

    fn queue_bytes(&self) -> usize {
        self.queue.iter().map(|push| push.body.len()).sum()
    }
}

impl Daemon<'_> {
    /// A request to write: answered at once when it is not one, else queued.
    pub(super) fn receive(&mut self, now: Now, incoming: Incoming<'_>) {
        let request = incoming.request;
        if !self.options.enable_remote_write_receiver {
            let text = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n";
            return self.answers.add(Answer::text(request, 404, text));
        }
        self.receiver.request_count += 1;
        if let Err(refused) = check_head(incoming.content_type, incoming.content_encoding) {
            self.receiver.refused_count += 1;
            return self.answers.add(Answer::text(request, 415, &format!("{refused}\n")));
        }
        let queued = self.receiver.queue_bytes();
        if queued > 0 && queued + incoming.body.len() > RECEIVE_QUEUE_BYTES_MAX {
            return self.receive_busy(request, "other requests to write are waiting; try again");
        }
        self.receiver.queue.push_back(Push {
            request,
            body: incoming.body,
            came_mono_ms: now.mono_ms,
            stage: Stage::Waiting,
            tally: Tally::default(),
        });
    }

    fn receive_busy(&mut self, request: RequestId, why: &str) {
        self.receiver.busy_count += 1;
        self.answers.add(Answer::whole(request, 503, BUSY, format!("{why}\n").into_bytes()));
    }

    /// When a request that waits for room gives up.
    pub(super) fn receive_due_mono_ms(&self) -> Option<u64> {
        self.receiver.queue.front().map(|push| push.came_mono_ms + RECEIVE_WAIT_MS)
    }

    /// One bite of the request whose turn it is; `false` when there is nothing to do now.
    pub(super) fn receive_step(&mut self, now: Now) -> bool {
        let Some(mut push) = self.receiver.queue.pop_front() else { return false };
        if matches!(push.stage, Stage::Writing { .. }) && ring_is_short(&self.store) {
            // Nothing that was acknowledged may leave memory before it is stored.
            if now.mono_ms.saturating_sub(push.came_mono_ms) < RECEIVE_WAIT_MS {
                self.flush.hurry(now);
                self.receiver.queue.push_front(push);
                return false;
            }
            self.receiver.batch.clear();
            self.receive_end(push, End::Busy("memory is full of samples that are not on the disk yet; try again"));
            return true;
        }
        let stage = core::mem::replace(&mut push.stage, Stage::Waiting);
        let next = match stage {
            Stage::Waiting => match self.receiver.inflater.begin(&push.body) {
                Ok(bytes) => {
                    self.receiver.batch.clear();
                    Ok(Stage::Reading(Reading { reader: Reader::new(bytes), pending: None, ended: false }))
                }
                Err(error) => Err(inflate_end(error)),
            },
            Stage::Reading(reading) => self.receive_read(now, &mut push, reading),
            Stage::Writing { reading, next } => self.receive_write(now, &mut push, reading, next),
        };
        match next {
            Ok(stage) => {
                push.stage = stage;
                self.receiver.queue.push_front(push);
            }
            Err(end) => self.receive_end(push, end),
        }
        true
    }

    /// Reads until the batch is full, the window is read or the request is at its end.
    fn receive_read(&mut self, now: Now, push: &mut Push, mut reading: Reading) -> Result<Stage, End> {
        let Receiver { inflater, batch, .. } = &mut self.receiver;
        let tally = &mut push.tally;
        let latest_ms = if now.wall_ms < CLOCK_SET_MS_MIN { i64::MAX } else { now.wall_ms + RECEIVE_AHEAD_MS_MAX };
        let mut is_filled = false;
        loop {
            let pending = reading.pending.take();
            let sample = match pending {
                Some(sample) => Some(sample),
                None => {
                    let (used, item) =
                        reading.reader.next(inflater.bytes()).map_err(|error| End::Malformed(format!("{error}")))?;
                    let sample = match item {
                        Item::Series => {
                            batch.begin();
                            None
                        }
                        Item::Label { name, value } => {
                            batch.label(name, value);
                            None
                        }
                        Item::LabelTooLong => {
                            batch.label_too_long();
                            None
                        }
                        Item::Sample { t_ms, bits } => {
                            tally.samples += 1;
                            Some((t_ms, bits))
                        }
                        Item::Exemplar => {
                            tally.exemplars += 1;
                            None
                        }
                        Item::Histogram => {
                            tally.samples += 1;
                            tally.refuse(Cause::Histogram, batch.open_labels(), None);
                            None
                        }
                        Item::Metadata => {
                            tally.metadata += 1;
                            None
                        }
                        Item::SeriesEnd | Item::Nothing => None,
                        // A bite inflates at most one window, however little of it is samples.
                        Item::More if is_filled => return Ok(Stage::Reading(reading)),
                        Item::More => {
                            is_filled = true;
                            let before = inflater.bytes().len();
                            inflater.fill(&push.body).map_err(inflate_end)?;
                            assert!(inflater.bytes().len() > before, "a window holds every item that is looked into");
                            continue;
                        }
                        Item::End => {
                            // What the compression has behind the request's end is damage, too.
                            inflater.fill(&push.body).map_err(inflate_end)?;
                            reading.ended = true;
                            break;
                        }
                    };
                    inflater.take(used);
                    sample
                }
            };
            let Some((t_ms, bits)) = sample else { continue };
            let cause = match t_ms {
                _ if t_ms > latest_ms => Cause::Future,
                _ if t_ms < EARLIEST_MS => Cause::Past,
                _ => match batch.sample(t_ms, bits) {
                    Ok(Room::Taken) => continue,
                    Ok(Room::Full) => {
                        reading.pending = Some((t_ms, bits));
                        break;
                    }
                    Err(cause) => cause,
                },
            };
            tally.refuse(cause, batch.open_labels(), Some(t_ms));
        }
        batch.sort();
        Ok(Stage::Writing { reading, next: 0 })
    }

    /// Writes samples of the batch from `next` on, instant by instant, until the bite is used up.
    fn receive_write(&mut self, now: Now, push: &mut Push, reading: Reading, mut next: usize) -> Result<Stage, End> {
        let batch = core::mem::take(&mut self.receiver.batch);
        let mut units = 0;
        while units < BITE_UNITS && next < batch.samples().len() {
            let rest = &batch.samples()[next..];
            let BatchSample { pusher, t_ms, .. } = rest[0];
            let count = rest.iter().take_while(|sample| sample.pusher == pusher && sample.t_ms == t_ms).count();
            let row = &rest[..count];
            units += count as u64;
            match self.pusher_timeline(now, pusher) {
                Ok(timeline) => units += self.receive_row(&batch, timeline, row, &mut push.tally),
                Err(cause) => row.iter().for_each(|sample| push.tally.refuse(cause, batch.labels(sample), Some(t_ms))),
            }
            next += count;
        }
        let is_written = next == batch.samples().len();
        self.receiver.batch = batch;
        self.rows_written();
        if !is_written {
            return Ok(Stage::Writing { reading, next });
        }
        self.receiver.batch.clear();
        if reading.ended { Err(End::Done) } else { Ok(Stage::Reading(reading)) }
    }

    /// Writes samples of one pusher and instant: into a row that still lies raw and that nobody has read off, or a new one.
    fn receive_row(&mut self, batch: &Batch, timeline: TimelineId, row: &[BatchSample], tally: &mut Tally) -> u64 {
        let t_ms = row[0].t_ms;
        let key = self.store.timeline_key(timeline);
        let taken = self.upstreams.iter().map(|upstream| upstream.forwarder.rows_taken(key)).max().unwrap_or(0);
        let row_from = taken.max(self.spill.rows_taken(&self.store, timeline));
        let store = &mut self.store;
        let raw_row = store.raw_row_at(timeline, t_ms, row_from);
        // A sample that does not lie ahead of everything may have been sent before.
        let mut newest_ms = i64::MAX;
        if let Some(state) = self.receiver.pushers.get_mut(&row[0].pusher) {
            newest_ms = state.newest_ms;
            state.newest_ms = newest_ms.max(t_ms);
        }
        let is_late = raw_row.is_none() && t_ms <= newest_ms;
        let mut units = u64::from(store.timeline_columns(timeline) / COLUMNS_PER_UNIT);
        let (mut is_begun, mut stored) = (false, 0);
        for sample in row {
            let labels = batch.labels(sample);
            if is_late {
                units += LATE_UNITS;
                let existing = store.series_find(labels).and_then(|series| store.series_value_at(series, t_ms));
                match existing {
                    Some(existing) if existing == sample.bits => continue,
                    Some(existing) => {
                        tally.refuse(Cause::Duplicate { t_ms, existing, new: sample.bits }, labels, Some(t_ms));
                        continue;
                    }
                    None => {}
                }
            }
            let put = match raw_row {
                Some(raw_row) => store.row_fill(timeline, raw_row, labels, sample.bits),
                None => {
                    let begun = if is_begun { Ok(()) } else { store.row_begin(timeline, t_ms) };
                    is_begun = begun.is_ok();
                    begun.and_then(|()| store.row_put(timeline, labels, sample.bits, None))
                }
            };
            match put {
                Ok(PutOutcome::Known | PutOutcome::New) => stored += 1,
                Ok(PutOutcome::Duplicate { same_value: true }) => {}
                Ok(PutOutcome::Duplicate { same_value: false }) => {
                    let existing = store.series_find(labels).and_then(|series| store.series_value_at(series, t_ms));
                    let first = row.iter().find(|other| batch.labels(other) == labels);
                    let existing = existing.or(first.map(|first| first.bits)).unwrap_or_default();
                    tally.refuse(Cause::Duplicate { t_ms, existing, new: sample.bits }, labels, Some(t_ms));
                }
                Err(refused) => tally.refuse(Cause::Room(refused), labels, Some(t_ms)),
            }
        }
        if is_begun {
            if stored > 0 {
                store.row_commit(timeline, Missing::Absent);
            } else {
                store.row_abort(timeline);
            }
        }
        tally.stored += stored;
        units
    }

    /// The open timeline of a pusher.
    fn pusher_timeline(&mut self, now: Now, pusher: Pusher) -> Result<TimelineId, Cause> {
        if let Some(state) = self.receiver.pushers.get_mut(&pusher) {
            state.pushed_mono_ms = now.mono_ms;
            return Ok(state.timeline);
        }
        let pusher_count_max = self.pusher_count_max();
        if self.receiver.pushers.len() >= pusher_count_max {
            return Err(Cause::Pushers { pusher_count_max });
        }
        let key = pusher.timeline_key();
        self.held.number_rows(&mut self.store, key);
        let timeline = self.store.timeline_open(key).map_err(Cause::Room)?;
        self.store.timeline_set_sparse(timeline);
        self.pusher_insert(now, timeline);
        Ok(timeline)
    }

    fn pusher_insert(&mut self, now: Now, timeline: TimelineId) {
        let pusher = Pusher(self.store.timeline_key(timeline).0);
        let newest_ms = self.store.timeline_newest_ms(timeline).unwrap_or(i64::MIN);
        let state = PusherState { timeline, pushed_mono_ms: now.mono_ms, newest_ms };
        self.receiver.pushers.insert(pusher, state);
    }

    /// Half of the timelines: pushers leave room for targets and rules.
    fn pusher_count_max(&self) -> usize {
        let regions = self.store.usage().regions;
        let timelines = regions.iter().find(|usage| usage.region == RegionName::Timelines);
        timelines.map_or(0, |usage| usage.total as usize / 2)
    }

    /// Timelines that the process before left open. Pushers' go on, or are closed once they are quiet. Of the others, those
    /// of recovered pushers among them, it will show whose they are: targets and rules write.
    pub(super) fn adopt_timelines(&mut self, now: Now) {
        let is_open = |timeline: &TimelineId| self.store.timeline_is_open(*timeline);
        let open: Vec<TimelineId> = self.store.timelines().filter(is_open).collect();
        for timeline in open {
            if self.store.timeline_is_sparse(timeline) {
                self.pusher_insert(now, timeline);
            } else {
                let (key, row_next) = (self.store.timeline_key(timeline), self.store.rows(timeline).end);
                self.receiver.strays.push(Stray { timeline, key, row_next });
            }
        }
        self.receiver.strays_due_mono_ms = now.mono_ms + RECEIVE_QUIET_MS;
    }

    /// Closes the timelines of pushers that have gone quiet, and those that turned out to be nobody's: their rows leave
    /// memory once they are stored.
    pub(super) fn release_quiet_timelines(&mut self, now: Now) {
        let store = &mut self.store;
        self.receiver.pushers.retain(|_, state| {
            let is_quiet = now.mono_ms.saturating_sub(state.pushed_mono_ms) >= RECEIVE_QUIET_MS;
            if is_quiet {
                store.timeline_release(state.timeline);
            }
            !is_quiet
        });
        if now.mono_ms < self.receiver.strays_due_mono_ms {
            return;
        }
        for Stray { timeline, key, row_next } in core::mem::take(&mut self.receiver.strays) {
            let is_targets = self.targets.iter().any(|slot| slot.target.timeline_key() == key);
            let is_pushers = self.receiver.pushers.contains_key(&Pusher(key.0));
            let is_same = store.timeline_is_open(timeline) && store.timeline_key(timeline) == key;
            if is_same && !is_targets && !is_pushers && store.rows(timeline).end == row_next {
                store.timeline_release(timeline);
            }
        }
    }

    fn receive_end(&mut self, push: Push, end: End) {
        let Push { request, tally, .. } = push;
        self.receiver.tally.add(&tally);
        if let Some(first) = tally.first_refusal() {
            self.lose(&Loss::new(Reason::PushRefused, first, tally.refused_count()).over(tally.refused_span_ms()));
        }
        let (status, text) = match end {
            End::Done if tally.refused_count() == 0 => {
                return self.answers.add(Answer::whole(request, 204, &[], Vec::new()));
            }
            End::Done => {
                let text = tally.refusals();
                self.log(
                    Level::Warn,
                    "receive-refused",
                    format_args!("pushed samples are refused: {}", text.trim_end()),
                );
                (400, text)
            }
            End::Malformed(error) => (400, format!("{error}\n")),
            End::TooLarge(error) => (413, format!("{error}\n")),
            End::Busy(why) => return self.receive_busy(request, why),
        };
        self.receiver.refused_count += 1;
        self.answers.add(Answer::whole(request, status, TEXT, text.into_bytes()));
    }
}

fn inflate_end(error: InflateError) -> End {
    match error {
        InflateError::Corrupt => End::Malformed(format!("{error}")),
        InflateError::TooLong { .. } | InflateError::ReachesTooFar { .. } => End::TooLarge(error),
    }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
