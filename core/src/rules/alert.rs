//! One alert: a label set for which an alerting rule's expression gave a value.
//!
//! ```text
//!             active                 held for `for`              inactive, and kept for `keep_firing_for`
//! Inactive ────────────> Pending ────────────────────> Firing ──────────────────────────────> Resolved
//!    ^                      │ inactive                                                          │  │
//!    ├──────────────────────┘                    active: Pending or Firing <────────────────────┘  │
//!    └──────────────────────────────────── inactive for RESOLVED_KEPT_MS ──────────────────────────┘
//! ```
//!
//! Every arrow is [`AlertState::step`], taken at most twice per evaluation (with `for: 0s`, Inactive goes to Firing).

use crate::labels::LabelSet;
use alloc::{boxed::Box, vec::Vec};

/// How long a resolved alert is kept, so that it can be told again.
pub const RESOLVED_KEPT_MS: i64 = 15 * 60 * 1000;

/// Instants are monotonic milliseconds; they may lie before the process' start (below 0) after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum AlertState {
    /// Nothing is known of it.
    Inactive,
    /// The condition holds, not yet for long enough.
    Pending { since_ms: i64 },
    /// Told. With `cleared_ms`, the condition no longer holds since then, but `keep_firing_for` has not passed.
    Firing { since_ms: i64, cleared_ms: Option<i64> },
    /// It has fired and is over.
    Resolved { at_ms: i64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertTiming {
    pub for_ms: i64,
    pub keep_firing_for_ms: i64,
}

impl AlertState {
    /// The state after an evaluation at `now_ms` that gave a value (`active`) or did not.
    pub fn step(self, active: bool, now_ms: i64, timing: AlertTiming) -> Self {
        match (self, active) {
            (Self::Inactive | Self::Resolved { .. }, true) => Self::hold(now_ms, now_ms, timing),
            (Self::Pending { since_ms }, true) => Self::hold(since_ms, now_ms, timing),
            (Self::Firing { since_ms, .. }, true) => Self::Firing { since_ms, cleared_ms: None },
            (Self::Inactive | Self::Pending { .. }, false) => Self::Inactive,
            (Self::Firing { since_ms, cleared_ms }, false) => {
                let cleared_ms = cleared_ms.unwrap_or(now_ms);
                if now_ms - cleared_ms < timing.keep_firing_for_ms {
                    Self::Firing { since_ms, cleared_ms: Some(cleared_ms) }
                } else {
                    Self::Resolved { at_ms: now_ms }
                }
            }
            (Self::Resolved { at_ms }, false) if now_ms - at_ms > RESOLVED_KEPT_MS => Self::Inactive,
            (resolved @ Self::Resolved { .. }, false) => resolved,
        }
    }

    fn hold(since_ms: i64, now_ms: i64, timing: AlertTiming) -> Self {
        if now_ms - since_ms >= timing.for_ms {
            Self::Firing { since_ms: now_ms, cleared_ms: None }
        } else {
            Self::Pending { since_ms }
        }
    }

    /// As `alertstate` and the API spell it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Inactive | Self::Resolved { .. } => "inactive",
            Self::Pending { .. } => "pending",
            Self::Firing { .. } => "firing",
        }
    }

    /// Pending or firing: seen in ALERTS and in `/api/v1/alerts`.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Pending { .. } | Self::Firing { .. })
    }
}

/// An alert and what is told of it. Wall instants are those of the evaluations at which the state changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub state: AlertState,
    /// The sample's labels without the name, the rule's labels expanded, and `alertname`.
    pub labels: LabelSet,
    /// Expanded; by name, each once. A value may be empty.
    pub annotations: Vec<(Box<str>, Box<str>)>,
    pub value: f64,
    /// Wall milliseconds of the first evaluation that gave it; shifted by an outage while it was pending.
    pub active_at_ms: i64,
    /// Wall milliseconds of when it began to fire: startsAt, the same over restarts.
    pub fired_at_ms: Option<i64>,
    pub resolved_at_ms: Option<i64>,
    /// Since when only `keep_firing_for` keeps it firing, wall milliseconds.
    pub keep_firing_since_ms: Option<i64>,
    /// Monotonic milliseconds of the evaluation after which it was last told.
    pub(super) sent_mono_ms: Option<i64>,
}
