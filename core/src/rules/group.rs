//! A group and its rules, as they run and as `/api/v1/rules` shows them.

use super::{Alert, AlertState, GroupSpec, RuleKind};
use crate::promql;
use alloc::{boxed::Box, string::String, vec::Vec};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not evaluated yet.
    Unknown,
    Ok,
    Err,
}

impl Health {
    /// As the API spells it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ok => "ok",
            Self::Err => "err",
        }
    }
}

/// One group of rules.
pub struct Group {
    pub(super) spec: GroupSpec,
    pub(super) interval_ms: u64,
    pub(super) rules: Vec<Rule>,
    pub(super) last_evaluation_ms: Option<i64>,
    pub(super) evaluation_time_ms: u64,
    pub(super) evaluated_count: u64,
    pub(super) missed_count: u64,
}

impl Group {
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    pub fn file(&self) -> &str {
        &self.spec.file
    }

    pub fn interval_ms(&self) -> u64 {
        self.interval_ms
    }

    /// 0: none.
    pub fn limit(&self) -> u64 {
        self.spec.limit
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Wall milliseconds of the last evaluation's start.
    pub fn last_evaluation_ms(&self) -> Option<i64> {
        self.last_evaluation_ms
    }

    /// How long the last evaluation took, the pauses between its bites included.
    pub fn evaluation_time_ms(&self) -> u64 {
        self.evaluation_time_ms
    }

    pub fn evaluated_count(&self) -> u64 {
        self.evaluated_count
    }

    /// Evaluations that were due but left out because the one before had not ended or the process was held up.
    pub fn missed_count(&self) -> u64 {
        self.missed_count
    }
}

/// One rule.
pub struct Rule {
    pub(super) kind: RuleKind,
    pub(super) expr: promql::Expr,
    /// `expr` as Prometheus prints it.
    pub(super) query: Box<str>,
    /// The group's and the rule's labels, not expanded; by name, each once.
    pub(super) labels: Vec<(Box<str>, Box<str>)>,
    pub(super) annotations: Vec<(Box<str>, Box<str>)>,
    pub(super) alerts: Vec<Alert>,
    pub(super) timeline_name: Box<str>,
    pub(super) health: Health,
    pub(super) last_error: String,
    pub(super) last_evaluation_ms: Option<i64>,
    pub(super) evaluation_time_ms: u64,
    pub(super) failed_count: u64,
}

impl Rule {
    /// The record or alert name.
    pub fn name(&self) -> &str {
        match &self.kind {
            RuleKind::Record { record } => record,
            RuleKind::Alert { alert, .. } => alert,
        }
    }

    pub fn is_alert(&self) -> bool {
        matches!(self.kind, RuleKind::Alert { .. })
    }

    /// The expression, printed as Prometheus does.
    pub fn query(&self) -> &str {
        &self.query
    }

    /// By name; templates not expanded.
    pub fn labels(&self) -> &[(Box<str>, Box<str>)] {
        &self.labels
    }

    /// By name; templates not expanded. Empty for recording rules.
    pub fn annotations(&self) -> &[(Box<str>, Box<str>)] {
        &self.annotations
    }

    pub fn for_ms(&self) -> u64 {
        match self.kind {
            RuleKind::Alert { for_ms, .. } => for_ms,
            RuleKind::Record { .. } => 0,
        }
    }

    pub fn keep_firing_for_ms(&self) -> u64 {
        match self.kind {
            RuleKind::Alert { keep_firing_for_ms, .. } => keep_firing_for_ms,
            RuleKind::Record { .. } => 0,
        }
    }

    pub fn health(&self) -> Health {
        self.health
    }

    /// Empty when the last evaluation went well.
    pub fn last_error(&self) -> &str {
        &self.last_error
    }

    pub fn last_evaluation_ms(&self) -> Option<i64> {
        self.last_evaluation_ms
    }

    pub fn evaluation_time_ms(&self) -> u64 {
        self.evaluation_time_ms
    }

    /// Evaluations that failed since start.
    pub fn failed_count(&self) -> u64 {
        self.failed_count
    }

    /// Pending and firing alerts, by labels.
    pub fn active_alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.iter().filter(|alert| alert.state.is_active())
    }

    /// The strongest state of its alerts: "firing", "pending" or "inactive".
    pub fn state_text(&self) -> &'static str {
        let mut state = "inactive";
        for alert in &self.alerts {
            match alert.state {
                AlertState::Firing { .. } => return "firing",
                AlertState::Pending { .. } => state = "pending",
                AlertState::Inactive | AlertState::Resolved { .. } => {}
            }
        }
        state
    }
}
