//! Hands everything on to an upstream: the store is the queue, a durable cursor says how far.

mod answer;
mod cursor;
mod encode;
mod forwarder;
mod source;
mod status;

pub use answer::{AnswerClass, classify};
pub use forwarder::{Forwarder, PARKED_RETRY_MS, UPSTREAM_WINDOW_MS};
pub use source::{ColumnVisit, RowSample, RowSource, RowsUnreadable, Run};
pub use status::{Batch, ForwardSettings, ForwardStatus, Lag, Lost, LostReason, RestoreError};

#[cfg(test)]
mod forward_tests;
