//! The queue of one Alertmanager: what is told survives outages and restarts, in order.
//!
//! An entry is one episode of one alert (labels and start); while it waits, its newest state replaces the older one in
//! place. What is told for the first time is saved; a repetition is not, because the rules repeat it after a restart
//! anyway, and a firing alert would wear the flash once a minute. One POST is in flight at most. Its alerts stay at the head of the queue, unchanged, until the peer has
//! acknowledged or refused them, so after a crash they are told again rather than lost.

use super::{AlertMessage, payload};
use crate::{labels::LabelSet, prng::Prng, retry::Backoff, time::Now};
use alloc::{collections::VecDeque, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug)]
pub struct OutboxOptions {
    /// Most alerts waiting; a further one drops the oldest, counted.
    pub queue_count_max: usize,
    /// Most bytes of the waiting alerts' texts; likewise.
    pub queue_bytes_max: usize,
    /// Most alerts of one POST.
    pub batch_count_max: usize,
    /// Most bytes of one POST's body. An alert that alone is longer goes without its annotations, then without its URL; one
    /// whose labels are too long is dropped, counted.
    pub batch_bytes_max: usize,
    pub backoff_ms_min: u64,
    pub backoff_ms_max: u64,
    /// For the jitter of the waits.
    pub seed: u64,
}

impl Default for OutboxOptions {
    fn default() -> Self {
        Self {
            queue_count_max: 1_000,
            queue_bytes_max: 256 * 1024,
            batch_count_max: 64,
            batch_bytes_max: 96 * 1024,
            backoff_ms_min: 1_000,
            backoff_ms_max: 60_000,
            seed: 0,
        }
    }
}

/// Totals since start, for the self-metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxCounters {
    /// Alerts that the peer has acknowledged.
    pub sent_count: u64,
    /// Alerts dropped because the queue was full.
    pub dropped_count: u64,
    /// Alerts dropped because the peer refused the message itself (400, 413, 422).
    pub refused_count: u64,
    /// POSTs that failed and are tried again.
    pub failed_post_count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    #[error("the saved queue of alerts is broken; it is left out, and alerts that still fire are told again")]
    Broken,
    #[error(
        "the saved queue of alerts has version {found} and this program knows {known}; update it or delete the state"
    )]
    Version { found: u8, known: u8 },
}

/// What [`Outbox::next_post`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Post {
    pub alert_count: usize,
}

pub struct Outbox {
    options: OutboxOptions,
    waiting: VecDeque<AlertMessage>,
    waiting_bytes: usize,
    /// How many alerts at the head are in the POST in flight; 0: none is.
    in_flight_count: usize,
    backoff: Backoff,
    prng: Prng,
    /// No POST before this.
    retry_mono_ms: u64,
    counters: OutboxCounters,
    changed: bool,
}

impl Outbox {
    pub fn new(options: OutboxOptions) -> Self {
        Self {
            options,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            in_flight_count: 0,
            backoff: Backoff::new(options.backoff_ms_min, options.backoff_ms_max),
            prng: Prng::new(options.seed),
            retry_mono_ms: 0,
            counters: OutboxCounters::default(),
            changed: false,
        }
    }

    /// Queues alerts. Of an alert that waits already (same labels, same start) only the newest state is kept.
    pub fn push<'a>(&mut self, alerts: impl IntoIterator<Item = &'a AlertMessage>) {
        for alert in alerts {
            self.push_one(alert.clone());
        }
    }

    /// Appends the next POST's body to `out`, when one is due and none is in flight. The URL is the peer's plus
    /// [`payload::PATH`]. Exactly one of [`Self::answered`] and [`Self::failed`] has to follow.
    pub fn next_post(&mut self, now: Now, out: &mut String) -> Option<Post> {
        if self.next_due_mono_ms().is_none_or(|due_ms| due_ms > now.mono_ms) {
            return None;
        }
        let alert_count = self.batch_count();
        payload::write_alerts(out, self.waiting.iter().take(alert_count));
        self.in_flight_count = alert_count;
        Some(Post { alert_count })
    }

    /// The peer answered the POST in flight. 2xx: told. 400, 413 and 422 refuse the message, which is dropped and
    /// counted. Everything else (also 401, 403, 404: somebody will mend the peer) is tried again.
    pub fn answered(&mut self, now: Now, status: u16, retry_after_ms: Option<u64>) {
        match status {
            200..=299 => {
                self.counters.sent_count += self.in_flight_count as u64;
                self.settle();
            }
            400 | 413 | 422 => {
                self.counters.refused_count += self.in_flight_count as u64;
                self.settle();
            }
            _ => self.retry(now, retry_after_ms),
        }
    }

    /// No connection or no answer: the same alerts go again, after a pause.
    pub fn failed(&mut self, now: Now) {
        self.retry(now, None);
    }

    /// When [`Self::next_post`] will have something; `None` while nothing waits or a POST is in flight.
    pub fn next_due_mono_ms(&self) -> Option<u64> {
        (self.in_flight_count == 0 && !self.waiting.is_empty()).then_some(self.retry_mono_ms)
    }

    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    pub fn capacity_count(&self) -> usize {
        self.options.queue_count_max
    }

    pub fn counters(&self) -> OutboxCounters {
        self.counters
    }

    /// Whether what [`Self::save`] gives differs from what it gave last.
    pub fn changed(&self) -> bool {
        self.changed
    }

    /// Everything told for the first time and not yet acknowledged, to be kept over a restart.
    pub fn save(&mut self) -> Vec<u8> {
        self.changed = false;
        let durable = self.waiting.iter().filter(|alert| !alert.repeated);
        let saved: Vec<SavedAlert<'_>> = durable.map(SavedAlert::from).collect();
        match postcard::to_extend(&saved, alloc::vec![SAVED_VERSION]) {
            Ok(bytes) => bytes,
            Err(error) => unreachable!("plain data of known length always encodes into a vector: {error}"),
        }
    }

    /// Puts what was saved before what waits.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), OutboxError> {
        let (&version, rest) = bytes.split_first().ok_or(OutboxError::Broken)?;
        if version != SAVED_VERSION {
            return Err(OutboxError::Version { found: version, known: SAVED_VERSION });
        }
        let saved: Vec<SavedAlert<'_>> = postcard::from_bytes(rest).map_err(|_| OutboxError::Broken)?;
        let newer = core::mem::take(&mut self.waiting);
        (self.waiting_bytes, self.in_flight_count) = (0, 0);
        for alert in &saved {
            self.push_one(alert.message());
        }
        for alert in newer {
            self.push_one(alert);
        }
        Ok(())
    }

    fn push_one(&mut self, mut alert: AlertMessage) {
        if !shorten(&mut alert, self.options.batch_bytes_max) {
            self.counters.dropped_count += 1;
            return;
        }
        self.changed |= !alert.repeated;
        let bytes = alert_bytes(&alert);
        let same = |other: &AlertMessage| other.starts_at_ms == alert.starts_at_ms && other.labels == alert.labels;
        match self.waiting.iter_mut().skip(self.in_flight_count).find(|other| same(other)) {
            Some(older) => {
                self.waiting_bytes = self.waiting_bytes - alert_bytes(older) + bytes;
                // What waits has not been told yet, whatever the rules think.
                alert.repeated &= older.repeated;
                *older = alert;
            }
            None => {
                self.waiting_bytes += bytes;
                self.waiting.push_back(alert);
            }
        }
        while self.waiting.len() > self.options.queue_count_max || self.waiting_bytes > self.options.queue_bytes_max {
            // What is in flight may be with the peer already; it is the one after it that goes.
            let Some(oldest) = self.waiting.remove(self.in_flight_count) else { break };
            self.waiting_bytes -= alert_bytes(&oldest);
            self.changed |= !oldest.repeated;
            self.counters.dropped_count += 1;
        }
    }

    fn batch_count(&self) -> usize {
        let (mut count, mut bytes) = (0, 0);
        for alert in self.waiting.iter().take(self.options.batch_count_max.max(1)) {
            bytes += alert_bytes(alert) + ALERT_FRAME_BYTES;
            if bytes > self.options.batch_bytes_max {
                break;
            }
            count += 1;
        }
        count
    }

    fn settle(&mut self) {
        for alert in self.waiting.drain(..self.in_flight_count) {
            self.waiting_bytes -= alert_bytes(&alert);
            self.changed |= !alert.repeated;
        }
        self.in_flight_count = 0;
        self.backoff.succeeded();
        self.retry_mono_ms = 0;
    }

    fn retry(&mut self, now: Now, retry_after_ms: Option<u64>) {
        self.counters.failed_post_count += 1;
        self.retry_mono_ms = now.mono_ms + self.backoff.failed(&mut self.prng, retry_after_ms);
        self.in_flight_count = 0;
        self.merge_head();
    }

    /// After a failure the head is no longer in flight: newer states that were queued behind it take its place.
    fn merge_head(&mut self) {
        let all = core::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let changed = self.changed;
        for alert in all {
            self.push_one(alert);
        }
        self.changed = changed;
    }
}

const SAVED_VERSION: u8 = 1;

/// Punctuation, names of fields and the two times of an alert in JSON.
const ALERT_FRAME_BYTES: usize = 160;

/// An alert as it is saved: texts, times.
#[derive(Serialize, Deserialize)]
struct SavedAlert<'a> {
    #[serde(borrow)]
    labels: Vec<(&'a str, &'a str)>,
    #[serde(borrow)]
    annotations: Vec<(&'a str, &'a str)>,
    starts_at_ms: i64,
    ends_at_ms: i64,
    resolved: bool,
    generator_url: &'a str,
}

impl<'a> From<&'a AlertMessage> for SavedAlert<'a> {
    fn from(alert: &'a AlertMessage) -> Self {
        Self {
            labels: alert.labels.iter().collect(),
            annotations: alert.annotations.iter().map(|(name, value)| (&**name, &**value)).collect(),
            starts_at_ms: alert.starts_at_ms,
            ends_at_ms: alert.ends_at_ms,
            resolved: alert.resolved,
            generator_url: &alert.generator_url,
        }
    }
}

impl SavedAlert<'_> {
    fn message(&self) -> AlertMessage {
        AlertMessage {
            labels: LabelSet::from_pairs(self.labels.iter().copied()),
            annotations: self.annotations.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
            starts_at_ms: self.starts_at_ms,
            ends_at_ms: self.ends_at_ms,
            resolved: self.resolved,
            repeated: false,
            generator_url: self.generator_url.into(),
        }
    }
}

/// Leaves out what makes an alert too long for a message; false: its labels alone are.
fn shorten(alert: &mut AlertMessage, bytes_max: usize) -> bool {
    let is_too_long = |alert: &AlertMessage| alert_bytes(alert) + ALERT_FRAME_BYTES > bytes_max;
    if is_too_long(alert) {
        let text = "the annotations and the URL were left out: they are too long for a message".into();
        alert.annotations = [("holdfast".into(), text)].into();
        if is_too_long(alert) {
            alert.generator_url = "".into();
        }
    }
    !is_too_long(alert)
}

/// Not less than what the alert takes in memory or on the wire, where quotes and control characters grow.
fn alert_bytes(alert: &AlertMessage) -> usize {
    let pair = |name: &str, value: &str| payload::text_bytes(name) + payload::text_bytes(value) + 6;
    let annotations: usize = alert.annotations.iter().map(|(name, value)| pair(name, value)).sum();
    let labels: usize = alert.labels.iter().map(|(name, value)| pair(name, value)).sum();
    size_of::<AlertMessage>() + labels + annotations + payload::text_bytes(&alert.generator_url)
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
