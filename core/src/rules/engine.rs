//! Runs the groups when they are due, in bites.

use super::{
    AlertState, Group, GroupSpec, Health, Rule, StateError,
    alert::{self, Evaluation},
    group::Slot,
    record, state,
    template::QueriedSample,
};
use crate::{
    labels::{LabelSet, LabelsBuilder},
    notify::{AlertMessage, payload::generator_url},
    promql::{self, Progress, Query, QueryOptions, ValueType, Window, source::Source},
    time::Now,
};
use alloc::{boxed::Box, format, rc::Rc, string::String, string::ToString, vec::Vec};

#[derive(Clone, Debug)]
pub struct RuleOptions {
    /// For groups without an interval of their own.
    pub evaluation_interval_ms: u64,
    /// For groups without an offset of their own.
    pub query_offset_ms: i64,
    /// For every rule's query. All alerts together may take as much memory as one query (`bytes_max`).
    pub query: QueryOptions,
    /// For templates, and added to the alerts that are told.
    pub external_labels: LabelSet,
    /// Without a trailing slash.
    pub external_url: String,
    /// An outage longer than this makes alerts start over.
    pub for_outage_tolerance_ms: u64,
    /// After a restart an alert waits at least this long before it fires, if its `for` is longer.
    pub for_grace_period_ms: u64,
}

/// A rule that cannot run; all of them are given together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("{file}: group {group:?}, rule {rule:?}: could not parse expression: {error}")]
    Expression { file: Box<str>, group: Box<str>, rule: Box<str>, error: Box<str> },
    #[error("{file}: group {group:?}, rule {rule:?}, {field}: template does not parse: {error}")]
    Template { file: Box<str>, group: Box<str>, rule: Box<str>, field: Box<str>, error: Box<str> },
    #[error("{file}: group {group:?}, rule {rule:?}: {error}")]
    Name { file: Box<str>, group: Box<str>, rule: Box<str>, error: &'static str },
    #[error("{file}: group {group:?} occurs twice in this file; rename one")]
    DuplicateGroup { file: Box<str>, group: Box<str> },
    #[error("{file}: group {group:?} has the interval 0; give one, or leave it out for the global one")]
    Interval { file: Box<str>, group: Box<str> },
}

/// What [`Engine::advance`] has come to.
#[derive(Debug, PartialEq)]
pub enum Advance<'e> {
    /// Nothing is due before [`Engine::next_due_mono_ms`].
    Idle,
    /// The bite is used up; call again.
    More,
    /// Store this row before the next call. Series of the timeline's row before that are missing here are stale. May
    /// be empty: then all are.
    Write {
        /// The rule's name for ever: unique among all rules, the same after restarts and reloads.
        timeline_name: &'e str,
        t_ms: i64,
        /// Labels and the value's bits; no label set twice.
        samples: &'e [(LabelSet, u64)],
    },
    /// A group has ended; time to ask for [`Engine::alerts_due`] and [`Engine::changed`].
    GroupDone,
}

/// All groups, the one that is running, and the rows it makes.
pub struct Engine {
    options: RuleOptions,
    groups: Vec<Group>,
    run: Option<Run>,
    /// Timelines of rules that are gone; each gets an empty row, so that its series are stale.
    gone: Vec<Box<str>>,
    /// What the last [`Advance::Write`] lent.
    written: Written,
    changed: bool,
    progressed: bool,
    /// When [`Self::save`] was called last.
    saved: Option<Now>,
}

#[derive(Default)]
struct Written {
    timeline_name: Box<str>,
    samples: Vec<(LabelSet, u64)>,
}

/// A group that is being evaluated.
struct Run {
    group: usize,
    /// The rule at work; the group's rule count when all are done.
    rule: usize,
    slot: Slot,
    started_mono_ms: u64,
    work: Option<Work>,
}

/// A rule that is being evaluated.
struct Work {
    query: Query,
    result: Vec<(LabelSet, f64)>,
    result_bytes: usize,
    started: Now,
}

/// Series taken from a query in one bite; each costs label work.
const SERIES_PER_BITE_MAX: usize = 64;
/// Bites that one `query` in a template may take; they are taken in one go, so this bounds how long that is.
const TEMPLATE_QUERY_BITE_COUNT_MAX: usize = 8;

impl Engine {
    /// Parses every expression and template. `now` places the groups' first evaluations.
    pub fn new(groups: Vec<GroupSpec>, options: RuleOptions, now: Now) -> Result<Self, Vec<RuleError>> {
        let groups = build(groups, &options, now)?;
        Ok(Self {
            options,
            groups,
            run: None,
            gone: Vec::new(),
            written: Written::default(),
            changed: false,
            progressed: false,
            saved: None,
        })
    }

    /// Takes other groups and options. Groups that are the same go on undisturbed; rules of the same kind, name and
    /// labels in a group of the same file and name keep their alerts. After an error everything is as before.
    pub fn reload(&mut self, groups: Vec<GroupSpec>, options: RuleOptions, now: Now) -> Result<(), Vec<RuleError>> {
        let mut fresh = build(groups, &options, now)?;
        let old = core::mem::take(&mut self.groups);
        let mut run = self.run.take();
        for (old_index, mut old) in old.into_iter().enumerate() {
            let same = |group: &Group| group.file == old.file && group.name == old.name;
            let Some(index) = fresh.iter().position(same) else {
                self.gone.extend(old.rules.into_iter().map(|rule| rule.timeline_name));
                continue;
            };
            let group = &mut fresh[index];
            if group.spec_hash == old.spec_hash {
                *group = old;
                if let Some(run) = run.take_if(|run| run.group == old_index) {
                    self.run = Some(Run { group: index, ..run });
                }
                continue;
            }
            for old in &mut old.rules {
                match group.rules.iter_mut().find(|rule| rule.timeline_name == old.timeline_name) {
                    Some(rule) => rule.take_state(old),
                    None => self.gone.push(core::mem::take(&mut old.timeline_name)),
                }
            }
        }
        self.gone.retain(|gone| !fresh.iter().flat_map(|group| &group.rules).any(|rule| rule.timeline_name == *gone));
        (self.groups, self.options, self.changed) = (fresh, options, true);
        Ok(())
    }

    /// When [`Self::advance`] has something to do; `None` without groups. In the past while a group is running.
    pub fn next_due_mono_ms(&self) -> Option<u64> {
        if self.run.is_some() || !self.gone.is_empty() {
            return Some(0);
        }
        self.groups.iter().map(|group| u64::try_from(group.slot.mono_ms).unwrap_or(0)).min()
    }

    /// One bite: about `bite_samples` samples read, or one rule finished.
    pub fn advance(&mut self, now: Now, source: &mut dyn Source, bite_samples: usize) -> Advance<'_> {
        if let Some(timeline_name) = self.gone.pop() {
            self.written = Written { timeline_name, samples: Vec::new() };
            return self.write(now.wall_ms);
        }
        let Some(mut run) = self.run.take().or_else(|| self.begin(now)) else { return Advance::Idle };
        if run.rule >= self.groups[run.group].rules.len() {
            self.end(&run, now);
            return Advance::GroupDone;
        }
        let t_ms = run.slot.wall_ms - self.groups[run.group].query_offset_ms(&self.options);
        match self.work(&mut run, now, t_ms, source, bite_samples) {
            Bite::More => {
                self.run = Some(run);
                Advance::More
            }
            Bite::Finished { writes } => {
                run.rule += 1;
                self.run = Some(run);
                if writes { self.write(t_ms) } else { Advance::More }
            }
        }
    }

    /// Alerts to tell the Alertmanagers now: firing ones at first and every `resend_delay_ms` (seen at evaluations),
    /// resolved ones likewise for 15 minutes. Each is given once per evaluation.
    pub fn alerts_due(&mut self, now: Now, resend_delay_ms: u64) -> Vec<AlertMessage> {
        let mut messages = Vec::new();
        for group in &mut self.groups {
            let valid_ms = 4 * group.interval_ms.max(resend_delay_ms) as i64;
            for rule in &mut group.rules {
                let Some(mono_ms) = rule.evaluated_mono_ms else { continue };
                let mut url: Option<Box<str>> = None;
                for alert in &mut rule.alerts {
                    if !alert.is_due(mono_ms, resend_delay_ms as i64) {
                        continue;
                    }
                    let (resolved, repeated) = match (alert.state, alert.sent_mono_ms) {
                        (AlertState::Resolved { at_ms }, sent_ms) => (true, sent_ms.is_some_and(|sent| sent >= at_ms)),
                        (_, sent_ms) => (false, sent_ms.is_some()),
                    };
                    alert.sent_mono_ms = Some(mono_ms);
                    messages.push(AlertMessage {
                        labels: with_external(&alert.labels, &self.options.external_labels),
                        annotations: alert.annotations.clone(),
                        starts_at_ms: alert.fired_at_ms.unwrap_or(alert.active_at_ms),
                        ends_at_ms: match alert.resolved_at_ms {
                            Some(resolved_at_ms) if resolved => resolved_at_ms,
                            _ => now.wall_ms + valid_ms,
                        },
                        resolved,
                        repeated,
                        generator_url: url
                            .get_or_insert_with(|| generator_url(&self.options.external_url, &rule.query).into())
                            .clone(),
                    });
                }
            }
        }
        messages
    }

    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Whether an alert has come, gone or changed its state since [`Self::save`]: save now.
    pub fn changed(&self) -> bool {
        self.changed
    }

    /// Whether a pending alert has been held for longer than [`Self::save`] last told: save with the next flush. What
    /// is not saved of it, the alert waits again after a crash.
    pub fn progressed(&self) -> bool {
        self.progressed
    }

    /// The alerts' state, to be kept over a restart.
    pub fn save(&mut self, now: Now) -> Vec<u8> {
        (self.changed, self.progressed, self.saved) = (false, false, Some(now));
        state::save(&self.groups, now)
    }

    /// To be kept beside what [`Self::save`] gave last, after every evaluation: that it still held then. `None`: there are no
    /// alerts, or they are not saved yet.
    pub fn alive(&self, now: Now) -> Option<Vec<u8>> {
        let has_alerts = self.groups.iter().flat_map(|group| &group.rules).any(|rule| !rule.alerts.is_empty());
        self.saved.filter(|_| has_alerts).map(|saved| state::alive(saved, now))
    }

    /// Takes up the alerts of a process before this one, as far as the outage (by the wall clock) allows: since the last
    /// [`Self::alive`], or since the save. To be called before the first `advance`.
    pub fn restore(&mut self, bytes: &[u8], alive: Option<&[u8]>, now: Now) -> Result<(), StateError> {
        state::restore(&mut self.groups, bytes, alive, &self.options, now)?;
        // What was saved by another process is saved again before it is said to hold.
        self.changed = true;
        Ok(())
    }

    fn write(&self, t_ms: i64) -> Advance<'_> {
        Advance::Write { timeline_name: &self.written.timeline_name, t_ms, samples: &self.written.samples }
    }

    /// Starts the group that has been due for longest.
    fn begin(&mut self, now: Now) -> Option<Run> {
        let due = self.groups.iter_mut().enumerate().filter(|(_, group)| group.slot.mono_ms <= now.mono_ms as i64);
        let (index, group) = due.min_by_key(|(_, group)| group.slot.mono_ms)?;
        let slot = group.take_slot(now);
        group.last_evaluation_ms = Some(now.wall_ms);
        Some(Run { group: index, rule: 0, slot, started_mono_ms: now.mono_ms, work: None })
    }

    fn end(&mut self, run: &Run, now: Now) {
        let group = &mut self.groups[run.group];
        group.evaluation_time_ms = now.mono_ms.saturating_sub(run.started_mono_ms);
        group.evaluated_count += 1;
        let pending = |rule: &Rule| rule.alerts.iter().any(|alert| matches!(alert.state, AlertState::Pending { .. }));
        self.progressed |= group.rules.iter().any(pending);
    }

    /// A bite of the rule at work.
    fn work(&mut self, run: &mut Run, now: Now, t_ms: i64, source: &mut dyn Source, bite_samples: usize) -> Bite {
        let rule = &mut self.groups[run.group].rules[run.rule];
        let mut work = match run.work.take() {
            Some(work) => work,
            None => match instant_query(&rule.query, t_ms, self.options.query) {
                Ok(query) => Work { query, result: Vec::new(), result_bytes: 0, started: now },
                Err(error) => return fail(rule, now, now, error),
            },
        };
        for _ in 0..SERIES_PER_BITE_MAX {
            match work.query.advance(source, bite_samples) {
                Ok(Progress::More) => break,
                Ok(Progress::Series) => {
                    if let Err(error) = work.take(self.options.query.bytes_max) {
                        return fail(rule, work.started, now, error);
                    }
                }
                Ok(Progress::Done) => return self.finish(run, work, now, source, bite_samples),
                Err(error) => return fail(rule, work.started, now, error.to_string()),
            }
        }
        run.work = Some(work);
        Bite::More
    }

    /// The result is complete: makes the rule's row of it.
    fn finish(&mut self, run: &Run, work: Work, now: Now, source: &mut dyn Source, bite_samples: usize) -> Bite {
        let alerts_bytes: usize = self.groups.iter().flat_map(|group| &group.rules).map(|rule| rule.alerts_bytes).sum();
        let group = &mut self.groups[run.group];
        let limit = group.limit;
        let rule = &mut group.rules[run.rule];
        if !matches!(work.query.value_type(), ValueType::Vector | ValueType::Scalar) {
            return fail(rule, work.started, now, NOT_A_VECTOR.into());
        }
        self.written.samples.clear();
        let outcome = if rule.is_alert() {
            let evaluation = Evaluation {
                mono_ms: run.slot.mono_ms,
                wall_ms: run.slot.wall_ms,
                limit,
                bytes_max: self.options.query.bytes_max.saturating_sub(alerts_bytes - rule.alerts_bytes),
                external_labels: &Rc::new(self.options.external_labels.clone()),
                external_url: &Rc::from(&*self.options.external_url),
            };
            let (options, t_ms) = (self.options.query, run.slot.wall_ms);
            let mut query = |text: &str| template_query(text, t_ms, options, source, bite_samples);
            alert::evaluate(rule, work.result, &evaluation, &mut query, &mut self.written.samples)
        } else {
            record::evaluate(rule, work.result, limit, &mut self.written.samples).map(|()| false)
        };
        match outcome {
            Ok(changed) => {
                self.changed |= changed;
                (rule.health, rule.evaluated_mono_ms) = (Health::Ok, Some(run.slot.mono_ms));
                rule.last_error.clear();
                rule.timed(work.started, now);
                let writes = rule.wrote_series || !self.written.samples.is_empty();
                rule.wrote_series = !self.written.samples.is_empty();
                self.written.timeline_name.clone_from(&rule.timeline_name);
                Bite::Finished { writes }
            }
            Err(error) => {
                self.changed |= rule.is_alert();
                fail(rule, work.started, now, error)
            }
        }
    }
}

enum Bite {
    More,
    Finished { writes: bool },
}

impl Work {
    /// Adds the series that the query has ready.
    fn take(&mut self, bytes_max: usize) -> Result<(), String> {
        let Some(series) = self.query.take_series() else { return Ok(()) };
        let Some(point) = series.points.last() else { return Ok(()) };
        self.result_bytes += series.labels.heap_bytes() + size_of::<(LabelSet, f64)>();
        if self.result_bytes > bytes_max {
            return Err(format!(
                "the rule's result needs more than {bytes_max} bytes of memory; aggregate it to fewer series"
            ));
        }
        self.result.push((series.labels, point.value));
        Ok(())
    }
}

const NOT_A_VECTOR: &str = "rule result is not a vector or scalar";

fn fail(rule: &mut Rule, started: Now, now: Now, error: String) -> Bite {
    (rule.health, rule.last_error) = (Health::Err, error);
    rule.failed_count += 1;
    rule.timed(started, now);
    Bite::Finished { writes: false }
}

fn build(specs: Vec<GroupSpec>, options: &RuleOptions, now: Now) -> Result<Vec<Group>, Vec<RuleError>> {
    let mut errors = Vec::new();
    let mut groups: Vec<Group> = Vec::with_capacity(specs.len());
    for spec in specs {
        if groups.iter().any(|known| *known.file == *spec.file && *known.name == *spec.name) {
            errors.push(RuleError::DuplicateGroup { file: (&*spec.file).into(), group: (&*spec.name).into() });
        }
        groups.push(Group::new(spec, options, now, &mut errors));
    }
    if errors.is_empty() { Ok(groups) } else { Err(errors) }
}

fn instant_query(text: &str, t_ms: i64, options: QueryOptions) -> Result<Query, String> {
    let expr = promql::parse(text).map_err(|error| error.to_string())?;
    Query::new(&expr, Window::Instant { t_ms }, options).map_err(|error| error.to_string())
}

/// Answers the function `query` of a template, in one go but for a bounded number of bites.
fn template_query(
    text: &str,
    t_ms: i64,
    options: QueryOptions,
    source: &mut dyn Source,
    bite_samples: usize,
) -> Result<Vec<QueriedSample>, String> {
    let mut query = instant_query(text, t_ms, options)?;
    if !matches!(query.value_type(), ValueType::Vector | ValueType::Scalar) {
        return Err(NOT_A_VECTOR.into());
    }
    let (mut samples, mut bite_count) = (Vec::new(), 0);
    loop {
        match query.advance(source, bite_samples).map_err(|error| error.to_string())? {
            Progress::Done => return Ok(samples),
            Progress::More => bite_count += 1,
            Progress::Series => {
                let Some(series) = query.take_series() else { continue };
                let value = series.points.last().map_or(f64::NAN, |point| point.value);
                samples.push(QueriedSample { labels: series.labels, value, text: series.text });
            }
        }
        if bite_count > TEMPLATE_QUERY_BITE_COUNT_MAX || samples.len() > SERIES_PER_BITE_MAX {
            return Err("the query reads too much for a template; record it with a rule and query that".into());
        }
    }
}

/// The alert's labels, and of the external ones those it lacks.
fn with_external(labels: &LabelSet, external: &LabelSet) -> LabelSet {
    let mut builder = LabelsBuilder::from_labels(labels.as_ref());
    for (name, value) in external.iter().filter(|(name, _)| labels.get(name).is_none()) {
        builder.set(name, value);
    }
    builder.build()
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
