//! The ledger of losses: whatever was dropped or could not be read, why, what of it, and when.
//!
//! Bounded: entries are kept in [`PAGES_COUNT`] pages of small state, each of at most [`LEDGER_PAGE_BYTES_MAX`] bytes. When
//! a page is full, the two oldest entries of the reason that has most of them there become one that sums them up, so no
//! count is ever forgotten, only how it came about. All of a reason is in one page, and a page is replaced in one step: a
//! process that is killed in between counts nothing twice and nothing less.

use crate::limits::{LEDGER_PAGE_BYTES_MAX, LEDGER_SUBJECT_BYTES_MAX};
use alloc::{boxed::Box, vec, vec::Vec};
use core::ops::Range;
use serde::{Deserialize, Serialize};

pub const PAGES_COUNT: usize = 4;
/// The pages' names among small states.
pub const LEDGER_KEYS: [&str; PAGES_COUNT] = ["losses/0", "losses/1", "losses/2", "losses/3"];

/// A loss that goes on is one entry as long as it comes again within this time.
const GOES_ON_MS: u64 = 600_000;
const SAVED_VERSION: u8 = 1;

/// Why something was lost. The numbers are in saved pages and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    Evicted = 1,
    SeriesRefused = 2,
    SampleLimit = 3,
    Duplicate = 4,
    OutOfBounds = 5,
    Retention = 6,
    Quota = 7,
    Damage = 8,
    LogTorn = 9,
    LogLost = 10,
    SlabSetAside = 11,
    DatabaseSetAside = 12,
    StateSetAside = 13,
    UpstreamRefused = 14,
    UpstreamOvertaken = 15,
    UpstreamUnreadable = 16,
    AlertsDropped = 17,
    PushRefused = 18,
}

/// What the ledger tells of a reason.
struct Row {
    reason: Reason,
    /// In the API and as the metric's label.
    name: &'static str,
    /// What is counted.
    unit: &'static str,
    help: &'static str,
    page: u8,
}

const fn row(reason: Reason, name: &'static str, unit: &'static str, page: u8, help: &'static str) -> Row {
    Row { reason, name, unit, help, page }
}

/// One row per reason. What drops as a matter of course has a page of its own, so that its writes stay small.
const TABLE: [Row; 18] = [
    row(
        Reason::Evicted,
        "evicted_unspilled",
        "samples",
        0,
        "left memory before they were in a segment: the disk was away for too long, or memory is too small",
    ),
    row(Reason::SeriesRefused, "series_refused", "samples", 0, "of new series for which a full region had no room"),
    row(
        Reason::PushRefused,
        "push_refused",
        "samples",
        0,
        "pushed, and refused by name in the answer to whoever sent them",
    ),
    row(Reason::SampleLimit, "sample_limit", "samples", 0, "of scrapes that failed for the target's sample_limit"),
    row(Reason::Duplicate, "duplicate", "samples", 0, "the same series had a sample in the same scrape already"),
    row(Reason::OutOfBounds, "out_of_bounds", "samples", 0, "their own timestamps are too far from the scrape's"),
    row(
        Reason::Retention,
        "retention",
        "samples",
        1,
        "older than --storage.tsdb.retention.time; absent ones of the dropped segments are counted too",
    ),
    row(
        Reason::Quota,
        "quota",
        "samples",
        1,
        "the oldest, dropped for newer ones because the disk's quota or the disk itself was full; absent ones of the \
         dropped segments are counted too",
    ),
    row(
        Reason::Damage,
        "damage",
        "samples",
        2,
        "in a stored unit that is damaged and left out; 0 where the unit no longer tells how many it had",
    ),
    row(
        Reason::LogTorn,
        "log_torn",
        "samples",
        2,
        "the tail log ends in a frame that is not whole, as a power cut leaves it",
    ),
    row(Reason::LogLost, "log_rows_lost", "rows", 2, "of the tail log that found no room, or lack their layout"),
    row(
        Reason::SlabSetAside,
        "slab_set_aside",
        "samples",
        2,
        "the store in memory could not be gone on with; what was not yet in the tail log is gone",
    ),
    row(Reason::DatabaseSetAside, "database_set_aside", "samples", 2, "the database was damaged and a new one begun"),
    row(Reason::StateSetAside, "state_set_aside", "samples", 2, "a small state that was damaged or found no room"),
    row(Reason::UpstreamRefused, "upstream_refused", "samples", 3, "an upstream refused them for what they are"),
    row(
        Reason::UpstreamOvertaken,
        "upstream_overtaken",
        "rows",
        3,
        "dropped by retention or quota before an upstream had taken them",
    ),
    row(
        Reason::UpstreamUnreadable,
        "upstream_unreadable",
        "rows",
        3,
        "could not be read from the disk for an upstream",
    ),
    row(
        Reason::AlertsDropped,
        "alerts_dropped",
        "alerts",
        3,
        "an Alertmanager refused them, or was away until the queue was full",
    ),
];

impl Reason {
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.reason)
    }

    fn row(self) -> &'static Row {
        let Some(row) = TABLE.iter().find(|row| row.reason == self) else { unreachable!("a reason without a row") };
        row
    }

    pub fn name(self) -> &'static str {
        self.row().name
    }

    pub fn unit(self) -> &'static str {
        self.row().unit
    }

    pub fn help(self) -> &'static str {
        self.row().help
    }

    fn page(self) -> usize {
        self.row().page.into()
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::all().find(|reason| *reason as u8 == number)
    }
}

/// One loss, as whoever has it tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss<'a> {
    pub reason: Reason,
    /// Whose it was: a target, a timeline, an upstream, a segment, a file. Cut at [`LEDGER_SUBJECT_BYTES_MAX`].
    pub subject: &'a str,
    /// Smallest and largest time of what is lost, wall milliseconds, as far as known.
    pub span_ms: Option<(i64, i64)>,
    /// Rows of the subject's timeline.
    pub rows: Option<Range<u64>>,
    /// In the reason's unit.
    pub count: u64,
}

impl<'a> Loss<'a> {
    pub fn new(reason: Reason, subject: &'a str, count: u64) -> Self {
        Self { reason, subject, span_ms: None, rows: None, count }
    }

    pub fn over(self, span_ms: Option<(i64, i64)>) -> Self {
        Self { span_ms, ..self }
    }

    pub fn of_rows(self, rows: Range<u64>) -> Self {
        Self { rows: Some(rows), ..self }
    }
}

/// A loss as the ledger has it, or several of one reason summed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub reason: Reason,
    /// Empty: several.
    pub subject: Box<str>,
    /// Hull of what is lost.
    pub span_ms: Option<(i64, i64)>,
    pub rows: Option<Range<u64>>,
    pub count: u64,
    /// How often it was told.
    pub events: u64,
    /// When it was told first and last, wall milliseconds.
    pub noted_ms: (i64, i64),
    /// Entries that this one sums up; 1: it is one.
    pub summed: u32,
}

/// What a page keeps of an entry: the same fields, numbers for names.
#[derive(Serialize, Deserialize)]
struct Saved<'a> {
    reason: u8,
    subject: &'a str,
    span_ms: Option<(i64, i64)>,
    rows: Option<(u64, u64)>,
    count: u64,
    events: u64,
    noted_ms: (i64, i64),
    summed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    #[error("a page of the ledger of losses is damaged; what it counted is not known any more")]
    Damaged,
    #[error("a page of the ledger of losses has version {found}, this program knows {SAVED_VERSION}; it is begun anew")]
    OtherVersion { found: u8 },
}

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Of each reason oldest first.
    pages: [Vec<Entry>; PAGES_COUNT],
}

/// What [`Ledger::note`] has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The page to be saved.
    pub page: usize,
    /// An entry of its own; else the loss before goes on.
    pub is_new: bool,
}

impl Ledger {
    /// Takes a loss down.
    pub fn note(&mut self, now_ms: i64, loss: &Loss<'_>) -> Noted {
        let page = loss.reason.page();
        let entries = &mut self.pages[page];
        let subject = &loss.subject[..loss.subject.floor_char_boundary(LEDGER_SUBJECT_BYTES_MAX)];
        let entry = Entry {
            reason: loss.reason,
            subject: subject.into(),
            span_ms: loss.span_ms,
            rows: loss.rows.clone(),
            count: loss.count,
            events: 1,
            noted_ms: (now_ms, now_ms),
            summed: 1,
        };
        match entries.iter_mut().rev().find(|before| before.is_gone_on_with_by(&entry)) {
            Some(before) => {
                before.add(&entry);
                Noted { page, is_new: false }
            }
            None => {
                entries.push(entry);
                self.fit(page);
                Noted { page, is_new: true }
            }
        }
    }

    /// A page as small state: at most [`LEDGER_PAGE_BYTES_MAX`] bytes, none when it has no entry.
    pub fn save(&mut self, page: usize) -> Vec<u8> {
        self.fit(page);
        if self.pages[page].is_empty() { Vec::new() } else { encode(&self.pages[page]) }
    }

    /// Puts what was saved before what was noted since.
    ///
    /// # Errors
    ///
    /// Bytes that no version of this program wrote, or a newer one: the page stays as it is.
    pub fn restore(&mut self, page: usize, bytes: &[u8]) -> Result<(), LedgerError> {
        let (&version, rest) = bytes.split_first().ok_or(LedgerError::Damaged)?;
        if version != SAVED_VERSION {
            return Err(LedgerError::OtherVersion { found: version });
        }
        let saved: Vec<Saved<'_>> = postcard::from_bytes(rest).map_err(|_| LedgerError::Damaged)?;
        let mut entries = Vec::with_capacity(saved.len());
        for one in &saved {
            let reason = Reason::from_number(one.reason).filter(|reason| reason.page() == page);
            let is_long = one.subject.len() > LEDGER_SUBJECT_BYTES_MAX;
            let Some(reason) = reason.filter(|_| !is_long) else { return Err(LedgerError::Damaged) };
            entries.push(Entry {
                reason,
                subject: one.subject.into(),
                span_ms: one.span_ms,
                rows: one.rows.map(|(start, end)| start..end),
                count: one.count,
                events: one.events,
                noted_ms: one.noted_ms,
                summed: one.summed.max(1),
            });
        }
        entries.append(&mut self.pages[page]);
        self.pages[page] = entries;
        self.fit(page);
        Ok(())
    }

    /// Entries of a reason, oldest first.
    pub fn entries(&self, reason: Reason) -> impl DoubleEndedIterator<Item = &Entry> {
        self.pages[reason.page()].iter().filter(move |entry| entry.reason == reason)
    }

    /// What was ever lost for a reason, in its unit.
    pub fn count(&self, reason: Reason) -> u64 {
        self.entries(reason).fold(0, |sum, entry| sum.saturating_add(entry.count))
    }

    /// How often it was.
    pub fn events(&self, reason: Reason) -> u64 {
        self.entries(reason).fold(0, |sum, entry| sum.saturating_add(entry.events))
    }

    /// Sums up until the page is short enough. A page of one entry per reason always is: see the test.
    fn fit(&mut self, page: usize) {
        let entries = &mut self.pages[page];
        while encode(entries).len() > LEDGER_PAGE_BYTES_MAX {
            let count = |reason: Reason| entries.iter().filter(|entry| entry.reason == reason).count();
            let Some(fullest) = Reason::all().filter(|reason| reason.page() == page).max_by_key(|r| count(*r)) else {
                unreachable!("every page has reasons");
            };
            let mut of_it = (0..entries.len()).filter(|index| entries[*index].reason == fullest);
            let (Some(first), Some(second)) = (of_it.next(), of_it.next()) else {
                unreachable!("{} entries of different reasons fill a page", entries.len());
            };
            let newer = entries.remove(second);
            entries[first].sum_up(&newer);
        }
    }
}

impl Entry {
    fn is_gone_on_with_by(&self, newer: &Self) -> bool {
        let touches = match (&self.rows, &newer.rows) {
            (None, None) => true,
            (Some(before), Some(after)) => before.start <= after.end && after.start <= before.end,
            _ => false,
        };
        touches
            && self.summed == 1
            && (self.reason, &self.subject) == (newer.reason, &newer.subject)
            && self.noted_ms.1.abs_diff(newer.noted_ms.0) <= GOES_ON_MS
    }

    fn add(&mut self, newer: &Self) {
        let hull = |(a_min, a_max): (i64, i64), (b_min, b_max): (i64, i64)| (a_min.min(b_min), a_max.max(b_max));
        self.span_ms = match (self.span_ms, newer.span_ms) {
            (Some(a), Some(b)) => Some(hull(a, b)),
            (one, other) => one.or(other),
        };
        self.rows = match (self.rows.take(), newer.rows.clone()) {
            (Some(a), Some(b)) => Some(a.start.min(b.start)..a.end.max(b.end)),
            (one, other) => one.or(other),
        };
        self.count = self.count.saturating_add(newer.count);
        self.events = self.events.saturating_add(newer.events);
        self.noted_ms = hull(self.noted_ms, newer.noted_ms);
    }

    fn sum_up(&mut self, newer: &Self) {
        self.add(newer);
        self.summed = self.summed.saturating_add(newer.summed);
        if self.subject != newer.subject {
            // Rows of different timelines have no hull.
            (self.subject, self.rows) = (Box::default(), None);
        }
    }
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let saved: Vec<Saved<'_>> = entries
        .iter()
        .map(|entry| Saved {
            reason: entry.reason as u8,
            subject: &entry.subject,
            span_ms: entry.span_ms,
            rows: entry.rows.as_ref().map(|rows| (rows.start, rows.end)),
            count: entry.count,
            events: entry.events,
            noted_ms: entry.noted_ms,
            summed: entry.summed,
        })
        .collect();
    match postcard::to_extend(&saved, vec![SAVED_VERSION]) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("plain data of known length always encodes into a vector: {error}"),
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
