//! One target and what it is doing.

use super::{
    content::{self, ContentError},
    meta::MetaList,
    rows::Rows,
    sample::{self, SampleError, Scratch},
    schedule::{Due, Schedule},
    seen::SeenLines,
    shared::Shared,
    sink::RowSink,
    spec::TargetSpec,
};
use crate::{
    labels::LABELS_BYTES_MAX,
    parse::{ExpositionSink, ParseError, ParseReason, TextParser},
    store::{Missing, PutOutcome, Refused, TimelineId, TimelineKey},
    time::Now,
};
use alloc::{
    boxed::Box,
    string::{String, ToString},
};

/// A target, its schedule, and the scrape in flight.
///
/// The daemon asks [`Target::due_mono_ms`], calls [`Target::start`] then, and passes on what the platform tells about the
/// fetch. Every call that gives [`Progress::Ended`] has written the scrape's row, whole or failed.
pub struct Target {
    spec: TargetSpec,
    key: TimelineKey,
    /// Open from the first scrape on.
    timeline: Option<TimelineId>,
    schedule: Schedule,
    state: State,
    status: TargetStatus,
    meta: MetaList,
    seen: SeenLines,
}

/// What a target is doing.
///
/// ```text
///            start              head (200, text)
/// Waiting ----------> Asked ------------------------> Reading
///    ^                  | failed, head (other)          | end, failed, body (that cannot be read)
///    +------------------+-------------------------------+
/// ```
///
/// In `Asked` nothing is staged. In `Reading` a row is open unless the sample limit was passed: then the samples are
/// only counted.
enum State {
    Waiting,
    Asked(Scrape),
    Reading(Scrape, Box<Reading>),
}

/// One scrape.
#[derive(Clone, Copy)]
struct Scrape {
    instant_ms: i64,
    started_mono_ms: u64,
}

/// What a scrape needs while its body is read.
#[derive(Default)]
pub(super) struct Reading {
    parser: TextParser,
    body_bytes: u64,
    counts: Counts,
    over_sample_limit: bool,
    scratch: Scratch,
    refused: Option<Refused>,
}

impl Reading {
    pub(super) fn heap_bytes(&self) -> usize {
        self.parser.heap_bytes() + self.scratch.heap_bytes()
    }

    /// For another body; the allocations stay.
    pub(super) fn start_again(&mut self) {
        self.parser.start_again();
        (self.body_bytes, self.counts, self.over_sample_limit, self.refused) = (0, Counts::default(), false, None);
    }
}

/// What `scrape_samples_scraped` and its siblings say.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) scraped: u64,
    pub(super) kept: u64,
    pub(super) series_added: u64,
}

/// What a call has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The scrape goes on.
    Going,
    /// The scrape is over and its row written. If the fetch is not over, abort it.
    Ended,
    /// No scrape is in flight: the event came late and changed nothing.
    Idle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Health {
    #[default]
    Unknown,
    Up,
    Down,
}

impl Health {
    /// As `/api/v1/targets` gives it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// For `/api/v1/targets`, the page and our own metrics.
#[derive(Clone, Debug, Default)]
pub struct TargetStatus {
    pub health: Health,
    /// Empty after a good scrape.
    pub last_error: String,
    /// When the last scrape began; `None` before the first.
    pub last_scrape_wall_ms: Option<i64>,
    pub last_duration_ms: u64,
    /// The newest refusal of the last scrape: the store had no room for a new series. The scrape itself is fine.
    pub last_refused: Option<Refused>,
    pub counters: TargetCounters,
}

/// Since this target was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetCounters {
    pub scrapes: u64,
    pub scrapes_failed: u64,
    /// Intervals that passed without a scrape.
    pub scrapes_skipped: u64,
    /// Values written, those of `up` and its siblings included.
    pub samples: u64,
    /// Samples dropped because the same series came twice in one scrape.
    pub samples_duplicate: u64,
    /// Samples dropped because of their own timestamps.
    pub samples_out_of_bounds: u64,
    /// Samples of new series for which the store had no room.
    pub samples_refused: u64,
    /// Samples of scrapes that failed for the target's sample limit.
    pub samples_over_limit: u64,
}

/// Why a scrape failed; becomes `lastError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScrapeError {
    #[error("{0}")]
    Fetch(String),
    #[error("{0}")]
    Content(ContentError),
    #[error("{0}")]
    Parse(ParseError),
    #[error("{0}")]
    Sample(SampleError),
    #[error("sample limit exceeded")]
    SampleLimit,
    #[error("body size limit exceeded")]
    BodyLimit,
    #[error("{0}")]
    Store(Refused),
}

impl Target {
    /// `seed` places the target in its interval: the same after a restart, another on another node.
    pub fn new(spec: TargetSpec, seed: u64, now: Now) -> Self {
        let key = spec.timeline_key();
        let schedule = Schedule::new(spec.interval_ms, key, seed, now);
        let (state, status) = (State::Waiting, TargetStatus::default());
        let (meta, seen) = (MetaList::default(), SeenLines::default());
        Self { spec, key, timeline: None, schedule, state, status, meta, seen }
    }

    /// The first scrape starts now instead of at its place in the interval.
    pub fn scrape_at_once(&mut self, now: Now) {
        self.schedule = self.schedule.clone().at_once(now);
    }

    pub fn spec(&self) -> &TargetSpec {
        &self.spec
    }

    pub fn timeline_key(&self) -> TimelineKey {
        self.key
    }

    pub fn status(&self) -> &TargetStatus {
        &self.status
    }

    /// For [`super::Metadata::entries`].
    pub fn meta(&self) -> &MetaList {
        &self.meta
    }

    /// When [`Target::start`] wants to be called, in monotonic milliseconds.
    pub fn due_mono_ms(&self) -> u64 {
        self.schedule.due_mono_ms()
    }

    pub fn is_scraping(&self) -> bool {
        !matches!(self.state, State::Waiting)
    }

    /// Starts a scrape if one is due: fetch it now, with [`TargetSpec::timeout_ms`]. A scrape that is still going lets
    /// this turn pass.
    pub fn start(&mut self, now: Now) -> Option<Due> {
        let due = self.schedule.take(now)?;
        self.status.counters.scrapes_skipped += due.skipped_count;
        if self.is_scraping() {
            self.status.counters.scrapes_skipped += 1;
            return None;
        }
        self.status.last_scrape_wall_ms = Some(due.instant_ms);
        self.state = State::Asked(Scrape { instant_ms: due.instant_ms, started_mono_ms: now.mono_ms });
        Some(due)
    }

    /// The answer's status line and content type.
    pub fn head(
        &mut self,
        now: Now,
        status: u16,
        content_type: &str,
        rows: &mut impl Rows,
        shared: &mut Shared,
    ) -> Progress {
        let State::Asked(scrape) = self.state else { return Progress::Idle };
        if let Err(error) = content::check_head(status, content_type) {
            return self.fail(now, scrape, Counts::default(), ScrapeError::Content(error), rows, shared);
        }
        if let Err(refused) = self.begin(scrape, rows) {
            return self.fail(now, scrape, Counts::default(), ScrapeError::Store(refused), rows, shared);
        }
        self.seen.begin(self.timeline.and_then(|timeline| rows.row_layout(timeline)), &shared.seen);
        self.state = State::Reading(scrape, shared.take_reading());
        Progress::Going
    }

    /// The next piece of the body.
    pub fn body(&mut self, now: Now, bytes: &[u8], rows: &mut impl Rows, shared: &mut Shared) -> Progress {
        self.read(now, rows, shared, |reading, limit_bytes, sink| {
            reading.body_bytes += bytes.len() as u64;
            // A body of exactly the limit is too long, as in Prometheus.
            if limit_bytes > 0 && reading.body_bytes >= limit_bytes {
                return Err(ReadEnd::BodyLimit);
            }
            reading.parser.feed(bytes, sink).map_err(ReadEnd::Parse)
        })
    }

    /// The body is complete.
    pub fn end(&mut self, now: Now, rows: &mut impl Rows, shared: &mut Shared) -> Progress {
        if let State::Asked(scrape) = self.state {
            let error = ScrapeError::Fetch("the answer ended before its head; the target broke off".into());
            return self.fail(now, scrape, Counts::default(), error, rows, shared);
        }
        let progress =
            self.read(now, rows, shared, |reading, _, sink| reading.parser.finish(sink).map_err(ReadEnd::Parse));
        if progress != Progress::Going {
            return progress;
        }
        let State::Reading(scrape, reading) = core::mem::replace(&mut self.state, State::Waiting) else {
            return Progress::Idle;
        };
        let (counts, refused, over_sample_limit) = (reading.counts, reading.refused, reading.over_sample_limit);
        shared.give_back(reading);
        if over_sample_limit {
            self.status.counters.samples_over_limit += counts.kept;
            return self.fail(now, scrape, counts, ScrapeError::SampleLimit, rows, shared);
        }
        self.meta.end(true, &mut shared.metadata);
        self.seen.end(true, &mut shared.seen);
        self.status.last_refused = refused;
        self.status.health = Health::Up;
        self.status.last_error.clear();
        self.report(now, scrape, counts, true, rows);
        Progress::Ended
    }

    /// No connection, a time-out, a body that broke off; `error` says so.
    pub fn failed(&mut self, now: Now, error: &str, rows: &mut impl Rows, shared: &mut Shared) -> Progress {
        let (State::Asked(scrape) | State::Reading(scrape, _)) = self.state else { return Progress::Idle };
        self.fail(now, scrape, Counts::default(), ScrapeError::Fetch(error.into()), rows, shared)
    }

    /// The target is no longer configured: its series end. Abort its fetch if [`Target::is_scraping`].
    pub fn remove(self, now: Now, rows: &mut impl Rows, shared: &mut Shared) {
        if let Some(timeline) = self.timeline {
            rows.row_abort(timeline);
        }
        let key = self.key;
        self.replace(shared);
        end_timeline(key, now, rows);
    }

    /// Another target goes on in the same timeline: what was kept of this one's pages goes.
    pub fn replace(mut self, shared: &mut Shared) {
        self.meta.clear(&mut shared.metadata);
        self.seen.clear(&mut shared.seen);
    }

    fn read(
        &mut self,
        now: Now,
        rows: &mut impl Rows,
        shared: &mut Shared,
        feed: impl FnOnce(&mut Reading, u64, &mut dyn ExpositionSink) -> Result<(), ReadEnd>,
    ) -> Progress {
        let (State::Reading(scrape, reading), Some(timeline)) = (&mut self.state, self.timeline) else {
            return Progress::Idle;
        };
        let scrape = *scrape;
        let mut sink = RowSink {
            spec: &self.spec,
            rows,
            timeline,
            instant_ms: scrape.instant_ms,
            counts: reading.counts,
            over_sample_limit: reading.over_sample_limit,
            refused: reading.refused,
            counters: &mut self.status.counters,
            scratch: core::mem::take(&mut reading.scratch),
            buf: [0; LABELS_BYTES_MAX],
            meta: &mut self.meta,
            seen: &mut self.seen,
            shared,
            starts: false,
            error: None,
        };
        let result = feed(reading, self.spec.limits.body_bytes_max, &mut sink);
        let RowSink { counts, over_sample_limit, refused, scratch, error, .. } = sink;
        (reading.counts, reading.over_sample_limit, reading.refused) = (counts, over_sample_limit, refused);
        reading.scratch = scratch;
        match (result, error) {
            (Ok(()), _) => Progress::Going,
            (Err(ReadEnd::Parse(ParseError { reason: ParseReason::Stopped, .. })), Some(error)) => {
                self.fail(now, scrape, counts, ScrapeError::Sample(error), rows, shared)
            }
            (Err(ReadEnd::Parse(error)), _) => self.fail(now, scrape, counts, ScrapeError::Parse(error), rows, shared),
            (Err(ReadEnd::BodyLimit), _) => {
                self.fail(now, scrape, Counts::default(), ScrapeError::BodyLimit, rows, shared)
            }
        }
    }

    /// What was staged is forgotten; in its place goes a row in which every earlier series ends and `up` is 0.
    fn fail(
        &mut self,
        now: Now,
        scrape: Scrape,
        counts: Counts,
        error: ScrapeError,
        rows: &mut impl Rows,
        shared: &mut Shared,
    ) -> Progress {
        if let State::Reading(_, reading) = core::mem::replace(&mut self.state, State::Waiting) {
            shared.give_back(reading);
        }
        self.meta.end(false, &mut shared.metadata);
        self.seen.end(false, &mut shared.seen);
        self.status.counters.scrapes_failed += 1;
        self.status.health = Health::Down;
        self.status.last_error = error.to_string();
        self.status.last_refused = None;
        if let Some(timeline) = self.timeline {
            rows.row_abort(timeline);
        }
        match self.begin(scrape, rows) {
            Ok(()) => self.report(now, scrape, counts, false, rows),
            Err(refused) => {
                self.status.last_refused = Some(refused);
                self.finish_status(now, scrape);
            }
        }
        Progress::Ended
    }

    fn begin(&mut self, scrape: Scrape, rows: &mut impl Rows) -> Result<(), Refused> {
        let timeline = match self.timeline {
            Some(timeline) => timeline,
            None => rows.timeline_open(self.key)?,
        };
        self.timeline = Some(timeline);
        rows.row_begin(timeline, scrape.instant_ms)
    }

    /// Writes `up` and its siblings into the open row and commits it.
    fn report(&mut self, now: Now, scrape: Scrape, counts: Counts, up: bool, rows: &mut impl Rows) {
        self.finish_status(now, scrape);
        let Some(timeline) = self.timeline else { return };
        let mut buf = [0; LABELS_BYTES_MAX];
        for (metric, value) in [
            ("up", f64::from(up)),
            ("scrape_duration_seconds", self.status.last_duration_ms as f64 / 1000.0),
            ("scrape_samples_scraped", counts.scraped as f64),
            ("scrape_samples_post_metric_relabeling", counts.kept as f64),
            ("scrape_series_added", counts.series_added as f64),
        ] {
            let put = match sample::report_labels(self.spec.labels.as_ref(), metric, &mut buf) {
                Ok(labels) => rows.row_put(timeline, labels, value.to_bits(), None),
                Err(_) => Err(Refused::LabelsTooLong),
            };
            match put {
                Ok((PutOutcome::Known | PutOutcome::New, _)) => {}
                Ok((PutOutcome::Duplicate { .. }, _)) => self.status.counters.samples_duplicate += 1,
                Err(refused) => {
                    self.status.counters.samples_refused += 1;
                    self.status.last_refused = Some(refused);
                }
            }
        }
        let committed = rows.row_commit(timeline, Missing::Stale);
        self.status.counters.samples += u64::from(committed.samples);
    }

    fn finish_status(&mut self, now: Now, scrape: Scrape) {
        self.status.last_duration_ms = now.mono_ms.saturating_sub(scrape.started_mono_ms);
        self.status.counters.scrapes += 1;
    }
}

/// A timeline whose target is gone gets a last row in which every series ends, and is released.
pub fn end_timeline(key: TimelineKey, now: Now, rows: &mut impl Rows) {
    let Ok(timeline) = rows.timeline_open(key) else { return };
    if rows.row_begin(timeline, now.wall_ms).is_ok() {
        rows.row_commit(timeline, Missing::Stale);
    }
    rows.timeline_release(timeline);
}

/// Why the reading of a body ends early.
enum ReadEnd {
    Parse(ParseError),
    BodyLimit,
}
