//! Brings what is only in memory to the medium: the tail log every flush interval, segments when there is enough.
//!
//! ```text
//!        due          no frame left       LogSynced           no row left        Committed
//! Idle -----> Logging -----------> Syncing -------> Sealing ------------> Aging ---> Committing -----> Idle
//! ```
//!
//! Aging writes old segments again in fewer bytes, in the transaction that the seal has opened anyway, and only between
//! scrapes.
//!
//! Nothing counts as kept before its sync or commit has answered well; what failed is given again by the next flush. The
//! first flush of a process is a checkpoint: it opens a generation of the log (docs/SPILL_FORMAT.md).

use super::{
    Daemon,
    output::{Level, Output, Put},
};
use crate::{
    ledger::{Loss, Reason},
    limits::{AGED_AFTER_MS, AGED_PER_COMMIT_MAX, AGING_BITE_MS},
    prng,
    spill::SealReason,
    store::{RowsLost, TimelineId, TimelineKey, stored::Stored},
    time::{Now, Rfc3339},
};
use alloc::vec::Vec;
use core::ops::Range;

/// A transaction ages at least so many segments, if there are any.
const AGED_PER_COMMIT_MIN: u64 = 4;
/// Scrapes that aging waits for before the transaction ends without more of it.
const AGING_WAITS_MAX: u32 = 64;
/// Alerts that changed wait at most this long for the medium, which also bounds how often a flush can be hurried.
const HURRY_MS: u64 = 1_000;

pub(super) struct Flush {
    stage: Stage,
    interval_ms: u64,
    due_mono_ms: u64,
    token: u64,
    /// Of the seal run under way, once it has begun.
    reason: Option<SealReason>,
    puts: Puts,
    log_failing: bool,
    commit_failing: bool,
}

/// What was given to the database since the last commit.
#[derive(Default)]
struct Puts {
    count: u64,
    segments: Vec<(TimelineKey, Range<u64>)>,
    segment_bytes: u64,
    aged: u64,
    aged_bytes: u64,
    /// Scrapes that aging has waited for.
    waits: u32,
    drops: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Logging,
    Syncing,
    Sealing,
    /// Goes on at this time: a scrape comes first.
    Aging {
        from_mono_ms: u64,
    },
    Committing,
}

impl Flush {
    pub fn new(interval_ms: u64, now: Now) -> Self {
        Self {
            stage: Stage::Idle,
            interval_ms: interval_ms.max(1),
            due_mono_ms: now.mono_ms,
            token: 0,
            reason: None,
            puts: Puts::default(),
            log_failing: false,
            commit_failing: false,
        }
    }

    /// The next flush comes soon.
    pub fn hurry(&mut self, now: Now) {
        self.due_mono_ms = self.due_mono_ms.min(now.mono_ms + HURRY_MS);
    }

    /// The next flush comes at once.
    pub fn now(&mut self, now: Now) {
        self.due_mono_ms = now.mono_ms;
    }

    pub fn due_mono_ms(&self) -> Option<u64> {
        match self.stage {
            Stage::Idle => Some(self.due_mono_ms),
            Stage::Aging { from_mono_ms } => Some(from_mono_ms),
            _ => None,
        }
    }

    /// Whether [`Daemon::flush_step`] has something to do now.
    pub fn is_active(&self, now: Now) -> bool {
        match self.stage {
            Stage::Idle => self.due_mono_ms <= now.mono_ms,
            Stage::Logging | Stage::Sealing => true,
            Stage::Aging { from_mono_ms } => from_mono_ms <= now.mono_ms,
            Stage::Syncing | Stage::Committing => false,
        }
    }

    /// Nothing is under way and nothing is due.
    pub fn is_quiet(&self, now: Now) -> bool {
        self.stage == Stage::Idle && self.due_mono_ms > now.mono_ms
    }

    pub fn log_is_failing(&self) -> bool {
        self.log_failing
    }

    pub fn commit_is_failing(&self) -> bool {
        self.commit_failing
    }
}

impl Daemon<'_> {
    /// Keeps small state in the slab, where a killed process leaves it; the next flush finds that it changed.
    pub(super) fn keep_state(&mut self, key: &str, bytes: &[u8]) {
        if let Err(refused) = self.store.state_put(key, bytes) {
            self.counters.state_refused += 1;
            self.log(Level::Error, "state-refused", format_args!("{key} would not survive a restart: {refused}"));
        }
    }

    /// One step of the flush; called while [`Flush::is_active`].
    pub(super) fn flush_step<'b>(&mut self, now: Now, buf: &'b mut [u8], stored: &mut dyn Stored) -> Output<'b> {
        if self.flush.stage == Stage::Idle {
            self.flush.due_mono_ms = now.mono_ms + self.flush.interval_ms;
            self.flush.stage = Stage::Logging;
            self.save_rules(now);
            self.release_quiet_timelines(now);
            self.tell_evicted();
        }
        if self.flush.stage == Stage::Logging {
            if let Some(length) = self.spill.frame_next(&self.store, buf)
                && let Some(generation) = self.spill.log_generation()
            {
                self.counters.log_bytes += length as u64;
                return Output::LogAppend { generation, bytes: &buf[..length] };
            }
            if self.spill.log_generation().is_some() {
                self.flush.stage = Stage::Syncing;
                self.flush.token += 1;
                self.spill.log_sync(self.flush.token);
                return Output::LogSync { token: self.flush.token };
            }
            // No generation is open yet: the checkpoint below opens one.
            self.seal_begin();
        }
        if matches!(self.flush.stage, Stage::Aging { .. }) {
            return self.age_step(now, buf, stored);
        }
        let reason = match self.flush.reason {
            Some(reason) => reason,
            None => *self.flush.reason.insert(self.spill.seal_reason(&self.store, now)),
        };
        if let Some(t_ms) = self.retention_due(now) {
            self.flush.puts.count += 1;
            self.flush.puts.drops = true;
            self.spill.dropped_before(t_ms);
            return Output::Put(Put::DropBefore { t_ms });
        }
        match self.spill.seal_next(&self.store, now, reason, buf) {
            Some(put) => {
                let puts = &mut self.flush.puts;
                puts.count += 1;
                if let Put::Segment { meta, bytes } = &put {
                    puts.segments.push((meta.timeline, meta.row_from..meta.row_from + u64::from(meta.row_count)));
                    puts.segment_bytes += bytes.len() as u64;
                }
                Output::Put(put)
            }
            None if self.flush.puts.count > 0 => {
                if reason == SealReason::Checkpoint {
                    // Every row of the slab has been read. Whatever ended the processes before, it is not the slab,
                    // however often somebody kills us.
                    self.store.set_healthy();
                }
                self.flush.stage = Stage::Aging { from_mono_ms: now.mono_ms };
                Output::Again
            }
            None => {
                self.flush.stage = Stage::Idle;
                Output::Again
            }
        }
    }

    /// Ages one segment, or ends the transaction.
    fn age_step<'b>(&mut self, now: Now, buf: &'b mut [u8], stored: &mut dyn Stored) -> Output<'b> {
        let puts = &mut self.flush.puts;
        let aged_max = (2 * puts.segments.len() as u64).clamp(AGED_PER_COMMIT_MIN, AGED_PER_COMMIT_MAX);
        if !self.stopping && puts.aged < aged_max {
            let due_mono_ms = self.targets.iter().map(|slot| slot.target.due_mono_ms()).min();
            if let Some(due_mono_ms) = due_mono_ms.filter(|due_mono_ms| *due_mono_ms < now.mono_ms + AGING_BITE_MS)
                && puts.waits < AGING_WAITS_MAX
            {
                puts.waits += 1;
                self.flush.stage = Stage::Aging { from_mono_ms: due_mono_ms.max(now.mono_ms) + 1 };
                return Output::Again;
            }
            let is_crowded = self.usage.disk_quota_bytes > 0 && self.usage.disk_bytes > self.usage.disk_quota_bytes / 2;
            let before_ms = if is_crowded { i64::MAX } else { now.wall_ms.saturating_sub(AGED_AFTER_MS) };
            // A disk that does not answer is told by the commit.
            if puts.waits < AGING_WAITS_MAX
                && let Ok(Some((meta, length))) = self.spill.age_next(stored, before_ms, buf)
            {
                puts.aged += 1;
                puts.aged_bytes += length as u64;
                return Output::Put(Put::Replace { meta, bytes: &buf[..length] });
            }
        }
        if self.spill.aging_moved() {
            return Output::Put(self.spill.state_put(buf));
        }
        self.flush.stage = Stage::Committing;
        self.flush.token += 1;
        self.spill.commit(&mut self.store, self.flush.token);
        Output::Commit { token: self.flush.token }
    }

    /// Rows that had to leave memory before they were in a segment are named once, exactly.
    fn tell_evicted(&mut self) {
        let timelines: Vec<TimelineId> = self.store.timelines().collect();
        for timeline in timelines {
            let Some(RowsLost { rows, samples, span_ms }) = self.store.rows_lost(timeline) else { continue };
            let key = self.store.timeline_key(timeline);
            let name = self.timeline_name(key);
            // Before it is cleared: a process that is killed in between counts twice rather than not at all.
            self.lose(&Loss::new(Reason::Evicted, &name, samples).over(Some(span_ms)).of_rows(rows.clone()));
            self.store.rows_lost_clear(timeline);
            self.log_cause(
                Level::Error,
                prng::mix(key.0 ^ rows.start),
                format_args!(
                    "rows {}..{} of {name}, {} to {}, left memory before they were stored; look at the disk, or give the \
                     daemon more memory",
                    rows.start,
                    rows.end,
                    Rfc3339(span_ms.0),
                    Rfc3339(span_ms.1)
                ),
            );
        }
    }

    fn seal_begin(&mut self) {
        self.flush.stage = Stage::Sealing;
        self.flush.reason = None;
        self.flush.puts = Puts::default();
    }

    pub(super) fn log_synced(&mut self, token: u64, result: Result<(), &str>) {
        self.spill.log_synced(&mut self.store, token, result.is_ok());
        if self.flush.stage != Stage::Syncing || token != self.flush.token {
            return;
        }
        // Segments may still find room where the log does not.
        self.seal_begin();
        match result {
            Ok(()) => {
                self.counters.flushes += 1;
                if core::mem::take(&mut self.flush.log_failing) {
                    self.log(Level::Info, "log-up", format_args!("the tail log is written again"));
                }
            }
            Err(error) => {
                self.counters.flushes_failed += 1;
                self.flush.log_failing = true;
                self.log(
                    Level::Error,
                    "log-down",
                    format_args!("the tail log was not written: {error}; samples stay in memory and are tried again"),
                );
            }
        }
    }

    pub(super) fn committed(&mut self, now: Now, token: u64, result: Result<(), &str>, stored: &mut dyn Stored) {
        self.spill.committed(&mut self.store, token, result.is_ok());
        if self.flush.stage != Stage::Committing || token != self.flush.token {
            return;
        }
        self.flush.stage = Stage::Idle;
        match result {
            Ok(()) => {
                let puts = core::mem::take(&mut self.flush.puts);
                self.counters.segments += puts.segments.len() as u64;
                self.counters.segment_bytes += puts.segment_bytes;
                self.counters.aged_segments += puts.aged;
                self.counters.aged_bytes += puts.aged_bytes;
                if puts.drops {
                    self.held.refresh(stored);
                } else {
                    puts.segments.into_iter().for_each(|(timeline, rows)| self.held.add(timeline, rows));
                }
                self.oldest_ms = stored.oldest_ms().ok().flatten();
                if core::mem::take(&mut self.flush.commit_failing) {
                    self.log(Level::Info, "commit-up", format_args!("segments are stored again"));
                }
                // A new generation has to be filled before the old one stops being needed.
                if self.spill.log_bytes() == 0 {
                    self.flush.now(now);
                }
            }
            Err(error) => {
                self.counters.commits_failed += 1;
                self.flush.commit_failing = true;
                self.log(
                    Level::Error,
                    "commit-down",
                    format_args!("segments were not stored: {error}; samples stay in memory and are tried again"),
                );
            }
        }
    }
}
