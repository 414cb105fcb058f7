//! What a forwarder is told and what it tells: settings, batches, losses, figures.

use super::cursor::SAVED_VERSION;
use crate::{daemon::settings::RemoteWriteSettings, labels::LabelSet, store::TimelineKey};
use alloc::string::String;
use core::ops::Range;

/// What one `remote_write` entry wants.
#[derive(Clone, Debug)]
pub struct ForwardSettings {
    /// Most samples in one message.
    pub samples_per_send_max: u64,
    /// How long rows wait for company.
    pub batch_deadline_ms: u64,
    pub backoff_ms_min: u64,
    pub backoff_ms_max: u64,
    /// Added to every series that lacks them.
    pub external_labels: LabelSet,
}

impl ForwardSettings {
    pub fn new(settings: &RemoteWriteSettings, external_labels: &LabelSet) -> Self {
        Self {
            samples_per_send_max: settings.samples_per_send_max.max(1),
            batch_deadline_ms: settings.batch_deadline_ms,
            backoff_ms_min: settings.backoff_ms_min,
            backoff_ms_max: settings.backoff_ms_max,
            external_labels: external_labels.clone(),
        }
    }
}

/// A message to post: the first `bytes` of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub bytes: usize,
    pub samples: u64,
    pub series: u64,
    pub timeline: TimelineKey,
    pub rows: Range<u64>,
}

/// Samples that will never reach this upstream: exactly which, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    pub timeline: TimelineKey,
    pub rows: Range<u64>,
    /// `0..u32::MAX`: all.
    pub columns: Range<u32>,
    /// Smallest and largest timestamp, where they were ever read.
    pub span_ms: Option<(i64, i64)>,
    /// Samples among them, where they were ever counted.
    pub samples: u64,
    pub reason: LostReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LostReason {
    #[error("retention dropped them before the upstream took them; keep more, or bring the upstream back sooner")]
    Retention,
    #[error("they could not be read from the disk")]
    Unreadable,
    #[error("the upstream refused them with HTTP status {status}")]
    Refused { status: u16 },
    #[error("one series alone is larger than a message may be; drop or shorten its labels")]
    TooLarge,
}

/// For our own metrics and the page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardStatus {
    pub samples_sent: u64,
    pub messages_sent: u64,
    /// Encoded bytes of accepted messages, before compression.
    pub bytes_sent: u64,
    /// Messages that have to go again: 5xx, 429, no answer.
    pub messages_retried: u64,
    /// Messages refused for what is in them.
    pub messages_refused: u64,
    /// Samples given up because the upstream refused them alone.
    pub samples_refused: u64,
    /// Samples the upstream had already when they were repeated after an answer was lost.
    pub samples_held_upstream: u64,
    /// Rows given up, partly or whole, for any reason.
    pub rows_lost: u64,
    pub last_error: String,
    pub last_accepted_wall_ms: Option<i64>,
}

/// How far behind an upstream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Rows not yet accepted, parked ones left out.
    pub rows: u64,
    /// Their samples, at the present width of each timeline.
    pub samples: u64,
    /// Wall milliseconds of the oldest of them.
    pub oldest_ms: Option<i64>,
    /// Rows that wait because the upstream's window has moved on.
    pub rows_parked: u64,
}

/// The saved cursors cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error("the saved forwarding cursors are damaged; everything held is sent again")]
    Damaged,
    #[error(
        "the saved forwarding cursors have version {found}, this program knows {SAVED_VERSION}; everything held is sent again"
    )]
    OtherVersion { found: u8 },
}
