//! One condition on one label, as PromQL and `match[]` write it.

use super::{Pattern, PatternError};
use alloc::boxed::Box;
use core::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchOp {
    Equal,
    NotEqual,
    Regexp,
    NotRegexp,
}

impl MatchOp {
    pub fn text(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regexp => "=~",
            Self::NotRegexp => "!~",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Matcher {
    pub name: Box<str>,
    pub op: MatchOp,
    pub value: Box<str>,
    /// Compiled `value`, for the two regexp operators.
    pattern: Option<Pattern>,
}

impl Matcher {
    pub fn new(name: &str, op: MatchOp, value: &str) -> Result<Self, PatternError> {
        let pattern = match op {
            MatchOp::Regexp | MatchOp::NotRegexp => Some(Pattern::new(value)?),
            MatchOp::Equal | MatchOp::NotEqual => None,
        };
        Ok(Self { name: name.into(), op, value: value.into(), pattern })
    }

    /// `value` is the empty text where the series lacks the label.
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.pattern) {
            (MatchOp::Equal, _) => *self.value == *value,
            (MatchOp::NotEqual, _) => *self.value != *value,
            (MatchOp::Regexp, Some(pattern)) => pattern.matches(value),
            (MatchOp::NotRegexp, Some(pattern)) => !pattern.matches(value),
            (_, None) => unreachable!("regexp matchers are compiled when made"),
        }
    }

    /// The values that match, where they are a short list.
    pub fn literals(&self) -> Option<&[Box<str>]> {
        match self.op {
            MatchOp::Equal => Some(core::slice::from_ref(&self.value)),
            MatchOp::Regexp => self.pattern.as_ref()?.literals(),
            MatchOp::NotEqual | MatchOp::NotRegexp => None,
        }
    }

    pub fn matches_labels(&self, labels: super::LabelsRef<'_>) -> bool {
        self.matches(labels.get(&self.name).unwrap_or(""))
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.op == other.op && self.value == other.value
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.text(), self.value)
    }
}
