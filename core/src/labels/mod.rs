//! Label sets: how series are named, compared and chosen.

mod set;
#[cfg(feature = "alloc")]
pub(crate) use set::BytePairs;
pub use set::{LABELS_BYTES_MAX, LabelsError, LabelsRef, LabelsWriter};

#[cfg(feature = "alloc")]
mod matcher;
#[cfg(feature = "alloc")]
mod pattern;
#[cfg(feature = "alloc")]
pub(crate) use pattern::search_regex;
#[cfg(feature = "alloc")]
pub use {
    matcher::{MatchOp, Matcher},
    pattern::{Pattern, PatternError},
    set::{LabelSet, LabelsBuf, LabelsBuilder},
};

/// The label that holds the metric's name.
pub const NAME: &str = "__name__";

/// `[a-zA-Z_][a-zA-Z0-9_]*`, the label names of the text format 0.0.4 and of PromQL without quotes.
pub fn is_label_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
