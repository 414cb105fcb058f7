//! Hands everything on to an upstream: the store is the queue, a durable cursor says how far.

mod answer;
mod cursor;
mod encode;
mod forwarder;
mod source;

pub use answer::{AnswerClass, classify};
pub use forwarder::{
    Batch, ForwardSettings, ForwardStatus, Forwarder, Lag, Lost, LostReason, PARKED_RETRY_MS, RestoreError,
    UPSTREAM_WINDOW_MS,
};
pub use source::{ColumnVisit, RowSample, RowSource, RowsUnreadable, Run};

#[cfg(test)]
mod forward_tests;
