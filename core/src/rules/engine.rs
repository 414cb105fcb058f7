//! Runs the groups when they are due, in bites.

use super::{Group, GroupSpec, StateError};
use crate::{labels::LabelSet, notify::AlertMessage, promql::source::Source, time::Now};
use alloc::{boxed::Box, string::String, vec::Vec};

#[derive(Clone, Debug)]
pub struct RuleOptions {
    /// For groups without an interval of their own.
    pub evaluation_interval_ms: u64,
    /// For groups without an offset of their own.
    pub query_offset_ms: i64,
    pub query: crate::promql::QueryOptions,
    /// For templates, and added to the alerts that are told.
    pub external_labels: LabelSet,
    /// Without a trailing slash.
    pub external_url: String,
    /// An outage longer than this makes alerts start over.
    pub for_outage_tolerance_ms: u64,
    /// After a restart an alert waits at least this long before it fires, if its `for` is longer.
    pub for_grace_period_ms: u64,
}

/// A rule that cannot run; all of them are given together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("{file}: group {group:?}, rule {rule:?}: could not parse expression: {error}")]
    Expression { file: Box<str>, group: Box<str>, rule: Box<str>, error: Box<str> },
    #[error("{file}: group {group:?}, rule {rule:?}, {field}: template does not parse: {error}")]
    Template { file: Box<str>, group: Box<str>, rule: Box<str>, field: Box<str>, error: Box<str> },
    #[error("{file}: group {group:?} occurs twice in this file; rename one")]
    DuplicateGroup { file: Box<str>, group: Box<str> },
    #[error("{file}: group {group:?} has the interval 0; give one, or leave it out for the global one")]
    Interval { file: Box<str>, group: Box<str> },
}

/// What [`Engine::advance`] has come to.
#[derive(Debug, PartialEq)]
pub enum Advance<'e> {
    /// Nothing is due before [`Engine::next_due_mono_ms`].
    Idle,
    /// The bite is used up; call again.
    More,
    /// Store this row before the next call. Series of the timeline's row before that are missing here are stale. May
    /// be empty: then all are.
    Write {
        /// The rule's name for ever: unique among all rules, the same after restarts and reloads.
        timeline_name: &'e str,
        t_ms: i64,
        /// Labels and the value's bits; no label set twice.
        samples: &'e [(LabelSet, u64)],
    },
    /// A group has ended; time to ask for [`Engine::alerts_due`] and [`Engine::changed`].
    GroupDone,
}

pub struct Engine {
    groups: Vec<Group>,
}

impl Engine {
    /// Parses every expression and template. `now` places the groups' first evaluations.
    pub fn new(groups: Vec<GroupSpec>, options: RuleOptions, now: Now) -> Result<Self, Vec<RuleError>> {
        let _ = (groups, options, now);
        todo!()
    }

    /// Takes other groups and options. Groups that are the same (file, name, interval and rules) go on undisturbed;
    /// rules that are the same (kind, name and labels in a group of the same file and name) keep their alerts. After an error
    /// everything is as before.
    pub fn reload(&mut self, groups: Vec<GroupSpec>, options: RuleOptions, now: Now) -> Result<(), Vec<RuleError>> {
        let _ = (groups, options, now);
        todo!()
    }

    /// When [`Self::advance`] has something to do; `None` without groups. In the past while a group is running.
    pub fn next_due_mono_ms(&self) -> Option<u64> {
        todo!()
    }

    /// One bite: about `bite_samples` samples read, or one rule finished.
    pub fn advance(&mut self, now: Now, source: &mut dyn Source, bite_samples: usize) -> Advance<'_> {
        let _ = (now, source, bite_samples);
        todo!()
    }

    /// Alerts to tell the Alertmanagers now: firing ones at first and every `resend_delay_ms` (seen at evaluations),
    /// resolved ones likewise for 15 minutes.
    pub fn alerts_due(&mut self, now: Now, resend_delay_ms: u64) -> Vec<AlertMessage> {
        let _ = (now, resend_delay_ms);
        todo!()
    }

    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Whether what [`Self::save`] gives differs in more than the time from what it gave last.
    pub fn changed(&self) -> bool {
        todo!()
    }

    /// The alerts' state, to be kept over a restart.
    pub fn save(&mut self, now: Now) -> Vec<u8> {
        let _ = now;
        todo!()
    }

    /// Takes up the alerts of a process before this one. To be called before the first `advance`.
    pub fn restore(&mut self, bytes: &[u8], now: Now) -> Result<(), StateError> {
        let _ = (bytes, now);
        todo!()
    }
}
