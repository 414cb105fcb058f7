//! Hands everything on to an upstream: the store is the queue, a durable cursor says how far.

mod source;
pub use source::{ColumnVisit, RowSample, RowSource, RowsUnreadable, Run};
