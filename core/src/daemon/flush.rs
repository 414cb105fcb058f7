//! Brings what is only in memory to the medium: the tail log every flush interval, segments when there is enough.
//!
//! ```text
//! Idle -> Logging (frames) -> LogSyncing -> Sealing (segments, state) -> Committing -> Idle
//! ```
//!
//! A step that fails goes back to `Idle`; nothing counts as kept before its sync or commit has answered, so the next
//! flush gives it again.

use super::{Daemon, output::Level, output::Output, output::Put};
use crate::{
    spill::Seal,
    time::Now,
};
use alloc::{
    string::{String, ToString},
    vec::Vec,
};

/// Alerts that changed wait at most this long for the medium, and so bound how often a flush can be hurried.
const HURRY_MS: u64 = 1_000;

pub(super) struct Flush {
    stage: Stage,
    interval_ms: u64,
    due_mono_ms: u64,
    /// State that changed since it was last logged.
    changed: Vec<String>,
    /// State frames given in this flush; they are asked for again when it fails.
    logged: Vec<String>,
    token: u64,
    stop: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Logging,
    LogSyncing,
    Sealing,
    Committing,
}

impl Flush {
    pub fn new(interval_ms: u64, now: Now) -> Self {
        let stage = Stage::Idle;
        Self { stage, interval_ms, due_mono_ms: now.mono_ms + interval_ms, changed: Vec::new(), logged: Vec::new(), token: 0, stop: false }
    }

    /// The next flush comes soon.
    pub fn hurry(&mut self, now: Now) {
        self.due_mono_ms = self.due_mono_ms.min(now.mono_ms + HURRY_MS);
    }

    pub fn due_mono_ms(&self) -> Option<u64> {
        (self.stage == Stage::Idle).then_some(self.due_mono_ms)
    }

    pub fn stop(&mut self, now: Now) {
        self.stop = true;
        self.due_mono_ms = now.mono_ms;
    }

    pub fn is_idle(&self) -> bool {
        self.stage == Stage::Idle
    }
}

impl Daemon<'_> {
    /// Keeps small state in the slab, where a killed process leaves it, and marks it for the log.
    pub(super) fn keep_state(&mut self, now: Now, key: &str, bytes: &[u8]) {
        if let Err(refused) = self.store.state_put(key, bytes) {
            self.counters.state_refused += 1;
            self.log(Level::Error, "state-refused", format_args!("{key} would not survive a restart: {refused}"));
            return;
        }
        let _ = now;
        if !self.flush.changed.iter().any(|changed| changed == key) {
            self.flush.changed.push(key.to_string());
        }
    }

    /// One step of the flush in progress; `None` when nothing is to be done now.
    pub(super) fn flush_step<'b>(&mut self, now: Now, buf: &'b mut [u8]) -> Option<Output<'b>> {
        if self.flush.stage == Stage::Idle {
            if self.flush.due_mono_ms > now.mono_ms {
                return None;
            }
            self.flush.stage = Stage::Logging;
            self.flush.due_mono_ms = now.mono_ms + self.flush.interval_ms;
            self.flush.logged.clear();
        }
        if self.flush.stage == Stage::Logging {
            if let Some(length) = self.frame(buf) {
                self.counters.log_bytes += length as u64;
                return Some(Output::LogAppend { generation: self.spill.generation(), bytes: &buf[..length] });
            }
            self.flush.stage = Stage::LogSyncing;
            self.flush.token += 1;
            return Some(Output::LogSync { token: self.flush.token });
        }
        if self.flush.stage == Stage::Sealing {
            let reason = if self.flush.stop { Seal::Stop } else { Seal::Flush };
            match self.spill.seal_next(&self.store, now, reason, buf) {
                Some(put) => {
                    if let Put::Segment { bytes, .. } = &put {
                        self.counters.segments += 1;
                        self.counters.segment_bytes += bytes.len() as u64;
                    }
                    return Some(Output::Put(put));
                }
                None if self.spill.has_sealed() => {
                    self.flush.stage = Stage::Committing;
                    self.flush.token += 1;
                    return Some(Output::Commit { token: self.flush.token });
                }
                None => self.flush.stage = Stage::Idle,
            }
        }
        None
    }

    /// The next frame for the log: rows first, then the state that changed.
    fn frame(&mut self, buf: &mut [u8]) -> Option<usize> {
        if let Some(length) = self.spill.frame_next(&mut self.store, buf) {
            return Some(length);
        }
        while let Some(key) = self.flush.changed.pop() {
            let Some(bytes) = self.store.state_get(&key) else { continue };
            let length = self.spill.state_frame(&key, bytes, buf);
            self.flush.logged.push(key);
            if length.is_some() {
                return length;
            }
        }
        None
    }

    pub(super) fn log_synced(&mut self, now: Now, token: u64, result: Result<(), &str>) {
        if self.flush.stage != Stage::LogSyncing || token != self.flush.token {
            return;
        }
        self.spill.log_synced(&mut self.store, result.is_ok());
        match result {
            Ok(()) => {
                self.counters.flushes += 1;
                self.flush.stage = Stage::Sealing;
                if core::mem::take(&mut self.flush_failing) {
                    self.log(Level::Info, "flush-up", format_args!("the tail log is written again"));
                }
            }
            Err(error) => {
                self.counters.flushes_failed += 1;
                self.flush_failing = true;
                let logged = core::mem::take(&mut self.flush.logged);
                self.flush.changed.extend(logged);
                // Segments may still find room where the log does not.
                self.flush.stage = Stage::Sealing;
                self.log(Level::Error, "flush-down", format_args!("the tail log was not written: {error}; samples stay in memory and are tried again"));
            }
        }
        let _ = now;
    }

    pub(super) fn committed(&mut self, now: Now, token: u64, result: Result<(), &str>) {
        if self.flush.stage != Stage::Committing || token != self.flush.token {
            return;
        }
        self.spill.committed(&mut self.store, result.is_ok());
        self.flush.stage = Stage::Idle;
        match result {
            Ok(()) => {
                if core::mem::take(&mut self.commit_failing) {
                    self.log(Level::Info, "commit-up", format_args!("segments are stored again"));
                }
            }
            Err(error) => {
                self.counters.commits_failed += 1;
                self.commit_failing = true;
                self.log(Level::Error, "commit-down", format_args!("segments were not stored: {error}; samples stay in memory and are tried again"));
            }
        }
        let _ = now;
    }
}
