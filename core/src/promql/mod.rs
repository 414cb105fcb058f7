//! PromQL.

pub mod source;
