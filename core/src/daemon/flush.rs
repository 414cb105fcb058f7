//! Brings what is only in memory to the medium: the tail log every flush interval, segments when there is enough.
//!
//! ```text
//!        due          no frame left       LogSynced           no row left        Committed
//! Idle -----> Logging -----------> Syncing -------> Sealing ------------> Committing -----> Idle
//! ```
//!
//! Nothing counts as kept before its sync or commit has answered well; what failed is given again by the next flush. The
//! first flush of a process is a checkpoint: it opens a generation of the log (docs/SPILL_FORMAT.md).

use super::{
    Daemon,
    output::{Level, Output, Put},
};
use crate::{
    ledger::{Loss, Reason},
    prng,
    spill::SealReason,
    store::{RowsLost, TimelineId, TimelineKey, stored::Stored},
    time::{Now, Rfc3339},
};
use alloc::vec::Vec;
use core::ops::Range;

/// Alerts that changed wait at most this long for the medium, which also bounds how often a flush can be hurried.
const HURRY_MS: u64 = 1_000;
/// How often what is older than `--storage.tsdb.retention.time` is dropped.
const RETENTION_CHECK_MS: u64 = 60_000;

pub(super) struct Flush {
    stage: Stage,
    interval_ms: u64,
    due_mono_ms: u64,
    token: u64,
    puts: Puts,
    retention_due_mono_ms: u64,
    log_failing: bool,
    commit_failing: bool,
}

/// What was given to the database since the last commit.
#[derive(Default)]
struct Puts {
    count: u64,
    segments: Vec<(TimelineKey, Range<u64>)>,
    segment_bytes: u64,
    drops: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Logging,
    Syncing,
    Sealing,
    Committing,
}

impl Flush {
    pub fn new(interval_ms: u64, now: Now) -> Self {
        Self {
            stage: Stage::Idle,
            interval_ms: interval_ms.max(1),
            due_mono_ms: now.mono_ms,
            token: 0,
            puts: Puts::default(),
            retention_due_mono_ms: now.mono_ms + RETENTION_CHECK_MS,
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
        (self.stage == Stage::Idle).then_some(self.due_mono_ms)
    }

    /// Whether [`Daemon::flush_step`] has something to do now.
    pub fn is_active(&self, now: Now) -> bool {
        match self.stage {
            Stage::Idle => self.due_mono_ms <= now.mono_ms,
            Stage::Logging | Stage::Sealing => true,
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
    pub(super) fn flush_step<'b>(&mut self, now: Now, buf: &'b mut [u8]) -> Output<'b> {
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
        let reason = match self.spill.log_generation() {
            None => SealReason::Checkpoint,
            Some(_) if self.spill.checkpoint_due() => SealReason::Checkpoint,
            Some(_) => SealReason::Due,
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
                self.flush.stage = Stage::Committing;
                self.flush.token += 1;
                self.spill.commit(&mut self.store, self.flush.token);
                Output::Commit { token: self.flush.token }
            }
            None => {
                self.flush.stage = Stage::Idle;
                Output::Again
            }
        }
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

    /// What ended before this instant is too old, once a minute. A failed commit asks for it again a minute later.
    fn retention_due(&mut self, now: Now) -> Option<i64> {
        let retention_ms = self.options.retention_ms?;
        if self.flush.retention_due_mono_ms > now.mono_ms {
            return None;
        }
        self.flush.retention_due_mono_ms = now.mono_ms + RETENTION_CHECK_MS;
        Some(now.wall_ms.saturating_sub_unsigned(retention_ms))
    }

    fn seal_begin(&mut self) {
        self.flush.stage = Stage::Sealing;
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
