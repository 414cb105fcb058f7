//! A group and its rules, as they run and as `/api/v1/rules` shows them.

use super::{
    Alert, AlertState, AlertTiming, GroupSpec, RuleError, RuleKind, RuleOptions, RuleSpec, template::Template,
};
use crate::{
    labels::NAME,
    prng::stable_hash,
    promql,
    time::{JumpWatch, Now},
};
use alloc::{boxed::Box, format, string::String, string::ToString, vec::Vec};
use core::hash::{Hash, Hasher};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not evaluated yet.
    Unknown,
    Ok,
    Err,
}

impl Health {
    /// As the API spells it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ok => "ok",
            Self::Err => "err",
        }
    }
}

/// One group of rules.
pub struct Group {
    pub(super) name: Box<str>,
    pub(super) file: Box<str>,
    pub(super) limit: u64,
    query_offset_ms: Option<i64>,
    /// Of all that was configured: two groups of one name with one hash are the same.
    pub(super) spec_hash: u64,
    pub(super) interval_ms: u64,
    pub(super) rules: Vec<Rule>,
    pub(super) last_evaluation_ms: Option<i64>,
    pub(super) evaluation_time_ms: u64,
    pub(super) evaluated_count: u64,
    pub(super) missed_count: u64,
    pub(super) slot: Slot,
}

/// When a group is evaluated next, on both clocks. Slots are multiples of the interval, shifted by the group's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub mono_ms: i64,
    pub wall_ms: i64,
}

impl Slot {
    /// The first slot after `now`.
    pub fn after(now: Now, interval_ms: u64, shift_ms: u64) -> Self {
        let interval = interval_ms as i64;
        let since_ms = (now.wall_ms - shift_ms as i64).rem_euclid(interval);
        let wait_ms = interval - since_ms;
        Self { mono_ms: now.mono_ms as i64 + wait_ms, wall_ms: now.wall_ms + wait_ms }
    }
}

impl Group {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    pub fn interval_ms(&self) -> u64 {
        self.interval_ms
    }

    /// 0: none.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Wall milliseconds of the last evaluation's start.
    pub fn last_evaluation_ms(&self) -> Option<i64> {
        self.last_evaluation_ms
    }

    /// How long the last evaluation took, the pauses between its bites included.
    pub fn evaluation_time_ms(&self) -> u64 {
        self.evaluation_time_ms
    }

    pub fn evaluated_count(&self) -> u64 {
        self.evaluated_count
    }

    pub(super) fn new(spec: GroupSpec, options: &RuleOptions, now: Now, errors: &mut Vec<RuleError>) -> Self {
        let interval_ms = spec.interval_ms.unwrap_or(options.evaluation_interval_ms);
        if interval_ms == 0 {
            errors.push(RuleError::Interval { file: (&*spec.file).into(), group: (&*spec.name).into() });
        }
        let interval_ms = interval_ms.max(1);
        let mut hasher = StableHasher(Vec::new());
        (&spec, interval_ms).hash(&mut hasher);
        let mut rules: Vec<Rule> = Vec::with_capacity(spec.rules.len());
        for rule in &spec.rules {
            if let Some(rule) = Rule::new(&spec, rule, &rules, errors) {
                rules.push(rule);
            }
        }
        let mut group = Self {
            name: (&*spec.name).into(),
            file: (&*spec.file).into(),
            limit: spec.limit,
            query_offset_ms: spec.query_offset_ms,
            spec_hash: hasher.finish(),
            interval_ms,
            rules,
            last_evaluation_ms: None,
            evaluation_time_ms: 0,
            evaluated_count: 0,
            missed_count: 0,
            slot: Slot { mono_ms: 0, wall_ms: 0 },
        };
        group.slot = Slot::after(now, interval_ms, group.shift_ms());
        group
    }

    /// Where in its interval the group runs: spread by name, the same after every start.
    fn shift_ms(&self) -> u64 {
        stable_hash(format!("{}\n{}", self.file, self.name).as_bytes()) % self.interval_ms
    }

    /// Takes the slot that is due (the latest one, counting the others as missed) and sets the next.
    pub(super) fn take_slot(&mut self, now: Now) -> Slot {
        let (interval, mono_ms) = (self.interval_ms as i64, now.mono_ms as i64);
        let missed = (mono_ms - self.slot.mono_ms).max(0) / interval;
        self.missed_count += missed as u64;
        let mut due =
            Slot { mono_ms: self.slot.mono_ms + missed * interval, wall_ms: self.slot.wall_ms + missed * interval };
        let wall_at_due_ms = now.wall_ms - (mono_ms - due.mono_ms);
        if (wall_at_due_ms - due.wall_ms).abs() >= JumpWatch::JUMP_MS_MIN {
            // The wall clock has jumped: this evaluation is for the latest slot by the new clock.
            self.slot = Slot::after(now, self.interval_ms, self.shift_ms());
            due.wall_ms = self.slot.wall_ms - interval;
        } else {
            self.slot = Slot { mono_ms: due.mono_ms + interval, wall_ms: due.wall_ms + interval };
        }
        due
    }

    pub(super) fn query_offset_ms(&self, options: &RuleOptions) -> i64 {
        self.query_offset_ms.unwrap_or(options.query_offset_ms)
    }

    /// Evaluations that were due but left out because the one before had not ended or the process was held up.
    pub fn missed_count(&self) -> u64 {
        self.missed_count
    }
}

/// The derived `Hash` of a specification, hashed so that it is the same everywhere.
struct StableHasher(Vec<u8>);

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        stable_hash(&self.0)
    }
}

/// Pairs of a name and what belongs to it, by name.
pub(super) type Named<T> = Vec<(Box<str>, T)>;

/// One rule. Keeps texts rather than trees: a tree takes ten times the memory, and parsing it anew at an evaluation is
/// nothing next to the query.
pub struct Rule {
    name: Box<str>,
    /// `None`: a recording rule.
    timing: Option<AlertTiming>,
    /// The expression as Prometheus prints it.
    pub(super) query: Box<str>,
    /// The group's and the rule's labels, not expanded; by name, each once.
    pub(super) labels: Vec<(Box<str>, Box<str>)>,
    pub(super) annotations: Vec<(Box<str>, Box<str>)>,
    /// By labels; resolved ones too, as long as they are told.
    pub(super) alerts: Vec<Alert>,
    pub(super) alerts_bytes: usize,
    /// The slot of the last evaluation that went well, monotonic milliseconds.
    pub(super) evaluated_mono_ms: Option<i64>,
    /// Whether the last row stored had series. Unknown at start, so an empty row is written then.
    pub(super) wrote_series: bool,
    pub(super) timeline_name: Box<str>,
    pub(super) health: Health,
    pub(super) last_error: String,
    pub(super) last_evaluation_ms: Option<i64>,
    pub(super) evaluation_time_ms: u64,
    pub(super) failed_count: u64,
}

impl Rule {
    /// `before` are the group's rules that stand before this one. `None` when there are errors.
    fn new(group: &GroupSpec, spec: &RuleSpec, before: &[Rule], errors: &mut Vec<RuleError>) -> Option<Self> {
        let (name, annotations, timing) = match &spec.kind {
            RuleKind::Record { record } => (record, &[][..], None),
            RuleKind::Alert { alert, annotations, for_ms, keep_firing_for_ms } => {
                let milliseconds = |duration_ms: u64| i64::try_from(duration_ms).unwrap_or(i64::MAX);
                let timing = AlertTiming {
                    for_ms: milliseconds(*for_ms),
                    keep_firing_for_ms: milliseconds(*keep_firing_for_ms),
                };
                (alert, &annotations[..], Some(timing))
            }
        };
        let mut report = Report { group, rule: name, errors, failed: false };
        if name.is_empty() {
            report.name("the rule has no name; give one with record or alert");
        }
        let expr = match promql::parse(&spec.expr) {
            Ok(expr) => Some(expr),
            Err(error) => {
                report.expression(error.to_string().into());
                None
            }
        };
        let labels = merged(&[&group.labels, &spec.labels]);
        if labels.iter().any(|(label, _)| label.is_empty() || **label == *NAME) {
            report.name("a label is empty or __name__; rename or drop it");
        }
        let annotations = merged(&[annotations]);
        if timing.is_some() {
            report.templates("label", &labels);
            report.templates("annotation", &annotations);
        }
        let (expr, false) = (expr?, report.failed) else { return None };
        let kind = if timing.is_none() { "record" } else { "alert" };
        let shown: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        let base = format!("rule;{};{};{kind};{name}{{{}}}", group.file, group.name, shown.join(","));
        let twin_count = before.iter().filter(|rule| rule.timeline_base() == base).count();
        Some(Self {
            name: (&**name).into(),
            timing,
            query: expr.to_string().into(),
            labels,
            annotations,
            alerts: Vec::new(),
            alerts_bytes: 0,
            evaluated_mono_ms: None,
            wrote_series: true,
            timeline_name: format!("{base}#{twin_count}").into(),
            health: Health::Unknown,
            last_error: String::new(),
            last_evaluation_ms: None,
            evaluation_time_ms: 0,
            failed_count: 0,
        })
    }

    pub(super) fn timed(&mut self, started: Now, ended: Now) {
        self.last_evaluation_ms = Some(started.wall_ms);
        self.evaluation_time_ms = ended.mono_ms.saturating_sub(started.mono_ms);
    }

    /// What it shares with rules of the same kind, name and labels in its group.
    fn timeline_base(&self) -> &str {
        self.timeline_name.rsplit_once('#').map_or("", |(base, _)| base)
    }

    /// Takes over from the same rule of an older configuration.
    pub(super) fn take_state(&mut self, old: &mut Rule) {
        self.alerts = core::mem::take(&mut old.alerts);
        self.alerts_bytes = core::mem::take(&mut old.alerts_bytes);
        self.evaluated_mono_ms = old.evaluated_mono_ms;
        self.wrote_series = old.wrote_series;
        self.health = old.health;
        self.last_error = core::mem::take(&mut old.last_error);
        self.last_evaluation_ms = old.last_evaluation_ms;
        self.evaluation_time_ms = old.evaluation_time_ms;
        self.failed_count = old.failed_count;
    }

    /// The record or alert name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_alert(&self) -> bool {
        self.timing.is_some()
    }

    /// The expression, printed as Prometheus does.
    pub fn query(&self) -> &str {
        &self.query
    }

    /// By name; templates not expanded.
    pub fn labels(&self) -> &[(Box<str>, Box<str>)] {
        &self.labels
    }

    /// By name; templates not expanded. Empty for recording rules.
    pub fn annotations(&self) -> &[(Box<str>, Box<str>)] {
        &self.annotations
    }

    pub fn for_ms(&self) -> u64 {
        self.timing().for_ms as u64
    }

    pub fn keep_firing_for_ms(&self) -> u64 {
        self.timing().keep_firing_for_ms as u64
    }

    /// Zeros for recording rules.
    pub(super) fn timing(&self) -> AlertTiming {
        self.timing.unwrap_or(AlertTiming { for_ms: 0, keep_firing_for_ms: 0 })
    }

    pub fn health(&self) -> Health {
        self.health
    }

    /// Empty when the last evaluation went well.
    pub fn last_error(&self) -> &str {
        &self.last_error
    }

    pub fn last_evaluation_ms(&self) -> Option<i64> {
        self.last_evaluation_ms
    }

    pub fn evaluation_time_ms(&self) -> u64 {
        self.evaluation_time_ms
    }

    /// Evaluations that failed since start.
    pub fn failed_count(&self) -> u64 {
        self.failed_count
    }

    /// Pending and firing alerts, by labels.
    pub fn active_alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.iter().filter(|alert| alert.state.is_active())
    }

    /// The strongest state of its alerts: "firing", "pending" or "inactive".
    pub fn state_text(&self) -> &'static str {
        let mut state = "inactive";
        for alert in &self.alerts {
            match alert.state {
                AlertState::Firing { .. } => return "firing",
                AlertState::Pending { .. } => state = "pending",
                AlertState::Inactive | AlertState::Resolved { .. } => {}
            }
        }
        state
    }
}

/// Collects the errors of one rule.
struct Report<'r> {
    group: &'r GroupSpec,
    rule: &'r str,
    errors: &'r mut Vec<RuleError>,
    failed: bool,
}

impl Report<'_> {
    fn place(&self) -> (Box<str>, Box<str>, Box<str>) {
        ((&*self.group.file).into(), (&*self.group.name).into(), self.rule.into())
    }

    fn expression(&mut self, error: Box<str>) {
        let (file, group, rule) = self.place();
        self.errors.push(RuleError::Expression { file, group, rule, error });
        self.failed = true;
    }

    fn name(&mut self, error: &'static str) {
        let (file, group, rule) = self.place();
        self.errors.push(RuleError::Name { file, group, rule, error });
        self.failed = true;
    }

    fn templates(&mut self, what: &str, texts: &[(Box<str>, Box<str>)]) {
        for (name, text) in texts {
            if let Err(error) = Template::parse(&format!("__alert_{}", self.rule), text) {
                let (file, group, rule) = self.place();
                let (field, error) = (format!("{what} {name:?}").into(), error.to_string().into());
                self.errors.push(RuleError::Template { file, group, rule, field, error });
                self.failed = true;
            }
        }
    }
}

/// All pairs by name; of a name given twice the later wins.
fn merged(lists: &[&[(String, String)]]) -> Named<Box<str>> {
    let mut all: Named<Box<str>> = Vec::new();
    for (name, value) in lists.iter().flat_map(|list| list.iter()) {
        match all.binary_search_by(|(known, _)| (**known).cmp(name)) {
            Ok(at) => all[at].1 = (&**value).into(),
            Err(at) => all.insert(at, ((&**name).into(), (&**value).into())),
        }
    }
    all
}
