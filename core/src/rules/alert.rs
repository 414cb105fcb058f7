//! One alert: a label set for which an alerting rule's expression gave a value.
//!
//! ```text
//!             active                 held for `for`              inactive, and kept for `keep_firing_for`
//! Inactive ────────────> Pending ────────────────────> Firing ──────────────────────────────> Resolved
//!    ^                      │ inactive                                                          │  │
//!    ├──────────────────────┘                    active: Pending or Firing <────────────────────┘  │
//!    └──────────────────────────────────── inactive for RESOLVED_KEPT_MS ──────────────────────────┘
//! ```
//!
//! Every arrow is [`AlertState::step`], taken at most twice per evaluation (with `for: 0s`, Inactive goes to Firing).

use super::{
    group::{Named, Rule},
    template::{Data, QueryFn, Template},
};
use crate::labels::{LabelSet, LabelsBuilder, NAME};
use alloc::{boxed::Box, format, rc::Rc, string::String, string::ToString, vec::Vec};
use core::cmp::Ordering;

/// How long a resolved alert is kept, so that it can be told again.
pub const RESOLVED_KEPT_MS: i64 = 15 * 60 * 1000;

/// Instants are monotonic milliseconds; they may lie before the process' start (below 0) after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum AlertState {
    /// Nothing is known of it.
    Inactive,
    /// The condition holds, not yet for long enough.
    Pending { since_ms: i64 },
    /// Told. With `cleared_ms`, the condition no longer holds since then, but `keep_firing_for` has not passed.
    Firing { since_ms: i64, cleared_ms: Option<i64> },
    /// It has fired and is over.
    Resolved { at_ms: i64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertTiming {
    pub for_ms: i64,
    pub keep_firing_for_ms: i64,
}

impl AlertState {
    /// The state after an evaluation at `now_ms` that gave a value (`active`) or did not.
    pub fn step(self, active: bool, now_ms: i64, timing: AlertTiming) -> Self {
        match (self, active) {
            (Self::Inactive | Self::Resolved { .. }, true) => Self::hold(now_ms, now_ms, timing),
            (Self::Pending { since_ms }, true) => Self::hold(since_ms, now_ms, timing),
            (Self::Firing { since_ms, .. }, true) => Self::Firing { since_ms, cleared_ms: None },
            (Self::Inactive | Self::Pending { .. }, false) => Self::Inactive,
            (Self::Firing { since_ms, cleared_ms }, false) => {
                let cleared_ms = cleared_ms.unwrap_or(now_ms);
                if now_ms - cleared_ms < timing.keep_firing_for_ms {
                    Self::Firing { since_ms, cleared_ms: Some(cleared_ms) }
                } else {
                    Self::Resolved { at_ms: now_ms }
                }
            }
            (Self::Resolved { at_ms }, false) if now_ms - at_ms > RESOLVED_KEPT_MS => Self::Inactive,
            (resolved @ Self::Resolved { .. }, false) => resolved,
        }
    }

    fn hold(since_ms: i64, now_ms: i64, timing: AlertTiming) -> Self {
        if now_ms - since_ms >= timing.for_ms {
            Self::Firing { since_ms: now_ms, cleared_ms: None }
        } else {
            Self::Pending { since_ms }
        }
    }

    /// As `alertstate` and the API spell it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Inactive | Self::Resolved { .. } => "inactive",
            Self::Pending { .. } => "pending",
            Self::Firing { .. } => "firing",
        }
    }

    /// Pending or firing: seen in ALERTS and in `/api/v1/alerts`.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Pending { .. } | Self::Firing { .. })
    }
}

/// An alert and what is told of it. Wall instants are those of the evaluations at which the state changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub state: AlertState,
    /// The sample's labels without the name, the rule's labels expanded, and `alertname`.
    pub labels: LabelSet,
    /// Expanded; by name, each once. A value may be empty.
    pub annotations: Vec<(Box<str>, Box<str>)>,
    pub value: f64,
    /// Wall milliseconds of the first evaluation that gave it; shifted by an outage while it was pending.
    pub active_at_ms: i64,
    /// Wall milliseconds of when it began to fire: startsAt, the same over restarts.
    pub fired_at_ms: Option<i64>,
    pub resolved_at_ms: Option<i64>,
    /// Since when only `keep_firing_for` keeps it firing, wall milliseconds.
    pub keep_firing_since_ms: Option<i64>,
    /// Monotonic milliseconds of the evaluation after which it was last told.
    pub(super) sent_mono_ms: Option<i64>,
}

/// One evaluation of an alerting rule: when, and what its templates may see.
pub(super) struct Evaluation<'e> {
    /// The slot, on both clocks.
    pub mono_ms: i64,
    pub wall_ms: i64,
    /// Most alerts; 0: no limit.
    pub limit: u64,
    /// What this rule's alerts may take.
    pub bytes_max: usize,
    pub external_labels: &'e Rc<LabelSet>,
    pub external_url: &'e Rc<str>,
}

/// Moves the rule's alerts by what its expression gave, and appends ALERTS and ALERTS_FOR_STATE. Says whether any
/// alert changed its state. After an error the alerts are as before, except beyond the limit: then all are dropped.
pub(super) fn evaluate(
    rule: &mut Rule,
    result: Vec<(LabelSet, f64)>,
    evaluation: &Evaluation<'_>,
    query: &mut QueryFn<'_>,
    samples: &mut Vec<(LabelSet, u64)>,
) -> Result<bool, String> {
    let timing = rule.timing();
    let (mut found, mut found_bytes) = (Vec::new(), 0);
    if !result.is_empty() {
        let templates = Templates::new(rule)?;
        for (labels, value) in result {
            let one = Found::new(rule, &templates, labels, value, evaluation, query);
            found_bytes += texts_bytes(&one.labels, &one.annotations);
            if found_bytes > evaluation.bytes_max {
                return Err(format!(
                    "the alerts need more than the {} bytes of memory that are left for them; aggregate the \
                     expression to fewer series or shorten the annotations",
                    evaluation.bytes_max
                ));
            }
            found.push(one);
        }
    }
    found.sort_by(|a, b| a.labels.cmp(&b.labels));
    if found.windows(2).any(|pair| pair[0].labels == pair[1].labels) {
        return Err("vector contains metrics with the same labelset after applying alert labels".into());
    }
    let (mut known, mut found) =
        (core::mem::take(&mut rule.alerts).into_iter().peekable(), found.into_iter().peekable());
    let mut changed = false;
    loop {
        let order = match (known.peek(), found.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(alert), Some(found)) => alert.labels.cmp(&found.labels),
        };
        let known = if order.is_le() { known.next() } else { None };
        let found = if order.is_ge() { found.next() } else { None };
        let active = found.is_some();
        let mut alert = match (known, found) {
            (Some(mut alert), Some(found)) => {
                (alert.annotations, alert.value) = (found.annotations, found.value);
                alert
            }
            (Some(alert), None) => alert,
            (None, Some(found)) => Alert::new(found),
            (None, None) => break,
        };
        changed |= alert.advance(active, evaluation, timing);
        if alert.state != AlertState::Inactive {
            rule.alerts.push(alert);
        }
    }
    rule.count_bytes();
    if rule.alerts_bytes > evaluation.bytes_max {
        // Alerts that come and go under ever new labels: those told as resolved are not told again.
        rule.alerts.retain(|alert| alert.state.is_active() || !alert.was_told_resolved());
        rule.count_bytes();
    }
    let active_count = rule.active_alerts().count() as u64;
    if evaluation.limit > 0 && active_count > evaluation.limit {
        rule.alerts.clear();
        rule.alerts_bytes = 0;
        return Err(format!("exceeded limit of {} with {active_count} alerts", evaluation.limit));
    }
    for alert in rule.active_alerts() {
        samples.push((series(rule, alert, "ALERTS", Some(alert.state.text())), 1_f64.to_bits()));
        let active_at = alert.active_at_ms.div_euclid(1000) as f64;
        samples.push((series(rule, alert, "ALERTS_FOR_STATE", None), active_at.to_bits()));
    }
    Ok(changed)
}

/// What an alert takes in memory, nearly.
fn texts_bytes(labels: &LabelSet, annotations: &[(Box<str>, Box<str>)]) -> usize {
    let texts: usize =
        annotations.iter().map(|(name, value)| 2 * size_of::<Box<str>>() + name.len() + value.len()).sum();
    size_of::<Alert>() + labels.heap_bytes() + texts
}

impl Rule {
    pub(super) fn count_bytes(&mut self) {
        self.alerts_bytes = self.alerts.iter().map(|alert| texts_bytes(&alert.labels, &alert.annotations)).sum();
    }
}

/// The rule's texts, parsed for this evaluation.
struct Templates {
    labels: Named<Template>,
    annotations: Named<Template>,
}

impl Templates {
    /// The texts parsed when the rule was made, so an error is not expected here.
    fn new(rule: &Rule) -> Result<Self, String> {
        let name = format!("__alert_{}", rule.name());
        let parsed = |texts: &[(Box<str>, Box<str>)]| -> Result<Named<Template>, String> {
            let parse = |text: &str| Template::parse(&name, text).map_err(|error| error.to_string());
            texts.iter().map(|(name, text)| Ok((name.clone(), parse(text)?))).collect()
        };
        Ok(Self { labels: parsed(rule.labels())?, annotations: parsed(rule.annotations())? })
    }
}

/// What one series of the result makes of the rule's texts.
struct Found {
    labels: LabelSet,
    annotations: Vec<(Box<str>, Box<str>)>,
    value: f64,
}

impl Found {
    fn new(
        rule: &Rule,
        templates: &Templates,
        labels: LabelSet,
        value: f64,
        evaluation: &Evaluation<'_>,
        query: &mut QueryFn<'_>,
    ) -> Self {
        let data = Data {
            labels: Rc::new(labels),
            external_labels: evaluation.external_labels.clone(),
            external_url: evaluation.external_url.clone(),
            value,
            now_ms: evaluation.wall_ms,
        };
        let mut builder = LabelsBuilder::from_labels((*data.labels).as_ref());
        builder.remove(NAME);
        let Templates { labels, annotations } = templates;
        for (name, template) in labels {
            builder.set(name, &expanded(template, &data, query));
        }
        builder.set("alertname", rule.name());
        let annotations = annotations
            .iter()
            .map(|(name, template)| (name.clone(), expanded(template, &data, query).into()))
            .collect();
        Self { labels: builder.build(), annotations, value }
    }
}

fn expanded(template: &Template, data: &Data, query: &mut QueryFn<'_>) -> String {
    match template.expand(data, query) {
        Ok(text) => text,
        Err(error) => format!("<error expanding template: {error}>"),
    }
}

impl Alert {
    fn new(found: Found) -> Self {
        Self {
            state: AlertState::Inactive,
            labels: found.labels,
            annotations: found.annotations,
            value: found.value,
            active_at_ms: 0,
            fired_at_ms: None,
            resolved_at_ms: None,
            keep_firing_since_ms: None,
            sent_mono_ms: None,
        }
    }

    /// Steps the state and notes the wall times of what changed. Says whether the state's kind changed.
    fn advance(&mut self, active: bool, evaluation: &Evaluation<'_>, timing: AlertTiming) -> bool {
        let (before, wall_ms) = (self.state, evaluation.wall_ms);
        self.state = before.step(active, evaluation.mono_ms, timing);
        if !before.is_active() && self.state.is_active() {
            (self.active_at_ms, self.fired_at_ms, self.resolved_at_ms) = (wall_ms, None, None);
            self.sent_mono_ms = None;
        }
        let fires = |state| matches!(state, AlertState::Firing { .. });
        if fires(self.state) && !fires(before) {
            self.fired_at_ms = Some(wall_ms);
        }
        if fires(before) && matches!(self.state, AlertState::Resolved { .. }) {
            self.resolved_at_ms = Some(wall_ms);
        }
        self.keep_firing_since_ms = match self.state {
            AlertState::Firing { cleared_ms: Some(_), .. } => self.keep_firing_since_ms.or(Some(wall_ms)),
            _ => None,
        };
        core::mem::discriminant(&before) != core::mem::discriminant(&self.state)
            || matches!((before, self.state), (AlertState::Firing { cleared_ms: a, .. }, AlertState::Firing { cleared_ms: b, .. }) if a != b)
    }

    fn was_told_resolved(&self) -> bool {
        match (self.state, self.sent_mono_ms) {
            (AlertState::Resolved { at_ms }, Some(sent_ms)) => sent_ms >= at_ms,
            _ => false,
        }
    }

    /// Whether the Alertmanagers should be told after the evaluation at `mono_ms` (Prometheus' needsSending).
    pub(super) fn is_due(&self, mono_ms: i64, resend_delay_ms: i64) -> bool {
        match (self.state, self.sent_mono_ms) {
            (AlertState::Inactive | AlertState::Pending { .. }, _) => false,
            (_, None) => true,
            (AlertState::Resolved { at_ms }, Some(sent_ms)) if at_ms > sent_ms => true,
            (_, Some(sent_ms)) => sent_ms + resend_delay_ms < mono_ms,
        }
    }
}

/// The labels of one of the alert's own series. As in Prometheus the rule's labels come first and unexpanded, so one
/// that expands to nothing is seen there with its template.
fn series(rule: &Rule, alert: &Alert, name: &str, state: Option<&str>) -> LabelSet {
    let mut builder = LabelsBuilder::default();
    for (name, value) in rule.labels.iter() {
        builder.set(name, value);
    }
    for (name, value) in alert.labels.iter() {
        builder.set(name, value);
    }
    builder.set(NAME, name).set("alertname", rule.name());
    if let Some(state) = state {
        builder.set("alertstate", state);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: AlertTiming = AlertTiming { for_ms: 60_000, keep_firing_for_ms: 30_000 };

    fn firing(since_ms: i64, cleared_ms: Option<i64>) -> AlertState {
        AlertState::Firing { since_ms, cleared_ms }
    }

    #[test]
    fn a_pending_alert_fires_exactly_at_its_hold_time_and_is_forgotten_when_it_ends_before() {
        let pending = AlertState::Inactive.step(true, 0, TIMING);
        assert_eq!(pending, AlertState::Pending { since_ms: 0 });
        assert_eq!(pending.step(true, 59_999, TIMING), pending);
        assert_eq!(pending.step(true, 60_000, TIMING), firing(60_000, None));
        assert_eq!(pending.step(false, 60_000, TIMING), AlertState::Inactive);
    }

    #[test]
    fn without_a_hold_time_an_alert_fires_at_once() {
        let timing = AlertTiming { for_ms: 0, keep_firing_for_ms: 0 };
        assert_eq!(AlertState::Inactive.step(true, 7, timing), firing(7, None));
        assert_eq!(AlertState::Resolved { at_ms: 3 }.step(true, 7, timing), firing(7, None));
        assert_eq!(firing(7, None).step(false, 8, timing), AlertState::Resolved { at_ms: 8 });
    }

    #[test]
    fn a_firing_alert_is_kept_for_its_time_counted_from_the_first_evaluation_that_cleared_it() {
        let cleared = firing(0, None).step(false, 100_000, TIMING);
        assert_eq!(cleared, firing(0, Some(100_000)));
        assert_eq!(cleared.step(false, 129_999, TIMING), cleared);
        assert_eq!(cleared.step(false, 130_000, TIMING), AlertState::Resolved { at_ms: 130_000 });
        assert_eq!(cleared.step(true, 129_999, TIMING), firing(0, None), "and the count starts over");
    }

    #[test]
    fn a_resolved_alert_is_kept_a_quarter_of_an_hour_and_then_forgotten() {
        let resolved = AlertState::Resolved { at_ms: 0 };
        assert_eq!(resolved.step(false, RESOLVED_KEPT_MS, TIMING), resolved);
        assert_eq!(resolved.step(false, RESOLVED_KEPT_MS + 1, TIMING), AlertState::Inactive);
        assert_eq!(resolved.step(true, 5, TIMING), AlertState::Pending { since_ms: 5 }, "it is another episode");
    }

    #[test]
    fn instants_before_the_process_started_count_as_held() {
        let pending = AlertState::Pending { since_ms: -50_000 };
        assert_eq!(pending.step(true, 9_999, TIMING), pending);
        assert_eq!(pending.step(true, 10_000, TIMING), firing(10_000, None));
    }
}
