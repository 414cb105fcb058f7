//! Alerts on their way to Alertmanagers: a durable queue per peer, and the JSON that is sent.

use crate::labels::LabelSet;
use alloc::{boxed::Box, vec::Vec};

pub mod outbox;
pub mod payload;

pub use outbox::{Outbox, OutboxCounters, OutboxError, OutboxOptions, Post};

/// One alert as it is told to an Alertmanager.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertMessage {
    /// External labels included.
    pub labels: LabelSet,
    /// By name, each once; a value may be empty.
    pub annotations: Vec<(Box<str>, Box<str>)>,
    /// When it began to fire, wall milliseconds.
    pub starts_at_ms: i64,
    /// When it was resolved; while it fires, until when this message is valid.
    pub ends_at_ms: i64,
    pub resolved: bool,
    /// Told before in this state. Such a message need not survive a crash: the rules tell again after a restart.
    pub repeated: bool,
    pub generator_url: Box<str>,
}
