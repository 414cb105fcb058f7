//! Recording and alerting rules.
//!
//! ```text
//! due slot -> group -> rule -> query in bites -> record: one row of samples      -> Advance::Write -> the store
//!                                             -> alert: state machine, templates -> Advance::Write, and alerts_due
//! ```
//!
//! Rules of a group run one after the other, and what one wrote is stored before the next one runs. Instants given to
//! rules are the group's slots (multiples of the interval, shifted by a hash of the group), not when they really ran.

use alloc::{string::String, vec::Vec};

mod alert;
mod engine;
mod group;
mod record;
mod state;
pub mod template;

pub use alert::{Alert, AlertState, AlertTiming};
pub use engine::{Advance, Engine, RuleError, RuleOptions};
pub use group::{Group, Health, Rule};
pub use state::StateError;

/// One group of a rule file, read and checked by the platform.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupSpec {
    pub name: String,
    /// The rule file's path as given in `rule_files`.
    pub file: String,
    /// `None`: the global evaluation interval.
    pub interval_ms: Option<u64>,
    /// Most series or alerts one rule may produce; 0: no limit.
    pub limit: u64,
    pub query_offset_ms: Option<i64>,
    /// Added to every rule's labels.
    pub labels: Vec<(String, String)>,
    pub rules: Vec<RuleSpec>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleSpec {
    pub kind: RuleKind,
    /// PromQL, already parsed once by the check.
    pub expr: String,
    pub labels: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RuleKind {
    Record { record: String },
    Alert { alert: String, for_ms: u64, keep_firing_for_ms: u64, annotations: Vec<(String, String)> },
}
